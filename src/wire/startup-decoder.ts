// Where does the first, untyped packet of a connection end? (i32 length that counts itself, i32 code, body)
// (src/backend/tcop/backend_startup.c:ProcessStartupPacket)
import { KeptBytes } from './kept-bytes.ts';
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

/** Collects untyped packets. One connection may send several (SSLRequest, then StartupMessage). */
export class StartupDecoder {
  readonly #kept = new KeptBytes();
  #isFailed = false;

  /** Bytes taken in and not given out yet. After an SSLRequest this must be 0, else plain text was smuggled in. */
  get bufferedBytes(): number {
    return this.#kept.length;
  }

  /**
   * Takes in `chunk` (copied; may be empty) and gives the next packet, or says that more is needed, or that the length
   * word is not one (then for good). Call again with an empty chunk for a packet that arrived together with this one.
   */
  push(chunk: Uint8Array): StartupPacket | 'more' | 'invalid-length' {
    if (this.#isFailed) return 'invalid-length';
    this.#kept.push(chunk);
    const bytes = this.#kept.view();
    if (bytes.length < LENGTH_WORD_BYTES) return 'more';
    const bodyBytes = readInt32(bytes, 0) - LENGTH_WORD_BYTES;
    if (bodyBytes < CODE_BYTES || bodyBytes > STARTUP_PACKET_BYTES_MAX) {
      this.#isFailed = true;
      return 'invalid-length';
    }
    const end = LENGTH_WORD_BYTES + bodyBytes;
    if (bytes.length < end) return 'more';
    this.#kept.drop(end);
    return {
      code: readUint32(bytes, LENGTH_WORD_BYTES),
      body: bytes.slice(LENGTH_WORD_BYTES + CODE_BYTES, end),
    };
  }

  /** A copy of the bytes not given out yet, for the next decoder. This one is empty afterwards. */
  takeRest(): Uint8Array {
    return this.#kept.takeAll();
  }
}
