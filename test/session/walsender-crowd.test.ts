// Many clients, clients that come and go, and clients that send anything at all: nobody else notices, nothing stays.
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import type { AcceptedConnection, ConnectionEvents } from '../../src/net/connection.ts';
import { eventually } from '../support/eventually.ts';
import { i32, i64, packet, raw } from '../support/naive-writer.ts';
import { ManualClock } from '../support/manual-clock.ts';
import {
  message,
  query,
  RawClient,
  startup,
  STANDBY,
  statusUpdate,
} from '../support/raw-client.ts';
import { Fixture, START_LSN } from '../support/wal-senders-fixture.ts';

let fixture: Fixture;

afterEach(() => fixture.finish());

describe('a crowd', () => {
  it('of 300 that come at once is served up to the limit, and the rest is told so', async () => {
    fixture = await Fixture.start({ beside: true });
    fixture.settings = { ...fixture.settings, maxWalSenders: 201 };
    const clients = await Promise.all(Array.from({ length: 300 }, () => fixture.connect()));
    const greetings = await Promise.all(
      clients.map((client) => {
        client.send(startup(STANDBY), query('START_REPLICATION 0/1234000'));
        return client.until('ZE');
      }),
    );
    const isIn = (greeting: { type: string }[]): boolean => greeting.at(-1)?.type === 'Z';
    expect(greetings.filter(isIn)).toHaveLength(200);
    expect(fixture.senders.totals().rejected.limit).toBe(100);
    const endLsn = fixture.feed.append(1000);
    const served = clients.filter((_, index) => isIn(greetings[index] ?? []));
    await eventually(
      () => fixture.senders.statuses().filter((entry) => entry.sentLsn === endLsn).length,
    ).toBe(201);
    for (const client of served) client.close();
    await eventually(() => fixture.senders.statuses().length).toBe(1);
  });

  it('that says nothing keeps no standby out: who has waited longest makes room', async () => {
    fixture = await Fixture.start({ beside: true });
    fixture.connectionsMax = 20;
    const strangers: RawClient[] = [];
    for (let count = 0; count < 60; count += 1) strangers.push(await fixture.connect());
    await eventually(() => strangers.filter(({ isClosed }) => isClosed).length).toBe(41);
    const reader = await fixture.stream();
    await reader.readTo(fixture.feed.append(1000));
    expect(fixture.senders.statuses()).toHaveLength(2);
    for (const stranger of strangers) stranger.close();
  });

  it('that was refused and does not leave makes room at once, before its time to take the refusal is over', () => {
    // All in one slice of a turn: its time stands still.
    fixture = new Fixture(15, new ManualClock());
    fixture.connectionsMax = 3;
    const ends: string[][] = [];
    for (let count = 0; count < 6; count += 1) {
      const calls: string[] = [];
      ends.push(calls);
      let session: ConnectionEvents | null = null;
      fixture.senders.accept((events) => {
        session = events;
        return stubbornConnection(calls);
      });
      expectEvents(session).onBytes(startup({ user: 'x', replication: 'maybe' }));
    }
    const ended = ['end'];
    const gone = ['end', 'destroy'];
    expect(ends).toEqual([gone, gone, gone, ended, ended, ended]);
  });

  it('of sessions that fills every place is told so by a close, and disturbs nobody', async () => {
    fixture = await Fixture.start({ beside: true });
    fixture.connectionsMax = 5;
    for (let count = 0; count < 4; count += 1) await fixture.standby();
    const late = await fixture.connect();
    expect(await late.closed()).toHaveLength(0);
    expect(fixture.senders.totals().rejected.limit).toBe(1);
    expect(fixture.senders.statuses()).toHaveLength(5);
  });

  it('that is killed and comes back a hundred times leaves nothing behind', async () => {
    fixture = await Fixture.start({ beside: true });
    const owner = await fixture.standby();
    await owner.client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    for (let round = 0; round < 100; round += 1) {
      const { client } = await RawClient.standby(fixture.port);
      await client.ask(`CREATE_REPLICATION_SLOT t${round} TEMPORARY PHYSICAL`);
      client.send(query('START_REPLICATION SLOT s 0/1000000'));
      expect((await client.next())?.type).toBe('W');
      client.socket.resetAndDestroy();
      await eventually(() => fixture.slots.slots.get('s')?.activePid).toBeNull();
    }
    await eventually(() => fixture.senders.statuses().length).toBe(2);
    expect([...fixture.slots.slots.keys()]).toEqual(['s']);
    expect(fixture.feed.listenerCount).toBe(2);
    expect(fixture.senders.totals().connects.get('standby1')).toBe(100);
  });
});

