// What does a client of a walsender ask for? The grammar of the replication commands, per version of the server we
// stand for. (src/backend/replication/repl_gram.y, walsender.c:exec_replication_command)
import type { Lsn } from '../pg/lsn.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { toTimelineId } from '../pg/timeline.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { checkAlterOptions, checkSlotOptions, NO_VALUE } from './replication-slot-options.ts';
import type { SlotOption, SlotOptionValue } from './replication-slot-options.ts';
import { CommandRefusal, ReplicationScanner, syntaxError } from './replication-scanner.ts';
import type { CommandError, CommandNotice, Token } from './replication-scanner.ts';

export type { CommandError, CommandNotice } from './replication-scanner.ts';

/** A command, by its name in the grammar. Options that only an upstream can act on are checked and left out. */
export type ReplicationCommand =
  | { readonly type: 'IDENTIFY_SYSTEM' }
  | { readonly type: 'SHOW'; readonly name: string }
  | { readonly type: 'TIMELINE_HISTORY'; readonly timeline: TimelineId }
  | { readonly type: 'READ_REPLICATION_SLOT'; readonly slot: string }
  | {
      readonly type: 'CREATE_REPLICATION_SLOT';
      readonly slot: string;
      readonly temporary: boolean;
      readonly kind: 'physical';
      readonly reserveWal: boolean;
    }
  | {
      readonly type: 'CREATE_REPLICATION_SLOT';
      readonly slot: string;
      readonly temporary: boolean;
      readonly kind: 'logical';
      readonly plugin: string;
    }
  | { readonly type: 'DROP_REPLICATION_SLOT'; readonly slot: string; readonly wait: boolean }
  | { readonly type: 'ALTER_REPLICATION_SLOT'; readonly slot: string }
  | {
      readonly type: 'START_REPLICATION';
      readonly kind: 'physical';
      readonly slot: string | null;
      /** First byte wanted. */
      readonly startLsn: Lsn;
      /** Null: whatever timeline is current. */
      readonly timeline: TimelineId | null;
    }
  | { readonly type: 'START_REPLICATION'; readonly kind: 'logical'; readonly slot: string }
  | { readonly type: 'BASE_BACKUP' }
  | { readonly type: 'UPLOAD_MANIFEST' };

/** A command or the error to send; `notices` go to the client first in either case. */
export type ParsedCommand =
  | { readonly command: ReplicationCommand; readonly notices: readonly CommandNotice[] }
  | { readonly error: CommandError; readonly notices: readonly CommandNotice[] };

/**
 * Reads one Query of a physical replication connection. Never throws for what a client may send: 42601 for bad syntax,
 * 0A000 for a text whose first word is no command of that version. Stricter than PostgreSQL, which lets numbers above
 * 2^32-1 and LSN halves of more than eight digits wrap around.
 */
export function parseReplicationCommand(sql: string, facts: VersionFacts): ParsedCommand {
  const scanner = new ReplicationScanner(sql, facts);
  try {
    const command = new CommandParser(scanner, facts).parse();
    return { command, notices: scanner.notices };
  } catch (error) {
    if (!(error instanceof CommandRefusal)) throw error;
    return { error: error.error, notices: scanner.notices };
  }
}

/** Words of BASE_BACKUP before version 15, and the kind of word that follows. */
const OLD_BACKUP_OPTIONS: ReadonlyMap<string, 'string' | 'number' | null> = new Map([
  ['LABEL', 'string'],
  ['PROGRESS', null],
  ['FAST', null],
  ['WAL', null],
  ['NOWAIT', null],
  ['MAX_RATE', 'number'],
  ['TABLESPACE_MAP', null],
  ['NOVERIFY_CHECKSUMS', null],
  ['MANIFEST', 'string'],
  ['MANIFEST_CHECKSUMS', 'string'],
]);

