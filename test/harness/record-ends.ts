// Where do records end? A walker over segment files that knows only page headers and record lengths, written apart from
// the program's own decoder so that the two can disagree. (xlogrecord.h, xlog_internal.h, xlogreader.c)
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { PAGE_SIZE, pageOffset, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, segmentOffset, segmentStart, walFileName } from '../../src/pg/segment.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';

const LONG_HEADER_BYTES = 40;
const SHORT_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 24;
/** xlp_pageaddr and xlp_rem_len in a page header. */
const PAGE_ADDRESS_AT = 8;
const REMAINING_AT = 16;
const ALIGNMENT = 8;
const RM_XLOG = 0;
const XLOG_SWITCH = 0x40;

/** Which WAL to walk. */
export interface WalkOptions {
  readonly directory: string;
  readonly timeline: number;
  readonly segmentSize: SegmentSize;
  /** Any position in the first segment to read; walking begins at the first record that starts in that segment. */
  readonly fromLsn: Lsn;
  /** Walking stops at the first record that does not end before or at this position. */
  readonly untilLsn: Lsn;
}

/**
 * Ends (exclusive, 8-byte aligned, as the server reports them) of the records that start in the walked range and end
 * at or before `untilLsn`, also behind segments that are absent and records that were given up. After an XLOG_SWITCH the end is
 * the start of the next segment.
 */
export async function recordEnds(options: WalkOptions): Promise<Set<Lsn>> {
  const { segmentSize, untilLsn } = options;
  const firstSegment = segmentNumber(options.fromLsn, segmentSize);
  const base = segmentStart(firstSegment, segmentSize);
  const bytes = await readSegments(options, base);
  const ends = new Set<Lsn>();
  let at = firstRecord(bytes, 0, segmentSize);
  while (at !== null && base + BigInt(at + 4) <= untilLsn) {
    const end = recordEnd(bytes, at, segmentSize);
    if (end === null) {
      // Given up by a server that crashed in it: its successor begins on the next page.
      const page = nextPage(bytes, at, base);
      at = page === null ? null : firstRecord(bytes, page, segmentSize);
      continue;
    }
    if (base + BigInt(end) > untilLsn) break;
    ends.add(toLsn(base + BigInt(end)));
    at =
      end % segmentSize === 0 || end % PAGE_SIZE === 0 ? firstRecord(bytes, end, segmentSize) : end;
  }
  return ends;
}

/** The first record that starts on the page at `page` or behind it, skipping what is left of an earlier one. */
function firstRecord(bytes: Buffer, page: number, segmentSize: number): number | null {
  for (let at = page; at + SHORT_HEADER_BYTES <= bytes.length; at += PAGE_SIZE) {
    const header = headerBytes(at, segmentSize);
    const remaining = bytes.readUInt32LE(at + REMAINING_AT);
    const start = at + header + align(remaining);
    if (start < at + PAGE_SIZE) return start;
    if (start === at + PAGE_SIZE) continue;
  }
  return null;
}

/** The next page behind `at` that says itself that it is the one that belongs there. */
function nextPage(bytes: Buffer, at: number, base: Lsn): number | null {
  const first = (Math.floor(at / PAGE_SIZE) + 1) * PAGE_SIZE;
  for (let page = first; page + SHORT_HEADER_BYTES <= bytes.length; page += PAGE_SIZE) {
    if (bytes.readBigUInt64LE(page + PAGE_ADDRESS_AT) === base + BigInt(page)) return page;
  }
  return null;
}

/**
 * Offset behind the record at `at`, alignment included; null when it is not whole or there is none. Each page it goes over to
 * says how much of it is left.
 */
