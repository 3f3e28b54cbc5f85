// When is a slot lost, what is said then, what may still be done with it, and how does it come back?
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { encodeStateFile } from '../../src/base/state-file.ts';
import type { Log, LogFields } from '../../src/base/log.ts';
import { silentLog } from '../../src/base/log.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { SlotStore } from '../../src/slot/slot-store.ts';
import type { SlotStoreOptions } from '../../src/slot/slot-store.ts';
import type { WalBounds } from '../../src/slot/wal-availability.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';

const MB = 1024 * 1024;

class Rig {
  readonly clock = new ManualClock();
  readonly lines: [text: string, fields: LogFields][] = [];
  readonly terminated: number[] = [];
  changes = 0;
  major = 18;
  bounds: WalBounds = {
    segmentSize: toSegmentSize(MB),
    walKeepSizeBytes: 0,
    maxSlotWalKeepSizeBytes: 4 * MB,
    quotaBytes: null,
    deadBytes: 0,
    oldestLsn: at(10),
    writtenLsn: at(12, 100),
    flushedLsn: at(12, 100),
  };
  slots!: SlotStore;

  readonly options: { -readonly [Key in keyof SlotStoreOptions]: SlotStoreOptions[Key] };

  constructor() {
    const keep: Log['info'] = (text, fields) => void this.lines.push([text, fields ?? {}]);
    this.options = {
      directory,
      wal: { oldestLsn: () => this.bounds.oldestLsn, redoLsn: () => at(11) },
      bounds: () => this.bounds,
      slotsMax: 5,
      autoCreate: false,
      idleTimeoutMs: 0,
      facts: () => versionFacts(this.major),
      terminate: (pid) => void this.terminated.push(pid),
      onChange: () => {
        this.changes++;
      },
      clock: this.clock,
      log: { ...silentLog, info: keep, warn: keep },
    };
  }

  async open(): Promise<void> {
    this.slots = await SlotStore.open(this.options);
  }

  async create(name: string): Promise<void> {
    expect(
      await this.slots.create({ name, temporary: false, reserveWal: true, pid: 1 }),
    ).toBeNull();
  }

  /** Writes up to `segment`; slots may keep four segments. */
  write(segment: number): void {
    this.bounds = { ...this.bounds, writtenLsn: at(segment), flushedLsn: at(segment) };
  }

  status(name: string): unknown {
    const slot = this.slots.list().find((other) => other.name === name);
    return [slot?.walStatus, slot?.restartLsn, slot?.invalidationReason, slot?.safeWalSize];
  }

  async stored(name: string): Promise<string> {
    return await readFile(join(directory, 'pg_replslot', name, 'state'), 'utf8');
  }
}

function at(segment: number, offset = 0): Lsn {
  return toLsn(BigInt(segment * MB + offset));
}

let directory: string;
let rig: Rig;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-slots-'));
  rig = new Rig();
  await rig.open();
});

afterEach(async () => {
  await rig.slots.close();
  await rm(directory, { recursive: true, force: true });
});

const LOST = ['lost', INVALID_LSN, 'wal_removed', null];

