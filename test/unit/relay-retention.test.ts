// What may be removed, when, and who is told before: bounds, quota, alarm, and removal that goes by what is on the disk.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { LogFields } from '../../src/base/log.ts';
import { silentLog } from '../../src/base/log.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/config.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { effectiveKeepSize, Retention, walBounds } from '../../src/relay/retention.ts';
import type { RetentionStore } from '../../src/relay/retention.ts';
import { SlotFiles } from '../../src/slot/slot-files.ts';
import { SlotStore } from '../../src/slot/slot-store.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';

const MB = 1024 * 1024;

/** A store of segments of 1 MB that removes what it is told, at once, and remembers it. */
class Store implements RetentionStore {
  identity: { readonly segmentSize: ReturnType<typeof toSegmentSize> } | null = {
    segmentSize: toSegmentSize(MB),
  };
  oldest = at(10);
  end = at(12, 100);
  deadBytes = 0;
  minimum: () => Lsn | null = () => null;
  readonly removals: Lsn[] = [];
  readonly keepSize: () => number;

  constructor(keepSize: () => number) {
    this.keepSize = keepSize;
  }

  oldestLsn(): Lsn {
    return this.oldest;
  }

  positions(): { writtenLsn: Lsn; flushedLsn: Lsn } {
    return { writtenLsn: this.end, flushedLsn: this.end };
  }

  deadWal(): { bytes: number } {
    return { bytes: this.deadBytes };
  }

  setRetention(minimum: () => Lsn | null): void {
    this.minimum = minimum;
  }

  removeOldSegments(minimum: Lsn | null): void {
    const size = BigInt(this.keepSize());
    const window = size > this.end ? 0n : this.end - size;
    const keep = minimum === null || minimum > window ? window : minimum;
    const start = toLsn((keep / BigInt(MB)) * BigInt(MB));
    if (start <= this.oldest) return;
    this.oldest = start;
    this.removals.push(start);
  }

  /** The end goes on to `segment`; a full segment is when the store asks what it may remove. */
  write(segment: number): void {
    this.end = at(segment, 100);
    this.removeOldSegments(this.minimum());
  }
}

function at(segment: number, offset = 0): Lsn {
  return toLsn(BigInt(segment * MB + offset));
}

function configOf(settings: Record<string, string>): Config {
  const flags = Object.entries({ 'upstream.conninfo': 'host=a', ...settings });
  const loaded = loadConfig({
    flags: flags.map(([path, text]) => ({ path, text, flag: '--set' })),
    env: {},
    file: null,
    workingDirectory: '/',
  });
  if ('errors' in loaded) throw new Error(JSON.stringify(loaded.errors));
  return loaded.config;
}

let directory: string;
let config: Config;
let store: Store;
let slots: SlotStore;
let retention: Retention;
let clock: ManualClock;
let lines: [text: string, fields: LogFields][];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-retention-'));
  clock = new ManualClock();
  lines = [];
  config = configOf({ 'storage.wal_keep_size': '0', 'storage.max_slot_wal_keep_size': '4MB' });
  store = new Store(() => effectiveKeepSize(store, config.storage));
  const log = {
    ...silentLog,
    warn: (text: string, fields?: LogFields): void => void lines.push([text, fields ?? {}]),
    info: (text: string, fields?: LogFields): void => void lines.push([text, fields ?? {}]),
  };
  slots = await SlotStore.open({
    directory,
    wal: { oldestLsn: () => store.oldest, redoLsn: () => at(11) },
    bounds: () => walBounds(store, config.storage),
    slotsMax: 5,
    autoCreate: false,
    get idleTimeoutMs() {
      return config.idleReplicationSlotTimeoutMs;
    },
    facts: () => versionFacts(18),
    terminate: () => {},
    onChange: () => retention.turn(),
    clock,
    log: silentLog,
  });
  retention = new Retention({ store, slots, config: () => config, clock, log });
});

afterEach(async () => {
  vi.restoreAllMocks();
  retention.close();
  await slots.close();
  await rm(directory, { recursive: true, force: true });
});

async function create(name: string): Promise<void> {
  expect(await slots.create({ name, temporary: false, reserveWal: true, pid: 1 })).toBeNull();
}

