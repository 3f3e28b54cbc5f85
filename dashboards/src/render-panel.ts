// How does a panel look in Grafana? From a spec to the builders of Grafana's own SDK, one kind of panel after the other.
import * as common from '@grafana/grafana-foundation-sdk/common';
import * as grafana from '@grafana/grafana-foundation-sdk/dashboard';
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import * as stat from '@grafana/grafana-foundation-sdk/stat';
import * as statetimeline from '@grafana/grafana-foundation-sdk/statetimeline';
import * as table from '@grafana/grafana-foundation-sdk/table';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';
import { refIdOf } from './panel-spec.ts';
import type { ColumnSpec, PanelSpec, QuerySpec, ThresholdSpec, WordSpec } from './panel-spec.ts';

/** The one variable that says where the data is. */
export const DATASOURCE: common.DataSourceRef = { type: 'prometheus', uid: '${datasource}' };

/** A panel's place, in Grafana's grid of 24 columns. */
export interface Place {
  readonly id: number;
  readonly x: number;
  readonly y: number;
}

/** A builder that is done. */
export interface Built<T> {
  build(): T;
}

/** What every kind of panel can do. */
type AnyPanel =
  | heatmap.PanelBuilder
  | stat.PanelBuilder
  | statetimeline.PanelBuilder
  | table.PanelBuilder
  | timeseries.PanelBuilder;

/** The panel of a spec, at its place. */
export function renderPanel(spec: PanelSpec, place: Place): Built<grafana.Panel> {
  const panel = panelOf(spec);
  panel
    .id(place.id)
    .title(spec.title)
    .description(spec.description)
    .datasource(DATASOURCE)
    .unit(spec.unit)
    .gridPos({ x: place.x, y: place.y, w: spec.width, h: spec.height })
    .targets(spec.queries.map((query, index) => target(spec, query, index)));
  if (spec.noValue !== undefined) panel.noValue(spec.noValue);
  if (spec.min !== undefined) panel.min(spec.min);
  if (spec.max !== undefined) panel.max(spec.max);
  if (spec.decimals !== undefined) panel.decimals(spec.decimals);
  if (spec.words !== undefined) panel.mappings([valueMap(spec.words)]);
  if (spec.repeat !== undefined) panel.repeat(spec.repeat).repeatDirection('v');
  return panel;
}

function panelOf(spec: PanelSpec): AnyPanel {
  switch (spec.kind) {
    case 'timeseries':
      return timeSeriesPanel(spec);
    case 'stat':
      return statPanel(spec);
    case 'statetimeline':
      return stateTimelinePanel();
    case 'heatmap':
      return heatmapPanel(spec);
    case 'table':
      return tablePanel(spec);
  }
}

function timeSeriesPanel(spec: PanelSpec): timeseries.PanelBuilder {
  const panel = new timeseries.PanelBuilder()
    .lineWidth(1)
    .fillOpacity(spec.isStacked === true ? 60 : 8)
    .showPoints(common.VisibilityMode.Never)
    .spanNulls(false)
    .legend(
      new common.VizLegendOptionsBuilder()
        .displayMode(common.LegendDisplayMode.Table)
        .placement(common.LegendPlacement.Bottom)
        .showLegend(true)
        .calcs(['lastNotNull', 'max']),
    )
    .tooltip(
      new common.VizTooltipOptionsBuilder()
        .mode(common.TooltipDisplayMode.Multi)
        .sort(common.SortOrder.Descending),
    );
  if (spec.isStacked === true) {
    panel.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal).group('A'));
  }
  if (spec.thresholds !== undefined) {
    panel
      .thresholds(thresholds(spec.thresholds))
      .thresholdsStyle(
        new common.GraphThresholdsStyleConfigBuilder().mode(common.GraphThresholdsStyleMode.Dashed),
      );
  }
  return panel;
}

function statPanel(spec: PanelSpec): stat.PanelBuilder {
  const isColored = spec.thresholds !== undefined || spec.words !== undefined;
  return new stat.PanelBuilder()
    .colorMode(isColored ? common.BigValueColorMode.Value : common.BigValueColorMode.None)
    .graphMode(common.BigValueGraphMode.None)
    .textMode(
      spec.queries.length > 1 || spec.queries[0]?.legend?.includes('{{') === true
        ? common.BigValueTextMode.ValueAndName
        : common.BigValueTextMode.Value,
    )
    .reduceOptions(
      new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']).values(false).fields(''),
    )
    .thresholds(thresholds(spec.thresholds ?? [{ from: null, color: 'text' }]));
}

