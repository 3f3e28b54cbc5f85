// What the processes run that `npm run fuzz` starts: one target for a while, or a failure once more. Told by arguments,
// answers with lines of JSON.
import { mkdirSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Attempts, Uncaught } from './engine/attempt.ts';
import { Campaign } from './engine/campaign.ts';
import { parseInput } from './engine/session.ts';
import type { ReproducibleInput } from './engine/session.ts';
import type { Canary, FuzzTarget } from './engine/target.ts';
import { Watchdog } from './engine/watchdog.ts';
import { TARGETS } from './targets/all.ts';

/** What `scripts/fuzz.mjs` hands over. */
interface Order {
  readonly command: 'list' | 'run' | 'reproduce';
  readonly target: string;
  readonly seed: number;
  readonly seconds: number;
  readonly messages: number;
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
  const target = targetOf(order.target);
  const recorded = readCorpus(order.corpus)
    .filter((input) => input.target === order.target)
    .flatMap(({ sessions }) => sessions);
  const scripts = new URL('../../src/', import.meta.url).href;
  const campaign = new Campaign({ ...order, target, recorded, scripts });
  tell({ type: 'report', ...(await campaign.run()) });
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
  tell({ type: 'outcome', target: target.name, failure, leakBytes: Math.round(leak) });
}

const order = JSON.parse(process.argv[2] ?? '{}') as Order;
if (order.command === 'list') {
  tell({ type: 'targets', targets: TARGETS.map(({ name, about, weight }) => ({ name, about, weight })) });
} else if (order.command === 'run') {
  await run(order);
} else {
  await reproduce(order);
}
process.exit(0);
