// Where does the first, untyped packet of a connection end? (i32 length that counts itself, i32 code, body)
// (src/backend/tcop/backend_startup.c:ProcessStartupPacket)
import { readInt32, readUint32 } from './message-reader.ts';

/** An untyped packet. `body` is what follows the code; a buffer of its own. */
export interface StartupPacket {
  readonly code: number;
  readonly body: Uint8Array;
}

/** MAX_STARTUP_PACKET_LENGTH: bytes after the length word. */
export const STARTUP_PACKET_BYTES_MAX = 10_000;

const LENGTH_WORD_BYTES = 4;
const CODE_BYTES = 4;
/** What strangers send is not kept in twice the room. */
const SPARE_BYTES_MAX = 4_096;
const EMPTY = new Uint8Array(0);

/** Collects untyped packets. One connection may send several (SSLRequest, then StartupMessage). */
export class StartupDecoder {
  #bytes: Uint8Array = EMPTY;
  #start = 0;
  #end = 0;
  #isFailed = false;

  /** Bytes taken in and not given out yet. After an SSLRequest this must be 0, else plain text was smuggled in. */
  get bufferedBytes(): number {
    return this.#end - this.#start;
  }

  /**
   * Takes in `chunk` (copied; may be empty) and gives the next packet, or says that more is needed, or that the length
   * word is not one (then for good). Call again with an empty chunk for a packet that arrived together with this one.
   */
  push(chunk: Uint8Array): StartupPacket | 'more' | 'invalid-length' {
    if (this.#isFailed) return 'invalid-length';
    this.#append(chunk);
    if (this.bufferedBytes < LENGTH_WORD_BYTES) return 'more';
    const bodyBytes = readInt32(this.#bytes, this.#start) - LENGTH_WORD_BYTES;
    if (bodyBytes < CODE_BYTES || bodyBytes > STARTUP_PACKET_BYTES_MAX) {
      this.#isFailed = true;
      return 'invalid-length';
    }
    if (this.bufferedBytes < LENGTH_WORD_BYTES + bodyBytes) return 'more';
    const codeAt = this.#start + LENGTH_WORD_BYTES;
    const end = codeAt + bodyBytes;
    this.#start = end;
    return {
      code: readUint32(this.#bytes, codeAt),
      body: this.#bytes.slice(codeAt + CODE_BYTES, end),
    };
  }

  /** A copy of the bytes not given out yet, for the next decoder. This one is empty afterwards. */
  takeRest(): Uint8Array {
    const rest = this.#bytes.slice(this.#start, this.#end);
    this.#start = 0;
    this.#end = 0;
    return rest;
  }

  #append(chunk: Uint8Array): void {
    if (this.#end + chunk.length > this.#bytes.length) {
      const kept = this.bufferedBytes;
      const needed = kept + chunk.length;
      const grown = new Uint8Array(Math.max(256, needed + Math.min(needed, SPARE_BYTES_MAX)));
      grown.set(this.#bytes.subarray(this.#start, this.#end));
      this.#bytes = grown;
      this.#start = 0;
      this.#end = kept;
    }
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }
}
