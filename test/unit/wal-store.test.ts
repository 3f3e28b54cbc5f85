import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { advanceLsn, INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { FileCache } from '../../src/wal/file-cache.ts';
import { SegmentRemoval } from '../../src/wal/segment-removal.ts';
import { STORE_LIMITS } from '../../src/wal/store-options.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import type { StoredIdentity, WalStoreOptions } from '../../src/wal/wal-store.ts';
import { eventually } from '../support/eventually.ts';
import { feedStore, readStored, storeFlushed, storeOptions } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

// Each test starts a thread and waits for a disk that others use too.
vi.setConfig({ testTimeout: 60_000 });

const TIMELINE = toTimelineId(1);
let directory: string;
let wal: WalFixture;
let store: WalStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-store-'));
  wal = new WalFixture();
  wal.fill(700_000, 3);
  wal.record({ body: Buffer.alloc(900_000, 1) });
  wal.fill(300_000, 5);
  wal.checkpoint();
  wal.fill(300_000, 6);
});

afterEach(async () => {
  await store.close();
  await rm(directory, { recursive: true });
});

function identity(): StoredIdentity {
  return {
    ...wal.origin,
    serverVersion: '15.18',
    parameters: new Map([['TimeZone', 'UTC']]),
    settings: new Map([['wal_segment_size', '1MB']]),
    timeline: TIMELINE,
  };
}

async function openFresh(more: Partial<WalStoreOptions> = {}): Promise<void> {
  store = await WalStore.open(storeOptions(directory, more));
  await store.initialize(identity(), wal.startLsn);
}

async function reopen(more: Partial<WalStoreOptions> = {}): Promise<void> {
  await store.close();
  store = await WalStore.open(storeOptions(directory, more));
}

function feed(endLsn: Lsn = wal.endLsn, step = 65_536): void {
  feedStore(store, wal, { endLsn, step });
}

function flushed(lsn: Lsn): Promise<void> {
  return storeFlushed(store, lsn);
}

function nameOf(lsn: bigint): string {
  return walFileName(TIMELINE, segmentNumber(toLsn(lsn), wal.segmentSize), wal.segmentSize);
}

