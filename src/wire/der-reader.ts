// What is inside a DER value? The few shapes of X.690 that a certificate is made of, with every length checked.
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';

/** One value. Views of the bytes that were read. */
export interface DerValue {
  /** The identifier octet: class, constructed bit, tag number below 31. */
  readonly tag: number;
  readonly content: Uint8Array;
}

export const DER_BOOLEAN = 0x01;
export const DER_OCTET_STRING = 0x04;
export const DER_OID = 0x06;
export const DER_SEQUENCE = 0x30;
export const DER_SET = 0x31;

/** Longest length in octets of a length: more than any certificate needs. */
const LENGTH_OCTETS_MAX = 4;

/** Reads the values inside a constructed one, in order. Throws {@link ProtocolViolation} 08P01 where they are malformed. */
export class DerReader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#offset >= this.#bytes.length;
  }

  /** The tag of the next value; null at the end. */
  get nextTag(): number | null {
    return this.#bytes[this.#offset] ?? null;
  }

  /** The next value, which must have `tag` where one is given. */
  next(tag?: number): DerValue {
    const found = this.#byte();
    if ((found & 0x1f) === 0x1f || (tag !== undefined && found !== tag)) throw malformed();
    const length = this.#length();
    const end = this.#offset + length;
    if (end > this.#bytes.length) throw malformed();
    const content = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return { tag: found, content };
  }

  /** A reader of what is inside the next value, which must have `tag`. */
  enter(tag: number): DerReader {
    return new DerReader(this.next(tag).content);
  }

  /** Passes over the next value when it has `tag`. */
  skip(tag: number): void {
    if (this.nextTag === tag) this.next();
  }

  /** The next value as an object identifier in dotted form. */
  oid(): string {
    return formatOid(this.next(DER_OID).content);
  }

  #byte(): number {
    const byte = this.#bytes[this.#offset];
    if (byte === undefined) throw malformed();
    this.#offset += 1;
    return byte;
  }

  #length(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    const octets = first & 0x7f;
    if (octets === 0 || octets > LENGTH_OCTETS_MAX) throw malformed();
    let length = 0;
    for (let index = 0; index < octets; index += 1) length = length * 256 + this.#byte();
    return length;
  }
}

function formatOid(content: Uint8Array): string {
  const arcs: number[] = [];
  let arc = 0;
  for (const byte of content) {
    arc = arc * 128 + (byte & 0x7f);
    if (!Number.isSafeInteger(arc)) throw malformed();
    if ((byte & 0x80) !== 0) continue;
    if (arcs.length === 0) {
      const first = Math.min(2, Math.floor(arc / 40));
      arcs.push(first, arc - first * 40);
    } else {
      arcs.push(arc);
    }
    arc = 0;
  }
  const last = content.at(-1);
  if (last === undefined || (last & 0x80) !== 0) throw malformed();
  return arcs.join('.');
}

function malformed(): ProtocolViolation {
  return new ProtocolViolation(SQLSTATE.protocolViolation, 'malformed certificate');
}
