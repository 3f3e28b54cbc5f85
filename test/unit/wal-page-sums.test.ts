// The sums of pages: written with the pages, lost without harm, never those of other bytes.
import { mkdir, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { closeSync, openSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PAGE_SIZE, toLsn } from '../../src/pg/lsn.ts';
import { segmentNumber, toSegmentSize, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import {
  loadPageSums,
  pageSumsFile,
  PAGE_SUMS_HEADER_BYTES,
  preparePageSums,
  sumPage,
  UNKNOWN_SUM,
} from '../../src/wal/page-sums.ts';
import { PageSumsWriter } from '../../src/wal/page-sums-writer.ts';

const SIZE = toSegmentSize(1 << 20);
const PAGES = SIZE / PAGE_SIZE;
const TIMELINE = toTimelineId(3);
const SEGMENT = segmentNumber(toLsn(0x5_0030_0000n), SIZE);
const NAME = walFileName(TIMELINE, SEGMENT, SIZE);
const OF = { timeline: TIMELINE, segment: SEGMENT, segmentSize: SIZE };

let root: string;
let walDirectory: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'walcast-sums-'));
  walDirectory = join(root, 'pg_wal');
  await mkdir(walDirectory);
  await mkdir(join(root, 'page_sums'));
});

afterEach(async () => {
  await rm(root, { recursive: true });
});

/** Writes as the writer thread does: the sums around the bytes. */
class Segment implements Disposable {
  readonly sums = new PageSumsWriter(walDirectory, SIZE);
  readonly file: number;
  readonly bytes: Buffer;

  constructor(before: Buffer = Buffer.alloc(SIZE)) {
    this.bytes = Buffer.from(before);
    this.file = openSync(join(walDirectory, NAME), 'w+');
    writeSync(this.file, before, 0, SIZE, 0);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.sums.beforeWrite(NAME, offset, bytes.length);
    writeSync(this.file, bytes, 0, bytes.length, offset);
    this.bytes.set(bytes, offset);
    this.sums.afterWrite(NAME, this.file, { offset, bytes });
  }

  [Symbol.dispose](): void {
    this.sums.close();
    closeSync(this.file);
  }
}

function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed + 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    bytes[i] = state >>> 16;
  }
  return bytes;
}

async function stored(): Promise<number[]> {
  return [...((await loadPageSums(walDirectory, NAME, OF)) ?? [])];
}

/** What the sums of `bytes` are when its first `wholeBytes` were written. */
function sumsOf(bytes: Buffer, wholeBytes: number): number[] {
  return Array.from({ length: PAGES }, (_, page) => {
    const at = page * PAGE_SIZE;
    if (at + PAGE_SIZE > wholeBytes) return UNKNOWN_SUM;
    return sumPage(bytes.subarray(at, at + PAGE_SIZE));
  });
}

function sumsPath(): string {
  return pageSumsFile(walDirectory, NAME);
}

const END = { timeline: TIMELINE, segmentSize: SIZE };
const START_LSN = SEGMENT * BigInt(SIZE);

