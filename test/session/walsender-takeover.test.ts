// A standby asks for a slot that another connection holds: taken over from a dead one, never from one that lives.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { TAKEOVER_PROBE_MS, TAKEOVER_UNCONFIRMED_SILENCE_MS } from '../../src/config/limits.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { message, query, statusUpdate, StreamReader } from '../support/raw-client.ts';
import type { RawClient } from '../support/raw-client.ts';
import { Fixture, START_LSN } from '../support/wal-senders-fixture.ts';

const START = 'START_REPLICATION SLOT s 0/1234000';

let fixture: Fixture;
let clock: ManualClock;

afterEach(() => fixture.close());

/** A standby that streams with the slot and has confirmed what it was sent. */
async function holder(): Promise<StreamReader & { pid: number }> {
  clock = new ManualClock();
  fixture = await Fixture.start({ clock });
  const owner = await fixture.standby();
  await owner.client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
  owner.client.close();
  await eventually(() => fixture.senders.statuses().length).toBe(0);
  const reader = await fixture.stream(START_LSN, { slot: 's' });
  confirm(reader);
  await eventually(() => fixture.senders.statuses()[0]?.writeLsn).toBe(START_LSN);
  return reader;
}

function confirm(reader: StreamReader): void {
  reader.client.send(statusUpdate(reader.endLsn, reader.endLsn, reader.endLsn));
}

/** A newcomer that has asked for the slot; the holder has got its question when this resolves. */
async function newcomer(
  reader: StreamReader,
  parameters: Readonly<Record<string, string>> = {},
): Promise<{ client: RawClient; pid: number }> {
  const session = await fixture.standby(parameters);
  session.client.send(query(START));
  await reader.nextOther({ keepalives: true });
  expect(reader.keepalives.at(-1)?.replyRequested).toBe(1);
  return session;
}

function holdingPid(): number | null | undefined {
  return fixture.slots.slots.get('s')?.activePid;
}

function inUse(pid: number): string[] {
  return [`E|ERROR|55006|replication slot "s" is active for PID ${pid}`, 'Z I'];
}

describe('a slot held by a silent connection', () => {
  it('goes over to a new one of the same standby after a question that nobody answers', async () => {
    const dead = await holder();
    const back = await newcomer(dead);
    clock.advance(TAKEOVER_PROBE_MS - 1);
    expect(holdingPid()).toBe(dead.pid);
    clock.advance(100);
    expect((await back.client.next())?.type).toBe('W');
    expect(holdingPid()).toBe(back.pid);
    await new StreamReader(back.client, START_LSN).readTo(fixture.feed.append(1000));
    expect(await dead.client.closed()).toHaveLength(0);
    expect(fixture.senders.totals()).toMatchObject({ takeovers: 1, disconnects: { timeout: 1 } });
    expect(fixture.senders.absent()).toEqual([]);
    expect(fixture.log.lines.join('\n')).toContain('its slot goes over');
  });

  it('is waited for longer where the question may be far behind in what is on its way', async () => {
    const slow = await holder();
    fixture.feed.append(5000);
    await slow.readTo(fixture.feed.sendableLsn());
    clock.advance(2000);
    const back = await newcomer(slow);
    clock.advance(TAKEOVER_UNCONFIRMED_SILENCE_MS - 2001);
    expect(holdingPid()).toBe(slow.pid);
    confirm(slow);
    expect(await back.client.answer()).toEqual(inUse(slow.pid));
    const again = await newcomer(slow);
    clock.advance(TAKEOVER_PROBE_MS + 100);
    expect((await again.client.next())?.type).toBe('W');
  });

  it('is waited for longer where a standby has written all and not flushed it: its disk may hold it up', async () => {
    const busy = await holder();
    const endLsn = fixture.feed.append(5000);
    await busy.readTo(endLsn);
    busy.client.send(statusUpdate(endLsn, START_LSN, START_LSN));
    await eventually(() => fixture.senders.statuses()[0]?.writeLsn).toBe(endLsn);
    const other = await newcomer(busy);
    clock.advance(TAKEOVER_PROBE_MS);
    clock.advance(100);
    await nextTurn();
    expect(holdingPid()).toBe(busy.pid);
    confirm(busy);
    expect(await other.client.answer()).toEqual(inUse(busy.pid));
  });

  it('goes to the first of two that wait, and the other is told whose it is', async () => {
    const dead = await holder();
    const first = await newcomer(dead);
    const second = await fixture.standby();
    second.client.send(query(START));
    await eventually(() => fixture.senders.totals().commands.get('START_REPLICATION')).toBe(3);
    clock.advance(TAKEOVER_PROBE_MS + 100);
    expect((await first.client.next())?.type).toBe('W');
    expect(await second.client.answer()).toEqual(inUse(first.pid));
    expect(fixture.senders.totals().takeovers).toBe(1);
  });

  it('is not asked again by each newcomer while one question is out', async () => {
    const dead = await holder();
    await newcomer(dead);
    for (let count = 0; count < 5; count += 1) {
      const { client } = await fixture.standby();
      client.send(query(START));
    }
    await eventually(() => fixture.senders.totals().commands.get('START_REPLICATION')).toBe(7);
    fixture.feed.append(10);
    await dead.readTo(fixture.feed.sendableLsn());
    expect(dead.keepalives).toHaveLength(1);
  });
});

