// A whole relay with a policy between a played upstream and played standbys: what is said upstream, and when is nothing said?
import { afterEach, describe, expect, it } from 'vitest';
import { formatLsn } from '../../src/pg/lsn.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { walData } from '../support/scripted-upstream.ts';
import { SyncRelay } from '../support/sync-relay.ts';
import type { PlayedStandby, PlayedUpstream, SyncRelayOptions } from '../support/sync-relay.ts';

let rig: SyncRelay;
let upstream: PlayedUpstream;

afterEach(() => rig[Symbol.asyncDispose]());

/** A relay that streams and has everything on its own disk. */
async function start(options: SyncRelayOptions): Promise<void> {
  rig = await SyncRelay.start(options);
  upstream = await rig.upstream();
  upstream.send();
  await eventually(() => rig.status.store.flushedLsn).toBe(rig.wal.endLsn);
}

/** Standbys that have confirmed all there is, which has been said upstream. */
async function confirming(...names: readonly string[]): Promise<PlayedStandby[]> {
  const standbys: PlayedStandby[] = [];
  for (const name of names) standbys.push(await rig.standby(name));
  for (const standby of standbys) standby.say(rig.wal.endLsn);
  await upstream.reported(rig.wal.endLsn, rig.wal.endLsn, rig.wal.endLsn);
  return standbys;
}

/** One more commit, which `standbys` have been sent and our own disk has. */
async function commit(...standbys: readonly PlayedStandby[]): Promise<bigint> {
  const lsn = upstream.commit();
  for (const standby of standbys) await standby.readTo(lsn);
  await eventually(() => rig.status.store.flushedLsn).toBe(lsn);
  return lsn;
}

function stateLsn(standby: PlayedStandby | undefined): bigint | undefined {
  return rig.status.standbys.find(({ pid }) => pid === standby?.pid)?.flushLsn;
}

function stateOf(standby: PlayedStandby | undefined): unknown {
  const status = rig.status.standbys.find(({ pid }) => pid === standby?.pid);
  return status === undefined ? null : [status.syncState, status.syncPriority];
}

