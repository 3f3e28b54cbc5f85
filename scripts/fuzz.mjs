// What `npm run fuzz` runs after the bootstrap: compiles the program and its fuzzer into a tree of their own, then runs one
// process a target, one after the other.
import { randomInt } from 'node:crypto';
import { spawn, spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { runCommand, wholeNumber } from './campaign-command.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

const HELP = `Usage: npm run fuzz -- [TARGET…] [OPTIONS]

Feeds recorded and made-up sessions, changed in every way, to parts of the program: no crash, no hang, no leak, no wrong byte for
anybody else may come of it (docs/fuzzing.md). Exit code 0: nothing did.

  --list            the targets
  --for SECONDS     time for all targets together (default 60)
  --messages N      goes on round after round until so many messages were taken in all; --for is then the time of one round
  --seed N          printed at the start (default: drawn)
  --reproduce FILE  runs a failure once more
  --canary KIND     plants a bug in the targets of standbys (crash, hang, leak, bytes): it has to be found
  --directory DIR   where failures are written (default .walcast-test/fuzz)
  --help            this text
`;

const CANARIES = ['crash', 'hang', 'leak', 'bytes'];
const HANG_MS = 20_000;
const CANARY_HANG_MS = 2_000;

process.exitCode = await runCommand(
  { name: 'fuzz', help: HELP, read: readOptions, run },
  process.argv.slice(2),
);

/** @param {string[]} argv */
function readOptions(argv) {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      list: { type: 'boolean' },
      for: { type: 'string' },
      messages: { type: 'string' },
      seed: { type: 'string' },
      reproduce: { type: 'string' },
      canary: { type: 'string' },
      directory: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) return null;
  const { canary } = values;
  if (canary !== undefined && !CANARIES.includes(canary)) {
    throw new Error(`--canary ${canary}: one of ${CANARIES.join(', ')} is expected`);
  }
  return {
    isList: values.list === true,
    targets: positionals,
    seconds: wholeNumber('--for', values.for, 1) ?? 60,
    messages: wholeNumber('--messages', values.messages, 1) ?? 0,
    seed: wholeNumber('--seed', values.seed, 0) ?? randomInt(2 ** 31),
    reproduce: values.reproduce,
    canary: canary ?? null,
    directory: values.directory ?? join(root, '.walcast-test/fuzz'),
  };
}

/** @param {NonNullable<ReturnType<typeof readOptions>>} options @returns {Promise<number>} */
async function run(options) {
  const tree = compile();
  const end = () => rmSync(tree, { recursive: true, force: true });
  process.once('exit', end);
  const known = await targetsOf(tree);
  if (options.isList) {
    for (const { name, about } of known) console.log(`  ${name.padEnd(12)} ${about}`);
    return 0;
  }
  if (options.reproduce !== undefined) return await reproduce(tree, options);
  const unknown = options.targets.find((name) => !known.some((target) => target.name === name));
  if (unknown !== undefined) {
    console.error(`walcast fuzz: there is no target "${unknown}"; --list names them`);
    return 2;
  }
  const chosen = known.filter(({ name }) => options.targets.length === 0 || options.targets.includes(name));
  return await fuzzAll(tree, chosen, options);
}

/**
 * Rounds over all targets, until there were enough messages; one round where none were asked for.
 * @param {string} tree @param {{ name: string, weight: number }[]} targets @param {NonNullable<ReturnType<typeof readOptions>>} options
 */
async function fuzzAll(tree, targets, options) {
  const { seed, seconds, messages } = options;
  console.log(`fuzz: ${targets.length} targets, ${seconds} s${messages > 0 ? ` a round until ${messages} messages` : ''}, seed ${seed}`);
  const weights = targets.reduce((sum, { weight }) => sum + weight, 0);
  const totals = { inputs: 0, messages: 0, failures: 0 };
  const startedAtMs = performance.now();
  let round = 0;
  do {
    for (const { name, weight } of targets) {
      const share = (seconds * weight) / weights;
      const report = await fuzzOne(tree, { ...options, target: name, seconds: share, seed: (seed + round) % 2 ** 32 });
      totals.inputs += report?.inputs ?? 0;
      totals.messages += report?.messages ?? 0;
      if (report === null || report.failure !== null) totals.failures += 1;
    }
    round += 1;
  } while (totals.messages < messages && totals.failures === 0);
  const took = Math.round((performance.now() - startedAtMs) / 1000);
  console.log(`fuzz: ${totals.messages} messages in ${totals.inputs} inputs, ${totals.failures} failures, ${took} s, seed ${seed}`);
  return totals.failures === 0 ? 0 : 1;
}

