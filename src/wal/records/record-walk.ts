// Does this stream of WAL hold together, and where does its last complete record end? A pure state machine over bytes as
// they arrive, cut anywhere: it checks every page header and the chain of record headers, and the CRC-32C of
//   - every record when `checksums` is set,
//   - else of the last complete record of each push and of every record that spans two pushes, so that a record end this
//     walk names is always the end of a record whose checksum was seen to match. Without that, a flipped length could
//     pass for a record end, and the store would fetch again from a place that never was one.
// A push is a transaction: when a check fails, the walk stands at the last record end before that push.
//
// A record that lies whole in one page and one push costs a few reads; only what is cut, spans pages or belongs to
// RM_XLOG_ID takes the slow path. Readers of records (transaction ids, commit timestamps) join as a RecordObserver.
// (xlogreader.c: XLogReadRecord, XLogFindNextRecord)
import { CRC32C_INITIAL, finishCrc32c, updateCrc32c } from '../../base/crc32c.ts';
import { PAGE_SIZE } from '../../pg/lsn.ts';
import type { Lsn } from '../../pg/lsn.ts';
import type { VersionFacts } from '../../pg/server-version.ts';
import { formatHalves, lsnOfHalves } from './address.ts';
import {
  LONG_PAGE_HEADER_SIZE,
  PAGE_IS_CONTINUATION,
  PageHeaderCheck,
  pageFlags,
  pageRemainingLength,
} from './page-header.ts';
import type { PageOrigin } from './page-header.ts';
import { RecordChain } from './record-chain.ts';
import type { ChainPosition } from './record-chain.ts';
import { RecordInProgress } from './record-in-progress.ts';
import {
  isResourceManager,
  OPERATION_MASK,
  RECORD_CRC_OFFSET,
  RECORD_HEADER_SIZE,
  RECORD_SIZE_MAX,
  RMGR_XLOG,
  shortMainDataOffset,
  XLOG_OPERATION,
} from './xlog-records.ts';
import { isZeroRange } from './zeros.ts';

/** Told of each complete record in order. After a failed push, records of it come again. */
export interface RecordObserver {
  /** `info` is the whole xl_info byte, `xid` is xl_xid (0 = none). */
  onRecord(rmgrId: number, info: number, xid: number): void;
}

/** What a walk must know about the cluster, and how much it checks. */
export interface RecordWalkOptions extends PageOrigin {
  /** Check the CRC-32C of every record. */
  readonly checksums: boolean;
  readonly observer?: RecordObserver;
}

/** The check that failed. */
export interface WalkFailure {
  readonly lsn: Lsn;
  readonly reason: string;
}

/** Where the walk is between two bytes. */
const STATE = {
  /** At the start of a record. */
  boundary: 0,
  header: 1,
  body: 2,
  /** Zeros up to the next multiple of eight. */
  padding: 3,
  /** Zeros up to the end of the segment, page headers included, behind an XLOG_SWITCH. */
  switchZeros: 4,
  /** In the rest of a record whose start is not in this stream. */
  skipping: 5,
  /** As `padding`, behind that rest. */
  skippedPadding: 6,
} as const;

const PAGE_MASK = PAGE_SIZE - 1;
const FAILED = -1;
const NOTHING: Uint8Array = new Uint8Array(0);

export class RecordWalk {
  readonly #facts: VersionFacts;
  readonly #segmentMask: number;
  readonly #pages: PageHeaderCheck;
  readonly #checksums: boolean;
  readonly #observer: RecordObserver | null;

  /** Address of the byte wanted next; during a push, of its first byte. */
  #high = 0;
  #low = 0;

  /** At the last record end, and at the last one before the push. */
  readonly #chain: RecordChain;
  readonly #savedChain: RecordChain;

  #state: number = STATE.boundary;
  readonly #record = new RecordInProgress();
  readonly #probe = new RecordInProgress();
  /** The server crashed inside a record; the next one must say so, and name its address where that is known. */
  #isOverwriteDue = false;
  #overwrittenText: string | null = null;

