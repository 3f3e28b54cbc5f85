// A primary with a standby of its own, a walcast that may follow either, and three standbys with slots behind it, each on a
// way that can be interfered with: who may be asked whether what walcast says of them is true.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import { SUPERUSER } from '../../src/demo/postgres-server.ts';
import { renderConninfo } from '../../src/demo/postgres-settings.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import { makeCertificate } from '../support/certificates.ts';
import { openFaultProxy } from './fault-proxy.ts';
import type { FaultProxy } from './fault-proxy.ts';
import { createRelay, HERE } from './walcast-process.ts';
import type { WalcastRelay, WalcastSettings } from './walcast-process.ts';

/** Names of the standbys behind walcast: `standby_c` replays late, the others at once. */
export const STANDBYS = ['standby_a', 'standby_b', 'standby_c'] as const;

/** How late `standby_c` replays. */
export const APPLY_DELAY_MS: number = 800;

/** The standbys' wal_receiver_status_interval, and walcast's: what is said is no older, on a machine with nothing else to do. */
export const STATUS_INTERVAL_MS: number = 1_000;

/** What to set up. */
export interface ValuesRigOptions {
  readonly major: number;
  readonly relaySettings?: WalcastSettings;
  readonly primarySettings?: ServerSettings;
  /** Walcast's port speaks TLS to those who ask for it. */
  readonly hasTls?: boolean;
  /** The primary has a standby of its own, which walcast may follow after a promotion. */
  readonly hasDirect?: boolean;
}

interface Parts {
  readonly workspace: Workspace;
  readonly primary: PostgresCluster;
  readonly direct: PostgresCluster | null;
  readonly relay: WalcastRelay;
  readonly standbys: ReadonlyMap<string, PostgresCluster>;
  readonly proxies: ReadonlyMap<string, FaultProxy>;
}

const SEGMENT_SIZE_MB = 1;
/** Of the primary, and so of everybody. */
export const SEGMENT_SIZE: SegmentSize = toSegmentSize(SEGMENT_SIZE_MB << 20);
const PRIMARY_SETTINGS = { wal_keep_size: '256MB', checkpoint_timeout: '30min' };
const WAIT_MS = 30_000;
const HBA = `${HERE.hba}host walcast all 127.0.0.1/32 trust\n`;

/** All of it; everybody streams. */
export class ValuesRig implements AsyncDisposable {
  readonly workspace: Workspace;
  readonly relay: WalcastRelay;
  /** Who takes writes; set it after a promotion. */
  primary: PostgresCluster;
  readonly #parts: Parts;

  /** Use {@link openValuesRig}. */
  constructor(parts: Parts) {
    this.workspace = parts.workspace;
    this.relay = parts.relay;
    this.primary = parts.primary;
    this.#parts = parts;
  }

  get standbys(): ReadonlyMap<string, PostgresCluster> {
    return this.#parts.standbys;
  }

