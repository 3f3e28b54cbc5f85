// Where does the next message of an authentication end? Nothing but `p` is one, and its length is bounded.
// (src/backend/libpq/auth.c:recv_password_packet, auth-sasl.c:CheckSASLAuth, pqcomm.c:pq_getmessage)
import { KeptBytes } from './kept-bytes.ts';
import { readInt32 } from './message-reader.ts';

/** PG_MAX_SASL_MESSAGE_LENGTH: the length word of a SASL message at most. */
export const SASL_LENGTH_MAX = 1024;

/** PG_MAX_AUTH_TOKEN_LENGTH: the length word of a password message at most. */
export const PASSWORD_LENGTH_MAX = 65_535;

/** What has come. `body` is a buffer of its own. */
export type AuthenticationInput =
  | { readonly kind: 'more' }
  | { readonly kind: 'message'; readonly body: Uint8Array }
  /** Not a `p`; known from its first byte. */
  | { readonly kind: 'other-type'; readonly type: number }
  | { readonly kind: 'bad-length'; readonly length: number };

const PASSWORD_MESSAGE = 0x70;
const HEADER_BYTES = 5;
const LENGTH_BYTES = 4;

/** Keeps what a client sends until the exchange wants it. After `other-type` and `bad-length` nothing more is to be asked. */
export class AuthenticationDecoder {
  readonly #kept = new KeptBytes();

  /** Bytes kept. */
  get bufferedBytes(): number {
    return this.#kept.length;
  }

  /** Keeps a copy of `chunk`. */
  push(chunk: Uint8Array): void {
    this.#kept.push(chunk);
  }

  /** Takes the next message, whose length word may be `lengthMax`. */
  take(lengthMax: number): AuthenticationInput {
    const bytes = this.#kept.view();
    const [type] = bytes;
    if (type === undefined) return { kind: 'more' };
    if (type !== PASSWORD_MESSAGE) return { kind: 'other-type', type };
    if (bytes.length < HEADER_BYTES) return { kind: 'more' };
    const length = readInt32(bytes, 1);
    if (length < LENGTH_BYTES || length > lengthMax) return { kind: 'bad-length', length };
    const end = 1 + length;
    if (bytes.length < end) return { kind: 'more' };
    this.#kept.drop(end);
    return { kind: 'message', body: bytes.slice(HEADER_BYTES, end) };
  }

  /** A copy of what has not been taken, for the next decoder. This one is empty afterwards. */
  takeRest(): Uint8Array {
    return this.#kept.takeAll();
  }
}
