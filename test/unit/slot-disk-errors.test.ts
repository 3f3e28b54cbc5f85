// What is left of a slot when the disk refuses: what was there before, or what was asked for, and a way on. A full disk
// takes what a slot gives up, because that is what makes room.
import type * as FsPromises from 'node:fs/promises';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { NO_XMINS } from '../../src/pg/xmins.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { SlotFiles } from '../../src/slot/slot-files.ts';
import { SlotStore } from '../../src/slot/slot-store.ts';
import { nameOfState, stateOfName } from '../../src/slot/slot-state-name.ts';
import type { PersistentSlot } from '../../src/slot/slot.ts';
import { eventually } from '../support/eventually.ts';

/** What the disk refuses: new bytes, and the fsync of a directory, that of so many from now on (0 = none). */
const disk = vi.hoisted(() => ({ isFull: false, refusedSync: 0 }));

vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof FsPromises>();
  const refusal = (code: string, syscall: string): Error =>
    Object.assign(new Error(code), { code, syscall });
  return {
    ...real,
    open: async (...args: Parameters<typeof real.open>) => {
      const handle = await real.open(...args);
      const isForWriting = args[1] === 'w';
      if (disk.isFull && isForWriting) {
        const write = (): Promise<never> => Promise.reject(refusal('ENOSPC', 'write'));
        return Object.assign(handle, { write });
      }
      if (!isForWriting && disk.refusedSync > 0 && --disk.refusedSync === 0) {
        const sync = (): Promise<never> => Promise.reject(refusal('EIO', 'fsync'));
        return Object.assign(handle, { sync });
      }
      return handle;
    },
  };
});

const BEFORE: PersistentSlot = {
  name: 'a',
  restartLsn: toLsn(0x1000000n),
  invalidation: null,
  ...NO_XMINS,
};
const MOVED: PersistentSlot = { ...BEFORE, restartLsn: toLsn(0x1_02000000n) };
const LOST: PersistentSlot = { ...BEFORE, restartLsn: INVALID_LSN, invalidation: 'wal_removed' };

let directory: string;
let files: SlotFiles;
let writtenLsn: Lsn;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-slots-'));
  files = new SlotFiles(directory);
  await files.load();
});

afterEach(async () => {
  Object.assign(disk, { isFull: false, refusedSync: 0 });
  await rm(directory, { recursive: true, force: true });
});

async function open(): Promise<SlotStore> {
  writtenLsn = toLsn(0x1900000n);
  return await SlotStore.open({
    directory,
    wal: { oldestLsn: () => toLsn(0x1000000n), redoLsn: () => toLsn(0x1800028n) },
    bounds: () => ({
      segmentSize: toSegmentSize(1 << 20),
      walKeepSizeBytes: 0,
      maxSlotWalKeepSizeBytes: 4 << 20,
      quotaBytes: null,
      deadBytes: 0,
      oldestLsn: toLsn(0x1000000n),
      writtenLsn,
      flushedLsn: writtenLsn,
    }),
    slotsMax: 3,
    autoCreate: false,
    idleTimeoutMs: 0,
    facts: () => versionFacts(18),
    terminate: () => {},
    onChange: () => {},
    clock: systemClock,
    log: silentLog,
  });
}

async function found(): Promise<PersistentSlot[]> {
  return await new SlotFiles(directory).load();
}

function slotNames(): Promise<string[]> {
  return readdir(join(directory, 'pg_replslot', 'a'));
}

describe('a directory that cannot be made durable', () => {
  test.each([1, 2, 3])('leaves no slot behind that was in the making (fsync %i)', async (nth) => {
    disk.refusedSync = nth;
    await expect(files.create(BEFORE)).rejects.toMatchObject({ code: 'EIO' });
    expect(await found()).toEqual([]);
    disk.refusedSync = nth;
    await expect(files.create(BEFORE)).rejects.toMatchObject({ code: 'EIO' });
    await files.create(MOVED);
    expect(await found()).toEqual([MOVED]);
  });

  test('leaves a slot that was to be dropped, and it can be saved still', async () => {
    await files.create(BEFORE);
    disk.refusedSync = 1;
    await expect(files.remove('a')).rejects.toMatchObject({ code: 'EIO' });
    await files.save(MOVED);
    expect(await found()).toEqual([MOVED]);
    await files.remove('a');
    expect(await found()).toEqual([]);
  });

  test('lets the next wait for a drop go on', async () => {
    const slots = await open();
    expect(
      await slots.create({ name: 'a', temporary: false, reserveWal: true, pid: 1 }),
    ).toBeNull();
    disk.refusedSync = 1;
    const [first, second] = [1, 2].map((pid) => slots.drop('a', { wait: true, pid }));
    expect(await first).toMatchObject({ sqlstate: '58030' });
    expect(await second).toBeNull();
    await slots.close();
  });
});

describe('a full disk', () => {
  test.each([
    ['a position', MOVED, 'at-1-2000000'],
    ['a loss', LOST, 'at-0-0.wal_removed'],
  ])('keeps %s in the name of the file, until there is room', async (_what, state, name) => {
    await files.create(BEFORE);
    disk.isFull = true;
    await files.save(state);
    expect(await slotNames()).toEqual([name]);
    expect(await found()).toEqual([state]);
    await files.save(BEFORE);
    await files.save(state);
    expect(await found()).toEqual([state]);
    disk.isFull = false;
    await files.save(BEFORE);
    expect(await slotNames()).toEqual(['state']);
    expect(await found()).toEqual([BEFORE]);
  });

  test('loses no newer state to an older name that a stop has left', async () => {
    await files.create(BEFORE);
    disk.isFull = true;
    await files.save(MOVED);
    disk.isFull = false;
    const [name = ''] = await slotNames();
    await files.save(BEFORE);
    await writeFile(join(directory, 'pg_replslot', 'a', name), '');
    expect(await found()).toEqual([BEFORE]);
    const next = new SlotFiles(directory);
    await next.load();
    disk.isFull = true;
    await next.save(LOST);
    expect(await found()).toEqual([LOST]);
    expect(await slotNames()).toHaveLength(1);
  });

  test('takes the loss of a slot, so that its WAL can go', async () => {
    const slots = await open();
    expect(
      await slots.create({ name: 'a', temporary: false, reserveWal: true, pid: 1 }),
    ).toBeNull();
    disk.isFull = true;
    writtenLsn = toLsn(0x9000000n);
    slots.checkObsolete();
    expect(slots.minimumPersistedRestartLsn()).not.toBeNull();
    await eventually(() => slots.minimumPersistedRestartLsn()).toBeNull();
    await slots.close();
    expect(await found()).toEqual([LOST]);
  });

  test('has names that are read back as they were written, and takes no other', () => {
    for (const state of [
      BEFORE,
      MOVED,
      LOST,
      { ...MOVED, invalidation: 'idle_timeout' as const },
    ]) {
      expect({ name: 'a', ...stateOfName(nameOfState(state)) }).toEqual(state);
    }
    for (const name of [
      'state',
      'state.tmp',
      'at-0-0.other',
      'at-0-0.',
      'at-0',
      'at-0-123456789',
    ]) {
      expect(stateOfName(name)).toBeNull();
    }
  });
});
