// Five servers that become each other's primary, two relays between the primary of the moment and all the others, and a fault
// proxy on every link: what the campaign of random faults strikes.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../../src/base/clock.ts';
import { takeBaseBackup } from '../../../src/demo/base-backup.ts';
import { createPrimary, createStandby } from '../../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../../src/demo/postgres-cluster.ts';
import { SUPERUSER } from '../../../src/demo/postgres-server.ts';
import type { StopMode } from '../../../src/demo/postgres-server.ts';
import { renderConninfo } from '../../../src/demo/postgres-settings.ts';
import type { ServerSettings } from '../../../src/demo/postgres-settings.ts';
import { serverUser } from '../../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../../src/demo/postgres-workspace.ts';
import { INVALID_LSN, parseLsn } from '../../../src/pg/lsn.ts';
import type { Lsn } from '../../../src/pg/lsn.ts';
import { toSegmentSize } from '../../../src/pg/segment.ts';
import type { SegmentSize } from '../../../src/pg/segment.ts';
import { openFaultProxy } from '../../harness/fault-proxy.ts';
import type { FaultProxy } from '../../harness/fault-proxy.ts';
import type { Ledger } from '../../harness/ledger.ts';
import { openLoopVolume } from '../../harness/loop-volume.ts';
import type { LoopVolume } from '../../harness/loop-volume.ts';
import { ledgerObserver } from '../../harness/recorder.ts';
import { createRelay } from '../../harness/walcast-process.ts';
import type { WalcastRelay, WalcastSettings } from '../../harness/walcast-process.ts';
import { FleetLoad, startFleetLoad } from './fleet-load.ts';

/** The servers; the first one is the primary at first. */
export const SERVERS = ['alpha', 'beta', 'gamma', 'delta', 'epsilon'] as const;
/** The relays; both are in every server's synchronous_standby_names. */
export const RELAYS = ['relay_a', 'relay_b'] as const;

const SEGMENT_MB = 1;
/** Silence after which either end gives a connection up: short, so that a round sees it. */
const TIMEOUT = '6s';
const WRITERS = 2;
/** For stores: what is kept for standbys and slots, twice over. */
const VOLUME_MB = 1_024;

const SERVER_SETTINGS: ServerSettings = {
  synchronous_standby_names: `ANY 1 (${RELAYS.join(', ')})`,
  wal_keep_size: '384MB',
  max_slot_wal_keep_size: '512MB',
  max_wal_size: '256MB',
  checkpoint_timeout: '30s',
  // Behind the end there is nothing, not even an old segment.
  wal_recycle: 'off',
  wal_log_hints: 'on',
  wal_sender_timeout: TIMEOUT,
  wal_receiver_timeout: TIMEOUT,
  wal_receiver_status_interval: '1s',
};

const RELAY_SETTINGS: WalcastSettings = {
  upstream: { wal_receiver_timeout: TIMEOUT, wal_receiver_status_interval: '1s' },
  wal_sender_timeout: TIMEOUT,
  drain_timeout: '15s',
  storage: { wal_keep_size: '192MB', max_slot_wal_keep_size: '256MB' },
  slots: [...SERVERS],
};

/** What passes between two nodes. `from` sends the WAL. */
export interface FleetLink {
  readonly from: string;
  readonly to: string;
  readonly proxy: FaultProxy;
  readonly ledger: Ledger;
}

/** One relay and the file system under its store; none where that cannot be mounted. */
export interface FleetRelay {
  readonly relay: WalcastRelay;
  readonly volume: LoopVolume | null;
}

/** Everything. Use {@link openFleet}. */
export class Fleet implements AsyncDisposable {
  readonly workspace: Workspace;
  readonly major: number;
  readonly segmentSize: SegmentSize = toSegmentSize(SEGMENT_MB << 20);
  readonly servers: PostgresCluster[] = [];
  readonly relays: FleetRelay[] = [];
  readonly links: FleetLink[] = [];
  /** Longest fast stop of a primary, in milliseconds. */
  fastStopMsMax = 0;
  readonly #seed: number;
  #primary: PostgresCluster | null = null;
  #load: FleetLoad | null = null;

  constructor(workspace: Workspace, options: { major: number; seed: number }) {
    this.workspace = workspace;
    this.major = options.major;
    this.#seed = options.seed;
  }

