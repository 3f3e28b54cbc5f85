// Which command that changes something is asked for? Words in, a statement out; and how the statement is written. Pure.
import { CONTROLS } from '../base/controls.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { ConsoleError } from './console-error.ts';
import type { TokenReader } from './token-reader.ts';

/** A command, with what it is about. */
export type AdminStatement = { readonly kind: 'admin' } & (
  | { readonly command: 'reload' | 'pause' | 'resume' | 'reconnect' | 'drain' }
  | { readonly command: 'kill'; readonly pid: number }
  /** `waitsForClients`: as DRAIN. */
  | { readonly command: 'shutdown'; readonly waitsForClients: boolean }
  | { readonly command: 'create_slot'; readonly slot: string; readonly reservesWal: boolean }
  | { readonly command: 'drop_slot'; readonly slot: string }
  /** `level` null: as configured. */
  | { readonly command: 'log_level'; readonly component: string; readonly level: string | null }
);

/** How each begins, and what reads the rest of it. */
export const ADMIN_PARSERS: readonly (readonly [
  string,
  (reader: TokenReader) => AdminStatement,
])[] = [
  ['reload', () => ({ kind: 'admin', command: 'reload' })],
  ['pause', (reader) => ofUpstream(reader, 'pause')],
  ['resume', (reader) => ofUpstream(reader, 'resume')],
  ['reconnect', (reader) => ofUpstream(reader, 'reconnect')],
  ['kill', parseKill],
  ['drain', () => ({ kind: 'admin', command: 'drain' })],
  ['shutdown', parseShutdown],
  ['create', parseCreate],
  ['drop', parseDrop],
  ['log', parseLog],
];

/** There is one upstream; it may be named, as PgBouncer's users name a database. */
function ofUpstream(
  reader: TokenReader,
  command: 'pause' | 'resume' | 'reconnect',
): AdminStatement {
  reader.accept('upstream');
  return { kind: 'admin', command };
}

function parseKill(reader: TokenReader): AdminStatement {
  const token = reader.peek();
  const isPid = token !== null && (token.kind === 'number' || token.kind === 'string');
  if (token !== null && !isPid)
    throw noPid(token.kind === 'parameter' ? `$${token.text}` : token.text);
  const { text } = reader.take();
  if (!/^[0-9]{1,10}$/.test(text)) throw noPid(text);
  return { kind: 'admin', command: 'kill', pid: Number(text) };
}

function noPid(text: string): ConsoleError {
  return new ConsoleError({
    sqlstate: SQLSTATE.invalidParameterValue,
    message: `"${text.slice(0, SHOWN_LENGTH_MAX)}" is no pid`,
    hint: 'SHOW STANDBYS shows the pid of each.',
  });
}

function parseShutdown(reader: TokenReader): AdminStatement {
  const waitsForClients = reader.accept('wait_for_clients');
  return { kind: 'admin', command: 'shutdown', waitsForClients };
}

function parseCreate(reader: TokenReader): AdminStatement {
  reader.expect('slot');
  const slot = reader.name();
  return {
    kind: 'admin',
    command: 'create_slot',
    slot,
    reservesWal: reader.accept('reserve_wal'),
  };
}

function parseDrop(reader: TokenReader): AdminStatement {
  reader.expect('slot');
  return { kind: 'admin', command: 'drop_slot', slot: reader.name() };
}

/** Names with a hyphen (`read-through`) need no quotes. */
function parseLog(reader: TokenReader): AdminStatement {
  reader.expect('level');
  let component = reader.name();
  while (reader.accept('-')) component += `-${reader.name()}`;
  const level = reader.name();
  return {
    kind: 'admin',
    command: 'log_level',
    component,
    level: level.toLowerCase() === 'reset' ? null : level,
  };
}

/** Of CommandComplete: the words of a command without what it is about. */
export function adminTag({ command }: AdminStatement): string {
  return command.toUpperCase().replaceAll('_', ' ');
}

/** Longer than any name or number that is right. */
const SHOWN_LENGTH_MAX = 100;

/** The statement for the log: on one line, and no longer for what a client writes. */
export function adminText(statement: AdminStatement): string {
  const words = adminTag(statement);
  switch (statement.command) {
    case 'kill':
      return `${words} ${statement.pid}`;
    case 'shutdown':
      return statement.waitsForClients ? `${words} WAIT_FOR_CLIENTS` : words;
    case 'create_slot':
      return `${words} ${quoted(statement.slot)}${statement.reservesWal ? ' RESERVE_WAL' : ''}`;
    case 'drop_slot':
      return `${words} ${quoted(statement.slot)}`;
    case 'log_level':
      return `${words} ${quoted(statement.component)} ${quoted(statement.level ?? 'reset')}`;
    default:
      return words;
  }
}

/** No name of a slot has blanks or `=`, so that nothing in it looks like a field of the line. */
function quoted(name: string): string {
  const plain = name.slice(0, SHOWN_LENGTH_MAX).replaceAll(CONTROLS, '?').replaceAll(/[\s=]/g, '?');
  return `"${plain.replaceAll('"', '""')}"`;
}
