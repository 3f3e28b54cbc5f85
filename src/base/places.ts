// How many may do something at one time? So many; the others wait in the order in which they came.

/** A fixed number of places. The queue has no bound of its own: who asks has one. */
export class Places {
  readonly #max: number;
  #taken = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  /** Runs `action` when there is a place for it, and gives the place on when that has settled. Settles as `action` does. */
  async run<T>(action: () => Promise<T>): Promise<T> {
    if (this.#taken < this.#max) this.#taken++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await action();
    } finally {
      const next = this.#waiting.shift();
      // The place is handed on, not given back, so that nobody can slip in between.
      if (next === undefined) this.#taken--;
      else next();
    }
  }
}
