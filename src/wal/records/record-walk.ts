// Does this stream of WAL hold together, and where does its last complete record end? A pure state machine over bytes as
// they arrive, cut anywhere: it checks every page header and the chain of record headers, and the CRC-32C of
//   - every record when `checksums` is set,
//   - else of the last complete record of each push and of every record that spans two pushes, so that a record end this
//     walk names is always the end of a record whose checksum was seen to match. Without that, a flipped length could
//     pass for a record end, and the store would fetch again from a place that never was one.
// A push is a transaction: when a check fails, the walk stands at the last record end before that push.
//
// A record that lies whole in one page and one push costs a few reads; only what is cut, spans pages or belongs to
// RM_XLOG_ID takes the slow path. What records say about transactions (LearnedFacts) is learned in every mode, from records
// whose checksum was seen to match; their ids alone, which move in small steps, from any.
// (xlogreader.c: XLogReadRecord, XLogFindNextRecord)
import { PAGE_SIZE } from '../../pg/lsn.ts';
import type { Lsn } from '../../pg/lsn.ts';
import type { VersionFacts } from '../../pg/server-version.ts';
import { lsnOfHalves } from './address.ts';
import { LastRecord } from './last-record.ts';
import { learnRecord } from './learning.ts';
import {
  CutPageHeader,
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
import { RecordSums } from './record-sums.ts';
import { WalBytes } from './wal-bytes.ts';
import type { LearnedFacts, WalFacts } from './wal-facts.ts';
import { WholeRecords } from './whole-records.ts';
import { RECORD_HEADER_SIZE, RECORD_SIZE_MAX, XLOG_OPERATION } from './xlog-records.ts';
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

/** The check that failed; its reason is PostgreSQL's own text where that has one. */
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

export class RecordWalk {
  readonly #facts: VersionFacts;
  readonly #segmentMask: number;
  readonly #pages: PageHeaderCheck;
  readonly #checksums: boolean;
  readonly #observer: RecordObserver | null;
  readonly #bytes = new WalBytes();
  readonly #whole: WholeRecords;
  readonly #last: LastRecord;

  /** At the last record end, and at the last one before the push. */
  readonly #chain: RecordChain;
  readonly #savedChain: RecordChain;

  #state: number = STATE.boundary;
  readonly #record = new RecordInProgress();
  readonly #cutPage = new CutPageHeader();
  /** The server crashed inside a record; the next one must say so, and name its address where that is known. */
  #isOverwriteDue = false;
  #overwrittenText: string | null = null;

  #failure: WalkFailure | null = null;

  constructor(options: RecordWalkOptions, start: ChainPosition) {
    this.#facts = options.facts;
    this.#segmentMask = options.segmentSize - 1;
    this.#pages = new PageHeaderCheck(options);
    this.#checksums = options.checksums;
    this.#observer = options.observer ?? null;
    this.#chain = new RecordChain(start);
    this.#savedChain = new RecordChain(start);
    this.#last = new LastRecord(this.#bytes, this.#pages);
    this.#whole = new WholeRecords({
      facts: options.facts,
      bytes: this.#bytes,
      chain: this.#chain,
      sums: new RecordSums(this.#bytes),
      checksums: options.checksums,
      observer: this.#observer,
    });
    this.#standAtRecordEnd();
  }

  /** The byte wanted next. */
  nextLsn(): Lsn {
    return this.#bytes.lsnAt(0);
  }

  /** End (exclusive) of the last complete record; the start of the walk before there was one. */
  recordEnd(): Lsn {
    return this.#chain.endLsn();
  }

  /** Redo position of the newest checkpoint record; INVALID_LSN before the first. */
  redoLsn(): Lsn {
    return this.#chain.redoLsn();
  }

  /** What the records up to {@link recordEnd} say about transactions. */
  facts(): WalFacts {
    return this.#chain.learned.facts();
  }

  /** The same as numbers that change in place: for who looks after each push. */
  get learned(): LearnedFacts {
    return this.#chain.learned;
  }

  /** True once a record was whole, or one before the walk is known: the chain of records is no guess. */
  hasRecord(): boolean {
    return this.#chain.isStartKnown;
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
    this.#bytes.borrow(data);
    this.#record.index = FAILED;
    this.#last.forget();
    const isWalked = this.#walk(data.length);
    const damaged = isWalked ? this.#last.damaged() : null;
    if (damaged !== null) this.#failSum(damaged);
    this.#bytes.release();
    if (this.#failure !== null) return this.#failure;
    this.#bytes.advance(data.length);
    return null;
  }

  /** Begins anew at `start`. */
  restart(start: ChainPosition): void {
    this.#chain.copyFrom(new RecordChain(start));
    this.#standAtRecordEnd();
  }

  #standAtRecordEnd(): void {
    this.#bytes.high = this.#chain.endHigh;
    this.#bytes.low = this.#chain.endLow;
    this.#state = STATE.boundary;
    this.#cutPage.clear();
    this.#isOverwriteDue = false;
  }

  #walk(length: number): boolean {
    let i = 0;
    while (i >= 0 && i < length) {
      const inPage = this.#bytes.lowAt(i) & PAGE_MASK;
      if (this.#state === STATE.switchZeros) i = this.#switchZeros(i);
      else if (inPage === 0 || this.#cutPage.got > 0) i = this.#pageHeader(i);
      else i = this.#pageContent(i, Math.min(length, i + PAGE_SIZE - inPage));
    }
    return i >= 0;
  }

  // --- pages

  #pageHeader(from: number): number {
    const { data, view } = this.#bytes;
    const page = this.#cutPage;
    const start = from - page.got;
    const size = this.#pages.headerSize(this.#bytes.lowAt(start));
    if (page.got === 0 && data.length - from >= size) {
      return this.#enterPage(view, from, start) ? from + size : FAILED;
    }
    const end = page.take(data, from, size);
    if (page.got < size) return end;
    page.clear();
    return this.#enterPage(page.view, 0, start) ? end : FAILED;
  }

  /** Checks the header at `view[at]` of the page that begins at index `start` (negative when in an earlier push). */
  #enterPage(view: DataView, at: number, start: number): boolean {
    const low = this.#bytes.lowAt(start);
    const problem = this.#pages.problem(view, at, this.#bytes.highAt(start), low);
    if (problem !== null) return this.#fail(start, problem);
    const flags = pageFlags(view, at);
    const remaining = pageRemainingLength(view, at);
    if ((flags & this.#facts.walPageOverwriteFlag) !== 0) return this.#dropRecord(start);
    const isContinuation = (flags & PAGE_IS_CONTINUATION) !== 0;
    if (this.#state === STATE.boundary) return this.#expectRecord(start, isContinuation, remaining);
    const record = this.#record.addressText();
    if (!isContinuation) return this.#fail(start, `there is no contrecord flag at ${record}`);
    const expected = this.#record.missing;
    if (remaining === expected && expected > 0) return true;
    const reason = `invalid contrecord length ${remaining} (expected ${expected}) at ${record}`;
    return this.#fail(start, reason);
  }

  /** The page must begin with a record, or the walk with the rest of one. */
  #expectRecord(start: number, isContinuation: boolean, remaining: number): boolean {
    if (isContinuation && this.#chain.isBeginning) return this.#skip(start, remaining);
    const first = start + this.#pages.headerSize(this.#bytes.lowAt(start));
    if (isContinuation) {
      return this.#fail(start, `contrecord is requested by ${this.#bytes.textAt(first)}`);
    }
    if (remaining === 0) return true;
    const at = this.#bytes.textAt(first);
    return this.#fail(start, `invalid contrecord length ${remaining} (expected 0) at ${at}`);
  }

  /** The page says that the server crashed inside the record in progress: it never gets its end. */
  #dropRecord(start: number): boolean {
    if (this.#state === STATE.boundary && !this.#chain.isBeginning) {
      return this.#fail(
        start,
        `unexpected overwrite contrecord flag at ${this.#bytes.textAt(start)}`,
      );
    }
    const isAddressKnown = this.#state === STATE.header || this.#state === STATE.body;
    this.#overwrittenText = isAddressKnown ? this.#record.addressText() : null;
    this.#isOverwriteDue = true;
    this.#state = STATE.boundary;
    return true;
  }

  #skip(start: number, remaining: number): boolean {
    if (remaining === 0 || remaining > RECORD_SIZE_MAX) {
      const at = this.#bytes.textAt(start);
      return this.#fail(start, `invalid contrecord length ${remaining} at ${at}`);
    }
    this.#record.beginRest(this.#bytes.highAt(start), this.#bytes.lowAt(start), remaining);
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
          i = this.#record.takeBody(this.#bytes.data, i, end);
          if (this.#record.missing === 0) i = this.#endBody(i);
      }
    }
    return i;
  }

  #boundary(from: number, end: number): number {
    const isOrdinary = this.#chain.isStartKnown && !this.#isOverwriteDue;
    const i = isOrdinary ? this.#wholeRecords(from, end) : from;
    if (i >= end) return i;
    this.#record.begin(this.#bytes.highAt(i), this.#bytes.lowAt(i), i);
    this.#state = STATE.header;
    return i;
  }

  #wholeRecords(from: number, end: number): number {
    const i = this.#whole.take(from, end);
    if (i === from) return i;
    this.#chain.isShutdownCheckpoint = false;
    this.#last.note(this.#whole.lastIndex, this.#checksums);
    this.#endRecord(i);
    return i;
  }

  #headerBytes(from: number, end: number): number {
    const record = this.#record;
    const i = record.takeHeader(this.#bytes.data, from, end);
    const isTooShort = record.got >= 4 && record.total < RECORD_HEADER_SIZE;
    if (record.got < RECORD_HEADER_SIZE && !isTooShort) return i;
    const problem = record.headerProblem(this.#facts, this.#chain);
    if (problem !== null) return this.#failRecord(problem);
    if (this.#isOverwriteDue && !record.isXlog(XLOG_OPERATION.overwriteContrecord)) {
      return this.#failRecord(`expected an overwrite contrecord at ${record.addressText()}`);
    }
    const { isStartKnown, learned } = this.#chain;
    const isTrusted = isStartKnown && !learned.isLeap(record.xid) && this.#endsInPush(i, end);
    record.beginBody(this.#checksums || !isTrusted);
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
    return end < this.#bytes.data.length;
  }

  #endBody(i: number): number {
    if (this.#state === STATE.skipping) {
      this.#state = STATE.skippedPadding;
    } else {
      if (!this.#record.isSumRight()) return this.#failSum(this.#record);
      this.#state = STATE.padding;
    }
    return (this.#bytes.lowAt(i) & 7) === 0 ? this.#endPadding(i) : i;
  }

  #paddingBytes(from: number, end: number): number {
    const i = Math.min(from + (-this.#bytes.lowAt(from) & 7), end);
    if (!isZeroRange(this.#bytes.data, from, i)) {
      const at = this.#bytes.textAt(from);
      this.#fail(from, `padding behind the record is not zero at ${at}`);
      return FAILED;
    }
    return (this.#bytes.lowAt(i) & 7) === 0 ? this.#endPadding(i) : i;
  }

  #endPadding(i: number): number {
    if (this.#state === STATE.skippedPadding) {
      this.#endRecord(i);
      return i;
    }
    const problem = this.#record.isKept ? this.#learn() : null;
    if (problem !== null) return this.#failRecord(problem);
    const isInSegment = (this.#bytes.lowAt(i) & this.#segmentMask) !== 0;
    if (this.#record.isXlog(XLOG_OPERATION.switch) && isInSegment) this.#state = STATE.switchZeros;
    else this.#completeRecord(i);
    return i;
  }

  /** Zeros up to the end of the segment; with them the XLOG_SWITCH record is complete. */
  #switchZeros(from: number): number {
    const { data } = this.#bytes;
    const left = this.#segmentMask + 1 - (this.#bytes.lowAt(from) & this.#segmentMask);
    const end = Math.min(data.length, from + left);
    if (!isZeroRange(data, from, end)) {
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
    this.#chain.learned.noteXid(record.xid);
    this.#isOverwriteDue = false;
    this.#last.note(record.index, record.isSummed);
    this.#endRecord(i);
    this.#observer?.onRecord(record.rmgrId, record.info, record.xid);
  }

  #endRecord(i: number): void {
    this.#chain.endHigh = this.#bytes.highAt(i);
    this.#chain.endLow = this.#bytes.lowAt(i);
    this.#chain.isBeginning = false;
    this.#state = STATE.boundary;
  }

  /** Learns from a record whose beginning was kept; returns what is wrong with it, or null. */
  #learn(): string | null {
    const overwritten = learnRecord(this.#record, this.#facts, this.#chain);
    const expected = this.#isOverwriteDue ? this.#overwrittenText : null;
    if (overwritten === null || expected === null || overwritten === expected) return null;
    return `mismatching overwritten LSN ${overwritten} (expected ${expected})`;
  }

  // --- failures

  #fail(i: number, reason: string): boolean {
    this.#failure = { lsn: this.#bytes.lsnAt(i), reason };
    return false;
  }

  #failRecord(reason: string): number {
    this.#failure = { lsn: lsnOfHalves(this.#record.high, this.#record.low), reason };
    return FAILED;
  }

  #failSum(record: RecordInProgress): number {
    const reason = `incorrect resource manager data checksum in record at ${record.addressText()}`;
    this.#failure = { lsn: lsnOfHalves(record.high, record.low), reason };
    return FAILED;
  }
}
