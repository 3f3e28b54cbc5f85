// Where in a stream of backend messages are we? Follows message borders without collecting messages: what passes
// through a tunnel is looked at, not taken apart.
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';

const HEADER_BYTES = 5;
const LETTER_READY = 0x5a;
const LETTER_ERROR = 0x45;

/** Follows one stream. */
export class MessageScanner {
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerFilled = 0;
  #bodyLeft = 0;
  #hasSeenError = false;

  /** True between two messages. */
  get isAtBoundary(): boolean {
    return this.#headerFilled === 0;
  }

  /** True once an ErrorResponse has passed. */
  get hasSeenError(): boolean {
    return this.#hasSeenError;
  }

  /**
   * Follows `chunk` up to the end of the first ReadyForQuery. Returns how many bytes that is, or -1 when the whole chunk
   * has passed without one. Throws ProtocolViolation when there is no message.
   */
  passReady(chunk: Uint8Array): number {
    let position = 0;
    while (position < chunk.length) {
      position += this.#headerFilled < HEADER_BYTES ? this.#readHeader(chunk, position) : 0;
      if (this.#headerFilled < HEADER_BYTES) return -1;
      const count = Math.min(this.#bodyLeft, chunk.length - position);
      position += count;
      this.#bodyLeft -= count;
      if (this.#bodyLeft > 0) return -1;
      this.#headerFilled = 0;
      if (this.#header[0] === LETTER_READY) return position;
      if (this.#header[0] === LETTER_ERROR) this.#hasSeenError = true;
    }
    return -1;
  }

  #readHeader(chunk: Uint8Array, position: number): number {
    const count = Math.min(HEADER_BYTES - this.#headerFilled, chunk.length - position);
    this.#header.set(chunk.subarray(position, position + count), this.#headerFilled);
    this.#headerFilled += count;
    if (this.#headerFilled === HEADER_BYTES) {
      const length = new DataView(this.#header.buffer).getInt32(1);
      if (length < 4) {
        throw new ProtocolViolation(
          SQLSTATE.protocolViolation,
          `invalid message length ${length} from the upstream server`,
        );
      }
      this.#bodyLeft = length - 4;
    }
    return count;
  }
}
