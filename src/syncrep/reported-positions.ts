// What may be reported upstream: the table of positions as pure functions, the rule that a shutdown checkpoint is
// acknowledged last, and the check that nothing ever goes backwards. All positions are of one timeline.
import { invariant } from '../base/errors.ts';
import { formatLsn, INVALID_LSN, maxLsn, minLsn } from '../pg/lsn.ts';
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

/** What the standbys say under a policy. */
export interface QuorumPositions {
  /** Qw, Qf, Qa; null while too few standbys are there. */
  readonly positions: Positions | null;
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

/** The row "policy, too few qualify", and whenever no flush may be offered: PostgreSQL then does not count us. */
export function positionsNotOffered(own: OwnEnds): Positions {
  return { writeLsn: own.writtenLsn, flushLsn: INVALID_LSN, applyLsn: INVALID_LSN };
}

/** The rows "policy", but for what was said before: {@link ReportedPositions} takes nothing back. */
export function positionsUnderPolicy(own: OwnEnds, quorum: QuorumPositions): Positions {
  const { positions } = quorum;
  if (positions === null) return positionsNotOffered(own);
  return {
    writeLsn: minLsn(own.writtenLsn, positions.writeLsn),
    flushLsn: minLsn(own.flushedLsn, positions.flushLsn),
    applyLsn: minLsn(own.flushedLsn, positions.applyLsn),
  };
}

/** What a report is made of. */
export interface ReportFacts {
  readonly own: OwnEnds;
  /** Null without a policy. */
  readonly quorum: QuorumPositions | null;
  /** Null unless the last record received is a CHECKPOINT_SHUTDOWN. */
  readonly shutdown: ShutdownCheckpoint | null;
  /** We are going: no flush is offered any more once F has been said. */
  readonly isWithdrawn: boolean;
}

/** The last record of a server that stops. */
export interface ShutdownCheckpoint {
  readonly endLsn: Lsn;
  /** Every streaming standby has flushed it (written it, where it reports no flush). */
  readonly isConfirmed: boolean;
}

/** What may be said now, and when to ask again though nothing else moved; null = not needed. */
export interface Reportable {
  readonly positions: Positions;
  readonly againAtMs: number | null;
}

/**
 * The positions for one timeline's streams, over all connections.
 *
 * A server that shuts down waits until its last record, the shutdown checkpoint, is acknowledged, and then goes. So that
 * every standby has it too, and the old primary can come back as a standby without a rewind, its acknowledgement is
 * withheld until all of them have flushed it, one second at most. After that own F is reported whatever the policy: no
 * backend is left that could be waiting. Where no flush is offered the server looks at write, so that is withheld too.
 * (walsender.c:WalSndDone)
 */
export class ReportedPositions {
  #timeline: TimelineId | null = null;
  /** Where the server and we stood when the stream began. */
  #beganAtLsn: Lsn = INVALID_LSN;
  /** As they were said last on this stream. */
  #last: Positions = NOTHING_OFFERED;
  /** The same, of the last time a flush position was offered. */
  #offered: Positions = NOTHING_OFFERED;
  /** P: the last flush position that was not 0, on this timeline. */
  #promisedLsn: Lsn = INVALID_LSN;
  #withheld: { readonly endLsn: Lsn; readonly sinceMs: number } | null = null;

  /**
   * A START_REPLICATION begins. `beganAtLsn`: the server had written WAL up to there when it was asked, or we have it. On the
   * same timeline P stays: a lower flush would move the primary's slot back. On another one, `promisedLsn` is what was
   * promised there before (INVALID_LSN when nothing was).
   */
  startStream(timeline: TimelineId, from: { beganAtLsn: Lsn; promisedLsn: Lsn }): void {
    this.#promisedLsn =
      timeline === this.#timeline ? maxLsn(this.#promisedLsn, from.promisedLsn) : from.promisedLsn;
    this.#timeline = timeline;
    this.#beganAtLsn = from.beganAtLsn;
    this.#last = NOTHING_OFFERED;
    this.#offered = NOTHING_OFFERED;
    this.#withheld = null;
  }

  /** That of the stream, or of the last one; null before the first. */
  get timeline(): TimelineId | null {
    return this.#timeline;
  }

  /** P on the present timeline; INVALID_LSN before anything was promised. */
  get promisedLsn(): Lsn {
    return this.#promisedLsn;
  }

  /** The flush position that was offered last on this stream; INVALID_LSN before the first. */
  get offeredLsn(): Lsn {
    return this.#offered.flushLsn;
  }

  /**
   * True when a record that ends at `endLsn` was written after the server was asked. A CHECKPOINT_SHUTDOWN that was there
   * before says nothing of the server that has just accepted us: it may have stopped and be back, or have ended its own
   * recovery from a crash with it. (xlog.c:PerformRecoveryXLogAction)
   */
  isOfThisStream(endLsn: Lsn): boolean {
    return endLsn > this.#beganAtLsn;
  }

