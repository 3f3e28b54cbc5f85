// How is the next segment made without holding up the current one? Of a removed one by renaming, else of zeros in pieces,
// through the thread pool, beside the blocking writes. Running out of space or of file descriptors is ignored here: what was
// begun is removed, and the write that needs the segment makes it again or finds out. Any other error, an fsync's above
// all, counts as if that write had met it.
import { access, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { changeNames, isOutOfSpace, newFileMode, writeFully } from '../base/durable-fs.ts';
import { systemErrorCode } from '../base/errors.ts';
import { TEMPORARY_SEGMENT_PREFIX } from './segment-writer.ts';
import type { SegmentPlace } from './segment-writer.ts';

const ZEROS: Uint8Array = new Uint8Array(1 << 20);

/** Makes one segment ahead of time. */
export class SegmentPreparation {
  readonly #place: SegmentPlace;
  readonly #onFailed: (error: unknown) => void;
  #name: string | null = null;
  #isRunning = false;
  #running: Promise<void> = Promise.resolve();

  /** `onFailed`: nothing may count as durable any more. Called when it happens, whoever needs the segment or not. */
  constructor(place: SegmentPlace, onFailed: (error: unknown) => void) {
    this.#place = place;
    this.#onFailed = onFailed;
  }

  /** Begins to make the segment `name`, unless that was begun before or another one is being made. */
  begin(name: string): void {
    if (this.#isRunning || this.#name === name) return;
    this.#name = name;
    this.#isRunning = true;
    this.#running = this.#make(name)
      .catch((error: unknown) => {
        if (!isOutOfSpace(error)) this.#onFailed(error);
      })
      .finally(() => {
        this.#isRunning = false;
      });
  }

  /** True while the segment `name` is being made: who needs it waits for {@link settle}. */
  isMaking(name: string): boolean {
    return this.#isRunning && this.#name === name;
  }

  /** Waits until no segment is in the making. A failure has been told then. */
  async settle(): Promise<void> {
    await this.#running;
  }

  async #make(name: string): Promise<void> {
    const { directory } = this.#place;
    const path = join(directory, name);
    if (await isThere(path)) return;
    await changeNames(directory, async () => {
      if (!(await this.#useRecycled(path))) await this.#makeOfZeros(name, path);
    });
  }

  async #useRecycled(path: string): Promise<boolean> {
    const recycled = this.#place.takeRecycled();
    if (recycled === null) return false;
    try {
      await rename(recycled, path);
      return true;
    } catch (error) {
      // Somebody has tidied up.
      if (systemErrorCode(error) === 'ENOENT') return false;
      // It is nobody's now.
      if (isOutOfSpace(error)) await rm(recycled, { force: true });
      throw error;
    }
  }

  async #makeOfZeros(name: string, path: string): Promise<void> {
    const temporary = join(this.#place.directory, TEMPORARY_SEGMENT_PREFIX + name);
    try {
      await this.#fill(temporary);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await rename(temporary, path);
  }

  async #fill(temporary: string): Promise<void> {
    const handle = await open(temporary, 'w', newFileMode());
    try {
      const { size } = this.#place;
      for (let at = 0; at < size; at += ZEROS.length) {
        await writeFully(handle, ZEROS.subarray(0, Math.min(ZEROS.length, size - at)), at);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return false;
    throw error;
  }
}
