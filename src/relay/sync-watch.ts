// Are enough standbys there for the policy, since when, and how long were they not? Every change is one line in the log and
// counts once: commits wait, or wait for somebody else, while it is not so.
import type { Clock } from '../base/clock.ts';
import { LogBudget } from '../base/log-budget.ts';
import type { Log } from '../base/log.ts';
import { OTHERS_LOG_LINES } from '../config/limits.ts';
import type { SyncPolicy } from '../syncrep/standby-names.ts';
import type { SyncQuorum } from '../syncrep/sync-standbys.ts';

/** The figures of one relay. */
export class SyncWatch {
  readonly #clock: Clock;
  readonly #log: Log;
  #isSatisfied = true;
  #policyText: string | null = null;
  #changes = 0;
  #sinceMs: number;
  #sinceWallMs: number;
  #unsatisfiedMs = 0;
  #isEnding = false;
  /** A standby that takes its word back with every message could fill a disk with lines. */
  readonly #lines = new LogBudget(OTHERS_LOG_LINES);

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
    this.#sinceMs = clock.nowMs();
    this.#sinceWallMs = clock.wallMs();
  }

  /** How often it has changed. That too few are there when walcast starts, or for a new policy, is no change by itself. */
  get changes(): number {
    return this.#changes;
  }

  /** Milliseconds since the Unix epoch. */
  get sinceMs(): number {
    return this.#sinceWallMs;
  }

  get unsatisfiedSeconds(): number {
    const current = this.#isSatisfied ? 0 : this.#clock.nowMs() - this.#sinceMs;
    return (this.#unsatisfiedMs + current) / 1000;
  }

  /** What was decided just now. */
  look(quorum: SyncQuorum, policy: SyncPolicy | null): void {
    const isFirst = this.#policyText === null;
    const text = policy?.text ?? '';
    const isSame = text === this.#policyText;
    if (isSame && quorum.isSatisfied === this.#isSatisfied) return;
    this.#policyText = text;
    if (quorum.isSatisfied !== this.#isSatisfied) this.#turn(quorum.isSatisfied, isFirst);
    else if (isFirst) return;
    this.#say(quorum, policy);
  }

  /** The standbys are being sent away: that they go is no trouble. */
  ending(): void {
    this.#isEnding = true;
  }

  #turn(isSatisfied: boolean, isFirst: boolean): void {
    const nowMs = this.#clock.nowMs();
    if (!this.#isSatisfied) this.#unsatisfiedMs += nowMs - this.#sinceMs;
    this.#isSatisfied = isSatisfied;
    this.#sinceMs = nowMs;
    this.#sinceWallMs = this.#clock.wallMs();
    if (!isFirst) this.#changes += 1;
  }

  #say({ isSatisfied, eligible }: SyncQuorum, policy: SyncPolicy | null): void {
    const leftOut = this.#lines.take(this.#clock.nowMs());
    if (leftOut === null) return;
    const fields = {
      synchronous_standby_names: policy?.text ?? '',
      required_standbys: policy?.required ?? 0,
      eligible_standbys: eligible,
      left_out: leftOut > 0 ? leftOut : null,
    };
    if (isSatisfied) {
      this.#log.info(policy === null ? NO_POLICY : SATISFIED, fields);
    } else if (this.#isEnding || this.#changes === 0) {
      this.#log.info(UNSATISFIED, fields);
    } else {
      this.#log.warn(UNSATISFIED, fields);
    }
  }
}

const NO_POLICY =
  'no synchronous_standby_names: what is on our own disk is reported upstream as flushed';

const SATISFIED =
  'synchronous_standby_names is satisfied: what the chosen standbys have flushed is reported upstream';

const UNSATISFIED =
  'synchronous_standby_names is not satisfied, too few of its standbys stream: no flush position is reported upstream, so ' +
  'that commits which wait for walcast wait, or take the next standby in the list of the primary';
