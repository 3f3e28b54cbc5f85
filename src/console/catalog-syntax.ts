// Is this a question that psql or a driver asks the system catalogue by itself? Recognized by its shape: what it reads from
// and what its columns are called. Pure. (src/bin/psql: describe.c, tab-complete.c, common.c:DescribeQuery)
import {
  CONSOLE_CATALOG_CONDITIONS_MAX,
  CONSOLE_CATALOG_PATTERN_MAX,
  CONSOLE_CATALOG_PATTERN_STEPS_MAX,
  CONSOLE_CATALOG_PATTERNS_MAX,
} from '../config/limits.ts';
import { readNamePattern } from '../pg/name-pattern.ts';
import type { Token } from './tokens.ts';

/** One entry of the list behind SELECT: the name it has in the result, and the column it is where it is one alone. */
export interface CatalogItem {
  readonly label: string;
  readonly column: string | null;
}

/** Rows are kept whose `column` is one of `values`, matches the regular expression, or begins with the text. */
export interface CatalogCondition {
  readonly column: string;
  readonly kind: 'in' | 'matches' | 'like';
  readonly values: readonly string[];
}

/** A question to the catalogue. */
export interface CatalogSelect {
  readonly kind: 'select';
  readonly what: 'catalog';
  /** What it reads from, without its schema; `values` for a list that stands in the question itself. */
  readonly relation: string;
  readonly items: readonly CatalogItem[];
  readonly conditions: readonly CatalogCondition[];
  /** Of `values`: the columns of a result, by name and type. */
  readonly described: readonly { readonly name: string; readonly typeOid: number }[];
}

/** A label that only questions of one shape have, by what they read from. */
const SHAPES: ReadonlyMap<string, readonly string[]> = new Map([
  ['pg_class', ['Schema', 'relchecks', 'relname']],
  ['pg_attribute', ['attname']],
  ['pg_namespace', ['Name', 'nspname']],
  ['pg_database', ['Name', 'datname']],
  ['pg_settings', ['Parameter', 'lower']],
  ['pg_type', ['typarray']],
  ['pg_rewrite', ['rulename']],
]);

/** Words of conditions that say which rows are wanted. */
const FILTERED: ReadonlySet<string> = new Set([
  'attname',
  'attrelid',
  'context',
  'datname',
  'name',
  'nspname',
  'oid',
  'relkind',
  'relname',
]);

/** The words behind SELECT; null for a question of any other kind. */
export function readCatalogSelect(words: readonly Token[]): CatalogSelect | null {
  const from = topLevel(words, 'from');
  if (from < 0) return readViewDefinition(words);
  const items = itemsOf(words.slice(0, from));
  const rest = words.slice(from + 1);
  // Values that are bound, and one condition or another, are asked for by people and their drivers alone.
  if (words.some(({ kind }) => kind === 'parameter') || topLevel(rest, 'or') >= 0) return null;
  if (isWord(rest[0], '(') && isWord(rest[1], 'values')) return readDescribed(items, rest);
  const name = rest[isWord(rest[0], 'pg_catalog') && isWord(rest[1], '.') ? 2 : 0]?.text ?? '';
  const labels = SHAPES.get(name);
  if (labels === undefined || !items.some(({ label }) => labels.includes(label))) return null;
  // Relations without the schema are asked for by people, who mean something else.
  if (!isWord(rest[0], 'pg_catalog')) return null;
  const conditions = conditionsOf(rest);
  if (!isBounded(conditions)) return null;
  return { kind: 'select', what: 'catalog', relation: name, items, conditions, described: [] };
}

/** No person asks for more. */
function isBounded(conditions: readonly CatalogCondition[]): boolean {
  const values = conditions.flatMap((condition) => condition.values);
  const patterns = conditions.flatMap((condition) => {
    return condition.kind === 'matches' ? condition.values : [];
  });
  return (
    conditions.length <= CONSOLE_CATALOG_CONDITIONS_MAX &&
    values.every(({ length }) => length <= CONSOLE_CATALOG_PATTERN_MAX) &&
    patterns.length <= CONSOLE_CATALOG_PATTERNS_MAX &&
    patterns.every(isSmallPattern) &&
    conditions.every(({ kind, values: [text = ''] }) => kind !== 'like' || isBeginning(text))
  );
}

/** Completion asks for names that begin with something: wildcards elsewhere have a backslash before them. */
function isBeginning(pattern: string): boolean {
  return !/[%_]/.test(pattern.replace(/%$/, '').replaceAll(/\\./gs, ''));
}

/** A wrong one is small: nothing matches it. */
function isSmallPattern(text: string): boolean {
  const pattern = readNamePattern(text);
  return 'problem' in pattern || pattern.program.length <= CONSOLE_CATALOG_PATTERN_STEPS_MAX;
}

