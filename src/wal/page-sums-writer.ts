// Which sum does each page have that is written now? Part of the writer thread: takes the sum of a page when its last byte
// is written, and notes it in the file of its segment.
//
// Nothing here ever fails a write of WAL: when a sum cannot be noted, those of that segment are given up, and a check of
// its records stands in for them later. What must not happen is that a sum outlives its bytes: a page that has one is
// noted as unknown, durably, before it is written again.
import {
  closeSync,
  constants,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
} from 'node:fs';
import { newFileMode, writeFullySync } from '../base/durable-fs.ts';
import { PAGE_SIZE } from '../pg/lsn.ts';
import { parseWalFileName } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import {
  encodePageSumsHeader,
  entryOffset,
  PAGE_SUM_BYTES,
  PAGE_SUMS_HEADER_BYTES,
  pageSumsFile,
  pageSumsSeed,
  putPageSum,
  sumPage,
} from './page-sums.ts';
import { isZeroRange } from './records/zeros.ts';

/** The sums of one segment. */
interface OpenSums {
  readonly name: string;
  readonly fd: number;
  readonly seed: number;
  /** What the file holds, a prefix of it; its length is the header's and one entry a page. */
  readonly bytes: Buffer;
  readonly view: DataView;
}

/** Keeps the sums of the segment that is being written. Every method blocks, and none throws. */
export class PageSumsWriter {
  readonly #walDirectory: string;
  readonly #segmentSize: SegmentSize;
  /** The segment this is about, also when its sums were given up. */
  #name: string | null = null;
  #open: OpenSums | null = null;
  /** The page that is not whole yet: the sum of its bytes before `offset`, an offset in the segment. */
  #partial: { readonly offset: number; readonly sum: number } | null = null;
  readonly #begun = new Uint8Array(PAGE_SIZE);

  /** Without the directory of sums beside `walDirectory` none are kept. */
  constructor(walDirectory: string, segmentSize: SegmentSize) {
    this.#walDirectory = walDirectory;
    this.#segmentSize = segmentSize;
  }

  /** Before `length` bytes are written at `offset` of the segment `name`: what was known of their pages is unknown, durably. */
  beforeWrite(name: string, offset: number, length: number): void {
    this.#guard(() => {
      if (this.#name !== name) this.#begin(name);
      const sums = this.#open;
      if (sums === null || length === 0) return;
      const from = entryOffset(Math.floor(offset / PAGE_SIZE));
      const to = entryOffset(Math.floor((offset + length - 1) / PAGE_SIZE) + 1);
      const known = sums.bytes.subarray(from, to);
      if (isZeroRange(known, 0, known.length)) return;
      known.fill(0);
      this.#partial = null;
      writeFullySync(sums.fd, known, from);
      fdatasyncSync(sums.fd);
    });
  }

  /** `bytes` have been written at `offset` of the segment `name`, whose file is `walFd` (readable). */
  afterWrite(
    name: string,
    walFd: number,
    { offset, bytes }: { readonly offset: number; readonly bytes: Uint8Array },
  ): void {
    this.#guard(() => {
      const sums = this.#open;
      if (sums === null || this.#name !== name) return;
      const before = offset % PAGE_SIZE;
      let at = before === 0 ? 0 : this.#finishPage(sums, walFd, { offset, bytes });
      const first = Math.floor(offset / PAGE_SIZE);
      for (; at + PAGE_SIZE <= bytes.length; at += PAGE_SIZE) {
        this.#put(sums, offset + at, sumPage(bytes.subarray(at, at + PAGE_SIZE)));
      }
      if (at < bytes.length) {
        this.#partial = { offset: offset + bytes.length, sum: sumPage(bytes.subarray(at)) };
      }
      const whole = Math.floor((offset + bytes.length) / PAGE_SIZE);
      if (whole === first) return;
      const [from, to] = [entryOffset(first), entryOffset(whole)];
      writeFullySync(sums.fd, sums.bytes.subarray(from, to), from);
    });
  }

  close(): void {
    const sums = this.#open;
    this.#name = null;
    this.#open = null;
    this.#partial = null;
    if (sums !== null) closeQuietly(sums.fd);
  }

  /** Takes the bytes that belong to a page begun before; returns how many. */
  #finishPage(
    sums: OpenSums,
    walFd: number,
    { offset, bytes }: { readonly offset: number; readonly bytes: Uint8Array },
  ): number {
    const before = offset % PAGE_SIZE;
    const take = Math.min(PAGE_SIZE - before, bytes.length);
    const begun =
      this.#partial?.offset === offset
        ? this.#partial.sum
        : this.#readBegun(walFd, offset - before, before);
    this.#partial = null;
    if (begun === null) return take;
    const sum = sumPage(bytes.subarray(0, take), begun);
    if (before + take === PAGE_SIZE) this.#put(sums, offset - before, sum);
    else this.#partial = { offset: offset + take, sum };
    return take;
  }

  /** After a start, or when WAL was taken back: the page begins in the file. */
  #readBegun(walFd: number, pageOffset: number, length: number): number | null {
    const begun = this.#begun.subarray(0, length);
    return readSync(walFd, begun, 0, length, pageOffset) === length ? sumPage(begun) : null;
  }

  #put(sums: OpenSums, pageOffset: number, sum: number): void {
    const page = pageOffset / PAGE_SIZE;
    putPageSum(sums.view, entryOffset(page), { seed: sums.seed, page, sum });
  }

  #begin(name: string): void {
    this.close();
    this.#name = name;
    const segmentSize = this.#segmentSize;
    const parsed = parseWalFileName(name, segmentSize);
    if (parsed === null) return;
    const of = { ...parsed, segmentSize };
    const flags = constants.O_RDWR | constants.O_CREAT;
    const fd = openSync(pageSumsFile(this.#walDirectory, name), flags, newFileMode());
    const bytes = Buffer.alloc(PAGE_SUMS_HEADER_BYTES + (segmentSize / PAGE_SIZE) * PAGE_SUM_BYTES);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#open = { name, fd, seed: pageSumsSeed(of), bytes, view };
    if (fstatSync(fd).size > 0) readSync(fd, bytes, 0, bytes.length, 0);
    const header = encodePageSumsHeader(of);
    if (header.equals(bytes.subarray(0, header.length))) return;
    bytes.fill(0);
    header.copy(bytes);
    ftruncateSync(fd, 0);
    writeFullySync(fd, header, 0);
  }

  /** Sums of a segment are given up for as long as it is written. */
  #guard(action: () => void): void {
    try {
      action();
    } catch {
      this.#giveUp();
    }
  }

  #giveUp(): void {
    const sums = this.#open;
    this.#open = null;
    this.#partial = null;
    if (sums === null) return;
    try {
      ftruncateSync(sums.fd, 0);
    } catch {
      // What is left there is of bytes that were there before; whoever finds them different fetches them again.
    }
    closeQuietly(sums.fd);
  }
}

/** Nothing was promised of what is in it. */
function closeQuietly(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // The descriptor is gone all the same.
  }
}
