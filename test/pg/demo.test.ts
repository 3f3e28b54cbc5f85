// The demonstration as a newcomer meets it: the compiled command, real servers, and nothing left behind.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { isProcessAlive } from '../../src/demo/postgres-workspace.ts';
import { findProgram, NEWEST_MAJOR } from '../support/requirements.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/walcast.mjs', import.meta.url));

interface Ended {
  readonly exitCode: number | null;
  readonly output: string;
}

class Demo {
  readonly child: ChildProcess;
  output = '';
  readonly ended: Promise<Ended>;
  readonly #waiters: (() => void)[] = [];

  constructor(args: readonly string[], options: { uid?: number; gid?: number } = {}) {
    this.child = spawn(process.execPath, [PROGRAM, 'demo', ...args], {
      ...options,
      cwd: '/',
      env: { ...process.env, TMPDIR: base },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
        for (const wake of this.#waiters.splice(0)) wake();
      });
    }
    this.ended = new Promise((resolve) => {
      this.child.once('close', (exitCode) => resolve({ exitCode, output: this.output }));
    });
  }

  async says(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.output)) {
      if (this.child.exitCode !== null) throw new Error(`the demo ended: ${this.output}`);
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }
}

/** Where the demo makes its temporary directory: a place of its own, so that what is left behind is seen. */
let base: string;

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'wd-'));
  await chmod(base, 0o777);
});

afterEach(async () => {
  await rm(base, { recursive: true, force: true });
});

it('runs for a while and ends with everything replayed and the same rows everywhere', async () => {
  const { exitCode, output } = await new Demo(['--for', '3', '--json']).ended;
  const result: unknown = JSON.parse(output);
  expect(result).toMatchObject({
    ok: true,
    error: null,
    standbys: [
      { application_name: 'standby1', state: 'streaming', rows_match: true },
      { application_name: 'standby2', state: 'streaming', rows_match: true },
    ],
  });
  expect(exitCode).toBe(0);
  expect(await readdir(base)).toEqual([]);
});

it('shows a table and ready-made psql lines, and Ctrl-C ends it in order with nothing left behind', async () => {
  const demo = new Demo(['--standbys', '1', '--postgres', String(NEWEST_MAJOR)]);
  await demo.says(/walcast streaming, primary at/);
  const pids = [...(await processesOf(demo.child.pid ?? 0))];
  const line = /PGPASSWORD=[0-9a-f]{32} psql .* -d walcast -x -c '[^']+'/.exec(demo.output)?.[0];
  const shown = findProgram('psql') === null ? null : await sh(line ?? 'false');
  demo.child.kill('SIGINT');
  const { exitCode, output } = await demo.ended;
  expect(output).toMatch(/psql -h 127\.0\.0\.1 -p \d+ -U postgres -c/);
  expect(line).toContain('SELECT * FROM pg_stat_replication');
  if (shown !== null) expect(shown).toContain('standby1');
  expect(output).toMatch(/ok: 1 standbys have replayed everything/);
  expect(exitCode).toBe(0);
  expect(pids.length).toBeGreaterThan(2);
  expect(pids.filter((pid) => isProcessAlive(pid))).toEqual([]);
  expect(await readdir(base)).toEqual([]);
});

it('can be stopped while it starts', async () => {
  const demo = new Demo([]);
  await demo.says(/primary .* on port/);
  demo.child.kill('SIGINT');
  expect((await demo.ended).exitCode).toBe(1);
  expect(await readdir(base)).toEqual([]);
});

it.runIf(process.getuid?.() === 0)('runs as an ordinary user too', async () => {
  const { exitCode, output } = await new Demo(['--for', '1', '--standbys', '1', '--json'], {
    uid: 65_534,
    gid: 65_534,
  }).ended;
  expect(JSON.parse(output)).toMatchObject({ ok: true });
  expect(exitCode).toBe(0);
});

it('says what is wrong with its arguments and exits with 2', async () => {
  const { exitCode, output } = await new Demo(['--postgres', '9']).ended;
  expect(exitCode).toBe(2);
  expect(output).toContain('--postgres takes one of');
});

/** What a line typed into a shell prints. */
async function sh(line: string): Promise<string> {
  const shell = spawn('sh', ['-c', line], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  shell.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  await new Promise((resolve) => shell.once('close', resolve));
  return output;
}

/** Every process below `pid`. */
async function processesOf(pid: number): Promise<number[]> {
  const { stdout } = await new Promise<{ stdout: string }>((resolve, reject) => {
    const ps = spawn('ps', ['-eo', 'pid=,ppid='], { stdio: ['ignore', 'pipe', 'inherit'] });
    let stdout = '';
    ps.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    ps.once('error', reject);
    ps.once('close', () => resolve({ stdout }));
  });
  const children = new Map<number, number[]>();
  for (const line of stdout.trim().split('\n')) {
    const [child = 0, parent = 0] = line.trim().split(/\s+/).map(Number);
    children.set(parent, [...(children.get(parent) ?? []), child]);
  }
  const below = (of: number): number[] =>
    (children.get(of) ?? []).flatMap((child) => [child, ...below(child)]);
  return below(pid);
}
