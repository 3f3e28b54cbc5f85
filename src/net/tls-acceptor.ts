// How is a client's TLS handshake done, and what is known of it afterwards? (be-secure-openssl.c:be_tls_open_server)
import { constants } from 'node:crypto';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { createServer, TLSSocket } from 'node:tls';
import type { Server, TlsOptions } from 'node:tls';
import { InvariantError, ProtocolViolation, systemErrorCode } from '../base/errors.ts';
import { TLS_GROUPS } from '../base/tls-groups.ts';
import { decodeClientCertificate } from '../wire/client-certificate.ts';
import type { TlsFacts, TlsPeer } from '../wire/tls-facts.ts';
import type { ServerCertificates } from './server-certificates.ts';
import type { ServerCredentials } from './server-tls-files.ts';
import { reasonOf } from './tls-errors.ts';

/** Whether clients are asked for a certificate, and whether they have to show one. */
export type ClientCertMode = 'none' | 'optional' | 'require';

/** How a handshake ended. */
export type TlsOutcome =
  | { readonly kind: 'secure'; readonly socket: TLSSocket; readonly facts: TlsFacts }
  /** TLS is up, but the client's certificate does not do; whoever holds the socket tells it so, or not. */
  | {
      readonly kind: 'refused';
      readonly socket: TLSSocket;
      readonly facts: TlsFacts;
      readonly text: string;
    }
  /** `text` is for the log; the socket closes by itself. */
  | { readonly kind: 'failed'; readonly text: string };

interface Handshake {
  readonly endPoint: Uint8Array | null;
  readonly onOutcome: (outcome: TlsOutcome) => void;
}

const ALPN_PROTOCOL = 'postgresql';

/** Node.js ends a handshake in which nothing arrives for so long; whoever holds the connection has a limit of its own. */
const HANDSHAKE_SILENCE_MS_MAX: number = 2 ** 31 - 1;

/** Does handshakes with the certificate that is current when they begin. Listens nowhere itself. */
export class TlsAcceptor {
  readonly #server: Server;
  readonly #clientCert: ClientCertMode;
  readonly #stopFollowing: () => void;
  #endPoint: Uint8Array | null;

  constructor(certificates: ServerCertificates, clientCert: ClientCertMode) {
    this.#clientCert = clientCert;
    this.#endPoint = certificates.current().endPoint;
    this.#server = createServer(this.#serverOptions(certificates.current()));
    this.#stopFollowing = certificates.onChange(() => {
      const credentials = certificates.current();
      this.#endPoint = credentials.endPoint;
      this.#server.setSecureContext(contextOptions(credentials));
    });
  }

  /**
   * Takes over a TCP socket that nobody listens to any more but for its errors and its close; what has been read of it was
   * put back. `onOutcome` is called once, unless the socket closes before.
   */
  begin(socket: Socket, onOutcome: (outcome: TlsOutcome) => void): void {
    const handshake = { endPoint: this.#endPoint, onOutcome };
    serverOf(this.#server, {
      onSecure: (secured) => this.#onSecure(secured, handshake),
      onFailed: (error) => onFailed(error, handshake),
    }).emit('connection', socket);
  }

  /** No other certificate is followed any more. */
  close(): void {
    this.#stopFollowing();
  }

  #serverOptions(credentials: ServerCredentials): TlsOptions {
    return {
      ...contextOptions(credentials),
      requestCert: this.#clientCert !== 'none',
      // What is wrong with a certificate is looked at here; Node.js would close without a word.
      rejectUnauthorized: false,
      ALPNProtocols: [ALPN_PROTOCOL],
      handshakeTimeout: HANDSHAKE_SILENCE_MS_MAX,
    };
  }

  #onSecure(socket: TLSSocket, handshake: Handshake): void {
    socket.disableRenegotiation();
    handshake.onOutcome(this.#outcomeOf(socket, handshake));
  }

  #outcomeOf(socket: TLSSocket, { endPoint }: Handshake): TlsOutcome {
    const certificate = this.#clientCert === 'none' ? undefined : socket.getPeerX509Certificate();
    const text = this.#clientCertProblem(socket, certificate !== undefined);
    if (text !== null)
      return { kind: 'refused', socket, facts: factsOf(socket, null, endPoint), text };
    let peer: TlsPeer | null = null;
    try {
      // Only now: what nobody vouches for is not read.
      if (certificate !== undefined) peer = decodeClientCertificate(certificate.raw);
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      socket.destroy();
      return { kind: 'failed', text: error.message };
    }
    return { kind: 'secure', socket, facts: factsOf(socket, peer, endPoint) };
  }

  #clientCertProblem(socket: TLSSocket, isShown: boolean): string | null {
    if (!isShown) {
      return this.#clientCert === 'require' ? 'the client showed no certificate' : null;
    }
    if (socket.authorized) return null;
    return `client certificate verification failed: ${verificationText(socket.authorizationError)}`;
  }
}

