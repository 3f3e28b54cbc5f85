// For how long does what an earlier process said upstream count after a restart?
import type { Clock } from '../base/clock.ts';
import { FEEDBACK_GRACE_MS } from '../config/limits.ts';
import type { Xmins } from '../pg/xmins.ts';
import type { FeedbackNoted } from './feedback-note.ts';

/** What an earlier process said last: counts until those who needed it are back, or had time to come. */
export class CarriedFeedback {
  readonly xmins: Xmins;
  readonly #clock: Clock;
  /** Null: it is not known who. */
  readonly #awaited: string[] | null;
  /** Counted from the first stream on, for only then anything is said; null before. */
  #untilMs: number | null = null;

  constructor({ xmins, standbys }: FeedbackNoted, clock: Clock) {
    this.xmins = xmins;
    this.#awaited = standbys === null ? null : [...standbys];
    this.#clock = clock;
  }

  /** Who is not back yet; null: not known. */
  get awaited(): readonly string[] | null {
    return this.#awaited;
  }

  /** A standby of that name has fed back, whatever it said. True when one of that name was waited for. */
  cameBack(name: string): boolean {
    const at = this.#awaited?.indexOf(name) ?? -1;
    if (at < 0) return false;
    this.#awaited?.splice(at, 1);
    return true;
  }

  /** One that was waited for is gone again: when it comes next, it must not pass for another one of that name. */
  wentAgain(name: string): void {
    this.#awaited?.push(name);
  }

  /** Asked for the first time, the time begins. */
  isOver(): boolean {
    const nowMs = this.#clock.nowMs();
    this.#untilMs ??= nowMs + FEEDBACK_GRACE_MS;
    return nowMs >= this.#untilMs || this.#awaited?.length === 0;
  }
}
