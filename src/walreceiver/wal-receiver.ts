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
import { EventTurns } from './event-turns.ts';
import { FollowedServer } from './followed-server.ts';
import type { WalRejection } from './ports.ts';
import { RunningStream } from './running-stream.ts';
import type { Closing } from './running-stream.ts';
import { SlotBook } from './slot-book.ts';
import type { PresentServer } from './slot-errand.ts';
import { StandstillWatch } from './standstill-watch.ts';
import { readStreamAnswer } from './stream-answer.ts';
import { serverShutdown, silence, standbyShutdown } from './upstream-errors.ts';
import { hostKey, RoundHosts } from './upstream-hosts.ts';
import { UpstreamJournal } from './upstream-journal.ts';
import { UpstreamMachine } from './upstream-machine.ts';
import type { UpstreamAction, UpstreamEvent } from './upstream-events.ts';
import type { QueryOutcome } from './upstream-query.ts';
import { UpstreamReports } from './upstream-reports.ts';
import { commandTimeoutMs, UpstreamSession } from './upstream-session.ts';
import { quoteSlotName } from './upstream-slot.ts';
import { UpstreamTally } from './upstream-tally.ts';
import type { UpstreamHost } from './upstream-target.ts';
import type { WalReceiverOptions } from './wal-receiver-options.ts';
import { WalStream } from './wal-stream.ts';

interface SessionEvent {
  readonly event: UpstreamEvent;
  readonly session: UpstreamSession | null;
}

/** Follows one upstream. Nothing happens before `start`. */
export class WalReceiver {
  readonly #options: WalReceiverOptions;
  readonly #machine: UpstreamMachine;
  readonly #slots: SlotBook;
  readonly #reporter: UpstreamReports;
  readonly #journal: UpstreamJournal;
  readonly #tally: UpstreamTally;
  #session: UpstreamSession | null = null;
  #streaming: RunningStream | null = null;
  #closing: Closing | null = null;
  readonly #followed = new FollowedServer();
  readonly #standstill: StandstillWatch;
  /** As of the last round: while this walreceiver ends, the target may be its successor's already. */
  readonly #hosts: RoundHosts;
  #asked: { timeline: TimelineId; startLsn: Lsn } | null = null;
  /** When the answer to a START_REPLICATION, or the end of a stream, is overdue. */
  #deadline: { readonly atMs: number; readonly delayMs: number } | null = null;
  readonly #wakeup: Wakeup;
  #isQuiet = false;
  #isFatal = false;
  readonly #turns = new EventTurns<SessionEvent>((next) => this.#handle(next));

