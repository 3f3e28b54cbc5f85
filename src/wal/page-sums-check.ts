// What are the pages of a segment, when nobody noted it? The records say: each of them is walked with its checksum, also
// the one that goes over into the segment and the one that goes out of it. Done off the hot path, in small pieces, one
// segment at a time; what was found is kept, in memory for a few segments, on the disk for all whose pages cannot change.
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { newFileMode, readFully, writeFully } from '../base/durable-fs.ts';
import { errorText, systemErrorCode } from '../base/errors.ts';
import { advanceLsn, lsnDistance, minLsn, PAGE_SIZE, pageStart } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { nextSegment, segmentStart, walFileName } from '../pg/segment.ts';
import type { SegmentNumber } from '../pg/segment.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { Lineage } from './lineage.ts';
import {
  encodePageSumsHeader,
  entryOffset,
  PAGE_SUM_BYTES,
  PAGE_SUMS_HEADER_BYTES,
  pageSumsFile,
  pageSumsSeed,
  putPageSum,
  readPageSums,
  sumPage,
  UNKNOWN_SUM,
} from './page-sums.ts';
import type { SummedSegment } from './page-sums.ts';
import {
  LONG_PAGE_HEADER_SIZE,
  PAGE_HEADER_SIZE,
  PAGE_IS_CONTINUATION,
} from './records/page-header.ts';
import { pageFlags, pageRemainingLength } from './records/page-header.ts';
import type { PageOrigin } from './records/page-header.ts';
import { chainStart } from './records/record-chain.ts';
import { RecordWalk } from './records/record-walk.ts';
import type { WalkFailure } from './records/record-walk.ts';

/** One piece that is read and walked before anything else of the process has its turn. */
const PIECE_BYTES = 128 * 1024;

/** Segments whose pages are remembered. */
const RESULTS_MAX = 16;

/** What a walk over a segment found. */
export interface CheckedSegment {
  /** By page of the segment; {@link UNKNOWN_SUM} behind the failure, or behind the end of the WAL. */
  readonly sums: Float64Array;
  /** The first thing that is wrong; null when all of it is good. */
  readonly failure: WalkFailure | null;
  /** True when the file was not there. */
  readonly isMissing: boolean;
  /** Pages [from, to) whose every byte belongs to a record whose checksum was seen. */
  readonly proven: { readonly from: number; readonly to: number };
}

/** Reads one file that holds a segment. Rejects with the system's error. */
export type UseFile = <T>(name: string, action: (file: FileHandle) => Promise<T>) => Promise<T>;

/** What a check works with. */
export interface SegmentCheckOptions {
  /** The directory of the segments. */
  readonly directory: string;
  readonly origin: PageOrigin;
  readonly useFile: UseFile;
  /** End of what is in the files, now. */
  readonly writtenLsn: () => Lsn;
  /** Nothing before it is ever written again. */
  readonly settledLsn: () => Lsn;
}

/** Checks segments, each once however many ask. */
export class SegmentChecks {
  readonly #options: SegmentCheckOptions;
  readonly #results = new Map<string, CheckedSegment>();
  readonly #running = new Map<string, Promise<void>>();
  /** Segments whose next check is worth more than what is noted of them. */
  readonly #believed = new Set<string>();
  #last: Promise<void> = Promise.resolve();

  constructor(options: SegmentCheckOptions) {
    this.#options = options;
  }

  /** What the last check of a segment found; null when there was none, or it was forgotten. */
  result(name: string): CheckedSegment | null {
    return this.#results.get(name) ?? null;
  }

  /** Resolves when there is a {@link result}. Never rejects. */
  check(name: string, timeline: TimelineId, segment: SegmentNumber): Promise<void> {
    const running = this.#running.get(name);
    if (running !== undefined) return running;
    const check = this.#last.then(() => this.#check(name, timeline, segment));
    this.#last = check;
    this.#running.set(name, check);
    return check;
  }

  /**
   * Checks it anew; what the records prove counts from then on, whatever was noted. Resolves with whether they prove the
   * page `page` of the segment. Never rejects.
   */
  async proves(
    name: string,
    { timeline, segment, page }: { timeline: TimelineId; segment: SegmentNumber; page: number },
  ): Promise<boolean> {
    this.forget(name);
    this.#believed.add(name);
    await this.check(name, timeline, segment);
    this.#believed.delete(name);
    const checked = this.result(name);
    return checked !== null && isProven(checked, page);
  }

