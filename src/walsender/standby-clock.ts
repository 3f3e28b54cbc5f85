// When is a silent standby asked, when given up, and when does a reply that asks get its answer? Pure: times in,
// what to do out. (walsender.c:WalSndKeepaliveIfNecessary, WalSndCheckTimeOut, WalSndComputeSleeptime)
import { KEEPALIVE_ANSWER_INTERVAL_MS, TIMEOUT_SECOND_LOOK_MS } from '../config/limits.ts';

/** What a tick asks for. `ping`: a keepalive that asks for a reply; `answer`: one that does not. */
export type ClockAction = 'none' | 'ping' | 'answer' | 'timeout';

/** The timing of one stream. All times are milliseconds of the monotonic clock. */
export class StandbyClock {
  readonly #timeoutMs: number;
  #lastMessageMs: number;
  /** When the question was sent that has not been answered; null when there is none. */
  #pingedAtMs: number | null = null;
  #timedOutAtMs: number | null = null;
  #answeredAtMs = Number.NEGATIVE_INFINITY;
  #owesAnswer = false;

  /** `timeoutMs` 0: never. Silence counts from now on. */
  constructor(options: { timeoutMs: number; nowMs: number }) {
    this.#timeoutMs = options.timeoutMs;
    this.#lastMessageMs = options.nowMs;
  }

  /** When the standby was heard last; the beginning of the stream before its first message. */
  get lastMessageMs(): number {
    return this.#lastMessageMs;
  }

  /** Any CopyData or CopyDone has been processed. */
  onMessage(nowMs: number): void {
    this.#lastMessageMs = nowMs;
    this.#pingedAtMs = null;
    this.#timedOutAtMs = null;
  }

  /** A sign of life is wanted before its time. True: send the question now; false: one is out already. */
  onProbe(nowMs: number): boolean {
    if (this.#pingedAtMs !== null) return false;
    this.#pingedAtMs = nowMs;
    return true;
  }

  /** A reply asked for an answer. True: send it now; false: it is owed, a later tick says when. */
  onReplyRequested(nowMs: number, canAnswer: boolean): boolean {
    this.#owesAnswer = true;
    return canAnswer && this.#takeAnswer(nowMs);
  }

  /** `canAnswer` is false while an earlier answer still waits in the socket. Call again until it says `none`. */
  tick(nowMs: number, canAnswer: boolean): ClockAction {
    if (this.#isTimedOut(nowMs)) return 'timeout';
    if (canAnswer && this.#owesAnswer && this.#takeAnswer(nowMs)) return 'answer';
    if (this.#timeoutMs > 0 && this.#pingedAtMs === null && nowMs >= this.#pingAtMs()) {
      this.#pingedAtMs = nowMs;
      return 'ping';
    }
    return 'none';
  }

  /** When to tick next; infinity when there is nothing to wait for. An answer that cannot be given now waits for the socket, not for the clock. */
  nextTickMs(canAnswer: boolean): number {
    const isAnswerDue = this.#owesAnswer && canAnswer;
    const answerAt = isAnswerDue
      ? this.#answeredAtMs + KEEPALIVE_ANSWER_INTERVAL_MS
      : Number.POSITIVE_INFINITY;
    if (this.#timeoutMs === 0) return answerAt;
    if (this.#timedOutAtMs !== null) {
      return Math.min(answerAt, this.#timedOutAtMs + TIMEOUT_SECOND_LOOK_MS);
    }
    return Math.min(answerAt, this.#pingedAtMs === null ? this.#pingAtMs() : this.#timeoutAtMs());
  }

  #takeAnswer(nowMs: number): boolean {
    if (nowMs < this.#answeredAtMs + KEEPALIVE_ANSWER_INTERVAL_MS) return false;
    this.#answeredAtMs = nowMs;
    this.#owesAnswer = false;
    return true;
  }

  /**
   * Time that passed while we did not run is not the standby's silence. Nobody is given up who was not asked; and when the
   * timeout is first seen to have passed, what lies unread in the socket gets a moment to be processed.
   */
  #isTimedOut(nowMs: number): boolean {
    if (this.#timeoutMs === 0 || nowMs < this.#timeoutAtMs()) return false;
    this.#timedOutAtMs ??= nowMs;
    return nowMs >= this.#timedOutAtMs + TIMEOUT_SECOND_LOOK_MS;
  }

  #pingAtMs(): number {
    return this.#lastMessageMs + this.#timeoutMs / 2;
  }

  /** An answer has half of the timeout, however late the question was sent. Infinity before there was one. */
  #timeoutAtMs(): number {
    if (this.#pingedAtMs === null) return Number.POSITIVE_INFINITY;
    return Math.max(this.#lastMessageMs + this.#timeoutMs, this.#pingedAtMs + this.#timeoutMs / 2);
  }
}
