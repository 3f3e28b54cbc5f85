// Does the checksum in this record match the rest of it? For records that lie whole in one page of the bytes at hand.
// (xlogreader.c:ValidXLogRecord)
import { CRC32C_INITIAL, crc32cWindow, finishCrc32c, updateCrc32c } from '../../base/crc32c.ts';
import type { WalBytes } from './wal-bytes.ts';
import { RECORD_CRC_OFFSET, RECORD_HEADER_SIZE } from './xlog-records.ts';

/** Fewer bytes of records are summed one by one. */
const WINDOW_BYTES_MIN = 512;

/** Sums records, all of a page in one go where many of them are to be summed. */
export class RecordSums {
  readonly #bytes: WalBytes;
  #isWindow = false;

  constructor(bytes: WalBytes) {
    this.#bytes = bytes;
  }

  /** Every record of [from, end), which lies in one page, is about to be summed. */
  openPage(from: number, end: number): void {
    this.#isWindow = end - from >= WINDOW_BYTES_MIN;
    if (this.#isWindow) crc32cWindow.open(this.#bytes.data, from, end);
  }

  /** True when the checksum of the record at `index`, `total` bytes long, matches. */
  isRight(index: number, total: number): boolean {
    const { data, view } = this.#bytes;
    const [bodyStart, end] = [index + RECORD_HEADER_SIZE, index + total];
    const headEnd = index + RECORD_CRC_OFFSET;
    const state = this.#isWindow
      ? crc32cWindow.update(crc32cWindow.update(CRC32C_INITIAL, bodyStart, end), index, headEnd)
      : updateCrc32c(updateCrc32c(CRC32C_INITIAL, data, bodyStart, end), data, index, headEnd);
    return finishCrc32c(state) === view.getUint32(index + RECORD_CRC_OFFSET, true);
  }
}
