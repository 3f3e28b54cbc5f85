// What may not go on in a store at the same time, and nothing of it after the end? A switch of the timeline moves files that
// the release of dead WAL, another switch, and whoever takes the directory over after us would meet.

/** One piece of work after the other, until the end. */
export class StoreTurns {
  #running: Promise<void> | null = null;
  #isOver = false;
  readonly #onRest: () => void;

  /** `onRest` is told each time a piece of work is done, until the end. */
  constructor(onRest: () => void) {
    this.#onRest = onRest;
  }

  /** True while a piece of work is under way. */
  get isBusy(): boolean {
    return this.#running !== null;
  }

  /** No work begins any more. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Resolves when no work is under way, whatever came of it. */
  async settled(): Promise<void> {
    while (this.#running !== null) await this.#running;
  }

  /** Does `work` when what was begun before is done; null, with nothing done, after the end. Rejects as `work` does. */
  async run<T>(work: () => Promise<T>): Promise<T | null> {
    // Here, not in a call: of two that wait, the second looks when the first has begun.
    while (this.#running !== null) await this.#running;
    if (this.#isOver) return null;
    const done = work();
    this.#running = done.then(
      () => this.#rest(),
      () => this.#rest(),
    );
    return await done;
  }

  /** Lets nothing begin any more. Resolves when what is under way is done. */
  async end(): Promise<void> {
    this.#isOver = true;
    await this.settled();
  }

  #rest(): void {
    this.#running = null;
    if (!this.#isOver) this.#onRest();
  }
}
