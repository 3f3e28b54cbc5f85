// SHOW SYNC: which standbys have to confirm, and whether they can.
import type { SyncStatus } from '../status/status.ts';
import { bool, int8, lsn, seconds, text, texts, time } from './view-columns.ts';
import { viewOf } from './view.ts';
import type { View } from './view.ts';

/** One row. */
export const SHOW_SYNC: View = viewOf<SyncStatus>(
  (inside) => [inside.status().sync],
  [
    text('synchronous_standby_names', ({ synchronousStandbyNames }) => synchronousStandbyNames),
    text('method', ({ method }) => method),
    int8('required_standbys', ({ requiredStandbys }) => requiredStandbys),
    int8('eligible_standbys', ({ eligibleStandbys }) => eligibleStandbys),
    bool('satisfied', ({ isSatisfied }) => isSatisfied),
    time('since', ({ sinceMs }) => sinceMs),
    int8('changes', ({ changes }) => changes),
    seconds('unsatisfied', ({ unsatisfiedSeconds }) => unsatisfiedSeconds),
    lsn('confirmed_write_lsn', ({ confirmed }) => confirmed.writeLsn),
    lsn('confirmed_flush_lsn', ({ confirmed }) => confirmed.flushLsn),
    lsn('confirmed_replay_lsn', ({ confirmed }) => confirmed.applyLsn),
    text(
      'upstream_synchronous_standby_names',
      ({ upstream }) => upstream?.synchronousStandbyNames ?? null,
    ),
    text('upstream_membership', ({ upstream }) => upstream?.membership ?? null),
    time('upstream_as_of', ({ upstream }) => upstream?.asOfMs ?? null),
    text('clash', ({ clash }) => clash),
    texts('alarms', ({ alarms }) => alarms),
  ],
);