  /** The file has become another one. */
  forget(name: string): void {
    this.#results.delete(name);
    this.#running.delete(name);
  }

  async #check(name: string, timeline: TimelineId, segment: SegmentNumber): Promise<void> {
    const mine = this.#running.get(name);
    const endLsn = pageStart(this.#options.writtenLsn());
    const result = await checkSegment(this.#options, { name, segment, endLsn });
    // Forgotten meanwhile: it is of a file that is there no more.
    if (this.#running.get(name) !== mine) return;
    this.#running.delete(name);
    this.#results.delete(name);
    this.#results.set(name, result);
    for (const oldest of this.#results.keys()) {
      if (this.#results.size <= RESULTS_MAX) break;
      this.#results.delete(oldest);
    }
    await this.#keep(
      name,
      { timeline, segment, segmentSize: this.#options.origin.segmentSize },
      result,
    );
  }

  /** Unkept, a segment is walked again at the next start; that is all. */
  async #keep(name: string, of: SummedSegment, { sums, proven }: CheckedSegment): Promise<void> {
    const start = segmentStart(of.segment, of.segmentSize);
    const settled = Math.floor(lsnDistance(start, this.#options.settledLsn()) / PAGE_SIZE);
    const to = Math.min(proven.to, settled);
    if (proven.from >= to) return;
    const range = { from: proven.from, to };
    const what = { name, of, sums, range, isNoteWrong: this.#believed.delete(name) };
    await keepPageSums(this.#options.directory, what).catch(() => {});
  }
}

/** True when every byte of the page `page` of the segment belongs to a record whose checksum was seen. */
export function isProven({ proven, sums }: CheckedSegment, page: number): boolean {
  return page >= proven.from && page < proven.to && (sums[page] ?? UNKNOWN_SUM) !== UNKNOWN_SUM;
}

/** Notes sums that are not known yet; what is known stays, unless `isNoteWrong`. Rejects with the system's error. */
export async function keepPageSums(
  walDirectory: string,
  what: {
    readonly name: string;
    readonly of: SummedSegment;
    readonly sums: Float64Array;
    /** Pages [from, to). */
    readonly range: { readonly from: number; readonly to: number };
    /** These are better known than what is noted. */
    readonly isNoteWrong?: boolean;
  },
): Promise<void> {
  const { name, of, sums, range, isNoteWrong = false } = what;
  const flags = constants.O_RDWR | constants.O_CREAT;
  const file = await open(pageSumsFile(walDirectory, name), flags, newFileMode());
  try {
    const header = encodePageSumsHeader(of);
    const found = Buffer.alloc(PAGE_SUMS_HEADER_BYTES);
    await readFully(file, found, 0);
    if (!header.equals(found)) await writeFully(file, header, 0);
    const count = range.to - range.from;
    const known = await readPageSums(file, of, { first: range.from, count });
    const bytes = Buffer.alloc(count * PAGE_SUM_BYTES);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const seed = pageSumsSeed(of);
    for (let index = 0; index < count; index++) {
      const page = range.from + index;
      const noted = known[index] ?? UNKNOWN_SUM;
      const found = sums[page] ?? UNKNOWN_SUM;
      const sum = noted === UNKNOWN_SUM || (isNoteWrong && found !== UNKNOWN_SUM) ? found : noted;
      if (sum !== UNKNOWN_SUM) putPageSum(view, index * PAGE_SUM_BYTES, { seed, page, sum });
    }
    await writeFully(file, bytes, entryOffset(range.from));
  } finally {
    await file.close();
  }
}

/**
 * Walks the segment in the file `name`, up to `endLsn` (a page start) at most. `name` may be another file than the store's
 * own one of that segment: its neighbours are the store's. Never rejects.
 */
export async function checkSegment(
  options: Pick<SegmentCheckOptions, 'origin' | 'useFile'>,
  what: { readonly name: string; readonly segment: SegmentNumber; readonly endLsn: Lsn },
): Promise<CheckedSegment> {
  return await new SegmentWalk(options, what).run();
}

class SegmentWalk {
  readonly #origin: PageOrigin;
  readonly #useFile: UseFile;
  readonly #name: string;
  readonly #segment: SegmentNumber;
  readonly #startLsn: Lsn;
  /** End of the segment, or of the WAL in it. */
  readonly #endLsn: Lsn;
  /** End of the WAL that is there. */
  readonly #walEnd: Lsn;
  readonly #sums: Float64Array;
  readonly #buffer = Buffer.allocUnsafeSlow(PIECE_BYTES);
  #walk: RecordWalk;
  #isHeadProven = false;
  /** First record end inside. */
  #firstEnd: Lsn | null = null;

  constructor(
    options: Pick<SegmentCheckOptions, 'origin' | 'useFile'>,
    what: { readonly name: string; readonly segment: SegmentNumber; readonly endLsn: Lsn },
  ) {
    const { segmentSize } = options.origin;
    this.#origin = options.origin;
    this.#useFile = options.useFile;
    this.#name = what.name;
    this.#segment = what.segment;
    this.#startLsn = segmentStart(what.segment, segmentSize);
    this.#walEnd = what.endLsn;
    this.#endLsn = minLsn(what.endLsn, advanceLsn(this.#startLsn, segmentSize));
    this.#sums = new Float64Array(segmentSize / PAGE_SIZE).fill(UNKNOWN_SUM);
    this.#walk = this.#walkFrom(this.#startLsn);
  }

  async run(): Promise<CheckedSegment> {
    try {
      await this.#approach();
      const failure = await this.#useFile(this.#name, (file) => this.#walkOwn(file));
      if (failure !== null) return this.#bad(failure);
      const tail = await this.#followLastRecord();
      return tail === null ? this.#good() : this.#bad(tail);
    } catch (error) {
      const failure = { lsn: this.#startLsn, reason: errorText(error) };
      return { ...this.#bad(failure), isMissing: systemErrorCode(error) === 'ENOENT' };
    }
  }

  /** Walks the end of the segment before, where the record begins that goes over into this one. */
  async #approach(): Promise<void> {
    const header = await this.#useFile(this.#name, (file) => readHeader(file, 0));
    if (header === null || !header.isContinuation) {
      this.#isHeadProven = true;
      return;
    }
    const before = (this.#segment - 1n) as SegmentNumber;
    await this.#useNeighbour(before, async (file) => {
      const offset = await lastRecordPage(file, this.#origin.segmentSize);
      if (offset === null) return;
      const from = advanceLsn(segmentStart(before, this.#origin.segmentSize), offset);
      this.#walk = this.#walkFrom(from);
      const failure = await this.#scan(file, { from, to: this.#startLsn, at: offset });
      this.#isHeadProven = failure === null;
      if (failure !== null) this.#walk = this.#walkFrom(this.#startLsn);
    });
  }

  async #walkOwn(file: FileHandle): Promise<WalkFailure | null> {
    return await this.#scan(file, {
      from: this.#startLsn,
      to: this.#endLsn,
      at: 0,
      onPiece: (lsn, bytes) => this.#sum(lsn, bytes),
    });
  }

  /** The record that goes out of the segment: its checksum is known when its last byte is. */
  async #followLastRecord(): Promise<WalkFailure | null> {
    let segment = nextSegment(this.#segment);
    let failure: WalkFailure | null = null;
    for (;;) {
      const from = segmentStart(segment, this.#origin.segmentSize);
      const end = minLsn(this.#walEnd, advanceLsn(from, this.#origin.segmentSize));
      if (failure !== null || this.#walk.recordEnd() >= this.#endLsn || from >= end) break;
      const isThere = await this.#useNeighbour(segment, async (file) => {
        failure = await this.#scan(file, { from, to: end, at: 0, isUntilRecordEnd: true });
      });
      if (!isThere) break;
      segment = nextSegment(segment);
    }
    return failure !== null && isBefore(failure, this.#endLsn) ? failure : null;
  }

  #sum(lsn: Lsn, bytes: Buffer): void {
    const first = lsnDistance(this.#startLsn, lsn) / PAGE_SIZE;
    for (let at = 0; at < bytes.length; at += PAGE_SIZE) {
      this.#sums[first + at / PAGE_SIZE] = sumPage(bytes.subarray(at, at + PAGE_SIZE));
    }
    const end = this.#walk.recordEnd();
    if (end > this.#startLsn) this.#firstEnd ??= end;
  }

  async #scan(
    file: FileHandle,
    range: {
      readonly from: Lsn;
      readonly to: Lsn;
      /** Offset of `from` in the file. */
      readonly at: number;
      readonly isUntilRecordEnd?: boolean;
      /** Called with each piece that is good. */
      readonly onPiece?: (lsn: Lsn, bytes: Buffer) => void;
    },
  ): Promise<WalkFailure | null> {
    const length = lsnDistance(range.from, range.to);
    for (let done = 0; done < length; done += PIECE_BYTES) {
      const piece = this.#buffer.subarray(0, Math.min(PIECE_BYTES, length - done));
      const lsn = advanceLsn(range.from, done);
      const got = await readFully(file, piece, range.at + done);
      if (got < piece.length) {
        return {
          lsn: advanceLsn(lsn, got),
          reason: `the file ends ${piece.length - got} bytes too early`,
        };
      }
      const failure = this.#walk.scan(piece);
      if (failure !== null) return failure;
      range.onPiece?.(lsn, piece);
      if (range.isUntilRecordEnd === true && this.#walk.recordEnd() >= this.#endLsn) return null;
    }
    return null;
  }

  /** Opens the file of another segment, of the newest timeline that has it; false when none has. */
  async #useNeighbour(
    segment: SegmentNumber,
    action: (file: FileHandle) => Promise<void>,
  ): Promise<boolean> {
    const { history, segmentSize } = this.#origin;
    for (const timeline of new Lineage(history, segmentSize).fileTimelines(segment)) {
      const name = walFileName(timeline, segment, segmentSize);
      try {
        await this.#useFile(name, action);
        return true;
      } catch (error) {
        // A neighbour that cannot be read says nothing about this one.
        if (systemErrorCode(error) === null) throw error;
      }
    }
    return false;
  }

  #good(): CheckedSegment {
    return {
      sums: this.#sums,
      failure: null,
      isMissing: false,
      proven: this.#proven(this.#endLsn),
    };
  }

  /**
   * What lies before the page of the failing record is good, also when it fails at a page header far behind its start; the
   * piece it was found in was not summed.
   */
  #bad(failure: WalkFailure): CheckedSegment {
    const goodEnd = pageStart(minLsn(failure.lsn, this.#walk.recordEnd()));
    const pages = Math.max(0, lsnDistance(this.#startLsn, goodEnd) / PAGE_SIZE);
    this.#sums.fill(UNKNOWN_SUM, Math.min(pages, this.#sums.length));
    const proven = this.#proven(goodEnd);
    return { sums: this.#sums, failure, isMissing: false, proven };
  }

  #proven(goodEnd: Lsn): { from: number; to: number } {
    const first = this.#isHeadProven ? this.#startLsn : (this.#firstEnd ?? this.#endLsn);
    const end = minLsn(goodEnd, this.#walk.recordEnd());
    const from = Math.ceil(lsnDistance(this.#startLsn, first) / PAGE_SIZE);
    const to = Math.floor(lsnDistance(this.#startLsn, end) / PAGE_SIZE);
    return { from, to: Math.max(from, Math.min(to, this.#sums.length)) };
  }

  #walkFrom(lsn: Lsn): RecordWalk {
    return new RecordWalk({ ...this.#origin, checksums: true }, chainStart(lsn));
  }
}

function isBefore(failure: WalkFailure, lsn: Lsn): boolean {
  return failure.lsn < lsn;
}

/** What a page says about the record it begins in; null when it cannot be read. */
async function readHeader(
  file: FileHandle,
  offset: number,
): Promise<{ isContinuation: boolean; remaining: number } | null> {
  const bytes = Buffer.alloc(PAGE_HEADER_SIZE);
  if ((await readFully(file, bytes, offset)) < bytes.length) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const isContinuation = (pageFlags(view, 0) & PAGE_IS_CONTINUATION) !== 0;
  return { isContinuation, remaining: pageRemainingLength(view, 0) };
}

/** Offset of the last page of a segment in which a record begins; null when none does. */
async function lastRecordPage(file: FileHandle, segmentSize: number): Promise<number | null> {
  for (let offset = segmentSize - PAGE_SIZE; offset >= 0; offset -= PAGE_SIZE) {
    const header = await readHeader(file, offset);
    if (header === null) return null;
    if (!header.isContinuation) return offset;
    if (header.remaining < PAGE_SIZE - LONG_PAGE_HEADER_SIZE) return offset;
  }
  return null;
}
