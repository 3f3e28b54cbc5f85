// What `npm run sim` runs after the bootstrap: the simulator over many seeds, or over one again.
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

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

const root = fileURLToPath(new URL('..', import.meta.url));

process.exitCode = await main(process.argv.slice(2));

/** @param {string[]} argv @returns {Promise<number>} */
async function main(argv) {
  /** @type {ReturnType<typeof readOptions>} */
  let options;
  try {
    options = readOptions(argv);
  } catch (error) {
    console.error(
      `walcast sim: ${error instanceof Error ? error.message : String(error)}\n\n${HELP}`,
    );
    return 2;
  }
  if (options === null) {
    process.stdout.write(HELP);
    return 0;
  }
  const { seed, seeds, bug } = options;
  console.log(`sim: ${seeds} runs from seed ${seed} on${bug === undefined ? '' : `, bug ${bug}`}`);
  const worst = await run(options);
  console.log(worst === 0 ? 'sim: ok' : 'sim: FAILED, see above');
  return worst;
}

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
  if (values.bug !== undefined && !/^I[1-9]$/.test(values.bug)) {
    throw new Error(`--bug ${values.bug}: I1 to I9 is expected`);
  }
  return {
    seeds: wholeNumber('--seeds', values.seeds, 1) ?? 500,
    seed: wholeNumber('--seed', values.seed, 0) ?? randomInt(2 ** 31),
    bug: values.bug,
    isTraced: values.trace === true,
  };
}

/** @param {string} name @param {string | undefined} text @param {number} min */
function wholeNumber(name, text, min) {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value >= 2 ** 32)
    throw new Error(`${name} ${text}: a whole number from ${min} on is expected`);
  return value;
}

/** @param {{ seed: number, seeds: number, bug: string | undefined, isTraced: boolean }} options @returns {Promise<number>} */
function run({ seed, seeds, bug, isTraced }) {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const child = spawn(process.execPath, [vitest, 'run', '-c', 'test/sim/vitest.config.ts'], {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      NO_COLOR: '1',
      WALCAST_TEST_SIM_SEED: String(seed),
      WALCAST_TEST_SIM_SEEDS: String(seeds),
      WALCAST_TEST_SIM_TRACE: isTraced ? '1' : '0',
      ...(bug === undefined ? {} : { WALCAST_TEST_SIM_BUG: bug }),
    },
  });
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => child.kill(signal));
  return new Promise((resolve) => {
    child.on('error', (error) => {
      console.error(`walcast sim: vitest did not start: ${error.message}`);
      resolve(1);
    });
    child.on('exit', (code) => resolve(code ?? 1));
  });
}
