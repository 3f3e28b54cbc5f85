// What does a statement ask for? Pure: words in, a Statement out.
import { ADMIN_PARSERS } from './admin-syntax.ts';
import type { AdminStatement } from './admin-syntax.ts';
import { notSupported } from './console-error.ts';
import { parseSelect } from './select-syntax.ts';
import type { SelectStatement } from './select-syntax.ts';
import { parseReset, parseSet } from './set-syntax.ts';
import type { SetStatement } from './set-syntax.ts';
import { parseShow } from './show-syntax.ts';
import type { ShowStatement } from './show-syntax.ts';
import { TokenReader } from './token-reader.ts';
import { tokenizeStatements } from './tokens.ts';
import type { Token } from './tokens.ts';

/** What the console understands. */
export type Statement =
  | SelectStatement
  | SetStatement
  | ShowStatement
  | AdminStatement
  | { readonly kind: 'begin' | 'commit' | 'rollback'; readonly tag: string }
  /** Changes nothing. */
  | { readonly kind: 'nothing'; readonly tag: string }
  | { readonly kind: 'discard-all' }
  /** Null: all of them. */
  | { readonly kind: 'deallocate'; readonly name: string | null };

/** Reads the statements of one Query or Parse message; none where there are only blanks. Throws ConsoleError. */
export function parseStatements(sql: string): Statement[] {
  return tokenizeStatements(sql).map(parseStatement);
}

function parseStatement(tokens: readonly Token[]): Statement {
  const reader = new TokenReader(tokens);
  const statement = parseKind(reader);
  reader.end();
  return statement;
}

function parseKind(reader: TokenReader): Statement {
  const token = reader.take();
  const parse = token.kind === 'word' ? PARSERS.get(token.text) : undefined;
  if (parse === undefined) {
    throw notSupported(`There is nothing here that begins with "${token.text.slice(0, 100)}".`);
  }
  return parse(reader);
}

const PARSERS: ReadonlyMap<string, (reader: TokenReader) => Statement> = new Map<
  string,
  (reader: TokenReader) => Statement
>([
  ['select', parseSelect],
  ['show', parseShow],
  ['set', parseSet],
  ['reset', parseReset],
  ['begin', (reader) => transaction(reader, { kind: 'begin', tag: 'BEGIN' })],
  ['start', parseStart],
  ['commit', (reader) => transaction(reader, { kind: 'commit', tag: 'COMMIT' })],
  ['end', (reader) => transaction(reader, { kind: 'commit', tag: 'COMMIT' })],
  ['rollback', (reader) => transaction(reader, { kind: 'rollback', tag: 'ROLLBACK' })],
  ['abort', (reader) => transaction(reader, { kind: 'rollback', tag: 'ROLLBACK' })],
  ['discard', parseDiscard],
  ['deallocate', parseDeallocate],
  ...ADMIN_PARSERS,
]);

function parseStart(reader: TokenReader): Statement {
  reader.expect('transaction');
  skipModes(reader);
  return { kind: 'begin', tag: 'START TRANSACTION' };
}

function transaction(
  reader: TokenReader,
  statement: Extract<Statement, { kind: 'begin' | 'commit' | 'rollback' }>,
): Statement {
  reader.acceptOne('work', 'transaction');
  if (statement.kind === 'begin') skipModes(reader);
  return statement;
}

/** Modes of a transaction: nothing is ever read or written in one. */
function skipModes(reader: TokenReader): void {
  for (;;) {
    if (reader.accept('isolation', 'level')) {
      if (!reader.accept('read', 'committed') && !reader.accept('read', 'uncommitted')) {
        if (!reader.accept('repeatable', 'read')) reader.expect('serializable');
      }
    } else if (
      !reader.accept('read', 'only') &&
      !reader.accept('read', 'write') &&
      !reader.accept('not', 'deferrable') &&
      !reader.accept('deferrable') &&
      !reader.accept(',')
    ) {
      return;
    }
  }
}

function parseDiscard(reader: TokenReader): Statement {
  const what = reader.acceptOne('plans', 'sequences', 'temp', 'temporary');
  if (what !== null) {
    const tag = what === 'temporary' ? 'TEMP' : what.toUpperCase();
    return { kind: 'nothing', tag: `DISCARD ${tag}` };
  }
  reader.expect('all');
  return { kind: 'discard-all' };
}

function parseDeallocate(reader: TokenReader): Statement {
  reader.accept('prepare');
  if (reader.accept('all')) return { kind: 'deallocate', name: null };
  return { kind: 'deallocate', name: reader.name() };
}
