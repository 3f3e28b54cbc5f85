// How is a crowd served without keeping everybody else waiting? Its work is done in slices: so much in one turn of the
// event loop, the rest in the next ones: of each of those it comes from a piece by turns, and theirs in the order in which it
// came. So nobody waits behind all that another one wants.
import type { Clock } from './clock.ts';
import { TurnOrder } from './turn-order.ts';

/** One queue of work. Its length is bounded by whoever adds to it. */
export class TurnSlices {
  readonly #clock: Clock;
  readonly #sliceMs: number;
  readonly #waiting = new TurnOrder();
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
    if (this.#waiting.length === 0 && this.#hasTime()) {
      piece();
      return;
    }
    this.#waiting.add(piece, from);
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
    while (this.#waiting.length > 0 && this.#hasTime()) this.#waiting.take()?.();
  };
}
