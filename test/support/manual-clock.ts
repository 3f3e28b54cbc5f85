// A clock that stands still until a test moves it.
import type { Clock, Timer } from '../../src/base/clock.ts';

interface Pending {
  readonly atMs: number;
  readonly callback: () => void;
}

/** Timers fire in order of time, inside `advance`. */
export class ManualClock implements Clock {
  #nowMs = 1_000_000;
  #pending: Pending[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  /** 2025-01-01 00:00 UTC plus the time that was let pass. */
  wallMs(): number {
    return 1_735_689_600_000 + this.#nowMs - 1_000_000;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const pending = { atMs: this.#nowMs + delayMs, callback };
    this.#pending.push(pending);
    return {
      cancel: () => {
        this.#pending = this.#pending.filter((other) => other !== pending);
      },
    };
  }

  /** Milliseconds until the next timer fires; null when none is set. */
  nextTimerMs(): number | null {
    if (this.#pending.length === 0) return null;
    return Math.min(...this.#pending.map((pending) => pending.atMs)) - this.#nowMs;
  }

  /** The same of each timer that is set. */
  timersMs(): number[] {
    return this.#pending.map((pending) => pending.atMs - this.#nowMs);
  }

  /** The process did not run for `ms`: what was due meanwhile fires now, late. */
  jump(ms: number): void {
    this.#nowMs += ms;
    this.advance(0);
  }

  /** Time passes while nothing runs, as between SIGSTOP and SIGCONT: timers that are due fire in the next `advance`. */
  skip(ms: number): void {
    this.#nowMs += ms;
  }

  /** Lets time pass. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const due = this.#pending.filter((pending) => pending.atMs <= endMs);
      const first = due.toSorted((a, b) => a.atMs - b.atMs)[0];
      if (first === undefined) break;
      this.#pending = this.#pending.filter((pending) => pending !== first);
      this.#nowMs = Math.max(this.#nowMs, first.atMs);
      first.callback();
    }
    this.#nowMs = endMs;
  }
}
