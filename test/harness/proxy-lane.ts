// One direction of a proxied connection: bytes go in whole messages, and come out at once, late, in crumbs, or not at all.
import type { Socket } from 'node:net';
import { systemClock } from '../../src/base/clock.ts';
import type { Timer } from '../../src/base/clock.ts';

/** `hold`: read no more and pass nothing on. `deaf`: that, and closes are kept from the other end too. */
export type LaneMode = 'pass' | 'hold' | 'deaf';

const QUEUED_BYTES_MAX = 4 << 20;

/** Bytes on their way from `source` to `sink`, in order. */
export class Lane {
  /** Each message waits this long, give or take up to `jitterMs`; none overtakes another. */
  delayMs = 0;
  jitterMs = 0;
  /** Bytes handed to the kernel at a time; 0 = whole messages. */
  fragmentBytes = 0;
  readonly #source: Socket;
  readonly #sink: Socket;
  readonly #queue: { bytes: Uint8Array; dueMs: number }[] = [];
  #queuedBytes = 0;
  #mode: LaneMode = 'pass';
  #isFinished = false;
  #isWriting = false;
  #timer: Timer | null = null;

  constructor(source: Socket, sink: Socket) {
    this.#source = source;
    this.#sink = sink;
    sink.on('drain', () => this.#pump());
  }

  get mode(): LaneMode {
    return this.#mode;
  }

  /** True while an end of the source is to be shown to the sink. */
  get passesCloses(): boolean {
    return this.#mode !== 'deaf';
  }

  setMode(mode: LaneMode): void {
    this.#mode = mode;
    if (mode === 'pass') {
      if (this.#source.destroyed) this.#isFinished = true;
      this.#pump();
    } else {
      this.#source.pause();
    }
  }

  /** Takes bytes that came from the source. Keeps them until they are written. */
  push(bytes: Uint8Array): void {
    const jitterMs = this.jitterMs === 0 ? 0 : (2 * Math.random() - 1) * this.jitterMs;
    this.#queue.push({ bytes, dueMs: systemClock.nowMs() + this.delayMs + jitterMs });
    this.#queuedBytes += bytes.length;
    this.#pump();
  }

  /** The source will send no more. */
  finish(): void {
    this.#isFinished = true;
    this.#pump();
  }

  #pump(): void {
    if (this.#mode !== 'pass' || this.#isWriting) return;
    for (let head = this.#queue[0]; head !== undefined; head = this.#queue[0]) {
      const waitMs = head.dueMs - systemClock.nowMs();
      if (waitMs > 0) {
        this.#wait(waitMs);
        break;
      }
      this.#queue.shift();
      this.#queuedBytes -= head.bytes.length;
      if (this.fragmentBytes > 0) {
        this.#writeCrumbs(head.bytes, 0);
        break;
      }
      this.#sink.write(head.bytes);
    }
    if (this.#isFinished && this.#queue.length === 0 && !this.#isWriting) this.#sink.end();
    this.#adjustReading();
  }

  #adjustReading(): void {
    const isFull = this.#queuedBytes + this.#sink.writableLength > QUEUED_BYTES_MAX;
    if (isFull) this.#source.pause();
    else if (this.#mode === 'pass') this.#source.resume();
  }

  #wait(waitMs: number): void {
    this.#timer?.cancel();
    this.#timer = systemClock.setTimer(Math.ceil(waitMs), () => this.#pump());
  }

  // The next crumb goes when the kernel has taken this one, on a turn of its own, so that they travel apart.
  #writeCrumbs(bytes: Uint8Array, from: number): void {
    const until = Math.min(bytes.length, from + Math.max(1, this.fragmentBytes));
    this.#isWriting = true;
    this.#sink.write(bytes.subarray(from, until), (error) => {
      if (error !== null && error !== undefined) return;
      setImmediate(() => {
        if (until < bytes.length) {
          this.#writeCrumbs(bytes, until);
          return;
        }
        this.#isWriting = false;
        this.#pump();
      });
    });
  }
}
