// A docker-compose file executed where no engine runs: every service is a container of its own with an address of its own, started
// by the file's command with the file's environment, files and rights, after what it depends on is healthy by the file's check.
// What cannot be had is the image of PostgreSQL; Debian's server with the preparations that the image documents stands in for it.
import { execFile } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { ProcessEnd } from '../../src/demo/walcast-process.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { parseComposeFile } from './compose-file.ts';
import type { ComposeService } from './compose-file.ts';
import { POSTGRES_PASSWD, postgresContainer } from './compose-postgres.ts';
import { execCommand, startContainer } from './image-container.ts';
import type { Container, ContainerMount, ContainerOptions } from './image-container.ts';
import { imageTree } from './image-tree.ts';
import type { ImageTree } from './image-tree.ts';
import type { ClusterNetwork, PodPlace } from './kubelet-network.ts';

/** How a command ended, and what it said. */
export interface ExecResult {
  readonly code: number;
  readonly output: string;
}

const HEALTH_TIMEOUT_MS = 60_000;

interface Running {
  readonly container: Container;
  readonly options: ContainerOptions;
}

/** A project: its services, networks and volumes. */
export class ComposeProject {
  readonly services: ReadonlyMap<string, ComposeService>;
  readonly #file: string;
  readonly #workspace: Workspace;
  readonly #network: ClusterNetwork;
  readonly #places = new Map<string, PodPlace>();
  readonly #running = new Map<string, Running>();
  #image: ImageTree | null = null;

  constructor(
    file: string,
    surroundings: {
      readonly workspace: Workspace;
      readonly network: ClusterNetwork;
      readonly env: Readonly<Record<string, string>>;
    },
  ) {
    this.#file = file;
    this.#workspace = surroundings.workspace;
    this.#network = surroundings.network;
    this.services = parseComposeFile(readFileSync(file, 'utf8'), surroundings.env);
  }

  /** Where a service can be reached from this machine. */
  addressOf(name: string): string {
    return this.#place(name).address;
  }

  /** What its processes wrote. */
  logOf(name: string): readonly string[] {
    return this.#running.get(name)?.container.log ?? [];
  }

