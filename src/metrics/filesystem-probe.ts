// How large is the file system of the store, and how much of it is free? A file system may hang; a scrape must not.
import { statfs } from 'node:fs/promises';
import type { Clock } from '../base/clock.ts';

/** What is used of the answer of statfs(2): blocks free for unprivileged users, all blocks, bytes of a block. */
export interface FilesystemBlocks {
  readonly bavail: number;
  readonly blocks: number;
  readonly bsize: number;
}

/** Bytes of a file system. */
export interface FilesystemSize {
  readonly freeBytes: number;
  readonly sizeBytes: number;
}

/** Asks the file system of one directory. */
export type Statfs = (directory: string) => Promise<FilesystemBlocks>;

/** Measures the file system of one directory, in bounded time. */
export class FilesystemProbe {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #statfs: Statfs;
  #isAsking = false;

  constructor(options: {
    readonly directory: string;
    readonly clock: Clock;
    readonly timeoutMs: number;
    readonly statfs?: Statfs | undefined;
  }) {
    this.#directory = options.directory;
    this.#clock = options.clock;
    this.#timeoutMs = options.timeoutMs;
    this.#statfs = options.statfs ?? statfs;
  }

  /**
   * Null when it cannot be told in time. While an earlier call still hangs no other is made: each would hold one of the
   * few threads that the store's own reads and writes run on.
   */
  measure(): Promise<FilesystemSize | null> {
    if (this.#isAsking) return Promise.resolve(null);
    this.#isAsking = true;
    return new Promise((resolve) => {
      const timer = this.#clock.setTimer(this.#timeoutMs, () => resolve(null));
      void this.#ask().then((size) => {
        this.#isAsking = false;
        timer.cancel();
        resolve(size);
      });
    });
  }

  async #ask(): Promise<FilesystemSize | null> {
    try {
      const { bavail, blocks, bsize } = await this.#statfs(this.#directory);
      return { freeBytes: bavail * bsize, sizeBytes: blocks * bsize };
    } catch {
      // The directory is made by the store; a scrape may come earlier. Unknown is left out, not 0.
      return null;
    }
  }
}
