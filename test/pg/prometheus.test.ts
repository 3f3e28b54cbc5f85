// Does a real Prometheus take what walcast shows, and do the dashboards' and the rules' expressions find something in it? A name
// that is misspelt in a dashboard or an alert looks like a system where all is well.
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { dashboardExpressions } from '../../dashboards/src/expressions.ts';
import { systemClock } from '../../src/base/clock.ts';
import { CATALOGUE, METRIC_PREFIX, unitOf } from '../../src/metrics/catalogue.ts';
import { parseExposition } from '../harness/exposition.ts';
import {
  openTextOnly,
  promtoolCheckMetrics,
  Prometheus,
  startPrometheus,
} from '../harness/prometheus.ts';
import { selectorsOf, withVariables } from '../harness/promql.ts';
import { openValuesRig, STANDBYS } from '../harness/values-rig.ts';
import type { ValuesRig } from '../harness/values-rig.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { eventually } from '../support/eventually.ts';
import { NEWEST_MAJOR, requires } from '../support/requirements.ts';

/** One job a format: what Prometheus asks for, and text for who takes nothing else. */
const JOBS = ['walcast', 'walcast_text'] as const;

const RULES = new URL('../../dashboards/prometheus/walcast.rules.yml', import.meta.url);

/** Variables of dashboards that choose one of several; the others match all. */
const CHOSEN = { standby: 'standby_a', slot: 'standby_a' };

