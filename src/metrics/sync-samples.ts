// The samples of the policy over the standbys, and of what the upstream makes of us.
import type { RelayStatus, SyncState } from '../status/status.ts';
import { isReceivingWal, SYNC_STATES } from '../status/status.ts';
import { UPSTREAM_LABEL } from './relay-samples.ts';
import type { Samples } from './samples.ts';

const UPSTREAM = { upstream: UPSTREAM_LABEL };
const UPSTREAM_SYNC_STATES: readonly string[] = [...SYNC_STATES, 'unknown'];

/** Its histogram is rendered from the status itself. */
export function addSyncSamples(samples: Samples, { sync, upstream }: RelayStatus): void {
  samples.add('sync_required_standbys', UPSTREAM, sync.requiredStandbys);
  samples.add('sync_eligible_standbys', UPSTREAM, sync.eligibleStandbys);
  samples.add('sync_satisfied', UPSTREAM, sync.isSatisfied ? 1 : 0);
  samples.addLsn('sync_confirmed_lsn_bytes', UPSTREAM, sync.confirmed.flushLsn);
  samples.add('sync_unsatisfied_seconds_total', UPSTREAM, sync.unsatisfiedSeconds);
  samples.addStates('upstream_sync_state', UPSTREAM, {
    label: 'state',
    words: UPSTREAM_SYNC_STATES,
    current: isReceivingWal(upstream) ? upstreamSyncState(sync.upstream) : 'unknown',
  });
}

/** A replication connection cannot ask for more than the list; whoever is in it may be any of the others. */
function upstreamSyncState(names: RelayStatus['sync']['upstream']): SyncState | 'unknown' {
  return names?.membership === 'none' ? 'async' : 'unknown';
}
