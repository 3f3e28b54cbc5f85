// Is OpenMetrics given to who asks for it, with the same figures, and does a real Prometheus take both formats?
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import {
  OPENMETRICS_CONTENT_TYPE,
  prefersOpenMetrics,
  toOpenMetrics,
  withFloatBounds,
} from '../../src/metrics/openmetrics.ts';
import { openMetrics } from '../../src/metrics/registry.ts';
import type { Metrics } from '../../src/metrics/registry.ts';
import { freePort } from '../harness/free-port.ts';
import { openTestPort } from '../support/http-port.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStandby, sampleStatus } from '../support/relay-status.ts';
import { requires } from '../support/requirements.ts';

/** What Prometheus 2.42 and 3.x send. */
const PROMETHEUS_2 =
  'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
const PROMETHEUS_3 =
  'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2';

/** A name that has to be escaped, and one request measured. */
function open(): Metrics {
  const standbys = [sampleStandby({ applicationName: 'a"b\\c' })];
  const metrics = openMetrics({
    source: { status: () => sampleStatus({ standbys }) },
    clock: new ManualClock(),
  });
  metrics.observeRequest({ method: 'GET', route: '/metrics', statusCode: 200, seconds: 0.002 });
  return metrics;
}

describe('who gets OpenMetrics', () => {
  test.each([
    [PROMETHEUS_2, true],
    [PROMETHEUS_3, true],
    ['application/openmetrics-text', true],
    ['Application/OpenMetrics-Text; version=1.0.0', true],
    ['application/openmetrics-text;q=0', false],
    ['application/openmetrics-text;q=0.2, text/plain;q=0.9', false],
    ['application/openmetrics-text;q=nonsense', false],
    ['application/openmetrics-text;version=2.0.0,text/plain;q=0.5', false],
    ['application/openmetrics-text;version=2.0.0,application/openmetrics-text;q=0.9', true],
    ['application/openmetrics-text;version="1.0.0"', true],
    ['application/openmetrics-text;q=1.0000,text/plain;q=0.9', true],
    ['application/openmetrics-text;q=', false],
    ['application/openmetrics-text;q=-1', false],
    ['application/openmetrics-text;q=0.5;charset=utf-8,*/*;q=0.1', true],
    ['text/plain', false],
    ['*/*', false],
    ['', false],
    [undefined, false],
  ])('%s: %s', (accept, isOpenMetrics) => {
    expect(prefersOpenMetrics(accept)).toBe(isOpenMetrics);
  });

  test('the two formats say the same, in any order of asking', async () => {
    const metrics = open();
    const openFirst = await metrics.render(PROMETHEUS_2);
    const text = await metrics.render();
    const openAgain = await metrics.render(PROMETHEUS_3);
    expect(openFirst.contentType).toBe(OPENMETRICS_CONTENT_TYPE);
    expect(text.contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(openAgain.body).toBe(openFirst.body);
    expect(samplesOf(openFirst.body)).toEqual(samplesOf(text.body));
    expect(samplesOf(text.body).length).toBeGreaterThan(150);
  });

  function samplesOf(body: string): string[] {
    return body.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  }
});

describe('the format', () => {
  test('a bound of a bucket is a float in both formats: a label of another spelling is another series', async () => {
    const metrics = open();
    for (const accept of [undefined, PROMETHEUS_2]) {
      const { body } = await metrics.render(accept);
      const bounds = new Set([...body.matchAll(/[{,]le="([^"]*)"/g)].map(([, le]) => le));
      expect(bounds).toContain('1.0');
      expect(bounds).toContain('0.0001');
      expect([...bounds].filter((le) => !/^(\d+\.\d+|\+Inf)$/.test(le ?? ''))).toEqual([]);
    }
    expect(
      withFloatBounds('a_bucket{le="5",kind="x"} 1\nb{kind="x",le="10"} 2\nc{file="5"} 1'),
    ).toBe('a_bucket{le="5.0",kind="x"} 1\nb{kind="x",le="10.0"} 2\nc{file="5"} 1');
  });

  test('counters are families without _total, help is escaped, and the end is marked', () => {
    const text =
      '# HELP a_total what "it" counts\n# TYPE a_total counter\na_total{b="c"} 1\n\n' +
      '# HELP d_total a gauge of that name\n# TYPE d_total gauge\nd_total 2\n\n';
    expect(toOpenMetrics(text)).toBe(
      '# TYPE a counter\n# HELP a what \\"it\\" counts\na_total{b="c"} 1\n' +
        '# TYPE d_total gauge\n# HELP d_total a gauge of that name\nd_total 2\n',
    );
  });

  test('there is no blank line and nothing behind the end', async () => {
    const { body } = await open().render(PROMETHEUS_2);
    expect(body).not.toMatch(/\n\n/);
    expect(body.endsWith('\n# EOF\n')).toBe(true);
    expect(body.indexOf('# EOF')).toBe(body.length - '# EOF\n'.length);
  });
});

/** Prometheus on some ports, each a job, until the test is over. Gives the address of its API. */
async function startPrometheus(jobs: Readonly<Record<string, number>>): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'walcast-prometheus-'));
  const port = await freePort();
  const scrapes = Object.entries(jobs).map(([name, target]) => ({
    job_name: name,
    scrape_interval: '200ms',
    scrape_timeout: '200ms',
    static_configs: [{ targets: [`127.0.0.1:${target}`] }],
  }));
  // YAML is a superset of JSON.
  writeFileSync(join(directory, 'prometheus.yml'), JSON.stringify({ scrape_configs: scrapes }));
  const prometheus = spawn(
    'prometheus',
    [
      `--config.file=${directory}/prometheus.yml`,
      `--storage.tsdb.path=${directory}/data`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=error',
    ],
    { stdio: 'ignore' },
  );
  const ended = new Promise((resolve) => prometheus.once('exit', resolve));
  onTestFinished(async () => {
    prometheus.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true });
  });
  return `http://127.0.0.1:${port}`;
}

