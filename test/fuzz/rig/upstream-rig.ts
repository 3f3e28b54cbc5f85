// A walreceiver without sockets: an input plays the server. Afterwards its connections are closed and no timer is left, and
// it never said that more was on the disk than was.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { InvariantError } from '../../../src/base/errors.ts';
import { silentLog } from '../../../src/base/log.ts';
import { INVALID_LSN, toLsn } from '../../../src/pg/lsn.ts';
import type { UpstreamIdentity } from '../../../src/walreceiver/ports.ts';
import { WalReceiver } from '../../../src/walreceiver/wal-receiver.ts';
import { MemorySink } from '../../support/receiver-rig.ts';
import { targetFor } from '../../support/upstream-target.ts';
import { amountOf } from '../engine/session.ts';
import type { FuzzSession, Step } from '../engine/session.ts';
import { requireThat } from '../engine/target.ts';
import type { TargetRun } from '../engine/target.ts';
import { FakeUpstream } from './fake-upstream.ts';
import { FuzzClock } from './fuzz-clock.ts';

/** The byte that the store of the rig wants first. */
export const RIG_WANTED_LSN = 0x5000000n;

const TIME_MS_MAX = 90_000;

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
  readonly upstream = new FakeUpstream(this.clock, (bytes) => this.#written(bytes));
  #draw = 0.3;

  constructor(variant: number, options: UpstreamRigOptions = {}) {
    this.#options = options;
    this.receiver = this.#makeReceiver(variant);
  }

  async play(session: FuzzSession): Promise<number> {
    let count = 0;
    for (const step of session.steps) {
      if (step.kind !== 'say') {
        await this.#happen(step);
        continue;
      }
      if (!(await this.upstream.say(step.bytes, session.chunk))) break;
      count += 1;
    }
    return count;
  }

  async close(): Promise<void> {
    this.receiver.status();
    this.receiver.stop();
    await nextTurn();
    await nextTurn();
    this.upstream.requireClosed();
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
        this.upstream.current?.lose(step.bytes.length > 0 ? 'ECONNRESET' : null);
        break;
      default:
        break;
    }
    await nextTurn();
    await nextTurn();
  }

  #written(bytes: Buffer): void {
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
    const { sink, clock, upstream } = this;
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
      dial: upstream.dial,
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