describe('a slot that keeps more than it may', () => {
  test('is lost, on the disk before its WAL may go, with PostgreSQL’s words', async () => {
    await rig.create('a');
    rig.write(15);
    rig.slots.checkObsolete();
    expect(rig.status('a')).toMatchObject(['extended', at(11), null, MB]);
    rig.write(16);
    expect(rig.status('a')).toMatchObject(['unreserved', at(11), null, 0]);
    rig.slots.checkObsolete();
    expect(rig.status('a')).toEqual(LOST);
    expect(rig.slots.minimumPersistedRestartLsn()).toBe(at(11));
    await eventually(() => rig.changes).toBeGreaterThan(0);
    expect(rig.slots.minimumPersistedRestartLsn()).toBeNull();
    expect(await rig.stored('a')).toContain('"invalidated": "wal_removed"');
    expect(rig.lines.at(-1)).toEqual([
      'invalidating obsolete replication slot "a"',
      {
        slot: 'a',
        restart_lsn: '0/B00000',
        detail: `The slot's restart_lsn 0/B00000 exceeds the limit by ${MB} bytes.`,
        hint: 'You might need to increase "max_slot_wal_keep_size".',
      },
    ]);
    expect(rig.slots.invalidations()).toEqual({ wal_removed: 1, idle_timeout: 0 });
  });

  test('is still lost after a restart', async () => {
    await rig.create('a');
    rig.write(16);
    rig.slots.checkObsolete();
    await rig.slots.close();
    await rig.open();
    expect(rig.status('a')).toEqual(LOST);
    expect(rig.slots.minimumPersistedRestartLsn()).toBeNull();
  });

  test('is one at a time the one furthest behind, and names the quota when that is why', async () => {
    await rig.create('a');
    await rig.create('b');
    rig.slots.advance('b', at(13));
    rig.bounds = { ...rig.bounds, quotaBytes: 5 * MB };
    rig.write(16);
    rig.slots.checkObsolete();
    expect(rig.slots.list().map((slot) => slot.walStatus)).toEqual(['lost', 'extended']);
    expect(rig.lines.at(-1)?.[1]).toMatchObject({
      hint: 'You might need to increase "storage.quota".',
    });
  });

  test('ends the session that uses it, once, and is lost in the turn in which it is let go', async () => {
    await rig.create('a');
    expect(rig.slots.acquire('a', 77)).toBeNull();
    rig.write(16);
    rig.slots.checkObsolete();
    rig.slots.checkObsolete();
    expect(rig.terminated).toEqual([77]);
    expect(rig.lines.at(-1)?.[0]).toBe('terminating process 77 to release replication slot "a"');
    expect(rig.status('a')).toMatchObject(['unreserved', at(11), null, 0]);
    rig.slots.release('a', 77);
    expect(rig.status('a')).toEqual(LOST);
  });

  test('stays when its standby confirmed enough before it went', async () => {
    await rig.create('a');
    rig.slots.acquire('a', 77);
    rig.write(16);
    rig.slots.checkObsolete();
    rig.slots.advance('a', at(15));
    rig.slots.release('a', 77);
    expect(rig.status('a')).toMatchObject(['reserved', at(15), null, 4 * MB]);
  });

  test('moves to where its stream began when it would be lost otherwise: its standby is ahead of us', async () => {
    await rig.create('a');
    rig.slots.acquire('a', 77, at(18));
    rig.write(16);
    rig.slots.checkObsolete();
    expect(rig.terminated).toEqual([]);
    expect(rig.status('a')).toMatchObject(['reserved', at(16), null, 5 * MB]);
    rig.write(24);
    rig.slots.checkObsolete();
    expect(rig.terminated).toEqual([77]);
    rig.slots.release('a', 77);
    expect(rig.status('a')).toEqual(LOST);
  });

  test('is lost all the same when its stream began before the limit, too, or has ended', async () => {
    await rig.create('a');
    rig.slots.acquire('a', 77, at(11, 500));
    rig.write(16);
    rig.slots.checkObsolete();
    expect(rig.terminated).toEqual([77]);
    rig.slots.release('a', 77);
    expect(rig.status('a')).toEqual(LOST);
    await rig.create('b');
    rig.slots.acquire('b', 78, at(20));
    rig.slots.release('b', 78);
    rig.write(24);
    rig.slots.checkObsolete();
    expect(rig.status('b')).toEqual(LOST);
  });

  test('does not move beyond the place where a timeline was left', async () => {
    await rig.create('a');
    rig.slots.acquire('a', 77, at(15));
    rig.slots.cut(at(13));
    rig.write(17);
    rig.slots.checkObsolete();
    expect(rig.status('a')).toMatchObject(['extended', at(13), null, MB]);
  });

  test('is left alone while its standby reads from before the store, and keeps nothing here then', async () => {
    await rig.create('a');
    rig.slots.acquire('a', 77);
    rig.slots.advance('a', at(8));
    rig.write(16);
    rig.slots.checkObsolete();
    expect(rig.terminated).toEqual([]);
    expect(rig.status('a')).toMatchObject(['unreserved', at(8), null, -3 * MB]);
    rig.slots.release('a', 77);
    rig.slots.checkObsolete();
    expect(rig.status('a')).toEqual(LOST);
  });
});

