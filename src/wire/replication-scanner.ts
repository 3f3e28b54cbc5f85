// Which words is a replication command made of? (src/backend/replication/repl_scanner.l)
import { parseLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { decodeText } from './message-reader.ts';
import { encodeText } from './message-writer.ts';

/** An error to be sent to the client as it stands. */
export interface CommandError {
  readonly sqlstate: string;
  readonly message: string;
  readonly detail?: string;
  readonly hint?: string;
}

/** A notice to be sent before the answer. */
export interface CommandNotice extends CommandError {
  readonly severity: 'NOTICE';
}

/** One word. `symbol` is any other character; `end` comes for ever after the last word. */
export type Token =
  | { readonly kind: 'keyword'; readonly keyword: string }
  | { readonly kind: 'identifier'; readonly text: string }
  | { readonly kind: 'string'; readonly text: string }
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'lsn'; readonly lsn: Lsn }
  | { readonly kind: 'symbol'; readonly symbol: string }
  | { readonly kind: 'end' };

/** Ends the parse; `error` is what the client is told. Never leaves the room. */
export class CommandRefusal extends Error {
  readonly error: CommandError;

  constructor(error: CommandError) {
    super(error.message);
    this.error = error;
  }
}

/** What every grammar error says. */
export function syntaxError(message = 'syntax error'): CommandRefusal {
  return new CommandRefusal({ sqlstate: SQLSTATE.syntaxError, message });
}

const IDENTIFIER_BYTES_MAX = 63;
const NUMBER_MAX = 0xffffffff;

const KEYWORDS = [
  'BASE_BACKUP',
  'CREATE_REPLICATION_SLOT',
  'DROP_REPLICATION_SLOT',
  'EXPORT_SNAPSHOT',
  'IDENTIFY_SYSTEM',
  'LOGICAL',
  'NOEXPORT_SNAPSHOT',
  'PHYSICAL',
  'RESERVE_WAL',
  'SHOW',
  'SLOT',
  'START_REPLICATION',
  'TEMPORARY',
  'TIMELINE',
  'TIMELINE_HISTORY',
  'USE_SNAPSHOT',
] as const;

/** Words of BASE_BACKUP before it took its options in parentheses. */
const OLD_BACKUP_KEYWORDS = [
  'FAST',
  'LABEL',
  'MANIFEST',
  'MANIFEST_CHECKSUMS',
  'MAX_RATE',
  'NOVERIFY_CHECKSUMS',
  'NOWAIT',
  'PROGRESS',
  'TABLESPACE_MAP',
  'WAL',
] as const;

const IDENTIFIER = /[A-Za-z_\u0080-\u{10ffff}][A-Za-z_\u0080-\u{10ffff}0-9$]*/uy;
const LSN = /[0-9A-Fa-f]+\/[0-9A-Fa-f]+/y;
const NUMBER = /[0-9]+/y;
const SPACE = /[ \t\n\r\f]*/y;
const SPACE_WITH_VERTICAL_TAB = /[ \t\n\r\f\v]*/y;

/** Reads words one at a time, so that an error later in the text is not seen before one that comes first. */
export class ReplicationScanner {
  readonly notices: CommandNotice[] = [];
  readonly #sql: string;
  readonly #facts: VersionFacts;
  readonly #keywords: ReadonlySet<string>;
  #offset = 0;

  constructor(sql: string, facts: VersionFacts) {
    this.#sql = sql;
    this.#facts = facts;
    this.#keywords = keywordsOf(facts);
  }

  /** The next word. Throws {@link CommandRefusal}: `unterminated quoted string`, or a number that does not fit. */
  next(): Token {
    this.#match(this.#facts.hasVerticalTabAsSpace ? SPACE_WITH_VERTICAL_TAB : SPACE);
    const char = this.#sql.charAt(this.#offset);
    if (char === '') return { kind: 'end' };
    if (char === "'") return { kind: 'string', text: this.#quotedString() };
    if (char === '"') return this.#quotedIdentifier();
    // Longest match wins: `1/2` is no number and `A/1` no identifier.
    const lsn = this.#match(LSN);
    if (lsn !== null) return lsnToken(lsn);
    const digits = this.#match(NUMBER);
    if (digits !== null) return numberToken(digits);
    const word = this.#match(IDENTIFIER);
    if (word !== null) return this.#word(word);
    this.#offset += 1;
    return { kind: 'symbol', symbol: char };
  }

  #word(word: string): Token {
    if (this.#keywords.has(word)) return { kind: 'keyword', keyword: word };
    return { kind: 'identifier', text: this.#truncate(foldAscii(word)) };
  }

  /** Between double quotes nothing stands for a quote: `"a""b"` is two identifiers, on every version. */
  #quotedIdentifier(): Token {
    return { kind: 'identifier', text: this.#truncate(this.#upTo('"')) };
  }

  /** Between single quotes two of them stand for one. */
  #quotedString(): string {
    let text = this.#upTo("'");
    while (this.#sql.charAt(this.#offset) === "'") text += `'${this.#upTo("'")}`;
    return text;
  }

  /** What lies between the quote at the current place and the next one. */
  #upTo(quote: string): string {
    const start = this.#offset + 1;
    const end = this.#sql.indexOf(quote, start);
    if (end < 0) throw syntaxError('unterminated quoted string');
    this.#offset = end + 1;
    return this.#sql.slice(start, end);
  }

  /** truncate_identifier: names are at most 63 bytes, and the client is told. */
  #truncate(name: string): string {
    const bytes = encodeText(name);
    if (bytes.length <= IDENTIFIER_BYTES_MAX) return name;
    let end = IDENTIFIER_BYTES_MAX;
    while (((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
    const truncated = decodeText(bytes.subarray(0, end));
    this.notices.push({
      severity: 'NOTICE',
      sqlstate: SQLSTATE.nameTooLong,
      message: `identifier "${name}" will be truncated to "${truncated}"`,
    });
    return truncated;
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#offset;
    const text = pattern.exec(this.#sql)?.[0] ?? null;
    if (text !== null) this.#offset += text.length;
    return text;
  }
}

function keywordsOf(facts: VersionFacts): ReadonlySet<string> {
  const keywords = new Set<string>(KEYWORDS);
  if (facts.hasParenthesizedOptions) keywords.add('TWO_PHASE');
  else for (const keyword of OLD_BACKUP_KEYWORDS) keywords.add(keyword);
  keywords.add('WAIT');
  if (facts.hasReadReplicationSlot) keywords.add('READ_REPLICATION_SLOT');
  if (facts.hasAlterReplicationSlot) keywords.add('ALTER_REPLICATION_SLOT');
  if (facts.hasUploadManifest) keywords.add('UPLOAD_MANIFEST');
  return keywords;
}

function foldAscii(word: string): string {
  return word.replace(/[A-Z]+/g, (capitals) => capitals.toLowerCase());
}

/** Stricter than PostgreSQL, whose strtoul wraps 4294967297 to 1. */
function numberToken(digits: string): Token {
  const value = Number(digits);
  if (value > NUMBER_MAX) throw syntaxError();
  return { kind: 'number', value };
}

/** Stricter than PostgreSQL, whose sscanf wraps halves of more than eight digits. */
function lsnToken(text: string): Token {
  const lsn = parseLsn(text);
  if (lsn === null) throw syntaxError();
  return { kind: 'lsn', lsn };
}
