// Connections that the program opens, without sockets: an input plays the server at their other end.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ConnectionEvents } from '../../../src/net/connection.ts';
import type { Dial, DialedConnection } from '../../../src/net/dial.ts';
import { requireThat } from '../engine/target.ts';
import type { FuzzClock } from './fuzz-clock.ts';

const READ_BUFFER = Buffer.alloc(1 << 17);
const CONNECTS_MAX = 6;
const ATTEMPT_ROUNDS = 4;
const ATTEMPT_TURNS = 4;

/** One connection, from the server's side. */
class ServerEnd implements DialedConnection {
  readonly tls = null;
  readonly peer = { address: '127.0.0.1', port: 5432 };
  readonly isEncrypted = false;
  readonly #events: ConnectionEvents;
  readonly #onWritten: (chunk: Uint8Array) => void;
  #isPaused = false;
  isClosed = false;

  constructor(events: ConnectionEvents, onWritten: (chunk: Uint8Array) => void) {
    this.#events = events;
    this.#onWritten = onWritten;
  }

  say(bytes: Uint8Array): boolean {
    if (this.isClosed) return false;
    // What comes while nobody reads would wait in the kernel; it is as good as lost here.
    if (this.#isPaused) return true;
    READ_BUFFER.set(bytes);
    this.#events.onBytes(READ_BUFFER.subarray(0, bytes.length));
    READ_BUFFER.fill(0xa5, 0, bytes.length);
    return true;
  }

  lose(code: string | null): void {
    if (this.isClosed) return;
    if (code === null) this.#events.onEnd();
    this.#close(code);
  }

  pendingBytes(): number {
    return 0;
  }

  write(chunks: readonly Uint8Array[]): void {
    if (!this.isClosed) for (const chunk of chunks) this.#onWritten(chunk);
  }

  pauseReading(): void {
    this.#isPaused = true;
  }

  resumeReading(): void {
    this.#isPaused = false;
  }

  end(): void {
    setImmediate(() => this.#close(null));
  }

  destroy(): void {
    setImmediate(() => this.#close(null));
  }

  #close(code: string | null): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#events.onClose(code);
  }
}

/** Everything that was dialled, one after the other. */
export class FakeUpstream {
  readonly #clock: FuzzClock;
  readonly #onWritten: (chunk: Buffer) => void;
  readonly #connections: ServerEnd[] = [];
  #nonce = '';

  /** `onWritten`: hears what the program says. */
  constructor(clock: FuzzClock, onWritten: (chunk: Buffer) => void) {
    this.#clock = clock;
    this.#onWritten = onWritten;
  }

  readonly dial: Dial = async (_target, _options, events) => {
    await nextTurn();
    const end = new ServerEnd(events, (chunk) => this.#written(chunk));
    this.#connections.push(end);
    return end;
  };

  get current(): ServerEnd | null {
    const last = this.#connections.at(-1);
    return last === undefined || last.isClosed ? null : last;
  }

  /** Waits, if need be for the next attempt, until there is a connection; null when there will be none soon. */
  async connected(): Promise<ServerEnd | null> {
    for (let round = 0; round < ATTEMPT_ROUNDS && this.current === null; round += 1) {
      if (this.#connections.length >= CONNECTS_MAX) return null;
      // An attempt that is under way gets its turns: its own time limit is a timer, too.
      for (let turn = 0; turn < ATTEMPT_TURNS && this.current === null; turn += 1) await nextTurn();
      if (this.current === null) this.#clock.advance(this.#clock.nextMs() ?? 0);
      else for (let turn = 0; turn < 2; turn += 1) await nextTurn();
    }
    return this.current;
  }

  /** The server says these bytes, in chunks of a size (0: one); false when there is nobody to say it to. */
  async say(bytes: Uint8Array, chunk: number): Promise<boolean> {
    const end = await this.connected();
    if (end === null) return false;
    const said = this.#withNonce(bytes);
    const size = chunk === 0 ? READ_BUFFER.length : chunk;
    for (let at = 0; at < said.length; at += size) {
      if (!end.say(said.subarray(at, at + size))) break;
    }
    return true;
  }

  /** Nothing is open any more. */
  requireClosed(): void {
    const open = this.#connections.filter(({ isClosed }) => !isClosed).length;
    requireThat(open === 0, `${open} connections are open though nobody needs them`);
  }

  /** `%NONCE%` stands for what the client drew. */
  #withNonce(bytes: Uint8Array): Uint8Array {
    const text = Buffer.from(bytes).toString('latin1');
    if (!text.includes('%NONCE%')) return bytes;
    const said = Buffer.from(text.replace('%NONCE%', this.#nonce), 'latin1');
    if (said.length >= 5) said.writeUInt32BE(said.length - 1, 1);
    return said;
  }

  #written(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk);
    if (bytes[0] === 0x70) {
      this.#nonce = /r=([^,\0]*)/.exec(bytes.toString('latin1'))?.[1] ?? this.#nonce;
    }
    this.#onWritten(bytes);
  }
}
