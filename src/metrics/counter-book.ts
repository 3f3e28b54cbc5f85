// Turns counters that end with a session into counters that never go back.

/** Totals per label, fed with the running values of any number of sessions. */
export class CounterBook {
  readonly #totals = new Map<string, number>();
  readonly #lastSeen = new Map<string, number>();

  /** `value` is what source `key` counts by now; what it counted since the last call goes to `label`. */
  advance(key: string, label: string, value: number): void {
    const before = this.#lastSeen.get(key) ?? 0;
    const growth = value >= before ? value - before : value;
    this.#lastSeen.set(key, value);
    this.#totals.set(label, (this.#totals.get(label) ?? 0) + growth);
  }

  /** True when source `key` has counted something that was not told yet. */
  hasGrown(key: string, value: number): boolean {
    return value !== (this.#lastSeen.get(key) ?? 0);
  }

  /** Forgets sources that are gone; their share of the totals stays. */
  keepSources(isAlive: (key: string) => boolean): void {
    for (const key of this.#lastSeen.keys()) if (!isAlive(key)) this.#lastSeen.delete(key);
  }

  /** Drops labels that are no longer shown. */
  keepLabels(isShown: (label: string) => boolean): void {
    for (const label of this.#totals.keys()) if (!isShown(label)) this.#totals.delete(label);
  }

  totals(): Iterable<readonly [label: string, total: number]> {
    return this.#totals;
  }
}
