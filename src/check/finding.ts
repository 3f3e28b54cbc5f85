// What did a check find? One line each: how bad, where, what is wrong in PostgreSQL's words, and what the user changes.

/** `error`: walcast would not do its work. `warning`: it would, with a risk. `ok`: looked at and found in order. */
export type Severity = 'error' | 'warning' | 'ok';

/** One finding. Texts are one line each, without a secret. */
export interface Finding {
  readonly severity: Severity;
  /** Stable: scripts match it. */
  readonly code: FindingCode;
  /** `host:port`, a configuration key, or a path. */
  readonly subject: string;
  /** What is, without a full stop. */
  readonly message: string;
  /** What to change: a statement, a line or a setting; null where nothing is to be done. */
  readonly fix: string | null;
}

/** A finding without how bad it is. */
export interface FindingText {
  readonly subject: string;
  readonly message: string;
  readonly fix?: string | null;
}

/** Every code with what it means; docs/check.md is made from it. Never renamed, only added to. */
export const FINDING_CODES = {
  'config.valid': 'The configuration has no mistakes.',
  'config.invalid': 'A mistake of the configuration, with file, line and column.',
  'config.warning': 'The configuration allows something that should be looked at.',

  'upstream.conninfo':
    'The connection string cannot be completed: service file, environment, password file.',
  'upstream.discovery': 'Patroni: which servers it names, or why it cannot be asked.',
  'upstream.name': 'The host name of an upstream has no address.',
  'upstream.unreachable': 'No connection to this host and port: refused, no route, no such socket.',
  'upstream.timeout': 'The host did not answer within connect_timeout, or 10 s without one.',
  'upstream.sslmode':
    'sslmode does not fit the server: it has no TLS, or lets this login in with TLS only.',
  'upstream.certificate_expired': 'A certificate of the server has expired.',
  'upstream.certificate':
    'A certificate cannot be verified: unknown issuer, other host name, missing or unreadable file.',
  'upstream.client_certificate':
    'Our client certificate: missing, not accepted by the server, or about to expire.',
  'upstream.tls': 'TLS could not be agreed on for another reason.',
  'upstream.clear_text': 'All WAL would cross the network without encryption.',
  'upstream.password': 'The password is wrong, or the role has none.',
  'upstream.password_missing': 'The server asks for a password and none is known.',
  'upstream.auth_method': 'The server asks for a method that walcast refuses or does not speak.',
  'upstream.role': 'The role does not exist, may not log in, or may not use this database.',
  'upstream.replication_attribute': 'The role has no REPLICATION attribute.',
  'upstream.hba': 'pg_hba.conf of the server has no line that lets this replication connection in.',
  'upstream.max_wal_senders': 'Every walsender of the server is in use, nearly so, or it has none.',
  'upstream.max_connections': 'The server has no connection left for us.',
  'upstream.wal_level': 'The server writes too little WAL for replication (wal_level=minimal).',
  'upstream.starting': 'The server is starting, stopping or recovering.',
  'upstream.version': 'This major version of PostgreSQL is not spoken.',
  'upstream.block_size': 'The server was built with WAL pages of another size.',
  'upstream.protocol': 'What answers there does not speak as PostgreSQL does.',
  'upstream.refused': 'The server refused for another reason; its words are shown.',
  'upstream.identified': 'The replication session works; who the server is.',
  'upstream.standby':
    'The server is a standby: its WAL is relayed as it has it, and it knows no synchronous commits.',
  'upstream.target_session_attrs': 'The server is not of the kind that target_session_attrs wants.',
  'upstream.other_cluster': 'Hosts of one connection string are servers of different clusters.',
  'upstream.sql':
    'No SQL session: what only SQL can tell (slots of PostgreSQL 13 and 14, other walsenders) was not looked at.',
  'upstream.slot': 'Our replication slot on the server: there, or to be created.',
  'upstream.slot_logical': 'A logical slot has the name of ours.',
  'upstream.slot_in_use': 'Another session streams with our slot.',
  'upstream.slot_lost': 'The server has given up the WAL of our slot.',
  'upstream.slots_full': 'Our slot is missing, and max_replication_slots leaves no room for it.',
  'upstream.wal_keep_size':
    'No slot is used, and the server keeps little WAL: an interruption can lose what was not fetched.',
  'upstream.max_slot_wal_keep_size':
    'How much WAL our slot may hold back on the server while walcast is away.',
  'upstream.idle_replication_slot_timeout': 'The server gives up slots that are idle for so long.',
  'upstream.wal_sender_timeout':
    'The server would not notice a dead connection of ours (wal_sender_timeout = 0).',
  'upstream.synchronous_standby_names':
    'synchronous_standby_names of the server matches our application_name: commits can wait for walcast.',
  'upstream.sync_policy':
    'synchronous_standby_names of walcast is set, and no commit of the server waits for walcast.',
  'upstream.remote_apply':
    'Commits that wait for walcast would wait for ever: nothing is applied here.',
  'upstream.application_name':
    'Another walsender of the server has our application_name: both look the same to the server.',

  'storage.directory': 'The data directory: missing, empty, in use, foreign, or not usable.',
  'storage.in_use': 'A running walcast holds the data directory.',
  'storage.control': 'The control file of the store is damaged or missing.',
  'storage.system_identifier': 'The store holds WAL of another cluster.',
  'storage.major': 'The store holds WAL of another major version.',
  'storage.segment_size': 'The store was begun with another wal_segment_size.',
  'storage.timeline': 'The history of the server and that of the store do not fit together.',
  'storage.gap': 'The server may no longer have the WAL that the store needs next.',
  'storage.space': 'The free space against what is configured to be kept.',

  'auth.rules': 'Access rules and users: nothing to say against them.',
  'auth.unreachable': 'An access rule that no connection comes to, because of one above it.',
  'auth.hostssl': 'A rule for TLS, and no address of listen offers any.',
  'auth.client_cert': 'A rule that wants a client certificate, and no address asks for one.',
  'auth.no_secret': 'A rule that asks for a password of users without a secret.',
  'auth.md5': 'A rule with the method md5, or users with md5 secrets.',

  'listen.clear_text': 'An address without TLS that rules let others than this machine in by.',
  'listen.rules': 'There are no access rules, so no TCP port is opened for standbys.',
  'listen.address': 'Whether an address for standbys can be listened on.',
  'listen.certificate':
    'Certificate, key and authorities of an address for standbys: unusable, not to be used any more, or until when they are.',
  'http.certificate': 'The same of the address for HTTP.',
  'http.address': 'Whether the address for HTTP can be listened on.',
  'limits.nofile': 'Open files that the system allows against the connections configured.',
} as const;

