// Asking the upstream about users: one question per name at a time, a bounded number of them, each with a deadline, and a
// pause after one that could not be asked.
import type { Clock } from '../base/clock.ts';
import { errorText, OperationalError, ProtocolViolation } from '../base/errors.ts';
import type { WalcastError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import {
  AUTH_OUTAGE_MS,
  AUTH_QUESTION_MS_MAX,
  AUTH_QUESTIONS_MAX,
  AUTH_RETRY_MS,
} from '../config/limits.ts';
import type { UserRows } from './user-row.ts';

/** Asks the upstream about a user. Rejects with a WalcastError when it cannot be asked, and soon after `signal`. */
export type AskUpstream = (name: string, signal: AbortSignal) => Promise<UserRows>;

/** What came back; `reason` says why the upstream could not be asked, for the log; `isOut`: it is away. */
export type Told =
  | { readonly rows: UserRows }
  | { readonly reason: string; readonly isOut: boolean };

/** What questions need. */
export interface UserQuestionsParts {
  readonly ask: AskUpstream;
  readonly clock: Clock;
  readonly log: Log;
}

interface Question {
  readonly abort: AbortController;
  readonly told: Promise<Told>;
}

/** The questions of one relay. */
export class UserQuestions {
  readonly #parts: UserQuestionsParts;
  readonly #running = new Map<string, Question>();
  #outage: string | null = null;
  #failedAtMs = Number.NEGATIVE_INFINITY;

  constructor(parts: UserQuestionsParts) {
    this.#parts = parts;
  }

  /** Why the last question could not be asked a moment ago; null when it was, or there was none: whether it can now, nobody knows. */
  get outage(): string | null {
    const isFresh = this.#parts.clock.nowMs() - this.#failedAtMs < AUTH_OUTAGE_MS;
    return isFresh ? this.#outage : null;
  }

  /**
   * Asks about `name`, or waits for the answer that is on its way. Never rejects for what an upstream does. `isKnown`: a user
   * that was found before, who is asked about besides {@link AUTH_QUESTIONS_MAX}; the caller bounds how many there are.
   */
  ask(name: string, { isKnown }: { readonly isKnown: boolean }): Promise<Told> {
    const running = this.#running.get(name);
    if (running !== undefined) return running.told;
    const refusal = this.#refusal(isKnown);
    if (refusal !== null) return Promise.resolve({ reason: refusal, isOut: this.outage !== null });
    const abort = new AbortController();
    const told = this.#run(name, abort);
    this.#running.set(name, { abort, told });
    return told;
  }

  /** What is being asked is answered at once with a reason, and the next question is asked whatever came of those before. */
  abandon(): void {
    for (const { abort } of this.#running.values()) {
      abort.abort(new OperationalError(ABANDONED, 'the upstream is asked in another way by now'));
    }
    this.#running.clear();
    this.#outage = null;
    this.#failedAtMs = Number.NEGATIVE_INFINITY;
  }

  /** Strangers must not keep the news from us that a user is none any more. */
  #refusal(isKnown: boolean): string | null {
    if (!isKnown && this.#running.size >= AUTH_QUESTIONS_MAX) {
      return `${AUTH_QUESTIONS_MAX} users are being asked for already`;
    }
    return this.#parts.clock.nowMs() < this.#failedAtMs + AUTH_RETRY_MS ? this.#outage : null;
  }

  async #run(name: string, abort: AbortController): Promise<Told> {
    const { ask, clock } = this.#parts;
    const { signal } = abort;
    const timer = clock.setTimer(AUTH_QUESTION_MS_MAX, () => {
      abort.abort(
        new OperationalError(
          'AUTH_QUERY_TIMEOUT',
          `no answer within ${AUTH_QUESTION_MS_MAX / 1_000} s`,
        ),
      );
    });
    try {
      const rows = await Promise.race([rejectedBy(signal), ask(name, signal)]);
      this.#answered();
      return { rows };
    } catch (error) {
      // Something that we got wrong is ours to crash on.
      if (!(error instanceof OperationalError || error instanceof ProtocolViolation)) throw error;
      return this.#failed(error);
    } finally {
      timer.cancel();
      if (this.#running.get(name)?.abort === abort) this.#running.delete(name);
    }
  }

  #answered(): void {
    if (this.#outage !== null) this.#parts.log.info('auth_query: the upstream answers again');
    this.#outage = null;
  }

  #failed(error: WalcastError): Told {
    const reason = errorText(error);
    if (error.code === ABANDONED) return { reason, isOut: false };
    if (this.#outage === null) {
      this.#parts.log.warn(
        'auth_query: the upstream could not be asked about a user; who logged in before is let in by the last answer until it can',
        { reason, code: error.code },
      );
    }
    this.#outage = reason;
    this.#failedAtMs = this.#parts.clock.nowMs();
    return { reason, isOut: true };
  }
}

const ABANDONED = 'AUTH_QUERY_ABANDONED';

/** Rejects with the signal's reason; never resolves. */
function rejectedBy(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
