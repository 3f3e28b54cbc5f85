// How does a dashboard look in Grafana? Its frame: variables, annotations, links, and the panels row by row.
import * as grafana from '@grafana/grafana-foundation-sdk/dashboard';
import type { DashboardSpec, PanelSpec, RowSpec, VariableSpec } from './panel-spec.ts';
import { DATASOURCE, renderPanel } from './render-panel.ts';
import type { Built, Place } from './render-panel.ts';
import { runtime, walcast } from './selectors.ts';

/** Tag that finds every dashboard of walcast; the links between them go by it. */
export const TAG: string = 'walcast';

const COLUMNS = 24;

/** An event drawn over every panel. */
export interface AnnotationSpec {
  readonly name: string;
  readonly expr: string;
  readonly color: string;
  /** Labels that say whose event it is. */
  readonly title: string;
}

/** The events that explain what the panels show. */
export const ANNOTATIONS: readonly AnnotationSpec[] = [
  {
    name: 'Failover',
    expr: `increase(${walcast('upstream_timeline_switches_total')}[$__rate_interval]) > 0`,
    color: 'purple',
    title: '{{instance}} followed its upstream to another timeline',
  },
  {
    name: 'Restart',
    expr: `${runtime('process_start_time_seconds', (selector) => `changes(${selector}[$__rate_interval]) > 0`)}`,
    color: 'orange',
    title: '{{instance}} was restarted',
  },
  {
    name: 'Drain',
    expr: `${walcast('draining')} == 1`,
    color: 'blue',
    title: '{{instance}} drains',
  },
];

/** Variables of every dashboard. */
export const COMMON_VARIABLES: readonly VariableSpec[] = [
  { name: 'job', label: 'Job', query: 'label_values(walcast_build_info, job)' },
  {
    name: 'instance',
    label: 'Relay',
    query: 'label_values(walcast_build_info{job=~"$job"}, instance)',
  },
];

/** The dashboard as Grafana's classic model, which files, provisioning and grafana.com take. */
export function renderDashboard(spec: DashboardSpec): grafana.Dashboard {
  const dashboard = new grafana.DashboardBuilder(spec.title)
    .uid(spec.uid)
    .description(spec.description)
    .tags([TAG, 'postgresql'])
    .readonly()
    .timezone('browser')
    .refresh('30s')
    .time({ from: 'now-1h', to: 'now' })
    .tooltip(grafana.DashboardCursorSync.Crosshair)
    .link(
      new grafana.DashboardLinkBuilder('walcast')
        .type(grafana.DashboardLinkType.Dashboards)
        .tags([TAG])
        .asDropdown(false)
        .includeVars(true)
        .keepTime(true),
    )
    .annotations(ANNOTATIONS.map(annotation))
    .variables([
      new grafana.DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'),
      ...COMMON_VARIABLES.map((variable) => queryVariable(variable, true)),
      ...spec.variables.map((variable) => queryVariable(variable, false)),
    ]);
  addRows(dashboard, spec.rows);
  return dashboard.build();
}

function annotation(spec: AnnotationSpec): Built<grafana.AnnotationQuery> {
  return new grafana.AnnotationQueryBuilder()
    .name(spec.name)
    .datasource(DATASOURCE)
    .enable(true)
    .hide(false)
    .iconColor(spec.color)
    .expr(spec.expr)
    .titleFormat(spec.title)
    .step('30s');
}

/** A list of label values; where everything may be chosen, All stands for whatever comes. */
function queryVariable(spec: VariableSpec, hasAll: boolean): Built<grafana.VariableModel> {
  const variable = new grafana.QueryVariableBuilder(spec.name)
    .label(spec.label)
    .datasource(DATASOURCE)
    .query({ query: spec.query, refId: `${spec.name}Variable` })
    .definition(spec.query)
    .refresh(grafana.VariableRefresh.OnTimeRangeChanged)
    .sort(grafana.VariableSort.AlphabeticalAsc)
    .multi(true);
  if (!hasAll) return variable;
  return variable.includeAll(true).allValue('.+').current({ text: 'All', value: '$__all' });
}

function addRows(dashboard: grafana.DashboardBuilder, rows: readonly RowSpec[]): void {
  let id = 0;
  let y = 0;
  const nextId = (): number => ++id;
  for (const row of rows) {
    const built = new grafana.RowBuilder(row.title)
      .id(nextId())
      .collapsed(row.isCollapsed === true)
      .gridPos({ x: 0, y, w: COLUMNS, h: 1 });
    y++;
    const placed = place(row.panels, { y, nextId });
    const panels = placed.panels.map(({ spec, at }) => renderPanel(spec, at));
    if (row.isCollapsed === true) for (const panel of panels) built.withPanel(panel);
    dashboard.withRow(built);
    if (row.isCollapsed !== true) for (const panel of panels) dashboard.withPanel(panel);
    y = placed.bottom;
  }
}

/** Panels from left to right, and below where the width is used up. */
function place(
  panels: readonly PanelSpec[],
  start: { readonly y: number; readonly nextId: () => number },
): {
  readonly panels: readonly { readonly spec: PanelSpec; readonly at: Place }[];
  readonly bottom: number;
} {
  let [x, y, height] = [0, start.y, 0];
  const placed = panels.map((spec) => {
    if (x + spec.width > COLUMNS) [x, y, height] = [0, y + height, 0];
    const at = { id: start.nextId(), x, y };
    x += spec.width;
    height = Math.max(height, spec.height);
    return { spec, at };
  });
  return { panels: placed, bottom: y + height };
}
