// What happens to a stream from outside: the timeline ends, the start lies ahead, the standby falls silent or stops
// reading, walcast drains.
import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { walBytes } from '../support/memory-wal.ts';
import { i32 } from '../support/naive-writer.ts';
import { message, query, statusUpdate, StreamReader, summary } from '../support/raw-client.ts';
import { Fixture, OLDEST_LSN, START_LSN } from '../support/wal-senders-fixture.ts';

let fixture: Fixture;

afterEach(() => fixture.close());

function statusOf(pid: number): ReturnType<Fixture['senders']['statuses']>[number] | undefined {
  return fixture.senders.statuses().find((status) => status.pid === pid);
}

/** `X/X` as a command takes it. */
function lsnText(lsn: bigint): string {
  return `0/${lsn.toString(16)}`;
}

describe('timelines', () => {
  it('ends a stream where the upstream left the timeline, and says which one goes on', async () => {
    fixture = await Fixture.start();
    const reader = await fixture.stream();
    await reader.readTo(fixture.feed.sendableLsn());
    const switchLsn = fixture.feed.append(5000);
    fixture.feed.switchTimeline(2, switchLsn);
    await reader.readTo(switchLsn);
    expect((await reader.nextOther())?.type).toBe('c');
    // Replies may still come before the standby's own CopyDone.
    reader.client.send(statusUpdate(switchLsn, switchLsn, 0n), message('c'));
    expect(await reader.client.answer()).toEqual([
      'T',
      `D 2,${lsnText(switchLsn).toUpperCase()}`,
      'C START_STREAMING',
      'C START_REPLICATION',
      'Z I',
    ]);
    expect((await reader.client.ask('IDENTIFY_SYSTEM'))[1]).toContain(',2,');
    reader.client.send(query(`START_REPLICATION ${lsnText(START_LSN)} TIMELINE 2`));
    expect((await reader.client.next())?.type).toBe('W');
    const next = new StreamReader(reader.client, START_LSN);
    await next.readTo(fixture.feed.append(100));
    expect(next.wal().equals(walBytes(START_LSN, next.endLsn))).toBe(true);
  });

  it('counts what a session sends over all of its streams', async () => {
    fixture = await Fixture.start();
    const reader = await fixture.stream(START_LSN);
    const switchLsn = fixture.feed.append(5000);
    await reader.readTo(switchLsn);
    fixture.feed.switchTimeline(2, switchLsn);
    expect((await reader.nextOther())?.type).toBe('c');
    reader.client.send(message('c'));
    expect(await reader.client.answer()).toContain('C START_REPLICATION');
    expect(statusOf(reader.pid)).toMatchObject({ state: 'startup', sentBytes: 5000 });
    expect(fixture.senders.totals().sentByEnded.size).toBe(0);
    reader.client.send(query(`START_REPLICATION ${lsnText(switchLsn)} TIMELINE 2`));
    expect((await reader.client.next())?.type).toBe('W');
    await new StreamReader(reader.client, switchLsn).readTo(fixture.feed.append(100));
    expect(statusOf(reader.pid)?.sentBytes).toBe(5100);
    const name = statusOf(reader.pid)?.applicationName ?? '';
    reader.client.close();
    await eventually(() => statusOf(reader.pid)).toBe(undefined);
    const { connects, sentByEnded } = fixture.senders.totals();
    expect([...sentByEnded]).toMatchObject([[name, { sentBytes: 5100 }]]);
    expect([...connects.keys()]).toEqual([name]);
  });

  it('cuts what was sent and confirmed beyond the switch point', async () => {
    fixture = await Fixture.start();
    const reader = await fixture.stream();
    const endLsn = fixture.feed.append(8000);
    await reader.readTo(endLsn);
    reader.client.send(statusUpdate(endLsn, endLsn, endLsn));
    await eventually(() => statusOf(reader.pid)?.flushLsn).toBe(endLsn);
    const switchLsn = endLsn - 3000n;
    fixture.feed.switchTimeline(2, switchLsn);
    expect((await reader.nextOther())?.type).toBe('c');
    expect(statusOf(reader.pid)).toMatchObject({
      timeline: 1,
      sentLsn: switchLsn,
      writeLsn: switchLsn,
      flushLsn: switchLsn,
      applyLsn: switchLsn,
    });
  });

  it('serves an old timeline from files up to where it was left', async () => {
    fixture = await Fixture.start();
    const switchLsn = START_LSN - 77n;
    fixture.feed.switchTimeline(2, switchLsn);
    fixture.feed.append(50_000);
    const reader = await fixture.stream(OLDEST_LSN);
    await reader.readTo(switchLsn);
    expect((await reader.nextOther())?.type).toBe('c');
    expect(reader.endLsn).toBe(switchLsn);
    expect(reader.wal().equals(walBytes(OLDEST_LSN, switchLsn))).toBe(true);
    expect(fixture.feed.memoryReads).toBe(0);
  });

  it('sends nothing from beyond the switch point that had been read before it was known', async () => {
    fixture = await Fixture.start();
    fixture.feed.tailBytes = 0;
    const switchLsn = OLDEST_LSN + 1_500_000n;
    fixture.feed.onFileRead = (count) => {
      if (count === 2) fixture.feed.switchTimeline(2, switchLsn);
    };
    const reader = await fixture.stream(OLDEST_LSN);
    await reader.readTo(switchLsn);
    expect((await reader.nextOther())?.type).toBe('c');
    expect(reader.endLsn).toBe(switchLsn);
    expect(reader.wal().equals(walBytes(OLDEST_LSN, switchLsn))).toBe(true);
  });

  it('answers a start exactly at the switch point without COPY, and refuses one beyond it', async () => {
    fixture = await Fixture.start();
    fixture.feed.switchTimeline(2, START_LSN);
    const { client } = await fixture.standby();
    expect(await client.ask('START_REPLICATION 0/1234000 TIMELINE 1')).toEqual([
      'T',
      'D 2,0/1234000',
      'C START_STREAMING',
      'C START_REPLICATION',
      'Z I',
    ]);
    expect(await client.ask('START_REPLICATION 0/1234001 TIMELINE 1')).toEqual([
      "E|ERROR|XX000|requested starting point 0/1234001 on timeline 1 is not in this server's history|This server's history forked from timeline 1 at 0/1234000.",
      'Z I',
    ]);
    expect(await client.ask('START_REPLICATION 0/1234000 TIMELINE 3')).toEqual([
      "E|ERROR|XX000|requested timeline 3 is not in this server's history",
      'Z I',
    ]);
  });

  it('waits on an old timeline for WAL from before the switch that has not come yet', async () => {
    fixture = await Fixture.start();
    const switchLsn = START_LSN + 30_000n;
    fixture.feed.switchTimeline(2, switchLsn);
    fixture.feed.takeBack(START_LSN);
    const reader = await fixture.stream(OLDEST_LSN);
    await reader.readTo(START_LSN);
    await reader.readTo(fixture.feed.append(10_000));
    fixture.feed.append(50_000);
    expect((await reader.nextOther())?.type).toBe('c');
    expect(reader.endLsn).toBe(switchLsn);
    expect(reader.wal().equals(walBytes(OLDEST_LSN, switchLsn))).toBe(true);
  });

  it('holds a start on an old timeline that is ahead of us, and serves it up to the switch', async () => {
    fixture = await Fixture.start();
    const switchLsn = START_LSN + 30_000n;
    fixture.feed.switchTimeline(2, switchLsn);
    fixture.feed.takeBack(START_LSN);
    const startLsn = START_LSN + 20_000n;
    const reader = await fixture.stream(startLsn);
    reader.client.send(statusUpdate(startLsn, 0n, 0n, 1));
    await reader.nextOther({ keepalives: true });
    expect(reader.keepalives).toEqual([{ walEnd: START_LSN, replyRequested: 0 }]);
    fixture.feed.append(50_000);
    expect((await reader.nextOther())?.type).toBe('c');
    expect(reader.wal().equals(walBytes(startLsn, switchLsn))).toBe(true);
  });

  it('drains on an old timeline at once where the WAL before the switch has not come yet', async () => {
    fixture = await Fixture.start();
    fixture.feed.switchTimeline(2, START_LSN + 30_000n);
    fixture.feed.takeBack(START_LSN);
    const reader = await fixture.stream(OLDEST_LSN);
    await reader.readTo(START_LSN);
    reader.client.send(statusUpdate(START_LSN, START_LSN, START_LSN));
    await eventually(() => statusOf(reader.pid)?.flushLsn).toBe(START_LSN);
    await fixture.senders.drain(fixture.feed.sendableLsn());
    expect(await reader.client.rest()).toEqual(['C COPY 0']);
  });

  it('gives the slot back when there is nothing to stream', async () => {
    fixture = await Fixture.start();
    fixture.feed.switchTimeline(2, START_LSN);
    const { client } = await fixture.standby();
    await client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    await client.ask('START_REPLICATION SLOT s 0/1234000 TIMELINE 1');
    await client.ask('START_REPLICATION SLOT s 0/1234000 TIMELINE 3');
    expect(fixture.slots.slots.get('s')?.activePid).toBeNull();
  });
});

