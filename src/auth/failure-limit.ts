// How long does a wrong password wait for its answer? The longer the more of them came from one network lately. A right one
// never waits: whoever shares a network with a guesser is not shut out. Pure.

/** How failures are counted and what they cost. */
export interface FailureLimitSize {
  /** Failures of one network that are answered at once. */
  readonly freeMax: number;
  /** What each further one adds to the wait. */
  readonly stepMs: number;
  /** The longest wait. */
  readonly delayMsMax: number;
  /** After how long one failure is forgotten. */
  readonly forgiveMs: number;
  /** Networks that are told apart; further ones are counted together. */
  readonly networksMax: number;
}

interface Failures {
  /** How many were not forgiven yet at `atMs`. */
  count: number;
  atMs: number;
}

/** Stands for the networks beyond the last that is told apart. */
const OTHERS = '\0others';

/** Failures per network. */
export class FailureLimit {
  readonly #size: FailureLimitSize;
  readonly #failures = new Map<string, Failures>();

  constructor(size: FailureLimitSize) {
    this.#size = size;
  }

  /** Counts a failure; gives the milliseconds that its answer has to wait. `nowMs`: monotonic. */
  failed(network: string, nowMs: number): number {
    const { freeMax, stepMs, delayMsMax } = this.#size;
    const key = this.#keyOf(network, nowMs);
    // More are not counted than are forgiven within a bounded time.
    const countMax = freeMax + Math.ceil(delayMsMax / stepMs);
    const count = Math.min(countMax, this.#remaining(key, nowMs) + 1);
    this.#failures.set(key, { count, atMs: nowMs });
    return Math.min(delayMsMax, Math.max(0, count - freeMax) * stepMs);
  }

  /** Failures not forgiven yet; a place that is not needed any more is given back. */
  #remaining(key: string, nowMs: number): number {
    const failures = this.#failures.get(key);
    if (failures === undefined) return 0;
    const remaining = failures.count - (nowMs - failures.atMs) / this.#size.forgiveMs;
    if (remaining > 0) return remaining;
    this.#failures.delete(key);
    return 0;
  }

  #keyOf(network: string, nowMs: number): string {
    const { networksMax } = this.#size;
    if (this.#failures.has(network) || this.#failures.size < networksMax) return network;
    for (const known of this.#failures.keys()) this.#remaining(known, nowMs);
    return this.#failures.size < networksMax ? network : OTHERS;
  }
}
