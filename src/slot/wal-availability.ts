// How far back may slots keep WAL, and how well is the WAL of one of them kept? Pure, in segments as PostgreSQL counts.
// (src/backend/access/transam/xlog.c: KeepLogSeg, GetWALAvailability; slotfuncs.c: pg_get_replication_slots)
import { INVALID_LSN, lsnDistance, toLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentNumber } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { SlotStatus } from '../status/status.ts';

/** What bounds the WAL that is kept. Sizes are bytes; they count whole segments, rounded down. */
export interface WalBounds {
  readonly segmentSize: SegmentSize;
  /** wal_keep_size. */
  readonly walKeepSizeBytes: number;
  /** max_slot_wal_keep_size; null = no bound. */
  readonly maxSlotWalKeepSizeBytes: number | null;
  /** storage.quota, for everything; null = no bound. */
  readonly quotaBytes: number | null;
  /** Dead WAL, which takes room and is never removed by itself. */
  readonly deadBytes: number;
  /** First byte stored, a segment start. */
  readonly oldestLsn: Lsn;
  /** W and F. */
  readonly writtenLsn: Lsn;
  readonly flushedLsn: Lsn;
}

/** The setting that a slot was lost for. */
export type BindingSetting = 'max_slot_wal_keep_size' | 'storage.quota';

/** Of the quota: the segment being written, and the one that is prepared behind it. */
const SEGMENTS_AT_THE_END = 2n;

/**
 * First byte (a segment start) that is kept whatever slots say; a slot that needs older WAL is lost. INVALID_LSN when
 * nothing bounds what slots keep.
 */
export function limitLsn(bounds: WalBounds): Lsn {
  const { segmentSize, writtenLsn, flushedLsn } = bounds;
  const slotSegments = slotSegmentsMax(bounds);
  if (slotSegments === null) return INVALID_LSN;
  const current = segmentNumber(writtenLsn, segmentSize);
  const kept = slotSegments > windowSegments(bounds) ? slotSegments : windowSegments(bounds);
  const flushed = segmentNumber(flushedLsn, segmentSize);
  return startOf(current - kept < flushed ? current - kept : flushed, segmentSize);
}

/** Which setting it is that binds: the one that leaves slots less. */
export function bindingSetting(bounds: WalBounds): BindingSetting {
  const quota = quotaSegments(bounds);
  const own = ownSlotSegments(bounds);
  return quota !== null && (own === null || quota < own)
    ? 'storage.quota'
    : 'max_slot_wal_keep_size';
}

/** wal_keep_size as far as the quota leaves room for it, in bytes. */
export function windowBytes(bounds: WalBounds): number {
  return Number(windowSegments(bounds)) * bounds.segmentSize;
}

/** `minimumSlotLsn`: what all slots together keep; INVALID_LSN or null when none keeps anything. Null: it reserves no WAL. */
export function walStatus(
  restartLsn: Lsn,
  minimumSlotLsn: Lsn | null,
  bounds: WalBounds,
): SlotStatus['walStatus'] {
  if (restartLsn === INVALID_LSN) return null;
  const { segmentSize } = bounds;
  const target = segmentNumber(restartLsn, segmentSize);
  if (target >= oldestSlotSegment(minimumSlotLsn, bounds)) {
    // walcast has no max_wal_size: what is kept without any slot takes its place.
    const reserved = segmentNumber(bounds.writtenLsn, segmentSize) - windowSegments(bounds) - 1n;
    return target >= reserved ? 'reserved' : 'extended';
  }
  return target >= segmentNumber(bounds.oldestLsn, segmentSize) ? 'unreserved' : 'lost';
}

/** Bytes that may be written before the slot is lost, negative when it may be lost at any time; null without a bound. */
export function safeWalSize(restartLsn: Lsn, bounds: WalBounds): number | null {
  const slotSegments = slotSegmentsMax(bounds);
  if (restartLsn === INVALID_LSN || slotSegments === null) return null;
  const { segmentSize, writtenLsn } = bounds;
  const kept = slotSegments > windowSegments(bounds) ? slotSegments : windowSegments(bounds);
  const failSegment = segmentNumber(restartLsn, segmentSize) + kept + 1n;
  return lsnDistance(writtenLsn, startOf(failSegment, segmentSize));
}

/** KeepLogSeg: the oldest segment that will be kept. */
function oldestSlotSegment(minimumSlotLsn: Lsn | null, bounds: WalBounds): bigint {
  const { segmentSize, writtenLsn } = bounds;
  const current = segmentNumber(writtenLsn, segmentSize);
  const slotSegments = slotSegmentsMax(bounds);
  let segment: bigint = current;
  if (minimumSlotLsn !== null && minimumSlotLsn !== INVALID_LSN && minimumSlotLsn < writtenLsn) {
    segment = segmentNumber(minimumSlotLsn, segmentSize);
    if (slotSegments !== null && current - segment > slotSegments) segment = current - slotSegments;
  }
  const window = windowSegments(bounds);
  return current - segment < window ? current - window : segment;
}

/** Segments before the current one that slots may keep; null = any number. */
function slotSegmentsMax(bounds: WalBounds): bigint | null {
  const [own, quota] = [ownSlotSegments(bounds), quotaSegments(bounds)];
  if (own === null || quota === null) return own ?? quota;
  return own < quota ? own : quota;
}

function ownSlotSegments({ maxSlotWalKeepSizeBytes, segmentSize }: WalBounds): bigint | null {
  return maxSlotWalKeepSizeBytes === null
    ? null
    : wholeSegments(maxSlotWalKeepSizeBytes, segmentSize);
}

function quotaSegments({ quotaBytes, deadBytes, segmentSize }: WalBounds): bigint | null {
  if (quotaBytes === null) return null;
  const segments = wholeSegments(quotaBytes - deadBytes, segmentSize) - SEGMENTS_AT_THE_END;
  return segments > 0n ? segments : 0n;
}

function windowSegments(bounds: WalBounds): bigint {
  const window = wholeSegments(bounds.walKeepSizeBytes, bounds.segmentSize);
  const quota = quotaSegments(bounds);
  return quota !== null && quota < window ? quota : window;
}

function wholeSegments(bytes: number, segmentSize: SegmentSize): bigint {
  return bytes <= 0 ? 0n : BigInt(Math.floor(bytes / segmentSize));
}

function startOf(segment: bigint, segmentSize: SegmentSize): Lsn {
  return toLsn((segment > 0n ? segment : 0n) * BigInt(segmentSize));
}
