// Which dashboards are there?
import { INTERNALS } from './internals.ts';
import { OVERVIEW } from './overview.ts';
import type { DashboardSpec } from './panel-spec.ts';
import { STANDBY_DASHBOARD } from './standby.ts';
import { SYNC } from './sync.ts';

/** All of them, the one to begin with first. */
export const DASHBOARDS: readonly DashboardSpec[] = [OVERVIEW, STANDBY_DASHBOARD, INTERNALS, SYNC];
