// What does a store that holds WAL say about itself, in numbers?
import { INVALID_LSN, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentNumber, segmentNumberBefore } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { StoreStatus } from '../status/status.ts';
import { DurationCounter } from './duration-histogram.ts';
import type { StoreCounters } from './store-counters.ts';
import type { StorePositions } from './store-options.ts';

/** Where a store stands. */
export interface StoreFigures {
  readonly timeline: TimelineId;
  readonly segmentSize: SegmentSize;
  /** First byte that is stored, a segment start, and the end (exclusive) of what is in the files. */
  readonly oldestLsn: Lsn;
  readonly inFilesLsn: Lsn;
  readonly positions: StorePositions;
  readonly segmentsRemoved: number;
  readonly tailBytes: number;
  readonly tailBytesMax: number;
  readonly counters: StoreCounters;
}

/** Those of an empty store. */
export const NO_POSITIONS: StorePositions = {
  receivedLsn: INVALID_LSN,
  writtenLsn: INVALID_LSN,
  flushedLsn: INVALID_LSN,
};

/** What a store says about the WAL in `pg_wal`. */
export type WalStatus = Omit<StoreStatus, 'dead'>;

/** An empty store, whose memory for recent WAL is bounded by `tailBytesMax`. */
export function emptyStoreStatus(tailBytesMax: number): WalStatus {
  const durations = new DurationCounter().snapshot();
  return {
    timeline: null,
    oldestLsn: INVALID_LSN,
    ...NO_POSITIONS,
    sizeBytes: 0,
    segments: 0,
    segmentsRemoved: 0,
    tailBytes: 0,
    tailBytesMax,
    rejectedFromUpstream: 0,
    rejectedFromDisk: 0,
    errors: { open: 0, write: 0, fsync: 0, read: 0, remove: 0 },
    flushDuration: durations,
    writeDuration: durations,
  };
}

/** The figures as status answers and metrics show them. */
export function storeStatus(figures: StoreFigures): WalStatus {
  const { timeline, segmentSize, oldestLsn, counters } = figures;
  const end = maxLsn(oldestLsn, figures.inFilesLsn);
  const last = segmentNumberBefore(end, segmentSize);
  const segments = end === oldestLsn ? 0 : Number(last - segmentNumber(oldestLsn, segmentSize)) + 1;
  return {
    timeline,
    oldestLsn,
    ...figures.positions,
    sizeBytes: segments * segmentSize,
    segments,
    segmentsRemoved: figures.segmentsRemoved,
    tailBytes: figures.tailBytes,
    tailBytesMax: figures.tailBytesMax,
    rejectedFromUpstream: counters.rejectedFromUpstream,
    rejectedFromDisk: counters.rejectedFromDisk,
    errors: counters.errors(),
    flushDuration: counters.flushDuration.snapshot(),
    writeDuration: counters.writeDuration.snapshot(),
  };
}
