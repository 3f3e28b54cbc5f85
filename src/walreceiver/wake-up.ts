// When does something have to be looked at next? One timer for many times: it fires at the earliest, or before, and
// whoever is woken looks again at all of them.
import type { Clock, Timer } from '../base/clock.ts';

/** One timer. */
export class WakeUp {
  readonly #clock: Clock;
  readonly #onWake: () => void;
  #armed: { readonly atMs: number; readonly timer: Timer } | null = null;

  constructor(clock: Clock, onWake: () => void) {
    this.#clock = clock;
    this.#onWake = onWake;
  }

  /** Something is due at one of `times` (monotonic milliseconds, null: never). A timer that fires before that stays. */
  arm(times: readonly (number | null)[]): void {
    const known = times.filter((time) => time !== null);
    if (known.length === 0) return;
    const atMs = Math.min(...known);
    if (this.#armed !== null && this.#armed.atMs <= atMs) return;
    this.cancel();
    const delayMs = Math.max(0, atMs - this.#clock.nowMs());
    const timer = this.#clock.setTimer(delayMs, () => {
      this.#armed = null;
      this.#onWake();
    });
    this.#armed = { atMs, timer };
  }

  /** Nobody is woken until it is armed again. */
  cancel(): void {
    this.#armed?.timer.cancel();
    this.#armed = null;
  }
}
