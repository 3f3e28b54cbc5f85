// What `npm run sim` runs after the bootstrap: the simulator over many seeds, or over one again.
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { runCommand, runVitest, wholeNumber } from './campaign-command.mjs';

const HELP = `Usage: npm run sim -- [OPTIONS]

Runs whole relays over a simulated clock, network and disk, through faults of every kind, and checks the invariants after every
step (docs/simulator.md). Exit code 0: nothing was violated.

Options:
  --seeds N     runs, one after the other (default 500)
  --seed N      seed of the first one; printed at the start (default: drawn)
  --bug I3      plants a bug against that invariant: it has to be found
  --trace       prints every step
  --help        this text
`;

process.exitCode = await runCommand(
  { name: 'sim', help: HELP, read: readOptions, run },
  process.argv.slice(2),
);

/** @param {string[]} argv */
function readOptions(argv) {
  const { values } = parseArgs({
    args: argv,
    options: {
      seeds: { type: 'string' },
      seed: { type: 'string' },
      bug: { type: 'string' },
      trace: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) return null;
  if (values.bug !== undefined && !/^I([1-9]|11)$/.test(values.bug)) {
    throw new Error(`--bug ${values.bug}: I1 to I9 or I11 is expected`);
  }
  return {
    seeds: wholeNumber('--seeds', values.seeds, 1) ?? 500,
    seed: wholeNumber('--seed', values.seed, 0) ?? randomInt(2 ** 31),
    bug: values.bug,
    isTraced: values.trace === true,
  };
}

/** @param {{ seed: number, seeds: number, bug: string | undefined, isTraced: boolean }} options @returns {Promise<number>} */
function run({ seed, seeds, bug, isTraced }) {
  console.log(`sim: ${seeds} runs from seed ${seed} on${bug === undefined ? '' : `, bug ${bug}`}`);
  return runVitest('sim', 'test/sim/vitest.config.ts', {
    WALCAST_TEST_SIM_SEED: String(seed),
    WALCAST_TEST_SIM_SEEDS: String(seeds),
    WALCAST_TEST_SIM_TRACE: isTraced ? '1' : '0',
    ...(bug === undefined ? {} : { WALCAST_TEST_SIM_BUG: bug }),
  });
}
