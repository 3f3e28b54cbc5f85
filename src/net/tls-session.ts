// How a plain connection to a server becomes one inside TLS: the request, its one-byte answer, the handshake, and what is
// checked about the server afterwards. (fe-connect.c:PQconnectPoll, fe-secure-openssl.c:open_client_SSL)
import type { Socket } from 'node:net';
import { connect as startTls } from 'node:tls';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { OperationalError, ProtocolViolation } from '../base/errors.ts';
import type { ConninfoTls } from '../pg/conninfo.ts';
import { decodeServerCertificate } from '../wire/server-certificate.ts';
import type { ServerCertificate } from '../wire/server-certificate.ts';
import { readTlsFiles } from './tls-files.ts';
import type { TlsFiles } from './tls-files.ts';
import { alpnHint, handshakeFailure, tlsFailure } from './tls-errors.ts';
import { hostNameProblem, isServerName } from './tls-host-name.ts';

/** What a TLS session is known to be, once it is open and the server's certificate has passed. */
export interface TlsSession {
  /** `TLSv1.3`. */
  readonly version: string;
  readonly serverCertificate: ServerCertificate;
  /** The server asked for a client certificate. */
  readonly isCertificateRequested: boolean;
  /** Expiry of the client certificate that we have; milliseconds since the Unix epoch, null when we have none. */
  readonly clientCertificateExpiresAtMs: number | null;
  /** Files that were named and are not there, and what that means, for the log. */
  readonly warnings: readonly string[];
}

/** How TLS is begun. */
export interface TlsOptions {
  readonly settings: ConninfoTls;
  /** The name the server's certificate is checked against, as the connection string gives it. */
  readonly hostName: string;
}

/** Where the connection goes, for messages. */
export interface TlsTarget extends TlsOptions {
  readonly target: string;
}

const ALPN_PROTOCOL = 'postgresql';

const ANSWER_YES = 0x53;
const ANSWER_NO = 0x4e;
const ANSWER_ERROR = 0x45;

/**
 * What the first bytes behind an SSLRequest say. True: TLS may begin. False: the server goes on without. Throws
 * {@link OperationalError} for anything else, also for bytes behind the answer: whatever came before the handshake did not
 * come from the server whose certificate is checked (CVE-2021-23222).
 */
export function readSslAnswer(bytes: Uint8Array, target: string): boolean {
  const [answer] = bytes;
  if (answer === ANSWER_ERROR) {
    throw negotiationError(target, 'server sent an error response during SSL exchange', {
      code: 'TLS_NEGOTIATION_FAILED',
      hint: 'Read in the log of the server why it could not start a session (memory, processes).',
    });
  }
  if (answer !== ANSWER_YES && answer !== ANSWER_NO) {
    const letter = String.fromCharCode(answer ?? 0).replaceAll(/[^\x20-\x7e]/g, '?');
    throw negotiationError(target, `received invalid response to SSL negotiation: ${letter}`, {
      code: 'TLS_NEGOTIATION_FAILED',
      hint: 'Check host and port: what answers there is not PostgreSQL.',
    });
  }
  if (bytes.length > 1) {
    throw negotiationError(target, 'received unencrypted data after SSL response', {
      code: 'TLS_UNENCRYPTED_DATA',
      hint: 'Somebody between here and the server may have put it there: check the network path.',
    });
  }
  return answer === ANSWER_YES;
}

/** The error for a server that goes on without TLS where it must not. */
export function tlsNotOffered(target: string): OperationalError {
  return negotiationError(target, 'server does not support SSL, but SSL was required', {
    code: 'TLS_NOT_OFFERED',
    hint: 'Set ssl=on with a certificate on the upstream, or an sslmode in upstream.conninfo that does without TLS (prefer, disable).',
  });
}

/**
 * Does the handshake on a connected socket that is not read, and checks the certificate as sslmode asks. Rejects with
 * {@link TlsFailure}; the socket is to be destroyed then. The result is not read either until somebody listens.
 */
export async function secureSocket(
  socket: Socket,
  options: TlsTarget,
): Promise<{ readonly socket: TLSSocket; readonly session: TlsSession }> {
  const { target, settings } = options;
  const files = await readTlsFiles({ target, tls: settings, environment: process.env });
  const secured = await handshake(socket, options, files);
  try {
    return { socket: secured, session: checkServer(secured, options, files) };
  } catch (error) {
    secured.destroy();
    throw error;
  }
}

