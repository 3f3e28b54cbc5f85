// What was each page of a segment when it was received? One small file a segment, beside the segments: a header that says
// which segment it is about, then eight bytes a page: the sum and a check of that sum, all zero while it is unknown.
//
// A sum may be lost at any time (nothing waits for these files), but is never one of other bytes: what is missing, short,
// torn or damaged reads as "unknown". An entry checks itself, with the segment it belongs to, so a reader needs no header.
import { readdir, open, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { ignoreMissing, readFully, syncDirectory } from '../base/durable-fs.ts';
import { PAGE_SIZE } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentNumber, segmentOffset, walFileName } from '../pg/segment.ts';
import type { SegmentNumber, SegmentSize } from '../pg/segment.ts';
import type { TimelineId } from '../pg/timeline.ts';

/** Name of the directory inside the data directory, beside `pg_wal`. */
export const PAGE_SUMS_DIRECTORY = 'page_sums';

/** `WCPS`, little-endian. */
const MAGIC = 0x53504357;
const VERSION = 1;

/** Bytes before the first entry, and of each entry. */
export const PAGE_SUMS_HEADER_BYTES = 32;
export const PAGE_SUM_BYTES = 8;

/** Stands for a sum that is not known. */
export const UNKNOWN_SUM = -1;

/** The segment that sums are about. */
export interface SummedSegment {
  readonly timeline: TimelineId;
  readonly segment: SegmentNumber;
  readonly segmentSize: SegmentSize;
}

/** Where the sums of the segments in `walDirectory` are. The directory is made with the data directory. */
export function pageSumsDirectory(walDirectory: string): string {
  return join(dirname(walDirectory), PAGE_SUMS_DIRECTORY);
}

/** The file with the sums of the segment `name`. */
export function pageSumsFile(walDirectory: string, name: string): string {
  return join(pageSumsDirectory(walDirectory), name);
}

/** The sum of a page, or of its first bytes; to be continued with `sum`. (CRC-32 of zlib, unsigned) */
export function sumPage(bytes: Uint8Array, sum = 0): number {
  return crc32(bytes, sum);
}

/** What every entry of a segment is mixed with, so that one of another segment is none. */
export function pageSumsSeed(of: SummedSegment): number {
  return crc32(identityBytes(of));
}

/** The header of the file. */
export function encodePageSumsHeader(of: SummedSegment): Buffer {
  const bytes = Buffer.alloc(PAGE_SUMS_HEADER_BYTES);
  identityBytes(of).copy(bytes);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 28)), 28);
  return bytes;
}

/** Puts the entry of page `page` (counted in its segment) at `view[at]`. */
export function putPageSum(
  view: DataView,
  at: number,
  entry: { readonly seed: number; readonly page: number; readonly sum: number },
): void {
  view.setUint32(at, entry.sum, true);
  view.setUint32(at + 4, checkOf(entry), true);
}

/** The sum in the entry at `view[at]`, or {@link UNKNOWN_SUM}. */
export function getPageSum(
  view: DataView,
  at: number,
  of: { readonly seed: number; readonly page: number },
): number {
  const sum = view.getUint32(at, true);
  return view.getUint32(at + 4, true) === checkOf({ ...of, sum }) ? sum : UNKNOWN_SUM;
}

/** Reads the sums of `count` pages from page `first` on; those that are not known are {@link UNKNOWN_SUM}. */
export async function readPageSums(
  file: FileHandle,
  of: SummedSegment,
  pages: { readonly first: number; readonly count: number },
): Promise<Float64Array> {
  const bytes = Buffer.alloc(pages.count * PAGE_SUM_BYTES);
  await readFully(file, bytes, entryOffset(pages.first));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const seed = pageSumsSeed(of);
  return Float64Array.from({ length: pages.count }, (_, index) =>
    getPageSum(view, index * PAGE_SUM_BYTES, { seed, page: pages.first + index }),
  );
}

/** Byte of the file at which the entry of a page begins. */
export function entryOffset(page: number): number {
  return PAGE_SUMS_HEADER_BYTES + page * PAGE_SUM_BYTES;
}

/** All sums of the segment `name`; null when there is no file of them. Rejects with the system's error. */
export async function loadPageSums(
  walDirectory: string,
  name: string,
  of: SummedSegment,
): Promise<Float64Array | null> {
  const file = await open(pageSumsFile(walDirectory, name), 'r').catch(ignoreMissing);
  if (file === null) return null;
  try {
    return await readPageSums(file, of, { first: 0, count: of.segmentSize / PAGE_SIZE });
  } finally {
    await file.close();
  }
}

/** Forgets the sums of a segment that is removed, or becomes another one. Never rejects: a start removes what is left. */
export async function removePageSums(walDirectory: string, name: string): Promise<void> {
  await unlink(pageSumsFile(walDirectory, name)).catch(() => {});
}

/**
 * To be called at a start, when the end of the WAL is known and before anything is written: sums of segments that are not
 * in `walDirectory` are removed, and those of pages that are not whole at `endLsn` become unknown. Durable when it
 * resolves. Rejects with the system's error.
 */
export async function preparePageSums(
  walDirectory: string,
  end: {
    readonly timeline: TimelineId;
    readonly endLsn: Lsn;
    readonly segmentSize: SegmentSize;
  },
): Promise<void> {
  const directory = pageSumsDirectory(walDirectory);
  const segments = new Set(await readdir(walDirectory));
  const names = (await readdir(directory).catch(ignoreMissing)) ?? [];
  const orphans = names.filter((name) => !segments.has(name));
  for (const name of orphans) await unlink(join(directory, name));
  const last = walFileName(
    end.timeline,
    segmentNumber(end.endLsn, end.segmentSize),
    end.segmentSize,
  );
  const pages = Math.floor(segmentOffset(end.endLsn, end.segmentSize) / PAGE_SIZE);
  if (names.includes(last) && segments.has(last)) await cutSums(join(directory, last), pages);
  if (orphans.length > 0) await syncDirectory(directory);
}

async function cutSums(path: string, pages: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const { size } = await file.stat();
    if (size <= entryOffset(pages)) return;
    await file.truncate(entryOffset(pages));
    await file.datasync();
  } finally {
    await file.close();
  }
}

function identityBytes({ timeline, segment, segmentSize }: SummedSegment): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(VERSION, 4);
  bytes.writeUInt32LE(segmentSize, 8);
  bytes.writeUInt32LE(timeline, 12);
  bytes.writeBigUInt64LE(segment, 16);
  return bytes;
}

/** Never that of an entry of zeros: those mean that nothing is known. */
function checkOf(entry: { seed: number; page: number; sum: number }): number {
  const check = (~entry.sum ^ entry.seed ^ Math.imul(entry.page + 1, 0x9e3779b1)) >>> 0;
  return entry.sum === 0 && check === 0 ? 1 : check;
}
