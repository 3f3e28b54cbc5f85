// Has all of a TLS client's first message arrived, so that answering it is one piece of work? (RFC 8446 sections 4, 5.1)

/** First byte of a TLS handshake record; no length of a startup packet begins with it. (backend_startup.c:ProcessSSLStartup) */
export const TLS_HANDSHAKE_RECORD = 0x16;

/** Bytes of a first message that are waited for: two records. Clients send half a kilobyte; OpenSSL takes no larger one than 128 kB. */
export const CLIENT_HELLO_BYTES_MAX: number = 32_768;

const RECORD_HEADER_BYTES = 5;
const MESSAGE_HEADER_BYTES = 4;
const RECORD_BYTES_MAX = 16_384;
const CLIENT_HELLO = 1;

/**
 * `more`: it is the beginning of one, and not whole. `whole`: all of it is there, or it is too long to be waited for.
 * `other`: it is something else, for OpenSSL to refuse.
 */
export type ClientHelloState = 'more' | 'whole' | 'other';

/** What strangers send is not kept in twice the room. */
const SPARE_BYTES_MAX = 4_096;
const EMPTY = new Uint8Array(0);

/** Collects a first message. No byte is looked at twice, however small the pieces and the records are. */
export class ClientHello {
  #bytes: Uint8Array = EMPTY;
  #length = 0;
  /** Of the first record that is not whole. */
  #offset = 0;
  /** Bytes of the message in the records before it, and the number that the first four of them are. */
  #payload = 0;
  #header = 0;

  /** Takes in `chunk` (copied; may be empty). */
  push(chunk: Uint8Array): ClientHelloState {
    this.#append(chunk);
    if (this.#length >= CLIENT_HELLO_BYTES_MAX) return 'whole';
    let state: ClientHelloState | null = null;
    while (state === null) state = this.#readRecord();
    return state;
  }

  /** All that was taken in, for whoever goes on; this one is empty afterwards. */
  take(): Uint8Array {
    const bytes = this.#bytes.subarray(0, this.#length);
    this.#bytes = EMPTY;
    this.#length = 0;
    return bytes;
  }

  /** Null when there may be another record. */
  #readRecord(): ClientHelloState | null {
    const bytes = this.#bytes;
    const offset = this.#offset;
    if (offset >= this.#length) return 'more';
    if (bytes[offset] !== TLS_HANDSHAKE_RECORD) return 'other';
    const start = offset + RECORD_HEADER_BYTES;
    if (start > this.#length) return 'more';
    const size = ((bytes[offset + 3] ?? 0) << 8) | (bytes[offset + 4] ?? 0);
    if (size === 0 || size > RECORD_BYTES_MAX) return 'other';
    const end = Math.min(start + size, this.#length);
    const payload = this.#payload + end - start;
    let header = this.#header;
    const headerEnd = Math.min(end, start + MESSAGE_HEADER_BYTES - this.#payload);
    for (let at = start; at < headerEnd; at += 1) header = header * 256 + (bytes[at] ?? 0);
    if (payload >= MESSAGE_HEADER_BYTES) {
      if (Math.floor(header / 0x1_00_00_00) !== CLIENT_HELLO) return 'other';
      if (payload >= MESSAGE_HEADER_BYTES + (header % 0x1_00_00_00)) return 'whole';
    }
    if (end < start + size) return 'more';
    this.#offset = end;
    this.#payload = payload;
    this.#header = header;
    return null;
  }

  #append(chunk: Uint8Array): void {
    const needed = this.#length + chunk.length;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(needed + Math.min(needed, SPARE_BYTES_MAX));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(chunk, this.#length);
    this.#length = needed;
  }
}
