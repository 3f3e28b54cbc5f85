// Why could we not log in at an upstream as a walreceiver, and what does the user change? Pure: an error in, a finding out.
import { OperationalError, ProtocolViolation, systemErrorCode } from '../base/errors.ts';
import type { WalcastError } from '../base/errors.ts';
import { isUnixSocketHost } from '../net/dial.ts';
import { parseIpAddress } from '../pg/ip-address.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { LoginRefusal } from '../walreceiver/upstream-login.ts';
import type { ReceivedError } from '../wire/upstream-messages.ts';
import { errorFinding } from './finding.ts';
import type { Finding, FindingCode } from './finding.ts';
import type { HostProbe } from './host-probe.ts';
import { hbaWord, quoteIdentifier } from './quoting.ts';

/** The statement that gives the role its attribute. */
export function grantReplication(user: string): string {
  return `ALTER ROLE ${quoteIdentifier(user)} REPLICATION;`;
}

/** Makes a server write enough WAL and serve it. */
const WAL_LEVEL_FIX =
  'Set wal_level = replica and max_wal_senders = 10 in postgresql.conf of the server and restart it; a reload is not enough';

/** What kept the walreceiver's session from working. To be asked for a probe that failed. */
export function loginFinding(probe: HostProbe, failure: WalcastError): Finding {
  const special = SPECIAL.get(failure.code);
  if (special !== undefined) return special(probe, failure);
  if (failure.code.startsWith('TLS_')) return tlsFinding(probe, failure);
  const code = PLAIN.get(failure.code);
  if (code !== undefined) return plainFinding(code, probe, failure);
  return plainFinding('upstream.refused', probe, failure);
}

type MakeFinding = (probe: HostProbe, failure: WalcastError) => Finding;

/** Errors whose own message and hint say it all. */
const PLAIN: ReadonlyMap<string, FindingCode> = new Map<string, FindingCode>([
  ['NAME_UNKNOWN', 'upstream.name'],
  ['UPSTREAM_CLOSED', 'upstream.protocol'],
  ['INVALID_UPSTREAM_ANSWER', 'upstream.protocol'],
  ['UNSUPPORTED_SERVER_VERSION', 'upstream.version'],
  ['UNSUPPORTED_WAL_BLOCK_SIZE', 'upstream.block_size'],
  ['AUTH_METHOD_REFUSED', 'upstream.auth_method'],
  ['AUTH_METHOD_UNSUPPORTED', 'upstream.auth_method'],
  ['INVALID_REQUIRE_AUTH', 'upstream.auth_method'],
  ['CHANNEL_BINDING_MISSING', 'upstream.auth_method'],
  ['CHANNEL_BINDING_UNAVAILABLE', 'upstream.auth_method'],
  ['PASSWORD_MISSING', 'upstream.password_missing'],
  [SQLSTATE.adminShutdown, 'upstream.starting'],
]);

const SPECIAL: ReadonlyMap<string, MakeFinding> = new Map<string, MakeFinding>([
  ['CONNECT_FAILED', unreachable],
  ['CONNECT_TIMEOUT', timedOut],
  ['UPSTREAM_TIMEOUT', timedOut],
  [SQLSTATE.cannotConnectNow, notAccepting],
  [SQLSTATE.invalidPassword, wrongPassword],
  [SQLSTATE.insufficientPrivilege, noReplicationAttribute],
  [SQLSTATE.tooManyConnections, tooManyConnections],
  [SQLSTATE.invalidAuthorizationSpecification, notLetIn],
  [SQLSTATE.featureNotSupported, noReplication],
  [SQLSTATE.protocolViolation, noReplication],
]);

function plainFinding(code: FindingCode, probe: HostProbe, failure: WalcastError): Finding {
  return errorFinding(code, {
    subject: probe.subject,
    message: failure.message,
    fix: hintOf(failure) ?? WITHOUT_HINT,
  });
}

const WITHOUT_HINT =
  'Read in the log of the server why; if it is not PostgreSQL that answers there, correct host and port in upstream.conninfo';

function unreachable(probe: HostProbe, failure: WalcastError): Finding {
  const { address } = probe.host;
  const isForbidden = isUnixSocketHost(address) && systemErrorCode(failure.cause) === 'EACCES';
  const fix = isForbidden
    ? `Let the user that runs walcast (uid ${process.geteuid?.() ?? '?'}) into ${address} and write to the socket there (unix_socket_permissions, unix_socket_group of the server)`
    : `${hintOf(failure) ?? 'Start the server'} Correct host and port in upstream.conninfo, or take the host out of it`;
  return errorFinding('upstream.unreachable', {
    subject: probe.subject,
    message: failure.message,
    fix,
  });
}

/** (postmaster.c:ProcessStartupPacket) */
function notAccepting({ subject }: HostProbe, { message }: WalcastError): Finding {
  const fix = /Hot standby mode is disabled/.test(message)
    ? 'Set hot_standby = on in postgresql.conf of that standby and restart it, or take the host out of upstream.conninfo'
    : 'Wait until the server accepts connections: it is starting, stopping or recovering; a standby accepts them with hot_standby = on only';
  return errorFinding('upstream.starting', { subject, message, fix });
}

