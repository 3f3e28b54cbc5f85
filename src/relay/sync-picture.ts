// What is shown of the synchronous policy: the decision of this moment, and what has come of it since the start.
import type { SyncStatus } from '../status/status.ts';
import type { StandbySync } from '../syncrep/sync-standbys.ts';

/** What the synchronous policy comes to at this moment. */
export interface SyncPicture {
  readonly status: SyncStatus;
  /** What the standby of that session counts for. */
  stateOf(pid: number): StandbySync;
}
