// Streaming: order of the answers to START_REPLICATION, the bytes, message ends, replies, odd input inside COPY, ends.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { walBytes } from '../support/memory-wal.ts';
import { i32, i64, raw } from '../support/naive-writer.ts';
import { message, query, statusUpdate, StreamReader, summary } from '../support/raw-client.ts';
import { CUTS, Fixture, OLDEST_LSN, START_LSN } from '../support/wal-senders-fixture.ts';

const PAGE = 8192n;

function feedback(xmin: number, epoch: number): Uint8Array {
  return message('d', 'h', i64(700_000_000_000_000n), i32(xmin), i32(epoch), i32(0), i32(0));
}

describe.each(CUTS)('streaming, bytes fed %s', (cut) => {
  let fixture: Fixture;

  beforeEach(async () => {
    fixture = await Fixture.start({ cut, beside: true });
  });

  afterEach(() => fixture.finish());

  it('sends what is stored and what arrives, byte for byte, every message ending where it may', async () => {
    fixture.feed.tailBytes = 300_000;
    const startLsn = OLDEST_LSN + 128n;
    const reader = await fixture.stream(startLsn);
    const ends = [fixture.feed.sendableLsn()];
    await reader.readTo(fixture.feed.sendableLsn());
    for (const bytes of [1, 500_001, 8192, 400_000]) {
      ends.push(fixture.feed.append(bytes));
      await reader.readTo(fixture.feed.sendableLsn());
    }
    expect(reader.wal().equals(walBytes(startLsn, reader.endLsn))).toBe(true);
    const isLegal = (lsn: bigint): boolean => lsn % PAGE === 0n || ends.some((end) => end === lsn);
    expect(reader.messageEnds.filter((lsn) => !isLegal(lsn))).toEqual([]);
    expect(reader.messageEnds[0]).toBe(startLsn + 131_072n - 128n);
    expect(fixture.feed.fileReads).toBeGreaterThan(0);
    expect(fixture.feed.memoryReads).toBeGreaterThan(0);
    const { memory, disk } = fixture.senders.totals().sentBytes;
    expect(Math.min(memory, disk)).toBeGreaterThan(0);
    const sent = fixture.senders.statuses().map(({ sentBytes }) => sentBytes);
    expect(memory + disk).toBe(sent.reduce((sum, bytes) => sum + bytes, 0));
  });

  it('goes from catchup to streaming when the standby has been sent everything', async () => {
    const reader = await fixture.stream(OLDEST_LSN);
    await reader.readTo(fixture.feed.sendableLsn());
    await eventually(() => statusOf(fixture, reader.pid)?.state).toBe('streaming');
    expect(statusOf(fixture, reader.pid)).toMatchObject({
      applicationName: 'standby1',
      user: 'replicator',
      clientAddr: '127.0.0.1',
      timeline: 1,
      sentLsn: reader.endLsn,
      // WAL only, without its framing.
      sentBytes: Number(reader.endLsn - OLDEST_LSN),
      writeLsn: 0n,
      slotName: null,
    });
    expect(fixture.senders.totals().connects.get('standby1')).toBe(1);
  });

  it.each([
    [
      'below the store',
      'START_REPLICATION 0/0',
      'E|ERROR|58P01|requested WAL segment 000000010000000000000000 has already been removed',
    ],
    [
      'ahead, while the upstream stands still',
      'START_REPLICATION 0/2000000',
      'E|ERROR|XX000|requested starting point 0/2000000 is ahead of the WAL flush position of this server 0/1236710',
    ],
  ])('a start %s is answered with CopyBothResponse first', async (_name, sql, error) => {
    fixture.feed.isMoving = false;
    const { client } = await fixture.standby();
    expect(await client.ask(sql)).toEqual(['W', error, 'Z I']);
    expect((await client.ask('SHOW wal_segment_size'))[1]).toBe('D 16MB');
  });

  it('takes a reply that came in one packet with START_REPLICATION', async () => {
    const { client, pid } = await fixture.standby();
    client.send(
      query('START_REPLICATION 0/1234000'),
      statusUpdate(START_LSN, START_LSN, START_LSN),
    );
    expect((await client.next())?.type).toBe('W');
    await eventually(() => statusOf(fixture, pid)?.flushLsn).toBe(START_LSN);
  });

  it('ends the COPY on CopyDone with two CommandCompletes, and takes the next command', async () => {
    const reader = await fixture.stream();
    await reader.readTo(fixture.feed.sendableLsn());
    reader.client.send(message('c'), query('SHOW wal_segment_size'));
    expect(await reader.client.answer()).toEqual([
      'c',
      'C START_STREAMING',
      'C START_REPLICATION',
      'Z I',
    ]);
    expect((await reader.client.answer())[1]).toBe('D 16MB');
    reader.client.send(query('START_REPLICATION 0/1234000'));
    expect((await reader.client.next())?.type).toBe('W');
  });

  it.each([
    ['a reply cut short', message('d', 'r', i64(1n), i64(1n)), 'insufficient data left in message'],
    ['feedback cut short', message('d', 'h', i64(1n)), 'insufficient data left in message'],
    ['an empty CopyData', message('d'), 'no data left in message'],
  ])('answers %s with an error and is ready again', async (_name, bytes, text) => {
    const reader = await fixture.stream();
    await reader.readTo(fixture.feed.sendableLsn());
    reader.client.send(bytes);
    expect(await reader.client.answer()).toEqual([`E|ERROR|08P01|${text}`, 'Z I']);
    expect((await reader.client.ask('SHOW wal_segment_size'))[1]).toBe('D 16MB');
  });

  it('accepts a reply with bytes behind it', async () => {
    const reader = await fixture.stream();
    const update = Buffer.from(statusUpdate(START_LSN, START_LSN, START_LSN));
    const body = Buffer.concat([update.subarray(5), Buffer.alloc(10)]);
    reader.client.send(message('d', body));
    await eventually(() => statusOf(fixture, reader.pid)?.writeLsn).toBe(START_LSN);
  });

  it.each(['z', 'p'])('closes without a word at payload type %s', async (kind) => {
    const reader = await fixture.stream();
    await reader.readTo(fixture.feed.sendableLsn());
    reader.client.send(message('d', kind, i64(1n)));
    expect(await reader.client.closed()).toHaveLength(0);
    expect(fixture.log.lines.join('\n')).toContain(
      `unexpected message type \\"${kind}\\"`.replaceAll('\\', ''),
    );
  });

  it.each([
    ['Q', query('IDENTIFY_SYSTEM'), '"Q"'],
    ['f', message('f', 'x', 0), '"f"'],
    ['H', message('H'), '"H"'],
    ['S', message('S'), '"S"'],
    ['NUL', raw(0, i32(4)), '"'],
  ])('ends the session at %s during COPY', async (_name, bytes, shown) => {
    const reader = await fixture.stream();
    await reader.readTo(fixture.feed.sendableLsn());
    reader.client.send(bytes);
    expect(await reader.client.rest()).toEqual([
      `E|FATAL|08P01|invalid standby message type ${shown}`,
    ]);
  });

  it.each([
    ['CopyData of length 3', raw('d', i32(3))],
    ['CopyData of length -1', raw('d', i32(-1))],
    ['CopyData of length 2^31-1', raw('d', i32(0x7fffffff))],
    ['CopyData of 1 GB announced', raw('d', i32(0x3fffffff))],
    ['CopyDone of 20 KB', raw('c', i32(20_000))],
  ])('closes without a word at %s', async (_name, bytes) => {
    const reader = await fixture.stream();
    await reader.readTo(fixture.feed.sendableLsn());
    reader.client.send(bytes);
    expect(await reader.client.closed()).toHaveLength(0);
  });

  it('ends with Terminate, and gives the slot free', async () => {
    await (await fixture.standby()).client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    const reader = await fixture.stream(START_LSN, { slot: 's' });
    await reader.readTo(fixture.feed.sendableLsn());
    reader.client.send(message('X'));
    expect(await reader.client.closed()).toHaveLength(0);
    await eventually(() => fixture.slots.slots.get('s')?.activePid).toBeNull();
  });

  it('cuts a claim to what was sent, counts it, and does not move the slot by it', async () => {
    await (await fixture.standby()).client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    const reader = await fixture.stream(START_LSN, { slot: 's' });
    const endLsn = fixture.feed.sendableLsn();
    await reader.readTo(endLsn);
    reader.client.send(statusUpdate(0x7fff00000000n, 0x7fff00000000n, 0x7fff00000000n, 1));
    await reader.nextOther({ keepalives: true });
    expect(statusOf(fixture, reader.pid)).toMatchObject({ flushLsn: endLsn, clampedReplies: 1 });
    expect(fixture.slots.advances).toEqual([]);
    reader.client.send(statusUpdate(endLsn, endLsn, 0n));
    await eventually(() => fixture.slots.advances).toEqual([['s', endLsn]]);
    expect(fixture.slots.slots.get('s')?.restartLsn).toBe(endLsn);
  });

  it('takes odd but legal replies: zero, write behind flush, backwards', async () => {
    await (await fixture.standby()).client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    const reader = await fixture.stream(START_LSN, { slot: 's' });
    await reader.readTo(fixture.feed.sendableLsn());
    const [a, b] = [START_LSN + 16n, START_LSN + 32n];
    const seen: bigint[][] = [];
    for (const [write, flush, apply] of [
      [b, 0n, 0n],
      [a, b, b],
      [b, a, b],
    ] as const) {
      reader.client.send(statusUpdate(write, flush, apply, 1));
      await reader.nextOther({ keepalives: true });
      const status = statusOf(fixture, reader.pid);
      seen.push([status?.writeLsn ?? -1n, status?.flushLsn ?? -1n, status?.applyLsn ?? -1n]);
    }
    expect(seen).toEqual([
      [b, 0n, 0n],
      [a, b, b],
      [b, a, b],
    ]);
    expect(fixture.slots.advances.map(([, lsn]) => lsn)).toEqual([b, a]);
  });

  it('keeps hot standby feedback of any content', async () => {
    const reader = await fixture.stream();
    reader.client.send(feedback(2, 0), feedback(0xffffffff, 77), statusUpdate(1n, 0n, 0n, 1));
    await reader.nextOther({ keepalives: true });
    expect(statusOf(fixture, reader.pid)?.replyTimeMs).toBe(946_684_800_000 + 700_000_000_000);
  });

  it('answers a reply that asks, never with a request, at most twenty times a second', async () => {
    const reader = await fixture.stream();
    const endLsn = fixture.feed.sendableLsn();
    await reader.readTo(endLsn);
    const startedMs = performance.now();
    const flood = Array.from({ length: 10_000 }, () => statusUpdate(endLsn, 0n, 0n, 1));
    reader.client.socket.write(Buffer.concat(flood));
    reader.client.send(message('c'));
    expect((await reader.nextOther())?.type).toBe('c');
    const elapsedMs = performance.now() - startedMs;
    expect(reader.keepalives.length).toBeGreaterThan(0);
    expect(reader.keepalives.length).toBeLessThanOrEqual(2 + elapsedMs / 50);
    expect(new Set(reader.keepalives.map((item) => item.replyRequested))).toEqual(new Set([0]));
    expect(reader.keepalives[0]?.walEnd).toBe(endLsn);
  });

  it('answers the last of several requests too, when its time has come', async () => {
    const reader = await fixture.stream();
    await reader.readTo(fixture.feed.sendableLsn());
    for (let index = 0; index < 3; index += 1) reader.client.send(statusUpdate(1n, 0n, 0n, 1));
    await reader.nextOther({ keepalives: true });
    await reader.nextOther({ keepalives: true });
    expect(reader.keepalives).toHaveLength(2);
  });

  it('leaves COPY with an error on a cancel request, and only for the right key', async () => {
    const { client, pid, key } = await fixture.standby();
    client.send(query('START_REPLICATION 0/1234000'));
    expect((await client.next())?.type).toBe('W');
    const reader = new StreamReader(client, START_LSN);
    await reader.readTo(fixture.feed.sendableLsn());
    const wrong = Buffer.from(key);
    wrong[0] = (wrong[0] ?? 0) ^ 1;
    for (const attempt of [wrong, key.subarray(0, 3), Buffer.concat([key, key])]) {
      const other = await fixture.connect();
      other.send(i32(12 + attempt.length), i32(80_877_102), i32(pid), attempt);
      await other.closed();
    }
    await reader.readTo(fixture.feed.append(100));
    const other = await fixture.connect();
    other.send(i32(16), i32(80_877_102), i32(pid), key);
    expect(await other.closed()).toHaveLength(0);
    expect(await client.answer()).toEqual([
      'E|ERROR|57014|canceling statement due to user request',
      'Z I',
    ]);
    expect((await client.ask('SHOW wal_segment_size'))[1]).toBe('D 16MB');
  });

  it('gives damaged WAL to nobody and tells the standby that asked', async () => {
    fixture.feed.failure = {
      kind: 'damaged',
      walFileName: '000000010000000000000001',
      lsn: fixture.feed.oldestLsn(),
      reason: 'checksum mismatch',
    };
    fixture.feed.tailBytes = 100_000;
    const { client } = await fixture.standby();
    expect(await client.ask('START_REPLICATION 0/1000000')).toEqual([
      'W',
      'E|ERROR|XX001|could not read WAL segment 000000010000000000000001 at 0/1000000: checksum mismatch|The stored segment is damaged. Other standbys are not affected.',
      'Z I',
    ]);
  });

  it('tells a standby when the WAL it still needed has been removed in the meantime', async () => {
    fixture.feed.tailBytes = 100_000;
    fixture.feed.onFileRead = (count) => {
      if (count === 2) fixture.feed.removeBefore(START_LSN);
    };
    const { client } = await fixture.standby();
    client.send(query('START_REPLICATION 0/1000000'));
    expect((await client.next())?.type).toBe('W');
    const reader = new StreamReader(client, OLDEST_LSN);
    const end = await reader.readTo(START_LSN);
    expect(end === null ? '' : summary(end)).toBe(
      'E|ERROR|58P01|requested WAL segment 000000010000000000000001 has already been removed',
    );
    expect(await client.answer()).toEqual(['Z I']);
    client.close();
    await eventually(() => fixture.senders.totals().disconnects.wal_removed).toBe(1);
  });
});

function statusOf(
  fixture: Fixture,
  pid: number,
): ReturnType<Fixture['senders']['statuses']>[number] | undefined {
  return fixture.senders.statuses().find((status) => status.pid === pid);
}
