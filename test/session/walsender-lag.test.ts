// The lag of a standby end to end, as a session shows it: before the first word, while it is held, after it came back, and
// when what it claims is more than it was sent.
import { afterEach, describe, expect, it } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import type { EndToEndLag } from '../../src/status/status.ts';
import type { WalSenderStatus } from '../../src/walsender/wal-senders.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { statusUpdate } from '../support/raw-client.ts';
import type { StreamReader } from '../support/raw-client.ts';
import { Fixture, OLDEST_LSN, START_LSN } from '../support/wal-senders-fixture.ts';

const UNKNOWN: EndToEndLag = { writeSeconds: null, flushSeconds: null, applySeconds: null };
const NONE: EndToEndLag = { writeSeconds: 0, flushSeconds: 0, applySeconds: 0 };

let fixture: Fixture;
let clock: ManualClock;

afterEach(() => fixture.close());

/** A feed whose WAL up to its end was sent an hour ago, with a commit in the middle. */
async function start(): Promise<void> {
  clock = new ManualClock();
  fixture = await Fixture.start({ clock });
  fixture.settings = { ...fixture.settings, walSenderTimeoutMs: 0 };
  sent(fixture.feed.sendableLsn());
  clock.skip(3_600_000);
}

/** The upstream sends all up to `endLsn` now. */
function sent(endLsn: Lsn): void {
  const { wal } = fixture.feed.ages;
  wal.note({ recordEndLsn: endLsn, takenLsn: endLsn, knownLsn: endLsn }, clock.nowMs());
}

function receive(bytes: number): Lsn {
  const endLsn = fixture.feed.append(bytes);
  sent(endLsn);
  return endLsn;
}

function statusOf(pid: number): WalSenderStatus {
  const found = fixture.senders.statuses().find((status) => status.pid === pid);
  if (found === undefined) throw new Error('no such session');
  return found;
}

type Standby = StreamReader & { pid: number };

async function confirm(
  standby: Standby,
  write: bigint,
  flush = write,
  apply = flush,
): Promise<void> {
  const before = statusOf(standby.pid).lastReplyAtMs ?? 0;
  clock.skip(1);
  standby.client.send(statusUpdate(write, flush, apply));
  await eventually(() => statusOf(standby.pid).lastReplyAtMs ?? 0).toBeGreaterThan(before);
}

describe('the lag end to end', () => {
  it('is unknown before the first word, 0 for one that has everything, and that of each stage while it lacks something', async () => {
    await start();
    const standby = await fixture.stream();
    expect(statusOf(standby.pid).endToEndLag).toEqual(UNKNOWN);
    await confirm(standby, START_LSN);
    expect(statusOf(standby.pid).endToEndLag).toEqual(NONE);
    const first = receive(1_000);
    clock.skip(2_000);
    const second = receive(1_000);
    clock.skip(499);
    await standby.readTo(second);
    await confirm(standby, second, first, START_LSN);
    expect(statusOf(standby.pid).endToEndLag).toEqual({
      writeSeconds: 0.5,
      flushSeconds: 2.5,
      applySeconds: 2.5,
    });
    clock.skip(60_000);
    expect(statusOf(standby.pid).endToEndLag).toEqual({
      writeSeconds: 0,
      flushSeconds: 60.5,
      applySeconds: 62.5,
    });
    await confirm(standby, second);
    clock.skip(2_000);
    expect(statusOf(standby.pid).endToEndLag).toEqual(NONE);
  });

  it('is unknown while a standby waits for WAL from beyond our end', async () => {
    await start();
    const ahead = await fixture.stream(START_LSN + 50_000n);
    await confirm(ahead, START_LSN + 50_000n);
    expect(statusOf(ahead.pid).endToEndLag).toEqual(UNKNOWN);
    expect(statusOf(ahead.pid).replayedCommitAgeSeconds).toBeNull();
  });

  it('is not that of old WAL for a standby that comes back and is sent again what it has had for long', async () => {
    await start();
    fixture.feed.ages.commits.note(Number(START_LSN) - 5_000, 0, clock.nowMs() - 7_200_000);
    fixture.feed.ages.commits.note(Number(START_LSN) - 100, 0, clock.nowMs() - 3_600_000);
    const standby = await fixture.stream(OLDEST_LSN);
    standby.client.pause();
    // It names where it stands before it can have been sent all up to there.
    await confirm(standby, START_LSN);
    const early = statusOf(standby.pid);
    if (early.sentLsn < START_LSN) expect(early.endToEndLag).toEqual(UNKNOWN);
    standby.client.resume();
    await standby.readTo(START_LSN);
    await confirm(standby, START_LSN);
    expect(statusOf(standby.pid).endToEndLag).toEqual(NONE);
    expect(statusOf(standby.pid).replayedCommitAgeSeconds).toBe(0);
  });

  it('counts a claim beyond all there is only up to there: a liar seems to have everything, and never more', async () => {
    await start();
    const liar = await fixture.stream();
    await confirm(liar, START_LSN + 1_000_000n);
    expect(statusOf(liar.pid).endToEndLag).toEqual(NONE);
    receive(1_000);
    clock.skip(3_000);
    expect(statusOf(liar.pid).endToEndLag.applySeconds).toBe(3);
  });

  it('is unknown for what a receiver does not do, as pg_receivewal does not replay', async () => {
    await start();
    const receiver = await fixture.stream();
    await confirm(receiver, START_LSN, 0n);
    await confirm(receiver, START_LSN, 0n);
    clock.skip(60_000);
    expect(statusOf(receiver.pid).endToEndLag).toEqual({
      ...NONE,
      flushSeconds: null,
      applySeconds: null,
    });
    expect(statusOf(receiver.pid).replayedCommitAgeSeconds).toBeNull();
  });

  it('says how old the last replayed commit is, and 0 when there is no other', async () => {
    await start();
    const standby = await fixture.stream();
    const { commits } = fixture.feed.ages;
    commits.note(Number(START_LSN) - 100, 0, clock.nowMs());
    await confirm(standby, START_LSN);
    clock.skip(9_000);
    expect(statusOf(standby.pid).replayedCommitAgeSeconds).toBe(0);
    const endLsn = receive(1_000);
    commits.note(Number(START_LSN) + 100, 0, clock.nowMs());
    clock.skip(1_000);
    expect(statusOf(standby.pid).replayedCommitAgeSeconds).toBeCloseTo(10, 1);
    await standby.readTo(endLsn);
    await confirm(standby, endLsn);
    expect(statusOf(standby.pid).replayedCommitAgeSeconds).toBe(0);
    expect(statusOf(standby.pid).applyLsn).toBe(toLsn(endLsn));
  });
});
