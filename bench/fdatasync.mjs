// How long write + fdatasync takes from a thread of its own and through libuv's pool, while the pool is idle and while
// it is busy with password hashing.
import { pbkdf2 } from 'node:crypto';
import { open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { median, percentile, round } from './report.mjs';
import { SyncThread } from './sync-thread.mjs';
import { makeTemporaryDirectory } from './temporary.mjs';

const FILE_BYTES = 16 << 20;
const BLOCK_BYTES = 64 << 10;
const BUSY_JOBS = 64;
const PBKDF2_ITERATIONS = 4096;

/**
 * @typedef {object} FdatasyncOptions
 * @property {number} count syncs per figure
 * @property {string} directory where the file is put; '' for the temporary directory
 * @property {(text: string) => void} progress
 */

/**
 * Rows: one a way of syncing and a state of the pool, latencies in milliseconds.
 * @param {FdatasyncOptions} options
 */
export async function benchFdatasync(options) {
  const parent = options.directory === '' ? undefined : options.directory;
  const directory = makeTemporaryDirectory('fdatasync', parent);
  const path = join(directory, 'segment');
  await writeFile(path, Buffer.alloc(FILE_BYTES));
  const thread = new SyncThread({ path, blockBytes: BLOCK_BYTES, fileBytes: FILE_BYTES });
  try {
    const rows = [];
    for (const isBusy of [false, true]) {
      for (const way of ['own thread', 'libuv pool']) {
        const stop = isBusy ? keepPoolBusy() : async () => {};
        const samples =
          way === 'own thread'
            ? await thread.measure(options.count)
            : await syncInPool(path, options.count);
        await stop();
        rows.push(describe(way, isBusy, samples));
        options.progress(`${way}, pool ${isBusy ? 'busy' : 'idle'}: done`);
      }
    }
    return rows;
  } finally {
    await thread.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/** @param {string} way @param {boolean} isBusy @param {readonly number[]} samples */
function describe(way, isBusy, samples) {
  return {
    way,
    pool: isBusy ? `busy with ${BUSY_JOBS} pbkdf2 jobs` : 'idle',
    syncs: samples.length,
    p50_ms: round(median(samples), 3),
    p99_ms: round(percentile(samples, 0.99), 3),
    max_ms: round(Math.max(...samples), 3),
  };
}

/** Keeps 64 jobs queued until the returned function is called, which waits for the last. */
function keepPoolBusy() {
  let isStopping = false;
  let running = 0;
  /** @type {(() => void) | null} */
  let onIdle = null;
  const start = () => {
    running += 1;
    pbkdf2('password', 'salt', PBKDF2_ITERATIONS, 32, 'sha256', () => {
      running -= 1;
      if (!isStopping) start();
      else if (running === 0) onIdle?.();
    });
  };
  for (let job = 0; job < BUSY_JOBS; job += 1) start();
  return () =>
    new Promise((resolve) => {
      isStopping = true;
      onIdle = () => resolve(null);
    });
}

/** @param {string} path @param {number} count @returns {Promise<number[]>} */
async function syncInPool(path, count) {
  const file = await open(path, 'r+');
  const block = Buffer.alloc(BLOCK_BYTES, 0x77);
  const milliseconds = [];
  try {
    for (let index = 0; index < count; index += 1) {
      const startedMs = performance.now();
      await file.write(block, 0, block.length, (index * block.length) % FILE_BYTES);
      await file.datasync();
      milliseconds.push(performance.now() - startedMs);
    }
  } finally {
    await file.close();
  }
  return milliseconds;
}
