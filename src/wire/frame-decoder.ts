// Where does one message end and the next begin? Cuts typed messages (u8 type, i32 length that counts itself, body)
// out of chunks that are cut anywhere.
//
// Ownership of bytes, for the whole program: a body given out is a view that is valid until the next chunk is pushed;
// who keeps it copies it. A body that lies whole inside a chunk is a view of that chunk and is not copied; one that was
// cut is assembled, each byte copied once. The only keeper on the hot path is the tail of the WAL store.
import { invariant } from '../base/errors.ts';
import { readInt32 } from './message-reader.ts';

export { StartupDecoder } from './startup-decoder.ts';
export type { StartupPacket } from './startup-decoder.ts';

/** Takes one message. `body` is a view, valid until the next push. */
export type FrameHandler = (type: number, body: Uint8Array) => void;

/** Why a byte stream is no stream of messages. `length` is the length word as sent, signed. */
export interface FrameFailure {
  readonly kind: 'bad-length' | 'bad-type';
  readonly type: number;
  readonly length: number;
}

const HEADER_BYTES = 5;
const ASSEMBLY_BYTES_MIN = 512;
const EMPTY = new Uint8Array(0);

/** Cuts messages out of chunks, in linear time however they are cut. */
export class FrameDecoder {
  readonly #lengthMax: (type: number) => number;
  readonly #header: Uint8Array = new Uint8Array(HEADER_BYTES);
  #headerFilled = 0;
  #bodyLength = 0;
  #bodyFilled = 0;
  // Two buffers in turn: the frame completed by this chunk may still be looked at while the frame that the same
  // chunk leaves unfinished is being collected.
  #assembly: Uint8Array = EMPTY;
  #spare: Uint8Array = EMPTY;
  #input: Uint8Array = EMPTY;
  #position = 0;
  #ownsInput = true;
  #isPushing = false;
  #isStopped = false;
  #failure: FrameFailure | null = null;

  /**
   * `lengthMax` gives the longest length word accepted for a type, asked before anything is allocated; 0 = no such
   * type here, which is a failure.
   */
  constructor(lengthMax: (type: number) => number) {
    this.#lengthMax = lengthMax;
  }

  /** Set once the bytes make no sense; stays set, and nothing is decoded any more. */
  get failure(): FrameFailure | null {
    return this.#failure;
  }

  /** Bytes taken in and not given out yet. */
  get bufferedBytes(): number {
    return this.#headerFilled + this.#bodyFilled + this.#input.length - this.#position;
  }