describe('a start ahead of our end', () => {
  it('is held while the upstream moves, and served when its WAL has come', async () => {
    fixture = await Fixture.start();
    const startLsn = START_LSN + 20_000n;
    const reader = await fixture.stream(startLsn);
    reader.client.send(statusUpdate(startLsn, 0n, 0n, 1));
    await reader.nextOther({ keepalives: true });
    expect(reader.keepalives).toEqual([{ walEnd: START_LSN, replyRequested: 0 }]);
    fixture.feed.append(10_000);
    fixture.feed.append(30_000);
    await reader.readTo(fixture.feed.sendableLsn());
    expect(reader.wal().equals(walBytes(startLsn, reader.endLsn))).toBe(true);
  });

  it('counts for nothing before it has been sent anything: not for its slot, not for its status', async () => {
    fixture = await Fixture.start();
    await (await fixture.standby()).client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    const startLsn = START_LSN + 20_000n;
    const reader = await fixture.stream(startLsn, { slot: 's' });
    reader.client.send(statusUpdate(startLsn, startLsn, startLsn, 1));
    await reader.nextOther({ keepalives: true });
    expect(fixture.slots.advances).toEqual([]);
    expect(statusOf(reader.pid)).toMatchObject({ sentLsn: 0n, flushLsn: 0n, state: 'catchup' });
    await reader.readTo(fixture.feed.append(30_000));
    reader.client.send(statusUpdate(startLsn, startLsn, startLsn));
    await eventually(() => fixture.slots.advances).toEqual([['s', startLsn]]);
  });

  it('is refused when its time has passed', async () => {
    fixture = await Fixture.start();
    fixture.settings = { ...fixture.settings, holdAheadMs: 300 };
    const { client } = await fixture.standby();
    expect(await client.ask('START_REPLICATION 0/1300000')).toEqual([
      'W',
      'E|ERROR|XX000|requested starting point 0/1300000 is ahead of the WAL flush position of this server 0/1234000',
      'Z I',
    ]);
  });

  it('is held up to where the upstream has named WAL, and refused beyond it however long there is time', async () => {
    fixture = await Fixture.start();
    fixture.settings = { ...fixture.settings, holdAheadMs: 3_600_000 };
    fixture.feed.namedLsn = START_LSN + 20_000n;
    const reader = await fixture.stream(START_LSN + 20_000n);
    const { client } = await fixture.standby();
    expect(await client.ask('START_REPLICATION 0/1238e21')).toEqual([
      'W',
      'E|ERROR|XX000|requested starting point 0/1238E21 is ahead of the WAL flush position of this server 0/1234000',
      'Z I',
    ]);
    await reader.readTo(fixture.feed.append(20_001));
    expect(reader.wal().equals(walBytes(START_LSN + 20_000n, reader.endLsn))).toBe(true);
  });

  it('is refused soon after the upstream has said that it has no more', async () => {
    fixture = await Fixture.start();
    fixture.settings = { ...fixture.settings, holdAheadMs: 3_600_000 };
    const { client } = await fixture.standby();
    client.send(query('START_REPLICATION 0/1300000'), statusUpdate(0n, 0n, 0n, 1));
    expect((await client.next())?.type).toBe('W');
    expect((await client.next())?.type).toBe('d');
    fixture.feed.namedLsn = START_LSN;
    expect(await client.answer()).toEqual([
      'E|ERROR|XX000|requested starting point 0/1300000 is ahead of the WAL flush position of this server 0/1234000',
      'Z I',
    ]);
  });

  it('is held wherever it lies while a backup runs, and no longer', async () => {
    fixture = await Fixture.start();
    fixture.settings = { ...fixture.settings, holdAheadMs: 3_600_000 };
    fixture.feed.namedLsn = START_LSN;
    const backup = await fixture.standby({ application_name: 'pg_basebackup' });
    backup.client.send(query('BASE_BACKUP'));
    const tunnel = await fixture.tunnels.nth(1);
    await tunnel.got(1);
    const startLsn = START_LSN + 20_000n;
    const reader = await fixture.stream(startLsn);
    reader.client.send(statusUpdate(startLsn, 0n, 0n, 1));
    await reader.nextOther({ keepalives: true });
    await reader.readTo(fixture.feed.append(30_000));
    tunnel.events.onBytes(Buffer.concat([message('C', 'BASE_BACKUP', 0), message('Z', 'I')]));
    await backup.client.answer();
    const { client } = await fixture.standby();
    expect((await client.ask('START_REPLICATION 0/1300000'))[1]).toContain('is ahead of the WAL');
  });

  it('may be given up by the standby', async () => {
    fixture = await Fixture.start();
    const reader = await fixture.stream(START_LSN + 20_000n);
    reader.client.send(message('c'));
    expect(await reader.client.answer()).toEqual([
      'c',
      'C START_STREAMING',
      'C START_REPLICATION',
      'Z I',
    ]);
  });
});

