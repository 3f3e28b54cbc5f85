// A primary, a relay in this process whose clock can be set, and standbys of which some are attached to the primary itself and
// some to the relay: are they the same to both?
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { LogLevels } from '../../src/base/log-levels.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import type { Log } from '../../src/base/log.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { LoadedConfig } from '../../src/config/load.ts';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { startRelay } from '../../src/relay/relay.ts';
import type { Relay } from '../../src/relay/relay.ts';
import type { StandbyStatus } from '../../src/status/status.ts';
import { freePort } from './free-port.ts';

const WAIT_MS = 30_000;
const RELAY_NAME = 'walcast';

/** The real clock, except that the time of day can be set. */
export class SettableClock implements Clock {
  /** How far the time of day is ahead of the true one. */
  aheadMs = 0;

  nowMs(): number {
    return systemClock.nowMs();
  }

  wallMs(): number {
    return systemClock.wallMs() + this.aheadMs;
  }

  setTimer(delayMs: number, callback: () => void): ReturnType<Clock['setTimer']> {
    return systemClock.setTimer(delayMs, callback);
  }
}

/** What to set up: `direct` streams from the primary, `behind` from the relay. */
export interface LagRigOptions {
  readonly major: number;
  readonly primarySettings?: ServerSettings;
  readonly standbySettings?: ServerSettings;
}

/** All of it; streaming. */
export class LagRig implements AsyncDisposable {
  readonly clock: SettableClock;
  readonly relayPort: number;
  readonly primary: PostgresCluster;
  readonly direct: PostgresCluster;
  readonly behind: PostgresCluster;
  readonly #workspace: Workspace;
  readonly #relay: Relay;

  constructor(parts: {
    clock: SettableClock;
    relay: Relay;
    relayPort: number;
    primary: PostgresCluster;
    direct: PostgresCluster;
    behind: PostgresCluster;
    workspace: Workspace;
  }) {
    this.clock = parts.clock;
    this.relayPort = parts.relayPort;
    this.primary = parts.primary;
    this.direct = parts.direct;
    this.behind = parts.behind;
    this.#workspace = parts.workspace;
    this.#relay = parts.relay;
  }

  get upstreamLagSeconds(): number {
    return this.#relay.statusSource.status().upstreamDelay.lagSeconds;
  }

  /** End (exclusive) of the whole records that the relay has received. */
  get receivedLsn(): Lsn {
    return this.#relay.statusSource.status().store.receivedLsn;
  }

  /** What the relay says about all of them. */
  standbys(): readonly StandbyStatus[] {
    return this.#relay.statusSource.status().standbys;
  }

  /** What the relay says about a standby; throws while there is none of that name. */
  standby(name: string): StandbyStatus {
    const { standbys } = this.#relay.statusSource.status();
    const found = standbys.find(({ applicationName }) => applicationName === name);
    if (found === undefined) throw new Error(`${name} is not connected`);
    return found;
  }

  /** What the primary says about one that is attached to it: seconds, or null. */
  async atPrimary(
    name: string,
  ): Promise<Readonly<Record<'write' | 'flush' | 'apply', number | null>>> {
    const seconds = ['write', 'flush', 'replay'].map((stage) => `extract(epoch FROM ${stage}_lag)`);
    const [[write, flush, apply] = []] = await this.primary.query(
      `SELECT ${seconds.join(', ')} FROM pg_stat_replication WHERE application_name = '${name}'`,
    );
    return { write: secondsOf(write), flush: secondsOf(flush), apply: secondsOf(apply) };
  }

  /** Waits until `isSo` of what the relay says about a standby; gives that. A standby that is away is nothing yet. */
  async until(
    name: string,
    isSo: (standby: StandbyStatus) => boolean,
    timeoutMs: number = WAIT_MS,
  ): Promise<StandbyStatus> {
    return await pollUntil(
      `${name} at the relay`,
      () => {
        const { standbys } = this.#relay.statusSource.status();
        const found = standbys.find(({ applicationName }) => applicationName === name);
        return Promise.resolve(found !== undefined && isSo(found) ? found : null);
      },
      { timeoutMs },
    );
  }

