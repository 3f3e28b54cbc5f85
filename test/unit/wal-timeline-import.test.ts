import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { formatLsn, toLsn } from '../../src/pg/lsn.ts';
import { segmentNumber, walFileName } from '../../src/pg/segment.ts';
import type { SegmentNumber } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineId } from '../../src/pg/timeline.ts';
import { importWal } from '../../src/wal/import.ts';
import type { ImportReport } from '../../src/wal/import.ts';
import { listWal } from '../../src/wal/listing.ts';
import { resetStore, storeContent } from '../../src/wal/reset.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import { feedStore, readStored, storeFlushed, storeOptions } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

// Each test starts threads and waits for a disk that others use too.
vi.setConfig({ testTimeout: 120_000 });

const [ONE, TWO] = [toTimelineId(1), toTimelineId(2)];
const MB = 1 << 20;
let top: string;
let old: WalFixture;
/** Timeline 2, which left timeline 1 in its second segment. */
let wal: WalFixture;

beforeEach(async () => {
  top = await mkdtemp(join(tmpdir(), 'walcast-import-'));
  old = new WalFixture();
  old.fill(2_500_000, 3);
  const switchLsn = old.records.find(({ endLsn }) => endLsn > old.startLsn + 1_300_000n)!.endLsn;
  wal = old.branch(switchLsn, TWO);
  wal.fill(2_500_000, 4);
});

afterEach(async () => {
  await rm(top, { recursive: true });
});

function nameOf(timeline: TimelineId, index: number): string {
  const segment = (old.startLsn / BigInt(MB) + BigInt(index)) as SegmentNumber;
  return walFileName(timeline, segment, old.segmentSize);
}

/** An archive of both timelines, as a server leaves one: both have a file of the segment that was cut. */
async function archive(): Promise<string> {
  const directory = join(top, 'archive');
  await mkdir(directory);
  const write = async (from: WalFixture, timeline: TimelineId, index: number): Promise<void> => {
    const bytes = Buffer.alloc(MB);
    from.bytes().copy(bytes, 0, index * MB, (index + 1) * MB);
    await writeFile(join(directory, nameOf(timeline, index)), bytes);
  };
  for (const index of [0, 1, 2]) await write(old, ONE, index);
  for (const index of [1, 2, 3]) await write(wal, TWO, index);
  return directory;
}

async function storeFrom(index: number): Promise<string> {
  const directory = join(top, `store-${index}`);
  const store = await WalStore.open(storeOptions(directory));
  const [entry] = wal.history.ancestors;
  await store.storeHistoryFile(TWO, Buffer.from(`1\t${formatLsn(entry!.endLsn)}\twhy\n`));
  const startLsn = toLsn(wal.startLsn + BigInt(index * MB));
  await store.initialize(
    {
      ...wal.origin,
      serverVersion: '15.18',
      parameters: new Map(),
      settings: new Map(),
      timeline: TWO,
    },
    startLsn,
  );
  feedStore(store, wal);
  await storeFlushed(store, wal.endLsn);
  await store.close();
  return directory;
}

function importInto(dataDirectory: string, source: string): Promise<ImportReport> {
  const { signal } = new AbortController();
  return importWal({ dataDirectory, source, clock: systemClock, onProgress: () => {}, signal });
}

it('an import takes each segment from the timeline that has all of it', async () => {
  const directory = await storeFrom(2);
  const report = await importInto(directory, await archive());
  expect(report).toMatchObject({ olderSegments: 2, after: { oldestLsn: wal.startLsn } });
  const names = (await readdir(join(directory, 'pg_wal'))).toSorted();
  expect(names.slice(0, 3)).toEqual([nameOf(ONE, 0), '00000002.history', nameOf(TWO, 1)]);
  const store = await WalStore.open(storeOptions(directory));
  const read = await readStored(store, TWO, [wal.startLsn, wal.endLsn]);
  await store.close();
  expect(Buffer.compare(Buffer.from(read as Uint8Array), wal.bytes())).toBe(0);
});

it('dead WAL is listed by nobody, and a reset leaves it unless it is told to take it', async () => {
  const directory = join(top, 'store');
  const store = await WalStore.open(storeOptions(directory));
  const identity = {
    ...old.origin,
    serverVersion: '15.18',
    parameters: new Map<string, string>(),
    settings: new Map<string, string>(),
    timeline: ONE,
  };
  await store.initialize(identity, old.startLsn);
  feedStore(store, old);
  await storeFlushed(store, old.endLsn);
  const [entry] = wal.history.ancestors;
  await store.storeHistoryFile(TWO, Buffer.from(`1\t${formatLsn(entry!.endLsn)}\twhy\n`));
  await store.switchTimeline({ history: wal.history, switchLsn: entry!.endLsn });
  const dead = store.deadWal().files;
  await store.close();
  expect(dead).toBe(2);
  const listed = (await listWal(directory)).files.map(({ file }) => file.name);
  expect(listed).toEqual([nameOf(ONE, 0), '00000002.history', nameOf(TWO, 1)]);
  const switchSegment = segmentNumber(entry!.endLsn, old.segmentSize);
  expect(listed).not.toContain(walFileName(ONE, switchSegment, old.segmentSize));
  expect((await storeContent(directory)).dead).toEqual({ files: 2, bytes: 2 * MB });
  await resetStore(directory);
  expect((await storeContent(directory)).dead.files).toBe(2);
  await resetStore(directory, { dead: true });
  expect(await storeContent(directory)).toEqual({
    control: null,
    files: [],
    dead: { files: 0, bytes: 0 },
  });
});
