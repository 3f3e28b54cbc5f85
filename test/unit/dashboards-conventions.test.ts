// What Grafana's own linter and the mixins of others ask of a dashboard, put to the committed JSON.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { GRAFANA_PATH } from '../../dashboards/src/files.ts';

interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly legendFormat: string;
  readonly datasource: { readonly uid: string };
}

interface Panel {
  readonly type: string;
  readonly id: number;
  readonly title: string;
  readonly description: string;
  readonly gridPos: {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
  };
  readonly datasource: { readonly uid: string };
  readonly targets: readonly Target[];
  readonly panels?: readonly Panel[];
  readonly fieldConfig: { readonly defaults: { readonly unit?: string } };
}

interface Variable {
  readonly type: string;
  readonly name: string;
  readonly label: string;
  readonly multi: boolean;
  readonly includeAll: boolean;
  readonly allValue?: string;
  readonly refresh?: number;
  readonly datasource?: { readonly uid: string };
  readonly query: string | { readonly query: string };
}

interface Dashboard {
  readonly id: null;
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly schemaVersion: number;
  readonly editable: boolean;
  readonly tags: readonly string[];
  readonly refresh: string;
  readonly graphTooltip: number;
  readonly timezone: string;
  readonly links: readonly { readonly type: string; readonly tags: readonly string[] }[];
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly Variable[] };
  readonly annotations: {
    readonly list: readonly { readonly name: string; readonly expr: string }[];
  };
}

const FOLDER = join(import.meta.dirname, '../..', GRAFANA_PATH);
const dashboards = readdirSync(FOLDER).map(
  (name) => JSON.parse(readFileSync(join(FOLDER, name), 'utf8')) as Dashboard,
);
const named = dashboards.map((dashboard) => [dashboard.uid, dashboard] as const);

describe('the set of dashboards', () => {
  it('has the four of walcast under uids that are kept', () => {
    expect(dashboards.map(({ uid }) => uid).toSorted()).toEqual([
      'walcast-internals',
      'walcast-overview',
      'walcast-standby',
      'walcast-sync',
    ]);
    expect(new Set(dashboards.map(({ title }) => title)).size).toBe(dashboards.length);
  });
});

