// What the processes run that `npm run fuzz` starts: one target for a while, or a failure once more. Told by arguments,
// answers with lines of JSON.
import { mkdirSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Attempts, LEAK_BYTES, Uncaught } from './engine/attempt.ts';
import { Campaign } from './engine/campaign.ts';
import { parseInput } from './engine/session.ts';
import type { ReproducibleInput } from './engine/session.ts';
import type { Canary, FuzzTarget } from './engine/target.ts';
import { Watchdog } from './engine/watchdog.ts';
import { TARGETS } from './targets/all.ts';

/** What `scripts/fuzz.mjs` hands over. */
interface Order {
  readonly command: 'list' | 'run' | 'reproduce' | 'record';
  /** One after the other. */
  readonly targets: readonly { readonly name: string; readonly seconds: number }[];
  readonly seed: number;
  /** At most so many inputs a target; 0: no bound. */
  readonly inputs: number;
  readonly hangMs: number;
  readonly canary: Canary | null;
  /** Where failures go. */
  readonly directory: string;
  /** Recorded sessions, and inputs that failed once. */
  readonly corpus: string;
  readonly file: string;
}

function tell(line: unknown): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

function targetOf(name: string): FuzzTarget {
  const target = TARGETS.find((one) => one.name === name);
  if (target === undefined) throw new Error(`there is no target "${name}"`);
  return target;
}

function readCorpus(directory: string): ReproducibleInput[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.json'))
    .map((name) => parseInput(readFileSync(join(directory, name), 'utf8')));
}

async function run(order: Order): Promise<void> {
  mkdirSync(order.directory, { recursive: true });
  const corpus = readCorpus(order.corpus);
  const scripts = new URL('../../src/', import.meta.url).href;
  const uncaught = new Uncaught();
  for (const { name, seconds } of order.targets) {
    const target = targetOf(name);
    const recorded = corpus
      .filter((input) => input.target === name)
      .flatMap(({ sessions }) => sessions);
    const campaign = new Campaign({ ...order, seconds, target, recorded, scripts }, uncaught);
    tell({ type: 'report', ...(await campaign.run()) });
  }
}

async function reproduce({ file, canary, hangMs }: Order): Promise<void> {
  const input = parseInput(readFileSync(file, 'utf8'));
  const target = targetOf(input.target);
  const watchdog = new Watchdog({ target: target.name, limitMs: hangMs, file: `${file}.again` });
  const attempts = new Attempts(target, { canary }, new Uncaught());
  for (const session of input.sessions) watchdog.begin(session);
  const failure = await attempts.fails(input.sessions);
  const [only] = input.sessions;
  const leak = failure === null && only !== undefined ? await attempts.leakOf(only) : 0;
  watchdog.rest();
  tell({ type: 'outcome', target: target.name, failure, isLeak: leak > LEAK_BYTES });
}

const order = JSON.parse(process.argv[2] ?? '{}') as Order;
if (order.command === 'list') {
  tell({
    type: 'targets',
    targets: TARGETS.map(({ name, about, weight }) => ({ name, about, weight })),
  });
} else if (order.command === 'run') {
  await run(order);
} else if (order.command === 'record') {
  const { recordSessions } = await import('./record.ts');
  await recordSessions(order.corpus);
} else {
  await reproduce(order);
}
process.exit(0);