describe('a lost slot', () => {
  beforeEach(async () => {
    await rig.create('a');
    rig.write(16);
    rig.slots.checkObsolete();
    await eventually(() => rig.changes).toBeGreaterThan(0);
    rig.bounds = { ...rig.bounds, oldestLsn: at(12) };
  });

  test('is refused by majors that do so where no stream is to use it', () => {
    expect(rig.slots.acquire('a', 7)).toEqual({
      sqlstate: '55000',
      message: 'can no longer access replication slot "a"',
      detail: 'This replication slot has been invalidated due to "wal_removed".',
    });
    expect(rig.status('a')).toEqual(LOST);
    rig.major = 17;
    expect(rig.slots.acquire('a', 7)).toBeNull();
  });

  test.each([17, 18])(
    'of PostgreSQL %i is used as it is by a stream that begins before the store, and is back when WAL is confirmed that is stored',
    (major) => {
      rig.major = major;
      expect(rig.slots.acquire('a', 7, at(11))).toBeNull();
      expect(rig.lines.at(-1)).toEqual([
        'lost replication slot is in use; it keeps nothing until its standby is in stored WAL',
        { slot: 'a', start_lsn: '0/B00000', invalidated: 'wal_removed' },
      ]);
      rig.slots.advance('a', at(11, 500));
      expect(rig.slots.minimumPersistedRestartLsn()).toBeNull();
      expect(rig.status('a')).toEqual(LOST);
      rig.slots.advance('a', at(13));
      expect(rig.status('a')).toMatchObject(['extended', at(13), null, 2 * MB]);
    },
  );

  test('is back when a stream begins in WAL that is stored, with a line in the log', async () => {
    expect(rig.slots.acquire('a', 7, at(12))).toBeNull();
    expect(rig.status('a')).toMatchObject(['extended', at(12), null, MB]);
    expect(rig.slots.minimumPersistedRestartLsn()).toBe(at(12));
    expect(rig.lines.at(-1)).toEqual([
      'lost replication slot is in use again: its WAL is still stored',
      { slot: 'a', restart_lsn: '0/C00000', was_invalidated: 'wal_removed' },
    ]);
    await rig.slots.close();
    expect(await rig.stored('a')).toContain('"invalidated": null');
  });

  test('is not back for WAL that is stored but about to go', () => {
    rig.bounds = { ...rig.bounds, oldestLsn: at(10) };
    expect(rig.slots.acquire('a', 7, at(11))).toBeNull();
    expect(rig.status('a')).toEqual(LOST);
  });

  test('can be dropped, and its name used again', async () => {
    expect(await rig.slots.drop('a', { wait: false, pid: 1 })).toBeNull();
    await rig.create('a');
    expect(rig.status('a')).toMatchObject(['extended', at(12), null, MB]);
  });
});

describe('an idle slot', () => {
  test('is lost after the timeout, keeps its position in view, and says how idle it was', async () => {
    await rig.create('a');
    rig.options.idleTimeoutMs = 60_000;
    rig.clock.advance(59_999);
    rig.slots.checkObsolete();
    expect(rig.slots.invalidations().idle_timeout).toBe(0);
    rig.clock.advance(2_001);
    rig.slots.checkObsolete();
    expect(rig.status('a')).toEqual(['lost', at(11), 'idle_timeout', null]);
    expect(rig.lines.at(-1)).toEqual([
      'invalidating obsolete replication slot "a"',
      {
        slot: 'a',
        restart_lsn: '0/B00000',
        detail:
          'The slot\'s idle time of 62s exceeds the configured "idle_replication_slot_timeout" duration of 60s.',
        hint: 'You might need to increase "idle_replication_slot_timeout".',
      },
    ]);
    await eventually(() => rig.slots.minimumPersistedRestartLsn()).toBeNull();
  });

  test('is not lost while it is used, nor when it keeps nothing', async () => {
    await rig.create('used');
    await rig.slots.create({ name: 'empty', temporary: false, reserveWal: false, pid: 1 });
    rig.slots.acquire('used', 7);
    rig.options.idleTimeoutMs = 1_000;
    rig.clock.advance(10_000);
    rig.slots.checkObsolete();
    expect(rig.slots.invalidations().idle_timeout).toBe(0);
    rig.slots.release('used', 7);
    rig.clock.advance(500);
    rig.slots.checkObsolete();
    expect(rig.slots.invalidations().idle_timeout).toBe(0);
  });
});

