// What `npm run soak` runs after the bootstrap: long campaigns of crashes and faults, with a seed that says what was hit.
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { runCommand, runVitest, wholeNumber } from './campaign-command.mjs';

const HELP = `Usage: npm run soak -- [CAMPAIGN…] [OPTIONS]

Breaks things under load again and again, and compares afterwards what was acknowledged with what is there, byte for byte, in
stores and in standbys. Exit code 0: nothing was lost, no byte differs, everything recovered by itself.

  kill         kill -9 at random instants: streaming, switches of segments, large records, slots, start, recovery
  power-cut    the store's disk is copied at a random instant while it is mounted; walcast goes on with the copy (Linux, root)
  switch       kill -9 while the primary changes, so that walcast dies in the middle of its own switch of timelines
  sync         kill -9 of walcast, of standbys that commits wait for, of the primary; promotion of a standby that was waited for
  faults       random faults, one or two at a time, on a primary, two relays and four standbys: processes, links, disks, switches

Without a name all of them run, one after the other.

Options:
  --rounds N     rounds per campaign (default 200 for kill, 50 for power-cut, 30 for switch, 100 for sync, no bound for faults)
  --for SECONDS  end each campaign after the round in which so much time has passed (default 30 minutes for faults)
  --minutes N    the same in minutes
  --major N      PostgreSQL's major (default 18)
  --only TEXT    faults: only those with this text in their name
  --seed N       what is hit, and the load; printed at the start (default: drawn)
  --help         this text
`;

/** 0: no bound. */
const DEFAULT_ROUNDS = { kill: 200, 'power-cut': 50, switch: 30, sync: 100, faults: 0 };
const DEFAULT_SECONDS = { faults: 30 * 60 };

process.exitCode = await runCommand(
  { name: 'soak', help: HELP, read: readOptions, run },
  process.argv.slice(2),
);

/** @param {string[]} argv */
function readOptions(argv) {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      rounds: { type: 'string' },
      for: { type: 'string' },
      minutes: { type: 'string' },
      major: { type: 'string' },
      only: { type: 'string' },
      seed: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) return null;
  const known = Object.keys(DEFAULT_ROUNDS);
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`there is no campaign "${unknown}"`);
  return {
    campaigns: positionals.length === 0 ? known : positionals,
    rounds: wholeNumber('--rounds', values.rounds, 1),
    seconds: secondsOf(
      wholeNumber('--for', values.for, 1),
      wholeNumber('--minutes', values.minutes, 1),
    ),
    major: wholeNumber('--major', values.major, 13),
    only: values.only,
    seed: wholeNumber('--seed', values.seed, 0) ?? randomInt(2 ** 31),
  };
}

/** @param {number | undefined} seconds @param {number | undefined} minutes */
function secondsOf(seconds, minutes) {
  return minutes === undefined ? seconds : minutes * 60;
}

/** @param {NonNullable<ReturnType<typeof readOptions>>} options @returns {Promise<number>} */
async function run(options) {
  let worst = 0;
  for (const campaign of options.campaigns) {
    worst = Math.max(worst, await runCampaign(campaign, options));
  }
  return worst;
}

/** @param {string} campaign @param {NonNullable<ReturnType<typeof readOptions>>} options @returns {Promise<number>} */
function runCampaign(campaign, { rounds, seconds, seed, major, only }) {
  const count = rounds ?? DEFAULT_ROUNDS[campaign];
  const limit = seconds ?? (rounds === undefined ? DEFAULT_SECONDS[campaign] : undefined) ?? 0;
  const bounds = [
    ...(count === 0 ? [] : [`at most ${count} rounds`]),
    ...(limit === 0 ? [] : [`${limit} s`]),
  ];
  console.log(`${campaign}: ${bounds.join(', ')}, seed ${seed}`);
  return runVitest('soak', 'test/soak/vitest.config.ts', {
    WALCAST_TEST_SOAK_CAMPAIGNS: campaign,
    WALCAST_TEST_SOAK_ROUNDS: String(count),
    WALCAST_TEST_SOAK_SECONDS: String(limit),
    WALCAST_TEST_SOAK_SEED: String(seed),
    ...(only === undefined ? {} : { WALCAST_TEST_SOAK_ONLY: only }),
    ...(major === undefined ? {} : { WALCAST_TEST_MAJORS: String(major) }),
  });
}