/** What `\d+` asks for a view. */
function readViewDefinition(words: readonly Token[]): CatalogSelect | null {
  if (!isWord(words[0], 'pg_catalog') || !isWord(words[2], 'pg_get_viewdef')) return null;
  const items = [{ label: 'pg_get_viewdef', column: null }];
  return {
    kind: 'select',
    what: 'catalog',
    relation: 'pg_rewrite',
    items,
    conditions: [],
    described: [],
  };
}

/** `\gdesc`: names, types and modifiers as a list of values. */
function readDescribed(
  items: readonly CatalogItem[],
  rest: readonly Token[],
): CatalogSelect | null {
  if (items[0]?.label !== 'Column' || items[1]?.label !== 'Type') return null;
  const described: { name: string; typeOid: number }[] = [];
  for (const [index, word] of rest.entries()) {
    const isRow = isWord(word, '(') && rest[index + 1]?.kind === 'string';
    if (!isRow || !isWord(rest[index + 2], ',')) continue;
    const typeOid = Number(rest[index + 3]?.text);
    described.push({ name: rest[index + 1]?.text ?? '', typeOid });
  }
  const [relation, conditions] = ['values', []];
  return { kind: 'select', what: 'catalog', relation, items, conditions, described };
}

/** Where `keyword` stands outside of all parentheses; -1 when it does not. */
function topLevel(words: readonly Token[], keyword: string): number {
  let depth = 0;
  return words.findIndex((word) => {
    depth += depthOf(word);
    return depth === 0 && isWord(word, keyword);
  });
}

function itemsOf(words: readonly Token[]): CatalogItem[] {
  const items: CatalogItem[] = [];
  let depth = 0;
  let start = 0;
  for (const [index, word] of words.entries()) {
    depth += depthOf(word);
    if (depth > 0 || !isWord(word, ',')) continue;
    items.push(itemOf(words.slice(start, index)));
    start = index + 1;
  }
  items.push(itemOf(words.slice(start)));
  return items;
}

/** (parse_target.c:FigureColname, as far as it matters here) */
function itemOf(words: readonly Token[]): CatalogItem {
  const last = words.at(-1);
  const hasLabel = isWord(words.at(-2), 'as');
  const value = hasLabel ? words.slice(0, -2) : words;
  const isColumn = value.every(
    ({ kind, text }) => kind === 'word' || kind === 'name' || text === '.',
  );
  const column = isColumn ? (value.at(-1)?.text ?? null) : null;
  if (hasLabel) return { label: last?.text ?? '', column };
  const open = words.findIndex((word) => isWord(word, '('));
  const called = open > 0 ? words[open - 1]?.text : undefined;
  return { label: column ?? called ?? '?column?', column };
}

/** Those that name a column of {@link FILTERED} and a value, before the first UNION. */
function conditionsOf(words: readonly Token[]): CatalogCondition[] {
  const end = topLevel(words, 'union');
  const searched = end < 0 ? words : words.slice(0, end);
  return searched.flatMap((word, index) => {
    if (word.kind !== 'word' || !FILTERED.has(word.text)) return [];
    const condition = conditionAt(searched, index);
    return condition === null ? [] : [condition];
  });
}

/** How far its first value is from an operator at most: each condition is looked for by itself. */
const VALUE_DISTANCE_MAX = 16;

function conditionAt(words: readonly Token[], index: number): CatalogCondition | null {
  let at = index + 1;
  while (isWord(words[at], ')')) at += 1;
  const kind = kindOf(words, at);
  if (kind === null) return null;
  const values: string[] = [];
  const nearEnd = at + VALUE_DISTANCE_MAX;
  // Between the operator and its value there are parentheses, names of functions and of schemas.
  for (at += 1; at < words.length && (values.length > 0 || at < nearEnd); at += 1) {
    const word = words[at];
    if (word?.kind === 'string' || word?.kind === 'number') values.push(word.text);
    else if (values.length > 0 && !isWord(word, ',')) break;
    else if (isWord(word, 'and') || isWord(word, 'select') || isWord(word, 'where')) break;
    else if (isWord(word, 'on') || isWord(word, 'join')) break;
  }
  return values.length === 0 ? null : { column: words[index]?.text ?? '', kind, values };
}

function kindOf(words: readonly Token[], at: number): CatalogCondition['kind'] | null {
  if (isWord(words[at], '=') || isWord(words[at], 'in')) return 'in';
  if (isWord(words[at], '~')) return 'matches';
  if (isWord(words[at], 'like')) return 'like';
  const isOperator = isWord(words[at], 'operator') && isWord(words[at + 4], '~');
  return isOperator ? 'matches' : null;
}

function depthOf(word: Token): number {
  return Number(isWord(word, '(')) - Number(isWord(word, ')'));
}

function isWord(word: Token | undefined, text: string): boolean {
  return (
    word !== undefined && word.text === text && (word.kind === 'word' || word.kind === 'symbol')
  );
}