function recordEnd(bytes: Buffer, at: number, segmentSize: number): number | null {
  if (at + 4 > bytes.length) return null;
  const total = bytes.readUInt32LE(at);
  if (total < RECORD_HEADER_BYTES) return null;
  let position = at;
  let left = total;
  for (;;) {
    const room = PAGE_SIZE - (position % PAGE_SIZE);
    if (left <= room) {
      position += left;
      break;
    }
    left -= room;
    position += room;
    if (position + SHORT_HEADER_BYTES > bytes.length) return null;
    if (bytes.readUInt32LE(position + REMAINING_AT) !== left) return null;
    position += headerBytes(position, segmentSize);
  }
  if (isSwitch(bytes, at, segmentSize)) return Math.ceil(position / segmentSize) * segmentSize;
  return align(position);
}

function isSwitch(bytes: Buffer, at: number, segmentSize: number): boolean {
  return (
    byteOf(bytes, at, 17, segmentSize) === RM_XLOG &&
    byteOf(bytes, at, 16, segmentSize) === XLOG_SWITCH
  );
}

/** The byte `index` of the record at `at`, whose header may be cut by a page header. */
function byteOf(bytes: Buffer, at: number, index: number, segmentSize: number): number | undefined {
  const room = PAGE_SIZE - (at % PAGE_SIZE);
  if (index < room) return bytes[at + index];
  return bytes[at + index + headerBytes(at + room, segmentSize)];
}

function headerBytes(position: number, segmentSize: number): number {
  return position % segmentSize === 0 ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES;
}

function align(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT;
}

async function readSegments(options: WalkOptions, base: Lsn): Promise<Buffer> {
  const { segmentSize, untilLsn, directory } = options;
  const timeline = toTimelineId(options.timeline);
  const parts: Buffer[] = [];
  let absent = 0;
  for (let start: bigint = base; start < untilLsn; start += BigInt(segmentSize)) {
    const name = walFileName(timeline, segmentNumber(toLsn(start), segmentSize), segmentSize);
    const file = await open(join(directory, name)).catch(() => null);
    if (file === null) {
      absent += 1;
      continue;
    }
    try {
      // A server made from a copy lacks what is older.
      if (absent > 0) parts.push(Buffer.alloc(absent * segmentSize));
      absent = 0;
      parts.push(await file.readFile());
    } finally {
      await file.close();
    }
  }
  return Buffer.concat(parts);
}

/** Offsets inside a WALData payload that starts at `startLsn`: of a page header, a record header and a record's data. */
export interface FlipPlaces {
  readonly pageHeader: number | null;
  readonly recordHeader: number | null;
  readonly recordBody: number | null;
}

/** Finds a place of each kind in `data`; null where there is none that is certain. */
export function flipPlaces(startLsn: Lsn, data: Uint8Array, segmentSize: SegmentSize): FlipPlaces {
  const offset = pageOffset(startLsn);
  const page = offset === 0 ? 0 : PAGE_SIZE - offset;
  const hasPage = page + LONG_HEADER_BYTES <= data.length;
  // A walsender ends a message at a record's end or on a page, so off a page a record starts here.
  const record = offset === 0 ? recordAfterHeader(startLsn, data, segmentSize) : 0;
  const isRecord =
    record !== null &&
    record + RECORD_HEADER_BYTES <= Math.min(page === 0 ? PAGE_SIZE : page, data.length);
  const total = isRecord ? Buffer.from(data).readUInt32LE(record) : 0;
  const body = isRecord ? record + RECORD_HEADER_BYTES : 0;
  const hasBody =
    isRecord &&
    total > RECORD_HEADER_BYTES &&
    body < Math.min(page === 0 ? PAGE_SIZE : page, data.length);
  return {
    pageHeader: hasPage ? page + 8 : null,
    recordHeader: isRecord ? record + 8 : null,
    recordBody: hasBody ? body : null,
  };
}

function recordAfterHeader(
  startLsn: Lsn,
  data: Uint8Array,
  segmentSize: SegmentSize,
): number | null {
  if (data.length < LONG_HEADER_BYTES) return null;
  const header = headerBytes(segmentOffset(startLsn, segmentSize), segmentSize);
  const start = header + align(Buffer.from(data).readUInt32LE(16));
  return start < PAGE_SIZE ? start : null;
}
