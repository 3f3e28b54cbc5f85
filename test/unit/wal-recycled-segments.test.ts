// Are the files of removed segments used again, few of them, and is what they held before never taken for WAL?
import {
  copyFile,
  link,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { advanceLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, toSegmentSize, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { FileCache, isOpenForReading } from '../../src/wal/file-cache.ts';
import { listWal } from '../../src/wal/listing.ts';
import { RECYCLED_SEGMENT_PREFIX, RecycledSegments } from '../../src/wal/recycled-segments.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import { feedStore, readStored, storeFlushed, storeOptions } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

vi.setConfig({ testTimeout: 60_000 });

/** What happens just before the next rename. */
const disk = vi.hoisted(() => ({ beforeRename: async (): Promise<void> => {} }));

vi.mock('node:fs/promises', async (importOriginal) => {
  const original = await importOriginal<typeof import('node:fs/promises')>();
  const rename = async (from: string, to: string): Promise<void> => {
    await disk.beforeRename();
    await original.rename(from, to);
  };
  return { ...original, rename };
});

const TIMELINE = toTimelineId(1);
const KEEP_BYTES = 2 << 20;
let directory: string;
let wal: WalFixture;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-recycled-'));
  wal = new WalFixture();
});

afterEach(async () => {
  disk.beforeRename = async () => {};
  await rm(directory, { recursive: true });
});

async function openFresh(data: string): Promise<WalStore> {
  const store = await WalStore.open(storeOptions(data, { walKeepSizeBytes: KEEP_BYTES }));
  const server = { serverVersion: '15.18', parameters: new Map(), settings: new Map() };
  await store.initialize({ ...wal.origin, ...server, timeline: TIMELINE }, wal.startLsn);
  store.setRetention(() => null);
  return store;
}

/** Feeds piece after piece, each of them flushed before the next, as a quiet server would send. */
async function feedSlowly(
  store: WalStore,
  endLsn: Lsn,
  onPiece: () => Promise<void>,
): Promise<void> {
  while (store.nextLsn() < endLsn) {
    const next = advanceLsn(store.nextLsn(), wal.segmentSize / 4);
    feedStore(store, wal, { endLsn: next < endLsn ? next : endLsn });
    const ends = wal.records.map((record) => record.endLsn);
    await storeFlushed(store, ends.findLast((end) => end <= store.nextLsn()) ?? wal.startLsn);
    await onPiece();
  }
}

/** As a crash would leave it. What goes away meanwhile is needed by nobody. */
async function copyStore(from: string, to: string): Promise<void> {
  await mkdir(join(to, 'pg_wal'), { recursive: true, mode: 0o700 });
  await copyFile(join(from, 'walcast.control'), join(to, 'walcast.control'));
  for (const name of await readdir(join(from, 'pg_wal'))) {
    await copyFile(join(from, 'pg_wal', name), join(to, 'pg_wal', name)).catch(() => {});
  }
}

function nameOf(lsn: Lsn): string {
  return walFileName(TIMELINE, segmentNumber(lsn, wal.segmentSize), wal.segmentSize);
}

describe('a store that removes WAL', () => {
  it('makes its new segments of the old files and holds the right bytes', async () => {
    wal.fill(16 << 20, 7);
    const store = await openFresh(directory);
    const pgWal = join(directory, 'pg_wal');
    const inodes = new Set<number>();
    let filesMax = 0;
    await feedSlowly(store, wal.endLsn, async () => {
      const names = await readdir(pgWal);
      filesMax = Math.max(filesMax, names.length);
      for (const name of names) {
        const found = await stat(join(pgWal, name)).catch(() => null);
        if (found !== null) inodes.add(found.ino);
      }
    });
    const removed = store.status().segmentsRemoved;
    expect(removed).toBeGreaterThan(10);
    // Without recycling every segment is a file of its own (though a file system may give an inode again).
    expect(inodes.size).toBeLessThan(removed);
    expect(filesMax).toBeLessThan(10);
    const oldestLsn = store.oldestLsn();
    const all = await readStored(store, TIMELINE, [oldestLsn, wal.endLsn]);
    expect(Buffer.from(all as Uint8Array).equals(wal.slice(oldestLsn, wal.endLsn))).toBe(true);
    await store.close();
    expect((await readdir(pgWal)).filter((name) => name.startsWith('xlogtemp.'))).toEqual([]);
  });

  it('has an end that every reader finds, wherever a crash leaves it', async () => {
    // The same pattern again and again: old records lie where new ones would be.
    for (let count = 0; count < 12; count++) wal.fill(1 << 20, 7);
    const data = join(directory, 'data');
    const store = await openFresh(data);
    const copies: { path: string; endLsn: Lsn }[] = [];
    await feedSlowly(store, wal.endLsn, async () => {
      const { flushedLsn, writtenLsn } = store.positions();
      if (store.status().segmentsRemoved < 3 || writtenLsn !== store.nextLsn()) return;
      const path = join(directory, `copy-${copies.length}`);
      await copyStore(data, path);
      copies.push({ path, endLsn: flushedLsn });
    });
    await store.close();
    expect(copies.length).toBeGreaterThan(10);
    let withOldBytes = 0;
    for (const { path, endLsn } of copies) {
      const pgWal = join(path, 'pg_wal');
      const report = await verifyWal({
        directory: path,
        fromLsn: null,
        onProgress: () => {},
        signal: new AbortController().signal,
      });
      expect(report.problems).toEqual([]);
      expect(report.timelines.at(-1)?.endLsn).toBe(endLsn);
      const file = await readFile(join(pgWal, nameOf(advanceLsn(endLsn, -1))));
      const offset = Number(endLsn % BigInt(wal.segmentSize));
      if (offset > 0 && file.subarray(offset).some((byte) => byte !== 0)) withOldBytes++;
      const recovered = await WalStore.open(storeOptions(path));
      expect(recovered.positions().flushedLsn).toBe(endLsn);
      await recovered.close();
      const kinds = (await listWal(path)).files.map(({ kind }) => kind);
      expect(new Set(kinds)).toEqual(new Set(['segment']));
      const after = await readFile(join(pgWal, nameOf(advanceLsn(endLsn, -1))));
      if (offset > 0) expect(after.subarray(offset).every((byte) => byte === 0)).toBe(true);
    }
    // The crashes that this is about did happen.
    expect(withOldBytes).toBeGreaterThan(5);
  });
});

