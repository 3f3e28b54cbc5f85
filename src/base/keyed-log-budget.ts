// How many log lines may strangers cause, when one who floods must not hide another? Each of them a part, all of them a bound.
import { LogBudget } from './log-budget.ts';
import type { LogBudgetSize } from './log-budget.ts';

/** So many lines in one window, of which one key has a part. */
export interface KeyedLogBudgetSize extends LogBudgetSize {
  /** Lines of one key in one window. */
  readonly keyLinesMax: number;
  /** Keys that are told apart in one window; further ones share a part. */
  readonly keysMax: number;
}

/** Stands for the keys beyond the last that is told apart. No key of an address. */
const OTHERS = '\0others';

/** A number of lines per window, a part of them per key. */
export class KeyedLogBudget {
  readonly #size: KeyedLogBudgetSize;
  readonly #all: LogBudget;
  readonly #lines = new Map<string, number>();
  #windowStartMs = Number.NEGATIVE_INFINITY;
  #leftOut = 0;

  constructor(size: KeyedLogBudgetSize) {
    this.#size = size;
    this.#all = new LogBudget(size);
  }

  /** How many lines were left out since the last one, or null when this one is to be left out too. `nowMs`: monotonic. */
  take(key: string, nowMs: number): number | null {
    if (nowMs - this.#windowStartMs >= this.#size.windowMs) {
      this.#windowStartMs = nowMs;
      this.#lines.clear();
    }
    const place = this.#lines.has(key) || this.#lines.size < this.#size.keysMax ? key : OTHERS;
    const lines = this.#lines.get(place) ?? 0;
    const leftOutByAll = lines < this.#size.keyLinesMax ? this.#all.take(nowMs) : null;
    if (leftOutByAll === null) {
      this.#leftOut += 1;
      return null;
    }
    this.#lines.set(place, lines + 1);
    const leftOut = this.#leftOut;
    this.#leftOut = 0;
    return leftOut;
  }
}
