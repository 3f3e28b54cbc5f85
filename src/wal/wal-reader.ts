// How is WAL read back? Through the thread pool, a bounded number of reads at once, and every page that is read proves
// that it is the page of that address, by its header, and that it is as it was received, by its sum. Where the sum is not
// known the records of its segment are checked first; whoever reads waits for that, and occupies nothing meanwhile.
// (walsender.c:WalSndSegmentOpen, xlogreader.c:WALRead)
import { join } from 'node:path';
import type { FileHandle } from 'node:fs/promises';
import { readFully } from '../base/durable-fs.ts';
import { errorText, systemErrorCode } from '../base/errors.ts';
import { Places } from '../base/places.ts';
import { advanceLsn, lsnDistance, maxLsn, minLsn, PAGE_SIZE, pageStart } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import {
  nextSegment,
  parseWalFileName,
  segmentNumber,
  segmentOffset,
  segmentStart,
  walFileName,
} from '../pg/segment.ts';
import type { SegmentNumber } from '../pg/segment.ts';
import { switchPoint } from '../pg/timeline.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { FileCache } from './file-cache.ts';
import { Lineage } from './lineage.ts';
import { pageSumsFile, readPageSums, sumPage, UNKNOWN_SUM } from './page-sums.ts';
import { isProven, SegmentChecks } from './page-sums-check.ts';
import type { CheckedSegment } from './page-sums-check.ts';
import { highHalf, lowHalf } from './records/address.ts';
import { PAGE_HEADER_SIZE, PageHeaderCheck } from './records/page-header.ts';
import type { PageOrigin } from './records/page-header.ts';
import { isZeroRange } from './records/zeros.ts';
import { SegmentReplacement } from './segment-replacement.ts';
import type { ReplacedSegment } from './segment-replacement.ts';

/** Why stored WAL could not be read. `removed`: older than the store. `damaged`: it failed its check, or the disk did. */
export type StoredReadFailure =
  | { readonly kind: 'removed'; readonly walFileName: string }
  | {
      readonly kind: 'damaged';
      readonly walFileName: string;
      readonly lsn: Lsn;
      readonly reason: string;
      /** There is no file, though there should be one. */
      readonly isMissing?: boolean;
      /** Nothing is damaged: the WAL that was asked for is not there any more, because its timeline was cut. */
      readonly isBeyondEnd?: boolean;
    };

/** Stored WAL that is not what it should be. */
export type DamagedRead = Extract<StoredReadFailure, { kind: 'damaged' }>;

/** True for what a read found damaged. */
export function isDamaged(
  read: Uint8Array | StoredReadFailure | StoredReadLater,
): read is DamagedRead {
  return !(read instanceof Uint8Array) && read.kind === 'damaged';
}

/** It cannot be said yet: to be read again when `ready` resolves, which never rejects. */
export interface StoredReadLater {
  readonly kind: 'later';
  readonly ready: Promise<void>;
}

/** What a reader needs to know of the store. */
export interface WalReaderOptions {
  /** The directory of the segments. */
  readonly directory: string;
  readonly origin: PageOrigin;
  /** First byte that is stored, now. */
  readonly oldestLsn: () => Lsn;
  /** End of what is in the files, now: behind it lie zeros or remains. */
  readonly writtenLsn: () => Lsn;
  /** Nothing before it is ever written again, now. */
  readonly settledLsn: () => Lsn;
  /** Of another reader of the same directory, to share what it found. */
  readonly checks?: SegmentChecks;
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

/** The sums of pages that were read are not known; their segment has to be checked. */
class Unchecked extends Error {}

/** Whole pages as they were read, and what is to be known of them. */
interface ReadPages {
  readonly name: string;
  readonly segment: SegmentNumber;
  readonly timeline: TimelineId;
  /** A page start. */
  readonly startLsn: Lsn;
  readonly bytes: Buffer;
}

/** Reads segment files. */
export class WalReader {
  readonly #options: WalReaderOptions;
  readonly #pages: PageHeaderCheck;
  readonly #lineage: Lineage;
  readonly #files: FileCache;
  readonly #sums: FileCache;
  /** What was found of segments whose sums are not known. */
  readonly checks: SegmentChecks;
  readonly #reads: Places;

