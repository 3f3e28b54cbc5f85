// A proxy that makes the network and the peer misbehave, on purpose and on command: late, stalled, cut, damaged,
// incomplete, out of order, in crumbs. Faults are switched while it runs and hold for open and new connections alike.
import { systemClock } from '../../src/base/clock.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import { formatLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import {
  WAL_DATA_HEADER_BYTES,
  copyDataKind,
  decodeWalDataHeader,
} from '../../src/wire/replication-messages.ts';
import type { LaneMode } from './proxy-lane.ts';
import { flipPlaces } from './record-ends.ts';
import { frameBytes, openWireProxy } from './wire-proxy.ts';
import type {
  Direction,
  ProxyFrame,
  ProxyObserver,
  ProxySession,
  ProxyTarget,
  WireProxy,
} from './wire-proxy.ts';

/** Where one bit is turned round. `messageHeader`: the start position that a WALData message states. */
export const FLIP_PLACES = ['messageHeader', 'pageHeader', 'recordHeader', 'recordBody'] as const;
export type FlipPlace = (typeof FLIP_PLACES)[number];

/**
 * What can be done to one WALData message. `swap` exchanges it with the next one of its stream; after the first half of it `cut`
 * closes the connection; `lose` loses it and everything behind it, as a network that has to be given up, and resets a moment later.
 */
export type WalFault =
  | { readonly kind: 'flip'; readonly place: FlipPlace }
  | { readonly kind: 'drop' }
  | { readonly kind: 'repeat' }
  | { readonly kind: 'swap' }
  | { readonly kind: 'cut' }
  | { readonly kind: 'lose' };

/** A fault that happened. */
export interface FaultDone {
  readonly fault: WalFault;
  /** Start of the message it happened to. */
  readonly startLsn: Lsn;
  /** For people: what was done where. */
  readonly what: string;
}

/** Which ways something holds for. */
export type Ways = Direction | 'both';

/** How long a lost connection stays silent before it is reset. */
const LOST_MS = 300;
const COPY_DATA = 0x64;
const KIND_WAL = 0x77;

/** The controls of one fault proxy. Everything passes unchanged until one of them is used. */
export class FaultProxy implements AsyncDisposable {
  readonly proxy: WireProxy;
  /** Every fault on a message that happened, in order. */
  readonly done: FaultDone[] = [];
  readonly #state: FaultState;

  /** Use {@link openFaultProxy}. */
  constructor(proxy: WireProxy, state: FaultState) {
    this.proxy = proxy;
    this.#state = state;
    state.onDone = (done) => this.done.push(done);
  }

  get host(): string {
    return this.proxy.host;
  }

  get port(): number {
    return this.proxy.port;
  }

  /** Each message takes `delayMs` longer, give or take up to `jitterMs`; 0 = none. */
  setDelay(delayMs: number, ways: Ways = 'both', jitterMs = 0): void {
    this.#state.change(ways, (settings) => {
      settings.delayMs = delayMs;
      settings.jitterMs = jitterMs;
    });
    this.#applyToAll();
  }

  /** Stops reading: the sender's buffers fill up, nothing is lost, `resume` goes on. Closes are held back likewise. */
  stall(ways: Ways = 'both'): void {
    this.#setMode('hold', ways);
  }

  /** As a cable that was pulled: nothing passes, no close is seen, new connections stay silent. `resume` reconnects it. */
  halfOpen(ways: Ways = 'both'): void {
    this.#setMode('deaf', ways);
  }

  /** Ends `stall` and `halfOpen`. */
  resume(ways: Ways = 'both'): void {
    this.#setMode('pass', ways);
  }

  /** Closes all connections: by reset, or in order after what is on its way. New ones are welcome. */
  cut(how: 'reset' | 'orderly' = 'reset'): void {
    for (const session of this.proxy.sessions) session.close(how);
  }

  /** While on, connections are closed as soon as they are made. */
  refuse(isRefusing: boolean): void {
    this.proxy.isRefusing = isRefusing;
  }

  /** Hands bytes over in pieces of `bytes`, each in a packet of its own as far as the system lets us; 0 = whole messages. */
  fragment(bytes: number, ways: Ways = 'both'): void {
    this.#state.change(ways, (settings) => {
      settings.fragmentBytes = bytes;
    });
    this.#applyToAll();
  }

  /**
   * Does `fault` to the next WALData message it can be done to (a flip needs the place to be in the message; a swap
   * needs a message behind it). Resolves when it was done, rejects when no such message came in `timeoutMs`.
   */
  faultNextWal(fault: WalFault, timeoutMs = 20_000): Promise<FaultDone> {
    return new Promise((resolve, reject) => {
      const timer = systemClock.setTimer(timeoutMs, () =>
        reject(new Error(`no message to ${JSON.stringify(fault)} came in ${timeoutMs} ms`)),
      );
      this.#state.pending.push({
        fault,
        resolve: (done) => {
          timer.cancel();
          resolve(done);
        },
      });
    });
  }

  /** Each WALData message is hit with `probability` by one of `faults`, drawn with the seed the proxy was opened with. */
  faultAtRandom(probability: number, faults: readonly WalFault[]): void {
    this.#state.random = { probability, faults };
  }

  close(): Promise<void> {
    return this.proxy.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #setMode(mode: LaneMode, ways: Ways): void {
    this.#state.change(ways, (settings) => {
      settings.mode = mode;
    });
    this.#applyToAll();
  }

  #applyToAll(): void {
    for (const session of this.proxy.sessions) this.#state.applyTo(session);
  }
}

