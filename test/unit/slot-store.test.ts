// Replication slots: PostgreSQL's answers, durable commands, lazily saved positions, and what removal of WAL may see.
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import type { Log } from '../../src/base/log.ts';
import { silentLog } from '../../src/base/log.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { SlotStore } from '../../src/slot/slot-store.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';

let directory: string;
let slots: SlotStore;

async function open(
  slotsMax = 3,
  clock: Clock = systemClock,
  log: Log = silentLog,
): Promise<SlotStore> {
  return await SlotStore.open({
    directory,
    wal: { oldestLsn: () => toLsn(0x1000000n), redoLsn: () => toLsn(0x1800028n) },
    bounds: () => null,
    slotsMax,
    autoCreate: false,
    idleTimeoutMs: 0,
    facts: () => versionFacts(18),
    terminate: () => {},
    onChange: () => {},
    clock,
    log,
  });
}

function persistent(name: string, reserveWal = true): ReturnType<SlotStore['create']> {
  return slots.create({ name, temporary: false, reserveWal, pid: 7 });
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-slots-'));
  slots = await open();
});

afterEach(async () => {
  await slots.close();
  await rm(directory, { recursive: true, force: true });
});

describe('creating', () => {
  it('reserves from the redo position of the newest checkpoint', async () => {
    expect(await persistent('a')).toBeNull();
    expect(slots.read('a')).toEqual({ restartLsn: toLsn(0x1800028n) });
    expect(slots.minimumPersistedRestartLsn()).toBe(toLsn(0x1800028n));
  });

  it('keeps nothing when no WAL is reserved', async () => {
    await persistent('a', false);
    expect(slots.read('a')).toEqual({ restartLsn: INVALID_LSN });
    expect(slots.minimumPersistedRestartLsn()).toBeNull();
  });

  it.each([
    ['Bad', '42602', 'replication slot name "Bad" contains invalid character'],
    ['', '42602', 'replication slot name "" is too short'],
    ['x'.repeat(64), '42622', `replication slot name "${'x'.repeat(64)}" is too long`],
  ])('refuses the name "%s" as PostgreSQL does', async (name, sqlstate, message) => {
    expect(await persistent(name)).toMatchObject({ sqlstate, message });
  });

  it('refuses a name that is taken, and one slot too many', async () => {
    await persistent('a');
    expect(await persistent('a')).toEqual({
      sqlstate: '42710',
      message: 'replication slot "a" already exists',
    });
    await persistent('b');
    await persistent('c');
    expect(await persistent('d')).toEqual({
      sqlstate: '53400',
      message: 'all replication slots are in use',
      hint: 'Free one or increase "max_replication_slots".',
    });
  });

  it('is durable when it resolves, and a half-made slot is gone at the next start', async () => {
    await persistent('a');
    await slots.create({ name: 'half', temporary: false, reserveWal: true, pid: 7 });
    const { rename } = await import('node:fs/promises');
    await rename(join(directory, 'pg_replslot/half'), join(directory, 'pg_replslot/half.tmp'));
    const reopened = await open();
    expect(reopened.list().map((slot) => slot.name)).toEqual(['a']);
    expect(await readdir(join(directory, 'pg_replslot'))).toEqual(['a']);
    await reopened.close();
  });
});

describe('using', () => {
  it('is for one session at a time', async () => {
    await persistent('a');
    expect(slots.acquire('a', 11)).toBeNull();
    expect(slots.acquire('a', 12)).toEqual({
      sqlstate: '55006',
      message: 'replication slot "a" is active for PID 11',
    });
    slots.release('a', 12);
    expect(slots.list()[0]?.activePid).toBe(11);
    slots.release('a', 11);
    expect(slots.acquire('a', 12)).toBeNull();
    expect(slots.acquire('nope', 12)).toMatchObject({ sqlstate: '42704' });
  });

  it('follows the position, also backwards, and saves it at the end', async () => {
    await persistent('a');
    slots.advance('a', toLsn(0x3000000n));
    slots.advance('a', toLsn(0x2000000n));
    expect(slots.read('a')?.restartLsn).toBe(toLsn(0x2000000n));
    await slots.close();
    slots = await open();
    expect(slots.read('a')?.restartLsn).toBe(toLsn(0x2000000n));
  });

  it('keeps WAL from what is on the disk, not from what is in memory', async () => {
    await persistent('a');
    slots.advance('a', toLsn(0x5000000n));
    expect(slots.minimumPersistedRestartLsn()).toBe(toLsn(0x1800028n));
    await slots.close();
    expect(slots.minimumPersistedRestartLsn()).toBe(toLsn(0x5000000n));
  });
});

