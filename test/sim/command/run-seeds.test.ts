// What `npm run sim` runs: its options come through the environment.
import { expect, test } from 'vitest';
import { PLANTED_BUGS } from '../bugs.ts';
import { failureText, figureLines, runCampaign, tell } from '../campaign.ts';

const seed = Number(process.env['WALCAST_TEST_SIM_SEED'] ?? 1);
const seeds = Number(process.env['WALCAST_TEST_SIM_SEEDS'] ?? 1);
const step = Number(process.env['WALCAST_TEST_SIM_STEP'] ?? 1);
const bug = PLANTED_BUGS.find(({ invariant }) => invariant === process.env['WALCAST_TEST_SIM_BUG']);
const isShown = process.env['WALCAST_TEST_SIM_TRACE'] === '1';

/** A line of progress after so many runs. */
const TOLD_EVERY = 5;

test(
  'runs the seeds that were asked for',
  async () => {
    let runs = 0;
    const report = await runCampaign({
      firstSeed: seed,
      count: seeds,
      step,
      bug: bug ?? null,
      isShown,
      onRun: (run) => {
        runs += 1;
        if (seeds === 1) tell(`seed ${run.seed}: trace ${run.hash}`);
        if (runs % TOLD_EVERY === 0) tell(`${runs} of ${seeds} runs, last seed ${run.seed}`);
      },
    });
    tell(`seeds from ${seed} on:\n${figureLines(report)}`);
    const failure = report.failed === null ? null : failureText(report.failed);
    if (failure !== null) tell(failure);
    expect(failure === null, 'an invariant was violated, see above').toBe(true);
  },
  24 * 3_600_000,
);
