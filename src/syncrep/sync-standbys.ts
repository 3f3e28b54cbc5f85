// Which standbys do commits wait for, how far have they all come, and what does each of them count for?
// (syncrep.c:SyncRepGetCandidateStandbys, SyncRepGetSyncRecPtr; walsender.c:pg_stat_get_wal_senders) Pure, without memory of
// what was before: standbys and a policy in, a decision out.
import { INVALID_LSN, minLsn, toLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { SyncState, WalSenderState } from '../status/status.ts';
import type { Positions } from './reported-positions.ts';
import { syncPriority } from './standby-names.ts';
import type { SyncPolicy } from './standby-names.ts';

/** What a decision looks at of one standby's session. May be a live view: it is read only during the call. */
export interface SyncStandby {
  /** Its number in the status, unique among the sessions. */
  readonly pid: number;
  /**
   * The lowest one that was free when it came, from 0 on, unique among the sessions: of two standbys of one priority the
   * lower one comes first. (index in WalSndCtl->walsnds)
   */
  readonly place: number;
  readonly applicationName: string;
  readonly state: WalSenderState;
  /** The timeline its positions are on; null while it streams nothing. */
  readonly timeline: TimelineId | null;
  /** As it confirmed them, exclusive, never beyond what it was sent; INVALID_LSN where it reports none. */
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
}

/** What a policy comes to at one instant. */
export interface SyncQuorum {
  /** As many standbys as are required are there; true without a policy. */
  readonly isSatisfied: boolean;
  /** Standbys that match, stream on the timeline and report a flush position. */
  readonly eligible: number;
  /** What all chosen standbys have confirmed: Qw, Qf, Qa. Null when not satisfied, and without a policy. */
  readonly positions: Positions | null;
}

/** What one standby counts for. */
export interface StandbySync {
  readonly state: SyncState;
  /** 0 for a standby that does not match, and for one that reports no flush position. */
  readonly priority: number;
}

/** A {@link SyncQuorum}, and what it makes of every standby. */
export interface SyncDecision extends SyncQuorum {
  /** Of a standby that was not there when it was decided: `async`, 0. */
  readonly stateOf: (pid: number) => StandbySync;
}

/** The decision for status and metrics. */
export function decideSync(
  policy: SyncPolicy | null,
  standbys: Iterable<SyncStandby>,
  timeline: TimelineId,
): SyncDecision {
  const all = [...standbys];
  const decider = new SyncDecider();
  const quorum = decider.decide(policy, all, timeline);
  const states = new Map<number, StandbySync>();
  for (const standby of all) states.set(standby.pid, decider.stateOf(standby));
  return { ...quorum, stateOf: (pid) => states.get(pid) ?? ASYNC };
}

/** Of whom nobody waits for. */
export const ASYNC: StandbySync = { state: 'async', priority: 0 };

const NO_POLICY: SyncQuorum = { isSatisfied: true, eligible: 0, positions: null };

/** Priorities of so many different names are remembered for one policy. */
const REMEMBERED_NAMES_MAX = 4096;

/** More than there are places: keys of (priority, place) are whole numbers far below 2^53. */
const PLACES = 2 ** 20;

/**
 * The decision of the hot path, asked for whenever a standby has confirmed something: its memory is room to work in and the
 * priorities of names, so that a thousand standbys leave nothing behind to collect.
 */
export class SyncDecider {
  #policy: SyncPolicy | null = null;
  #timeline: TimelineId | null = null;
  readonly #priorities = new Map<string, number>();
  /** Of each candidate of the last decision: priority and place as one number, and its three positions. */
  #keys = new Float64Array(16);
  #writes = new BigUint64Array(16);
  #flushes = new BigUint64Array(16);
  #applies = new BigUint64Array(16);
  #sortedKeys = new Float64Array(16);
  /** The key of the last one that is chosen, in the order of priorities. */
  #lastChosenKey = Number.POSITIVE_INFINITY;

  decide(
    policy: SyncPolicy | null,
    standbys: Iterable<SyncStandby>,
    timeline: TimelineId,
  ): SyncQuorum {
    this.#use(policy);
    this.#timeline = timeline;
    this.#lastChosenKey = Number.POSITIVE_INFINITY;
    if (policy === null) return NO_POLICY;
    const eligible = this.#collect(standbys);
    if (policy.method === 'priority' && eligible > policy.required) {
      const keys = this.#sortedKeys.subarray(0, eligible);
      keys.set(this.#keys.subarray(0, eligible));
      this.#lastChosenKey = keys.sort()[policy.required - 1] ?? 0;
    }
    if (eligible < policy.required) return { isSatisfied: false, eligible, positions: null };
    const positions =
      policy.method === 'priority'
        ? this.#oldestOfChosen(eligible)
        : this.#nthLatest(eligible, policy.required);
    return { isSatisfied: true, eligible, positions };
  }

  /** What the last decision made of one of its standbys. */
  stateOf(standby: SyncStandby): StandbySync {
    const priority = standby.flushLsn === INVALID_LSN ? 0 : this.#priorityOf(standby);
    if (this.#policy === null || priority === 0) return ASYNC;
    const isChosen =
      this.#isCandidate(standby) && keyOf(priority, standby.place) <= this.#lastChosenKey;
    if (!isChosen) return { state: 'potential', priority };
    return { state: this.#policy.method === 'priority' ? 'sync' : 'quorum', priority };
  }

  #use(policy: SyncPolicy | null): void {
    if (policy === this.#policy && this.#priorities.size <= REMEMBERED_NAMES_MAX) return;
    this.#policy = policy;
    this.#priorities.clear();
  }

  #collect(standbys: Iterable<SyncStandby>): number {
    let count = 0;
    for (const standby of standbys) {
      if (!this.#isCandidate(standby)) continue;
      const priority = this.#priorityOf(standby);
      if (priority === 0) continue;
      if (count === this.#keys.length) this.#grow();
      this.#keys[count] = keyOf(priority, standby.place);
      this.#writes[count] = standby.writeLsn;
      this.#flushes[count] = standby.flushLsn;
      this.#applies[count] = standby.applyLsn;
      count += 1;
    }
    return count;
  }

  #isCandidate({ state, flushLsn, timeline }: SyncStandby): boolean {
    return (
      (state === 'streaming' || state === 'stopping') &&
      flushLsn !== INVALID_LSN &&
      timeline === this.#timeline
    );
  }

  #priorityOf({ applicationName }: SyncStandby): number {
    const known = this.#priorities.get(applicationName);
    if (known !== undefined) return known;
    const priority = syncPriority(this.#policy, applicationName);
    this.#priorities.set(applicationName, priority);
    return priority;
  }

  #oldestOfChosen(count: number): Positions {
    let [writeLsn, flushLsn, applyLsn] = [LSN_MAX, LSN_MAX, LSN_MAX];
    for (let index = 0; index < count; index += 1) {
      if ((this.#keys[index] ?? 0) > this.#lastChosenKey) continue;
      writeLsn = minLsn(writeLsn, toLsn(this.#writes[index] ?? 0n));
      flushLsn = minLsn(flushLsn, toLsn(this.#flushes[index] ?? 0n));
      applyLsn = minLsn(applyLsn, toLsn(this.#applies[index] ?? 0n));
    }
    return { writeLsn, flushLsn, applyLsn };
  }

  /** Each position by itself, as PostgreSQL does: the standbys behind the three need not be the same ones. */
  #nthLatest(count: number, nth: number): Positions {
    return {
      writeLsn: nthLatest(this.#writes, count, nth),
      flushLsn: nthLatest(this.#flushes, count, nth),
      applyLsn: nthLatest(this.#applies, count, nth),
    };
  }

  #grow(): void {
    const length = this.#keys.length * 2;
    const keys = new Float64Array(length);
    keys.set(this.#keys);
    this.#keys = keys;
    this.#sortedKeys = new Float64Array(length);
    this.#writes = grown(this.#writes, length);
    this.#flushes = grown(this.#flushes, length);
    this.#applies = grown(this.#applies, length);
  }
}

const LSN_MAX: Lsn = toLsn((1n << 64n) - 1n);

function keyOf(priority: number, place: number): number {
  return priority * PLACES + place;
}

function nthLatest(lsns: BigUint64Array, count: number, nth: number): Lsn {
  return toLsn(lsns.subarray(0, count).sort()[count - nth] ?? 0n);
}

function grown(old: BigUint64Array, length: number): BigUint64Array<ArrayBuffer> {
  const lsns = new BigUint64Array(length);
  lsns.set(old);
  return lsns;
}