describe('a silent standby', () => {
  it('is asked once at half of its own timeout and closed without a word at the whole', async () => {
    fixture = await Fixture.start();
    const reader = await fixture.stream(START_LSN, {
      parameters: { options: '-c wal_sender_timeout=400' },
    });
    const startedMs = performance.now();
    await reader.nextOther({ keepalives: true });
    expect(performance.now() - startedMs).toBeGreaterThan(150);
    expect(reader.keepalives).toEqual([{ walEnd: START_LSN, replyRequested: 1 }]);
    expect(await reader.client.closed()).toHaveLength(0);
    expect(performance.now() - startedMs).toBeGreaterThan(350);
    await eventually(() => fixture.senders.totals().disconnects.timeout).toBe(1);
    expect(fixture.log.lines.join('\n')).toContain(
      'terminating walsender process due to replication timeout',
    );
  });

  it('lives as long as it answers', async () => {
    fixture = await Fixture.start();
    const reader = await fixture.stream(START_LSN, {
      parameters: { options: '-c wal_sender_timeout=200ms' },
    });
    for (let pings = 0; pings < 5; pings += 1) {
      await reader.nextOther({ keepalives: true });
      reader.client.send(statusUpdate(START_LSN, START_LSN, 0n));
    }
    expect(reader.keepalives.map((item) => item.replyRequested)).toEqual([1, 1, 1, 1, 1]);
    await reader.readTo(fixture.feed.append(100));
  });

  it('is never closed with wal_sender_timeout=0, and SHOW says so', async () => {
    fixture = await Fixture.start();
    fixture.settings = { ...fixture.settings, walSenderTimeoutMs: 100 };
    const { client } = await fixture.standby({ options: '-c wal_sender_timeout=0' });
    expect((await client.ask('SHOW wal_sender_timeout'))[1]).toBe('D 0');
    client.send(query('START_REPLICATION 0/1234000'));
    expect((await client.next())?.type).toBe('W');
    const other = await fixture.stream();
    await other.client.closed();
    await new StreamReader(client, START_LSN).readTo(fixture.feed.append(100));
  });

  it('is closed at its timeout also while it does not read', async () => {
    fixture = await Fixture.start();
    const reader = await fixture.stream(START_LSN, {
      parameters: { options: '-c wal_sender_timeout=500' },
    });
    reader.client.pause();
    for (let round = 0; round < 40; round += 1) fixture.feed.append(1 << 20);
    await eventually(() => statusOf(reader.pid)?.sendQueueBytes).toBeGreaterThan(0);
    await eventually(() => statusOf(reader.pid)).toBeUndefined();
    expect(fixture.senders.totals().disconnects.timeout).toBe(1);
  });
});

