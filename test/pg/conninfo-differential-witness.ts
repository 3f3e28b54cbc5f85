// What does libpq really do with a connection string? psql with the libpq of PostgreSQL 18 is run on it, and listeners on
// loopback ports and Unix sockets note who came, in which order, and with what.
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { findProgram } from '../support/requirements.ts';
import { i32, message } from '../support/naive-writer.ts';
import { errorResponse } from '../support/scripted-upstream.ts';

/** What every listener says in the end; the code makes libpq go on to the next host. */
export const WITNESS_ERROR = 'FATAL:  this server only listens';

const SSL_REQUEST = 80_877_103;
const GSS_REQUEST = 80_877_104;
const TLS_HANDSHAKE = 0x16;
const PORT_COUNT = 3;
const PSQL_MS_MAX = 20_000;

/** One connection. */
export interface Attempt {
  /** `address:port`, or `directory:port`. */
  readonly place: string;
  opening: 'plain' | 'ssl-request' | 'tls';
  /** Null when none came. */
  startup: ReadonlyMap<string, string> | null;
  /** What was sent for AuthenticationCleartextPassword. */
  password: string | null;
}

/** What one run of psql showed. */
export interface Testimony {
  readonly attempts: readonly Attempt[];
  /** Without psql's own prefix. */
  readonly stderr: string;
}

/** How psql is run. */
export interface Question {
  readonly conninfo: string;
  readonly env: Readonly<Record<string, string>>;
  /** Listeners ask for a password before they refuse. */
  readonly asksPassword: boolean;
}

/** Finds out. Made with `open`. */
export class LibpqWitness implements AsyncDisposable {
  readonly #directory: string;
  readonly #psql: string;
  readonly #libraries: string;
  readonly #servers: Server[] = [];
  #attempts: Attempt[] = [];
  #asksPassword = false;
  ports: readonly number[] = [];
  /** Whether `::1` is an address of this machine. */
  hasIpv6 = false;

  private constructor(psql: string, native: string) {
    this.#psql = psql;
    this.#directory = mkdtempSync(join(tmpdir(), 'wc-libpq-'));
    this.#libraries = join(this.#directory, 'lib');
    // npm packages cannot hold the link that the loader looks for.
    const file = readdirSync(native).find((name) => /^libpq\.so\.5\.\d+$/.test(name));
    if (file !== undefined) {
      const libraries = mkdtempSync(join(this.#directory, 'lib-'));
      symlinkSync(join(native, file), join(libraries, 'libpq.so.5'));
      this.#libraries = [libraries, native].join(delimiter);
    }
  }

  /** A witness that listens, or why there is none on this machine. */
  static async open(): Promise<LibpqWitness | string> {
    const psql = findProgram('psql');
    if (psql === null) return 'psql is not installed';
    const native = nativeLibraries(18);
    if (native === null) return 'PostgreSQL 18 is not installed (run npm ci)';
    const witness = new LibpqWitness(psql, native);
    await witness.#listen();
    const probe = { conninfo: 'min_protocol_version=0', env: {}, asksPassword: false };
    const { stderr } = await witness.ask(probe);
    if (stderr.includes('invalid min_protocol_version value')) return witness;
    await witness[Symbol.asyncDispose]();
    return `psql does not load the libpq of PostgreSQL 18: ${stderr}`;
  }

  /** Directory of the Unix sockets; also a place for files. */
  get directory(): string {
    return this.#directory;
  }

  /** Writes a file below `directory` and returns its path. */
  file(name: string, text: string, mode = 0o600): string {
    const path = join(this.#directory, name);
    writeFileSync(path, text, { mode });
    return path;
  }

  /** Runs psql to its end. One question at a time. */
  async ask({ conninfo, env, asksPassword }: Question): Promise<Testimony> {
    this.#attempts = [];
    this.#asksPassword = asksPassword;
    const stderr = await this.#run(conninfo, env);
    const attempts = this.#attempts;
    this.#attempts = [];
    return { attempts, stderr: stderr.replace(/^psql: error: /m, '').trimEnd() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#servers.map(
        (server) =>
          new Promise<void>((resolve) => {
            server.close(() => resolve());
          }),
      ),
    );
    rmSync(this.#directory, { recursive: true });
  }

  #run(conninfo: string, env: Question['env']): Promise<string> {
    const fullEnv = {
      LC_ALL: 'C',
      LD_LIBRARY_PATH: this.#libraries,
      // Names are not looked up for long.
      RES_OPTIONS: 'timeout:1 attempts:1',
      ...env,
    };
    const args = ['-X', '-w', '-c', 'SELECT 1', '-d', conninfo];
    return new Promise((resolve, reject) => {
      const options = { env: fullEnv, timeout: PSQL_MS_MAX };
      const child = execFile(this.#psql, args, options, (error, _stdout, stderr) => {
        if (error?.killed === true) reject(new Error(`psql hung on ${conninfo}`));
        else resolve(stderr);
      });
      child.stdin?.end();
    });
  }

  async #listen(): Promise<void> {
    const ports: number[] = [];
    for (let index = 0; index < PORT_COUNT; index += 1) {
      const server = this.#newServer((socket) => plainAddress(socket.localAddress ?? ''));
      const port = await listen(server, { port: 0, host: '::' }).catch(() =>
        listen(server, { port: 0, host: '0.0.0.0' }),
      );
      await listen(
        this.#newServer(() => this.#directory, port),
        {
          path: join(this.#directory, `.s.PGSQL.${port}`),
        },
      );
      ports.push(port);
    }
    this.ports = ports;
    const probe = createServer();
    this.hasIpv6 = await listen(probe, { port: 0, host: '::1' }).then(
      () => true,
      () => false,
    );
    probe.close();
  }

  #newServer(place: (socket: Socket) => string, fixedPort?: number): Server {
    const server = createServer((socket) => {
      const port = fixedPort ?? socket.localPort;
      this.#receive(socket, `${place(socket)}:${port}`);
    });
    this.#servers.push(server);
    return server;
  }

