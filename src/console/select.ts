// How is a SELECT answered? Its columns are known when it is parsed, its rows when it runs.
import { CONSOLE_COLUMNS_MAX } from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { prepareCatalog } from './catalog.ts';
import type { CatalogContext } from './catalog.ts';
import { CONSOLE_DATABASE } from './client.ts';
import { int4Cell, int8Cell, textCell } from './cells.ts';
import { INT4, INT8, NAME, TEXT } from './columns.ts';
import type { Cell, ResultColumn, Row } from './columns.ts';
import { ConsoleError, notSupported } from './console-error.ts';
import type { ParameterValues } from './parameters.ts';
import type { Literal, SelectItem, SelectStatement, ViewSelect } from './select-syntax.ts';
import { columnIndex, prepareWhere } from './select-where.ts';
import type { Filter } from './select-where.ts';
import type { View, ViewRow, ViewSource } from './view.ts';
import { viewNamed } from './views.ts';

/** Values that functions give. */
export interface SelectContext extends CatalogContext {
  readonly user: string;
  readonly pid: number;
  readonly versionText: string;
  readonly setting: (name: string) => string;
  readonly source: () => ViewSource;
}

/** A SELECT that can be run, where it has parameters with a value for each. */
export interface PreparedSelect {
  readonly columns: readonly ResultColumn[];
  /** OIDs of what each parameter is compared with, from `$1` on; 0 where one is not used. */
  readonly parameterTypes: readonly number[];
  /** Throws ConsoleError. */
  run(values: ParameterValues): Row[];
}

/** A column of the result, made of a row of the view. */
interface Output extends ResultColumn {
  readonly value: (row: ViewRow) => Cell | null;
}

/** What rows are sorted by. */
interface SortKey {
  readonly value: (row: ViewRow) => Cell | null;
  readonly isDescending: boolean;
}

/** A view without columns and with one row: what there is without FROM. */
const NO_VIEW: View = { columns: [], isGrowing: false, rows: () => [() => null] };

/** Throws ConsoleError for columns, functions and views that there are none of. */
export function prepareSelect(statement: SelectStatement, context: SelectContext): PreparedSelect {
  if (statement.what === 'catalog') {
    const catalog = prepareCatalog(statement, context);
    const width = checkedWidth(catalog.columns.length);
    return {
      columns: catalog.columns,
      parameterTypes: [],
      run: () => {
        const rows = catalog.rows();
        context.budget.look(rows.length, width, false);
        return rows;
      },
    };
  }
  const view = statement.from === null ? NO_VIEW : viewNamed(statement.from);
  if (statement.items.some(({ kind }) => kind === 'count'))
    return prepareCount(statement, context, view);
  const outputs = statement.items.flatMap((item) => outputsOf(item, view, context));
  const where = prepareWhere(statement.where, view);
  const keys = statement.orderBy.map(({ by, isDescending }) => {
    return { value: sortValueOf(by, outputs, view), isDescending };
  });
  const width = checkedWidth(outputs.length + statement.where.length + keys.length);
  return {
    columns: outputs.map(({ name, type }) => ({ name, type })),
    parameterTypes: where.parameterTypes,
    run: (values) => {
      const filters = where.bind(values);
      const rows = sorted(keptRows(view, { filters, width }, context), withoutRepeated(keys));
      const limited = statement.limit === null ? rows : rows.slice(0, statement.limit);
      return limited.map((row) => outputs.map(({ value }) => value(row)));
    },
  };
}

function prepareCount(statement: ViewSelect, context: SelectContext, view: View): PreparedSelect {
  const [item] = statement.items;
  if (item?.kind !== 'count' || statement.items.length > 1 || statement.orderBy.length > 0) {
    throw notSupported('count(*) stands alone.');
  }
  const where = prepareWhere(statement.where, view);
  const width = checkedWidth(1 + statement.where.length);
  const rowsMax = statement.limit ?? 1;
  return {
    columns: [{ name: item.label ?? 'count', type: INT8 }],
    parameterTypes: where.parameterTypes,
    run: (values) => {
      const filters = where.bind(values);
      const count = keptRows(view, { filters, width }, context).length;
      return [[int8Cell(BigInt(count))]].slice(0, rowsMax);
    },
  };
}

/** `width`: values that are made of each row, at most. */
function keptRows(
  view: View,
  { filters, width }: { readonly filters: readonly Filter[]; readonly width: number },
  context: SelectContext,
): ViewRow[] {
  const rows = view.rows(context.source());
  context.budget.look(rows.length, width, view.isGrowing);
  return rows.filter((row) => filters.every((keeps) => keeps(row)));
}

