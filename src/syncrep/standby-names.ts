// What does a text of synchronous_standby_names ask for, and at which place of it does a standby stand?
// (syncrep_gram.y, syncrep_scanner.l, syncrep.c:check_synchronous_standby_names, SyncRepGetStandbyPriority)
import { OperationalError } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';

/** A longer text is refused: it is what a string of PostgreSQL's configuration file has room for, and then some. */
export const SYNC_NAMES_LENGTH_MAX = 65_536;

/** What commits wait for: `required` standbys of those that `names` match. (SyncRepConfigData) */
export interface SyncPolicy {
  /** `priority`: the first that are there, in the order of the list. `quorum`: any of them. */
  readonly method: 'priority' | 'quorum';
  /** How many, 1 … 2^31-1. */
  readonly required: number;
  /** As they are written, without quotes; `*` matches every standby, quoted or not. */
  readonly names: readonly string[];
  /** The text it was read from. */
  readonly text: string;
}

/** A text that PostgreSQL would refuse. `code` is its SQLSTATE, and message and detail are its own, too. */
export class SyncNamesError extends OperationalError {
  /** DETAIL of the message; null where it has none. */
  readonly detail: string | null;
  /** Where in the text reading stopped: an index of its characters, its length at its end; null where all of it was read. */
  readonly index: number | null;

  constructor(
    code: string,
    message: string,
    place: { readonly detail: string | null; readonly index: number | null },
  ) {
    super(code, message);
    this.detail = place.detail;
    this.index = place.index;
  }
}

type TokenKind = 'any' | 'first' | 'name' | 'number' | ',' | '(' | ')' | 'junk' | 'end';

interface Token {
  readonly kind: TokenKind;
  readonly index: number;
  /** What an error message says was read last. (yytext) */
  readonly shown: string;
  /** Of a name or a number. */
  readonly value: string;
}

/**
 * Reads the text of the setting; null for an empty one, which asks for nothing. Only the empty one: blanks alone are an error,
 * as PostgreSQL has it. Throws {@link SyncNamesError} for what PostgreSQL refuses.
 */
export function parseSynchronousStandbyNames(text: string): SyncPolicy | null {
  if (text === '') return null;
  if (text.length > SYNC_NAMES_LENGTH_MAX) {
    throw new SyncNamesError(
      SQLSTATE.invalidParameterValue,
      'synchronous_standby_names is too long',
      {
        detail: `It has ${text.length} characters, ${SYNC_NAMES_LENGTH_MAX} are the most.`,
        index: null,
      },
    );
  }
  const { method, count, names } = new Parser(text).parse();
  const required = numberAsInt(count);
  if (required <= 0) {
    throw new SyncNamesError(
      SQLSTATE.invalidParameterValue,
      `number of synchronous standbys (${required}) must be greater than zero`,
      { detail: null, index: null },
    );
  }
  return { method, required, names, text };
}

/**
 * The place of `applicationName` in the list, from 1 on, and 0 when nothing in it matches; with a quorum all that match have 1.
 * Names count whole and without regard to the case of ASCII letters. (SyncRepGetStandbyPriority)
 */
export function syncPriority(policy: SyncPolicy | null, applicationName: string): number {
  if (policy === null) return 0;
  const places = placesOf(policy);
  const named = places.get(foldCase(applicationName)) ?? Number.POSITIVE_INFINITY;
  const place = Math.min(named, places.get('*') ?? Number.POSITIVE_INFINITY);
  if (place === Number.POSITIVE_INFINITY) return 0;
  return policy.method === 'quorum' ? 1 : place;
}

/** How an application_name is listed: by its name, by `*`, or not at all. */
export type SyncMembership = 'named' | 'any' | 'none';

/** What a policy means for a standby of that name; a name that is listed behind a `*` counts as named. */
export function syncMembership(policy: SyncPolicy | null, applicationName: string): SyncMembership {
  if (policy === null) return 'none';
  const places = placesOf(policy);
  if (applicationName !== '*' && places.has(foldCase(applicationName))) return 'named';
  return places.has('*') ? 'any' : 'none';
}

/** The same for the text of another server's setting, as SHOW prints it; one that cannot be read counts nobody. */
export function syncMembershipIn(text: string, applicationName: string): SyncMembership {
  try {
    return syncMembership(parseSynchronousStandbyNames(text), applicationName);
  } catch (error) {
    if (error instanceof SyncNamesError) return 'none';
    throw error;
  }
}

/** Of each policy, its names with their first places: a list may name every one of a thousand standbys. */
const PLACES = new WeakMap<SyncPolicy, ReadonlyMap<string, number>>();

