// Does `walcast health` give one line that says what is the matter, figures for a graph, and the right exit code?
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { healthOf } from '../../src/cli/health.ts';
import type { HttpServer } from '../../src/http/server.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import type { RelayState, RelayStatus, StatusSource } from '../../src/status/status.ts';
import { walcast } from '../support/cli.ts';
import type { CliOutcome } from '../support/cli.ts';
import { openTestPort } from '../support/http-port.ts';
import { sampleStandby, sampleStatus, sampleSync } from '../support/relay-status.ts';
import { SAMPLE_NOW_MS, statusJson } from '../support/status-json.ts';

const TOKEN = 'a-token-of-some-length';
let directory: string;
let tokenFile: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-cli-health-'));
  tokenFile = join(directory, 'token');
  writeFileSync(tokenFile, `${TOKEN}\n`);
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** A port of a relay whose figures are those of the samples. */
async function serve(source: StatusSource): Promise<{ server: HttpServer; url: string }> {
  const clock = { ...systemClock, wallMs: () => SAMPLE_NOW_MS };
  const server = await openTestPort({ source, clock, token: () => TOKEN });
  onTestFinished(() => server.close());
  return { server, url: server.url };
}

async function type(url: string, ...words: string[]): Promise<CliOutcome> {
  return await walcast([...words, '--url', url, '--token-file', tokenFile], {
    workingDirectory: directory,
  });
}

