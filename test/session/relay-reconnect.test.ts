// Told to connect to its upstream anew: does a relay lose nothing, take nothing back, and disturb no standby?
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Lsn } from '../../src/pg/lsn.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { eventually } from '../support/eventually.ts';
import { message } from '../support/naive-writer.ts';
import { COPY_BOTH, errorResponse, keepalive, READY } from '../support/scripted-upstream.ts';
import type { ScriptedSession } from '../support/scripted-upstream.ts';
import { SyncRelay } from '../support/sync-relay.ts';
import type { PlayedStandby, PlayedUpstream } from '../support/sync-relay.ts';

const NOT_FOLLOWING = {
  sqlstate: '55000',
  message: 'walcast is starting or ending, and does not connect to the upstream anew',
};

describe('RECONNECT of a relay that streams', () => {
  let rig: SyncRelay;
  let upstream: PlayedUpstream;
  let standby: PlayedStandby;

  beforeEach(async () => {
    rig = await SyncRelay.start({ names: 'a' });
    upstream = await rig.upstream();
    upstream.send();
    standby = await rig.standby('a');
    standby.say(rig.wal.endLsn);
    await upstream.reported(rig.wal.endLsn, rig.wal.endLsn, rig.wal.endLsn);
  });

  afterEach(() => rig[Symbol.asyncDispose]());

  function positions(): readonly Lsn[] {
    const { store, upstream: following } = rig.status;
    const { writeLsn, flushLsn, applyLsn } = following.reported;
    return [store.receivedLsn, store.flushedLsn, writeLsn, flushLsn, applyLsn];
  }

  it('ends the stream in order and goes on at the next byte; what was acknowledged stays so', async () => {
    const end = rig.wal.endLsn;
    expect(rig.relay.actions.reconnect()).toBeNull();
    await eventually(() => upstream.isEnded).toBe(true);
    expect(upstream.last).toMatchObject({ write: end, flush: end, apply: end });
    expect(positions()).toEqual([end, end, end, end, end]);
    const next = await rig.upstream();
    // Where it asks to begin is where the stream before it ended, so this message continues it.
    const more = next.commit();
    await standby.readTo(more);
    await eventually(() => rig.status.store.flushedLsn).toBe(more);
    // Nothing is acknowledged that the standby has not confirmed, and nothing less than before.
    expect(next.reports.every(({ flush }) => flush === 0n || flush === end)).toBe(true);
    expect(next.reports.at(-1)).toMatchObject({ flush: end });
    standby.say(more);
    await next.reported(more, more, more);
    expect(rig.status.upstream).toMatchObject({
      connectsSucceeded: 2,
      disconnects: { reload: 1, error: 0, eof: 0 },
    });
    expect(rig.status.standbyTotals.connects.get('a')).toBe(1);
  });

  it('drops what comes behind its last word, which is fetched again', async () => {
    const end = rig.wal.endLsn;
    rig.relay.actions.reconnect();
    const more = upstream.commit();
    await eventually(() => upstream.isEnded).toBe(true);
    const next = await rig.upstream();
    next.send();
    await standby.readTo(more);
    expect(upstream.reports.every(({ write }) => write <= end || write === more)).toBe(true);
    await eventually(() => rig.status.store.receivedLsn).toBe(more);
  });

  it('any number of times is one while it is under way', async () => {
    for (let times = 0; times < 5; times += 1) expect(rig.relay.actions.reconnect()).toBeNull();
    await eventually(() => upstream.isEnded).toBe(true);
    const next = await rig.upstream();
    const more = next.commit();
    await standby.readTo(more);
    expect(rig.status.upstream.connectsSucceeded).toBe(2);
    expect(next.isEnded).toBe(false);
  });

  it('is given up while walcast drains', async () => {
    const drained = rig.relay.drain();
    expect(rig.relay.actions.reconnect()).toMatchObject(NOT_FOLLOWING);
    upstream.session.send(keepalive(rig.wal.endLsn, true));
    await drained;
    expect(rig.relay.actions.reconnect()).toMatchObject(NOT_FOLLOWING);
  });
});

