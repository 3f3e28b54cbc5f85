// How is heavy work of many kept from holding everybody up? One piece of it in a turn of the event loop, in the order in
// which it came; whoever has gone meanwhile takes no turn.

/** One queue of work. Its length is bounded by whoever adds to it, and takes back what is not wanted any more. */
export class TurnQueue {
  readonly #waiting = new Set<() => void>();
  #isTurnTaken = false;

  /** How many wait. */
  get length(): number {
    return this.#waiting.size;
  }

  /** Runs the piece now where nobody was served in this turn, else behind those that wait. What is returned takes it back. */
  run(piece: () => void): () => void {
    // Each has a place of its own, also who asks twice for the same.
    const place = (): void => piece();
    this.#waiting.add(place);
    if (!this.#isTurnTaken) this.#serve();
    return () => {
      this.#waiting.delete(place);
    };
  }

  readonly #onTurn = (): void => {
    this.#isTurnTaken = false;
    this.#serve();
  };

  #serve(): void {
    const [next] = this.#waiting;
    if (next === undefined) return;
    this.#waiting.delete(next);
    this.#isTurnTaken = true;
    setImmediate(this.#onTurn);
    next();
  }
}
