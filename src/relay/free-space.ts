// How large is the file system of the store, and how much of it is free? Looked at now and then, for everybody who shows it: a
// file system may hang, and nobody who asks for the status must hang with it.
import { statfs } from 'node:fs/promises';
import type { Clock, Timer } from '../base/clock.ts';
import { FREE_SPACE_INTERVAL_MS, FREE_SPACE_TIMEOUT_MS } from '../config/limits.ts';
import type { FilesystemStatus } from '../status/status.ts';

/** What is used of the answer of statfs(2): blocks free for unprivileged users, all blocks, bytes of a block. */
export interface FilesystemBlocks {
  readonly bavail: number;
  readonly blocks: number;
  readonly bsize: number;
}

/** Asks the file system of one directory. */
export type Statfs = (directory: string) => Promise<FilesystemBlocks>;

/** Watches the file system of one directory. */
export class FreeSpace {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #statfs: Statfs;
  #known: FilesystemStatus | null = null;
  #isAsking = false;
  #isClosed = false;
  #next: Timer | null = null;
  #deadline: Timer | null = null;

  constructor(options: {
    readonly directory: string;
    readonly clock: Clock;
    readonly statfs?: Statfs | undefined;
  }) {
    this.#directory = options.directory;
    this.#clock = options.clock;
    this.#statfs = options.statfs ?? statfs;
  }

  /** Looks now, without waiting for the answer, and every {@link FREE_SPACE_INTERVAL_MS} from then on. Once only. */
  start(): void {
    this.#look();
  }

  /** As of the last look; null while nothing is known, or no answer came to it within {@link FREE_SPACE_TIMEOUT_MS}. */
  status(): FilesystemStatus | null {
    return this.#known;
  }

  /** No more looks. */
  close(): void {
    this.#isClosed = true;
    this.#next?.cancel();
    this.#deadline?.cancel();
  }

  #look(): void {
    if (this.#isClosed) return;
    this.#next = this.#clock.setTimer(FREE_SPACE_INTERVAL_MS, () => this.#look());
    // While an earlier call still hangs no other is made: each would hold one of the few threads that the store's own reads
    // and writes run on.
    if (this.#isAsking) return;
    this.#isAsking = true;
    this.#deadline = this.#clock.setTimer(FREE_SPACE_TIMEOUT_MS, () => {
      this.#known = null;
    });
    void this.#ask().then((found) => {
      this.#isAsking = false;
      this.#deadline?.cancel();
      this.#known = found;
    });
  }

  async #ask(): Promise<FilesystemStatus | null> {
    try {
      const { bavail, blocks, bsize } = await this.#statfs(this.#directory);
      return { freeBytes: bavail * bsize, sizeBytes: blocks * bsize };
    } catch {
      // What the store itself does there says more; unknown is not 0.
      return null;
    }
  }
}