/** @param {string} tree @param {{ target: string, seconds: number, seed: number, canary: string | null, directory: string }} options */
async function fuzzOne(tree, { target, seconds, seed, canary, directory }) {
  const order = { command: 'run', target, seconds, seed, canary, directory, messages: 0 };
  let report = null;
  let hang = null;
  const code = await child(tree, order, (line) => {
    if (line.type === 'report') report = line;
    if (line.type === 'failure') hang = line;
  });
  if (report === null) {
    const failure = hang ?? { kind: 'crash', message: `the process of the target ended with ${code}`, file: null };
    printFailure(target, failure);
    return null;
  }
  printReport(report);
  if (report.failure !== null) printFailure(target, report.failure);
  return report;
}

/** @param {any} report */
function printReport(report) {
  const mb = (/** @type {number} */ bytes) => (bytes / 1024 / 1024).toFixed(1);
  const rate = Math.round(report.messages / report.seconds);
  console.log(
    `  ${report.target.padEnd(12)} ${String(report.messages).padStart(9)} messages ${String(report.inputs).padStart(8)} inputs` +
      ` ${report.seconds.toFixed(1).padStart(6)} s ${String(rate).padStart(7)}/s  blocks ${report.blocksAtFirst} → ${report.blocks}` +
      `  corpus ${report.corpus}  alive ${mb(report.aliveBefore)} → ${mb(report.aliveAfter)} MB  slowest ${report.slowestMs} ms`,
  );
}

/** @param {string} target @param {{ kind: string, message: string, file: string | null }} failure */
function printFailure(target, { kind, message, file }) {
  console.error(`fuzz: ${target}: ${kind}: ${message}`);
  if (file !== null) console.error(`fuzz: again with: npm run fuzz -- --reproduce ${relative(process.cwd(), file)}`);
}

/** @param {string} tree @param {NonNullable<ReturnType<typeof readOptions>>} options */
async function reproduce(tree, { reproduce: file = '', canary }) {
  let outcome = null;
  const code = await child(tree, { command: 'reproduce', file, canary }, (line) => {
    outcome = line;
  });
  if (outcome === null) {
    console.error(`fuzz: ${file}: the process ended with ${code}`);
    return 1;
  }
  const { failure, kind, message, leakBytes } = /** @type {any} */ (outcome);
  if (kind !== undefined) console.error(`fuzz: ${file}: ${kind}: ${message}`);
  else if (failure !== null) console.error(`fuzz: ${file}: ${failure.kind}: ${failure.message}`);
  else console.log(`fuzz: ${file}: nothing is wrong; one run leaves ${leakBytes} bytes`);
  return failure === null && kind === undefined && leakBytes < 2000 ? 0 : 1;
}

/** @param {string} tree @returns {Promise<{ name: string, about: string, weight: number }[]>} */
async function targetsOf(tree) {
  /** @type {{ name: string, about: string, weight: number }[]} */
  let targets = [];
  await child(tree, { command: 'list' }, (line) => {
    targets = line.targets;
  });
  if (targets.length === 0) throw new Error('the fuzzer did not start; the lines above say why');
  return targets;
}

/**
 * Runs one process of the fuzzer. A signal at the terminal ends it.
 * @param {string} tree @param {Record<string, unknown>} order @param {(line: any) => void} onLine @returns {Promise<string>} how it ended
 */
function child(tree, order, onLine) {
  const whole = {
    hangMs: order.canary === null || order.canary === undefined ? HANG_MS : CANARY_HANG_MS,
    corpus: join(root, 'test/fuzz/corpus'),
    ...order,
  };
  const main = join(tree, 'test/fuzz/main.js');
  const process_ = spawn(process.execPath, ['--expose-gc', '--enable-source-maps', main, JSON.stringify(whole)], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const stop = () => process_.kill('SIGKILL');
  process.once('exit', stop);
  createInterface({ input: process_.stdout }).on('line', (line) => {
    if (line.startsWith('{')) onLine(JSON.parse(line));
    else console.log(line);
  });
  return new Promise((resolve) => {
    process_.on('close', (code, signal) => {
      process.off('exit', stop);
      resolve(signal ?? `exit code ${code}`);
    });
  });
}

/** The sources as they are at this moment; types are checked elsewhere. @returns {string} the tree */
function compile() {
  const tree = join(root, `dist.fuzz.${process.pid}`);
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const made = spawnSync(process.execPath, [tsc, '-p', 'test/fuzz/tsconfig.json', '--outDir', tree], {
    cwd: root,
    stdio: 'inherit',
  });
  if (made.status !== 0) throw new Error('the fuzzer does not compile');
  return tree;
}
