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

  /** Shows `label`, at 0 when nothing was counted for it. */
  open(label: string): void {
    if (!this.#totals.has(label)) this.#totals.set(label, 0);
  }

  /** True when source `key` has counted something that was not told yet. */
  hasGrown(key: string, value: number): boolean {
    return value !== (this.#lastSeen.get(key) ?? 0);
  }

  /** Drops labels that are no longer shown. */
  keepLabels(isShown: (label: string) => boolean): void {
    for (const label of this.#totals.keys()) if (!isShown(label)) this.#totals.delete(label);
  }

  totals(): Iterable<readonly [label: string, total: number]> {
    return this.#totals;
  }
}
