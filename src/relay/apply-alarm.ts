// Does somebody wait for walcast to apply WAL? It never does, so a commit that has to wait for that waits for ever; people
// are told when the first one is seen.
import type { Log } from '../base/log.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';

/** What records said so far. */
export interface CommitFacts {
  /** Start of the last commit record whose session waits until standbys have applied it; null before the first. */
  readonly applyFeedbackLsn: Lsn | null;
}

/** The alarm of one relay: silent until the first such commit, then raised once. */
export class ApplyAlarm {
  readonly #log: Log;
  #detail: string | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  /** What people are told from then on; null before. */
  get detail(): string | null {
    return this.#detail;
  }

  /** To be called when WAL has arrived; costs nothing after the alarm. */
  look(facts: () => CommitFacts): void {
    if (this.#detail !== null) return;
    const { applyFeedbackLsn: lsn } = facts();
    if (lsn === null) return;
    this.#detail =
      `the commit at ${formatLsn(lsn)} waits for standbys to apply it (synchronous_commit = remote_apply), and walcast, which ` +
      'applies nothing, reports no apply position: where synchronous_standby_names of the upstream names walcast, such commits ' +
      'wait for ever. Set synchronous_commit to on there, or let synchronous_standby_names name standbys that are connected directly.';
    this.#log.error(this.#detail, { lsn: formatLsn(lsn) });
  }
}