describe('RECONNECT of a relay that waits', () => {
  it('makes the next attempt at once', async () => {
    const clock = new ManualClock();
    await using rig = await SyncRelay.start({ clock });
    // Time stands still here.
    await rig.refuse();
    await eventually(() => rig.status.upstream.state).toBe('disconnected');
    const { connectsFailed } = rig.status.upstream;
    expect(connectsFailed).toBe(1);
    expect(rig.relay.actions.reconnect()).toBeNull();
    const upstream = await rig.upstream();
    upstream.send();
    await eventually(() => rig.status.store.receivedLsn).toBe(rig.wal.endLsn);
    expect(rig.status.upstream.connectsFailed).toBe(connectsFailed);
  });
});

describe('RECONNECT of a relay whose upstream keeps it waiting', () => {
  type Act = (session: ScriptedSession, rig: SyncRelay) => Promise<unknown>;
  const start: Act = async (session, rig) => {
    await session.login(rig.server());
    await session.identify(rig.server());
  };
  const STATES: readonly (readonly [where: string, act: Act])[] = [
    ['at the login', (session) => session.startup()],
    [
      'with who it is',
      async (session, rig) => {
        await session.login(rig.server());
        await session.command();
      },
    ],
    ['with the stream', start],
    [
      'with what follows on a timeline that has ended',
      async (session, rig) => {
        await start(session, rig);
        session.send(COPY_BOTH, message('c'));
        while ((await session.next()).type !== 'c');
      },
    ],
    [
      'because it has removed the WAL',
      async (session, rig) => {
        await start(session, rig);
        const text = 'requested WAL segment 000000010000000000000001 has already been removed';
        session.send(errorResponse('58P01', text), READY);
        await eventually(() => rig.status.upstream.heldState).toBe('gap');
      },
    ],
  ];

  it.each(STATES)('%s: gives that up and streams', async (_where, act) => {
    const clock = new ManualClock();
    await using rig = await SyncRelay.start({ clock });
    const before = await rig.accept();
    await act(before, rig);
    // Once more, while the first one is under way.
    expect(rig.relay.actions.reconnect()).toBeNull();
    expect(rig.relay.actions.reconnect()).toBeNull();
    // What the first one began is given up for the second, before or after it has arrived.
    const upstream = await rig.upstream().catch(() => rig.upstream());
    upstream.send();
    await eventually(() => rig.status.store.receivedLsn).toBe(rig.wal.endLsn);
    const { heldState, detail, disconnects } = rig.status.upstream;
    expect({ heldState, detail }).toEqual({ heldState: null, detail: null });
    // Whoever asks for it makes no error.
    expect(disconnects.error).toBe(0);
    expect(upstream.isEnded).toBe(false);
  });

  it('because it is another cluster: asks the next one, and takes nothing of the other', async () => {
    const clock = new ManualClock();
    await using rig = await SyncRelay.start({ clock });
    const before = await rig.upstream();
    before.send();
    const end = rig.wal.endLsn;
    await eventually(() => rig.status.store.flushedLsn).toBe(end);
    for (let times = 0; times < 2; times += 1) {
      expect(rig.relay.actions.reconnect()).toBeNull();
      const other = await rig.accept();
      const server = rig.server({ systemIdentifier: '1' });
      await other.login(server);
      await other.identify(server).catch(() => {});
      await eventually(() => rig.status.upstream.heldState).not.toBeNull();
      expect(rig.status.store.flushedLsn).toBe(end);
    }
    expect(rig.relay.actions.reconnect()).toBeNull();
    const next = await rig.upstream();
    const more = next.commit();
    await eventually(() => rig.status.store.flushedLsn).toBe(more);
    expect(rig.status.upstream.heldState).toBeNull();
  });
});