describe('dropping', () => {
  it('refuses a slot in use, and waits for it when asked to', async () => {
    await persistent('a');
    slots.acquire('a', 11);
    expect(await slots.drop('a', { wait: false, pid: 12 })).toMatchObject({ sqlstate: '55006' });
    const dropped = slots.drop('a', { wait: true, pid: 12 });
    slots.release('a', 11);
    expect(await dropped).toBeNull();
    expect(slots.list()).toEqual([]);
    expect(await readdir(join(directory, 'pg_replslot'))).toEqual([]);
    expect(await slots.drop('a', { wait: false, pid: 12 })).toMatchObject({ sqlstate: '42704' });
  });

  it('waits for a slot that is just being made: nobody holds that', async () => {
    const made = slots.create({ name: 'a', temporary: false, reserveWal: true, pid: 11 });
    const dropped = slots.drop('a', { wait: false, pid: 12 });
    expect(await made).toBeNull();
    expect(await dropped).toBeNull();
    expect(slots.list()).toEqual([]);
  });

  it('gives up a wait when told to, and drops nothing', async () => {
    await persistent('a');
    slots.acquire('a', 11);
    const abort = new AbortController();
    const dropped = slots.drop('a', { wait: true, pid: 12, signal: abort.signal });
    const other = slots.drop('a', { wait: true, pid: 13 });
    abort.abort();
    expect(await dropped).toEqual({
      sqlstate: '57014',
      message: 'canceling statement due to user request',
    });
    expect(slots.list()).toHaveLength(1);
    slots.release('a', 11);
    expect(await other).toBeNull();
  });

  it('takes a session’s temporary slots away with the session and leaves the others', async () => {
    await persistent('a');
    await slots.create({ name: 't', temporary: true, reserveWal: true, pid: 11 });
    slots.dropTemporary(11);
    expect(slots.list().map((slot) => slot.name)).toEqual(['a']);
  });
});

it('refuses to start with a damaged slot rather than forget what it kept', async () => {
  await persistent('a');
  await writeFile(join(directory, 'pg_replslot/a/state'), 'walcast-slot 1\n{}\ncrc32c 00000000\n');
  await expect(open()).rejects.toMatchObject({ code: 'STATE_FILE_DAMAGED' });
});

it('says once that a slot cannot be saved, and tries again until it can', async () => {
  const clock = new ManualClock();
  await slots.close();
  const warnings: string[] = [];
  slots = await open(3, clock, { ...silentLog, warn: (text) => void warnings.push(text) });
  await persistent('a');
  const file = join(directory, 'pg_replslot/a/state.tmp');
  await mkdir(file);
  slots.advance('a', toLsn(0x5000000n));
  for (let seconds = 0; seconds < 3; seconds++) {
    await eventually(() => clock.nextTimerMs()).toBe(1_000);
    clock.advance(1_000);
  }
  await eventually(() => clock.nextTimerMs()).toBe(1_000);
  expect(warnings).toEqual([expect.stringContaining('could not be saved')]);
  await rm(file, { recursive: true });
  clock.advance(1_000);
  await eventually(() => slots.minimumPersistedRestartLsn()).toBe(toLsn(0x5000000n));
});

describe('a slot that nobody uses', () => {
  it('is idle since it was let go, and since the start when it was not used since', async () => {
    const clock = new ManualClock();
    const startedMs = clock.wallMs();
    await slots.close();
    slots = await open(3, clock);
    const since = (): (number | null)[] => slots.list().map((slot) => slot.inactiveSinceMs);
    clock.advance(1_000);
    await persistent('a');
    expect(since()).toEqual([startedMs + 1_000]);
    clock.advance(1_000);
    slots.acquire('a', 11);
    expect(since()).toEqual([null]);
    clock.advance(1_000);
    slots.release('a', 12);
    expect(since()).toEqual([null]);
    slots.release('a', 11);
    expect(since()).toEqual([startedMs + 3_000]);
    await slots.close();
    clock.advance(1_000);
    slots = await open(3, clock);
    expect(since()).toEqual([startedMs + 4_000]);
  });
});
