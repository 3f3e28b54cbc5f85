// Standbys in trouble, as walcast shows them: stalled, away, several of one name, slow, silent while we stood still.
import { afterEach, describe, expect, it } from 'vitest';
import { ABSENT_STANDBY_WEDGED_MS, STANDBY_STALLED_MS } from '../../src/config/limits.ts';
import type { WalSenderStatus } from '../../src/walsender/wal-senders.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { message, query, statusUpdate } from '../support/raw-client.ts';
import type { StreamReader } from '../support/raw-client.ts';
import { Fixture, OLDEST_LSN, START_LSN } from '../support/wal-senders-fixture.ts';

let fixture: Fixture;
let clock: ManualClock;

afterEach(() => fixture.close());

async function start(): Promise<void> {
  clock = new ManualClock();
  fixture = await Fixture.start({ clock });
  // Silence is another test's matter.
  fixture.settings = { ...fixture.settings, walSenderTimeoutMs: 0 };
}

function statusOf(pid: number): WalSenderStatus | undefined {
  return fixture.senders.statuses().find((status) => status.pid === pid);
}

async function confirm(reader: StreamReader & { pid: number }, lsn = reader.endLsn): Promise<void> {
  const before = statusOf(reader.pid)?.lastReplyAtMs ?? 0;
  clock.advance(1);
  reader.client.send(statusUpdate(lsn, lsn, lsn));
  await eventually(() => statusOf(reader.pid)?.lastReplyAtMs ?? 0).toBeGreaterThan(before);
}

/** Time as a process that runs sees it. */
function run(ms: number): void {
  for (let passed = 0; passed < ms; passed += 500) clock.advance(500);
}

function linesWith(text: string): string[] {
  return fixture.log.lines.filter((line) => line.includes(text));
}

describe('a standby that confirms nothing more', () => {
  it('is shown stalled after a minute, counted and said once, and no more when it goes on', async () => {
    await start();
    const stuck = await fixture.stream();
    const live = await fixture.stream(START_LSN, { parameters: { application_name: 'live' } });
    await confirm(stuck);
    for (let second = 0; second < 130; second += 1) {
      const endLsn = fixture.feed.append(100);
      await live.readTo(endLsn);
      await confirm(live);
      run(1000);
      if (second === 55) expect(statusOf(stuck.pid)?.isStalled).toBe(false);
    }
    expect(statusOf(stuck.pid)?.isStalled).toBe(true);
    expect(statusOf(live.pid)?.isStalled).toBe(false);
    expect(fixture.senders.totals().stalls).toBe(1);
    expect(linesWith('standby has stalled')).toHaveLength(1);
    expect(linesWith('standby has stalled')[0]).toMatch(
      /^warn .*"application_name":"standby1".*"detail":"it was sent everything"/,
    );
    await stuck.readTo(fixture.feed.sendableLsn());
    await confirm(stuck);
    run(2000);
    expect(statusOf(stuck.pid)?.isStalled).toBe(false);
    expect(linesWith('goes on after it had stalled')).toHaveLength(1);
  });

  it('is not stalled when there is nothing to confirm, nor while it waits for WAL from beyond our end', async () => {
    await start();
    fixture.settings = { ...fixture.settings, holdAheadMs: 10 * STANDBY_STALLED_MS };
    const idle = await fixture.stream();
    await confirm(idle);
    const ahead = await fixture.stream(START_LSN + 50_000n);
    run(3 * STANDBY_STALLED_MS);
    expect(statusOf(idle.pid)?.isStalled).toBe(false);
    expect(statusOf(ahead.pid)?.isStalled).toBe(false);
  });

  it('is asked first, for it may report only when it is asked', async () => {
    await start();
    const quiet = await fixture.stream();
    await confirm(quiet);
    for (let round = 1; round <= 3; round += 1) {
      await quiet.readTo(fixture.feed.append(1000));
      run(STANDBY_STALLED_MS - 5000);
      await quiet.nextOther({ keepalives: true });
      expect(quiet.keepalives.map(({ replyRequested }) => replyRequested)).toEqual(
        Array.from({ length: round }, () => 1),
      );
      await confirm(quiet);
    }
    expect(fixture.senders.totals().stalls).toBe(0);
  });

  it('is measured by what it has written when it does not replay: it may flush whole segments only', async () => {
    await start();
    const receiver = await fixture.stream();
    for (let round = 0; round < 2; round += 1) {
      const endLsn = fixture.feed.append(1000);
      await receiver.readTo(endLsn);
      receiver.client.send(statusUpdate(endLsn, START_LSN, 0n));
      await eventually(() => statusOf(receiver.pid)?.writeLsn).toBe(endLsn);
      run(STANDBY_STALLED_MS + 5000);
    }
    expect(statusOf(receiver.pid)).toMatchObject({ isStalled: false, flushLsn: START_LSN });
  });

  it('is not stalled because walcast itself stood still', async () => {
    await start();
    const reader = await fixture.stream();
    await confirm(reader);
    fixture.feed.append(1000);
    run(2000);
    // One late tick, as after SIGSTOP and SIGCONT.
    const now = clock.nowMs();
    clock.skip(600_000);
    run(2000);
    expect(clock.nowMs() - now).toBeGreaterThan(600_000);
    expect(statusOf(reader.pid)?.isStalled).toBe(false);
  });
});

