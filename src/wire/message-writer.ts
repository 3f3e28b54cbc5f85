// Builds one message: type byte, length word, fields. Used for control messages only; WAL is never copied through here.

const encoder = new TextEncoder();

/** Text as UTF-8. */
export function encodeText(text: string): Uint8Array {
  return encoder.encode(text);
}

/** Collects the fields of one message; `finish` gives the bytes away, the writer keeps nothing. */
export class MessageWriter {
  #bytes: Uint8Array = new Uint8Array(128);
  #length: number;
  readonly #lengthAt: number;

  /** `type` is the message's letter; null for the untyped packets of the startup phase. */
  constructor(type: string | null) {
    this.#lengthAt = type === null ? 0 : 1;
    this.#length = this.#lengthAt + 4;
    if (type !== null) this.#bytes[0] = type.charCodeAt(0);
  }

  byte(value: number): this {
    const offset = this.#reserve(1);
    this.#bytes[offset] = value;
    return this;
  }

  int16(value: number): this {
    const offset = this.#reserve(2);
    this.#bytes[offset] = value >>> 8;
    this.#bytes[offset + 1] = value;
    return this;
  }

  /** 32 bits, signed or unsigned. */
  int32(value: number): this {
    // Reserved first: it may put another buffer in the place of #bytes.
    const offset = this.#reserve(4);
    writeUint32(this.#bytes, offset, value);
    return this;
  }

  /** 64 bits, signed or unsigned. */
  int64(value: bigint): this {
    const offset = this.#reserve(8);
    writeUint64(this.#bytes, offset, value);
    return this;
  }

  bytes(value: Uint8Array): this {
    const offset = this.#reserve(value.length);
    this.#bytes.set(value, offset);
    return this;
  }

  /** UTF-8 and a NUL. As in C, a string ends at its first NUL. */
  cstring(text: string): this {
    const nul = text.indexOf('\0');
    return this.bytes(encodeText(nul < 0 ? text : text.slice(0, nul))).byte(0);
  }

  /** The whole message; a buffer of its own. */
  finish(): Uint8Array {
    writeUint32(this.#bytes, this.#lengthAt, this.#length - this.#lengthAt);
    return this.#bytes.slice(0, this.#length);
  }

  #reserve(count: number): number {
    const offset = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    return offset;
  }
}

/** Writes 32 bits at `offset`. */
export function writeUint32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}

/** Writes 64 bits at `offset`. */
export function writeUint64(bytes: Uint8Array, offset: number, value: bigint): void {
  writeUint32(bytes, offset, Number((value >> 32n) & 0xffffffffn));
  writeUint32(bytes, offset + 4, Number(value & 0xffffffffn));
}
