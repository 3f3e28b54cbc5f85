// A timeline that ends while standbys are on it: what is said to each of them, whatever it was doing at that moment.
import { afterEach, describe, expect, it, vi } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { walBytes } from '../support/memory-wal.ts';
import { message, query, statusUpdate, StreamReader } from '../support/raw-client.ts';
import { Fixture, OLDEST_LSN, START_LSN } from '../support/wal-senders-fixture.ts';

let fixture: Fixture;

afterEach(() => fixture.close());

function statusOf(pid: number): ReturnType<Fixture['senders']['statuses']>[number] | undefined {
  return fixture.senders.statuses().find((status) => status.pid === pid);
}

function lsnText(lsn: bigint): string {
  return `0/${lsn.toString(16).toUpperCase()}`;
}

describe('a standby that was sent half a record beyond the switch point', () => {
  it('tells no lie when it names that, and its slot stays where the timeline was left', async () => {
    fixture = await Fixture.start();
    await (await fixture.standby()).client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    const reader = await fixture.stream(START_LSN, { slot: 's' });
    const endLsn = fixture.feed.append(8000);
    await reader.readTo(endLsn);
    reader.client.send(statusUpdate(START_LSN, START_LSN, 0n));
    await eventually(() => fixture.slots.advances).toEqual([['s', START_LSN]]);
    const switchLsn = endLsn - 3000n;
    fixture.feed.switchTimeline(2, switchLsn);
    expect((await reader.nextOther())?.type).toBe('c');
    reader.client.send(
      statusUpdate(endLsn, endLsn, switchLsn),
      statusUpdate(endLsn, endLsn, switchLsn),
      statusUpdate(endLsn, endLsn, switchLsn),
    );
    await eventually(() => statusOf(reader.pid)?.flushLsn).toBe(switchLsn);
    reader.client.send(statusUpdate(switchLsn, switchLsn, switchLsn), message('c'));
    expect(await reader.client.answer()).toContain('C START_REPLICATION');
    expect(fixture.slots.advances).toEqual([
      ['s', START_LSN],
      ['s', switchLsn],
    ]);
    expect(statusOf(reader.pid)?.clampedReplies).toBe(0);
    expect(fixture.log.lines.join('\n')).not.toContain('claims WAL that was not sent');
  });

  it('lies when it names more than that', async () => {
    fixture = await Fixture.start();
    const reader = await fixture.stream(START_LSN);
    const endLsn = fixture.feed.append(8000);
    await reader.readTo(endLsn);
    fixture.feed.switchTimeline(2, endLsn - 3000n);
    expect((await reader.nextOther())?.type).toBe('c');
    reader.client.send(statusUpdate(endLsn, endLsn, 0n), statusUpdate(endLsn + 1n, endLsn, 0n));
    await eventually(() => statusOf(reader.pid)?.clampedReplies).toBe(1);
    expect(statusOf(reader.pid)).toMatchObject({ writeLsn: endLsn - 3000n });
  });
});

describe('a standby that reads nothing while its timeline ends', () => {
  it('counts up to there only, and so does its slot', async () => {
    fixture = await Fixture.start();
    await (await fixture.standby()).client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    const reader = await fixture.stream(START_LSN, { slot: 's' });
    reader.client.pause();
    // More than the kernel takes for a socket that nobody reads.
    fixture.feed.append(24 << 20);
    await eventually(() => (statusOf(reader.pid)?.sendQueueBytes ?? 0) > 0).toBe(true);
    const sentLsn = statusOf(reader.pid)?.sentLsn ?? 0n;
    const switchLsn = START_LSN + 8_000n;
    reader.client.send(statusUpdate(START_LSN + 16_000n, START_LSN + 1n, 0n));
    await eventually(() => statusOf(reader.pid)?.writeLsn).toBe(START_LSN + 16_000n);
    fixture.feed.switchTimeline(2, switchLsn);
    await eventually(() => statusOf(reader.pid)?.writeLsn).toBe(switchLsn);
    reader.client.send(statusUpdate(sentLsn, sentLsn, 0n));
    await eventually(() => statusOf(reader.pid)?.flushLsn).toBe(switchLsn);
    expect(fixture.slots.advances).toEqual([['s', START_LSN + 1n]]);
    expect(statusOf(reader.pid)?.clampedReplies).toBe(0);
  });
});

describe('a standby that waits for WAL from beyond our end', () => {
  it('is told at once when its start is on no timeline any more', async () => {
    fixture = await Fixture.start();
    fixture.settings = { ...fixture.settings, holdAheadMs: 60_000 };
    const startLsn = START_LSN + 20_000n;
    const reader = await fixture.stream(startLsn);
    fixture.feed.switchTimeline(2, START_LSN);
    expect(await reader.client.answer()).toEqual([
      `E|ERROR|XX000|requested starting point ${lsnText(startLsn)} on timeline 1 is not in this server's history|` +
        `This server's history forked from timeline 1 at ${lsnText(START_LSN)}.`,
      'Z I',
    ]);
    // The connection is as good as before, and so are the others.
    expect((await reader.client.ask('IDENTIFY_SYSTEM'))[1]).toContain(',2,');
  });

  it('gets the end of the timeline when that is where it wanted to begin', async () => {
    fixture = await Fixture.start();
    const startLsn = START_LSN + 20_000n;
    const reader = await fixture.stream(startLsn);
    fixture.feed.append(20_000);
    fixture.feed.switchTimeline(2, startLsn);
    expect((await reader.nextOther())?.type).toBe('c');
    expect(reader.wal()).toHaveLength(0);
  });
});

