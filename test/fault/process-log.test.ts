// Does walcast go on, and end as it was told, when nobody reads its log, and is nothing lost when somebody does again?
import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { httpJson } from './fault-support.ts';
import { ProcessRig } from './process-rig.ts';

const OK = { exitCode: 0, signal: null };
const NOISE = 'x'.repeat(4095);

let workspace: Workspace;

beforeAll(async () => {
  workspace = await openWorkspace(await serverUser());
});

afterAll(async () => {
  await workspace.close();
});

/** A pipe with a reader that reads only when it is told to. */
class Fifo implements Disposable {
  readonly path: string;
  readonly #fd: number;

  constructor(name: string) {
    this.path = join(workspace.directory, name);
    spawnSync('mkfifo', [this.path]);
    this.#fd = openSync(this.path, constants.O_RDWR | constants.O_NONBLOCK);
  }

  fill(): void {
    while (taken(() => writeSync(this.#fd, `${NOISE}\n`)) > 0);
    while (taken(() => writeSync(this.#fd, '\n')) > 0);
  }

  /** Everything that is in it. */
  read(): string {
    const buffer = Buffer.alloc(64 * 1024);
    let text = '';
    for (;;) {
      const count = taken(() => readSync(this.#fd, buffer));
      if (count === 0) return text;
      text += buffer.toString('utf8', 0, count);
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

function taken(call: () => number): number {
  try {
    return call();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return 0;
    throw error;
  }
}

function into(path: string): readonly string[] {
  return ['sh', '-c', `exec "$@" 2>"${path}"`, 'sh'];
}

/** The messages of a log in JSON. Throws for a line that is none. */
function messages(log: string): string[] {
  const lines = log.split('\n').filter((line) => line !== '' && line !== NOISE);
  return lines.map((line) => String((JSON.parse(line) as { msg: unknown }).msg));
}

it('answers and acknowledges though its log is not read, and tells all of it later', async () => {
  using fifo = new Fifo('read-later');
  fifo.fill();
  await using rig = await ProcessRig.open(workspace, 'store-1');
  await rig.startStreaming({ wrapper: into(fifo.path) });
  for (let count = 0; count < 50; count += 1) {
    rig.started.process.signal('SIGHUP');
    expect(await httpJson(rig.started.httpPort, '/livez')).toMatchObject({ status: 'ok' });
  }
  let log = '';
  await rig.until('the log', () => {
    log += fifo.read();
    return log.includes('configuration');
  });
  rig.started.process.signal('SIGTERM');
  expect((await rig.ended()).end).toEqual(OK);
  const told = messages(log + fifo.read());
  expect(told[0]).toBe('walcast starts');
  // An answer to the last SIGHUP may be the last word.
  expect(told.slice(-3)).toContain('walcast stops after draining');
});

it('ends in time though its log is not read', async () => {
  using fifo = new Fifo('never-read');
  fifo.fill();
  await using rig = await ProcessRig.open(workspace, 'store-2');
  await rig.startStreaming({ wrapper: into(fifo.path) });
  rig.started.process.signal('SIGTERM');
  const { end, wasStuck } = await rig.ended();
  expect(wasStuck).toBe(false);
  expect(end).toEqual(OK);
});

it('writes its last words into a file, too', async () => {
  const file = join(workspace.directory, 'walcast.log');
  await using rig = await ProcessRig.open(workspace, 'store-3');
  await rig.startStreaming({ wrapper: into(file) });
  rig.started.process.signal('SIGTERM');
  expect((await rig.ended()).end).toEqual(OK);
  const told = messages(await readFile(file, 'utf8'));
  expect(told[0]).toBe('walcast starts');
  expect(told.at(-1)).toBe('walcast stops after draining');
});
