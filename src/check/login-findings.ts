// Why could we not log in at an upstream as a walreceiver, and what does the user change? Pure: an error in, a finding out.
import { OperationalError, ProtocolViolation } from '../base/errors.ts';
import type { WalcastError } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { errorFinding } from './finding.ts';
import type { Finding, FindingCode } from './finding.ts';
import type { HostProbe } from './host-probe.ts';

/** The statement that gives the role its attribute. */
export function grantReplication(user: string): string {
  return `ALTER ROLE ${quoteIdentifier(user)} REPLICATION;`;
}

/** The lines that make a server write enough WAL and serve it. */
export const WAL_LEVEL_FIX =
  'Set wal_level = replica and max_wal_senders = 10 in postgresql.conf of the server and restart it; a reload is not enough';

/** `name` as SQL needs it. */
export function quoteIdentifier(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

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
  [SQLSTATE.cannotConnectNow, 'upstream.starting'],
  [SQLSTATE.adminShutdown, 'upstream.starting'],
]);

const SPECIAL: ReadonlyMap<string, MakeFinding> = new Map<string, MakeFinding>([
  ['CONNECT_FAILED', unreachable],
  ['CONNECT_TIMEOUT', timedOut],
  ['UPSTREAM_TIMEOUT', timedOut],
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
    fix: hintOf(failure),
  });
}

function unreachable(probe: HostProbe, failure: WalcastError): Finding {
  const fix = `${hintOf(failure) ?? 'Start the server'} Correct host and port in upstream.conninfo, or take the host out of it`;
  return errorFinding('upstream.unreachable', {
    subject: probe.subject,
    message: failure.message,
    fix,
  });
}

function timedOut(probe: HostProbe, failure: WalcastError): Finding {
  const fix =
    hintOf(failure) ?? 'Check the network and any firewall, or raise connect_timeout in conninfo';
  return errorFinding('upstream.timeout', {
    subject: probe.subject,
    message: failure.message,
    fix,
  });
}

/** The server says the same for a wrong password, a role without one and a role that does not exist. */
function wrongPassword(probe: HostProbe, failure: WalcastError): Finding {
  const role = quoteIdentifier(probe.user);
  return errorFinding('upstream.password', {
    subject: probe.subject,
    message: failure.message,
    fix:
      `Correct the password (in upstream.conninfo, its file, passfile or PGPASSWORD), or set it on the server: ` +
      `ALTER ROLE ${role} PASSWORD '…'; a role that does not exist yet: CREATE ROLE ${role} REPLICATION LOGIN PASSWORD '…';`,
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
  if (max === '0') {
    return errorFinding('upstream.max_wal_senders', {
      subject,
      message: `the server has max_wal_senders = 0, which also wal_level = minimal demands: ${message}`,
      fix: WAL_LEVEL_FIX,
    });
  }
  if (!/max_wal_senders/.test(message)) return noConnectionLeft(probe, message);
  const used = sql === null ? '' : `; in use by ${walSenderNames(sql.walSenders)}`;
  return errorFinding('upstream.max_wal_senders', {
    subject,
    message: `${message}${used}`,
    fix: `Raise max_wal_senders above ${max ?? 'its value'} in postgresql.conf of the server and restart it, or stop a walsender that is not needed (SELECT pid, application_name, client_addr FROM pg_stat_replication)`,
  });
}

function noConnectionLeft({ subject, user }: HostProbe, message: string): Finding {
  const isRoleLimit = /connections for role "/.test(message);
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

/** One SQLSTATE for whatever pg_hba.conf and the role's attributes refuse; the server's own words tell them apart. */
function notLetIn(probe: HostProbe, failure: WalcastError): Finding {
  const { subject, user } = probe;
  const { message } = failure;
  const role = quoteIdentifier(user);
  if (/does not exist/.test(message)) {
    const fix = `Create the role on the server: CREATE ROLE ${role} REPLICATION LOGIN PASSWORD '…';`;
    return errorFinding('upstream.role', { subject, message, fix });
  }
  if (/not permitted to log in/.test(message)) {
    const fix = `Run on the server: ALTER ROLE ${role} LOGIN;`;
    return errorFinding('upstream.role', { subject, message, fix });
  }
  if (probe.isMendedByTls) {
    return errorFinding('upstream.sslmode', {
      subject,
      message: `the server lets this login in with TLS only: ${message}`,
      fix: 'Set sslmode=require (better: verify-full with sslrootcert) in upstream.conninfo',
    });
  }
  if (/Peer authentication|Ident authentication|[Cc]ertificate authentication/.test(message)) {
    return errorFinding('upstream.auth_method', {
      subject,
      message,
      fix: `Put this line first in pg_hba.conf of the server, then SELECT pg_reload_conf(): ${hbaLine(probe, message)}`,
    });
  }
  const isRejected = /rejects/.test(message);
  return errorFinding('upstream.hba', {
    subject,
    message,
    fix: `${isRejected ? 'Put' : 'Add'} this line ${isRejected ? 'before the one that rejects ' : ''}to pg_hba.conf of the server, then SELECT pg_reload_conf(): ${hbaLine(probe, message)}`,
  });
}

/** The line that lets this login in, with our address as the server sees it. */
export function hbaLine(
  { user, host, tlsVersion }: Pick<HostProbe, 'user' | 'host' | 'tlsVersion'>,
  message: string,
): string {
  const name = /^[a-z_][a-z0-9_]*$/.test(user) && !isHbaKeyword(user) ? user : `"${user}"`;
  if (host.address.startsWith('/')) return `local replication ${name} scram-sha-256`;
  const address = /host "([0-9a-fA-F.:]+)"/.exec(message)?.[1] ?? null;
  const type = tlsVersion !== null || /SSL on|SSL encryption/.test(message) ? 'hostssl' : 'host';
  if (address === null) return `${type} replication ${name} ADDRESS-OF-WALCAST/32 scram-sha-256`;
  return `${type} replication ${name} ${address}/${address.includes(':') ? 128 : 32} scram-sha-256`;
}

function isHbaKeyword(word: string): boolean {
  return ['all', 'replication', 'sameuser', 'samerole', 'samegroup'].includes(word);
}

function tlsFinding(probe: HostProbe, failure: WalcastError): Finding {
  if (failure.code === 'TLS_NEGOTIATION_FAILED') {
    return plainFinding('upstream.protocol', probe, failure);
  }
  if (failure.code === 'TLS_NOT_OFFERED') return plainFinding('upstream.sslmode', probe, failure);
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
