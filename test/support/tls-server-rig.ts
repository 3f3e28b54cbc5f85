// A TLS server's half for tests: certificates in a directory, what is made of them, and clients that go in by either door.
import { chmod, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { connect as connectPlain } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { ServerCertificates } from '../../src/net/server-certificates.ts';
import { TlsAcceptor } from '../../src/net/tls-acceptor.ts';
import type { ClientCertMode } from '../../src/net/tls-acceptor.ts';
import { makeCertificate } from './certificates.ts';
import type { CertificateOptions, TestCertificate } from './certificates.ts';
import { packet } from './naive-writer.ts';
import { RawClient } from './raw-client.ts';
import { LogRecord } from './wal-senders-fixture.ts';

export const SSL_REQUEST: Uint8Array = packet(80_877_103);

/** What a test may want other than usual. */
export interface RigOptions {
  readonly clientCert?: ClientCertMode;
  readonly server?: CertificateOptions;
  readonly crl?: string;
  readonly clock?: Clock;
  readonly pollMs?: number;
}

/** Certificates of one server, and whom it believes. */
export class TlsServerRig {
  readonly directory: string;
  readonly authority: TestCertificate;
  readonly server: TestCertificate;
  readonly log = new LogRecord();
  certificates!: ServerCertificates;
  acceptor!: TlsAcceptor;

  private constructor(directory: string, options: RigOptions) {
    this.directory = directory;
    this.authority = makeCertificate({
      commonName: 'authority',
      isAuthority: true,
      keyUsage: 0x06,
    });
    this.server = makeCertificate({
      commonName: 'localhost',
      dns: ['localhost'],
      issuer: this.authority,
      ...options.server,
    });
  }

  static async open(options: RigOptions = {}): Promise<TlsServerRig> {
    const rig = new TlsServerRig(await mkdtemp(join(tmpdir(), 'walcast-tls-')), options);
    const { clientCert = 'none' } = options;
    await rig.write('server.crt', rig.server.pem);
    await rig.write('server.key', rig.server.key);
    await rig.write('ca.crt', rig.authority.pem);
    if (options.crl !== undefined) await rig.write('ca.crl', options.crl);
    rig.certificates = await ServerCertificates.open({
      paths: {
        cert: rig.path('server.crt'),
        key: rig.path('server.key'),
        ca: clientCert === 'none' ? null : rig.path('ca.crt'),
        crl: options.crl === undefined ? null : rig.path('ca.crl'),
      },
      pollMs: options.pollMs ?? 3_600_000,
      clock: options.clock ?? systemClock,
      log: rig.log,
    });
    rig.acceptor = new TlsAcceptor(rig.certificates, clientCert);
    return rig;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  async write(name: string, content: string, mode = 0o600): Promise<void> {
    await writeFile(this.path(name), content);
    await chmod(this.path(name), mode);
  }

  /** What a client says that has a certificate of the authority. */
  client(options: CertificateOptions = {}): { cert: string; key: string; der: Buffer } {
    const certificate = makeCertificate({
      commonName: 'replicator',
      issuer: this.authority,
      ...options,
    });
    return { cert: certificate.pem, key: certificate.key, der: certificate.der };
  }

  async close(): Promise<void> {
    this.certificates.close();
    this.acceptor.close();
    await rm(this.directory, { recursive: true });
  }
}

/** A directory whose files are replaced together, as Kubernetes does with a mounted secret: one link is pointed elsewhere. */
export class MountedSecret {
  readonly #directory: string;
  #generation = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  path(name: string): string {
    return join(this.#directory, name);
  }

  /** Puts other files in the place of all that are there. */
  async replace(files: Readonly<Record<string, string>>): Promise<void> {
    this.#generation += 1;
    const generation = `..${this.#generation}`;
    await mkdir(this.path(generation), { recursive: true });
    for (const [name, content] of Object.entries(files)) {
      await writeFile(this.path(`${generation}/${name}`), content, { mode: 0o600 });
    }
    await symlink(generation, this.path('..data_tmp'));
    await rename(this.path('..data_tmp'), this.path('..data'));
    if (this.#generation === 1) {
      for (const name of Object.keys(files)) await symlink(`..data/${name}`, this.path(name));
    } else {
      await rm(this.path(`..${this.#generation - 1}`), { recursive: true });
    }
  }
}

/** A plain connection, open. */
export async function plainSocket(port: number): Promise<Socket> {
  const socket = connectPlain({ port, host: '127.0.0.1', noDelay: true });
  socket.on('error', () => {});
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return socket;
}

/** Sends an SSLRequest and gives the byte that it is answered with; null: the connection was closed. */
export async function askForTls(socket: Socket): Promise<string | null> {
  socket.write(SSL_REQUEST);
  return await new Promise((resolve) => {
    socket.once('data', (chunk: Buffer) => resolve(chunk.toString('latin1')));
    socket.once('close', () => resolve(null));
  });
}

/** Does the handshake; rejects with its error. */
export async function handshake(
  socket: Socket,
  options: ConnectionOptions = {},
): Promise<TLSSocket> {
  const secured = connectTls({ socket, rejectUnauthorized: false, ...options });
  await new Promise<void>((resolve, reject) => {
    secured.once('secureConnect', resolve);
    secured.once('error', reject);
    secured.once('close', () => reject(new Error('closed in the handshake')));
  });
  return secured;
}

/** By SSLRequest. */
export async function classic(port: number, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = await plainSocket(port);
  const answer = await askForTls(socket);
  if (answer !== 'S') throw new Error(`TLS is answered with ${answer}`);
  return await handshake(socket, options);
}

/** By the ClientHello itself, as sslnegotiation=direct. */
export async function direct(port: number, options: ConnectionOptions = {}): Promise<TLSSocket> {
  return await handshake(await plainSocket(port), { ALPNProtocols: ['postgresql'], ...options });
}

/** A client of the replication protocol inside TLS. */
export function rawClient(socket: Socket): RawClient {
  return new RawClient(socket);
}
