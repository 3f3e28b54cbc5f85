// How is WAL read back? Through the thread pool, a bounded number of reads at once, and every page that is read proves
// that it is the page of that address: a stale or half-written page never leaves the store.
// (walsender.c:WalSndSegmentOpen, xlogreader.c:WALRead)
import { join } from 'node:path';
import type { FileHandle } from 'node:fs/promises';
import { readFully } from '../base/durable-fs.ts';
import { errorText, systemErrorCode } from '../base/errors.ts';
import { advanceLsn, lsnDistance, minLsn, PAGE_SIZE, pageStart } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import {
  nextSegment,
  segmentNumber,
  segmentOffset,
  segmentStart,
  walFileName,
} from '../pg/segment.ts';
import type { SegmentNumber } from '../pg/segment.ts';
import { switchPoint } from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import { FileCache } from './file-cache.ts';
import { highHalf, lowHalf } from './records/address.ts';
import { PAGE_HEADER_SIZE, PageHeaderCheck } from './records/page-header.ts';
import type { PageOrigin } from './records/page-header.ts';
import { isZeroRange } from './records/zeros.ts';

/** Why stored WAL could not be read. `removed`: older than the store. `damaged`: it failed its check, or the disk did. */
export type StoredReadFailure =
  | { readonly kind: 'removed'; readonly walFileName: string }
  | {
      readonly kind: 'damaged';
      readonly walFileName: string;
      readonly lsn: Lsn;
      readonly reason: string;
    };

/** What a reader needs to know of the store. */
export interface WalReaderOptions {
  /** The directory of the segments. */
  readonly directory: string;
  readonly origin: PageOrigin;
  /** First byte that is stored, now. */
  readonly oldestLsn: () => Lsn;
  /** End of what is in the files, now: behind it lie zeros or remains. */
  readonly writtenLsn: () => Lsn;
  readonly readsMax: number;
  readonly openFilesMax: number;
}

/** One stretch of WAL inside one segment. */
interface Piece {
  readonly timeline: TimelineId;
  readonly segment: SegmentNumber;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

class Damage extends Error {
  readonly lsn: Lsn;

  constructor(lsn: Lsn, reason: string) {
    super(reason);
    this.lsn = lsn;
  }
}

/** Reads segment files. */
export class WalReader {
  readonly #options: WalReaderOptions;
  readonly #pages: PageHeaderCheck;
  readonly #files: FileCache;
  readonly #waiting: Array<() => void> = [];
  #readsUnderWay = 0;

  constructor(options: WalReaderOptions) {
    this.#options = options;
    this.#pages = new PageHeaderCheck(options.origin);
    this.#files = new FileCache(options.openFilesMax);
  }

  /** The bytes [startLsn, endLsn) of `timeline`, which must be written. The buffer is the caller's. Never rejects. */
  async read(
    timeline: TimelineId,
    startLsn: Lsn,
    endLsn: Lsn,
  ): Promise<Uint8Array | StoredReadFailure> {
    await this.#enter();
    try {
      const parts: Uint8Array[] = [];
      for (const piece of this.#pieces(timeline, startLsn, endLsn)) {
        const part = await this.#readPiece(piece);
        if (!(part instanceof Uint8Array)) return part;
        parts.push(part);
      }
      return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
    } finally {
      this.#leave();
    }
  }

  /** To be called before the file of a segment is removed, and after it. */
  forget(walFile: string): void {
    this.#files.forget(join(this.#options.directory, walFile));
  }

  close(): void {
    this.#files.clear();
  }

  async #enter(): Promise<void> {
    if (this.#readsUnderWay < this.#options.readsMax) {
      this.#readsUnderWay++;
      return;
    }
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #leave(): void {
    // The place goes to the one that waited longest, if there is one.
    const next = this.#waiting.shift();
    if (next === undefined) this.#readsUnderWay--;
    else next();
  }

