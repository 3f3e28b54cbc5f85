// Does the fuzzer run, does it find nothing, and would it find something? `npm run fuzz` in its short form, and with a bug
// planted of each kind that it is to see.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { parseInput } from '../fuzz/engine/session.ts';
import { FULL_FAULTS } from '../support/requirements.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'walcast-fuzz-test-'));

/** Compiled once, by whoever comes first. In the project, where its packages are. */
const TREE = join(ROOT, `dist.fuzz.test.${process.pid}`);

/** Time for all targets together, and inputs of each at most. */
const BOUNDS = FULL_FAULTS ? ['--for', '25'] : ['--for', '12', '--inputs', '1000'];

afterAll(() => {
  for (const path of [directory, TREE]) rmSync(path, { recursive: true, force: true });
});

function fuzz(...args: string[]): Promise<{ code: number | null; output: string }> {
  const argv = [join(ROOT, 'scripts/fuzz.mjs'), '--tree', TREE, ...args];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const take = (text: Buffer): void => {
    output += text.toString();
  };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  return new Promise((resolve) => {
    child.on('close', (code) => resolve({ code, output }));
  });
}

test('sessions changed in every way do no harm to any part of the program', async () => {
  const { code, output } = await fuzz(
    ...BOUNDS,
    '--together',
    '--directory',
    join(directory, 'clean'),
  );
  process.stdout.write(output);
  expect(code, output).toBe(0);
  expect(output).toMatch(/seed \d+/);
  expect(output).not.toMatch(/ 0 messages/);
});

describe('a planted bug is seen, told in words, and written down so that it can be had again:', () => {
  /** The canary waits for what inputs to begin with do not say; a thousand changed ones always do. */
  const bounds = ['--for', '60', '--inputs', '1000', '--seed', '4'];

  test.each([
    ['crash', 'crash', 'the canary fell'],
    ['hang', 'hang', 'one input ran for more than'],
    ['leak', 'leak', 'kB more were alive'],
    ['bytes', 'wrong', "other bytes than the WAL's"],
  ])('%s', async (canary, kind, words) => {
    const where = join(directory, canary);
    const found = await fuzz('copyboth', '--canary', canary, ...bounds, '--directory', where);
    expect(found.code, found.output).toBe(1);
    expect(found.output).toContain(`copyboth: ${kind}: `);
    expect(found.output).toContain(words);
    const [name = ''] = readdirSync(where).filter((file) => file.includes(kind));
    const file = join(where, name);
    expect(parseInput(readFileSync(file, 'utf8')).sessions).not.toHaveLength(0);
    if (canary !== 'crash') return;
    const again = await fuzz('--reproduce', file, '--canary', canary);
    expect(again.code, again.output).toBe(1);
    const without = await fuzz('--reproduce', file);
    expect(without.code, without.output).toBe(0);
  });
});
