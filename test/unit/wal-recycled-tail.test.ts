// Is WAL of a segment that was used before ever taken for a continuation? Old segments of the same layout: behind every
// place where the new WAL may end stands an old record of the same cluster, at the place where a new one would be.
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { closeSync, openSync, renameSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { advanceLsn, PAGE_SIZE, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { ChainPosition } from '../../src/wal/records/record-chain.ts';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import { RecordWalk } from '../../src/wal/records/record-walk.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import { feedStore, saveControlOf, storeFlushed, storeOptions } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const SIZE = 1 << 20;

let directory: string;
let wal: WalFixture;

/** Segments of the same records at the same places, each to its end in zeros behind a switch. */
function sameAgain(count: number): void {
  for (let segment = 0; segment < count; segment++) {
    wal.fill(9_000, 7);
    wal.record({ body: Buffer.alloc(20_000, 9) });
    wal.fill(9_000, 11);
    wal.switchSegment();
  }
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-recycled-tail-'));
  await mkdir(join(directory, 'pg_wal'));
  wal = new WalFixture();
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

function segmentOf(index: number): Buffer {
  const start = advanceLsn(wal.startLsn, index * SIZE);
  return wal.slice(start, advanceLsn(start, SIZE));
}

function nameOf(lsn: Lsn): string {
  return walFileName(toTimelineId(1), segmentNumber(lsn, wal.segmentSize), wal.segmentSize);
}

/** Segment `index`, of which `length` bytes were written into the file that held segment `old`. */
function halfWritten(index: number, old: number, length: number): Buffer {
  const bytes = segmentOf(old);
  segmentOf(index).copy(bytes, 0, 0, length);
  return bytes;
}

/** What is known at the start of segment `index`. */
function chainBefore(index: number): ChainPosition {
  const before = advanceLsn(wal.startLsn, (index - 1) * SIZE);
  const walk = new RecordWalk({ ...wal.origin, checksums: true }, chainStart(before));
  expect(walk.scan(segmentOf(index - 1))).toBeNull();
  return walk.position();
}

/** Where a store ends that holds `bytes` as its segment `index`; what is before that has to be what the server wrote. */
function endOf(index: number, bytes: Buffer, chain = chainBefore(index)): number {
  const walk = new RecordWalk({ ...wal.origin, checksums: true }, chain);
  walk.scan(bytes);
  const end = Number(walk.position().lsn - chain.lsn);
  expect(bytes.subarray(0, end).equals(segmentOf(index).subarray(0, end))).toBe(true);
  return end;
}

/** Every end of a record, every page, and places around them and inside the header behind them. */
function places(index: number): number[] {
  const start = wal.startLsn + BigInt(index * SIZE);
  const ends = wal.records
    .map(({ endLsn }) => Number(endLsn - start))
    .filter((end) => end > 0 && end < SIZE);
  const pages = [0, 1, 2, 3, 4, 5].map((page) => page * PAGE_SIZE);
  const around = [-8, -1, 0, 1, 3, 4, 8, 12, 15, 16, 17, 20, 23, 24, 25, 40];
  const all = [...ends, ...pages].flatMap((place) => around.map((by) => place + by));
  return [...new Set(all)].filter((place) => place >= 0 && place <= SIZE);
}

describe('a check of a store from another process', () => {
  it('takes no segment for damaged that is removed and written over while it is read', async () => {
    const large = new WalFixture({ segmentSize: 4 * SIZE });
    large.fill(14 * SIZE, 7);
    const names = [0n, 1n, 2n].map((index) =>
      walFileName(
        toTimelineId(1),
        segmentNumber(toLsn(large.startLsn + index * 4n * BigInt(SIZE)), large.segmentSize),
        large.segmentSize,
      ),
    );
    const part = (index: number): Buffer =>
      large
        .bytes()
        .subarray(index * 4 * SIZE)
        .subarray(0, 4 * SIZE);
    for (const [index, name] of names.entries())
      await writeFile(join(directory, name), part(index));
    let isRemoved = false;
    const report = await verifyWal({
      directory,
      fromLsn: null,
      onProgress: () => {
        if (isRemoved) return;
        isRemoved = true;
        // Of its four pieces one was read.
        const recycled = join(directory, 'xlogtemp.recycled.1');
        renameSync(join(directory, names[0] ?? ''), recycled);
        const file = openSync(recycled, 'r+');
        writeSync(file, part(2), 0, 4 * SIZE, 0);
        closeSync(file);
      },
      signal: new AbortController().signal,
    });
    expect(isRemoved).toBe(true);
    expect(report.problems).toEqual([]);
    expect(report.notes.join()).toMatch(/went away while it was read/);
  });
});

describe('old WAL behind the end', () => {
  // One segment later is the least: what lies there is the same layout at the distance of one segment.
  it.each([1, 4])('of %i segments before is never a continuation', (distance) => {
    sameAgain(6);
    const ends = wal.records.map(({ endLsn }) => Number(endLsn - wal.startLsn) - 5 * SIZE);
    const chain = chainBefore(5);
    const cuts = places(5);
    for (const place of cuts) {
      const end = endOf(5, halfWritten(5, 5 - distance, place), chain);
      const last = ends.findLast((recordEnd) => recordEnd <= place) ?? 0;
      expect(end, `cut at ${place}`).toBeGreaterThanOrEqual(Math.max(0, last));
      // Only where the rest of a record is the same by chance, byte for byte.
      if (end > place) expect(ends).toContain(end);
    }
    expect(cuts.length).toBeGreaterThan(300);
  });

  it('is no end of a segment behind a switch, whose zeros are not all there', () => {
    wal.fill(SIZE - 1000, 3);
    wal.switchSegment();
    wal.fill(500_000, 7);
    const { startLsn } = wal.switchSegment();
    const base = Number(wal.endLsn - wal.startLsn) / SIZE - 1;
    const switchAt = Number(startLsn - wal.startLsn) - base * SIZE;
    for (let length = switchAt + 24; length < SIZE - 2000; length += 7777) {
      expect(endOf(base, halfWritten(base, 0, length))).toBe(switchAt);
    }
    expect(endOf(base, segmentOf(base))).toBe(SIZE);
  });

  it('is cut off when the store stopped within the zeros of a switch, and they come again', async () => {
    wal.fill(SIZE - 1000, 3);
    wal.switchSegment();
    wal.fill(500_000, 7);
    const { startLsn, endLsn } = wal.switchSegment();
    wal.fill(300_000, 5);
    const base = Number(endLsn - wal.startLsn) / SIZE - 1;
    const firstLsn = advanceLsn(wal.startLsn, base * SIZE);
    const path = join(directory, 'pg_wal', nameOf(firstLsn));
    await writeFile(path, halfWritten(base, 0, 700_000));
    await saveControlOf(directory, wal, { firstLsn, endLsn: startLsn });
    const store = await WalStore.open(storeOptions(directory));
    expect(store.positions().flushedLsn).toBe(startLsn);
    feedStore(store, wal);
    await storeFlushed(store, wal.endLsn);
    await store.close();
    expect((await readFile(path)).equals(segmentOf(base))).toBe(true);
  });

  it('is what a segment holds that has its name and nothing more', async () => {
    sameAgain(3);
    const [firstLsn, endLsn] = [advanceLsn(wal.startLsn, SIZE), advanceLsn(wal.startLsn, 2 * SIZE)];
    const pgWal = join(directory, 'pg_wal');
    await writeFile(join(pgWal, nameOf(firstLsn)), segmentOf(1));
    await writeFile(join(pgWal, nameOf(endLsn)), segmentOf(0));
    await writeFile(join(pgWal, 'xlogtemp.recycled.1'), segmentOf(0));
    await saveControlOf(directory, wal, { firstLsn, endLsn });
    const report = await verifyWal({
      directory,
      fromLsn: null,
      onProgress: () => {},
      signal: new AbortController().signal,
    });
    expect(report.problems).toEqual([]);
    expect(report.timelines.at(-1)?.endLsn).toBe(endLsn);
    const store = await WalStore.open(storeOptions(directory));
    expect(store.positions().flushedLsn).toBe(endLsn);
    expect(await readdir(pgWal)).toEqual([nameOf(firstLsn)]);
    feedStore(store, wal);
    await storeFlushed(store, wal.endLsn);
    await store.close();
    expect((await readFile(join(pgWal, nameOf(endLsn)))).equals(segmentOf(2))).toBe(true);
  });
});
