// Does the checksum of the last complete record match, where not every record is summed? A record end that a walk names
// must be the end of a record that was seen to be good.
import { PAGE_SIZE } from '../../pg/lsn.ts';
import type { PageHeaderCheck } from './page-header.ts';
import { RecordInProgress } from './record-in-progress.ts';
import type { WalBytes } from './wal-bytes.ts';

const PAGE_MASK = PAGE_SIZE - 1;
const NONE = -1;

/** The last complete record of a piece of WAL. */
export class LastRecord {
  readonly #bytes: WalBytes;
  readonly #pages: PageHeaderCheck;
  readonly #probe = new RecordInProgress();
  #index = NONE;
  #isSummed = true;

  constructor(bytes: WalBytes, pages: PageHeaderCheck) {
    this.#bytes = bytes;
    this.#pages = pages;
  }

  /** No record of this piece is complete yet. */
  forget(): void {
    this.note(NONE, true);
  }

  /** A record is complete that began at `index`, -1 when that lies in an earlier piece; such a one was summed. */
  note(index: number, isSummed: boolean): void {
    this.#index = index;
    this.#isSummed = isSummed;
  }

  /** Sums it now unless that was done; the record when its checksum does not match, else null. */
  damaged(): RecordInProgress | null {
    if (this.#isSummed || this.#index === NONE) return null;
    const { data } = this.#bytes;
    const probe = this.#probe;
    let i = this.#index;
    probe.begin(this.#bytes.highAt(i), this.#bytes.lowAt(i), i);
    do {
      const low = this.#bytes.lowAt(i);
      if ((low & PAGE_MASK) === 0) i += this.#pages.headerSize(low);
      i = probe.take(data, i, i + PAGE_SIZE - (this.#bytes.lowAt(i) & PAGE_MASK));
    } while (!probe.isWhole());
    return probe.isSumRight() ? null : probe;
  }
}
