// What does a relay do when it is asked from outside, before and after its store and slots are there?
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LogLevels } from '../../src/base/log-levels.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { RelayActionsOf } from '../../src/relay/actions.ts';
import { WalFiles } from '../../src/relay/wal-files.ts';
import { SlotStore } from '../../src/slot/slot-store.ts';
import type { DeadWalStatus } from '../../src/status/status.ts';

let directory: string;
let slots: SlotStore | null;
let hasWal: boolean;
let ended: number[];
let dead: Promise<DeadWalStatus> | null;
let paused: boolean[];
let actions: RelayActionsOf;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-actions-'));
  slots = null;
  hasWal = true;
  ended = [];
  dead = null;
  paused = [];
  actions = new RelayActionsOf({
    reload: () => Promise.resolve({ problems: [], changed: [], pendingRestart: [] }),
    configuration: () => [],
    drain: () => ended.push(-1),
    shutdown: () => ended.push(-2),
    reconnect: () => hasWal,
    pause: (isPaused) => paused.push(isPaused),
    slots: () => slots,
    hasWal: () => hasWal,
    releaseDeadWal: () => dead,
    disconnect: (pid) => ended.push(pid) === 1,
    logLevels: new LogLevels({ level: 'info', levels: new Map() }, ['wal']),
    walFiles: new WalFiles({ store: () => null, dataDirectory: directory, clock: systemClock }),
  });
});

afterEach(async () => {
  await slots?.close();
  await rm(directory, { recursive: true });
});

async function openSlots(): Promise<SlotStore> {
  slots = await SlotStore.open({
    directory,
    wal: {
      oldestLsn: () => toLsn(0x1000000n),
      redoLsn: () => toLsn(0x1800028n),
    },
    bounds: () => null,
    slotsMax: 2,
    autoCreate: false,
    idleTimeoutMs: 0,
    facts: () => versionFacts(18),
    terminate: () => {},
    onChange: () => {},
    clock: systemClock,
    log: silentLog,
  });
  return slots;
}

test('a pause is begun and ended', () => {
  actions.pause();
  actions.pause();
  actions.resume();
  expect(paused).toEqual([true, true, false]);
});

test('the process is asked to end in the way that was asked for', () => {
  actions.drain();
  actions.shutdown();
  expect(ended).toEqual([-1, -2]);
});

test('the session with the upstream is begun anew where there is one', () => {
  expect(actions.reconnect()).toBeNull();
  hasWal = false;
  expect(actions.reconnect()).toMatchObject({ sqlstate: '55000', hint: expect.any(String) });
});

test('before the slots are loaded the answer is PostgreSQL’s while it starts', async () => {
  const starting = { sqlstate: '57P03', message: 'the database system is starting up' };
  expect(await actions.createSlot('a', { reserveWal: false })).toEqual(starting);
  expect(await actions.dropSlot('a')).toEqual(starting);
  expect(await actions.releaseDeadWal()).toEqual(starting);
  expect(await actions.openWalFile('000000010000000000000001')).toEqual({ kind: 'starting' });
});

test('a slot is persistent, and reserves WAL from now on when it is told to', async () => {
  const store = await openSlots();
  expect(await actions.createSlot('a', { reserveWal: true })).toBeNull();
  expect(await actions.createSlot('b', { reserveWal: false })).toBeNull();
  expect(store.list()).toMatchObject([
    { name: 'a', temporary: false, activePid: null, restartLsn: 0x1800028n },
    { name: 'b', temporary: false, activePid: null, restartLsn: 0n },
  ]);
  expect(await actions.createSlot('a', { reserveWal: true })).toMatchObject({ sqlstate: '42710' });
  expect(await actions.createSlot('c', { reserveWal: true })).toMatchObject({ sqlstate: '53400' });
  expect(await actions.createSlot('C', { reserveWal: true })).toMatchObject({ sqlstate: '42602' });
});

test('WAL cannot be reserved before there is some; a slot without it can be made', async () => {
  await openSlots();
  hasWal = false;
  expect(await actions.createSlot('a', { reserveWal: true })).toMatchObject({
    sqlstate: '55000',
    hint: expect.any(String),
  });
  expect(await actions.createSlot('a', { reserveWal: false })).toBeNull();
});

test('a slot is dropped unless a session uses it, or it is none', async () => {
  const store = await openSlots();
  await actions.createSlot('a', { reserveWal: true });
  store.acquire('a', 10_000_007);
  expect(await actions.dropSlot('a')).toEqual({
    sqlstate: '55006',
    message: 'replication slot "a" is active for PID 10000007',
  });
  store.release('a', 10_000_007);
  expect(await actions.dropSlot('a')).toBeNull();
  expect(await actions.dropSlot('a')).toMatchObject({ sqlstate: '42704' });
  // A name that no slot can have is looked for like any other, as the server does. (slot.c:ReplicationSlotDrop)
  for (const name of ['../a', 'Bad Name']) {
    expect(await actions.dropSlot(name)).toEqual({
      sqlstate: '42704',
      message: `replication slot "${name}" does not exist`,
    });
  }
});

test('a temporary slot is its session’s own', async () => {
  const store = await openSlots();
  await store.create({ name: 't', temporary: true, reserveWal: true, pid: 10_000_007 });
  expect(await actions.dropSlot('t')).toMatchObject({ sqlstate: '55006' });
  expect(store.list()).toHaveLength(1);
});

test('ending a session tells whether there was one', () => {
  expect([actions.disconnectStandby(7), actions.disconnectStandby(8)]).toEqual([true, false]);
  expect(ended).toEqual([7, 8]);
});

test('dead WAL is let go of by the store, and what it was is handed on', async () => {
  const gone = { files: 2, bytes: 2_000_000, acknowledged: null };
  dead = Promise.resolve(gone);
  expect(await actions.releaseDeadWal()).toEqual(gone);
});
