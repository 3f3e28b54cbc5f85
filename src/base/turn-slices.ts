// How is a crowd served without keeping everybody else waiting? Its work is done in slices: so much in one turn of the
// event loop, the rest in the next ones: of each of those it comes from a piece by turns, and theirs in the order in which it
// came. So nobody waits behind all that another one wants.
import type { Clock } from './clock.ts';

/** One queue of work. Its length is bounded by whoever adds to it. */
export class TurnSlices {
  readonly #clock: Clock;
  readonly #sliceMs: number;
  /** By whom it comes from; whose turn is next stands first. */
  readonly #waiting = new Map<string, (() => void)[]>();
  /** When the first piece of this turn began; null before it. */
  #beganAtMs: number | null = null;

  /** `sliceMs`: how long work may take in one turn; a piece that has begun is finished. */
  constructor(options: { clock: Clock; sliceMs: number }) {
    this.#clock = options.clock;
    this.#sliceMs = options.sliceMs;
  }

  /**
   * Runs the piece now where nobody waits and there is time left in this turn, else behind those of its own that wait.
   * `from`: those of one origin have one turn.
   */
  run(piece: () => void, from = ''): void {
    if (this.#waiting.size === 0 && this.#hasTime()) {
      piece();
      return;
    }
    const queue = this.#waiting.get(from);
    if (queue === undefined) this.#waiting.set(from, [piece]);
    else queue.push(piece);
  }

  #hasTime(): boolean {
    const nowMs = this.#clock.nowMs();
    if (this.#beganAtMs !== null) return nowMs - this.#beganAtMs < this.#sliceMs;
    this.#beganAtMs = nowMs;
    setImmediate(this.#onTurn);
    return true;
  }

  /** The turn's input has been read: what waits gets the next slice. */
  readonly #onTurn = (): void => {
    this.#beganAtMs = null;
    while (this.#waiting.size > 0 && this.#hasTime()) this.#next()?.();
  };

  #next(): (() => void) | undefined {
    const [first] = this.#waiting;
    if (first === undefined) return undefined;
    const [from, queue] = first;
    const piece = queue.shift();
    this.#waiting.delete(from);
    if (queue.length > 0) this.#waiting.set(from, queue);
    return piece;
  }
}
