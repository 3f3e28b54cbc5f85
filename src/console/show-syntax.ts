// What is asked for by SHOW? Words in, a name out. Pure. (gram.y: VariableShowStmt)
import type { TokenReader } from './token-reader.ts';

/** `name` in lower case: a report of walcast, a setting, or `all`. */
export interface ShowStatement {
  readonly kind: 'show';
  readonly name: string;
}

/** What follows SHOW. */
export function parseShow(reader: TokenReader): ShowStatement {
  return { kind: 'show', name: readShown(reader) };
}

function readShown(reader: TokenReader): string {
  if (reader.accept('transaction', 'isolation', 'level')) return 'transaction_isolation';
  if (reader.accept('time', 'zone')) return 'timezone';
  if (reader.accept('session', 'authorization')) return 'session_authorization';
  let name = reader.name();
  while (reader.accept('.')) name += `.${reader.name()}`;
  return name.toLowerCase();
}
