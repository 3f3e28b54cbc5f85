// How many standbys may read segment files at one time, and how much each? Bounds memory and the thread pool however
// many are behind.
import { Places } from '../base/places.ts';
import {
  FILE_READ_BUDGET_BYTES,
  FILE_READ_BYTES_MAX,
  FILE_READ_BYTES_MIN,
  FILE_READS_MAX,
} from '../config/limits.ts';

/** Shared by all sessions: a queue in order of arrival. A session has at most one read in it. */
export class FileReads {
  #readers = 0;
  readonly #places = new Places(FILE_READS_MAX);
  /** Bytes of WAL sent by way of these reads. */
  sentBytes = 0;

  /** A session has begun to read from files. */
  enter(): void {
    this.#readers += 1;
  }

  /** A session reads from memory again, or has ended. */
  leave(): void {
    this.#readers -= 1;
  }

  /** Bytes that a session may read at once, so that all together stay inside the budget (two reads each). */
  readBytes(): number {
    const share = Math.floor(FILE_READ_BUDGET_BYTES / (2 * Math.max(1, this.#readers)));
    return Math.max(FILE_READ_BYTES_MIN, Math.min(FILE_READ_BYTES_MAX, share));
  }

  /** Runs `read` when its turn has come. */
  run<T>(read: () => Promise<T>): Promise<T> {
    return this.#places.run(read);
  }
}
