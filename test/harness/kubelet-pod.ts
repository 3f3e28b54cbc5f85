// What is a pod from its making to its end? Volumes, a network of its own, its containers, and whether it is ready.
import { join } from 'node:path';
import type { IContainer } from 'kubernetes-models/v1/Container';
import type { IPodSpec } from 'kubernetes-models/v1/PodSpec';
import { systemClock } from '../../src/base/clock.ts';
import type { ProcessEnd } from '../../src/demo/walcast-process.ts';
import type { ImageTree } from './image-tree.ts';
import { Container } from './kubelet-container.ts';
import { resolvConf } from './kubelet-dns.ts';
import { containerCommand, containerEnvironment } from './kubelet-environment.ts';
import type { LinkedService } from './kubelet-environment.ts';
import { PodVolumes } from './kubelet-mounts.ts';
import type { FindData } from './kubelet-mounts.ts';
import type { PodPlace } from './kubelet-network.ts';
import { startContainer } from './kubelet-process.ts';
import type { ContainerProcess } from './kubelet-process.ts';
import { identityOf, prepareRoot } from './kubelet-root.ts';

/** The image's part that a container needs. */
export type ContainerImage = Pick<ImageTree, 'lowers' | 'machine' | 'config'>;

/** What a pod is made from. */
export interface PodOptions {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly spec: IPodSpec;
  /** What it was made from, to tell whether it is out of date. */
  readonly revision: string;
  readonly place: PodPlace;
  /** Of this machine; goes with the pod. */
  readonly directory: string;
  /** Volumes that outlive it, by name. */
  readonly claims: Readonly<Record<string, string>>;
  readonly image: ContainerImage;
  readonly find: FindData;
  readonly services: readonly LinkedService[];
  readonly dnsServer: string;
  readonly onChange: (pod: Pod, what: string) => void;
}

const GRACE_S = 30;
const FIELD = /^metadata\.(labels)\['([^']+)'\]$/;

/** One pod. */
export class Pod {
  readonly options: PodOptions;
  readonly #volumes: PodVolumes;
  readonly #containers: readonly Container[];
  #isEnding = false;
  #readySinceMs: number | null = null;
  #processes = 0;

  constructor(options: PodOptions) {
    this.options = options;
    const { spec, directory, find, claims } = options;
    this.#volumes = new PodVolumes(spec, { directory: join(directory, 'volumes'), find, claims });
    if ((spec.initContainers ?? []).length > 0)
      throw new Error('the stand-in has no init containers');
    this.#containers = spec.containers.map(
      (container) =>
        new Container(container, {
          address: this.address,
          graceMs: this.#graceMs,
          stopSignal: stopSignalOf(options.image),
          spawn: () => this.#spawn(container),
          onChange: (what) => this.#changed(what),
        }),
    );
  }

  get name(): string {
    return this.options.name;
  }

  get address(): string {
    return this.options.place.address;
  }

  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** All containers are. While it ends it may be still, but is no endpoint any more. */
  get isReady(): boolean {
    return this.#readySinceMs !== null;
  }

  /** Ready for so long without a break. */
  isAvailable(minReadySeconds: number): boolean {
    const since = this.#readySinceMs;
    return since !== null && systemClock.nowMs() - since >= minReadySeconds * 1000;
  }

  /** The first container, or the one of that name. */
  container(name?: string): Container {
    const found = this.#containers.find((each) => name === undefined || each.spec.name === name);
    if (found === undefined) throw new Error(`${this.name} has no container ${name}`);
    return found;
  }

  async start(): Promise<void> {
    await this.#volumes.prepare();
    for (const container of this.#containers) await container.start();
  }

  /** Its ConfigMaps and Secrets as they are now. Gives the names of the volumes that changed. */
  async refresh(): Promise<string[]> {
    return await this.#volumes.refresh();
  }

  /** Ends it as `kubectl delete pod` does. Gives how the first container ended. */
  async terminate(): Promise<ProcessEnd> {
    this.#isEnding = true;
    this.#changed('Killing');
    const ends = await Promise.all(this.#containers.map((each) => each.terminate(this.#graceMs)));
    await this.#remove();
    const [first = { exitCode: null, signal: null }] = ends;
    return first;
  }

  /** Its node is gone, from one moment to the next: nobody hears of it. */
  async lose(): Promise<void> {
    this.#isEnding = true;
    await this.options.place.cutOff();
    await Promise.all(this.#containers.map((each) => each.kill(true)));
    await this.#remove();
    this.#changed('its node is lost');
  }

  async #remove(): Promise<void> {
    await this.#volumes.remove();
    await this.options.place.remove();
  }

  get #graceMs(): number {
    return (this.options.spec.terminationGracePeriodSeconds ?? GRACE_S) * 1000;
  }

  #changed(what: string): void {
    const isReady = this.#containers.every((each) => each.isReady);
    if (isReady) this.#readySinceMs ??= systemClock.nowMs();
    else this.#readySinceMs = null;
    this.options.onChange(this, what);
  }

  async #spawn(container: IContainer): Promise<ContainerProcess> {
    const { options } = this;
    const { spec, image, name, directory, place } = options;
    this.#processes += 1;
    const environment = containerEnvironment(container, {
      image: { HOSTNAME: name, ...image.config.env },
      services: spec.enableServiceLinks === false ? [] : options.services,
      field: (path) => this.#field(path),
      key: (kind, object, key) => {
        const bytes = options.find(kind, object)?.get(key);
        return bytes === undefined ? null : Buffer.from(bytes).toString('utf8');
      },
    });
    const root = await prepareRoot({
      directory: join(directory, `${container.name}-${this.#processes}`),
      lowers: image.lowers,
      mounts: [
        ...image.machine.map((path) => ({ source: path, path, isReadOnly: true })),
        ...this.#volumes.mountsOf(container),
      ],
      isReadOnly: container.securityContext?.readOnlyRootFilesystem === true,
      files: {
        '/etc/hosts': `127.0.0.1\tlocalhost\n::1\tlocalhost\n${this.address}\t${name}\n`,
        '/etc/hostname': `${name}\n`,
        '/etc/resolv.conf': resolvConf(options.dnsServer, options.namespace),
      },
      hostname: name,
      workdir: container.workingDir ?? image.config.workdir,
      identity: identityOf(spec, container, image.config.user),
    });
    const command = containerCommand(container, image.config, environment);
    return await startContainer({ enter: place.enter, root, command, environment, directory });
  }

  #field(path: string): string {
    const { name, namespace, labels } = this.options;
    const plain: Record<string, string> = {
      'metadata.name': name,
      'metadata.namespace': namespace,
      'status.podIP': this.address,
    };
    const label = FIELD.exec(path)?.[2];
    const value = label === undefined ? plain[path] : (labels[label] ?? '');
    if (value === undefined) throw new Error(`the stand-in does not know field ${path}`);
    return value;
  }
}

function stopSignalOf({ config }: ContainerImage): NodeJS.Signals {
  if (config.stopSignal !== 'SIGTERM')
    throw new Error(`the stand-in does not know ${config.stopSignal}`);
  return 'SIGTERM';
}
