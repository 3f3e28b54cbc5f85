// A standby from before the store, over real sockets: does it get through walcast what it would have got from the
// upstream, byte for byte or word for word, and nobody else anything but what is right?
import { describe, expect, it } from 'vitest';
import { formatLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { message } from '../support/naive-writer.ts';
import { query, statusUpdate, StreamReader } from '../support/raw-client.ts';
import { listen, ODD, openRig, SEGMENT, WHOLE } from '../support/read-through-rig.ts';
import type { ReadThroughRig } from '../support/read-through-rig.ts';
import { COPY_BOTH, complete, keepalive, READY } from '../support/scripted-upstream.ts';
import type { ScriptedSession } from '../support/scripted-upstream.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const COPY_DONE: Uint8Array = message('c');
const STREAM_ENDED = [complete('START_STREAMING'), complete('START_REPLICATION'), READY];

/** Answers the end of a stream that walcast asked for; gives what it said before. */
async function endStream(session: ScriptedSession): Promise<string[]> {
  const seen: string[] = [];
  for (;;) {
    const { type, body } = await session.next();
    seen.push(type === 'd' ? body.subarray(0, 25).toString('hex') : type);
    if (type !== 'c') continue;
    session.send(COPY_DONE, ...STREAM_ENDED);
    return seen;
  }
}

describe('a standby from before the store', () => {
  it.each([
    ['as PostgreSQL cuts them', WHOLE],
    ['one by one and in odd pieces', ODD],
  ])('gets the bytes of the upstream that came %s, then those of the store', async (_, cut) => {
    await using rig = await openRig({ verify: 'record' });
    const { wal } = rig;
    const standby = await rig.stream(wal.startLsn);
    const { session, command, startLsn } = await rig.accept();
    expect(command).toBe(`START_REPLICATION PHYSICAL ${formatLsn(wal.startLsn)} TIMELINE 1`);
    rig.send(session, startLsn, rig.store.oldestLsn() + 300_000n, cut);
    await standby.readTo(wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
    expect(standby.messageEnds).toContain(rig.store.oldestLsn());
    for (const end of standby.messageEnds.slice(0, -1)) expect(end % 8192n).toBe(0n);
    expect(rig.readThrough.status()).toMatchObject({ connections: 1, bytes: Number(2n * SEGMENT) });
    // It goes on as any other: what arrives now comes from the store.
    wal.fill(50_000, 9);
    rig.receiveAll();
    await standby.readTo(wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
    expect(rig.upstream.accepted).toBe(1);
  });

  it('never counts for the upstream: no slot, a name of its own, and no position', async () => {
    await using rig = await openRig();
    const standby = await rig.stream(rig.wal.startLsn);
    const session = await rig.upstream.accept();
    const startup = await session.login(rig.server);
    expect(startup.get('application_name')).toBe('walcast_read_through');
    const { command, startLsn } = await rig.nextStart(session);
    expect(command).not.toContain('SLOT');
    expect(session.commands.some((text) => text.includes('SLOT'))).toBe(false);
    session.send(COPY_BOTH, keepalive(startLsn, true));
    rig.sendMore(session, startLsn, rig.seamLsn);
    await standby.readTo(rig.wal.endLsn);
    const said = await endStream(session);
    expect(said.slice(0, -1).length).toBeGreaterThan(0);
    for (const status of said.slice(0, -1)) expect(status).toBe(`72${'00'.repeat(24)}`);
  });

  it('may begin anywhere; the check begins with the segment', async () => {
    await using rig = await openRig();
    const startLsn = rig.wal.startLsn + 123_456n;
    const standby = await rig.stream(startLsn);
    const { session, startLsn: asked } = await rig.accept();
    expect(asked).toBe(rig.wal.startLsn);
    rig.send(session, asked, rig.seamLsn);
    await standby.readTo(rig.wal.endLsn);
    expect(standby.wal().equals(rig.wal.slice(startLsn, rig.wal.endLsn))).toBe(true);
  });

  it('gets the zeros behind a switch of segments', async () => {
    const wal = new WalFixture();
    wal.fill(300_000, 3);
    wal.switchSegment();
    wal.fill(Number(2n * SEGMENT), 4);
    await using rig = await openRig({ wal });
    const standby = await rig.stream(wal.startLsn);
    const { session, startLsn } = await rig.accept();
    // The connection is lost in the middle of the zeros.
    rig.send(session, startLsn, wal.startLsn + 700_001n);
    await standby.readTo(wal.startLsn + 290_000n);
    session.end();
    const next = await rig.accept();
    expect(next.startLsn).toBe(wal.startLsn + 700_001n);
    rig.send(next.session, next.startLsn, rig.seamLsn);
    await standby.readTo(wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
  });

  it('gets a record larger than everything that is kept for it, also when its connection is cut inside', async () => {
    const wal = new WalFixture();
    wal.fill(100_000, 3);
    wal.record({ body: Buffer.alloc(1_700_000, 7) });
    const middle = wal.record({ body: Buffer.alloc(400_000, 8) });
    wal.fill(Number(SEGMENT), 4);
    await using rig = await openRig({ wal, verify: 'record', storeFrom: wal.endLsn });
    const standby = await rig.stream(wal.startLsn);
    const { session, startLsn } = await rig.accept();
    // What has come of a record is more than what a connection is wished for at, and none of it can be sent.
    const cutLsn = middle.startLsn + 350_000n;
    rig.send(session, startLsn, cutLsn);
    await standby.readTo(wal.startLsn + 1_000_000n);
    session.end();
    const next = await rig.accept();
    expect(next.startLsn).toBe(cutLsn);
    expect(standby.endLsn).toBeLessThanOrEqual(middle.startLsn);
    rig.send(next.session, cutLsn, rig.seamLsn);
    await standby.readTo(wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
  });

  it('does not notice that the connection to the upstream is cut, but for the time', async () => {
    await using rig = await openRig();
    const { wal } = rig;
    const standby = await rig.stream(wal.startLsn);
    const first = await rig.accept();
    rig.send(first.session, first.startLsn, wal.startLsn + 500_000n);
    first.session.end();
    const second = await rig.accept();
    expect(second.startLsn).toBe(wal.startLsn + 500_000n);
    rig.send(second.session, second.startLsn, wal.startLsn + 900_001n);
    second.session.reset();
    const third = await rig.accept();
    // What a reset left unread in the socket is asked for again.
    expect(third.startLsn).toBeLessThanOrEqual(wal.startLsn + 900_001n);
    rig.send(third.session, third.startLsn, rig.seamLsn);
    await standby.readTo(wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
  });

  it('may have a slot, which goes back to where the standby is', async () => {
    await using rig = await openRig();
    const client = await rig.client();
    expect((await client.ask('CREATE_REPLICATION_SLOT "old" PHYSICAL RESERVE_WAL')).at(-1)).toBe(
      'Z I',
    );
    const { startLsn } = rig.wal;
    client.send(query(`START_REPLICATION SLOT "old" ${formatLsn(startLsn)} TIMELINE 1`));
    expect((await client.next())?.type).toBe('W');
    const standby = new StreamReader(client, startLsn);
    const { session, command } = await rig.accept();
    expect(command).not.toContain('SLOT');
    rig.send(session, startLsn, rig.seamLsn);
    await standby.readTo(startLsn + 500_000n);
    client.send(statusUpdate(startLsn + 8_192n, startLsn + 8_192n, 0n));
    await eventually(() => rig.slots.read('old')?.restartLsn).toBe(startLsn + 8_192n);
    await standby.readTo(rig.wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
  });

  it('goes on with the store where that begins by then', async () => {
    await using rig = await openRig();
    const { wal, store } = rig;
    const standby = await rig.stream(wal.startLsn);
    const { session, startLsn } = await rig.accept();
    rig.send(session, startLsn, wal.startLsn + SEGMENT);
    await standby.readTo(wal.startLsn + SEGMENT - 30_000n);
    await eventually(() => store.positions().flushedLsn).toBeGreaterThan(
      wal.startLsn + 3n * SEGMENT,
    );
    const before = store.oldestLsn();
    wal.checkpoint();
    rig.receiveAll();
    await eventually(() => {
      store.removeOldSegments(null);
      return store.oldestLsn();
    }).toBe(before + SEGMENT);
    rig.sendMore(session, wal.startLsn + SEGMENT, rig.seamLsn);
    await standby.readTo(wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
  });

  it('may be at a place that the store has removed just now', async () => {
    await using rig = await openRig();
    const { wal, store } = rig;
    wal.checkpoint();
    rig.receiveAll();
    await eventually(() => store.positions().flushedLsn).toBe(wal.endLsn);
    const start = store.oldestLsn();
    await eventually(() => {
      store.removeOldSegments(null);
      return store.oldestLsn();
    }).toBeGreaterThan(start);
    const standby = await rig.stream(start);
    const { session, startLsn } = await rig.accept();
    expect(startLsn).toBe(start);
    rig.send(session, startLsn, rig.seamLsn);
    await standby.readTo(wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
  });
});

describe('an old timeline', () => {
  /** Timeline 1 up to a record end in the first segment, then timeline 2. */
  function twoTimelines(oldBytes = 600_000): { wal: WalFixture; switchLsn: Lsn } {
    const wal = new WalFixture();
    wal.fill(oldBytes, 3);
    const switchLsn = wal.endLsn;
    wal.history = {
      timeline: 2 as WalFixture['history']['timeline'],
      ancestors: [{ timeline: wal.history.timeline, endLsn: switchLsn }],
    };
    wal.fill(Number(3n * SEGMENT), 4);
    return { wal, switchLsn };
  }

  function historyOf(switchLsn: Lsn): readonly [string, string] {
    return ['00000002.history', `1\t${formatLsn(switchLsn)}\tno recovery target specified\n`];
  }

  it('ends where it was left, and the next one goes on', async () => {
    const { wal, switchLsn } = twoTimelines();
    const histories = { '2': historyOf(switchLsn) };
    await using rig = await openRig({ wal, server: { histories } });
    const old = await rig.stream(wal.startLsn, { timeline: 1 });
    const { session, command, startLsn } = await rig.accept();
    expect(command).toContain('TIMELINE 1');
    rig.send(session, startLsn, switchLsn);
    session.send(COPY_DONE);
    await old.readTo(switchLsn);
    expect((await old.nextOther())?.type).toBe('c');
    old.client.send(COPY_DONE);
    expect(await old.client.answer()).toEqual([
      'T',
      `D 2,${formatLsn(switchLsn)}`,
      'C START_STREAMING',
      'C START_REPLICATION',
      'Z I',
    ]);
    expect(old.wal().equals(wal.slice(wal.startLsn, switchLsn))).toBe(true);
    session.send(...STREAM_ENDED);

    const standby = await rig.stream(wal.startLsn, { timeline: 2 });
    for (;;) if ((await session.next()).type === 'c') break;
    const next = await rig.nextStart(session);
    expect(next.command).toContain('TIMELINE 2');
    rig.send(session, next.startLsn, rig.seamLsn);
    await standby.readTo(wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
    expect(rig.upstream.accepted).toBe(1);
  });

  it('ends where it was left also when that is in the first segment of the store', async () => {
    const { wal, switchLsn } = twoTimelines(1_600_000);
    const histories = { '2': historyOf(switchLsn) };
    await using rig = await openRig({ wal, storeFrom: switchLsn, server: { histories } });
    expect(rig.store.oldestLsn()).toBe(wal.startLsn + SEGMENT);
    await eventually(() => rig.store.positions().writtenLsn).toBe(wal.endLsn);
    const old = await rig.stream(wal.startLsn, { timeline: 1 });
    const { session, startLsn } = await rig.accept();
    rig.send(session, startLsn, rig.seamLsn);
    await old.readTo(switchLsn);
    expect((await old.nextOther())?.type).toBe('c');
    expect(old.wal().equals(wal.slice(wal.startLsn, switchLsn))).toBe(true);
  });

  it('has its history asked for and kept, and that of a stranger passed on only', async () => {
    const { wal } = twoTimelines();
    const { ancestors } = wal.history;
    // The store is on timeline 3, which left 2 at once.
    const first = ancestors[0]?.endLsn ?? wal.endLsn;
    const second = wal.endLsn;
    const three = 3 as WalFixture['history']['timeline'];
    wal.history = {
      timeline: three,
      ancestors: [...ancestors, { timeline: wal.history.timeline, endLsn: second }],
    };
    wal.fill(Number(2n * SEGMENT), 5);
    const [, two] = historyOf(first);
    const histories = {
      '2': ['00000002.history', two],
      '3': ['00000003.history', `${two}\n2\t${formatLsn(second)}\tx\n`],
      '5': ['00000005.history', `${two}\n2\t${formatLsn(first)}\tanother branch\n`],
    } as const;
    await using rig = await openRig({
      wal,
      storeFrom: wal.endLsn - 2n * SEGMENT,
      server: { histories },
    });
    const client = await rig.client();
    client.send(query('TIMELINE_HISTORY 2'));
    const session = await rig.upstream.accept();
    await session.login(rig.server);
    void session.identify(rig.server).catch(() => {});
    expect(await client.answer()).toEqual([
      'T',
      `D 00000002.history,${two}`,
      'C TIMELINE_HISTORY',
      'Z I',
    ]);
    expect(Buffer.from((await rig.store.historyFile(rig.wal.history.timeline)) ?? [])).toHaveLength(
      0,
    );
    const kept = await rig.store.historyFile(2 as WalFixture['history']['timeline']);
    expect(Buffer.from(kept ?? []).toString()).toBe(two);
    expect((await client.ask('TIMELINE_HISTORY 5'))[1]).toContain('another branch');
    expect(await rig.store.historyFile(5 as WalFixture['history']['timeline'])).toBeNull();
    for (const timeline of [1, 7]) {
      expect(await client.ask(`TIMELINE_HISTORY ${timeline}`)).toEqual([
        'T',
        `E|ERROR|58P01|could not open file "pg_wal/0000000${timeline}.history": No such file or directory`,
        'Z I',
      ]);
    }
    expect(session.commands.filter((text) => text === 'TIMELINE_HISTORY 1')).toEqual([]);
    expect(rig.upstream.accepted).toBe(1);
  });
});

describe('many standbys from before the store', () => {
  it('share two connections, and each gets everything', async () => {
    await using rig = await openRig();
    const { wal } = rig;
    let now = 0;
    let most = 0;
    void (async () => {
      for (;;) {
        const session = await rig.upstream.accept();
        now += 1;
        most = Math.max(most, now);
        void session.closed.then(() => (now -= 1));
        await session.login(rig.server);
        void serveForEver(rig, session);
      }
    })();
    const standbys = await Promise.all(
      Array.from({ length: 7 }, (_, index) => rig.stream(wal.startLsn + BigInt(index) * 8192n)),
    );
    await Promise.all(standbys.map((standby) => standby.readTo(wal.endLsn)));
    for (const standby of standbys) expect(rig.isRight(standby)).toBe(true);
    expect(most).toBe(2);
    expect(rig.readThrough.status().connectionsMax).toBe(2);
  });

  // No time is told: two stall at about 4 MB, and the third one gets everything while they do, however long that takes.
  it('do not wait for two that take nothing', { timeout: 120_000 }, async () => {
    // More than the kernel keeps for a standby that does not read; in few records, because all of it is walked several times.
    const wal = new WalFixture();
    while (wal.endLsn < wal.startLsn + 10_000_000n) wal.record({ body: Buffer.alloc(100_000, 3) });
    await using rig = await openRig({ wal, storeFrom: wal.endLsn, timeoutMs: 60_000 });
    void (async () => {
      for (;;) {
        const session = await rig.upstream.accept();
        await session.login(rig.server);
        void serveForEver(rig, session);
      }
    })();
    const stalled = [await rig.stream(wal.startLsn), await rig.stream(wal.startLsn)];
    for (const { client } of stalled) client.pause();
    const standby = await rig.stream(wal.startLsn);
    await standby.readTo(wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
    const sent = rig.senders.statuses().map(({ sentLsn }) => sentLsn);
    expect(sent.filter((lsn) => lsn < wal.endLsn)).toHaveLength(2);
    for (const { client } of stalled) client.resume();
    for (const reader of stalled) {
      await reader.readTo(wal.endLsn);
      expect(rig.isRight(reader)).toBe(true);
    }
  });

  it('are told so when they are too many', async () => {
    await using rig = await openRig();
    const { wal } = rig;
    await Promise.all(Array.from({ length: 64 }, () => rig.stream(wal.startLsn)));
    const last = await rig.stream(wal.startLsn);
    expect(await last.client.answer()).toEqual([
      'E|ERROR|53300|too many standbys read WAL from before the store|Try again when others have caught up.',
      'Z I',
    ]);
  });
});

describe('connections that read old WAL', () => {
  it('end with the standby that needed them', async () => {
    await using rig = await openRig();
    const standby = await rig.stream(rig.wal.startLsn);
    const { session, startLsn } = await rig.accept();
    rig.send(session, startLsn, startLsn + 131_072n);
    await standby.readTo(startLsn + 100_000n);
    standby.client.close();
    expect((await endStream(session)).at(-1)).toBe('c');
  });

  it('end when the upstream stops: it would wait for them', async () => {
    await using rig = await openRig();
    const standby = await rig.stream(rig.wal.startLsn);
    const { session, startLsn } = await rig.accept();
    rig.send(session, startLsn, startLsn + 131_072n);
    await standby.readTo(startLsn + 100_000n);
    // At least one look at it while it streams.
    for (let looks = 0; looks < 2; looks += 1) await session.next();
    rig.isMoving = false;
    expect((await listen(session)).at(-1)).toBe('X');
    const next = await rig.accept();
    rig.send(next.session, next.startLsn, rig.seamLsn);
    await standby.readTo(rig.wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
  });

  it('leave their places to the walreceiver from time to time while that has none', async () => {
    const clock = new ManualClock();
    await using rig = await openRig({ clock, timeoutMs: 60_000 });
    rig.isMoving = false;
    const standby = await rig.stream(rig.wal.startLsn);
    const { session, startLsn } = await rig.accept();
    rig.send(session, startLsn, startLsn + 131_072n);
    await standby.readTo(startLsn + 100_000n);
    for (let second = 0; second < 10; second += 1) clock.advance(1_000);
    expect(rig.readThrough.status().connections).toBe(1);
    clock.advance(500);
    expect((await listen(session)).at(-1)).toBe('X');
    clock.advance(5_000);
    expect(rig.readThrough.status().connections).toBe(0);
    const next = rig.accept();
    await eventually(() => {
      clock.advance(250);
      return rig.readThrough.status().connections;
    }).toBe(1);
    const again = await next;
    rig.send(again.session, again.startLsn, rig.seamLsn);
    await standby.readTo(rig.wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
  });
});

/** Gives every stream that is asked for its bytes, up to the store; ends it when walcast wants. */
async function serveForEver(rig: ReadThroughRig, session: ScriptedSession): Promise<void> {
  try {
    for (;;) {
      const { startLsn } = await rig.nextStart(session);
      rig.send(session, startLsn, rig.seamLsn);
      await endStream(session);
    }
  } catch {
    // The connection is closed.
  }
}
