// A walreceiver with everything around it played: a store in memory, a gate that says yes, positions that follow.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../src/base/clock.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { OperationalError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Log } from '../../src/base/log.ts';
import { dial } from '../../src/net/dial.ts';
import type { TargetSessionAttrs } from '../../src/pg/conninfo.ts';
import { INVALID_LSN, advanceLsn, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import type { ReportedPositions } from '../../src/status/status.ts';
import type {
  StartDecision,
  StoredEnd,
  TimelineEnd,
  UpstreamIdentity,
  UpstreamStateChange,
  WalRejection,
  WalSink,
} from '../../src/walreceiver/ports.ts';
import type { UpstreamTarget } from '../../src/walreceiver/upstream-target.ts';
import { WalReceiver } from '../../src/walreceiver/wal-receiver.ts';
import { targetFor } from './upstream-target.ts';
import type { WalReceiverOptions } from '../../src/walreceiver/wal-receiver-options.ts';

/** `text` as an LSN. */
export function lsn(text: string): Lsn {
  const parsed = parseLsn(text);
  if (parsed === null) throw new Error(`not an LSN: ${text}`);
  return parsed;
}

/** A store that keeps what it is given in memory and can be told to misbehave. */
export class MemorySink implements WalSink {
  #next: Lsn;
  #room: () => void = () => {};
  readonly #chunks: Uint8Array[] = [];
  /** Called before a message is taken; a text rejects it. */
  check: (startLsn: Lsn, data: Uint8Array) => WalRejection | null = () => null;
  full = false;
  appended = 0;

  constructor(next: Lsn) {
    this.#next = next;
  }

  nextLsn(): Lsn {
    return this.#next;
  }

  /** As after `UpstreamGate.decide` prepared an empty store, or a fall back to the last good record. */
  moveTo(next: Lsn): void {
    this.#next = next;
  }

  append(startLsn: Lsn, data: Uint8Array): WalRejection | null {
    if (startLsn !== this.#next) throw new Error('the walreceiver let a gap through');
    const rejection = this.check(startLsn, data);
    if (rejection !== null) return rejection;
    this.#chunks.push(new Uint8Array(data));
    this.#next = advanceLsn(this.#next, data.byteLength);
    this.appended += 1;
    return null;
  }

  isFull(): boolean {
    return this.full;
  }

  onRoom(listener: () => void): void {
    this.#room = listener;
  }

  /** Everything has been written. */
  makeRoom(): void {
    this.full = false;
    this.#room();
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}

/** What a test may set. */
export interface RigOptions {
  readonly port?: number;
  readonly hosts?: readonly {
    host: string;
    address?: string;
    port: number;
    password?: string | null;
  }[];
  readonly targetSessionAttrs?: TargetSessionAttrs;
  readonly loadBalanceHosts?: UpstreamTarget['loadBalanceHosts'];
  readonly user?: string;
  readonly password?: string | null;
  readonly requireAuth?: string;
  readonly sslmode?: string;
  readonly connectTimeoutMs?: number;
  readonly slot?: string | null;
  readonly relayId?: string;
  readonly hostsMayChange?: boolean;
  /** Default: jitter takes nothing away. */
  readonly random?: () => number;
  readonly clock?: Clock;
  readonly log?: Log;
  readonly receiverTimeoutMs?: number;
  readonly statusIntervalMs?: number;
  readonly start?: Lsn;
  /** What the gate says; default: follow the identified timeline from the store's next byte. */
  /** What the store is said to hold before an upstream is identified; default: nothing. */
  readonly stored?: (sink: MemorySink) => StoredEnd | null;
  readonly decide?: (identity: UpstreamIdentity, sink: MemorySink) => StartDecision;
}

/** The walreceiver and what it told. */
export class ReceiverRig implements AsyncDisposable {
  readonly sink: MemorySink;
  readonly receiver: WalReceiver;
  readonly changes: UpstreamStateChange[] = [];
  readonly identities: UpstreamIdentity[] = [];
  readonly fatal: OperationalError[] = [];
  readonly ends: TimelineEnd[] = [];
  /** What is reported; default: everything received is written and flushed. */
  positions: (() => ReportedPositions) | null = null;
  #wake: (() => void) | null = null;

  constructor(options: RigOptions) {
    this.sink = new MemorySink(options.start ?? lsn('0/5000000'));
    this.receiver = new WalReceiver(this.#receiverOptions(options));
  }

  /** Resolves when `condition` holds; looked at after every change of state and every turn. */
  async until(what: string, condition: () => boolean, withinMs = 10_000): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (!condition()) {
      if (performance.now() > deadline) {
        throw new Error(`waited in vain until ${what}; last: ${this.changes.at(-1)?.reason}`);
      }
      await nextTurn();
    }
  }

  /** Resolves once the session stands in `state` for the reason `held`. */
  async untilState(state: string, held: string | null = null): Promise<void> {
    await this.until(`${state}/${held}`, () => {
      const status = this.receiver.status();
      return status.state === state && status.heldState === held;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.receiver.stop();
  }

  #receiverOptions(options: RigOptions): WalReceiverOptions {
    const { sink } = this;
    return {
      // The list of a test may change.
      get target() {
        return targetOf(options);
      },
      slot: options.slot ?? null,
      applicationName: 'walcast',
      ...(options.relayId === undefined ? {} : { relayId: options.relayId }),
      hostsMayChange: options.hostsMayChange ?? false,
      receiverTimeoutMs: options.receiverTimeoutMs ?? 60_000,
      statusIntervalMs: options.statusIntervalMs ?? 10_000,
      sink,
      gate: {
        stored: () => options.stored?.(sink) ?? null,
        decide: async (identity) =>
          options.decide?.(identity, sink) ?? {
            kind: 'start',
            timeline: identity.timeline,
            startLsn: sink.nextLsn(),
          },
      },
      positions: {
        positions: () =>
          this.positions?.() ?? {
            writeLsn: sink.nextLsn(),
            flushLsn: sink.nextLsn(),
            applyLsn: INVALID_LSN,
          },
      },
      observer: {
        onState: (change) => {
          this.changes.push(change);
          this.#wake?.();
        },
        onIdentified: (identity) => this.identities.push(identity),
        onFatal: (error) => this.fatal.push(error),
        onTimelineEnd: (end) => this.ends.push(end),
      },
      clock: options.clock ?? systemClock,
      log: options.log ?? silentLog,
      dial,
      random: options.random ?? (() => 0),
    };
  }
}

function targetOf(options: RigOptions): UpstreamTarget {
  const hosts = options.hosts ?? [{ host: '127.0.0.1', port: options.port ?? 0 }];
  return targetFor(`sslmode=${options.sslmode ?? 'prefer'}`, {
    hosts: hosts.map((entry) => ({
      host: entry.host,
      address: entry.address ?? entry.host,
      port: entry.port,
      password: options.password ?? null,
    })),
    user: options.user ?? 'replicator',
    requireAuth: options.requireAuth ?? null,
    connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
    targetSessionAttrs: options.targetSessionAttrs ?? 'any',
    loadBalanceHosts: options.loadBalanceHosts ?? 'disable',
  });
}
