// A scripted PostgreSQL server with TLS: how it answers the request for it, which certificate it shows, what it asks of
// the client. What is said inside TLS is up to the ScriptedSession.
import { createServer, Socket } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { createSecureContext, TLSSocket } from 'node:tls';
import type { TestCertificate } from './certificates.ts';
import { ScriptedSession } from './scripted-upstream.ts';

const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
const HANDSHAKE = 0x16;

export interface TlsUpstreamOptions {
  readonly certificate: TestCertificate;
  /** Sent behind the certificate. */
  readonly chain?: readonly TestCertificate[];
  /** What the request is answered with; default `S`, and TLS after it. */
  readonly answer?: string | Buffer;
  /** PEM of an authority: a client without a certificate is refused, by OpenSSL's own alert. */
  readonly clientRoots?: string;
  /** Asks for a certificate and takes any, or none. */
  readonly asksForCertificate?: boolean;
  readonly maxVersion?: 'TLSv1.2' | 'TLSv1.3';
  readonly alpn?: readonly string[] | null;
  /** Ends the connection in the middle of the handshake, this often. */
  readonly brokenHandshakes?: number;
  /** Says nothing behind the answer. */
  readonly isSilent?: boolean;
  /** Sends something else than TLS behind the answer. */
  readonly garbles?: boolean;
  /** Closes instead of answering. */
  readonly closes?: boolean;
}

/** One connection, as far as it came. */
export interface TlsConnection {
  readonly session: ScriptedSession;
  /** Null: the client asked for none, or was told no. */
  readonly tls: TLSSocket | null;
  /** The client began with a handshake instead of asking. */
  readonly isDirect: boolean;
  readonly serverName: string | null;
}

/** Listens on a free loopback port. */
export class TlsUpstream implements AsyncDisposable {
  readonly #server: Server;
  readonly #options: TlsUpstreamOptions;
  readonly #arrived: TlsConnection[] = [];
  readonly #sockets = new Set<Socket>();
  #wake: (() => void) | null = null;
  #broken = 0;
  #requests = 0;
  /** Connections accepted so far. */
  accepted = 0;

  private constructor(server: Server, options: TlsUpstreamOptions) {
    this.#server = server;
    this.#options = options;
    server.on('connection', (socket) => {
      this.accepted += 1;
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => this.#sockets.delete(socket));
      this.#receive(socket);
    });
  }

  static async listen(options: TlsUpstreamOptions): Promise<TlsUpstream> {
    const server = createServer({ noDelay: true });
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    return new TlsUpstream(server, options);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** The next connection on which a startup packet may come, in the order they came. */
  async accept(): Promise<TlsConnection> {
    for (;;) {
      const connection = this.#arrived.shift();
      if (connection !== undefined) return connection;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Resolves once TLS was asked for. */
  async requested(): Promise<void> {
    while (this.#requests === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The next one that is in plain text. */
  async acceptPlain(): Promise<ScriptedSession> {
    for (;;) {
      const { session, tls } = await this.accept();
      if (tls === null) return session;
    }
  }

  /** Resolves once every connection is gone. */
  async empty(): Promise<void> {
    for (const socket of this.#sockets) {
      await new Promise((resolve) => socket.once('close', resolve));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #receive(socket: Socket): void {
    let received = Buffer.alloc(0);
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk]);
      const isRequest = received.subarray(0, 8).equals(SSL_REQUEST);
      if (received[0] !== HANDSHAKE && received.length < 8) return;
      socket.removeListener('data', onData);
      socket.pause();
      if (isRequest) {
        this.#answer(socket);
        return;
      }
      socket.unshift(received);
      if (received[0] === HANDSHAKE) this.#secure(socket, true);
      else this.#handPlain(socket);
    };
    socket.on('data', onData);
  }

  #answer(socket: Socket): void {
    this.#requests += 1;
    this.#wake?.();
    const { answer = 'S', isSilent = false, garbles = false, closes = false } = this.#options;
    if (closes) {
      socket.end();
      return;
    }
    if (answer.length > 0) socket.write(answer);
    if (garbles) socket.once('data', () => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'));
    if (isSilent || garbles) socket.resume();
    else if (answer === 'S') this.#secure(socket, false);
    else this.#handPlain(socket);
  }

  #secure(socket: Socket, isDirect: boolean): void {
    const { brokenHandshakes = 0, certificate, chain = [], clientRoots } = this.#options;
    if (this.#broken < brokenHandshakes) {
      this.#broken += 1;
      socket.once('data', () => socket.destroy());
      socket.resume();
      return;
    }
    const { maxVersion, alpn = ['postgresql'], asksForCertificate = false } = this.#options;
    const tls = new TLSSocket(socket, {
      isServer: true,
      secureContext: createSecureContext({
        cert: [certificate, ...chain].map(({ pem }) => pem).join(''),
        key: certificate.key,
        ...(clientRoots === undefined ? {} : { ca: clientRoots }),
        ...(maxVersion === undefined ? {} : { maxVersion }),
      }),
      requestCert: asksForCertificate || clientRoots !== undefined,
      rejectUnauthorized: clientRoots !== undefined,
      ...(alpn === null ? {} : { ALPNProtocols: [...alpn] }),
    });
    tls.on('error', () => tls.destroy());
    tls.once('secure', () => {
      this.#hand({ session: new ScriptedSession(tls), tls, isDirect });
    });
  }

  #handPlain(socket: Socket): void {
    this.#hand({ session: new ScriptedSession(socket), tls: null, isDirect: false });
    socket.resume();
  }

  #hand(connection: Omit<TlsConnection, 'serverName'>): void {
    const name: unknown =
      connection.tls === null ? null : Reflect.get(connection.tls, 'servername');
    this.#arrived.push({ ...connection, serverName: typeof name === 'string' ? name : null });
    this.#wake?.();
  }
}
