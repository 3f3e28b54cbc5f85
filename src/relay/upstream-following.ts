// Who follows the upstream for a relay, with which settings, and what is reported to it: joins walreceiver, gate,
// acknowledgement and tunnels to the store.
import { randomBytes } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { invariant, OperationalError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { within } from '../base/within.ts';
import type { UpstreamConfig } from '../config/config.ts';
import { UPSTREAM_FINISH_MS_MAX } from '../config/limits.ts';
import { dial } from '../net/dial.ts';
import { httpGet } from '../net/http-get.ts';
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { isReceivingWal } from '../status/status.ts';
import type { ReportedPositions, UpstreamDelay, UpstreamStatus } from '../status/status.ts';
import type { WalAges } from '../syncrep/lag-end-to-end.ts';
import type { WalStore } from '../wal/wal-store.ts';
import type {
  FeedbackSource,
  PositionSource,
  StartDecision,
  UpstreamObserver,
} from '../walreceiver/ports.ts';
import { formatRelayPath } from '../walreceiver/relay-path.ts';
import { UpstreamTunnels } from '../walreceiver/tunnel.ts';
import { UpstreamTally } from '../walreceiver/upstream-tally.ts';
import type { UpstreamHost, UpstreamTarget } from '../walreceiver/upstream-target.ts';
import { WalReceiver } from '../walreceiver/wal-receiver.ts';
import { GateStoreOf } from './store-adapters.ts';
import { Synchronous, synchronousStoreOf } from './synchronous.ts';
import type { SynchronousParts } from './synchronous.ts';
import { targetOf } from './upstream-address.ts';
import { TimedSink } from './timed-sink.ts';
import { isDiscoveredInBoth, isSameHost, isSameSession, isSameTarget } from './upstream-change.ts';
import { UpstreamClock } from './upstream-clock.ts';
import { UpstreamDiscovery } from './upstream-discovery.ts';
import { HOLD_RETRY_MS, openUpstreamGate } from './upstream-gate.ts';
import { UpstreamSlots } from './upstream-slots.ts';
import { UpstreamWord } from './upstream-word.ts';

/** Bytes of a relay's id; enough that no two of one chain are the same. */
const RELAY_ID_BYTES = 8;

/** An answer that nobody hears. */
const OVER: StartDecision = {
  kind: 'hold',
  state: 'waiting',
  detail: 'the session is over',
  retryMs: HOLD_RETRY_MS,
};

/** What following needs. */
export interface UpstreamFollowingParts {
  /** The settings at the start. */
  readonly settings: UpstreamConfig;
  readonly clock: Clock;
  readonly log: Log;
  /** Whose confirmation counts; null: our own disk is enough. */
  readonly policy: SynchronousParts['policy'];
  /** All standbys that stream, live. */
  readonly standbys: SynchronousParts['standbys'];
  /** Numeric addresses of the standbys that stream from here. Absent: not known. */
  readonly standbyAddresses?: () => readonly (string | null)[];
  /** `storage.directory`, where it is kept which slots were made on upstream servers. Absent: nowhere. */
  readonly directory?: string;
  /** What standbys feed back. Absent: nothing is. */
  readonly feedback?: FeedbackSource;
  /** This server can never be followed. */
  readonly onFatal: (error: Error) => void;
}

/** The upstream side of one relay. Nothing is connected before `start`. */
export class UpstreamFollowing {
  /** What is acknowledged, and on whose word. */
  readonly sync: Synchronous;
  readonly #parts: UpstreamFollowingParts;
  #settings: UpstreamConfig;
  readonly #discovery: UpstreamDiscovery;
  #target: UpstreamTarget;
  #store: WalStore | null = null;
  readonly #times: UpstreamClock;
  readonly #word: UpstreamWord;
  readonly #tally = new UpstreamTally();
  readonly #slots: UpstreamSlots;
  /** Of this process: whom WAL comes through is asked anew at each connection. */
  readonly #relayId = randomBytes(RELAY_ID_BYTES).toString('hex');
  /** What was said about the surroundings of the connection string since it was last loaded. */
  readonly #warned = new Set<string>();
  #positions: PositionSource | null = null;
  /** While one walreceiver ends and the next has not begun. */
  #switching: Promise<void> | null = null;
  /** What the last walreceiver reported; shown until its successor reports. */
  #reportedBefore: ReportedPositions | null = null;
  #lastDecision: Promise<unknown> = Promise.resolve();
  /** Attempts to connect so far. */
  #attempts = 0;
  #isQuiet = false;
  #isStopped = false;
  #receiver: WalReceiver | null = null;

  constructor(parts: UpstreamFollowingParts) {
    this.#parts = parts;
    this.#settings = parts.settings;
    this.#discovery = this.#newDiscovery();
    this.#target = this.#resolve(parts.settings);
    this.#times = new UpstreamClock(parts.clock);
    this.#word = new UpstreamWord({
      clock: parts.clock,
      isMoving: () => this.isMoving(),
      ask: () => this.#receiver?.askServer(),
    });
    this.#slots = this.#newSlots();
    this.sync = this.#newSync();
  }

  /** Where the upstream is, with the passwords as they are now: for a session beside that of the walreceiver. */
  targetToConnect(): UpstreamTarget {
    this.#readPasswords();
    return this.#target;
  }

  /** Raw sessions to the upstream. To be called once. */
  openTunnels(): UpstreamTunnels {
    const target = (): UpstreamTarget => this.targetToConnect();
    return new UpstreamTunnels({
      get target() {
        return target();
      },
      clock: this.#parts.clock,
      log: this.#parts.log.child({ component: 'tunnel' }),
      dial,
      followedHost: () => this.followedHost(),
    });
  }

  /** Begins to follow; `store` is open. */
  start(store: WalStore): void {
    this.#store = store;
    this.#positions = this.sync.follow(synchronousStoreOf(store));
    this.#times.follow(store);
    void this.#slots.load();
    this.#discovery.follow(this.#settings.discovery);
    if (this.#settings.discovery === null) this.#startReceiver();
    else this.#switching = this.#startDiscovered();
  }

  /** Who is asked first should be who is wanted first, if that is known soon. */
  async #startDiscovered(): Promise<void> {
    await this.#discovery.firstAnswer();
    this.#switching = null;
    if (!this.#isStopped) this.#startReceiver();
  }

  /**
   * Looks whether `settings` can be followed; throws OperationalError for a connection string that cannot be used. The
   * answer puts them in effect: where they name another server, slot or name, the stream is ended in order (a last status,
   * everything the old server sent read to its end) and the new server is connected to; else nothing is disconnected.
   * `isPasswordNews`: neither for another password, which is then used from the next connection on.
   */
  prepare(
    settings: UpstreamConfig,
    { isPasswordNews = true }: { readonly isPasswordNews?: boolean } = {},
  ): () => void {
    this.#warned.clear();
    const target = this.#resolve(settings);
    return () => this.#follow(settings, target, isPasswordNews);
  }

  #follow(settings: UpstreamConfig, target: UpstreamTarget, isPasswordNews: boolean): void {
    const before = { settings: this.#settings, target: this.#target };
    const after = { settings, target };
    this.#settings = settings;
    this.#target = target;
    if (this.#store !== null) this.#discovery.follow(settings.discovery);
    if (this.#receiver === null) return;
    const { slot } = before.settings;
    if (slot !== null && slot !== settings.slot) this.#sayWhatStays(slot);
    if (isSameSession(before, after, isPasswordNews)) {
      this.#goOn(this.#receiver, isDiscoveredInBoth(before, after));
    } else this.#switching ??= this.#switchReceiver(this.#receiver);
  }

  /** Whether it was made here is known to those who drop it. */
  #sayWhatStays(slot: string): void {
    this.#parts.log.warn(
      `replication slot "${slot}" stays on the upstream and keeps all WAL from now on: walcast drops it soon if it made it; else drop ` +
        'it there when nobody needs it',
    );
  }

  /** Whoever reloads has mended something, perhaps: what waits for its next attempt makes it now. */
  #goOn(receiver: WalReceiver, isDiscovered: boolean): void {
    receiver.timeoutsChanged();
    if (isDiscovered) receiver.hostsChanged();
    if (isWaiting(receiver)) receiver.reconnect();
  }

  /**
   * Connects anew, to the first host: a stream ends in order before that, what else is under way is given up for it. False
   * before `start`, and once nothing more is to be taken in.
   */
  reconnect(): boolean {
    if (this.#store === null || this.#isQuiet || this.#isStopped) return false;
    // While one walreceiver makes way for another, that is under way.
    if (this.#switching !== null || this.#receiver === null) return true;
    this.#parts.log.info('upstream: connecting anew, as was asked for');
    if (isWaiting(this.#receiver)) this.#receiver.reconnect();
    else this.#receiver.changeOver();
    return true;
  }

  /** Settings that come while the old stream ends are taken too: they are looked up when the next walreceiver is built. */
  async #switchReceiver(old: WalReceiver): Promise<void> {
    await old.finish('reload');
    this.#reportedBefore = this.status()?.reported ?? null;
    this.#switching = null;
    if (!this.#isStopped) this.#startReceiver();
  }

  #startReceiver(): void {
    invariant(this.#store !== null && this.#positions !== null, 'the store is not open');
    const receiver = this.#newReceiver(this.#store, this.#positions);
    this.#receiver = receiver;
    if (this.#isQuiet) receiver.quiesce();
    receiver.start();
  }

  /** Null before `start`. */
  status(): UpstreamStatus | null {
    const now = this.#receiver?.status() ?? null;
    if (now === null) return null;
    const discovery = this.#discovery.status();
    const detail = now.detail ?? this.sync.detail;
    const status = { ...now, discovery, detail, leftSlots: this.#slots.status() };
    const before = this.#reportedBefore;
    if (before === null || status.reported.writeLsn !== INVALID_LSN) return status;
    return { ...status, reported: before };
  }

  /** How old the WAL is that comes in. */
  delay(): UpstreamDelay {
    return this.#times.delay();
  }

  /** Since when there is the WAL that comes in, for the lag of standbys. */
  get ages(): WalAges {
    return this.#times.ages;
  }

  /** The host whose WAL is streaming in, or did last; with its password of today. */
  followedHost(): UpstreamHost | null {
    const followed = this.#receiver?.followedHost() ?? null;
    if (followed === null) return null;
    const today = this.#target.hosts.find((host) => isSameHost(host, followed));
    return today ?? followed;
  }

  /** What is answered to SHOW walcast_relay_path. */
  relayPath(): string {
    return formatRelayPath(this.#receiver?.relayPath() ?? [this.#relayId]);
  }

  /** True while WAL streams in. */
  isMoving(): boolean {
    const receiver = this.#receiver;
    return receiver !== null && isReceivingWal(receiver.status());
  }

  /** See {@link UpstreamWord.expects}. */
  expectsWal(lsn: Lsn, sinceMs: number): boolean {
    return this.#word.expects(lsn, sinceMs);
  }

  /** What standbys feed back may have changed. */
  feedbackChanged(): void {
    this.#receiver?.feedbackChanged();
  }

  /** A position that is reported may have moved. */
  positionsMoved(): void {
    this.#receiver?.positionsMoved();
  }

  /**
   * Nothing more is taken in; positions are reported as before. A switch of the timeline that is under way is waited for,
   * at most {@link UPSTREAM_FINISH_MS_MAX}: the end of WAL stands still when the promise resolves, and not before.
   */
  async quiesce(): Promise<void> {
    this.#isQuiet = true;
    this.#discovery.stop();
    this.#receiver?.quiesce();
    const decided = this.#lastDecision.catch(() => {});
    await within(this.#parts.clock, UPSTREAM_FINISH_MS_MAX, decided);
  }

  /** To be called once the end of WAL stands still and is durable: commits beyond it shall not wait for us. */
  withdraw(): void {
    this.sync.withdraw();
  }

  /** The end of a drain: a last status, and the stream closed in order. */
  async finish(): Promise<void> {
    await this.#switching;
    await this.#receiver?.finish();
  }

  /** Closes at once; nothing is reported any more. */
  stop(): void {
    this.#isStopped = true;
    this.#discovery.stop();
    this.#receiver?.stop();
    void this.#slots.close();
    this.sync.close();
  }

  /** The same when the disk has failed: nothing is noted on it any more. */
  abandon(): void {
    this.#slots.abandon();
    this.stop();
  }

  /** After {@link stop}: resolves when nothing is being written any more. */
  saved(): Promise<void> {
    return this.#slots.close();
  }

  #newSync(): Synchronous {
    const { clock, log, policy, standbys } = this.#parts;
    return new Synchronous({
      clock,
      log: log.child({ component: 'sync' }),
      policy,
      standbys,
      applicationName: () => this.#settings.applicationName,
      slot: () => this.#settings.slot,
      memberNames: () => this.#discovery.status()?.members.map(({ name }) => name) ?? [],
      onMoved: () => this.positionsMoved(),
    });
  }

  #newSlots(): UpstreamSlots {
    const { clock, log, directory = null } = this.#parts;
    return new UpstreamSlots({
      clock,
      log,
      dial,
      directory,
      target: () => this.targetToConnect(),
      applicationName: () => this.#settings.applicationName,
      receiverTimeoutMs: () => this.#settings.walReceiverTimeoutMs,
      flushedLsn: () => this.#store?.positions().flushedLsn ?? INVALID_LSN,
      present: () => this.#receiver?.present() ?? null,
      onDropped: (host, slot) => {
        if (slot === this.#settings.slot) this.#receiver?.slotDropped(host);
      },
    });
  }

  #newReceiver(store: WalStore, positions: PositionSource): WalReceiver {
    const { clock } = this.#parts;
    const settings = (): UpstreamConfig => this.#settings;
    const target = (): UpstreamTarget => this.#target;
    const { slot, applicationName } = settings();
    const { feedback } = this.#parts;
    const log = this.#parts.log.child({ component: 'walreceiver' });
    const gate = openUpstreamGate(new GateStoreOf(store), {
      log,
      mayFollow: () => !this.#isQuiet,
      onSwitched: (switchLsn) => {
        this.#tally.timelineSwitches += 1;
        this.#times.switched(switchLsn);
      },
      onDiskFailed: (error) => this.#parts.onFatal(error),
    });
    const receiver: WalReceiver = new WalReceiver({
      get target() {
        return target();
      },
      hostsMayChange: settings().discovery !== null,
      onConnect: () => {
        this.#attempts += 1;
        this.#readPasswords();
      },
      slot,
      applicationName,
      relayId: this.#relayId,
      streamsTo: (address) => this.#parts.standbyAddresses?.().includes(address) === true,
      get receiverTimeoutMs() {
        return settings().walReceiverTimeoutMs;
      },
      get statusIntervalMs() {
        return settings().walReceiverStatusIntervalMs;
      },
      tally: this.#tally,
      sink: new TimedSink(store, () => this.#times.taken()),
      gate: {
        stored: () => gate.stored(),
        decide: async (identity) => {
          const { host, port } = receiver.status();
          const attempt = this.#attempts;
          const fresh = await this.#discovery.freshen(identity, { host, port });
          // Another session may stream by now: nothing is decided for one that is over.
          if (attempt !== this.#attempts) return OVER;
          const decision = await this.#inTurn(() => gate.decide(fresh));
          if (decision.kind === 'start' && receiver === this.#receiver) {
            this.sync.startStream(decision.timeline, fresh);
            this.#times.startStream(fresh.xlogPos);
            this.#word.startStream(decision.timeline, fresh);
          }
          return decision;
        },
        wouldFollow: (identity) => gate.wouldFollow?.(identity) ?? true,
      },
      positions,
      ...(feedback === undefined ? {} : { feedback }),
      observer: this.#observer(),
      slotUses: this.#slots,
      onMessage: (walEnd, sendTime, isKeepalive) => {
        this.#times.observe(walEnd, sendTime, isKeepalive);
        this.#word.heard(walEnd, isKeepalive);
        if (!isKeepalive) this.sync.walComes();
      },
      clock,
      log,
      dial,
      random: Math.random,
    });
    return receiver;
  }

  /** One decision may still begin an empty store when the next server is asked for already. */
  #inTurn(decide: () => Promise<StartDecision>): Promise<StartDecision> {
    const turn = this.#lastDecision.then(decide, decide);
    this.#lastDecision = turn;
    return turn;
  }

  #resolve({ server, discovery }: UpstreamConfig): UpstreamTarget {
    const warn = (warning: string): void => {
      if (this.#warned.has(warning)) return;
      this.#warned.add(warning);
      this.#parts.log.warn(`upstream.conninfo: ${warning}`);
    };
    const discovered = discovery === null ? null : this.#discovery.hosts();
    return targetOf(server, process.env, warn, discovered);
  }

  #newDiscovery(): UpstreamDiscovery {
    const { clock, log } = this.#parts;
    return new UpstreamDiscovery({
      clock,
      log,
      dial,
      httpGet,
      random: Math.random,
      applicationName: () => this.#settings.applicationName,
      target: () => this.targetToConnect(),
      stored: () => (this.#store === null ? null : new GateStoreOf(this.#store).stored()),
      streamingFrom: () => (this.isMoving() ? this.followedHost() : null),
      onHostsChanged: () => {
        this.#readPasswords();
        this.#receiver?.hostsChanged();
      },
      changeOver: (first) => this.#receiver?.changeOver(first),
    });
  }

  /** Passwords may have changed since in their file, and hosts that are discovered; everything else of the surroundings counts at a reload only. */
  #readPasswords(): void {
    try {
      const { hosts, loadBalanceHosts } = this.#resolve(this.#settings);
      const fresh = { ...this.#target, hosts, loadBalanceHosts };
      if (isSameTarget(fresh, this.#target) || this.#settings.discovery !== null)
        this.#target = fresh;
    } catch (error) {
      // What cannot be read now was read at the start or the last reload; that counts until the next one.
      if (!(error instanceof OperationalError)) throw error;
    }
  }

  #observer(): UpstreamObserver {
    return {
      onState: ({ status }) => this.#discovery.streaming(isReceivingWal(status)),
      onIdentified() {},
      onFatal: (error) => this.#parts.onFatal(error),
      onTimelineEnd() {},
    };
  }
}

/** For its next attempt, or for what a host said to wait for. */
function isWaiting(receiver: WalReceiver): boolean {
  const { state } = receiver.status();
  return state === 'disconnected' || state === 'waiting_for_wal';
}
