// May this client have a session, and what is it told first? All checks between the startup packet and the first
// command, in PostgreSQL's order, but for the authentication itself (auth/authentication.ts), which is between them. Pure.
// (backend_startup.c:ProcessStartupPacket, proc.c:InitProcess, auth.c:ClientAuthentication, postinit.c:InitPostgres)
import type { UserAnswer } from '../auth/user-directory.ts';
import { ProtocolViolation } from '../base/errors.ts';
import { CONSOLE_SESSIONS_MAX } from '../config/limits.ts';
import type { HbaConnection, HbaRule } from '../pg/hba.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { StandbyTotals } from '../status/status.ts';
import {
  encodeAuthenticationOk,
  encodeNegotiateProtocolVersion,
  encodeParameterStatus,
} from '../wire/backend-messages.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import type { CommandError } from '../wire/replication-command.ts';
import {
  optionsHint,
  parseReplicationParameter,
  parseStartupOptions,
  REPLICATION_PARAMETER_HINT,
} from '../wire/startup-parameters.ts';
import type { StartupMessage } from '../wire/startup.ts';
import type { ConsoleOpener, ServerIdentity } from './ports.ts';
import { tooManyStandbys } from './reserved-places.ts';
import type { Place } from './reserved-places.ts';
import { readSessionSettings, settingSpelling } from './session-settings.ts';
import type { SessionSettings } from './session-settings.ts';

/** What admission depends on besides the client's own words; asked anew before and after the authentication. */
export interface AdmissionContext {
  /** Null until the upstream has been identified once. */
  readonly identity: ServerIdentity | null;
  readonly isShuttingDown: boolean;
  /** Sessions that count against the limit, this one not included. */
  readonly sessions: number;
  readonly maxWalSenders: number;
  /** Which of the places a client of that application_name may have. */
  readonly placeFor: (applicationName: string) => Place;
  readonly consoles: ConsoleOpener;
  /** Console sessions there are, this one not included. */
  readonly consoleSessions: number;
}

/** Where a client comes from. */
export interface ClientOrigin {
  /** Null for a Unix socket. */
  readonly address: string | null;
  readonly isEncrypted: boolean;
}

/** A client that passed what is checked before the access rules. */
export interface Applicant {
  readonly message: StartupMessage;
  readonly mode: SessionMode;
  /** As it names itself, at most 63 bytes. */
  readonly user: string;
  readonly database: string;
  readonly protocolMinor: number;
  readonly identity: ServerIdentity;
}

/** A session that may begin. */
export interface AdmittedSession {
  readonly mode: SessionMode;
  readonly user: string;
  readonly protocolMinor: number;
  readonly settings: SessionSettings;
  readonly identity: ServerIdentity;
  /** What it is told, by the name as the server spells it. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** What a session is for: replication, or a person's questions. */
export type SessionMode = 'physical' | 'console';

/** Why a client was refused, as it is counted. */
export type RejectReason = keyof StandbyTotals['rejected'];

/** What a client is refused with. */
export interface AdmissionRefusal {
  readonly kind: 'refused';
  readonly error: ErrorFields;
  readonly reason: RejectReason;
}

/** Before the access rules. `frames` go to the client first in either case. */
export type Application = { readonly frames: readonly Uint8Array[] } & (
  | { readonly kind: 'applicant'; readonly applicant: Applicant }
  | AdmissionRefusal
);

/** Behind the authentication. `frames` go to the client first in either case. */
export type Admission = { readonly frames: readonly Uint8Array[] } & (
  | { readonly kind: 'admitted'; readonly session: AdmittedSession }
  | AdmissionRefusal
);

/** NAMEDATALEN - 1 */
const NAME_BYTES_MAX = 63;

/** All checks of a StartupMessage that come before the access rules. */
export function applyForAdmission(message: StartupMessage, context: AdmissionContext): Application {
  const frames: Uint8Array[] = [];
  return refusedOr(frames, () => {
    const applicant = checkApplication(message, context, frames);
    return { kind: 'applicant', frames, applicant };
  });
}

/** What a rule is matched with. */
export function hbaConnection(applicant: Applicant, origin: ClientOrigin): HbaConnection {
  const isReplication = applicant.mode === 'physical';
  return {
    isLocal: origin.address === null,
    isEncrypted: origin.isEncrypted,
    address: origin.address,
    user: applicant.user,
    // A walsender has none. (postmaster.c:ProcessStartupPacket)
    database: isReplication ? '' : applicant.database,
    isReplication,
  };
}

/** What a rule that lets nobody in is answered with; null: none matched. (auth.c:ClientAuthentication, uaReject and uaImplicitReject) */
export function ruleRefusal(
  rule: HbaRule | null,
  applicant: Applicant,
  { address, isEncrypted }: ClientOrigin,
): AdmissionRefusal {
  const { user, database, mode, identity } = applicant;
  const isReplication = mode === 'physical';
  const what = isReplication ? 'replication connection' : 'connection';
  const where = isReplication ? '' : ` database "${database}",`;
  const encryption = encryptionText(isEncrypted, identity.facts);
  const host = `host "${address ?? '[local]'}", user "${user}",${where} ${encryption}`;
  return {
    kind: 'refused',
    reason: 'hba',
    error: {
      severity: 'FATAL',
      sqlstate: SQLSTATE.invalidAuthorizationSpecification,
      message:
        rule === null
          ? `no pg_hba.conf entry for ${isReplication ? `${what} from ` : ''}${host}`
          : `pg_hba.conf rejects ${what} for ${host}`,
    },
  };
}

/**
 * Lets in a client that was authenticated, or says what is in the way: time has passed since it applied. `answer`: what is
 * known of its role.
 */
export function completeAdmission(
  applicant: Applicant,
  answer: UserAnswer,
  context: AdmissionContext,
): Admission {
  const frames: Uint8Array[] = [];
  return refusedOr(frames, () => {
    const { message, mode, user, protocolMinor } = applicant;
    const identity = checkState(context);
    checkLimit(applicant, context, identity.facts);
    frames.push(encodeAuthenticationOk());
    if (mode === 'physical') checkRole(user, answer, identity.facts);
    const settings = checked(() => readSettings(message, identity.facts));
    const own = mode === 'console' ? context.consoles.parameters : walsenderParameters(settings);
    const parameters = parametersOf(identity, { user, settings, own });
    for (const [name, value] of parameters) frames.push(encodeParameterStatus(name, value));
    const session = { mode, user, protocolMinor, settings, identity, parameters };
    return { kind: 'admitted', frames, session };
  });
}

/** Ends the checks; never leaves this file. */
class Refusal extends Error {
  readonly fields: ErrorFields;
  readonly reason: RejectReason;

