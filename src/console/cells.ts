// How is a value of each type written, in text and in binary? Either is made when it is asked for: an answer has tens of thousands
// of values, and needs one form of each. (src/backend/utils/adt: int.c, timestamp.c:timestamptz_out, interval_out, network.c,
// pg_lsn.c, arrayfuncs.c)
import { parseIpAddress } from '../pg/ip-address.ts';
import type { IpAddress } from '../pg/ip-address.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { pgTimestampFromUnixMs } from '../pg/timestamp.ts';
import { TYPE_OID } from '../wire/backend-messages.ts';
import { encodeText, writeUint32, writeUint64 } from '../wire/message-writer.ts';
import type { Cell } from './columns.ts';

/** text or name. */
export function textCell(text: string): Cell {
  return new TextCell(text);
}

/** bool. */
export function boolCell(value: boolean): Cell {
  return value ? TRUE : FALSE;
}

/** text[], of one dimension and without NULLs. (arrayfuncs.c: array_out, array_send) */
export function textArrayCell(values: readonly string[]): Cell {
  return new TextArrayCell(values);
}

/** int4, or oid and xid, which have no sign. */
export function int4Cell(value: number): Cell {
  return new Int4Cell(value);
}

/** int8, of a whole number. */
export function int8Cell(value: number | bigint): Cell {
  return new Int8Cell(value);
}

/** xid: the low half of a full transaction id. */
export function xidCell(fullXid: bigint): Cell {
  return new Int4Cell(Number(fullXid & 0xffffffffn));
}

/** pg_lsn. */
export function lsnCell(lsn: Lsn, padLow: boolean): Cell {
  return new LsnCell(lsn, padLow);
}

/** The years that four digits can write: 0001 to 9999; end exclusive. */
const WRITABLE_FROM_MS = Date.parse('0001-01-01T00:00:00Z');
const WRITABLE_UNTIL_MS = Date.UTC(10_000, 0);

/** timestamptz, in UTC and with ISO dates. Null outside of the years 1 to 9999: a clock that a peer made up. */
export function timestamptzCell(unixMs: number): Cell | null {
  if (!(unixMs >= WRITABLE_FROM_MS && unixMs < WRITABLE_UNTIL_MS)) return null;
  return new TimestamptzCell(unixMs);
}

/** interval, from seconds: microseconds only, never days. */
export function intervalCell(seconds: number): Cell {
  return new IntervalCell(Math.round(seconds * 1e6));
}

/** inet, a single host. Null where the text is no address. */
export function inetCell(text: string): Cell | null {
  const zone = text.indexOf('%');
  const address = zone < 0 ? text : text.slice(0, zone);
  const bytes = parseIpAddress(address);
  return bytes === null ? null : new InetCell(address, bytes);
}

class TextCell implements Cell {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  get rank(): string {
    return this.text;
  }

  binary(): Uint8Array {
    return encodeText(this.text);
  }
}

class BoolCell implements Cell {
  readonly rank: number;

  constructor(value: boolean) {
    this.rank = Number(value);
  }

  get text(): string {
    return this.rank === 1 ? 't' : 'f';
  }

  binary(): Uint8Array {
    return Uint8Array.of(this.rank);
  }
}

const TRUE = new BoolCell(true);
const FALSE = new BoolCell(false);

class Int4Cell implements Cell {
  readonly rank: number;

  constructor(value: number) {
    this.rank = value;
  }

  get text(): string {
    return String(this.rank);
  }

  binary(): Uint8Array {
    const bytes = new Uint8Array(4);
    writeUint32(bytes, 0, this.rank);
    return bytes;
  }
}

class Int8Cell implements Cell {
  readonly rank: number | bigint;

  constructor(value: number | bigint) {
    this.rank = value;
  }

  get text(): string {
    return typeof this.rank === 'bigint' || Number.isSafeInteger(this.rank)
      ? String(this.rank)
      : String(BigInt(this.rank));
  }

  binary(): Uint8Array {
    return int64(BigInt(this.rank));
  }
}

class LsnCell implements Cell {
  readonly rank: Lsn;
  readonly #padsLow: boolean;

  constructor(lsn: Lsn, padLow: boolean) {
    this.rank = lsn;
    this.#padsLow = padLow;
  }

