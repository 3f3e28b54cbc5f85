// Dashboards ask for what walcast has: every family, label and word in a query is one that the exposition can contain.
import { describe, expect, it } from 'vitest';
import { DASHBOARDS } from '../../dashboards/src/dashboards.ts';
import { dashboardExpressions } from '../../dashboards/src/expressions.ts';
import * as words from '../../dashboards/src/words.ts';
import { CATALOGUE, METRIC_PREFIX } from '../../src/metrics/catalogue.ts';
import { SYNC_STATES, WALSENDER_STATES } from '../../src/status/status.ts';

/** Families without a panel: how far a slot is back is drawn as what it holds back. */
const NOT_DRAWN: readonly string[] = ['slot_restart_lsn_bytes'];

const expressions = dashboardExpressions();
const families = new Map<string, (typeof CATALOGUE)[number]>(
  CATALOGUE.map((family) => [`${METRIC_PREFIX}${family.name}`, family]),
);
const FROM_SCRAPES = ['job', 'instance', 'namespace'];

describe('the queries of the dashboards', () => {
  it('are many, and each belongs to a panel once', () => {
    expect(expressions.length).toBeGreaterThan(100);
    const keys = expressions.map(({ dashboard, panel, refId }) => `${dashboard} ${panel} ${refId}`);
    expect(new Set(keys).size).toBe(keys.length);
  });

  it('name families and labels that walcast has', () => {
    for (const { expr, panel } of expressions) {
      for (const [, name = '', matchers = ''] of expr.matchAll(/(walcast_\w+)\{([^}]*)\}/g)) {
        const family = familyOf(name);
        expect(family, `${name} in "${panel}"`).toBeDefined();
        const labels = [...matchers.matchAll(/(\w+)(?:=~|!~|!=|=)"/g)].map(
          ([, label = '']) => label,
        );
        const known = [...FROM_SCRAPES, ...(family?.labels ?? []), 'le'];
        expect(
          labels.filter((label) => !known.includes(label)),
          `${name} in "${panel}"`,
        ).toEqual([]);
      }
    }
  });

  it('aggregate by labels that something in them has', () => {
    for (const { expr, panel } of expressions) {
      if (!expr.includes('walcast_')) continue;
      const names = [...expr.matchAll(/(walcast_\w+)\{/g)].map(([, name = '']) => familyOf(name));
      const known = [
        ...FROM_SCRAPES,
        'le',
        ...names.flatMap((family): readonly string[] => family?.labels ?? []),
      ];
      const used = [...expr.matchAll(/\b(?:by|on|ignoring|group_left) \(([^)]*)\)/g)]
        .flatMap(([, list = '']) => list.split(','))
        .map((label) => label.trim())
        .filter((label) => label !== '');
      expect(
        used.filter((label) => !known.includes(label)),
        `"${panel}": ${expr}`,
      ).toEqual([]);
    }
  });

  it('take counters as rates only, and rates of counters only', () => {
    const RATED = /(?:rate|increase)\((walcast_\w+|process_\w+|nodejs_\w+)\{[^}]*\}\[/g;
    for (const { expr, panel } of expressions) {
      const rated = [...expr.matchAll(RATED)].map(([, name = '']) => name);
      for (const name of rated) expect(isCounter(name), `${name} in "${panel}"`).toBe(true);
      const bare = expr.replaceAll(RATED, '');
      const shown = [...bare.matchAll(/((?:walcast|process|nodejs)_\w+)\{/g)];
      for (const [, name = ''] of shown) {
        expect(isCounter(name), `${name} without a rate in "${panel}"`).toBe(false);
      }
    }
  });

  it('leave no family of the catalogue undrawn but those that are named here', () => {
    const drawn = new Set(
      expressions.flatMap(({ expr }) =>
        [...expr.matchAll(/(walcast_\w+)\{/g)].map(([, name = '']) => familyOf(name)?.name),
      ),
    );
    const missing = CATALOGUE.map(({ name }) => name).filter((name) => !drawn.has(name));
    expect(missing.filter((name) => !NOT_DRAWN.includes(name))).toEqual([]);
  });
});

describe('the tables', () => {
  const tables = DASHBOARDS.flatMap(({ rows }) => rows.flatMap(({ panels }) => panels)).filter(
    ({ kind }) => kind === 'table',
  );

  it.each(tables.map((panel) => [panel.title, panel] as const))(
    '"%s" has no column that nothing fills',
    (_, { columns = [], queries, sortBy }) => {
      expect(columns.length).toBeGreaterThan(3);
      for (const { field } of columns) {
        const refId = /^Value #([A-Z])$/.exec(field)?.[1];
        if (refId !== undefined) {
          expect(queries[refId.charCodeAt(0) - 'A'.charCodeAt(0)], field).toBeDefined();
          continue;
        }
        const first = queries[0]?.expr ?? '';
        expect(first.startsWith('ALERTS') || by(first).includes(field), `${field}: ${first}`).toBe(
          true,
        );
      }
      if (sortBy !== undefined) expect(columns.map(({ title }) => title)).toContain(sortBy);
    },
  );

  it.each(tables.map((panel) => [panel.title, panel] as const))(
    '"%s" has lines that merge: what the first query tells apart contains what the others do',
    (_, { queries }) => {
      const [first = [], ...others] = queries.map(({ expr }) => by(expr));
      for (const labels of others) {
        expect(labels.length).toBeGreaterThan(0);
        expect(labels.filter((label) => !first.includes(label))).toEqual([]);
      }
    },
  );
});

describe('the words for states', () => {
  it('are those that walcast says', () => {
    expect(words.STANDBY_STATES.toSorted()).toEqual(
      ['disconnected', ...WALSENDER_STATES].toSorted(),
    );
    expect(words.SYNC_STATES.toSorted()).toEqual(['unknown', ...SYNC_STATES].toSorted());
  });

  it.each([
    ['upstream_state', words.UPSTREAM_WORDS, words.UPSTREAM_STATES],
    ['standby_state', words.STANDBY_WORDS, words.STANDBY_STATES],
    ['slot_wal_status', words.SLOT_WORDS, words.SLOT_STATES],
    ['upstream_sync_state', words.SYNC_WORDS, words.SYNC_STATES],
  ])('of %s have the number that queries give them', (family, shown, states) => {
    expect(shown.map(({ text }) => text)).toEqual(states);
    expect(shown.map(({ value }) => value)).toEqual(states.map((_, index) => index + 1));
    const coded = expressions.find(
      ({ expr }) => expr.includes(`${METRIC_PREFIX}${family}{`) && expr.includes('} * 1 or '),
    );
    states.forEach((state, index) => {
      expect(coded?.expr).toMatch(
        new RegExp(`(state|status)="${state}"[^}]*\\} \\* ${index + 1}\\b`),
      );
    });
  });
});

function by(expr: string): string[] {
  const list = /^\w+ by \(([^)]*)\)/.exec(expr)?.[1] ?? '';
  return list
    .split(',')
    .map((label) => label.trim())
    .filter((label) => label !== '');
}

function familyOf(name: string): (typeof CATALOGUE)[number] | undefined {
  return families.get(name) ?? families.get(name.replace(/_(bucket|count|sum)$/, ''));
}

function isCounter(name: string): boolean {
  const family = familyOf(name);
  if (family !== undefined) return family.type !== 'gauge';
  return /_total$|_seconds_(sum|count)$/.test(name);
}
