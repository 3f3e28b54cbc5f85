// How many log lines may others cause at will? Whoever reaches the port, or confirms WAL and takes it back, can make us write one.

/** So many lines in one window. */
export interface LogBudgetSize {
  readonly linesMax: number;
  readonly windowMs: number;
}

/** A number of lines per window; the first line after a pause says how many were left out. */
export class LogBudget {
  readonly #size: LogBudgetSize;
  #windowStartMs = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #leftOut = 0;

  constructor(size: LogBudgetSize) {
    this.#size = size;
  }

  /** How many lines were left out since the last one, or null when this one is to be left out too. `nowMs`: monotonic. */
  take(nowMs: number): number | null {
    const { linesMax, windowMs } = this.#size;
    if (nowMs - this.#windowStartMs >= windowMs) {
      this.#windowStartMs = nowMs;
      this.#lines = 0;
    }
    if (this.#lines >= linesMax) {
      this.#leftOut += 1;
      return null;
    }
    this.#lines += 1;
    const leftOut = this.#leftOut;
    this.#leftOut = 0;
    return leftOut;
  }
}
