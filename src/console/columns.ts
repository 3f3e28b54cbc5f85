// Which columns does a result have, and how is a value of each type written, in text and in binary?
// (src/backend/utils/adt: int.c, timestamp.c:timestamptz_out, interval_out, network.c, pg_lsn.c)
import { parseIpAddress } from '../pg/ip-address.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { pgTimestampFromUnixMs } from '../pg/timestamp.ts';
import { TYPE_OID } from '../wire/backend-messages.ts';
import type { ColumnDescription } from '../wire/backend-messages.ts';
import { encodeText, writeUint32, writeUint64 } from '../wire/message-writer.ts';

/** A type of a column. */
export interface ValueType {
  readonly oid: number;
  /** Bytes, or -1 for variable length. */
  readonly length: number;
}

export const BOOL: ValueType = { oid: TYPE_OID.bool, length: 1 };
export const INT4: ValueType = { oid: TYPE_OID.int4, length: 4 };
export const INT8: ValueType = { oid: TYPE_OID.int8, length: 8 };
export const OID: ValueType = { oid: TYPE_OID.oid, length: 4 };
export const XID: ValueType = { oid: TYPE_OID.xid, length: 4 };
export const NAME: ValueType = { oid: TYPE_OID.name, length: 64 };
export const TEXT: ValueType = { oid: TYPE_OID.text, length: -1 };
export const INET: ValueType = { oid: TYPE_OID.inet, length: -1 };
export const TIMESTAMPTZ: ValueType = { oid: TYPE_OID.timestamptz, length: 8 };
export const INTERVAL: ValueType = { oid: TYPE_OID.interval, length: 16 };
export const PG_LSN: ValueType = { oid: TYPE_OID.pgLsn, length: 8 };
export const TEXT_ARRAY: ValueType = { oid: TYPE_OID.textArray, length: -1 };

/** What format_type says of each. (format_type.c) */
export const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [TYPE_OID.bool, 'boolean'],
  [TYPE_OID.bytea, 'bytea'],
  [TYPE_OID.name, 'name'],
  [TYPE_OID.int8, 'bigint'],
  [TYPE_OID.int4, 'integer'],
  [TYPE_OID.text, 'text'],
  [TYPE_OID.oid, 'oid'],
  [TYPE_OID.xid, 'xid'],
  [TYPE_OID.inet, 'inet'],
  [TYPE_OID.textArray, 'text[]'],
  [TYPE_OID.timestamptz, 'timestamp with time zone'],
  [TYPE_OID.interval, 'interval'],
  [TYPE_OID.pgLsn, 'pg_lsn'],
]);

/** A value that is not NULL. */
export interface Cell {
  readonly text: string;
  /** What it is ordered by among values of its type. */
  readonly rank: string | number | bigint;
  /** As the type's send function writes it. */
  binary(): Uint8Array;
}

/** The values of one row, in the order of the columns; null for NULL. */
export type Row = readonly (Cell | null)[];

/** One column of a result. */
export interface ResultColumn {
  readonly name: string;
  readonly type: ValueType;
}

/** Columns and rows. */
export interface ResultTable {
  readonly columns: readonly ResultColumn[];
  readonly rows: readonly Row[];
}

/** As RowDescription says it. */
export function describeColumn(column: ResultColumn, isBinary: boolean): ColumnDescription {
  return {
    name: column.name,
    typeOid: column.type.oid,
    typeLength: column.type.length,
    typeModifier: -1,
    isBinary,
  };
}

/** text or name. */
export function textCell(text: string): Cell {
  return { text, rank: text, binary: () => encodeText(text) };
}

/** bool. */
export function boolCell(value: boolean): Cell {
  return {
    text: value ? 't' : 'f',
    rank: Number(value),
    binary: () => Uint8Array.of(Number(value)),
  };
}