it('a session that ends is counted in the moment in which its status goes', async () => {
  fixture = await Fixture.start();
  const reader = await fixture.stream();
  reader.client.pause();
  for (let round = 0; round < 40; round += 1) fixture.feed.append(1 << 20);
  await eventually(() => statusOf(reader.pid)?.sendQueueBytes).toBeGreaterThan(0);
  fixture.senders.kill(reader.pid);
  expect(statusOf(reader.pid)).toBeUndefined();
  expect(fixture.senders.totals().disconnects.admin).toBe(1);
  reader.client.close();
  await eventually(() => fixture.senders.kill(reader.pid)).toBe(false);
  expect(fixture.senders.totals().disconnects).toMatchObject({ admin: 1, client: 0, error: 0 });
});

describe('a standby that does not read', () => {
  it('costs one batch, keeps nobody waiting, and is served on when it reads again', async () => {
    fixture = await Fixture.start();
    fixture.feed.tailBytes = 4 << 20;
    const stopped = await fixture.stream();
    const beside = await fixture.stream();
    stopped.client.pause();
    for (let round = 0; round < 30; round += 1) {
      await beside.readTo(fixture.feed.append(1 << 20));
      expect(statusOf(stopped.pid)?.sendQueueBytes ?? 0).toBeLessThan(1.1 * (1 << 20));
    }
    expect(statusOf(stopped.pid)?.sendQueueBytes).toBeGreaterThan(0);
    expect(statusOf(stopped.pid)?.sendBlockedSeconds).toBeGreaterThan(0);
    expect(statusOf(stopped.pid)?.state).not.toBe('backup');
    stopped.client.resume();
    await stopped.readTo(fixture.feed.sendableLsn());
    expect(stopped.wal().equals(walBytes(START_LSN, stopped.endLsn))).toBe(true);
    await eventually(() => statusOf(stopped.pid)?.sendQueueBytes).toBe(0);
  });

  it('gets the answers it asked for once it reads again, not one for each request', async () => {
    const clock = new ManualClock();
    fixture = await Fixture.start({ clock });
    const reader = await fixture.stream();
    reader.client.pause();
    for (let round = 0; round < 20; round += 1) fixture.feed.append(1 << 20);
    await eventually(() => statusOf(reader.pid)?.sendQueueBytes).toBeGreaterThan(0);
    const queued = statusOf(reader.pid)?.sendQueueBytes ?? 0;
    for (let round = 1n; round <= 4n; round += 1n) {
      reader.client.send(statusUpdate(START_LSN + round, 0n, 0n, 1));
      await eventually(() => statusOf(reader.pid)?.writeLsn).toBe(START_LSN + round);
      clock.advance(110);
    }
    expect(statusOf(reader.pid)?.sendQueueBytes ?? 0).toBeLessThanOrEqual(queued + 2 * 23);
    reader.client.resume();
    await reader.readTo(fixture.feed.sendableLsn());
  });
});

