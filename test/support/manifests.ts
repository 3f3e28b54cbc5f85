// What does Kubernetes get of a folder of manifests? The objects that `kubectl kustomize` renders, each folder once in a process.
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';

/** An object as the API server takes it. What is inside is judged by the compiler, see test/unit/deploy-types.test.ts. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

const ROOT = join(import.meta.dirname, '../..');

/** The examples for one or another upstream, from the root of the project. */
export const EXAMPLES: readonly string[] = readdirSync(join(ROOT, 'deploy/examples')).map(
  (name) => `deploy/examples/${name}`,
);

/** Every folder that is there to be applied, from the root of the project, but for the examples. */
export const DEPLOYMENTS: readonly string[] = [
  'deploy/kustomize/base',
  'deploy/kustomize/overlays/dev',
  'deploy/kustomize/overlays/ha',
];

const run = promisify(execFile);

const known = new Map<string, Promise<readonly KubernetesObject[]>>();

/**
 * The objects of a folder, in the order of kustomize. `directory`: from the root of the project, or absolute. Needs `kubectl`. Rejects
 * with what kubectl says where it does not render, or warns.
 */
export function rendered(directory: string): Promise<readonly KubernetesObject[]> {
  let objects = known.get(directory);
  if (objects === undefined) {
    objects = render(directory);
    known.set(directory, objects);
  }
  return objects;
}

async function render(directory: string): Promise<readonly KubernetesObject[]> {
  return objectsOf(await renderedText(directory));
}

/** The same as the YAML that `kubectl apply -f -` would get. */
export async function renderedText(directory: string): Promise<string> {
  const folder = join(directory.startsWith('/') ? '' : ROOT, directory);
  const limit = { maxBuffer: 16 * 1024 * 1024 };
  const { stdout, stderr } = await run('kubectl', ['kustomize', folder], limit);
  // What it will not take any more one day.
  if (stderr !== '') throw new Error(`kubectl kustomize ${directory}: ${stderr}`);
  return stdout;
}

/** The objects in a text of YAML documents; throws where one is no object, or is wrong YAML. */
export function objectsOf(text: string): readonly KubernetesObject[] {
  return parseAllDocuments(text).map((document) => {
    const [error] = document.errors;
    if (error !== undefined) throw error;
    const value: unknown = document.toJS();
    if (!isKubernetesObject(value)) throw new Error(`not an object of Kubernetes: ${text}`);
    return value;
  });
}

/** The one object of that kind and name; throws where there is none, or are several. */
export function theObject(
  objects: readonly KubernetesObject[],
  kind: string,
  name: string,
): KubernetesObject {
  const found = objects.filter((object) => object.kind === kind && object.metadata.name === name);
  const [object] = found;
  if (object === undefined || found.length > 1)
    throw new Error(`${found.length} objects ${kind}/${name}`);
  return object;
}

function isKubernetesObject(value: unknown): value is KubernetesObject {
  return (
    typeof value === 'object' &&
    value !== null &&
    'apiVersion' in value &&
    'kind' in value &&
    'metadata' in value &&
    typeof value.metadata === 'object' &&
    value.metadata !== null &&
    'name' in value.metadata
  );
}
