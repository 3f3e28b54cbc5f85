// How do bytes of WAL get into segment files? Blocking, in the writer thread alone. A segment counts only once it has its
// name: it is made under another one, of a removed segment or of zeros, at its full size, durable, then renamed, and the
// directory fsynced. So a flush of WAL later changes data only, and running out of space shows when a segment is made,
// before anything depends on it. (xlog.c:XLogFileInitInternal, InstallXLogFileSegment, walreceiver.c:XLogWalRcvWrite)
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';
import { changeNamesSync, isOutOfSpace, newFileMode, writeFullySync } from '../base/durable-fs.ts';
import { OperationalError, systemErrorCode } from '../base/errors.ts';
import { advanceLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentNumber, segmentOffset, walFileName } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { PageSumsWriter } from './page-sums-writer.ts';

/** Segments in the making carry this prefix; leftovers of a crash are removed at the start. */
export const TEMPORARY_SEGMENT_PREFIX = 'xlogtemp.';

const ZEROS: Uint8Array = new Uint8Array(1 << 20);

/** There was no space to write, or no free file descriptor. Nothing is lost, nothing counts as written, the same write can be done again. */
export class NoSpace extends Error {
  override readonly cause: unknown;

  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause));
    this.cause = cause;
  }
}

/** Where segments are made, and of what. */
export interface SegmentPlace {
  readonly directory: string;
  readonly size: SegmentSize;
  /**
   * A file in `directory` that has a segment's size, all its blocks, and old content on the disk; null when there is
   * none. It is the caller's from then on.
   */
  readonly takeRecycled: () => string | null;
}

interface OpenSegment {
  readonly name: string;
  readonly path: string;
  readonly fd: number;
}

/** Writes WAL of one directory. Every method blocks and throws the system's error; after one that is not NoSpace, stop. */
export class SegmentWriter {
  readonly #place: SegmentPlace;
  readonly #size: SegmentSize;
  readonly #sums: PageSumsWriter;
  #open: OpenSegment | null = null;

  constructor(place: SegmentPlace) {
    this.#place = place;
    this.#size = place.size;
    this.#sums = new PageSumsWriter(place.directory, place.size);
  }

  /** Hands `bytes`, the WAL from `startLsn` on, to the kernel. A segment that is left behind is flushed on the way. */
  write(timeline: TimelineId, startLsn: Lsn, bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) {
      const lsn = advanceLsn(startLsn, done);
      const offset = segmentOffset(lsn, this.#size);
      const part = bytes.subarray(done, done + this.#size - offset);
      const { fd, name } = this.#segment(timeline, lsn);
      this.#sums.beforeWrite(name, offset, part.length);
      tellNoSpace(() => writeFullySync(fd, part, offset));
      this.#sums.afterWrite(name, fd, { offset, bytes: part });
      done += part.length;
    }
  }

  /** Makes everything written durable. Not to be called again after it threw. */
  flush(): void {
    if (this.#open !== null) fdatasyncSync(this.#open.fd);
  }

  close(): void {
    this.#sums.close();
    if (this.#open === null) return;
    const { fd } = this.#open;
    this.#open = null;
    closeSync(fd);
  }

  #segment(timeline: TimelineId, lsn: Lsn): OpenSegment {
    const name = walFileName(timeline, segmentNumber(lsn, this.#size), this.#size);
    const path = join(this.#place.directory, name);
    if (this.#open?.path === path) return this.#open;
    this.flush();
    this.close();
    this.#open = { name, path, fd: this.#openFile(path, name) };
    return this.#open;
  }

  #openFile(path: string, name: string): number {
    try {
      return tellNoSpace(() => openWholeSegment(path, this.#size));
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT') throw error;
    }
    tellNoSpace(() => {
      changeNamesSync(this.#place.directory, () => {
        if (!useRecycled(this.#place, path)) makeSegment(this.#place, name);
      });
    });
    return tellNoSpace(() => openWholeSegment(path, this.#size));
  }
}

/** Makes the segment `name`, all zeros; its name is not durable yet. */
function makeSegment({ directory, size }: SegmentPlace, name: string): void {
  const temporary = join(directory, TEMPORARY_SEGMENT_PREFIX + name);
  const fd = openSync(temporary, 'w', newFileMode());
  try {
    fillWithZeros(fd, size);
    fsyncSync(fd);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, join(directory, name));
}

/** The same of a recycled file, whose content stays; false when there is none. */
function useRecycled(place: SegmentPlace, path: string): boolean {
  const recycled = place.takeRecycled();
  if (recycled === null) return false;
  try {
    renameSync(recycled, path);
    return true;
  } catch (error) {
    // Somebody has tidied up.
    if (systemErrorCode(error) === 'ENOENT') return false;
    // It is nobody's now.
    if (isOutOfSpace(error)) rmSync(recycled, { force: true });
    throw error;
  }
}

function fillWithZeros(fd: number, size: number): void {
  for (let at = 0; at < size; at += ZEROS.length) {
    writeFullySync(fd, ZEROS.subarray(0, Math.min(ZEROS.length, size - at)), at);
  }
}

function openWholeSegment(path: string, size: SegmentSize): number {
  const fd = openSync(path, 'r+');
  const found = fstatSync(fd).size;
  if (found === size) return fd;
  closeSync(fd);
  throw new OperationalError(
    'SEGMENT_SIZE',
    `the WAL segment "${path}" has ${found} bytes instead of ${size}`,
    { hint: 'Something else than walcast changed it.' },
  );
}

function tellNoSpace<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw isOutOfSpace(error) ? new NoSpace(error) : error;
  }
}
