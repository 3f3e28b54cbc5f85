// A primary whose commits wait for walcast, which answers for the standbys behind it, and ways to take a standby away and
// to bring it back. Standbys may be attached to the primary itself as well: what walcast makes commits wait for is to be
// what PostgreSQL makes them wait for.
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { openFaultProxy } from './fault-proxy.ts';
import type { FaultProxy } from './fault-proxy.ts';
import { createRelay } from './walcast-process.ts';
import type { WalcastRelay, WalcastSettings } from './walcast-process.ts';

/** One walcast. Its application_name and its slot upstream are its name. */
export interface SyncRelay {
  readonly name: string;
  /** Another relay, made before it; default the primary. */
  readonly upstream?: string;
  readonly settings?: WalcastSettings;
}

/** One standby; its name is its application_name. */
export interface SyncRigStandby {
  readonly name: string;
  /** A relay, or `primary`. */
  readonly upstream: string;
  readonly settings?: ServerSettings;
}

/** What to set up. */
export interface SyncRigOptions {
  readonly major: number;
  readonly relays: readonly SyncRelay[];
  readonly standbys: readonly SyncRigStandby[];
  /** The primary's synchronous_standby_names, once everybody streams. */
  readonly primaryNames: string;
}

/**
 * How a standby is absent. `stopped`: its walreceiver gets no processor. `killed`: all its processes are gone. `cut`: nothing
 * passes between it and its upstream, and neither hears of it.
 */
export type Absence = 'stopped' | 'killed' | 'cut';

/** A standby that is absent. */
export interface AwayStandby {
  readonly name: string;
  /** Resolves at the moment from which it can work again: it streams, or nothing holds it or its way back any more. */
  readonly back: () => Promise<void>;
}

interface Parts {
  readonly workspace: Workspace;
  readonly primary: PostgresCluster;
  readonly relays: Map<string, WalcastRelay>;
  readonly standbys: Map<string, PostgresCluster>;
  readonly proxies: Map<string, FaultProxy>;
}

const PRIMARY = 'primary';
const WAIT_MS = 30_000;
const STREAMING = /started streaming WAL from primary/;

/** The primary, the relays, and the standbys, each behind a proxy of its own. */
export class SyncRig implements AsyncDisposable {
  readonly workspace: Workspace;
  readonly primary: PostgresCluster;
  readonly #parts: Parts;

  /** Use {@link openSyncRig}. */
  constructor(parts: Parts) {
    this.workspace = parts.workspace;
    this.primary = parts.primary;
    this.#parts = parts;
  }

