// Received WAL that is taken back after a rejection upstream: whoever holds refused bytes must not get good ones behind
// them (I3), and nothing of what was read or framed before may be sent afterwards.
import { afterEach, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { walBytes } from '../support/memory-wal.ts';
import { Fixture, OLDEST_LSN, START_LSN } from '../support/wal-senders-fixture.ts';

let fixture: Fixture;

afterEach(() => fixture.close());

function pids(): number[] {
  return fixture.senders.statuses().map((status) => status.pid);
}

it('ends every session that was sent more, and no other', async () => {
  fixture = await Fixture.start();
  await (await fixture.standby()).client.ask('CREATE_REPLICATION_SLOT s PHYSICAL');
  const held = await fixture.stream(START_LSN + 200_000n);
  const ahead = await fixture.stream(START_LSN, {
    parameters: { application_name: 'ahead' },
    slot: 's',
  });
  fixture.feed.spoiledFromLsn = START_LSN;
  const sentLsn = fixture.feed.append(5000);
  await ahead.readTo(sentLsn);

  fixture.feed.takeBack(START_LSN);
  fixture.feed.append(100_000);
  expect(await ahead.client.closed()).toHaveLength(0);
  await eventually(pids).not.toContain(ahead.pid);
  expect(pids()).toContain(held.pid);
  expect(fixture.senders.totals().disconnects.error).toBe(1);
  expect(fixture.slots.slots.get('s')?.activePid).toBeNull();
  const line = fixture.log.lines.find((text) => text.includes('taken back'));
  expect(line).toMatch(/^warn .*0\/1234000.*"application_name":"ahead".*"sent_lsn":"0\/1235388"/);

  const again = await fixture.stream(OLDEST_LSN);
  const endLsn = fixture.feed.append(150_000);
  await Promise.all([again.readTo(endLsn), held.readTo(endLsn)]);
  expect(again.wal().equals(walBytes(OLDEST_LSN, endLsn))).toBe(true);
  expect(held.wal().equals(walBytes(START_LSN + 200_000n, endLsn))).toBe(true);
});

it('leaves a session alone that was sent everything up to there', async () => {
  fixture = await Fixture.start();
  const reader = await fixture.stream();
  const endLsn = fixture.feed.append(5000);
  await reader.readTo(endLsn);
  fixture.feed.takeBack(endLsn);
  await reader.readTo(fixture.feed.append(5000));
  expect(reader.wal().equals(walBytes(START_LSN, reader.endLsn))).toBe(true);
});

it('sends nothing that was read from files before', async () => {
  fixture = await Fixture.start();
  fixture.feed.tailBytes = 0;
  const takenBackLsn = OLDEST_LSN + 1_500_000n;
  fixture.feed.spoiledFromLsn = takenBackLsn;
  fixture.feed.onFileRead = (count) => {
    if (count !== 2) return;
    fixture.feed.takeBack(takenBackLsn);
    fixture.feed.append(2_000_000);
  };
  const reader = await fixture.stream(OLDEST_LSN);
  await reader.readTo(takenBackLsn + 2_000_000n);
  expect(reader.wal().equals(walBytes(OLDEST_LSN, reader.endLsn))).toBe(true);
});

it('sends nothing that was framed before', async () => {
  fixture = await Fixture.start({ clock: new ManualClock() });
  const held = await fixture.stream(START_LSN + 200_000n);
  const first = await fixture.stream();
  fixture.feed.spoiledFromLsn = START_LSN;
  const endLsn = fixture.feed.append(5000);
  await first.readTo(endLsn);
  fixture.feed.takeBack(START_LSN);
  fixture.feed.append(5000);
  const second = await fixture.stream();
  await second.readTo(endLsn);
  expect(second.wal().equals(walBytes(START_LSN, endLsn))).toBe(true);
  expect(pids()).toContain(held.pid);
});
