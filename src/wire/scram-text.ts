// How are the attributes of a SCRAM message read, and what is said of one that cannot be? (RFC 5802, section 7;
// src/backend/libpq/auth-scram.c:read_attr_value, read_any_attr)
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';

/** A message of the exchange that breaks its rules; `detail` is for the client, too. */
export class ScramViolation extends ProtocolViolation {
  readonly detail: string | undefined;

  constructor(sqlstate: string, message: string, detail?: string) {
    super(sqlstate, message);
    this.detail = detail;
  }
}

/** A message that is not what the grammar says; 08P01. */
export function malformedScram(detail: string): ScramViolation {
  return new ScramViolation(SQLSTATE.protocolViolation, 'malformed SCRAM message', detail);
}

/** A SCRAM message, read from left to right. Characters are bytes (latin1), so that nothing is lost on the way to an HMAC. */
export class ScramText {
  readonly #text: string;
  #at = 0;

  private constructor(text: string) {
    this.#text = text;
  }

  /** Throws {@link ScramViolation} for a message without bytes and one with a zero byte. */
  static of(data: Uint8Array): ScramText {
    if (data.length === 0) throw malformedScram('The message is empty.');
    if (data.includes(0)) throw malformedScram('Message length does not match input length.');
    return new ScramText(Buffer.from(data).toString('latin1'));
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  /** The next character, which is not taken; empty at the end. */
  peek(): string {
    return this.#text.charAt(this.#at);
  }

  /** Takes one character. */
  skip(): void {
    this.#at += 1;
  }

  /** All that has not been taken. */
  rest(): string {
    return this.#text.slice(this.#at);
  }

  /** What has been taken, but for its last `count` characters. */
  before(count: number): string {
    return this.#text.slice(0, this.#at - count);
  }

  /** The next character as errors show it. (sanitize_char) */
  shown(): string {
    const code = this.isAtEnd ? 0 : this.#text.charCodeAt(this.#at);
    if (code >= 0x21 && code <= 0x7e) return `'${String.fromCharCode(code)}'`;
    return `0x${code.toString(16).padStart(2, '0')}`;
  }

  /** Takes `name=value` and the comma behind it, and gives the value. Throws {@link ScramViolation} for another attribute. */
  attribute(name: string): string {
    if (this.peek() !== name) {
      throw malformedScram(`Expected attribute "${name}" but found "${this.shown()}".`);
    }
    return this.#value(name);
  }

  /** Takes the next attribute, whatever it is. Throws {@link ScramViolation} where there is none. */
  anyAttribute(): { name: string; value: string } {
    if (this.isAtEnd) throw malformedScram('Attribute expected, but found end of string.');
    const name = this.peek();
    if (!/[A-Za-z]/.test(name)) {
      throw malformedScram(`Attribute expected, but found invalid character "${this.shown()}".`);
    }
    return { name, value: this.#value(name) };
  }

  #value(name: string): string {
    this.skip();
    if (this.peek() !== '=')
      throw malformedScram(`Expected character "=" for attribute "${name}".`);
    this.skip();
    const comma = this.#text.indexOf(',', this.#at);
    const end = comma < 0 ? this.#text.length : comma;
    const value = this.#text.slice(this.#at, end);
    this.#at = comma < 0 ? end : comma + 1;
    return value;
  }
}
