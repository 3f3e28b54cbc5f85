// Who wants to know that there is more WAL to send? Told once per turn of the event loop, after all reads of that turn,
// so that several messages of one burst are one pump of all standbys.

/** Listeners of one event that may be raised often and is delivered rarely. */
export class AdvanceSignal {
  readonly #listeners = new Set<() => void>();
  #isDue = false;

  /** Adds a listener; returns the way to remove it. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** All listeners will be called once, in this turn of the event loop, after its I/O. */
  raise(): void {
    if (this.#isDue || this.#listeners.size === 0) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      for (const listener of this.#listeners) listener();
    });
  }
}
