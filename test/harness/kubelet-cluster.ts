// How do rendered manifests run where there is no cluster? Volumes, processes, probes, Services and rollouts as the kubelet and the
// controllers make them, one question a file (kubelet-*.ts); here they are put together. Absent: seccomp, cgroups (memory limits),
// NetworkPolicy, scheduling, and the certificates of an API server.
import { join } from 'node:path';
import type { IStatefulSetSpec } from 'kubernetes-models/apps/v1/StatefulSetSpec';
import { systemClock } from '../../src/base/clock.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { ProcessEnd } from '../../src/demo/walcast-process.ts';
import type { KubernetesObject } from '../support/manifests.ts';
import { openDns } from './kubelet-dns.ts';
import { openClusterNetwork } from './kubelet-network.ts';
import type { ClusterNetwork } from './kubelet-network.ts';
import { ObjectStore, selects } from './kubelet-objects.ts';
import type { Spec } from './kubelet-objects.ts';
import { Pod } from './kubelet-pod.ts';
import type { ContainerImage } from './kubelet-pod.ts';
import { mayEvict, rolloutStep } from './kubelet-rollout.ts';
import { ClusterServices } from './kubelet-services.ts';

/** Something that happened. */
export interface ClusterEvent {
  readonly atMs: number;
  readonly pod: string;
  readonly what: string;
}

/** So long nobody hears of a pod that became ready, or unready: the way through the API server to every node. */
export const PUBLISH_MS = 1_000;
const READY_TIMEOUT_MS = 90_000;
/** The only namespace; servers outside of it ask for names by `<service>.walcast.svc`. */
const NAMESPACE = 'walcast';

/** One namespace of a cluster. */
export class StandInCluster implements AsyncDisposable {
  readonly network: ClusterNetwork;
  readonly services: ClusterServices;
  readonly #directory: string;
  readonly #image: ContainerImage;
  readonly #objects = new ObjectStore();
  readonly #pods = new Map<string, Pod>();
  /** On nodes that are lost: everybody knows their addresses until they are made anew. */
  readonly #lost = new Map<string, { readonly pod: Pod; readonly noticedAtMs: number }>();
  readonly #events: ClusterEvent[] = [];
  #dns: AsyncDisposable | null = null;
  #made = 0;
  #isClosed = false;

  /** Use {@link openCluster}. */
  constructor(directory: string, image: ContainerImage, network: ClusterNetwork) {
    this.#directory = directory;
    this.#image = image;
    this.network = network;
    this.services = new ClusterServices(network, NAMESPACE);
  }

  async open(): Promise<void> {
    this.#dns = await openDns(this.network.gateway, (name) => this.services.resolve(name));
  }

  /** Everything that happened so far. */
  get events(): readonly ClusterEvent[] {
    return this.#events;
  }

