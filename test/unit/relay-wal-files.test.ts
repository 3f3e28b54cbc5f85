// Which files of the WAL directory are given away, are they the right bytes, and what does a download hold on to?
import { mkdtemp, open as openFile, readdir, readFile, rm, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { formatLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import { WalFiles } from '../../src/relay/wal-files.ts';
import type { WalFile, WalFileRefusal } from '../../src/status/actions.ts';
import { STORE_LIMITS } from '../../src/wal/store-options.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import type { StoredIdentity, WalStoreOptions } from '../../src/wal/wal-store.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { feedStore, storeFlushed, storeOptions } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

// Each test starts a thread and waits for a disk that others use too.
vi.setConfig({ testTimeout: 60_000 });

const SEGMENT = 1n << 20n;
const LIMITS = { downloadsMax: 2, waitMs: 5_000, readsMax: 1, pieceBytes: 128 * 1024 };
let directory: string;
let wal: WalFixture;
let store: WalStore;
let files: WalFiles;
let clock: ManualClock;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-files-'));
  wal = new WalFixture();
  wal.fill(1_500_000, 3);
  wal.checkpoint();
  wal.fill(900_000, 5);
  wal.switchSegment();
  wal.fill(300_000, 6);
});

afterEach(async () => {
  await store.close();
  await rm(directory, { recursive: true });
});

async function openStore(
  more: Partial<WalStoreOptions> = {},
  history: TimelineHistory = wal.history,
): Promise<void> {
  wal.history = history;
  const identity: StoredIdentity = {
    ...wal.origin,
    serverVersion: '15.18',
    parameters: new Map(),
    settings: new Map(),
    timeline: history.timeline,
  };
  store = await WalStore.open(storeOptions(directory, more));
  files = newFiles(() => store);
  if (history.timeline > 1) {
    const text = history.ancestors.map(({ timeline }) => `${timeline}\t0/3180000\tpromoted\n`);
    await store.storeHistoryFile(history.timeline, Buffer.from(text.join('')));
  }
  await store.initialize(identity, wal.startLsn);
}

function newFiles(from: () => WalStore | null): WalFiles {
  clock = new ManualClock();
  return new WalFiles({ store: from, dataDirectory: directory, clock, limits: LIMITS });
}

/** Takes in everything, and waits until it is on the disk as far as it can be. */
function receive(endLsn: Lsn = wal.endLsn): Promise<void> {
  feedStore(store, wal, { endLsn });
  return storeFlushed(store, endLsn);
}

function nameAt(lsn: bigint, timeline = 1): string {
  return walFileName(
    toTimelineId(timeline),
    segmentNumber(toLsn(lsn), wal.segmentSize),
    wal.segmentSize,
  );
}

function startOf(index: number): bigint {
  return wal.startLsn + BigInt(index) * SEGMENT;
}

async function get(name: string): Promise<WalFile> {
  const file = await files.open(name);
  if ('kind' in file) throw new Error(`${name}: ${file.kind}`);
  return file;
}

async function refusal(name: string): Promise<WalFileRefusal> {
  const file = await files.open(name);
  if ('kind' in file) return file;
  file.close();
  throw new Error(`${name} was given`);
}

async function bytesOf(file: WalFile): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of file.chunks) {
    expect(piece.length).toBeLessThanOrEqual(LIMITS.pieceBytes);
    pieces.push(piece);
  }
  file.close();
  return Buffer.concat(pieces);
}