/** Who hears of one handshake. */
interface HandshakeEvents {
  onSecure(socket: TLSSocket): void;
  onFailed(error: Error): void;
}

/**
 * The server as one handshake sees it. A tls.Server tells of all of them alike, and of a socket that the client has reset
 * not even an address is left to tell it by: so each gets an object that has all from the server, but its own ears.
 */
function serverOf(server: Server, events: HandshakeEvents): EventEmitter {
  const own: unknown = Object.create(server);
  if (!(own instanceof EventEmitter)) throw new InvariantError('a server that is none');
  own.emit = (name: string | symbol, ...values: unknown[]): boolean => {
    const [first, second] = values;
    if (name === 'secureConnection' && first instanceof TLSSocket) {
      listenToErrors(first);
      events.onSecure(first);
      return true;
    }
    if (name === 'tlsClientError' && first instanceof Error) {
      if (second instanceof TLSSocket) listenToErrors(second);
      events.onFailed(first);
      return true;
    }
    return EventEmitter.prototype.emit.call(own, name, ...values);
  };
  return own;
}

/** A socket that was let go of may still report one. */
function listenToErrors(socket: TLSSocket): void {
  socket.on('error', () => {});
}

function onFailed(error: Error, { onOutcome }: Handshake): void {
  onOutcome({ kind: 'failed', text: `could not accept SSL connection: ${failureText(error)}` });
}

function contextOptions({ cert, key, ca, crl }: ServerCredentials): TlsOptions {
  return {
    cert,
    key,
    ...(ca === null ? {} : { ca }),
    ...(crl.length === 0 ? {} : { crl: [...crl] }),
    minVersion: 'TLSv1.2',
    ecdhCurve: TLS_GROUPS,
    honorCipherOrder: true,
    // As PostgreSQL: no session is taken up again, so that every certificate is looked at each time.
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
  };
}

function factsOf(socket: TLSSocket, peer: TlsPeer | null, endPoint: Uint8Array | null): TlsFacts {
  const cipher = socket.getCipher().name;
  const alpn: unknown = socket.alpnProtocol;
  return {
    protocol: socket.getProtocol() ?? 'unknown',
    cipher,
    bits: cipherBits(cipher),
    alpn: typeof alpn === 'string' ? alpn : null,
    peer,
    endPoint: () => endPoint,
  };
}

/** (SSL_get_cipher_bits) */
function cipherBits(name: string): number {
  if (name.includes('CHACHA20')) return 256;
  const size = /(?:AES|CAMELLIA|ARIA)_?(128|256)/.exec(name)?.[1];
  return size === undefined ? 128 : Number(size);
}

/** OpenSSL's words for what it finds wrong with a chain, by Node.js's names for them. (x509_txt.c) */
const VERIFICATION_TEXTS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'certificate has expired',
  CERT_NOT_YET_VALID: 'certificate is not yet valid',
  CERT_REVOKED: 'certificate revoked',
  CERT_UNTRUSTED: 'certificate not trusted',
  CERT_REJECTED: 'certificate rejected',
  CERT_CHAIN_TOO_LONG: 'certificate chain too long',
  CERT_SIGNATURE_FAILURE: 'certificate signature failure',
  CRL_HAS_EXPIRED: 'CRL has expired',
  CRL_NOT_YET_VALID: 'CRL is not yet valid',
  CRL_SIGNATURE_FAILURE: 'CRL signature failure',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'self-signed certificate',
  SELF_SIGNED_CERT_IN_CHAIN: 'self-signed certificate in certificate chain',
  UNABLE_TO_GET_CRL: 'unable to get certificate CRL',
  UNABLE_TO_GET_ISSUER_CERT: 'unable to get issuer certificate',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'unable to get local issuer certificate',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'unable to verify the first certificate',
  INVALID_CA: 'invalid CA certificate',
  INVALID_PURPOSE: 'unsuitable certificate purpose',
  PATH_LENGTH_EXCEEDED: 'path length constraint exceeded',
};

/** Typed as an error by Node.js, and in truth the name of a code. */
function verificationText(error: unknown): string {
  const code = typeof error === 'string' ? error : (systemErrorCode(error) ?? 'UNSPECIFIED');
  return VERIFICATION_TEXTS[code] ?? code.toLowerCase().replaceAll('_', ' ');
}

/** (be_tls_open_server) */
function failureText(error: Error): string {
  const code = systemErrorCode(error) ?? '';
  // Node.js calls an end in the middle of a handshake a reset, without its errno.
  if (code === 'ECONNRESET')
    return 'syscall' in error ? 'Connection reset by peer' : 'EOF detected';
  return code.startsWith('ERR_SSL_') ? reasonOf(error) : code || reasonOf(error);
}
