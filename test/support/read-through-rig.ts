// A real store that begins in the middle of some WAL, real walsenders over it, and a played upstream that has all of it.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConsoleOpener } from '../../src/console/opener.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { Listener } from '../../src/net/listener.ts';
import { advanceLsn, formatLsn, minLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentStartOf } from '../../src/pg/segment.ts';
import { LateWalFeed } from '../../src/relay/late-binding.ts';
import { StoreReadThrough } from '../../src/relay/read-through.ts';
import { StoreFeed } from '../../src/relay/store-adapters.ts';
import { STORE_LIMITS } from '../../src/wal/store-options.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import type { UpstreamHost, UpstreamTarget } from '../../src/walreceiver/upstream-target.ts';
import { WalSenders } from '../../src/walsender/wal-senders.ts';
import { sampleConsole } from './console-source.ts';
import { MemorySlots, MemoryTunnels } from './memory-wal.ts';
import { query, RawClient, StreamReader } from './raw-client.ts';
import { COPY_BOTH, playedServer, ScriptedUpstream, walData } from './scripted-upstream.ts';
import type { PlayedServer, ScriptedSession } from './scripted-upstream.ts';
import { targetFor } from './upstream-target.ts';
import { storeOptions } from './store-rig.ts';
import { TestWalAges } from './wal-ages.ts';
import { WalFixture } from './wal-fixture.ts';
import { identityOf, LogRecord, rules } from './wal-senders-fixture.ts';

/** The segments of the WAL that {@link openRig} makes. */
export const SEGMENT: bigint = 1n << 20n;

/** How many bytes a message of the played upstream has. */
export type Cut = (offset: number) => number;

/** As PostgreSQL cuts. */
export const WHOLE: Cut = () => 131_072;

/** One by one at the start, later in pieces that fit nowhere. */
export const ODD: Cut = (offset) => (offset < 9_000 ? 1 : offset % 2 === 0 ? 77_777 : 8_191);

/** What to build. */
export interface RigOptions {
  readonly wal: WalFixture;
  /** The store begins with the segment of this position. */
  readonly storeFrom: bigint;
  readonly timeoutMs?: number;
  readonly verify?: 'page' | 'record';
  readonly server?: Partial<PlayedServer>;
  readonly hosts?: readonly UpstreamHost[];
  /** Of reading through alone. */
  readonly clock?: Clock;
  /** How much WAL the store keeps in memory. */
  readonly tailBytesMax?: number;
}

/** Everything of one test. */
export class ReadThroughRig implements AsyncDisposable {
  readonly wal: WalFixture;
  readonly upstream: ScriptedUpstream;
  readonly server: PlayedServer;
  readonly log = new LogRecord();
  readonly slots = new MemorySlots();
  isMoving = true;
  followed: UpstreamHost | null = null;
  walSenderTimeoutMs = 60_000;
  target: UpstreamTarget;
  readonly #parts: { store: WalStore; readThrough: StoreReadThrough; directory: string };
  readonly #options: RigOptions;
  readonly #senders: WalSenders;
  #listener: Listener | null = null;
  readonly #clients: RawClient[] = [];

  private constructor(
    options: RigOptions,
    upstream: ScriptedUpstream,
    opened: { store: WalStore; directory: string },
  ) {
    const { wal } = options;
    this.wal = wal;
    this.upstream = upstream;
    this.server = playedServer({
      systemIdentifier: wal.systemIdentifier,
      serverVersion: '15.4',
      timeline: String(wal.history.timeline),
      xlogPos: formatLsn(wal.endLsn),
      ...options.server,
    });
    this.server.settings['wal_segment_size'] = '1MB';
    this.target = targetFor('', {
      hosts: options.hosts ?? [
        { host: '127.0.0.1', address: '127.0.0.1', port: upstream.port, password: null },
      ],
    });
    this.#options = options;
    this.#parts = { ...opened, readThrough: this.readThroughOf(opened.store) };
    this.#senders = this.#makeSenders();
  }

