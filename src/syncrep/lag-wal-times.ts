// When did the upstream send word of the WAL at a position? One ring for all standbys; a standby's own state is two numbers
// a stage (lag-end-to-end.ts). Pure: positions and times in, times out. Times are milliseconds of our monotonic clock.
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { LagSeries } from './lag-series.ts';

/** What a lag is looked up in. */
export interface WalTimesView {
  /**
   * End (exclusive) of what a standby can confirm, or will be able to: the last record end that was received, or what the
   * upstream has beyond that and has not sent yet. INVALID_LSN while nothing is known.
   */
  readonly endLsn: Lsn;
  /** Everything that the upstream has named so far has come. */
  readonly isAllTaken: boolean;
  /** When the last byte before `lsn` was sent word of; null beyond {@link endLsn}, and while nothing is known. */
  sentBefore(lsn: Lsn): number | null;
  /** The same for the byte at `lsn`. */
  sentAt(lsn: Lsn): number | null;
}

/** The ring. */
export class WalTimes implements WalTimesView {
  /** (end, when it was sent word of): what lies between two ends is as old as the later one says. */
  readonly #ends: LagSeries;
  #endLsn: Lsn = INVALID_LSN;
  isAllTaken = true;
  #newestMs = Number.NEGATIVE_INFINITY;
  /** The last question: a thousand standbys that have caught up confirm the same position one after the other. */
  #askedLsn: Lsn = INVALID_LSN;
  #answer: number | null = null;

  constructor(options: { samplesMax: number }) {
    // Of two the older time: an age may become too high by that, never too low.
    this.#ends = new LagSeries({ samplesMax: options.samplesMax, mergedTime: 'earliest' });
  }

  get endLsn(): Lsn {
    return this.#endLsn;
  }

  /**
   * A message was sent at `sentMs`. `recordEndLsn`: the last record end that was received by then. `knownLsn`: the end of WAL
   * that the upstream names; `takenLsn`: the end of the bytes that came. All exclusive; the first is not looked at while more
   * is named than came. What was named, came, and is no whole record, is nothing that anybody could confirm, and does not get
   * older.
   */
  note(ends: { recordEndLsn: Lsn; takenLsn: Lsn; knownLsn: Lsn }, sentMs: number): void {
    const { recordEndLsn, takenLsn, knownLsn } = ends;
    this.isAllTaken = knownLsn <= takenLsn;
    const endLsn = this.isAllTaken ? recordEndLsn : knownLsn;
    if (endLsn === this.#endLsn) return;
    if (endLsn < this.#endLsn) {
      this.cut(endLsn);
      return;
    }
    this.#endLsn = endLsn;
    this.#askedLsn = INVALID_LSN;
    // Sent later, so no older, whatever the estimate says.
    this.#newestMs = Math.max(this.#newestMs, sentMs);
    this.#ends.push(Number(endLsn), this.#newestMs);
  }

  /** There is nothing beyond `lsn` (any more): it was taken back, belongs to a timeline that was left, or will never come. */
  cut(lsn: Lsn): void {
    if (lsn >= this.#endLsn) return;
    const at = Number(lsn);
    const sentMs = this.#ends.timeAt(this.#ends.firstFrom(at));
    this.#ends.keepFirst(this.#ends.firstAfter(at));
    this.#ends.push(at, sentMs);
    this.#endLsn = lsn;
    this.#askedLsn = INVALID_LSN;
  }

  sentBefore(lsn: Lsn): number | null {
    if (this.#askedLsn !== lsn || lsn === INVALID_LSN) {
      this.#askedLsn = lsn;
      this.#answer = this.#timeOf(this.#ends.firstFrom(Number(lsn)));
    }
    return this.#answer;
  }

  sentAt(lsn: Lsn): number | null {
    return this.#timeOf(this.#ends.firstAfter(Number(lsn)));
  }

  #timeOf(index: number): number | null {
    const timeMs = this.#ends.timeAt(index);
    return Number.isNaN(timeMs) ? null : timeMs;
  }
}
