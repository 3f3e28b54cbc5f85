// Which views are there?
import { notSupported } from './console-error.ts';
import { STAT_REPLICATION } from './stat-replication.ts';
import { REPLICATION_SLOTS } from './stat-slots.ts';
import { STAT_WAL_RECEIVER } from './stat-wal-receiver.ts';
import type { View } from './view.ts';

/** Those that can be selected from, by name and in its order. */
export const VIEWS: ReadonlyMap<string, View> = new Map([
  ['pg_replication_slots', REPLICATION_SLOTS],
  ['pg_stat_replication', STAT_REPLICATION],
  ['pg_stat_wal_receiver', STAT_WAL_RECEIVER],
]);

/** The view of that name. Throws ConsoleError 0A000 where there is none. */
export function viewNamed(name: string): View {
  const view = VIEWS.get(name);
  if (view === undefined) throw notSupported(`There is no relation "${name.slice(0, 100)}" here.`);
  return view;
}
