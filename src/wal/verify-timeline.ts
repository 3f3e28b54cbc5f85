// Is the WAL of one timeline good, and where does it end? Walks its segments in order with all checksums. Behind damage it
// goes on at the next page that is WAL of its own address, so that everything that is wrong is found in one go.
import { open, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText, systemErrorCode } from '../base/errors.ts';
import { advanceLsn, formatLsn, lsnDistance, PAGE_SIZE, pageStart } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { nextSegment, segmentNumber, segmentStart, walFileName } from '../pg/segment.ts';
import type { SegmentNumber } from '../pg/segment.ts';
import { isInHistory } from '../pg/timeline.ts';
import { sumPage, UNKNOWN_SUM } from './page-sums.ts';
import type { PageOrigin } from './records/page-header.ts';
import { chainStart } from './records/record-chain.ts';
import { RecordWalk } from './records/record-walk.ts';
import type { WalkFailure } from './records/record-walk.ts';
import { findLivePage } from './segment-scan.ts';
import type { FilePiece, ScanBuffers, ScannedSegment } from './segment-scan.ts';
import type { VerifiedTimeline, WalProblem } from './verify.ts';
import { isPageOf, readFirstPage } from './wal-files.ts';
import type { FirstPage, StoredWalFile } from './wal-files.ts';

/** What is to be walked. */
export interface TimelineVerificationOptions {
  /** The directory of the segments. */
  readonly path: string;
  readonly origin: PageOrigin;
  /** Segments of the timeline, lowest first, one file each. */
  readonly files: readonly StoredWalFile[];
  /** Everything of the timeline and of those before it. */
  readonly all: readonly StoredWalFile[];
  /** WAL before it must be good, whatever follows it; INVALID_LSN when that is not known. */
  readonly requiredLsn: Lsn;
  /** Sums of the pages of a file, as far as they are noted and bind; null when none are. */
  readonly sumsOf: (file: StoredWalFile) => Promise<Float64Array | null>;
  readonly buffers: ScanBuffers;
  readonly signal: AbortSignal;
  readonly onProblem: (problem: WalProblem) => void;
  readonly onNote: (note: string) => void;
  /** Told how many bytes of the files are done with. */
  readonly onBytes: (bytes: number) => void;
}

/** A segment file of the timeline. */
interface Segment extends StoredWalFile {
  readonly segment: SegmentNumber;
}

/** Why a segment could not be walked to its end. */
interface Stop {
  readonly failure: WalkFailure;
  /** Offset in the file of the piece in which it was found. */
  readonly offset: number;
}

/** Damages of one timeline, after which the rest of a damaged segment is not looked into. */
const DAMAGES_IN_DETAIL = 100;

export class TimelineVerification {
  readonly #options: TimelineVerificationOptions;
  readonly #segments: readonly Segment[];
  #walk: RecordWalk | null = null;
  readonly #names: ReadonlyMap<SegmentNumber, string>;
  readonly #unread = new Set<SegmentNumber>();
  /** Of the file that is being walked: what is noted of its pages, and those that are otherwise. */
  #sums: Float64Array | null = null;
  readonly #changed = new Set<number>();
  #records = 0;
  #damages = 0;
  #end: Lsn | null = null;
  #endReason: string | null = null;