  get relays(): WalcastRelay[] {
    return [...this.#parts.relays.values()];
  }

  get standbys(): PostgresCluster[] {
    return [...this.#parts.standbys.values()];
  }

  relay(name: string): WalcastRelay {
    return named(this.#parts.relays, name);
  }

  standby(name: string): PostgresCluster {
    return named(this.#parts.standbys, name);
  }

  /** The proxy between a standby and its upstream. */
  proxy(standby: string): FaultProxy {
    return named(this.#parts.proxies, standby);
  }

  /** Sets the primary's synchronous_standby_names; it holds when this resolves. */
  async setPrimaryNames(names: string): Promise<void> {
    await this.primary.configure({ synchronous_standby_names: names });
    await this.primary.reload();
    await this.primary.waitForValue('SHOW synchronous_standby_names', names, WAIT_MS);
  }

  /** Takes a standby away. */
  async leave(name: string, how: Absence): Promise<AwayStandby> {
    const standby = this.standby(name);
    if (how === 'stopped') return { name, back: await this.stopProcess(name, 'walreceiver') };
    if (how === 'cut') {
      const proxy = this.proxy(name);
      proxy.halfOpen();
      return { name, back: async () => proxy.resume() };
    }
    await standby.kill();
    return { name, back: () => this.#startAgain(standby) };
  }

  /** Stops one process of a standby (SIGSTOP); gives the way to let it go on. */
  async stopProcess(
    name: string,
    backendType: 'walreceiver' | 'startup',
  ): Promise<() => Promise<void>> {
    const pid = await this.processOf(name, backendType);
    signalProcess(pid, 'SIGSTOP');
    return async () => signalProcess(pid, 'SIGCONT');
  }

  /** The process id of one of a standby's own processes, once there is one. */
  async processOf(name: string, backendType: 'walreceiver' | 'startup'): Promise<number> {
    const standby = this.standby(name);
    const sql = `SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = '${backendType}'`;
    return await pollUntil(
      `a ${backendType} of ${name}`,
      async () => Number(await standby.value(sql)) || null,
      { timeoutMs: WAIT_MS },
    );
  }

  /** Waits until all standbys stream and have replayed everything. */
  async settled(): Promise<void> {
    const endLsn = await this.primary.walPosition();
    for (const standby of this.standbys) {
      await standby.waitForReplay(endLsn, WAIT_MS).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${this.explain(standby)}`, { cause: error });
      });
    }
  }

  /** Last lines of logs. */
  explain(...servers: readonly PostgresCluster[]): string {
    return [
      ...servers.map(({ name, log }) => `--- ${name}:\n${log.tail(12)}`),
      ...this.relays.map(({ name, log }) => `--- ${name}:\n${log.slice(-12).join('\n')}`),
    ].join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.workspace.close();
    for (const proxy of this.#parts.proxies.values()) await proxy.close();
  }

  async #startAgain(standby: PostgresCluster): Promise<void> {
    const from = standby.log.mark();
    await standby.start({ wait: false });
    await standby.waitForLog(STREAMING, { from });
  }
}

/** Sets it up and starts it; all stream when this resolves. */
export async function openSyncRig(options: SyncRigOptions): Promise<SyncRig> {
  const workspace = await openWorkspace(await serverUser());
  const { major } = options;
  const settings = { wal_keep_size: '2GB', checkpoint_timeout: '30min' };
  try {
    const primary = await createPrimary(workspace, { major, name: PRIMARY, settings });
    const parts: Parts = {
      workspace,
      primary,
      relays: new Map(),
      standbys: new Map(),
      proxies: new Map(),
    };
    await primary.start();
    await primary.query('CREATE TABLE commits (id bigint PRIMARY KEY)');
    for (const relay of options.relays) await startRelay(parts, relay);
    await Promise.all(options.standbys.map((standby) => startStandby(parts, standby, major)));
    const rig = new SyncRig(parts);
    await rig.settled();
    await rig.setPrimaryNames(options.primaryNames);
    return rig;
  } catch (error) {
    await workspace.close();
    throw error;
  }
}

async function startRelay(
  { workspace, primary, relays }: Parts,
  { name, upstream, settings = {} }: SyncRelay,
): Promise<void> {
  const relay = await createRelay(workspace, {
    name,
    slot: name,
    upstream: () => (upstream === undefined ? primary.target() : named(relays, upstream).target()),
  });
  relay.configure({ auto_create_slots: 'on', upstream: { application_name: name } });
  relay.configure(settings);
  await relay.start();
  relays.set(name, relay);
}

async function startStandby(
  { workspace, primary, relays, standbys, proxies }: Parts,
  { name, upstream, settings }: SyncRigStandby,
  major: number,
): Promise<void> {
  const proxy = await openFaultProxy({
    target: () => (upstream === PRIMARY ? primary.target() : named(relays, upstream).target()),
  });
  proxies.set(name, proxy);
  const standby = await createStandby(workspace, {
    major,
    name,
    backupFrom: primary.target(),
    upstream: { ...primary.target(), port: proxy.port },
    settings: { wal_keep_size: '2GB', ...settings },
  });
  await standby.start();
  standbys.set(name, standby);
}

function named<T>(all: ReadonlyMap<string, T>, name: string): T {
  const found = all.get(name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
}
