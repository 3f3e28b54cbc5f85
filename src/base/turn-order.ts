// Who is next? Of each of those that work comes from a piece by turns, and theirs in the order in which it came: nobody
// waits behind all that another one wants.

/** What waits. Its length is bounded by whoever adds to it. */
export class TurnOrder {
  /** By whom it comes from; whose turn is next stands first. None of them is empty. */
  readonly #waiting = new Map<string, Set<() => void>>();
  #length = 0;

  /** How many wait. */
  get length(): number {
    return this.#length;
  }

  /** Puts the piece behind those of its own. What is returned takes it back; later than its turn that does nothing. */
  add(piece: () => void, from: string): () => void {
    // Each has a place of its own, also who asks twice for the same.
    const place = (): void => piece();
    const queue = this.#waiting.get(from);
    if (queue === undefined) this.#waiting.set(from, new Set([place]));
    else queue.add(place);
    this.#length += 1;
    return () => this.#remove(place, from);
  }

  /** Takes the next one; undefined when nobody waits. */
  take(): (() => void) | undefined {
    const [first] = this.#waiting;
    if (first === undefined) return undefined;
    const [from, queue] = first;
    const [next] = queue;
    this.#waiting.delete(from);
    this.#waiting.set(from, queue);
    if (next !== undefined) this.#remove(next, from);
    return next;
  }

  #remove(place: () => void, from: string): void {
    const queue = this.#waiting.get(from);
    if (queue?.delete(place) !== true) return;
    this.#length -= 1;
    if (queue.size === 0) this.#waiting.delete(from);
  }
}
