// The commands of a page of the guide, one after the other, as they stand there. What a test sets up before, and what it does
// around a command that has a name, is its own; every other command of the page is run, or the test fails.
import { expect } from 'vitest';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { commandBlocks, guideBlocks } from '../support/guide-pages.ts';
import type { GuideBlock } from '../support/guide-pages.ts';
import type { GuideHosts } from './guide-hosts.ts';

/** The page that the others begin with. */
export const ONE_RELAY = 'docs/operations/one-relay.md';

const PRINTS_TIMEOUT_MS = 60_000;

/** What a test does at a command that has a name; it has to call `run` itself. */
export type GuideSteps = Readonly<Record<string, (run: () => Promise<void>) => Promise<void>>>;

/** Runs all commands of `file` on `hosts`. Gives how many there were. */
export async function runPage(
  hosts: GuideHosts,
  file: string,
  steps: GuideSteps = {},
): Promise<number> {
  const blocks = commandBlocks(guideBlocks(file));
  const named = blocks.flatMap(({ step }) => (step === null ? [] : [step]));
  expect(named.toSorted(), `${file}: steps`).toEqual(Object.keys(steps).toSorted());
  for (const block of blocks) {
    const step = block.step === null ? undefined : steps[block.step];
    const run = (): Promise<void> => runBlock(hosts, block);
    await (step === undefined ? run() : step(run));
  }
  return blocks.length;
}

async function runBlock(hosts: GuideHosts, block: GuideBlock): Promise<void> {
  const { host, file, text, place, fails, prints } = block;
  if (host === null || !hosts.names.includes(host)) throw new Error(`${place}: no host "${host}"`);
  if (file !== null) {
    await hosts.write(host, file, `${text}\n`);
    return;
  }
  let said = '';
  const once = async (): Promise<true | null> => {
    const { exitCode, stdout, stderr } = await (block.language === 'sql'
      ? hosts.run(host, 'psql -X -v ON_ERROR_STOP=1', { input: text })
      : hosts.run(host, text));
    said = `exit code ${exitCode}\n${stderr}${stdout}`;
    const isDone = (exitCode === 0) !== fails && (prints === null || prints.test(stderr + stdout));
    return isDone ? true : null;
  };
  // What prints something is a look, and may be taken again; a change is made once.
  if (prints !== null) {
    await pollUntil(place, once, { timeoutMs: PRINTS_TIMEOUT_MS }).catch(async (error: unknown) => {
      throw new Error(`${place}: it printed\n${said}\n${await logOf(hosts, host)}`, {
        cause: error,
      });
    });
  } else if ((await once()) === null) {
    throw new Error(`${place} on ${host}\n${text}\n${said}\n${await logOf(hosts, host)}`);
  }
}

async function logOf(hosts: GuideHosts, host: string): Promise<string> {
  const log = await hosts.log(host);
  return log === '' ? '' : `walcast on ${host} had logged:\n${log.slice(-4_000)}`;
}
