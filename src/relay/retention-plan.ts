// How much room may the WAL take, and is it nearly taken? Pure.
import { RETENTION_ALARM_OVER_RATIO, RETENTION_ALARM_RATIO } from '../config/limits.ts';
import { advanceLsn, INVALID_LSN, lsnDistance, maxLsn, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { windowBytes } from '../slot/wal-availability.ts';
import type { WalBounds } from '../slot/wal-availability.ts';

/** Segments beyond the window that are there without any slot: the one being written and its neighbours. */
const SEGMENTS_BESIDE_WINDOW = 3;

/** The rest of the segment being written, and the one that is prepared: room that the quota counts before there is WAL in it. */
const SEGMENTS_WITHOUT_WAL = 2;

/** What bounds the whole store, in bytes; 0 = nothing does. */
export function sizeLimit({
  walKeepSizeBytes,
  maxSlotWalKeepSizeBytes,
  quotaBytes,
}: Pick<WalBounds, 'walKeepSizeBytes' | 'maxSlotWalKeepSizeBytes' | 'quotaBytes'>): number {
  const kept =
    maxSlotWalKeepSizeBytes === null ? null : Math.max(maxSlotWalKeepSizeBytes, walKeepSizeBytes);
  if (quotaBytes === null || kept === null) return quotaBytes ?? kept ?? 0;
  return Math.min(quotaBytes, kept);
}

/** Bytes in use: WAL from the first stored byte on, and dead WAL. */
export function occupiedBytes({ oldestLsn, writtenLsn, deadBytes }: WalBounds): number {
  return Math.max(0, lsnDistance(oldestLsn, writtenLsn)) + deadBytes;
}

/**
 * Whether the store is nearly full, with some distance between yes and no so that it does not waver. The window that is
 * kept in any case is no reason: it is always full. Dead WAL takes room of the quota, none of what slots may keep.
 */
export function isNearLimit(bounds: WalBounds, wasNear: boolean): boolean {
  const { quotaBytes, segmentSize } = bounds;
  const ratio = wasNear ? RETENTION_ALARM_OVER_RATIO : RETENTION_ALARM_RATIO;
  const always = windowBytes(bounds) + SEGMENTS_BESIDE_WINDOW * segmentSize;
  const isNear = (bytes: number, reserved: number, limit: number): boolean =>
    limit > 0 && bytes > always && bytes + reserved >= limit * ratio;
  const keptBytes = occupiedBytes({ ...bounds, deadBytes: 0 });
  const keptLimit = sizeLimit({ ...bounds, quotaBytes: null });
  return (
    isNear(keptBytes, 0, keptLimit) ||
    isNear(occupiedBytes(bounds), SEGMENTS_WITHOUT_WAL * segmentSize, quotaBytes ?? 0)
  );
}

/** The store's first byte moved from `beforeLsn` to `afterLsn`: so many whole segments of that lay before `limitLsn`. */
export function segmentsBefore(
  limitLsn: Lsn,
  { beforeLsn, afterLsn, segmentSize }: { beforeLsn: Lsn; afterLsn: Lsn; segmentSize: number },
): number {
  if (beforeLsn === INVALID_LSN) return 0;
  const end = minLsn(afterLsn, limitLsn);
  return end <= beforeLsn ? 0 : Math.floor(lsnDistance(beforeLsn, end) / segmentSize);
}

/** Where the window of the quota begins when it is shorter than wal_keep_size; INVALID_LSN when it is not. */
export function cutWindowStart(bounds: WalBounds): Lsn {
  const window = windowBytes(bounds);
  const { walKeepSizeBytes, segmentSize, writtenLsn } = bounds;
  if (window + segmentSize > walKeepSizeBytes || BigInt(window) > writtenLsn) return INVALID_LSN;
  return maxLsn(INVALID_LSN, advanceLsn(writtenLsn, -window));
}