/** Opens a fault proxy; nothing is wrong yet. `observer` sees messages as they come in, before any fault. */
export async function openFaultProxy(options: {
  target: () => ProxyTarget;
  port?: number;
  seed?: number;
  segmentSize?: SegmentSize;
  observer?: ProxyObserver;
}): Promise<FaultProxy> {
  const state = new FaultState(options.seed ?? 1, options.segmentSize ?? toSegmentSize(16 << 20));
  const { observer } = options;
  const proxy = await openWireProxy({
    target: options.target,
    ...(options.port === undefined ? {} : { port: options.port }),
    observer: {
      ...observer,
      onOpen: (session) => {
        state.applyTo(session);
        observer?.onOpen?.(session);
      },
    },
    transform: (session, direction, frame) => state.transform(session, direction, frame),
  });
  return new FaultProxy(proxy, state);
}

interface LaneSettings {
  mode: LaneMode;
  delayMs: number;
  jitterMs: number;
  fragmentBytes: number;
}

/** What is switched on, and what waits for its moment. */
class FaultState {
  readonly pending: { fault: WalFault; resolve: (done: FaultDone) => void }[] = [];
  random: { probability: number; faults: readonly WalFault[] } | null = null;
  onDone: (done: FaultDone) => void = () => {};
  readonly #settings: Record<Direction, LaneSettings> = {
    fromServer: { mode: 'pass', delayMs: 0, jitterMs: 0, fragmentBytes: 0 },
    fromClient: { mode: 'pass', delayMs: 0, jitterMs: 0, fragmentBytes: 0 },
  };
  readonly #heldBack = new WeakMap<ProxySession, ProxyFrame>();
  readonly #random: () => number;
  readonly #segmentSize: SegmentSize;

  constructor(seed: number, segmentSize: SegmentSize) {
    this.#random = seededRandom(seed);
    this.#segmentSize = segmentSize;
  }

  change(ways: Ways, action: (settings: LaneSettings) => void): void {
    if (ways !== 'fromClient') action(this.#settings.fromServer);
    if (ways !== 'fromServer') action(this.#settings.fromClient);
  }

  applyTo(session: ProxySession): void {
    for (const direction of ['fromServer', 'fromClient'] as const) {
      const lane = session.lanes[direction];
      const settings = this.#settings[direction];
      lane.delayMs = settings.delayMs;
      lane.jitterMs = settings.jitterMs;
      lane.fragmentBytes = settings.fragmentBytes;
      if (lane.mode !== settings.mode) lane.setMode(settings.mode);
    }
  }

  transform(session: ProxySession, direction: Direction, frame: ProxyFrame): readonly ProxyFrame[] {
    if (direction !== 'fromServer' || frame.type !== COPY_DATA) return [frame];
    if (copyDataKind(frame.body) !== KIND_WAL) return [frame];
    const held = this.#heldBack.get(session);
    if (held !== undefined) {
      this.#heldBack.delete(session);
      return [frame, held];
    }
    const fault = this.#draw();
    return fault === null
      ? this.#tryPending(session, frame)
      : (this.#apply(fault, session, frame) ?? [frame]);
  }

  #draw(): WalFault | null {
    if (this.random === null || this.#random() >= this.random.probability) return null;
    const { faults } = this.random;
    return faults[Math.floor(this.#random() * faults.length)] ?? null;
  }

  #tryPending(session: ProxySession, frame: ProxyFrame): readonly ProxyFrame[] {
    const next = this.pending[0];
    if (next === undefined) return [frame];
    const result = this.#apply(next.fault, session, frame, next.resolve);
    if (result === null) return [frame];
    this.pending.shift();
    return result;
  }

  /** Null when it cannot be done to this message. */
  #apply(
    fault: WalFault,
    session: ProxySession,
    frame: ProxyFrame,
    resolve: (done: FaultDone) => void = () => {},
  ): readonly ProxyFrame[] | null {
    const { startLsn } = decodeWalDataHeader(frame.body);
    const note = (what: string): void => {
      const done = { fault, startLsn, what: `${what} at ${formatLsn(startLsn)}` };
      this.onDone(done);
      resolve(done);
    };
    switch (fault.kind) {
      case 'drop':
        note('dropped a message');
        return [];
      case 'repeat':
        note('repeated a message');
        return [frame, frame];
      case 'swap':
        this.#heldBack.set(session, frame);
        note('swapped a message with the next one');
        return [];
      case 'cut': {
        const bytes = frameBytes(frame);
        note('cut a message');
        session.lanes.fromServer.push(bytes.subarray(0, bytes.length >> 1));
        session.close('orderly');
        return [];
      }
      case 'lose':
        note('lost a message and what follows');
        for (const lane of Object.values(session.lanes)) lane.setMode('deaf');
        systemClock.setTimer(LOST_MS, () => session.close());
        return [];
      case 'flip': {
        const offset = this.#flipOffset(fault.place, startLsn, frame.body);
        if (offset === null) return null;
        const body = new Uint8Array(frame.body);
        const bit = 1 << Math.floor(this.#random() * 8);
        body[offset] = (body[offset] ?? 0) ^ bit;
        note(`flipped bit ${bit} of byte ${offset} (${fault.place}) of a message`);
        return [{ type: frame.type, body }];
      }
    }
  }

  #flipOffset(place: FlipPlace, startLsn: Lsn, body: Uint8Array): number | null {
    // Byte 6 of the start position: a wrong page, not merely a wrong high half.
    if (place === 'messageHeader') return 1 + 6;
    const places = flipPlaces(startLsn, body.subarray(WAL_DATA_HEADER_BYTES), this.#segmentSize);
    const offset = places[place];
    return offset === null ? null : WAL_DATA_HEADER_BYTES + offset;
  }
}

/** Numbers in [0, 1) that depend on `seed` only (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
