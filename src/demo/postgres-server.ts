// One PostgreSQL server of the demo or the tests: configured, started, stopped, killed, promoted, asked. Several share a
// workspace, which takes them all away at its end.
import { randomInt } from 'node:crypto';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OperationalError } from '../base/errors.ts';
import { parseLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { PostgresBinaries } from './postgres-binaries.ts';
import type { ConnectTarget } from './postgres-connect.ts';
import {
  ServerLog,
  pollUntil,
  signalProcess,
  startServer,
  waitForEnd,
  waitForLog,
} from './postgres-process.ts';
import type { ServerProcess } from './postgres-process.ts';
import {
  SETTINGS_FILE,
  defaultSettings,
  renderConninfo,
  renderSettings,
} from './postgres-settings.ts';
import type { ServerSettings } from './postgres-settings.ts';
import type { Workspace } from './postgres-workspace.ts';
import { openSqlSession } from './sql-session.ts';
import type { SqlSession } from './sql-session.ts';

/** The superuser of every cluster. */
export const SUPERUSER = 'postgres';

/** How a server is asked to stop, in PostgreSQL's words. */
export type StopMode = 'smart' | 'fast' | 'immediate';

/** What a cluster is made from. */
export interface ClusterOptions {
  readonly major: number;
  /** Unique in the workspace; also cluster_name, so what a standby calls itself unless told otherwise. */
  readonly name: string;
  readonly settings?: ServerSettings;
  /** A program with its arguments that runs the server, in another place for instance; it becomes the workspace's user itself. */
  readonly wrapper?: readonly string[];
  /** Where we reach it; default 127.0.0.1. A directory is that of a Unix socket. */
  readonly host?: string;
}

/** Where a cluster is made. */
export interface ClusterPlace {
  readonly workspace: Workspace;
  readonly binaries: PostgresBinaries;
  readonly directory: string;
}

const STOP_SIGNALS = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const;
const READY = /database system is ready to accept/;
// Below the range from which systems take the ports of outgoing connections, so a stopped server's port stays free.
const PORT_MIN = 20_000;
const PORT_MAX = 30_000;
const PORT_ATTEMPTS_MAX = 20;
const PORT_TAKEN = /could not create any TCP\/IP sockets/;
const DEFAULT_TIMEOUT_MS = 60_000;

/** A data directory and, while it runs, its server. */
export class PostgresCluster {
  readonly name: string;
  readonly major: number;
  readonly workspace: Workspace;
  readonly binaries: PostgresBinaries;
  /** Holds `data` and the socket. */
  readonly directory: string;
  readonly log: ServerLog;
  readonly #host: string;
  readonly #wrapper: readonly string[] | undefined;
  #settings: ServerSettings;
  #port = randomInt(PORT_MIN, PORT_MAX);
  #isPortSettled = false;
  #process: ServerProcess | null = null;

  /** Use createPrimary or createStandby of postgres-cluster.ts. */
  constructor(options: ClusterOptions, place: ClusterPlace) {
    this.name = options.name;
    this.major = options.major;
    this.workspace = place.workspace;
    this.binaries = place.binaries;
    this.directory = place.directory;
    this.log = new ServerLog(this.logFile);
    this.#host = options.host ?? '127.0.0.1';
    this.#wrapper = options.wrapper;
    this.#settings = {
      ...defaultSettings(options.major),
      cluster_name: options.name,
      unix_socket_directories: place.directory,
      ...options.settings,
    };
    place.workspace.onClose(async () => {
      await this.stop('immediate');
      this.log.close();
    });
  }

  get dataDirectory(): string {
    return join(this.directory, 'data');
  }

  get walDirectory(): string {
    return join(this.dataDirectory, 'pg_wal');
  }

  get logFile(): string {
    return join(this.directory, 'postgres.log');
  }

  /** The TCP port; settled once the server has started. */
  get port(): number {
    return this.#port;
  }

  get isRunning(): boolean {
    return this.#process !== null && this.#process.exit === null;
  }

  /** The running postmaster; null when there is none. */
  get process(): ServerProcess | null {
    return this.#process;
  }

  /** How to reach it as superuser. */
  target(overrides: Partial<ConnectTarget> = {}): ConnectTarget {
    return {
      host: this.#host,
      port: this.#port,
      user: SUPERUSER,
      database: 'postgres',
      ...overrides,
    };
  }

  /** Changes settings in the configuration file; takes effect at the next reload or start, as the setting has it. */
  async configure(settings: ServerSettings): Promise<void> {
    this.#settings = { ...this.#settings, ...settings };
    await this.#writeSettings();
  }

  /**
   * Starts the server and waits until it says that it accepts connections (a standby: once it is consistent).
   * `wait: false` returns as soon as the process runs. Rejects with OperationalError that ends with the log's last lines.
   */
  async start(options: { wait?: boolean; timeoutMs?: number } = {}): Promise<void> {
    if (this.isRunning) throw new OperationalError('ALREADY_RUNNING', `${this.name} runs already`);
    for (let attempt = 1; ; attempt += 1) {
      const from = this.log.mark();
      try {
        await this.#launch(from, options);
        return;
      } catch (error) {
        const isPortTaken = !this.#isPortSettled && PORT_TAKEN.test(this.log.textFrom(from));
        await this.stop('immediate');
        if (!isPortTaken || attempt >= PORT_ATTEMPTS_MAX) throw error;
        this.#port = randomInt(PORT_MIN, PORT_MAX);
      }
    }
  }

  /** Stops the server and waits for all its processes. Without effect when none runs. Rejects after `timeoutMs`. */
  async stop(mode: StopMode = 'fast', timeoutMs: number = DEFAULT_TIMEOUT_MS): Promise<void> {
    const server = this.#process;
    if (server === null) return;
    const pids = await server.pids();
    server.signal(STOP_SIGNALS[mode]);
    // A stopped (SIGSTOP) process hears nothing else.
    if (mode === 'immediate') for (const pid of pids) signalProcess(pid, 'SIGCONT');
    await waitForEnd(pids, timeoutMs);
    await server.exited;
    this.#process = null;
  }

  /** kill -9 of the postmaster and all its processes at once, as a crash does; waits until they are gone. */
  async kill(): Promise<void> {
    const server = this.#process;
    if (server === null) return;
    const pids = await server.pids();
    for (const pid of pids) signalProcess(pid, 'SIGKILL');
    await waitForEnd(pids, DEFAULT_TIMEOUT_MS);
    await server.exited;
    this.#process = null;
  }

  async restart(mode: StopMode = 'fast'): Promise<void> {
    await this.stop(mode);
    await this.start();
  }

  /** Reads the configuration again, and waits until the server says so. */
  async reload(): Promise<void> {
    const from = this.log.mark();
    this.#running().signal('SIGHUP');
    await this.waitForLog(/received SIGHUP, reloading configuration files/, { from });
  }

  /** Makes a standby a primary and waits until it takes writes. (xlogrecovery.c:CheckPromoteSignal) */
  async promote(): Promise<void> {
    const from = this.log.mark();
    const file = join(this.dataDirectory, 'promote');
    // Given away under another name: the postmaster may find the file before our signal, and takes it away then.
    await writeFile(`${file}.new`, '');
    await this.workspace.giveAway(`${file}.new`);
    await rename(`${file}.new`, file);
    this.#running().signal('SIGUSR1');
    await this.waitForLog(/database system is ready to accept connections/, { from });
  }

  /** Waits for a line in the log. `from` is a `log.mark()`; default: all that is kept. */
  waitForLog(
    pattern: RegExp,
    options: { from?: number; timeoutMs?: number } = {},
  ): Promise<RegExpExecArray> {
    return waitForLog(this.log, pattern, {
      from: options.from ?? 0,
      timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      ...(this.#process === null ? {} : { process: this.#process }),
    });
  }

  /** A session as superuser. The caller closes it. */
  session(overrides: Partial<ConnectTarget> = {}): Promise<SqlSession> {
    return openSqlSession(this.target({ applicationName: 'harness', ...overrides }));
  }

  /** Runs `sql` in a session of its own; rows of text, NULL as empty text. */
  async query(sql: string, database = 'postgres'): Promise<string[][]> {
    await using session = await this.session({ database });
    return await session.query(sql);
  }

  /** The only value of the only row. */
  async value(sql: string, database = 'postgres'): Promise<string> {
    await using session = await this.session({ database });
    return await session.value(sql);
  }

  /** End (exclusive) of the WAL that is flushed (primary) or replayed (standby). */
  async walPosition(): Promise<Lsn> {
    return await this.#lsn(
      'SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END',
    );
  }

  /** Waits until a standby has replayed everything before `endLsn`. Rejects with OperationalError after `timeoutMs`. */
  async waitForReplay(endLsn: Lsn, timeoutMs: number = DEFAULT_TIMEOUT_MS): Promise<void> {
    await using session = await this.session();
    await pollUntil(
      `${this.name} having replayed up to ${endLsn.toString(16)}`,
      async () => {
        const text = await session.value("SELECT coalesce(pg_last_wal_replay_lsn()::text, '0/0')");
        return (parseLsn(text) ?? 0n) >= endLsn ? true : null;
      },
      { timeoutMs },
    );
  }

  /** Polls `sql` until its only value is `expected`. Rejects with OperationalError after `timeoutMs`. */
  async waitForValue(
    sql: string,
    expected: string,
    timeoutMs: number = DEFAULT_TIMEOUT_MS,
  ): Promise<void> {
    await using session = await this.session();
    await pollUntil(
      `${expected} from ${this.name}: ${sql}`,
      async () => ((await session.value(sql)) === expected ? true : null),
      { timeoutMs },
    );
  }

  /** Makes the data directory a standby's from its next start on. */
  async becomeStandby(upstream: ConnectTarget, slot?: string): Promise<void> {
    const file = join(this.dataDirectory, 'standby.signal');
    await writeFile(file, '');
    await this.workspace.giveAway(file);
    await this.followUpstream(upstream, slot);
  }

  /** Points a standby elsewhere; takes effect at a reload or start. */
  async followUpstream(upstream: ConnectTarget, slot?: string): Promise<void> {
    await this.configure({
      primary_conninfo: standbyConninfo(upstream, this.name),
      primary_slot_name: slot ?? null,
    });
  }

  async #launch(from: number, options: { wait?: boolean; timeoutMs?: number }): Promise<void> {
    await this.#writeSettings();
    const args = ['-D', this.dataDirectory, '-c', `port=${this.#port}`];
    const server = await startServer(join(this.binaries.binDirectory, 'postgres'), args, {
      user: this.workspace.user,
      cwd: this.directory,
      log: this.log,
      ...(this.#wrapper === undefined ? {} : { wrapper: this.#wrapper }),
    });
    this.#process = server;
    if (options.wait === false) return;
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    await waitForLog(this.log, READY, { from, timeoutMs, process: server });
    this.#isPortSettled = true;
  }

  async #lsn(sql: string): Promise<Lsn> {
    const text = await this.value(sql);
    const lsn = parseLsn(text);
    if (lsn === null)
      throw new OperationalError('NO_POSITION', `${this.name}: "${text}" from ${sql}`);
    return lsn;
  }

  #running(): ServerProcess {
    if (this.#process === null)
      throw new OperationalError('NOT_RUNNING', `${this.name} does not run`);
    return this.#process;
  }

  async #writeSettings(): Promise<void> {
    const file = join(this.dataDirectory, SETTINGS_FILE);
    await writeFile(file, renderSettings(this.#settings), { mode: 0o600 });
    await this.workspace.giveAway(file);
  }
}

/** A primary_conninfo for `upstream`; `name` is the application_name unless the target has one. */
export function standbyConninfo(upstream: ConnectTarget, name: string): string {
  return renderConninfo({
    host: upstream.host,
    port: String(upstream.port),
    user: upstream.user,
    password: upstream.password,
    application_name: upstream.applicationName ?? name,
    sslmode: 'disable',
  });
}
