// What becomes of a segment that is not needed any more? The file of a future one, so that a flush of WAL changes no
// metadata and nothing has to be filled with zeros: renamed to a name that nothing takes for WAL, and offered to the
// writer thread, which renames it to the name that comes next. (xlog.c:RemoveXlogFile, InstallXLogFileSegment)
// PostgreSQL gives it the name of the future at once; under a name of its own nobody can mistake it for WAL that is there.
import { lstat, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { RECYCLED_BYTES_MAX } from '../config/limits.ts';
import type { SegmentSize } from '../pg/segment.ts';
import { isOpenForReading } from './file-cache.ts';
import { TEMPORARY_SEGMENT_PREFIX } from './segment-writer.ts';

/** Recycled files carry this prefix; the start removes what is left of them, as all that begins so. */
export const RECYCLED_SEGMENT_PREFIX: string = `${TEMPORARY_SEGMENT_PREFIX}recycled.`;

/** How recycling is set up. */
export interface RecycledSegmentsOptions {
  readonly segmentSize: SegmentSize;
  /** Default: as many as {@link RECYCLED_BYTES_MAX} holds, one at least. */
  readonly filesMax?: number;
  /** Hands a file to who makes segments. False when nobody does any more. */
  readonly offer: (path: string) => boolean;
}

/** Takes the files of removed segments. Lives in the main thread, as every reader does. */
export class RecycledSegments {
  readonly #options: RecycledSegmentsOptions;
  readonly #filesMax: number;
  #names = 0;
  #waiting = 0;

  constructor(options: RecycledSegmentsOptions) {
    this.#options = options;
    const fitting = Math.floor(RECYCLED_BYTES_MAX / options.segmentSize);
    this.#filesMax = options.filesMax ?? Math.max(1, fitting);
  }

  /**
   * Takes the segment file at `path`, which is needed by nobody any more. True: it has that name no longer. False:
   * nothing was changed, and it is to be removed. A file is not used again while a reader of this process has it open (it
   * would see other WAL), or when it has a second name (a backup by links would change), another size, or holes.
   * Never rejects.
   */
  async take(path: string): Promise<boolean> {
    if (this.#waiting >= this.#filesMax || isOpenForReading(path)) return false;
    this.#names++;
    const recycled = join(dirname(path), RECYCLED_SEGMENT_PREFIX + this.#names);
    this.#waiting++;
    const isRenamed = await rename(path, recycled).then(
      () => true,
      // Who removes it meets the same error, and tells it.
      () => false,
    );
    if (isRenamed && (await this.#isFit(path, recycled)) && this.#options.offer(recycled)) {
      return true;
    }
    this.#waiting--;
    // What cannot be removed now is removed at the next start.
    if (isRenamed) await unlink(recycled).catch(() => {});
    return isRenamed;
  }

  /** To be called when a file that was offered has been used. */
  used(): void {
    this.#waiting--;
  }

  async #isFit(path: string, recycled: string): Promise<boolean> {
    const { segmentSize } = this.#options;
    const found = await lstat(recycled).catch(() => null);
    if (found === null || !found.isFile() || found.nlink !== 1) return false;
    if (found.size !== segmentSize || found.blocks * 512 < segmentSize) return false;
    // Opened just before the rename: that reader keeps the file as it is.
    return !isOpenForReading(path);
  }
}