  /** `build`, once: sources that change meanwhile are of no concern to what runs. */
  async build(): Promise<ImageTree> {
    const built = [...this.services.values()].find(({ isBuilt }) => isBuilt);
    this.#image ??= await imageTree(resolve(dirname(this.#file), built?.buildContext ?? '.'), {
      args: built?.buildArgs ?? {},
    });
    return this.#image;
  }

  /** `up --wait`: starts all that does not run, in order, and waits until each is healthy. */
  async up(): Promise<void> {
    for (const name of this.services.keys()) {
      if (!this.#places.has(name)) this.#places.set(name, await this.#network.addPod());
    }
    for (const name of this.services.keys()) await this.start(name);
  }

  /** Starts a service after those it depends on. */
  async start(name: string): Promise<void> {
    if (this.#running.get(name)?.container.end === null) return;
    const service = this.#service(name);
    for (const dependency of service.dependsOn) await this.start(dependency);
    const options = await this.#containerOf(name, service);
    const container = await startContainer(options);
    this.#workspace.onClose(async () => void (await container.stop('SIGKILL')));
    this.#running.set(name, { container, options });
    await pollUntil(
      `${name} to be healthy`,
      async () => {
        if (container.end !== null)
          throw new Error(`${name} ended:\n${container.log.slice(-20).join('\n')}`);
        return (await this.exec(name, service.healthTest)).code === 0 ? true : null;
      },
      { timeoutMs: HEALTH_TIMEOUT_MS },
    ).catch((error: unknown) => {
      throw new Error(`${name}:\n${container.log.slice(-20).join('\n')}`, { cause: error });
    });
  }

  /** `stop`: the signal of the image, and the file's patience. */
  async stop(name: string): Promise<ProcessEnd> {
    const running = this.#running.get(name);
    if (running === undefined) throw new Error(`${name} does not run`);
    const { stopGraceSeconds, isBuilt } = this.#service(name);
    // STOPSIGNAL of the image of PostgreSQL is SIGINT: a fast stop.
    const signal = isBuilt ? 'SIGTERM' : 'SIGINT';
    return await running.container.stop(signal, stopGraceSeconds * 1000);
  }

  /** `down`: stops all, the last first; volumes stay. */
  async down(): Promise<Map<string, ProcessEnd>> {
    const ends = new Map<string, ProcessEnd>();
    for (const name of [...this.#running.keys()].toReversed()) {
      ends.set(name, await this.stop(name));
      this.#running.delete(name);
    }
    return ends;
  }

  /** `exec`: in the container, with its environment, as its user. */
  async exec(name: string, command: readonly string[]): Promise<ExecResult> {
    const running = this.#running.get(name);
    if (running === undefined) throw new Error(`${name} does not run`);
    const words = execCommand(running.container, { ...running.options, command });
    const [program = '', ...args] = words;
    return await new Promise((resolveResult) => {
      const child = execFile(program, args, { timeout: 60_000 }, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
        resolveResult({ code, output: `${stdout}${stderr}` });
      });
      child.stdin?.end();
    });
  }

  async #containerOf(name: string, service: ComposeService): Promise<ContainerOptions> {
    const shared = {
      directory: this.#workspace.directory,
      enter: this.#place(name).enter,
      isReadOnly: service.isReadOnly,
    };
    const image = await this.build();
    if (!service.isBuilt) {
      const mounts = this.#mounts(name, service, null);
      return { ...shared, ...postgresContainer(service, image), mounts };
    }
    const { config } = image;
    return {
      ...shared,
      image,
      user: config.user,
      env: { ...config.env, ...service.environment },
      workdir: config.workdir,
      command: [
        ...config.entrypoint,
        ...(service.command.length > 0 ? service.command : config.cmd),
      ],
      mounts: this.#mounts(name, service, image),
    };
  }

  #mounts(name: string, service: ComposeService, image: ImageTree | null): ContainerMount[] {
    const own = service.mounts.map(({ source, target, isVolume, isReadOnly }) => ({
      source: isVolume ? this.#volume(source, target, image) : resolve(dirname(this.#file), source),
      target,
      isReadOnly,
    }));
    const names = [...this.#places].map(([host, { address }]) => `${address} ${host}\n`);
    const hosts = this.#write(`${name}-hosts`, `127.0.0.1 localhost\n${names.join('')}`);
    own.push({ source: hosts, target: '/etc/hosts', isReadOnly: true });
    if (service.isBuilt) return own;
    const passwd = this.#write(`${name}-passwd`, POSTGRES_PASSWD);
    const sockets = join(this.#workspace.directory, `${name}-run`);
    mkdirSync(sockets, { recursive: true });
    chmodSync(sockets, 0o1777);
    return [
      ...own,
      { source: passwd, target: '/etc/passwd', isReadOnly: true },
      { source: sockets, target: '/var/run/postgresql', isReadOnly: false },
    ];
  }

  /** A new volume gets owner and mode from what the image has in that place. */
  #volume(source: string, target: string, image: ImageTree | null): string {
    const path = join(this.#workspace.directory, `volume-${source}`);
    if (existsSync(path)) return path;
    mkdirSync(path);
    const like = image === null ? null : statSync(join(image.root, target));
    chownSync(path, like?.uid ?? 999, like?.gid ?? 999);
    chmodSync(path, like === null ? 0o1777 : like.mode & 0o7777);
    return path;
  }

  #write(name: string, text: string): string {
    const path = join(this.#workspace.directory, name);
    writeFileSync(path, text);
    chmodSync(path, 0o644);
    return path;
  }

  #place(name: string): PodPlace {
    const place = this.#places.get(name);
    if (place === undefined) throw new Error(`${name} has no address yet`);
    return place;
  }

  #service(name: string): ComposeService {
    const service = this.services.get(name);
    if (service === undefined) throw new Error(`there is no service ${name}`);
    return service;
  }
}