describe('a policy', () => {
  it('offers nothing until its standbys are there, and then exactly what they say', async () => {
    await start({ names: 'FIRST 2 (a, b)' });
    const end = rig.wal.endLsn;
    await upstream.reported(end, 0n, 0n);
    const [a, b, c] = [await rig.standby('a'), await rig.standby('b'), await rig.standby('c')];
    a.say(end);
    c.say(end);
    await eventually(() => stateOf(a)).toEqual(['sync', 1]);
    expect(upstream.last).toMatchObject({ write: end, flush: 0n, apply: 0n });
    b.say(end, end - 8n, end - 16n);
    await upstream.reported(end, end - 8n, end - 16n);
    expect([stateOf(a), stateOf(b), stateOf(c)]).toEqual([
      ['sync', 1],
      ['sync', 2],
      ['async', 0],
    ]);
    const lsn = await commit(a, b, c);
    expect(upstream.last?.flush).toBe(end - 8n);
    a.say(lsn);
    b.say(lsn, end, end);
    await upstream.reported(lsn, end, end);
    b.say(lsn, lsn, end);
    await upstream.reported(lsn, lsn, end);
    b.say(lsn, lsn, lsn);
    await upstream.reported(lsn, lsn, lsn);
    expect(rig.status.sync).toMatchObject({
      synchronousStandbyNames: 'FIRST 2 (a, b)',
      method: 'priority',
      requiredStandbys: 2,
      eligibleStandbys: 2,
      isSatisfied: true,
      confirmed: { writeLsn: lsn, flushLsn: lsn, applyLsn: lsn },
      changes: 1,
      alarms: [],
    });
    expect(rig.status.sync.confirmDuration.sumSeconds).toBeGreaterThan(0);
  });

  it('offers nothing when too few are left; each change is one line and counts once', async () => {
    await start({ names: 'ANY 1 (a, b)' });
    const [a, b] = await confirming('a', 'b');
    const end = rig.wal.endLsn;
    a?.leave();
    await eventually(() => rig.status.sync.eligibleStandbys).toBe(1);
    expect(rig.status.sync).toMatchObject({ isSatisfied: true, changes: 1 });
    b?.leave();
    await upstream.reported(end, 0n, 0n);
    expect(rig.status.sync).toMatchObject({ isSatisfied: false, changes: 2 });
    const lsn = await commit();
    await upstream.reported(lsn, 0n, 0n);
    const back = await rig.standby('a');
    back.say(lsn);
    await upstream.reported(lsn, lsn, lsn);
    expect(rig.status.sync).toMatchObject({ isSatisfied: true, changes: 3 });
    expect(rig.status.sync.unsatisfiedSeconds).toBeGreaterThan(0);
    expect(rig.linesWith('synchronous_standby_names is satisfied')).toHaveLength(2);
    expect(rig.linesWith('warn synchronous_standby_names is not satisfied')).toHaveLength(1);
  });

  it('takes nothing back when the next standby is behind the one that left', async () => {
    await start({ names: 'FIRST 1 (a, b)' });
    const b = await rig.standby('b');
    b.say(rig.wal.endLsn - 80n);
    const [a] = await confirming('a');
    const end = rig.wal.endLsn;
    const seen = upstream.reports.length;
    a?.leave();
    await eventually(() => stateOf(b)).toEqual(['sync', 2]);
    const lsn = await commit(b);
    b.say(lsn);
    await upstream.reported(lsn, lsn, lsn);
    for (const { write, flush, apply } of upstream.reports.slice(seen)) {
      for (const said of [write, flush, apply]) expect(said).toBeGreaterThanOrEqual(end);
    }
  });

  it('is followed at once when it is another one after a reload', async () => {
    await start({ names: '' });
    const end = rig.wal.endLsn;
    await upstream.reported(end, end, 0n);
    await rig.reloadNames('a');
    await upstream.reported(end, 0n, 0n);
    const a = await rig.standby('a');
    const b = await rig.standby('b');
    const lsn = await commit(a, b);
    a.say(end);
    b.say(lsn);
    await upstream.reported(end, end, end);
    await rig.reloadNames('b, a');
    await upstream.reported(lsn, lsn, lsn);
    await rig.reloadNames('ANY 3 (*)');
    await upstream.reported(lsn, 0n, 0n);
    await rig.reloadNames('');
    await upstream.reported(lsn, lsn, 0n);
    expect(rig.status.sync).toMatchObject({ method: null, isSatisfied: true, changes: 4 });
  });

  it('does not move for what a standby says beyond what it was sent, and asks it again when it is', async () => {
    await start({ names: 'a', settings: { 'storage.forward': 'flushed' } });
    const [a] = await confirming('a');
    const end = rig.wal.endLsn;
    a?.say(end + 1_000_000n);
    await eventually(() => rig.status.standbys[0]?.clampedReplies).toBe(1);
    expect(upstream.last).toMatchObject({ flush: end });
    const ahead = rig.wal.record({ body: Buffer.alloc(50) }).endLsn;
    a?.say(ahead);
    await eventually(() => rig.status.standbys[0]?.clampedReplies).toBe(2);
    upstream.send();
    await a?.readTo(ahead);
    // It has said that it has this, but before it was sent.
    const asked = await a?.reader.nextOther({ keepalives: true });
    expect(asked?.type).toBe('d');
    expect(a?.reader.keepalives.at(-1)).toMatchObject({ replyRequested: 1 });
    expect(upstream.last?.flush).toBe(end);
    a?.say(ahead);
    await upstream.reported(ahead, ahead, ahead);
  });
});

