// What is the answer to what psql and drivers ask the system catalogue for by themselves? The views of the console are all the
// relations that there are; everything else of a catalogue is not here, and a column that is not known is NULL.
import { matchName, readNamePattern } from '../pg/name-pattern.ts';
import type { AnswerBudget } from './answer-budget.ts';
import { CONSOLE_DATABASE } from './client.ts';
import type { CatalogCondition, CatalogItem, CatalogSelect } from './catalog-syntax.ts';
import { int4Cell, textCell } from './cells.ts';
import { OID, TEXT, TYPE_NAMES } from './columns.ts';
import type { ResultColumn, Row } from './columns.ts';
import { REPORTS } from './show-reports.ts';
import { VIEWS } from './views.ts';

/** Values of one row, by the name or the label of the column. */
type CatalogRow = Readonly<Record<string, string>>;

/** What of a session the catalogue shows. */
export interface CatalogContext {
  readonly budget: AnswerBudget;
  /** Settings by name. */
  settings(): readonly (readonly [name: string, value: string])[];
}

/** A question that can be answered. */
export interface PreparedCatalog {
  readonly columns: readonly ResultColumn[];
  rows(): Row[];
}

/** Of nothing else in the console: numbers of relations, as `\d` hands them from one question to the next. */
const FIRST_RELATION_OID = 10_001;

const SCHEMA = 'pg_catalog';

/** Prepares an answer. */
export function prepareCatalog(select: CatalogSelect, context: CatalogContext): PreparedCatalog {
  return {
    columns: select.items.map(({ label, column }) => {
      return { name: label, type: isOid(column) ? OID : TEXT };
    }),
    rows: () => {
      const filters = select.conditions.map(filterOf);
      const known = rowsOf(select, context);
      context.budget.look(known.length, patternSteps(select.conditions), false);
      return known
        .filter((row) => filters.every((keeps) => keeps(row)))
        .map((row) => select.items.map((item) => cellOf(item, row)));
    },
  };
}

function cellOf({ label, column }: CatalogItem, row: CatalogRow): Row[number] {
  const value = row[label] ?? (column === null ? undefined : row[column]);
  if (value === undefined) return null;
  return isOid(column) ? int4Cell(Number(value)) : textCell(value);
}

function isOid(column: string | null): boolean {
  return column === 'oid' || column === 'typarray';
}

function rowsOf(select: CatalogSelect, context: CatalogContext): CatalogRow[] {
  switch (select.relation) {
    case 'pg_class':
      return relations();
    case 'pg_attribute':
      return attributes();
    case 'pg_namespace':
      return [{ nspname: SCHEMA, Name: SCHEMA }];
    case 'pg_database':
      return [{ datname: CONSOLE_DATABASE, Name: CONSOLE_DATABASE, Encoding: 'UTF8' }];
    case 'pg_settings':
      return settings(select, context);
    case 'pg_type':
      // The one array type that columns have.
      return [{ oid: '25', typarray: '1009' }];
    case 'values':
      return select.described.map(({ name, typeOid }) => {
        return { Column: name, Type: TYPE_NAMES.get(typeOid) ?? '???' };
      });
    default:
      return [];
  }
}

function relations(): CatalogRow[] {
  return [...VIEWS.keys()].map((name, index) => ({
    Schema: SCHEMA,
    Name: name,
    Type: 'view',
    Persistence: 'permanent',
    oid: String(FIRST_RELATION_OID + index),
    nspname: SCHEMA,
    relname: name,
    relchecks: '0',
    relkind: 'v',
    relhasindex: 'f',
    relhasrules: 'f',
    relhastriggers: 'f',
    relrowsecurity: 'f',
    relforcerowsecurity: 'f',
    relhasoids: 'f',
    relispartition: 'f',
    reltablespace: '0',
    relpersistence: 'p',
    relreplident: 'n',
  }));
}

function attributes(): CatalogRow[] {
  return [...VIEWS].flatMap(([relname, view], index) =>
    view.columns.map(({ name, type }) => ({
      attrelid: String(FIRST_RELATION_OID + index),
      relname,
      attname: name,
      format_type: TYPE_NAMES.get(type.oid) ?? '???',
      attnotnull: 'f',
      attidentity: '',
      attgenerated: '',
      attstorage: type.length < 0 ? 'x' : 'p',
    })),
  );
}

/** For completion the reports of SHOW, too, which are nothing that SET could change. */
function settings({ items }: CatalogSelect, context: CatalogContext): CatalogRow[] {
  const rows = context.settings().map(([name, value]): CatalogRow => {
    return { name, lower: name, Parameter: name, Value: value, current_setting: value };
  });
  if (items.every(({ label }) => label !== 'lower')) return rows;
  const reports = [...REPORTS.keys()].map((name) => ({ name, lower: name, context: 'report' }));
  return [...rows, ...reports].toSorted((one, other) => (one.lower < other.lower ? -1 : 1));
}

/** A condition on a column that the row does not have says nothing about it. */
function filterOf({ column, kind, values }: CatalogCondition): (row: CatalogRow) => boolean {
  const isWanted = testOf(kind, values);
  return (row) => {
    const value = row[column];
    return value === undefined || isWanted(value);
  };
}

/** Steps of all patterns: each row may meet every one of them. */
function patternSteps(conditions: readonly CatalogCondition[]): number {
  return conditions
    .flatMap(({ kind, values }) => (kind === 'matches' ? [readNamePattern(values[0] ?? '')] : []))
    .reduce((sum, pattern) => sum + ('problem' in pattern ? 0 : pattern.program.length), 0);
}

function testOf(
  kind: CatalogCondition['kind'],
  values: readonly string[],
): (value: string) => boolean {
  const [first = ''] = values;
  switch (kind) {
    case 'in':
      return (value) => values.includes(value);
    case 'like':
      return (value) => isLike(value, first);
    case 'matches': {
      const pattern = readNamePattern(first);
      if ('problem' in pattern) return () => false;
      const known = new Map<string, boolean>();
      return (value) => {
        const isMatch = known.get(value) ?? matchName(pattern, value) !== null;
        known.set(value, isMatch);
        return isMatch;
      };
    }
  }
}

/** As completion writes it: a beginning, `%`, and a backslash before what would be a wildcard. */
function isLike(value: string, pattern: string): boolean {
  const beginning = pattern.replace(/%$/, '').replaceAll(/\\(.)/gs, '$1');
  return pattern.endsWith('%') ? value.startsWith(beginning) : value === beginning;
}
