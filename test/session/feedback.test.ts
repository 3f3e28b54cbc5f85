// A whole relay between a played upstream and standbys of raw bytes: which feedback goes upstream, before the next transaction
// id is known, over a restart, over a switch of the timeline, and from somebody who lies?
import { afterEach, describe, expect, it } from 'vitest';
import { NO_XMINS } from '../../src/pg/xmins.ts';
import type { Xmins } from '../../src/pg/xmins.ts';
import { eventually } from '../support/eventually.ts';
import { SyncRelay } from '../support/sync-relay.ts';
import type { PlayedStandby, PlayedUpstream } from '../support/sync-relay.ts';

const EPOCH = 5n << 32n;
const NEXT_XID = EPOCH + 1_000n;

let rig: SyncRelay;
let upstream: PlayedUpstream;

/** Streams, with a checkpoint that told `NEXT_XID` unless told otherwise. */
async function start({ hasCheckpoint = true } = {}): Promise<void> {
  rig = await SyncRelay.start({ settings: { 'upstream.wal_receiver_status_interval': '1' } });
  upstream = await rig.upstream();
  if (hasCheckpoint) rig.wal.checkpoint({ nextFullXid: NEXT_XID });
  upstream.send();
  const { endLsn } = rig.wal;
  await eventually(() => rig.status.store).toMatchObject({ flushedLsn: endLsn });
}

afterEach(async () => {
  await rig[Symbol.asyncDispose]();
});

const at = (behind: bigint, catalogBehind: bigint | null = null): Xmins => ({
  xmin: NEXT_XID - behind,
  catalogXmin: catalogBehind === null ? null : NEXT_XID - catalogBehind,
});

function last(): Xmins | undefined {
  return upstream.feedback.at(-1);
}

async function feeding(name: string, behind: bigint): Promise<PlayedStandby> {
  const standby = await rig.standby(name);
  standby.feedBack(NEXT_XID - behind);
  return standby;
}

/** After a restart or a loss of the connection the upstream has its own new session. */
async function reconnected(): Promise<void> {
  upstream = await rig.upstream();
}

describe('feedback', () => {
  it('goes upstream as a minimum with its epoch, and clears when nobody is left', async () => {
    await start();
    const a = await feeding('a', 100n);
    await eventually(last).toEqual(at(100n));
    const b = await rig.standby('b');
    b.feedBack(NEXT_XID - 50n, NEXT_XID - 200n);
    await eventually(last).toEqual(at(100n, 200n));
    a.leave();
    await eventually(last).toEqual(at(50n, 200n));
    expect(rig.status.feedback).toMatchObject({ isOn: true, heldBy: 'b', nextXid: NEXT_XID });
    b.feedBack(0n);
    await eventually(last).toEqual(NO_XMINS);
  });

  it('waits until a checkpoint has told the next transaction id: nothing is held or cleared before', async () => {
    await start({ hasCheckpoint: false });
    await feeding('a', 100n);
    await eventually(() => rig.status.standbys[0]?.feedback?.state).toBe('unknown');
    expect(rig.status.feedback.nextXid).toBeNull();
    expect(upstream.feedback).toEqual([]);
    rig.wal.checkpoint({ nextFullXid: NEXT_XID });
    upstream.send();
    await eventually(() => upstream.feedback.length).toBeGreaterThan(0);
    expect(upstream.feedback[0]).toEqual(at(100n));
    expect(rig.status.standbys[0]?.feedback).toMatchObject({ state: 'counted', xminAge: 100 });
  });

  it('of one who lies changes nothing for the others, before and after it', async () => {
    await start();
    await feeding('honest', 100n);
    await eventually(last).toEqual(at(100n));
    const liar = await feeding('liar', -1n);
    liar.feedBack(NEXT_XID - (1n << 31n));
    liar.feedBack(NEXT_XID - 500n, NEXT_XID + 5n);
    liar.feedBack(0xffff_ffff_ffff_ffffn);
    await eventually(() => rig.status.feedback.ignored).toEqual({ future: 3, past: 1 });
    const before = upstream.feedback.length;
    await eventually(() => upstream.feedback.length).toBeGreaterThan(before + 1);
    for (const said of upstream.feedback.slice(before)) expect(said).toEqual(at(100n));
  });

  it('begins anew with the minimum on every connection upstream', async () => {
    await start();
    await feeding('a', 100n);
    await eventually(last).toEqual(at(100n));
    upstream.session.reset();
    await reconnected();
    await eventually(() => upstream.feedback[0]).toEqual(at(100n));
  });
});

describe('a restart', () => {
  it('lifts nothing until those are back who needed it, and clears nothing before', async () => {
    await start();
    await feeding('a', 100n);
    await feeding('b', 300n);
    await eventually(last).toEqual(at(300n));
    const before = upstream.feedback.length;
    await rig.stop();
    for (const said of upstream.feedback.slice(before)) expect(said).toEqual(at(300n));

    await rig.startRelay();
    await reconnected();
    await eventually(() => upstream.feedback[0]).toEqual(at(300n));
    expect(rig.status.feedback.heldBy).toBe('(before the restart)');
    await feeding('a', 90n);
    const halfway = upstream.feedback.length;
    await eventually(() => upstream.feedback.length).toBeGreaterThan(halfway + 1);
    for (const said of upstream.feedback) expect(said).toEqual(at(300n));
    await feeding('b', 250n);
    await eventually(last).toEqual(at(250n));
    expect(rig.status.feedback.heldBy).toBe('b');
  });

  it('says at once that feedback is off, when it is', async () => {
    await start();
    await feeding('a', 100n);
    await eventually(last).toEqual(at(100n));
    await rig.stop();
    await rig.startRelay({ 'upstream.hot_standby_feedback': 'off' });
    await reconnected();
    await eventually(() => upstream.feedback[0]).toEqual(NO_XMINS);
  });
});

describe('another timeline', () => {
  it('on which fewer ids were used counts what is beyond them as its next one', async () => {
    await start();
    const switchLsn = rig.wal.endLsn;
    rig.wal.checkpoint({ nextFullXid: NEXT_XID + 50n });
    upstream.send();
    await feeding('a', -20n);
    await eventually(last).toEqual(at(-20n));
    upstream.session.reset();
    const next = rig.follow(rig.wal, switchLsn);
    next.fill(2_000, 3);
    upstream = await rig.upstream(rig.promoted(switchLsn));
    upstream.send();
    await eventually(() => rig.status.store).toMatchObject({ timeline: 2 });
    // Its own session ends there, and with it what it held; meanwhile nothing bad is said.
    await eventually(() => upstream.feedback.length).toBeGreaterThan(0);
    for (const { xmin } of upstream.feedback) {
      expect(xmin === null || xmin <= (rig.status.feedback.nextXid ?? 0n)).toBe(true);
    }
    expect(rig.status.feedback.nextXid).toBeLessThanOrEqual(NEXT_XID);
  });
});
