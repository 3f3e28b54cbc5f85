// Old WAL that the upstream has not got, or gets wrong: is the standby told what the upstream would have told it, is nothing
// wrong ever forwarded, and does nobody wait for ever?
import { describe, expect, it } from 'vitest';
import { formatLsn } from '../../src/pg/lsn.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { i32, message } from '../support/naive-writer.ts';
import { query, summary } from '../support/raw-client.ts';
import { openRig, SEGMENT } from '../support/read-through-rig.ts';
import type { ReadThroughRig } from '../support/read-through-rig.ts';
import {
  complete,
  COPY_BOTH,
  errorResponse,
  READY,
  walData,
} from '../support/scripted-upstream.ts';
import type { ScriptedSession } from '../support/scripted-upstream.ts';
import { WalFixture } from '../support/wal-fixture.ts';

describe('an upstream that has not got it', () => {
  it('has its own answer passed on, at the start and in the middle', async () => {
    await using rig = await openRig();
    const { wal } = rig;
    const text = 'requested WAL segment 000000010000000000000030 has already been removed';
    const standby = await rig.stream(wal.startLsn);
    const { session, startLsn } = await rig.accept();
    session.send(COPY_BOTH, errorResponse('58P01', text), READY);
    expect(await standby.client.answer()).toEqual([`E|ERROR|58P01|${text}`, 'Z I']);
    // The session goes on, on both sides.
    standby.client.send(query(`START_REPLICATION ${formatLsn(wal.startLsn)} TIMELINE 1`));
    expect((await standby.client.next())?.type).toBe('W');
    const seen: string[] = [];
    for (;;) {
      const { type, body } = await session.next();
      seen.push(type);
      if (type === 'Q') {
        expect(body.toString()).toContain('START_REPLICATION');
        break;
      }
    }
    rig.send(session, startLsn, startLsn + 400_000n);
    session.send(errorResponse('58P01', text), READY);
    expect(summary((await standby.nextOther()) ?? { type: '?', body: Buffer.of() })).toBe(
      `E|ERROR|58P01|${text}`,
    );
    expect(rig.isRight(standby)).toBe(true);
    expect(rig.senders.totals().disconnects.wal_removed).toBe(0);
  });

  it('is asked again when it refuses for another reason, until the time is up', async () => {
    await using rig = await openRig({ timeoutMs: 1_200 });
    const standby = await rig.stream(rig.wal.startLsn);
    const { session } = await rig.accept();
    const refusal = errorResponse('XX000', 'requested starting point 0/3000000 is ahead');
    session.send(refusal, READY);
    // On a new connection: another server may be behind the address by now.
    const again = await rig.accept();
    expect(again.startLsn).toBe(rig.wal.startLsn);
    again.session.send(refusal, READY);
    const answers = standby.client.answer();
    void rig.accept().then(
      (next) => next.session.send(refusal, READY),
      () => {},
    );
    expect(await answers).toEqual([
      'E|ERROR|58P01|requested WAL segment 000000010000000000000030 has already been removed|' +
        'walcast does not keep it any more and could not read it from the upstream: ' +
        'it answered: requested starting point 0/3000000 is ahead',
      'Z I',
    ]);
  });

  it('is given up after a while when it cannot be reached; the standby lives meanwhile', async () => {
    await using rig = await openRig({ timeoutMs: 2_000 });
    rig.walSenderTimeoutMs = 1_000;
    await rig.upstream[Symbol.asyncDispose]();
    const standby = await rig.stream(rig.wal.startLsn);
    const pings: number[] = [];
    for (;;) {
      const item = await standby.client.next();
      if (item === null) throw new Error('closed');
      if (item.type !== 'd') {
        expect(summary(item)).toMatch(/^E\|ERROR\|58P01\|requested WAL segment .*\|.*ECONNREFUSED/);
        break;
      }
      pings.push(item.body[17] ?? 0);
      const nothing = Buffer.alloc(32);
      standby.client.send(message('d', 'r', nothing, 0));
    }
    expect(pings.filter((ping) => ping === 1).length).toBeGreaterThanOrEqual(2);
    // Whoever begins in the store is not concerned.
    const other = await rig.stream(rig.store.oldestLsn());
    await other.readTo(rig.wal.endLsn);
  });

  it.each(['the login', 'START_REPLICATION', 'the stream'])(
    'is given up when it falls silent after %s',
    async (stage) => {
      await using rig = await openRig({ timeoutMs: 500 });
      const standby = await rig.stream(rig.wal.startLsn);
      const session = await rig.upstream.accept();
      if (stage === 'the login') {
        await session.login(rig.server);
      } else {
        await session.login(rig.server);
        const { startLsn } = await rig.nextStart(session);
        if (stage === 'the stream') rig.send(session, startLsn, startLsn + 65_536n);
      }
      const error = summary((await standby.nextOther()) ?? { type: '?', body: Buffer.of() });
      expect(error).toMatch(
        /E\|ERROR\|58P01\|.*\|walcast does not keep it any more and could not read it from the upstream: (nothing came from it for 500 ms|the upstream did not answer SHOW within 500 ms)/,
      );
      expect(rig.isRight(standby)).toBe(true);
      await session.closed;
    },
  );

  it('is not read from when it is another server, or one of another history', async () => {
    await using rig = await openRig({
      timeoutMs: 300,
      server: { systemIdentifier: '7300000000000000999' },
    });
    const standby = await rig.stream(rig.wal.startLsn);
    void (async () => {
      for (;;) {
        const session = await rig.upstream.accept();
        await session.login(rig.server);
        await session.identify(rig.server).catch(() => {});
      }
    })();
    const answers = await standby.client.answer();
    expect(answers[0]).toContain("the upstream's system identifier is 7300000000000000999");
    expect(rig.isRight(standby)).toBe(true);
  });

  it('is given up also when others have their turns in between, and it only ever answers', async () => {
    const clock = new ManualClock();
    await using rig = await openRig({ clock, timeoutMs: 25_000 });
    const standbys = [];
    for (let count = 0; count < 3; count += 1) standbys.push(await rig.stream(rig.wal.startLsn));
    void (async () => {
      for (;;) {
        const session = await rig.upstream.accept();
        await session.login(rig.server);
        void sayNothing(rig, session);
      }
    })();
    let told = 0;
    for (const standby of standbys) {
      void standby.nextOther().then((item) => (told += item?.type === 'E' ? 1 : 0));
    }
    const startedAtMs = clock.nowMs();
    await eventually(() => {
      clock.advance(100);
      return told;
    }).toBe(3);
    expect(clock.nowMs() - startedAtMs).toBeLessThan(120_000);
  });

  it('is connected to anew when the settings for it have changed, and only then', async () => {
    await using rig = await openRig();
    const { wal } = rig;
    const standby = await rig.stream(wal.startLsn);
    const first = await rig.accept();
    rig.send(first.session, first.startLsn, wal.startLsn + 500_000n);
    await standby.readTo(wal.startLsn + 400_000n);
    rig.readThrough.settingsChanged();
    const [host] = rig.target.hosts;
    if (host === undefined) throw new Error('no host');
    rig.target = { ...rig.target, hosts: [{ ...host, password: 'of today' }] };
    rig.readThrough.settingsChanged();
    expect(rig.readThrough.status().connections).toBe(1);
    rig.target = { ...rig.target, user: 'other' };
    rig.readThrough.settingsChanged();
    expect(rig.readThrough.status().connections).toBe(0);
    const session = await rig.upstream.accept();
    expect((await session.login(rig.server)).get('user')).toBe('other');
    const { startLsn } = await rig.nextStart(session);
    rig.send(session, startLsn, rig.seamLsn);
    await standby.readTo(wal.endLsn);
    expect(rig.isRight(standby)).toBe(true);
  });

  it('holds up only so many who ask for history files, no standby, and no end', async () => {
    await using rig = await openRig();
    const { wal } = rig;
    const standby = await rig.stream(wal.startLsn);
    const first = await rig.accept();
    const answers = [];
    for (let timeline = 100; timeline < 117; timeline += 1) {
      const client = await rig.client();
      answers.push(client.ask(`TIMELINE_HISTORY ${timeline}`));
    }
    // The last one is one too many.
    expect((await answers.at(-1))?.[1]).toContain('58P01');
    const others = await Promise.all(
      Array.from({ length: 63 }, () => rig.stream(wal.startLsn, { timeline: 1 })),
    );
    expect(others).toHaveLength(63);
    rig.send(first.session, first.startLsn, rig.seamLsn);
    await standby.readTo(wal.endLsn);
    rig.readThrough.close();
    for (const answer of await Promise.all(answers)) expect(answer[1]).toContain('58P01');
  });

  it('is not asked before it is known which of several hosts is followed', async () => {
    const host = { host: '127.0.0.1', address: '127.0.0.1', port: 1, password: null };
    await using rig = await openRig({ timeoutMs: 300, hosts: [host, host] });
    const standby = await rig.stream(rig.wal.startLsn);
    expect((await standby.client.answer())[0]).toContain('none of the 2 upstream hosts');
    expect(rig.upstream.accepted).toBe(0);
    rig.followed = { ...host, port: rig.upstream.port };
    const other = await rig.stream(rig.wal.startLsn);
    const { session, startLsn } = await rig.accept();
    rig.send(session, startLsn, rig.seamLsn);
    await other.readTo(rig.wal.endLsn);
  });
});

