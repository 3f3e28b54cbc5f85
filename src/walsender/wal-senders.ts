// All sessions of standbys: lets them in, wakes those that stream when WAL has arrived, counts, cancels, drains.
import { timingSafeEqual } from 'node:crypto';
import { noUsers } from '../auth/no-users.ts';
import type { UserDirectory } from '../auth/user-directory.ts';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { TurnQueue } from '../base/turn-queue.ts';
import { TurnSlices } from '../base/turn-slices.ts';
import {
  CLOSE_GRACE_MS,
  CONSOLE_SLICE_MS,
  HANDSHAKE_SLICE_MS,
  LOCAL_ADDRESSES_REUSE_MS,
} from '../config/limits.ts';
import type { AcceptedConnection, ConnectionEvents } from '../net/connection.ts';
import { localInterfaceAddresses } from '../net/listener.ts';
import type { HbaRules, HostNames, LocalAddress } from '../pg/hba.ts';
import { NO_IDENT_MAPS } from '../pg/ident.ts';
import type { IdentMaps } from '../pg/ident.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { SyncStandby } from '../syncrep/sync-standbys.ts';
import type {
  AbsentStandbyStatus,
  StandbyDeparture,
  StandbyDisconnectReason,
  StandbyStatus,
  StandbyTotals,
} from '../status/status.ts';
import { AbsentStandbys } from './absent-standbys.ts';
import type { CommandError } from '../wire/replication-command.ts';
import { CommandLog } from './command-log.ts';
import { Entrance } from './entrance.ts';
import { FileReads } from './file-reads.ts';
import type {
  ConsoleOpener,
  FeedbackSink,
  ServerIdentity,
  SlotRegistry,
  TunnelOpener,
  WalFeed,
} from './ports.ts';
import { ReservedPlaces, tooManyStandbys } from './reserved-places.ts';
import { SessionCounts } from './session-counts.ts';
import type { SessionHost, WalSenderSettings } from './session-host.ts';
import type { SessionStatus, StandbyDraft } from './session-status.ts';
import { WalSenderSession } from './session.ts';
import { SharedFrames } from './shared-frames.ts';
import { SlotTakeovers } from './slot-takeovers.ts';
import { StandbyWatch } from './standby-watch.ts';
import type { StreamPresence } from './stream-presence.ts';
import { lastView, SessionPlaces, SyncView } from './sync-view.ts';

export type { WalSenderSettings } from './session-host.ts';

/** What the walsenders are built from. Functions are asked anew each time, so that a reload takes effect. */
export interface WalSendersOptions {
  readonly feed: WalFeed;
  readonly slots: SlotRegistry;
  readonly tunnels: TunnelOpener;
  /** Where hot standby feedback goes; nowhere when absent. */
  readonly feedback?: FeedbackSink;
  /** What sessions on its database are handed to. */
  readonly consoles: ConsoleOpener;
  /** Null until the upstream has been identified once: clients get 57P03. */
  readonly identity: () => ServerIdentity | null;
  readonly hba: () => HbaRules;
  /** For rules with `map`; none when absent. */
  readonly identMaps?: () => IdentMaps;
  /** Who may log in with a password; nobody when absent. */
  readonly users?: () => UserDirectory;
  /** For rules with names of hosts; nothing has a name when absent. */
  readonly names?: HostNames;
  readonly settings: () => WalSenderSettings;
  readonly clock: Clock;
  readonly log: Log;
  /** A position or the state of some streaming standby moved. Called per reply: coalesce. */
  readonly onReply: () => void;
  /** Connections of clients that may be open at one time, whatever they are; no limit when absent. */
  readonly connectionsMax?: () => number;
  /** Addresses of this machine, for `samehost` and `samenet`. */
  readonly localAddresses?: () => readonly LocalAddress[];
}

/** A standby's status, but for what a synchronous policy makes of it. */
export type WalSenderStatus = Omit<StandbyStatus, 'syncState' | 'syncPriority'>;

/** Backend pids end below this on Linux, so ours never look like one of the upstream's. (PID_MAX_LIMIT is 2^22) */
const FIRST_PID = 10_000_000;
const LAST_PID: number = 2 ** 31 - 1;

const NO_HOST_NAMES: HostNames = {
  nameOf: () => Promise.resolve(null),
  addressesOf: () => Promise.resolve([]),
};