  /**
   * Takes in `chunk` (after what a stop left over) and calls `handler` once per complete message, in order. The chunk
   * belongs to the caller again when this returns; bytes that are still needed have been copied.
   */
  push(chunk: Uint8Array, handler: FrameHandler): void {
    invariant(!this.#isPushing, 'FrameDecoder.push called by its own handler');
    if (this.#failure !== null) return;
    this.#takeInput(chunk);
    this.#isPushing = true;
    this.#isStopped = false;
    try {
      while (!this.#isStopped && this.#failure === null && this.#step(handler));
    } finally {
      this.#isPushing = false;
      this.#settleInput();
    }
  }

  /** Takes in `chunk` behind what a stop left over, without decoding it. The chunk belongs to the caller again. */
  hold(chunk: Uint8Array): void {
    invariant(!this.#isPushing, 'FrameDecoder.hold called by its own handler');
    if (this.#failure !== null) return;
    this.#takeInput(chunk);
    this.#settleInput();
  }

  /** Called by a handler: the bytes behind the current message stay unread, for {@link takeRest} or the next push. */
  stop(): void {
    this.#isStopped = true;
  }

  /** A copy of all bytes not given out yet, for another decoder. This one is empty afterwards. */
  takeRest(): Uint8Array {
    const rest = new Uint8Array(this.bufferedBytes);
    rest.set(this.#header.subarray(0, this.#headerFilled));
    rest.set(this.#assembly.subarray(0, this.#bodyFilled), this.#headerFilled);
    rest.set(this.#input.subarray(this.#position), this.#headerFilled + this.#bodyFilled);
    this.#headerFilled = 0;
    this.#bodyFilled = 0;
    this.#input = EMPTY;
    this.#position = 0;
    return rest;
  }

  #takeInput(chunk: Uint8Array): void {
    if (this.#position === this.#input.length) {
      this.#input = chunk;
      this.#position = 0;
      this.#ownsInput = false;
    } else if (chunk.length > 0) {
      const left = this.#input.length - this.#position;
      const joined = new Uint8Array(left + chunk.length);
      joined.set(this.#input.subarray(this.#position));
      joined.set(chunk, left);
      this.#input = joined;
      this.#position = 0;
      this.#ownsInput = true;
    }
  }

  #settleInput(): void {
    if (this.#failure !== null || this.#position === this.#input.length) {
      this.#input = EMPTY;
      this.#position = 0;
    } else if (!this.#ownsInput) {
      this.#input = new Uint8Array(this.#input.subarray(this.#position));
      this.#position = 0;
      this.#ownsInput = true;
    }
  }

  /** Goes one message or one part of a message further; false when the input is used up or senseless. */
  #step(handler: FrameHandler): boolean {
    if (this.#headerFilled < HEADER_BYTES) {
      const left = this.#input.length - this.#position;
      if (this.#headerFilled > 0 || left < HEADER_BYTES) return this.#collectHeader();
      return this.#wholeOrBegin(handler, left);
    }
    return this.#collectBody(handler);
  }

  /** The usual case: the header lies in the input. Hands out the body as a view, or begins to collect it. */
  #wholeOrBegin(handler: FrameHandler, left: number): boolean {
    const input = this.#input;
    const start = this.#position;
    const type = input[start] ?? 0;
    const length = readInt32(input, start + 1);
    if (!this.#isAcceptable(type, length)) return false;
    if (left <= length) {
      this.#header.set(input.subarray(start, start + HEADER_BYTES));
      this.#headerFilled = HEADER_BYTES;
      this.#position = start + HEADER_BYTES;
      this.#beginBody(length - 4);
      return true;
    }
    this.#position = start + 1 + length;
    handler(type, input.subarray(start + HEADER_BYTES, this.#position));
    return true;
  }

  #collectHeader(): boolean {
    const input = this.#input;
    while (this.#headerFilled < HEADER_BYTES && this.#position < input.length) {
      this.#header[this.#headerFilled] = input[this.#position] ?? 0;
      this.#headerFilled += 1;
      this.#position += 1;
    }
    if (this.#headerFilled < HEADER_BYTES) return false;
    const length = readInt32(this.#header, 1);
    if (!this.#isAcceptable(this.#header[0] ?? 0, length)) return false;
    this.#beginBody(length - 4);
    return true;
  }

  #isAcceptable(type: number, length: number): boolean {
    const max = this.#lengthMax(type);
    if (length >= 4 && length <= max) return true;
    this.#failure = { kind: max === 0 ? 'bad-type' : 'bad-length', type, length };
    this.#headerFilled = 0;
    return false;
  }

  #beginBody(bodyLength: number): void {
    this.#bodyLength = bodyLength;
    this.#bodyFilled = 0;
    if (this.#assembly.length >= bodyLength) return;
    this.#assembly = new Uint8Array(Math.max(bodyLength, ASSEMBLY_BYTES_MIN));
  }

  #collectBody(handler: FrameHandler): boolean {
    const count = Math.min(
      this.#bodyLength - this.#bodyFilled,
      this.#input.length - this.#position,
    );
    this.#copyToAssembly(count);
    if (this.#bodyFilled < this.#bodyLength) return false;
    const complete = this.#assembly;
    this.#assembly = this.#spare;
    this.#spare = complete;
    this.#headerFilled = 0;
    this.#bodyFilled = 0;
    handler(this.#header[0] ?? 0, complete.subarray(0, this.#bodyLength));
    return true;
  }

  #copyToAssembly(count: number): void {
    const input = this.#input;
    const start = this.#position;
    this.#assembly.set(input.subarray(start, start + count), this.#bodyFilled);
    this.#bodyFilled += count;
    this.#position = start + count;
  }
}
