// How does a connection that a client opened go from plain text into TLS without losing or mistaking a byte?
import type { Socket } from 'node:net';
import { invariant } from '../base/errors.ts';
import { ClientHello } from '../wire/client-hello.ts';
import type { TlsFacts } from '../wire/tls-facts.ts';
import { SocketConnection } from './connection.ts';
import type { AcceptedConnection, ConnectionEvents, PeerAddress, TlsStart } from './connection.ts';
import type { TlsAcceptor, TlsOutcome } from './tls-acceptor.ts';

/**
 * Wraps a socket that a client opened; `acceptor` is null where no TLS is offered. Events as for openConnection. A client that
 * has sent its end is still written to, but for the time of a handshake: whoever hears of it ends the connection.
 */
export function openAccepted(
  socket: Socket,
  acceptor: TlsAcceptor | null,
  events: ConnectionEvents,
): AcceptedConnection {
  return new AcceptedSocket(socket, acceptor, events);
}

/** `hello`: the client's first message is being collected. `handshake`: the socket is OpenSSL's. */
type Phase = 'plain' | 'hello' | 'handshake' | 'secure';

class AcceptedSocket implements AcceptedConnection {
  readonly peer: PeerAddress;
  readonly #socket: Socket;
  readonly #acceptor: TlsAcceptor | null;
  readonly #events: ConnectionEvents;
  /** What is written to and read from: the socket, or the TLS around it. */
  #inner: SocketConnection;
  #phase: Phase = 'plain';
  #tls: TlsFacts | null = null;
  readonly #hello = new ClientHello();
  #start: TlsStart | null = null;
  #leaveQueue: () => void = () => {};
  #isClosed = false;

  constructor(socket: Socket, acceptor: TlsAcceptor | null, events: ConnectionEvents) {
    this.#socket = socket;
    this.#acceptor = acceptor;
    this.#events = events;
    this.#inner = new SocketConnection(socket);
    socket.allowHalfOpen = true;
    this.peer = this.#inner.peer;
    this.#inner.attach({
      onBytes: (chunk) => this.#onPlainBytes(chunk),
      onDrain: () => events.onDrain(),
      onEnd: () => events.onEnd(),
      onClose: (code) => this.#onPlainClose(code),
    });
  }

  get tls(): TlsFacts | null {
    return this.#tls;
  }

  get isEncrypted(): boolean {
    return this.#tls !== null;
  }

  get canStartTls(): boolean {
    return this.#acceptor !== null && this.#phase === 'plain';
  }

  startTls(start: TlsStart): void {
    invariant(this.canStartTls, 'TLS was begun where it is not offered, or twice');
    this.#phase = 'hello';
    this.#start = start;
    this.#onHelloBytes(start.firstBytes);
  }

  pendingBytes(): number {
    return this.#inner.pendingBytes();
  }

  write(chunks: readonly Uint8Array[]): void {
    this.#inner.write(chunks);
  }

  pauseReading(): void {
    this.#inner.pauseReading();
  }

  resumeReading(): void {
    this.#inner.resumeReading();
  }

  end(graceMs: number): void {
    this.#inner.end(graceMs);
  }

  destroy(): void {
    this.#start = null;
    this.#leaveQueue();
    this.#inner.destroy();
  }

  #onPlainBytes(chunk: Uint8Array): void {
    if (this.#phase === 'plain') this.#events.onBytes(chunk);
    else this.#onHelloBytes(chunk);
  }

  /** Answering costs a signature: it is not begun before all of the question is there. */
  #onHelloBytes(chunk: Uint8Array): void {
    if (this.#hello.push(chunk) === 'more') return;
    this.#inner.release();
    this.#socket.allowHalfOpen = false;
    this.#phase = 'handshake';
    const start = this.#start;
    if (start !== null) this.#leaveQueue = start.inTurn(() => this.#shakeHands());
  }

  #shakeHands(): void {
    if (this.#isClosed || this.#socket.destroyed) return;
    // It is closing already, and takes nothing back.
    if (this.#socket.readableEnded) return;
    this.#socket.unshift(this.#hello.take());
    this.#acceptor?.begin(this.#socket, (outcome) => this.#onOutcome(outcome));
  }

  #onOutcome(outcome: TlsOutcome): void {
    const start = this.#start;
    this.#start = null;
    if (start === null) {
      if (outcome.kind !== 'failed') outcome.socket.destroy();
      return;
    }
    if (outcome.kind === 'failed') {
      start.onFailed(outcome.text);
      return;
    }
    const { socket, facts } = outcome;
    if (start.isDirect && facts.alpn === null) {
      // Without an SSLRequest only ALPN says that the client means PostgreSQL's protocol (ALPACA attack).
      socket.destroy();
      start.onFailed(
        'received direct SSL connection request without ALPN protocol negotiation extension',
      );
      return;
    }
    this.#phase = 'secure';
    this.#tls = facts;
    this.#inner = new SocketConnection(socket);
    socket.allowHalfOpen = true;
    this.#inner.attach({
      onBytes: (chunk) => this.#events.onBytes(chunk),
      onDrain: () => this.#events.onDrain(),
      onEnd: () => this.#events.onEnd(),
      onClose: (code) => this.#onClose(code),
    });
    if (outcome.kind === 'refused') start.onRefused(outcome.text);
    else start.onSecure(facts);
  }

  /** What closes a socket closes the TLS around it a moment later, and that knows why. */
  #onPlainClose(code: string | null): void {
    if (this.#phase !== 'secure') this.#onClose(code);
  }

  #onClose(code: string | null): void {
    this.#isClosed = true;
    this.#leaveQueue();
    this.#hello.take();
    const start = this.#start;
    this.#start = null;
    start?.onFailed(`could not accept SSL connection: ${code ?? 'EOF detected'}`);
    this.#events.onClose(code);
  }
}
