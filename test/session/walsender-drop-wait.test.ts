// DROP_REPLICATION_SLOT … WAIT: a wait for another session, which the client can cancel and which does not outlive it.
import { afterEach, describe, expect, it } from 'vitest';
import { Listener } from '../../src/net/listener.ts';
import { eventually } from '../support/eventually.ts';
import { i32 } from '../support/naive-writer.ts';
import { message, query, RawClient, summary } from '../support/raw-client.ts';
import { CUTS, Fixture, START_LSN } from '../support/wal-senders-fixture.ts';

const CANCELED = 'E|ERROR|57014|canceling statement due to user request';

describe.each(CUTS)('a wait for a slot, bytes fed %s', (cut) => {
  let fixture: Fixture;
  let client: RawClient;
  let pid: number;
  let key: Buffer;
  let holder: RawClient;

  /** A client whose drop waits for the slot `s`, which a standby holds; `behind` is sent with the command. */
  async function start(...behind: Uint8Array[]): Promise<void> {
    fixture = await Fixture.start({ cut });
    ({ client, pid, key } = await fixture.standby());
    await client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    holder = (await fixture.stream(START_LSN, { slot: 's' })).client;
    client.send(query('DROP_REPLICATION_SLOT s WAIT'), ...behind);
    await eventually(isWaiting).toBe(true);
  }

  function isWaiting(): boolean {
    return fixture.slots.waitingToDrop.has(pid);
  }

  /** The wait is over, and the slot outlives the one who held it. */
  async function expectKept(): Promise<void> {
    await eventually(isWaiting).toBe(false);
    holder.close();
    await eventually(() => fixture.slots.slots.get('s')?.activePid).toBeNull();
    expect(fixture.slots.slots.has('s')).toBe(true);
  }

  afterEach(() => fixture.close());

  it('ends with the drop when the slot is let go, and what came behind it is answered then', async () => {
    await start(query('SHOW wal_segment_size'));
    holder.close();
    expect(await client.answer()).toEqual(['C DROP_REPLICATION_SLOT', 'Z I']);
    expect((await client.answer())[1]).toBe('D 16MB');
    expect(fixture.slots.slots.size).toBe(0);
  });

  it('ends with an error on a cancel request', async () => {
    await start(query('SHOW wal_segment_size'));
    const other = await fixture.connect();
    other.send(i32(16), i32(80_877_102), i32(pid), key);
    expect(await client.answer()).toEqual([CANCELED, 'Z I']);
    expect((await client.answer())[1]).toBe('D 16MB');
    await expectKept();
  });

  it('ends when the client is gone', async () => {
    await start();
    client.socket.end();
    await expectKept();
    await client.closed();
    expect(fixture.senders.statuses().some((status) => status.pid === pid)).toBe(false);
  });

  it('ends when the client is gone in order, with commands under way', async () => {
    await start();
    client.send(query('SHOW wal_segment_size'), message('X'));
    client.socket.end();
    await expectKept();
    await client.closed();
  });

  it.each(['admin', 'drain'])('ends with the session: %s', async (how) => {
    await start();
    if (how === 'admin') fixture.senders.kill(pid);
    else void fixture.senders.drain(fixture.feed.sendableLsn());
    expect((await client.until('')).map(summary)).toEqual([
      'E|FATAL|57P01|terminating connection due to administrator command',
    ]);
    await expectKept();
  });
});

it('stops reading a client that floods a wait', async () => {
  const fixture = await Fixture.start();
  let received = 0;
  const listener = await Listener.open({
    target: { kind: 'tcp', host: '127.0.0.1', port: 0 },
    connectionsMax: 1,
    onConnection: (open) =>
      fixture.senders.accept((events) =>
        open({
          onBytes: (chunk) => {
            received += chunk.length;
            events.onBytes(chunk);
          },
          onDrain: () => events.onDrain(),
          onEnd: () => events.onEnd(),
          onClose: (code) => events.onClose(code),
        }),
      ),
  });
  const { client, pid } = await RawClient.standby(listener.port ?? 0, {});
  await client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
  const holder = await fixture.stream(START_LSN, { slot: 's' });
  client.send(query('DROP_REPLICATION_SLOT s WAIT'));
  await eventually(() => fixture.slots.waitingToDrop.has(pid)).toBe(true);
  client.send(Buffer.concat(Array.from({ length: 1_000_000 }, () => message('H'))));
  await eventually(() => received > 10_000).toBe(true);
  for (let round = 0; round < 100; round += 1) await holder.readTo(fixture.feed.append(100));
  expect(received).toBeLessThan(1 << 19);
  holder.client.close();
  expect(await client.answer()).toEqual(['C DROP_REPLICATION_SLOT', 'Z I']);
  expect((await client.ask('SHOW wal_segment_size'))[1]).toBe('D 16MB');
  client.close();
  listener.close();
  fixture.close();
});
