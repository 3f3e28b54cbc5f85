// A standby as a relay sees one: its walreceiver, with what it keeps and what it says. Honest unless told otherwise.
import { OperationalError } from '../../../src/base/errors.ts';
import type { ConnectionEvents } from '../../../src/net/connection.ts';
import { formatLsn, INVALID_LSN, minLsn, toLsn } from '../../../src/pg/lsn.ts';
import type { Lsn } from '../../../src/pg/lsn.ts';
import { segmentStartOf, toSegmentSize } from '../../../src/pg/segment.ts';
import { parseTimelineHistory, switchPoint, toTimelineId } from '../../../src/pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../../../src/pg/timeline.ts';
import {
  encodeCopyDone,
  encodeQuery,
  encodeTerminate,
} from '../../../src/wire/frontend-messages.ts';
import { cstr, i64, message, packet } from '../../support/naive-writer.ts';
import type { SimConnection } from '../machine/connection.ts';
import type { Network } from '../machine/network.ts';
import type { Random } from '../machine/random.ts';
import { SimProcess } from '../machine/sim-process.ts';
import { clockOf } from '../machine/world.ts';
import type { World } from '../machine/world.ts';
import { SEGMENT_BYTES } from './cluster.ts';
import { FrameReader } from './frames.ts';
import type { Kind } from './sync-commits.ts';
import type { Frame } from './frames.ts';

/** What a standby does wrong. `lags`: reads slowly; `lies`: claims more than it has; `mute`: says nothing; `bounces`: comes and goes. */
export const MANNERS = ['honest', 'lags', 'lies', 'mute', 'bounces', 'babbles'] as const;
export type Manner = (typeof MANNERS)[number];

const STATUS_INTERVAL_MS = 10_000;
const RECEIVER_TIMEOUT_MS = 60_000;
const SEGMENT = toSegmentSize(SEGMENT_BYTES);

/** What a standby has to do with. */
export interface StandbyParts {
  readonly world: World;
  readonly network: Network;
  readonly random: Random;
  /** Hosts of the relays, in the order of primary_conninfo. */
  readonly relays: readonly string[];
  readonly slot: string | null;
}

/** One standby. What it has flushed survives its end. */
export class Standby {
  readonly name: string;
  readonly parts: StandbyParts;
  manner: Manner;
  timeline: TimelineId;
  /** End of what it has. INVALID_LSN before it was given a place to begin. */
  receivedLsn: Lsn = INVALID_LSN;
  flushedLsn: Lsn = INVALID_LSN;
  appliedLsn: Lsn = INVALID_LSN;
  /** It has said what is not so. */
  hasLied = false;
  /** How far it ever came, by timeline. */
  readonly reached = new Map<TimelineId, Record<Kind, bigint>>();
  process: SimProcess | null = null;
  link: StandbyLink | null = null;
  #nextRelay = 0;

  constructor(name: string, parts: StandbyParts, options: { manner: Manner; startLsn: Lsn }) {
    this.name = name;
    this.parts = parts;
    this.manner = options.manner;
    this.timeline = toTimelineId(1);
    this.receivedLsn = options.startLsn;
    this.flushedLsn = options.startLsn;
    this.appliedLsn = options.startLsn;
    this.noteReached();
  }

  start(): void {
    if (this.process !== null) return;
    const { network, random } = this.parts;
    const process = new SimProcess(this.name, {
      monotonicOriginMs: random.real(1_000, 100_000),
      hasPromises: true,
    });
    this.process = process;
    network.setDown(this.name, false);
    process.onEnd.push((end) => {
      this.process = null;
      this.link = null;
      this.receivedLsn = this.flushedLsn;
      network.processEnded(process, end === 'power');
    });
    this.connect();
  }

  /** It has moved. */
  noteReached(): void {
    const marks = this.reached.get(this.timeline) ?? { write: 0n, flush: 0n, apply: 0n };
    this.reached.set(this.timeline, marks);
    if (this.receivedLsn > marks.write) marks.write = this.receivedLsn;
    if (this.flushedLsn > marks.flush) marks.flush = this.flushedLsn;
    if (this.appliedLsn > marks.apply) marks.apply = this.appliedLsn;
  }