  constructor(options: TimelineVerificationOptions) {
    this.#options = options;
    this.#segments = options.files.flatMap((file) => {
      const { segment } = file;
      return segment === null ? [] : [{ ...file, segment }];
    });
    const { timeline } = options.origin.history;
    const own = options.all.filter((file) => file.timeline === timeline);
    this.#names = new Map(
      own.flatMap(({ segment, name }) => (segment === null ? [] : [[segment, name] as const])),
    );
  }

  /** Walks everything; null when the timeline has nothing but segments that are not written yet. */
  async run(): Promise<VerifiedTimeline | null> {
    const { origin, onBytes } = this.#options;
    const live = (await this.#lastLive()) + 1;
    const used = this.#segments.slice(0, live);
    const unused = this.#segments.slice(live);
    const [first] = used;
    if (first === undefined) return null;
    for (const [index, file] of used.entries()) {
      const before = used[index - 1];
      if (before === undefined) await this.#begin(file);
      else if (nextSegment(before.segment) !== file.segment) this.#gap(before, file);
      await this.#walkFile(file, index === used.length - 1);
    }
    for (const { size } of unused) onBytes(size);
    this.#checkRequired(used.at(-1) ?? first);
    const startLsn = this.#startOf(first);
    return {
      timeline: origin.history.timeline,
      segments: used.length,
      unusedSegments: unused.length,
      startLsn,
      endLsn: this.#end ?? startLsn,
      endReason: this.#endReason,
      records: this.#records,
    };
  }

  // --- where the timeline's WAL ends, by the look of its pages

  /** Index of the last segment with WAL of its own address in it; -1 when there is none. */
  async #lastLive(): Promise<number> {
    const { requiredLsn, origin } = this.#options;
    let last = this.#segments.findLastIndex((file) => this.#startOf(file) < requiredLsn);
    for (let index = this.#segments.length - 1; index > last; index--) {
      const file = this.#segments[index];
      if (file === undefined) continue;
      const page = await this.#firstPage(file);
      if (page !== null && isPageOf(page, file.segment, origin.segmentSize)) last = index;
    }
    // The first page of a segment may be what is damaged: the one that comes next decides for itself.
    for (;;) {
      const file = this.#segments[last + 1];
      if (file === undefined || !(await this.#hasLivePage(file))) return last;
      last++;
    }
  }

  /** Null for a file that went away, or cannot be read; that is told, and says nothing about the segments before. */
  async #firstPage(file: Segment): Promise<FirstPage | null> {
    try {
      return await readFirstPage(join(this.#options.path, file.name));
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT') this.#unreadable(file, error);
      return null;
    }
  }

  async #hasLivePage(file: Segment): Promise<boolean> {
    const handle = await this.#open(file);
    if (handle === null) return false;
    try {
      const scanned = this.#scanned(file, handle);
      return (await findLivePage(this.#options.buffers, scanned, 0)) !== null;
    } catch (error) {
      this.#unreadable(file, error);
      return true;
    } finally {
      await handle.close();
    }
  }

  // --- walking

  /** Starts the walk before the first segment: what spans its beginning is checked where the segment before is there. */
  async #begin(first: Segment): Promise<void> {
    const before = this.#segmentBefore(first);
    if (before === null) return;
    const handle = await this.#open(before);
    if (handle === null) return;
    try {
      this.#walk = this.#walkFrom(this.#startOf(before));
      const isWhole = before.size === this.#options.origin.segmentSize;
      const stop = isWhole ? await this.#scan(before, handle, 0) : 'short';
      if (stop !== null) this.#walk = null;
      this.#records = 0;
    } catch (error) {
      this.#unreadable(before, error);
    } finally {
      await handle.close();
    }
  }

  /** The whole segment before `first`, of the newest timeline that has it; a hole among the timelines before is told. */
  #segmentBefore(first: Segment): Segment | null {
    const { all, origin } = this.#options;
    const { history } = origin;
    const older = all.flatMap((file): Segment[] => {
      const { segment, timeline, isPartial } = file;
      if (segment === null || segment >= first.segment || isPartial) return [];
      return isInHistory(history, timeline) ? [{ ...file, segment }] : [];
    });
    const newest = older.reduce<Segment | null>(
      (best, file) => (best === null || file.segment >= best.segment ? file : best),
      null,
    );
    if (newest === null || nextSegment(newest.segment) === first.segment) return newest;
    // What lies before the position that was asked for is nobody's business here.
    if (newest.timeline !== history.timeline) this.#gap(newest, first);
    return null;
  }

  async #walkFile(file: Segment, isLast: boolean): Promise<void> {
    const handle = await this.#open(file);
    if (handle === null) {
      this.#options.onBytes(file.size);
      this.#walk = null;
      return;
    }
    try {
      await this.#walkOpen(file, handle, isLast);
    } catch (error) {
      this.#unreadable(file, error);
    } finally {
      await handle.close();
    }
  }

  async #walkOpen(file: Segment, handle: FileHandle, isLast: boolean): Promise<void> {
    let offset = 0;
    const damages = this.#damages;
    this.#sums = await this.#options.sumsOf(file);
    this.#changed.clear();
    for (;;) {
      this.#walk ??= this.#walkFrom(advanceLsn(this.#startOf(file), offset));
      const stop = await this.#scan(file, handle, offset);
      this.#end = this.#walk.recordEnd();
      if (stop === null) break;
      const live = await this.#livePageBehind(file, handle, stop);
      const { failure } = stop;
      const isEnd = failure.lsn >= this.#options.requiredLsn && !this.#isChangedFrom(file, failure);
      if (live === null && isLast && isEnd) {
        this.#endReason = failure.reason;
        return;
      }
      if (await this.#isGone(file, handle)) return;
      this.#damage(file, failure.lsn, failure.reason);
      this.#walk = null;
      // Where page after page is bad, reading on from each of them would take for ever.
      if (live === null || this.#damages > DAMAGES_IN_DETAIL) return;
      offset = live;
    }
    if (this.#changed.size > 0 && (await this.#isGone(file, handle))) return;
    if (this.#damages === damages) this.#reportChanged(file);
    this.#checkSize(file, isLast);
  }

  /**
   * True when the file has its name no longer: a running walcast has removed it since, and writes other WAL over it. What
   * was read says nothing then; that is told.
   */
  async #isGone(file: Segment, handle: FileHandle): Promise<boolean> {
    const [named, read] = await Promise.all([
      stat(join(this.#options.path, file.name)).catch(() => null),
      handle.stat(),
    ]);
    if (named !== null && named.ino === read.ino && named.dev === read.dev) return false;
    this.#walk = null;
    this.#options.onNote(`${file.name} went away while it was read`);
    return true;
  }

  /** True when a page at or behind the failure is not the one that was written: then the WAL does not end there. */
  #isChangedFrom(file: Segment, failure: WalkFailure): boolean {
    const from = lsnDistance(this.#startOf(file), pageStart(failure.lsn)) / PAGE_SIZE;
    return [...this.#changed].some((page) => page >= from);
  }

  /** Bytes that no record has: of one that was never finished, and flags of pages. */
  #reportChanged(file: Segment): void {
    for (const page of this.#changed) {
      const lsn = advanceLsn(this.#startOf(file), page * PAGE_SIZE);
      this.#damage(file, lsn, `the page at ${formatLsn(lsn)} is not the one that was written`);
    }
  }

  #comparePages({ offset, bytes }: FilePiece): void {
    const sums = this.#sums;
    if (sums === null) return;
    for (let at = 0; at + PAGE_SIZE <= bytes.length; at += PAGE_SIZE) {
      const page = (offset + at) / PAGE_SIZE;
      const expected = sums[page] ?? UNKNOWN_SUM;
      if (expected === UNKNOWN_SUM) continue;
      if (sumPage(bytes.subarray(at, at + PAGE_SIZE)) !== expected) this.#changed.add(page);
    }
  }

  /** Walks the file from `offset` on; null when all of it is good. */
  async #scan(file: Segment, handle: FileHandle, offset: number): Promise<Stop | null> {
    const { buffers, signal, onBytes, origin } = this.#options;
    const walk = this.#walk;
    const to = Math.min(file.size, origin.segmentSize);
    for await (const piece of buffers.pieces(handle, offset, to)) {
      signal.throwIfAborted();
      this.#comparePages(piece);
      const failure = walk?.scan(piece.bytes) ?? null;
      onBytes(piece.bytes.length);
      if (failure !== null) return { failure, offset: piece.offset };
    }
    return null;
  }

  async #livePageBehind(file: Segment, handle: FileHandle, stop: Stop): Promise<number | null> {
    const nextPage = advanceLsn(pageStart(stop.failure.lsn), PAGE_SIZE);
    const from = Math.max(stop.offset, lsnDistance(this.#startOf(file), nextPage));
    return await findLivePage(this.#options.buffers, this.#scanned(file, handle), from);
  }

  #checkSize(file: Segment, isLast: boolean): void {
    const { segmentSize } = this.#options.origin;
    if (file.size === segmentSize) return;
    const sizeText = `it has ${file.size} bytes instead of ${segmentSize}`;
    if (file.isPartial && isLast && file.size < segmentSize) {
      this.#endReason = `${file.name} ends there: ${sizeText}`;
      return;
    }
    const endLsn = advanceLsn(this.#startOf(file), Math.min(file.size, segmentSize));
    this.#damage(file, endLsn, sizeText);
    this.#walk = null;
  }

  // --- words

  #damage(found: Segment, lsn: Lsn, reason: string): void {
    const { origin, onProblem } = this.#options;
    const { timeline } = origin.history;
    const segment = segmentNumber(lsn, origin.segmentSize);
    // A record may have begun in the segment before.
    const file = this.#names.get(segment) ?? found.name;
    this.#damages++;
    onProblem({ kind: 'damage', timeline, file, lsn, reason });
  }

  /** Segments may be missing at the end, too. */
  #checkRequired(last: Segment): void {
    const { origin, requiredLsn, onProblem } = this.#options;
    const endLsn = segmentStart(nextSegment(last.segment), origin.segmentSize);
    if (endLsn >= requiredLsn) return;
    const { timeline } = origin.history;
    onProblem({
      kind: 'gap',
      timeline,
      file: walFileName(timeline, nextSegment(last.segment), origin.segmentSize),
      lsn: endLsn,
      reason: `segments are missing behind ${last.name}: there was WAL up to ${formatLsn(requiredLsn)} at least`,
    });
  }

  #gap(before: Segment, after: Segment): void {
    const { origin, onProblem } = this.#options;
    const { timeline } = origin.history;
    const first = nextSegment(before.segment);
    const count = Number(after.segment - first);
    this.#walk = null;
    onProblem({
      kind: 'gap',
      timeline,
      file: walFileName(before.timeline, first, origin.segmentSize),
      lsn: segmentStart(first, origin.segmentSize),
      reason: `${count === 1 ? 'one segment is' : `${count} segments are`} missing between ${before.name} and ${after.name}`,
    });
  }

  #walkFrom(lsn: Lsn): RecordWalk {
    const observer = { onRecord: () => void this.#records++ };
    return new RecordWalk({ ...this.#options.origin, checksums: true, observer }, chainStart(lsn));
  }

  #scanned(file: Segment, handle: FileHandle): ScannedSegment {
    const { facts } = this.#options.origin;
    return { handle, facts, startLsn: this.#startOf(file), size: file.size };
  }

  #startOf({ segment }: Segment): Lsn {
    return segmentStart(segment, this.#options.origin.segmentSize);
  }

  /** Null for a file that went away, or cannot be opened; that is told once. */
  async #open(file: Segment): Promise<FileHandle | null> {
    try {
      return await open(join(this.#options.path, file.name), 'r');
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT') this.#unreadable(file, error);
      else this.#options.onNote(`${file.name} went away while the directory was read`);
      return null;
    }
  }

  /** Files that cannot be read are told like damage, and the others are walked. Throws what is no error of the system. */
  #unreadable(file: Segment, error: unknown): void {
    this.#options.signal.throwIfAborted();
    if (systemErrorCode(error) === null) throw error;
    this.#walk = null;
    if (this.#unread.has(file.segment)) return;
    this.#unread.add(file.segment);
    this.#damage(file, this.#startOf(file), `it cannot be read: ${errorText(error)}`);
  }
}
