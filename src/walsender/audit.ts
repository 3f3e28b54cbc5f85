// Who came, from where, how did they prove who they are, and what became of it? The lines that an auditor reads, in
// PostgreSQL's words and with the same facts as fields. Bounded: strangers cannot fill the log, nor hide who came in.
// (postmaster.c:BackendStartup, auth.c:set_authn_id, postinit.c:PerformAuthentication, postgres.c:log_disconnections)
import { CONTROLS } from '../base/controls.ts';
import { KeyedLogBudget } from '../base/keyed-log-budget.ts';
import type { Log, LogFields } from '../base/log.ts';
import { ADMITTED_LOG_LINES, REFUSAL_TEXT_MAX, STRANGERS_LOG_LINES } from '../config/limits.ts';
import type { PeerAddress } from '../net/connection.ts';
import type { TlsFacts } from '../wire/tls-facts.ts';
import type { AdmittedSession } from './admission.ts';

/** What is known when an authentication is over. */
export interface AuthenticationReport {
  /** As the rule names it: `scram-sha-256`, `md5`, `cert`, `trust`. */
  readonly method: string;
  readonly user: string;
  /** The name that was proved: the user's, or a certificate's; null where nothing was (`trust`, a failure). */
  readonly identity: string | null;
  /** Where the rule stands: `file:line`. */
  readonly rule: string;
  /** For our log only, never for the client; null when there is nothing to add. */
  readonly detail: string | null;
  /** What the client is refused with, where that is not that its authentication failed. */
  readonly refusal?: string;
}

/** A session that begins. */
export interface AuthorizedSession {
  readonly isReplication: boolean;
  readonly user: string;
  /** Empty for replication. */
  readonly database: string;
  readonly applicationName: string;
  /** Null without TLS. */
  readonly tls: Pick<TlsFacts, 'protocol' | 'cipher' | 'bits'> | null;
}

/** What is written about a session that was let in; `consoleDatabase`: the database of the console. */
export function authorizedSession(
  { mode, user, settings }: AdmittedSession,
  tls: TlsFacts | null,
  consoleDatabase: string,
): AuthorizedSession {
  const isReplication = mode === 'physical';
  const database = isReplication ? '' : consoleDatabase;
  return { isReplication, user, database, applicationName: settings.applicationName, tls };
}

/** Where a connection comes from; `network` groups addresses that are one client. */
export interface Origin {
  readonly peer: PeerAddress;
  readonly network: string;
  /** Somebody of that network was let in before. */
  readonly isKnown: boolean;
}

/** A connection whose client is believed to be a user. */
export interface UserOrigin extends Origin {
  /** It proved to be, and was not just believed (`trust`). */
  readonly isProven: boolean;
}

/** What is to be written; asked for each line. (log_connections, log_disconnections) */
export interface AuditSettings {
  readonly logConnections: boolean;
  readonly logDisconnections: boolean;
}

/** Writes the lines about connections. */
export class Audit {
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #settings: () => AuditSettings;
  readonly #received = new OriginBudget();
  readonly #refused = new OriginBudget();
  readonly #admitted = new KeyedLogBudget(ADMITTED_LOG_LINES);
  readonly #gone = new KeyedLogBudget(ADMITTED_LOG_LINES);

  /** `nowMs`: monotonic. */
  constructor(log: Log, nowMs: () => number, settings: () => AuditSettings) {
    this.#log = log;
    this.#nowMs = nowMs;
    this.#settings = settings;
  }

