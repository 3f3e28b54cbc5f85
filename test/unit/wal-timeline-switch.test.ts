import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { isOutOfSpace } from '../../src/base/durable-fs.ts';
import type { OperationalError } from '../../src/base/errors.ts';
import { advanceLsn, formatLsn, INVALID_LSN, PAGE_SIZE, pageStart } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, segmentStartOf, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineId } from '../../src/pg/timeline.ts';
import { releaseDeadWal } from '../../src/wal/dead-wal.ts';
import {
  encodePageSumsHeader,
  entryOffset,
  PAGE_SUM_BYTES,
  pageSumsSeed,
  putPageSum,
} from '../../src/wal/page-sums.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import type { TimelineSwitchInfo, WalStoreOptions } from '../../src/wal/wal-store.ts';
import { copyDirectory } from '../support/copy-directory.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { feedStore, readStored, storeFlushed, storeOptions } from '../support/store-rig.ts';
import { branch, endAt, historyText, identityOf, switchTo } from '../support/timeline-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

// Each test starts threads and waits for a disk that others use too.
vi.setConfig({ testTimeout: 120_000 });

const [ONE, TWO, THREE] = [toTimelineId(1), toTimelineId(2), toTimelineId(3)];
let top: string;
let directory: string;
/** WAL of timeline 1. */
let old: WalFixture;
let store: WalStore;

beforeEach(async () => {
  top = await mkdtemp(join(tmpdir(), 'walcast-switch-'));
  directory = join(top, 'store');
  old = new WalFixture();
  old.fill(1_300_000, 3);
  old.checkpoint();
  old.fill(1_500_000, 4);
});

afterEach(async () => {
  await store.close();
  await rm(top, { recursive: true });
});

async function openStore(more: Partial<WalStoreOptions> = {}, path = directory): Promise<WalStore> {
  return await WalStore.open(storeOptions(path, more));
}

/** A store that has all of timeline 1, on the disk. */
async function begin(more: Partial<WalStoreOptions> = {}): Promise<void> {
  store = await openStore(more);
  await store.initialize(identityOf(old), old.startLsn);
  feedStore(store, old);
  await storeFlushed(store, old.endLsn);
}

function nameOf(timeline: TimelineId, lsn: Lsn): string {
  return walFileName(timeline, segmentNumber(lsn, old.segmentSize), old.segmentSize);
}

async function expectAll(wal: WalFixture, of: WalStore = store): Promise<void> {
  const timeline = wal.history.timeline;
  const bytes = await readStored(of, timeline, [wal.startLsn, wal.endLsn]);
  if (!(bytes instanceof Uint8Array)) throw new Error(JSON.stringify({ ...bytes, lsn: null }));
  expect(Buffer.compare(bytes, wal.slice(wal.startLsn, wal.endLsn))).toBe(0);
}

async function deadFiles(): Promise<string[]> {
  return (await readdir(join(directory, 'dead')).catch((): string[] => [])).toSorted();
}