describe('an empty store', () => {
  it('knows nothing and says so', async () => {
    store = await WalStore.open(storeOptions(directory));
    expect(store.identity).toBeNull();
    expect(store.positions().flushedLsn).toBe(INVALID_LSN);
    expect(store.oldestLsn()).toBe(INVALID_LSN);
    expect(store.status()).toMatchObject({ timeline: null, segments: 0 });
    expect(store.isFull()).toBe(false);
  });

  it('remembers who it stands for as soon as it was told', async () => {
    await openFresh();
    await store.updateServer({
      serverVersion: '15.19',
      parameters: new Map([['TimeZone', 'Europe/Berlin']]),
      settings: new Map(),
    });
    await reopen();
    expect(store.identity).toMatchObject({
      systemIdentifier: wal.systemIdentifier,
      serverVersion: '15.19',
      segmentSize: wal.segmentSize,
      timeline: 1,
    });
    expect(store.identity?.parameters.get('TimeZone')).toBe('Europe/Berlin');
    expect(store.nextLsn()).toBe(wal.startLsn);
  });

  it('is begun once by two who begin it the same way at the same time', async () => {
    store = await WalStore.open(storeOptions(directory));
    const begun = [1, 2].map(() => store.initialize(identity(), wal.startLsn));
    await Promise.all(begun);
    await store.initialize(identity(), wal.startLsn);
    feed();
    await flushed(wal.endLsn);
  });

  it('refuses to be begun in another way, then and later, and stays as it is', async () => {
    store = await WalStore.open(storeOptions(directory));
    const begun = store.initialize(identity(), wal.startLsn);
    const other = { ...identity(), systemIdentifier: '7300000000000000999' };
    const later = advanceLsn(wal.startLsn, wal.segmentSize);
    const refusals = [
      store.initialize(other, wal.startLsn),
      store.initialize(identity(), later),
      store.initialize({ ...identity(), timeline: toTimelineId(2) }, wal.startLsn),
    ].map((refused) => expect(refused).rejects.toMatchObject({ code: 'STORE_NOT_EMPTY' }));
    await begun;
    await Promise.all(refusals);
    await expect(store.initialize(other, wal.startLsn)).rejects.toMatchObject({
      code: 'STORE_NOT_EMPTY',
    });
    await reopen();
    expect(store.identity?.systemIdentifier).toBe(wal.systemIdentifier);
    expect(store.nextLsn()).toBe(wal.startLsn);
  });

  it('says so when it could not be begun, and stays empty', async () => {
    const failures: string[] = [];
    store = await WalStore.open(
      storeOptions(directory, { onFatal: (error) => failures.push(error.code) }),
    );
    // What the control file is put together in.
    await mkdir(join(directory, 'walcast.control.tmp'));
    await expect(store.initialize(identity(), wal.startLsn)).rejects.toMatchObject({
      code: 'CONTROL_FILE_SAVE',
    });
    expect(failures).toEqual(['CONTROL_FILE_SAVE']);
    expect(store.identity).toBeNull();
  });

  it('says so at its end when the control file could not be saved, and finds its WAL at the next start', async () => {
    await openFresh();
    // Inside the first segment: the end of one is saved at once, and that save would meet the same.
    const endLsn = wal.records[0]?.endLsn ?? wal.endLsn;
    expect(nameOf(endLsn)).toBe(nameOf(wal.startLsn));
    feed(endLsn);
    await flushed(endLsn);
    const inTheWay = join(directory, 'walcast.control.tmp');
    await mkdir(inTheWay);
    await expect(store.close()).rejects.toMatchObject({
      name: 'OperationalError',
      code: 'CONTROL_FILE_SAVE',
      hint: expect.any(String) as string,
    });
    await rm(inTheWay, { recursive: true });
    store = await WalStore.open(storeOptions(directory));
    expect(store.nextLsn()).toBe(endLsn);
  });

  it('keeps history files of any timeline, byte for byte', async () => {
    store = await WalStore.open(storeOptions(directory));
    const content = Buffer.from('1\t0/3000000\tno recovery target specified\n\n');
    await store.storeHistoryFile(toTimelineId(2), content);
    expect(await store.historyFile(toTimelineId(2))).toEqual(content);
    expect(await store.historyFile(toTimelineId(3))).toBeNull();
  });

  it('can be begun on a later timeline, and finds its history again', async () => {
    wal.history = {
      timeline: toTimelineId(2),
      ancestors: [{ timeline: TIMELINE, endLsn: wal.startLsn }],
    };
    store = await WalStore.open(storeOptions(directory));
    await store.storeHistoryFile(toTimelineId(2), Buffer.from('1\t0/3000000\twhy\n'));
    await store.initialize({ ...identity(), timeline: toTimelineId(2) }, wal.startLsn);
    await reopen();
    expect(store.history()).toEqual(wal.history);
  });
});

describe('WAL whose control file is gone', () => {
  async function everything(): Promise<Array<[string, Buffer]>> {
    const pgWal = join(directory, 'pg_wal');
    const names = (await readdir(pgWal)).toSorted();
    return await Promise.all(
      names.map(async (name): Promise<[string, Buffer]> => [
        name,
        await readFile(join(pgWal, name)),
      ]),
    );
  }

  it('is not touched: the store cannot be opened, and says what to do', async () => {
    await openFresh();
    feed();
    await store.close();
    const control = await readFile(join(directory, 'walcast.control'));
    await rm(join(directory, 'walcast.control'));
    const before = await everything();
    await expect(WalStore.open(storeOptions(directory))).rejects.toMatchObject({
      code: 'STORE_HAS_WAL',
      message: expect.stringContaining(nameOf(wal.startLsn)) as string,
      hint: expect.stringMatching(/restore .*walcast\.control.* or move/i) as string,
    });
    expect(await everything()).toEqual(before);
    expect(await readdir(directory)).not.toContain('walcast.control');
    await writeFile(join(directory, 'walcast.control'), control, { mode: 0o600 });
    store = await WalStore.open(storeOptions(directory));
    expect(store.nextLsn()).toBe(wal.endLsn);
  });

  it('is not begun over when it came after the store was opened', async () => {
    store = await WalStore.open(storeOptions(directory));
    const path = join(directory, 'pg_wal', '00000001000000000000000A');
    await writeFile(path, 'somebody’s');
    await expect(store.initialize(identity(), wal.startLsn)).rejects.toMatchObject({
      code: 'STORE_HAS_WAL',
    });
    expect(await readFile(path, 'utf8')).toBe('somebody’s');
    expect(await readdir(directory)).not.toContain('walcast.control');
    await rm(path);
    await store.initialize(identity(), wal.startLsn);
  });

  it('may be history files alone', async () => {
    store = await WalStore.open(storeOptions(directory));
    await store.storeHistoryFile(toTimelineId(2), Buffer.from('1\t0/3000000\twhy\n'));
    store = await WalStore.open(storeOptions(directory));
    await store.initialize(identity(), wal.startLsn);
  });
});

