// Commits that wait for synchronous standbys, and how a primary decides that they have waited enough.
// (src/backend/replication/syncrep.c: SyncRepReleaseWaiters, SyncRepGetSyncRecPtr, SyncRepGetCandidateStandbys)
import type { TimelineId } from '../../../src/pg/timeline.ts';
import { priorityOf } from '../sync-policy.ts';
import type { SyncPolicy } from '../sync-policy.ts';

/** What of a standby a commit waits for: `remote_write`, `on`, `remote_apply`. */
export const KINDS = ['write', 'flush', 'apply'] as const;
export type Kind = (typeof KINDS)[number];

/** One that waits. */
export interface WaitingCommit {
  readonly timeline: TimelineId;
  /** Where its record ends. */
  readonly lsn: bigint;
  readonly kind: Kind;
  readonly sinceMs: number;
}

/** A walsender as the rule looks at it. */
export interface SyncCandidate {
  readonly applicationName: string;
  /** Index of the walsender: the lowest that was free. */
  readonly place: number;
  /** It had caught up once. */
  readonly isStreaming: boolean;
  readonly reported: Readonly<Record<Kind, bigint>>;
}

/** Told of each commit whose client is told. */
export type ReleaseListener = (commit: WaitingCommit, by: readonly string[]) => void;

/** Those of one primary. */
export class SyncCommits {
  waiting: WaitingCommit[] = [];
  policy: SyncPolicy;
  readonly #onReleased: ReleaseListener;
  #confirmed: Record<Kind, bigint> = { write: 0n, flush: 0n, apply: 0n };

  constructor(policy: SyncPolicy, onReleased: ReleaseListener) {
    this.policy = policy;
    this.#onReleased = onReleased;
  }

  /** The server ended, or is another timeline's now: its clients are gone, and so is what it knew. */
  forget(): void {
    this.waiting = [];
    this.#confirmed = { write: 0n, flush: 0n, apply: 0n };
  }

  /** A walsender has heard from its standby. Returns how many commits came back. */
  onReply(speaker: SyncCandidate, all: Iterable<SyncCandidate>): number {
    if (!this.#counts(speaker)) return 0;
    const candidates = [...all].filter((each) => this.#counts(each)).toSorted(this.#order);
    if (candidates.length < this.policy.required) return 0;
    const chosen =
      this.policy.method === 'ANY' ? candidates : candidates.slice(0, this.policy.required);
    if (!chosen.includes(speaker)) return 0;
    for (const kind of KINDS) {
      const reached = chosen.map(({ reported }) => reported[kind]).toSorted(descending);
      const lsn = reached[this.policy.required - 1] ?? 0n;
      if (lsn > this.#confirmed[kind]) this.#confirmed[kind] = lsn;
    }
    return this.#release(chosen);
  }

  #release(chosen: readonly SyncCandidate[]): number {
    const released = this.waiting.filter(({ kind, lsn }) => lsn <= this.#confirmed[kind]);
    if (released.length === 0) return 0;
    this.waiting = this.waiting.filter((commit) => !released.includes(commit));
    for (const commit of released) {
      const by = chosen.filter(({ reported }) => reported[commit.kind] >= commit.lsn);
      this.#onReleased(
        commit,
        by.map(({ applicationName }) => applicationName),
      );
    }
    return released.length;
  }

  #counts({ applicationName, isStreaming, reported }: SyncCandidate): boolean {
    return isStreaming && reported.flush !== 0n && priorityOf(this.policy, applicationName) > 0;
  }

  readonly #order = (a: SyncCandidate, b: SyncCandidate): number => {
    const byPriority =
      priorityOf(this.policy, a.applicationName) - priorityOf(this.policy, b.applicationName);
    return byPriority === 0 ? a.place - b.place : byPriority;
  };
}

function descending(a: bigint, b: bigint): number {
  return a < b ? 1 : a > b ? -1 : 0;
}
