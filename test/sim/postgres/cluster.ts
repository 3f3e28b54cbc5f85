// What is the WAL of a cluster, in truth? Every timeline of it, byte for byte, with the ends of its records: what everything
// that a relay stores, sends or confirms is compared with.
import { formatLsn, PAGE_SIZE, toLsn } from '../../../src/pg/lsn.ts';
import type { Lsn } from '../../../src/pg/lsn.ts';
import { switchPoint, timelineOfLsn, toTimelineId } from '../../../src/pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../../../src/pg/timeline.ts';
import { WalFixture } from '../../support/wal-fixture.ts';
import type { Random } from '../machine/random.ts';

/** Size of a WAL segment here: the smallest there is. */
export const SEGMENT_BYTES: number = 1 << 20;

interface Branch {
  readonly wal: WalFixture;
  readonly recordEnds: Set<bigint>;
  /** Ends of messages that a server of this cluster sent. */
  readonly messageEnds: Set<bigint>;
  /** Where records end with which a server stopped. */
  readonly shutdownEnds: Set<bigint>;
  counted: number;
}

/** One cluster with all its timelines. */
export class Cluster {
  readonly systemIdentifier: string;
  readonly major: number;
  readonly serverVersion: string;
  readonly #branches = new Map<TimelineId, Branch>();
  newest: TimelineId = toTimelineId(1);

  constructor(options: { major: number; minor?: number; systemIdentifier?: string }) {
    const wal = new WalFixture({ major: options.major, segmentSize: SEGMENT_BYTES });
    this.major = options.major;
    this.serverVersion = `${options.major}.${options.minor ?? 4}`;
    this.systemIdentifier = options.systemIdentifier ?? wal.systemIdentifier;
    this.#branches.set(this.newest, newBranch(wal));
  }

  /** Writes on `timeline`: some records. Returns where they end. */
  write(timeline: TimelineId, random: Random): Lsn {
    const { wal } = this.#branch(timeline);
    const kind = random.next();
    if (kind < 0.02) wal.switchSegment();
    else if (kind < 0.06) wal.checkpoint();
    else if (kind < 0.1) this.#record(wal, random.between(20_000, 90_000), random);
    else
      for (let left = random.between(1, 6); left > 0; left -= 1) {
        this.#record(wal, random.between(1, 3_000), random);
      }
    return wal.endLsn;
  }

  /** A CHECKPOINT_SHUTDOWN. Returns where it ends. */
  shutDown(timeline: TimelineId): Lsn {
    const { wal } = this.#branch(timeline);
    wal.checkpoint({ shutdown: true });
    this.#branch(timeline).shutdownEnds.add(wal.endLsn);
    return wal.endLsn;
  }

  /** True where the last record of a server that stopped ends. */
  isShutdownEnd(timeline: TimelineId, lsn: Lsn): boolean {
    return this.#branch(timeline).shutdownEnds.has(lsn);
  }

  /** A server is promoted at `switchLsn`, a record end of `timeline`: a new timeline begins there. */
  branch(timeline: TimelineId, switchLsn: Lsn): TimelineId {
    this.newest = toTimelineId(this.newest + 1);
    const wal = this.#branch(timeline).wal.branch(switchLsn, this.newest);
    wal.checkpoint();
    this.#branches.set(this.newest, newBranch(wal));
    return this.newest;
  }

  history(timeline: TimelineId): TimelineHistory {
    return this.#branch(timeline).wal.history;
  }

  /** Byte for byte; null for a timeline that does not exist or has none. */
  historyFile(timeline: TimelineId): string | null {
    const { ancestors } = this.history(timeline);
    if (ancestors.length === 0) return null;
    return ancestors
      .map((entry) => `${entry.timeline}\t${formatLsn(entry.endLsn)}\tno reason\n`)
      .join('\n');
  }

  startLsn(): Lsn {
    return this.#branch(toTimelineId(1)).wal.startLsn;
  }

  endLsn(timeline: TimelineId): Lsn {
    return this.#branch(timeline).wal.endLsn;
  }

  has(timeline: TimelineId): boolean {
    return this.#branches.has(timeline);
  }

  /** [startLsn, endLsn) of `timeline`; null when that is not all written. */
  bytes(timeline: TimelineId, startLsn: Lsn, endLsn: Lsn): Buffer | null {
    const branch = this.#branches.get(timeline);
    if (branch === undefined || startLsn < branch.wal.startLsn) return null;
    return endLsn > branch.wal.endLsn ? null : branch.wal.slice(startLsn, endLsn);
  }

  /** The last record end at or before `lsn`. */
  recordEndBefore(timeline: TimelineId, lsn: Lsn): Lsn {
    const { wal } = this.#branch(timeline);
    const found = wal.records.findLast(({ endLsn }) => endLsn <= lsn);
    return found?.endLsn ?? wal.startLsn;
  }

  isRecordEnd(timeline: TimelineId, lsn: Lsn): boolean {
    const branch = this.#branch(timeline);
    for (; branch.counted < branch.wal.records.length; branch.counted += 1) {
      branch.recordEnds.add(branch.wal.records[branch.counted]?.endLsn ?? 0n);
    }
    return branch.recordEnds.has(lsn) || lsn === branch.wal.startLsn;
  }

  noteMessageEnd(timeline: TimelineId, lsn: Lsn): void {
    this.#branch(timeline).messageEnds.add(lsn);
  }

  /** Where receivers may be told that something ends. */
  isMessageEnd(timeline: TimelineId, lsn: Lsn): boolean {
    if (lsn % BigInt(PAGE_SIZE) === 0n || this.isRecordEnd(timeline, lsn)) return true;
    return this.#branch(timeline).messageEnds.has(lsn);
  }

  /** True where `timeline` itself begins or was left by one that descends from it. */
  isSwitchPoint(timeline: TimelineId, lsn: Lsn): boolean {
    if (this.history(timeline).ancestors.at(-1)?.endLsn === lsn) return true;
    return [...this.#branches.values()].some(
      ({ wal }) => switchPoint(wal.history, timeline)?.endLsn === lsn,
    );
  }

  /** The timeline that a byte belongs to on the way to `timeline`. */
  timelineAt(timeline: TimelineId, lsn: Lsn): TimelineId {
    return timelineOfLsn(this.history(timeline), lsn);
  }

  #record(wal: WalFixture, size: number, random: Random): void {
    const fill = random.between(0, 255);
    wal.record({ xid: 700 + random.between(0, 50), body: Buffer.alloc(size, fill) });
  }

  #branch(timeline: TimelineId): Branch {
    const branch = this.#branches.get(timeline);
    if (branch === undefined) throw new Error(`no timeline ${timeline}`);
    return branch;
  }
}

function newBranch(wal: WalFixture): Branch {
  return {
    wal,
    recordEnds: new Set(),
    messageEnds: new Set(),
    shutdownEnds: new Set(),
    counted: 0,
  };
}

/** A position in a message. */
export function positionText(timeline: number, lsn: bigint): string {
  return `${timeline}:${formatLsn(toLsn(lsn))}`;
}
