// How old is the WAL that comes from the upstream? How long messages travel, for how long the oldest WAL has been known that
// our own disk does not have, and, for the lag of standbys, since when the upstream has what is at a position.
import type { Clock } from '../base/clock.ts';
import { LAG_COMMIT_SAMPLES_MAX, LAG_WAL_SAMPLES_MAX } from '../config/limits.ts';
import { INVALID_LSN, maxLsn, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { unixMsFromPgTimestamp } from '../pg/timestamp.ts';
import type { PgTimestamp } from '../pg/timestamp.ts';
import type { UpstreamDelay } from '../status/status.ts';
import { CommitTimes, INSIDE_RECORD_BYTES } from '../syncrep/lag-commit-times.ts';
import type { WalAges } from '../syncrep/lag-end-to-end.ts';
import { SenderClock } from '../syncrep/lag-sender-clock.ts';
import { WalTimes } from '../syncrep/lag-wal-times.ts';
import { DurationCounter } from '../wal/duration-histogram.ts';

/** The commits that a walk over received WAL has met, as numbers that change in place. */
export interface SeenCommits {
  /** Halves of where the newest one begins, signed; both 0 before the first of this walk. */
  readonly commitAtHigh: number;
  readonly commitAtLow: number;
  /** Its time in microseconds of a PgTimestamp; null before the first, also before this walk. */
  readonly committedMicros: number | null;
}

/** Our own WAL, as far as it matters here. */
export interface ReceivedWal {
  positions(): { readonly flushedLsn: Lsn };
  /** End (exclusive) of the bytes that were taken. */
  nextLsn(): Lsn;
  /** Null for an empty store. */
  readonly walk: { recordEnd(): Lsn; readonly learned: SeenCommits } | null;
}

const TWO_TO_32 = 0x1_0000_0000;

/** Times of one upstream, over all its streams. */
export class UpstreamClock {
  readonly #clock: Clock;
  readonly #transit = new DurationCounter();
  readonly #sender = new SenderClock();
  readonly #wal = new WalTimes({ samplesMax: LAG_WAL_SAMPLES_MAX });
  readonly #commits = new CommitTimes({ samplesMax: LAG_COMMIT_SAMPLES_MAX });
  #store: ReceivedWal | null = null;
  /** Of the last message: the end that it names, when it was sent by the sender's clock, and by ours. */
  #knownLsn: Lsn = INVALID_LSN;
  #senderMs = 0;
  #sentMs = 0;
  /** The newest commit that was noted. */
  #commitHigh = 0;
  #commitLow = 0;
  /** The newest commit in what was stored at the start, by the primary's clock: how old it is shows with the first message. */
  #storedCommit: { readonly at: number; readonly committedMs: number } | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** For the lag of standbys. */
  get ages(): WalAges {
    return { wal: this.#wal, commits: this.#commits };
  }

  /**
   * A stream is about to begin with a server that has WAL up to `serverLsn` (exclusive). What an earlier one claimed beyond
   * that and did not deliver is not known to exist any more: after a failover it may never come.
   */
  startStream(serverLsn: Lsn): void {
    this.#sender.reset();
    this.#knownLsn = minLsn(this.#knownLsn, serverLsn);
    this.#noteEnd();
  }

  /** The store went on with another timeline at `switchLsn`: what was known beyond it was the old one's. */
  switched(switchLsn: Lsn): void {
    this.#knownLsn = minLsn(this.#knownLsn, switchLsn);
    this.#wal.cut(switchLsn);
    this.#noteEnd();
    this.#commits.cut(switchLsn);
    if (this.#storedCommit !== null && this.#storedCommit.at >= switchLsn)
      this.#storedCommit = null;
  }

  /**
   * A message came that names `walEnd` as the server's end of WAL; what it brings is not taken yet. A keepalive names what was
   * sent, which is less than was named before while the server has not sent all of that. (walsender.c:WalSndKeepalive)
   */
  observe(walEnd: Lsn, sendTime: PgTimestamp, isKeepalive = false): void {
    // A server whose clock is ahead of ours seems to be faster than light.
    const travelledMs = Math.max(0, this.#clock.wallMs() - unixMsFromPgTimestamp(sendTime));
    this.#transit.observe(travelledMs / 1000);
    this.#senderMs = Number(sendTime) / 1000;
    this.#sentMs = this.#sender.observe(this.#senderMs, this.#clock.nowMs());
    this.#knownLsn = isKeepalive ? maxLsn(this.#knownLsn, walEnd) : walEnd;
    if (this.#storedCommit !== null) this.#noteStoredCommit(this.#storedCommit);
    this.#noteEnd();
  }

  /** The WAL of the message that was observed last was taken. */
  taken(): void {
    this.#noteEnd();
    const learned = this.#store?.walk?.learned;
    if (learned === undefined) return;
    const { commitAtHigh, commitAtLow } = learned;
    if (commitAtLow === this.#commitLow && commitAtHigh === this.#commitHigh) return;
    this.#commitHigh = commitAtHigh;
    this.#commitLow = commitAtLow;
    this.#noteCommit(learned);
  }

  /** To be called before the first message. What `store` has is as old as our knowing of it: as now. */
  follow(store: ReceivedWal): void {
    this.#store = store;
    this.#knownLsn = store.nextLsn();
    this.#sentMs = this.#clock.nowMs();
    this.#noteEnd();
    const micros = store.walk?.learned.committedMicros ?? null;
    if (micros === null) return;
    const at = Number(this.#recordEnd()) - INSIDE_RECORD_BYTES;
    this.#storedCommit = { at, committedMs: micros / 1000 };
  }

  /** Both answers about ourselves, now. */
  delay(): UpstreamDelay {
    const flushedLsn = this.#store?.positions().flushedLsn ?? INVALID_LSN;
    const sinceMs = flushedLsn < this.#wal.endLsn ? this.#wal.sentAt(flushedLsn) : null;
    const lagMs = sinceMs === null ? 0 : Math.max(0, this.#clock.nowMs() - sinceMs);
    return { lagSeconds: lagMs / 1000, transit: this.#transit.snapshot() };
  }

  #recordEnd(): Lsn {
    return this.#store?.walk?.recordEnd() ?? INVALID_LSN;
  }

  #noteEnd(): void {
    const takenLsn = this.#store?.nextLsn() ?? INVALID_LSN;
    const knownLsn = this.#knownLsn;
    const recordEndLsn = knownLsn > takenLsn ? INVALID_LSN : this.#recordEnd();
    if (this.#wal.endLsn === INVALID_LSN) this.#commits.beginAt(this.#recordEnd());
    this.#wal.note({ recordEndLsn, takenLsn, knownLsn }, this.#sentMs);
  }

  #noteCommit({ commitAtHigh, commitAtLow, committedMicros }: SeenCommits): void {
    if (committedMicros === null || (commitAtHigh === 0 && commitAtLow === 0)) return;
    const position = (commitAtHigh >>> 0) * TWO_TO_32 + (commitAtLow >>> 0);
    this.#commits.note(position, this.#senderMs - committedMicros / 1000, this.#sentMs);
  }

  #noteStoredCommit(commit: { readonly at: number; readonly committedMs: number }): void {
    this.#storedCommit = null;
    this.#commits.note(commit.at, this.#senderMs - commit.committedMs, this.#sentMs);
  }
}