/** Options of CREATE_REPLICATION_SLOT in their old form, and what they stand for. */
const OLD_SLOT_OPTIONS: ReadonlyMap<string, SlotOption> = new Map([
  ['EXPORT_SNAPSHOT', { name: 'snapshot', value: { text: 'export', number: null } }],
  ['NOEXPORT_SNAPSHOT', { name: 'snapshot', value: { text: 'nothing', number: null } }],
  ['USE_SNAPSHOT', { name: 'snapshot', value: { text: 'use', number: null } }],
  ['RESERVE_WAL', { name: 'reserve_wal', value: NO_VALUE }],
  ['TWO_PHASE', { name: 'two_phase', value: NO_VALUE }],
]);

/** One word of lookahead, taken only when it decides something: what follows may be an error of its own. */
class CommandParser {
  readonly #scanner: ReplicationScanner;
  readonly #facts: VersionFacts;
  #lookahead: Token | null = null;

  constructor(scanner: ReplicationScanner, facts: VersionFacts) {
    this.#scanner = scanner;
    this.#facts = facts;
  }

  parse(): ReplicationCommand {
    const finish = this.#command();
    this.#acceptSymbol(';');
    if (this.#peek().kind !== 'end') throw syntaxError();
    return finish();
  }

  /** Reads a command up to its last word; the returned function checks what PostgreSQL checks after the grammar. */
  #command(): () => ReplicationCommand {
    const first = this.#take();
    switch (first.kind === 'keyword' ? first.keyword : '') {
      case 'IDENTIFY_SYSTEM':
        return () => ({ type: 'IDENTIFY_SYSTEM' });
      case 'SHOW':
        return this.#named((name) => ({ type: 'SHOW', name }));
      case 'READ_REPLICATION_SLOT':
        return this.#named((slot) => ({ type: 'READ_REPLICATION_SLOT', slot }));
      case 'TIMELINE_HISTORY':
        return this.#timelineHistory();
      case 'CREATE_REPLICATION_SLOT':
        return this.#createSlot();
      case 'DROP_REPLICATION_SLOT':
        return this.#dropSlot();
      case 'ALTER_REPLICATION_SLOT':
        return this.#alterSlot();
      case 'START_REPLICATION':
        return this.#startReplication();
      case 'BASE_BACKUP':
        return this.#baseBackup();
      case 'UPLOAD_MANIFEST':
        return () => ({ type: 'UPLOAD_MANIFEST' });
      default:
        throw new CommandRefusal({
          sqlstate: SQLSTATE.featureNotSupported,
          message: 'cannot execute SQL commands in WAL sender for physical replication',
        });
    }
  }

  #named(make: (name: string) => ReplicationCommand): () => ReplicationCommand {
    let name = this.#identifier();
    while (this.#acceptSymbol('.')) name += `.${this.#identifier()}`;
    return () => make(name);
  }

