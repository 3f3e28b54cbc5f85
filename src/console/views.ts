// Which views are there?
import { notSupported } from './console-error.ts';
import { STAT_REPLICATION } from './stat-replication.ts';
import type { View } from './view.ts';

const VIEWS: ReadonlyMap<string, View> = new Map([['pg_stat_replication', STAT_REPLICATION]]);

/** The view of that name. Throws ConsoleError 0A000 where there is none. */
export function viewNamed(name: string): View {
  const view = VIEWS.get(name);
  if (view === undefined) throw notSupported(`There is no relation "${name.slice(0, 100)}" here.`);
  return view;
}
