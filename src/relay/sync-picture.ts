// What is shown of the synchronous policy: the decision of this moment, and what has come of it since the start.
import { INVALID_LSN } from '../pg/lsn.ts';
import type { SyncStatus } from '../status/status.ts';
import type { StandbySync } from '../syncrep/sync-standbys.ts';

/** What the synchronous policy comes to at this moment. */
export interface SyncPicture {
  readonly status: SyncStatus;
  /** What the standby of that session counts for. */
  stateOf(pid: number): StandbySync;
}

/** Where nothing is known of standbys, their policy included. */
export const NO_SYNC_PICTURE: SyncPicture = {
  status: {
    synchronousStandbyNames: '',
    method: null,
    names: [],
    requiredStandbys: 0,
    eligibleStandbys: 0,
    isSatisfied: true,
    confirmed: { writeLsn: INVALID_LSN, flushLsn: INVALID_LSN, applyLsn: INVALID_LSN },
    changes: 0,
    sinceMs: 0,
    unsatisfiedSeconds: 0,
    confirmDuration: { boundsSeconds: [], counts: [0], sumSeconds: 0 },
    upstream: null,
    clash: null,
    alarms: [],
  },
  stateOf: () => ({ state: 'async', priority: 0 }),
};
