// WAL segments: files of one fixed power-of-two size, named by timeline and number.
// (src/include/access/xlog_internal.h: XLByteToSeg, XLogFileName, IsValidWalSegSize)
import { toLsn } from './lsn.ts';
import type { Lsn } from './lsn.ts';
import { toTimelineId } from './timeline.ts';
import type { TimelineId } from './timeline.ts';

declare const segmentNumberBrand: unique symbol;
declare const segmentSizeBrand: unique symbol;

/** LSN divided by the segment size. */
export type SegmentNumber = bigint & { readonly [segmentNumberBrand]: true };

/** Bytes per segment: a power of two, 1 MB to 1 GB. */
export type SegmentSize = number & { readonly [segmentSizeBrand]: true };

const SEGMENT_SIZE_MIN = 1 << 20;
const SEGMENT_SIZE_MAX = 1 << 30;

/** Checks and brands. Throws RangeError when `bytes` is no power of two between 1 MB and 1 GB. */
export function toSegmentSize(bytes: number): SegmentSize {
  const isPowerOfTwo = Number.isInteger(bytes) && bytes > 0 && (bytes & (bytes - 1)) === 0;
  if (!isPowerOfTwo || bytes < SEGMENT_SIZE_MIN || bytes > SEGMENT_SIZE_MAX) {
    throw new RangeError(`WAL segment size must be a power of two between 1 MB and 1 GB: ${bytes}`);
  }
  return bytes as SegmentSize;
}

/** The segment that holds the byte at `lsn`. */
export function segmentNumber(lsn: Lsn, size: SegmentSize): SegmentNumber {
  return (lsn / BigInt(size)) as SegmentNumber;
}

/** The segment that holds the last byte before `lsn`. (XLByteToPrevSeg) */
export function segmentNumberBefore(lsn: Lsn, size: SegmentSize): SegmentNumber {
  return segmentNumber(lsn > 0n ? toLsn(lsn - 1n) : lsn, size);
}

/** The segment after `segment`. */
export function nextSegment(segment: SegmentNumber): SegmentNumber {
  return (segment + 1n) as SegmentNumber;
}

/** First byte of `segment`. */
export function segmentStart(segment: SegmentNumber, size: SegmentSize): Lsn {
  return toLsn(segment * BigInt(size));
}

/** First byte of the segment that holds `lsn`. */
export function segmentStartOf(lsn: Lsn, size: SegmentSize): Lsn {
  return segmentStart(segmentNumber(lsn, size), size);
}

/** Bytes between the start of its segment and `lsn`. */
export function segmentOffset(lsn: Lsn, size: SegmentSize): number {
  return Number(lsn % BigInt(size));
}

/** `%08X%08X%08X`: timeline, high and low part of the segment number. (XLogFileName) */
export function walFileName(
  timeline: TimelineId,
  segment: SegmentNumber,
  size: SegmentSize,
): string {
  const segmentsPerId = 0x100000000n / BigInt(size);
  return hex8(BigInt(timeline)) + hex8(segment / segmentsPerId) + hex8(segment % segmentsPerId);
}

/** Reads a segment file name; null when it is none, or none of this segment size. (XLogFromFileName) */
export function parseWalFileName(
  name: string,
  size: SegmentSize,
): { timeline: TimelineId; segment: SegmentNumber } | null {
  const match = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})$/.exec(name);
  if (match === null) return null;
  const timeline = Number.parseInt(match[1] ?? '', 16);
  const segmentsPerId = 0x100000000n / BigInt(size);
  const low = BigInt(`0x${match[3]}`);
  if (timeline === 0 || low >= segmentsPerId) return null;
  const segment = BigInt(`0x${match[2]}`) * segmentsPerId + low;
  return { timeline: toTimelineId(timeline), segment: segment as SegmentNumber };
}

function hex8(value: bigint): string {
  return value.toString(16).toUpperCase().padStart(8, '0');
}
