// Does a fast stop of a primary whose commits wait for standbys behind walcast end within two seconds, whatever those standbys
// do at that moment? And does everything go on when it is started again?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { StopMode } from '../../src/demo/postgres-server.ts';
import { CommitSessions, LEVELS, returned } from '../harness/sync-commits.ts';
import type { CommitLevel } from '../harness/sync-commits.ts';
import { openSyncRig } from '../harness/sync-rig.ts';
import type { AwayStandby, SyncRig } from '../harness/sync-rig.ts';
import { FULL_FAULTS, installedMajors, NEWEST_MAJOR } from '../support/requirements.ts';

const MAJORS = installedMajors().filter((major) => major === NEWEST_MAJOR);
const FAST_STOP_MS_MAX = 2_000;
/** Nothing may happen in this time. */
const HOLD_MS = 300;
const TERMINATED = /terminating connection|closed|server/;

interface StopCase {
  readonly when: string;
  /** The primary's list; default walcast alone. */
  readonly names?: string;
  readonly policy: string;
  /** What is done to standbys before the stop; gives how they come back. */
  readonly away: (rig: SyncRig) => Promise<readonly (() => Promise<void>)[]>;
  /** Levels of commits that wait at the moment of the stop, and of those that wait after it until the standbys are back. */
  readonly waiting?: readonly CommitLevel[];
  /** Only where faults are injected at length. */
  readonly isLong?: boolean;
}

const leave =
  (how: 'stopped' | 'killed' | 'cut', ...names: readonly string[]) =>
  async (rig: SyncRig): Promise<(() => Promise<void>)[]> => {
    const all: AwayStandby[] = [];
    for (const name of names) all.push(await rig.leave(name, how));
    return all.map(({ back }) => back);
  };

const CASES: readonly StopCase[] = [
  { when: 'fulfilled', policy: 'FIRST 1 (a, b)', away: async () => [] },
  {
    when: 'no policy, standbys stopped',
    policy: '',
    away: leave('stopped', 'a', 'b'),
    isLong: true,
  },
  {
    when: 'nobody of the policy is there',
    policy: 'ANY 2 (a, b)',
    away: leave('killed', 'a', 'b'),
    isLong: true,
  },
  {
    when: 'nobody of the policy is there and commits wait',
    policy: 'ANY 2 (a, b)',
    away: leave('killed', 'b'),
    waiting: LEVELS,
  },
  {
    when: 'the standby is stopped',
    policy: 'FIRST 1 (a)',
    away: leave('stopped', 'a'),
    isLong: true,
  },
  {
    when: 'the standby is stopped and commits wait',
    policy: 'FIRST 1 (a)',
    away: leave('stopped', 'a'),
    waiting: LEVELS,
  },
  {
    when: 'the standby is cut off and commits wait',
    policy: 'FIRST 2 (a, b)',
    away: leave('cut', 'b'),
    waiting: LEVELS,
    isLong: true,
  },
  {
    when: 'the standby applies nothing and commits wait',
    policy: 'FIRST 1 (a)',
    away: async (rig) => [await rig.stopProcess('a', 'startup')],
    waiting: ['remote_apply'],
    isLong: true,
  },
  {
    when: 'another standby took the place of walcast',
    names: 'FIRST 1 (walcast, d)',
    policy: 'FIRST 1 (a)',
    away: leave('killed', 'a'),
  },
  {
    when: 'walcast is the second in the list, its standby stopped',
    names: 'FIRST 2 (d, walcast)',
    policy: 'FIRST 1 (a)',
    away: leave('stopped', 'a'),
    waiting: LEVELS,
    isLong: true,
  },
];

