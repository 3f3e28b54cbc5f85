// Reads the fields of one message body, in order, with PostgreSQL's own complaints when it is too short or malformed.
// (src/backend/libpq/pqformat.c)
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** Bytes as text: UTF-8, invalid sequences as U+FFFD. Copies. */
export function decodeText(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** The unsigned 32-bit integer at `offset`. The caller has checked the bounds. */
export function readUint32(bytes: Uint8Array, offset: number): number {
  const high = ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0);
  const low = ((bytes[offset + 2] ?? 0) << 8) | (bytes[offset + 3] ?? 0);
  return high * 0x10000 + low;
}

/** The signed 32-bit integer at `offset`. The caller has checked the bounds. */
export function readInt32(bytes: Uint8Array, offset: number): number {
  return readUint32(bytes, offset) | 0;
}

/** The unsigned 64-bit integer at `offset`. The caller has checked the bounds. */
export function readUint64(bytes: Uint8Array, offset: number): bigint {
  return (BigInt(readUint32(bytes, offset)) << 32n) | BigInt(readUint32(bytes, offset + 4));
}

/** A cursor over one message body. It owns nothing: byte fields are views of the body. */
export class MessageReader {
  readonly #body: Uint8Array;
  #offset: number;

  constructor(body: Uint8Array, offset = 0) {
    this.#body = body;
    this.#offset = offset;
  }

  get remaining(): number {
    return this.#body.length - this.#offset;
  }

  /** pq_getmsgbyte. Throws {@link ProtocolViolation} 08P01. */
  byte(): number {
    const value = this.#body[this.#offset];
    if (value === undefined) throw violation('no data left in message');
    this.#offset += 1;
    return value;
  }

  /** Signed 16-bit integer. */
  int16(): number {
    const offset = this.#take(2);
    return ((((this.#body[offset] ?? 0) << 8) | (this.#body[offset + 1] ?? 0)) << 16) >> 16;
  }

  /** Signed 32-bit integer. */
  int32(): number {
    return readInt32(this.#body, this.#take(4));
  }

  /** Unsigned 32-bit integer. */
  uint32(): number {
    return readUint32(this.#body, this.#take(4));
  }

  /** Unsigned 64-bit integer. */
  uint64(): bigint {
    return readUint64(this.#body, this.#take(8));
  }

  /** `length` bytes as a view of the body; a negative length is as bad as one that is too long. */
  bytes(length: number): Uint8Array {
    const offset = this.#take(length);
    return this.#body.subarray(offset, offset + length);
  }

  /** Everything that is left, as a view of the body. */
  rest(): Uint8Array {
    return this.bytes(this.remaining);
  }

  /** pq_getmsgrawstring: text up to a NUL. Throws `invalid string in message` when there is none. */
  cstring(): string {
    const end = this.#body.indexOf(0, this.#offset);
    if (end < 0) throw violation('invalid string in message');
    const text = decodeText(this.#body.subarray(this.#offset, end));
    this.#offset = end + 1;
    return text;
  }

  /** pq_getmsgend: throws `invalid message format` when bytes are left. */
  end(): void {
    if (this.remaining !== 0) throw violation('invalid message format');
  }

  #take(length: number): number {
    const offset = this.#offset;
    if (length < 0 || length > this.#body.length - offset) {
      throw violation('insufficient data left in message');
    }
    this.#offset = offset + length;
    return offset;
  }
}

function violation(message: string): ProtocolViolation {
  return new ProtocolViolation(SQLSTATE.protocolViolation, message);
}
