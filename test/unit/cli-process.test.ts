// Does the compiled program start, obey signals from its first moment, and end with the documented exit codes?
// What needs an upstream is tried with real servers elsewhere; here there is none.
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const PROGRAM = fileURLToPath(new URL('../../bin/walcast.mjs', import.meta.url));
const COMPILED = fileURLToPath(new URL('../../dist/program/main.js', import.meta.url));

let directory: string;

beforeAll(() => {
  if (!existsSync(COMPILED))
    throw new Error('dist/program/main.js is missing: run "npm run build" first');
  directory = mkdtempSync(join(tmpdir(), 'walcast-process-'));
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

function call(words: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [PROGRAM, ...words], { encoding: 'utf8', cwd: directory });
}

/** Starts `walcast run` without upstream or standbys, on free ports. */
function start(name: string): {
  child: ChildProcess;
  log: LogLines;
  exit: Promise<number | null>;
} {
  const child = spawn(
    process.execPath,
    [
      PROGRAM,
      'run',
      '--upstream',
      'host=127.0.0.1 port=1 user=nobody',
      '--http',
      '127.0.0.1:0',
      '--data',
      join(directory, name),
    ],
    { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  if (child.stderr === null) throw new Error('no pipe');
  const exit = new Promise<number | null>((resolve) => {
    child.once('close', resolve);
  });
  return { child, log: new LogLines(child.stderr), exit };
}

/** The log of a running program, waited for line by line. */
class LogLines {
  readonly #lines: string[] = [];
  #wake: () => void = () => {};
  #isEnded = false;

  constructor(input: NodeJS.ReadableStream) {
    const lines = createInterface({ input });
    lines.on('line', (line) => {
      this.#lines.push(line);
      this.#wake();
    });
    lines.on('close', () => {
      this.#isEnded = true;
      this.#wake();
    });
  }

  /** The first line whose message holds `message`. Rejects with the whole log when it ends without one. */
  async find(message: string): Promise<Record<string, unknown>> {
    for (let next = 0; ; next++) {
      while (next >= this.#lines.length && !this.#isEnded) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
      const line = this.#lines[next];
      if (line === undefined)
        throw new Error(`never logged: ${message}\n${this.#lines.join('\n')}`);
      const entry: Record<string, unknown> = JSON.parse(line);
      if (String(entry['msg']).includes(message)) return entry;
    }
  }
}

describe('exit codes', () => {
  test.each([
    [['--version'], 0],
    [['--help'], 0],
    [[], 2],
    [['nonsense'], 2],
    [['run', '--nonsense'], 2],
    [['run'], 78],
    [['run', '-c', '/nowhere/walcast.yaml'], 78],
    [['status', '--url', 'http://127.0.0.1:1'], 1],
    [['drain', '--url', 'http://127.0.0.1:1'], 1],
    [['wal', 'get', '00000002.history', 'x', '--url', 'http://127.0.0.1:1'], 1],
    [['store', 'reset', '-c', '/nowhere/walcast.yaml'], 78],
    [['completion', 'csh'], 2],
  ] as const)('%j ends with %d', { timeout: 20_000 }, (words, status) => {
    const result = call(words);
    expect(result.status, result.stderr).toBe(status);
    expect(status === 0 ? result.stdout : result.stderr).toMatch(/\n$/);
    expect(status === 0 ? result.stderr : result.stdout).toBe('');
  });
});

test('health tells on standard output that nobody is there, with 2', { timeout: 20_000 }, () => {
  expect(call(['health', '--url', 'http://127.0.0.1:1'])).toMatchObject({
    status: 2,
    stdout: expect.stringMatching(/^WALCAST CRITICAL - no walcast answers at .*\n$/),
    stderr: '',
  });
});

describe('a running program', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)(
    'ends with 0 at %s, with nobody connected',
    { timeout: 20_000 },
    async (signal) => {
      const { child, log, exit } = start(signal);
      await log.find('HTTP port is open');
      child.kill(signal);
      expect(await exit).toBe(0);
    },
  );

  test('outlives SIGHUP and answers while the upstream is away', { timeout: 20_000 }, async () => {
    const { child, log, exit } = start('hup');
    const { url } = await log.find('HTTP port is open');
    child.kill('SIGHUP');
    expect(await log.find('the configuration was read again')).toMatchObject({ changed: 0 });
    const answers = await Promise.all(
      ['livez', 'readyz', 'metrics'].map((path) => fetch(`${String(url)}/${path}`)),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 503, 200]);
    expect(await answers[2]!.text()).toContain('walcast_ready 0\n');
    const status = call(['status', '--json', '--url', String(url)]);
    expect(JSON.parse(status.stdout)).toMatchObject({ system_identifier: null, standbys: [] });
    child.kill('SIGINT');
    expect(await exit).toBe(0);
  });

  test('refuses a data directory that another one uses', { timeout: 20_000 }, async () => {
    const first = start('shared');
    await first.log.find('HTTP port is open');
    const second = start('shared');
    expect(await second.exit).toBe(1);
    first.child.kill('SIGINT');
    expect(await first.exit).toBe(0);
  });
});
