// What it costs to get a gigabyte of WAL from the process that received it into a sender process: over a Unix socket, or
// by reading the segment files the first one has just written (page cache).
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HelperProcess } from './child.mjs';
import { medianRow, round } from './report.mjs';
import { makeTemporaryDirectory } from './temporary.mjs';

const FILE_BYTES = 256 << 20;
const BATCH_BYTES = [128 << 10, 512 << 10, 1 << 20];

/**
 * Rows: CPU seconds per GB in the process that gives and in the one that takes.
 * @param {{ gigabytes: number, runs: number, progress: (text: string) => void }} options
 */
export async function benchHandoff({ gigabytes, runs, progress }) {
  const directory = makeTemporaryDirectory('handoff');
  const file = join(directory, 'segment');
  await writeFile(file, Buffer.alloc(FILE_BYTES, 0x77));
  try {
    const rows = [];
    for (const batchBytes of BATCH_BYTES) {
      for (const measure of [overSocket, fromFile]) {
        const results = [];
        for (let run = 0; run < runs; run += 1) {
          const path = measure === fromFile ? file : join(directory, 'socket');
          results.push(await measure({ path, batchBytes, bytes: gigabytes * 1e9 }));
        }
        progress(`${measure.name}, ${batchBytes >> 10} KiB: done`);
        rows.push(medianRow(results, 3));
      }
    }
    return rows;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** @param {{ path: string, batchBytes: number, bytes: number }} shape */
async function overSocket(shape) {
  const giver = new HelperProcess('./handoff-helper.mjs');
  const taker = new HelperProcess('./handoff-helper.mjs');
  try {
    await giver.ask('listen', shape);
    const [give, take] = await Promise.all([giver.ask('give', shape), taker.ask('take', shape)]);
    return row('unix socket', shape, { give, take });
  } finally {
    await Promise.all([giver.close(), taker.close()]);
  }
}

/** @param {{ path: string, batchBytes: number, bytes: number }} shape */
async function fromFile(shape) {
  const taker = new HelperProcess('./handoff-helper.mjs');
  try {
    return row('segment file', shape, { give: 0, take: await taker.ask('readFile', shape) });
  } finally {
    await taker.close();
  }
}

/** @param {string} way @param {{ batchBytes: number, bytes: number }} shape @param {{ give: number, take: number }} cpu */
function row(way, { batchBytes, bytes }, { give, take }) {
  return {
    way,
    batch_kib: batchBytes >> 10,
    giver_s_per_gb: round(give / (bytes / 1e9), 3),
    taker_s_per_gb: round(take / (bytes / 1e9), 3),
  };
}
