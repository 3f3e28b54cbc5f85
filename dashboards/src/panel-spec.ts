// What is a dashboard made of, before it is Grafana's JSON? Plain data, so that tests and the list of expressions read the same as what is drawn.

/** One query. */
export interface QuerySpec {
  readonly expr: string;
  /** Grafana's legend format; left out where the panel shows labels itself. */
  readonly legend?: string;
  /** True where no result is no mistake, see {@link import('./expressions.ts').DashboardExpression}. */
  readonly isEmptyWhenHealthy?: boolean;
}

/** A word for a number, and its colour. */
export interface WordSpec {
  readonly value: number;
  readonly text: string;
  readonly color: string;
}

/** From which value on a colour holds; null for the first one. */
export interface ThresholdSpec {
  readonly from: number | null;
  readonly color: string;
}

/** A column of a table: a label, or the value of a query by its refId. */
export interface ColumnSpec {
  readonly field: string;
  readonly title: string;
  readonly unit?: string;
  readonly words?: readonly WordSpec[];
  readonly thresholds?: readonly ThresholdSpec[];
  /** Where a click leads. */
  readonly link?: { readonly title: string; readonly url: string };
}

/** One panel. Width in 24ths of the page, height in rows of 30 pixels. */
export interface PanelSpec {
  readonly kind: 'timeseries' | 'stat' | 'table' | 'statetimeline' | 'heatmap';
  readonly title: string;
  readonly description: string;
  /** Grafana's name of the unit: `short` for plain numbers. */
  readonly unit: string;
  readonly width: number;
  readonly height: number;
  readonly queries: readonly QuerySpec[];
  readonly words?: readonly WordSpec[];
  readonly thresholds?: readonly ThresholdSpec[];
  /** What is shown when there is nothing. */
  readonly noValue?: string;
  readonly min?: number;
  readonly max?: number;
  readonly decimals?: number;
  /** Areas on top of one another, for what adds up. */
  readonly isStacked?: boolean;
  /** Columns of a table, in their order; what is not named is hidden. */
  readonly columns?: readonly ColumnSpec[];
  /** Title of the column a table is sorted by, greatest first. */
  readonly sortBy?: string;
  /** A variable: the panel is drawn once for each of its values. */
  readonly repeat?: string;
}

/** A row of panels. */
export interface RowSpec {
  readonly title: string;
  readonly panels: readonly PanelSpec[];
  /** True for one that is opened by a click. */
  readonly isCollapsed?: boolean;
}

/** A variable besides `datasource`, `job` and `instance`. */
export interface VariableSpec {
  readonly name: string;
  readonly label: string;
  /** Grafana's `label_values(…)`. */
  readonly query: string;
}

/** One dashboard. */
export interface DashboardSpec {
  /** Kept for ever: links and bookmarks hold it. */
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly variables: readonly VariableSpec[];
  readonly rows: readonly RowSpec[];
}

/** A refId from the place of a query: A, B, … Z. */
export function refIdOf(index: number): string {
  return String.fromCodePoint('A'.charCodeAt(0) + index);
}