  /** Goes to the next relay of its list; later when the last one did not work. */
  connect(delayMs = 0): void {
    const { process, parts } = this;
    if (process === null) return;
    parts.world.schedule(process.context, delayMs, `${this.name} connects`, () => {
      if (this.link !== null) return;
      const relay = parts.relays[this.#nextRelay % parts.relays.length] ?? '';
      this.#nextRelay += 1;
      const link = new StandbyLink(this, relay);
      this.link = link;
      link.open(process);
    });
  }

  /** The connection is over. */
  left(link: StandbyLink): void {
    if (this.link !== link) return;
    this.link = null;
    this.connect(this.parts.random.real(100, this.manner === 'bounces' ? 500 : 5_000));
  }

  /** The same relay first, next time: it works. */
  stay(): void {
    this.#nextRelay += this.parts.relays.length - 1;
  }

  /** From `history` on: what it has beyond a switch point is not of the new timeline. */
  followTimeline(history: TimelineHistory): void {
    for (;;) {
      const fork = switchPoint(history, this.timeline);
      if (fork === null || this.receivedLsn < fork.endLsn) return;
      this.receivedLsn = fork.endLsn;
      this.flushedLsn = minLsn(this.flushedLsn, fork.endLsn);
      this.appliedLsn = minLsn(this.appliedLsn, fork.endLsn);
      this.timeline = fork.nextTimeline;
      this.noteReached();
    }
  }
}

/** A walreceiver: one connection to one relay. */
export class StandbyLink implements ConnectionEvents {
  readonly relay: string;
  readonly #standby: Standby;
  readonly #world: World;
  readonly #frames = new FrameReader(false);
  readonly #process: SimProcess;
  #connection: SimConnection | null = null;
  #answer: (rows: string[][], error: string | null) => void = () => {};
  #rows: string[][] = [];
  #error: string | null = null;
  #expectedLsn: Lsn = INVALID_LSN;
  #isOver = false;
  #lastHeardMs: number;
  #isPinged = false;
  isStreaming = false;
  streamingSinceMs = 0;
  /** Its position moved, or it began to stream, last then. */
  movedAtMs = 0;

  constructor(standby: Standby, relay: string) {
    const { process } = standby;
    if (process === null) throw new Error('a standby that does not run');
    this.#process = process;
    this.#standby = standby;
    this.#world = standby.parts.world;
    this.relay = relay;
    this.#lastHeardMs = this.#world.nowMs;
  }

  /** The connection, while there is one. */
  get connection(): SimConnection | null {
    return this.#isOver ? null : this.#connection;
  }

  open(process: SimProcess): void {
    const { network } = this.#standby.parts;
    const options = {
      clock: clockOf(this.#world, process),
      timeoutMs: 10_000,
      readBufferBytes: 65_536,
    };
    network.dial({ host: this.relay, port: 5432 }, options, this).then(
      (connection) => {
        this.#connection = connection;
        this.#login();
      },
      (error: unknown) => {
        if (!(error instanceof OperationalError)) throw error;
        this.#leave();
      },
    );
  }

  onBytes(chunk: Uint8Array): void {
    this.#lastHeardMs = this.#world.nowMs;
    this.#isPinged = false;
    for (const frame of this.#frames.push(chunk)) if (!this.#isOver) this.#onFrame(frame);
  }

  onDrain(): void {}

  onEnd(): void {
    this.#leave();
  }

  onClose(): void {
    this.#leave();
  }

  #login(): void {
    const { name } = this.#standby;
    const parameters = {
      user: 'replicator',
      database: 'replication',
      replication: 'true',
      application_name: name,
    };
    const fields = Object.entries(parameters).flat().map(cstr);
    this.#answer = () => this.#identify();
    this.#send(packet(0x30000, ...fields, 0));
    this.#tick();
  }

  #ask(sql: string, answer: (rows: string[][], error: string | null) => void): void {
    this.#rows = [];
    this.#error = null;
    this.#answer = answer;
    this.#send(encodeQuery(sql));
  }

