// What becomes of slots on servers that are not followed any more: listed, remembered over a restart, dropped when they are
// ours and of no use, left alone when they are not.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openLog } from '../../src/base/log.ts';
import { LEFT_SLOT_DROP_AFTER_MS, LEFT_SLOT_RETRY_MS } from '../../src/config/limits.ts';
import { dial } from '../../src/net/dial.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { LEFT_SLOT_LOOK_MS, UpstreamSlots } from '../../src/relay/upstream-slots.ts';
import type { PresentServer } from '../../src/walreceiver/slot-errand.ts';
import type { UpstreamHost } from '../../src/walreceiver/upstream-target.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { lsn } from '../support/receiver-rig.ts';
import {
  errorResponse,
  playedServer,
  READY,
  ScriptedUpstream,
} from '../support/scripted-upstream.ts';
import type { PlayedServer, ScriptedSession } from '../support/scripted-upstream.ts';
import { targetFor } from '../support/upstream-target.ts';

const SYSTEM = playedServer().systemIdentifier;
const OTHER: UpstreamHost = { host: 'other', address: 'other', port: 1, password: null };

let directory: string;
let clock: ManualClock;
let lines: string[];
let open: UpstreamSlots[];
let flushed: Lsn;
let present: PresentServer;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-slots-'));
  clock = new ManualClock();
  lines = [];
  open = [];
  flushed = lsn('0/5000000');
  present = { address: null, port: 1, slot: 's', heardAtMs: Number.POSITIVE_INFINITY };
});

afterEach(async () => {
  for (const slots of open) await slots.close();
  await rm(directory, { recursive: true });
});

async function openSlots(hosts: readonly UpstreamHost[]): Promise<UpstreamSlots> {
  const destination = { write: (line: string) => void lines.push(line) };
  const slots = new UpstreamSlots({
    clock,
    log: openLog({ level: 'info', format: 'text', destination }),
    dial,
    directory,
    target: () => targetFor('sslmode=disable', { hosts }),
    applicationName: () => 'walcast',
    receiverTimeoutMs: () => 60_000,
    flushedLsn: () => flushed,
    present: () => present,
  });
  open.push(slots);
  await slots.load();
  return slots;
}

function hostOf({ port }: ScriptedUpstream): UpstreamHost {
  return { host: '127.0.0.1', address: '127.0.0.1', port, password: null };
}

function savedNames(): Promise<string> {
  return readFile(join(directory, 'walcast.upstream-slots'), 'utf8');
}

/** Answers until the client says goodbye; gives what it asked. */
async function serve(session: ScriptedSession, server: PlayedServer): Promise<string[]> {
  await session.login(server);
  await expect(session.identify(server)).rejects.toThrow(/got X|the client closed/);
  await session.closed;
  return session.commands;
}

it('a slot that walcast made is dropped when another host has been followed for a minute', async () => {
  await using old = await ScriptedUpstream.listen();
  const slots = await openSlots([OTHER, hostOf(old)]);
  slots.created(hostOf(old), 's', SYSTEM);
  slots.used(hostOf(old), 's', SYSTEM);
  expect(slots.status()).toEqual([]);
  slots.idle(INVALID_LSN);
  slots.used(OTHER, 's', SYSTEM);
  expect(slots.status()).toEqual([{ host: '127.0.0.1', port: old.port, slot: 's', isOurs: true }]);
  await eventually(savedNames).toContain('"slot": "s"');
  clock.advance(LEFT_SLOT_DROP_AFTER_MS - 1);
  expect(old.accepted).toBe(0);
  clock.advance(1);
  const server = playedServer({ slots: { s: ['physical', '0/4000000'] } });
  const commands = await serve(await old.accept(), server);
  expect(commands.at(-1)).toBe('DROP_REPLICATION_SLOT "s"');
  await eventually(() => slots.status()).toEqual([]);
  await eventually(savedNames).not.toContain('"slot"');
  expect(lines.join('')).toContain('is dropped');
});

