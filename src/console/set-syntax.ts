// SET and RESET, as clients send them around what they are there for. (gram.y: VariableSetStmt, VariableResetStmt)
import type { TokenReader } from './token-reader.ts';

/** A change of settings. */
export type SetStatement =
  /** `name` in lower case; `value` null: back to the default. */
  | {
      readonly kind: 'set';
      readonly name: string;
      readonly value: string | null;
      readonly tag: 'SET' | 'RESET';
    }
  | { readonly kind: 'reset-all' }
  /** Modes of transactions, and LOCAL settings outside of what they could change. */
  | { readonly kind: 'nothing'; readonly tag: string };

const NOTHING: SetStatement = { kind: 'nothing', tag: 'SET' };

/** What follows SET. */
export function parseSet(reader: TokenReader): SetStatement {
  if (reader.accept('session', 'characteristics', 'as', 'transaction')) return rest(reader);
  if (reader.accept('transaction')) return rest(reader);
  reader.acceptOne('session', 'local');
  if (reader.accept('time', 'zone')) return setting('timezone', readValue(reader));
  if (reader.accept('names')) return setting('client_encoding', readValue(reader));
  const name = readName(reader);
  if (!reader.accept('=')) reader.expect('to');
  return setting(name, readValue(reader));
}

/** What follows RESET. */
export function parseReset(reader: TokenReader): SetStatement {
  if (reader.accept('all')) return { kind: 'reset-all' };
  if (reader.accept('time', 'zone')) return reset('timezone');
  if (reader.accept('session', 'authorization')) return { kind: 'nothing', tag: 'RESET' };
  return reset(readName(reader));
}

function setting(name: string, value: string | null): SetStatement {
  return { kind: 'set', name, value, tag: 'SET' };
}

function reset(name: string): SetStatement {
  return { kind: 'set', name, value: null, tag: 'RESET' };
}

/** Everything up to the end is taken and has no effect. */
function rest(reader: TokenReader): SetStatement {
  while (reader.peek() !== null) reader.take();
  return NOTHING;
}

function readName(reader: TokenReader): string {
  let name = reader.name();
  while (reader.accept('.')) name += `.${reader.name()}`;
  return name.toLowerCase();
}

/** One value or a list of them; null for DEFAULT. */
function readValue(reader: TokenReader): string | null {
  if (reader.accept('default')) return null;
  const values = [readPart(reader)];
  while (reader.accept(',')) values.push(readPart(reader));
  return values.join(', ');
}

function readPart(reader: TokenReader): string {
  const sign = reader.acceptOne('-', '+') === '-' ? '-' : '';
  const token = reader.take();
  if (token.kind === 'symbol' || token.kind === 'parameter') throw reader.unexpected();
  return sign + token.text;
}
