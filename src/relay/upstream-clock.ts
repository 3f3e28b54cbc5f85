// How old is the WAL that comes from the upstream? Two answers: how long messages travel, and for how long the oldest
// WAL has been known that our own disk does not have.
import type { Clock } from '../base/clock.ts';
import { UPSTREAM_LAG_GROUP_MS, UPSTREAM_LAG_GROUPS_MAX } from '../config/limits.ts';
import { INVALID_LSN, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { unixMsFromPgTimestamp } from '../pg/timestamp.ts';
import type { PgTimestamp } from '../pg/timestamp.ts';
import type { UpstreamDelay } from '../status/status.ts';
import { DurationCounter } from '../wal/duration-histogram.ts';

/** Our own disk, as far as it matters here. */
export interface FlushedWal {
  positions(): { readonly flushedLsn: Lsn };
  onFlush(listener: () => void): void;
}

/** WAL that became known within a short time. */
interface Group {
  /** When its first byte became known, milliseconds of the monotonic clock. */
  readonly sinceMs: number;
  /** Exclusive. */
  endLsn: Lsn;
}

/** Times of one upstream, over all its streams. */
export class UpstreamClock {
  readonly #clock: Clock;
  readonly #transit = new DurationCounter();
  /** Oldest first, ends rising; what is flushed is taken off in front. */
  #pending: Group[] = [];
  #knownLsn: Lsn = INVALID_LSN;
  #flushedLsn: Lsn = INVALID_LSN;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * A stream is about to begin with a server that has WAL up to `serverLsn` (exclusive). What an earlier one claimed beyond
   * that and did not deliver is not known to exist any more: after a failover it may never come.
   */
  startStream(serverLsn: Lsn): void {
    const kept = this.#pending.filter((_, index) => this.#startOf(index) < serverLsn);
    this.#pending = kept.map(({ sinceMs, endLsn }) => ({
      sinceMs,
      endLsn: minLsn(endLsn, serverLsn),
    }));
    this.#knownLsn = minLsn(this.#knownLsn, serverLsn);
  }

  /** The store went on with another timeline at `switchLsn`: what was known beyond it was the old one's. */
  switched(switchLsn: Lsn): void {
    this.startStream(switchLsn);
    this.#flushedLsn = minLsn(this.#flushedLsn, switchLsn);
  }

  /** A message came that names `walEnd` as the server's end of WAL. */
  observe(walEnd: Lsn, sendTime: PgTimestamp): void {
    // A server whose clock is ahead of ours seems to be faster than light.
    const travelledMs = Math.max(0, this.#clock.wallMs() - unixMsFromPgTimestamp(sendTime));
    this.#transit.observe(travelledMs / 1000);
    if (walEnd <= this.#knownLsn) return;
    this.#knownLsn = walEnd;
    if (walEnd > this.#flushedLsn) this.#note(walEnd, this.#clock.nowMs());
  }

  /** To be called before the first message: what `store` has on the disk, now and later, is not missing. */
  follow(store: FlushedWal): void {
    const look = (): void => this.#flushed(store.positions().flushedLsn);
    store.onFlush(look);
    look();
  }

  /** Both answers, now. */
  delay(): UpstreamDelay {
    const oldest = this.#pending[0];
    const lagMs = oldest === undefined ? 0 : this.#clock.nowMs() - oldest.sinceMs;
    return { lagSeconds: lagMs / 1000, transit: this.#transit.snapshot() };
  }

  #flushed(lsn: Lsn): void {
    this.#flushedLsn = lsn;
    const first = this.#pending.findIndex(({ endLsn }) => endLsn > lsn);
    if (first !== 0) this.#pending.splice(0, first < 0 ? this.#pending.length : first);
  }

  /** Where the WAL of a group that is pending begins. */
  #startOf(index: number): Lsn {
    return this.#pending[index - 1]?.endLsn ?? this.#flushedLsn;
  }

  #note(walEnd: Lsn, nowMs: number): void {
    const last = this.#pending.at(-1);
    if (last !== undefined && nowMs - last.sinceMs < UPSTREAM_LAG_GROUP_MS) last.endLsn = walEnd;
    else this.#pending.push({ sinceMs: nowMs, endLsn: walEnd });
    if (this.#pending.length > UPSTREAM_LAG_GROUPS_MAX) this.#pending = halved(this.#pending);
  }
}

/** Two groups become one that is as old as the older of them: the age is then a little too high, never too low. */
function halved(groups: readonly Group[]): Group[] {
  const merged: Group[] = [];
  for (let index = 0; index < groups.length; index += 2) {
    const [older, newer] = [groups[index], groups[index + 1]];
    if (older !== undefined)
      merged.push({ sinceMs: older.sinceMs, endLsn: newer?.endLsn ?? older.endLsn });
  }
  return merged;
}