it('a slot that somebody else made is told of and never dropped', async () => {
  await using old = await ScriptedUpstream.listen();
  const slots = await openSlots([OTHER, hostOf(old)]);
  slots.used(hostOf(old), 's', SYSTEM);
  slots.used(OTHER, 's', SYSTEM);
  expect(slots.status()).toMatchObject([{ isOurs: false }]);
  expect(lines.join('')).toContain('drop it there when nobody needs it');
  expect(clock.nextTimerMs()).toBeNull();
});

it.each<[string, Partial<PlayedServer>]>([
  ['another cluster has', { systemIdentifier: '7300000000000000000' }],
  ['somebody has moved beyond our own end', { slots: { s: ['physical', '0/6000000'] } }],
])('a slot that %s is left alone from then on', async (_what, overrides) => {
  await using old = await ScriptedUpstream.listen();
  const slots = await openSlots([OTHER, hostOf(old)]);
  slots.created(hostOf(old), 's', SYSTEM);
  slots.used(OTHER, 's', SYSTEM);
  clock.advance(LEFT_SLOT_DROP_AFTER_MS);
  const server = playedServer({ slots: { s: ['physical', '0/4000000'] }, ...overrides });
  const commands = await serve(await old.accept(), server);
  expect(commands.join()).not.toContain('DROP');
  await eventually(() => slots.status()).toMatchObject([{ isOurs: false }]);
  expect(clock.nextTimerMs()).toBeNull();
});

it('a slot that is in use is not dropped, and asked for again later', async () => {
  await using old = await ScriptedUpstream.listen();
  const slots = await openSlots([OTHER, hostOf(old)]);
  slots.created(hostOf(old), 's', SYSTEM);
  slots.used(OTHER, 's', SYSTEM);
  clock.advance(LEFT_SLOT_DROP_AFTER_MS);
  const server = playedServer({ slots: { s: ['physical', '0/4000000'] } });
  const session = await old.accept();
  await session.login(server);
  expect(await session.identify(server, /DROP/)).toContain('DROP_REPLICATION_SLOT');
  session.send(errorResponse('55006', 'replication slot "s" is active for PID 1'), READY);
  await session.closed;
  await eventually(() => clock.nextTimerMs()).toBe(LEFT_SLOT_RETRY_MS);
  clock.advance(LEFT_SLOT_RETRY_MS);
  await serve(await old.accept(), server);
  await eventually(() => slots.status()).toEqual([]);
});

it.each(['the same process', 'the next process'])(
  'a slot that moves on after it was left is somebody else’s, for %s',
  async (who) => {
    await using old = await ScriptedUpstream.listen();
    let slots = await openSlots([OTHER, hostOf(old)]);
    slots.created(hostOf(old), 's', SYSTEM);
    slots.used(hostOf(old), 's', SYSTEM);
    slots.idle(INVALID_LSN);
    if (who === 'the next process') {
      await eventually(savedNames).toContain('"released_lsn": "0/5000000"');
      await slots.close();
      slots = await openSlots([OTHER, hostOf(old)]);
    }
    flushed = lsn('0/7000000');
    slots.used(OTHER, 's', SYSTEM);
    clock.advance(LEFT_SLOT_DROP_AFTER_MS);
    const server = playedServer({ slots: { s: ['physical', '0/6000000'] } });
    const commands = await serve(await old.accept(), server);
    expect(commands.join()).not.toContain('DROP');
    await eventually(() => slots.status()).toMatchObject([{ isOurs: false }]);
  },
);

it('a slot that reserved WAL beyond our end when it was made, and was hardly used, is ours all the same', async () => {
  await using old = await ScriptedUpstream.listen();
  const slots = await openSlots([OTHER, hostOf(old)]);
  slots.created(hostOf(old), 's', SYSTEM);
  slots.used(hostOf(old), 's', SYSTEM);
  slots.idle(lsn('0/6000000'));
  slots.used(OTHER, 's', SYSTEM);
  clock.advance(LEFT_SLOT_DROP_AFTER_MS);
  await serve(await old.accept(), playedServer({ slots: { s: ['physical', '0/6000000'] } }));
  await eventually(() => slots.status()).toEqual([]);
});

