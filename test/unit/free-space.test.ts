// Is it known how much of the store's disk is free, without anybody waiting for a file system that does not answer?
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { FREE_SPACE_INTERVAL_MS, FREE_SPACE_TIMEOUT_MS } from '../../src/config/limits.ts';
import { FreeSpace } from '../../src/relay/free-space.ts';
import type { FilesystemBlocks } from '../../src/relay/free-space.ts';
import { ManualClock } from '../support/manual-clock.ts';

/** Asks are answered by hand. */
function byHand() {
  const asked: PromiseWithResolvers<FilesystemBlocks>[] = [];
  const clock = new ManualClock();
  const space = new FreeSpace({
    directory: '/nowhere',
    clock,
    statfs: () => {
      const ask = withResolvers<FilesystemBlocks>();
      asked.push(ask);
      return ask.promise;
    },
  });
  return { asked, clock, space };
}

interface PromiseWithResolvers<Value> {
  readonly promise: Promise<Value>;
  readonly resolve: (value: Value) => void;
  readonly reject: (error: Error) => void;
}

function withResolvers<Value>(): PromiseWithResolvers<Value> {
  let resolve: (value: Value) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<Value>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}

/** What was answered is taken in. */
const taken = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('the file system of a directory is measured, and unknown of one that is not there', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'walcast-space-'));
  const here = new FreeSpace({ directory, clock: systemClock });
  const gone = new FreeSpace({ directory: join(directory, 'none'), clock: systemClock });
  onTestFinished(() => {
    here.close();
    gone.close();
    rmSync(directory, { recursive: true });
  });
  gone.start();
  here.start();
  await vi.waitFor(() => expect(here.status()).not.toBeNull());
  expect(here.status()?.sizeBytes).toBeGreaterThan(1024 * 1024);
  expect(here.status()?.freeBytes).toBeLessThanOrEqual(here.status()?.sizeBytes ?? 0);
  expect(gone.status()).toBeNull();
});

test('it is looked at again and again, until it is closed', async () => {
  const { asked, clock, space } = byHand();
  space.start();
  expect(space.status()).toBeNull();
  asked[0]?.resolve({ bavail: 3, blocks: 4, bsize: 4096 });
  await taken();
  expect(space.status()).toEqual({ freeBytes: 3 * 4096, sizeBytes: 4 * 4096 });
  clock.advance(FREE_SPACE_INTERVAL_MS);
  asked[1]?.resolve({ bavail: 1, blocks: 4, bsize: 4096 });
  await taken();
  expect(space.status()?.freeBytes).toBe(4096);
  clock.advance(FREE_SPACE_INTERVAL_MS);
  asked[2]?.reject(new Error('EIO'));
  await taken();
  expect(space.status()).toBeNull();
  space.close();
  clock.advance(10 * FREE_SPACE_INTERVAL_MS);
  expect([asked.length, clock.nextTimerMs()]).toEqual([3, null]);
});

test('a file system that does not answer is unknown, and asked once only until it does', async () => {
  const { asked, clock, space } = byHand();
  space.start();
  asked[0]?.resolve({ bavail: 3, blocks: 4, bsize: 4096 });
  await taken();
  clock.advance(FREE_SPACE_INTERVAL_MS + FREE_SPACE_TIMEOUT_MS - 1);
  expect(space.status()).not.toBeNull();
  clock.advance(1);
  expect(space.status()).toBeNull();
  clock.advance(10 * FREE_SPACE_INTERVAL_MS);
  expect(asked).toHaveLength(2);
  asked[1]?.resolve({ bavail: 2, blocks: 4, bsize: 4096 });
  await taken();
  expect(space.status()?.freeBytes).toBe(2 * 4096);
  clock.advance(FREE_SPACE_INTERVAL_MS);
  expect(asked).toHaveLength(3);
  space.close();
});
