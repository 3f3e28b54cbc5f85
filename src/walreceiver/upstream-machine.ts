// What happens next in the session to the upstream? The life of the connection as a pure machine: events with their time
// in, actions out. Sockets, timers and WAL belong to the shell around it (wal-receiver.ts).
import type { WalcastError } from '../base/errors.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { backoffMs } from './backoff.ts';
import { HostWalk } from './host-walk.ts';
import type { HostWalkOptions } from './host-walk.ts';
import { EMPTY_TIMELINES_MAX, nothingNew, noWayOn } from './left-host.ts';
import type { LeftHost } from './left-host.ts';
import type { StartDecision, TimelineEnd, WalRejection } from './ports.ts';
import { UPSTREAM_CYCLE } from './relay-path.ts';
import { OTHER_SESSION_KIND } from './session-attrs.ts';
import type {
  UpstreamAction,
  UpstreamEvent,
  UpstreamPhase,
  UpstreamView,
} from './upstream-events.ts';
import {
  cycleHold,
  failedHold,
  fullHold,
  gapHold,
  isFatal,
  rejectedHold,
  REJECTIONS_MAX,
  sentence,
} from './upstream-holds.ts';
import type { HeldState, Hold } from './upstream-holds.ts';

/** A stream that lasted this long had worked: the next attempt is made at once. */
const GOOD_STREAM_MS = 5_000;

/** What a machine is told at its birth. */
export interface UpstreamMachineOptions extends HostWalkOptions {
  /** A walreceiver before this one has identified an upstream: nothing is fatal any more. */
  readonly wasIdentified?: boolean;
}

/** Phases in which an attempt to stream is under way. */
const ATTEMPT_PHASES: ReadonlySet<UpstreamPhase> = new Set([
  'connecting',
  'login',
  'identifying',
  'deciding',
  'starting',
] as const);

const ORDERLY: UpstreamAction = { type: 'disconnect', isOrderly: true, dropsCreatedSlot: false };
const ABRUPT: UpstreamAction = { type: 'disconnect', isOrderly: false, dropsCreatedSlot: false };

/** Decides by phase and event; the same events at the same times give the same actions. */
export class UpstreamMachine {
  readonly #random: () => number;
  readonly #walk: HostWalk;
  #phase: UpstreamPhase = 'disconnected';
  #hostIndex = 0;
  /** Hosts of this round that trying again cannot mend; when all are, and none was ever identified, it is over. */
  #hopelessHosts = 0;
  /** A host of this round failed in a way that the next attempt may mend. */
  #isFailedRound = false;
  #detail: string | null = null;
  #hold: Hold | null = null;
  /** How the round before this one ended, when it ended held. */
  #heldBefore: HeldState | null = null;
  #nextAttemptAtMs: number | null = null;
  #failures = 0;
  #streamingSinceMs = 0;
  #wasIdentified: boolean;
  #isFinished = false;
  #isChangingOver = false;
  /** The list changed since the round began. */
  #isListOld = false;
  /** The round began in place of another one whose list was old. */
  #isAnew = false;
  #asked: { timeline: TimelineId; startLsn: Lsn } | null = null;
  /** The timeline that ended on this session, until something was decided. */
  #endedTimeline: TimelineId | null = null;
  /** Where the last timeline ended; those of one history never end before their ancestors. */
  #lastEndLsn: Lsn | null = null;
  /** Ends in a row that brought nothing forward. */
  #emptyTimelines = 0;
  #rejectedLsn: Lsn | null = null;
  #rejections = 0;
  #rejectedState: HeldState = 'corrupt';

  constructor(options: UpstreamMachineOptions) {
    this.#random = options.random;
    this.#walk = new HostWalk(options);
    this.#wasIdentified = options.wasIdentified ?? false;
  }

  /** The present phase and its reasons. */
  view(): UpstreamView {
    const isRefused = this.#rejections >= REJECTIONS_MAX;
    return {
      phase: this.#phase,
      heldState: isRefused ? this.#rejectedState : this.#stoodStill(),
      detail: this.#detail,
      nextAttemptAtMs: this.#nextAttemptAtMs,
      hostIndex: this.#hostIndex,
    };
  }