  constructor(options: WalReaderOptions) {
    this.#options = options;
    this.#reads = new Places(options.readsMax);
    this.#pages = new PageHeaderCheck(options.origin);
    this.#lineage = new Lineage(options.origin.history, options.origin.segmentSize);
    this.#files = new FileCache(options.openFilesMax);
    this.#sums = new FileCache(options.openFilesMax);
    const { directory, origin, writtenLsn, settledLsn } = options;
    this.checks =
      options.checks ??
      new SegmentChecks({
        directory,
        origin,
        writtenLsn,
        settledLsn,
        useFile: (name, action) => this.#files.use(join(directory, name), action),
      });
  }

  /** The bytes [startLsn, endLsn) of `timeline`, which must be written. The buffer is the caller's. Never rejects. */
  async read(
    timeline: TimelineId,
    startLsn: Lsn,
    endLsn: Lsn,
  ): Promise<Uint8Array | StoredReadFailure | StoredReadLater> {
    return await this.#reads.run(async () => {
      const parts: Uint8Array[] = [];
      for (const piece of this.#pieces(timeline, startLsn, endLsn)) {
        const part = await this.#readPiece(piece);
        if (!(part instanceof Uint8Array)) return part;
        parts.push(part);
      }
      return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
    });
  }

  /**
   * A page was found to be another one than was noted, and nobody can tell which is right but the records: true when each of
   * them in that page is whole and right. Then it is served from now on. Never rejects.
   */
  async isProven(walFile: string, lsn: Lsn): Promise<boolean> {
    const { segmentSize } = this.#options.origin;
    const parsed = parseWalFileName(walFile, segmentSize);
    if (parsed === null) return false;
    this.forget(walFile);
    const page = Math.floor(segmentOffset(lsn, segmentSize) / PAGE_SIZE);
    return await this.checks.proves(walFile, { ...parsed, page });
  }

  /** To be called before the file of a segment is removed, and after it. */
  forget(walFile: string): void {
    const { directory } = this.#options;
    this.#files.forget(join(directory, walFile));
    this.#sums.forget(pageSumsFile(directory, walFile));
    this.checks.forget(walFile);
  }

  /**
   * Begins to write a segment anew, beside its file; {@link forget} it when that has taken its place. Rejects with the
   * system's error.
   */
  beginReplacement(of: ReplacedSegment): Promise<SegmentReplacement> {
    const { directory, origin } = this.#options;
    return SegmentReplacement.begin({ walDirectory: directory, origin }, of);
  }

  close(): void {
    this.#files.clear();
    this.#sums.clear();
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

  async #readPiece(piece: Piece): Promise<Uint8Array | StoredReadFailure | StoredReadLater> {
    const { origin, directory, oldestLsn } = this.#options;
    const { segment, startLsn } = piece;
    for (const timeline of this.#fileTimelines(piece)) {
      const name = walFileName(timeline, segment, origin.segmentSize);
      try {
        return await this.#files.use(join(directory, name), (file) =>
          this.#readPages(file, piece, { name, timeline }),
        );
      } catch (error) {
        if (systemErrorCode(error) === 'ENOENT') continue;
        if (error instanceof Unchecked) {
          return { kind: 'later', ready: this.checks.check(name, timeline, segment) };
        }
        // Removed while it was read.
        if (startLsn < oldestLsn()) return { kind: 'removed', walFileName: name };
        const lsn = error instanceof Damage ? error.lsn : startLsn;
        return { kind: 'damaged', walFileName: name, lsn, reason: errorText(error) };
      }
    }
    const name = walFileName(this.#lineage.fileTimeline(segment), segment, origin.segmentSize);
    if (startLsn < oldestLsn()) return { kind: 'removed', walFileName: name };
    const reason = 'the file is missing';
    return { kind: 'damaged', walFileName: name, lsn: startLsn, reason, isMissing: true };
  }

  /** In the order to try them; a store that was begun on a newer timeline may have older WAL in its files. */
  #fileTimelines({ timeline, segment, endLsn }: Piece): TimelineId[] {
    const { history } = this.#options.origin;
    // An older file ends where its timeline was left: it stands in for a newer one up to there only.
    const holders = this.#lineage.fileTimelines(segment).filter((holder, index) => {
      const left = switchPoint(history, holder);
      return index === 0 || left === null || pageEnd(endLsn) <= left.endLsn;
    });
    const others = [...history.ancestors.map((entry) => entry.timeline), history.timeline];
    const newer = others.filter((other) => other > timeline && !holders.includes(other));
    return [...holders, ...newer];
  }

  async #readPages(
    file: FileHandle,
    piece: Piece,
    of: { readonly name: string; readonly timeline: TimelineId },
  ): Promise<Uint8Array> {
    const { origin, writtenLsn } = this.#options;
    const { segment } = piece;
    const startLsn = pageStart(piece.startLsn);
    // A page that is written to its end is read to its end: its sum is that of all of it.
    const wholeEnd = minLsn(pageEnd(piece.endLsn), pageStart(writtenLsn()));
    const endLsn = maxLsn(piece.endLsn, wholeEnd);
    const bytes = Buffer.allocUnsafeSlow(lsnDistance(startLsn, endLsn));
    const length = await readFully(file, bytes, segmentOffset(startLsn, origin.segmentSize));
    if (length !== bytes.length) {
      const lsn = advanceLsn(startLsn, length);
      throw new Damage(lsn, `the file ends ${bytes.length - length} bytes too early`);
    }
    await this.#checkHeaders(file, bytes, startLsn);
    const whole = bytes.subarray(0, Math.max(0, lsnDistance(startLsn, wholeEnd)));
    if (whole.length > 0) await this.#checkSums({ ...of, segment, startLsn, bytes: whole });
    return bytes.subarray(
      lsnDistance(startLsn, piece.startLsn),
      lsnDistance(startLsn, piece.endLsn),
    );
  }

  async #checkHeaders(file: FileHandle, bytes: Buffer, startLsn: Lsn): Promise<void> {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; at += PAGE_SIZE) {
      const lsn = advanceLsn(startLsn, at);
      const low = lowHalf(lsn);
      if (bytes.length - at < this.#pages.headerSize(low)) break;
      const problem = this.#pages.problem(view, at, highHalf(lsn), low);
      if (problem === null) continue;
      if (await this.#isSwitchPadding(file, bytes.subarray(at, at + PAGE_SIZE), lsn)) continue;
      throw new Damage(lsn, problem);
    }
  }

  /** Throws Damage for the first page that is not as it was, Unchecked when that cannot be said of one. */
  async #checkSums(read: ReadPages): Promise<void> {
    const { segmentSize } = this.#options.origin;
    const first = segmentOffset(read.startLsn, segmentSize) / PAGE_SIZE;
    const noted = await this.#notedSums(read, { first, count: read.bytes.length / PAGE_SIZE });
    const checked = this.checks.result(read.name);
    for (let at = 0; at < read.bytes.length; at += PAGE_SIZE) {
      const page = first + at / PAGE_SIZE;
      const known = noted?.[at / PAGE_SIZE] ?? UNKNOWN_SUM;
      const expected = known === UNKNOWN_SUM ? (checked?.sums[page] ?? UNKNOWN_SUM) : known;
      const lsn = advanceLsn(read.startLsn, at);
      if (expected === UNKNOWN_SUM) this.#throwUnknown(read.name, lsn, checked);
      else {
        const sum = sumPage(read.bytes.subarray(at, at + PAGE_SIZE));
        // What the records prove is worth more than what was noted.
        if (sum === expected) continue;
        if (checked !== null && isProven(checked, page) && checked.sums[page] === sum) continue;
        throw new Damage(lsn, 'the page is not what was received: its checksum is another one');
      }
    }
  }

  #throwUnknown(name: string, pageLsn: Lsn, checked: CheckedSegment | null): never {
    if (checked === null) throw new Unchecked();
    const { failure } = checked;
    if (failure !== null) throw new Damage(minLsn(failure.lsn, pageLsn), failure.reason);
    // It was written since.
    this.checks.forget(name);
    throw new Unchecked();
  }

  /** Null when nothing is noted. */
  async #notedSums(
    read: ReadPages,
    pages: { readonly first: number; readonly count: number },
  ): Promise<Float64Array | null> {
    const { directory, origin } = this.#options;
    const { name, timeline, segment } = read;
    const of = { timeline, segment, segmentSize: origin.segmentSize };
    try {
      const path = pageSumsFile(directory, name);
      return await this.#sums.use(path, (file) => readPageSums(file, of, pages));
    } catch (error) {
      // Whatever is wrong with it, the records tell what it would have told.
      if (systemErrorCode(error) === null) throw error;
      return null;
    }
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

function pageEnd(lsn: Lsn): Lsn {
  const start = pageStart(lsn);
  return start === lsn ? lsn : advanceLsn(start, PAGE_SIZE);
}