describe('a switch behind what is stored', () => {
  it('cuts R, W and F to the switch point, sets the rest aside and goes on there', async () => {
    await begin();
    const switchLsn = endAt(old, 1_600_000);
    const next = branch(old, switchLsn);
    const seen: Array<[TimelineSwitchInfo, TimelineId, Lsn]> = [];
    store.onTimelineSwitch((info) => seen.push([info, store.timeline(), store.sendableLsn()]));
    const advanced = new Promise<void>((resolve) => store.onAdvance(resolve));
    await switchTo(store, next);
    await advanced;
    expect(seen).toEqual([[{ from: ONE, to: TWO, switchLsn }, TWO, switchLsn]]);
    expect(store.positions()).toEqual({
      receivedLsn: switchLsn,
      writtenLsn: switchLsn,
      flushedLsn: switchLsn,
    });
    expect(store.history()).toEqual(next.history);
    expect(await deadFiles()).toEqual([
      `${nameOf(ONE, switchLsn)}.partial`,
      nameOf(ONE, advanceLsn(switchLsn, old.segmentSize)),
    ]);
    const name = `${nameOf(ONE, switchLsn)}.partial`;
    const segment = segmentStartOf(switchLsn, old.segmentSize);
    const cut = await readFile(join(directory, 'dead', name));
    const whole = old.slice(segment, advanceLsn(segment, old.segmentSize));
    expect(Buffer.compare(cut, whole)).toBe(0);
    expect(store.status().dead).toMatchObject({ files: 2, bytes: 2 * old.segmentSize });
    feedStore(store, next);
    await storeFlushed(store, next.endLsn);
    await expectAll(next);
    await store.close();
    store = await openStore();
    expect(store.nextLsn()).toBe(next.endLsn);
    expect(store.oldestLsn()).toBe(old.startLsn);
    await expectAll(next);
  });

  it.each([
    ['in the same epoch', 700n, 800],
    ['behind a wrap-around', (1n << 32n) - 100n, 5],
  ])('knows the next transaction id there, %s', async (_what, firstXid, xid) => {
    const epoch = 3n << 32n;
    old = new WalFixture();
    old.checkpoint({ nextFullXid: epoch + firstXid });
    // Into another segment, which tells no epoch.
    for (let count = 0; count < 60; count += 1) old.record({ body: Buffer.alloc(20_000, count) });
    old.record({ xid, body: Buffer.alloc(10) });
    const switchLsn = old.endLsn;
    old.record({ xid: xid + 90, body: Buffer.alloc(10) });
    old.fill(100_000);
    await begin();
    const nextXid = (BigInt(xid) < firstXid ? epoch + (1n << 32n) : epoch) + BigInt(xid) + 1n;
    expect(store.facts().nextFullXid).toBeGreaterThan(nextXid);
    await switchTo(store, branch(old, switchLsn));
    expect(store.facts().nextFullXid).toBe(nextXid);
  });

  it('knows no next transaction id there where nothing tells it', async () => {
    old = new WalFixture();
    old.checkpoint();
    for (let count = 0; count < 60; count += 1) old.record({ body: Buffer.alloc(20_000, count) });
    const switchLsn = old.endLsn;
    old.fill(100_000);
    await begin();
    await switchTo(store, branch(old, switchLsn));
    expect(store.facts().nextFullXid).toBeNull();
  });

  it('serves the timeline that was left up to the switch point, from whosever file', async () => {
    await begin();
    const switchLsn = endAt(old, 1_600_000);
    await switchTo(store, branch(old, switchLsn));
    const read = await readStored(store, ONE, [old.startLsn, switchLsn]);
    expect(
      Buffer.compare(Buffer.from(read as Uint8Array), old.slice(old.startLsn, switchLsn)),
    ).toBe(0);
  });

  it('gives out nothing of another timeline for what lay behind the switch point', async () => {
    await begin();
    const switchLsn = endAt(old, 1_600_000);
    const read = store.fromFiles(ONE, advanceLsn(switchLsn, -10_000), old.endLsn);
    const next = branch(old, switchLsn);
    await switchTo(store, next);
    feedStore(store, next);
    await storeFlushed(store, next.endLsn);
    // Begun before the switch it may have had the bytes of then; later there are none.
    const early = await read;
    if (early instanceof Uint8Array) {
      const wanted = old.slice(advanceLsn(switchLsn, -10_000), old.endLsn);
      expect(Buffer.compare(early, wanted)).toBe(0);
    }
    const late = await readStored(store, ONE, [
      advanceLsn(switchLsn, -10_000),
      advanceLsn(switchLsn, 8),
    ]);
    expect(late).toMatchObject({ kind: 'damaged', isBeyondEnd: true, lsn: switchLsn });
    expect(store.status().rejectedFromDisk).toBe(0);
  });

  it('compares what the upstream sends of the segment once more, and takes none of it', async () => {
    await begin();
    const switchLsn = endAt(old, 1_600_000);
    const next = branch(old, switchLsn);
    await switchTo(store, next);
    const start = segmentStartOf(switchLsn, old.segmentSize);
    expect(store.nextLsn()).toBe(start);
    const other = next.slice(start, advanceLsn(start, 50_000));
    other[40_123] = (other[40_123] ?? 0) ^ 1;
    const refused = store.append(start, other);
    expect(refused).toMatchObject({ lsn: advanceLsn(start, 40_123), isDivergence: true });
    expect(store.nextLsn()).toBe(start);
    expect(store.positions().receivedLsn).toBe(switchLsn);
    feedStore(store, next, { step: 7_000 });
    await storeFlushed(store, next.endLsn);
    await expectAll(next);
  });

  it('takes a message that begins before the switch point and ends behind it', async () => {
    await begin();
    const switchLsn = endAt(old, 1_600_000);
    const next = branch(old, switchLsn);
    await switchTo(store, next);
    const start = segmentStartOf(switchLsn, old.segmentSize);
    expect(store.append(start, next.slice(start, next.endLsn))).toBeNull();
    expect(store.nextLsn()).toBe(next.endLsn);
  });

  it('takes back damaged WAL behind the switch point no further than to it', async () => {
    await begin();
    const switchLsn = endAt(old, 1_600_000);
    const next = branch(old, switchLsn);
    await switchTo(store, next);
    feedStore(store, next, { endLsn: switchLsn });
    const bytes = next.slice(switchLsn, advanceLsn(switchLsn, 20_000));
    bytes[9_000] = (bytes[9_000] ?? 0) ^ 0xff;
    bytes.fill(0xff, 12_000, 18_000);
    expect(store.append(switchLsn, bytes)).toMatchObject({ reason: expect.any(String) });
    expect(store.nextLsn()).toBe(switchLsn);
    feedStore(store, next);
    await storeFlushed(store, next.endLsn);
    await expectAll(next);
  });

  it('is what it is when it is asked for twice, and refuses one that does not fit', async () => {
    await begin();
    const switchLsn = endAt(old, 1_600_000);
    const next = branch(old, switchLsn);
    await Promise.all([switchTo(store, next), switchTo(store, next)]);
    feedStore(store, next);
    await switchTo(store, next);
    expect(store.nextLsn()).toBe(next.endLsn);
    const beyond = branch(next, next.endLsn, THREE);
    const [first] = beyond.history.ancestors;
    const outside = advanceLsn(next.endLsn, PAGE_SIZE);
    const history = {
      timeline: THREE,
      ancestors: [
        first ?? { timeline: ONE, endLsn: switchLsn },
        { timeline: TWO, endLsn: outside },
      ],
    };
    await store.storeHistoryFile(THREE, historyText(history));
    const refused = store.switchTimeline({ history, switchLsn: outside });
    await expect(refused).rejects.toMatchObject({ code: 'SWITCH_OUTSIDE' });
    const foreign = { timeline: THREE, ancestors: [{ timeline: ONE, endLsn: switchLsn }] };
    await expect(store.switchTimeline({ history: foreign, switchLsn })).rejects.toMatchObject({
      code: 'SWITCH_HISTORY',
    });
    expect(store.timeline()).toBe(TWO);
    expect(store.append(next.endLsn, new Uint8Array(0))).toBeNull();
  });
});

