// Does somebody wait for WAL to be applied where nobody will? walcast itself applies nothing, and a standby of its policy may
// be a receiver that does not either; a commit that has to wait for that waits for ever. People are told when one is seen.
import type { Log } from '../base/log.ts';
import { formatLsn, INVALID_LSN, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { SyncPolicy } from '../syncrep/standby-names.ts';
import type { SyncQuorum } from '../syncrep/sync-standbys.ts';

/** What records said so far. */
export interface CommitFacts {
  /** Start of the last commit record whose session waits until standbys have applied it; null before the first. */
  readonly applyFeedbackLsn: Lsn | null;
}

/** Who is to confirm at this moment. */
export interface ApplySituation {
  readonly policy: SyncPolicy | null;
  readonly quorum: SyncQuorum;
}

/** The alarm of one relay: silent until such a commit is seen while nobody applies, then raised until somebody does. */
export class ApplyAlarm {
  readonly #log: Log;
  #detail: string | null = null;
  /** How far the chosen standbys have applied at least (exclusive). */
  #appliedLsn: Lsn = INVALID_LSN;
  /** The text of the policy for which it was said; null while nothing was. */
  #saidUnder: string | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  /** What people are told while it lasts; else null. */
  get detail(): string | null {
    return this.#detail;
  }

  /** To be called when WAL has arrived or who confirms has changed; costs nothing while it is raised, or somebody applies. */
  look(facts: () => CommitFacts, situation: ApplySituation): void {
    const { policy, quorum } = situation;
    if (policy !== null && !isAppliedByNobody(quorum)) {
      this.#appliedLsn = maxLsn(this.#appliedLsn, quorum.positions?.applyLsn ?? INVALID_LSN);
      this.#detail = null;
      return;
    }
    const text = policy?.text ?? '';
    if (this.#detail !== null && this.#saidUnder === text) return;
    const { applyFeedbackLsn: lsn } = facts();
    if (lsn === null || lsn < this.#appliedLsn) return;
    this.#detail = policy === null ? withoutPolicy(lsn) : underPolicy(lsn, policy);
    if (this.#saidUnder === text) return;
    this.#saidUnder = text;
    this.#log.error(this.#detail, { lsn: formatLsn(lsn) });
  }

  /** The policy is another one from now on. A commit that nobody has applied yet is told of anew. */
  policyChanged(): void {
    this.#detail = null;
    this.#saidUnder = null;
  }
}

/** Whether too few standbys are there is told elsewhere. */
function isAppliedByNobody({ positions }: SyncQuorum): boolean {
  return positions !== null && positions.applyLsn === INVALID_LSN;
}

function withoutPolicy(lsn: Lsn): string {
  return (
    `the commit at ${formatLsn(lsn)} waits for standbys to apply it (synchronous_commit = remote_apply), and walcast, which ` +
    'applies nothing, reports no apply position: where synchronous_standby_names of the upstream names walcast, such commits ' +
    'wait for ever. Set synchronous_commit to on there, or name standbys in synchronous_standby_names of walcast, or let that of ' +
    'the upstream name standbys that are connected directly.'
  );
}

function underPolicy(lsn: Lsn, policy: SyncPolicy): string {
  return (
    `the commit at ${formatLsn(lsn)} waits for standbys to apply it (synchronous_commit = remote_apply), and of those that ` +
    `synchronous_standby_names = '${policy.text}' chooses one or more report no apply position, as receivers do that only store WAL: such ` +
    'commits wait for ever. Name standbys that apply, or set synchronous_commit to on at the upstream.'
  );
}
