// Does a standby confirm nothing more although there is more for it? Pure: what it confirmed and where WAL ends, once a
// tick, in; when that begins and ends, out.
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';

/** What a tick found: the standby has stalled now, or goes on again. */
export type StallChange = 'none' | 'stalled' | 'resumed';

/** What is known at a tick; LSNs are exclusive ends. */
export interface StallSample {
  /** Monotonic. */
  readonly nowMs: number;
  /** What the standby confirms for good; INVALID_LSN before its first reply. */
  readonly confirmedLsn: Lsn;
  /** All there is for it. */
  readonly endLsn: Lsn;
}

/** One stream, from its start on. */
export class StandbyStall {
  readonly #limitMs: number;
  readonly #tickMs: number;
  #confirmedLsn: Lsn = INVALID_LSN;
  #lastTickMs: number;
  #withoutProgressMs = 0;
  #isStalled = false;

  /** `limitMs`: how long nothing may be confirmed; `tickMs`: how often it is looked. */
  constructor(options: { limitMs: number; tickMs: number; nowMs: number }) {
    this.#limitMs = options.limitMs;
    this.#tickMs = options.tickMs;
    this.#lastTickMs = options.nowMs;
  }

  get isStalled(): boolean {
    return this.#isStalled;
  }

  /** How long nothing more has been confirmed although there was more, milliseconds; 0 while all is well. */
  get withoutProgressMs(): number {
    return this.#withoutProgressMs;
  }

  /** A confirmation that goes back, as at a switch of the timeline, is where progress is counted from then on. */
  tick(sample: StallSample): StallChange {
    const { nowMs, confirmedLsn, endLsn } = sample;
    // Time in which we did not run is nobody's fault: a tick that comes late counts for one and a bit.
    const elapsedMs = Math.min(nowMs - this.#lastTickMs, 2 * this.#tickMs);
    this.#lastTickMs = nowMs;
    const hasMoved = confirmedLsn > this.#confirmedLsn;
    this.#confirmedLsn = confirmedLsn;
    if (hasMoved || confirmedLsn >= endLsn) {
      this.#withoutProgressMs = 0;
      return this.#set(false);
    }
    this.#withoutProgressMs += elapsedMs;
    return this.#set(this.#isStalled || this.#withoutProgressMs >= this.#limitMs);
  }

  #set(isStalled: boolean): StallChange {
    if (isStalled === this.#isStalled) return 'none';
    this.#isStalled = isStalled;
    return isStalled ? 'stalled' : 'resumed';
  }
}
