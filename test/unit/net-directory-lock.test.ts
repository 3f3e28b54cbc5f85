// One process per data directory: taken, refused with the owner's pid, free again after release and after kill -9.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import { DirectoryLock, directoryLockOwner } from '../../src/net/directory-lock.ts';

let root: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'wd-'));
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await rm(root, { recursive: true, force: true });
});

/** A process of its own that binds a socket under the lock's name, as an owner does, and says so. */
async function startOwner(directory: string): Promise<ChildProcess> {
  const script = `
    const net = require('node:net'); const fs = require('node:fs');
    process.chdir(${JSON.stringify(directory)});
    net.createServer((s) => s.end('pid ' + process.pid + '\\n')).listen('owner.tmp', () => {
      fs.linkSync('owner.tmp', 'walcast.lock'); fs.unlinkSync('owner.tmp'); console.log('ready');
    });`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  await once(child.stdout, 'data');
  return child;
}

async function refusal(directory: string): Promise<OperationalError> {
  const error: unknown = await DirectoryLock.acquire(directory).catch((reason: unknown) => reason);
  if (error instanceof OperationalError) return error;
  throw new Error('not refused');
}

describe.each(['short', 'long'])('DirectoryLock in a %s path', (length) => {
  let directory: string;

  beforeEach(async () => {
    directory = length === 'short' ? root : resolve(root, 'x'.repeat(100), 'y'.repeat(100));
    await mkdir(directory, { recursive: true });
  });

  it('is held until released, and names its owner', async () => {
    const lock = await DirectoryLock.acquire(directory);
    expect(await directoryLockOwner(directory)).toEqual({ pid: process.pid });
    const error = await refusal(directory);
    expect(error.code).toBe('DATA_DIRECTORY_IN_USE');
    expect(error.message).toBe(
      `another walcast (pid ${process.pid}) is using data directory "${directory}"`,
    );
    expect(await lock.isHeld()).toBe(true);
    await lock.release();
    expect(await directoryLockOwner(directory)).toBeNull();
    expect(await readdir(directory)).toEqual([]);
  });

  it('passes on when its owner is killed', async () => {
    const child = await startOwner(directory);
    expect((await refusal(directory)).message).toContain(`(pid ${child.pid})`);
    child.kill('SIGKILL');
    await once(child, 'exit');
    const lock = await DirectoryLock.acquire(directory);
    expect(await readdir(directory)).toEqual(['walcast.lock']);
    await lock.release();
  });

  it('is refused while its owner is stopped and cannot answer', async () => {
    const child = await startOwner(directory);
    child.kill('SIGSTOP');
    expect((await refusal(directory)).message).toContain('another walcast is using');
  });
});

describe('DirectoryLock', () => {
  it('goes to exactly one of many that start over a dead lock at once', async () => {
    await writeFile(join(root, 'walcast.lock'), 'no socket');
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, () => DirectoryLock.acquire(root)),
    );
    const held = outcomes.flatMap((outcome) =>
      outcome.status === 'fulfilled' ? [outcome.value] : [],
    );
    expect(held).toHaveLength(1);
    expect(await held[0]?.isHeld()).toBe(true);
    await held[0]?.release();
  });

  it('removes sockets that a killed starter left behind', async () => {
    await writeFile(join(root, '.walcast.lock.99.abc'), '');
    const lock = await DirectoryLock.acquire(root);
    expect(await readdir(root)).toEqual(['walcast.lock']);
    await lock.release();
  });

  it('leaves the name alone when somebody else has it by now', async () => {
    const first = await DirectoryLock.acquire(root);
    await rm(join(root, 'walcast.lock'));
    const second = await DirectoryLock.acquire(root);
    expect(await first.isHeld()).toBe(false);
    await first.release();
    expect(await second.isHeld()).toBe(true);
    await second.release();
  });

  it('says why a missing directory cannot be locked', async () => {
    expect((await refusal(join(root, 'missing'))).code).toBe('DATA_DIRECTORY_LOCK');
  });
});