  /** Waits until the relay has noticed that a standby left. */
  async untilGone(name: string): Promise<void> {
    const isHere = (): boolean =>
      this.#relay.statusSource.status().standbys.some((each) => each.applicationName === name);
    await pollUntil(`${name} gone`, () => Promise.resolve(isHere() ? null : true), {
      timeoutMs: WAIT_MS,
    });
  }

  /** Waits until both standbys have replayed everything. */
  async settled(): Promise<void> {
    const endLsn = await this.primary.walPosition();
    for (const standby of [this.direct, this.behind]) await standby.waitForReplay(endLsn, WAIT_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#relay.stop();
    await this.#workspace.close();
  }
}

/** Sets it up. */
export async function openLagRig(options: LagRigOptions): Promise<LagRig> {
  const workspace = await openWorkspace(await serverUser());
  const { major, primarySettings = {}, standbySettings = {} } = options;
  try {
    const settings = { wal_keep_size: '1GB', checkpoint_timeout: '30min', ...primarySettings };
    const primary = await createPrimary(workspace, { major, name: 'primary', settings });
    await primary.start();
    await primary.query('CREATE TABLE lines (id bigint, filler text)');
    const relayPort = await freePort();
    const parts = { major, backupFrom: primary.target(), settings: standbySettings };
    const [direct, behind] = await Promise.all([
      createStandby(workspace, { ...parts, name: 'direct', upstream: primary.target() }),
      createStandby(workspace, {
        ...parts,
        name: 'behind',
        upstream: { ...primary.target(), port: relayPort },
      }),
    ]);
    // It is the relay's other upstream, and has its port once it runs.
    await direct.start();
    const clock = new SettableClock();
    const relay = await startHere(clock, {
      directory: join(workspace.directory, 'relay'),
      relayPort,
      ports: [primary.port, direct.port],
    });
    await behind.start();
    const rig = new LagRig({ clock, relay, relayPort, primary, direct, behind, workspace });
    await rig.settled();
    return rig;
  } catch (error) {
    await workspace.close();
    throw error;
  }
}

async function startHere(
  clock: Clock,
  parts: { directory: string; relayPort: number; ports: readonly number[] },
): Promise<Relay> {
  await mkdir(parts.directory, { recursive: true });
  const hosts = parts.ports.map(() => '127.0.0.1').join(',');
  const settings = {
    'upstream.conninfo': `host=${hosts} port=${parts.ports.join(',')} user=postgres sslmode=disable target_session_attrs=read-write`,
    'upstream.application_name': RELAY_NAME,
    'upstream.slot': RELAY_NAME,
    'upstream.wal_receiver_status_interval': '1s',
    listen: `127.0.0.1:${parts.relayPort}`,
    'auth.hba': 'host replication all 127.0.0.1/32 trust',
    'storage.directory': join(parts.directory, 'data'),
    'http.listen': '',
  };
  const flags = Object.entries(settings).map(([path, text]) => ({ path, text, flag: '--set' }));
  const readConfig = (): LoadedConfig =>
    loadConfig({ flags, env: {}, file: null, workingDirectory: parts.directory });
  const loaded = readConfig();
  if (!('config' in loaded)) throw new Error(JSON.stringify(loaded.errors));
  return await startRelay(loaded.config, {
    clock,
    log: SILENT,
    readConfig,
    logLevels: new LogLevels({ level: 'info', levels: new Map() }, []),
    onLogSettings: () => {},
    onDrainRequested: () => {},
    onShutdownRequested: () => {},
    startSignal: new AbortController().signal,
  });
}

const SILENT: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => SILENT,
};

function secondsOf(text: string | null | undefined): number | null {
  return text === null || text === undefined || text === '' ? null : Number(text);
}