/** The value of the only series of a query; null while there is none. */
async function query(api: string, text: string): Promise<string | null> {
  const answer = await fetch(`${api}/api/v1/query?query=${encodeURIComponent(text)}`)
    .then((response) => response.text())
    .catch(() => '');
  return /"value":\[[\d.]+,"([^"]*)"\]/.exec(answer)?.[1] ?? null;
}

requires('prometheus').describe('a real Prometheus', () => {
  test('takes both formats', { timeout: 60_000 }, async () => {
    const ports: Record<string, number> = {};
    for (const [job, accept] of [['openmetrics'], ['text', 'text/plain']] as const) {
      const metrics = open();
      const given = new Set<string>();
      const server = await openTestPort({
        clock: systemClock,
        metrics: {
          render: async (asked) => {
            const exposition = await metrics.render(accept ?? asked);
            given.add(exposition.contentType);
            return exposition;
          },
          observeRequest: (request) => metrics.observeRequest(request),
        },
      });
      onTestFinished(async () => {
        await server.close();
        expect([...given]).toEqual([expect.stringContaining(job)]);
      });
      ports[job] = server.port;
    }
    const api = await startPrometheus(ports);
    for (const job of ['openmetrics', 'text']) {
      // It takes five seconds to look for what it scrapes.
      await expect
        .poll(() => query(api, `up{job="${job}"}`), { timeout: 40_000, interval: 100 })
        .toBe('1');
      const value = (text: string): Promise<string | null> =>
        query(api, text.replace('{', `{job="${job}",`));
      expect(await value('walcast_standby_sent_bytes_total{standby=~"a.b.c"}')).toBe('5000');
      expect(await value('walcast_upstream_lag_seconds{}')).toBe('0.125');
      expect(await value('walcast_store_flush_duration_seconds_bucket{le="0.01"}')).toBe('5');
    }
  });
});
