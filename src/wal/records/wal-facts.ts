// What did the records say so far that others ask about? The next transaction id, when the newest commit was, and whether
// somebody waits for it to be applied. Numbers that are changed in place as records pass, so that a walk that fails can go
// back to what it knew before.
import { INVALID_LSN } from '../../pg/lsn.ts';
import type { Lsn } from '../../pg/lsn.ts';
import { toPgTimestamp } from '../../pg/timestamp.ts';
import type { PgTimestamp } from '../../pg/timestamp.ts';
import { isBelow, lsnOfHalves } from './address.ts';

/** What records say, up to a record end. */
export interface WalFacts {
  /**
   * The first full transaction id (epoch in the upper 32 bits) that no record has used, as a server in recovery counts it;
   * null while no checkpoint told the epoch. (varsup.c:AdvanceNextFullTransactionIdPastXid)
   */
  readonly nextFullXid: bigint | null;
  /** When the transaction of the last commit record committed, by the primary's clock; null before the first. */
  readonly newestCommitAt: PgTimestamp | null;
  /**
   * Start of the last commit record whose session waits until standbys have applied it (XACT_COMPLETION_APPLY_FEEDBACK,
   * `synchronous_commit = remote_apply`); null before the first since the walk began.
   */
  readonly applyFeedbackLsn: Lsn | null;
}

/** Nothing is known. */
export const NO_WAL_FACTS: WalFacts = {
  nextFullXid: null,
  newestCommitAt: null,
  applyFeedbackLsn: null,
};

/** FirstNormalTransactionId: smaller ids are no transaction's. */
const FIRST_NORMAL_XID = 3;

/** A record may use an id this far behind the newest one without its checksum having been seen to match. */
const XID_STEP_MAX = 0xffff;

const TWO_TO_32 = 0x1_0000_0000;

/** {@link WalFacts} in halves. */
export class LearnedFacts {
  /** The 32-bit transaction id after the newest one seen, signed; 0 before the first. */
  nextXid = 0;
  /** Its epoch; -1 while that is not known. */
  #epoch = -1;
  #commitHigh = 0;
  #commitLow = 0;
  #hasCommit = false;
  #commitAtHigh = 0;
  #commitAtLow = 0;
  #isCommitPlaced = true;
  #feedbackHigh = 0;
  #feedbackLow = 0;

  constructor(facts: WalFacts) {
    if (facts.nextFullXid !== null) {
      this.nextXid = Number(BigInt.asIntN(32, facts.nextFullXid));
      this.#epoch = Number(BigInt.asUintN(32, facts.nextFullXid >> 32n));
    }
    if (facts.newestCommitAt !== null) {
      const high = Number(BigInt.asIntN(32, facts.newestCommitAt >> 32n));
      this.noteCommit(high, Number(BigInt.asIntN(32, facts.newestCommitAt)));
      // Before this walk, wherever that was.
      this.#isCommitPlaced = true;
    }
    const feedback = facts.applyFeedbackLsn ?? INVALID_LSN;
    const low = Number(BigInt.asIntN(32, feedback));
    this.noteApplyFeedback(Number(BigInt.asIntN(32, feedback >> 32n)), low);
  }

  copyFrom(other: LearnedFacts): void {
    this.nextXid = other.nextXid;
    this.#epoch = other.#epoch;
    this.#commitHigh = other.#commitHigh;
    this.#commitLow = other.#commitLow;
    this.#hasCommit = other.#hasCommit;
    this.#commitAtHigh = other.#commitAtHigh;
    this.#commitAtLow = other.#commitAtLow;
    this.#isCommitPlaced = other.#isCommitPlaced;
    this.#feedbackHigh = other.#feedbackHigh;
    this.#feedbackLow = other.#feedbackLow;
  }

  /**
   * True when `xid` would move the next id so far that a flipped bit must be ruled out first. Transactions follow each other
   * closely; a bit that is flipped in the upper half of one would be believed until the next shutdown checkpoint.
   */
  isLeap(xid: number): boolean {
    if (xid >>> 0 < FIRST_NORMAL_XID) return false;
    return this.nextXid === 0 || ((xid - this.nextXid) | 0) > XID_STEP_MAX;
  }

  /** A transaction has used `xid`. (varsup.c:AdvanceNextFullTransactionIdPastXid) */
  noteXid(xid: number): void {
    if (xid >>> 0 < FIRST_NORMAL_XID) return;
    if (this.nextXid !== 0 && ((xid - this.nextXid) | 0) < 0) return;
    const next = (xid + 1) | 0;
    const nextNormal = next >>> 0 < FIRST_NORMAL_XID ? FIRST_NORMAL_XID : next;
    const hasWrapped = this.nextXid !== 0 && nextNormal >>> 0 < this.nextXid >>> 0;
    if (hasWrapped && this.#epoch >= 0) this.#epoch++;
    this.nextXid = nextNormal;
  }

  /**
   * A checkpoint says which full transaction id came next when it began. That of a shutdown is exact, another one is only a
   * lower bound. (xlogrecovery.c, xlog.c:xlog_redo)
   */
  noteCheckpoint(epoch: number, nextXid: number, isShutdown: boolean): void {
    const [seenEpoch, seenXid] = [this.#epoch, this.nextXid];
    const isOlder =
      seenEpoch >= 0 && isBelow(epoch | 0, nextXid | 0, seenEpoch | 0, seenXid) && !isShutdown;
    if (isOlder) return;
    this.#epoch = epoch >>> 0;
    this.nextXid = nextXid | 0;
    // Ids from before the epoch was known.
    if (seenEpoch < 0 && seenXid !== 0 && !isShutdown) this.noteXid((seenXid - 1) | 0);
  }

  /** A transaction committed at this time, a PgTimestamp in halves. */
  noteCommit(high: number, low: number): void {
    this.#commitHigh = high;
    this.#commitLow = low;
    this.#hasCommit = true;
    this.#isCommitPlaced = false;
  }

  /** The record that something was learned from begins at this address: if it was a commit, that is where the newest one is. */
  placeCommit(high: number, low: number): void {
    if (this.#isCommitPlaced) return;
    this.#isCommitPlaced = true;
    this.#commitAtHigh = high;
    this.#commitAtLow = low;
  }

  /** The upper half of where the newest commit record of this walk begins, signed; 0 in both halves before the first. */
  get commitAtHigh(): number {
    return this.#commitAtHigh;
  }

  /** The lower half. */
  get commitAtLow(): number {
    return this.#commitAtLow;
  }

  /** When the newest commit was, in microseconds of a PgTimestamp; null before the first. Exact for centuries. */
  get committedMicros(): number | null {
    return this.#hasCommit ? this.#commitHigh * TWO_TO_32 + (this.#commitLow >>> 0) : null;
  }

  /** The commit record at this address waits until it is applied. */
  noteApplyFeedback(high: number, low: number): void {
    this.#feedbackHigh = high;
    this.#feedbackLow = low;
  }

  facts(): WalFacts {
    const feedback = lsnOfHalves(this.#feedbackHigh, this.#feedbackLow);
    return {
      nextFullXid: this.#epoch < 0 ? null : lsnOfHalves(this.#epoch, this.nextXid),
      newestCommitAt: this.#hasCommit
        ? toPgTimestamp(lsnOfHalves(this.#commitHigh, this.#commitLow))
        : null,
      applyFeedbackLsn: feedback === INVALID_LSN ? null : feedback,
    };
  }
}