  /** A page header that was cut. */
  readonly #page = new Uint8Array(LONG_PAGE_HEADER_SIZE);
  readonly #pageView = new DataView(this.#page.buffer);
  #pageGot = 0;

  /** The push in progress. */
  #data: Uint8Array = NOTHING;
  #view = new DataView(NOTHING.buffer);
  #lastIndex = FAILED;
  #isLastSummed = true;
  #failure: WalkFailure | null = null;

  constructor(options: RecordWalkOptions, start: ChainPosition) {
    this.#facts = options.facts;
    this.#segmentMask = options.segmentSize - 1;
    this.#pages = new PageHeaderCheck(options);
    this.#checksums = options.checksums;
    this.#observer = options.observer ?? null;
    this.#chain = new RecordChain(start);
    this.#savedChain = new RecordChain(start);
    this.#standAtRecordEnd();
  }

  /** The byte wanted next. */
  nextLsn(): Lsn {
    return lsnOfHalves(this.#high, this.#low);
  }

  /** End (exclusive) of the last complete record; the start of the walk before there was one. */
  recordEnd(): Lsn {
    return this.#chain.endLsn();
  }

  /** Redo position of the newest checkpoint record; INVALID_LSN before the first. */
  redoLsn(): Lsn {
    return this.#chain.redoLsn();
  }

  /** Everything known at {@link recordEnd}; another walk can go on from there. */
  position(): ChainPosition {
    return this.#chain.position();
  }

  /**
   * Walks `data`, the bytes from {@link nextLsn} on. Null when they are good. On a failure nothing of them counts, and
   * the walk stands at the last record end before them. The buffer is not kept.
   */
  push(data: Uint8Array): WalkFailure | null {
    this.#savedChain.copyFrom(this.#chain);
    const failure = this.scan(data);
    if (failure === null) return null;
    this.#chain.copyFrom(this.#savedChain);
    this.#standAtRecordEnd();
    return failure;
  }

  /**
   * The same, but after a failure {@link recordEnd} is the end of the last complete record before the failing byte, and
   * the walk is over: for finding the end of stored WAL.
   */
  scan(data: Uint8Array): WalkFailure | null {
    this.#failure = null;
    this.#data = data;
    this.#view = new DataView(data.buffer, data.byteOffset, data.length);
    this.#record.index = FAILED;
    this.#lastIndex = FAILED;
    this.#isLastSummed = true;
    const isGood = this.#walk(data.length) && this.#sumLastRecord();
    this.#data = NOTHING;
    if (!isGood) return this.#failure;
    this.#high = this.#highAt(data.length);
    this.#low = (this.#low + data.length) | 0;
    return null;
  }

  #standAtRecordEnd(): void {
    this.#high = this.#chain.endHigh;
    this.#low = this.#chain.endLow;
    this.#state = STATE.boundary;
    this.#pageGot = 0;
    this.#isOverwriteDue = false;
  }

