// How far is a standby behind the upstream in time? For each stage what its newest confirmation took, or the age of the
// oldest WAL that it has not confirmed, where that is more: PostgreSQL's figure stands still while a standby is silent, this
// one does not. Pure. Times are milliseconds of our monotonic clock.
import { INVALID_LSN, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { CommitTimes } from './lag-commit-times.ts';
import { LAG_HEADS } from './lag-tracker.ts';
import type { LagHead } from './lag-tracker.ts';
import type { WalTimesView } from './lag-wal-times.ts';

/** A standby that had everything for so long is idle: what its last confirmation took says nothing about now. */
export const LAG_IDLE_MS = 1_000;

/** What is known of the age of WAL, for all standbys. */
export interface WalAges {
  readonly wal: WalTimesView;
  readonly commits: Pick<CommitTimes, 'ageMs'>;
}

/** One stage of one stream. */
export class EndToEndStage {
  #confirmedLsn: Lsn = INVALID_LSN;
  #tookMs = 0;
  #confirmedAtMs = Number.NEGATIVE_INFINITY;

  /**
   * The standby confirms everything before `lsn`; INVALID_LSN: it does not report this stage. The first word of a stream is
   * where it stands, and no measure: it may have got there an hour ago.
   */
  confirm(lsn: Lsn, nowMs: number, times: WalTimesView): void {
    const before = this.#confirmedLsn;
    if (lsn === before) return;
    this.#confirmedLsn = lsn;
    if (before === INVALID_LSN || lsn < before) return;
    // Half a record behind the last whole one is nothing that was waited for.
    const wholeLsn = minLsn(lsn, times.endLsn);
    if (wholeLsn <= before) return;
    const sentMs = times.sentBefore(wholeLsn);
    if (sentMs === null) return;
    this.#tookMs = Math.max(0, nowMs - sentMs);
    this.#confirmedAtMs = nowMs;
  }

  /** What it has confirmed, as far as that counts; INVALID_LSN: nothing. */
  get confirmedLsn(): Lsn {
    return this.#confirmedLsn;
  }

  /** Nothing beyond `lsn` was confirmed on the timeline that is left there. */
  cut(lsn: Lsn): void {
    if (lsn < this.#confirmedLsn) this.#confirmedLsn = lsn;
  }

  /** Milliseconds; 0 when it has everything and is idle, null where it never reported, or nothing is known of the WAL. */
  lagMs(nowMs: number, times: WalTimesView): number | null {
    const lsn = this.#confirmedLsn;
    if (lsn === INVALID_LSN || times.endLsn === INVALID_LSN) return null;
    const missingSinceMs = lsn < times.endLsn ? times.sentAt(lsn) : null;
    // What it confirmed before a time in which it had everything is over.
    const hadEverythingUntilMs = missingSinceMs ?? nowMs;
    const isIdle = hadEverythingUntilMs - this.#confirmedAtMs > LAG_IDLE_MS;
    const tookMs = isIdle ? 0 : this.#tookMs;
    return Math.max(tookMs, missingSinceMs === null ? 0 : nowMs - missingSinceMs);
  }
}

/** The stages of one stream. */
export class EndToEndStages {
  readonly #times: WalTimesView;
  readonly #stages: Readonly<Record<LagHead, EndToEndStage>> = {
    write: new EndToEndStage(),
    flush: new EndToEndStage(),
    apply: new EndToEndStage(),
  };

  constructor(times: WalTimesView) {
    this.#times = times;
  }

  /** See {@link EndToEndStage.confirm}. */
  confirm(head: LagHead, lsn: Lsn, nowMs: number): void {
    this.#stages[head].confirm(lsn, nowMs, this.#times);
  }

  /** See {@link EndToEndStage.confirmedLsn}. */
  confirmedLsn(head: LagHead): Lsn {
    return this.#stages[head].confirmedLsn;
  }

  /** See {@link EndToEndStage.cut}. */
  cut(lsn: Lsn): void {
    for (const head of LAG_HEADS) this.#stages[head].cut(lsn);
  }

  /** Seconds; see {@link EndToEndStage.lagMs}. */
  seconds(head: LagHead, nowMs: number): number | null {
    const lagMs = this.#stages[head].lagMs(nowMs, this.#times);
    return lagMs === null ? null : lagMs / 1000;
  }
}
