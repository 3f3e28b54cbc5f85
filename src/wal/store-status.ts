// What does a store that holds WAL say about itself, in numbers?
import { maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentNumber, segmentNumberBefore } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { StoreStatus } from '../status/status.ts';
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

/** The figures as status answers and metrics show them. */
export function storeStatus(figures: StoreFigures): StoreStatus {
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
    readFromMemoryBytes: counters.readFromMemoryBytes,
    readFromDiskBytes: counters.readFromDiskBytes,
    rejectedFromUpstream: counters.rejectedFromUpstream,
    rejectedFromDisk: counters.rejectedFromDisk,
    errors: counters.errors(),
    flushDuration: counters.flushDuration.snapshot(),
    writeDuration: counters.writeDuration.snapshot(),
  };
}