describe('a standby on a timeline that never was ours', () => {
  it('is refused in PostgreSQL’s words, and nobody else notices', async () => {
    fixture = await Fixture.start();
    fixture.feed.switchTimeline(3, START_LSN);
    const { client: other } = await fixture.standby();
    other.send(query(`START_REPLICATION ${lsnText(START_LSN)} TIMELINE 3`));
    expect((await other.next())?.type).toBe('W');
    const beside = new StreamReader(other, START_LSN);
    const { client } = await fixture.standby();
    expect(await client.ask(`START_REPLICATION ${lsnText(OLDEST_LSN)} TIMELINE 2`)).toEqual([
      "E|ERROR|XX000|requested timeline 2 is not in this server's history",
      'Z I',
    ]);
    await beside.readTo(fixture.feed.append(100));
  });
});

describe('several switches while a standby reads from files', () => {
  it('take it over all of them, each at its end, with the same bytes', async () => {
    fixture = await Fixture.start();
    fixture.feed.tailBytes = 0;
    const first = OLDEST_LSN + 700_000n;
    const second = OLDEST_LSN + 1_300_001n;
    fixture.feed.switchTimeline(2, first);
    fixture.feed.switchTimeline(3, second);
    // A timeline on which nothing was written: it is over before it began.
    fixture.feed.switchTimeline(4, second);
    fixture.feed.append(90_000);
    const reader = await fixture.stream(OLDEST_LSN);
    await reader.readTo(first);
    expect((await reader.nextOther())?.type).toBe('c');
    reader.client.send(message('c'));
    expect(await reader.client.answer()).toContain(`D 2,${lsnText(first)}`);
    reader.client.send(query(`START_REPLICATION ${lsnText(OLDEST_LSN)} TIMELINE 2`));
    expect((await reader.client.next())?.type).toBe('W');
    const middle = new StreamReader(reader.client, OLDEST_LSN);
    await middle.readTo(second);
    expect((await middle.nextOther())?.type).toBe('c');
    expect(middle.wal().equals(walBytes(OLDEST_LSN, second))).toBe(true);
    reader.client.send(message('c'));
    expect(await reader.client.answer()).toContain(`D 3,${lsnText(second)}`);
    const over = await reader.client.ask(`START_REPLICATION ${lsnText(second)} TIMELINE 3`);
    expect(over).toContain(`D 4,${lsnText(second)}`);
    await reader.client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    const acquire = vi.spyOn(fixture.slots, 'acquire');
    await reader.client.ask(`START_REPLICATION SLOT s ${lsnText(second)} TIMELINE 3`);
    // A slot that was lost is no hindrance there: it comes back as for a stream.
    expect(acquire.mock.calls).toEqual([['s', reader.pid, second]]);
    expect(fixture.slots.slots.get('s')?.activePid).toBeNull();
    reader.client.send(query(`START_REPLICATION ${lsnText(first)} TIMELINE 4`));
    expect((await reader.client.next())?.type).toBe('W');
    const last = new StreamReader(reader.client, first);
    await last.readTo(fixture.feed.sendableLsn());
    expect(last.wal().equals(walBytes(first, last.endLsn))).toBe(true);
  });
});

describe('READ_REPLICATION_SLOT', () => {
  it('names the timeline on which the slot’s WAL begins, as pg_receivewal starts there', async () => {
    fixture = await Fixture.start({ major: 18 });
    const { client } = await fixture.standby();
    const reader = await fixture.stream(START_LSN, {});
    await client.ask('CREATE_REPLICATION_SLOT s PHYSICAL (RESERVE_WAL)');
    const before = await client.ask('READ_REPLICATION_SLOT s');
    expect(before[1]).toMatch(/^D physical,0\/[0-9A-F]+,1$/);
    fixture.feed.switchTimeline(2, fixture.feed.append(100));
    expect(await client.ask('READ_REPLICATION_SLOT s')).toEqual(before);
    expect((await reader.nextOther())?.type).toBe('c');
    fixture.slots.advance('s', fixture.feed.append(100));
    expect((await client.ask('READ_REPLICATION_SLOT s'))[1]).toMatch(/,2$/);
  });
});

describe('a start from before the segment in which its timeline begins', () => {
  it('finds no file of that timeline, as on a server', async () => {
    fixture = await Fixture.start();
    const switchLsn = fixture.feed.append(0x2000000);
    fixture.feed.switchTimeline(2, switchLsn);
    fixture.feed.append(100);
    const { client } = await fixture.standby();
    const segmentStart = switchLsn - (switchLsn % (1n << 24n));
    expect(await client.ask(`START_REPLICATION ${lsnText(segmentStart - 1n)} TIMELINE 2`)).toEqual([
      'W',
      'E|ERROR|58P01|requested WAL segment 000000020000000000000002 has already been removed',
      'Z I',
    ]);
    client.send(query(`START_REPLICATION ${lsnText(segmentStart)} TIMELINE 2`));
    expect((await client.next())?.type).toBe('W');
    await new StreamReader(client, segmentStart).readTo(fixture.feed.sendableLsn());
  });
});