describe('standbys of one name', () => {
  it('are let in, marked, and said once', async () => {
    await start();
    const one = await fixture.stream();
    const two = await fixture.stream();
    const other = await fixture.stream(START_LSN, { parameters: { application_name: 'other' } });
    for (const reader of [one, two, other]) {
      await confirm(reader);
    }
    run(3000);
    expect([one, two, other].map(({ pid }) => statusOf(pid)?.isNameShared)).toEqual([
      true,
      true,
      false,
    ]);
    run(3000);
    expect(linesWith('several standbys stream under one application_name')).toEqual([
      'warn several standbys stream under one application_name; give each a name of its own in its primary_conninfo {"application_name":"standby1"}',
    ]);
    two.client.close();
    await eventually(() => statusOf(two.pid)).toBeUndefined();
    run(2000);
    expect(statusOf(one.pid)?.isNameShared).toBe(false);
  });

  it('are not two while one is an old connection that is silent since the other began', async () => {
    await start();
    const dead = await fixture.stream();
    await confirm(dead);
    const back = await fixture.stream();
    await confirm(back);
    run(3000);
    expect(statusOf(back.pid)?.isNameShared).toBe(false);
    expect(linesWith('several standbys')).toEqual([]);
  });

  it('are no news for receivers that nobody means by their name', async () => {
    await start();
    const parameters = { application_name: 'pg_basebackup' };
    for (let count = 0; count < 2; count += 1) {
      const reader = await fixture.stream(START_LSN, { parameters });
      reader.client.send(statusUpdate(START_LSN, 0n, 0n));
      await eventually(() => statusOf(reader.pid)?.writeLsn).toBe(START_LSN);
      clock.advance(10);
    }
    run(3000);
    expect(fixture.senders.statuses().map(({ isNameShared }) => isNameShared)).toEqual([
      false,
      false,
    ]);
  });
});

describe('a standby that left', () => {
  async function replaying(): Promise<StreamReader & { pid: number }> {
    await start();
    const reader = await fixture.stream();
    const endLsn = fixture.feed.append(5000);
    await reader.readTo(endLsn);
    reader.client.send(statusUpdate(endLsn, endLsn, START_LSN));
    await eventually(() => statusOf(reader.pid)?.flushLsn).toBe(endLsn);
    return reader;
  }

  const gone = (): Promise<void> => eventually(() => fixture.senders.statuses()).toEqual([]);

  it('with a goodbye and WAL it had not replayed is shown, and after a minute as perhaps wedged, until it is back', async () => {
    const reader = await replaying();
    reader.client.send(message('X'));
    await gone();
    expect(fixture.senders.absent()).toEqual([
      expect.objectContaining({
        applicationName: 'standby1',
        user: 'replicator',
        clientAddr: '127.0.0.1',
        flushLsn: reader.endLsn,
        applyLsn: START_LSN,
        how: 'terminated',
        reason: 'client',
        isMaybeWedged: false,
      }),
    ]);
    clock.advance(ABSENT_STANDBY_WEDGED_MS);
    expect(fixture.senders.absent()[0]?.isMaybeWedged).toBe(true);
    await fixture.stream();
    expect(fixture.senders.absent()).toEqual([]);
  });

  it('by a close without a word, by a reset, by our hand, or by its silence, is told apart', async () => {
    const ways: [string, (reader: StreamReader & { pid: number }) => void][] = [
      ['closed', ({ client }) => client.socket.end()],
      ['reset', ({ client }) => client.socket.resetAndDestroy()],
      ['ended', ({ pid }) => fixture.senders.kill(pid)],
    ];
    for (const [how, leave] of ways) {
      const reader = await replaying();
      leave(reader);
      await gone();
      expect(fixture.senders.absent()[0]).toMatchObject({ how, isMaybeWedged: false });
      fixture.close();
    }
    clock = new ManualClock();
    fixture = await Fixture.start({ clock });
    const silent = await fixture.stream();
    silent.client.send(statusUpdate(START_LSN, START_LSN, START_LSN));
    await eventually(() => statusOf(silent.pid)?.applyLsn).toBe(START_LSN);
    run(fixture.settings.walSenderTimeoutMs + 1000);
    expect(fixture.senders.statuses()).toEqual([]);
    expect(fixture.senders.absent()[0]).toMatchObject({ how: 'timeout', reason: 'timeout' });
  });

  it('and ended its stream in order before is remembered as it was then', async () => {
    const reader = await replaying();
    reader.client.send(message('c'));
    await reader.client.answer();
    expect(fixture.senders.absent()).toEqual([]);
    reader.client.send(message('X'));
    await gone();
    expect(fixture.senders.absent()[0]).toMatchObject({ flushLsn: reader.endLsn });
  });

  it('and did not get on to the next timeline is remembered as it was on the one before', async () => {
    const reader = await replaying();
    fixture.feed.switchTimeline(2, reader.endLsn);
    expect((await reader.nextOther())?.type).toBe('c');
    reader.client.send(message('c'));
    await reader.client.answer();
    reader.client.send(query('START_REPLICATION 0/1234000 TIMELINE 2'));
    expect((await reader.client.next())?.type).toBe('W');
    reader.client.send(message('X'));
    await gone();
    expect(fixture.senders.absent()).toEqual([
      expect.objectContaining({ timeline: 1, flushLsn: reader.endLsn, how: 'terminated' }),
    ]);
  });

  it('and never streamed, or had a temporary slot only, is nobody to wait for', async () => {
    await start();
    const { client } = await fixture.standby();
    client.send(message('X'));
    const backup = await fixture.standby({ application_name: 'pg_basebackup' });
    await backup.client.ask('CREATE_REPLICATION_SLOT t TEMPORARY PHYSICAL');
    await backup.client.ask('IDENTIFY_SYSTEM');
    backup.client.close();
    await gone();
    expect(fixture.senders.absent()).toEqual([]);
  });
});