  /**
   * What may be reported at `nowMs` (monotonic). Throws InvariantError when that would promise more than is durable (I1)
   * or take back what was said on this stream (I2).
   */
  next(facts: ReportFacts, nowMs: number): Reportable {
    const row = this.#row(facts);
    const { shutdown } = facts;
    const isStopping = shutdown !== null && this.isOfThisStream(shutdown.endLsn);
    const untilMs = isStopping ? this.#withholdUntilMs(facts, shutdown, nowMs) : null;
    const positions = !isStopping
      ? row
      : untilMs !== null
        ? this.#withheldRow(row, shutdown.endLsn)
        : this.#releasedRow(row, facts.own, shutdown.endLsn);
    this.#assertHonest(positions, facts.own);
    this.#last = positions;
    if (positions.flushLsn !== INVALID_LSN) {
      this.#promisedLsn = positions.flushLsn;
      // No apply position takes none back: one that is offered later is not to be lower.
      const applyLsn = maxLsn(this.#offered.applyLsn, positions.applyLsn);
      this.#offered = { ...positions, applyLsn };
    }
    return { positions, againAtMs: untilMs };
  }

  /** The table, and nothing below what was said before. */
  #row({ own, quorum, isWithdrawn }: ReportFacts): Positions {
    const isSaid = isWithdrawn && this.#offered.flushLsn >= own.flushedLsn;
    const row = quorum === null ? positionsWithoutPolicy(own) : positionsUnderPolicy(own, quorum);
    if (row.flushLsn === INVALID_LSN || isSaid || this.#isBehindPromise(own)) {
      return positionsNotOffered(own);
    }
    return {
      writeLsn: maxLsn(this.#offered.writeLsn, row.writeLsn),
      flushLsn: maxLsn(this.#promisedLsn, row.flushLsn),
      applyLsn: quorum === null ? INVALID_LSN : maxLsn(this.#offered.applyLsn, row.applyLsn),
    };
  }

  /**
   * A store that found less at its start than was promised (its disk lost it, and it is fetched again) offers nothing
   * until it has caught up: a lower position would move the primary's slot back, and the next checkpoint could
   * invalidate it. On a stream that has offered a position already it is no such start, but a bug.
   */
  #isBehindPromise(own: OwnEnds): boolean {
    return own.flushedLsn < this.#promisedLsn && this.#offered.flushLsn === INVALID_LSN;
  }

  /** Until when the acknowledgement of the shutdown checkpoint is withheld; null when it is not. */
  #withholdUntilMs(facts: ReportFacts, shutdown: ShutdownCheckpoint, nowMs: number): number | null {
    const { endLsn, isConfirmed } = shutdown;
    if (this.#offered.flushLsn >= endLsn) return null;
    if (isConfirmed && facts.own.flushedLsn >= endLsn) return null;
    if (this.#withheld?.endLsn !== endLsn) this.#withheld = { endLsn, sinceMs: nowMs };
    const untilMs = this.#withheld.sinceMs + SHUTDOWN_WITHHOLD_MS;
    return nowMs >= untilMs ? null : untilMs;
  }

  #withheldRow(row: Positions, endLsn: Lsn): Positions {
    if (row.flushLsn !== INVALID_LSN && row.flushLsn < endLsn) return row;
    if (this.#last.flushLsn !== INVALID_LSN && row.flushLsn !== INVALID_LSN) {
      return { ...row, flushLsn: this.#last.flushLsn };
    }
    // A write position that is there already may be taken back: it was said beside a flush position, and not looked at.
    const { writeLsn } = this.#last.writeLsn < endLsn ? this.#last : NOTHING_OFFERED;
    return { ...NOTHING_OFFERED, writeLsn: maxLsn(writeLsn, this.#offered.flushLsn) };
  }

  #releasedRow(row: Positions, own: OwnEnds, endLsn: Lsn): Positions {
    if (own.flushedLsn < endLsn || this.#isBehindPromise(own)) return row;
    return { ...row, writeLsn: own.writtenLsn, flushLsn: own.flushedLsn };
  }

  #assertHonest(positions: Positions, own: OwnEnds): void {
    const { flushLsn, applyLsn, writeLsn } = positions;
    assertReached('write', writeLsn, own.writtenLsn);
    assertReached('flush', flushLsn, own.flushedLsn);
    assertReached('apply', applyLsn, own.flushedLsn);
    if (flushLsn === INVALID_LSN) return;
    this.#assertNotBack('write', writeLsn, this.#offered.writeLsn);
    this.#assertNotBack('flush', flushLsn, maxLsn(this.#offered.flushLsn, this.#promisedLsn));
    this.#assertNotBack('apply', applyLsn, this.#offered.applyLsn);
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

/** Nothing is said that we have not got ourselves: written for write, durable for flush and apply. */
function assertReached(what: string, lsn: Lsn, ownLsn: Lsn): void {
  invariant(
    lsn <= ownLsn,
    `I1: would report ${what} ${formatLsn(lsn)}, our own end is ${formatLsn(ownLsn)}`,
  );
}

/** Nothing is offered. */
export const NOTHING_OFFERED: Positions = {
  writeLsn: INVALID_LSN,
  flushLsn: INVALID_LSN,
  applyLsn: INVALID_LSN,
};