test('a step of the wall clock makes no slot idle, and hides none that is', async () => {
  await rig.create('a');
  rig.options.idleTimeoutMs = 60_000;
  const startMs = rig.clock.wallMs();
  rig.clock.wallMs = () => startMs + 86_400_000;
  rig.slots.checkObsolete();
  expect(rig.slots.invalidations().idle_timeout).toBe(0);
  rig.clock.wallMs = () => startMs - 86_400_000;
  rig.clock.advance(60_000);
  rig.slots.checkObsolete();
  expect(rig.slots.invalidations().idle_timeout).toBe(1);
});

describe('slots of the configuration', () => {
  test('are made when missing, reserve WAL as soon as there is some, and count for the limit', async () => {
    rig.bounds = { ...rig.bounds, oldestLsn: INVALID_LSN };
    await rig.slots.create({ name: 'a', temporary: false, reserveWal: false, pid: 1 });
    rig.bounds = { ...rig.bounds, oldestLsn: at(10) };
    await rig.slots.ensure(['a', 'b']);
    expect(rig.slots.list().map((slot) => [slot.name, slot.restartLsn])).toEqual([
      ['a', at(11)],
      ['b', at(11)],
    ]);
  });

  test('are complained of once where they cannot be made', async () => {
    const refusals: string[] = [];
    rig.options.log = { ...silentLog, error: (text) => void refusals.push(text) };
    rig.options.slotsMax = 1;
    await rig.slots.ensure(['a', 'b']);
    await rig.slots.ensure(['a', 'b']);
    expect(refusals).toEqual(['a slot of `slots` could not be created']);
    rig.options.slotsMax = 2;
    await rig.slots.ensure(['a', 'b']);
    expect(rig.slots.read('b')).not.toBeNull();
  });

  test('are not brought back to life, nor moved, when they are there', async () => {
    await rig.create('a');
    rig.slots.advance('a', at(12));
    await rig.slots.ensure(['a']);
    expect(rig.slots.read('a')?.restartLsn).toBe(at(12));
    rig.write(18);
    rig.slots.checkObsolete();
    await rig.slots.ensure(['a']);
    expect(rig.status('a')).toEqual(LOST);
  });
});

describe('a slot that does not exist', () => {
  test('is made for a stream only when that is configured, durable before the stream begins', async () => {
    expect(rig.slots.createForStart('a', at(11))).toBeNull();
    rig.options.autoCreate = true;
    expect(await rig.slots.createForStart('a', at(11))).toBeNull();
    expect(await rig.stored('a')).toContain('"restart_lsn": "0/B00000"');
    expect(rig.slots.createForStart('a', at(11))).toBeNull();
    expect(await rig.slots.createForStart('Bad', at(11))).toMatchObject({ sqlstate: '42602' });
    expect(await rig.slots.createForStart('b', at(2))).toBeNull();
    expect(rig.slots.read('b')?.restartLsn).toBe(INVALID_LSN);
  });
});

test('a start beyond our end keeps what comes next, and nothing that does not exist', async () => {
  rig.options.autoCreate = true;
  const farLsn = toLsn(0x7fff_00000000n);
  expect(await rig.slots.createForStart('a', farLsn)).toBeNull();
  expect(rig.slots.read('a')?.restartLsn).toBe(at(12, 100));
  rig.write(17);
  rig.slots.checkObsolete();
  expect(rig.status('a')).toEqual(LOST);
  expect(rig.slots.acquire('a', 7, farLsn)).toBeNull();
  expect(rig.slots.read('a')?.restartLsn).toBe(at(17));
});