  get text(): string {
    return formatLsn(this.rank, this.#padsLow);
  }

  binary(): Uint8Array {
    return int64(this.rank);
  }
}

const MS_PER_DAY = 86_400_000;

/** The day that was written last: nearly all times of an answer are of one. */
let lastDay: { readonly day: number; readonly text: string } = { day: 0, text: '1970-01-01' };

/** `day`: days since 1970-01-01. */
function dateText(day: number): string {
  if (lastDay.day !== day) {
    lastDay = { day, text: new Date(day * MS_PER_DAY).toISOString().slice(0, 10) };
  }
  return lastDay.text;
}

/** `00:01:40`, of whole seconds; hours may have more than two digits. */
function clockText(seconds: number): string {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return `${twoDigits(hours)}:${twoDigits(minutes)}:${twoDigits(seconds % 60)}`;
}

class TimestamptzCell implements Cell {
  /** Milliseconds since the Unix epoch. */
  readonly rank: number;

  constructor(unixMs: number) {
    this.rank = unixMs;
  }

  /** `2026-01-02 03:04:05.678901+00`, without zeros at the end of the fraction. (datetime.c:EncodeDateTime) */
  get text(): string {
    const ms = Math.floor(this.rank);
    // Whole milliseconds first: far from 1970 a number has no room for microseconds.
    const micros = Math.min(999, Math.round((this.rank - ms) * 1000));
    const day = Math.floor(ms / MS_PER_DAY);
    const inDay = ms - day * MS_PER_DAY;
    const clock = clockText(Math.floor(inDay / 1000));
    return `${dateText(day)} ${clock}${fraction((inDay % 1000) * 1000 + micros)}+00`;
  }

  binary(): Uint8Array {
    return int64(pgTimestampFromUnixMs(this.rank));
  }
}

const MICROS_PER_SECOND = 1_000_000;

class IntervalCell implements Cell {
  /** Microseconds. */
  readonly rank: number;

  constructor(micros: number) {
    this.rank = micros;
  }

  /** `00:00:00.000123`. (datetime.c:EncodeInterval) */
  get text(): string {
    const size = Math.abs(this.rank);
    const micros = size % MICROS_PER_SECOND;
    const seconds = (size - micros) / MICROS_PER_SECOND;
    return `${this.rank < 0 ? '-' : ''}${clockText(seconds)}${fraction(micros)}`;
  }

  binary(): Uint8Array {
    const bytes = new Uint8Array(16);
    writeUint64(bytes, 0, BigInt(this.rank));
    return bytes;
  }
}

const AF_INET = 2;
const AF_INET6 = 3;

class InetCell implements Cell {
  readonly text: string;
  readonly #bytes: IpAddress;

  constructor(text: string, bytes: IpAddress) {
    this.text = text;
    this.#bytes = bytes;
  }

  /** Every address of IPv4 comes before those of IPv6. (network.c:network_cmp_internal) */
  get rank(): string {
    const family = this.#bytes.length === 4 ? '4' : '6';
    return family + Buffer.from(this.#bytes).toString('hex');
  }

  binary(): Uint8Array {
    const { length } = this.#bytes;
    const family = length === 4 ? AF_INET : AF_INET6;
    return Uint8Array.of(family, length * 8, 0, length, ...this.#bytes);
  }
}

class TextArrayCell implements Cell {
  readonly #values: readonly string[];

  constructor(values: readonly string[]) {
    this.#values = values;
  }

  get text(): string {
    return `{${this.#values.map(arrayElement).join(',')}}`;
  }

  get rank(): string {
    return this.text;
  }

  binary(): Uint8Array {
    return textArrayBytes(this.#values);
  }
}

/** Quoted where it could be taken for something else. */
function arrayElement(value: string): string {
  if (value !== '' && !/[{}",\\\s]/.test(value) && value.toUpperCase() !== 'NULL') return value;
  return `"${value.replaceAll(/["\\]/g, '\\$&')}"`;
}

/** Dimensions, whether there are NULLs, type; of the dimension its size and first subscript; then length and bytes of each. */
function textArrayBytes(values: readonly string[]): Uint8Array {
  const elements = values.map(encodeText);
  const isEmpty = elements.length === 0;
  const head = isEmpty ? [0, 0, TYPE_OID.text] : [1, 0, TYPE_OID.text, elements.length, 1];
  const size = elements.reduce((sum, element) => sum + 4 + element.length, 4 * head.length);
  const bytes = new Uint8Array(size);
  let at = 0;
  const put = (value: number): void => {
    writeUint32(bytes, at, value);
    at += 4;
  };
  for (const value of head) put(value);
  for (const element of elements) {
    put(element.length);
    bytes.set(element, at);
    at += element.length;
  }
  return bytes;
}

function int64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  writeUint64(bytes, 0, BigInt.asUintN(64, value));
  return bytes;
}

function twoDigits(value: number): string {
  return value < 10 ? `0${value}` : String(value);
}

function fraction(micros: number): string {
  if (micros === 0) return '';
  return `.${String(micros).padStart(6, '0').replace(/0+$/, '')}`;
}