  /** Reading through from the played upstream, for this store. The caller closes it. */
  readThroughOf(store: WalStore): StoreReadThrough {
    const { verify, timeoutMs, clock } = this.#options;
    return new StoreReadThrough({
      store,
      upstream: {
        targetToConnect: () => this.target,
        followedHost: () => this.followed,
        isMoving: () => this.isMoving,
      },
      applicationName: () => 'walcast',
      verify: verify ?? 'page',
      timeoutMs: () => timeoutMs ?? 10_000,
      clock: clock ?? systemClock,
      log: this.log,
    });
  }

  /** Builds it; the store holds everything from the segment of `storeFrom` on. */
  static async open(options: RigOptions): Promise<ReadThroughRig> {
    const { wal } = options;
    const directory = await mkdtemp(join(tmpdir(), 'walcast-read-through-'));
    const verify = options.verify ?? 'page';
    const store = await WalStore.open(
      storeOptions(directory, {
        verify,
        walKeepSizeBytes: 0,
        log: new LogRecord(),
        limits: {
          ...STORE_LIMITS,
          tailBytesMax: options.tailBytesMax ?? STORE_LIMITS.tailBytesMax,
        },
      }),
    );
    const identity = { ...identityOf(15), ...wal.origin, timeline: wal.history.timeline };
    await store.initialize(identity, segmentStartOf(options.storeFrom as Lsn, wal.segmentSize));
    const upstream = await ScriptedUpstream.listen();
    const rig = new ReadThroughRig(options, upstream, { store, directory });
    rig.receiveAll();
    rig.#listener = await Listener.open({
      target: { kind: 'tcp', host: '127.0.0.1', port: 0 },
      connectionsMax: 200,
      onConnection: (open) => rig.#senders.accept(open),
    });
    return rig;
  }

  get store(): WalStore {
    return this.#parts.store;
  }

  /** walcast's data directory. */
  get directory(): string {
    return this.#parts.directory;
  }

  get readThrough(): StoreReadThrough {
    return this.#parts.readThrough;
  }

  get senders(): WalSenders {
    return this.#senders;
  }

  /** End of the record that lies across the beginning of the store: as far as walcast reads. */
  get seamLsn(): Lsn {
    const oldestLsn = this.store.oldestLsn();
    const across = this.wal.records.find(({ endLsn }) => endLsn >= oldestLsn);
    return across?.endLsn ?? oldestLsn;
  }

  /** The store receives what it lacks. */
  receiveAll(): void {
    const { store, wal } = this;
    this.server.xlogPos = formatLsn(wal.endLsn);
    while (store.nextLsn() < wal.endLsn) {
      const startLsn = store.nextLsn();
      const endLsn = minLsn(advanceLsn(startLsn, 131_072), wal.endLsn);
      const rejection = store.append(startLsn, wal.slice(startLsn, endLsn));
      if (rejection !== null) throw new Error(rejection.reason);
    }
  }

  /** A client that has been let in. */
  async client(parameters: Readonly<Record<string, string>> = {}): Promise<RawClient> {
    const { client } = await RawClient.standby(this.#listener?.port ?? 0, parameters);
    this.#clients.push(client);
    return client;
  }

  /** A standby that asked for `startLsn` on and got CopyBothResponse. */
  async stream(
    startLsn: bigint,
    options: { timeline?: number; parameters?: Readonly<Record<string, string>> } = {},
  ): Promise<StreamReader> {
    const client = await this.client(options.parameters);
    const timeline = options.timeline ?? this.wal.history.timeline;
    client.send(query(`START_REPLICATION ${formatLsn(startLsn as Lsn)} TIMELINE ${timeline}`));
    const response = await client.next();
    if (response?.type !== 'W') throw new Error(`no CopyBothResponse but ${response?.type}`);
    return new StreamReader(client, startLsn);
  }

  /** Plays the upstream for the next connection up to its first START_REPLICATION, whose position is given. */
  async accept(): Promise<{ session: ScriptedSession; startLsn: bigint; command: string }> {
    const session = await this.upstream.accept();
    await session.login(this.server);
    return { session, ...(await this.nextStart(session)) };
  }

  /** The next START_REPLICATION on a connection; what else is asked is answered. */
  async nextStart(session: ScriptedSession): Promise<{ startLsn: bigint; command: string }> {
    const command = await session.identify(this.server);
    const [high = '0', low = '0'] = (command.split(' ')[2] ?? '').split('/');
    return { command, startLsn: (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`) };
  }

  /** Opens the stream and sends all that there is between the two positions. */
  send(session: ScriptedSession, startLsn: bigint, endLsn: bigint, cut: Cut = WHOLE): void {
    session.send(COPY_BOTH);
    this.sendMore(session, startLsn, endLsn, cut);
  }

  sendMore(session: ScriptedSession, startLsn: bigint, endLsn: bigint, cut: Cut = WHOLE): void {
    for (let lsn = startLsn; lsn < endLsn;) {
      const wanted = lsn + BigInt(cut(Number(lsn - startLsn)));
      const end = wanted < endLsn ? wanted : endLsn;
      session.send(walData(lsn, this.wal.slice(lsn, end), this.wal.endLsn));
      lsn = end;
    }
  }

  /** True when the standby has the WAL's own bytes. */
  isRight(reader: StreamReader): boolean {
    const wal = reader.wal();
    const startLsn = reader.endLsn - BigInt(wal.length);
    return wal.equals(this.wal.slice(startLsn, reader.endLsn));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    this.#listener?.close();
    this.#senders.terminate();
    this.readThrough.close();
    await this.upstream[Symbol.asyncDispose]();
    await this.store.close();
    await rm(this.#parts.directory, { recursive: true });
  }

  #makeSenders(): WalSenders {
    const { store, readThrough } = this.#parts;
    const feed = new LateWalFeed();
    feed.bind(
      new StoreFeed(store, readThrough, {
        expectsWal: () => this.isMoving,
        ages: new TestWalAges(),
      }),
    );
    return new WalSenders({
      consoles: new ConsoleOpener(sampleConsole()),
      feed,
      slots: this.slots,
      tunnels: new MemoryTunnels(),
      identity: () => store.identity,
      hba: () => rules('host replication all all trust'),
      settings: () => ({
        maxWalSenders: 200,
        ownSettings: new Map(),
        walSenderTimeoutMs: this.walSenderTimeoutMs,
        reserved: { slots: [], standbys: [] },
        authenticationTimeoutMs: 60_000,
        connectionsPerNetworkMax: null,
        logConnections: false,
        logDisconnections: false,
        logReplicationCommands: false,
        holdAheadMs: 2_000,
        drainTimeoutMs: 5_000,
        version: '0.1.0-test',
      }),
      clock: systemClock,
      log: this.log,
      onReply: () => {},
    });
  }
}

/** Reads and drops what the client says on a connection until it closes; gives its status updates. */
export async function listen(session: ScriptedSession, seen: string[] = []): Promise<string[]> {
  for (;;) {
    const message = await session.next().catch(() => null);
    if (message === null) return seen;
    const { type, body } = message;
    seen.push(
      type === 'd' && body[0] === 0x72 ? `r ${body.subarray(1, 25).toString('hex')}` : type,
    );
  }
}

/** Three segments and a half; the store begins with the third. */
function threeSegments(): WalFixture {
  const wal = new WalFixture();
  wal.fill(Number(3n * SEGMENT + SEGMENT / 2n), 3);
  return wal;
}

/** A rig over them, unless a test says otherwise. */
export async function openRig(options: Partial<RigOptions> = {}): Promise<ReadThroughRig> {
  const wal = options.wal ?? threeSegments();
  return await ReadThroughRig.open({ storeFrom: wal.startLsn + 2n * SEGMENT, ...options, wal });
}
