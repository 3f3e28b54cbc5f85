// How a connection to a PostgreSQL server is opened: TCP or Unix socket, a time limit, TLS where it is asked for; reads of
// a plain connection go into one reused buffer.
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import type { Clock, Timer } from '../base/clock.ts';
import { OperationalError, systemErrorCode } from '../base/errors.ts';
import type { ConninfoKeepalive } from '../pg/conninfo.ts';
import { encodeSslRequest } from '../wire/startup.ts';
import { openConnection } from './connection.ts';
import type { ByteConnection, ConnectionEvents } from './connection.ts';
import { randomLookup } from './random-lookup.ts';
import { readSslAnswer, secureSocket, tlsNotOffered } from './tls-session.ts';
import type { TlsOptions, TlsSession } from './tls-session.ts';

/**
 * Where to connect. A `host` that starts with `/` is the directory of a Unix socket; one with `@` is such a name in
 * Linux's abstract namespace.
 */
export interface DialTarget {
  readonly host: string;
  readonly port: number;
}

/** How TLS is asked for. */
export interface DialEncryption extends TlsOptions {
  /** A server that does no TLS is taken without, on the same connection (sslmode=prefer). */
  readonly isOptional: boolean;
}

/** How to connect. */
export interface DialOptions {
  readonly clock: Clock;
  /** Until the connection is open, name resolution and TLS handshake included; 0 = no limit of our own. */
  readonly timeoutMs: number;
  /** Absent: plain text. */
  readonly encryption?: DialEncryption;
  /** Absent: probes after {@link KEEPALIVE_DELAY_MS}. */
  readonly keepalive?: ConninfoKeepalive;
  /** Size of the one buffer that all reads of a plain connection go into; inside TLS every record has its own. */
  readonly readBufferBytes: number;
  /** The addresses of a name are tried in random order by this die, 0 ≤ random() < 1. Absent: as the name service has them. */
  readonly random?: () => number;
  /** Ends the attempt; the promise rejects. Without effect once connected. */
  readonly signal?: AbortSignal;
}

/** An open connection to a server. */
export interface DialedConnection extends ByteConnection {
  /** Null: plain text. */
  readonly tls: TlsSession | null;
}

/** Opens a connection; tests hand in their own. */
export type Dial = (
  target: DialTarget,
  options: DialOptions,
  events: ConnectionEvents,
) => Promise<DialedConnection>;

/** Idle time before the kernel probes a silent TCP peer. Timeouts of the protocol itself are usually quicker. */
export const KEEPALIVE_DELAY_MS = 30_000;

/** Time one of several addresses of a name gets before the next is tried; Node's 250 ms is too short for a far host. */
const ADDRESS_ATTEMPT_MS = 2_000;

/** True for the directory, or abstract name, of a Unix socket. */
export function isUnixSocketHost(host: string): boolean {
  return host.startsWith('/') || host.startsWith('@');
}

/** `<dir>/.s.PGSQL.<port>` (pqcomm.h:UNIXSOCK_PATH). */
export function unixSocketPath(directory: string, port: number): string {
  return `${directory}/.s.PGSQL.${port}`;
}

/** `host:port`, or the path of the socket, for messages. */
export function formatTarget(target: DialTarget): string {
  if (isUnixSocketHost(target.host)) return unixSocketPath(target.host, target.port);
  return target.host.includes(':')
    ? `[${target.host}]:${target.port}`
    : `${target.host}:${target.port}`;
}

/**
 * Opens a TCP or Unix-socket connection, inside TLS where that is asked for. Bytes of a plain one are read into one
 * buffer of `readBufferBytes` that is used again for the next read, so a chunk is valid until `events.onBytes` returns.
 * No event fires before the promise has resolved. Certificates and keys are read anew each time.
 *
 * Rejects with {@link OperationalError}: `CONNECT_FAILED` (retryable), `CONNECT_TIMEOUT` (retryable), `CONNECT_ABORTED`,
 * `TLS_NOT_OFFERED`, `TLS_NEGOTIATION_FAILED`, `TLS_UNENCRYPTED_DATA`; or with TlsFailure.
 */
export const dial: Dial = async (target, options, events) => {
  const reads: Reads = { onBytes: null };
  const socket = connectSocket(target, options, reads);
  const deadline = new Deadline(target, options);
  try {
    return await deadline.race(openDialed({ socket, reads, target, options, events }));
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    deadline.cancel();
  }
};

/** Where the read callback of a plain socket finds who wants the bytes. */
interface Reads {
  onBytes: ((chunk: Uint8Array) => void) | null;
}

interface Dialing {
  readonly socket: Socket;
  readonly reads: Reads;
  readonly target: DialTarget;
  readonly options: DialOptions;
  readonly events: ConnectionEvents;
}

async function openDialed(dialing: Dialing): Promise<DialedConnection> {
  const { socket, reads, events } = dialing;
  await socketOpened(socket, dialing.target);
  const { encryption } = dialing.options;
  if (encryption !== undefined && (await isTlsAgreed(dialing, encryption))) {
    const target = formatTarget(dialing.target);
    const secured = await secureSocket(socket, { ...encryption, target });
    return Object.assign(openConnection(secured.socket, events), { tls: secured.session });
  }
  // The socket is paused until here, so nothing can be read before the session listens.
  const connection = openConnection(socket, events);
  reads.onBytes = (chunk) => events.onBytes(chunk);
  socket.resume();
  return Object.assign(connection, { tls: null });
}

/** Asks the server for TLS unless it is begun without asking. False: the connection goes on in plain text. */
async function isTlsAgreed(dialing: Dialing, encryption: DialEncryption): Promise<boolean> {
  if (encryption.settings.negotiation === 'direct') return true;
  const target = formatTarget(dialing.target);
  const isAgreed = readSslAnswer(await requestTls(dialing), target);
  if (!isAgreed && !encryption.isOptional) throw tlsNotOffered(target);
  return isAgreed;
}

