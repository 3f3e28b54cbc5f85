// How long did it take, over all times it was done? Plain counters, cheap enough for every flush.
import type { DurationHistogram } from '../status/status.ts';

/** 0.1 ms to 2.5 s: from a fast NVMe drive to a disk that is about to fail. */
const BOUNDS_SECONDS: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
];

/** Counts durations. */
export class DurationCounter {
  readonly #counts: number[] = BOUNDS_SECONDS.map(() => 0).concat(0);
  #sumSeconds = 0;

  observe(seconds: number): void {
    let index = 0;
    while (index < BOUNDS_SECONDS.length && seconds > (BOUNDS_SECONDS[index] ?? 0)) index++;
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    this.#sumSeconds += seconds;
  }

  snapshot(): DurationHistogram {
    return {
      boundsSeconds: BOUNDS_SECONDS,
      counts: [...this.#counts],
      sumSeconds: this.#sumSeconds,
    };
  }
}
