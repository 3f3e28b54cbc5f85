// SELECT: which columns of which view, which rows of it, in which order? Pure.
import { readCatalogSelect } from './catalog-syntax.ts';
import type { CatalogSelect } from './catalog-syntax.ts';
import { notSupported } from './console-error.ts';
import type { TokenReader } from './token-reader.ts';

/** A value written in a statement; of a parameter its number, from 1 on. */
export interface Literal {
  readonly kind: 'string' | 'number' | 'parameter';
  readonly text: string;
}

/** One entry of the list behind SELECT. `label` is the column's name in the result, null for the usual one. */
export type SelectItem =
  | { readonly kind: 'all' }
  | { readonly kind: 'count'; readonly label: string | null }
  | { readonly kind: 'column'; readonly name: string; readonly label: string | null }
  | {
      readonly kind: 'function';
      readonly name: string;
      readonly argument: string | null;
      readonly label: string | null;
    }
  | { readonly kind: 'literal'; readonly value: Literal; readonly label: string | null };

/** All conditions have to hold. */
export type Condition =
  /** One of `values`, or none of them. */
  | {
      readonly kind: 'equals';
      readonly column: string;
      readonly values: readonly Literal[];
      readonly isNegated: boolean;
    }
  | { readonly kind: 'null'; readonly column: string; readonly isNegated: boolean }
  /** A column that is a condition by itself. */
  | { readonly kind: 'true'; readonly column: string; readonly isNegated: boolean };

/** `by`: a column or label, or its number in the result, from 1 on. */
export interface Ordering {
  readonly by: string | number;
  readonly isDescending: boolean;
}

export interface ViewSelect {
  readonly kind: 'select';
  readonly what: 'view';
  readonly items: readonly SelectItem[];
  /** The view, without its schema; null where there is no FROM. */
  readonly from: string | null;
  readonly where: readonly Condition[];
  readonly orderBy: readonly Ordering[];
  readonly limit: number | null;
}

/** A question to a view, or to the catalogue. */
export type SelectStatement = ViewSelect | CatalogSelect;

/** Functions without parentheses. */
const BARE_FUNCTIONS: readonly string[] = [
  'current_user',
  'session_user',
  'user',
  'current_role',
  'current_catalog',
  'current_schema',
];

/** Words that begin something that is not understood here, and never name a column. (kwlist.h) */
const RESERVED: ReadonlySet<string> = new Set([
  'all',
  'any',
  'array',
  'case',
  'cast',
  'current_date',
  'current_time',
  'current_timestamp',
  'distinct',
  'false',
  'from',
  'limit',
  'localtime',
  'localtimestamp',
  'not',
  'null',
  'order',
  'select',
  'some',
  'true',
  'where',
  'with',
]);

/** Words that end a list, and are no labels without AS. */
const CLAUSES: readonly string[] = ['from', 'where', 'order', 'limit', 'offset', 'group', 'union'];

/** What follows SELECT. */
export function parseSelect(reader: TokenReader): SelectStatement {
  const catalog = readCatalogSelect(reader.rest());
  if (catalog === null) return parseViewSelect(reader);
  reader.skipRest();
  return catalog;
}

function parseViewSelect(reader: TokenReader): ViewSelect {
  const items = [parseItem(reader)];
  while (reader.accept(',')) items.push(parseItem(reader));
  const from = reader.accept('from') ? parseFrom(reader) : null;
  return {
    kind: 'select',
    what: 'view',
    items,
    from,
    where: reader.accept('where') ? parseWhere(reader) : [],
    orderBy: reader.accept('order', 'by') ? parseOrder(reader) : [],
    limit: reader.accept('limit') ? parseLimit(reader) : null,
  };
}

function parseItem(reader: TokenReader): SelectItem {
  if (reader.accept('*')) return { kind: 'all' };
  const literal = acceptLiteral(reader);
  if (literal !== null) return { kind: 'literal', value: literal, label: parseLabel(reader) };
  const next = reader.peek();
  const isBare = next?.kind === 'word' && BARE_FUNCTIONS.includes(next.text);
  const name = parseQualified(reader);
  if (name === '*') return { kind: 'all' };
  if (!reader.accept('(')) {
    const label = parseLabel(reader);
    return isBare
      ? { kind: 'function', name, argument: null, label }
      : { kind: 'column', name, label };
  }
  if (name === 'count' && reader.accept('*')) {
    reader.expect(')');
    return { kind: 'count', label: parseLabel(reader) };
  }
  const argument = reader.peek()?.kind === 'string' ? reader.take().text : null;
  reader.expect(')');
  return { kind: 'function', name, argument, label: parseLabel(reader) };
}

