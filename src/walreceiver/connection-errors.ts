// How a session at the upstream ends when it does not end well.
import { OperationalError, ProtocolViolation } from '../base/errors.ts';
import { formatTarget, isUnixSocketHost } from '../net/dial.ts';
import { alertFailure } from '../net/tls-errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { printable } from './upstream-errors.ts';
import type { UpstreamHost, UpstreamTarget } from './upstream-target.ts';

/** Bad bytes of the upstream. */
export function violation(message: string): ProtocolViolation {
  return new ProtocolViolation(SQLSTATE.protocolViolation, message);
}

/**
 * The connection ended without a word of the server; with one of its TLS, when that did not like us. `isTlsLogin`: inside
 * TLS, before the login was over.
 */
export function connectionEnded(
  target: string,
  errorCode: string | null,
  isTlsLogin: boolean,
): OperationalError {
  const alert = errorCode === null ? null : alertFailure(errorCode, { target });
  if (alert !== null) return alert;
  const how = errorCode === null ? '' : ` (${errorCode})`;
  return new OperationalError('UPSTREAM_CLOSED', `${target} closed the connection${how}`, {
    isRetryable: true,
    // The alert can be lost: a server that closes with our bytes unread resets the connection.
    ...(isTlsLogin ? { hint: CLOSED_IN_LOGIN_HINT } : {}),
  });
}

const CLOSED_IN_LOGIN_HINT =
  'With TLS 1.3 this is also how a server refuses our certificate, or that there is none: check sslcert and sslkey, and the log of the server.';

/**
 * Throws {@link OperationalError} for requirepeer: who owns the other end of a Unix socket is a question (SO_PEERCRED)
 * that this runtime cannot ask. Over TCP it means nothing, as in libpq.
 */
export function refusePeerCheck(target: UpstreamTarget, host: UpstreamHost): void {
  if (target.requirePeer === null || !isUnixSocketHost(host.address)) return;
  throw new OperationalError(
    'REQUIREPEER_UNSUPPORTED',
    `requirepeer="${target.requirePeer}" is set, and walcast cannot find out who owns ${formatTarget(host)}`,
    {
      hint: 'Leave requirepeer out of upstream.conninfo, and let only the server write into the directory of its socket; or connect by TCP with sslmode=verify-full.',
    },
  );
}

/** The session was ended from this side. */
export function closedByUs(): OperationalError {
  return new OperationalError('UPSTREAM_CLOSED', 'the session to the upstream was closed by us', {
    isRetryable: true,
  });
}

/** A command was not answered in time. */
export function commandTimeout(sql: string, timeoutMs: number): OperationalError {
  const command = printable(sql).split(' ')[0] ?? '';
  return new OperationalError(
    'UPSTREAM_TIMEOUT',
    `the upstream did not answer ${command} within ${timeoutMs} ms`,
    { isRetryable: true },
  );
}