describe('a slot held by a standby that lives', () => {
  it('stays, and the newcomer gets PostgreSQL’s refusal at once when the holder answers', async () => {
    const live = await holder();
    const other = await newcomer(live);
    confirm(live);
    expect(await other.client.answer()).toEqual(inUse(live.pid));
    clock.advance(2 * TAKEOVER_PROBE_MS);
    expect(holdingPid()).toBe(live.pid);
    await live.readTo(fixture.feed.append(1000));
    expect(fixture.senders.totals()).toMatchObject({ takeovers: 0, disconnects: { timeout: 0 } });
  });

  it('stays also when the answer came in the last moment and nobody looked', async () => {
    const live = await holder();
    const other = await newcomer(live);
    // Like a process that was stopped: the time is over before what came is read.
    live.client.send(statusUpdate(START_LSN, START_LSN, START_LSN));
    clock.advance(TAKEOVER_PROBE_MS);
    expect(holdingPid()).toBe(live.pid);
    expect(await other.client.answer()).toEqual(inUse(live.pid));
  });

  it('never changes hands between two that both ask again and again', async () => {
    const live = await holder();
    for (let round = 0; round < 10; round += 1) {
      const other = await newcomer(live);
      confirm(live);
      expect(await other.client.answer()).toEqual(inUse(live.pid));
      other.client.close();
      clock.advance(5000);
      confirm(live);
      await eventually(() => fixture.senders.statuses().length).toBe(1);
    }
    expect(holdingPid()).toBe(live.pid);
  });

  it.each<[string, Record<string, string>]>([
    ['another name', { application_name: 'another' }],
    ['another user', { user: 'another' }],
  ])('is not even asked for the sake of one with %s', async (_, parameters) => {
    const live = await holder();
    const other = await fixture.standby(parameters);
    expect(await other.client.ask(START)).toEqual(inUse(live.pid));
    clock.advance(10);
    expect(live.keepalives).toEqual([]);
  });

  it('is not taken while its standby ends the stream in order', async () => {
    const live = await holder();
    const other = await newcomer(live);
    live.client.send(message('c'));
    expect(await other.client.answer()).toEqual(inUse(live.pid));
    expect((await live.client.answer()).slice(0, 2)).toEqual(['c', 'C START_STREAMING']);
  });
});

