// How does a damaged segment get its bytes back? The new file is written beside it, checked as a whole, compared with what
// is known of the old one's pages, flushed, and takes the name; the damaged one is kept aside for whoever wants to know
// what the disk did to it. A crash at any point leaves the old file or the new one.
import { link, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  createDirectory,
  ignoreMissing,
  newFileMode,
  readFully,
  syncDirectory,
  writeFully,
} from '../base/durable-fs.ts';
import { OperationalError, systemErrorCode } from '../base/errors.ts';
import { advanceLsn, formatLsn, PAGE_SIZE } from '../pg/lsn.ts';
import { nextSegment, segmentStart } from '../pg/segment.ts';
import type { SegmentNumber } from '../pg/segment.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { deadDirectory } from './data-directory.ts';
import { checkSegment, keepPageSums } from './page-sums-check.ts';
import { loadPageSums, removePageSums, sumPage, UNKNOWN_SUM } from './page-sums.ts';
import type { PageOrigin } from './records/page-header.ts';
import { TEMPORARY_SEGMENT_PREFIX } from './segment-writer.ts';

/** Damaged files that are kept; the oldest one goes. */
const DAMAGED_FILES_MAX = 4;

/** What damaged files end in, in `dead/`. */
export const DAMAGED_SUFFIX = '.damaged';

/** A segment of the store. */
export interface ReplacedSegment {
  readonly name: string;
  readonly timeline: TimelineId;
  readonly segment: SegmentNumber;
}

/** What became of a replacement. */
export interface Replaced {
  /** The old file had the same bytes. */
  readonly wasSame: boolean;
  /** Where the old file is now; null when there was none, or it could not be kept. */
  readonly keptAs: string | null;
}

/** What its owner knows of the segment, at the moment of asking. */
export interface ReplacementOwner {
  /** Asked right before the file takes its name: false when it was removed, or its timeline was left before its end. */
  readonly isWanted: () => boolean;
  /** Asked right after: true when it was removed meanwhile. */
  readonly isRemoved: () => boolean;
}

/** The new file of one segment, in the making. */
export class SegmentReplacement {
  readonly #walDirectory: string;
  readonly #origin: PageOrigin;
  readonly #of: ReplacedSegment;
  readonly #temporary: string;
  readonly #file: FileHandle;
  #length = 0;

  private constructor(
    place: { readonly walDirectory: string; readonly origin: PageOrigin },
    of: ReplacedSegment,
    made: { readonly temporary: string; readonly file: FileHandle },
  ) {
    this.#walDirectory = place.walDirectory;
    this.#origin = place.origin;
    this.#of = of;
    this.#temporary = made.temporary;
    this.#file = made.file;
  }

  /** Begins it under a temporary name. Rejects with the system's error. */
  static async begin(
    place: { readonly walDirectory: string; readonly origin: PageOrigin },
    of: ReplacedSegment,
  ): Promise<SegmentReplacement> {
    const temporary = `${TEMPORARY_SEGMENT_PREFIX}repair.${of.name}`;
    const file = await open(join(place.walDirectory, temporary), 'w+', newFileMode());
    return new SegmentReplacement(place, of, { temporary, file });
  }