describe.each(MAJORS)('a fast stop of a primary of PostgreSQL %i', (major) => {
  let rig: SyncRig;

  beforeAll(async () => {
    rig = await openSyncRig({
      major,
      relays: [{ name: 'walcast' }],
      standbys: [
        { name: 'a', upstream: 'walcast' },
        { name: 'b', upstream: 'walcast' },
        { name: 'd', upstream: 'primary' },
      ],
      primaryNames: 'walcast',
    });
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  /** Milliseconds that the stop took. */
  async function stopFast(): Promise<number> {
    const startedMs = systemClock.nowMs();
    await rig.primary.stop('fast');
    return Math.round(systemClock.nowMs() - startedMs);
  }

  /**
   * Starts the primary again. That walcast let it go with its shutdown checkpoint releases nothing now: commits wait for the
   * standbys as before, and return when they are back.
   */
  async function goOn(
    levels: readonly CommitLevel[],
    backs: readonly (() => Promise<void>)[],
  ): Promise<void> {
    await rig.primary.start();
    await using commits = await CommitSessions.open(rig.primary);
    await rig
      .relay('walcast')
      .waitForStatus('walcast streaming', ({ state }) => state === 'streaming');
    const waiting = levels.map((level) => commits.begin(level));
    await commits.untilWaiting(waiting);
    await new Promise<void>((resolve) => systemClock.setTimer(HOLD_MS, resolve));
    expect(waiting.filter(({ doneMs }) => doneMs !== null)).toEqual([]);
    for (const back of backs) await back();
    await returned(waiting);
    await commits.commitAll();
    await rig.settled();
  }

  it.each(CASES.filter(({ isLong }) => FULL_FAULTS || isLong !== true))(
    'ends within two seconds: $when',
    async ({ when, names = 'walcast', policy, away, waiting: levels = [] }) => {
      await rig.setPrimaryNames(names);
      await rig.relay('walcast').reload({ synchronous_standby_names: policy });
      await using commits = await CommitSessions.open(rig.primary);
      if (policy === '') await commits.begin('on').ended;
      else await commits.commitAll();
      const backs = await away(rig);
      const waiting = levels.map((level) => commits.begin(level));
      await commits.untilWaiting(waiting);
      const tookMs = await stopFast();
      process.stderr.write(`PostgreSQL ${major}, ${when}: stopped in ${tookMs} ms\n`);
      for (const { ended } of waiting) await expect(ended).rejects.toThrow(TERMINATED);
      if (policy === '') await rig.relay('walcast').reload({ synchronous_standby_names: '*' });
      await goOn(levels, backs);
      expect(tookMs).toBeLessThan(FAST_STOP_MS_MAX);
      // Without a policy a commit at remote_apply is a problem.
      const problems = rig.relay('walcast').problems();
      expect(problems.filter((line) => !line.includes('remote_apply'))).toEqual([]);
    },
  );

  it('after a crash of the primary commits wait for the standby as before it', async () => {
    await rig.setPrimaryNames('walcast');
    await rig.relay('walcast').reload({ synchronous_standby_names: 'FIRST 1 (a)' });
    await using commits = await CommitSessions.open(rig.primary);
    await commits.commitAll();
    const { back } = await rig.leave('a', 'stopped');
    const waiting = commits.beginAll();
    await commits.untilWaiting(waiting);
    await rig.primary.kill();
    for (const { ended } of waiting) await expect(ended).rejects.toThrow(TERMINATED);
    await goOn(LEVELS, [back]);
  });

  it.each<StopMode>(FULL_FAULTS ? ['fast', 'immediate'] : ['immediate'])(
    'after a stop (%s) another standby has the place of walcast as before it',
    async (mode) => {
      await rig.setPrimaryNames('FIRST 1 (walcast, d)');
      await rig.relay('walcast').reload({ synchronous_standby_names: 'FIRST 1 (a)' });
      const { back } = await rig.leave('a', 'killed');
      await rig.primary.stop(mode);
      await rig.primary.start();
      await rig.primary.waitForValue(
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name IN ('walcast', 'd')",
        '2',
      );
      await using commits = await CommitSessions.open(rig.primary);
      const tookMs = Math.round(await commits.commitAll());
      process.stderr.write(
        `PostgreSQL ${major}: first commits after a stop (${mode}): ${tookMs} ms\n`,
      );
      await back();
      await rig.settled();
      expect(tookMs).toBeLessThan(FAST_STOP_MS_MAX);
    },
  );
});