describe('a file that is offered for another use', () => {
  const size = toSegmentSize(1 << 20);
  const offered: string[] = [];
  let pgWal: string;

  beforeEach(async () => {
    pgWal = join(directory, 'pg_wal');
    await mkdir(pgWal);
    offered.length = 0;
  });

  function recycling(filesMax = 2): RecycledSegments {
    return new RecycledSegments({
      segmentSize: size,
      filesMax,
      offer: (path) => offered.push(path) > 0,
    });
  }

  async function segment(index: number, bytes = Buffer.alloc(size, index)): Promise<string> {
    const path = join(pgWal, nameOf(toLsn(BigInt(index) * BigInt(size))));
    const handle = await open(path, 'w');
    await handle.write(bytes);
    await handle.truncate(size);
    // Blocks are counted once they are allocated.
    await handle.sync();
    await handle.close();
    return path;
  }

  it('is taken under a name that nothing takes for WAL, a bounded number of times', async () => {
    const recycled = recycling();
    expect(await recycled.take(await segment(1))).toBe(true);
    expect(await recycled.take(await segment(2))).toBe(true);
    const third = await segment(3);
    expect(await recycled.take(third)).toBe(false);
    expect(offered.map((path) => path.slice(pgWal.length + 1))).toEqual([
      `${RECYCLED_SEGMENT_PREFIX}1`,
      `${RECYCLED_SEGMENT_PREFIX}2`,
    ]);
    const names = (await readdir(pgWal)).filter((name) => !name.startsWith('xlogtemp.'));
    expect(names).toEqual([third.slice(-24)]);
    recycled.used();
    expect(await recycled.take(third)).toBe(true);
  });

  it('is not taken while a reader has it open, which goes on to see what was in it', async () => {
    const path = await segment(5);
    const files = new FileCache(1);
    await files.use(path, async (file) => {
      expect(await recycling().take(path)).toBe(false);
      await rm(path);
      const bytes = Buffer.alloc(size);
      expect((await file.read(bytes, 0, size, 0)).bytesRead).toBe(size);
      expect(bytes.every((byte) => byte === 5)).toBe(true);
      files.forget(path);
    });
    await vi.waitFor(() => expect(isOpenForReading(path)).toBe(false));
  });

  it('is let go when a reader came while it was renamed', async () => {
    const path = await segment(5);
    const files = new FileCache(1);
    const recycled = recycling();
    disk.beforeRename = async () => await files.use(path, async () => {});
    expect(await recycled.take(path)).toBe(true);
    expect(offered).toEqual([]);
    expect(await readdir(pgWal)).toEqual([]);
    disk.beforeRename = async () => {};
    expect(await recycled.take(await segment(6))).toBe(true);
    files.clear();
  });

  it.each([
    ['has a second name', async (path: string) => await link(path, join(directory, 'backup'))],
    [
      'is too short',
      async (path: string) => {
        const handle = await open(path, 'r+');
        await handle.truncate(1000);
        await handle.close();
      },
    ],
    ['has holes', async () => await segment(5, Buffer.alloc(4096, 1))],
  ] as const)('is let go when it %s', async (_, spoil) => {
    const path = await segment(5);
    await spoil(path);
    expect(await recycling().take(path)).toBe(true);
    expect(offered).toEqual([]);
    expect(await readdir(pgWal)).toEqual([]);
  });

  it('stays where it is when it cannot be renamed', async () => {
    expect(await recycling().take(join(pgWal, nameOf(wal.startLsn)))).toBe(false);
    expect(offered).toEqual([]);
  });
});
