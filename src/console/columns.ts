// Which columns does a result have, and of which types? (pg_type.dat)
import { TYPE_OID } from '../wire/backend-messages.ts';
import type { ColumnDescription } from '../wire/backend-messages.ts';

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
