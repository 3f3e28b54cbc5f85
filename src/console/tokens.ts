// What are the words of a statement? As much of PostgreSQL's lexical rules as keeps quotes and comments apart from the rest.
// (src/backend/parser/scan.l)
import { CONSOLE_QUERY_STATEMENTS_MAX, CONSOLE_STATEMENT_WORDS_MAX } from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { ConsoleError, notSupported } from './console-error.ts';

/** One word of a statement. */
export interface Token {
  /**
   * `word`: a keyword or a name without quotes, in lower case. `name`: one in double quotes. `string`: in single quotes.
   * `number`: digits. `parameter`: the digits behind a dollar sign. `symbol`: anything else, an operator as a whole.
   */
  readonly kind: 'word' | 'name' | 'string' | 'number' | 'parameter' | 'symbol';
  readonly text: string;
}

const BLANK = /(?:\s|--[^\n\r]*)+/y;
const WORD = /[A-Za-z_\u0080-\u{10ffff}][\w$\u0080-\u{10ffff}]*/uy;
const NUMBER = /\d+(?:\.\d+)?/y;
const PARAMETER = /\$(\d{1,5})/y;
const STRING = /'((?:[^']|'')*)'/y;
/** Backslashes before quotes, wildcards and the letters of {@link CONTROLS}; escapes by number are not understood. */
const ESCAPED = /[Ee]'((?:[^'\\]|''|\\['\\%_bfnrt])*)'/y;
/** (scan.l:unescape_single_char) */
const CONTROLS: ReadonlyMap<string, string> = new Map([
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
]);
const SEMICOLON: Token = { kind: 'symbol', text: ';' };
const NAME = /"((?:[^"]|"")*)"/y;
const OPERATOR = /[-+*/<>=~!@#%^&|`?:]+/y;

/** Splits `sql` into statements at each `;`, without those that are empty; no further than to one too many. Throws {@link ConsoleError}. */
export function tokenizeStatements(sql: string): Token[][] {
  const statements: Token[][] = [];
  let current: Token[] = [];
  for (const token of tokens(sql)) {
    if (token.kind !== 'symbol' || token.text !== ';') {
      if (statements.length === CONSOLE_QUERY_STATEMENTS_MAX) throw tooManyStatements();
      if (current.length === CONSOLE_STATEMENT_WORDS_MAX) throw tooManyWords();
      current.push(token);
      continue;
    }
    if (current.length > 0) statements.push(current);
    current = [];
  }
  if (current.length > 0) statements.push(current);
  return statements;
}

function tooManyStatements(): ConsoleError {
  return new ConsoleError({
    sqlstate: SQLSTATE.programLimitExceeded,
    message: `a query may have at most ${CONSOLE_QUERY_STATEMENTS_MAX} statements here`,
  });
}

function tooManyWords(): ConsoleError {
  return new ConsoleError({
    sqlstate: SQLSTATE.programLimitExceeded,
    message: `a statement may have at most ${CONSOLE_STATEMENT_WORDS_MAX} words here`,
  });
}

function* tokens(sql: string): Generator<Token> {
  let position = skipBlank(sql, 0);
  while (position < sql.length) {
    const [token, end] = tokenAt(sql, position);
    yield token;
    position = skipBlank(sql, end);
  }
}

function skipBlank(sql: string, from: number): number {
  let position = from;
  for (;;) {
    const end = matchAt(BLANK, sql, position)?.[0].length ?? 0;
    position += end;
    if (sql.startsWith('/*', position)) position = skipComment(sql, position);
    else if (end === 0) return position;
  }
}

/** Comments of this kind lie within each other. */
function skipComment(sql: string, from: number): number {
  const marks = /\/\*|\*\//g;
  marks.lastIndex = from;
  let depth = 0;
  for (let mark = marks.exec(sql); mark !== null; mark = marks.exec(sql)) {
    depth += mark[0] === '/*' ? 1 : -1;
    if (depth === 0) return marks.lastIndex;
  }
  throw syntaxError('unterminated /* comment', sql.slice(from));
}

function tokenAt(sql: string, position: number): [token: Token, end: number] {
  const take = (kind: Token['kind'], match: RegExpExecArray, text: string): [Token, number] => [
    { kind, text },
    position + match[0].length,
  ];
  // There may be as many as a message has bytes.
  if (sql.startsWith(';', position)) return [SEMICOLON, position + 1];
  const escaped = matchAt(ESCAPED, sql, position);
  if (escaped !== null) return take('string', escaped, unescaped(escaped[1] ?? ''));
  // A string with any other prefix (B'', U&'') is no word and a string.
  const prefixed = /(?:[EeBbXxNn]|[Uu]&)'/y;
  if (matchAt(prefixed, sql, position) !== null) {
    throw notSupported("Strings with a prefix, as B'...', are not understood.");
  }
  const word = matchAt(WORD, sql, position);
  if (word !== null) return take('word', word, lowerAscii(word[0]));
  const number = matchAt(NUMBER, sql, position);
  if (number !== null) return take('number', number, number[0]);
  const text = matchAt(STRING, sql, position);
  if (text !== null) return take('string', text, (text[1] ?? '').replaceAll("''", "'"));
  const name = matchAt(NAME, sql, position);
  if (name !== null) return take('name', name, (name[1] ?? '').replaceAll('""', '"'));
  const parameter = matchAt(PARAMETER, sql, position);
  if (parameter !== null) return take('parameter', parameter, parameter[1] ?? '');
  const first = sql.charAt(position);
  if (first === "'") throw syntaxError('unterminated quoted string', sql.slice(position));
  if (first === '"') throw syntaxError('unterminated quoted identifier', sql.slice(position));
  const operator = matchAt(OPERATOR, sql, position);
  if (operator !== null) return take('symbol', operator, operator[0]);
  return [{ kind: 'symbol', text: first }, position + 1];
}

function unescaped(text: string): string {
  return text.replaceAll(/''|\\(.)/g, (_, letter: string | undefined) => {
    if (letter === undefined) return "'";
    // What is no escape is the letter itself, so that LIKE has lost its backslash before a wildcard.
    return CONTROLS.get(letter) ?? letter;
  });
}

function matchAt(pattern: RegExp, sql: string, position: number): RegExpExecArray | null {
  pattern.lastIndex = position;
  return pattern.exec(sql);
}

/** Only ASCII letters are folded, as in a database whose encoding has several bytes a character. */
function lowerAscii(text: string): string {
  return text.replaceAll(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

const SHOWN_LENGTH_MAX = 100;

/** 42601 with PostgreSQL's words. (scan.l:scanner_yyerror) */
export function syntaxError(problem: string, near: string): ConsoleError {
  const where = near === '' ? 'at end of input' : `at or near "${near.slice(0, SHOWN_LENGTH_MAX)}"`;
  return new ConsoleError({ sqlstate: SQLSTATE.syntaxError, message: `${problem} ${where}` });
}