  /** Who takes writes. */
  get primary(): PostgresCluster {
    if (this.#primary === null) throw new Error('there is no primary yet');
    return this.#primary;
  }

  set primary(server: PostgresCluster) {
    this.#primary = server;
  }

  get load(): FleetLoad {
    if (this.#load === null) throw new Error('there is no load yet');
    return this.#load;
  }

  /** All servers but the primary, running or not. */
  get standbys(): PostgresCluster[] {
    return this.servers.filter((server) => server !== this.#primary);
  }

  server(name: string): PostgresCluster {
    return found(
      this.servers.find((server) => server.name === name),
      name,
    );
  }

  relay(name: string): WalcastRelay {
    return found(
      this.relays.find(({ relay }) => relay.name === name),
      name,
    ).relay;
  }

  link(from: string, to: string): FleetLink {
    const link = this.links.find((each) => each.from === from && each.to === to);
    return found(link, `link from ${from} to ${to}`);
  }

  /** Makes everything and starts it; every standby streams when this resolves. */
  async open(random: () => number): Promise<void> {
    for (const from of SERVERS)
      for (const to of RELAYS) {
        await this.#openLink(from, to, () => this.server(from));
        await this.#openLink(to, from, () => this.relay(to));
      }
    const common = { major: this.major, settings: SERVER_SETTINGS };
    const [first, ...others] = SERVERS;
    this.primary = await createPrimary(this.workspace, {
      ...common,
      name: first,
      segmentSizeMb: SEGMENT_MB,
    });
    this.servers.push(this.primary);
    await this.primary.start();
    for (const name of RELAYS) this.relays.push(await this.#openRelay(name));
    for (const { relay } of this.relays) await relay.start();
    for (const name of others) {
      const backupFrom = this.primary.target();
      const upstream = this.relay(RELAYS[0]).target();
      const server = await createStandby(this.workspace, { ...common, name, backupFrom, upstream });
      this.servers.push(server);
      await this.followRelays(server);
      await server.start();
    }
    this.#load = await startFleetLoad({
      primary: () => this.primary,
      writers: WRITERS,
      random,
      segmentBytes: this.segmentSize,
    });
  }

  /** Points a standby at both relays, in an order of its own, or at those named. Takes effect at its next start or reload. */
  async followRelays(server: PostgresCluster, relays?: readonly string[]): Promise<void> {
    const isEven = this.servers.indexOf(server) % 2 === 0;
    const names = relays ?? (isEven ? RELAYS : RELAYS.toReversed());
    await server.configure({
      primary_conninfo: renderConninfo({
        host: names.map(() => '127.0.0.1').join(','),
        port: names.map((name) => this.link(name, server.name).proxy.port).join(','),
        user: SUPERUSER,
        application_name: server.name,
        sslmode: 'disable',
        connect_timeout: '5',
      }),
      primary_slot_name: server.name,
    });
  }

  /** Makes a stopped server a standby behind the relays and starts it; all it has must be on the primary's history. */
  async rejoin(server: PostgresCluster): Promise<void> {
    await server.becomeStandby(this.relay(RELAYS[0]).target());
    await this.followRelays(server);
    await server.start();
  }

  /** Makes a stopped server anew, from a copy of the primary. */
  async copyAnew(server: PostgresCluster): Promise<void> {
    await rm(server.dataDirectory, { recursive: true, force: true });
    const directory = await this.workspace.makeDirectory(join(server.name, 'data'));
    await takeBaseBackup({
      source: this.primary.target({ applicationName: `${server.name}_backup` }),
      major: this.major,
      directory,
      user: this.workspace.user,
    });
    await this.rejoin(server);
  }

  /** Every server through the proxies of a relay, beginning with the one numbered `first`. */
  upstreamConninfo(relay: string, first = 0): string {
    const names = [...SERVERS.slice(first), ...SERVERS.slice(0, first)];
    return renderConninfo({
      host: names.map(() => '127.0.0.1').join(','),
      port: names.map((server) => this.link(server, relay).proxy.port).join(','),
      user: SUPERUSER,
      sslmode: 'disable',
      connect_timeout: '2',
      target_session_attrs: 'read-write',
    });
  }

  /** Stops the primary, and remembers how long that took. */
  async stopPrimary(mode: StopMode): Promise<void> {
    const startMs = systemClock.nowMs();
    await this.primary.stop(mode);
    if (mode === 'fast')
      this.fastStopMsMax = Math.max(this.fastStopMsMax, Math.round(systemClock.nowMs() - startMs));
  }

  /** Highest position that a running relay has on its disk. */
  async highestFlush(): Promise<{ readonly relay: string; readonly lsn: Lsn }> {
    let best = { relay: '', lsn: INVALID_LSN };
    for (const { relay } of this.relays) {
      if (!relay.isRunning) continue;
      const lsn = await relay.flushedLsn();
      if (best.relay === '' || lsn > best.lsn) best = { relay: relay.name, lsn };
    }
    return best;
  }

  /**
   * Waits until commits are acknowledged, both relays stream from the primary and every standby has replayed what the primary
   * had when this was asked. Gives the milliseconds that took; rejects with what is missing after `timeoutMs`.
   */
  async recovered(timeoutMs: number): Promise<number> {
    const startMs = systemClock.nowMs();
    const leftMs = (): number => Math.max(1, startMs + timeoutMs - systemClock.nowMs());
    const endLsn = await this.primary.walPosition();
    await Promise.all([
      this.load.waitForCommits(2, leftMs()),
      ...this.relays.map(({ relay }) => this.#follows(relay, endLsn, leftMs())),
      ...this.standbys.map((standby) =>
        standby
          .waitForReplay(endLsn, leftMs())
          .catch((error: unknown) => this.#explain(error, standby)),
      ),
    ]);
    return Math.round(systemClock.nowMs() - startMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#load?.stop();
    await this.workspace.close();
    for (const { proxy } of this.links) await proxy.close();
  }

  async #follows(relay: WalcastRelay, endLsn: Lsn, timeoutMs: number): Promise<void> {
    const { port } = this.link(this.primary.name, relay.name).proxy;
    await relay.waitForStatus(
      `${relay.name} following ${this.primary.name}`,
      ({ state, upstream, store }) =>
        state === 'streaming' &&
        upstream.port === port &&
        (parseLsn(store.flushed_lsn ?? '0/0') ?? INVALID_LSN) >= endLsn,
      timeoutMs,
    );
  }

  #explain(error: unknown, server: PostgresCluster): never {
    const relays = this.relays.map(
      ({ relay }) => `--- ${relay.name}:\n${relay.log.slice(-15).join('\n')}`,
    );
    throw new Error(
      [`${String(error)}`, `--- ${server.name}:`, server.log.tail(15), ...relays].join('\n'),
      { cause: error },
    );
  }

  async #openLink(
    from: string,
    to: string,
    target: () => { readonly port: number },
  ): Promise<void> {
    const ledger: Ledger = { name: `${from} → ${to}`, connections: [] };
    const proxy = await openFaultProxy({
      target: () => ({ host: '127.0.0.1', port: target().port }),
      seed: this.#seed,
      segmentSize: this.segmentSize,
      observer: ledgerObserver(ledger),
    });
    this.links.push({ from, to, proxy, ledger });
  }

  async #openRelay(name: string): Promise<FleetRelay> {
    const mounted = await openLoopVolume(this.workspace, {
      name: `${name}-disk`,
      megabytes: VOLUME_MB,
    });
    const volume = typeof mounted === 'string' ? null : mounted;
    const directory = volume === null ? undefined : join(volume.directory, 'store');
    if (directory !== undefined) await mkdir(directory, { mode: 0o700 });
    const relay = await createRelay(this.workspace, {
      name,
      upstream: () => this.primary.target(),
      slot: name,
      ...(directory === undefined ? {} : { directory }),
      settings: RELAY_SETTINGS,
    });
    relay.configure({
      upstream: { conninfo: this.upstreamConninfo(name), application_name: name },
    });
    return { relay, volume };
  }
}

/** Sets everything up and starts it, load included. */
export async function openFleet(options: {
  major: number;
  seed: number;
  /** Numbers in [0, 1), for the load. */
  random: () => number;
}): Promise<Fleet> {
  const fleet = new Fleet(await openWorkspace(await serverUser()), options);
  try {
    await fleet.open(options.random);
    return fleet;
  } catch (error) {
    await fleet[Symbol.asyncDispose]();
    throw error;
  }
}

function found<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new Error(`there is no ${name}`);
  return value;
}