describe('where the switch point lies', () => {
  it.each([
    ['at the end of what is stored', () => old.endLsn, 0],
    ['at the start of a segment', () => switchAtSegmentStart(), 1],
    ['at the first byte that is stored', () => old.startLsn, 3],
  ])('%s, the WAL goes on', async (_where, at, dead) => {
    const switchLsn = at();
    await begin();
    const next = branch(old, switchLsn);
    await switchTo(store, next);
    expect(await deadFiles()).toHaveLength(dead);
    feedStore(store, next);
    await storeFlushed(store, next.endLsn);
    await store.close();
    store = await openStore();
    expect(store.nextLsn()).toBe(next.endLsn);
    await expectAll(next);
  });

  /** Makes a record of timeline 1 end with its segment. */
  function switchAtSegmentStart(): Lsn {
    old = new WalFixture();
    old.fill(1_300_000, 3);
    const { endLsn } = old.switchSegment();
    old.fill(100_000, 4);
    return endLsn;
  }

  it.each([
    ['at a page', 0, true],
    ['in mid-page', 4_096, false],
  ])(
    'inside a record, %s: nothing before it is lost, then or after a restart',
    async (_w, more, isSaid) => {
      old.record({ body: Buffer.alloc(100_000, 0x77) });
      old.fill(50_000, 5);
      await begin();
      const long = old.records.findLast(({ startLsn, endLsn }) => endLsn - startLsn > 100_000n);
      const page = pageStart(advanceLsn(long?.startLsn ?? old.startLsn, 40_000));
      const switchLsn = advanceLsn(page, more);
      const next = old.branch(switchLsn, TWO);
      if (isSaid) next.overwrite(long?.startLsn ?? INVALID_LSN);
      next.fill(300_000, 12);
      await switchTo(store, next);
      expect(store.positions().flushedLsn).toBe(switchLsn);
      await store.close();
      store = await openStore();
      expect(store.nextLsn()).toBe(switchLsn);
      feedStore(store, next);
      await storeFlushed(store, next.endLsn);
      const bytes = await readFile(join(directory, 'pg_wal', nameOf(TWO, switchLsn)));
      const start = segmentStartOf(switchLsn, old.segmentSize);
      const end = advanceLsn(start, old.segmentSize);
      const wanted = next.slice(start, next.endLsn < end ? next.endLsn : end);
      expect(Buffer.compare(bytes.subarray(0, wanted.length), wanted)).toBe(0);
      if (!isSaid) return;
      await store.close();
      store = await openStore();
      await expectAll(next);
    },
  );

  it('at a record end, with half a record behind it: that is dead', async () => {
    await begin();
    old.record({ body: Buffer.alloc(30_000, 0x77) });
    const half = advanceLsn(old.records.at(-1)!.startLsn, 20_000);
    feedStore(store, old, { endLsn: half });
    const switchLsn = old.records.at(-2)!.endLsn;
    const next = branch(old, switchLsn);
    await switchTo(store, next);
    const [name] = await deadFiles();
    expect(name).toBe(`${nameOf(ONE, switchLsn)}.partial`);
    feedStore(store, next);
    await storeFlushed(store, next.endLsn);
    await expectAll(next);
  });

  it('several times in one segment, and then far behind: removal takes the files of all of them', async () => {
    await begin({ walKeepSizeBytes: 0 });
    const second = branch(old, endAt(old, 1_600_000));
    await switchTo(store, second);
    feedStore(store, second);
    const inSame = second.records.find(({ endLsn }) => endLsn > endAt(old, 1_600_000) + 100_000n);
    const third = branch(second, inSame?.endLsn ?? second.endLsn, THREE);
    third.fill(5_000_000, 8);
    await switchTo(store, third);
    feedStore(store, third);
    await storeFlushed(store, third.endLsn);
    await expectAll(third);
    await store.close();
    store = await openStore({ walKeepSizeBytes: 0 });
    expect(store.oldestLsn()).toBe(old.startLsn);
    await expectAll(third);
    store.setRetention(() => third.endLsn);
    await store.close();
    const names = (await readdir(join(directory, 'pg_wal'))).filter((name) => !name.includes('.'));
    expect(names.filter((name) => !name.startsWith('00000003'))).toEqual([]);
    expect(
      (await readdir(join(directory, 'pg_wal'))).filter((n) => n.endsWith('.history')).toSorted(),
    ).toEqual(['00000002.history', '00000003.history']);
  });
});

