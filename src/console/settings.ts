// The settings of one console session: what SHOW answers, and what SET may change. (guc.c)
import { sanitizeApplicationName } from '../pg/application-name.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { encodeParameterStatus } from '../wire/backend-messages.ts';
import { CONSOLE_SETTINGS_MAX } from '../config/limits.ts';
import { ConsoleError, CONSOLE_HINT } from './console-error.ts';
import type { ConsoleClient } from './client.ts';

/** What the console speaks, by lower-case name: told at login in the place of the upstream's, and never changed. */
export const FIXED_PARAMETERS: ReadonlyMap<string, string> = new Map([
  ['client_encoding', 'UTF8'],
  ['server_encoding', 'UTF8'],
  ['datestyle', 'ISO, MDY'],
  ['intervalstyle', 'postgres'],
  ['timezone', 'UTC'],
  ['standard_conforming_strings', 'on'],
]);

/** Values of these that mean the same. */
const SAME: ReadonlyMap<string, RegExp> = new Map([
  ['client_encoding', /^(?:utf-?8|unicode)$/i],
  ['datestyle', /^iso(?:\s*,\s*(?:mdy|dmy|ymd|us|european|noneuropean))?$/i],
  ['intervalstyle', /^postgres$/i],
  ['timezone', /^(?:utc|gmt|z|zulu|uct|etc\/(?:utc|gmt|uct|zulu)|[+-]?0+)$/i],
  ['standard_conforming_strings', /^(?:on|true|yes|1)$/i],
]);

/** Settings that clients set as a matter of course, and that change nothing here. */
const CHANGEABLE: ReadonlySet<string> = new Set([
  'application_name',
  'backslash_quote',
  'bytea_output',
  'client_connection_check_interval',
  'client_min_messages',
  'default_transaction_deferrable',
  'default_transaction_isolation',
  'default_transaction_read_only',
  'escape_string_warning',
  'extra_float_digits',
  'geqo',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
  'jit',
  'lc_messages',
  'lc_monetary',
  'lc_numeric',
  'lc_time',
  'lock_timeout',
  'quote_all_identifiers',
  'row_security',
  'search_path',
  'statement_timeout',
  'synchronous_commit',
  'synchronize_seqscans',
  'tcp_keepalives_count',
  'tcp_keepalives_idle',
  'tcp_keepalives_interval',
  'tcp_user_timeout',
  'transaction_deferrable',
  'transaction_isolation',
  'transaction_read_only',
  'transaction_timeout',
  'work_mem',
]);

const TRANSACTION_SETTINGS: readonly (readonly [string, string])[] = [
  ['transaction_isolation', 'read committed'],
  ['transaction_read_only', 'off'],
  ['transaction_deferrable', 'off'],
];

/** One session's settings. */
export class ConsoleSettings {
  readonly #client: ConsoleClient;
  /** By lower-case name, as they were at the beginning. */
  readonly #initial = new Map<string, string>(TRANSACTION_SETTINGS);
  readonly #changed = new Map<string, string>();
  /** Spelling of those that the client is told of, by lower-case name. */
  readonly #reported = new Map<string, string>();

  constructor(client: ConsoleClient) {
    this.#client = client;
    for (const [name, value] of client.settings) this.#initial.set(name, value);
    for (const [name, value] of client.parameters) {
      this.#initial.set(name.toLowerCase(), value);
      this.#reported.set(name.toLowerCase(), name);
    }
    for (const [name, value] of FIXED_PARAMETERS) this.#initial.set(name, value);
    this.#initial.set('walcast_version', client.walcastVersion);
  }

  /** The name as SHOW heads its column with it. */
  spelling(name: string): string {
    return this.#reported.get(name) ?? name;
  }

  /** The value of `name`, in lower case. Throws ConsoleError 42704 for one that nobody knows. */
  show(name: string): string {
    const value = this.#valueOf(name);
    if (value === undefined) throw unknownSetting(name);
    return value;
  }

  /** All that are known, in the order of their names. */
  all(): [name: string, value: string][] {
    const known = new Map([...this.#initial, ...this.#client.ownSettings(), ...this.#changed]);
    return [...known].toSorted(([one], [other]) => (one < other ? -1 : 1));
  }

  /** Sets `name`, in lower case; null puts it back. Gives what the client is told about it. */
  set(name: string, value: string | null): Uint8Array[] {
    const before = this.#valueOf(name);
    if (FIXED_PARAMETERS.has(name)) this.#checkFixed(name, value);
    else if (value === null && before !== undefined) this.#changed.delete(name);
    else this.#change(name, value);
    const after = this.#valueOf(name) ?? '';
    const spelling = this.#reported.get(name);
    if (spelling === undefined || after === before) return [];
    return [encodeParameterStatus(spelling, after)];
  }

  /** Puts all of them back. */
  resetAll(): Uint8Array[] {
    return [...this.#changed.keys()].flatMap((name) => this.set(name, null));
  }

  #valueOf(name: string): string | undefined {
    const own = this.#client.ownSettings();
    return this.#changed.get(name) ?? own.get(name) ?? this.#initial.get(name);
  }

  #change(name: string, value: string | null): void {
    if (!CHANGEABLE.has(name) && !name.includes('.')) {
      if (this.#valueOf(name) === undefined) throw unknownSetting(name);
      throw new ConsoleError({
        sqlstate: SQLSTATE.cannotChangeRuntimeParameter,
        message: `parameter "${name}" cannot be changed now`,
      });
    }
    if (value === null) return;
    if (!this.#changed.has(name) && this.#changed.size >= CONSOLE_SETTINGS_MAX) {
      throw new ConsoleError({
        sqlstate: SQLSTATE.configurationLimitExceeded,
        message: 'too many settings were changed in this session',
      });
    }
    const isName = name === 'application_name';
    this.#changed.set(name, isName ? sanitizeApplicationName(value, this.#client.facts) : value);
  }

  #checkFixed(name: string, value: string | null): void {
    if (value === null || SAME.get(name)?.test(value.trim()) === true) return;
    throw new ConsoleError({
      sqlstate: SQLSTATE.featureNotSupported,
      message: `walcast's console has "${this.spelling(name)}" at ${FIXED_PARAMETERS.get(name)} only`,
      hint: CONSOLE_HINT,
    });
  }
}

function unknownSetting(name: string): ConsoleError {
  return new ConsoleError({
    sqlstate: SQLSTATE.undefinedObject,
    message: `unrecognized configuration parameter "${name}"`,
    hint: CONSOLE_HINT,
  });
}
