// What of the sessions counts for a synchronous policy: who, from when on, in which order, and until when?
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TAKEOVER_PROBE_MS } from '../../src/config/limits.ts';
import type { SyncStandby } from '../../src/syncrep/sync-standbys.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { query, startup, statusUpdate } from '../support/raw-client.ts';
import type { StreamReader } from '../support/raw-client.ts';
import { Fixture, rules, START_LSN } from '../support/wal-senders-fixture.ts';

let fixture: Fixture;
let clock: ManualClock;

beforeEach(async () => {
  clock = new ManualClock();
  fixture = await Fixture.start({ clock });
});

afterEach(() => fixture.close());

function views(): SyncStandby[] {
  return [...fixture.senders.syncStandbys()];
}

/** Name and place of each. */
function places(): (readonly [string, number])[] {
  return views()
    .map(({ applicationName, place }) => [applicationName, place] as const)
    .toSorted(([, a], [, b]) => a - b);
}

type Standby = StreamReader & { pid: number };

function stream(name: string, options: { slot?: string } = {}): Promise<Standby> {
  return fixture.stream(START_LSN, { parameters: { application_name: name }, ...options });
}

async function leave(standby: Standby): Promise<void> {
  standby.client.close();
  await eventually(() => fixture.senders.statuses().some(({ pid }) => pid === standby.pid)).toBe(
    false,
  );
}

function say(standby: StreamReader, lsn: bigint): void {
  standby.client.send(statusUpdate(lsn, lsn, lsn));
}

describe('places', () => {
  it('are the lowest that are free, in the order of coming, whether one streams or not', async () => {
    const a = await stream('a');
    const idle = await fixture.standby({ application_name: 'idle' });
    await stream('b');
    expect(places()).toEqual([
      ['a', 0],
      ['b', 2],
    ]);
    await leave(a);
    await stream('c');
    expect(places()).toEqual([
      ['c', 0],
      ['b', 2],
    ]);
    idle.client.send(query(`START_REPLICATION 0/${START_LSN.toString(16)} TIMELINE 1`));
    await eventually(places).toEqual([
      ['c', 0],
      ['idle', 1],
      ['b', 2],
    ]);
  });

  it('are not taken by sessions of the console', async () => {
    fixture.hba = rules('host all all all trust\nhost replication all all trust');
    const client = await fixture.connect();
    client.send(startup({ user: 'ops', database: 'walcast' }));
    await client.until('Z');
    await stream('a');
    expect(places()).toEqual([['a', 0]]);
  });
});

describe('a view', () => {
  it('shows what the standby says at every moment, up to what it was sent', async () => {
    const standby = await stream('a');
    const [view] = views();
    expect(view).toMatchObject({ state: 'streaming', timeline: 1, flushLsn: 0n });
    say(standby, START_LSN);
    await eventually(() => view?.flushLsn).toBe(START_LSN);
    say(standby, START_LSN + 1_000n);
    await eventually(() => fixture.senders.statuses()[0]?.clampedReplies).toBe(1);
    expect(view).toMatchObject({ writeLsn: START_LSN, flushLsn: START_LSN, applyLsn: START_LSN });
    const replies = fixture.replies;
    await leave(standby);
    expect(views()).toEqual([]);
    expect(fixture.replies).toBeGreaterThan(replies);
  });

  it('of a standby that waits for WAL from beyond our end has no positions; it is asked once it has been reached', async () => {
    const ahead = START_LSN + 5_000n;
    const standby = await fixture.stream(ahead, { parameters: { application_name: 'a' } });
    say(standby, ahead);
    await eventually(() => fixture.senders.statuses()[0]?.lastReplyAtMs).not.toBeNull();
    expect(views()[0]).toMatchObject({ state: 'catchup', flushLsn: 0n });
    expect(fixture.feed.append(5_000)).toBe(ahead);
    await eventually(() => views()[0]?.state).toBe('streaming');
    for (;;) {
      await standby.nextOther({ keepalives: true });
      if (standby.keepalives.at(-1)?.replyRequested === 1) break;
    }
    expect(views()[0]?.flushLsn).toBe(0n);
    say(standby, ahead);
    await eventually(() => views()[0]?.flushLsn).toBe(ahead);
  });

  it('is one again when a standby has taken its slot over from its own dead connection', async () => {
    const owner = await fixture.standby();
    await owner.client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
    owner.client.close();
    await eventually(() => fixture.senders.statuses().length).toBe(0);
    const dead = await stream('a', { slot: 's' });
    say(dead, START_LSN);
    await eventually(() => views()[0]?.flushLsn).toBe(START_LSN);
    const back = await fixture.standby({ application_name: 'a' });
    back.client.send(query(`START_REPLICATION SLOT s 0/${START_LSN.toString(16)}`));
    await dead.nextOther({ keepalives: true });
    // As long as it may live, what it has said counts.
    expect(views()).toMatchObject([{ pid: dead.pid, place: 0, flushLsn: START_LSN }]);
    clock.advance(TAKEOVER_PROBE_MS + 100);
    expect((await back.client.next())?.type).toBe('W');
    expect(views()).toMatchObject([{ pid: back.pid, place: 1, flushLsn: 0n }]);
  });
});

describe('in a drain', () => {
  it('the word of a standby that has confirmed everything stays when it has been sent away', async () => {
    const [a, b, c] = [await stream('a'), await stream('b'), await stream('c')];
    const endLsn = fixture.feed.append(3_000);
    for (const standby of [a, b, c]) await standby.readTo(endLsn);
    const drained = fixture.senders.drain(endLsn);
    say(a, endLsn);
    say(b, endLsn - 8n);
    await eventually(() => fixture.senders.statuses().length).toBe(2);
    c.client.close();
    await eventually(() => fixture.senders.statuses().length).toBe(1);
    expect(
      views().map(({ applicationName, flushLsn, state }) => [applicationName, flushLsn, state]),
    ).toEqual([
      ['b', endLsn - 8n, 'stopping'],
      ['a', endLsn, 'stopping'],
    ]);
    say(b, endLsn);
    await drained;
    expect(views().map(({ flushLsn }) => flushLsn)).toEqual([endLsn, endLsn]);
  });
});