describe('a segment that is whole and on the disk', () => {
  test('is given byte for byte, the zeros behind a switch included', async () => {
    await openStore();
    await receive();
    for (const index of [0, 1, 2]) {
      const file = await get(nameAt(startOf(index)));
      expect(file).toMatchObject({ name: nameAt(startOf(index)), size: Number(SEGMENT) });
      const bytes = await bytesOf(file);
      expect(bytes.equals(wal.slice(startOf(index), startOf(index + 1)))).toBe(true);
      expect(bytes.equals(await readFile(join(directory, 'pg_wal', file.name)))).toBe(true);
    }
  });

  test('has a version of its own, which stays', async () => {
    await openStore();
    await receive();
    const names = [nameAt(startOf(0)), nameAt(startOf(1)), nameAt(startOf(0))];
    const versions: string[] = [];
    for (const name of names) {
      const file = await get(name);
      versions.push(file.version);
      file.close();
    }
    expect(versions[0]).toBe(versions[2]);
    expect(versions[0]).not.toBe(versions[1]);
    expect(versions[0]).toContain(wal.systemIdentifier);
  });

  test('is given whole although it is removed meanwhile', async () => {
    const limits = { ...STORE_LIMITS, controlIntervalMs: 10 };
    await openStore({ walKeepSizeBytes: 0, limits });
    await receive();
    const name = nameAt(startOf(0));
    const file = await get(name);
    const pieces = file.chunks[Symbol.asyncIterator]();
    const first = await pieces.next();
    store.setRetention(() => null);
    await expect
      .poll(
        async () => {
          store.removeOldSegments(null);
          return await readdir(join(directory, 'pg_wal'));
        },
        { timeout: 20_000 },
      )
      .not.toContain(name);
    expect(await refusal(name)).toEqual({ kind: 'absent' });
    const rest: Uint8Array[] = [];
    for (let next = await pieces.next(); next.done !== true; next = await pieces.next()) {
      rest.push(next.value);
    }
    file.close();
    const bytes = Buffer.concat([first.value ?? Buffer.alloc(0), ...rest]);
    expect(bytes.equals(wal.slice(startOf(0), startOf(1)))).toBe(true);
  });
});

describe('a segment that is not', () => {
  test('is said to be incomplete, and how far it is', async () => {
    await openStore();
    await receive();
    expect(await refusal(nameAt(startOf(3)))).toEqual({
      kind: 'incomplete',
      availableLsn: store.positions().flushedLsn,
    });
  });

  test('is absent when it lies ahead, before the store, or on another timeline', async () => {
    await openStore();
    await receive();
    expect(await refusal(nameAt(startOf(4)))).toEqual({ kind: 'absent' });
    expect(await refusal(nameAt(startOf(-1)))).toEqual({ kind: 'absent' });
    expect(await refusal(nameAt(startOf(0), 2))).toEqual({ kind: 'absent' });
  });

  test('is not begun when the WAL ends with the segment before it', async () => {
    wal = new WalFixture();
    wal.fill(700_000, 3);
    wal.switchSegment();
    await openStore();
    await receive();
    expect((await bytesOf(await get(nameAt(startOf(0))))).length).toBe(Number(SEGMENT));
    expect(await refusal(nameAt(startOf(1)))).toEqual({ kind: 'absent' });
  });

  test('is no name of one', async () => {
    await openStore();
    await receive();
    const names = [
      '',
      'x',
      '00000001000000000000003',
      '0000000100000000000000300',
      '00000001000000000000003g',
      '0000000000000000000000 3',
      '000000000000000000000030',
      // This segment size has 4096 segments a file number.
      '000000010000000000001000',
      // Its end is beyond the last LSN.
      '00000001FFFFFFFF00000FFF',
      '000000010000000000000030.partial',
      '000000010000000000000030.00000028.backup',
      '00000000.history',
      '00000001.HISTORY',
      '../../walcast.control',
      '000000010000000000000030/../000000010000000000000030',
      '000000010000000000000030\u0000',
      '000000010000000000000030\n',
      'RECOVERYXLOG',
      '0000000a0000000000000030',
    ];
    for (const name of names) expect(await refusal(name), name).toEqual({ kind: 'unknown-name' });
  });

  test('has to be asked for again while the store is empty or not open', async () => {
    store = await WalStore.open(storeOptions(directory, {}));
    files = newFiles(() => store);
    expect(await refusal(nameAt(startOf(0)))).toEqual({ kind: 'starting' });
    expect(await refusal('00000002.history')).toEqual({ kind: 'starting' });
    expect(await refusal('nonsense')).toEqual({ kind: 'unknown-name' });
    files = newFiles(() => null);
    expect(await refusal(nameAt(startOf(0)))).toEqual({ kind: 'starting' });
  });
});

