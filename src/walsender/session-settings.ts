// Which settings may a client bring along in its startup packet, and what do they mean to us?
// (src/backend/utils/init/postinit.c:process_startup_options, src/backend/utils/misc/guc.c:parse_int)
import { sanitizeApplicationName } from '../pg/application-name.ts';
import { encodingName } from '../pg/encoding-name.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { CommandError } from '../wire/replication-command.ts';

/** Settings of one session that mean something here. */
export interface SessionSettings {
  readonly applicationName: string;
  /** Null: the configured one. 0: never. */
  readonly walSenderTimeoutMs: number | null;
  /** Everything the client set, by lower-case name, as the server would keep it. */
  readonly values: ReadonlyMap<string, string>;
}

/** Settings that clients send as a matter of course, and that change nothing for a walsender. */
const ACCEPTED: ReadonlySet<string> = new Set([
  'application_name',
  'backend_flush_after',
  'bytea_output',
  'client_connection_check_interval',
  'client_encoding',
  'client_min_messages',
  'commit_delay',
  'datestyle',
  'default_transaction_deferrable',
  'default_transaction_isolation',
  'default_transaction_read_only',
  'effective_io_concurrency',
  'extra_float_digits',
  'geqo',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
  'intervalstyle',
  'jit',
  'lc_messages',
  'lc_monetary',
  'lc_numeric',
  'lc_time',
  'lock_timeout',
  'log_disconnections',
  'logical_decoding_work_mem',
  'maintenance_work_mem',
  'row_security',
  'search_path',
  'session_replication_role',
  'standard_conforming_strings',
  'statement_timeout',
  'synchronous_commit',
  'tcp_keepalives_count',
  'tcp_keepalives_idle',
  'tcp_keepalives_interval',
  'tcp_user_timeout',
  'temp_buffers',
  'timezone',
  'transaction_read_only',
  'transaction_timeout',
  'wal_sender_shutdown_timeout',
  'wal_sender_timeout',
  'work_mem',
]);

/** Settings whose name is not all lower case. */
const SPELLINGS: ReadonlyMap<string, string> = new Map([
  ['datestyle', 'DateStyle'],
  ['intervalstyle', 'IntervalStyle'],
  ['timezone', 'TimeZone'],
]);

/** A setting's name as the server spells it: clients compare it letter by letter. */
export function settingSpelling(name: string): string {
  return SPELLINGS.get(name.toLowerCase()) ?? name;
}

const TIME_UNITS_MS: ReadonlyMap<string, number> = new Map([
  ['us', 0.001],
  ['ms', 1],
  ['s', 1000],
  ['min', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

const INT_MAX = 2 ** 31 - 1;

/**
 * Applies settings in the order given, later ones winning. Returns what to refuse the session with when one is unknown
 * (42704) or has no sense (22023).
 */
export function readSessionSettings(
  settings: Iterable<readonly [name: string, value: string]>,
  facts: VersionFacts,
): SessionSettings | CommandError {
  const values = new Map<string, string>();
  let walSenderTimeoutMs: number | null = null;
  for (const [givenName, value] of settings) {
    const name = givenName.toLowerCase();
    if (!isKnown(name)) {
      return {
        sqlstate: SQLSTATE.undefinedObject,
        message: `unrecognized configuration parameter "${givenName}"`,
      };
    }
    if (name === 'wal_sender_timeout') {
      const timeout = readMilliseconds(name, value, facts);
      if (typeof timeout !== 'number') return timeout;
      walSenderTimeoutMs = timeout;
    }
    const kept = keptValue(name, value, facts);
    if (kept === null) return invalidValue(name, value);
    values.set(name, kept);
  }
  const applicationName = values.get('application_name') ?? '';
  return { applicationName, walSenderTimeoutMs, values };
}

/** The value as the server keeps it; null for one that it does not take. */
function keptValue(name: string, value: string, facts: VersionFacts): string | null {
  if (name === 'application_name') return sanitizeApplicationName(value, facts);
  return name === 'client_encoding' ? encodingName(value) : value;
}

/**
 * As strtol and strtod read between them: hexadecimal, octal where nothing but octal digits follows a zero, or decimal. What
 * stands behind is no part of it: who has not logged in yet must not make us try it out in many ways.
 */
const NUMBER =
  /^\s*([+-]?)(0[xX][\dA-Fa-f]+|(?:(?:[1-9]\d*|0[0-7]*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)/;

function readNumber(digits: string): number {
  return /^0[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
}

/** Reads a number of milliseconds with PostgreSQL's units. (guc.c:parse_int, parse_and_validate_value) */
export function readMilliseconds(
  name: string,
  value: string,
  facts: VersionFacts,
): number | CommandError {
  const match = NUMBER.exec(value);
  if (match === null) return invalidValue(name, value);
  const [read, sign, digits = ''] = match;
  const unitName = value.slice(read.length).trim();
  const unit = unitName === '' ? 1 : TIME_UNITS_MS.get(unitName);
  if (unit === undefined) return invalidValue(name, value, UNITS_HINT);
  const milliseconds = Math.round((sign === '-' ? -1 : 1) * readNumber(digits) * unit);
  if (Math.abs(milliseconds) > INT_MAX) {
    return invalidValue(name, value, 'Value exceeds integer range.');
  }
  if (milliseconds >= 0) return milliseconds;
  const ms = facts.saysUnitsOfLimits ? ' ms' : '';
  return {
    sqlstate: SQLSTATE.invalidParameterValue,
    message: `${milliseconds} ms is outside the valid range for parameter "${name}" (0${ms} .. ${INT_MAX}${ms})`,
  };
}

function invalidValue(name: string, value: string, hint?: string): CommandError {
  const error = {
    sqlstate: SQLSTATE.invalidParameterValue,
    message: `invalid value for parameter "${name}": "${value}"`,
  };
  return hint === undefined ? error : { ...error, hint };
}

const UNITS_HINT = 'Valid units for this parameter are "us", "ms", "s", "min", "h", and "d".';

/** As SHOW prints a time: in the largest unit that divides it. (guc.c:convert_int_from_base_unit) */
export function formatMilliseconds(milliseconds: number): string {
  if (milliseconds === 0) return '0';
  for (const unit of ['d', 'h', 'min', 's']) {
    const size = TIME_UNITS_MS.get(unit) ?? 1;
    if (milliseconds % size === 0) return `${milliseconds / size}${unit}`;
  }
  return `${milliseconds}ms`;
}

/** A name with a dot belongs to an extension and is taken on trust, as PostgreSQL does. */
function isKnown(name: string): boolean {
  return (
    ACCEPTED.has(name) || /^[a-z_\u0080-\uffff][\w$]*(\.[a-z_\u0080-\uffff][\w$]*)+$/.test(name)
  );
}
