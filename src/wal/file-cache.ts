// Which segment files are open for reading? A few, the last used ones, each shared by all readers and never closed while
// one of them reads.
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';

interface Entry {
  readonly opening: Promise<FileHandle>;
  users: number;
  isStale: boolean;
}

/** Open files by path. */
export class FileCache {
  readonly #filesMax: number;
  readonly #entries = new Map<string, Entry>();

  /** `filesMax`: files kept open while nobody reads them. */
  constructor(filesMax: number) {
    this.#filesMax = filesMax;
  }

  /** Calls `action` with the file, opened read-only if it was not. Rejects with the system's error when it cannot be opened. */
  async use<T>(path: string, action: (file: FileHandle) => Promise<T>): Promise<T> {
    const entry = this.#entries.get(path) ?? { opening: open(path, 'r'), users: 0, isStale: false };
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

  /** Closes everything that nobody reads, and the rest as soon as nobody does. */
  clear(): void {
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
    void entry.opening.then((file) => file.close()).catch(() => {});
  }
}
