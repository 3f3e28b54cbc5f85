// How is heavy work of many kept from holding everybody up? One piece of it in a turn of the event loop: of each of those it
// comes from a piece by turns, and theirs in the order in which it came. Whoever has gone meanwhile takes no turn.
import { TurnOrder } from './turn-order.ts';

/** One queue of work. Its length is bounded by whoever adds to it, and takes back what is not wanted any more. */
export class TurnQueue {
  readonly #waiting = new TurnOrder();
  #isTurnTaken = false;

  /** How many wait. */
  get length(): number {
    return this.#waiting.length;
  }

  /**
   * Runs the piece now where nobody was served in this turn, else behind those of its own that wait. What is returned takes
   * it back. `from`: those of one origin have one turn.
   */
  run(piece: () => void, from = ''): () => void {
    const takeBack = this.#waiting.add(piece, from);
    if (!this.#isTurnTaken) this.#serve();
    return takeBack;
  }

  readonly #onTurn = (): void => {
    this.#isTurnTaken = false;
    this.#serve();
  };

  #serve(): void {
    const next = this.#waiting.take();
    if (next === undefined) return;
    this.#isTurnTaken = true;
    setImmediate(this.#onTurn);
    next();
  }
}
