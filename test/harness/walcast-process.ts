// A walcast as the tests run it: the compiled program in a process of its own, with ports and a store that outlive the
// process, so that it can be stopped, killed and started again under the eyes of its standbys.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { ConnectTarget } from '../../src/demo/postgres-connect.ts';
import { SUPERUSER } from '../../src/demo/postgres-server.ts';
import { renderConninfo } from '../../src/demo/postgres-settings.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { spawnWalcast, waitUntilReady } from '../../src/demo/walcast-process.ts';
import type { ProcessEnd, WalcastProcess } from '../../src/demo/walcast-process.ts';
import type { StatusJson } from '../../src/http/api-types.ts';
import { INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { freePort } from './free-port.ts';

/** Keys of walcast.yaml as an object; merged over the harness's own, objects key by key. */
export type WalcastSettings = Readonly<Record<string, unknown>>;

/** What to run. */
export interface RelayOptions {
  /** Unique in the workspace. */
  readonly name: string;
  /** Its upstream, asked anew at each start. */
  readonly upstream: () => Pick<ConnectTarget, 'host' | 'port'>;
  /** Slot on the upstream; default `walcast`, '' for none. */
  readonly slot?: string;
  readonly settings?: WalcastSettings;
  /** Arguments of node itself. */
  readonly nodeArguments?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Its `storage.directory`; default a directory of the workspace. */
  readonly directory?: string;
  /** Where it runs; default here, on loopback. */
  readonly place?: RelayPlace;
}

/** A place that a relay runs in. */
export interface RelayPlace {
  /** A program with its arguments that runs others there. */
  readonly wrapper: readonly string[];
  /** Where this process reaches it; its HTTP port listens there. */
  readonly host: string;
  /** The address it listens on for standbys. */
  readonly listenHost: string;
  /** Lines of pg_hba.conf that let everybody in who may come there. */
  readonly hba: string;
}

/** How a process used its memory, in bytes. */
export interface MemoryUse {
  readonly rss: number;
  readonly rssMax: number;
}

const START_TIMEOUT_MS = 60_000;
const WAL_TOKEN = 'the-token-for-wal-files-of-the-tests';
export const HERE: RelayPlace = {
  wrapper: [],
  host: '127.0.0.1',
  listenHost: '127.0.0.1',
  hba: 'host replication all 127.0.0.1/32 trust\n',
};

/** A relay over all its processes. */
export class WalcastRelay {
  readonly name: string;
  /** Where standbys connect; the same after every start. */
  readonly port: number;
  readonly httpPort: number;
  /** Its `storage.directory`. */
  readonly directory: string;
  readonly #workspace: Workspace;
  readonly #options: RelayOptions;
  #settings: WalcastSettings;
  readonly #place: RelayPlace;
  #process: WalcastProcess | null = null;
  #starts = 0;
  readonly #logs: (() => readonly string[])[] = [];

  /** Use {@link createRelay}. */
  constructor(workspace: Workspace, options: RelayOptions, ports: { pg: number; http: number }) {
    this.name = options.name;
    this.port = ports.pg;
    this.httpPort = ports.http;
    this.directory = options.directory ?? join(workspace.directory, options.name);
    this.#workspace = workspace;
    this.#options = options;
    this.#settings = options.settings ?? {};
    this.#place = options.place ?? HERE;
  }

  /** The directory of its segment files. */
  get walDirectory(): string {
    return join(this.directory, 'pg_wal');
  }

  get host(): string {
    return this.#place.host;
  }

  get url(): string {
    return `http://${this.host}:${this.httpPort}`;
  }

  /** The process; throws when it was never started. */
  get process(): WalcastProcess {
    if (this.#process === null) throw new Error(`${this.name} was not started`);
    return this.#process;
  }

  get isRunning(): boolean {
    return this.#process !== null && this.#process.end === null;
  }

  /** How many processes there have been. */
  get starts(): number {
    return this.#logs.length;
  }

  /** Everything all processes logged, a line an entry. */
  get log(): readonly string[] {
    return this.#logs.flatMap((lines) => lines());
  }

  /** How standbys and tools reach it. */
  target(overrides: Partial<ConnectTarget> = {}): ConnectTarget {
    const { host, port } = this;
    return { host, port, user: SUPERUSER, database: 'replication', ...overrides };
  }

  /** Changes keys of walcast.yaml for the next start. */
  configure(settings: WalcastSettings): void {
    this.#settings = merge(this.#settings, settings);
  }

  /** Changes keys of walcast.yaml and has the running process read it again; waits until it says that it has. */
  async reload(settings: WalcastSettings): Promise<void> {
    this.configure(settings);
    const file = join(this.#workspace.directory, `${this.#configurationName()}.yaml`);
    await writeFile(file, this.#configuration());
    const from = this.process.log.length;
    this.process.signal('SIGHUP');
    await this.process.waitForLog(/the configuration was read again/, { from });
  }

  /** Starts it; waits until it is ready to serve unless `wait` is false. */
  async start(options: { wait?: boolean; timeoutMs?: number } = {}): Promise<void> {
    if (this.isRunning) throw new Error(`${this.name} runs already`);
    this.#starts += 1;
    await writeFile(this.#walTokenFile, `${WAL_TOKEN}\n`, { mode: 0o600 });
    const walcast = await spawnWalcast(this.#workspace, {
      name: this.#configurationName(),
      configuration: this.#configuration(),
      ...(this.#options.nodeArguments === undefined
        ? {}
        : { nodeArguments: this.#options.nodeArguments }),
      ...(this.#options.environment === undefined
        ? {}
        : { environment: this.#options.environment }),
      wrapper: this.#place.wrapper,
    });
    this.#process = walcast;
    this.#logs.push(() => walcast.log);
    if (options.wait === false) return;
    await waitUntilReady(walcast, this.url, { timeoutMs: options.timeoutMs ?? START_TIMEOUT_MS });
  }

  /** Asks it to end (SIGTERM drains, SIGINT ends at once) and waits. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<ProcessEnd> {
    return await this.process.stop(signal);
  }

  /** kill -9, as a crash; waits until it is gone. */
  async kill(): Promise<void> {
    await this.process.stop('SIGKILL');
  }

  /** `GET /api/v1/status`. */
  async status(): Promise<StatusJson> {
    return (await this.get('/api/v1/status')) as StatusJson;
  }

  /** A JSON answer of the HTTP port. Rejects when the status is not 200. */
  async get(path: string): Promise<unknown> {
    const response = await fetch(`${this.url}${path}`);
    if (response.status !== 200)
      throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return await response.json();
  }

  /** `GET /wal/{name}`, with the token that it needs. */
  async walFile(name: string): Promise<Response> {
    const headers = { authorization: `Bearer ${WAL_TOKEN}` };
    return await fetch(`${this.url}/wal/${name}`, { headers });
  }

  /** A file with that token that the user of the servers may read, for a restore_command. */
  async walTokenFileForServers(): Promise<string> {
    const file = join(this.#workspace.directory, `${this.name}-restore-token`);
    await writeFile(file, `${WAL_TOKEN}\n`, { mode: 0o600 });
    await this.#workspace.giveAway(file);
    return file;
  }

  get #walTokenFile(): string {
    return join(this.#workspace.directory, `${this.name}-wal-token`);
  }

  /** Text of /metrics. */
  async metrics(): Promise<string> {
    return await (await fetch(`${this.url}/metrics`)).text();
  }

  /** Its durable end as it states it. */
  async flushedLsn(): Promise<Lsn> {
    return parseLsn((await this.status()).store.flushed_lsn ?? '0/0') ?? INVALID_LSN;
  }

  /** Polls the status until `check` holds. Rejects with the last status after `timeoutMs`. */
  async waitForStatus(
    what: string,
    check: (status: StatusJson) => boolean,
    timeoutMs = 30_000,
  ): Promise<StatusJson> {
    let last: StatusJson | null = null;
    try {
      return await pollUntil(
        what,
        async () => {
          last = await this.status().catch(() => null);
          return last !== null && check(last) ? last : null;
        },
        { timeoutMs },
      );
    } catch (error) {
      throw new Error(
        `${String(error)}; last status: ${JSON.stringify(last)}; last lines:\n${this.log.slice(-15).join('\n')}`,
        { cause: error },
      );
    }
  }

  /** Memory of the running process (Linux). */
  async memory(): Promise<MemoryUse> {
    const text = await readFile(`/proc/${this.process.pid}/status`, 'utf8');
    const bytes = (key: string): number =>
      Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? Number.NaN) * 1024;
    return { rss: bytes('VmRSS'), rssMax: bytes('VmHWM') };
  }

  /** Log lines that tell of a problem: errors, and crashes. */
  problems(): string[] {
    return this.log.filter((line) => /"level":"(error|fatal)"|crashed|Unhandled/i.test(line));
  }

  #configurationName(): string {
    return `${this.name}-${this.#starts}`;
  }

  #configuration(): string {
    return stringify(merge(this.#defaults(), this.#settings));
  }

  #defaults(): WalcastSettings {
    const { host, port } = this.#options.upstream();
    return {
      upstream: {
        conninfo: renderConninfo({ host, port: String(port), user: SUPERUSER, sslmode: 'disable' }),
        slot: this.#options.slot ?? 'walcast',
      },
      listen: [{ address: `${this.#place.listenHost}:${this.port}` }],
      auth: { hba: this.#place.hba },
      storage: { directory: this.directory },
      http: { listen: `${this.host}:${this.httpPort}`, wal_token_file: this.#walTokenFile },
      log: { level: 'info', format: 'json' },
    };
  }
}

/** Makes a relay; it does not run yet. */
export async function createRelay(
  workspace: Workspace,
  options: RelayOptions,
): Promise<WalcastRelay> {
  const pg = await freePort();
  let http = await freePort();
  while (http === pg) http = await freePort();
  return new WalcastRelay(workspace, options, { pg, http });
}

function merge(base: WalcastSettings, over: WalcastSettings): WalcastSettings {
  const result: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = result[key];
    result[key] = isSettings(before) && isSettings(value) ? merge(before, value) : value;
  }
  return result;
}

function isSettings(value: unknown): value is WalcastSettings {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