describe('while a newcomer waits', () => {
  it('the holder may leave, and the newcomer gets the slot at once', async () => {
    const dead = await holder();
    const back = await newcomer(dead);
    dead.client.close();
    expect((await back.client.next())?.type).toBe('W');
    expect(fixture.senders.totals().takeovers).toBe(0);
    await eventually(holdingPid).toBe(back.pid);
  });

  it('the holder may say goodbye, which is no sign of life', async () => {
    const dead = await holder();
    const back = await newcomer(dead);
    dead.client.send(message('X'));
    expect((await back.client.next())?.type).toBe('W');
  });

  it('it may leave itself, and nothing happens to the holder', async () => {
    const silent = await holder();
    const back = await newcomer(silent);
    back.client.close();
    await eventually(() => fixture.senders.statuses().length).toBe(1);
    clock.advance(2 * TAKEOVER_PROBE_MS);
    expect(holdingPid()).toBe(silent.pid);
    expect(fixture.senders.totals().takeovers).toBe(0);
  });

  it('it can be cancelled', async () => {
    const silent = await holder();
    const { client, key, pid } = await fixture.standby();
    client.send(query(START));
    await silent.nextOther({ keepalives: true });
    const canceller = await fixture.connect();
    canceller.send(cancelRequest(pid, key));
    expect(await client.answer()).toEqual([
      'E|ERROR|57014|canceling statement due to user request',
      'Z I',
    ]);
    clock.advance(2 * TAKEOVER_PROBE_MS);
    expect(holdingPid()).toBe(silent.pid);
  });

  it('a drain ends it, and serves the holder', async () => {
    const live = await holder();
    const back = await newcomer(live);
    const drained = fixture.senders.drain(fixture.feed.sendableLsn());
    expect(await back.client.rest()).toEqual([
      'E|FATAL|57P01|terminating connection due to administrator command',
    ]);
    confirm(live);
    expect(await live.client.rest()).toEqual(['C COPY 0']);
    await drained;
    expect(fixture.senders.totals().takeovers).toBe(0);
  });

  it('a pause lets nothing go over', async () => {
    const silent = await holder();
    const back = await newcomer(silent);
    fixture.senders.setPaused(true);
    clock.advance(TAKEOVER_PROBE_MS + 100);
    expect((await back.client.answer())[0]).toContain('55000|walcast is paused');
    expect(holdingPid()).toBe(silent.pid);
  });

  it('the holder’s own timeout may pass', async () => {
    clock = new ManualClock();
    fixture = await Fixture.start({ clock });
    const owner = await fixture.standby();
    await owner.client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    const parameters = { options: '-c wal_sender_timeout=1000' };
    const dead = await fixture.stream(START_LSN, { slot: 's', parameters });
    const back = await fixture.standby();
    back.client.send(query(START));
    await dead.nextOther({ keepalives: true });
    clock.advance(1100);
    expect((await back.client.next())?.type).toBe('W');
    expect(fixture.senders.totals()).toMatchObject({ takeovers: 0, disconnects: { timeout: 1 } });
  });

  it('what it sends meanwhile is answered behind', async () => {
    const live = await holder();
    const back = await newcomer(live);
    back.client.send(query('SHOW wal_segment_size'));
    confirm(live);
    expect(await back.client.answer()).toEqual(inUse(live.pid));
    expect((await back.client.answer())[1]).toBe('D 16MB');
  });
});

it('a temporary slot of another session is not there, whoever asks', async () => {
  fixture = await Fixture.start();
  const owner = await fixture.standby();
  await owner.client.ask('CREATE_REPLICATION_SLOT s TEMPORARY PHYSICAL');
  owner.client.send(query(START));
  expect((await owner.client.next())?.type).toBe('W');
  owner.client.close();
  await eventually(() => fixture.slots.slots.size).toBe(0);
  const back = await fixture.standby();
  expect((await back.client.ask(START))[0]).toContain('42704');
});

function cancelRequest(pid: number, key: Buffer): Uint8Array {
  const packet = Buffer.alloc(12 + key.length);
  packet.writeInt32BE(packet.length, 0);
  packet.writeInt32BE(80_877_102, 4);
  packet.writeInt32BE(pid, 8);
  packet.set(key, 12);
  return packet;
}