function checkedWidth(width: number): number {
  if (width <= CONSOLE_COLUMNS_MAX) return width;
  throw new ConsoleError({
    sqlstate: SQLSTATE.programLimitExceeded,
    message: `a SELECT may have at most ${CONSOLE_COLUMNS_MAX} columns, conditions and sort keys here`,
  });
}

function outputsOf(item: SelectItem, view: View, context: SelectContext): Output[] {
  switch (item.kind) {
    case 'all':
      if (view.columns.length === 0) throw syntaxOfAll();
      return view.columns.map((column, index) => ({
        ...column,
        value: valueAt(index),
      }));
    case 'column': {
      const index = columnIndex(item.name, view);
      const type = view.columns[index]?.type ?? TEXT;
      return [{ name: item.label ?? item.name, type, value: valueAt(index) }];
    }
    case 'function':
      return [functionOutput(item, context)];
    case 'literal':
      return [literalOutput(item.value, item.label)];
    case 'count':
      return [];
  }
}

function syntaxOfAll(): ConsoleError {
  return new ConsoleError({
    sqlstate: SQLSTATE.syntaxError,
    message: 'SELECT * with no tables specified is not valid',
  });
}

function functionOutput(
  item: Extract<SelectItem, { kind: 'function' }>,
  context: SelectContext,
): Output {
  const { name } = item;
  const constant = (type: Output['type'], cell: Cell): Output => ({
    name: item.label ?? name,
    type,
    value: () => cell,
  });
  if (name === 'current_setting' && item.argument !== null) {
    return constant(TEXT, textCell(context.setting(item.argument.toLowerCase())));
  }
  if (item.argument !== null) throw noFunction(name);
  switch (name) {
    case 'version':
      return constant(TEXT, textCell(context.versionText));
    case 'current_user':
    case 'session_user':
    case 'user':
    case 'current_role':
      return constant(NAME, textCell(context.user));
    case 'current_database':
    case 'current_catalog':
      return constant(NAME, textCell(CONSOLE_DATABASE));
    case 'current_schema':
      return constant(NAME, textCell('pg_catalog'));
    case 'pg_backend_pid':
      return constant(INT4, int4Cell(context.pid));
    default:
      throw noFunction(name);
  }
}

function noFunction(name: string): ConsoleError {
  return notSupported(`There is no function "${name.slice(0, 100)}" of these arguments here.`);
}

const INT4_MAX = 2 ** 31 - 1;

function literalOutput(literal: Literal, label: string | null): Output {
  const name = label ?? '?column?';
  if (literal.kind === 'string') return { name, type: TEXT, value: () => textCell(literal.text) };
  const value = Number(literal.text);
  if (!Number.isInteger(value) || value > INT4_MAX) {
    throw notSupported('Numbers are integers of 32 bits here.');
  }
  return { name, type: INT4, value: () => int4Cell(value) };
}

function sortValueOf(
  by: string | number,
  outputs: readonly Output[],
  view: View,
): SortKey['value'] {
  const output = typeof by === 'number' ? outputs[by - 1] : outputs.find(({ name }) => name === by);
  if (output !== undefined) return output.value;
  if (typeof by === 'number') {
    throw new ConsoleError({
      sqlstate: SQLSTATE.invalidColumnReference,
      message: `ORDER BY position ${by} is not in select list`,
    });
  }
  return valueAt(columnIndex(by, view));
}

/** One for each place, whichever view it is of, so that keys that are the same can be told. */
const VALUES_AT: SortKey['value'][] = [];

function valueAt(index: number): SortKey['value'] {
  const value = VALUES_AT[index] ?? ((row) => row(index));
  VALUES_AT[index] = value;
  return value;
}

/** What was sorted by once leaves nothing to sort to who names it again. (pathkeys.c:pathkey_is_redundant) */
function withoutRepeated(keys: readonly SortKey[]): SortKey[] {
  return keys.filter(({ value }, index) => keys.findIndex((key) => key.value === value) === index);
}

/** What each row is ordered by is made once, not for each comparison. */
function sorted(rows: ViewRow[], keys: readonly SortKey[]): ViewRow[] {
  if (keys.length === 0) return rows;
  const keyed = rows.map((row) => ({
    row,
    ranks: keys.map(({ value }) => value(row)?.rank ?? null),
  }));
  keyed.sort((one, other) => {
    for (const [index, { isDescending }] of keys.entries()) {
      const difference = compareRanks(one.ranks[index] ?? null, other.ranks[index] ?? null);
      if (difference !== 0) return isDescending ? -difference : difference;
    }
    return 0;
  });
  return keyed.map(({ row }) => row);
}

/** NULL counts as larger than everything. */
function compareRanks(one: Cell['rank'] | null, other: Cell['rank'] | null): number {
  if (one === null || other === null) return Number(one === null) - Number(other === null);
  if (one === other) return 0;
  return one < other ? -1 : 1;
}
