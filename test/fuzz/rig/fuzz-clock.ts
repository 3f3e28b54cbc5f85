// A clock that moves when an input says so, and knows which timers are left: a session that is over has none.
import type { Clock, Timer } from '../../../src/base/clock.ts';

interface Pending {
  readonly atMs: number;
  readonly callback: () => void;
}

/** Timers fire in order of time, inside `advance`. */
export class FuzzClock implements Clock {
  #nowMs = 1_000_000;
  readonly #pending = new Set<Pending>();

  get timers(): number {
    return this.#pending.size;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return 1_735_689_600_000 + this.#nowMs;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const pending = { atMs: this.#nowMs + Math.max(0, delayMs), callback };
    this.#pending.add(pending);
    return { cancel: () => void this.#pending.delete(pending) };
  }

  /** Milliseconds until the next timer; null when there is none. */
  nextMs(): number | null {
    let least = Number.POSITIVE_INFINITY;
    for (const { atMs } of this.#pending) least = Math.min(least, atMs);
    return least === Number.POSITIVE_INFINITY ? null : Math.max(0, least - this.#nowMs);
  }

  /** As much time passes. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (let round = 0; round < 10_000; round += 1) {
      let first: Pending | null = null;
      for (const pending of this.#pending) {
        if (pending.atMs <= untilMs && (first === null || pending.atMs < first.atMs))
          first = pending;
      }
      if (first === null) {
        this.#nowMs = untilMs;
        return;
      }
      this.#pending.delete(first);
      this.#nowMs = Math.max(this.#nowMs, first.atMs);
      first.callback();
    }
    throw new Error('timers fire without an end');
  }
}