describe('the sums of the pages of a segment', () => {
  it('are those of every whole page, however it was cut into writes', async () => {
    const content = noise(SIZE, 5);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 90_000 }), { maxLength: 12 }),
        async (cuts) => {
          let at = 0;
          await rm(sumsPath(), { force: true });
          {
            using segment = new Segment();
            for (const cut of cuts) {
              const end = Math.min(SIZE, at + cut);
              if (end > at) segment.write(at, content.subarray(at, end));
              at = end;
            }
          }
          if (at > 0) expect(await stored()).toEqual(sumsOf(content, at));
        },
      ),
      { numRuns: 40 },
    );
  });

  it('are those of the new bytes when WAL was taken back and written again', async () => {
    using segment = new Segment();
    segment.write(0, noise(100_000, 1));
    const again = noise(60_000, 2);
    segment.write(50_000, again.subarray(0, 10));
    segment.write(50_010, again.subarray(10));
    expect(await stored()).toEqual(sumsOf(segment.bytes, 110_000));
  });

  it('are unknown while a page is written again, before its bytes change', async () => {
    using segment = new Segment();
    segment.write(0, noise(100_000, 1));
    segment.sums.beforeWrite(NAME, 20_000, 40_000);
    const sums = await stored();
    expect(sums.slice(2, 8)).toEqual(Array.from({ length: 6 }, () => UNKNOWN_SUM));
    expect([...sums.slice(0, 2), ...sums.slice(8)]).not.toContain(undefined);
    expect(sums[1]).toBe(sumPage(segment.bytes.subarray(PAGE_SIZE, 2 * PAGE_SIZE)));
    expect(sums[8]).toBe(sumPage(segment.bytes.subarray(8 * PAGE_SIZE, 9 * PAGE_SIZE)));
  });

  it('go on after a restart in the middle of a page, and know what was known', async () => {
    let before: Buffer;
    {
      using segment = new Segment();
      segment.write(0, noise(70_000, 1));
      before = segment.bytes;
    }
    using segment = new Segment(before);
    segment.write(70_000, noise(30_000, 2));
    expect(await stored()).toEqual(sumsOf(segment.bytes, 100_000));
  });

  it('are none when they cannot be kept, and nothing else is wrong then', async () => {
    await rm(join(root, 'page_sums'), { recursive: true });
    using segment = new Segment();
    segment.write(0, noise(70_000, 1));
    expect(await loadPageSums(walDirectory, NAME, OF)).toBeNull();
  });

  it("are unknown where the file is short, torn, another segment's or full of nonsense", async () => {
    {
      using segment = new Segment();
      segment.write(0, noise(SIZE, 1));
    }
    const path = sumsPath();
    const whole = await readFile(path);
    const known = await stored();
    expect(known).not.toContain(UNKNOWN_SUM);
    await truncate(path, PAGE_SUMS_HEADER_BYTES + 8 * 5 + 3);
    expect(
      (await stored()).map((sum, page) => sum === (page < 5 ? known[page] : UNKNOWN_SUM)),
    ).not.toContain(false);
    for (let bit = 0; bit < 64; bit++) {
      const torn = Buffer.from(whole);
      const at = PAGE_SUMS_HEADER_BYTES + 8 * 7 + (bit >> 3);
      torn[at] = (torn[at] ?? 0) ^ (1 << (bit & 7));
      await writeFile(path, torn);
      expect((await stored())[7]).toBe(UNKNOWN_SUM);
    }
    await writeFile(path, whole);
    const other = await loadPageSums(walDirectory, NAME, { ...OF, timeline: toTimelineId(4) });
    expect(new Set(other)).toEqual(new Set([UNKNOWN_SUM]));
    await writeFile(path, noise(whole.length, 9));
    expect(new Set(await stored())).toEqual(new Set([UNKNOWN_SUM]));
    {
      using segment = new Segment();
      segment.write(0, noise(20_000, 4));
      expect(await stored()).toEqual(sumsOf(segment.bytes, 20_000));
    }
  });

  it('are cut at the end that a start found, and go with their segments', async () => {
    {
      using segment = new Segment();
      segment.write(0, noise(SIZE, 1));
    }
    const known = await stored();
    const orphan = pageSumsFile(
      walDirectory,
      walFileName(TIMELINE, segmentNumber(toLsn(0n), SIZE), SIZE),
    );
    await writeFile(orphan, 'x');
    await preparePageSums(walDirectory, { ...END, endLsn: toLsn(START_LSN + 100_000n) });
    await expect(stat(orphan)).rejects.toThrow('ENOENT');
    const left = await stored();
    expect(left.slice(0, 12)).toEqual(known.slice(0, 12));
    expect(new Set(left.slice(12))).toEqual(new Set([UNKNOWN_SUM]));
    await rm(join(walDirectory, NAME));
    await preparePageSums(walDirectory, { ...END, endLsn: toLsn(START_LSN) });
    await expect(stat(sumsPath())).rejects.toThrow('ENOENT');
  });
});