describe('damage', () => {
  async function damage(lsn: bigint): Promise<void> {
    const name = nameAt(lsn);
    const file = await openFile(join(directory, 'pg_wal', name), 'r+');
    await file.write(Buffer.alloc(8), 0, 8, Number(lsn % SEGMENT));
    await file.close();
  }

  test('at the beginning is the answer, and is counted and logged by the store', async () => {
    const lines: string[] = [];
    const log = { ...silentLog, error: (message: string) => void lines.push(message) };
    await openStore({ log });
    await receive();
    await damage(startOf(1) + 8192n);
    expect(await refusal(nameAt(startOf(1)))).toMatchObject({
      kind: 'damaged',
      lsn: startOf(1) + 8192n,
    });
    expect(store.status()).toMatchObject({ rejectedFromDisk: 1, errors: { read: 1 } });
    expect(lines).toEqual(['stored WAL is damaged']);
  });

  test('further on ends the download, and no damaged byte is given', async () => {
    await openStore();
    await receive();
    await damage(startOf(1) + 10n * 65_536n);
    const file = await get(nameAt(startOf(1)));
    let given = 0;
    await expect(async () => {
      for await (const piece of file.chunks) given += piece.length;
    }).rejects.toThrow(/cannot be given whole: at 0\/31A0000/);
    file.close();
    expect(given).toBe(10 * 65_536);
  });

  test('of a file that somebody removed is damage, not absence', async () => {
    await openStore();
    await receive();
    await unlink(join(directory, 'pg_wal', nameAt(startOf(1))));
    expect(await refusal(nameAt(startOf(1)))).toMatchObject({
      kind: 'damaged',
      reason: 'the file is missing',
    });
  });
});

describe('what downloads hold on to', () => {
  test('is bounded in number: one more waits for its turn, in the order of asking', async () => {
    await openStore();
    await receive();
    const name = nameAt(startOf(0));
    const [first, second] = [await get(name), await get(name)];
    const order: string[] = [];
    const third = get(name).then((file) => (order.push('third'), file));
    const fourth = get(name).then((file) => (order.push('fourth'), file));
    first.close();
    // Once each, however often they are closed.
    first.close();
    expect((await bytesOf(await third)).length).toBe(Number(SEGMENT));
    expect((await bytesOf(await fourth)).length).toBe(Number(SEGMENT));
    expect((await bytesOf(second)).length).toBe(Number(SEGMENT));
    expect(order).toEqual(['third', 'fourth']);
    expect(clock.nextTimerMs()).toBeNull();
  });

  test('is bounded in time for who waits, and all places come back', async () => {
    await openStore();
    await receive();
    const name = nameAt(startOf(0));
    const held = [await get(name), await get(name)];
    const late = [refusal(name), refusal(name)];
    await expect.poll(() => clock.nextTimerMs(), { timeout: 10_000 }).not.toBeNull();
    clock.advance(LIMITS.waitMs);
    expect(await Promise.all(late)).toEqual([{ kind: 'busy' }, { kind: 'busy' }]);
    for (const file of held) file.close();
    const again = [await get(name), await get(name)];
    for (const file of again) file.close();
  });

  test('nothing is opened again for one that is closed in the middle', async () => {
    await openStore();
    await receive();
    const file = await get(nameAt(startOf(0)));
    const pieces = file.chunks[Symbol.asyncIterator]();
    await pieces.next();
    file.close();
    await expect(pieces.next()).rejects.toThrow('the download is over');
  });

  test('one that is refused or damaged takes no place', async () => {
    await openStore();
    await receive();
    await unlink(join(directory, 'pg_wal', nameAt(startOf(1))));
    for (let index = 0; index < 5; index += 1) {
      expect(await refusal(nameAt(startOf(1)))).toMatchObject({ kind: 'damaged' });
      expect(await refusal(nameAt(startOf(9)))).toMatchObject({ kind: 'absent' });
    }
    const file = await get(nameAt(startOf(0)));
    file.close();
  });

  test('two that are read in turns both get the right bytes', async () => {
    await openStore();
    await receive();
    const read = await Promise.all(
      [0, 1].map(async (index) => bytesOf(await get(nameAt(startOf(index))))),
    );
    expect(read[0]?.equals(wal.slice(startOf(0), startOf(1)))).toBe(true);
    expect(read[1]?.equals(wal.slice(startOf(1), startOf(2)))).toBe(true);
  });
});

