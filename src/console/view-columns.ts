// How are the columns of views made of what entries say of themselves? One function a type; null is NULL everywhere.
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import {
  boolCell,
  int4Cell,
  int8Cell,
  intervalCell,
  lsnCell,
  textArrayCell,
  textCell,
  timestamptzCell,
  xidCell,
} from './cells.ts';
import {
  BOOL,
  INT4,
  INT8,
  INTERVAL,
  NAME,
  PG_LSN,
  TEXT,
  TEXT_ARRAY,
  TIMESTAMPTZ,
  XID,
} from './columns.ts';
import type { Cell, ValueType } from './columns.ts';
import type { ViewColumn } from './view.ts';

/** What a value is made of. */
export type ValueOf<Entry, Value> = (entry: Entry) => Value | null;

/** text. */
export function text<Entry>(name: string, of: ValueOf<Entry, string>): ViewColumn<Entry> {
  return column(name, TEXT, of, textCell);
}

/** name, PostgreSQL's type of identifiers. */
export function identifier<Entry>(name: string, of: ValueOf<Entry, string>): ViewColumn<Entry> {
  return column(name, NAME, of, textCell);
}

/** text[]. */
export function texts<Entry>(
  name: string,
  of: ValueOf<Entry, readonly string[]>,
): ViewColumn<Entry> {
  return column(name, TEXT_ARRAY, of, textArrayCell);
}

/** bool. */
export function bool<Entry>(name: string, of: ValueOf<Entry, boolean>): ViewColumn<Entry> {
  return column(name, BOOL, of, boolCell);
}

/** int4; what is larger than it has room for wraps, as a timeline does in PostgreSQL. */
export function int4<Entry>(name: string, of: ValueOf<Entry, number>): ViewColumn<Entry> {
  return column(name, INT4, of, (value) => int4Cell(value | 0));
}

/** int8, of whole numbers. */
export function int8<Entry>(name: string, of: ValueOf<Entry, number>): ViewColumn<Entry> {
  return column(name, INT8, of, (value) => int8Cell(Math.round(value)));
}

/** xid: the low half of a full transaction id. */
export function xid<Entry>(name: string, of: ValueOf<Entry, bigint>): ViewColumn<Entry> {
  return column(name, XID, of, xidCell);
}

/** pg_lsn, in the spelling of the upstream's major; INVALID_LSN is NULL. */
export function lsn<Entry>(name: string, of: (entry: Entry) => Lsn): ViewColumn<Entry> {
  return {
    name,
    type: PG_LSN,
    value: (entry, { padsLsnText }) => {
      const value = of(entry);
      return value === INVALID_LSN ? null : lsnCell(value, padsLsnText);
    },
  };
}

/** interval, of seconds. */
export function seconds<Entry>(name: string, of: ValueOf<Entry, number>): ViewColumn<Entry> {
  return column(name, INTERVAL, of, intervalCell);
}

/** timestamptz, of milliseconds since the Unix epoch; NULL for what no calendar has. */
export function time<Entry>(name: string, of: ValueOf<Entry, number>): ViewColumn<Entry> {
  return column(name, TIMESTAMPTZ, of, timestamptzCell);
}

/** A column of PostgreSQL's that says nothing here: always NULL. */
export function nothing<Entry>(name: string, type: ValueType): ViewColumn<Entry> {
  return { name, type, value: () => null };
}

function column<Entry, Value>(
  name: string,
  type: ValueType,
  of: ValueOf<Entry, Value>,
  cellOf: (value: Value) => Cell | null,
): ViewColumn<Entry> {
  return {
    name,
    type,
    value: (entry) => {
      const value = of(entry);
      return value === null ? null : cellOf(value);
    },
  };
}