requires('prometheus', 'promtool', `postgres-${NEWEST_MAJOR}`).describe(
  'a Prometheus that scrapes walcast with three standbys under load',
  () => {
    let rig: ValuesRig;
    let load: WriteLoad;
    let prometheus: Prometheus;
    const found = new Set<string>();

    beforeAll(async () => {
      rig = await openValuesRig({
        major: NEWEST_MAJOR,
        hasTls: true,
        relaySettings: { synchronous_standby_names: 'FIRST 1 (standby_a, standby_b)' },
      });
      load = await startWriteLoad(() => rig.primary, 2, 5);
      prometheus = await startPrometheus(rig.workspace, {
        jobs: {
          walcast: new URL(rig.relay.url).host,
          walcast_text: await openTextOnly(rig.workspace, `${rig.relay.url}/metrics`),
        },
        rules: [await readFile(RULES, 'utf8')],
      });
      await prometheus.scraped(JOBS, 10);
    });

    afterAll(async () => {
      await load?.stop();
      await rig[Symbol.asyncDispose]();
    });

    it('knows every family as the catalogue has it, in both formats', async () => {
      for (const job of JOBS) {
        const known = new Map((await prometheus.metadata(job)).map((one) => [one.metric, one]));
        const isOpenMetrics = job === 'walcast';
        for (const family of CATALOGUE) {
          const { name, type, help } = family;
          const shown = isOpenMetrics && type === 'counter' ? name.replace(/_total$/, '') : name;
          const metadata = known.get(`${METRIC_PREFIX}${shown}`);
          expect.soft(metadata, `${name} of ${job}`).toMatchObject({ type, help });
          // Units are a matter of OpenMetrics only, and of what has one.
          if (metadata !== undefined && metadata.unit !== '')
            expect.soft(metadata.unit, name).toBe(unitOf(name));
        }
      }
    });

    it('finds the same value of a series in both formats', async () => {
      const relays = await prometheus.query('count by (job) ({__name__=~"walcast_.+"})');
      expect(relays).toHaveLength(JOBS.length);
      const [first, second] = relays;
      expect(first?.value).toBe(second?.value);
      expect(first?.value).toBeGreaterThan(300);
      const lags = await prometheus.query('walcast_standby_lag_bytes{stage="replay"}');
      expect(lags.map(({ metric }) => `${metric['job']} ${metric['standby']}`).toSorted()).toEqual(
        JOBS.flatMap((job) => STANDBYS.map((name) => `${job} ${name}`)).toSorted(),
      );
    });

    it('finds data for every query of every dashboard, but for those that are empty while all is well', async () => {
      const expressions = dashboardExpressions();
      expect(expressions.length).toBeGreaterThan(50);
      for (const { dashboard, panel, refId, expr, isEmptyWhenHealthy } of expressions) {
        const where = `${dashboard}, ${panel}, ${refId}: ${expr}`;
        const series = await prometheus.query(withVariables(expr, CHOSEN)).catch(String);
        expect.soft(series, where).toBeInstanceOf(Array);
        if (!isEmptyWhenHealthy) expect.soft(series, where).not.toHaveLength(0);
        for (const selector of selectorsOf(withVariables(expr, CHOSEN)))
          await expectSeries(selector, where);
      }
    });

    it('finds that the hops of a lag add up to the lag end to end', async () => {
      const hops = dashboardExpressions().filter(
        ({ dashboard, panel }) => dashboard === 'walcast-standby' && panel.startsWith('Lag by hop'),
      );
      expect(hops).toHaveLength(5);
      const atMs = systemClock.wallMs();
      const valueOf = async (expression: string): Promise<number> => {
        const text = withVariables(expression, { standby: 'standby_c', job: 'walcast' });
        return (await prometheus.query(text, atMs))[0]?.value ?? Number.NaN;
      };
      const parts = await Promise.all(hops.map(({ expr }) => valueOf(expr)));
      const lag =
        'max(walcast_standby_lag_bytes{job="walcast",standby="standby_c",stage="replay"})';
      const whole = await valueOf(lag);
      expect(parts.reduce((sum, part) => sum + part, 0)).toBe(whole);
      expect(whole).toBeGreaterThan(0);
    });

    it('evaluates every rule, finds the series that each looks at, and alerts of nothing while all is well', async () => {
      const evaluated = await prometheus.rules();
      expect(evaluated.length).toBeGreaterThan(15);
      for (const { name, query, health, lastError } of evaluated) {
        expect.soft({ name, health, lastError }).toEqual({ name, health: 'ok' });
        const selectors = selectorsOf(query);
        expect.soft(selectors, query).not.toHaveLength(0);
        for (const selector of selectors) await expectSeries(selector, query);
      }
      const alerts = await prometheus.query('ALERTS{alertname!="WalcastStoreFilling"}');
      expect(alerts).toEqual([]);
    });

    it('is content with every scrape, and promtool with the text', async () => {
      expect(await prometheus.query('min_over_time(up[1m]) == 0')).toEqual([]);
      expect(await prometheus.complaints()).toEqual([]);
      const text = await rig.relay.metrics();
      parseExposition(text);
      // Those of Node.js are not of our naming.
      const own = text.split('\n').filter((line) => /^(# \w+ )?walcast_/.test(line));
      const { exitCode, stdout, stderr } = await promtoolCheckMetrics(
        rig.workspace,
        `${own.join('\n')}\n`,
      );
      expect(`${stdout}${stderr}`).toBe('');
      expect(exitCode).toBe(0);
    });

    it('has alerts pending of what is wrong: standbys gone, with them the policy, then the primary, then walcast', async () => {
      await rig.standby('standby_a').kill();
      await rig.standby('standby_b').kill();
      await pending('WalcastStandbyMissing', 'WalcastSyncUnsatisfied');
      await load.stop();
      await rig.primary.kill();
      await pending('WalcastUpstreamDisconnected');
      await rig.relay.kill();
      await pending('WalcastDown');
    });

    async function pending(...names: readonly string[]): Promise<void> {
      const states = async (): Promise<Record<string, string | undefined>> => {
        const evaluated = await prometheus.rules();
        return Object.fromEntries(
          names.map((name) => [name, evaluated.find((rule) => rule.name === name)?.state]),
        );
      };
      const expected = Object.fromEntries(names.map((name) => [name, 'pending']));
      await eventually(states).toEqual(expected);
    }

    /** A selector that finds nothing is misspelt, or of what does not exist any more. */
    async function expectSeries(selector: string, where: string): Promise<void> {
      if (found.has(selector)) return;
      const series = await prometheus.query(`count(${selector})`);
      expect.soft(series, `${selector} in ${where}`).not.toHaveLength(0);
      if (series.length > 0) found.add(selector);
    }
  },
);