describe('the way of a confirmation', () => {
  it('has no clock in it', async () => {
    // Which never moves.
    await start({ names: 'ANY 2 (a, b, c)', clock: new ManualClock() });
    const standbys = await confirming('a', 'b', 'c');
    for (let round = 0; round < 20; round += 1) {
      const before = rig.status.store.flushedLsn;
      const lsn = await commit(...standbys);
      const [first, second] = [standbys[round % 3], standbys[(round + 1) % 3]];
      first?.say(lsn);
      await eventually(() => stateLsn(first)).toBe(lsn);
      expect(upstream.last?.flush).toBe(before);
      second?.say(lsn);
      await upstream.reported(lsn, lsn, lsn);
      for (const standby of standbys) standby.say(lsn);
    }
  });
});

describe('WAL that is taken back', () => {
  it('takes with it who was sent it, and nothing that was confirmed', async () => {
    await start({ names: 'a', settings: { 'storage.verify': 'page' } });
    const [a] = await confirming('a');
    const end = rig.wal.endLsn;
    const b = await rig.standby('b');
    // Half of a record, and then something else than its other half.
    rig.wal.record({ body: Buffer.alloc(40_000) });
    const pageLsn = end - (end % 8192n) + 16_384n;
    upstream.session.send(walData(end, rig.wal.slice(end, pageLsn)));
    await a?.readTo(pageLsn);
    a?.say(pageLsn);
    await upstream.until('write', ({ write }) => write === pageLsn);
    expect(upstream.last).toMatchObject({ flush: end, apply: end });
    upstream.session.send(walData(pageLsn, Buffer.alloc(8192, 0x77)));
    expect(await a?.client.closed()).toBeDefined();
    b.leave();
    upstream = await rig.upstream();
    await upstream.reported(end, 0n, 0n);
    upstream.send();
    const back = await rig.standby('a');
    back.say(rig.wal.endLsn);
    await upstream.reported(rig.wal.endLsn, rig.wal.endLsn, rig.wal.endLsn);
  });
});

describe('another connection upstream', () => {
  it('is told at once what the standbys have, never less than before, and nothing while they are gone', async () => {
    await start({ names: 'a' });
    const [a] = await confirming('a');
    const end = rig.wal.endLsn;
    upstream.session.reset();
    upstream = await rig.upstream();
    await upstream.reported(end, end, end);
    expect(upstream.reports).toHaveLength(1);
    a?.leave();
    await upstream.reported(end, 0n, 0n);
    upstream.session.reset();
    upstream = await rig.upstream();
    await upstream.reported(end, 0n, 0n);
    const behind = await rig.standby('a');
    behind.say(end, end - 80n, end - 80n);
    // P stands: a lower one would move the slot of the primary back.
    await upstream.reported(end, end, end - 80n);
  });

  it('changes are seen and counted also while there is none', async () => {
    await start({ names: 'a' });
    const [a] = await confirming('a');
    upstream.session.reset();
    a?.leave();
    await eventually(() => rig.status.sync).toMatchObject({ isSatisfied: false, changes: 2 });
    const back = await rig.standby('a');
    back.say(rig.wal.endLsn);
    await eventually(() => rig.status.sync).toMatchObject({ isSatisfied: true, changes: 3 });
    expect(rig.linesWith('synchronous_standby_names is')).toHaveLength(4);
  });

  it('after a restart of walcast offers nothing before its standbys are back, and then not less than before', async () => {
    await start({ names: 'a' });
    await confirming('a');
    const end = rig.wal.endLsn;
    await rig.stop();
    await rig.startRelay();
    upstream = await rig.upstream();
    await upstream.reported(end, 0n, 0n);
    const a = await rig.standby('a');
    expect(upstream.reports.every(({ flush }) => flush === 0n)).toBe(true);
    a.say(end, end - 80n, end - 80n);
    await upstream.reported(end, end, end - 80n);
  });
});