  /** The reason to stand still also counts while it is looked whether it still holds: an alarm must not blink. */
  #stoodStill(): HeldState | null {
    if (this.#phase === 'held') return this.#hold?.state ?? null;
    return ATTEMPT_PHASES.has(this.#phase) ? this.#heldBefore : null;
  }

  /** Where WAL was last rejected; null once WAL behind it was accepted. */
  get rejectedLsn(): Lsn | null {
    return this.#rejectedLsn;
  }

  /** Takes one event. Events that come too late for their phase change nothing. */
  handle(event: UpstreamEvent, nowMs: number): readonly UpstreamAction[] {
    if (this.#isFinished && event.type !== 'stop') return [];
    switch (event.type) {
      case 'start':
        return this.#phase === 'disconnected' ? this.#beginRound() : [];
      case 'dialed':
        return this.#advance('connecting', 'login', []);
      case 'logged-in':
        return this.#advance('login', 'identifying', [
          { type: 'identify', wanted: this.#walk.wanted, ended: null },
        ]);
      case 'identified':
        this.#wasIdentified = true;
        return this.#advance('identifying', 'deciding', [{ type: 'decide' }]);
      case 'decided':
        return this.#phase === 'deciding' ? this.#decided(event.decision, nowMs) : [];
      case 'copy-started':
        return this.#copyStarted(nowMs);
      case 'failed':
        return this.#failed(event.error, nowMs);
      case 'lost':
        return this.#lost(event.error, nowMs);
      case 'rejected':
        return this.#rejected(event.rejection, nowMs);
      case 'progress':
        this.#forgetRejections();
        if (this.#phase === 'streaming') this.#detail = null;
        return [];
      case 'copy-done':
        return this.#advance('streaming', 'ending', [{ type: 'end-copy' }]);
      case 'timeline-ended':
        return this.#timelineEnded(event.end, nowMs);
      case 'hosts-changed':
        return this.#hostsChanged(event.isListed);
      default:
        return this.#handleOutside(event.type, nowMs);
    }
  }

  /** Events that come from this side of the wire. */
  #handleOutside(
    type:
      | 'full'
      | 'room'
      | 'reconnect'
      | 'change-over'
      | 'changed-over'
      | 'again'
      | 'finish'
      | 'stop'
      | 'tick',
    nowMs: number,
  ): readonly UpstreamAction[] {
    switch (type) {
      case 'full':
        return this.#holdNow(fullHold(), nowMs, false);
      case 'room':
        return this.#phase === 'held' && this.#hold?.state === 'full' ? this.#beginRound() : [];
      case 'reconnect':
        if (this.#phase === 'disconnected') return [];
        this.#failures = 0;
        return [ORDERLY, ...this.#beginRound()];
      case 'change-over':
        return this.#changeOver();
      case 'changed-over':
        return this.#isChangingOver ? [ORDERLY, ...this.#beginRound()] : [];
      case 'again':
        return this.#phase === 'deciding' ? [ORDERLY, ...this.#connect(this.#hostIndex)] : [];
      case 'finish':
        this.#isFinished = true;
        return this.#finish();
      case 'stop':
        this.#isFinished = true;
        this.#enter('disconnected', null);
        return [ABRUPT];
      case 'tick':
        return this.#nextAttemptAtMs !== null && nowMs >= this.#nextAttemptAtMs
          ? this.#beginRound()
          : [];
    }
  }

  /** The stream is ended as for good; what else is under way, is given up. */
  #changeOver(): readonly UpstreamAction[] {
    if (this.#phase === 'disconnected' || this.#isChangingOver) return [];
    if (this.#phase !== 'streaming') return [ORDERLY, ...this.#beginRound()];
    this.#isChangingOver = true;
    this.#enter('ending', null);
    return [{ type: 'finish-stream' }];
  }

  /** Who waits need not wait any longer; who is being followed, or looked at, may stay, if it is still listed. */
  #hostsChanged(isListed: boolean): readonly UpstreamAction[] {
    if (this.#phase === 'held' || this.#phase === 'backoff') return this.#beginRound();
    if (!isListed) return this.#changeOver();
    this.#isListOld = ATTEMPT_PHASES.has(this.#phase);
    return [];
  }

  /** What held one host is kept while the others are tried in the same round, and forgotten here. */
  #beginRound(isAnew = false): readonly UpstreamAction[] {
    this.#isChangingOver = false;
    this.#isListOld = false;
    this.#isAnew = isAnew;
    this.#heldBefore = this.#stoodStill();
    this.#hold = null;
    this.#hopelessHosts = 0;
    this.#isFailedRound = false;
    return this.#connect(this.#walk.begin());
  }

  #connect(hostIndex: number): readonly UpstreamAction[] {
    this.#phase = 'connecting';
    this.#hostIndex = hostIndex;
    this.#nextAttemptAtMs = null;
    this.#endedTimeline = null;
    return [{ type: 'connect', hostIndex }];
  }

  #advance(
    from: UpstreamPhase,
    to: UpstreamPhase,
    actions: readonly UpstreamAction[],
  ): readonly UpstreamAction[] {
    if (this.#phase !== from) return [];
    this.#phase = to;
    return actions;
  }

  #decided(decision: StartDecision, nowMs: number): readonly UpstreamAction[] {
    const ended = this.#endedTimeline;
    this.#endedTimeline = null;
    if (decision.kind === 'hold') return this.#holdNow(decision, nowMs, true);
    const { timeline, startLsn } = decision;
    if (timeline === ended) return this.#nextHost(nowMs, noWayOn(ended, startLsn));
    // Places on two timelines are not compared.
    if (timeline !== this.#asked?.timeline) this.#forgetRejections();
    this.#phase = 'starting';
    this.#asked = { timeline, startLsn };
    return [{ type: 'start-replication', timeline, startLsn }];
  }

  #copyStarted(nowMs: number): readonly UpstreamAction[] {
    if (this.#phase !== 'starting') return [];
    this.#streamingSinceMs = nowMs;
    this.#hold = null;
    this.#heldBefore = null;
    this.#isFailedRound = false;
    this.#walk.arrived();
    this.#enter('streaming', this.#rejections >= REJECTIONS_MAX ? this.#detail : null);
    return [];
  }

  #failed(error: WalcastError, nowMs: number): readonly UpstreamAction[] {
    if (!ATTEMPT_PHASES.has(this.#phase)) return [];
    if (this.#isWalRemoved(error)) return this.#holdNow(gapHold(error, this.#asked), nowMs, true);
    if (error.code === UPSTREAM_CYCLE) return this.#holdNow(cycleHold(error), nowMs, true);
    if (isFatal(error)) {
      this.#hopelessHosts += 1;
      const isHopeless = !this.#wasIdentified && this.#hopelessHosts === this.#walk.count;
      const actions = this.#holdNow(failedHold(error), nowMs, true);
      return isHopeless ? [...actions, { type: 'fatal', error }] : actions;
    }
    return this.#nextHost(nowMs, { reason: sentence(error), short: error.message, error });
  }

  #lost(error: WalcastError, nowMs: number): readonly UpstreamAction[] {
    if (this.#phase !== 'streaming' && this.#phase !== 'ending') return this.#failed(error, nowMs);
    if (this.#isChangingOver) return [ABRUPT, ...this.#beginRound()];
    if (this.#isWalRemoved(error)) return this.#holdNow(gapHold(error, this.#asked), nowMs, true);
    this.#detail = sentence(error);
    const wasGood = nowMs - this.#streamingSinceMs >= GOOD_STREAM_MS;
    this.#failures = wasGood ? 0 : this.#failures + 1;
    return [ABRUPT, ...this.#wait(nowMs)];
  }

  #rejected(rejection: WalRejection, nowMs: number): readonly UpstreamAction[] {
    if (this.#phase !== 'streaming') return [];
    const isFurther = this.#rejectedLsn === null || rejection.lsn > this.#rejectedLsn;
    this.#rejections = isFurther && this.#rejections < REJECTIONS_MAX ? 1 : this.#rejections + 1;
    this.#rejectedLsn = isFurther ? rejection.lsn : this.#rejectedLsn;
    const what = `WAL at ${formatLsn(rejection.lsn)} from the upstream was rejected: ${rejection.reason}`;
    if (this.#rejections >= REJECTIONS_MAX) {
      const isDivergence = rejection.isDivergence === true;
      const hold = rejectedHold(what, isDivergence);
      this.#rejectedState = hold.state;
      return this.#holdNow(hold, nowMs, isDivergence);
    }
    this.#detail = `${what}. It is fetched again (attempt ${this.#rejections + 1} of ${REJECTIONS_MAX}).`;
    this.#failures = this.#rejections - 1;
    return [ABRUPT, ...this.#wait(nowMs)];
  }

  /** The next one is followed on the same connection: who is the server now? */
  #timelineEnded(end: TimelineEnd, nowMs: number): readonly UpstreamAction[] {
    if (this.#phase !== 'ending' && this.#phase !== 'starting') return [];
    const wasStreamed = this.#phase === 'ending';
    if (wasStreamed && nowMs - this.#streamingSinceMs >= GOOD_STREAM_MS) this.#failures = 0;
    const isForward = this.#lastEndLsn === null || end.switchLsn > this.#lastEndLsn;
    this.#emptyTimelines = isForward ? 0 : this.#emptyTimelines + 1;
    this.#lastEndLsn = end.switchLsn;
    if (this.#emptyTimelines > EMPTY_TIMELINES_MAX) return this.#nextHost(nowMs, nothingNew(end));
    this.#endedTimeline = end.timeline;
    this.#enter('identifying', null);
    return [{ type: 'identify', wanted: this.#walk.wanted, ended: end }];
  }

  #finish(): readonly UpstreamAction[] {
    if (this.#isChangingOver) return [];
    if (this.#phase === 'streaming') {
      this.#enter('ending', null);
      return [{ type: 'finish-stream' }];
    }
    this.#enter('disconnected', null);
    return [ORDERLY];
  }

  /** This host is no good now: the next of the list at once, or, after the last, wait. */
  #nextHost(nowMs: number, left: LeftHost): readonly UpstreamAction[] {
    const { hold, error, reason, short } = left;
    const dropsCreatedSlot = hold?.state === 'gap' || hold?.state === 'diverged';
    const actions: UpstreamAction[] = [{ type: 'disconnect', isOrderly: true, dropsCreatedSlot }];
    const isOtherKind = error?.code === OTHER_SESSION_KIND;
    this.#walk.leave(this.#walk.count === 1 ? reason : short, isOtherKind);
    this.#detail = this.#walk.reasons();
    if (this.#walk.count > 1) {
      actions.push({ type: 'host-left', host: this.#walk.name, reason, isOtherKind });
    }
    if (hold === undefined) this.#isFailedRound = true;
    // Once: with a list that changes all the time the last hosts would never have their turn.
    if (this.#isListOld && !this.#isAnew) return [...actions, ...this.#beginRound(true)];
    const next = this.#walk.next();
    if (next !== null) return [...actions, ...this.#connect(next)];
    if (this.#isFailedRound) this.#failures += 1;
    if (this.#hold !== null) this.#hold = { ...this.#hold, detail: this.#detail };
    return [...actions, ...this.#wait(nowMs)];
  }

  /** Ends a round: held when a host of it said why to wait, else by backoff. */
  #wait(nowMs: number): readonly UpstreamAction[] {
    const delayMs = backoffMs(this.#failures, this.#random());
    if (this.#hold !== null) {
      const { detail, retryMs, hostIndex = this.#hostIndex } = this.#hold;
      this.#hostIndex = hostIndex;
      this.#enter('held', detail);
      // One host that has to be waited for must not delay the return of another that just went away.
      this.#nextAttemptAtMs = nowMs + (this.#isFailedRound ? Math.min(retryMs, delayMs) : retryMs);
      return [];
    }
    this.#enter('backoff', this.#detail);
    this.#nextAttemptAtMs = nowMs + delayMs;
    return delayMs === 0 ? this.#beginRound() : [];
  }

  /** Stands still for `hold`, after the other hosts were tried when one of them may do better. */
  #holdNow(hold: Hold, nowMs: number, mayTryOthers: boolean): readonly UpstreamAction[] {
    if (mayTryOthers) {
      const { state, detail, retryMs } = hold;
      const shown = this.#hold ?? { state, detail, retryMs, hostIndex: this.#hostIndex };
      // The first one is shown; the one that is over soonest decides when all are asked again.
      this.#hold = { ...shown, retryMs: Math.min(shown.retryMs, retryMs) };
      return this.#nextHost(nowMs, { reason: hold.detail, short: hold.detail, hold });
    }
    this.#hold = hold;
    return [ABRUPT, ...this.#wait(nowMs)];
  }

  #isWalRemoved(error: WalcastError): boolean {
    const isAsking = this.#phase === 'starting' || this.#phase === 'streaming';
    return isAsking && error.code === SQLSTATE.undefinedFile;
  }

  #forgetRejections(): void {
    this.#rejections = 0;
    this.#rejectedLsn = null;
  }

  #enter(phase: UpstreamPhase, detail: string | null): void {
    this.#phase = phase;
    this.#detail = detail;
    this.#nextAttemptAtMs = null;
  }
}