  /** The primary's own standby. */
  get direct(): PostgresCluster {
    if (this.#parts.direct === null) throw new Error('there is no direct standby');
    return this.#parts.direct;
  }

  standby(name: string): PostgresCluster {
    return named(this.standbys, name);
  }

  /** What is between a standby and walcast. */
  proxy(name: string): FaultProxy {
    return named(this.#parts.proxies, name);
  }

  /** The process id of a standby's walreceiver, once there is one. */
  async walReceiverPid(name: string): Promise<number> {
    return await pollUntil(
      `a walreceiver of ${name}`,
      async () =>
        Number(
          await this.standby(name).value('SELECT coalesce(max(pid), 0) FROM pg_stat_wal_receiver'),
        ) || null,
      { timeoutMs: WAIT_MS },
    );
  }

  /** Stops a standby's walreceiver (SIGSTOP); gives the way to let it go on. */
  async stopWalReceiver(name: string): Promise<() => void> {
    const pid = await this.walReceiverPid(name);
    signalProcess(pid, 'SIGSTOP');
    return () => signalProcess(pid, 'SIGCONT');
  }

  /** Waits until the running standbys have replayed everything. Gives its end. */
  async settled(): Promise<Lsn> {
    const endLsn = await this.primary.walPosition();
    for (const standby of this.standbys.values()) {
      if (!standby.isRunning) continue;
      await standby.waitForReplay(endLsn, WAIT_MS).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${this.explain(standby)}`, { cause: error });
      });
    }
    return endLsn;
  }

  /** Waits until walcast has all of them as streaming. */
  async streaming(names: readonly string[] = STANDBYS): Promise<void> {
    await this.relay.waitForStatus(`${names.join(', ')} streaming`, ({ standbys }) =>
      names.every((name) =>
        standbys.some((one) => one.application_name === name && one.state === 'streaming'),
      ),
    );
  }

  /** Last lines of logs. */
  explain(...servers: readonly PostgresCluster[]): string {
    return [
      ...servers.map(({ name, log }) => `--- ${name}:\n${log.tail(12)}`),
      `--- walcast:\n${this.relay.log.slice(-12).join('\n')}`,
    ].join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.workspace.close();
    for (const proxy of this.#parts.proxies.values()) await proxy.close();
  }
}

/** Sets it up and starts it. */
export async function openValuesRig(options: ValuesRigOptions): Promise<ValuesRig> {
  const workspace = await openWorkspace(await serverUser());
  try {
    const primary = await startPrimary(workspace, options);
    const relay = await createRelay(workspace, {
      name: 'walcast',
      upstream: () => primary.target(),
    });
    relay.configure({
      upstream: { application_name: 'walcast', wal_receiver_status_interval: '1s' },
      auth: { hba: HBA },
      slots: [...STANDBYS],
      ...options.relaySettings,
    });
    if (options.hasTls === true) relay.configure(await tlsSettings(workspace, relay));
    const direct =
      options.hasDirect === true ? await startDirect(workspace, primary, options) : null;
    if (direct !== null) relay.configure({ upstream: { conninfo: conninfo([primary, direct]) } });
    await relay.start();
    const proxies = new Map<string, FaultProxy>();
    const standbys = await startStandbys(workspace, { primary, relay, proxies }, options.major);
    const rig = new ValuesRig({ workspace, primary, direct, relay, standbys, proxies });
    await rig.settled();
    await rig.streaming();
    return rig;
  } catch (error) {
    await workspace.close();
    throw error;
  }
}

async function tlsSettings(workspace: Workspace, relay: WalcastRelay): Promise<WalcastSettings> {
  const { pem, key } = makeCertificate({ commonName: 'walcast', dns: ['localhost'] });
  const files = {
    cert: join(workspace.directory, 'relay.crt'),
    key: join(workspace.directory, 'relay.key'),
  };
  await writeFile(files.cert, pem);
  await writeFile(files.key, key, { mode: 0o600 });
  return { listen: [{ address: `${HERE.listenHost}:${relay.port}`, tls: files }] };
}

async function startPrimary(
  workspace: Workspace,
  { major, primarySettings = {} }: ValuesRigOptions,
): Promise<PostgresCluster> {
  const primary = await createPrimary(workspace, {
    major,
    name: 'primary',
    segmentSizeMb: SEGMENT_SIZE_MB,
    settings: { ...PRIMARY_SETTINGS, ...primarySettings },
  });
  await primary.start();
  await primary.query('CREATE TABLE lines (id bigint, filler text)');
  return primary;
}

async function startDirect(
  workspace: Workspace,
  primary: PostgresCluster,
  { major, primarySettings = {} }: ValuesRigOptions,
): Promise<PostgresCluster> {
  const direct = await createStandby(workspace, {
    major,
    name: 'direct',
    backupFrom: primary.target(),
    upstream: primary.target(),
    settings: { ...PRIMARY_SETTINGS, ...primarySettings },
  });
  await direct.start();
  return direct;
}

async function startStandbys(
  workspace: Workspace,
  parts: { primary: PostgresCluster; relay: WalcastRelay; proxies: Map<string, FaultProxy> },
  major: number,
): Promise<ReadonlyMap<string, PostgresCluster>> {
  const { primary, relay, proxies } = parts;
  const standbys = new Map<string, PostgresCluster>();
  const start = async (name: string): Promise<void> => {
    const proxy = await openFaultProxy({ target: () => relay.target() });
    proxies.set(name, proxy);
    const standby = await createStandby(workspace, {
      major,
      name,
      backupFrom: primary.target(),
      upstream: { ...primary.target(), port: proxy.port },
      slot: name,
      settings: {
        wal_receiver_status_interval: `${STATUS_INTERVAL_MS}ms`,
        hot_standby_feedback: 'on',
        ...(name === 'standby_c' ? { recovery_min_apply_delay: `${APPLY_DELAY_MS}ms` } : {}),
      },
    });
    await standby.start();
    standbys.set(name, standby);
  };
  await Promise.all(STANDBYS.map(start));
  return standbys;
}

function conninfo(servers: readonly PostgresCluster[]): string {
  return renderConninfo({
    host: servers.map(() => '127.0.0.1').join(','),
    port: servers.map(({ port }) => String(port)).join(','),
    user: SUPERUSER,
    sslmode: 'disable',
    target_session_attrs: 'read-write',
  });
}

function named<T>(all: ReadonlyMap<string, T>, name: string): T {
  const found = all.get(name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
}

/** An LSN out of a column of text; null for NULL, which is the empty text there. */
export function lsnOf(text: string | null | undefined): Lsn | null {
  return text === null || text === undefined || text === '' ? null : parseLsn(text);
}