/** `a`, `t.a`, `pg_catalog.f`, `t.*`: the last part alone, because there is one view at a time. */
function parseQualified(reader: TokenReader): string {
  const next = reader.peek();
  if (next?.kind === 'word' && RESERVED.has(next.text)) throw reader.unexpected();
  let name = reader.name();
  while (reader.accept('.')) {
    if (reader.accept('*')) return '*';
    name = reader.name();
  }
  return name;
}

function parseLabel(reader: TokenReader): string | null {
  if (reader.accept('as')) return reader.name();
  const next = reader.peek();
  const isName = next?.kind === 'name' || (next?.kind === 'word' && !CLAUSES.includes(next.text));
  return isName ? reader.name() : null;
}

function parseFrom(reader: TokenReader): string {
  let name = reader.name();
  if (reader.accept('.')) {
    if (name !== 'pg_catalog') throw notSupported(`There is no schema "${name}".`);
    name = reader.name();
  }
  // An alias, which nothing can be taken for but the view.
  parseLabel(reader);
  return name;
}

function parseWhere(reader: TokenReader): Condition[] {
  const conditions = [parseCondition(reader)];
  while (reader.accept('and')) conditions.push(parseCondition(reader));
  return conditions;
}

function parseCondition(reader: TokenReader): Condition {
  if (reader.accept('not'))
    return { kind: 'true', column: parseQualified(reader), isNegated: true };
  const column = parseQualified(reader);
  if (isConditionOver(reader)) return { kind: 'true', column, isNegated: false };
  if (reader.accept('is')) {
    const isNegated = reader.accept('not');
    reader.expect('null');
    return { kind: 'null', column, isNegated };
  }
  const isNegatedIn = reader.accept('not', 'in');
  if (isNegatedIn || reader.accept('in')) {
    reader.expect('(');
    const values = [parseLiteral(reader)];
    while (reader.accept(',')) values.push(parseLiteral(reader));
    reader.expect(')');
    return { kind: 'equals', column, values, isNegated: isNegatedIn };
  }
  const operator = reader.acceptOne('=', '<>', '!=');
  if (operator === null) throw reader.unexpected();
  return { kind: 'equals', column, values: [parseLiteral(reader)], isNegated: operator !== '=' };
}

function isConditionOver(reader: TokenReader): boolean {
  const next = reader.peek();
  return next === null || (next.kind === 'word' && ['and', 'order', 'limit'].includes(next.text));
}

function parseOrder(reader: TokenReader): Ordering[] {
  const orderings = [parseOrdering(reader)];
  while (reader.accept(',')) orderings.push(parseOrdering(reader));
  return orderings;
}

function parseOrdering(reader: TokenReader): Ordering {
  const isNumber = reader.peek()?.kind === 'number';
  const by = isNumber ? Number(reader.take().text) : parseQualified(reader);
  const isDescending = reader.acceptOne('asc', 'desc') === 'desc';
  return { by, isDescending };
}

function parseLimit(reader: TokenReader): number | null {
  if (reader.accept('all')) return null;
  const token = reader.take();
  if (token.kind !== 'number' || !/^\d{1,9}$/.test(token.text)) {
    throw notSupported('LIMIT takes a number.');
  }
  return Number(token.text);
}

function parseLiteral(reader: TokenReader): Literal {
  const truth = reader.acceptOne('true', 'false');
  if (truth !== null) return { kind: 'string', text: truth };
  if (reader.peek()?.kind === 'parameter') return parseParameter(reader);
  const literal = acceptLiteral(reader);
  if (literal === null) throw reader.unexpected();
  return literal;
}

/** The type of a parameter is that of the column beside it, unless the client says otherwise. */
function parseParameter(reader: TokenReader): Literal {
  const { text } = reader.take();
  if (reader.accept('::')) reader.expect('text');
  return { kind: 'parameter', text };
}

/** A cast to text changes nothing. */
function acceptLiteral(reader: TokenReader): Literal | null {
  const next = reader.peek();
  if (next?.kind !== 'string' && next?.kind !== 'number') return null;
  reader.take();
  if (reader.accept('::')) reader.expect('text');
  return { kind: next.kind, text: next.text };
}
