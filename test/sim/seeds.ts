// How many seeds does a test run, and from which one on?

/** Seeds of `npm test`, and of the full campaign in CI. */
const SEEDS = { quick: 100, full: 500 };

/** Where the seeds of the tests begin. */
export const FIRST_SEED = 1;

/** So many in all, over all files. */
export const SEED_COUNT: number =
  process.env['WALCAST_TEST_FAULTS'] === 'full' ? SEEDS.full : SEEDS.quick;