function timedOut(probe: HostProbe, failure: WalcastError): Finding {
  const fix =
    hintOf(failure) ?? 'Check the network and any firewall, or raise connect_timeout in conninfo';
  return errorFinding('upstream.timeout', {
    subject: probe.subject,
    // What was left of the time at that step is of no interest, and differs from check to check.
    message: failure.message.replace(/within [\d.]+ ms/, `within ${probe.timeoutMs / 1_000} s`),
    fix,
  });
}

/** The server says the same for a wrong password, one that has expired, a role without one and one that does not exist. */
function wrongPassword(probe: HostProbe, failure: WalcastError): Finding {
  const role = quoteIdentifier(probe.user);
  return errorFinding('upstream.password', {
    subject: probe.subject,
    message: failure.message,
    fix:
      `Correct the password (in upstream.conninfo, its file, passfile or PGPASSWORD), or set it on the server: ` +
      `ALTER ROLE ${role} PASSWORD '…'; (one that has expired: with VALID UNTIL 'infinity'); a role that does not exist yet: CREATE ROLE ${role} REPLICATION LOGIN PASSWORD '…';`,
  });
}

function noReplicationAttribute(probe: HostProbe, failure: WalcastError): Finding {
  return errorFinding('upstream.replication_attribute', {
    subject: probe.subject,
    message: failure.message,
    fix: `Run on the server: ${grantReplication(probe.user)}`,
  });
}

/** A pooler in between knows no replication connections. */
function noReplication(probe: HostProbe, failure: WalcastError): Finding {
  if (failure instanceof ProtocolViolation) {
    return plainFinding('upstream.protocol', probe, failure);
  }
  return errorFinding('upstream.protocol', {
    subject: probe.subject,
    message: failure.message,
    fix: 'Connect to the PostgreSQL server itself, not to a connection pooler',
  });
}

/** One SQLSTATE for three causes: no walsender free, no walsender at all, no connection free. */
function tooManyConnections(probe: HostProbe, failure: WalcastError): Finding {
  const { subject, settings, sql } = probe;
  const { message } = failure;
  const max = settings.get('max_wal_senders') ?? /\(currently (\d+)\)/.exec(message)?.[1] ?? null;
  if (settings.get('wal_level') === 'minimal') {
    return errorFinding('upstream.wal_level', {
      subject,
      message: `the server runs with wal_level = minimal and max_wal_senders = ${max ?? '0'}, so it serves no WAL: ${message}`,
      fix: WAL_LEVEL_FIX,
    });
  }
  if (max === '0' && settings.has('wal_level')) {
    return errorFinding('upstream.max_wal_senders', {
      subject,
      message: `the server has max_wal_senders = 0, so it serves no WAL: ${message}`,
      fix: 'Set max_wal_senders = 10 in postgresql.conf of the server and restart it; a reload is not enough',
    });
  }
  if (max === '0') {
    return errorFinding('upstream.max_wal_senders', {
      subject,
      message: `the server has max_wal_senders = 0, which also wal_level = minimal demands: ${message}`,
      fix: WAL_LEVEL_FIX,
    });
  }
  if (!/max_wal_senders/.test(message)) return noConnectionLeft(probe, failure);
  const isUsed = sql !== null && sql.walSenders.length > 0;
  const used = isUsed ? `; in use by ${walSenderNames(sql.walSenders)}` : '';
  return errorFinding('upstream.max_wal_senders', {
    subject,
    message: `${message}${used}`,
    fix: `Raise max_wal_senders above ${max ?? 'its value'} in postgresql.conf of the server and restart it, or stop a walsender that is not needed (SELECT pid, application_name, client_addr FROM pg_stat_replication)`,
  });
}

function noConnectionLeft({ subject, user }: HostProbe, failure: WalcastError): Finding {
  const { message } = failure;
  const isRoleLimit =
    refusalOf(failure)?.routine === 'InitializeSessionUserId' ||
    /connections for role "/.test(message);
  return errorFinding('upstream.max_connections', {
    subject,
    message,
    fix: isRoleLimit
      ? `Raise the limit of the role: ALTER ROLE ${quoteIdentifier(user)} CONNECTION LIMIT -1;`
      : 'Raise max_connections on the server and restart it, or close connections that are not needed',
  });
}

const NAMES_SHOWN_MAX = 5;

