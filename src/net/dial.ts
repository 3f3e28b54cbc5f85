// How a connection to a PostgreSQL server is opened: TCP or Unix socket, a time limit, reads into one reused buffer.
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import type { Clock, Timer } from '../base/clock.ts';
import { OperationalError, systemErrorCode } from '../base/errors.ts';
import { openConnection } from './connection.ts';
import type { ByteConnection, ConnectionEvents } from './connection.ts';

/** Where to connect. A `host` that starts with `/` is the directory of a Unix socket. */
export interface DialTarget {
  readonly host: string;
  readonly port: number;
}

/** How to connect. */
export interface DialOptions {
  readonly clock: Clock;
  /** Until the connection is open, name resolution included; 0 = no limit of our own. */
  readonly timeoutMs: number;
  /** libpq's sslmode. What may do without TLS connects in plain text, the rest is refused. */
  readonly sslmode: string;
  /** Size of the one buffer that all reads of this connection go into. */
  readonly readBufferBytes: number;
  /** Ends the attempt; the promise rejects. Without effect once connected. */
  readonly signal?: AbortSignal;
}

/** Opens a connection; tests hand in their own. */
export type Dial = (
  target: DialTarget,
  options: DialOptions,
  events: ConnectionEvents,
) => Promise<ByteConnection>;

/** Idle time before the kernel probes a silent TCP peer. Timeouts of the protocol itself are usually quicker. */
const KEEPALIVE_DELAY_MS = 30_000;

/** Time one of several addresses of a name gets before the next is tried; Node's 250 ms is too short for a far host. */
const ADDRESS_ATTEMPT_MS = 2_000;

/** `<dir>/.s.PGSQL.<port>` (pqcomm.h:UNIXSOCK_PATH). */
export function unixSocketPath(directory: string, port: number): string {
  return `${directory}/.s.PGSQL.${port}`;
}

/** `host:port`, or the path of the socket, for messages. */
export function formatTarget(target: DialTarget): string {
  if (target.host.startsWith('/')) return unixSocketPath(target.host, target.port);
  return target.host.includes(':')
    ? `[${target.host}]:${target.port}`
    : `${target.host}:${target.port}`;
}

/**
 * Opens a TCP or Unix-socket connection. Bytes are read into one buffer of `readBufferBytes` that is used again for the
 * next read, so a chunk is valid until `events.onBytes` returns. No event fires before the promise has resolved.
 * Rejects with {@link OperationalError}: `CONNECT_FAILED` (retryable), `CONNECT_TIMEOUT` (retryable), `CONNECT_ABORTED`,
 * `TLS_UNSUPPORTED`.
 */
export const dial: Dial = async (target, options, events) => {
  refuseTls(target, options.sslmode);
  const late: LateEvents = { events: null };
  const socket = connectSocket(target, options.readBufferBytes, late);
  await socketOpened(socket, target, options);
  // The socket was paused until here, so nothing can have been read before the session listens.
  const connection = openConnection(socket, events);
  late.events = events;
  socket.resume();
  return connection;
};

/** Where the read callback finds the session once there is one. */
interface LateEvents {
  events: ConnectionEvents | null;
}

function refuseTls(target: DialTarget, sslmode: string): void {
  if (sslmode === 'disable' || sslmode === 'allow' || sslmode === 'prefer') return;
  throw new OperationalError(
    'TLS_UNSUPPORTED',
    `sslmode=${sslmode} asks for TLS to ${formatTarget(target)}, which this version cannot do yet`,
    {
      hint: 'TLS to the upstream comes with a later version. Until then set sslmode=disable in upstream.conninfo and keep the link inside a trusted network or a tunnel.',
    },
  );
}

function connectSocket(target: DialTarget, readBufferBytes: number, late: LateEvents): Socket {
  const onread = {
    buffer: Buffer.allocUnsafeSlow(readBufferBytes),
    callback: (byteCount: number, buffer: Uint8Array): boolean => {
      late.events?.onBytes(buffer.subarray(0, byteCount));
      return true;
    },
  };
  if (target.host.startsWith('/')) {
    return connect({ path: unixSocketPath(target.host, target.port), onread });
  }
  return connect({
    host: target.host,
    port: target.port,
    keepAlive: true,
    keepAliveInitialDelay: KEEPALIVE_DELAY_MS,
    autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_MS,
    onread,
  });
}

/** Settles when the socket is connected, or is destroyed for want of it. */
function socketOpened(socket: Socket, target: DialTarget, options: DialOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const timers: Timer[] = [];
    const settle = (): void => {
      for (const timer of timers) timer.cancel();
      options.signal?.removeEventListener('abort', onAbort);
      socket.removeListener('connect', onConnect);
    };
    const fail = (error: OperationalError): void => {
      settle();
      // The error listener stays: a destroyed socket may still report one.
      socket.destroy();
      reject(error);
    };
    const onConnect = (): void => {
      settle();
      socket.removeListener('error', onError);
      socket.pause();
      resolve();
    };
    const onError = (error: Error): void => fail(connectError(target, error));
    const onAbort = (): void => fail(abortError(target));
    socket.on('error', onError);
    socket.on('connect', onConnect);
    options.signal?.addEventListener('abort', onAbort, { once: true });
    if (options.timeoutMs > 0) {
      const onTimeout = (): void => fail(timeoutError(target, options.timeoutMs));
      timers.push(options.clock.setTimer(options.timeoutMs, onTimeout));
    }
    if (options.signal?.aborted === true) onAbort();
  });
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
  if (target.host.startsWith('/')) {
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