describe('removal', () => {
  test('keeps what a slot keeps, and loses the slot on the disk before its WAL goes', async () => {
    await create('a');
    await retention.start();
    store.write(15);
    expect(store.oldest).toBe(at(11));
    const saved: Lsn[] = [];
    let go: () => void = () => {};
    vi.spyOn(SlotFiles.prototype, 'save').mockImplementationOnce(async function (
      this: SlotFiles,
      slot,
    ) {
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      saved.push(store.oldest);
      await this.save(slot);
    });
    store.write(16);
    expect(slots.list()[0]?.walStatus).toBe('lost');
    store.write(17);
    retention.turn();
    expect(store.oldest).toBe(at(11));
    await eventually(() => {
      go();
      return store.oldest;
    }).toBe(at(17));
    expect(saved).toEqual([at(11)]);
    expect(retention.status()).toMatchObject({
      slotsInvalidated: { wal_removed: 1, idle_timeout: 0 },
    });
  });

  test('goes by the position on the disk while a newer one is on its way there', async () => {
    await create('a');
    await retention.start();
    let fail: (error: Error) => void = () => {};
    const spy = vi.spyOn(SlotFiles.prototype, 'save').mockImplementationOnce(
      () =>
        new Promise((_resolve, reject) => {
          fail = reject;
        }),
    );
    slots.advance('a', at(13));
    store.write(14);
    clock.advance(1_000);
    await eventually(() => spy.mock.calls.length).toBe(1);
    store.write(14);
    retention.turn();
    expect(store.oldest).toBe(at(11));
    fail(new Error('disk'));
    await eventually(() => {
      clock.advance(1_000);
      return store.oldest;
    }).toBe(at(13));
  });

  test('follows a drop at once', async () => {
    await create('a');
    await retention.start();
    store.write(14);
    expect(store.oldest).toBe(at(11));
    await slots.drop('a', { wait: false, pid: 1 });
    expect(store.oldest).toBe(at(14));
  });

  test('follows a smaller bound of a reload at once', async () => {
    await create('a');
    await retention.start();
    store.write(14);
    config = configOf({ 'storage.wal_keep_size': '0', 'storage.max_slot_wal_keep_size': '1MB' });
    retention.turn();
    await eventually(() => store.oldest).toBe(at(14));
    expect(slots.list()[0]?.invalidationReason).toBe('wal_removed');
  });

  test('removes nothing, and makes nothing, when it was closed', async () => {
    await create('a');
    await retention.start();
    retention.close();
    await slots.drop('a', { wait: false, pid: 1 });
    expect(store.removals).toEqual([at(11)]);
  });
});

test('what was removed is counted for one reason, from the start on, and taken from none later', async () => {
  await create('a');
  await retention.start();
  expect(retention.status()).toMatchObject({
    segmentsRemovedUnneeded: 1,
    segmentsRemovedByLimit: 0,
  });
  store.write(16);
  await eventually(() => store.oldest).toBe(at(16));
  expect(retention.status()).toMatchObject({
    segmentsRemovedUnneeded: 5,
    segmentsRemovedByLimit: 1,
  });
});

describe('the quota', () => {
  test('cuts the window first and loses slots then, and counts what had to go', async () => {
    config = configOf({ 'storage.wal_keep_size': '20MB', 'storage.quota': '8MB' });
    await create('a');
    await retention.start();
    expect(config.warnings.join()).toContain('storage.quota is less than storage.wal_keep_size');
    store.write(17);
    expect(store.oldest).toBe(at(11));
    expect(slots.list()[0]?.walStatus).toBe('reserved');
    store.deadBytes = 2 * MB;
    retention.turn();
    await eventually(() => store.oldest).toBe(at(13));
    expect(slots.list()[0]?.walStatus).toBe('lost');
    retention.turn();
    expect(retention.status()).toMatchObject({
      segmentsRemovedByLimit: 3,
      segmentsRemovedUnneeded: 0,
      limitBytes: 8 * MB,
    });
  });
});

