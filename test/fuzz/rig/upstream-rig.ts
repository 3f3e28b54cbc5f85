// A walreceiver without sockets: an input plays the server. Afterwards its connections are closed and no timer is left, and
// it never said that more was on the disk than was.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { InvariantError } from '../../../src/base/errors.ts';
import { silentLog } from '../../../src/base/log.ts';
import type { ConnectionEvents } from '../../../src/net/connection.ts';
import type { Dial, DialedConnection } from '../../../src/net/dial.ts';
import { INVALID_LSN, toLsn } from '../../../src/pg/lsn.ts';
import type { UpstreamIdentity } from '../../../src/walreceiver/ports.ts';
import { WalReceiver } from '../../../src/walreceiver/wal-receiver.ts';
import { MemorySink } from '../../support/receiver-rig.ts';
import { targetFor } from '../../support/upstream-target.ts';
import { amountOf } from '../engine/session.ts';
import type { FuzzSession, Step } from '../engine/session.ts';
import { requireThat } from '../engine/target.ts';
import type { TargetRun } from '../engine/target.ts';
import { FuzzClock } from './fuzz-clock.ts';

/** The byte that the store of the rig wants first. */
export const RIG_WANTED_LSN = 0x5000000n;

const READ_BUFFER = Buffer.alloc(1 << 17);
const TIME_MS_MAX = 90_000;
const CONNECTS_MAX = 6;
const ATTEMPT_ROUNDS = 4;
const ATTEMPT_TURNS = 4;

/** A connection that the walreceiver opened. */
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

/** What else a rig does. */
export interface UpstreamRigOptions {
  /** Answers the client's words; for making inputs of what an honest server says. */
  readonly onWritten?: (chunk: Uint8Array) => void;
}

/** One walreceiver, from its first attempt to its end. */
export class UpstreamRig {
  readonly clock = new FuzzClock();
  readonly sink = new MemorySink(toLsn(RIG_WANTED_LSN));
  readonly receiver: WalReceiver;
  readonly #options: UpstreamRigOptions;
  readonly #connections: ServerEnd[] = [];
  #nonce = '';
  #draw = 0.3;

  constructor(variant: number, options: UpstreamRigOptions = {}) {
    this.#options = options;
    this.receiver = this.#makeReceiver(variant);
  }

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
      if (this.current === null) this.clock.advance(this.clock.nextMs() ?? 0);
      else for (let turn = 0; turn < 2; turn += 1) await nextTurn();
    }
    return this.current;
  }

  async play(session: FuzzSession): Promise<number> {
    let count = 0;
    for (const step of session.steps) {
      if (step.kind !== 'say') {
        await this.#happen(step);
        continue;
      }
      const end = await this.connected();
      if (end === null) break;
      const bytes = this.#withNonce(step.bytes);
      const size = session.chunk === 0 ? READ_BUFFER.length : session.chunk;
      for (let at = 0; at < bytes.length; at += size)
        if (!end.say(bytes.subarray(at, at + size))) break;
      count += 1;
    }
    return count;
  }

  async close(): Promise<void> {
    this.receiver.status();
    this.receiver.stop();
    await nextTurn();
    await nextTurn();
    const open = this.#connections.filter(({ isClosed }) => !isClosed).length;
    requireThat(open === 0, 'a connection is open though the walreceiver was stopped');
    requireThat(
      this.clock.timers === 0,
      `${this.clock.timers} timers are set though the walreceiver was stopped`,
    );
  }

  async #happen(step: Step): Promise<void> {
    switch (step.kind) {
      case 'time':
        this.clock.advance(amountOf(step, TIME_MS_MAX));
        break;
      case 'full':
        this.sink.full = true;
        break;
      case 'drain':
        this.sink.makeRoom();
        break;
      case 'wal':
        this.receiver.positionsMoved();
        break;
      case 'end':
        this.current?.lose(step.bytes.length > 0 ? 'ECONNRESET' : null);
        break;
      default:
        break;
    }
    await nextTurn();
    await nextTurn();
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
    if (bytes[0] === 0x70)
      this.#nonce = /r=([^,\0]*)/.exec(bytes.toString('latin1'))?.[1] ?? this.#nonce;
    if (bytes[0] === 0x64 && bytes[5] === 0x72) {
      const flushLsn = bytes.readBigUInt64BE(14);
      requireThat(
        flushLsn <= this.sink.nextLsn(),
        `${flushLsn.toString(16)} was reported as flushed and is not there`,
      );
    }
    this.#options.onWritten?.(bytes);
  }

  #makeReceiver(variant: number): WalReceiver {
    const { sink, clock } = this;
    const dial: Dial = async (_target, _options, events) => {
      await nextTurn();
      const end = new ServerEnd(events, (chunk) => this.#written(chunk));
      this.#connections.push(end);
      return end;
    };
    const host = (name: string) => ({
      host: name,
      address: name,
      port: 5432,
      password: variant % 3 === 0 ? 'secret' : null,
    });
    const target = targetFor('sslmode=disable', {
      hosts: variant % 5 === 0 ? [host('a'), host('b')] : [host('a')],
      connectTimeoutMs: 10_000,
      targetSessionAttrs: variant % 7 === 0 ? 'read-write' : 'any',
    });
    return new WalReceiver({
      target,
      slot: variant % 2 === 0 ? null : 'slot_a',
      applicationName: 'walcast',
      relayId: 'fuzz',
      receiverTimeoutMs: 60_000,
      statusIntervalMs: 10_000,
      sink,
      gate: {
        stored: () => null,
        decide: async ({ timeline }: UpstreamIdentity) => ({
          kind: 'start',
          timeline,
          startLsn: sink.nextLsn(),
        }),
      },
      positions: {
        positions: () => ({
          writeLsn: sink.nextLsn(),
          flushLsn: sink.nextLsn(),
          applyLsn: INVALID_LSN,
        }),
      },
      observer: {
        onState: () => {},
        onIdentified: () => {},
        onFatal: (error) => requireThat(!(error instanceof InvariantError), error.message),
        onTimelineEnd: () => {},
      },
      clock,
      log: silentLog,
      dial,
      random: () => (this.#draw = (this.#draw * 7 + 0.1) % 1),
    });
  }
}

/** A new walreceiver for each input. */
export class UpstreamRun implements TargetRun {
  async run(session: FuzzSession): Promise<number> {
    const rig = new UpstreamRig(session.variant);
    rig.receiver.start();
    const count = await rig.play(session);
    await rig.close();
    return count;
  }

  check(): void {}

  close(): void {}
}