describe('a client that sends anything', () => {
  const bytes = fc.uint8Array({ maxLength: 60 });
  const letter = fc.constantFrom(...'QdcfXSHPBEDCFpz?\0'.split(''));
  const lsn = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
  const sql = fc.constantFrom(
    'IDENTIFY_SYSTEM',
    'SHOW ALL',
    'START_REPLICATION 0/1234000',
    'START_REPLICATION SLOT s 0/1000000',
    'START_REPLICATION 0/0',
    'START_REPLICATION FF/0',
    'CREATE_REPLICATION_SLOT s PHYSICAL',
    'CREATE_REPLICATION_SLOT t TEMPORARY PHYSICAL',
    'DROP_REPLICATION_SLOT s',
    'TIMELINE_HISTORY 1',
    'READ_REPLICATION_SLOT s',
    'BASE_BACKUP',
    'nonsense "',
  );
  const piece: fc.Arbitrary<Uint8Array> = fc.oneof(
    { weight: 5, arbitrary: sql.map((text) => query(text)) },
    { weight: 3, arbitrary: fc.tuple(lsn, lsn, lsn).map(([w, f, a]) => statusUpdate(w, f, a, 1)) },
    { weight: 2, arbitrary: fc.tuple(letter, bytes).map(([type, body]) => message(type, body)) },
    { weight: 2, arbitrary: fc.constantFrom(message('c'), message('S'), message('d', 'r')) },
    {
      weight: 1,
      arbitrary: fc.tuple(letter, fc.integer()).map(([type, n]) => raw(type, i32(n | 0))),
    },
    { weight: 1, arbitrary: bytes },
    {
      weight: 1,
      arbitrary: lsn.map((value) => message('d', 'h', i64(value & 0xffffn), bytes8(value))),
    },
  );

  it('neither ends the process nor disturbs a standby beside it, after the startup', async () => {
    fixture = await Fixture.start({ beside: true });
    fixture.tunnels.failure = new OperationalError('CONNECT_FAILED', 'no upstream here');
    const session = fc.tuple(fc.array(piece, { minLength: 1, maxLength: 12 }), fc.boolean());
    await fc.assert(
      fc.asyncProperty(session, async ([pieces, isCutShort]) => {
        const { client } = await RawClient.standby(fixture.port);
        for (const part of pieces) client.send(part);
        fixture.feed.append(100);
        if (isCutShort) client.close();
        else client.socket.end();
        await client.closed();
      }),
      { numRuns: 300 },
    );
    await eventually(() => fixture.senders.statuses().length).toBe(1);
    // What a session held goes with its connection, which may close a moment after the client was told.
    await eventually(() => fixture.slots.slots.get('s')?.activePid ?? null).toBeNull();
    await eventually(() => fixture.slots.slots.has('t')).toBe(false);
  });

  it('neither ends the process nor disturbs a standby beside it, before the startup', async () => {
    fixture = await Fixture.start({ beside: true });
    const parameters = fc.dictionary(
      fc.constantFrom(
        'user',
        'database',
        'replication',
        'options',
        'application_name',
        '_pq_.x',
        'a.b',
      ),
      fc.oneof(
        fc.constantFrom('true', 'database', '-c wal_sender_timeout=1', '-c', '--x', '\\'),
        fc.string({ maxLength: 20 }).map((text) => text.replaceAll('\0', '')),
      ),
    );
    const first = fc.oneof(
      parameters.map((values) => startup(values)),
      fc
        .tuple(fc.integer({ min: 0, max: 0xffffffff }), bytes)
        .map(([code, body]) => packet(code, body)),
      fc.constantFrom(packet(80_877_103), packet(80_877_104), packet(80_877_102, i32(1), i32(2))),
      bytes,
    );
    await fc.assert(
      fc.asyncProperty(fc.array(first, { minLength: 1, maxLength: 4 }), async (packets) => {
        const client = await RawClient.open(fixture.port);
        for (const part of packets) client.send(part);
        client.socket.end();
        await client.closed();
      }),
      { numRuns: 300 },
    );
    await eventually(() => fixture.senders.statuses().length).toBe(1);
    const reader = await fixture.stream(START_LSN);
    await reader.readTo(fixture.feed.append(10));
  });
});

/** A connection whose client neither reads nor closes. */
function stubbornConnection(calls: string[]): AcceptedConnection {
  return {
    peer: { address: '10.0.0.1', port: 1 },
    isEncrypted: false,
    tls: null,
    canStartTls: false,
    startTls: () => {},
    pendingBytes: () => 0,
    write: () => {},
    pauseReading: () => {},
    resumeReading: () => {},
    end: () => void calls.push('end'),
    destroy: () => void calls.push('destroy'),
  };
}

function expectEvents(events: ConnectionEvents | null): ConnectionEvents {
  if (events === null) throw new Error('the connection was not taken');
  return events;
}

function bytes8(value: bigint): Uint8Array {
  return i64(BigInt.asIntN(64, value));
}
