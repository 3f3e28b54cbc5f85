// How is heavy work of many kept from holding everybody up? One piece of it in a turn of the event loop: of each of those it
// comes from a piece by turns, and theirs in the order in which it came. Whoever has gone meanwhile takes no turn.

/** One queue of work. Its length is bounded by whoever adds to it, and takes back what is not wanted any more. */
export class TurnQueue {
  /** By whom it comes from; whose turn is next stands first. None of them is empty. */
  readonly #waiting = new Map<string, Set<() => void>>();
  #length = 0;
  #isTurnTaken = false;

  /** How many wait. */
  get length(): number {
    return this.#length;
  }

  /**
   * Runs the piece now where nobody was served in this turn, else behind those of its own that wait. What is returned takes
   * it back. `from`: those of one origin have one turn.
   */
  run(piece: () => void, from = ''): () => void {
    // Each has a place of its own, also who asks twice for the same.
    const place = (): void => piece();
    const queue = this.#waiting.get(from);
    if (queue === undefined) this.#waiting.set(from, new Set([place]));
    else queue.add(place);
    this.#length += 1;
    if (!this.#isTurnTaken) this.#serve();
    return () => this.#remove(place, from);
  }

  readonly #onTurn = (): void => {
    this.#isTurnTaken = false;
    this.#serve();
  };

  #serve(): void {
    const [first] = this.#waiting;
    if (first === undefined) return;
    const [from, queue] = first;
    const [next] = queue;
    this.#waiting.delete(from);
    this.#waiting.set(from, queue);
    if (next !== undefined) this.#remove(next, from);
    this.#isTurnTaken = true;
    setImmediate(this.#onTurn);
    next?.();
  }

  #remove(place: () => void, from: string): void {
    const queue = this.#waiting.get(from);
    if (queue?.delete(place) !== true) return;
    this.#length -= 1;
    if (queue.size === 0) this.#waiting.delete(from);
  }
}