describe('a timeline switch', () => {
  test('cuts positions beyond it, in memory and on the disk, and leaves the others', async () => {
    await rig.create('a');
    await rig.create('b');
    rig.slots.advance('b', at(14));
    rig.slots.cut(at(12, 50));
    expect(rig.slots.list().map((slot) => slot.restartLsn)).toEqual([at(11), at(12, 50)]);
    // At once: the clock of this test stands still.
    await eventually(() => rig.stored('b')).toContain('"restart_lsn": "0/C00032"');
  });
});

test('a stop before the cut was saved is made good for at the start', async () => {
  await rig.create('a');
  rig.slots.advance('a', at(14));
  await rig.slots.close();
  await rig.open();
  expect(rig.slots.read('a')?.restartLsn).toBe(at(12, 100));
});

test('nothing is written any more once the slots were closed', async () => {
  await rig.create('a');
  await rig.slots.close();
  rig.write(16);
  rig.slots.checkObsolete();
  await new Promise((resolve) => setImmediate(resolve));
  await rig.slots.close();
  expect(await rig.stored('a')).toContain('"invalidated": null');
  expect(rig.slots.minimumPersistedRestartLsn()).toBe(at(11));
});

test.each([1, 2])('a state file of version %i is read, and written anew', async (version) => {
  await rig.create('a');
  const file = join(directory, 'pg_replslot/a/state');
  const body = { name: 'a', restart_lsn: '0/A00000' };
  const old = encodeStateFile(
    { magic: 'walcast-slot', version },
    version === 1 ? body : { ...body, invalidated: null },
  );
  await rig.slots.close();
  await writeFile(file, old);
  await rig.open();
  expect(rig.status('a')).toMatchObject(['extended', at(10), null, 3 * MB - 100]);
  expect(rig.slots.list()).toMatchObject([{ xmin: null, catalogXmin: null }]);
  rig.slots.advance('a', at(12));
  rig.slots.feedBack('a', { xmin: 700n, catalogXmin: null });
  await rig.slots.close();
  expect(await rig.stored('a')).toMatch(/^walcast-slot 3\n/);
  await rig.open();
  expect(rig.slots.list()).toMatchObject([{ restartLsn: at(12), xmin: 700n, catalogXmin: null }]);
});

describe('a lost slot', () => {
  const held = (): unknown => [...rig.slots.held()];

  test('holds no rows any more, and never did for who looks at its file', async () => {
    await rig.create('a');
    rig.slots.feedBack('a', { xmin: 700n, catalogXmin: 650n });
    expect(held()).toEqual([{ name: 'a', isTemporary: false, xmin: 700n, catalogXmin: 650n }]);
    rig.write(16);
    rig.slots.checkObsolete();
    expect(rig.slots.list()).toMatchObject([{ walStatus: 'lost' }]);
    expect(held()).toEqual([]);
    await eventually(() => rig.stored('a')).toContain('"xmin": null');
    expect(rig.slots.list()).toMatchObject([{ xmin: null, catalogXmin: null }]);
  });

  test('holds rows for the standby that uses it, until it is let go', async () => {
    await rig.create('a');
    rig.write(16);
    rig.slots.checkObsolete();
    expect(rig.slots.acquire('a', 7, at(1))).toBeNull();
    expect(rig.slots.list()).toMatchObject([{ walStatus: 'lost' }]);
    rig.slots.feedBack('a', { xmin: 700n, catalogXmin: null });
    expect(held()).toEqual([{ name: 'a', isTemporary: false, xmin: 700n, catalogXmin: null }]);
    rig.slots.release('a', 7);
    expect(held()).toEqual([]);
    expect(rig.slots.list()).toMatchObject([{ xmin: null }]);
  });
});