describe('draining', () => {
  it('serves a standby to the end, waits for its flush, and ends like a server that shuts down', async () => {
    fixture = await Fixture.start();
    fixture.feed.tailBytes = 100_000;
    const reader = await fixture.stream(OLDEST_LSN);
    const endLsn = fixture.feed.sendableLsn();
    const drained = fixture.senders.drain(endLsn);
    fixture.feed.append(1000);
    await reader.readTo(endLsn);
    await reader.nextOther({ keepalives: true });
    expect(reader.keepalives).toEqual([{ walEnd: endLsn, replyRequested: 1 }]);
    expect(statusOf(reader.pid)?.state).toBe('stopping');
    reader.client.send(statusUpdate(endLsn, endLsn - 1n, 0n));
    const late = await fixture.connect();
    late.send(i32(8), i32(80_877_103));
    await late.bytes(1);
    reader.client.send(statusUpdate(endLsn, endLsn, 0n));
    expect(await reader.client.rest()).toEqual(['C COPY 0']);
    expect(reader.endLsn).toBe(endLsn);
    late.close();
    await drained;
    expect(fixture.senders.totals().disconnects.drain).toBe(1);
  });

  it('waits for the write position where no flush is reported', async () => {
    fixture = await Fixture.start();
    const reader = await fixture.stream();
    const endLsn = fixture.feed.append(100);
    await reader.readTo(endLsn);
    const drained = fixture.senders.drain(endLsn);
    await reader.nextOther({ keepalives: true });
    reader.client.send(statusUpdate(endLsn, 0n, 0n));
    expect(await reader.client.rest()).toEqual(['C COPY 0']);
    await drained;
  });

  it('ends a session by its pid once: one that is ending is gone, although its connection is not yet', async () => {
    fixture = await Fixture.start();
    const reader = await fixture.stream();
    expect(fixture.senders.kill(reader.pid)).toBe(true);
    expect(statusOf(reader.pid)).toBeUndefined();
    expect(fixture.senders.kill(reader.pid)).toBe(false);
    expect(await reader.client.rest()).toContain(
      'E|FATAL|57P01|terminating connection due to administrator command',
    );
  });

  it('ends an idle session at once, and tells new ones to go elsewhere', async () => {
    fixture = await Fixture.start();
    const { client } = await fixture.standby();
    const reader = await fixture.stream();
    const drained = fixture.senders.drain(fixture.feed.sendableLsn());
    expect(await client.rest()).toEqual([
      'E|FATAL|57P01|terminating connection due to administrator command',
    ]);
    await expect(fixture.standby()).rejects.toThrow(
      'E|FATAL|57P03|the database system is shutting down',
    );
    reader.client.close();
    await drained;
  });

  it('ends at its deadline although a standby does not confirm, or does not read', async () => {
    fixture = await Fixture.start();
    fixture.settings = { ...fixture.settings, drainTimeoutMs: 300 };
    const silent = await fixture.stream();
    const stopped = await fixture.stream();
    stopped.client.pause();
    fixture.feed.append(1 << 25);
    await silent.readTo(fixture.feed.sendableLsn());
    const startedMs = performance.now();
    const drained = fixture.senders.drain(fixture.feed.sendableLsn());
    const last = await silent.nextOther();
    expect(last === null ? '' : summary(last)).toBe('C COPY 0');
    await drained;
    const warnings = fixture.log.lines.filter((line) => line.startsWith('warn '));
    expect(warnings.find((line) => line.includes(`"pid":${silent.pid}`))).toMatch(
      /application_name.*"sent_lsn":"0\/3234000","confirmed_lsn":"0\/0"/,
    );
    expect(warnings).toHaveLength(2);
    expect(performance.now() - startedMs).toBeLessThan(3000);
    expect(fixture.senders.statuses()).toEqual([]);
  });

  it('lets go at once of a standby that waits for WAL from beyond the end', async () => {
    fixture = await Fixture.start();
    const reader = await fixture.stream(START_LSN + 9999n);
    const drained = fixture.senders.drain(toLsn(START_LSN));
    expect(await reader.client.rest()).toEqual(['C COPY 0']);
    await drained;
  });

  it('is done at once without connections', async () => {
    fixture = await Fixture.start();
    await fixture.senders.drain(toLsn(START_LSN));
    expect(fixture.senders.statuses()).toEqual([]);
  });
});

describe('many standbys', () => {
  it('share one read and one header per range, and leave nothing behind', async () => {
    fixture = await Fixture.start();
    const readers = await Promise.all(Array.from({ length: 50 }, () => fixture.stream()));
    expect(fixture.feed.listenerCount).toBe(2);
    for (let round = 0; round < 10; round += 1) {
      const endLsn = fixture.feed.append(30_000);
      await Promise.all(readers.map((reader) => reader.readTo(endLsn)));
    }
    expect(fixture.feed.fileReads).toBe(0);
    expect(fixture.feed.memoryReads).toBeLessThan(20);
    // What is shared has been sent as often as there are readers.
    expect(fixture.senders.totals().sentBytes).toEqual({ memory: 50 * 10 * 30_000, disk: 0 });
    for (const reader of readers) {
      expect(reader.wal().equals(walBytes(START_LSN, reader.endLsn))).toBe(true);
      reader.client.close();
    }
    await eventually(() => fixture.senders.statuses().length).toBe(0);
    expect(fixture.feed.listenerCount).toBe(0);
    expect(fixture.senders.totals().disconnects.client).toBe(50);
    expect(fixture.senders.totals().connects.get('standby1')).toBe(50);
  });
});
