// The session to the upstream server: owns the present attempt and the timer, and carries out what the machine decides.
// What can be decided without a socket is in upstream-machine.ts; what is done with the WAL itself, in wal-stream.ts.
import { invariant } from '../base/errors.ts';
import type { WalcastError } from '../base/errors.ts';
import { Wakeup } from '../base/wakeup.ts';
import { UPSTREAM_FINISH_MS_MAX } from '../config/limits.ts';
import { formatTarget } from '../net/dial.ts';
import { formatLsn, INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { UpstreamDisconnectReason, UpstreamStatus } from '../status/status.ts';
import type { WalRejection } from './ports.ts';
import { SlotBook } from './slot-book.ts';
import { StatusReporter } from './status-reporter.ts';
import { StreamTimers } from './stream-timers.ts';
import { parseTimelineEnd } from './timeline-end.ts';
import {
  badTimelineEnd,
  endedWhileStopping,
  serverShutdown,
  silence,
  upstreamError,
} from './upstream-errors.ts';
import { UpstreamJournal } from './upstream-journal.ts';
import { UpstreamMachine } from './upstream-machine.ts';
import type { UpstreamAction, UpstreamEvent } from './upstream-machine.ts';
import type { QueryOutcome } from './upstream-query.ts';
import { commandTimeoutMs, UpstreamSession } from './upstream-session.ts';
import { quoteSlotName } from './upstream-slot.ts';
import { UpstreamTally } from './upstream-tally.ts';
import type { UpstreamHost } from './upstream-target.ts';
import type { WalReceiverOptions } from './wal-receiver-options.ts';
import { WalStream } from './wal-stream.ts';

/** A stream while it runs. */
interface Streaming {
  readonly stream: WalStream;
  readonly timers: StreamTimers;
}

/** Follows one upstream. Nothing happens before `start`. */
export class WalReceiver {
  readonly #options: WalReceiverOptions;
  readonly #machine: UpstreamMachine;
  readonly #slots: SlotBook;
  readonly #reporter: StatusReporter;
  readonly #journal: UpstreamJournal;
  readonly #tally: UpstreamTally;
  #session: UpstreamSession | null = null;
  #streaming: Streaming | null = null;
  #followedHost: UpstreamHost | null = null;
  /** As of the last attempt: while this walreceiver ends, the target may be its successor's already. */
  #hosts: readonly UpstreamHost[];
  #asked: { timeline: TimelineId; startLsn: Lsn } | null = null;
  /** When the answer to a START_REPLICATION, or the end of a stream, is overdue. */
  #deadline: { readonly atMs: number; readonly delayMs: number } | null = null;
  readonly #wakeup: Wakeup;
  /** W when reading was paused or last seen to move since. */
  #pausedAtLsn: Lsn | null = null;
  #onFinished: (() => void) | null = null;
  #finishReason: UpstreamDisconnectReason = 'shutdown';
  #isDispatching = false;
  #isQuiet = false;
  #isFatal = false;
  readonly #events: { readonly event: UpstreamEvent; readonly session: UpstreamSession | null }[] =
    [];

  /** Throws OperationalError for a slot name no server accepts. */
  constructor(options: WalReceiverOptions) {
    if (options.slot !== null) quoteSlotName(options.slot);
    this.#options = options;
    this.#tally = options.tally ?? new UpstreamTally();
    const { hosts, targetSessionAttrs, loadBalanceHosts } = options.target;
    this.#hosts = hosts;
    this.#machine = new UpstreamMachine({
      hosts: hosts.map((host) => formatTarget(host)),
      targetSessionAttrs,
      loadBalanceHosts,
      random: options.random,
      wasIdentified: this.#tally.identity !== null,
    });
    this.#slots = new SlotBook(options.slot);
    this.#reporter = new StatusReporter(options.positions, options.clock);
    this.#journal = new UpstreamJournal(options.log);
    this.#wakeup = new Wakeup(options.clock, () => this.#onTimer());
  }

  /** Begins to connect. */
  start(): void {
    this.#options.sink.onRoom(() => this.#onRoom());
    this.#dispatch({ type: 'start' });
  }

  /** Closes at once, for good. */
  stop(): void {
    this.#endStream('shutdown');
    this.#dispatch({ type: 'stop' });
    this.#wakeup.cancel();
    this.#settleFinish();
  }

  /**
   * The end of a drain: a final status update, CopyDone, everything up to the server's ReadyForQuery read and dropped,
   * Terminate. Resolves when that is done, after {@link UPSTREAM_FINISH_MS_MAX} at the latest. Nothing is received or
   * reported afterwards. Also the end of a walreceiver that another one takes over from; `reason` is what is counted.
   */
  async finish(reason: UpstreamDisconnectReason = 'shutdown'): Promise<void> {
    this.#finishReason = reason;
    const finished = new Promise<void>((resolve) => {
      this.#onFinished = resolve;
    });
    this.#dispatch({ type: 'finish' });
    if (this.#streaming === null) this.#settleFinish();
    await finished;
    this.stop();
  }

  /**
   * The beginning of a drain: nothing more is taken in from now on, also after a reconnect, so that positions stand
   * where they are; keepalives are answered and positions reported as before.
   */
  quiesce(): void {
    this.#isQuiet = true;
    this.#streaming?.stream.quiesce();
  }

  /** Drops the connection and connects anew at once, beginning with the first host. */
  reconnect(): void {
    this.#endStream('reload');
    this.#dispatch({ type: 'reconnect' });
  }

  /** To be called when one of the two timeouts of the options changed; they are in effect at once. */
  timeoutsChanged(): void {
    this.#armTimer();
  }

  /** To be called when a position that is reported may have moved; cheap, any number of times. */
  positionsMoved(): void {
    this.#reporter.positionsMoved();
  }

  /** The status of this moment. */
  status(): UpstreamStatus {
    const view = this.#machine.view();
    return this.#tally.status({
      view,
      host: this.#host(view.hostIndex),
      slot: this.#options.slot,
      stream: this.#streaming?.stream ?? null,
      isStoreFull: this.#streaming?.timers.isPaused === true,
      reported: this.#reporter.reported,
      transport: this.#session,
    });
  }

  /** The host whose WAL is streaming in, or did last; null until there was one. */
  followedHost(): UpstreamHost | null {
    return this.#followedHost;
  }

  /**
   * Events that arise while one is handled wait for their turn, so that actions never run inside each other. With a
   * `session` the event is dropped when that session is over by then.
   */
  #dispatch(event: UpstreamEvent, session: UpstreamSession | null = null): void {
    this.#events.push({ event, session });
    if (this.#isDispatching) return;
    this.#isDispatching = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
        if (next.session !== null && next.session !== this.#session) continue;
        const actions = this.#machine.handle(next.event, this.#options.clock.nowMs());
        for (const action of actions) this.#perform(action);
        this.#announce();
      }
    } finally {
      this.#isDispatching = false;
    }
    this.#armTimer();
  }

  #perform(action: UpstreamAction): void {
    switch (action.type) {
      case 'connect':
        this.#connect(action.hostIndex);
        return;
      case 'identify':
        void this.#session?.identify(action.wanted, action.ended);
        return;
      case 'decide':
        void this.#session?.decide();
        return;
      case 'start-replication':
        this.#startReplication(action.timeline, action.startLsn);
        return;
      case 'end-copy':
        // What is on the disk by now is said; behind CopyDone nobody listens any more.
        this.#reporter.send(false);
        this.#reporter.detach();
        this.#session?.endCopy();
        this.#setDeadline(this.#commandMs());
        return;
      case 'finish-stream':
        this.#finishStream();
        return;
      case 'host-left':
        this.#journal.hostLeft(action, {
          host: formatTarget(this.#host(action.hostIndex)),
          nowMs: this.#options.clock.nowMs(),
        });
        return;
      case 'disconnect':
        this.#endStream('error');
        this.#endSession(
          action.dropsCreatedSlot ? 'drop-slot' : action.isOrderly ? 'orderly' : 'abrupt',
        );
        return;
      case 'fatal':
        this.#isFatal = true;
        this.#options.observer.onFatal(action.error);
        return;
    }
  }

  #connect(hostIndex: number): void {
    this.#options.onConnect?.();
    this.#hosts = this.#options.target.hosts;
    const session: UpstreamSession = new UpstreamSession(this.#options, {
      hostIndex,
      slots: this.#slots,
      listener: {
        onEvent: (event) => this.#dispatch(event, session),
        onConnected: () => {
          this.#tally.connectsSucceeded += 1;
        },
        onConnectFailed: () => {
          this.#tally.connectsFailed += 1;
        },
        onIdentified: ({ identity }) => {
          this.#journal.identified(identity);
          this.#tally.identity = identity;
          this.#options.observer.onIdentified(identity);
        },
        onReceived: () => this.#onReceived(),
        onClosed: (error) => this.#onClosed(session, error),
        onStreamAnswer: (outcome) => this.#onStreamAnswer(session, outcome),
      },
    });
    this.#session = session;
    void session.open(this.#host(hostIndex));
  }

  #startReplication(timeline: TimelineId, startLsn: Lsn): void {
    const session = this.#session;
    if (session === null) return;
    this.#asked = { timeline, startLsn };
    this.#setDeadline(this.#commandMs());
    const stream = this.#newStream(session);
    session.startReplication(timeline, startLsn, {
      onCopyBoth: () => this.#onCopyBoth(session, stream),
      onCopyData: (body) => stream.onCopyData(body),
      onCopyDone: () => this.#dispatch({ type: 'copy-done' }, session),
      onServerShutdown: () => this.#streamLost(session, 'shutdown', serverShutdown()),
    });
  }

  #newStream(session: UpstreamSession): WalStream {
    const { sink, log } = this.#options;
    const owner = {
      onRejected: (rejection: WalRejection) => this.#onRejected(session, rejection),
      onReplyRequested: () => this.#reporter.send(false),
      onFull: () => this.#onFull(),
      onProgress: () => this.#dispatch({ type: 'progress' }, session),
      onCaughtUp: () => {
        log.info('upstream: caught up', { received_lsn: formatLsn(sink.nextLsn()) });
      },
      onMessage: this.#options.onMessage,
    };
    return new WalStream(sink, owner, this.#machine.rejectedLsn);
  }

  #onCopyBoth(session: UpstreamSession, stream: WalStream): void {
    const { clock } = this.#options;
    const timers = new StreamTimers(this.#options, clock.nowMs());
    this.#deadline = null;
    this.#streaming = { stream, timers };
    this.#followedHost = this.#host(this.#machine.view().hostIndex);
    if (this.#isQuiet) stream.quiesce();
    this.#dispatch({ type: 'copy-started' }, session);
    const { identity } = this.#tally;
    const isHistoric = identity !== null && identity.timeline !== this.#asked?.timeline;
    stream.begin(identity?.xlogPos ?? INVALID_LSN, isHistoric);
    this.#reporter.attach({
      write: (chunks) => session.write(chunks),
      pendingBytes: () => session.pendingBytes(),
      onSent: () => timers.statusSent(clock.nowMs()),
    });
  }

  /** What the server said after the stream, or instead of it. */
  #onStreamAnswer(session: UpstreamSession, outcome: QueryOutcome): void {
    this.#deadline = null;
    if (this.#onFinished !== null) {
      this.#settleFinish();
      return;
    }
    if (outcome.error !== null) {
      const what = this.#streaming === null ? 'did not start the stream' : 'ended the stream';
      this.#streamLost(session, 'error', upstreamError(`the upstream ${what}`, outcome.error));
      return;
    }
    const asked = this.#asked;
    invariant(asked !== null, 'an answer to no START_REPLICATION');
    if (this.#isQuiet) {
      // What was sent is not what was taken, so nothing of the answer can be judged.
      this.#streamLost(session, 'timeline_end', endedWhileStopping(asked.timeline));
      return;
    }
    const end = parseTimelineEnd(outcome, asked.timeline, this.#options.sink.nextLsn());
    if (typeof end === 'string') {
      this.#streamLost(session, 'error', badTimelineEnd(asked.timeline, end));
      return;
    }
    this.#endStream('timeline_end');
    this.#options.observer.onTimelineEnd(end);
    this.#dispatch({ type: 'timeline-ended', end }, session);
  }

  #onRejected(session: UpstreamSession, rejection: WalRejection): void {
    this.#endStream('error');
    this.#options.log.warn('WAL from the upstream fails its check: nothing of it is kept or sent', {
      lsn: formatLsn(rejection.lsn),
      reason: rejection.reason,
      next: 'it is fetched again',
    });
    this.#dispatch({ type: 'rejected', rejection }, session);
  }

  #onReceived(): void {
    const { clock } = this.#options;
    this.#tally.lastMessageAtMs = clock.wallMs();
    this.#streaming?.timers.received(clock.nowMs());
  }

  #onFull(): void {
    const streaming = this.#streaming;
    if (streaming === null || streaming.timers.isPaused) return;
    streaming.timers.paused(this.#options.clock.nowMs());
    this.#pausedAtLsn = this.#reporter.reported.writeLsn;
    this.#session?.pauseReading();
    this.#armTimer();
  }

  #onRoom(): void {
    const streaming = this.#streaming;
    if (streaming?.timers.isPaused === true) {
      streaming.timers.resumed(this.#options.clock.nowMs());
      this.#session?.resumeReading();
    }
    this.#dispatch({ type: 'room' });
  }

  #onClosed(session: UpstreamSession, error: WalcastError): void {
    this.#streamLost(session, error.code === 'UPSTREAM_CLOSED' ? 'eof' : 'error', error);
  }

  #streamLost(
    session: UpstreamSession | null,
    reason: UpstreamDisconnectReason,
    error: WalcastError,
  ): void {
    if (session !== this.#session) return;
    if (this.#onFinished !== null) {
      this.#settleFinish();
      return;
    }
    this.#endStream(reason);
    this.#dispatch({ type: 'lost', reason, error }, session);
  }

  #endStream(reason: UpstreamDisconnectReason): void {
    this.#reporter.detach();
    const streaming = this.#streaming;
    if (streaming === null) return;
    streaming.stream.close();
    // What follows on the same connection has to be read whether there is room for WAL or not.
    if (streaming.timers.isPaused) this.#session?.resumeReading();
    this.#streaming = null;
    this.#tally.streamEnded(streaming.stream, reason);
  }

  #endSession(how: 'orderly' | 'abrupt' | 'drop-slot'): void {
    const session = this.#session;
    this.#session = null;
    this.#deadline = null;
    session?.end(how);
  }

  #finishStream(): void {
    this.#reporter.send(false);
    this.#reporter.detach();
    this.#streaming?.stream.close();
    this.#session?.resumeReading();
    this.#session?.endCopy();
    this.#setDeadline(UPSTREAM_FINISH_MS_MAX);
  }

  #settleFinish(): void {
    const onFinished = this.#onFinished;
    if (onFinished === null) return;
    this.#onFinished = null;
    this.#endStream(this.#finishReason);
    this.#endSession('orderly');
    onFinished();
  }

  /** Tells the log and the observer what changed. */
  #announce(): void {
    // Whoever ends the program says why; once is enough.
    if (this.#isFatal) return;
    const view = this.#machine.view();
    const entry = this.#journal.record(view, {
      host: formatTarget(this.#host(view.hostIndex)),
      nowMs: this.#options.clock.nowMs(),
      receivedLsn: this.#options.sink.nextLsn(),
    });
    if (entry !== null) this.#options.observer.onState({ status: this.status(), ...entry });
  }

  #host(hostIndex: number): UpstreamHost {
    const host = this.#hosts[hostIndex];
    invariant(host !== undefined, `no upstream host ${hostIndex}`);
    return host;
  }

  #commandMs(): number {
    return commandTimeoutMs(this.#options.receiverTimeoutMs);
  }

  #setDeadline(delayMs: number): void {
    this.#deadline = { atMs: this.#options.clock.nowMs() + delayMs, delayMs };
    this.#armTimer();
  }

  /** Sees to it that the timer fires when something is due next; one that fires too early only looks again. */
  #armTimer(): void {
    const times = [
      this.#machine.view().nextAttemptAtMs,
      this.#streaming?.timers.nextDueAtMs() ?? null,
      this.#deadline?.atMs ?? null,
    ];
    for (const atMs of times) if (atMs !== null) this.#wakeup.ensure(atMs);
  }

  #onTimer(): void {
    const nowMs = this.#options.clock.nowMs();
    const deadline = this.#deadline;
    if (deadline !== null && nowMs >= deadline.atMs) {
      this.#deadline = null;
      this.#streamLost(this.#session, 'timeout', silence(deadline.delayMs));
    }
    this.#streamDue(nowMs);
    this.#dispatch({ type: 'tick' });
  }

  #streamDue(nowMs: number): void {
    const timers = this.#streaming?.timers;
    if (timers === undefined || this.#onFinished !== null) return;
    switch (timers.due(nowMs)) {
      case 'status':
        this.#reporter.send(false);
        timers.statusSent(nowMs);
        if (timers.isPaused) this.#noteProgress(timers, nowMs);
        return;
      case 'ping':
        this.#reporter.send(true);
        return;
      case 'timeout':
        this.#streamLost(this.#session, 'timeout', silence(this.#options.receiverTimeoutMs));
        return;
      case 'full':
        this.#endStream('error');
        this.#dispatch({ type: 'full' });
        return;
      case null:
        return;
    }
  }

  /** While the store is full: WAL that reaches the disk shows that it is slow, not stuck. */
  #noteProgress(timers: StreamTimers, nowMs: number): void {
    const { writeLsn } = this.#reporter.reported;
    if (writeLsn === this.#pausedAtLsn) return;
    this.#pausedAtLsn = writeLsn;
    timers.progressed(nowMs);
  }
}