  #identify(): void {
    if (this.#error !== null) {
      this.close();
      return;
    }
    this.#ask('IDENTIFY_SYSTEM', ([row], error) => {
      const timeline = Number(row?.[1] ?? 0);
      if (error !== null || timeline < this.#standby.timeline) this.close();
      else if (timeline === 1) this.#start();
      else {
        this.#ask(`TIMELINE_HISTORY ${timeline}`, ([found], refused) => {
          const history = parseTimelineHistory(toTimelineId(timeline), found?.[1] ?? '');
          if (refused !== null || typeof history === 'string') {
            this.close();
            return;
          }
          this.#standby.followTimeline(history);
          this.#start();
        });
      }
    });
  }

  #start(): void {
    const { timeline, receivedLsn, parts } = this.#standby;
    const startLsn = segmentStartOf(receivedLsn, SEGMENT);
    this.#expectedLsn = startLsn;
    const slot = parts.slot === null ? '' : `SLOT "${parts.slot}" `;
    this.#ask(
      `START_REPLICATION ${slot}${formatLsn(startLsn)} TIMELINE ${timeline}`,
      (rows, error) => {
        this.isStreaming = false;
        if (error !== null) {
          this.close();
          return;
        }
        if (rows[0] === undefined) {
          this.close();
          return;
        }
        // The next timeline: as in WalReceiverMain, from the identification on.
        this.#identify();
      },
    );
  }

  #onFrame({ type, body }: Frame): void {
    switch (type) {
      case 'D':
        this.#rows.push(columns(body));
        return;
      case 'E':
        this.#error = body.toString('latin1');
        return;
      case 'Z':
        this.#answer(this.#rows, this.#error);
        return;
      case 'W':
        this.isStreaming = true;
        this.streamingSinceMs = this.#world.nowMs;
        this.movedAtMs = this.#world.nowMs;
        this.#standby.stay();
        this.#report();
        return;
      case 'c':
        this.#send(encodeCopyDone());
        return;
      case 'd':
        this.#onCopyData(body);
        return;
      default:
    }
  }

  #onCopyData(body: Buffer): void {
    if (body[0] === 0x6b) {
      if (body[17] === 1) this.#report();
      return;
    }
    const startLsn = body.readBigUInt64BE(1);
    if (startLsn !== this.#expectedLsn) throw new Error(`${this.#standby.name} got a gap`);
    this.#expectedLsn = toLsn(startLsn + BigInt(body.length - 25));
    const standby = this.#standby;
    if (this.#expectedLsn > standby.receivedLsn) standby.receivedLsn = this.#expectedLsn;
    standby.noteReached();
    // Written is what the kernel has: said at once, as walreceivers do.
    if (standby.parts.random.chance(0.5)) this.#report();
    this.movedAtMs = this.#world.nowMs;
    this.#flushLater();
    if (standby.manner === 'lags') this.#readLater();
  }

  #flushLater(): void {
    const standby = this.#standby;
    const lsn = standby.receivedLsn;
    const { random } = standby.parts;
    this.#world.schedule(
      this.#process.context,
      random.real(0.5, 20),
      `${standby.name} flushes`,
      () => {
        if (lsn <= standby.flushedLsn || this.#isOver || lsn > standby.receivedLsn) return;
        standby.flushedLsn = lsn;
        standby.noteReached();
        if (this.isStreaming) this.#report();
        this.#applyLater(lsn);
      },
    );
  }

  #applyLater(lsn: Lsn): void {
    const standby = this.#standby;
    const delayMs = standby.parts.random.real(0.5, 60);
    this.#world.schedule(this.#process.context, delayMs, `${standby.name} applies`, () => {
      if (lsn <= standby.appliedLsn || lsn > standby.flushedLsn) return;
      standby.appliedLsn = lsn;
      standby.noteReached();
      if (this.isStreaming) this.#report();
    });
  }

  /** A slow disk, or a machine that is busy. */
  #readLater(): void {
    const { random } = this.#standby.parts;
    this.#connection?.pauseReading();
    this.#world.schedule(this.#process.context, random.real(10, 3_000), 'reads again', () => {
      this.#connection?.resumeReading();
    });
  }

  #report(isReplyRequested = false): void {
    const { manner, receivedLsn, flushedLsn, appliedLsn, parts } = this.#standby;
    const { random } = parts;
    if (manner === 'mute') return;
    let positions = [receivedLsn, flushedLsn, appliedLsn].map(BigInt);
    this.#standby.hasLied ||= manner === 'lies' || manner === 'babbles';
    if (manner === 'lies') {
      const more = BigInt(random.pick([0, 1, 8, 8_192, 1 << 20, 1 << 30]));
      positions = positions.map((lsn) => lsn + more);
    }
    if (manner === 'babbles') {
      positions = positions.map((lsn) =>
        random.pick([lsn, 0n, lsn - 8n, 1n, 0xffff_ffff_ffff_ffffn]),
      );
    }
    this.#send(
      message(
        'd',
        'r',
        ...positions.map((lsn) => unsigned(lsn)),
        i64(0n),
        isReplyRequested ? 1 : 0,
      ),
    );
    if (manner === 'babbles' && random.chance(0.05))
      this.#send(message('d', random.pick(['?', 'r', ''])));
  }

  #tick(): void {
    const standby = this.#standby;
    this.#world.schedule(this.#process.context, STATUS_INTERVAL_MS, `${standby.name} tick`, () => {
      if (this.#isOver) return;
      const silenceMs = this.#world.nowMs - this.#lastHeardMs;
      if (silenceMs >= RECEIVER_TIMEOUT_MS) {
        this.#connection?.destroy();
        this.#leave();
        return;
      }
      const isPing = silenceMs >= RECEIVER_TIMEOUT_MS / 2 && !this.#isPinged;
      this.#isPinged ||= isPing;
      if (this.isStreaming) this.#report(isPing);
      if (standby.manner === 'bounces' && standby.parts.random.chance(0.5)) this.close();
      this.#tick();
    });
  }

  #send(bytes: Uint8Array): void {
    if (!this.#isOver) this.#connection?.write([bytes]);
  }

  /** Says goodbye. */
  close(): void {
    this.#send(encodeTerminate());
    this.#connection?.end(1_000);
    this.#leave();
  }

  #leave(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.isStreaming = false;
    this.#standby.left(this);
  }
}

function unsigned(value: bigint): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
  return bytes;
}

/** The columns of a DataRow as text; NULL is empty. */
function columns(body: Buffer): string[] {
  const values: string[] = [];
  let at = 2;
  for (let left = body.readUInt16BE(0); left > 0; left -= 1) {
    const length = body.readInt32BE(at);
    at += 4;
    values.push(length < 0 ? '' : body.toString('latin1', at, at + length));
    at += Math.max(0, length);
  }
  return values;
}
