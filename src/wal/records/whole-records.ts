// Which ordinary records lie whole in this stretch of one page? The fast part of the walk: a few reads a record. Whatever is
// cut, belongs to RM_XLOG_ID or is wrong in any way is left to the part that takes its time and can say why.
import type { VersionFacts } from '../../pg/server-version.ts';
import type { RecordChain } from './record-chain.ts';
import type { RecordSums } from './record-sums.ts';
import type { RecordObserver } from './record-walk.ts';
import type { WalBytes } from './wal-bytes.ts';
import { isLearned, learnFrom, XACT_END, xactEnd } from './xact-records.ts';
import type { ReadableRecord } from './xact-records.ts';
import { isResourceManager, RECORD_HEADER_SIZE, RMGR_XACT, RMGR_XLOG } from './xlog-records.ts';
import { isZeroRange } from './zeros.ts';

/** What the fast part works with; all of it belongs to the walk. */
export interface WholeRecordsOptions {
  readonly facts: VersionFacts;
  readonly bytes: WalBytes;
  readonly chain: RecordChain;
  readonly sums: RecordSums;
  /** Sum every record, not only those that something is learned from. */
  readonly checksums: boolean;
  readonly observer: RecordObserver | null;
}

/** Takes records and moves the chain's start over them; its end is the caller's matter. */
export class WholeRecords {
  readonly #facts: VersionFacts;
  readonly #bytes: WalBytes;
  readonly #chain: RecordChain;
  readonly #sums: RecordSums;
  readonly #checksums: boolean;
  readonly #observer: RecordObserver | null;
  readonly #readable: ReadableRecord;
  /** Where the last record before the newest plain commit lies. */
  readonly #beforePlain = { index: -1, high: 0, low: 0 };
  /** Index of the last record that {@link take} took; -1 when it took none. */
  lastIndex = -1;

  constructor(options: WholeRecordsOptions) {
    this.#facts = options.facts;
    this.#bytes = options.bytes;
    this.#chain = options.chain;
    this.#sums = options.sums;
    this.#checksums = options.checksums;
    this.#observer = options.observer;
    this.#readable = { view: options.bytes.view, at: 0, length: 0 };
  }

  /** Takes what lies whole in [from, end) of one page, the start of a record; returns the index behind it. */
  take(from: number, end: number): number {
    const { data, view, low } = this.#bytes;
    const high = this.#bytes.highAt(from);
    const { learned } = this.#chain;
    let previousHigh = this.#chain.startHigh;
    let previousLow = this.#chain.startLow;
    let lastIndex = -1;
    let plainIndex = -1;
    const beforePlain = this.#beforePlain;
    let i = from;
    const checksums = this.#checksums;
    const observer = this.#observer;
    if (checksums) this.#sums.openPage(from, end);
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
      if (padded !== total && !isZeroRange(data, i + total, i + padded)) break;
      const xid = view.getInt32(i + 4, true);
      if (checksums && !this.#sums.isRight(i, total)) break;
      const kind = rmgrId === RMGR_XACT ? xactEnd(view, i, total) : XACT_END.other;
      if (kind === XACT_END.plainCommit) {
        plainIndex = i;
        beforePlain.index = lastIndex;
        beforePlain.high = previousHigh;
        beforePlain.low = previousLow;
      } else if (kind === XACT_END.other && isLearned(rmgrId)) {
        // In the order in which they stand.
        if (plainIndex !== -1 && !this.#learnGood(plainIndex)) break;
        plainIndex = -1;
        if (!this.#learnGood(i)) break;
      }
      if (learned.nextXid === 0 || ((xid - learned.nextXid) | 0) >= 0) {
        if (learned.isLeap(xid) && !this.#isGood(i, total)) break;
        learned.noteXid(xid);
      }
      observer?.onRecord(rmgrId, rest & 0xff, xid >>> 0);
      previousLow = (low + i) | 0;
      previousHigh = high;
      lastIndex = i;
      i += padded;
    }
    if (plainIndex !== -1 && !this.#learnGood(plainIndex)) {
      // The slow part says what is wrong with it.
      i = plainIndex;
      lastIndex = beforePlain.index;
      previousHigh = beforePlain.high;
      previousLow = beforePlain.low;
    }
    this.lastIndex = lastIndex;
    if (lastIndex === -1) return from;
    this.#chain.startHigh = previousHigh;
    this.#chain.startLow = previousLow;
    return i;
  }

  /** True when the checksum of the record at `index` matches, which was seen before where all are summed. */
  #isGood(index: number, total: number): boolean {
    return this.#checksums || this.#sums.isRight(index, total);
  }

  /** Learns from the record at `at` unless its checksum does not match; whether it does. */
  #learnGood(at: number): boolean {
    const length = this.#bytes.view.getInt32(at, true);
    if (!this.#isGood(at, length)) return false;
    const { learned } = this.#chain;
    const record = this.#readable;
    record.view = this.#bytes.view;
    record.at = at;
    record.length = length;
    if (learnFrom(record, learned)) {
      learned.noteApplyFeedback(this.#bytes.highAt(at), this.#bytes.lowAt(at));
    }
    learned.placeCommit(this.#bytes.highAt(at), this.#bytes.lowAt(at));
    return true;
  }
}