describe('a timeline that is left', () => {
  const switchLsn = toLsn(wal0() + SEGMENT + 400_000n);

  /** As the fixture begins. */
  function wal0(): bigint {
    return new WalFixture().startLsn;
  }

  async function leave(): Promise<void> {
    const history = {
      timeline: toTimelineId(2),
      ancestors: [{ timeline: toTimelineId(1), endLsn: switchLsn }],
    };
    const text = `1\t${formatLsn(switchLsn)}\tno recovery target specified\n`;
    await store.storeHistoryFile(history.timeline, Buffer.from(text));
    await store.switchTimeline({ history, switchLsn });
  }

  test('has whole segments before its end, and nothing behind it: what lies there is dead', async () => {
    await openStore();
    await receive();
    const before = await bytesOf(await get(nameAt(startOf(0))));
    await leave();
    expect((await bytesOf(await get(nameAt(startOf(0))))).equals(before)).toBe(true);
    for (const index of [1, 2, 3]) {
      expect(await refusal(nameAt(startOf(index)))).toEqual({ kind: 'absent' });
    }
    expect((await readdir(join(directory, 'dead'))).length).toBeGreaterThan(1);
    expect(await refusal(nameAt(startOf(0), 2))).toEqual({ kind: 'absent' });
    expect((await refusal(nameAt(startOf(1), 2))).kind).toBe('incomplete');
    expect(await refusal(nameAt(startOf(2), 2))).toEqual({ kind: 'absent' });
    const file = await get('00000002.history');
    expect((await bytesOf(file)).toString()).toContain('no recovery target');
  });

  test('breaks off a download of a segment that is dead now', async () => {
    await openStore();
    await receive();
    const file = await get(nameAt(startOf(2)));
    const pieces = file.chunks[Symbol.asyncIterator]();
    await pieces.next();
    await leave();
    await expect(pieces.next()).rejects.toThrow('cannot be given whole: it was removed');
    file.close();
    expect(store.status().rejectedFromDisk).toBe(0);
  });
});

describe('history', () => {
  const history: TimelineHistory = {
    timeline: toTimelineId(2),
    ancestors: [{ timeline: toTimelineId(1), endLsn: toLsn(0x3180000n) }],
  };

  test('files of our own lineage are given as they are, and no others', async () => {
    await openStore({}, history);
    await store.storeHistoryFile(toTimelineId(3), Buffer.from('2\t0/5000000\tpromoted\n'));
    const file = await get('00000002.history');
    expect((await bytesOf(file)).toString()).toBe('1\t0/3180000\tpromoted\n');
    expect(await refusal('00000003.history')).toEqual({ kind: 'absent' });
    expect(await refusal('00000001.history')).toEqual({ kind: 'absent' });
  });

  test('decides which timeline a segment is whole on, as on the server: the one it was left for', async () => {
    wal = new WalFixture();
    wal.history = history;
    wal.fill(1_500_000, 3);
    wal.fill(1_000_000, 4);
    await openStore({}, history);
    await receive();
    const [before, within, after] = [startOf(0), startOf(1), startOf(2)];
    expect(await refusal(nameAt(before, 2))).toEqual({ kind: 'absent' });
    expect(await refusal(nameAt(within, 1))).toEqual({ kind: 'absent' });
    expect(await refusal(nameAt(after, 1))).toEqual({ kind: 'absent' });
    const old = await bytesOf(await get(nameAt(before, 1)));
    expect(old.equals(wal.slice(before, within))).toBe(true);
    const left = await bytesOf(await get(nameAt(within, 2)));
    expect(left.equals(wal.slice(within, after))).toBe(true);
    expect(await refusal(nameAt(after, 2))).toMatchObject({ kind: 'incomplete' });
  });
});
