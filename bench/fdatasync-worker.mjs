// The thread of `bench fdatasync` that writes and syncs on its own, as the store's writer does.
import { fdatasyncSync, openSync, writeSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { parentPort, workerData } from 'node:worker_threads';

const file = openSync(workerData.path, 'r+');
const block = Buffer.alloc(workerData.blockBytes, 0x77);

parentPort?.on('message', (/** @type {{ count: number }} */ { count }) => {
  const milliseconds = [];
  for (let index = 0; index < count; index += 1) {
    const startedMs = performance.now();
    writeSync(file, block, 0, block.length, (index * block.length) % workerData.fileBytes);
    fdatasyncSync(file);
    milliseconds.push(performance.now() - startedMs);
  }
  parentPort?.postMessage(milliseconds);
});
