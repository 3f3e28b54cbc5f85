// What `npm run fuzz` runs after the bootstrap: compiles the program and its fuzzer into a tree of their own, then runs one
// process a target, one after the other.
import { randomInt } from 'node:crypto';
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
  --inputs N        at most so many inputs a target
  --together        all targets in one process: for short runs
  --seed N          printed at the start (default: drawn)
  --reproduce FILE  runs a failure once more
  --record          records sessions of real servers into the corpus (PostgreSQL 15 and 18)
  --canary KIND     plants a bug in the targets of standbys (crash, hang, leak, bytes): it has to be found
  --directory DIR   where failures are written (default .walcast-test/fuzz)
  --help            this text
`;

const CANARIES = ['crash', 'hang', 'leak', 'bytes'];
const HANG_MS = 20_000;
const CANARY_HANG_MS = 2_000;
const HANG_MINIMISE_MS = 5_000;

// Children and the tree go with us.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130));

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
      inputs: { type: 'string' },
      together: { type: 'boolean' },
      tree: { type: 'string' },
      seed: { type: 'string' },
      record: { type: 'boolean' },
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
    isRecord: values.record === true,
    isList: values.list === true,
    targets: positionals,
    seconds: wholeNumber('--for', values.for, 1) ?? 60,
    messages: wholeNumber('--messages', values.messages, 1) ?? 0,
    inputs: wholeNumber('--inputs', values.inputs, 1) ?? 0,
    isTogether: values.together === true,
    // A tree that was compiled before, for tests.
    tree: values.tree ?? null,
    seed: wholeNumber('--seed', values.seed, 0) ?? randomInt(2 ** 31),
    reproduce: values.reproduce,
    canary: canary ?? null,
    directory: values.directory ?? join(root, '.walcast-test/fuzz'),
  };
}

/** @param {NonNullable<ReturnType<typeof readOptions>>} options @returns {Promise<number>} */
async function run(options) {
  const tree = options.tree ?? join(root, `dist.fuzz.${process.pid}`);
  if (options.tree === null) {
    process.once('exit', () => rmSync(tree, { recursive: true, force: true }));
  }
  if (!existsSync(tree) && !compile(tree)) {
    console.error('walcast fuzz: the sources do not compile; the lines above say where');
    return 2;
  }
  if (options.isRecord) {
    const ended = await child(tree, { command: 'record' }, () => {});
    return ended === 'exit code 0' ? 0 : 1;
  }
  if (options.reproduce !== undefined) return await reproduce(tree, options);
  if (options.targets.length > 0 && !options.isList) {
    const chosen = options.targets.map((name) => ({ name, weight: 1 }));
    return await fuzzAll(tree, chosen, options);
  }
  const known = await targetsOf(tree);
  if (!options.isList) return await fuzzAll(tree, known, options);
  for (const { name, about } of known) console.log(`  ${name.padEnd(12)} ${about}`);
  return 0;
}

/**
 * Rounds over all targets, until there were enough messages; one round where none were asked for.
 * @param {string} tree @param {{ name: string, weight: number }[]} targets @param {NonNullable<ReturnType<typeof readOptions>>} options
 */
async function fuzzAll(tree, targets, options) {
  const { seed, seconds, messages } = options;
  console.log(
    `fuzz: ${targets.length} targets, ${seconds} s${messages > 0 ? ` a round until ${messages} messages` : ''}, seed ${seed}`,
  );
  const weights = targets.reduce((sum, { weight }) => sum + weight, 0);
  const parts = targets.map(({ name, weight }) => ({
    name,
    seconds: (seconds * weight) / weights,
  }));
  const totals = { inputs: 0, messages: 0, failures: 0 };
  const startedAtMs = performance.now();
  let round = 0;
  do {
    for (const part of options.isTogether ? [parts] : parts.map((one) => [one])) {
      const roundSeed = (seed + round) % 2 ** 32;
      await fuzzSome(tree, { ...options, targets: part, seed: roundSeed }, totals);
    }
    round += 1;
  } while (totals.messages < messages && totals.failures === 0);
  const took = Math.round((performance.now() - startedAtMs) / 1000);
  console.log(
    `fuzz: ${totals.messages} messages in ${totals.inputs} inputs, ${totals.failures} failures, ${took} s, seed ${seed}`,
  );
  return totals.failures === 0 ? 0 : 1;
}

/**
 * One process, and what came of it.
 * @param {string} tree
 * @param {{ targets: { name: string, seconds: number }[], seed: number, inputs: number, canary: string | null, directory: string }} options
 * @param {{ inputs: number, messages: number, failures: number }} totals
 */
async function fuzzSome(tree, { targets, seed, inputs, canary, directory }, totals) {
  const order = { command: 'run', targets, seed, inputs, canary, directory };
  let reports = 0;
  /** @type {any} */
  let hang = null;
  const code = await child(tree, order, (line) => {
    if (line.type === 'failure') hang = line;
    if (line.type !== 'report') return;
    reports += 1;
    totals.inputs += line.inputs;
    totals.messages += line.messages;
    printReport(line);
    if (line.failure === null) return;
    totals.failures += 1;
    printFailure(line.target, line.failure);
  });
  if (reports === targets.length) return;
  totals.failures += 1;
  const target = targets[reports]?.name ?? '';
  if (hang !== null) await minimiseHang(tree, hang, canary);
  printFailure(
    target,
    hang ?? { kind: 'crash', message: `its process ended with ${code}`, file: null },
  );
}

/**
 * A process that hangs cannot look for less of its input itself: steps are left out in processes of their own.
 * @param {string} tree @param {{ file: string }} failure @param {string | null} canary
 */
async function minimiseHang(tree, { file }, canary) {
  const whole = JSON.parse(readFileSync(file, 'utf8'));
  const [{ steps, ...rest }] = whole.sessions;
  const candidate = `${file}.less`;
  const untilMs = performance.now() + HANG_MINIMISE_MS;
  /** @param {unknown[]} fewer */
  const hangs = async (fewer) => {
    writeFileSync(
      candidate,
      JSON.stringify({ ...whole, sessions: [{ ...rest, steps: fewer }] }, null, 1),
    );
    let isHang = false;
    const order = { command: 'reproduce', file: candidate, canary, hangMs: CANARY_HANG_MS };
    await child(tree, order, (line) => {
      isHang = line.kind === 'hang';
    });
    return isHang;
  };
  let best = steps;
  for (
    let size = Math.ceil(steps.length / 2);
    size >= 1;
    size = size === 1 ? 0 : Math.ceil(size / 2)
  ) {
    for (let at = 0; at < best.length && performance.now() < untilMs;) {
      const fewer = best.toSpliced(at, size);
      if (fewer.length > 0 && (await hangs(fewer))) best = fewer;
      else at += size;
    }
  }
  writeFileSync(
    file,
    `${JSON.stringify({ ...whole, sessions: [{ ...rest, steps: best }] }, null, 1)}\n`,
  );
  for (const left of [candidate, `${candidate}.again`]) rmSync(left, { force: true });
}

/** @param {any} report */
function printReport(report) {
  const mb = (/** @type {number} */ bytes) => (bytes / 1024 / 1024).toFixed(1);
  const rate = Math.round(report.messages / report.seconds);
  console.log(
    `  ${report.target.padEnd(12)} ${String(report.messages).padStart(9)} messages ${String(report.inputs).padStart(8)} inputs` +
      ` ${report.seconds.toFixed(1).padStart(6)} s (cpu ${report.cpuSeconds.toFixed(1)}) ${String(rate).padStart(7)}/s  blocks ${report.blocksAtFirst} → ${report.blocks}` +
      `  corpus ${report.corpus}  alive ${mb(report.aliveBefore)} → ${mb(report.aliveAfter)} MB  slowest ${report.slowestMs} ms`,
  );
}

/** @param {string} target @param {{ kind: string, message: string, file: string | null }} failure */
function printFailure(target, { kind, message, file }) {
  console.error(`fuzz: ${target}: ${kind}: ${message}`);
  if (file !== null)
    console.error(`fuzz: again with: npm run fuzz -- --reproduce ${relative(process.cwd(), file)}`);
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
  const { failure, kind, message, isLeak } = /** @type {any} */ (outcome);
  if (kind !== undefined) console.error(`fuzz: ${file}: ${kind}: ${message}`);
  else if (failure !== null) console.error(`fuzz: ${file}: ${failure.kind}: ${failure.message}`);
  else console.log(`fuzz: ${file}: ${isLeak ? 'it leaves memory behind' : 'nothing is wrong'}`);
  return failure === null && kind === undefined && !isLeak ? 0 : 1;
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
    hangMs: order['canary'] === 'hang' ? CANARY_HANG_MS : HANG_MS,
    corpus: join(root, 'test/fuzz/corpus'),
    ...order,
  };
  const main = join(tree, 'test/fuzz/main.js');
  const process_ = spawn(
    process.execPath,
    ['--expose-gc', '--enable-source-maps', main, JSON.stringify(whole)],
    {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
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

/** The sources as they are at this moment; types are checked elsewhere. @param {string} tree @returns {boolean} */
function compile(tree) {
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const made = spawnSync(
    process.execPath,
    [tsc, '-p', 'test/fuzz/tsconfig.json', '--outDir', tree],
    {
      cwd: root,
      stdio: 'inherit',
    },
  );
  if (made.status !== 0) return false;
  // The program asks it for its version.
  copyFileSync(join(root, 'package.json'), join(tree, 'package.json'));
  return true;
}