  #receive(socket: Socket, place: string): void {
    const attempt: Attempt = { place, opening: 'plain', startup: null, password: null };
    let received: Buffer = Buffer.alloc(0);
    let isNoted = false;
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (!isNoted) this.#attempts.push(attempt);
      isNoted = true;
      received = this.#answer(socket, attempt, received);
    });
  }

  /** Returns what is not a whole packet yet. */
  #answer(socket: Socket, attempt: Attempt, received: Buffer): Buffer {
    if (attempt.startup !== null) return takePassword(socket, attempt, received);
    if (received[0] === TLS_HANDSHAKE) {
      attempt.opening = 'tls';
      socket.destroy();
      return Buffer.alloc(0);
    }
    const length = received.length < 4 ? Infinity : received.readInt32BE(0);
    if (received.length < length) return received;
    const code = received.readInt32BE(4);
    if (code === SSL_REQUEST || code === GSS_REQUEST) {
      if (code === SSL_REQUEST) attempt.opening = 'ssl-request';
      socket.write('N');
      return received.subarray(length);
    }
    attempt.startup = startupParameters(received.subarray(8, length));
    if (this.#asksPassword) socket.write(message('R', i32(3)));
    else refuse(socket);
    return received.subarray(length);
  }
}

function takePassword(socket: Socket, attempt: Attempt, received: Buffer): Buffer {
  if (received.length < 5 || received.length < 1 + received.readInt32BE(1)) return received;
  const end = 1 + received.readInt32BE(1);
  attempt.password = received.toString('utf8', 5, end - 1);
  refuse(socket);
  return received.subarray(end);
}

function refuse(socket: Socket): void {
  socket.end(errorResponse('57P03', WITNESS_ERROR.replace('FATAL:  ', ''), 'FATAL'));
}

function startupParameters(bytes: Buffer): ReadonlyMap<string, string> {
  const fields = bytes.toString().split('\0');
  const parameters = new Map<string, string>();
  for (let index = 0; index + 1 < fields.length && fields[index] !== ''; index += 2) {
    parameters.set(fields[index] ?? '', fields[index + 1] ?? '');
  }
  return parameters;
}

/** Without the prefix that an IPv4 address has on a socket for both families. */
function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/, '');
}

function listen(
  server: Server,
  where: { port: number; host: string } | { path: string },
): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.removeListener('error', reject);
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });
}

function nativeLibraries(major: number): string | null {
  const name = `pg${major}-${process.platform}-${process.arch}`;
  try {
    const entry = createRequire(import.meta.url).resolve(name);
    return join(dirname(dirname(entry)), 'native', 'lib');
  } catch {
    return null;
  }
}
