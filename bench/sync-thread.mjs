// A thread that does nothing but write and sync one file, and says how long each took.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** The parent's end. One measurement at a time. */
export class SyncThread {
  #worker;

  /** @param {{ path: string, blockBytes: number, fileBytes: number }} file it exists and has that size */
  constructor(file) {
    this.#worker = new Worker(new URL('./fdatasync-worker.mjs', import.meta.url), {
      workerData: file,
    });
  }

  /** Milliseconds of so many writes of one block with fdatasync. @param {number} count @returns {Promise<number[]>} */
  async measure(count) {
    this.#worker.postMessage({ count });
    const [samples] = await once(this.#worker, 'message');
    return samples;
  }

  close() {
    return this.#worker.terminate();
  }
}
