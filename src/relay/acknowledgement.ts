// What is reported upstream, from moment to moment: joins the store's own ends and the standbys' claims to the pure
// rules of syncrep, and remembers when a withheld acknowledgement is due.
import type { Clock, Timer } from '../base/clock.ts';
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { toTimelineId } from '../pg/timeline.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { ReportedPositions as StatusPositions } from '../status/status.ts';
import { ReportedPositions } from '../syncrep/reported-positions.ts';
import type { OwnEnds, ShutdownCheckpoint } from '../syncrep/reported-positions.ts';
import type { SyncPolicy } from '../syncrep/standby-names.ts';
import { SyncDecider } from '../syncrep/sync-standbys.ts';
import type { SyncQuorum, SyncStandby } from '../syncrep/sync-standbys.ts';
import type { PositionSource } from '../walreceiver/ports.ts';

/** The store's part. */
export interface OwnPositions {
  positions(): { readonly writtenLsn: Lsn; readonly flushedLsn: Lsn };
  /** End of the last record received when that is a CHECKPOINT_SHUTDOWN, else INVALID_LSN. */
  shutdownCheckpointLsn(): Lsn;
  /** P: kept lazily, restored at the next start. */
  noteReportedFlush(lsn: Lsn): void;
}

/** Where it all comes from. */
export interface AcknowledgementParts {
  readonly clock: Clock;
  /** Whose confirmation counts, at this moment; null: our own disk is enough. */
  readonly policy: () => SyncPolicy | null;
  /** All that stream, live. */
  readonly standbys: () => Iterable<SyncStandby>;
  /** Something may be reported now that may not have been before. */
  readonly onMoved: () => void;
  /** The policy was looked at. Called for every report: cheap. */
  readonly onDecided?: (quorum: SyncQuorum, policy: SyncPolicy | null) => void;
  /** These positions are about to be sent. Called for every report: cheap. */
  readonly onReport?: (positions: StatusPositions, own: OwnEnds) => void;
}

/** The positions of one relay. */
export class Acknowledgement implements PositionSource {
  readonly #parts: AcknowledgementParts;
  readonly #rules: ReportedPositions = new ReportedPositions();
  readonly #decider = new SyncDecider();
  readonly #store: OwnPositions;
  #due: Timer | null = null;
  #isWithdrawn = false;

  constructor(store: OwnPositions, parts: AcknowledgementParts) {
    this.#store = store;
    this.#parts = parts;
  }

  /**
   * A START_REPLICATION on `timeline` is about to be sent. `beganAtLsn`: the server had written WAL up to there by now, or we
   * have it; `promisedLsn`: P as it was stored. Only standbys of that timeline count from now on.
   */
  startStream(timeline: TimelineId, from: { beganAtLsn: Lsn; promisedLsn: Lsn }): void {
    this.#cancel();
    this.#rules.startStream(timeline, from);
  }

  /** P on the present timeline. */
  get promisedLsn(): Lsn {
    return this.#rules.promisedLsn;
  }

  /**
   * Nothing more will be durable. Once what is has been said, no flush position is offered: a server that waits for one of
   * several takes the next one in its list, instead of waiting for us as long as we wait for our standbys.
   */
  withdraw(): void {
    this.#isWithdrawn = true;
    this.#parts.onMoved();
  }

  /** What the policy comes to now, on `timeline`: where nothing was streamed yet, that of the store. */
  decide(timeline: TimelineId | null = this.#rules.timeline): SyncQuorum {
    const { policy, standbys, onDecided } = this.#parts;
    const current = policy();
    const quorum =
      timeline === null && current !== null
        ? NOBODY
        : this.#decider.decide(current, standbys(), timeline ?? FIRST_TIMELINE);
    onDecided?.(quorum, current);
    return quorum;
  }

  positions(): StatusPositions {
    const { clock, policy, onReport } = this.#parts;
    const own = this.#store.positions();
    const nowMs = clock.nowMs();
    const quorum = this.decide();
    const saidLsn = this.#rules.offeredLsn;
    const { positions, againAtMs } = this.#rules.next(
      {
        own,
        quorum: policy() === null ? null : quorum,
        shutdown: this.#shutdown(),
        isWithdrawn: this.#isWithdrawn,
      },
      nowMs,
    );
    this.#cancel();
    if (againAtMs !== null) {
      this.#due = clock.setTimer(againAtMs - nowMs, () => this.#parts.onMoved());
    }
    this.#store.noteReportedFlush(positions.flushLsn);
    onReport?.(positions, own);
    if (this.#isWithdrawn && this.#rules.offeredLsn > saidLsn) this.#parts.onMoved();
    return positions;
  }

  /** No timer is left behind. */
  close(): void {
    this.#cancel();
  }

  /** The standbys are asked only when it matters: there may be a thousand, and this runs at every report. */
  #shutdown(): ShutdownCheckpoint | null {
    const endLsn = this.#store.shutdownCheckpointLsn();
    if (endLsn === INVALID_LSN || !this.#rules.isOfThisStream(endLsn)) return null;
    for (const { state, flushLsn, writeLsn } of this.#parts.standbys()) {
      const confirmedLsn = flushLsn === INVALID_LSN ? writeLsn : flushLsn;
      if (state === 'streaming' && confirmedLsn < endLsn) return { endLsn, isConfirmed: false };
    }
    return { endLsn, isConfirmed: true };
  }

  #cancel(): void {
    this.#due?.cancel();
    this.#due = null;
  }
}

/** Before any timeline is known nobody can stream on it. */
const NOBODY: SyncQuorum = { isSatisfied: false, eligible: 0, positions: null };

/** Stands for none where nobody is looked at. */
const FIRST_TIMELINE: TimelineId = toTimelineId(1);