describe('the shutdown checkpoint', () => {
  it('is not let go before every standby has it, though the policy is not satisfied', async () => {
    await start({ names: 'z', clock: new ManualClock() });
    const [a, end] = [await rig.standby('a'), rig.wal.endLsn];
    a.say(end);
    await eventually(() => rig.status.standbys[0]?.flushLsn).toBe(end);
    const lsn = rig.wal.checkpoint({ shutdown: true }).endLsn;
    upstream.send();
    await a.readTo(lsn);
    await eventually(() => rig.status.store.flushedLsn).toBe(lsn);
    // The server would take a write position for the confirmation.
    expect(upstream.reports.every(({ write, flush }) => write < lsn && flush === 0n)).toBe(true);
    a.say(lsn);
    await upstream.reported(lsn, lsn, 0n);
  });

  it('is let go after a second, whoever is silent', async () => {
    const clock = new ManualClock();
    await start({ names: 'a', clock });
    const [a] = await confirming('a');
    const end = rig.wal.endLsn;
    const lsn = rig.wal.checkpoint({ shutdown: true }).endLsn;
    upstream.send();
    await a?.readTo(lsn);
    await eventually(() => rig.status.store.flushedLsn).toBe(lsn);
    a?.say(lsn, end, end);
    await upstream.reported(lsn, end, end);
    clock.advance(1_000);
    await upstream.reported(lsn, lsn, end);
  });

  it('makes no synchronous standby of us when the server is back', async () => {
    await start({ names: 'z' });
    const lsn = rig.wal.checkpoint({ shutdown: true }).endLsn;
    upstream.send();
    await upstream.reported(lsn, lsn, 0n);
    upstream.session.end();
    upstream = await rig.upstream();
    await upstream.reported(lsn, 0n, 0n);
    const next = await commit();
    await upstream.reported(next, 0n, 0n);
    expect(upstream.reports.every(({ flush }) => flush === 0n)).toBe(true);
  });
});

describe('the checkpoint with which a server ends its recovery from a crash', () => {
  it('is of the same kind, and is acknowledged as everything else: sessions follow it', async () => {
    await start({ names: 'z' });
    const a = await rig.standby('a');
    upstream.session.reset();
    const lsn = rig.wal.checkpoint({ shutdown: true }).endLsn;
    upstream = await rig.upstream();
    upstream.send();
    // Neither withheld until the standby has it, nor on our own word.
    await upstream.reported(lsn, 0n, 0n);
    await a.readTo(lsn);
    a.say(lsn);
    await eventually(() => rig.status.standbys[0]?.flushLsn).toBe(lsn);
    const next = await commit(a);
    await upstream.reported(next, 0n, 0n);
    expect(upstream.reports.every(({ flush }) => flush === 0n)).toBe(true);
  });
});

describe('a drain', () => {
  it('says what its standbys confirm to the last, also when they go with it', async () => {
    await start({ names: 'a' });
    const [a] = await confirming('a');
    const lsn = await commit(...(a === undefined ? [] : [a]));
    const draining = rig.relay.drain();
    await eventually(() => rig.status.standbys[0]?.state).toBe('stopping');
    expect(upstream.last?.flush).not.toBe(lsn);
    a?.say(lsn);
    await upstream.reported(lsn, lsn, lsn);
    // Commits beyond it shall not wait for us.
    await upstream.until('no flush', ({ flush }) => flush === 0n);
    await draining;
    expect(upstream.isEnded).toBe(true);
    expect(rig.linesWith('warn synchronous_standby_names is not satisfied')).toEqual([]);
  });

  it('offers nothing when its standbys confirm nothing', async () => {
    await start({ names: 'a', settings: { drain_timeout: '1s' } });
    const [a] = await confirming('a');
    const end = rig.wal.endLsn;
    const lsn = await commit(...(a === undefined ? [] : [a]));
    await rig.relay.drain();
    expect(upstream.reports.every(({ flush }) => flush <= end)).toBe(true);
    expect(lsn).toBeGreaterThan(end);
  });
});

