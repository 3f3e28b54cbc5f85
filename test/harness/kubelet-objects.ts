// Which objects does the stand-in for a cluster have, and which of them belong together?
import type { IStatefulSetSpec } from 'kubernetes-models/apps/v1/StatefulSetSpec';
import type { IPodDisruptionBudgetSpec } from 'kubernetes-models/policy/v1/PodDisruptionBudgetSpec';
import type { IServiceSpec } from 'kubernetes-models/v1/ServiceSpec';
import type { KubernetesObject } from '../support/manifests.ts';
import type { ObjectData } from './kubelet-mounts.ts';

/** What a spec is, by the kind of its object. */
interface Specs {
  readonly StatefulSet: IStatefulSetSpec;
  readonly Service: IServiceSpec;
  readonly PodDisruptionBudget: IPodDisruptionBudgetSpec;
}

/** An object with its spec. */
export interface Spec<T> {
  readonly name: string;
  readonly spec: T;
}

/** The objects of one namespace, the newest of each name. */
export class ObjectStore {
  readonly #objects = new Map<string, KubernetesObject>();

  /** Adds an object, or replaces the one of its kind and name. */
  put(object: KubernetesObject): void {
    this.#objects.set(`${object.kind}/${object.metadata.name}`, object);
  }

  /** All of a kind. test/unit/deploy-types.test.ts is who looks at what is inside. */
  all<K extends keyof Specs>(kind: K): Spec<Specs[K]>[] {
    return [...this.#objects.values()]
      .filter((object) => object.kind === kind)
      .map((object) => ({ name: object.metadata.name, spec: object['spec'] as Specs[K] }));
  }

  /** The one of that name; throws when there is none. */
  one<K extends keyof Specs>(kind: K, name: string): Spec<Specs[K]> {
    const found = this.all(kind).find((each) => each.name === name);
    if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
    return found;
  }

  /** What a ConfigMap or Secret holds; null when there is none. */
  data(kind: 'ConfigMap' | 'Secret', name: string): ObjectData | null {
    const object = this.#objects.get(`${kind}/${name}`);
    if (object === undefined) return null;
    const data = new Map<string, Uint8Array>();
    const add = (field: string, encoding: 'utf8' | 'base64'): void => {
      for (const [key, text] of Object.entries(object[field] ?? {}))
        data.set(key, Buffer.from(String(text), encoding));
    };
    add('data', kind === 'Secret' ? 'base64' : 'utf8');
    add('binaryData', 'base64');
    add('stringData', 'utf8');
    return data;
  }
}

/** Does `labels` have all that `selector` wants? An empty one selects nothing here. */
export function selects(
  selector: Readonly<Record<string, string>> | undefined,
  labels: Readonly<Record<string, string>>,
): boolean {
  const wanted = Object.entries(selector ?? {});
  return wanted.length > 0 && wanted.every(([name, value]) => labels[name] === value);
}
