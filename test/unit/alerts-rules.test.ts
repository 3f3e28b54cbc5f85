// The alerts: they ask for what walcast has, say what is the matter in whole sentences, and fire when they should and only then.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it as always } from 'vitest';
import { parse } from 'yaml';
import { KUBERNETES_PATH, RULES_PATH } from '../../dashboards/src/files.ts';
import { CATALOGUE, METRIC_PREFIX } from '../../src/metrics/catalogue.ts';
import { promtool } from '../support/promtool.ts';
import { requires } from '../support/requirements.ts';

interface Rule {
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

interface AlertCase {
  readonly eval_time: string;
  readonly alertname: string;
  readonly exp_alerts: readonly {
    readonly exp_labels: Readonly<Record<string, string>>;
    readonly exp_annotations: Readonly<Record<string, string>>;
  }[];
}

const ROOT = join(import.meta.dirname, '../..');
const TESTS = 'dashboards/prometheus/tests';
const RUNBOOKS = 'https://walcast.example/docs/runbooks';
const { it } = requires('promtool');

/** Dashboards, runbooks and routes of notifications know them by these names. */
const NAMES: readonly string[] = [
  'WalcastDown',
  'WalcastAbsent',
  'WalcastUpstreamDisconnected',
  'WalcastUpstreamStalled',
  'WalcastFallingBehind',
  'WalcastStandbyLagging',
  'WalcastStandbyMissing',
  'WalcastSlotRetention',
  'WalcastSlotLost',
  'WalcastStoreFilling',
  'WalcastStoreErrors',
  'WalcastWalDamaged',
  'WalcastRestarting',
  'WalcastSyncUnsatisfied',
  'WalcastFlushStalled',
  'WalcastSlowFsync',
  'WalcastEventLoopBlocked',
  'WalcastFailover',
  'WalcastCertificateExpiring',
  'WalcastConfigReloadFailed',
  'WalcastSeriesCapReached',
];

const groups = (parse(read(RULES_PATH)) as { groups: { name: string; rules: Rule[] }[] }).groups;
const rules = groups.flatMap((group) => group.rules);
const alerts = rules.flatMap((rule) =>
  rule.alert === undefined ? [] : [[rule.alert, rule] as const],
);

describe('the rules', () => {
  it('are rules to Prometheus', () => {
    const { isGood, output } = promtool(['check', 'rules', RULES_PATH], ROOT);
    expect(output).toContain(`SUCCESS: ${rules.length} rules found`);
    expect(isGood).toBe(true);
  });

  always('have the names that are kept', () => {
    expect(alerts.map(([name]) => name)).toEqual(NAMES);
    expect(rules.flatMap(({ record }) => record ?? [])).toEqual([
      'walcast:standby_flush_lag_bytes:max',
      'walcast:upstream_received_bytes:rate5m',
      'walcast:standby_sent_bytes:rate5m',
    ]);
  });

  always('ask for families and labels that walcast has', () => {
    const families = new Map<string, readonly string[]>(
      CATALOGUE.map(({ name, labels }) => [`${METRIC_PREFIX}${name}`, labels]),
    );
    const scraped = ['namespace', 'job', 'instance', 'le'];
    const others = ['up', 'process_start_time_seconds', 'nodejs_eventloop_lag_p99_seconds'];
    for (const { expr, alert, record } of rules) {
      const bare = expr.replaceAll(/\b(?:by|on|group_left) \([^)]*\)|\{[^}]*\}/g, '');
      const names = [...bare.matchAll(/\b([a-z]\w*_\w+|up)\b(?!\()/g)]
        .map(([, name = '']) => name)
        .filter((name) => !name.startsWith('group_'));
      expect(names.length, alert ?? record).toBeGreaterThan(0);
      const labels = names.flatMap((name) => {
        const family = families.get(name) ?? families.get(name.replace(/_(?:bucket|count)$/, ''));
        expect(family !== undefined || others.includes(name), `${name} in ${alert ?? record}`).toBe(
          true,
        );
        return family ?? [];
      });
      const used = [
        ...[...expr.matchAll(/(\w+)(?:=~|!=|=)"/g)].map(([, label = '']) => label),
        ...[...expr.matchAll(/\b(?:by|on|group_left) \(([^)]*)\)/g)]
          .flatMap(([, list = '']) => list.split(','))
          .map((label) => label.trim())
          .filter((label) => label !== ''),
      ];
      const known = [...scraped, ...labels];
      expect(
        used.filter((label) => !known.includes(label)),
        alert ?? record,
      ).toEqual([]);
    }
  });

  always('are the same in the form for Kubernetes', () => {
    const manifest = parse(read(`${KUBERNETES_PATH}/walcast-rules.yaml`)) as {
      kind: string;
      spec: { groups: unknown };
    };
    expect(manifest.kind).toBe('PrometheusRule');
    expect(manifest.spec.groups).toEqual(groups);
  });

  always('are named where walcast judges itself by names that there are', () => {
    const folder = join(ROOT, 'src/health');
    const named = readdirSync(folder).flatMap((name) =>
      [...readFileSync(join(folder, name), 'utf8').matchAll(/'(Walcast\w+)'/g)].map(
        ([, alert = '']) => alert,
      ),
    );
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((alert) => !NAMES.includes(alert))).toEqual([]);
  });
});

describe.each(alerts)('%s', (name, rule) => {
  always('says how bad it is, what is the matter, and where to read on', () => {
    expect(['critical', 'warning', 'info']).toContain(rule.labels?.['severity']);
    const {
      summary = '',
      description = '',
      runbook_url: url = '',
      ...more
    } = rule.annotations ?? {};
    expect(more).toEqual({});
    expect(summary.length).toBeGreaterThan(15);
    expect(summary).not.toMatch(/\.$/);
    expect(description.length).toBeGreaterThan(40);
    expect(description).toMatch(/\.$/);
    expect(url).toBe(`${RUNBOOKS}/${name}.md`);
    expect(existsSync(join(ROOT, `docs/runbooks/${name}.md`)), `docs/runbooks/${name}.md`).toBe(
      true,
    );
  });

  always('is shown to fire, with its words, and not to fire', () => {
    const file = parse(read(`${TESTS}/${name}.yml`)) as {
      tests: { name: string; alert_rule_test: AlertCase[] }[];
    };
    const cases = file.tests.flatMap((test) => test.alert_rule_test);
    expect(new Set(cases.map(({ alertname }) => alertname))).toEqual(new Set([name]));
    const fired = cases.flatMap(({ exp_alerts: expected }) => expected);
    expect(fired.length).toBeGreaterThan(0);
    // A whole test in which nothing fires, not only the time before it does.
    expect(
      file.tests.some((test) => test.alert_rule_test.every((one) => one.exp_alerts.length === 0)),
    ).toBe(true);
    for (const { exp_annotations: said } of fired) {
      expect(Object.keys(said).toSorted()).toEqual(['description', 'runbook_url', 'summary']);
      expect(Object.values(said).join(' ')).not.toMatch(/<no value>|\{\{|NaN| {2}| \./);
    }
  });
});

describe('the tests of the rules', () => {
  const files = [...NAMES.map((name) => `${name}.yml`), 'recording-rules.yml'];

  always('are one file an alert, and one for what is recorded', () => {
    expect(readdirSync(join(ROOT, TESTS)).toSorted()).toEqual(files.toSorted());
  });

  it.each(files)('%s: what should fire does, and nothing else', (file) => {
    const { isGood, output } = promtool(['test', 'rules', file], join(ROOT, TESTS));
    expect(output).toContain('SUCCESS');
    expect(isGood, output).toBe(true);
  });
});

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}
