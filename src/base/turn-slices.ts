// How is a crowd served without keeping everybody else waiting? Its work is done in slices: so much in one turn of the
// event loop, the rest in the next ones, in the order in which it came.
import type { Clock } from './clock.ts';

/** One queue of work. Its length is bounded by whoever adds to it. */
export class TurnSlices {
  readonly #clock: Clock;
  readonly #sliceMs: number;
  readonly #waiting: (() => void)[] = [];
  /** When the first piece of this turn began; null before it. */
  #beganAtMs: number | null = null;

  /** `sliceMs`: how long work may take in one turn; a piece that has begun is finished. */
  constructor(options: { clock: Clock; sliceMs: number }) {
    this.#clock = options.clock;
    this.#sliceMs = options.sliceMs;
  }

  /** Runs the piece now where nobody waits and there is time left in this turn, else behind those that wait. */
  run(piece: () => void): void {
    if (this.#waiting.length === 0 && this.#hasTime()) piece();
    else this.#waiting.push(piece);
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
    while (this.#waiting.length > 0 && this.#hasTime()) this.#waiting.shift()?.();
  };
}