  constructor(reason: RejectReason, error: CommandError) {
    super(error.message);
    this.reason = reason;
    this.fields = { severity: 'FATAL', ...error };
  }
}

function refusedOr<T>(
  frames: readonly Uint8Array[],
  check: () => T,
): T | (AdmissionRefusal & { readonly frames: readonly Uint8Array[] }) {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { kind: 'refused', frames, error: error.fields, reason: error.reason };
  }
}

function checkApplication(
  message: StartupMessage,
  context: AdmissionContext,
  frames: Uint8Array[],
): Applicant {
  const replication = checked(() => replicationMode(message));
  const minorMax = context.identity?.facts.protocolMinorMax ?? 0;
  const protocolMinor = Math.min(message.protocolMinor, minorMax);
  if (message.protocolMinor > minorMax || message.protocolOptions.length > 0) {
    frames.push(encodeNegotiateProtocolVersion(protocolMinor, message.protocolOptions));
  }
  const user = truncateName(message.parameters.get('user') ?? '');
  if (user === '') {
    throw new Refusal('protocol', {
      sqlstate: SQLSTATE.invalidAuthorizationSpecification,
      message: 'no PostgreSQL user name specified in startup packet',
    });
  }
  const identity = checkState(context);
  const database = truncateName(message.parameters.get('database') ?? '') || user;
  const mode = sessionMode(replication, database, context.consoles);
  checkLimit({ mode, message }, context, identity.facts);
  return { message, mode, user, database, protocolMinor, identity };
}

/** A walsender knows no characters, so it has no encoding; what a client calls its own it is told again. */
function walsenderParameters({ values }: SessionSettings): ReadonlyMap<string, string> {
  const none = 'SQL_ASCII';
  return new Map([
    ['client_encoding', values.get('client_encoding') ?? none],
    ['server_encoding', none],
  ]);
}

function sessionMode(
  replication: 'physical' | 'database' | 'off',
  database: string,
  consoles: ConsoleOpener,
): SessionMode {
  if (replication === 'physical') return 'physical';
  if (replication === 'off' && database === consoles.database) return 'console';
  throw new Refusal('protocol', physicalOnly(replication, consoles));
}

function replicationMode(message: StartupMessage): 'physical' | 'database' | 'off' | CommandError {
  const value = message.parameters.get('replication');
  if (value === undefined) return 'off';
  try {
    return parseReplicationParameter(value);
  } catch (error) {
    if (!(error instanceof ProtocolViolation)) throw error;
    return { sqlstate: error.code, message: error.message, hint: REPLICATION_PARAMETER_HINT };
  }
}

/** The relay has nothing to say before it knows whom it stands for. */
function checkState(context: AdmissionContext): ServerIdentity {
  if (context.isShuttingDown) {
    throw new Refusal('draining', {
      sqlstate: SQLSTATE.cannotConnectNow,
      message: 'the database system is shutting down',
    });
  }
  if (context.identity === null) {
    throw new Refusal('draining', {
      sqlstate: SQLSTATE.cannotConnectNow,
      message: 'the database system is starting up',
    });
  }
  return context.identity;
}