/** Every standby's session. */
export class WalSenders {
  readonly #options: WalSendersOptions;
  readonly #host: SessionHost;
  readonly #noUsers: UserDirectory = noUsers();
  readonly #frames = new SharedFrames();
  readonly #reads = new FileReads();
  /** All connections, those that are no sessions yet included. */
  readonly #open = new Set<WalSenderSession>();
  readonly #entrance: Entrance;
  readonly #counts = new SessionCounts();
  readonly #admitted = new Map<number, WalSenderSession>();
  readonly #streaming = new Set<WalSenderSession>();
  /** Those of the admitted that are no walsenders. */
  readonly #consoles = new Set<WalSenderSession>();
  /** Those that began a tunnel, and may be done with it. */
  readonly #tunnelling = new Set<WalSenderSession>();
  readonly #places = new SessionPlaces();
  readonly #reserved: ReservedPlaces<WalSenderSession>;
  readonly #placeOf = new Map<WalSenderSession, number>();
  /** In a drain also of those that have confirmed everything and are gone. */
  readonly #views = new Map<WalSenderSession, SyncStandby>();
  #drainEndLsn: Lsn | null = null;
  #lastPid = FIRST_PID;
  #isPaused = false;
  #isLeaving = false;
  /** Those that were there when a drain began, and are there still. */
  readonly #drained = new Set<WalSenderSession>();
  #stopListening: (() => void) | null = null;
  #onDrained: (() => void)[] = [];
  #onEmpty: (() => void)[] = [];
  readonly #watch: StandbyWatch;
  readonly #absent = new AbsentStandbys();
  readonly #takeovers: SlotTakeovers;
  readonly #handshakes: TurnSlices;
  readonly #signatures = new TurnQueue();
  readonly #questions: TurnSlices;
  #addresses: { list: readonly LocalAddress[]; untilMs: number } = {
    list: [],
    untilMs: Number.NEGATIVE_INFINITY,
  };

  constructor(options: WalSendersOptions) {
    this.#options = options;
    const { clock, log } = options;
    this.#handshakes = new TurnSlices({ clock, sliceMs: HANDSHAKE_SLICE_MS });
    this.#questions = new TurnSlices({ clock, sliceMs: CONSOLE_SLICE_MS });
    this.#watch = new StandbyWatch({ clock, log });
    this.#takeovers = new SlotTakeovers({
      clock,
      isPaused: () => this.#isPaused,
      holderOf: (slot) => this.#holderOf(slot),
    });
    this.#reserved = new ReservedPlaces({
      names: () => options.settings().reserved,
      max: () => options.settings().maxWalSenders,
    });
    this.#entrance = new Entrance({
      clock,
      log,
      settings: options.settings,
      connectionsMax: options.connectionsMax ?? (() => Number.POSITIVE_INFINITY),
      onTooMany: () => this.#counts.rejected('limit'),
    });
    this.#host = this.#makeHost();
  }

  /**
   * Takes a new connection: `open` attaches the session to its socket. Matches `Listener`'s `onConnection`. One that
   * there is no room for is left to the listener, which closes it.
   */
  accept(open: (events: ConnectionEvents) => AcceptedConnection): void {
    if (!this.#entrance.makePlace()) return;
    const session = new WalSenderSession(this.#host, this.#nextPid());
    this.#open.add(session);
    const connection = open(session);
    const isTaken = this.#entrance.enter(session, connection.peer);
    session.attach(connection);
    if (!isTaken) session.close();
  }

  /** One entry per session that was let in, streaming or not: the caller's own, who sets what it counts for in a synchronous policy. */
  statuses(): StandbyDraft[] {
    const statuses: StandbyDraft[] = [];
    for (const session of this.#admitted.values()) {
      const status = session.status();
      if (status === null) continue;
      status.isStalled = this.#watch.isStalled(session.presence);
      status.isNameShared = this.#watch.isNameShared(session.presence);
      statuses.push(status);
    }
    return statuses;
  }

  /**
   * Every streaming standby as a synchronous policy looks at it: live views, not made anew, in no order. Those that a drain
   * has sent away with everything confirmed stay: what they have is still to be acknowledged, and nothing more will be.
   */
  syncStandbys(): Iterable<SyncStandby> {
    return this.#views.values();
  }

  /** Standbys that streamed, left, and are not back; the one that left last first. */
  absent(): AbsentStandbyStatus[] {
    const { clock, slots } = this.#options;
    return this.#absent.list(clock.nowMs(), (slot) => slots.read(slot) !== null);
  }

  /** Counters since the start. */
  totals(): StandbyTotals {
    return {
      connectionsMax: this.#options.settings().maxWalSenders,
      ...this.#counts.totals(),
      sentBytes: { memory: this.#frames.sentBytes, disk: this.#reads.sentBytes },
      stalls: this.#watch.stalls,
      takeovers: this.#takeovers.count,
    };
  }

  /** While paused no new stream is begun; those that run go on, and so does everything they confirm. */
  setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
  }

  /** Ends one session with FATAL 57P01. False when there is none of that pid, or one that is ending already. */
  kill(pid: number, reason: StandbyDisconnectReason = 'admin'): boolean {
    const session = this.#admitted.get(pid);
    if (session === undefined || session.status() === null) return false;
    session.terminate(reason);
    return true;
  }

  /** New clients get 57P03 from now on; nothing changes for those that are in. */
  refuseNew(): void {
    this.#isLeaving = true;
  }

  /**
   * Every streaming standby is served up to `endLsn` and asked to confirm it, at most until `deadlineMs` (monotonic; default
   * in `drainTimeoutMs`), then its stream ends as that of a server shutting down; other sessions end at once, and new
   * clients get 57P03, as do those that are about to come in. Resolves when all sessions of this moment are gone: who comes
   * later is not waited for.
   */
  async drain(endLsn: Lsn, deadlineMs?: number): Promise<void> {
    const { clock, settings } = this.#options;
    const nowMs = clock.nowMs();
    const untilMs = deadlineMs ?? nowMs + settings().drainTimeoutMs;
    this.refuseNew();
    this.#drainEndLsn = endLsn;
    // Who is about to come in is no session yet: it is told so as soon as it has said who it is.
    for (const session of this.#open) if (!session.isComingIn) this.#drained.add(session);
    for (const session of this.#drained) session.drain(endLsn, untilMs);
    if (this.#drained.size === 0) return;
    const graceMs = Math.max(0, untilMs - nowMs) + 2 * CLOSE_GRACE_MS;
    const timer = clock.setTimer(graceMs, () => this.terminate());
    await new Promise<void>((resolve) => {
      this.#onDrained.push(resolve);
    });
    timer.cancel();
  }

  /** Resolves when no connection is open, whatever it is. After a drain: all those that came meanwhile have had their answer. */
  async empty(): Promise<void> {
    if (this.#open.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#onEmpty.push(resolve);
    });
  }

  /** Closes every connection at once and without a word. */
  terminate(): void {
    for (const session of this.#open) session.close();
  }

  #makeHost(): SessionHost {
    const { feed, slots, tunnels, clock, log, identity, hba, settings } = this.#options;
    return {
      feed,
      slots,
      tunnels,
      feedback: this.#options.feedback ?? null,
      clock,
      log,
      identity,
      hba,
      identMaps: this.#options.identMaps ?? ((): IdentMaps => NO_IDENT_MAPS),
      users: this.#options.users ?? ((): UserDirectory => this.#noUsers),
      names: this.#options.names ?? NO_HOST_NAMES,
      settings,
      frames: this.#frames,
      reads: this.#reads,
      localAddresses: () => this.#localAddresses(),
      inTurn: (visitor, piece) => this.#handshakes.run(piece, this.#entrance.networkOf(visitor)),
      shakeHandsInTurn: (visitor, piece) =>
        this.#signatures.run(piece, this.#entrance.networkOf(visitor)),
      askInTurn: (visitor, piece) => this.#questions.run(piece, this.#entrance.networkOf(visitor)),
      isDraining: () => this.#isLeaving,
      isPaused: () => this.#isPaused,
      consoles: this.#options.consoles,
      admittedSessions: () => this.#reserved.size,
      placeFor: (name) => this.#reserved.placeFor(name),
      refusalToStay: (session, slot) => this.#refusalToStay(session, slot),
      consoleSessions: () => this.#consoles.size,
      onAuthenticated: (visitor, report) => {
        this.#counts.authenticated(report.method, 'success');
        this.#entrance.authenticated(visitor, report);
      },
      onAuthenticationFailed: (visitor, report, answer) => {
        this.#counts.authenticated(report.method, 'failure');
        this.#entrance.failed(visitor, report, answer);
      },
      onAdmitted: (session, facts) => {
        this.#entrance.admitted(session, facts);
        this.#admitted.set(session.pid, session);
        if (session.isConsole) this.#consoles.add(session);
        else this.#takePlace(session);
      },
      onRejected: (reason) => this.#counts.rejected(reason),
      onTurnedAway: (text, peer, fields) => this.#entrance.turnedAway(text, peer, fields),
      onCancelRequest: (pid, key) => this.#onCancelRequest(pid, key),
      onCommand: (name) => this.#counts.command(name),
      commandLog: new CommandLog(clock, settings),
      onTunnel: (session) => this.#tunnelling.add(session),
      isBackupRunning: () => this.#isBackupRunning(),
      onStreamStart: (session) => this.#onStreamStart(session),
      onStreamStop: (session) => this.#onStreamStop(session),
      onStandbyMoved: this.#options.onReply,
      takeOver: (slot, newcomer, signal) => this.#takeovers.ask(slot, newcomer, signal),
      onSent: (name, sent) => this.#counts.ended(name, sent),
      onLeft: (reason, standby, how) => this.#onLeft(reason, standby, how),
      onClosed: (session) => this.#onClosed(session),
    };
  }

  /** Asking the kernel for them takes longer than the rest of a login. */
  #localAddresses(): readonly LocalAddress[] {
    const { clock, localAddresses } = this.#options;
    const nowMs = clock.nowMs();
    if (nowMs >= this.#addresses.untilMs) {
      const list = (localAddresses ?? localInterfaceAddresses)();
      this.#addresses = { list, untilMs: nowMs + LOCAL_ADDRESSES_REUSE_MS };
    }
    return this.#addresses.list;
  }

  readonly #pump = (): void => {
    for (const session of this.#streaming) session.pump();
  };

  /** No byte may be sent that was read before, and nothing behind one that was sent. */
  readonly #takeBack = (lsn: Lsn): void => {
    this.#frames.clear();
    for (const session of this.#streaming) session.onTakenBack(lsn);
  };

  #onStreamStart(session: WalSenderSession): void {
    this.#counts.streamBegan(session.applicationName);
    this.#streaming.add(session);
    if (session.presence !== null) this.#onPresent(session, session.presence);
    const status = session.status();
    if (status !== null) this.#absent.onStreaming(status);
    this.#stopListening ??= this.#listen();
  }

  #isBackupRunning(): boolean {
    for (const session of this.#tunnelling) {
      if (session.isTunnelling) return true;
      this.#tunnelling.delete(session);
    }
    return false;
  }

  #onPresent(session: WalSenderSession, presence: StreamPresence): void {
    this.#watch.add(presence);
    const { pid, applicationName } = session;
    const place = this.#placeOf.get(session) ?? 0;
    this.#views.set(session, new SyncView({ pid, place, applicationName }, presence.stream));
  }

  #onLeft(
    reason: StandbyDisconnectReason,
    standby: SessionStatus | null,
    how: StandbyDeparture,
  ): void {
    this.#counts.left(reason);
    if (standby === null) return;
    const { clock } = this.#options;
    const nowMs = clock.nowMs();
    this.#absent.onLeft({ standby, reason, how, nowMs, wallMs: clock.wallMs() });
  }

  #holderOf(slot: string): StreamPresence | null {
    for (const { presence } of this.#streaming) if (presence?.slot === slot) return presence;
    return null;
  }

  #onStreamStop(session: WalSenderSession): void {
    this.#streaming.delete(session);
    const view = this.#views.get(session);
    this.#views.delete(session);
    const isConfirmed = this.#drainEndLsn !== null && (view?.flushLsn ?? 0n) >= this.#drainEndLsn;
    if (view !== undefined && isConfirmed) this.#views.set(session, lastView(view));
    if (session.presence !== null) this.#watch.remove(session.presence);
    this.#options.onReply();
    if (this.#streaming.size > 0) return;
    this.#stopListening?.();
    this.#stopListening = null;
    this.#frames.clear();
  }

  #listen(): () => void {
    const { feed } = this.#options;
    const stops = [feed.onAdvance(this.#pump), feed.onTakenBack(this.#takeBack)];
    return () => {
      for (const stop of stops) stop();
    };
  }

  #refusalToStay(session: WalSenderSession, slot: string | null): CommandError | null {
    const { identity, settings } = this.#options;
    if (this.#reserved.mayStay(session, slot)) return null;
    const quotesSettingNames = identity()?.facts.quotesSettingNames ?? true;
    const { maxWalSenders } = settings();
    return tooManyStandbys({ quotesSettingNames, maxWalSenders, isFull: false });
  }

  /** Who sits on a place that is kept for this one has to leave. */
  #takePlace(session: WalSenderSession): void {
    this.#placeOf.set(session, this.#places.take());
    this.#reserved.take(session)?.terminate('admin');
  }

  #onClosed(session: WalSenderSession): void {
    this.#reserved.leave(session);
    this.#open.delete(session);
    this.#entrance.left(session);
    this.#admitted.delete(session.pid);
    this.#consoles.delete(session);
    this.#tunnelling.delete(session);
    const place = this.#placeOf.get(session);
    if (place !== undefined) this.#places.release(place);
    this.#placeOf.delete(session);
    if (this.#open.size === 0) for (const resolve of this.#onEmpty.splice(0)) resolve();
    if (!this.#drained.delete(session) || this.#drained.size > 0) return;
    for (const resolve of this.#onDrained.splice(0)) resolve();
  }

  /** Never answered, whether it hits or not. */
  #onCancelRequest(pid: number, key: Uint8Array): void {
    const session = this.#admitted.get(pid);
    if (session === undefined || session.cancelKey.length !== key.length) return;
    if (timingSafeEqual(session.cancelKey, key)) session.cancel();
  }

  #nextPid(): number {
    do {
      this.#lastPid = this.#lastPid === LAST_PID ? FIRST_PID + 1 : this.#lastPid + 1;
    } while (this.#admitted.has(this.#lastPid));
    return this.#lastPid;
  }
}
