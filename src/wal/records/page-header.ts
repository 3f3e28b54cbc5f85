// Is this the header that a WAL page at this address must have? Everything but the continuation of records, which only
// a walk over them can judge. (src/include/access/xlog_internal.h,
// xlogreader.c:XLogReaderValidatePageHeader)
//
// Addresses come as two signed 32-bit halves, because this runs for every page and every record: a bigint costs more
// than the whole check.
import { INVALID_LSN, PAGE_SIZE, toLsn } from '../../pg/lsn.ts';
import { segmentNumber, walFileName } from '../../pg/segment.ts';
import type { SegmentSize } from '../../pg/segment.ts';
import type { VersionFacts } from '../../pg/server-version.ts';
import { timelineOfLsn } from '../../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../../pg/timeline.ts';
import { formatHalves, highHalf, isBelow, lowHalf, lsnOfHalves } from './address.ts';

/** SizeOfXLogShortPHD. */
export const PAGE_HEADER_SIZE = 24;

/** SizeOfXLogLongPHD: the header of the first page of a segment. */
export const LONG_PAGE_HEADER_SIZE = 40;

/** XLP_FIRST_IS_CONTRECORD: the page begins inside a record. */
export const PAGE_IS_CONTINUATION = 0x0001;

const PAGE_HAS_LONG_HEADER = 0x0002;

const FOREIGN = 'WAL file is from different database system';

/** u16 xlp_info. */
export function pageFlags(view: DataView, at: number): number {
  return view.getUint16(at + 2, true);
}

/** u32 xlp_rem_len: bytes of the record in progress that are still missing where the page begins. */
export function pageRemainingLength(view: DataView, at: number): number {
  return view.getUint32(at + 16, true);
}

/** The cluster that the pages belong to. */
export interface PageOrigin {
  readonly facts: VersionFacts;
  readonly segmentSize: SegmentSize;
  /** Decimal text of the unsigned 64-bit system identifier. */
  readonly systemIdentifier: string;
  /** Ancestry of the newest timeline: it says which timeline each page must carry. */
  readonly history: TimelineHistory;
}

/** Checks page headers of one cluster. */
export class PageHeaderCheck {
  readonly #origin: PageOrigin;
  readonly #segmentMask: number;
  readonly #systemHigh: number;
  readonly #systemLow: number;
  /** From here on every page carries the newest timeline. */
  readonly #switchHigh: number;
  readonly #switchLow: number;

  constructor(origin: PageOrigin) {
    this.#origin = origin;
    this.#segmentMask = origin.segmentSize - 1;
    const system = toLsn(BigInt(origin.systemIdentifier));
    this.#systemHigh = highHalf(system);
    this.#systemLow = lowHalf(system);
    const lastSwitch = origin.history.ancestors.at(-1)?.endLsn ?? INVALID_LSN;
    this.#switchHigh = highHalf(lastSwitch);
    this.#switchLow = lowHalf(lastSwitch);
  }

  /** Bytes of the header of the page whose address ends in `low`. */
  headerSize(low: number): number {
    return (low & this.#segmentMask) === 0 ? LONG_PAGE_HEADER_SIZE : PAGE_HEADER_SIZE;
  }

  /** What is wrong with the whole header at `view[at]` of the page at this address, in PostgreSQL's words, or null. */
  problem(view: DataView, at: number, high: number, low: number): string | null {
    const magic = view.getUint16(at, true);
    if (magic !== this.#origin.facts.walPageMagic) {
      return `invalid magic number ${hex4(magic)} ${this.#where(high, low)}`;
    }
    const flags = pageFlags(view, at);
    const isFirst = (low & this.#segmentMask) === 0;
    const isUnknown = (flags & ~this.#origin.facts.walPageFlagsMask) !== 0;
    if (isUnknown || ((flags & PAGE_HAS_LONG_HEADER) !== 0) !== isFirst) {
      return `invalid info bits ${hex4(flags)} ${this.#where(high, low)}`;
    }
    const problem = isFirst ? this.#longHeaderProblem(view, at) : null;
    if (problem !== null) return problem;
    const addressLow = view.getInt32(at + 8, true);
    const addressHigh = view.getInt32(at + 12, true);
    if (addressLow !== low || addressHigh !== high) {
      return `unexpected pageaddr ${formatHalves(addressHigh, addressLow)} ${this.#where(high, low)}`;
    }
    const timeline = view.getUint32(at + 4, true);
    const expected = this.#timelineAt(high, low);
    if (timeline !== expected) {
      return `unexpected timeline ID ${timeline} (expected ${expected}) ${this.#where(high, low)}`;
    }
    if (view.getInt32(at + 20, true) === 0) return null;
    return `padding of the page header is not zero ${this.#where(high, low)}`;
  }

  /** As PostgreSQL names a page in its messages. */
  #where(high: number, low: number): string {
    const segment = segmentNumber(lsnOfHalves(high, low), this.#origin.segmentSize);
    const name = walFileName(this.#timelineAt(high, low), segment, this.#origin.segmentSize);
    return `in WAL segment ${name}, LSN ${formatHalves(high, low)}, offset ${low & this.#segmentMask}`;
  }

  #timelineAt(high: number, low: number): TimelineId {
    const { history } = this.#origin;
    return isBelow(high, low, this.#switchHigh, this.#switchLow)
      ? timelineOfLsn(history, lsnOfHalves(high, low))
      : history.timeline;
  }

  #longHeaderProblem(view: DataView, at: number): string | null {
    const low = view.getInt32(at + 24, true);
    const high = view.getInt32(at + 28, true);
    if (low !== this.#systemLow || high !== this.#systemHigh) {
      const theirs = lsnOfHalves(high, low).toString();
      const ours = lsnOfHalves(this.#systemHigh, this.#systemLow).toString();
      return `${FOREIGN}: WAL file database system identifier is ${theirs}, expected ${ours}`;
    }
    if (view.getUint32(at + 32, true) !== this.#origin.segmentSize) {
      return `${FOREIGN}: incorrect segment size in page header`;
    }
    if (view.getUint32(at + 36, true) !== PAGE_SIZE) {
      return `${FOREIGN}: incorrect XLOG_BLCKSZ in page header`;
    }
    return null;
  }
}

/** A page header that came in pieces. */
export class CutPageHeader {
  readonly #bytes = new Uint8Array(LONG_PAGE_HEADER_SIZE);
  /** The header, once it is whole. */
  readonly view: DataView = new DataView(this.#bytes.buffer);
  /** Bytes that are there. */
  got = 0;

  clear(): void {
    this.got = 0;
  }

  /** Takes what is missing of `size` bytes out of `data` from index `from` on; returns the index behind it. */
  take(data: Uint8Array, from: number, size: number): number {
    const end = Math.min(data.length, from + size - this.got);
    this.#bytes.set(data.subarray(from, end), this.got);
    this.got += end - from;
    return end;
  }
}

function hex4(value: number): string {
  return value.toString(16).toUpperCase().padStart(4, '0');
}
