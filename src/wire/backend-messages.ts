// How does a server write its messages? Each function gives whole messages in buffers of their own.
// (src/backend/libpq/pqformat.c, src/backend/utils/error/elog.c:send_message_to_frontend)
import { MessageWriter } from './message-writer.ts';

/** One column of a result. */
export interface ColumnDescription {
  readonly name: string;
  readonly typeOid: number;
  /** Bytes, or -1 for variable length. */
  readonly typeLength: number;
  readonly typeModifier: number;
  /** Text when absent. */
  readonly isBinary?: boolean;
}

/** An error or notice as the client sees it. */
export interface ErrorFields {
  readonly severity: 'ERROR' | 'FATAL' | 'PANIC' | 'WARNING' | 'NOTICE';
  readonly sqlstate: string;
  readonly message: string;
  readonly detail?: string;
  readonly hint?: string;
}

/** Types of the columns we send. (src/include/catalog/pg_type.dat) */
export const TYPE_OID = {
  bool: 16,
  bytea: 17,
  name: 19,
  int8: 20,
  int4: 23,
  text: 25,
  oid: 26,
  xid: 28,
  inet: 869,
  textArray: 1009,
  timestamptz: 1184,
  interval: 1186,
  pgLsn: 3220,
} as const;

/** A text column. */
export function textColumn(name: string): ColumnDescription {
  return { name, typeOid: TYPE_OID.text, typeLength: -1, typeModifier: -1 };
}

/** A bigint column. */
export function int8Column(name: string): ColumnDescription {
  return { name, typeOid: TYPE_OID.int8, typeLength: 8, typeModifier: -1 };
}

/** An integer column. */
export function int4Column(name: string): ColumnDescription {
  return { name, typeOid: TYPE_OID.int4, typeLength: 4, typeModifier: -1 };
}

/** A bytea column. */
export function byteaColumn(name: string): ColumnDescription {
  return { name, typeOid: TYPE_OID.bytea, typeLength: -1, typeModifier: -1 };
}

export function encodeAuthenticationOk(): Uint8Array {
  return new MessageWriter('R').int32(0).finish();
}

/** AuthenticationMD5Password; `salt` is four bytes. */
export function encodeAuthenticationMd5(salt: Uint8Array): Uint8Array {
  return new MessageWriter('R').int32(5).bytes(salt).finish();
}

/** AuthenticationSASL: the mechanisms offered, best first. */
export function encodeAuthenticationSasl(mechanisms: readonly string[]): Uint8Array {
  const writer = new MessageWriter('R').int32(10);
  for (const mechanism of mechanisms) writer.cstring(mechanism);
  return writer.byte(0).finish();
}

export function encodeAuthenticationSaslContinue(data: Uint8Array): Uint8Array {
  return new MessageWriter('R').int32(11).bytes(data).finish();
}

export function encodeAuthenticationSaslFinal(data: Uint8Array): Uint8Array {
  return new MessageWriter('R').int32(12).bytes(data).finish();
}

export function encodeParameterStatus(name: string, value: string): Uint8Array {
  return new MessageWriter('S').cstring(name).cstring(value).finish();
}

/** `key` is 4 bytes before protocol 3.2, up to 256 from then on. */
export function encodeBackendKeyData(pid: number, key: Uint8Array): Uint8Array {
  return new MessageWriter('K').int32(pid).bytes(key).finish();
}

/** `T` and `E` only on the console, which lets clients believe in transactions; a walsender is always idle. */
export function encodeReadyForQuery(status: 'I' | 'T' | 'E' = 'I'): Uint8Array {
  return new MessageWriter('Z').byte(status.charCodeAt(0)).finish();
}

/** Columns of no table. */
export function encodeRowDescription(columns: readonly ColumnDescription[]): Uint8Array {
  const writer = new MessageWriter('T').int16(columns.length);
  for (const column of columns) {
    writer.cstring(column.name).int32(0).int16(0);
    writer.int32(column.typeOid).int16(column.typeLength).int32(column.typeModifier);
    writer.int16(column.isBinary === true ? 1 : 0);
  }
  return writer.finish();
}

/** A row; bytes go out as they are, text as UTF-8. */
export function encodeDataRow(values: readonly (string | Uint8Array | null)[]): Uint8Array {
  let size = DATA_ROW_HEAD_BYTES;
  for (const value of values) size += 4 + byteLengthOf(value);
  // Measured first and written once: an answer of the console has thousands of rows, each of many short values.
  const row = Buffer.allocUnsafe(size);
  row.write('D', 0, 'latin1');
  row.writeInt32BE(size - 1, 1);
  row.writeUInt16BE(values.length, 5);
  let at = DATA_ROW_HEAD_BYTES;
  for (const value of values) {
    const start = at + 4;
    at = start;
    if (typeof value === 'string') at += row.write(value, start, 'utf8');
    else if (value !== null) {
      row.set(value, start);
      at += value.length;
    }
    row.writeInt32BE(value === null ? -1 : at - start, start - 4);
  }
  return new Uint8Array(row.buffer, row.byteOffset, size);
}

/** Letter, length, number of values. */
const DATA_ROW_HEAD_BYTES = 7;

function byteLengthOf(value: string | Uint8Array | null): number {
  if (value === null) return 0;
  return typeof value === 'string' ? Buffer.byteLength(value) : value.length;
}

export function encodeCommandComplete(tag: string): Uint8Array {
  return new MessageWriter('C').cstring(tag).finish();
}

export function encodeEmptyQueryResponse(): Uint8Array {
  return new MessageWriter('I').finish();
}

/** Text format, no columns: what a walsender answers to START_REPLICATION. */
export function encodeCopyBothResponse(): Uint8Array {
  return new MessageWriter('W').byte(0).int16(0).finish();
}

export function encodeCopyDone(): Uint8Array {
  return new MessageWriter('c').finish();
}

export function encodeErrorResponse(fields: ErrorFields): Uint8Array {
  return encodeFields('E', fields);
}

/** An error in the form that protocols before 3 have: no length, no fields. (src/backend/utils/error/elog.c:send_message_to_frontend) */
export function encodeOldErrorResponse(fields: ErrorFields): Uint8Array {
  return Buffer.from(`E${fields.severity}:  ${fields.message}\n\0`);
}

export function encodeNoticeResponse(fields: ErrorFields): Uint8Array {
  return encodeFields('N', fields);
}

/** Offers protocol 3.`minor` and lists the `_pq_.` options that mean nothing to us. */
export function encodeNegotiateProtocolVersion(
  minor: number,
  options: readonly string[],
): Uint8Array {
  const writer = new MessageWriter('v').int32((3 << 16) | minor).int32(options.length);
  for (const option of options) writer.cstring(option);
  return writer.finish();
}

function encodeFields(type: 'E' | 'N', fields: ErrorFields): Uint8Array {
  const writer = new MessageWriter(type);
  const field = (letter: string, text: string | undefined): void => {
    if (text !== undefined) writer.byte(letter.charCodeAt(0)).cstring(text);
  };
  field('S', fields.severity);
  field('V', fields.severity);
  field('C', fields.sqlstate);
  field('M', fields.message);
  field('D', fields.detail);
  field('H', fields.hint);
  return writer.byte(0).finish();
}
