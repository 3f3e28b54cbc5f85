// Whole relays through faults of every kind, without a violation: every other seed. The rest is in the sibling, so that two
// cores have something to do.
import { expect, test } from 'vitest';
import { failureText, figureLines, runCampaign, tell } from './campaign.ts';
import { FIRST_SEED, SEED_COUNT } from './seeds.ts';

test(`no invariant is violated in ${SEED_COUNT / 2} runs with even seeds, and everybody gets there in the end`, async () => {
  const report = await runCampaign({ firstSeed: FIRST_SEED + 1, count: SEED_COUNT / 2, step: 2 });
  tell(`simulator, even seeds:\n${figureLines(report)}`);
  const failure = report.failed === null ? null : failureText(report.failed);
  expect(failure, failure ?? '').toBeNull();
});