function walSenderNames(walSenders: readonly { applicationName: string }[]): string {
  const names = walSenders.slice(0, NAMES_SHOWN_MAX).map(({ applicationName }) => applicationName);
  const more = walSenders.length - names.length;
  return `${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/**
 * One SQLSTATE for whatever pg_hba.conf and the role's attributes refuse. The routine of the server tells them apart in
 * every language, its words do more where they are English. (auth.c, miscinit.c)
 */
function notLetIn(probe: HostProbe, failure: WalcastError): Finding {
  const refusal = refusalOf(failure);
  const words = refusal?.message ?? failure.message;
  const routine = refusal?.routine ?? null;
  if (routine === 'InitializeSessionUserId' || /^role ".*" (does not|is not)/s.test(words)) {
    return noRole(probe, failure, words);
  }
  const { subject, user } = probe;
  const { message } = failure;
  if (probe.isMendedByTls) {
    return errorFinding('upstream.sslmode', {
      subject,
      message: `the server lets this login in with TLS only: ${message}`,
      fix: 'Set sslmode=require (better: verify-full with sslrootcert) in upstream.conninfo',
    });
  }
  const isMissingCertificate = routine === 'ClientAuthentication' && peerIn(words) === null;
  if (isMissingCertificate || /client certificate|certificate authentication/.test(words)) {
    return errorFinding('upstream.client_certificate', {
      subject,
      message,
      fix: `Set sslcert and sslkey in upstream.conninfo to files with a client certificate that ssl_ca_file of the server has signed and whose common name is ${user}, or map its name to that role in pg_ident.conf of the server`,
    });
  }
  const line = hbaLine(probe, words);
  const [code, how] =
    routine === 'auth_failed' || /authentication failed/.test(words)
      ? (['upstream.auth_method', 'first in pg_hba.conf of the server'] as const)
      : (['upstream.hba', placeOf(words)] as const);
  return errorFinding(code, {
    subject,
    message,
    fix: `Put this line ${how}, then SELECT pg_reload_conf(): ${line}`,
  });
}

function noRole({ subject, user }: HostProbe, { message }: WalcastError, words: string): Finding {
  const role = quoteIdentifier(user);
  const create = `CREATE ROLE ${role} REPLICATION LOGIN PASSWORD '…';`;
  const allow = `ALTER ROLE ${role} LOGIN;`;
  const isMissing = words.endsWith(' does not exist');
  const isBarred = words.endsWith(' is not permitted to log in');
  const fix = isMissing
    ? `Create the role on the server: ${create}`
    : `Run on the server: ${allow}${isBarred ? '' : ` or, where there is no such role: ${create}`}`;
  return errorFinding('upstream.role', { subject, message, fix });
}

/** A line that is missing may stand anywhere; one against which another one decides has to stand before that. */
function placeOf(words: string): string {
  if (words.startsWith('no pg_hba.conf entry')) return 'into pg_hba.conf of the server';
  if (words.startsWith('pg_hba.conf rejects')) {
    return 'into pg_hba.conf of the server, before the one that rejects us';
  }
  return 'first in pg_hba.conf of the server';
}

/** The line that lets this login in, with our address as the server sees it. */
export function hbaLine(
  { user, host, tlsVersion }: Pick<HostProbe, 'user' | 'host' | 'tlsVersion'>,
  words: string,
): string {
  const rest = `replication ${hbaWord(user)}`;
  if (isUnixSocketHost(host.address)) return `local ${rest} scram-sha-256`;
  const address = peerIn(words) ?? loopbackOf(host.address);
  const type = tlsVersion !== null || /SSL on|SSL encryption/.test(words) ? 'hostssl' : 'host';
  if (address === null) return `${type} ${rest} ADDRESS-OF-WALCAST/32 scram-sha-256`;
  return `${type} ${rest} ${address}/${address.includes(':') ? 128 : 32} scram-sha-256`;
}

/** The address that a refusal of pg_hba.conf names, in whatever language; `[local]` for a Unix socket. */
function peerIn(words: string): string | null {
  if (words.includes('[local]')) return '[local]';
  return words.split(/[^0-9a-fA-F.:]+/).find((word) => parseIpAddress(word) !== null) ?? null;
}

/** Who connects to such an address comes from it. */
function loopbackOf(address: string): string | null {
  if (address === '::1') return address;
  return /^(127\.|localhost$)/.test(address) ? '127.0.0.1' : null;
}

/** The ErrorResponse behind `failure`; of two attempts that of the one that tells more. Null where there is none. */
function refusalOf(failure: WalcastError): ReceivedError | null {
  if (failure instanceof LoginRefusal) return failure.fields;
  return failure.cause instanceof LoginRefusal ? failure.cause.fields : null;
}

function tlsFinding(probe: HostProbe, failure: WalcastError): Finding {
  if (failure.code === 'TLS_NEGOTIATION_FAILED') {
    return plainFinding('upstream.protocol', probe, failure);
  }
  if (failure.code === 'TLS_NOT_OFFERED') return plainFinding('upstream.sslmode', probe, failure);
  if (failure.code === 'TLS_CLIENT_CERTIFICATE_REFUSED') {
    return plainFinding('upstream.client_certificate', probe, failure);
  }
  if (failure.code === 'TLS_CERTIFICATE_EXPIRED') {
    return plainFinding('upstream.certificate_expired', probe, failure);
  }
  const isCertificate = /CERT|_KEY_|_CA$|_CRL_|_NAME_|_FILE_/.test(failure.code);
  return plainFinding(isCertificate ? 'upstream.certificate' : 'upstream.tls', probe, failure);
}

function hintOf(failure: WalcastError): string | null {
  if (failure instanceof ProtocolViolation) {
    return 'Check host and port in upstream.conninfo: what answers there is no PostgreSQL server';
  }
  return failure instanceof OperationalError ? (failure.hint ?? null) : null;
}