  /** The next bytes. Rejects with the system's error. */
  async write(bytes: Uint8Array): Promise<void> {
    await writeFully(this.#file, bytes, this.#length);
    this.#length += bytes.length;
  }

  /**
   * Puts it in the place of the stored file, durably. Throws OperationalError when it is not the WAL of that place, or
   * another one than was received; then, and after an error of the system, nothing has changed: {@link abandon} it.
   * Null when it is not wanted any more. What was removed while this took its name does not come back by that.
   */
  async finish({ isWanted, isRemoved }: ReplacementOwner): Promise<Replaced | null> {
    await this.#check();
    const sums = await this.#compare();
    await this.#file.sync();
    await this.#file.close();
    const path = join(this.#walDirectory, this.#of.name);
    if (!isWanted()) return null;
    const keptAs = sums.wasSame ? null : await this.#keepDamaged(path);
    if (!isWanted()) return null;
    await rename(join(this.#walDirectory, this.#temporary), path);
    const isLate = isRemoved();
    if (isLate) await unlink(path).catch(ignoreMissing);
    await syncDirectory(this.#walDirectory);
    if (isLate) return null;
    await this.#keepSums(sums);
    return { wasSame: sums.wasSame, keptAs };
  }

  /** Forgets it. Never rejects. */
  async abandon(): Promise<void> {
    await this.#file.close().catch(() => {});
    await unlink(join(this.#walDirectory, this.#temporary)).catch(() => {});
  }

  /** Walks it with all checksums. */
  async #check(): Promise<void> {
    const { segment } = this.#of;
    const { segmentSize } = this.#origin;
    if (this.#length !== segmentSize) {
      throw refused(`it has ${this.#length} bytes instead of ${segmentSize}`);
    }
    const startLsn = segmentStart(segment, segmentSize);
    const { failure } = await checkSegment(
      { origin: this.#origin, useFile: (name, action) => this.#useFile(name, action) },
      { name: this.#temporary, segment, endLsn: segmentStart(nextSegment(segment), segmentSize) },
    );
    // A record that begins in the segment before may be bad because of that one.
    if (failure === null || failure.lsn < startLsn) return;
    throw refused(failure.reason);
  }

  async #useFile<T>(name: string, action: (file: FileHandle) => Promise<T>): Promise<T> {
    if (name === this.#temporary) return await action(this.#file);
    const file = await open(join(this.#walDirectory, name), 'r');
    try {
      return await action(file);
    } finally {
      await file.close();
    }
  }

  /** Page by page with what is noted of the stored file, and where that is another one, with its bytes. */
  async #compare(): Promise<{ sums: Float64Array; isNoteWrong: boolean; wasSame: boolean }> {
    const { name, segment } = this.#of;
    const { segmentSize } = this.#origin;
    const noted = await loadPageSums(this.#walDirectory, name, { ...this.#of, segmentSize });
    const stored = await open(join(this.#walDirectory, name), 'r').catch((error: unknown) => {
      if (systemErrorCode(error) === null) throw error;
      return null;
    });
    const sums = new Float64Array(segmentSize / PAGE_SIZE);
    let [isNoteWrong, wasSame] = [false, true];
    try {
      for (let page = 0; page < sums.length; page++) {
        const { sum, isSame } = await this.#comparePage(page, stored);
        sums[page] = sum;
        wasSame &&= isSame;
        const expected = noted?.[page] ?? UNKNOWN_SUM;
        if (expected === UNKNOWN_SUM || expected === sum) continue;
        const lsn = advanceLsn(segmentStart(segment, segmentSize), page * PAGE_SIZE);
        if (!isSame)
          throw refused(`the page at ${formatLsn(lsn)} is not the one that was received`);
        isNoteWrong = true;
      }
    } finally {
      await stored?.close();
    }
    return { sums, isNoteWrong, wasSame };
  }

  async #comparePage(
    page: number,
    stored: FileHandle | null,
  ): Promise<{ sum: number; isSame: boolean }> {
    const fetched = Buffer.allocUnsafe(PAGE_SIZE);
    const before = Buffer.allocUnsafe(PAGE_SIZE);
    await readFully(this.#file, fetched, page * PAGE_SIZE);
    // What cannot be read is another page.
    const length =
      (await stored?.read(before, 0, PAGE_SIZE, page * PAGE_SIZE).catch(() => null)) ?? null;
    const isSame = length?.bytesRead === PAGE_SIZE && before.equals(fetched);
    return { sum: sumPage(fetched), isSame };
  }

  /** Null when it could not be kept: what counts is the file that takes its place. */
  async #keepDamaged(path: string): Promise<string | null> {
    const directory = deadDirectory(dirname(this.#walDirectory));
    const kept = join(directory, this.#of.name + DAMAGED_SUFFIX);
    try {
      await createDirectory(directory);
      await unlink(kept).catch(() => {});
      await link(path, kept);
      await removeOldest(directory);
      await syncDirectory(directory);
      return kept;
    } catch (error) {
      if (systemErrorCode(error) === null) throw error;
      return null;
    }
  }

  async #keepSums(found: {
    readonly sums: Float64Array;
    readonly isNoteWrong: boolean;
  }): Promise<void> {
    const { name } = this.#of;
    const { segmentSize } = this.#origin;
    if (found.isNoteWrong) await removePageSums(this.#walDirectory, name);
    const range = { from: 0, to: found.sums.length };
    const what = { name, of: { ...this.#of, segmentSize }, sums: found.sums, range };
    // Unkept, the records are walked when it is read.
    await keepPageSums(this.#walDirectory, what).catch(() => {});
  }
}

/** Removes damaged files beyond the bound. */
async function removeOldest(directory: string): Promise<void> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(DAMAGED_SUFFIX));
  const files = await Promise.all(
    names.map(async (name) => {
      const path = join(directory, name);
      // Changed by the link: when it was put there.
      return { path, ctimeMs: (await stat(path)).ctimeMs };
    }),
  );
  const oldest = files.toSorted((a, b) => a.ctimeMs - b.ctimeMs);
  for (const { path } of oldest.slice(0, Math.max(0, files.length - DAMAGED_FILES_MAX))) {
    // Two repairs at once may remove the same one.
    await unlink(path).catch(() => {});
  }
}

function refused(reason: string): OperationalError {
  return new OperationalError('SEGMENT_REPLACEMENT', `what the upstream sent is not it: ${reason}`);
}