it('the server that is followed is never asked to drop the slot in use, under whatever name it is known', async () => {
  await using server = await ScriptedUpstream.listen();
  const byName = { ...hostOf(server), host: 'localhost' };
  const slots = await openSlots([byName, hostOf(server)]);
  slots.created(byName, 's', SYSTEM);
  slots.used(hostOf(server), 's', SYSTEM);
  present = { ...present, address: '127.0.0.1', port: server.port };
  clock.advance(LEFT_SLOT_DROP_AFTER_MS);
  const session = await server.accept();
  await session.login();
  await session.closed;
  expect(session.commands).toEqual([]);
  await eventually(() => slots.status()).toEqual([]);
  slots.used(OTHER, 's', SYSTEM);
  expect(slots.status()).toMatchObject([{ host: '127.0.0.1', isOurs: true }]);
});

it('a slot of an earlier process is dropped too, where the host is still named', async () => {
  await using old = await ScriptedUpstream.listen();
  const before = await openSlots([hostOf(old)]);
  before.created(hostOf(old), 's', SYSTEM);
  before.created({ ...OTHER, host: 'unnamed' }, 's', SYSTEM);
  await before.close();
  const slots = await openSlots([OTHER, hostOf(old)]);
  slots.used(OTHER, 's', SYSTEM);
  expect(slots.status().map(({ host }) => host)).toEqual(['127.0.0.1', 'unnamed']);
  clock.advance(LEFT_SLOT_DROP_AFTER_MS);
  await serve(await old.accept(), playedServer({ slots: { s: ['physical', '0/4000000'] } }));
  await eventually(() => slots.status().map(({ host }) => host)).toEqual(['unnamed']);
});

it('what was saved and cannot be read costs only the dropping', async () => {
  await using old = await ScriptedUpstream.listen();
  await writeFile(join(directory, 'walcast.upstream-slots'), 'nonsense');
  const slots = await openSlots([OTHER, hostOf(old)]);
  expect(lines.join('')).toContain('so they are not dropped');
  slots.created(hostOf(old), 's', SYSTEM);
  await eventually(savedNames).toContain('"slot": "s"');
});

it('nothing is dropped while the server that is followed says nothing, or after we did not run', async () => {
  await using old = await ScriptedUpstream.listen();
  const slots = await openSlots([OTHER, hostOf(old)]);
  slots.created(hostOf(old), 's', SYSTEM);
  slots.used(OTHER, 's', SYSTEM);
  clock.jump(10 * LEFT_SLOT_DROP_AFTER_MS);
  present = { ...present, heardAtMs: clock.nowMs() };
  clock.advance(2 * LEFT_SLOT_DROP_AFTER_MS);
  expect(clock.nextTimerMs()).toBeLessThanOrEqual(LEFT_SLOT_LOOK_MS);
  expect(slots.status()).toMatchObject([{ isOurs: true }]);
  expect(old.accepted).toBe(0);
  present = { ...present, heardAtMs: clock.nowMs() };
  clock.advance(LEFT_SLOT_LOOK_MS);
  await serve(await old.accept(), playedServer({ slots: { s: ['physical', '0/4000000'] } }));
  await eventually(() => slots.status()).toEqual([]);
});

it('the stream that breaks ends the errand: what is needed now is not known any more', async () => {
  await using old = await ScriptedUpstream.listen();
  const slots = await openSlots([OTHER, hostOf(old)]);
  slots.created(hostOf(old), 's', SYSTEM);
  slots.used(OTHER, 's', SYSTEM);
  clock.advance(LEFT_SLOT_DROP_AFTER_MS);
  const session = await old.accept();
  await session.login();
  slots.idle(INVALID_LSN);
  await session.closed;
  expect(session.commands.join()).not.toContain('DROP');
  expect(slots.status()).toMatchObject([{ isOurs: true }]);
});
