// How does the HTTP port speak TLS? With the certificate that is current when a client comes; a handshake that is not done
// in time ends, and what was refused in it is not answered.
import type { FastifyInstance } from 'fastify';
import { TLS_GROUPS } from '../base/tls-groups.ts';

/** A certificate that is in use, PEM. */
export interface PortCertificate {
  /** The certificate, then its chain. */
  readonly cert: string;
  /** Not encrypted. */
  readonly key: string;
  /** Authorities that sign certificates of clients; null: clients are not asked for one. */
  readonly ca: string | null;
}

/** Where the port has its certificate from; whoever gives it keeps the last good one. */
export interface PortTls {
  /** Clients are asked for a certificate; does not change. */
  readonly hasClientAuthorities: boolean;
  /** The one for connections from now on. */
  current(): PortCertificate;
  /** `listener` is called when another one is current; what is returned ends that. */
  onChange(listener: () => void): () => void;
}

/** What of a node:https server is needed here. */
interface SecureServer {
  setSecureContext(options: ReturnType<typeof contextOptions>): void;
  on(event: 'secureConnection', listener: (socket: SecureSocket) => void): unknown;
}

interface SecureSocket {
  disableRenegotiation(): void;
}

/** What a handshake needs besides the limits of every port. */
export interface SecureServerOptions extends ReturnType<typeof contextOptions> {
  readonly handshakeTimeout: number;
  readonly requestCert: boolean;
  readonly rejectUnauthorized: boolean;
}

/** For node:https; `handshakeMs` bounds the handshake as a whole. */
export function secureServerOptions(tls: PortTls, handshakeMs: number): SecureServerOptions {
  return {
    ...contextOptions(tls),
    handshakeTimeout: handshakeMs,
    requestCert: tls.hasClientAuthorities,
    // Probes have no certificate: whoever asks for more without one is refused by the route.
    rejectUnauthorized: false,
  };
}

/** Follows the certificate; what is returned ends that. Open connections keep the one they began with. */
export function followCertificate(server: FastifyInstance, tls: PortTls): () => void {
  const secure = secureServerOf(server);
  secure.on('secureConnection', (socket) => socket.disableRenegotiation());
  return tls.onChange(() => secure.setSecureContext(contextOptions(tls)));
}

/** True for the error of a handshake: there is nobody to answer. */
export function isHandshakeFailure(code: string | undefined): boolean {
  return /^(?:ERR_SSL_|ERR_TLS_|ERR_OSSL_|UNABLE_|CERT_|EPROTO$)/.test(code ?? '');
}

function contextOptions(tls: PortTls): {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
  readonly minVersion: 'TLSv1.2';
  readonly ecdhCurve: string;
} {
  const { cert, key, ca } = tls.current();
  return {
    cert,
    key,
    ...(ca === null ? {} : { ca }),
    minVersion: 'TLSv1.2',
    ecdhCurve: TLS_GROUPS,
  };
}

/** fastify's type is that of plain HTTP, whatever it was made of. */
function secureServerOf({ server }: FastifyInstance): SecureServer {
  const candidate: unknown = server;
  if (isSecureServer(candidate)) return candidate;
  throw new TypeError('the HTTP port was not opened with TLS');
}

function isSecureServer(server: unknown): server is SecureServer {
  return typeof server === 'object' && server !== null && 'setSecureContext' in server;
}
