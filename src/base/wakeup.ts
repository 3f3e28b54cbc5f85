// One timer that is asked for ever new times: only an earlier one costs anything.
import type { Clock, Timer } from './clock.ts';

/** Calls `onWake` at or shortly after the earliest time asked for; that may be sooner than still needed. */
export class Wakeup {
  readonly #clock: Clock;
  readonly #onWake: () => void;
  #timer: Timer | null = null;
  #atMs = Number.POSITIVE_INFINITY;

  constructor(clock: Clock, onWake: () => void) {
    this.#clock = clock;
    this.#onWake = onWake;
  }

  /** Makes sure of a call at `atMs` (monotonic; infinity = not needed). A later time than one already asked for changes nothing. */
  ensure(atMs: number): void {
    if (atMs >= this.#atMs) return;
    this.#timer?.cancel();
    this.#atMs = atMs;
    this.#timer = this.#clock.setTimer(Math.max(0, atMs - this.#clock.nowMs()), () => {
      this.#timer = null;
      this.#atMs = Number.POSITIVE_INFINITY;
      this.#onWake();
    });
  }

  /** No more calls. */
  cancel(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#atMs = Number.POSITIVE_INFINITY;
  }
}
