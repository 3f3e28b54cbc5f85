// A segment's file is written anew while the store goes on: what removal and a timeline switch did meanwhile stands, an
// error of the disk changes nothing, and of a damaged segment no page counts as good whose record does not end well.
import { mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import { nextSegment, segmentNumber, segmentStart, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { checkSegment, isProven } from '../../src/wal/page-sums-check.ts';
import { SegmentReplacement } from '../../src/wal/segment-replacement.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const TIMELINE = toTimelineId(1);

let root: string;
let walDirectory: string;
let wal: WalFixture;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'walcast-replacement-'));
  walDirectory = join(root, 'pg_wal');
  await mkdir(walDirectory);
  await mkdir(join(root, 'page_sums'));
  wal = new WalFixture();
});

afterEach(async () => {
  vi.restoreAllMocks();
  await rm(root, { recursive: true });
});

interface Segment {
  readonly name: string;
  readonly segment: ReturnType<typeof segmentNumber>;
  readonly timeline: typeof TIMELINE;
  readonly path: string;
  readonly bytes: Buffer;
}

function firstSegment(): Segment {
  const segment = segmentNumber(toLsn(wal.startLsn), wal.segmentSize);
  const name = walFileName(TIMELINE, segment, wal.segmentSize);
  const bytes = wal.slice(wal.startLsn, wal.startLsn + BigInt(wal.segmentSize));
  return { name, segment, timeline: TIMELINE, path: join(walDirectory, name), bytes };
}

async function begin(of: Segment): Promise<SegmentReplacement> {
  const replacement = await SegmentReplacement.begin({ walDirectory, origin: wal.origin }, of);
  await replacement.write(of.bytes);
  return replacement;
}

describe('a segment that is written anew', () => {
  beforeEach(() => wal.fill(wal.segmentSize + 50_000, 3));

  it('does not take the place of one that was removed, or left behind, while it was checked', async () => {
    const of = firstSegment();
    const replacement = await begin(of);
    const done = await replacement.finish({ isWanted: () => false, isRemoved: () => true });
    await replacement.abandon();
    expect(done).toBeNull();
    expect(await readdir(walDirectory)).toEqual([]);
  });

  it('does not come back when it is removed while it takes the name', async () => {
    const of = firstSegment();
    await writeFile(of.path, Buffer.alloc(of.bytes.length));
    const replacement = await begin(of);
    await replacement.finish({ isWanted: () => true, isRemoved: () => true });
    await replacement.abandon();
    expect(await readdir(walDirectory)).toEqual([]);
    expect(await readdir(join(root, 'page_sums'))).toEqual([]);
  });

  it('is not put in its place when it cannot be made durable', async () => {
    const of = firstSegment();
    const before = Buffer.alloc(of.bytes.length, 7);
    await writeFile(of.path, before);
    const replacement = await begin(of);
    const handle = await open(of.path, 'r');
    const prototype: object = Object.getPrototypeOf(handle);
    await handle.close();
    const failed = Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO' });
    vi.spyOn(prototype as { sync: () => Promise<void> }, 'sync').mockRejectedValue(failed);
    const owner = { isWanted: () => true, isRemoved: () => false };
    await expect(replacement.finish(owner)).rejects.toThrow('EIO');
    await replacement.abandon();
    expect((await readFile(of.path)).equals(before)).toBe(true);
    expect(await readdir(walDirectory)).toEqual([of.name]);
  });
});

describe('a segment whose records are checked', () => {
  it('has no good page in a record that is cut off by a bad page', async () => {
    wal.fill(90_000, 3);
    const { startLsn } = wal.record({ body: Buffer.alloc(200_000, 9) });
    wal.fill(wal.segmentSize, 4);
    const of = firstSegment();
    const first = Math.floor(Number(startLsn - wal.startLsn) / 8192);
    // A block of the disk that lies across two pages, the header of the second one in it.
    const damaged = Buffer.from(of.bytes).fill(
      0xa5,
      (first + 6) * 8192 - 2048,
      (first + 6) * 8192 + 2048,
    );
    await writeFile(of.path, damaged);
    const endLsn = segmentStart(nextSegment(of.segment), wal.segmentSize);
    const checked = await checkSegment(
      {
        origin: wal.origin,
        useFile: async (name, action) => {
          const file = await open(join(walDirectory, name), 'r');
          try {
            return await action(file);
          } finally {
            await file.close();
          }
        },
      },
      { name: of.name, segment: of.segment, endLsn },
    );
    expect(checked.failure).not.toBeNull();
    expect(isProven(checked, first - 1)).toBe(true);
    for (let page = first; page < checked.sums.length; page++) {
      expect([page, checked.sums[page]]).toEqual([page, -1]);
    }
  });
});
