// Which PromQL do the dashboards ask? One list, for tests that put every expression to a real Prometheus.
import { DASHBOARDS } from './dashboards.ts';
import type { DashboardSpec } from './panel-spec.ts';
import { refIdOf } from './panel-spec.ts';
import { ANNOTATIONS } from './render-dashboard.ts';

/** One query of one panel, as it stands in the dashboard: `$job`, `$instance`, `$standby` and `$__rate_interval` are not yet replaced. */
export interface DashboardExpression {
  /** uid of the dashboard. */
  readonly dashboard: string;
  /** Title of the panel; `annotation: …` for what belongs to no panel. */
  readonly panel: string;
  readonly refId: string;
  readonly expr: string;
  /** True where no result is no mistake: on a healthy relay, or where another exporter is needed, there is nothing to show. */
  readonly isEmptyWhenHealthy: boolean;
}

/** Every query of every dashboard, in the order of the panels, and those of the annotations once a dashboard. */
export function dashboardExpressions(): readonly DashboardExpression[] {
  return DASHBOARDS.flatMap((dashboard) => [...panelExpressions(dashboard), ...events(dashboard)]);
}

function panelExpressions(dashboard: DashboardSpec): DashboardExpression[] {
  return dashboard.rows.flatMap(({ panels }) =>
    panels.flatMap(({ title, queries }) =>
      queries.map(({ expr, isEmptyWhenHealthy = false }, index) => ({
        dashboard: dashboard.uid,
        panel: title,
        refId: refIdOf(index),
        expr,
        isEmptyWhenHealthy,
      })),
    ),
  );
}

function events(dashboard: DashboardSpec): DashboardExpression[] {
  return ANNOTATIONS.map(({ name, expr }) => ({
    dashboard: dashboard.uid,
    panel: `annotation: ${name}`,
    refId: 'A',
    expr,
    isEmptyWhenHealthy: true,
  }));
}