describe('what was acknowledged beyond the switch point', () => {
  it('is said with both positions, kept over restarts, and let go of when asked', async () => {
    const errors: Array<Record<string, unknown>> = [];
    const log = { ...storeOptions(directory).log };
    log.error = (_text: string, fields?: object): void => void errors.push({ ...fields });
    await begin({ log });
    store.noteReportedFlush(old.endLsn);
    const switchLsn = endAt(old, 1_600_000);
    await switchTo(store, branch(old, switchLsn));
    const acknowledged = {
      timeline: ONE,
      reportedFlushLsn: old.endLsn,
      switchLsn,
      bytes: Number(old.endLsn - switchLsn),
    };
    expect(store.deadWal().acknowledged).toEqual(acknowledged);
    expect(store.reportedFlushLsn()).toBe(switchLsn);
    expect(errors).toContainEqual(
      expect.objectContaining({
        reported_flush_lsn: formatLsn(old.endLsn),
        switch_lsn: formatLsn(switchLsn),
        bytes: acknowledged.bytes,
      }),
    );
    await store.close();
    store = await openStore();
    expect(store.status().dead).toEqual({ files: 2, bytes: 2 * old.segmentSize, acknowledged });
    const released = await store.releaseDeadWal();
    expect(released).toEqual({ files: 2, bytes: 2 * old.segmentSize, acknowledged });
    expect(store.deadWal()).toEqual({ files: 0, bytes: 0, acknowledged: null });
    await store.close();
    store = await openStore();
    expect(store.deadWal()).toEqual({ files: 0, bytes: 0, acknowledged: null });
  });

  it('may be more than was noted when walcast was killed: what was stored then counts', async () => {
    const errors: Array<readonly [string, object]> = [];
    const log = { ...storeOptions(directory).log };
    log.error = (text: string, fields?: object): void => void errors.push([text, { ...fields }]);
    await begin({ clock: new ManualClock() });
    // Behind what is saved at once for other reasons. P would be saved later, and by this clock that never comes.
    await store.updateServer(identityOf(old));
    store.noteReportedFlush(old.endLsn);
    const killed = join(top, 'killed');
    await copyDirectory(directory, killed);
    await store.close();
    store = await openStore({ log }, killed);
    // It is no P: what was reported before is not known.
    expect(store.reportedFlushLsn()).toBe(INVALID_LSN);
    await store.close();
    // A stop in order does not make it known.
    store = await openStore({ log }, killed);
    const switchLsn = endAt(old, 1_600_000);
    await switchTo(store, branch(old, switchLsn));
    const bytes = Number(old.endLsn - switchLsn);
    const acknowledged = { timeline: ONE, reportedFlushLsn: old.endLsn, switchLsn, bytes };
    expect(store.deadWal().acknowledged).toEqual(acknowledged);
    expect(errors).toEqual([
      [expect.stringContaining('may have been acknowledged'), expect.objectContaining({ bytes })],
    ]);
    expect(store.reportedFlushLsn()).toBe(INVALID_LSN);
  });

  it('is nothing after stops in order when nothing was reported', async () => {
    await begin();
    await store.close();
    store = await openStore();
    await switchTo(store, branch(old, endAt(old, 1_600_000)));
    expect(store.deadWal()).toMatchObject({ files: 2, acknowledged: null });
  });

  it('can be let go of while nobody holds the store', async () => {
    await begin();
    store.noteReportedFlush(old.endLsn);
    await switchTo(store, branch(old, endAt(old, 1_600_000)));
    await store.close();
    expect(await releaseDeadWal(directory)).toMatchObject({
      files: 2,
      acknowledged: { timeline: ONE },
    });
    expect(await releaseDeadWal(directory)).toEqual({ files: 0, bytes: 0, acknowledged: null });
    store = await openStore();
  });
});