describe('the alarm', () => {
  test('is raised once at 80 % with the slot that holds most, and again after there was room', async () => {
    config = configOf({ 'storage.wal_keep_size': '0', 'storage.max_slot_wal_keep_size': '10MB' });
    await create('a');
    await retention.start();
    store.write(18);
    clock.advance(1_000);
    expect(retention.status().isNearLimit).toBe(false);
    store.write(19);
    clock.advance(1_000);
    clock.advance(1_000);
    expect(retention.status()).toMatchObject({ isNearLimit: true, limitBytes: 10 * MB });
    const alarms = (): typeof lines => lines.filter(([text]) => text.includes('nearly full'));
    expect(alarms()).toHaveLength(1);
    expect(alarms()[0]?.[1]).toMatchObject({
      slot: 'a',
      restart_lsn: '0/B00000',
      limit_bytes: 10 * MB,
    });
    slots.advance('a', at(12));
    await eventually(() => {
      clock.advance(1_000);
      return store.oldest;
    }).toBe(at(12));
    expect(retention.status().isNearLimit).toBe(false);
    expect(lines.at(-1)?.[0]).toBe('the WAL store has room again');
    store.write(20);
    clock.advance(1_000);
    expect(alarms()).toHaveLength(2);
  });

  test('counts dead WAL in the quota, and not in what slots may keep', async () => {
    config = configOf({ 'storage.wal_keep_size': '0', 'storage.max_slot_wal_keep_size': '10MB' });
    store.deadBytes = 9 * MB;
    await retention.start();
    expect(retention.status().isNearLimit).toBe(false);
    config = configOf({ 'storage.wal_keep_size': '0', 'storage.quota': '12MB' });
    clock.advance(1_000);
    expect(retention.status().isNearLimit).toBe(true);
  });

  test('comes before a slot is lost for a small quota, too', async () => {
    config = configOf({ 'storage.wal_keep_size': '0', 'storage.quota': '6MB' });
    await create('a');
    await retention.start();
    store.write(15);
    clock.advance(1_000);
    expect(slots.list()[0]?.walStatus).not.toBe('lost');
    expect(retention.status().isNearLimit).toBe(true);
  });

  test('is silent for a window that is as large as the limit, and without a limit', async () => {
    config = configOf({ 'storage.wal_keep_size': '4MB', 'storage.max_slot_wal_keep_size': '0' });
    await retention.start();
    store.write(14);
    clock.advance(1_000);
    expect(retention.status()).toMatchObject({ isNearLimit: false, limitBytes: 4 * MB });
    config = configOf({ 'storage.max_slot_wal_keep_size': '-1' });
    clock.advance(1_000);
    expect(retention.status()).toMatchObject({ isNearLimit: false, limitBytes: 0 });
  });
});

describe('slots of the configuration', () => {
  test('are made at the start, reserve as soon as there is WAL, and come back after a drop', async () => {
    const { identity } = store;
    store.identity = null;
    store.oldest = toLsn(0n);
    config = configOf({ slots: 'a,b' });
    await retention.start();
    expect(slots.list().map((slot) => slot.name)).toEqual(['a', 'b']);
    store.identity = identity;
    store.oldest = at(10);
    clock.advance(1_000);
    await eventually(() => slots.read('b')?.restartLsn).toBe(at(11));
    await slots.drop('a', { wait: false, pid: 1 });
    await eventually(() => {
      clock.advance(1_000);
      return slots.read('a')?.restartLsn;
    }).toBe(at(11));
    config = configOf({ slots: 'b' });
    clock.advance(1_000);
    expect(slots.read('a')).not.toBeNull();
    clock.advance(1_000);
    expect(lines.filter(([text]) => text.includes('any more'))).toEqual([
      [expect.stringContaining('stays'), { slot: 'a' }],
    ]);
  });
});

test('slots of the configuration keep the first WAL of an empty store, however fast more comes', async () => {
  const { identity } = store;
  store.identity = null;
  store.oldest = toLsn(0n);
  config = configOf({ 'storage.wal_keep_size': '0', slots: 'a' });
  await retention.start();
  store.identity = identity;
  store.oldest = at(11);
  store.write(14);
  expect(store.oldest).toBe(at(11));
  expect(slots.read('a')?.restartLsn).toBe(at(11));
});

test('an idle slot is lost by the clock alone', async () => {
  config = configOf({ idle_replication_slot_timeout: '2s' });
  await create('a');
  await retention.start();
  clock.advance(1_500);
  expect(slots.list()[0]?.invalidationReason).toBeNull();
  clock.advance(1_500);
  expect(slots.list()[0]?.invalidationReason).toBe('idle_timeout');
});
