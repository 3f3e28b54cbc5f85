// What are the values that a client binds to the parameters of a statement? (postgres.c: exec_bind_message)
import { SQLSTATE } from '../pg/sqlstate.ts';
import { TYPE_OID } from '../wire/backend-messages.ts';
import type { FormatCode } from '../wire/extended-query.ts';
import { ConsoleError } from './console-error.ts';

/** Values as text, from `$1` on; null for NULL. */
export type ParameterValues = readonly (string | null)[];

/** Types that clients give parameters, and that nothing here has. (pg_type.dat) */
const INT2_OID = 21;
const UNKNOWN_OID = 705;
const BPCHAR_OID = 1042;
const VARCHAR_OID = 1043;

/** Types whose binary form is their text. */
const TEXTS: ReadonlySet<number> = new Set([
  TYPE_OID.name,
  TYPE_OID.text,
  UNKNOWN_OID,
  BPCHAR_OID,
  VARCHAR_OID,
]);

/** Integers, with their length in bytes. */
const INTEGERS: ReadonlyMap<number, number> = new Map([
  [INT2_OID, 2],
  [TYPE_OID.int4, 4],
  [TYPE_OID.int8, 8],
  [TYPE_OID.oid, 4],
  [TYPE_OID.xid, 4],
]);

/** Those of 32 bits that have no sign. */
const UNSIGNED: ReadonlySet<number> = new Set([TYPE_OID.oid, TYPE_OID.xid]);

/** What the client said of a type, else what the statement says, else text; one for each parameter. */
export function parameterTypes(given: readonly number[], inferred: readonly number[]): number[] {
  const count = Math.max(given.length, inferred.length);
  return Array.from(
    { length: count },
    (_, index) => given[index] || inferred[index] || TYPE_OID.text,
  );
}

/**
 * Reads bound values; `formats` as in a Bind message. The bytes are not kept. Throws ConsoleError for binary values of
 * types that are not known here, and for those that are none of their type.
 */
export function readParameters(
  values: readonly (Uint8Array | null)[],
  types: readonly number[],
  formats: readonly FormatCode[],
): ParameterValues {
  return values.map((value, index) => {
    if (value === null) return null;
    const format = formats[formats.length === 1 ? 0 : index];
    return format === 'binary' ? readBinary(value, types[index] ?? 0) : readText(value);
  });
}

function readText(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8');
}

function readBinary(value: Uint8Array, type: number): string {
  if (TEXTS.has(type)) return readText(value);
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  const length = type === TYPE_OID.bool ? 1 : INTEGERS.get(type);
  if (length === undefined) {
    throw new ConsoleError({
      sqlstate: SQLSTATE.featureNotSupported,
      message: `parameters of type ${type} are not understood in binary by walcast's console`,
    });
  }
  if (bytes.length !== length) {
    throw new ConsoleError({
      sqlstate: SQLSTATE.invalidBinaryRepresentation,
      message: 'incorrect binary data format in bind parameter',
    });
  }
  if (type === TYPE_OID.bool) return bytes[0] === 0 ? 'f' : 't';
  if (UNSIGNED.has(type)) return String(bytes.readUInt32BE());
  return length === 8 ? String(bytes.readBigInt64BE()) : String(bytes.readIntBE(0, length));
}