describe('wrong bytes from the upstream', () => {
  it.each([
    ['a flipped byte of a record', 400_000, 'incorrect resource manager data checksum'],
    ['a page of another place', 49 * 8192 + 8, 'unexpected pageaddr'],
    ['another timeline', 49 * 8192 + 4, 'unexpected timeline ID'],
  ])('end the session of that standby alone: %s', async (_, offset, reason) => {
    await using rig = await openRig({ verify: 'record' });
    const { wal } = rig;
    const beside = await rig.stream(rig.store.oldestLsn());
    const standby = await rig.stream(wal.startLsn);
    const { session, startLsn } = await rig.accept();
    const bad = wal.slice(startLsn, startLsn + 524_288n);
    bad[offset] = (bad[offset] ?? 0) ^ 0x40;
    session.send(COPY_BOTH);
    for (let at = 0; at < bad.length; at += 131_072) {
      session.send(walData(startLsn + BigInt(at), bad.subarray(at, at + 131_072), wal.endLsn));
    }
    const error = summary((await standby.nextOther()) ?? { type: '?', body: Buffer.of() });
    expect(error).toContain('E|ERROR|XX001|could not read WAL segment 000000010000000000000030 at');
    expect(error).toContain(reason);
    expect(rig.isRight(standby)).toBe(true);
    expect(Number(standby.endLsn - wal.startLsn)).toBeLessThanOrEqual(offset);
    await beside.readTo(wal.endLsn);
    expect(rig.isRight(beside)).toBe(true);
    await session.closed;
  });

  it.each(['page', 'record'] as const)(
    'of the head of a record that the store has the rest of are never joined to it: verify %s',
    async (verify) => {
      const wal = new WalFixture();
      wal.fill(Number(SEGMENT) - 30_000, 3);
      while (wal.endLsn < wal.startLsn + SEGMENT - 15_000n) wal.fill(1_000, 3);
      const across = wal.record({ body: Buffer.alloc(40_000, 7) });
      wal.fill(Number(SEGMENT), 4);
      await using rig = await openRig({ wal, verify, storeFrom: wal.startLsn + SEGMENT });
      expect(across.startLsn).toBeLessThan(rig.store.oldestLsn());
      expect(across.endLsn).toBeGreaterThan(rig.store.oldestLsn());
      const standby = await rig.stream(wal.startLsn);
      const { session, startLsn } = await rig.accept();
      const bad = wal.slice(startLsn, wal.endLsn);
      const index = Number(across.startLsn - startLsn) + 100;
      bad[index] = (bad[index] ?? 0) ^ 1;
      session.send(COPY_BOTH);
      for (let at = 0; at < bad.length; at += 131_072) {
        session.send(walData(startLsn + BigInt(at), bad.subarray(at, at + 131_072), wal.endLsn));
      }
      const error = summary((await standby.nextOther()) ?? { type: '?', body: Buffer.of() });
      expect(error).toContain('incorrect resource manager data checksum in record at');
      expect(standby.endLsn).toBeLessThanOrEqual(across.startLsn);
      expect(rig.isRight(standby)).toBe(true);
    },
  );

  it('are those of a message that does not join on', async () => {
    await using rig = await openRig();
    const { wal } = rig;
    const standby = await rig.stream(wal.startLsn);
    const { session, startLsn } = await rig.accept();
    rig.send(session, startLsn, startLsn + 65_536n);
    rig.sendMore(session, startLsn + 131_072n, startLsn + 262_144n);
    const error = summary((await standby.nextOther()) ?? { type: '?', body: Buffer.of() });
    expect(error).toContain('the message starts at 0/3020000, expected 0/3010000');
    // The record that was cut is not whole.
    expect(standby.endLsn).toBeGreaterThan(startLsn + 40_000n);
    expect(standby.endLsn).toBeLessThanOrEqual(startLsn + 65_536n);
    expect(rig.isRight(standby)).toBe(true);
  });

  it('are a message of another kind, or none that could be one: the connection goes', async () => {
    await using rig = await openRig({ timeoutMs: 2_000 });
    const standby = await rig.stream(rig.wal.startLsn);
    const first = await rig.accept();
    first.session.send(COPY_BOTH, message('d', 'x'));
    await first.session.closed;
    const second = await rig.accept();
    second.session.send(COPY_BOTH, Buffer.concat([Buffer.from('d'), i32(2 ** 30)]));
    await second.session.closed;
    expect((await standby.client.answer())[0]).toContain('E|ERROR|58P01|');
  });
});

/** Opens every stream that is asked for, ends it when that is wanted, and sends no WAL. */
async function sayNothing(rig: ReadThroughRig, session: ScriptedSession): Promise<void> {
  try {
    for (;;) {
      await rig.nextStart(session);
      session.send(COPY_BOTH);
      while ((await session.next()).type !== 'c');
      session.send(message('c'), complete('START_STREAMING'), complete('START_REPLICATION'), READY);
    }
  } catch {
    // The connection is closed.
  }
}
