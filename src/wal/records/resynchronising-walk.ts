// How does a walk go on over WAL that does not hold together, where it is kept all the same (`verify: off`)? From the next
// page whose header is right, behind the rest of the record that it begins in, as a server looks for the first record behind
// an address. The chain is known again once a record from there on is whole and its checksum matches.
// (xlogreader.c:XLogFindNextRecord)
import { advanceLsn, lsnDistance, maxLsn, PAGE_SIZE, pageOffset, pageStart } from '../../pg/lsn.ts';
import type { Lsn } from '../../pg/lsn.ts';
import { chainStart } from './record-chain.ts';
import type { ChainPosition } from './record-chain.ts';
import { RecordWalk } from './record-walk.ts';
import type { RecordWalkOptions, WalkFailure } from './record-walk.ts';
import type { LearnedFacts, WalFacts } from './wal-facts.ts';

/** Who is told; both are called in the middle of a push. */
export interface ResynchronisingWalkOptions extends RecordWalkOptions {
  /** The chain of records broke. */
  readonly onLost: (failure: WalkFailure) => void;
  /** It is known again; the last record end is at `lsn`. */
  readonly onFound: (lsn: Lsn) => void;
}

/** A {@link RecordWalk} that takes everything. */
export class ResynchronisingWalk {
  readonly #options: ResynchronisingWalkOptions;
  readonly #walk: RecordWalk;
  /** End of the bytes taken. */
  #endLsn: Lsn;
  /** The chain is not known at the end of what was taken. */
  #isLost = false;
  /** The page that may be the one to go on from and has not come yet; null while the walk is under way. */
  #pageLsn: Lsn | null = null;

  constructor(options: ResynchronisingWalkOptions, start: ChainPosition) {
    this.#options = options;
    this.#walk = new RecordWalk(options, start);
    this.#endLsn = start.lsn;
  }

  /** The byte wanted next. */
  nextLsn(): Lsn {
    return this.#endLsn;
  }

  /** End of the last complete record; while the chain is lost, end of everything taken. */
  recordEnd(): Lsn {
    return this.#isLost ? this.#endLsn : this.#walk.recordEnd();
  }

  /** Redo position of the newest checkpoint record; INVALID_LSN before the first. */
  redoLsn(): Lsn {
    return this.#walk.redoLsn();
  }

  /** What the records that were understood say about transactions. */
  facts(): WalFacts {
    return this.#walk.facts();
  }

  /** The same as numbers that change in place: for who looks after each push. */
  get learned(): LearnedFacts {
    return this.#walk.learned;
  }

  /** Everything known at {@link recordEnd}. */
  position(): ChainPosition {
    return this.#isLost ? this.#startAt(this.#endLsn) : this.#walk.position();
  }

  /** Takes `data`, the bytes from {@link nextLsn} on, whatever they are. The buffer is not kept. */
  push(data: Uint8Array): null {
    const startLsn = this.#endLsn;
    this.#endLsn = advanceLsn(startLsn, data.length);
    // Each page is tried once, and what came before this push is gone.
    let untriedLsn = startLsn;
    let fromLsn = startLsn;
    if (this.#pageLsn !== null) {
      fromLsn = this.#startNextPage(this.#pageLsn);
      untriedLsn = advanceLsn(fromLsn, 1);
    }
    while (fromLsn < this.#endLsn) {
      const failure = this.#walk.push(data.subarray(lsnDistance(startLsn, fromLsn)));
      if (failure === null) {
        this.#noteRecord();
        break;
      }
      this.#noteLoss(failure);
      fromLsn = this.#startNextPage(nextPage(maxLsn(failure.lsn, untriedLsn)));
      untriedLsn = advanceLsn(fromLsn, 1);
    }
    return null;
  }

  /** Goes on at this page, now if it has come, or when it does. Returns its address. */
  #startNextPage(lsn: Lsn): Lsn {
    const hasCome = lsn < this.#endLsn;
    this.#pageLsn = hasCome ? null : lsn;
    if (hasCome) this.#walk.restart(this.#startAt(lsn));
    return lsn;
  }

  #noteLoss(failure: WalkFailure): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#options.onLost(failure);
  }

  #noteRecord(): void {
    if (!this.#isLost || !this.#walk.hasRecord()) return;
    this.#isLost = false;
    this.#options.onFound(this.#walk.recordEnd());
  }

  #startAt(lsn: Lsn): ChainPosition {
    return { ...chainStart(lsn), redoLsn: this.#walk.redoLsn(), facts: this.#walk.facts() };
  }
}

/** The first page start at or behind `lsn`. */
function nextPage(lsn: Lsn): Lsn {
  return pageOffset(lsn) === 0 ? lsn : advanceLsn(pageStart(lsn), PAGE_SIZE);
}
