// How long is it from the arrival of WAL to the moment it may be reported as flushed? That is walcast's share of the time
// of a commit that waits for it.
import { INVALID_LSN, toLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { DurationHistogram } from '../status/status.ts';
import { DurationCounter } from '../wal/duration-histogram.ts';

/** Ends that wait for their confirmation; while there are more, those that come are not measured. */
const WAITING_MAX = 1024;

/** Of one relay, over all its streams. Times are milliseconds of a monotonic clock. */
export class ConfirmTimes {
  readonly #durations = new DurationCounter();
  readonly #lsns = new BigUint64Array(WAITING_MAX);
  readonly #times = new Float64Array(WAITING_MAX);
  /** Counted since the start, like {@link #taken}; the difference is what waits. */
  #noted = 0;
  #taken = 0;
  #lastLsn: Lsn = INVALID_LSN;

  /** WAL up to `lsn` (exclusive) is here. The same end again is nothing new. */
  received(lsn: Lsn, nowMs: number): void {
    if (this.#noted - this.#taken === WAITING_MAX || lsn === this.#lastLsn) return;
    this.#lastLsn = lsn;
    this.#lsns[this.#noted % WAITING_MAX] = lsn;
    this.#times[this.#noted % WAITING_MAX] = nowMs;
    this.#noted += 1;
  }

  /** WAL up to `lsn` (exclusive) may be reported as flushed. */
  confirmed(lsn: Lsn, nowMs: number): void {
    while (this.#taken < this.#noted) {
      const index = this.#taken % WAITING_MAX;
      if (toLsn(this.#lsns[index] ?? 0n) > lsn) return;
      this.#durations.observe(Math.max(0, nowMs - (this.#times[index] ?? nowMs)) / 1000);
      this.#taken += 1;
    }
  }

  /** What waits is not measured: it is of a timeline that was left. */
  forget(): void {
    this.#taken = this.#noted;
  }

  histogram(): DurationHistogram {
    return this.#durations.snapshot();
  }
}