/** The name of a kind of finding. */
export type FindingCode = keyof typeof FINDING_CODES;

/** Makes a finding that keeps walcast from its work. */
export function errorFinding(code: FindingCode, text: FindingText): Finding {
  return { severity: 'error', code, ...withFix(text) };
}

/** Makes a finding about a risk. */
export function warningFinding(code: FindingCode, text: FindingText): Finding {
  return { severity: 'warning', code, ...withFix(text) };
}

/** Makes a finding about something in order. */
export function okFinding(code: FindingCode, text: FindingText): Finding {
  return { severity: 'ok', code, ...withFix(text) };
}

/**
 * `error    host:5432: what is wrong. What to do [code]`, on one line without its end. Nothing is put behind what to do: it
 * may be a line to copy.
 */
export function formatFinding({ severity, code, subject, message, fix }: Finding): string {
  const advice = fix === null ? '' : ` ${fix}`;
  return `${severity.padEnd(SEVERITY_WIDTH)}${subject}: ${sentence(message)}${advice} [${code}]`;
}

const SEVERITY_WIDTH = 9;

function withFix(text: FindingText): Omit<Finding, 'severity' | 'code'> {
  const fix = text.fix ?? null;
  return {
    subject: oneLine(text.subject),
    message: oneLine(text.message),
    fix: fix === null ? null : oneLine(fix),
  };
}

/** Names and settings of a server may hold anything. */
function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, ' ');
}

function sentence(text: string): string {
  return /[.?!;:]$/.test(text) ? text : `${text}.`;
}
