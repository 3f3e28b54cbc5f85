// How much time has passed, also while the machine slept? What a browser counts by itself stands still meanwhile on most systems.

/** More than this between two clocks is sleep, or a clock that was set forward; less is their drift. Milliseconds. */
const SLEEP_MS_MIN = 5_000;

/** Milliseconds that only go forward; a wall clock that is wrong, or set back, changes nothing. */
export class WakingClock {
  readonly #steady: () => number;
  readonly #wall: () => number;
  #steadyMs: number;
  #wallMs: number;
  #sleptMs = 0;

  /** `steady` only goes forward, `wall` is that of the machine; both in milliseconds. */
  constructor(steady: () => number, wall: () => number) {
    this.#steady = steady;
    this.#wall = wall;
    this.#steadyMs = steady();
    this.#wallMs = wall();
  }

  /** Now. To be asked at least every few minutes: a drift that adds up would be taken for sleep. */
  now(): number {
    const [steadyMs, wallMs] = [this.#steady(), this.#wall()];
    const sleptMs = wallMs - this.#wallMs - (steadyMs - this.#steadyMs);
    if (sleptMs >= SLEEP_MS_MIN) this.#sleptMs += sleptMs;
    this.#steadyMs = steadyMs;
    this.#wallMs = wallMs;
    return steadyMs + this.#sleptMs;
  }
}