describe.each(named)('%s', (uid, dashboard) => {
  const rows = dashboard.panels.filter(({ type }) => type === 'row');
  const panels = dashboard.panels.flatMap((panel) =>
    panel.type === 'row' ? (panel.panels ?? []) : [panel],
  );
  const everything = [...rows, ...panels];
  const expressions = [
    ...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
    ...dashboard.annotations.list.map(({ expr }) => expr),
  ];

  it('can be imported from its file by any Grafana from 10 on', () => {
    expect(dashboard.id).toBeNull();
    expect(dashboard.schemaVersion).toBe(42);
    expect(Object.keys(dashboard)).not.toContain('__inputs');
    expect(dashboard.description).not.toBe('');
  });

  it('behaves like the others: fixed, refreshed, one crosshair, the viewer’s time, links by tag', () => {
    expect(dashboard).toMatchObject({
      editable: false,
      refresh: '30s',
      graphTooltip: 1,
      timezone: 'browser',
      tags: ['walcast', 'postgresql'],
    });
    expect(dashboard.links).toHaveLength(1);
    expect(dashboard.links[0]).toMatchObject({ type: 'dashboards', tags: ['walcast'] });
    expect(dashboard.annotations.list.map(({ name }) => name)).toEqual([
      'Failover',
      'Restart',
      'Drain',
    ]);
  });

  it('has one variable for the data source, and asks nothing anywhere else', () => {
    const sources = dashboard.templating.list.filter(({ type }) => type === 'datasource');
    expect(sources).toHaveLength(1);
    expect(sources[0]).toMatchObject({
      name: 'datasource',
      label: 'Data source',
      query: 'prometheus',
    });
    const used = JSON.stringify(dashboard).match(/"datasource":\{.*?\}"?\}/g) ?? [];
    expect(used.length).toBeGreaterThan(panels.length);
    for (const source of used) expect(source).toContain('"uid":"${datasource}"');
  });

  it.each(['job', 'instance'])('has the variable %s: several or all', (name) => {
    const variable = dashboard.templating.list.find((one) => one.name === name);
    expect(variable).toMatchObject({ multi: true, includeAll: true, allValue: '.+', refresh: 2 });
  });

  it('declares every variable it uses, and uses every one it declares', () => {
    const declared = dashboard.templating.list.map(({ name }) => name);
    const text = JSON.stringify({ ...dashboard, links: [] }).replaceAll(/\$\{__[^}]*\}/g, '');
    const used = [...text.matchAll(/\$\{?([a-z_]+)/g)].map(([, name = '']) => name);
    const known = ['__rate_interval', '__all', '__url_time_range'];
    expect(used.filter((name) => !declared.includes(name) && !known.includes(name))).toEqual([]);
    expect(declared.filter((name) => !used.includes(name))).toEqual([]);
  });

  it('says of every panel what it shows, why it matters and in which unit', () => {
    expect(panels.length).toBeGreaterThan(8);
    for (const { title, description, fieldConfig, targets } of panels) {
      expect(title.length, title).toBeGreaterThan(2);
      expect(description.length, title).toBeGreaterThan(30);
      expect(fieldConfig.defaults.unit ?? '', title).not.toBe('');
      expect(targets.length, title).toBeGreaterThan(0);
    }
  });

  it('names every line of a panel with several of them', () => {
    for (const { type, title, targets } of panels) {
      if (type === 'table') continue;
      for (const { legendFormat } of targets) expect(legendFormat, title).not.toBe('');
      expect(new Set(targets.map((one) => one.legendFormat)).size, title).toBe(targets.length);
    }
  });

  it('gives titles and ids once', () => {
    expect(repeated(everything.map(({ title }) => title))).toEqual([]);
    expect(repeated(everything.map(({ id }) => String(id)))).toEqual([]);
    for (const { targets } of panels)
      expect(repeated(targets.map(({ refId }) => refId))).toEqual([]);
  });

  it('places no panel over another one or beyond the edge', () => {
    const cells = new Set<string>();
    for (const { gridPos, title } of everything) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(cells.has(`${x},${y}`), `${title} at ${x},${y}`).toBe(false);
          cells.add(`${x},${y}`);
        }
    }
  });

  it('asks only for the jobs and relays that are chosen', () => {
    for (const expr of expressions) {
      for (const [selector, name = '', matchers = ''] of selectorsOf(expr)) {
        if (name.startsWith('cnpg_')) continue;
        expect(matchers, `${uid}: ${selector}`).toMatch(/(^|,)job=~"\$job\|?"/);
        expect(matchers, `${uid}: ${selector}`).toMatch(/(^|,)instance=~"\$instance\|?"/);
      }
    }
  });

  it('takes rates over the window that Grafana finds right', () => {
    for (const expr of expressions) {
      for (const [, call = '', window = ''] of expr.matchAll(
        /\b(rate|irate|increase|changes|delta|idelta)\([^[]*\[([^\]]*)\]/g,
      )) {
        expect(window, `${call} in ${expr}`).toBe('$__rate_interval');
      }
      expect(expr).not.toMatch(/\birate\(/);
    }
  });

  it('keeps the bounds of buckets for quantiles', () => {
    for (const expr of expressions) {
      if (!expr.includes('histogram_quantile(')) continue;
      expect(expr).toMatch(/histogram_quantile\(0\.\d+, sum by \([^)]*\ble\)/);
    }
  });
});

function selectorsOf(expr: string): RegExpMatchArray[] {
  const found = [...expr.matchAll(/([a-zA-Z_:][\w:]*)\{([^}]*)\}/g)];
  expect(found.length, expr).toBeGreaterThan(0);
  return found;
}

function repeated(values: readonly string[]): string[] {
  return values.filter((value, index) => values.indexOf(value) !== index);
}
