// How many log lines may strangers cause? Everybody who can reach the port can make us write one.
import { REFUSAL_LINES_MAX, REFUSAL_LINES_WINDOW_MS } from '../config/limits.ts';

/** A number of lines per window; the first line after a pause says how many were left out. */
export class LogBudget {
  #windowStartMs = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #leftOut = 0;

  /** How many lines were left out since the last one, or null when this one is to be left out too. `nowMs`: monotonic. */
  take(nowMs: number): number | null {
    if (nowMs - this.#windowStartMs >= REFUSAL_LINES_WINDOW_MS) {
      this.#windowStartMs = nowMs;
      this.#lines = 0;
    }
    if (this.#lines >= REFUSAL_LINES_MAX) {
      this.#leftOut += 1;
      return null;
    }
    this.#lines += 1;
    const leftOut = this.#leftOut;
    this.#leftOut = 0;
    return leftOut;
  }
}