function placesOf(policy: SyncPolicy): ReadonlyMap<string, number> {
  const known = PLACES.get(policy);
  if (known !== undefined) return known;
  const places = new Map<string, number>();
  for (const [index, name] of policy.names.entries()) {
    const folded = foldCase(name);
    if (!places.has(folded)) places.set(folded, index + 1);
  }
  PLACES.set(policy, places);
  return places;
}

/** pg_strcasecmp's idea of case: other letters than ASCII's are left alone. */
function foldCase(name: string): string {
  return name.replaceAll(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/** atoi of a 64-bit system: strtol stops at its bounds, and the lower half of its result is kept. */
function numberAsInt(digits: string): number {
  const wide = BigInt(digits);
  const long = wide > LONG_MAX ? LONG_MAX : wide;
  return Number(BigInt.asIntN(32, long));
}

const LONG_MAX = (1n << 63n) - 1n;

/** Blanks, then one of: a word, digits, one character. In the order of the scanner's rules. */
const TOKEN = /[ \t\n\r\f\v]*(?:([A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)|([0-9]+)|([^]))?/y;

class Parser {
  readonly #text: string;
  #next = 0;
  #token: Token;

  constructor(text: string) {
    this.#text = text;
    this.#token = this.#read();
  }

  parse(): { method: SyncPolicy['method']; count: string; names: string[] } {
    const { kind } = this.#token;
    if (kind === 'any' || kind === 'first') {
      this.#advance();
      const count = this.#take('number');
      return { method: kind === 'any' ? 'quorum' : 'priority', count, names: this.#group() };
    }
    if (kind !== 'number') return { method: 'priority', count: '1', names: this.#list('end') };
    // Only what stands behind it tells a count from a name that is a number.
    const number = this.#take('number');
    if (this.#is('(')) return { method: 'priority', count: number, names: this.#group() };
    return { method: 'priority', count: '1', names: this.#rest([number], 'end') };
  }

  #group(): string[] {
    this.#take('(');
    const names = this.#list(')');
    this.#take('end');
    return names;
  }

  #list(closing: TokenKind): string[] {
    return this.#rest([this.#name()], closing);
  }

  #rest(names: string[], closing: TokenKind): string[] {
    while (this.#is(',')) {
      this.#advance();
      names.push(this.#name());
    }
    this.#take(closing);
    return names;
  }

  #name(): string {
    return this.#take(this.#is('number') ? 'number' : 'name');
  }

  #is(kind: TokenKind): boolean {
    return this.#token.kind === kind;
  }

  /** The value of the token that has to be here. */
  #take(kind: TokenKind): string {
    const { value } = this.#token;
    if (!this.#is(kind)) throw this.#error('syntax error', this.#token);
    this.#advance();
    return value;
  }

  #advance(): void {
    if (!this.#is('end')) this.#token = this.#read();
  }

  #read(): Token {
    TOKEN.lastIndex = this.#next;
    const match = TOKEN.exec(this.#text);
    const [whole = '', word, digits, other] = match ?? [];
    const shown = word ?? digits ?? other ?? '';
    this.#next += whole.length;
    const index = this.#next - shown.length;
    if (other === '"') return this.#readQuoted(index);
    const kind = kindOf({ word, digits, other });
    return { kind, index, shown, value: shown };
  }

  /** A name in quotes, whose opening one has been read. Of all of it the scanner shows what it matched last. */
  #readQuoted(index: number): Token {
    const match = /((?:[^"]|"")*)("?)/y;
    match.lastIndex = this.#next;
    const [whole = '', inside = '', closing = ''] = match.exec(this.#text) ?? [];
    this.#next += whole.length;
    if (closing === '') {
      throw this.#error('unterminated quoted identifier', { index, shown: '' });
    }
    return { kind: 'name', index, shown: closing, value: inside.replaceAll('""', '"') };
  }

  #error(what: string, { index, shown }: Pick<Token, 'index' | 'shown'>): SyncNamesError {
    const where = shown === '' ? 'at end of input' : `at or near "${shown}"`;
    return new SyncNamesError(
      SQLSTATE.syntaxError,
      `invalid value for parameter "synchronous_standby_names": "${this.#text}"`,
      { detail: `${what} ${where}`, index },
    );
  }
}

function kindOf(match: {
  readonly word: string | undefined;
  readonly digits: string | undefined;
  readonly other: string | undefined;
}): TokenKind {
  if (match.word !== undefined) {
    const word = match.word.toLowerCase();
    return word === 'any' || word === 'first' ? word : 'name';
  }
  if (match.digits !== undefined) return 'number';
  switch (match.other) {
    case undefined:
      return 'end';
    case '*':
      return 'name';
    case ',':
    case '(':
    case ')':
      return match.other;
    default:
      return 'junk';
  }
}