describe('health', () => {
  const request = {
    lag: { warning: null, critical: null },
    standbyLag: { warning: null, critical: null },
    standbys: 0,
  };

  /** Nobody is missing. */
  const whole = (overrides: Partial<RelayStatus> = {}): RelayStatus =>
    sampleStatus({ absentStandbys: [], ...overrides });
  const source = { status: () => whole() };

  test('is one line with performance data, and 0', async () => {
    const { url } = await serve(source);
    expect(await type(url, 'health', '--lag', '1GB', '--lag', '64MB', '--standbys', '1')).toEqual({
      code: 0,
      out:
        'WALCAST OK - streaming from pg-a:5432, lag 256 B, furthest behind is standby_a by 4.3 kB, 1 standby ' +
        '| lag=256B;67108864;1073741824 standby_lag=4352B;; standbys=1;1: store=50331648B;;;0;68719476736 warnings=0 criticals=0\n',
      err: '',
    });
  });

  test.each<[RelayState, number]>([
    ['starting', 1],
    ['connecting', 1],
    ['catchup', 0],
    ['streaming', 0],
    ['waiting', 1],
    ['paused', 1],
    ['full', 2],
    ['gap', 2],
    ['diverged', 2],
    ['corrupt', 2],
    ['draining', 1],
    ['failed', 2],
  ])('state %s gives %d', (state, expected) => {
    const { health, line } = healthOf(statusJson(inState(state)), request);
    expect(health).toBe(expected);
    expect(line.split('|')).toHaveLength(2);
    expect(line).not.toContain('\n');
    expect(line).toMatch(new RegExp(`[-,] ${state}\\b`));
    expect(line).toMatch(/ warnings=[01] criticals=[01]$/);
  });

  /** As a relay is in that state. */
  function inState(state: RelayState): RelayStatus {
    const { upstream } = whole();
    const detail = 'why | and\nwhat.';
    const held = ['waiting', 'full', 'gap', 'diverged', 'corrupt', 'failed'].includes(state);
    const isUp = ['streaming', 'catchup', 'paused'].includes(state);
    return whole({
      state,
      detail,
      isDraining: state === 'draining',
      isPaused: state === 'paused',
      upstream: {
        ...upstream,
        detail,
        heldState: held ? state : null,
        state: isUp ? 'streaming' : 'disconnected',
      },
    });
  }

  test.each([
    [['--lag', '256'], 1],
    [['--lag', '257'], 0],
    [['--lag', '100', '--lag', '200'], 2],
    [['--standby-lag', '4kB'], 1],
    [['--standby-lag', '4kB', '--standby-lag', '1kB'], 2],
    [['--standbys', '2'], 1],
    [['--standbys', '1'], 0],
    [['--lag', 'much'], 2],
    [['--lag', '-1'], 2],
    [['--lag', '1', '--lag', '2', '--lag', '3'], 2],
    [['--standbys', 'many'], 2],
    [['extra'], 2],
  ])('%j gives %d', async (words, code) => {
    const { url } = await serve(source);
    expect((await type(url, 'health', ...words)).code).toBe(code);
  });

  test.each<[string, Partial<RelayStatus>, string]>([
    [
      'a policy that too few satisfy',
      {
        sync: sampleSync({
          method: 'quorum',
          isSatisfied: false,
          requiredStandbys: 2,
          eligibleStandbys: 1,
          sinceMs: SAMPLE_NOW_MS,
        }),
      },
      'too few standbys for synchronous_standby_names: 2 needed, 1 is there,',
    ],
    [
      'standbys that stand still',
      {
        standbys: Array.from({ length: 7 }, (_, index) =>
          sampleStandby({ applicationName: `s${index}`, isStalled: true }),
        ),
      },
      'standby s0 has confirmed nothing more for a minute',
    ],
    [
      'one that may wait for a restart by hand',
      { absentStandbys: sampleStatus().absentStandbys },
      'standby standby_b left 10 s ago',
    ],
    [
      'a store that is nearly full',
      { retention: { ...sampleStatus().retention, isNearLimit: true } },
      'the store is near its limit',
    ],
    ['an alarm', { sync: sampleSync({ alarms: ['look here'] }) }, 'look here'],
  ])('%s is a warning', (_what, overrides, words) => {
    const { health, line } = healthOf(statusJson(whole(overrides)), request);
    expect(health).toBe(1);
    expect(line).toContain(words);
  });

  test('the worst comes first, a few matters are told and the others counted', () => {
    const { upstream, slots } = whole();
    const standbys = Array.from({ length: 4 }, (_, index) =>
      sampleStandby({ applicationName: `s${index}`, isStalled: true }),
    );
    const lost = slots.map((slot) => ({ ...slot, walStatus: 'lost' as const }));
    const status = whole({ standbys, slots: lost, upstream, isPaused: true });
    const { health, line } = healthOf(statusJson(status), request);
    expect(health).toBe(2);
    expect(line).toMatch(
      /^WALCAST CRITICAL - slot slot_a is lost: .*, a pause is on: .*, standby s\d .*, 3 more matters, streaming from .* warnings=5 criticals=1$/,
    );
  });

  test('one more matter is one', () => {
    const standbys = Array.from({ length: 4 }, (_, index) =>
      sampleStandby({ applicationName: `s${index}`, isStalled: true }),
    );
    expect(healthOf(statusJson(whole({ standbys })), request).line).toContain(
      ', 1 more matter, streaming from ',
    );
  });

  test('what is only good to know is no warning', () => {
    const status = statusJson(sampleStatus({ absentStandbys: [] }));
    expect(status.findings.length).toBeGreaterThan(0);
    expect(healthOf(status, request).health).toBe(0);
  });

  test('nobody there, or somebody else, is critical, and told on standard output', async () => {
    const { url, server } = await serve(source);
    expect((await type(`${url}/elsewhere`, 'health')).code).toBe(2);
    await server.close();
    const { code, out } = await type(url, 'health');
    expect(code).toBe(2);
    expect(out).toMatch(/^WALCAST CRITICAL - no walcast answers at .*\n$/);
  });

  test('a token that cannot be read is critical as well: a warning wakes nobody up', async () => {
    const { url } = await serve(source);
    const { code, out } = await walcast(
      ['health', '--url', url, '--token-file', '/nowhere/token'],
      { workingDirectory: directory },
    );
    expect([code, out]).toEqual([2, expect.stringMatching(/^WALCAST CRITICAL - the token file /)]);
  });

  test('what is not known is U, and no standby is no lag', () => {
    const upstream = { ...sampleStatus().upstream, serverLsn: INVALID_LSN };
    const status = statusJson(sampleStatus({ upstream, standbys: [] }));
    expect(healthOf(status, request).line).toMatch(/\| lag=U;; standby_lag=U;; standbys=0; /);
  });

  test('a name that a client chose cannot forge the line', () => {
    const standbys = [sampleStandby({ applicationName: '\u001b[2J|x\n' })];
    const { line } = healthOf(statusJson(sampleStatus({ standbys })), request);
    expect(line).toContain('?[2J/x?');
  });
});
