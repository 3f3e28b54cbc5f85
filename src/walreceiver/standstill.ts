// Does the stream stand still, and what follows from it? Looks at the end of WAL from time to time, says when the other
// hosts are to be asked, and when one that has more is to be followed instead. Pure: times and ends in, what to do out.
import {
  STANDSTILL_AGAIN_MS_MAX,
  STANDSTILL_AVOID_MS,
  STANDSTILL_CONFIRM_MS,
  STANDSTILL_MS,
} from '../config/limits.ts';
import type { Lsn } from '../pg/lsn.ts';

/** What to do now: ask the other hosts, or go to the one that was found to have more. */
export type StandstillStep =
  | { readonly kind: 'none' | 'ask' }
  | { readonly kind: 'change'; readonly host: string };

/** Hosts that are remembered as not to be asked. */
const AVOIDED_MAX = 100;

const NOTHING: StandstillStep = { kind: 'none' };

/** The rule for one walreceiver, over all its streams. Times are milliseconds of the monotonic clock. */
export class Standstill {
  readonly #limitMs: () => number;
  /** Null while nothing streams. */
  #lookAtMs: number | null = null;
  #endLsn: Lsn | null = null;
  /** Looks in a row that found nothing new. */
  #stillLooks = 0;
  #isAsking = false;
  /** The host that has more than came from here. */
  #better: string | null = null;
  /** The host that was changed over to and has not streamed yet. */
  #chosen: string | null = null;
  readonly #avoidedUntilMs = new Map<string, number>();

  /** `limitMs`: how long a stream may bring nothing, as wal_receiver_timeout is now. */
  constructor(receiverTimeoutMs: () => number) {
    this.#limitMs = () => {
      const timeoutMs = receiverTimeoutMs();
      return timeoutMs === 0 ? STANDSTILL_MS : Math.min(STANDSTILL_MS, timeoutMs);
    };
  }

  /** WAL streams from `host`, beginning at `endLsn`. */
  began(host: string, endLsn: Lsn, nowMs: number): void {
    if (this.#chosen !== null && this.#chosen !== host) this.#avoid(this.#chosen, nowMs);
    if (this.#chosen === host) this.#avoidedUntilMs.delete(host);
    this.#chosen = null;
    this.#moved(endLsn, nowMs);
  }

  /** Nothing streams any more. */
  ended(): void {
    this.#lookAtMs = null;
    this.#better = null;
    this.#isAsking = false;
  }

  /** When to {@link look} next; null when there is nothing to look at. */
  nextLookAtMs(): number | null {
    return this.#isAsking ? null : this.#lookAtMs;
  }

  /** Whether the stream moved. `isExcused`: nothing could come, because we did not read. */
  look(endLsn: Lsn, isExcused: boolean, nowMs: number): StandstillStep {
    if (this.#lookAtMs === null || this.#isAsking || nowMs < this.#lookAtMs) return NOTHING;
    if (endLsn !== this.#endLsn || isExcused) {
      this.#moved(endLsn, nowMs);
      return NOTHING;
    }
    if (this.#better !== null) {
      this.#chosen = this.#better;
      this.#better = null;
      this.#lookAtMs = nowMs + this.#limitMs();
      return { kind: 'change', host: this.#chosen };
    }
    this.#isAsking = true;
    this.#stillLooks += 1;
    return { kind: 'ask' };
  }

  /** The others were asked: `better` has more than came from here, null when nobody has. */
  asked(better: string | null, nowMs: number): void {
    if (!this.#isAsking || this.#lookAtMs === null) return;
    this.#isAsking = false;
    this.#better = better;
    const limitMs = this.#limitMs();
    // From a server that is alive what others have arrives within this time; then it is not left.
    const confirmMs = Math.min(STANDSTILL_CONFIRM_MS, limitMs);
    const againMs = Math.min(
      STANDSTILL_AGAIN_MS_MAX,
      limitMs * 2 ** Math.min(this.#stillLooks, 20),
    );
    this.#lookAtMs = nowMs + (better === null ? Math.max(againMs, limitMs) : confirmMs);
  }

  /** False for a host that could not be followed a moment ago. */
  mayAsk(host: string, nowMs: number): boolean {
    return nowMs >= (this.#avoidedUntilMs.get(host) ?? 0);
  }

  #moved(endLsn: Lsn, nowMs: number): void {
    this.#endLsn = endLsn;
    this.#stillLooks = 0;
    this.#better = null;
    this.#isAsking = false;
    this.#lookAtMs = nowMs + this.#limitMs();
  }

  #avoid(host: string, nowMs: number): void {
    for (const [other, untilMs] of this.#avoidedUntilMs) {
      if (nowMs >= untilMs || this.#avoidedUntilMs.size >= AVOIDED_MAX) {
        this.#avoidedUntilMs.delete(other);
      }
    }
    this.#avoidedUntilMs.set(host, nowMs + STANDSTILL_AVOID_MS);
  }
}
