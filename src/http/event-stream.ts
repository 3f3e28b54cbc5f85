// What does one subscriber get, and what becomes of a slow one? It is given the next event once it has taken the last one; what it missed
// meanwhile is made up for by a snapshot, so that nothing piles up for it.
import { Readable } from 'node:stream';
import { HTTP_EVENTS_TAKE_MS } from '../config/limits.ts';
import { STREAM_BEGIN } from './event-frames.ts';

/** What there is to tell at one moment. */
export interface Telling {
  /** What changed since the telling before; null: nothing. */
  readonly change: Buffer | null;
  /** Everything, as it is now; made when somebody needs it, shared by all of them. */
  readonly snapshot: () => Buffer;
  /** For whom nothing else is there; null: nobody has to hear anything yet. */
  readonly keepAlive: Buffer | null;
}

/** One subscriber. The bytes that are pushed belong to all of them. */
export class EventStream {
  /** What the answer is made from; destroyed with it. */
  readonly readable: Readable;
  /** The client's network: those of one have a bound of their own. */
  readonly network: string;
  /** Whether it may go on; asked at each telling. */
  readonly isAllowed: () => boolean;
  /** It has to get everything before a change means anything to it. */
  #needsSnapshot = true;
  /** The last event has been taken. */
  #isTaken = true;
  #pushedAtMs = 0;
  #isEnded = false;

  constructor(options: {
    readonly network: string;
    readonly isAllowed: () => boolean;
    readonly onGone: () => void;
  }) {
    this.network = options.network;
    this.isAllowed = options.isAllowed;
    this.readable = new Readable({
      // One event at a time: the next is pushed after it was asked for.
      highWaterMark: 1,
      read: () => void (this.#isTaken = true),
      destroy: (error, done) => {
        options.onGone();
        done(error);
      },
    });
    this.readable.push(STREAM_BEGIN);
  }

  /** Gives it what it has to know, unless it has not taken what it was given; then it has until the deadline for that. */
  tell({ change, snapshot, keepAlive }: Telling, nowMs: number): void {
    if (this.readable.destroyed) return;
    if (!this.#isTaken || this.#isEnded) {
      if (change !== null) this.#needsSnapshot = true;
      if (nowMs - this.#pushedAtMs >= HTTP_EVENTS_TAKE_MS) this.readable.destroy();
      return;
    }
    const frame = this.#needsSnapshot ? snapshot() : (change ?? keepAlive);
    if (frame === null) return;
    this.#needsSnapshot = false;
    this.#push(frame, nowMs);
  }

  /** The last event; what was not taken before it comes first. Again, it changes nothing. */
  end(frame: Buffer, nowMs: number): void {
    if (this.readable.destroyed || this.#isEnded) return;
    this.#isEnded = true;
    this.#push(frame, nowMs);
    this.readable.push(null);
  }

  #push(bytes: Buffer, nowMs: number): void {
    this.#isTaken = false;
    this.#pushedAtMs = nowMs;
    this.readable.push(bytes);
  }
}
