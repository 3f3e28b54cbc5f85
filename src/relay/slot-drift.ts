// Does the primary's slot for walcast fall so far behind that the primary may soon invalidate it? The slot follows what is
// reported as flushed, so under a policy it follows the standbys, not our own disk.
import type { Clock } from '../base/clock.ts';
import { LogBudget } from '../base/log-budget.ts';
import type { Log } from '../base/log.ts';
import { OTHERS_LOG_LINES } from '../config/limits.ts';
import { formatLsn, INVALID_LSN, lsnDistance } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';

const UNITS: Readonly<Record<string, number>> = { MB: 2 ** 20, GB: 2 ** 30, TB: 2 ** 40 };

/** Bytes of a max_slot_wal_keep_size as SHOW prints it; null for -1, which is no bound, and for what cannot be read. */
export function slotKeepBytes(text: string | undefined): number | null {
  const match = /^(\d{1,10})(MB|GB|TB)?$/.exec(text ?? '');
  return match === null ? null : Number(match[1]) * (UNITS[match[2] ?? 'MB'] ?? 0);
}

/** Our own end and what was promised. */
export interface SlotDriftFacts {
  /** Our slot there; null for none. */
  readonly slot: string | null;
  /** F. */
  readonly flushedLsn: Lsn;
  /** P; INVALID_LSN before anything was promised. */
  readonly promisedLsn: Lsn;
}

/** The alarm of one relay: raised while F and P are apart by more than half of what the primary keeps for a slot. */
export class SlotDriftAlarm {
  readonly #clock: Clock;
  readonly #log: Log;
  /** Under load, and where little is kept, it comes and goes with every commit. */
  readonly #lines = new LogBudget(OTHERS_LOG_LINES);
  #keepBytes: number | null = null;
  /** Where the slot stood before anything was promised. */
  #beginLsn: Lsn = INVALID_LSN;
  #detail: string | null = null;

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  /** What people are told while it lasts; else null. */
  get detail(): string | null {
    return this.#detail;
  }

  /**
   * A server was identified; `text` is its max_slot_wal_keep_size. `slotLsn`: restart_lsn of our slot there, or INVALID_LSN;
   * it stands then where the first stream began, at `receivedLsn`, as long as nothing is promised.
   */
  identified(text: string | undefined, at: { slotLsn: Lsn; receivedLsn: Lsn }): void {
    this.#keepBytes = slotKeepBytes(text);
    if (at.slotLsn !== INVALID_LSN) this.#beginLsn = at.slotLsn;
    else if (this.#beginLsn === INVALID_LSN) this.#beginLsn = at.receivedLsn;
  }

  /** Called for every report: cheap. */
  look({ slot, flushedLsn, promisedLsn }: SlotDriftFacts): void {
    const keepBytes = this.#keepBytes;
    const slotLsn = promisedLsn === INVALID_LSN ? this.#beginLsn : promisedLsn;
    const isKnown = slot !== null && keepBytes !== null && slotLsn !== INVALID_LSN;
    const driftBytes = flushedLsn > slotLsn ? lsnDistance(slotLsn, flushedLsn) : 0;
    if (!isKnown || driftBytes * 2 <= keepBytes) {
      this.#clear();
    } else if (this.#detail === null) {
      this.#detail =
        `replication slot "${slot}" of the upstream stands at ${formatLsn(slotLsn)}, as far as the standbys of synchronous_standby_names have ` +
        `confirmed, and our own disk has WAL up to ${formatLsn(flushedLsn)}: more than half of its max_slot_wal_keep_size, after which the upstream may ` +
        'invalidate the slot. Bring the standbys back, or change synchronous_standby_names.';
      const leftOut = this.#lines.take(this.#clock.nowMs());
      if (leftOut === null) return;
      this.#log.error(this.#detail, {
        slot,
        slot_lsn: formatLsn(slotLsn),
        flushed_lsn: formatLsn(flushedLsn),
        left_out: leftOut > 0 ? leftOut : null,
      });
    }
  }

  #clear(): void {
    if (this.#detail === null) return;
    this.#detail = null;
    const leftOut = this.#lines.take(this.#clock.nowMs());
    if (leftOut === null) return;
    this.#log.info("the upstream's slot has caught up with our own disk far enough again", {
      left_out: leftOut > 0 ? leftOut : null,
    });
  }
}
