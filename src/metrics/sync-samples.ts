// The samples of the policy over the standbys, and of what the upstream makes of us.
import type { RelayStatus, SyncState } from '../status/status.ts';
import { isReceivingWal } from '../status/status.ts';
import { fixedValues, UPSTREAM } from './label-values.ts';
import { labelText } from './label-text.ts';
import type { LabelText } from './label-text.ts';
import type { Samples } from './samples.ts';

const UPSTREAM_ONLY: LabelText = labelText({ upstream: UPSTREAM });

/** The policy in effect, and our own place in the upstream's. */
export function addSyncSamples(samples: Samples, { sync, upstream }: RelayStatus): void {
  samples.add('sync_required_standbys', UPSTREAM_ONLY, sync.requiredStandbys);
  samples.add('sync_eligible_standbys', UPSTREAM_ONLY, sync.eligibleStandbys);
  samples.add('sync_satisfied', UPSTREAM_ONLY, sync.isSatisfied ? 1 : 0);
  samples.addLsn('sync_confirmed_lsn_bytes', UPSTREAM_ONLY, sync.confirmed.flushLsn);
  samples.addHistogram('sync_confirm_duration_seconds', UPSTREAM_ONLY, sync.confirmDuration);
  samples.add('sync_unsatisfied_seconds_total', UPSTREAM_ONLY, sync.unsatisfiedSeconds);
  samples.addStates('upstream_sync_state', UPSTREAM_ONLY, {
    label: 'state',
    words: fixedValues('upstream_sync_state', 'state') ?? [],
    current: isReceivingWal(upstream) ? upstreamSyncState(sync.upstream) : 'unknown',
  });
}

/** A replication connection cannot ask for more than the list; whoever is in it may be any of the others. */
function upstreamSyncState(names: RelayStatus['sync']['upstream']): SyncState | 'unknown' {
  return names?.membership === 'none' ? 'async' : 'unknown';
}