function physicalOnly(mode: 'database' | 'off', consoles: ConsoleOpener): CommandError {
  const what = mode === 'database' ? 'replication=database' : 'an ordinary session';
  return {
    sqlstate: SQLSTATE.featureNotSupported,
    message: 'walcast serves physical replication only',
    detail: `The client asked for ${what}.`,
    hint: `Connect with replication=true, to database "${consoles.database}" for walcast's console, or to the upstream server itself.`,
  };
}

function checkLimit(
  { mode, message }: Pick<Applicant, 'mode' | 'message'>,
  context: AdmissionContext,
  facts: VersionFacts,
): void {
  if (mode === 'console') {
    if (context.consoleSessions < CONSOLE_SESSIONS_MAX) return;
    throw new Refusal('limit', {
      sqlstate: SQLSTATE.tooManyConnections,
      message: 'sorry, too many clients already',
      detail: `The console has at most ${CONSOLE_SESSIONS_MAX} sessions.`,
    });
  }
  const settings = readSettings(message, facts);
  const applicationName = 'sqlstate' in settings ? '' : settings.applicationName;
  if (context.placeFor(applicationName) !== 'none') return;
  const { maxWalSenders, sessions } = context;
  const isFull = sessions >= maxWalSenders;
  const { quotesSettingNames } = facts;
  throw new Refusal('limit', tooManyStandbys({ quotesSettingNames, maxWalSenders, isFull }));
}

/** (miscinit.c:InitializeSessionUserId, postinit.c:InitPostgres) */
function checkRole(user: string, answer: UserAnswer, facts: VersionFacts): void {
  if (answer.kind === 'unknown' && answer.isSure === true) {
    throw new Refusal('auth', {
      sqlstate: SQLSTATE.invalidAuthorizationSpecification,
      message: `role "${user}" does not exist`,
    });
  }
  if (answer.kind === 'unavailable' && answer.isOut !== true) {
    throw new Refusal('auth', {
      sqlstate: SQLSTATE.cannotConnectNow,
      message: `could not ask the upstream server about role "${user}"`,
    });
  }
  if (answer.kind !== 'found' || answer.mayReplicate !== false) return;
  const sqlstate = SQLSTATE.insufficientPrivilege;
  throw new Refusal(
    'auth',
    facts.explainsMissingReplication
      ? {
          sqlstate,
          message: 'permission denied to start WAL sender',
          detail: 'Only roles with the REPLICATION attribute may start a WAL sender process.',
        }
      : { sqlstate, message: 'must be superuser or replication role to start walsender' },
  );
}

function encryptionText(isEncrypted: boolean, facts: VersionFacts): string {
  if (facts.saysEncryptionInHbaErrors) return isEncrypted ? 'SSL encryption' : 'no encryption';
  return isEncrypted ? 'SSL on' : 'SSL off';
}

/** Parameters that are no settings. */
const NOT_SETTINGS: readonly string[] = ['user', 'database', 'replication', 'options'];

/** Those in `options` are applied before those of the packet itself. (process_startup_options) */
function readSettings(
  message: StartupMessage,
  facts: VersionFacts,
): SessionSettings | CommandError {
  const options = message.parameters.get('options');
  const settings: (readonly [string, string])[] = [];
  try {
    if (options !== undefined) settings.push(...parseStartupOptions(options));
  } catch (error) {
    if (!(error instanceof ProtocolViolation)) throw error;
    const hint = optionsHint(error);
    const refusal = { sqlstate: error.code, message: error.message };
    return hint === undefined ? refusal : { ...refusal, hint };
  }
  for (const [name, value] of message.parameters) {
    if (!NOT_SETTINGS.includes(name)) settings.push([name, value]);
  }
  return readSessionSettings(settings, facts);
}

/**
 * The upstream's parameters, with what belongs to this session, and `own` to this kind of session, in their place: by the
 * name as the server spells it. (BeginReportingGUCOptions)
 */
function parametersOf(
  identity: ServerIdentity,
  session: { user: string; settings: SessionSettings; own: ReadonlyMap<string, string> },
): Map<string, string> {
  const { user, settings } = session;
  const own = new Map([
    ['application_name', settings.applicationName],
    ...session.own,
    ['is_superuser', 'off'],
    ['session_authorization', user],
  ]);
  const parameters = new Map<string, string>();
  for (const [name, upstreamValue] of identity.parameters) {
    const lowerName = name.toLowerCase();
    const value = own.get(lowerName) ?? settings.values.get(lowerName) ?? upstreamValue;
    own.delete(lowerName);
    parameters.set(settingSpelling(name), value);
  }
  for (const [name, value] of own) parameters.set(settingSpelling(name), value);
  return parameters;
}

/** Cuts at 63 bytes, never inside a character. */
function truncateName(name: string): string {
  const bytes = Buffer.from(name, 'utf8');
  if (bytes.length <= NAME_BYTES_MAX) return name;
  let end = NAME_BYTES_MAX;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return bytes.toString('utf8', 0, end);
}

function checked<T extends object | string>(read: () => T | CommandError): T {
  const result = read();
  if (typeof result === 'object' && 'sqlstate' in result) throw new Refusal('protocol', result);
  return result;
}
