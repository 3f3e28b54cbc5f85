// Does the simulator see anything at all? One bug for each invariant and some more, each of which has to be found as a violation of just that one.
import { expect, test } from 'vitest';
import { PLANTED_BUGS } from './bugs.ts';
import { runCampaign, tell } from './campaign.ts';
import { FIRST_SEED } from './seeds.ts';
import { INVARIANTS } from './verdict.ts';

/** Seeds within which each has to be found. */
const SEEDS_MAX = 100;

test.for(PLANTED_BUGS)('finds the bug against $invariant: $what', async (bug) => {
  const report = await runCampaign({ firstSeed: FIRST_SEED, count: SEEDS_MAX, bug });
  const found = report.failed?.violations[0];
  tell(`${bug.invariant} found at seed ${report.failed?.seed}: ${found?.text}`);
  expect(found?.invariant).toBe(bug.invariant);
});

test('there is a bug for each invariant that is checked', () => {
  const invariants = PLANTED_BUGS.map(({ invariant }) => invariant);
  const checked = INVARIANTS.filter((name) => name.startsWith('I'));
  expect([...new Set(invariants)]).toEqual(checked);
});