describe('a process that stood still', () => {
  it('gives up no standby that it had not asked, and asks it first', async () => {
    clock = new ManualClock();
    fixture = await Fixture.start({ clock });
    const reader = await fixture.stream(START_LSN, {
      parameters: { options: '-c wal_sender_timeout=200ms' },
    });
    clock.skip(90_000);
    clock.advance(0);
    await reader.nextOther({ keepalives: true });
    expect(reader.keepalives.at(-1)?.replyRequested).toBe(1);
    clock.advance(99);
    await confirm(reader);
    expect(statusOf(reader.pid)).toBeDefined();
    expect(fixture.senders.totals().disconnects.timeout).toBe(0);
  });

  it('gives up one that does not answer then, half a timeout later, and its slot is free', async () => {
    clock = new ManualClock();
    fixture = await Fixture.start({ clock });
    const owner = await fixture.standby();
    await owner.client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    const reader = await fixture.stream(START_LSN, { slot: 's' });
    clock.skip(90_000);
    clock.advance(29_000);
    expect(statusOf(reader.pid)).toBeDefined();
    clock.advance(2000);
    expect(statusOf(reader.pid)).toBeUndefined();
    expect(fixture.slots.slots.get('s')?.activePid).toBeNull();
  });
});

describe('a standby that is slow', () => {
  it('but answers stays, with one batch in its socket, whatever it has to catch up', async () => {
    fixture = await Fixture.start();
    const slow = await fixture.stream(OLDEST_LSN, {
      parameters: { options: '-c wal_sender_timeout=400' },
    });
    const { client } = slow;
    client.pause();
    let queuedMax = 0;
    for (let round = 0; round < 20; round += 1) {
      fixture.feed.append(1 << 20);
      client.send(statusUpdate(OLDEST_LSN + BigInt(round), OLDEST_LSN, OLDEST_LSN));
      await eventually(() => statusOf(slow.pid)?.writeLsn).toBe(OLDEST_LSN + BigInt(round));
      queuedMax = Math.max(queuedMax, statusOf(slow.pid)?.sendQueueBytes ?? 0);
      // A kilobyte now and then, as a link of 1 KB/s lets through.
      client.socket.read(1024);
      await passes(60);
    }
    expect(statusOf(slow.pid)?.sentLsn).toBeLessThan(fixture.feed.sendableLsn());
    expect(queuedMax).toBeGreaterThan(0);
    expect(queuedMax).toBeLessThan(1.2 * (1 << 20));
    expect(fixture.senders.totals().disconnects.timeout).toBe(0);
  });
});

/** The slow client's own pace. */
function passes(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