describe('another timeline', () => {
  it('counts only the standbys that have followed', async () => {
    await start({ names: 'ANY 1 (a, b)' });
    const [a] = await confirming('a', 'b');
    const switchLsn = rig.wal.endLsn;
    upstream.session.reset();
    const left = rig.wal;
    const next = rig.follow(left, switchLsn);
    next.fill(2_000, 3);
    upstream = await rig.upstream(rig.promoted(switchLsn));
    upstream.send();
    await eventually(() => rig.status.store).toMatchObject({
      timeline: 2,
      flushedLsn: next.endLsn,
    });
    await upstream.reported(next.endLsn, 0n, 0n);
    expect(upstream.reports.every(({ flush }) => flush === 0n)).toBe(true);
    expect(rig.status.sync).toMatchObject({ isSatisfied: false, eligibleStandbys: 0 });
    // What it says on the timeline that was left counts nothing here.
    a?.say(switchLsn);
    const followed = await rig.standby('b', { timeline: 2 });
    followed.say(next.endLsn);
    await upstream.reported(next.endLsn, next.endLsn, next.endLsn);
    expect(formatLsn(rig.status.upstream.reported.flushLsn)).toBe(formatLsn(next.endLsn));
  });
});

describe('what people are told', () => {
  it('nothing where the standbys apply what commits wait for, and the alarm where a receiver was chosen', async () => {
    await start({ names: 'ANY 1 (a, b)' });
    const [a] = await confirming('a');
    const lsn = upstream.commitToBeApplied();
    await a?.readTo(lsn);
    a?.say(lsn);
    await upstream.reported(lsn, lsn, lsn);
    expect(rig.status.sync.alarms).toEqual([]);
    expect(rig.status.upstream.detail).toBeNull();
    a?.leave();
    const receiver = await rig.standby('b');
    receiver.say(lsn, lsn, 0n);
    await eventually(() => rig.status.sync.isSatisfied).toBe(true);
    const waiting = upstream.commitToBeApplied();
    await receiver.readTo(waiting);
    receiver.say(waiting, waiting, 0n);
    await eventually(() => rig.status.sync.alarms).toHaveLength(1);
    expect(rig.status.sync.alarms[0]).toContain('report no apply position');
  });

  it("that the upstream's slot is left behind, while it is", async () => {
    await start({
      names: 'a',
      settings: { 'upstream.slot': 'walcast' },
      upstreamSettings: { max_slot_wal_keep_size: '1MB' },
    });
    await confirming('a');
    rig.wal.fill(500_000, 5);
    upstream.send();
    await eventually(() => rig.status.store.flushedLsn).toBe(rig.wal.endLsn);
    expect(rig.status.sync.alarms).toEqual([]);
    rig.wal.fill(100_000, 7);
    upstream.send();
    await eventually(() => rig.status.sync.alarms).toHaveLength(1);
    expect(rig.status.sync.alarms[0]).toContain('more than half of its max_slot_wal_keep_size');
    expect(rig.linesWith('error replication slot')).toHaveLength(1);
    const another = await rig.standby('a');
    another.say(rig.wal.endLsn);
    await rig.reloadNames('');
    await eventually(() => rig.status.sync.alarms).toEqual([]);
  });

  it.each([
    ['FIRST 1 (b, WALCAST)', '', 'named', /names "walcast", our application_name/],
    ['walcast', 'a', 'named', null],
    ['*', '', 'any', null],
    ['b', '', 'none', null],
  ] as const)(
    'how the upstream counts us: %s, with our own policy %s',
    async (theirs, ours, membership, clash) => {
      await start({ names: ours, upstreamSettings: { synchronous_standby_names: theirs } });
      const { sync } = rig.status;
      expect(sync.upstream).toMatchObject({ synchronousStandbyNames: theirs, membership });
      if (clash === null) expect(sync.clash).toBeNull();
      else expect(sync.clash).toMatch(clash);
      expect(rig.linesWith('our application_name')).toHaveLength(clash === null ? 0 : 1);
    },
  );
});