describe('a stop in the middle of a switch', () => {
  it('at any step is completed by the next start, with the same bytes and positions', async () => {
    const copies: Array<[string, string]> = [];
    await begin({
      onSwitchStep: async (step) => {
        const copy = join(top, `stopped-${copies.length}`);
        await copyDirectory(directory, copy);
        copies.push([step, copy]);
      },
    });
    store.noteReportedFlush(old.endLsn);
    const switchLsn = endAt(old, 1_600_000);
    const next = branch(old, switchLsn);
    await switchTo(store, next);
    const [wanted, files] = [store.deadWal(), await deadFiles()];
    expect(new Set(copies.map(([step]) => step))).toEqual(
      new Set(
        ['note', 'temporary files', 'directory', 'copy', 'copy written', 'copy renamed'].concat([
          'dead segment',
          'cut segment',
          'names',
          'control file',
        ]),
      ),
    );
    for (const [step, copy] of copies) {
      const restarted = await openStore({}, copy);
      // Before the note nothing has happened.
      if (step === 'note') {
        expect([restarted.timeline(), restarted.nextLsn()]).toEqual([ONE, old.endLsn]);
        // What was reported is saved lazily, unless something else is noted.
        restarted.noteReportedFlush(old.endLsn);
        await switchTo(restarted, next);
      }
      expect(restarted.timeline(), step).toBe(TWO);
      expect(restarted.positions().flushedLsn, step).toBe(switchLsn);
      // Slots on the disk may be behind the switch point still.
      const told: TimelineSwitchInfo[] = [];
      restarted.onTimelineSwitch((info) => told.push(info));
      const isCompleted = step !== 'note';
      expect(told, step).toEqual(isCompleted ? [{ from: ONE, to: TWO, switchLsn }] : []);
      expect(restarted.deadWal(), step).toEqual(wanted);
      expect((await readdir(join(copy, 'dead'))).toSorted()).toEqual(files);
      feedStore(restarted, next);
      await expectAll(next, restarted);
      await restarted.close();
    }
  });

  it('for lack of space changes nothing that counts, and the switch can be tried again', async () => {
    const errors: OperationalError[] = [];
    let failAt: string | null = null;
    await begin({
      onFatal: (error) => errors.push(error),
      onSwitchStep: (step) => {
        if (step === failAt) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
      },
    });
    const switchLsn = endAt(old, 1_600_000);
    const next = branch(old, switchLsn);
    for (failAt of ['note', 'copy written', 'control file']) {
      const failure = await switchTo(store, next).then(
        () => null,
        (error: unknown) => error,
      );
      expect(isOutOfSpace(failure)).toBe(true);
      expect(store.timeline()).toBe(ONE);
      const end = failAt === 'note' ? old.endLsn : switchLsn;
      expect(store.positions().receivedLsn).toBe(end);
      // An old primary that comes back now is not asked for WAL of the timeline that is being left.
      expect(store.isFull()).toBe(failAt !== 'note');
    }
    failAt = null;
    await switchTo(store, next);
    expect(store.isFull()).toBe(false);
    feedStore(store, next);
    await storeFlushed(store, next.endLsn);
    await expectAll(next);
    expect(errors).toEqual([]);
  });

  it('for any other error of the disk is the end of the store', async () => {
    const errors: OperationalError[] = [];
    await begin({
      onFatal: (error) => errors.push(error),
      onSwitchStep: (step) => {
        if (step !== 'copy written') return;
        throw Object.assign(new Error('i/o error'), { code: 'EIO', syscall: 'fsync' });
      },
    });
    const next = branch(old, endAt(old, 1_600_000));
    await expect(switchTo(store, next)).rejects.toMatchObject({ code: 'SWITCH_FAILED' });
    expect(errors).toMatchObject([{ code: 'SWITCH_FAILED' }]);
    await store.close();
    store = await openStore();
    expect(store.timeline()).toBe(TWO);
  });
});

/** What page_sums says of the segment of timeline 2 that holds `lsn`, when its first page was another one. */
function sumsOfOtherBytes(lsn: Lsn): Uint8Array {
  const { segmentSize } = old;
  const of = { timeline: TWO, segment: segmentNumber(lsn, segmentSize), segmentSize };
  const bytes = Buffer.concat([encodePageSumsHeader(of), Buffer.alloc(PAGE_SUM_BYTES)]);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  putPageSum(view, entryOffset(0), { seed: pageSumsSeed(of), page: 0, sum: 42 });
  return bytes;
}

describe('files that are in the way', () => {
  it('of the next timeline are set aside, because nobody knows what they are', async () => {
    await begin();
    const switchLsn = endAt(old, 1_600_000);
    const stray = nameOf(TWO, switchLsn);
    await writeFile(join(directory, 'pg_wal', stray), 'stray');
    await writeFile(join(directory, 'page_sums', stray), sumsOfOtherBytes(switchLsn));
    const next = branch(old, switchLsn);
    await switchTo(store, next);
    expect(await deadFiles()).toContain(stray);
    feedStore(store, next);
    await storeFlushed(store, next.endLsn);
    await expectAll(next);
    await store.close();
    store = await openStore();
    await expectAll(next);
  });
});
