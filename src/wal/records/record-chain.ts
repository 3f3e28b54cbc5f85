// What must the next record link to? The last complete record: where it began, where it ended, and what the records up to
// it have told.
import { INVALID_LSN } from '../../pg/lsn.ts';
import type { Lsn } from '../../pg/lsn.ts';
import { highHalf, lowHalf, lsnOfHalves } from './address.ts';
import { LearnedFacts, NO_WAL_FACTS } from './wal-facts.ts';
import type { WalFacts } from './wal-facts.ts';

/** What is known of the chain of records at a record end. */
export interface ChainPosition {
  /** A record end, or any page start when `lastRecordLsn` is null. */
  readonly lsn: Lsn;
  /** Start of the record that ends there, which the next record must name; null when it is not known. */
  readonly lastRecordLsn: Lsn | null;
  /** That record is a CHECKPOINT_SHUTDOWN. */
  readonly isShutdownCheckpoint: boolean;
  /** Redo position of the newest checkpoint seen; INVALID_LSN before the first. */
  readonly redoLsn: Lsn;
  /** What the records up to there say about transactions. */
  readonly facts: WalFacts;
}

/** The chain of a store that begins at `lsn`, a page start. */
export function chainStart(lsn: Lsn): ChainPosition {
  return {
    lsn,
    lastRecordLsn: null,
    isShutdownCheckpoint: false,
    redoLsn: INVALID_LSN,
    facts: NO_WAL_FACTS,
  };
}

/** {@link ChainPosition} in halves, changed in place as records pass. */
export class RecordChain {
  startHigh = 0;
  startLow = 0;
  isStartKnown = false;
  endHigh = 0;
  endLow = 0;
  /** No record end was met yet: the first page may begin inside a record whose start is not here. */
  isBeginning = true;
  isShutdownCheckpoint = false;
  redoHigh = 0;
  redoLow = 0;
  readonly learned: LearnedFacts;

  constructor(position: ChainPosition) {
    const start = position.lastRecordLsn ?? INVALID_LSN;
    this.startHigh = highHalf(start);
    this.startLow = lowHalf(start);
    this.isStartKnown = position.lastRecordLsn !== null;
    this.endHigh = highHalf(position.lsn);
    this.endLow = lowHalf(position.lsn);
    this.isBeginning = position.lastRecordLsn === null;
    this.isShutdownCheckpoint = position.isShutdownCheckpoint;
    this.redoHigh = highHalf(position.redoLsn);
    this.redoLow = lowHalf(position.redoLsn);
    this.learned = new LearnedFacts(position.facts);
  }

  copyFrom(other: RecordChain): void {
    this.startHigh = other.startHigh;
    this.startLow = other.startLow;
    this.isStartKnown = other.isStartKnown;
    this.endHigh = other.endHigh;
    this.endLow = other.endLow;
    this.isBeginning = other.isBeginning;
    this.isShutdownCheckpoint = other.isShutdownCheckpoint;
    this.redoHigh = other.redoHigh;
    this.redoLow = other.redoLow;
    this.learned.copyFrom(other.learned);
  }

  endLsn(): Lsn {
    return lsnOfHalves(this.endHigh, this.endLow);
  }

  redoLsn(): Lsn {
    return lsnOfHalves(this.redoHigh, this.redoLow);
  }

  position(): ChainPosition {
    return {
      lsn: this.endLsn(),
      lastRecordLsn: this.isStartKnown ? lsnOfHalves(this.startHigh, this.startLow) : null,
      isShutdownCheckpoint: this.isShutdownCheckpoint,
      redoLsn: this.redoLsn(),
      facts: this.learned.facts(),
    };
  }
}
