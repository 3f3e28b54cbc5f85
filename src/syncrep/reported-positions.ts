// What may be reported upstream: the table of positions as pure functions, the rule that a shutdown checkpoint is
// acknowledged last, and the check that nothing ever goes backwards. All positions are of one timeline.
import { invariant } from '../base/errors.ts';
import { formatLsn, INVALID_LSN, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { formatPosition } from '../pg/timeline.ts';
import type { TimelineId } from '../pg/timeline.ts';

/** Write, flush and apply as a standby status update carries them; INVALID_LSN = not offered. */
export interface Positions {
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
}

/** Our own ends. */
export interface OwnEnds {
  /** W: handed to the kernel. */
  readonly writtenLsn: Lsn;
  /** F: durable, contiguous, on a record end. */
  readonly flushedLsn: Lsn;
}

/** A shutdown checkpoint's acknowledgement is withheld this long at most. */
export const SHUTDOWN_WITHHOLD_MS = 1_000;

/**
 * The row "no policy": W, F, and no apply position, as pg_receivewal reports. F is all that is promised (I1); a commit
 * that asks for remote_apply waits for ever, because nothing is applied here.
 */
export function positionsWithoutPolicy(own: OwnEnds): Positions {
  return { writeLsn: own.writtenLsn, flushLsn: own.flushedLsn, applyLsn: INVALID_LSN };
}

/** What the rule about shutdown checkpoints looks at. */
export interface ShutdownFacts {
  /** F, own durable end. */
  readonly flushedLsn: Lsn;
  /** End of the last record received when that is a CHECKPOINT_SHUTDOWN, else null. */
  readonly shutdownCheckpointEndLsn: Lsn | null;
  /** What each streaming standby has confirmed: its flush position, or its write position when it reports no flush. */
  readonly standbyLsns: readonly Lsn[];
}

/** What may be said now, and when to ask again though nothing else moved; null = not needed. */
export interface Reportable {
  readonly positions: Positions;
  readonly againAtMs: number | null;
}

/**
 * The positions for one timeline's streams, over all connections. The caller computes a row of the table and asks what of
 * it may be reported.
 *
 * A server that shuts down waits until its last record, the shutdown checkpoint, is acknowledged, and then goes. So that
 * every standby has it too, and the old primary can come back as a standby without a rewind, its acknowledgement is
 * withheld until all of them have flushed it, one second at most. After that own F is reported whatever the row says: no
 * backend is left that could be waiting.
 */
export class ReportedPositions {
  #timeline: TimelineId | null = null;
  #last: Positions = NOTHING;
  /** The last flush position of this stream that was not 0. */
  #offeredLsn: Lsn = INVALID_LSN;
  /** P: the last flush position that was not 0, on this timeline. */
  #promisedLsn: Lsn = INVALID_LSN;
  #withheld: { readonly endLsn: Lsn; readonly sinceMs: number } | null = null;

  /**
   * A START_REPLICATION begins. On the same timeline P stays: a lower flush would move the primary's slot back. On
   * another one, `promisedLsn` is what was promised there before (INVALID_LSN when nothing was).
   */
  startStream(timeline: TimelineId, promisedLsn: Lsn): void {
    this.#promisedLsn =
      timeline === this.#timeline ? maxLsn(this.#promisedLsn, promisedLsn) : promisedLsn;
    this.#timeline = timeline;
    this.#last = NOTHING;
    this.#offeredLsn = INVALID_LSN;
    this.#withheld = null;
  }

  /** P on the present timeline; INVALID_LSN before anything was promised. */
  get promisedLsn(): Lsn {
    return this.#promisedLsn;
  }

  /** The flush position that was offered last on this stream; INVALID_LSN before the first. */
  get offeredLsn(): Lsn {
    return this.#offeredLsn;
  }

  /**
   * What may be reported of `row` at `nowMs` (monotonic). Throws InvariantError when that would promise more than is
   * durable (I1) or take back what was said on this stream (I2).
   */
  next(row: Positions, facts: ShutdownFacts, nowMs: number): Reportable {
    const untilMs = this.#withholdUntilMs(facts, nowMs);
    const positions =
      untilMs !== null
        ? { ...row, flushLsn: this.#last.flushLsn }
        : this.#isShutdownReleased(facts)
          ? this.#neverBelowPromise({ ...row, flushLsn: facts.flushedLsn })
          : this.#neverBelowPromise(row);
    this.#assertHonest(positions, facts.flushedLsn);
    this.#last = positions;
    if (positions.flushLsn !== INVALID_LSN) {
      this.#promisedLsn = positions.flushLsn;
      this.#offeredLsn = positions.flushLsn;
    }
    return { positions, againAtMs: untilMs };
  }

  /**
   * A store that found less at its start than was promised (its disk lost it, and it is fetched again) offers nothing
   * until it has caught up: a lower position would move the primary's slot back, and the next checkpoint could
   * invalidate it. On a stream that has offered a position already it is no such start, but a bug.
   */
  #neverBelowPromise(row: Positions): Positions {
    const isBehind = row.flushLsn < this.#promisedLsn && this.#last.flushLsn === INVALID_LSN;
    return isBehind ? { ...row, flushLsn: INVALID_LSN } : row;
  }

  /** Until when the acknowledgement of the shutdown checkpoint is withheld; null when it is not. */
  #withholdUntilMs(facts: ShutdownFacts, nowMs: number): number | null {
    const endLsn = facts.shutdownCheckpointEndLsn;
    if (endLsn === null || facts.flushedLsn < endLsn || this.#offeredLsn >= endLsn) return null;
    // Nothing was reported on this stream yet: the server is not waiting for its shutdown, it has just accepted us.
    if (this.#offeredLsn === INVALID_LSN) return null;
    if (facts.standbyLsns.every((lsn) => lsn >= endLsn)) return null;
    if (this.#withheld?.endLsn !== endLsn) this.#withheld = { endLsn, sinceMs: nowMs };
    const untilMs = this.#withheld.sinceMs + SHUTDOWN_WITHHOLD_MS;
    return nowMs >= untilMs ? null : untilMs;
  }

  #isShutdownReleased(facts: ShutdownFacts): boolean {
    const endLsn = facts.shutdownCheckpointEndLsn;
    return endLsn !== null && facts.flushedLsn >= endLsn;
  }

  #assertHonest(positions: Positions, flushedLsn: Lsn): void {
    const { flushLsn } = positions;
    invariant(
      flushLsn <= flushedLsn,
      `I1: would report flush ${formatLsn(flushLsn)}, durable is ${formatLsn(flushedLsn)}`,
    );
    this.#assertNotBack('write', positions.writeLsn, this.#last.writeLsn);
    this.#assertNotBack('flush', flushLsn, maxLsn(this.#last.flushLsn, this.#promisedLsn));
    this.#assertNotBack('apply', positions.applyLsn, this.#last.applyLsn);
  }

  /** 0, "not offered", is allowed at any time. */
  #assertNotBack(what: string, next: Lsn, last: Lsn): void {
    const where = this.#timeline === null ? formatLsn(last) : formatPosition(this.#timeline, last);
    invariant(
      next === INVALID_LSN || next >= last,
      `I2: would report ${what} ${formatLsn(next)} after ${where}`,
    );
  }
}

const NOTHING: Positions = {
  writeLsn: INVALID_LSN,
  flushLsn: INVALID_LSN,
  applyLsn: INVALID_LSN,
};