  get pods(): Pod[] {
    return [...this.#pods.values()];
  }

  pod(name: string): Pod {
    const found = this.#pods.get(name);
    if (found === undefined) throw new Error(`there is no pod ${name}`);
    return found;
  }

  /**
   * `kubectl apply`: starts what is new; pods that run get changed ConfigMaps and Secrets at once, where a kubelet would take up to a
   * minute. A changed StatefulSet waits for {@link rollOut}.
   */
  async apply(...objects: readonly KubernetesObject[]): Promise<void> {
    for (const object of objects) this.#objects.put(object);
    for (const service of this.#objects.all('Service')) await this.services.open(service);
    for (const pod of this.pods) await pod.refresh();
    const missing = this.#objects
      .all('StatefulSet')
      .flatMap((set) =>
        Array.from({ length: set.spec.replicas ?? 1 }, (_, ordinal) => ({ set, ordinal })).filter(
          ({ ordinal }) => !this.#pods.has(`${set.name}-${ordinal}`),
        ),
      );
    // podManagementPolicy: Parallel.
    await Promise.all(missing.map(({ set, ordinal }) => this.#create(set, ordinal)));
  }

  /** Resolves when all pods are ready, and everybody knows it. */
  async ready(timeoutMs = READY_TIMEOUT_MS): Promise<void> {
    await this.#until('all pods ready', () => this.pods.every((pod) => pod.isReady), timeoutMs);
    this.#publish();
  }

  /** Replaces every pod of a StatefulSet that is out of date, one after the other, as its rolling update does. */
  async rollOut(name: string, timeoutMs = 300_000): Promise<void> {
    const set = this.#objects.one('StatefulSet', name);
    const { replicas = 1, minReadySeconds = 0 } = set.spec;
    const revision = revisionOf(set.spec);
    const deadlineMs = systemClock.nowMs() + timeoutMs;
    for (;;) {
      const pods = this.pods
        .filter((pod) => selects(set.spec.selector.matchLabels, pod.options.labels))
        .map((pod) => ({
          ordinal: Number(pod.options.labels['apps.kubernetes.io/pod-index']),
          isCurrent: pod.options.revision === revision,
          isEnding: pod.isEnding,
          isAvailable: pod.isAvailable(minReadySeconds),
        }));
      const step = rolloutStep(pods, replicas);
      if (step === 'done') return;
      if (systemClock.nowMs() > deadlineMs) throw this.#failure(`${name} is not rolled out`);
      if (step === 'wait') await new Promise<void>((resolve) => systemClock.setTimer(50, resolve));
      else await this.#replace(set, step.replace);
    }
  }

  /** Evicts a pod as `kubectl drain` does. False where its disruption budget forbids it, and nothing happens. */
  async evict(podName: string): Promise<boolean> {
    const pod = this.pod(podName);
    for (const { spec } of this.#objects.all('PodDisruptionBudget')) {
      const selector = spec.selector?.matchLabels;
      if (!selects(selector, pod.options.labels)) continue;
      const guarded = this.pods.filter((each) => selects(selector, each.options.labels));
      const states = guarded.map((each) => ({
        name: each.name,
        isReady: each.isReady && !each.isEnding,
      }));
      if (!mayEvict(spec, states, { name: podName, expected: this.#expected(pod) })) return false;
    }
    await this.#replace(this.#setOf(pod), Number(podName.split('-').at(-1)));
    return true;
  }

  /** Deletes a pod, which comes back. Gives how its first container ended. */
  async delete(podName: string): Promise<ProcessEnd> {
    return await this.#replace(this.#setOf(this.pod(podName)), Number(podName.split('-').at(-1)));
  }

  /**
   * Its node is lost at once: nothing comes from there any more. Services lead to it still until that is noticed (a cluster takes 40 s
   * or more for it), its own name until {@link comeBack}.
   */
  async loseNode(podName: string, noticedAfterMs: number): Promise<void> {
    const pod = this.pod(podName);
    this.#pods.delete(podName);
    this.#lost.set(podName, { pod, noticedAtMs: systemClock.nowMs() + noticedAfterMs });
    await pod.lose();
    systemClock.setTimer(noticedAfterMs, () => this.#publishLater());
  }

  /** Somebody said that the node will not be back: the controller makes the pod on another one, with the volume that it had. */
  async comeBack(setName: string, ordinal: number): Promise<Pod> {
    this.#lost.delete(`${setName}-${ordinal}`);
    return await this.#create(this.#objects.one('StatefulSet', setName), ordinal);
  }

  /** What went wrong and what happened, for the message of a test that fails. */
  story(): string {
    const logs = this.pods.flatMap((pod) => pod.container().log.slice(-8));
    const events = this.#events.slice(-30).map(({ atMs, pod, what }) => `${atMs} ${pod}: ${what}`);
    return [...events, ...logs].join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.pods.map((pod) => pod.lose()));
    await this.services[Symbol.asyncDispose]();
    await this.#dns?.[Symbol.asyncDispose]();
    await this.network[Symbol.asyncDispose]();
  }

  async #replace(set: Spec<IStatefulSetSpec>, ordinal: number): Promise<ProcessEnd> {
    const pod = this.pod(`${set.name}-${ordinal}`);
    const end = await pod.terminate();
    this.#pods.delete(pod.name);
    await this.#create(set, ordinal);
    return end;
  }

  async #create(set: Spec<IStatefulSetSpec>, ordinal: number): Promise<Pod> {
    const name = `${set.name}-${ordinal}`;
    const { template, volumeClaimTemplates = [] } = set.spec;
    if (template.spec === undefined) throw new Error(`${set.name} has no pod`);
    this.#made += 1;
    const labels = {
      ...template.metadata?.labels,
      'statefulset.kubernetes.io/pod-name': name,
      'apps.kubernetes.io/pod-index': String(ordinal),
    };
    const claims = volumeClaimTemplates.map(({ metadata }): [string, string] => {
      const claim = metadata?.name ?? '';
      return [claim, join(this.#directory, 'claims', `${claim}-${name}`)];
    });
    const pod = new Pod({
      name,
      namespace: NAMESPACE,
      labels,
      spec: template.spec,
      revision: revisionOf(set.spec),
      place: await this.network.addPod(),
      directory: join(this.#directory, `${name}-${this.#made}`),
      claims: Object.fromEntries(claims),
      image: this.#image,
      find: (kind, object) => this.#objects.data(kind, object),
      services: this.services.linked(),
      dnsServer: this.network.gateway,
      onChange: (changed, what) => this.#changed(changed, what),
    });
    this.#pods.set(name, pod);
    await pod.start();
    this.#publishLater();
    return pod;
  }

  #changed(pod: Pod, what: string): void {
    this.#events.push({ atMs: systemClock.nowMs(), pod: pod.name, what });
    this.#publishLater();
  }

  #publishLater(): void {
    systemClock.setTimer(PUBLISH_MS, () => {
      if (!this.#isClosed) this.#publish();
    });
  }

  #publish(): void {
    const nowMs = systemClock.nowMs();
    const lost = [...this.#lost.values()].map(({ pod, noticedAtMs }) => ({
      pod,
      isReady: nowMs < noticedAtMs,
    }));
    const here = this.pods.map((pod) => ({ pod, isReady: pod.isReady && !pod.isEnding }));
    this.services.publish([...here, ...lost]);
  }

  #setOf(pod: Pod): Spec<IStatefulSetSpec> {
    const found = this.#objects
      .all('StatefulSet')
      .find(({ spec }) => selects(spec.selector.matchLabels, pod.options.labels));
    if (found === undefined) throw new Error(`nobody makes ${pod.name} again`);
    return found;
  }

  #expected(pod: Pod): number {
    return this.#setOf(pod).spec.replicas ?? 1;
  }

  async #until(what: string, check: () => boolean, timeoutMs: number): Promise<void> {
    await pollUntil(what, () => (check() ? true : null), { timeoutMs }).catch((error: unknown) => {
      throw this.#failure(String(error));
    });
  }

  #failure(what: string): Error {
    return new Error(`${what}\n${this.story()}`);
  }
}

/** Opens a cluster without objects; close it before the workspace. */
export async function openCluster(
  workspace: Workspace,
  image: ContainerImage,
): Promise<StandInCluster> {
  const network = await openClusterNetwork();
  const directory = join(workspace.directory, `cluster-${network.number}`);
  const cluster = new StandInCluster(directory, image, network);
  try {
    await cluster.open();
  } catch (error) {
    await network[Symbol.asyncDispose]();
    throw error;
  }
  return cluster;
}

function revisionOf({ template }: IStatefulSetSpec): string {
  return JSON.stringify(template);
}
