// How long ago was the WAL made sendable that a standby now says it has written, flushed or applied?
// (walsender.c:LagTrackerWrite, LagTrackerRead) Pure: positions and times in, elapsed times out.
import { INVALID_LSN, toLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';

/** The positions a lag is kept for. (NUM_SYNC_REP_WAIT_MODE) */
export const LAG_HEADS = ['write', 'flush', 'apply'] as const;
export type LagHead = (typeof LAG_HEADS)[number];

/** Samples kept for one standby. (LAG_TRACKER_BUFFER_SIZE) */
export const LAG_SAMPLES_MAX = 8192;

const LAG_SAMPLES_START = 64;

interface Sample {
  readonly lsn: Lsn;
  readonly timeMs: number;
}

/** One reader of the ring. `next` counts samples since the start, like the write end. */
interface ReadHead {
  next: number;
  /** Set while the ring had no room for this reader's place: its sample waits here. */
  overflowed: Sample | null;
  /** The sample passed last, for interpolation; null when the reader has caught up. */
  lastRead: Sample | null;
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
    if (head.overflowed !== null) {
      if (head.overflowed.lsn > lsn) return elapsed(head.overflowed.timeMs, nowMs);
      timeMs = head.overflowed.timeMs;
      head.lastRead = head.overflowed;
      head.overflowed = null;
      head.next = this.#oldest();
    }
    while (head.next < this.#written) {
      const sample = this.#sample(head.next);
      if (sample.lsn > lsn) break;
      timeMs = sample.timeMs;
      head.lastRead = sample;
      head.next += 1;
    }
    const lastRead = head.lastRead;
    // A standby that has everything must not be measured by this sample when the next burst begins.
    if (head.next === this.#written) head.lastRead = null;
    if (timeMs !== null) return elapsed(timeMs, nowMs);
    if (head.next === this.#written) return null;
    return elapsedTowards(lastRead, this.#sample(head.next), { lsn, nowMs });
  }

  #isFull(): boolean {
    return LAG_HEADS.some((name) => {
      const head = this.#heads[name];
      return head.overflowed === null && this.#written - head.next >= this.#lsns.length - 1;
    });
  }

  #detachSlowest(): void {
    for (const name of LAG_HEADS) {
      const head = this.#heads[name];
      if (head.overflowed === null && this.#written - head.next >= this.#lsns.length - 1) {
        head.overflowed = this.#sample(head.next);
      }
    }
  }

  #oldest(): number {
    return Math.max(0, this.#written - (this.#lsns.length - 1));
  }

  #sample(position: number): Sample {
    const index = position % this.#lsns.length;
    return { lsn: toLsn(this.#lsns[index] ?? 0n), timeMs: this.#times[index] ?? 0 };
  }

  #resize(capacity: number): void {
    const lsns = new BigUint64Array(capacity);
    const times = new Float64Array(capacity);
    for (let position = this.#oldest(); position < this.#written; position += 1) {
      const sample = this.#sample(position);
      lsns[position % capacity] = sample.lsn;
      times[position % capacity] = sample.timeMs;
    }
    this.#lsns = lsns;
    this.#times = times;
  }
}

function newHead(): ReadHead {
  return { next: 0, overflowed: null, lastRead: null };
}

function elapsed(timeMs: number, nowMs: number): number | null {
  return timeMs > nowMs ? null : nowMs - timeMs;
}

/** The standby stands between two samples: the time of its place is guessed from its share of the way. */
function elapsedTowards(
  previous: Sample | null,
  next: Sample,
  at: { lsn: Lsn; nowMs: number },
): number | null {
  if (previous === null) return elapsed(next.timeMs, at.nowMs);
  if (at.lsn < previous.lsn || previous.timeMs > next.timeMs) return null;
  const share = Number(at.lsn - previous.lsn) / Number(next.lsn - previous.lsn);
  return elapsed(previous.timeMs + (next.timeMs - previous.timeMs) * share, at.nowMs);
}
