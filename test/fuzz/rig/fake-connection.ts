// A connection without a socket: what is read comes in one buffer that is written over as soon as the call returns, so
// that who kept a view of it is found out; what is written is looked at, and can be told to stay.
import { InvariantError } from '../../../src/base/errors.ts';
import type {
  AcceptedConnection,
  ConnectionEvents,
  PeerAddress,
} from '../../../src/net/connection.ts';

const READ_BUFFER = Buffer.alloc(128 * 1024);
const SCRAMBLED = 0xa5;
/** What a socket that takes nothing is given at most, before its peer is taken for gone. */
const PENDING_MAX = 64 << 20;

/** Both ends of it: the program has the one, an input plays the other. */
export class FakeConnection implements AcceptedConnection {
  readonly peer: PeerAddress;
  readonly isEncrypted = false;
  readonly tls = null;
  readonly canStartTls = false;
  /** Everything that is written comes here, chunk by chunk. */
  readonly #onWritten: (chunk: Uint8Array) => void;
  #events: ConnectionEvents | null = null;
  #isPaused = false;
  #isFull = false;
  #pending = 0;
  #unread: Uint8Array[] = [];
  #hasPeerEnded = false;
  #isEndTold = false;
  #isClosed = false;
  #isClosing = false;

  constructor(peer: PeerAddress, onWritten: (chunk: Uint8Array) => void) {
    this.peer = peer;
    this.#onWritten = onWritten;
  }

  attach(events: ConnectionEvents): void {
    this.#events = events;
  }

  /** The program closed it, or lost it. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** It takes no more input. */
  get isOver(): boolean {
    return this.#isClosed || this.#isClosing;
  }

  // --- the other end

  /** These bytes arrive; true when the program has read them, or will. */
  say(bytes: Uint8Array): boolean {
    if (this.isOver || this.#hasPeerEnded) return false;
    if (this.#isPaused || this.#unread.length > 0) this.#unread.push(bytes);
    else this.#deliver(bytes);
    return true;
  }

  /** What waited is read, as far as the program reads; closings are told. */
  turn(): void {
    while (!this.#isPaused && !this.isOver) {
      const chunk = this.#unread.shift();
      if (chunk === undefined) break;
      this.#deliver(chunk);
    }
    if (
      this.#hasPeerEnded &&
      !this.#isEndTold &&
      this.#unread.length === 0 &&
      !this.#isPaused &&
      !this.isOver
    ) {
      this.#isEndTold = true;
      this.#events?.onEnd();
    }
    if (this.#isClosing) this.#close(null);
  }

  /** The peer sends no more. */
  end(graceMs?: number): void {
    if (graceMs === undefined) this.#hasPeerEnded = true;
    else this.#isClosing = true;
  }

  /** The socket takes no more of what is written. */
  fill(): void {
    this.#isFull = true;
  }

  /** It takes everything. */
  drain(): void {
    if (!this.#isFull) return;
    this.#isFull = false;
    this.#pending = 0;
    if (!this.isOver) this.#events?.onDrain();
  }

  /** The connection is lost. */
  lose(): void {
    this.#close('ECONNRESET');
  }

  // --- the program's end

  pendingBytes(): number {
    return this.#pending;
  }

  write(chunks: readonly Uint8Array[]): void {
    if (this.isOver) return;
    for (const chunk of chunks) {
      this.#onWritten(chunk);
      if (this.#isFull) this.#pending += chunk.length;
    }
    if (this.#pending > PENDING_MAX)
      throw new Error(`${this.#pending} bytes wait for a socket that takes nothing`);
  }

  pauseReading(): void {
    this.#isPaused = true;
  }

  resumeReading(): void {
    this.#isPaused = false;
  }

  startTls(): void {
    throw new InvariantError('TLS is not offered here');
  }

  destroy(): void {
    this.#isClosing = true;
  }

  #deliver(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.isOver; at += READ_BUFFER.length) {
      const part = bytes.subarray(at, at + READ_BUFFER.length);
      READ_BUFFER.set(part);
      this.#events?.onBytes(READ_BUFFER.subarray(0, part.length));
      READ_BUFFER.fill(SCRAMBLED, 0, part.length);
    }
  }

  #close(code: string | null): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isClosing = false;
    this.#unread = [];
    this.#events?.onClose(code);
  }
}
