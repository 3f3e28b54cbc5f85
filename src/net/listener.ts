// Where do clients come in? One listening socket, TCP or Unix, with a cap on how many it lets in.
// (src/backend/libpq/pqcomm.c:StreamServerPort)
import { unlink } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { ListenOptions, Server, Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { OperationalError, errorText, systemErrorCode } from '../base/errors.ts';
import { openAccepted } from './accepted-connection.ts';
import type { AcceptedConnection, ConnectionEvents } from './connection.ts';
import { unixSocketPath } from './dial.ts';
import type { TlsAcceptor } from './tls-acceptor.ts';

/** TCP on an address or name of this machine (`*`: every interface), or a Unix socket `.s.PGSQL.<port>` in a directory. */
export type ListenTarget =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly directory: string; readonly port: number };

/** Turns an accepted socket into a connection. Called at most once, before `onConnection` returns; else the socket is closed. */
export type ConnectionOpener = (events: ConnectionEvents) => AcceptedConnection;

/** How a listener is opened. */
export interface ListenerOptions {
  readonly target: ListenTarget;
  /** Absent or null: no TLS is offered. A Unix socket never has it. */
  readonly tls?: TlsAcceptor | null;
  /** Connections open at one time; what comes beyond is closed at once and counted. */
  readonly connectionsMax: number;
  readonly onConnection: (open: ConnectionOpener) => void;
  /** A connection was turned away: too many were open, or accepting it failed. */
  readonly onDropped?: () => void;
}

/** Connections that the kernel holds ready before we take them. (libpq/pqcomm.c uses MaxConnections * 2) */
const BACKLOG = 1024;

/**
 * Milliseconds of silence after which the kernel probes a peer; the walsender's own timeout is the real guard. Interval and
 * number of the probes are libuv's (a second, ten): Node.js 20 has no way to set them, nor TCP_USER_TIMEOUT.
 */
const KEEPALIVE_DELAY_MS = 60_000;

/** Longest path that fits into sockaddr_un.sun_path with its NUL. */
export const UNIX_PATH_BYTES_MAX = 107;

/** An open listening socket. */
export class Listener {
  readonly #server: Server;
  readonly #target: ListenTarget;
  #dropped = 0;

  private constructor(server: Server, target: ListenTarget) {
    this.#server = server;
    this.#target = target;
  }

  /** Binds and listens. Throws {@link OperationalError} that names the address and says what to do. */
  static async open(options: ListenerOptions): Promise<Listener> {
    const { target } = options;
    const server = createServer({
      noDelay: target.kind === 'tcp',
      keepAlive: target.kind === 'tcp',
      keepAliveInitialDelay: KEEPALIVE_DELAY_MS,
    });
    server.maxConnections = options.connectionsMax;
    const listener = new Listener(server, target);
    server.on('connection', (socket) => {
      // A peer that has reset already has no address, and what it sent can still be read: without this it would pass
      // for a client of a Unix socket.
      if (target.kind === 'tcp' && socket.remoteAddress === undefined) {
        socket.destroy();
        listener.#drop(options);
        return;
      }
      acceptSocket(socket, options);
    });
    server.on('drop', () => listener.#drop(options));
    if (target.kind === 'unix')
      await removeStaleSocket(unixSocketPath(target.directory, target.port));
    await listen(server, target);
    // An accept that fails (EMFILE …) is the client's loss, not ours; it tries again.
    server.on('error', () => listener.#drop(options));
    return listener;
  }

  /** The port bound, also where 0 was asked for. */
  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : this.#target.port;
  }

  /** Connections refused since the start because too many were open, or because accepting failed. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Lets another number of connections in from now on. */
  setConnectionsMax(connectionsMax: number): void {
    this.#server.maxConnections = connectionsMax;
  }

  /** Takes no more connections; those open stay open. The socket file is removed. */
  close(): void {
    this.#server.close();
  }

  #drop(options: ListenerOptions): void {
    this.#dropped += 1;
    options.onDropped?.();
  }
}

/** For people: `0.0.0.0:5432`, `[::]:5432`, or the path. */
export function formatListenTarget(target: ListenTarget): string {
  if (target.kind === 'unix') return unixSocketPath(target.directory, target.port);
  return target.host.includes(':')
    ? `[${target.host}]:${target.port}`
    : `${target.host}:${target.port}`;
}

/** Addresses of this machine with their netmasks, asked anew at each call. (pg_foreach_ifaddr) */
export function localInterfaceAddresses(): { address: string; netmask: string }[] {
  return Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .map(({ address, netmask }) => ({ address, netmask }));
}

function acceptSocket(socket: Socket, options: ListenerOptions): void {
  const { onConnection, target } = options;
  const tls = target.kind === 'unix' ? null : (options.tls ?? null);
  // From here on a reset is an event with a listener, whatever happens next.
  socket.on('error', () => {});
  let isTaken = false;
  onConnection((events) => {
    isTaken = true;
    return openAccepted(socket, tls, events);
  });
  if (!isTaken) socket.destroy();
}

function listenOptions(target: ListenTarget): ListenOptions {
  if (target.kind === 'unix') {
    const path = unixSocketPath(target.directory, target.port);
    return { path, readableAll: true, writableAll: true };
  }
  return target.host === '*' ? { port: target.port } : { host: target.host, port: target.port };
}

function listen(server: Server, target: ListenTarget): Promise<void> {
  const where = listenOptions(target);
  return new Promise((resolve, reject) => {
    const onError = (error: Error): void => reject(listenError(error, target));
    server.once('error', onError);
    server.listen({ ...where, backlog: BACKLOG }, () => {
      server.off('error', onError);
      resolve();
    });
  });
}

function listenError(error: Error, target: ListenTarget): OperationalError {
  const where = formatListenTarget(target);
  const code = systemErrorCode(error) ?? 'EIO';
  return new OperationalError(code, `could not listen on ${where}: ${errorText(error)}`, {
    hint: LISTEN_HINTS[code] ?? 'Check the address in the configuration key "listen".',
    cause: error,
  });
}

const LISTEN_HINTS: Readonly<Record<string, string>> = {
  EADDRINUSE:
    'Another process listens there. Stop it, or choose another port in the configuration key "listen".',
  EACCES:
    'Ports below 1024 and foreign directories need privileges. Choose a higher port or another directory.',
  EADDRNOTAVAIL: 'No interface of this machine has that address. Use one it has, or 0.0.0.0.',
  ENOENT: 'The directory for the Unix socket does not exist. Create it first.',
};

/** A socket file that nobody listens on is left over from a process that was killed. */
async function removeStaleSocket(path: string): Promise<void> {
  requireShortPath(path);
  if ((await probeSocket(path)) === 'ECONNREFUSED') await unlink(path);
}

/** Throws {@link OperationalError} for a path that no socket address can hold. */
export function requireShortPath(path: string): void {
  if (Buffer.byteLength(path) <= UNIX_PATH_BYTES_MAX) return;
  throw new OperationalError(
    'ENAMETOOLONG',
    `Unix socket path "${path}" is too long (maximum ${UNIX_PATH_BYTES_MAX} bytes)`,
    { hint: 'Choose a directory with a shorter path.' },
  );
}

/** The error code that connecting to `path` gives, or null when somebody answers. */
export function probeSocket(path: string): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('error', (error) => resolve(systemErrorCode(error) ?? 'EIO'));
    socket.once('connect', () => {
      socket.destroy();
      resolve(null);
    });
  });
}