  /** A connection was accepted. */
  received(origin: Origin): void {
    if (!this.#settings().logConnections) return;
    const text = `connection received: ${hostText(origin.peer)}`;
    this.#say(this.#received.of(origin), origin.network, text, addressFields(origin));
  }

  /** It was refused, or closed before it was a session. Said whether connections are logged or not. */
  refused(text: string, origin: Origin, fields: LogFields = {}): void {
    const line = printable(text.slice(0, REFUSAL_TEXT_MAX));
    const budget = this.#refused.of(origin);
    this.#say(budget, origin.network, line, { ...addressFields(origin), ...fields });
  }

  /** Its client could not prove who it is. */
  failed(origin: Origin, report: AuthenticationReport): void {
    const { method, user, rule, detail, refusal } = report;
    const what = NOT_PASSWORDS.get(method) ?? 'password';
    const text = refusal ?? `${what} authentication failed for user ${quoted(user)}`;
    this.refused(`connection refused: ${printable(text)}`, origin, { user, method, rule, detail });
  }

  /** Its client proved who it is, or did not have to. */
  authenticated(origin: UserOrigin, { method, user, identity, rule }: AuthenticationReport): void {
    if (!this.#settings().logConnections) return;
    const who = identity === null ? `user=${quoted(user)}` : `identity=${quoted(identity)}`;
    const text = `connection authenticated: ${who} method=${method} (${printable(rule)})`;
    const fields = { ...addressFields(origin), user, identity, method, rule };
    this.#say(this.#admitted, keyOf(origin, user), text, fields);
  }

  /** It is a session. */
  authorized(origin: UserOrigin, session: AuthorizedSession): void {
    if (!this.#settings().logConnections) return;
    const { isReplication, user, database, applicationName, tls } = session;
    const parts = [
      `${isReplication ? 'replication connection' : 'connection'} authorized: user=${word(user)}`,
      isReplication ? null : `database=${word(database)}`,
      applicationName === '' ? null : `application_name=${word(applicationName)}`,
      tls === null
        ? null
        : `SSL enabled (protocol=${tls.protocol}, cipher=${tls.cipher}, bits=${tls.bits})`,
    ];
    this.#say(
      this.#admitted,
      keyOf(origin, user),
      parts.filter((part) => part !== null).join(' '),
      {
        ...addressFields(origin),
        user,
        database: isReplication ? null : database,
        application_name: applicationName,
        tls: tls?.protocol ?? null,
        tls_cipher: tls?.cipher ?? null,
      },
    );
  }

  /** A session is over, `sessionMs` after its connection was accepted. */
  disconnected(origin: UserOrigin, session: AuthorizedSession, sessionMs: number): void {
    if (!this.#settings().logDisconnections) return;
    const { user, database, applicationName } = session;
    const who = `user=${word(user)} database=${word(database)}`;
    const text = `disconnection: session time: ${timeText(sessionMs)} ${who} ${hostText(origin.peer)}`;
    this.#say(this.#gone, keyOf(origin, user), text, {
      ...addressFields(origin),
      user,
      database: session.isReplication ? null : database,
      application_name: applicationName,
      session_ms: Math.round(sessionMs),
    });
  }

  #say(budget: KeyedLogBudget, key: string, text: string, fields: LogFields): void {
    const leftOut = budget.take(key, this.#nowMs());
    if (leftOut === null) return;
    this.#log.info(text, leftOut > 0 ? { ...fields, left_out: leftOut } : fields);
  }
}

/** How what failed is called, but for passwords. (auth.c:auth_failed) */
const NOT_PASSWORDS: ReadonlyMap<string, string> = new Map([
  ['trust', '"trust"'],
  ['cert', 'certificate'],
]);

/** Strangers who come from everywhere do not hide what becomes of those who come from where somebody was let in. */
class OriginBudget {
  readonly #strangers = new KeyedLogBudget(STRANGERS_LOG_LINES);
  readonly #known = new KeyedLogBudget(STRANGERS_LOG_LINES);

  of({ isKnown }: Origin): KeyedLogBudget {
    return isKnown ? this.#known : this.#strangers;
  }
}

/**
 * One who has a password does not hide another: lines count per user and network. Names that nobody has to prove are any
 * number, and make no difference.
 */
function keyOf({ network, isProven }: UserOrigin, user: string): string {
  return isProven ? `${network} ${user}` : network;
}

function addressFields({ peer }: Origin): LogFields {
  return { client_addr: peer.address, client_port: peer.port };
}

function hostText(peer: PeerAddress): string {
  if (peer.address === null) return 'host=[local]';
  return `host=${peer.address} port=${peer.port ?? ''}`;
}

/** `0:00:12.345` */
function timeText(milliseconds: number): string {
  const whole = Math.max(0, Math.round(milliseconds));
  const two = (value: number): string => String(value).padStart(2, '0');
  const hours = Math.floor(whole / 3_600_000);
  const minutes = Math.floor(whole / 60_000) % 60;
  const seconds = Math.floor(whole / 1_000) % 60;
  return `${hours}:${two(minutes)}:${two(seconds)}.${String(whole % 1_000).padStart(3, '0')}`;
}

/** A name that could be taken for more of the line stands in quotes. */
function word(name: string): string {
  return name === '' || /^[^\s"'=()]+$/.test(name) ? printable(name) : quoted(name);
}

function quoted(name: string): string {
  return `"${printable(name.replaceAll('"', '""'))}"`;
}

/** No name ends a line or steers a terminal. */
function printable(name: string): string {
  return name.replaceAll(CONTROLS, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x100
      ? `\\x${code.toString(16).padStart(2, '0')}`
      : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}