function handshake(socket: Socket, options: TlsTarget, files: TlsFiles): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const secured = beginTls(socket, options, files);
    const context = { ...options.settings, target: options.target, isDirect: isDirect(options) };
    const fail = (error: Error | null): void => {
      // The error listener stays: a destroyed socket may still report one.
      secured.destroy();
      reject(handshakeFailure(error, context));
    };
    const onClose = (): void => fail(null);
    secured.on('error', fail);
    secured.once('close', onClose);
    secured.once('secureConnect', () => {
      secured.removeListener('error', fail);
      secured.removeListener('close', onClose);
      // Between here and the session's own listener.
      secured.on('error', () => {});
      resolve(secured);
    });
  });
}

function beginTls(socket: Socket, options: TlsTarget, files: TlsFiles): TLSSocket {
  const { settings, hostName, target } = options;
  const hasServerName = settings.sni && isServerName(hostName);
  const choices: ConnectionOptions = {
    socket,
    // Without roots every certificate will do; an empty list spares loading the roots of the runtime.
    ca: files.roots === null ? [] : [...files.roots],
    rejectUnauthorized: files.roots !== null,
    // Names are compared by our own rules, which are libpq's.
    checkServerIdentity: () => undefined,
    minVersion: settings.minVersion,
    ALPNProtocols: [ALPN_PROTOCOL],
    ...(settings.maxVersion === null ? {} : { maxVersion: settings.maxVersion }),
    ...(files.revocationLists.length === 0 ? {} : { crl: [...files.revocationLists] }),
    ...(files.client === null ? {} : { cert: files.client.certificate, key: files.client.key }),
    ...(hasServerName ? { servername: hostName } : {}),
  };
  try {
    const secured = startTls(choices);
    secured.disableRenegotiation();
    return secured;
  } catch (error) {
    // What OpenSSL itself refuses of the files, such as a key that is too short for its security level.
    if (!(error instanceof Error)) throw error;
    throw tlsFailure({ target }, `could not create SSL context: ${error.message}`, {
      code: 'TLS_FILE_UNREADABLE',
      hint: 'Check the files of sslrootcert, sslcrl, sslcert and sslkey, and that ssl_min_protocol_version is not above ssl_max_protocol_version.',
      cause: error,
    });
  }
}

function checkServer(secured: TLSSocket, options: TlsTarget, files: TlsFiles): TlsSession {
  const { target, settings, hostName } = options;
  if (isDirect(options)) requireAlpn(secured, target);
  const serverCertificate = peerCertificate(secured, target);
  // The roots of a system sign for everybody: only the name tells one of their servers from another.
  if (settings.mode === 'verify-full' || settings.rootCert === 'system') {
    const problem = hostNameProblem(serverCertificate, hostName);
    if (problem !== null) {
      throw tlsFailure({ target }, problem, {
        code: 'TLS_NAME_MISMATCH',
        hint: 'Connect by a name that the certificate has (host in upstream.conninfo, with hostaddr for the address), or have one made with this name among its subject alternative names.',
      });
    }
  }
  return {
    version: secured.getProtocol() ?? 'unknown',
    serverCertificate,
    // Filled from a CertificateRequest only: the signatures that both sides can do.
    isCertificateRequested: secured.getSharedSigalgs().length > 0,
    clientCertificateExpiresAtMs: files.client?.expiresAtMs ?? null,
    warnings: files.warnings,
  };
}

/** Without an SSLRequest only ALPN says that the other side means PostgreSQL's protocol (ALPACA attack). */
function requireAlpn(secured: TLSSocket, target: string): void {
  const selected: unknown = secured.alpnProtocol;
  if (selected === ALPN_PROTOCOL) return;
  const text =
    typeof selected === 'string'
      ? 'SSL connection was established with unexpected ALPN protocol'
      : 'direct SSL connection was established without ALPN protocol negotiation extension';
  throw tlsFailure({ target }, text, { code: 'TLS_ALPN_MISSING', hint: alpnHint() });
}

function peerCertificate(secured: TLSSocket, target: string): ServerCertificate {
  const certificate = secured.getPeerX509Certificate();
  try {
    if (certificate !== undefined) return decodeServerCertificate(certificate.raw);
  } catch (error) {
    if (!(error instanceof ProtocolViolation)) throw error;
  }
  throw tlsFailure({ target }, 'certificate could not be obtained', {
    code: 'TLS_CERTIFICATE_INVALID',
    hint: "Have the server's certificate replaced (ssl_cert_file on the upstream).",
  });
}

function isDirect(options: TlsOptions): boolean {
  return options.settings.negotiation === 'direct';
}

function negotiationError(
  target: string,
  text: string,
  options: { code: string; hint: string },
): OperationalError {
  return new OperationalError(options.code, `connection to ${target} failed: ${text}`, {
    isRetryable: true,
    hint: options.hint,
  });
}