  /** Throws OperationalError for a slot name no server accepts. */
  constructor(options: WalReceiverOptions) {
    if (options.slot !== null) quoteSlotName(options.slot);
    this.#options = options;
    this.#tally = options.tally ?? new UpstreamTally();
    this.#hosts = new RoundHosts(() => options.target);
    this.#machine = new UpstreamMachine({
      list: () => this.#hosts.take(),
      random: options.random,
      wasIdentified: this.#tally.identity !== null || options.hostsMayChange === true,
    });
    this.#slots = new SlotBook(options.slot);
    this.#reporter = new UpstreamReports(options);
    this.#journal = new UpstreamJournal(options.log);
    this.#wakeup = new Wakeup(options.clock, () => this.#onTimer());
    this.#standstill = new StandstillWatch(options, {
      isPaused: () => this.#streaming?.isPaused === true,
      onBetter: (host) => this.changeOver(host),
      onCycle: (error) => this.#streamLost(this.#session, 'error', error),
    });
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
    this.#settleClosing();
  }

  /**
   * The end of a drain: a final status update, CopyDone, everything up to the server's ReadyForQuery read and dropped,
   * Terminate. Resolves when that is done, after {@link UPSTREAM_FINISH_MS_MAX} at the latest. Nothing is received or
   * reported afterwards. Also the end of a walreceiver that another one takes over from; `reason` is what is counted.
   */
  async finish(reason: UpstreamDisconnectReason = 'shutdown'): Promise<void> {
    const finished = new Promise<void>((resolve) => {
      this.#closing = { reason, onClosed: resolve };
    });
    this.#dispatch({ type: 'finish' });
    if (this.#streaming === null) this.#settleClosing();
    await finished;
    this.stop();
  }

  /**
   * The beginning of a drain: nothing more is taken in from now on, also after a reconnect, so that positions stand
   * where they are; keepalives are answered and positions reported as before.
   */
  quiesce(): void {
    this.#isQuiet = true;
    this.#standstill.ended();
    this.#streaming?.stream.quiesce();
  }

  /** Drops the connection and connects anew at once, beginning with the first host. */
  reconnect(): void {
    this.#endStream('reload');
    this.#dispatch({ type: 'reconnect' });
  }

  /**
   * Goes to another host: a stream that runs ends as in {@link finish}, then a round begins, with `first` if it is listed.
   * What else is under way is given up for it at once.
   */
  changeOver(first: UpstreamHost | null = null): void {
    if (first !== null) this.#hosts.beginWith(first);
    this.#dispatch({ type: 'change-over' });
  }

  /**
   * To be called when the list of hosts changed: whoever waits for the next attempt makes it now. A stream goes on where
   * its host is still listed, else it ends in order and another host is followed.
   */
  hostsChanged(): void {
    const isListed = this.#hosts.isListed(this.#machine.view().hostIndex);
    this.#dispatch({ type: 'hosts-changed', isListed });
  }

  /** Our slot on `host` was dropped on another session. */
  slotDropped(host: UpstreamHost): void {
    this.#slots.dropped(hostKey(host));
  }

  /** To be called when one of the two timeouts of the options changed; they are in effect at once. */
  timeoutsChanged(): void {
    this.#armTimer();
  }

  /** To be called when a position that is reported may have moved; cheap, any number of times. */
  positionsMoved(): void {
    this.#reporter.positionsMoved();
  }

  /** To be called when what standbys feed back may have changed; cheap, any number of times. */
  feedbackChanged(): void {
    this.#reporter.feedbackChanged();
  }

  /** Asks the server whose WAL streams in for a keepalive. */
  askServer(): void {
    this.#reporter.send(true);
  }

  /** The status of this moment. */
  status(): UpstreamStatus {
    const view = this.#machine.view();
    return this.#tally.status({
      view,
      host: this.#hosts.at(view.hostIndex),
      slot: this.#options.slot,
      stream: this.#streaming?.stream ?? null,
      asked: this.#asked,
      isStoreFull: this.#streaming?.isPaused === true,
      reported: this.#reporter.reported,
      transport: this.#session,
    });
  }

  /** Ids of the relays that WAL comes through at this moment, our own first. */
  relayPath(): readonly string[] {
    return this.#followed.path(this.#options.relayId, this.#streaming);
  }

  /** The host whose WAL is streaming in, or did last; null until there was one. */
  followedHost(): UpstreamHost | null {
    return this.#followed.host;
  }

  /** The server whose WAL streams in; null while none does. */
  present(): PresentServer | null {
    const address = this.#session?.peerAddress ?? null;
    return this.#followed.present(this.#streaming, { address, slot: this.#options.slot });
  }

  /** With a `session` the event is dropped when that session is over by the time it is handled. */
  #dispatch(event: UpstreamEvent, session: UpstreamSession | null = null): void {
    if (this.#turns.take({ event, session })) this.#armTimer();
  }

  #handle({ event, session }: SessionEvent): void {
    if (session !== null && session !== this.#session) return;
    const actions = this.#machine.handle(event, this.#options.clock.nowMs());
    for (const action of actions) this.#perform(action);
    this.#announce();
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
        this.#setDeadline(commandTimeoutMs(this.#options.receiverTimeoutMs));
        return;
      case 'finish-stream':
        this.#finishStream();
        return;
      case 'host-left':
        this.#journal.hostLeft(action, this.#options.clock.nowMs());
        return;
      case 'disconnect':
        this.#endStream(action.isOrderly ? (this.#closing?.reason ?? 'reload') : 'error');
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
    const session: UpstreamSession = new UpstreamSession(this.#options, {
      host: this.#hosts.toConnect(hostIndex),
      slots: this.#slots,
      listener: {
        onEvent: (event) => this.#dispatch(event, session),
        onConnected: () => {
          this.#tally.connectsSucceeded += 1;
        },
        onConnectFailed: () => {
          this.#tally.connectsFailed += 1;
        },
        onIdentified: ({ identity, relayPath }) => {
          this.#followed.identified(identity, relayPath);
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
    void session.open();
  }

  #startReplication(timeline: TimelineId, startLsn: Lsn): void {
    const session = this.#session;
    if (session === null) return;
    this.#asked = { timeline, startLsn };
    this.#setDeadline(commandTimeoutMs(this.#options.receiverTimeoutMs));
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
      onReplyRequested: () => {
        this.#reporter.send(false);
        const isVain = this.#followed.isStandby && this.#streaming?.isStopAwaited() === true;
        if (isVain) this.#streamLost(session, 'shutdown', standbyShutdown());
      },
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
    const running = new RunningStream({
      stream,
      channel: session,
      reporter: this.#reporter,
      timeouts: this.#options,
      clock,
    });
    this.#deadline = null;
    this.#streaming = running;
    const host = this.#hosts.at(this.#machine.view().hostIndex);
    this.#followed.host = host;
    if (this.#isQuiet) stream.quiesce();
    this.#dispatch({ type: 'copy-started' }, session);
    const { identity } = this.#tally;
    const isHistoric = identity !== null && identity.timeline !== this.#asked?.timeline;
    stream.begin(identity?.xlogPos ?? INVALID_LSN, isHistoric);
    running.begin();
    if (identity === null || this.#streaming === null) return;
    if (identity.settings.get('synchronous_standby_names')) this.#reporter.repeatSoon();
    const { slot, slotUses } = this.#options;
    slotUses?.used(host, slot, identity.systemIdentifier);
    if (this.#isQuiet) return;
    const { isRelay } = this.#followed;
    this.#standstill.began({ host, address: session.peerAddress, identity, isRelay });
  }

  /** What the server said after the stream, or instead of it. */
  #onStreamAnswer(session: UpstreamSession, outcome: QueryOutcome): void {
    this.#deadline = null;
    if (this.#closing !== null) {
      this.#settleClosing();
      return;
    }
    const asked = this.#asked;
    invariant(asked !== null, 'an answer to no START_REPLICATION');
    const answer = readStreamAnswer(outcome, {
      timeline: asked.timeline,
      wasStreaming: this.#streaming !== null,
      isQuiet: this.#isQuiet,
      endLsn: this.#options.sink.nextLsn(),
    });
    if ('error' in answer) {
      this.#streamLost(session, answer.reason, answer.error);
      return;
    }
    this.#endStream('timeline_end');
    this.#options.observer.onTimelineEnd(answer.end);
    this.#dispatch({ type: 'timeline-ended', end: answer.end }, session);
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
    this.#tally.lastMessageAtMs = this.#options.clock.wallMs();
    this.#streaming?.received();
  }

  #onFull(): void {
    if (this.#streaming?.pause() === true) this.#armTimer();
  }

  #onRoom(): void {
    this.#streaming?.resume();
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
    if (this.#closing !== null) {
      this.#settleClosing();
      return;
    }
    this.#endStream(reason);
    this.#dispatch({ type: 'lost', reason, error }, session);
  }

  #endStream(reason: UpstreamDisconnectReason): void {
    this.#reporter.detach();
    this.#standstill.ended();
    const streaming = this.#streaming;
    if (streaming === null) return;
    streaming.close();
    this.#streaming = null;
    this.#options.slotUses?.idle(this.#tally.identity?.slotRestartLsn ?? INVALID_LSN);
    this.#tally.streamEnded(streaming.stream, reason);
  }

  #endSession(how: 'orderly' | 'abrupt' | 'drop-slot'): void {
    const session = this.#session;
    this.#session = null;
    this.#deadline = null;
    session?.end(how);
  }

  #finishStream(): void {
    this.#closing ??= {
      reason: 'reload',
      onClosed: () => this.#dispatch({ type: 'changed-over' }),
    };
    this.#reporter.send(false);
    this.#reporter.detach();
    this.#streaming?.stream.close();
    this.#session?.resumeReading();
    this.#session?.endCopy();
    this.#setDeadline(UPSTREAM_FINISH_MS_MAX);
  }

  #settleClosing(): void {
    const closing = this.#closing;
    if (closing === null) return;
    this.#closing = null;
    this.#endStream(closing.reason);
    this.#endSession('orderly');
    closing.onClosed();
  }

  /** Tells the log and the observer what changed. */
  #announce(): void {
    // Whoever ends the program says why; once is enough.
    if (this.#isFatal) return;
    const view = this.#machine.view();
    const entry = this.#journal.record(view, {
      host: formatTarget(this.#hosts.at(view.hostIndex)),
      nowMs: this.#options.clock.nowMs(),
      receivedLsn: this.#options.sink.nextLsn(),
    });
    if (entry !== null) this.#options.observer.onState({ status: this.status(), ...entry });
  }

  #setDeadline(delayMs: number): void {
    this.#deadline = { atMs: this.#options.clock.nowMs() + delayMs, delayMs };
    this.#armTimer();
  }

  /** Sees to it that the timer fires when something is due next; one that fires too early only looks again. */
  #armTimer(): void {
    // Of a stream that is being ended nothing is due any more.
    const streaming = this.#closing === null ? this.#streaming : null;
    const nextAttemptAtMs = this.#machine.view().nextAttemptAtMs;
    const times = [nextAttemptAtMs, streaming?.nextDueAtMs() ?? null, this.#deadline?.atMs ?? null];
    for (const atMs of times) if (atMs !== null) this.#wakeup.ensure(atMs);
  }

  #onTimer(): void {
    const nowMs = this.#options.clock.nowMs();
    const deadline = this.#deadline;
    if (deadline !== null && nowMs >= deadline.atMs) {
      this.#deadline = null;
      this.#streamLost(this.#session, 'timeout', silence(deadline.delayMs));
    }
    this.#streamDue();
    this.#dispatch({ type: 'tick' });
  }

  #streamDue(): void {
    if (this.#closing !== null) return;
    const due = this.#streaming?.due() ?? null;
    if (due === 'timeout') {
      this.#streamLost(this.#session, 'timeout', silence(this.#options.receiverTimeoutMs));
    } else if (due === 'full') {
      this.#endStream('error');
      this.#dispatch({ type: 'full' });
    }
  }
}
