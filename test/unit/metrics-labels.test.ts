// Does every family have the labels and values that it promises: from the start, in both formats, and no others?
import { describe, expect, test } from 'vitest';
import { CATALOGUE, METRIC_PREFIX } from '../../src/metrics/catalogue.ts';
import type { Family } from '../../src/metrics/catalogue.ts';
import { fixedValues } from '../../src/metrics/label-values.ts';
import { openMetrics } from '../../src/metrics/registry.ts';
import { ADMIN_COMMANDS, NO_ADMIN_COMMANDS } from '../../src/status/status.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStandby, sampleStatus, unknownStatus } from '../support/relay-status.ts';

async function render(status: RelayStatus, accept?: string): Promise<string> {
  const source = { status: () => status };
  const metrics = openMetrics({ source, clock: new ManualClock() });
  metrics.observeRequest({ method: 'GET', route: '/metrics', statusCode: 200, seconds: 0.002 });
  return (await metrics.render(accept)).body;
}

/** Label texts of the samples of a family, with their values. */
function seriesOf(body: string, name: string): Map<string, string> {
  const lines = body.split('\n').filter((line) => /^\w+/.exec(line)?.[0] === METRIC_PREFIX + name);
  return new Map(
    lines.map((line): [string, string] => {
      const [, labels = '', value = ''] = /^\w+(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
      return [labels, value];
    }),
  );
}

/** Every combination of the fixed values of a family; null when a label of it is not fixed. */
function combinations({ name, labels }: Family): string[] | null {
  let texts = [''];
  for (const label of labels) {
    const values = fixedValues(name, label);
    if (values === null) return null;
    texts = texts.flatMap((text) =>
      values.map((value) => `${text}${text === '' ? '' : ','}${label}="${value}"`),
    );
  }
  return texts;
}

describe('from the start', () => {
  const counters = CATALOGUE.filter(({ type }) => type === 'counter');

  test('every counter is there and 0, with each of its fixed values, before anything happened', async () => {
    const { upstream, store, standbyTotals, retention, ...rest } = unknownStatus();
    const zero = <T extends object>(figures: T): T =>
      Object.fromEntries(
        Object.entries(figures).map(([key, value]) => [
          key,
          typeof value === 'number' ? 0 : isFigures(value) ? zero(value) : value,
        ]),
      ) as T;
    const body = await render({
      ...rest,
      upstream: zero(upstream),
      store: zero(store),
      standbyTotals: zero(standbyTotals),
      retention: zero(retention),
      readThrough: zero(rest.readThrough),
      sync: zero(rest.sync),
      configuration: { ...rest.configuration, reloads: zero(rest.configuration.reloads) },
    });
    let count = 0;
    for (const family of counters) {
      const wanted = combinations(family);
      if (wanted === null) continue;
      const series = seriesOf(body, family.name);
      expect([...series.keys()].toSorted(), family.name).toEqual(wanted.toSorted());
      expect(new Set(series.values()), family.name).toEqual(new Set(['0']));
      count += wanted.length;
    }
    expect(count).toBeGreaterThan(60);
  });

  test('the counters without a series are those that wait for a standby, no others', async () => {
    const body = await render(unknownStatus());
    const empty = counters.filter(({ name }) => seriesOf(body, name).size === 0);
    expect(empty.map(({ name }) => name)).toEqual([
      'standby_sent_bytes_total',
      'standby_send_blocked_seconds_total',
      'standby_connects_total',
    ]);
  });
});

function isFigures(value: unknown): value is object {
  return (
    typeof value === 'object' && value !== null && !(value instanceof Map) && !Array.isArray(value)
  );
}

describe('values of labels', () => {
  test('are the fixed ones and no others', async () => {
    const body = await render(sampleStatus({ standbys: [sampleStandby({ state: 'catchup' })] }));
    for (const family of CATALOGUE) {
      const suffix = family.type === 'histogram' ? '_count' : '';
      for (const labels of seriesOf(body, family.name + suffix).keys()) {
        for (const label of family.labels) {
          const value = new RegExp(`(?:^|,)${label}="([^"]*)"`).exec(labels)?.[1];
          const fixed = fixedValues(family.name, label);
          if (fixed !== null) expect(fixed, `${family.name}, ${label}`).toContain(value);
        }
      }
    }
  });

  test('of a set of states: all of them, exactly one of which is 1', async () => {
    const body = await render(sampleStatus());
    for (const [name, label] of [
      ['upstream_state', 'state'],
      ['upstream_sync_state', 'state'],
      ['standby_state', 'state'],
      ['slot_wal_status', 'status'],
    ] as const) {
      const series = seriesOf(body, name);
      expect(series.size, name).toBe(fixedValues(name, label)?.length);
      expect(
        [...series.values()].filter((value) => value === '1'),
        name,
      ).toHaveLength(1);
    }
  });

  test('commands of the console are counted, each under its name', async () => {
    const adminCommands = new Map([...NO_ADMIN_COMMANDS, ['create_slot', 3] as const]);
    const series = seriesOf(await render(sampleStatus({ adminCommands })), 'admin_commands_total');
    expect([...series.keys()]).toEqual(ADMIN_COMMANDS.map((command) => `command="${command}"`));
    expect(series.get('command="create_slot"')).toBe('3');
  });
});

describe('OpenMetrics', () => {
  test('says the unit of every family that has one, between its type and its samples', async () => {
    const body = await render(sampleStatus(), 'application/openmetrics-text');
    const units = new Map(
      [...body.matchAll(/^# UNIT walcast_(\S+) (\S+)$/gm)].map(([, name, unit]) => [name, unit]),
    );
    const wanted = CATALOGUE.filter(({ unit }) => unit !== null).map(
      ({ name, unit }): [string, string | null] => [name.replace(/_total$/, ''), unit],
    );
    expect(units).toEqual(new Map(wanted));
    // The unit has to be the last word of the family's name, and no metadata may come behind a sample.
    for (const [name = '', unit = ''] of units) expect(name.endsWith(`_${unit}`), name).toBe(true);
    for (const block of body.split(/^(?=# TYPE )/m)) {
      expect(block).toMatch(/^# TYPE .*\n(# UNIT .*\n)?# HELP .*\n([^#].*\n)*(# EOF\n)?$/);
    }
  });

  test('has no _created samples: Prometheus would keep each as a series', async () => {
    const body = await render(sampleStatus(), 'application/openmetrics-text');
    expect(body).not.toMatch(/^\w+_created[ {]/m);
  });
});