function stateTimelinePanel(): statetimeline.PanelBuilder {
  return new statetimeline.PanelBuilder()
    .mergeValues(true)
    .showValue(common.VisibilityMode.Auto)
    .rowHeight(0.9)
    .fillOpacity(80)
    .lineWidth(0)
    .legend(
      new common.VizLegendOptionsBuilder()
        .displayMode(common.LegendDisplayMode.List)
        .placement(common.LegendPlacement.Bottom)
        .showLegend(false)
        .calcs([]),
    )
    .tooltip(new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Single));
}

function heatmapPanel(spec: PanelSpec): heatmap.PanelBuilder {
  return new heatmap.PanelBuilder()
    .calculate(false)
    .yAxis(new heatmap.YAxisConfigBuilder().unit(spec.unit))
    .color(
      new heatmap.HeatmapColorOptionsBuilder()
        .mode(heatmap.HeatmapColorMode.Scheme)
        .scheme('Oranges')
        .fill('dark-orange')
        .exponent(0.5)
        .steps(64)
        .reverse(false),
    )
    .cellGap(1)
    .showLegend();
}

function tablePanel(spec: PanelSpec): table.PanelBuilder {
  const columns = spec.columns ?? [];
  const panel = new table.PanelBuilder()
    .showHeader(true)
    .cellHeight(common.TableCellHeight.Sm)
    .transformations([
      ...(spec.queries.length > 1 ? [{ id: 'merge', options: {} }] : []),
      {
        id: 'filterFieldsByName',
        options: { include: { names: columns.map(({ field }) => field) } },
      },
      { id: 'organize', options: organization(columns) },
    ]);
  if (spec.sortBy !== undefined) {
    panel.sortBy([new common.TableSortByFieldStateBuilder().displayName(spec.sortBy).desc(true)]);
  }
  for (const column of columns) {
    const properties = columnProperties(column);
    if (properties.length > 0) panel.overrideByName(column.title, properties);
  }
  return panel;
}

/** Order and titles of the columns. */
function organization(columns: readonly ColumnSpec[]): object {
  return {
    excludeByName: {},
    indexByName: Object.fromEntries(columns.map(({ field }, index) => [field, index])),
    renameByName: Object.fromEntries(columns.map(({ field, title }) => [field, title])),
  };
}

function columnProperties(column: ColumnSpec): grafana.DynamicConfigValue[] {
  const { unit, words, thresholds: steps, link } = column;
  const properties: grafana.DynamicConfigValue[] = [];
  if (unit !== undefined) properties.push({ id: 'unit', value: unit });
  if (words !== undefined) properties.push({ id: 'mappings', value: [valueMap(words)] });
  if (steps !== undefined) {
    properties.push({ id: 'thresholds', value: thresholds(steps).build() });
  }
  if (words !== undefined || steps !== undefined) {
    properties.push({ id: 'custom.cellOptions', value: { type: 'color-text' } });
  }
  if (link !== undefined) {
    properties.push({ id: 'links', value: [{ title: link.title, url: link.url }] });
  }
  return properties;
}

function target(spec: PanelSpec, query: QuerySpec, index: number): Built<prometheus.Dataquery> {
  const built = new prometheus.DataqueryBuilder()
    .datasource(DATASOURCE)
    .editorMode(prometheus.QueryEditorMode.Code)
    .refId(refIdOf(index))
    .expr(query.expr)
    .legendFormat(query.legend ?? '');
  switch (spec.kind) {
    case 'table':
      return built.instant().format(prometheus.PromQueryFormat.Table);
    case 'heatmap':
      return built.range().format(prometheus.PromQueryFormat.Heatmap);
    case 'stat':
      return built.instant().format(prometheus.PromQueryFormat.TimeSeries);
    case 'timeseries':
    case 'statetimeline':
      return built.range().format(prometheus.PromQueryFormat.TimeSeries);
  }
}

function thresholds(steps: readonly ThresholdSpec[]): grafana.ThresholdsConfigBuilder {
  return new grafana.ThresholdsConfigBuilder()
    .mode(grafana.ThresholdsMode.Absolute)
    .steps(steps.map(({ from, color }) => ({ value: from, color })));
}

function valueMap(words: readonly WordSpec[]): grafana.ValueMap {
  return {
    type: grafana.MappingType.ValueToText,
    options: Object.fromEntries(
      words.map(({ value, text, color }, index) => [String(value), { text, color, index }]),
    ),
  };
}
