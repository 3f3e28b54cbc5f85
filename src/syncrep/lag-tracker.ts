// How long ago was the WAL made sendable that a standby now says it has written, flushed or applied?
// (walsender.c:LagTrackerWrite, LagTrackerRead) Pure: positions and times in, elapsed times out.
import { INVALID_LSN, lsnDistance, toLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';

/** The positions a lag is kept for. (NUM_SYNC_REP_WAIT_MODE) */
export const LAG_HEADS = ['write', 'flush', 'apply'] as const;
export type LagHead = (typeof LAG_HEADS)[number];

/** Samples kept for one standby. (LAG_TRACKER_BUFFER_SIZE) */
export const LAG_SAMPLES_MAX = 8192;

const LAG_SAMPLES_START = 64;

/** One reader of the ring, and up to two samples of its own. */
interface ReadHead {
  next: number;
  /** While the ring had no room for this reader's place: its sample waits here. */
  isOverflowed: boolean;
  overflowLsn: Lsn;
  overflowMs: number;
  /** The sample passed last, for interpolation; none when the reader has caught up. */
  hasLastRead: boolean;
  lastLsn: Lsn;
  lastMs: number;
}

/** The samples of one standby. Times are milliseconds of a monotonic clock. Small until the standby falls behind. */
export class LagTracker {
  #lsns = new BigUint64Array(LAG_SAMPLES_START);
  #times = new Float64Array(LAG_SAMPLES_START);
  #written = 0;
  #lastLsn: Lsn = INVALID_LSN;
  readonly #capacityMax: number;
  readonly #heads: Record<LagHead, ReadHead> = {
    write: newHead(),
    flush: newHead(),
    apply: newHead(),
  };

  constructor(options: { samplesMax?: number } = {}) {
    this.#capacityMax = options.samplesMax ?? LAG_SAMPLES_MAX;
    if (this.#capacityMax < LAG_SAMPLES_START) this.#resize(this.#capacityMax);
  }

  /** Notes that everything up to `lsn` (exclusive) could be sent from `nowMs` on. The same end again changes nothing. */
  write(lsn: Lsn, nowMs: number): void {
    if (this.#lastLsn === lsn) return;
    this.#lastLsn = lsn;
    if (this.#isFull() && this.#lsns.length < this.#capacityMax) {
      this.#resize(Math.min(this.#lsns.length * 2, this.#capacityMax));
    }
    while (this.#isFull()) this.#detachSlowest();
    const index = this.#written % this.#lsns.length;
    this.#lsns[index] = lsn;
    this.#times[index] = nowMs;
    this.#written += 1;
  }

  /** Milliseconds since `lsn`, which the standby now reports for `name`, could be sent; null when nothing new is known. */
  read(name: LagHead, lsn: Lsn, nowMs: number): number | null {
    const head = this.#heads[name];
    let timeMs: number | null = null;
    if (head.isOverflowed) {
      if (head.overflowLsn > lsn) return elapsed(head.overflowMs, nowMs);
      timeMs = head.overflowMs;
      passed(head, head.overflowLsn, head.overflowMs);
      head.isOverflowed = false;
      head.next = this.#oldest();
    }
    while (head.next < this.#written) {
      const sampleLsn = this.#lsnAt(head.next);
      if (sampleLsn > lsn) break;
      timeMs = this.#timeAt(head.next);
      passed(head, sampleLsn, timeMs);
      head.next += 1;
    }
    const hasLastRead = head.hasLastRead;
    // A standby that has everything must not be measured by this sample when the next burst begins.
    if (head.next === this.#written) head.hasLastRead = false;
    if (timeMs !== null) return elapsed(timeMs, nowMs);
    if (head.next === this.#written) return null;
    if (!hasLastRead) return elapsed(this.#timeAt(head.next), nowMs);
    return this.#elapsedTowardsNext(head, lsn, nowMs);
  }

  /** The standby stands between two samples: the time of its place is guessed from its share of the way. */
  #elapsedTowardsNext(head: ReadHead, lsn: Lsn, nowMs: number): number | null {
    const { lastLsn, lastMs } = head;
    const nextMs = this.#timeAt(head.next);
    if (lsn < lastLsn || lastMs > nextMs) return null;
    const share = lsnDistance(lastLsn, lsn) / lsnDistance(lastLsn, this.#lsnAt(head.next));
    return elapsed(lastMs + (nextMs - lastMs) * share, nowMs);
  }

  #isFull(): boolean {
    const { write, flush, apply } = this.#heads;
    return this.#holdsUp(write) || this.#holdsUp(flush) || this.#holdsUp(apply);
  }

  /** The ring has no room behind what this reader has not read. */
  #holdsUp(head: ReadHead): boolean {
    return !head.isOverflowed && this.#written - head.next >= this.#lsns.length - 1;
  }

  #detachSlowest(): void {
    for (const name of LAG_HEADS) {
      const head = this.#heads[name];
      if (!this.#holdsUp(head)) continue;
      head.isOverflowed = true;
      head.overflowLsn = this.#lsnAt(head.next);
      head.overflowMs = this.#timeAt(head.next);
    }
  }

  #oldest(): number {
    return Math.max(0, this.#written - (this.#lsns.length - 1));
  }

  #lsnAt(position: number): Lsn {
    return toLsn(this.#lsns[position % this.#lsns.length] ?? 0n);
  }

  #timeAt(position: number): number {
    return this.#times[position % this.#times.length] ?? 0;
  }

  #resize(capacity: number): void {
    const lsns = new BigUint64Array(capacity);
    const times = new Float64Array(capacity);
    for (let position = this.#oldest(); position < this.#written; position += 1) {
      lsns[position % capacity] = this.#lsnAt(position);
      times[position % capacity] = this.#timeAt(position);
    }
    this.#lsns = lsns;
    this.#times = times;
  }
}

function newHead(): ReadHead {
  return {
    next: 0,
    isOverflowed: false,
    overflowLsn: INVALID_LSN,
    overflowMs: 0,
    hasLastRead: false,
    lastLsn: INVALID_LSN,
    lastMs: 0,
  };
}

function passed(head: ReadHead, lsn: Lsn, timeMs: number): void {
  head.hasLastRead = true;
  head.lastLsn = lsn;
  head.lastMs = timeMs;
}

function elapsed(timeMs: number, nowMs: number): number | null {
  return timeMs > nowMs ? null : nowMs - timeMs;
}