  #pieces(timeline: TimelineId, startLsn: Lsn, endLsn: Lsn): Piece[] {
    const { segmentSize } = this.#options.origin;
    const pieces: Piece[] = [];
    for (let lsn = startLsn; lsn < endLsn;) {
      const segment = segmentNumber(lsn, segmentSize);
      const segmentEnd = segmentStart(nextSegment(segment), segmentSize);
      pieces.push({ timeline, segment, startLsn: lsn, endLsn: minLsn(endLsn, segmentEnd) });
      lsn = segmentEnd;
    }
    return pieces;
  }

  async #readPiece(piece: Piece): Promise<Uint8Array | StoredReadFailure> {
    const { origin, oldestLsn } = this.#options;
    const { segment, startLsn } = piece;
    for (const timeline of fileTimelines(origin, piece)) {
      const name = walFileName(timeline, segment, origin.segmentSize);
      try {
        const path = join(this.#options.directory, name);
        return await this.#files.use(path, (file) => this.#readPages(file, piece));
      } catch (error) {
        if (systemErrorCode(error) === 'ENOENT') continue;
        const lsn = error instanceof Damage ? error.lsn : startLsn;
        return { kind: 'damaged', walFileName: name, lsn, reason: errorText(error) };
      }
    }
    const name = walFileName(piece.timeline, segment, origin.segmentSize);
    if (startLsn < oldestLsn()) return { kind: 'removed', walFileName: name };
    return { kind: 'damaged', walFileName: name, lsn: startLsn, reason: 'the file is missing' };
  }

  async #readPages(file: FileHandle, piece: Piece): Promise<Uint8Array> {
    const { segmentSize } = this.#options.origin;
    const first = pageStart(piece.startLsn);
    const bytes = Buffer.allocUnsafeSlow(lsnDistance(first, piece.endLsn));
    const length = await readFully(file, bytes, segmentOffset(first, segmentSize));
    if (length !== bytes.length) {
      throw new Damage(piece.startLsn, `the file ends ${bytes.length - length} bytes too early`);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; at += PAGE_SIZE) {
      const lsn = advanceLsn(first, at);
      const low = lowHalf(lsn);
      if (bytes.length - at < this.#pages.headerSize(low)) break;
      const problem = this.#pages.problem(view, at, highHalf(lsn), low);
      if (problem === null) continue;
      if (await this.#isSwitchPadding(file, bytes.subarray(at, at + PAGE_SIZE), lsn)) continue;
      throw new Damage(lsn, problem);
    }
    return bytes.subarray(lsnDistance(first, piece.startLsn));
  }

  /**
   * Behind an XLOG_SWITCH all pages of the segment are zero, headers included. A page that is zero for another reason has
   * pages with headers behind it.
   */
  async #isSwitchPadding(file: FileHandle, page: Uint8Array, lsn: Lsn): Promise<boolean> {
    if (!isZeroRange(page, 0, page.length)) return false;
    const { origin, writtenLsn } = this.#options;
    const segment = segmentNumber(lsn, origin.segmentSize);
    const segmentEnd = segmentStart(nextSegment(segment), origin.segmentSize);
    const lastByte = advanceLsn(minLsn(segmentEnd, writtenLsn()), -1);
    const header = Buffer.alloc(PAGE_HEADER_SIZE, 1);
    await readFully(file, header, segmentOffset(pageStart(lastByte), origin.segmentSize));
    return isZeroRange(header, 0, header.length);
  }
}

/**
 * Whose file holds WAL of a timeline: the timeline's own; in the segment where it was left, that of the next one, which
 * begins with a copy; and any newer one for a store that was begun on it. In the order to try them.
 */
function fileTimelines(origin: PageOrigin, piece: Piece): TimelineId[] {
  const { history, segmentSize } = origin;
  const left = switchPoint(history, piece.timeline);
  if (left === null) return [piece.timeline];
  const newer = lineage(history).filter((timeline) => timeline > piece.timeline);
  const isLastSegment = segmentNumber(left.endLsn, segmentSize) === piece.segment;
  return isLastSegment ? [...newer, piece.timeline] : [piece.timeline, ...newer];
}

function lineage(history: TimelineHistory): TimelineId[] {
  return [...history.ancestors.map((entry) => entry.timeline), history.timeline];
}