/** Sends an SSLRequest; resolves with a copy of the first bytes that come back. The socket is paused then. */
function requestTls(dialing: Dialing): Promise<Uint8Array> {
  const { socket, reads, target } = dialing;
  return new Promise((resolve, reject) => {
    const onClose = (): void => {
      reject(
        new OperationalError(
          'TLS_NEGOTIATION_FAILED',
          `${formatTarget(target)} closed the connection instead of answering the request for TLS`,
          { isRetryable: true, hint: 'Is it PostgreSQL that listens there? Look into its log.' },
        ),
      );
    };
    const onEnd = (): void => {
      socket.destroy();
    };
    socket.once('end', onEnd);
    socket.once('close', onClose);
    reads.onBytes = (chunk) => {
      reads.onBytes = null;
      socket.pause();
      socket.removeListener('end', onEnd);
      socket.removeListener('close', onClose);
      resolve(Uint8Array.from(chunk));
    };
    socket.write(encodeSslRequest());
    socket.resume();
  });
}

function connectSocket(target: DialTarget, options: DialOptions, reads: Reads): Socket {
  const onread = {
    buffer: Buffer.allocUnsafeSlow(options.readBufferBytes),
    callback: (byteCount: number, buffer: Uint8Array): boolean => {
      reads.onBytes?.(buffer.subarray(0, byteCount));
      return true;
    },
  };
  if (isUnixSocketHost(target.host)) {
    const path = unixSocketPath(target.host, target.port).replace(/^@/, '\0');
    return connect({ path, onread });
  }
  const { keepalive, random, timeoutMs } = options;
  const idleMs = keepalive?.idleMs ?? 0;
  return connect({
    host: target.host,
    port: target.port,
    keepAlive: keepalive?.isOn ?? true,
    keepAliveInitialDelay: idleMs === 0 ? KEEPALIVE_DELAY_MS : idleMs,
    // A short limit must leave time for a second address.
    autoSelectFamilyAttemptTimeout:
      timeoutMs === 0 ? ADDRESS_ATTEMPT_MS : Math.min(ADDRESS_ATTEMPT_MS, Math.ceil(timeoutMs / 2)),
    ...(random === undefined ? {} : { lookup: randomLookup(random) }),
    onread,
  });
}

/** Settles when the socket is connected, and paused; or cannot be. */
function socketOpened(socket: Socket, target: DialTarget): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', (error) => reject(connectError(target, error)));
    // A destroyed socket may still report an error.
    socket.on('error', () => {});
    socket.once('connect', () => {
      socket.pause();
      resolve();
    });
  });
}

/** The time limit and the abort signal of one attempt, whatever step it is at. */
class Deadline {
  readonly #timer: Timer | null;
  readonly #signal: AbortSignal | undefined;
  readonly #expired: Promise<never>;
  #expire: (error: OperationalError) => void = () => {};
  readonly #onAbort: () => void;

  constructor(target: DialTarget, options: DialOptions) {
    const { clock, timeoutMs, signal } = options;
    this.#expired = new Promise((_resolve, reject) => {
      this.#expire = reject;
    });
    // Nobody may be waiting any more.
    this.#expired.catch(() => {});
    this.#onAbort = () => this.#expire(abortError(target));
    this.#signal = signal;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted === true) this.#onAbort();
    this.#timer =
      timeoutMs > 0
        ? clock.setTimer(timeoutMs, () => this.#expire(timeoutError(target, timeoutMs)))
        : null;
  }

  /** The step's own outcome, unless the time is over before. */
  race<T>(step: Promise<T>): Promise<T> {
    return Promise.race([this.#expired, step]);
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#signal?.removeEventListener('abort', this.#onAbort);
  }
}

function connectError(target: DialTarget, error: Error): OperationalError {
  const code = systemErrorCode(error);
  return new OperationalError(
    'CONNECT_FAILED',
    `could not connect to ${formatTarget(target)}: ${code === null ? error.message : describeCode(code)}`,
    { isRetryable: true, cause: error, hint: hintFor(code, target) },
  );
}

function describeCode(code: string): string {
  const words: Readonly<Record<string, string>> = {
    ECONNREFUSED: 'connection refused',
    ENOENT: 'no such socket',
    EACCES: 'permission denied',
    ENOTFOUND: 'the host name is not known',
    EAI_AGAIN: 'the name service did not answer',
    EHOSTUNREACH: 'no route to the host',
    ENETUNREACH: 'the network is unreachable',
    ETIMEDOUT: 'no answer',
    ECONNRESET: 'connection reset',
  };
  return `${words[code] ?? 'the system refused'} (${code})`;
}

function hintFor(code: string | null, target: DialTarget): string {
  if (code === 'ENOTFOUND') return 'Check the host name in upstream.conninfo.';
  if (isUnixSocketHost(target.host)) {
    return `Is the server running, with ${target.host} among its unix_socket_directories?`;
  }
  return 'Is the server running on that host, and does it accept TCP connections (listen_addresses)?';
}

function timeoutError(target: DialTarget, timeoutMs: number): OperationalError {
  return new OperationalError(
    'CONNECT_TIMEOUT',
    `could not connect to ${formatTarget(target)} within ${timeoutMs} ms`,
    { isRetryable: true, hint: 'Check the network and any firewall, or raise connect_timeout.' },
  );
}

function abortError(target: DialTarget): OperationalError {
  return new OperationalError(
    'CONNECT_ABORTED',
    `connecting to ${formatTarget(target)} was stopped`,
  );
}
