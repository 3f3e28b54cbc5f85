// A byte connection as sessions see it, and the one place that turns a Node.js socket into it.
import type { Socket } from 'node:net';
import { systemErrorCode } from '../base/errors.ts';
import type { TlsFacts } from '../wire/tls-facts.ts';

/** The other end, for logs and access rules. */
export interface PeerAddress {
  /** Numeric address; null for a Unix socket. An IPv4 address mapped into IPv6 is given as IPv4. */
  readonly address: string | null;
  readonly port: number | null;
}

/** What a session hears. All callbacks run on the event loop, never inside a call the session made. */
export interface ConnectionEvents {
  /** `chunk` is a view valid until the call returns; who keeps it copies it. */
  onBytes(chunk: Uint8Array): void;
  /** Everything written so far has been taken by the kernel. */
  onDrain(): void;
  /** The peer will send no more. */
  onEnd(): void;
  /** The connection is gone, whoever closed it; called exactly once, last. `errorCode` as ECONNRESET, or null. */
  onClose(errorCode: string | null): void;
}

/** An open connection. Buffers handed to `write` belong to the connection and must not change until they are drained. */
export interface ByteConnection {
  readonly peer: PeerAddress;
  /** True when the session runs inside TLS; an accepted connection may become so. */
  readonly isEncrypted: boolean;
  /** Bytes accepted by `write` that the kernel has not taken yet. */
  pendingBytes(): number;
  /** Hands the chunks over in one system call where the kernel takes them. */
  write(chunks: readonly Uint8Array[]): void;
  pauseReading(): void;
  resumeReading(): void;
  /** Sends what is pending, then FIN; destroys after `graceMs` when the peer does not follow. */
  end(graceMs: number): void;
  /** Closes at once; pending bytes are dropped. */
  destroy(): void;
}

/** How a client's TLS handshake is begun, and who hears how it ends. */
export interface TlsStart {
  /** What has been read already and belongs to the handshake: the ClientHello of a client that did not ask first. Copied. */
  readonly firstBytes: Uint8Array;
  /** The client did not ask first: it must agree on ALPN `postgresql`, else the handshake fails. */
  readonly isDirect: boolean;
  /**
   * Runs the answer to the client's first message, which costs a signature, when it is its turn; what is returned takes it
   * back: it is called when the connection closes before.
   */
  inTurn(piece: () => void): () => void;
  /** The connection is inside TLS from here on: `tls` is set, and what was sent behind the handshake arrives next. */
  onSecure(facts: TlsFacts): void;
  /**
   * The connection is inside TLS, but the client's certificate does not do, or it showed none where it must: `text` says
   * why. Whoever holds the connection says so to the client, and ends it.
   */
  onRefused(text: string): void;
  /** It failed; `text` is for the log, in PostgreSQL's words. The connection closes by itself, and tells so. */
  onFailed(text: string): void;
}

/** A connection that a client opened. */
export interface AcceptedConnection extends ByteConnection {
  /** Null: plain text, so far. */
  readonly tls: TlsFacts | null;
  /** TLS is offered where it came in, and not begun yet. */
  readonly canStartTls: boolean;
  /**
   * Begins the handshake as the server, once, when `canStartTls`. What was written before goes out first, in plain text;
   * nothing may be written until `onSecure`. No deadline of its own: whoever holds the connection has one.
   */
  startTls(start: TlsStart): void;
}

/** Wraps a connected socket. The events are attached before this returns, so nothing is lost. */
export function openConnection(socket: Socket, events: ConnectionEvents): ByteConnection {
  const connection = new SocketConnection(socket);
  connection.attach(events);
  return connection;
}

/** `::ffff:10.0.0.1` is the IPv4 address it carries, as PostgreSQL treats it. */
export function normalizeAddress(address: string | undefined): string | null {
  if (address === undefined || address === '') return null;
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address;
}

const EMPTY = new Uint8Array(0);

/** A socket as sessions see it. */
export class SocketConnection implements ByteConnection {
  readonly peer: PeerAddress;
  readonly isEncrypted: boolean;
  readonly #socket: Socket;
  #errorCode: string | null = null;
  #events: ConnectionEvents | null = null;
  #isDrainAsked = false;
  #detach: () => void = () => {};

  constructor(socket: Socket) {
    this.#socket = socket;
    this.isEncrypted = 'encrypted' in socket;
    this.peer = {
      address: normalizeAddress(socket.remoteAddress),
      port: socket.remotePort ?? null,
    };
    if (this.peer.address !== null) socket.setNoDelay(true);
  }

  /** Once, in the turn in which the socket was handed over. */
  attach(events: ConnectionEvents): void {
    const socket = this.#socket;
    this.#events = events;
    socket.on('error', (error) => {
      this.#errorCode = systemErrorCode(error) ?? 'EIO';
      // Node tells of an alert inside TLS and leaves the socket open; the end that follows would pass for an orderly one.
      socket.destroy();
    });
    const onData = (chunk: Buffer): void => events.onBytes(chunk);
    const onDrain = (): void => events.onDrain();
    const onEnd = (): void => events.onEnd();
    socket.on('data', onData);
    socket.on('drain', onDrain);
    socket.on('end', onEnd);
    socket.on('close', () => events.onClose(this.#errorCode));
    this.#detach = () => {
      socket.off('data', onData);
      socket.off('drain', onDrain);
      socket.off('end', onEnd);
    };
  }

  /** Another reads and writes from here on; its close, and nothing else, is still told. */
  release(): void {
    this.#events = null;
    this.#socket.pause();
    this.#detach();
  }

  pendingBytes(): number {
    return this.#socket.writableLength;
  }

  write(chunks: readonly Uint8Array[]): void {
    const socket = this.#socket;
    if (socket.destroyed || socket.writableEnded) return;
    const [only] = chunks;
    if (chunks.length === 1 && only !== undefined) {
      socket.write(only);
    } else {
      socket.cork();
      for (const chunk of chunks) socket.write(chunk);
      socket.uncork();
    }
    if (socket.writableLength > 0 && !socket.writableNeedDrain) this.#askForDrain();
  }

  pauseReading(): void {
    this.#socket.pause();
  }

  resumeReading(): void {
    this.#socket.resume();
  }

  end(graceMs: number): void {
    const socket = this.#socket;
    if (socket.destroyed) return;
    socket.end();
    const timer = setTimeout(() => socket.destroy(), graceMs);
    socket.once('close', () => clearTimeout(timer));
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Node tells of a drain only after more than its high-water mark was pending: below it we ask, with an empty write. */
  #askForDrain(): void {
    if (this.#isDrainAsked) return;
    this.#isDrainAsked = true;
    this.#socket.write(EMPTY, this.#onTaken);
  }

  readonly #onTaken = (error?: Error | null): void => {
    this.#isDrainAsked = false;
    const socket = this.#socket;
    if (error instanceof Error || socket.destroyed || socket.writableEnded) return;
    if (socket.writableLength === 0) this.#events?.onDrain();
    else if (!socket.writableNeedDrain) this.#askForDrain();
  };
}