  #timelineHistory(): () => ReplicationCommand {
    const timeline = this.#timeline();
    return () => ({ type: 'TIMELINE_HISTORY', timeline });
  }

  #createSlot(): () => ReplicationCommand {
    const slot = this.#identifier();
    const temporary = this.#acceptKeyword('TEMPORARY');
    if (this.#acceptKeyword('PHYSICAL')) {
      const options = this.#slotOptions();
      return () => {
        const reserveWal = checkSlotOptions(options, 'physical', this.#facts);
        return { type: 'CREATE_REPLICATION_SLOT', slot, temporary, kind: 'physical', reserveWal };
      };
    }
    this.#expectKeyword('LOGICAL');
    const plugin = this.#identifier();
    const options = this.#slotOptions();
    return () => {
      checkSlotOptions(options, 'logical', this.#facts);
      return { type: 'CREATE_REPLICATION_SLOT', slot, temporary, kind: 'logical', plugin };
    };
  }

  #slotOptions(): readonly SlotOption[] {
    if (this.#facts.hasParenthesizedOptions && this.#acceptSymbol('(')) return this.#optionList();
    const options: SlotOption[] = [];
    for (;;) {
      const token = this.#peek();
      const option = token.kind === 'keyword' ? OLD_SLOT_OPTIONS.get(token.keyword) : undefined;
      if (option === undefined) return options;
      this.#take();
      options.push(option);
    }
  }

  #dropSlot(): () => ReplicationCommand {
    const slot = this.#identifier();
    const wait = this.#acceptKeyword('WAIT');
    return () => ({ type: 'DROP_REPLICATION_SLOT', slot, wait });
  }

  #alterSlot(): () => ReplicationCommand {
    const slot = this.#identifier();
    this.#expectSymbol('(');
    const options = this.#optionList();
    return () => {
      checkAlterOptions(options, this.#facts);
      return { type: 'ALTER_REPLICATION_SLOT', slot };
    };
  }

  #startReplication(): () => ReplicationCommand {
    const slot = this.#acceptKeyword('SLOT') ? this.#identifier() : null;
    if (slot !== null && this.#acceptKeyword('LOGICAL')) {
      this.#lsn();
      if (this.#acceptSymbol('(')) this.#pluginOptions();
      return () => ({ type: 'START_REPLICATION', kind: 'logical', slot });
    }
    this.#acceptKeyword('PHYSICAL');
    const startLsn = this.#lsn();
    const timeline = this.#acceptKeyword('TIMELINE') ? this.#timeline() : null;
    return () => ({ type: 'START_REPLICATION', kind: 'physical', slot, startLsn, timeline });
  }

  #pluginOptions(): void {
    do {
      this.#identifier();
      if (this.#peek().kind === 'string') this.#take();
    } while (this.#acceptSymbol(','));
    this.#expectSymbol(')');
  }

  #baseBackup(): () => ReplicationCommand {
    if (!this.#facts.hasParenthesizedOptions) this.#oldBackupOptions();
    else if (this.#acceptSymbol('(')) this.#optionList();
    return () => ({ type: 'BASE_BACKUP' });
  }

  #oldBackupOptions(): void {
    for (;;) {
      const token = this.#peek();
      const argument = token.kind === 'keyword' ? OLD_BACKUP_OPTIONS.get(token.keyword) : undefined;
      if (argument === undefined) return;
      this.#take();
      if (argument !== null && this.#take().kind !== argument) throw syntaxError();
    }
  }

  /** What follows `(`: at least one `name`, `name word`, `name 'text'` or `name number`, up to `)`. */
  #optionList(): readonly SlotOption[] {
    const options: SlotOption[] = [];
    do {
      options.push({ name: this.#optionName(), value: this.#optionValue() });
    } while (this.#acceptSymbol(','));
    this.#expectSymbol(')');
    return options;
  }

  #optionName(): string {
    const token = this.#take();
    if (token.kind === 'keyword') return token.keyword.toLowerCase();
    if (token.kind === 'identifier') return token.text;
    throw syntaxError();
  }

  #optionValue(): SlotOptionValue {
    const token = this.#peek();
    if (token.kind === 'number') {
      this.#take();
      return { text: null, number: token.value };
    }
    if (token.kind !== 'identifier' && token.kind !== 'string') return NO_VALUE;
    this.#take();
    return { text: token.text, number: null };
  }

  #timeline(): TimelineId {
    const token = this.#take();
    if (token.kind !== 'number') throw syntaxError();
    if (token.value === 0) throw syntaxError('invalid timeline 0');
    return toTimelineId(token.value);
  }

  #lsn(): Lsn {
    const token = this.#take();
    if (token.kind !== 'lsn') throw syntaxError();
    return token.lsn;
  }

  #identifier(): string {
    const token = this.#take();
    if (token.kind !== 'identifier') throw syntaxError();
    return token.text;
  }

  #expectKeyword(keyword: string): void {
    if (!this.#acceptKeyword(keyword)) throw syntaxError();
  }

  #expectSymbol(symbol: string): void {
    if (!this.#acceptSymbol(symbol)) throw syntaxError();
  }

  #acceptKeyword(keyword: string): boolean {
    const token = this.#peek();
    const isThere = token.kind === 'keyword' && token.keyword === keyword;
    if (isThere) this.#take();
    return isThere;
  }

  #acceptSymbol(symbol: string): boolean {
    const token = this.#peek();
    const isThere = token.kind === 'symbol' && token.symbol === symbol;
    if (isThere) this.#take();
    return isThere;
  }

  #peek(): Token {
    this.#lookahead ??= this.#scanner.next();
    return this.#lookahead;
  }

  #take(): Token {
    const token = this.#peek();
    this.#lookahead = null;
    return token;
  }
}
