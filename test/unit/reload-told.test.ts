// What do status, API and console say of a reload that was refused, and of one that came at the wrong moment?
import { describe, expect, onTestFinished, test } from 'vitest';
import { RELOAD_PROBLEM_LENGTH_MAX, RELOAD_PROBLEMS_SHOWN_MAX } from '../../src/config/limits.ts';
import { carryOut } from '../../src/console/admin-work.ts';
import { accessMatters } from '../../src/health/access-matters.ts';
import { configurationJson } from '../../src/http/configuration-json.ts';
import { nullableTimeText } from '../../src/http/json-words.ts';
import { StatusBoard } from '../../src/relay/status-board.ts';
import type { ConfigurationStatus } from '../../src/status/status.ts';
import { AdminActions } from '../support/admin-actions.ts';
import { openTestPort, RecordingActions } from '../support/http-port.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStatus } from '../support/relay-status.ts';

const NOW_MS = 1_700_000_000_000;

function openBoard(): StatusBoard {
  const sample = sampleStatus();
  return new StatusBoard({
    version: '1',
    clock: new ManualClock(),
    parts: {
      upstream: () => null,
      store: () => null,
      filesystem: () => null,
      identity: () => null,
      standbys: () => [],
      absentStandbys: () => [],
      slots: () => [],
      certificates: () => [],
      upstreamDelay: () => sample.upstreamDelay,
      standbyTotals: () => sample.standbyTotals,
      sync: () => ({ status: sample.sync, stateOf: () => ({ state: 'async', priority: 0 }) }),
      feedback: () => sample.feedback,
      retention: () => sample.retention,
      readThrough: () => sample.readThrough,
      adminCommands: () => new Map(),
    },
  });
}

function told(board: StatusBoard): ConfigurationStatus {
  return board.status().configuration;
}

describe('the status', () => {
  test('has the mistakes of the last refused reload until one succeeds, and counts both', () => {
    const board = openBoard();
    expect(told(board)).toMatchObject({ isLastReloadGood: true, problems: [], refusedAtMs: null });
    board.reloadRefused(NOW_MS, ['walcast.yaml:1:1: one']);
    board.reloadRefused(NOW_MS + 1_000, ['walcast.yaml:2:1: two', 'walcast.yaml:3:1: three']);
    expect(configurationJson(board.status(), nullableTimeText)).toMatchObject({
      last_reload_good: false,
      refused_at: '2023-11-14T22:13:21.000Z',
      problems: ['walcast.yaml:2:1: two', 'walcast.yaml:3:1: three'],
      reloads: { success: 0, failure: 2 },
    });
    board.reloaded(NOW_MS + 2_000, ['listen']);
    expect(configurationJson(board.status(), nullableTimeText)).toEqual({
      last_reload_good: true,
      loaded_at: '2023-11-14T22:13:22.000Z',
      refused_at: null,
      problems: [],
      pending_restart: ['listen'],
      reloads: { success: 1, failure: 2 },
    });
  });

  test('has a bound, however many mistakes there are and however long', () => {
    const board = openBoard();
    board.reloadRefused(
      NOW_MS,
      Array.from({ length: 100 }, () => 'x'.repeat(100_000)),
    );
    const { problems } = told(board);
    expect(problems).toHaveLength(RELOAD_PROBLEMS_SHOWN_MAX + 1);
    expect(problems.at(-1)).toBe(`${100 - RELOAD_PROBLEMS_SHOWN_MAX} more`);
    expect(Math.max(...problems.map(({ length }) => length))).toBe(RELOAD_PROBLEM_LENGTH_MAX);
    const [finding] = accessMatters(board.status(), NOW_MS);
    expect(finding).toMatchObject({ code: 'reload_failed' });
    board.secretsRead(Array.from({ length: 100 }, () => 'x'.repeat(100_000)));
    const { secretProblems } = told(board);
    expect(secretProblems).toHaveLength(RELOAD_PROBLEMS_SHOWN_MAX + 1);
    expect(Math.max(...secretProblems.map(({ length }) => length))).toBe(RELOAD_PROBLEM_LENGTH_MAX);
  });
});

describe('a reload while walcast starts', () => {
  const report = { problems: ['still starting'], changed: [], pendingRestart: [], isNotNow: true };

  test('is not said to be a mistake of the configuration over HTTP', async () => {
    const actions = new RecordingActions();
    actions.report = report;
    const server = await openTestPort({ actions, token: () => 'the-token-of-the-test' });
    onTestFinished(() => server.close());
    const response = await fetch(`http://127.0.0.1:${server.port}/api/v1/reload`, {
      method: 'POST',
      headers: { authorization: 'Bearer the-token-of-the-test' },
    });
    expect(response.status).toBe(409);
    expect(await response.json()).toMatchObject({
      type: 'urn:walcast:problem:not-now',
      detail: expect.stringContaining('still starting'),
    });
  });

  test('nor on the console', async () => {
    const actions = new AdminActions();
    actions.report = report;
    const source = { status: () => ({ isPaused: false, isDraining: false }) };
    const outcome = await carryOut({ kind: 'admin', command: 'reload' }, { actions, source });
    expect(outcome).toMatchObject({
      kind: 'failed',
      error: { sqlstate: '55000', message: expect.stringContaining('still starting') },
    });
  });
});