/** text[], of one dimension and without NULLs. (arrayfuncs.c: array_out, array_send) */
export function textArrayCell(values: readonly string[]): Cell {
  const text = `{${values.map(arrayElement).join(',')}}`;
  return { text, rank: text, binary: () => textArrayBytes(values) };
}

/** int4, or oid and xid, which have no sign. */
export function int4Cell(value: number): Cell {
  return {
    text: String(value),
    rank: value,
    binary: () => {
      const bytes = new Uint8Array(4);
      writeUint32(bytes, 0, value);
      return bytes;
    },
  };
}

/** int8. */
export function int8Cell(value: bigint): Cell {
  return { text: String(value), rank: value, binary: () => int64(value) };
}

/** xid: the low half of a full transaction id. */
export function xidCell(fullXid: bigint): Cell {
  return int4Cell(Number(fullXid & 0xffffffffn));
}

/** pg_lsn. */
export function lsnCell(lsn: Lsn, padLow: boolean): Cell {
  return { text: formatLsn(lsn, padLow), rank: lsn, binary: () => int64(lsn) };
}

/** The years that four digits can write: 0001 to 9999; end exclusive. */
const WRITABLE_FROM_MS = Date.parse('0001-01-01T00:00:00Z');
const WRITABLE_UNTIL_MS = Date.UTC(10_000, 0);

/** timestamptz, in UTC and with ISO dates. Null outside of the years 1 to 9999: a clock that a peer made up. */
export function timestamptzCell(unixMs: number): Cell | null {
  if (!(unixMs >= WRITABLE_FROM_MS && unixMs < WRITABLE_UNTIL_MS)) return null;
  const timestamp = pgTimestampFromUnixMs(unixMs);
  return { text: timestamptzText(unixMs), rank: timestamp, binary: () => int64(timestamp) };
}

/** interval, from seconds: microseconds only, never days. */
export function intervalCell(seconds: number): Cell {
  const micros = BigInt(Math.round(seconds * 1e6));
  return {
    text: intervalText(micros),
    rank: micros,
    binary: () => {
      const bytes = new Uint8Array(16);
      writeUint64(bytes, 0, micros);
      return bytes;
    },
  };
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

const AF_INET = 2;
const AF_INET6 = 3;

/** inet, a single host. Null where the text is no address. */
export function inetCell(text: string): Cell | null {
  const [address = ''] = text.split('%');
  const bytes = parseIpAddress(address);
  if (bytes === null) return null;
  return {
    text: address,
    rank: [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(''),
    binary: () =>
      Uint8Array.of(
        bytes.length === 4 ? AF_INET : AF_INET6,
        bytes.length * 8,
        0,
        bytes.length,
        ...bytes,
      ),
  };
}

function int64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  writeUint64(bytes, 0, BigInt.asUintN(64, value));
  return bytes;
}

/** `2026-01-02 03:04:05.678901+00`, without zeros at the end of the fraction. (datetime.c:EncodeDateTime) */
function timestamptzText(unixMs: number): string {
  const ms = Math.floor(unixMs);
  // Whole milliseconds first: far from 1970 a number has no room for microseconds.
  const micros = Math.min(999, Math.round((unixMs - ms) * 1000));
  const iso = new Date(ms).toISOString();
  const digits = BigInt(iso.slice(20, 23)) * 1000n + BigInt(micros);
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)}${fraction(digits)}+00`;
}

/** `00:00:00.000123`. (datetime.c:EncodeInterval) */
function intervalText(micros: bigint): string {
  const size = micros < 0n ? -micros : micros;
  const seconds = size / 1_000_000n;
  const [hours, minutes, rest] = [seconds / 3600n, (seconds / 60n) % 60n, seconds % 60n];
  const clock = [hours, minutes, rest].map((part) => String(part).padStart(2, '0')).join(':');
  return `${micros < 0n ? '-' : ''}${clock}${fraction(size % 1_000_000n)}`;
}

function fraction(micros: bigint): string {
  if (micros === 0n) return '';
  return `.${String(micros).padStart(6, '0').replace(/0+$/, '')}`;
}