  #walk(length: number): boolean {
    let i = 0;
    while (i >= 0 && i < length) {
      const inPage = (this.#low + i) & PAGE_MASK;
      if (this.#state === STATE.switchZeros) i = this.#switchZeros(i);
      else if (inPage === 0 || this.#pageGot > 0) i = this.#pageHeader(i);
      else i = this.#pageContent(i, Math.min(length, i + PAGE_SIZE - inPage));
    }
    return i >= 0;
  }

  // --- pages

  #pageHeader(from: number): number {
    const start = from - this.#pageGot;
    const size = this.#pages.headerSize((this.#low + start) | 0);
    const available = this.#data.length - from;
    if (this.#pageGot === 0 && available >= size) {
      return this.#enterPage(this.#view, from, start) ? from + size : FAILED;
    }
    const take = Math.min(size - this.#pageGot, available);
    this.#page.set(this.#data.subarray(from, from + take), this.#pageGot);
    this.#pageGot += take;
    if (this.#pageGot < size) return from + take;
    this.#pageGot = 0;
    return this.#enterPage(this.#pageView, 0, start) ? from + take : FAILED;
  }

  /** Checks the header at `view[at]` of the page that begins at index `start` (negative when in an earlier push). */
  #enterPage(view: DataView, at: number, start: number): boolean {
    const high = this.#highAt(start);
    const low = (this.#low + start) | 0;
    const problem = this.#pages.problem(view, at, high, low);
    if (problem !== null) return this.#fail(start, problem);
    const flags = pageFlags(view, at);
    const remaining = pageRemainingLength(view, at);
    if ((flags & this.#facts.walPageOverwriteFlag) !== 0) return this.#dropRecord(start);
    const isContinuation = (flags & PAGE_IS_CONTINUATION) !== 0;
    if (this.#state === STATE.boundary) {
      if (!isContinuation && remaining === 0) return true;
      if (isContinuation && this.#chain.isBeginning) return this.#skip(start, remaining);
      return this.#failAt(start, 'unexpected contrecord flag or length in WAL page');
    }
    if (!isContinuation) return this.#failAt(start, 'there is no contrecord flag');
    const expected = this.#record.missing;
    if (remaining === expected && expected > 0) return true;
    return this.#failAt(start, `invalid contrecord length ${remaining} (expected ${expected})`);
  }

  /** The page says that the server crashed inside the record in progress: it never gets its end. */
  #dropRecord(start: number): boolean {
    if (this.#state === STATE.boundary && !this.#chain.isBeginning) {
      return this.#failAt(start, 'unexpected overwrite contrecord flag');
    }
    const isAddressKnown = this.#state === STATE.header || this.#state === STATE.body;
    this.#overwrittenText = isAddressKnown ? this.#record.addressText() : null;
    this.#isOverwriteDue = true;
    this.#state = STATE.boundary;
    return true;
  }

  #skip(start: number, remaining: number): boolean {
    if (remaining === 0 || remaining > RECORD_SIZE_MAX) {
      return this.#failAt(start, `invalid contrecord length ${remaining}`);
    }
    this.#record.beginRest(remaining);
    this.#state = STATE.skipping;
    return true;
  }

  // --- records

  #pageContent(from: number, end: number): number {
    let i = from;
    while (i >= 0 && i < end) {
      switch (this.#state) {
        case STATE.boundary:
          i = this.#boundary(i, end);
          break;
        case STATE.header:
          i = this.#headerBytes(i, end);
          break;
        case STATE.padding:
        case STATE.skippedPadding:
          i = this.#paddingBytes(i, end);
          break;
        case STATE.switchZeros:
          return i;
        default:
          i = this.#record.takeBody(this.#data, i, end);
          if (this.#record.missing === 0) i = this.#endBody(i);
      }
    }
    return i;
  }

  #boundary(from: number, end: number): number {
    const isOrdinary = this.#chain.isStartKnown && !this.#isOverwriteDue;
    const i = isOrdinary ? this.#wholeRecords(from, end) : from;
    if (i >= end) return i;
    this.#record.begin(this.#highAt(i), (this.#low + i) | 0, i);
    this.#state = STATE.header;
    return i;
  }

  /** Takes ordinary records that lie whole in [from, end) of one page; stops before anything else, good or bad. */
  #wholeRecords(from: number, end: number): number {
    const view = this.#view;
    const low = this.#low;
    const high = this.#highAt(from);
    let previousHigh = this.#chain.startHigh;
    let previousLow = this.#chain.startLow;
    let lastIndex = FAILED;
    let i = from;
    while (end - i >= RECORD_HEADER_SIZE) {
      const total = view.getInt32(i, true);
      // Before padding, which would make a length near 2^31 negative.
      if (total < RECORD_HEADER_SIZE || total > end - i) break;
      const padded = (total + 7) & ~7;
      if (padded > end - i) break;
      if (view.getInt32(i + 8, true) !== previousLow) break;
      if (view.getInt32(i + 12, true) !== previousHigh) break;
      const rest = view.getInt32(i + 16, true);
      const rmgrId = (rest >>> 8) & 0xff;
      if (rest >>> 16 !== 0 || rmgrId === RMGR_XLOG) break;
      if (!isResourceManager(rmgrId, this.#facts)) break;
      if (padded !== total && !isZeroRange(this.#data, i + total, i + padded)) break;
      if (this.#checksums && !this.#isSumRight(i, total)) break;
      this.#observer?.onRecord(rmgrId, rest & 0xff, view.getUint32(i + 4, true));
      previousLow = (low + i) | 0;
      previousHigh = high;
      lastIndex = i;
      i += padded;
    }
    if (lastIndex === FAILED) return from;
    this.#chain.startHigh = previousHigh;
    this.#chain.startLow = previousLow;
    this.#chain.isShutdownCheckpoint = false;
    this.#lastIndex = lastIndex;
    this.#isLastSummed = this.#checksums;
    this.#endRecord(i);
    return i;
  }

  #isSumRight(index: number, total: number): boolean {
    const end = index + total;
    const body = updateCrc32c(CRC32C_INITIAL, this.#data, index + RECORD_HEADER_SIZE, end);
    const sum = updateCrc32c(body, this.#data, index, index + RECORD_CRC_OFFSET);
    return finishCrc32c(sum) === this.#view.getUint32(index + RECORD_CRC_OFFSET, true);
  }

  #headerBytes(from: number, end: number): number {
    const record = this.#record;
    const i = record.takeHeader(this.#data, from, end);
    const isTooShort = record.got >= 4 && record.total < RECORD_HEADER_SIZE;
    if (record.got < RECORD_HEADER_SIZE && !isTooShort) return i;
    const problem = record.headerProblem(this.#facts, this.#chain);
    if (problem !== null) return this.#failRecord(problem);
    if (this.#isOverwriteDue && !record.isXlog(XLOG_OPERATION.overwriteContrecord)) {
      return this.#failRecord(`expected an overwrite contrecord at ${record.addressText()}`);
    }
    record.beginBody(this.#checksums || !this.#endsInPush(i, end));
    this.#state = STATE.body;
    return record.missing === 0 ? this.#endBody(i) : i;
  }

  /** True when the record in progress, whose body begins at index `from`, began in this push and surely ends in it. */
  #endsInPush(from: number, pageEnd: number): boolean {
    if (this.#record.index === FAILED) return false;
    const beyondPage = Math.max(0, this.#record.missing - (pageEnd - from));
    const pages = Math.ceil(beyondPage / (PAGE_SIZE - LONG_PAGE_HEADER_SIZE));
    const padding = 7;
    const end = from + this.#record.missing + pages * LONG_PAGE_HEADER_SIZE + padding;
    return end < this.#data.length;
  }

  #endBody(i: number): number {
    if (this.#state === STATE.skipping) {
      this.#state = STATE.skippedPadding;
    } else {
      if (!this.#record.isSumRight()) return this.#failSum();
      this.#state = STATE.padding;
    }
    return ((this.#low + i) & 7) === 0 ? this.#endPadding(i) : i;
  }

  #paddingBytes(from: number, end: number): number {
    const i = Math.min(from + (-(this.#low + from) & 7), end);
    if (!isZeroRange(this.#data, from, i)) {
      this.#failAt(from, 'padding behind the record is not zero');
      return FAILED;
    }
    return ((this.#low + i) & 7) === 0 ? this.#endPadding(i) : i;
  }

  #endPadding(i: number): number {
    if (this.#state === STATE.skippedPadding) {
      this.#endRecord(i);
      return i;
    }
    const problem = this.#record.isKept ? this.#noteXlogRecord() : null;
    if (problem !== null) return this.#failRecord(problem);
    const isInSegment = ((this.#low + i) & this.#segmentMask) !== 0;
    if (this.#record.isXlog(XLOG_OPERATION.switch) && isInSegment) this.#state = STATE.switchZeros;
    else this.#completeRecord(i);
    return i;
  }

  /** Zeros up to the end of the segment; with them the XLOG_SWITCH record is complete. */
  #switchZeros(from: number): number {
    const left = this.#segmentMask + 1 - ((this.#low + from) & this.#segmentMask);
    const end = Math.min(this.#data.length, from + left);
    if (!isZeroRange(this.#data, from, end)) {
      const address = this.#record.addressText();
      this.#fail(from, `bytes behind the XLOG_SWITCH record at ${address} are not zero`);
      return FAILED;
    }
    if (end - from === left) this.#completeRecord(end);
    return end;
  }

  #completeRecord(i: number): void {
    const record = this.#record;
    this.#chain.startHigh = record.high;
    this.#chain.startLow = record.low;
    this.#chain.isStartKnown = true;
    this.#chain.isShutdownCheckpoint = record.isXlog(XLOG_OPERATION.checkpointShutdown);
    this.#isOverwriteDue = false;
    this.#lastIndex = record.index;
    this.#isLastSummed = record.isSummed;
    this.#endRecord(i);
    this.#observer?.onRecord(record.rmgrId, record.info, record.xid);
  }

  #endRecord(i: number): void {
    this.#chain.endHigh = this.#highAt(i);
    this.#chain.endLow = (this.#low + i) | 0;
    this.#chain.isBeginning = false;
    this.#state = STATE.boundary;
  }

  /** Learns from a whole record of RM_XLOG_ID; returns what is wrong with it, or null. */
  #noteXlogRecord(): string | null {
    const { view, total, info } = this.#record;
    const main = shortMainDataOffset(view, total, 8);
    if (main < 0) return null;
    const low = view.getInt32(main, true);
    const high = view.getInt32(main + 4, true);
    switch (info & OPERATION_MASK) {
      case XLOG_OPERATION.checkpointShutdown:
      case XLOG_OPERATION.checkpointOnline:
        this.#chain.redoHigh = high;
        this.#chain.redoLow = low;
        return null;
      case XLOG_OPERATION.overwriteContrecord: {
        const expected = this.#isOverwriteDue ? this.#overwrittenText : null;
        if (expected === null || expected === formatHalves(high, low)) return null;
        return `mismatching overwritten LSN ${formatHalves(high, low)} (expected ${expected})`;
      }
      default:
        return null;
    }
  }

  /** Checks the sum of the last complete record, unless that was done; it lies whole in this push then. */
  #sumLastRecord(): boolean {
    if (this.#isLastSummed || this.#lastIndex === FAILED) return true;
    const start = this.#lastIndex;
    const probe = this.#probe;
    probe.begin(this.#highAt(start), (this.#low + start) | 0, start);
    let i = start;
    do {
      if (((this.#low + i) & PAGE_MASK) === 0) i += this.#pages.headerSize((this.#low + i) | 0);
      i = probe.take(this.#data, i, i + PAGE_SIZE - ((this.#low + i) & PAGE_MASK));
    } while (!probe.isWhole());
    if (probe.isSumRight()) return true;
    this.#failure = sumFailure(probe);
    return false;
  }

  // --- addresses and failures

  /** Upper half of the address of index `i`, which may lie before this push. */
  #highAt(i: number): number {
    const sum = (this.#low >>> 0) + i;
    if (sum < 0) return (this.#high - 1) | 0;
    return sum > 0xffffffff ? (this.#high + 1) | 0 : this.#high;
  }

  #fail(i: number, reason: string): boolean {
    this.#failure = { lsn: lsnOfHalves(this.#highAt(i), (this.#low + i) | 0), reason };
    return false;
  }

  #failAt(i: number, reason: string): boolean {
    return this.#fail(i, `${reason} at ${formatHalves(this.#highAt(i), (this.#low + i) | 0)}`);
  }

  #failRecord(reason: string): number {
    this.#failure = { lsn: lsnOfHalves(this.#record.high, this.#record.low), reason };
    return FAILED;
  }

  #failSum(): number {
    this.#failure = sumFailure(this.#record);
    return FAILED;
  }
}

function sumFailure(record: RecordInProgress): WalkFailure {
  const reason = `incorrect resource manager data checksum in record at ${record.addressText()}`;
  return { lsn: lsnOfHalves(record.high, record.low), reason };
}
