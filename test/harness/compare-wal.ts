// Are two WAL directories the same bytes where they should be? Compares segment files of a primary, of walcast's store
// and of standbys, and serves as the truth for what a recorder saw.
import { createHash } from 'node:crypto';
import { open, readdir } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { PAGE_SIZE, formatLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import {
  parseWalFileName,
  segmentNumber,
  segmentOffset,
  segmentStart,
  walFileName,
} from '../../src/pg/segment.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { PageTruth } from './ledger-checks.ts';

/** The outcome of a comparison; `comparedBytes` 0 means that nothing was in both. */
export interface WalComparison {
  readonly comparedBytes: number;
  readonly comparedFiles: number;
  /** Sentences: the first difference of each file that has one. */
  readonly differences: string[];
}

/** What to compare. */
export interface CompareOptions {
  /** The side that is right by definition. */
  readonly expected: string;
  readonly actual: string;
  readonly segmentSize: SegmentSize;
  /** Bytes at and after this position are not compared: they may not have been written, or be left over in a recycled file. */
  readonly untilLsn: Lsn;
  /** Bytes before this position are not compared; default: everything both have. */
  readonly fromLsn?: Lsn;
  /** Files of this timeline only; default: of all. */
  readonly timeline?: number;
}

/**
 * Compares every segment file that both directories have, up to `untilLsn`, byte for byte. A file of ours may be
 * `.partial` or cut short after `untilLsn`; one that ends before it is a difference.
 */
export async function compareWal(options: CompareOptions): Promise<WalComparison> {
  const [expected, actual] = await Promise.all([
    segmentFiles(options.expected, options.segmentSize),
    segmentFiles(options.actual, options.segmentSize),
  ]);
  const differences: string[] = [];
  let comparedBytes = 0;
  let comparedFiles = 0;
  for (const [name, file] of [...actual].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const other = expected.get(name);
    if (other === undefined || !isOfTimeline(name, options)) continue;
    const span = comparedSpan(name, options);
    if (span.until <= span.from) continue;
    const result = await compareFiles(
      join(options.expected, other),
      join(options.actual, file),
      span,
    );
    comparedFiles += 1;
    comparedBytes += span.until - span.from;
    if (result !== null) {
      const lsn = toLsn(span.startLsn + BigInt(result.offset));
      differences.push(
        `${file} differs at ${formatLsn(lsn)} (offset ${result.offset}): ${result.what}`,
      );
    }
  }
  return { comparedBytes, comparedFiles, differences };
}

/** Names of the segment files missing in `directory` for the span [fromLsn, untilLsn) of `timeline`. */
export async function missingSegments(options: {
  directory: string;
  timeline: number;
  segmentSize: SegmentSize;
  fromLsn: Lsn;
  untilLsn: Lsn;
}): Promise<string[]> {
  const files = await segmentFiles(options.directory, options.segmentSize);
  const missing: string[] = [];
  const { segmentSize, untilLsn } = options;
  const timeline = toTimelineId(options.timeline);
  let segment = segmentNumber(options.fromLsn, segmentSize);
  while (segmentStart(segment, segmentSize) < untilLsn) {
    const name = walFileName(timeline, segment, segmentSize);
    if (!files.has(name)) missing.push(name);
    segment = segmentNumber(
      toLsn(segmentStart(segment, segmentSize) + BigInt(segmentSize)),
      segmentSize,
    );
  }
  return missing;
}

/** The bytes of `directory` as the truth for a recorder's page digests. Reads from disk at each call. */
export function walDirectoryTruth(directory: string, segmentSize: SegmentSize): PageTruth {
  return async (timeline, startLsn, endLsn) => {
    const name = walFileName(
      toTimelineId(timeline),
      segmentNumber(startLsn, segmentSize),
      segmentSize,
    );
    const file = await open(join(directory, name)).catch(() => null);
    if (file === null) return null;
    try {
      const bytes = await readAt(
        file,
        segmentOffset(startLsn, segmentSize),
        Number(endLsn - startLsn),
      );
      return bytes.length === Number(endLsn - startLsn)
        ? createHash('sha1').update(bytes).digest('hex')
        : null;
    } finally {
      await file.close();
    }
  };
}

interface Span {
  /** LSN of the file's first byte. */
  readonly startLsn: Lsn;
  /** Offsets in the file. */
  readonly from: number;
  readonly until: number;
}

/** By name without `.partial`: the file there is. A whole file wins over a partial one. */
async function segmentFiles(directory: string, size: SegmentSize): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const file of (await readdir(directory)).toSorted()) {
    const name = file.replace(/\.partial$/, '');
    if (parseWalFileName(name, size) !== null && !files.has(name)) files.set(name, file);
  }
  return files;
}

function isOfTimeline(name: string, { timeline, segmentSize }: CompareOptions): boolean {
  return timeline === undefined || parseWalFileName(name, segmentSize)?.timeline === timeline;
}

function comparedSpan(name: string, options: CompareOptions): Span {
  const parsed = parseWalFileName(name, options.segmentSize);
  const startLsn = segmentStart(
    parsed?.segment ?? segmentNumber(toLsn(0n), options.segmentSize),
    options.segmentSize,
  );
  const clamp = (lsn: bigint): number =>
    Number(
      lsn < startLsn
        ? 0n
        : lsn - startLsn > options.segmentSize
          ? options.segmentSize
          : lsn - startLsn,
    );
  return { startLsn, from: clamp(options.fromLsn ?? 0n), until: clamp(options.untilLsn) };
}

async function compareFiles(
  expectedPath: string,
  actualPath: string,
  span: Span,
): Promise<{ offset: number; what: string } | null> {
  const [expected, actual] = await Promise.all([open(expectedPath), open(actualPath)]);
  try {
    for (let offset = span.from; offset < span.until;) {
      const length = Math.min(1 << 20, span.until - offset);
      const [a, b] = await Promise.all([
        readAt(expected, offset, length),
        readAt(actual, offset, length),
      ]);
      if (!a.equals(b)) return firstDifference(a, b, offset);
      if (a.length < length) return { offset: offset + a.length, what: 'both files end here' };
      offset += length;
    }
    return null;
  } finally {
    await Promise.all([expected.close(), actual.close()]);
  }
}

function firstDifference(a: Buffer, b: Buffer, base: number): { offset: number; what: string } {
  const shared = Math.min(a.length, b.length);
  for (let index = 0; index < shared; index += 1) {
    if (a[index] !== b[index]) {
      const offset = base + index;
      const page = Math.floor(offset / PAGE_SIZE);
      return {
        offset,
        what: `${hex(a[index])} expected, ${hex(b[index])} found (page ${page} of the file)`,
      };
    }
  }
  return {
    offset: base + shared,
    what: `${b.length < a.length ? 'ours' : 'the expected file'} ends here`,
  };
}

async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await file.read(buffer, filled, length - filled, offset + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

function hex(value: number | undefined): string {
  return `0x${(value ?? 0).toString(16).padStart(2, '0')}`;
}
