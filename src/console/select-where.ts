// Which rows of a view does WHERE keep?
import { SQLSTATE } from '../pg/sqlstate.ts';
import { BOOL, INT4, INT8, NAME, OID, TEXT, XID } from './columns.ts';
import type { ValueType } from './columns.ts';
import { ConsoleError, notSupported } from './console-error.ts';
import type { ParameterValues } from './parameters.ts';
import type { Condition, Literal } from './select-syntax.ts';
import type { View, ViewRow } from './view.ts';

/** True for a row that is kept. */
export type Filter = (row: ViewRow) => boolean;

/** Conditions whose columns were found. */
export interface PreparedWhere {
  /** OIDs of what each parameter is compared with, from `$1` on; 0 where one is not used. */
  readonly parameterTypes: readonly number[];
  /** Throws ConsoleError for a value that the column cannot be compared with, and for a parameter without a value. */
  bind(values: ParameterValues): Filter[];
}

/** A column that is compared. */
interface Compared {
  readonly column: string;
  readonly index: number;
  readonly type: ValueType;
}

/** Parameters of one statement at most. */
const PARAMETERS_MAX = 1_000;

const NUMBERS: ReadonlySet<ValueType> = new Set([INT4, INT8, OID, XID]);

/** All conditions have to hold. Throws ConsoleError. */
export function prepareWhere(conditions: readonly Condition[], view: View): PreparedWhere {
  const parameterTypes: number[] = [];
  const makers = conditions.map((condition) => {
    const { column } = condition;
    const index = columnIndex(column, view);
    const type = view.columns[index]?.type ?? TEXT;
    if (condition.kind === 'equals') noteParameters(condition.values, type, parameterTypes);
    const make = makerOf(condition, { column, index, type });
    // What can be said without values is said when the statement is prepared.
    if (!hasParameters(condition)) make([]);
    return make;
  });
  return { parameterTypes, bind: (values) => makers.map((make) => make(values)) };
}

/** The place of a column. Throws ConsoleError 42703. */
export function columnIndex(name: string, view: View): number {
  const index = view.columns.findIndex((column) => column.name === name);
  if (index >= 0) return index;
  throw new ConsoleError({
    sqlstate: SQLSTATE.undefinedColumn,
    message: `column "${name}" does not exist`,
  });
}

function hasParameters(condition: Condition): boolean {
  return condition.kind === 'equals' && condition.values.some(({ kind }) => kind === 'parameter');
}

function noteParameters(values: readonly Literal[], type: ValueType, types: number[]): void {
  for (const { kind, text } of values) {
    if (kind !== 'parameter') continue;
    const number = Number(text);
    if (number < 1 || number > PARAMETERS_MAX) throw noParameter(text);
    while (types.length < number) types.push(0);
    types[number - 1] = type.oid;
  }
}

function makerOf(condition: Condition, compared: Compared): (values: ParameterValues) => Filter {
  const { isNegated } = condition;
  const { column, index, type } = compared;
  if (condition.kind === 'null') return () => (row) => (row(index) === null) !== isNegated;
  if (condition.kind === 'true') {
    if (type !== BOOL) throw notBoolean(isNegated);
    return () => equalsFilter(index, new Set([isNegated ? 'f' : 't']), false);
  }
  if (!NUMBERS.has(type) && type !== TEXT && type !== NAME && type !== BOOL) {
    throw notSupported(`Column "${column}" cannot be compared with a value here.`);
  }
  return (values) => {
    const wanted = condition.values.map((literal) => wantedText(literal, compared, values));
    const known = wanted.filter((text) => text !== null);
    // Whether it is none of these is not known then.
    if (isNegated && known.length < wanted.length) return () => false;
    return equalsFilter(index, new Set(known), isNegated);
  };
}

/** As in SQL, NULL is neither equal nor unequal to anything. */
function equalsFilter(index: number, wanted: ReadonlySet<string>, isNegated: boolean): Filter {
  return (row) => {
    const cell = row(index);
    return cell !== null && wanted.has(cell.text) !== isNegated;
  };
}

/** Text is compared letter by letter, numbers by value; what has other spellings of one value is not compared. */
function wantedText(
  { kind, text }: Literal,
  { column, type }: Compared,
  values: ParameterValues,
): string | null {
  const value = kind === 'parameter' ? values[Number(text) - 1] : text;
  if (value === undefined) throw noParameter(text);
  if (value === null) return null;
  const isOther = kind === 'number' && !NUMBERS.has(type);
  const written = isOther ? null : spelled(value, type);
  if (written !== null) return written;
  throw notSupported(`Column "${column}" cannot be compared with that value.`);
}

/** The value as a cell of the type has it; null when it is none of its. */
function spelled(value: string, type: ValueType): string | null {
  const trimmed = value.trim();
  if (NUMBERS.has(type)) {
    return /^[+-]?\d{1,19}$/.test(trimmed) ? String(BigInt(trimmed.replace('+', ''))) : null;
  }
  if (type !== BOOL) return value;
  if (/^(?:t|true|y|yes|on|1)$/i.test(trimmed)) return 't';
  return /^(?:f|false|n|no|off|0)$/i.test(trimmed) ? 'f' : null;
}

function notBoolean(isNegated: boolean): ConsoleError {
  return new ConsoleError({
    sqlstate: SQLSTATE.datatypeMismatch,
    message: `argument of ${isNegated ? 'NOT' : 'WHERE'} must be type boolean`,
  });
}

/** (parse_param.c) */
function noParameter(number: string): ConsoleError {
  return new ConsoleError({
    sqlstate: SQLSTATE.undefinedParameter,
    message: `there is no parameter $${number}`,
  });
}
