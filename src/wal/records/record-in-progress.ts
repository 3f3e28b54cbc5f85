// What is known of a record that has only partly arrived? Its header, how much of it came, its checksum so far, and the
// beginning of it when it is one that says something. (xlogreader.c:ValidXLogRecordHeader, ValidXLogRecord)
import { CRC32C_INITIAL, finishCrc32c, updateCrc32c } from '../../base/crc32c.ts';
import type { VersionFacts } from '../../pg/server-version.ts';
import { formatHalves, isBelow } from './address.ts';
import type { RecordChain } from './record-chain.ts';
import { isLearned } from './xact-records.ts';
import {
  isResourceManager,
  KEPT_RECORD_SIZE_MAX,
  KEPT_XLOG_SIZE_MAX,
  OPERATION_MASK,
  RECORD_CRC_OFFSET,
  RECORD_HEADER_SIZE,
  RECORD_SIZE_MAX,
  RMGR_XLOG,
} from './xlog-records.ts';

export class RecordInProgress {
  /** Its address. */
  high = 0;
  low = 0;
  /** Its index in the bytes being walked; negative when it began in earlier ones. */
  index = -1;
  /** Bytes it has by its header (0 until that is known), and bytes that came. */
  total = 0;
  got = 0;
  /** Its checksum is being computed. */
  isSummed = false;
  /** `view` holds the first {@link kept} bytes of it, not only the header. */
  isKept = false;
  readonly #bytes = new Uint8Array(KEPT_RECORD_SIZE_MAX);
  readonly view: DataView = new DataView(this.#bytes.buffer);
  #crc = CRC32C_INITIAL;

  begin(high: number, low: number, index: number): void {
    this.high = high;
    this.low = low;
    this.index = index;
    this.total = 0;
    this.got = 0;
  }

  /** The rest of a record whose start is unknown: `remaining` bytes that cannot be checked, from the page at this address. */
  beginRest(high: number, low: number, remaining: number): void {
    this.high = high;
    this.low = low;
    this.index = -1;
    this.total = remaining;
    this.got = 0;
    this.isSummed = false;
    this.isKept = false;
  }

  get missing(): number {
    return this.total - this.got;
  }

  /** Takes header bytes out of `data[from, end)`; returns the index behind them. The total length is known after four. */
  takeHeader(data: Uint8Array, from: number, end: number): number {
    const to = Math.min(end, from + RECORD_HEADER_SIZE - this.got);
    for (let i = from; i < to; i++) this.#bytes[this.got++] = data[i] ?? 0;
    if (this.got >= 4) this.total = this.view.getUint32(0, true);
    return to;
  }

  /** Bytes of it in `view` when it is whole. */
  get kept(): number {
    return this.isKept ? Math.min(this.total, KEPT_RECORD_SIZE_MAX) : RECORD_HEADER_SIZE;
  }

  /** To be called once between header and body. */
  beginBody(isSummed: boolean): void {
    const isSmallXlog = this.rmgrId === RMGR_XLOG && this.total <= KEPT_XLOG_SIZE_MAX;
    this.isKept = isSmallXlog || isLearned(this.rmgrId);
    this.isSummed = isSummed || this.isKept;
    this.#crc = CRC32C_INITIAL;
  }

  /** Takes body bytes out of `data[from, end)`; returns the index behind them. */
  takeBody(data: Uint8Array, from: number, end: number): number {
    const to = Math.min(end, from + this.missing);
    if (this.isSummed) this.#crc = updateCrc32c(this.#crc, data, from, to);
    if (this.isKept && this.got < KEPT_RECORD_SIZE_MAX) {
      const keptEnd = Math.min(to, from + KEPT_RECORD_SIZE_MAX - this.got);
      this.#bytes.set(data.subarray(from, keptEnd), this.got);
    }
    this.got += to - from;
    return to;
  }

  /** Takes bytes of a record whose header was found good before, with its sum. */
  take(data: Uint8Array, from: number, end: number): number {
    if (this.got >= RECORD_HEADER_SIZE) return this.takeBody(data, from, end);
    const i = this.takeHeader(data, from, end);
    if (this.got === RECORD_HEADER_SIZE) this.beginBody(true);
    return i;
  }

  /** True when nothing but padding is missing. */
  isWhole(): boolean {
    return this.got >= RECORD_HEADER_SIZE && this.got === this.total;
  }

  /** True when the checksum matches, or was not computed. Whole records only. */
  isSumRight(): boolean {
    if (!this.isSummed) return true;
    const sum = finishCrc32c(updateCrc32c(this.#crc, this.#bytes, 0, RECORD_CRC_OFFSET));
    return sum === this.view.getUint32(RECORD_CRC_OFFSET, true);
  }

  get xid(): number {
    return this.view.getUint32(4, true);
  }

  get info(): number {
    return this.view.getUint8(16);
  }

  get rmgrId(): number {
    return this.view.getUint8(17);
  }

  /** True for a record of RM_XLOG_ID with this operation. */
  isXlog(operation: number): boolean {
    return this.rmgrId === RMGR_XLOG && (this.info & OPERATION_MASK) === operation;
  }

  /** What is wrong with the header as the successor of `chain`'s last record, or null. */
  headerProblem(facts: VersionFacts, chain: RecordChain): string | null {
    if (this.total < RECORD_HEADER_SIZE) {
      return `invalid record length at ${this.addressText()}: expected at least ${RECORD_HEADER_SIZE}, got ${this.total}`;
    }
    if (!isResourceManager(this.rmgrId, facts)) {
      return `invalid resource manager ID ${this.rmgrId} at ${this.addressText()}`;
    }
    const low = this.view.getInt32(8, true);
    const high = this.view.getInt32(12, true);
    const isLinked = chain.isStartKnown
      ? low === chain.startLow && high === chain.startHigh
      : isBelow(high, low, this.high, this.low);
    if (!isLinked) {
      return `record with incorrect prev-link ${formatHalves(high, low)} at ${this.addressText()}`;
    }
    if (this.total > RECORD_SIZE_MAX) {
      return `record length ${this.total} at ${this.addressText()} too long`;
    }
    if (this.view.getUint16(18, true) === 0) return null;
    return `padding of the record header at ${this.addressText()} is not zero`;
  }

  /** `X/X`. */
  addressText(): string {
    return formatHalves(this.high, this.low);
  }
}
