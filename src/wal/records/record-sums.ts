// Does the checksum in this record match the rest of it? For records that lie whole in one page of the bytes at hand.
// (xlogreader.c:ValidXLogRecord)
import { CRC32C_INITIAL, finishCrc32c, updateCrc32c } from '../../base/crc32c.ts';
import type { WalBytes } from './wal-bytes.ts';
import { RECORD_CRC_OFFSET, RECORD_HEADER_SIZE } from './xlog-records.ts';

export class RecordSums {
  readonly #bytes: WalBytes;

  constructor(bytes: WalBytes) {
    this.#bytes = bytes;
  }

  openPage(_from: number, _end: number): void {}

  isRight(index: number, total: number): boolean {
    const { data, view } = this.#bytes;
    const body = updateCrc32c(CRC32C_INITIAL, data, index + RECORD_HEADER_SIZE, index + total);
    const sum = updateCrc32c(body, data, index, index + RECORD_CRC_OFFSET);
    return finishCrc32c(sum) === view.getUint32(index + RECORD_CRC_OFFSET, true);
  }
}