describe.each(['page', 'record'] as const)('a store that verifies each %s', (verify) => {
  it('writes what PostgreSQL would have: same names, same bytes, zero behind the end', async () => {
    await openFresh({ verify });
    feed();
    await flushed(wal.endLsn);
    const files = (await readdir(join(directory, 'pg_wal'))).toSorted();
    const names = [0, 1, 2].map((n) => nameOf(wal.startLsn + BigInt(n * wal.segmentSize)));
    expect(files.slice(0, 3)).toEqual(names);
    const bytes = Buffer.concat(
      await Promise.all(names.map((name) => readFile(join(directory, 'pg_wal', name)))),
    );
    const length = Number(wal.endLsn - wal.startLsn);
    expect(bytes.subarray(0, length).equals(wal.bytes())).toBe(true);
    expect(bytes.subarray(length).every((byte) => byte === 0)).toBe(true);
    expect((await stat(join(directory, 'pg_wal', names[0] ?? ''))).mode & 0o777).toBe(0o600);
  });

  it('finds everything again after a clean stop', async () => {
    await openFresh({ verify });
    feed();
    store.noteReportedFlush(wal.startLsn);
    const redoLsn = store.redoLsn();
    await reopen({ verify });
    expect(store.positions()).toEqual({
      receivedLsn: wal.endLsn,
      writtenLsn: wal.endLsn,
      flushedLsn: wal.endLsn,
    });
    expect(store.redoLsn()).toBe(redoLsn);
    expect(store.reportedFlushLsn()).toBe(wal.startLsn);
    expect(store.oldestLsn()).toBe(wal.startLsn);
  });

  it('flushes up to record ends only', async () => {
    await openFresh({ verify });
    const ends = new Set(wal.records.map((record) => record.endLsn));
    const seen: Lsn[] = [];
    store.onFlush(() => seen.push(store.positions().flushedLsn));
    for (let step = 1; store.nextLsn() < wal.endLsn; step++) {
      const next = advanceLsn(store.nextLsn(), 8_192 + step * 13);
      feed(next < wal.endLsn ? next : wal.endLsn, 8_192);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await flushed(wal.endLsn);
    for (const lsn of seen) if (lsn !== wal.startLsn) expect(ends).toContain(lsn);
    expect(seen.toSorted((a, b) => (a < b ? -1 : 1))).toEqual(seen);
  });

  it('refuses bad bytes, goes back to the last record end, and never changes a view', async () => {
    await openFresh({ verify });
    feed(advanceLsn(wal.startLsn, 400_000));
    const before = store.fromMemory(wal.startLsn, store.sendableLsn()) ?? [];
    const copy = Buffer.concat(before);
    const start = store.nextLsn();
    const bad = wal.slice(start, advanceLsn(start, 65_536));
    const victim = wal.records.find((record) => record.startLsn > start + 30_000n)!;
    const link = Number(victim.startLsn - start) + 8;
    bad[link] = (bad[link] ?? 0) ^ 0x10;
    expect(store.append(start, bad)).toMatchObject({ reason: expect.any(String) as string });
    const end = wal.records.findLast((record) => record.endLsn <= start)?.endLsn;
    expect(store.nextLsn()).toBe(end);
    expect(store.sendableLsn()).toBe(end);
    expect(store.status().rejectedFromUpstream).toBe(1);
    feed();
    await flushed(wal.endLsn);
    expect(Buffer.concat(before).equals(copy)).toBe(true);
    const all = await readStored(store, TIMELINE, [wal.startLsn, wal.endLsn]);
    expect(Buffer.from(all as Uint8Array).equals(wal.bytes())).toBe(true);
  });

  it('refuses a gap and an overlap, and loses nothing by it', async () => {
    await openFresh({ verify });
    feed(advanceLsn(wal.startLsn, 100_000));
    const next = store.nextLsn();
    for (const start of [advanceLsn(next, 8), advanceLsn(next, -8)]) {
      const refused = store.append(start, wal.slice(start, advanceLsn(start, 100)));
      expect(refused?.reason).toMatch(/WAL begins at .* expected/);
    }
    expect(store.nextLsn()).toBe(next);
    feed();
  });
});

describe('what may be sent', () => {
  it('ends where the message ended, or with the last whole record when records are verified', async () => {
    const middle = advanceLsn(wal.startLsn, 900_000);
    await openFresh({ verify: 'page' });
    feed(middle);
    expect(store.sendableLsn()).toBe(middle);
    await store.close();
    await rm(directory, { recursive: true });
    await openFresh({ verify: 'record' });
    feed(middle);
    const end = wal.records.findLast((record) => record.endLsn <= middle)?.endLsn;
    expect(store.sendableLsn()).toBe(end);
    expect(store.nextLsn()).toBe(middle);
  });

  it('waits for the disk with forward: flushed', async () => {
    await openFresh({ forward: 'flushed' });
    feed();
    expect(store.sendableLsn()).toBe(wal.startLsn);
    await flushed(wal.endLsn);
    expect(store.sendableLsn()).toBe(wal.endLsn);
  });

  it('is announced once for all messages of one turn', async () => {
    await openFresh();
    let calls = 0;
    const stop = store.onAdvance(() => calls++);
    feed(advanceLsn(wal.startLsn, 300_000));
    expect(calls).toBe(0);
    await new Promise((resolve) => setImmediate(resolve));
    expect(calls).toBe(1);
    stop();
    feed();
    await new Promise((resolve) => setImmediate(resolve));
    expect(calls).toBe(1);
  });

  it('is the same bytes from memory and from files, for any range', async () => {
    await openFresh();
    feed();
    await flushed(wal.endLsn);
    const length = Number(wal.endLsn - wal.startLsn);
    const ranges: [Lsn, Lsn][] = [];
    for (let from = 0; from < length; from += 190_001) {
      for (const size of [1, 8_192, 131_072, 1_500_000]) {
        const startLsn = advanceLsn(wal.startLsn, from);
        ranges.push([startLsn, advanceLsn(wal.startLsn, Math.min(length, from + size))]);
      }
    }
    for (const [startLsn, endLsn] of ranges) {
      const views = store.fromMemory(startLsn, endLsn) ?? [];
      expect(Buffer.concat(views).equals(wal.slice(startLsn, endLsn))).toBe(true);
    }
    await reopen();
    for (const [startLsn, endLsn] of ranges) {
      const file = await readStored(store, TIMELINE, [startLsn, endLsn]);
      expect(Buffer.from(file as Uint8Array).equals(wal.slice(startLsn, endLsn))).toBe(true);
    }
  });

  it('is given whole while the end of it is not in the files yet', async () => {
    await openFresh();
    feed(advanceLsn(wal.startLsn, 100_000));
    await flushed(advanceLsn(wal.startLsn, 80_000));
    feed();
    const all = await readStored(store, TIMELINE, [wal.startLsn, wal.endLsn]);
    expect(Buffer.from(all as Uint8Array).equals(wal.bytes())).toBe(true);
  });
});

describe('WAL that is taken back', () => {
  /** A message with a page that is none, behind everything fed so far. */
  function refuse(): Lsn {
    const start = store.nextLsn();
    const bad = wal.slice(start, advanceLsn(start, 65_536)).fill(0xee, 20_000, 30_000);
    expect(store.append(start, bad)).not.toBeNull();
    return start;
  }

  it('is announced at once, with the new end, when it could have been sent', async () => {
    const heard: Lsn[] = [];
    store = await WalStore.open(storeOptions(directory));
    store.onTakenBack((lsn) => heard.push(lsn));
    await store.initialize(identity(), wal.startLsn);
    feed(advanceLsn(wal.startLsn, 900_000));
    const start = refuse();
    const end = wal.records.findLast((record) => record.endLsn <= start)?.endLsn;
    expect(heard).toEqual([end]);
    expect(store.sendableLsn()).toBe(end);
  });

  it('is not announced when it was never offered', async () => {
    const heard: Lsn[] = [];
    await openFresh({ verify: 'record' });
    store.onTakenBack((lsn) => heard.push(lsn));
    feed(advanceLsn(wal.startLsn, 900_000));
    refuse();
    expect(heard).toEqual([]);
  });

  it('is refused to whoever still asks for it, and the store goes on', async () => {
    await openFresh();
    const offered = advanceLsn(wal.startLsn, 900_000);
    feed(offered);
    refuse();
    const end = store.sendableLsn();
    for (const from of [wal.startLsn, advanceLsn(end, -10), end, advanceLsn(end, 5)]) {
      const read = await readStored(store, TIMELINE, [from, offered]);
      expect(read).toMatchObject({ kind: 'damaged', lsn: from > end ? from : end });
    }
    expect(store.fromMemory(end, offered)).toBeNull();
    feed();
    await flushed(wal.endLsn);
  });
});

describe('stored WAL', () => {
  it('that is damaged on the disk is not given out', async () => {
    await openFresh();
    feed();
    await flushed(wal.endLsn);
    await reopen();
    const path = join(directory, 'pg_wal', nameOf(wal.startLsn));
    const bytes = await readFile(path);
    for (const [at, reason] of [
      [8_192 * 3 + 8, /unexpected pageaddr/],
      [8_192 * 4 + 5_000, /checksum is another one/],
      [8_192 * 5, /invalid magic/],
    ] as const) {
      const damaged = Buffer.from(bytes);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      await writeFile(path, damaged);
      const read = await readStored(store, TIMELINE, [
        wal.startLsn,
        advanceLsn(wal.startLsn, 100_000),
      ]);
      expect(read).toMatchObject({ kind: 'damaged', walFileName: nameOf(wal.startLsn) });
      expect((read as { reason: string }).reason).toMatch(reason);
    }
    // A page that the disk lost.
    await writeFile(path, Buffer.from(bytes).fill(0, 16_384, 24_576));
    const lost = await readStored(store, TIMELINE, [
      wal.startLsn,
      advanceLsn(wal.startLsn, 100_000),
    ]);
    expect(lost).toMatchObject({ kind: 'damaged', lsn: advanceLsn(wal.startLsn, 16_384) });
    expect(store.status().rejectedFromDisk).toBe(4);
  });

  it('behind a switch is zero and is given out as such', async () => {
    wal.switchSegment();
    wal.fill(20_000);
    await openFresh();
    feed();
    await flushed(wal.endLsn);
    const all = await readStored(store, TIMELINE, [wal.startLsn, wal.endLsn]);
    expect(Buffer.from(all as Uint8Array).equals(wal.bytes())).toBe(true);
  });

  it('goes when neither the keep window nor a slot needs it, and never before', async () => {
    wal.fill(6_000_000, 8);
    await openFresh({ walKeepSizeBytes: 2_000_000 });
    let slotLsn: Lsn | null = wal.startLsn;
    store.setRetention(() => slotLsn);
    feed();
    await flushed(wal.endLsn);
    expect(store.oldestLsn()).toBe(wal.startLsn);
    slotLsn = advanceLsn(wal.startLsn, 2_500_000);
    await reopen({ walKeepSizeBytes: 2_000_000 });
    store.setRetention(() => slotLsn);
    expect(store.oldestLsn()).toBe(advanceLsn(wal.startLsn, 2 * wal.segmentSize));
    const begin = (): ReturnType<typeof readStored> =>
      readStored(store, TIMELINE, [wal.startLsn, advanceLsn(wal.startLsn, 100)]);
    // Whoever comes before the file is gone may still be given what is in it.
    await eventually(begin).toEqual({ kind: 'removed', walFileName: nameOf(wal.startLsn) });
    store.removeOldSegments(null);
    const kept = store.oldestLsn();
    expect(kept <= wal.endLsn - 2_000_000n).toBe(true);
    expect(kept > wal.endLsn - 2_000_000n - BigInt(wal.segmentSize)).toBe(true);
    await reopen();
    expect(store.oldestLsn()).toBe(kept);
    expect((await readdir(join(directory, 'pg_wal'))).toSorted()[0]).toBe(nameOf(kept));
  });
});

describe('a removed segment', () => {
  it('is forgotten even when it was opened while it was removed', async () => {
    const name = nameOf(wal.startLsn);
    const pgWal = join(directory, 'pg_wal');
    await mkdir(pgWal);
    await writeFile(join(pgWal, name), 'x');
    const files = new FileCache(4);
    const path = join(pgWal, name);
    const read = async (): Promise<void> => await files.use(path, async () => {});
    const opened: Array<Promise<void>> = [];
    const removal = new SegmentRemoval({
      directory: pgWal,
      segmentSize: wal.segmentSize,
      history: wal.history,
      oldestLsn: wal.startLsn,
      log: silentLog,
      onRemove: (file) => {
        files.forget(join(pgWal, file));
        // A read that began before comes to this file just now.
        if (opened.length === 0) opened.push(read().catch(() => {}));
      },
      onError: () => {},
    });
    removal.removeBefore(advanceLsn(wal.startLsn, wal.segmentSize));
    await removal.settle();
    await Promise.all(opened);
    await expect(read()).rejects.toMatchObject({ code: 'ENOENT' });
    files.clear();
    store = await WalStore.open(storeOptions(directory));
  });
});

describe('bounds', () => {
  it('a store is full while too much waits for the disk, and says when there is room', async () => {
    const limits = { ...STORE_LIMITS, unflushedBytesMax: 200_000, tailBytesMax: 1 << 20 };
    await openFresh({ limits });
    feed(advanceLsn(wal.startLsn, 400_000));
    expect(store.isFull()).toBe(true);
    await new Promise<void>((resolve) => store.onRoom(resolve));
    expect(store.isFull()).toBe(false);
    feed();
  });

  it('the tail keeps no more than its bound of what is on the disk', async () => {
    wal.fill(6_000_000, 8);
    const limits = { ...STORE_LIMITS, tailBytesMax: 2 << 20 };
    await openFresh({ limits });
    feed();
    await flushed(wal.endLsn);
    expect(store.status().tailBytes).toBeLessThanOrEqual(2 << 20);
    expect(store.fromMemory(wal.startLsn, advanceLsn(wal.startLsn, 100))).toBeNull();
    expect(store.fromMemory(advanceLsn(wal.endLsn, -100_000), wal.endLsn)).not.toBeNull();
  });

  it('a record of any size does not stay in memory', async () => {
    const large = new WalFixture();
    large.record({ body: Buffer.alloc(9_000_000, 3) });
    wal = large;
    const limits = { ...STORE_LIMITS, tailBytesMax: 2 << 20, unflushedBytesMax: 1 << 20 };
    await openFresh({ limits, verify: 'record' });
    while (store.nextLsn() < wal.endLsn - 100_000n) {
      if (store.isFull()) await new Promise<void>((resolve) => store.onRoom(resolve));
      feed(advanceLsn(store.nextLsn(), 65_536));
    }
    expect(store.sendableLsn()).toBe(wal.startLsn);
    expect(store.status().tailBytes).toBeLessThanOrEqual(4 << 20);
    feed();
    await flushed(wal.endLsn);
  });
});

describe('verify: off', () => {
  it('takes what does not hold together, and still goes on after a restart', async () => {
    await openFresh({ verify: 'off' });
    feed(advanceLsn(wal.startLsn, 200_000));
    const start = store.nextLsn();
    const bad = wal.slice(start, advanceLsn(start, 65_536)).fill(0xee, 30_000, 30_100);
    expect(store.append(start, bad)).toBeNull();
    feed();
    await flushed(wal.endLsn);
    await reopen({ verify: 'off' });
    expect(store.nextLsn()).toBe(wal.endLsn);
  });
});
