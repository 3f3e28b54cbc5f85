// Which segment files are open for reading? A few, the last used ones, each shared by all readers and never closed while
// one of them reads.
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';

/** How many files of this process are open for reading under a path. A thread has a table of its own. */
const openPaths = new Map<string, number>();

/**
 * True while a reader of this thread has the file of `path` open, or opens it: what is written over the file now, it could
 * see. A file that was renamed counts under the path by which it was opened.
 */
export function isOpenForReading(path: string): boolean {
  return openPaths.has(path);
}

interface Entry {
  readonly path: string;
  readonly opening: Promise<FileHandle>;
  users: number;
  isStale: boolean;
}

/** Open files by path. */
export class FileCache {
  readonly #filesMax: number;
  readonly #entries = new Map<string, Entry>();
  #isClosed = false;

  /** `filesMax`: files kept open while nobody reads them. */
  constructor(filesMax: number) {
    this.#filesMax = filesMax;
  }

  /** Calls `action` with the file, opened read-only if it was not. Rejects with the system's error when it cannot be opened. */
  async use<T>(path: string, action: (file: FileHandle) => Promise<T>): Promise<T> {
    const entry = this.#entries.get(path) ?? openEntry(path);
    entry.users++;
    // The last used ones are last in the map.
    this.#entries.delete(path);
    this.#entries.set(path, entry);
    try {
      return await action(await entry.opening);
    } catch (error) {
      this.forget(path);
      throw error;
    } finally {
      entry.users--;
      if (entry.isStale) this.#closeUnused(entry);
      if (this.#isClosed && entry.users === 0) this.forget(path);
      this.#evict();
    }
  }

  /** The next use opens the file anew. */
  forget(path: string): void {
    const entry = this.#entries.get(path);
    if (entry === undefined) return;
    this.#entries.delete(path);
    entry.isStale = true;
    this.#closeUnused(entry);
  }

  /** Closes everything that nobody reads, and the rest as soon as nobody does; also what is opened from now on. */
  clear(): void {
    this.#isClosed = true;
    for (const path of this.#entries.keys()) this.forget(path);
  }

  #evict(): void {
    for (const [path, entry] of this.#entries) {
      if (this.#entries.size <= this.#filesMax) return;
      if (entry.users === 0) this.forget(path);
    }
  }

  #closeUnused(entry: Entry): void {
    if (entry.users > 0) return;
    // A file that was only read has nothing to lose when closing it fails.
    void entry.opening
      .then((file) => file.close())
      .catch(() => {})
      .then(() => countOpen(entry.path, -1));
  }
}

function openEntry(path: string): Entry {
  countOpen(path, 1);
  return { path, opening: open(path, 'r'), users: 0, isStale: false };
}

function countOpen(path: string, change: 1 | -1): void {
  const count = (openPaths.get(path) ?? 0) + change;
  if (count === 0) openPaths.delete(path);
  else openPaths.set(path, count);
}
