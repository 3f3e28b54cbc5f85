// When was the last transaction committed that a standby has replayed? One ring of commit records and their times for all
// standbys. Pure. Times are milliseconds of our monotonic clock: how old a commit was when its message was sent is the
// difference of two times of that message, and from then on only our own clock counts.
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { LagSeries } from './lag-series.ts';

/** Any record is longer: so much before its end is behind its beginning. */
export const INSIDE_RECORD_BYTES = 8;

/** The ring. */
export class CommitTimes {
  readonly #commits: LagSeries;
  /** Where the newest commit record begins; -1 before the first. */
  #newestAt = -1;
  /** Who is here, or before, may lack commits that were not looked at. */
  #unseenAt = -1;

  constructor(options: { samplesMax: number }) {
    this.#commits = new LagSeries({ samplesMax: options.samplesMax, mergedTime: 'latest' });
  }

  /** Of what lies before `lsn`, a record end, nothing is known but what is noted. */
  beginAt(lsn: Lsn): void {
    this.#unseenAt = Number(lsn) - INSIDE_RECORD_BYTES;
  }

  /**
   * A commit record that begins at `at`, an LSN as a number, came in a message that was sent at `sentMs` on our clock; then
   * the commit was `ageMs` old. One from the future, of a primary whose clock is ahead of that of the standby between us, is
   * new.
   */
  note(at: number, ageMs: number, sentMs: number): void {
    if (at <= this.#newestAt) return;
    this.#newestAt = at;
    this.#commits.push(at, sentMs - Math.max(0, ageMs));
  }

  /** What begins at or beyond `lsn` belongs to a timeline that was left there. */
  cut(lsn: Lsn): void {
    const at = Number(lsn);
    this.#unseenAt = Math.min(this.#unseenAt, at - INSIDE_RECORD_BYTES);
    if (at > this.#newestAt) return;
    const left = this.#commits.firstFrom(at);
    this.#commits.keepFirst(left);
    this.#newestAt = left === 0 ? -1 : this.#commits.positionAt(left - 1);
  }

  /**
   * Milliseconds since the last commit that a standby has replayed which is at `applyLsn`: anybody who is beyond the
   * beginning of a record has replayed it. 0 when there is none that it has not replayed, as far as is known (`isAllKnown`:
   * everything that came was looked at, and there is no more); null when it is not known.
   */
  ageMs(applyLsn: Lsn, nowMs: number, isAllKnown: boolean): number | null {
    if (applyLsn === INVALID_LSN) return null;
    const at = Number(applyLsn);
    if (isAllKnown && at > this.#newestAt && at > this.#unseenAt) return 0;
    const committedMs = this.#commits.timeAt(this.#commits.firstFrom(at) - 1);
    return Number.isNaN(committedMs) ? null : Math.max(0, nowMs - committedMs);
  }
}
