// Are people told before the upstream may give up our slot, and are they told when it is over?
import { beforeEach, expect, it } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { OTHERS_LOG_LINES } from '../../src/config/limits.ts';
import { SlotDriftAlarm, slotKeepBytes } from '../../src/relay/slot-drift.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { LogRecord } from '../support/wal-senders-fixture.ts';

const MIB = 1n << 20n;

let clock: ManualClock;
let log: LogRecord;
let alarm: SlotDriftAlarm;

beforeEach(() => {
  log = new LogRecord();
  clock = new ManualClock();
  alarm = new SlotDriftAlarm(clock, log);
});

/** F and P in MiB. */
function look(flushed: bigint, promised: bigint, slot: string | null = 'walcast'): string | null {
  alarm.look({ slot, flushedLsn: toLsn(flushed * MIB), promisedLsn: toLsn(promised * MIB) });
  return alarm.detail;
}

function identified(keep: string, slotMiB = 0n, receivedMiB = 0n): void {
  const [slotLsn, receivedLsn] = [toLsn(slotMiB * MIB), toLsn(receivedMiB * MIB)];
  alarm.identified(keep, { slotLsn, receivedLsn });
}

it.each([
  ['64MB', 64 * 2 ** 20],
  ['2GB', 2 ** 31],
  ['1TB', 2 ** 40],
  ['0', 0],
  ['-1', null],
  ['16kB', null],
  ['', null],
  [undefined, null],
])('reads %s', (text, bytes) => {
  expect(slotKeepBytes(text)).toBe(bytes);
});

it('is raised beyond half of what the upstream keeps, once, and ends', () => {
  identified('64MB');
  expect(look(132n, 100n)).toBeNull();
  expect(look(133n, 100n)).toContain(
    'replication slot "walcast" of the upstream stands at 0/6400000',
  );
  look(150n, 100n);
  expect(log.lines).toHaveLength(1);
  expect(log.lines[0]).toMatch(/^error/);
  expect(look(150n, 140n)).toBeNull();
  expect(log.lines).toHaveLength(2);
  expect(look(200n, 140n)).not.toBeNull();
  expect(log.lines).toHaveLength(3);
});

it('is not raised where nothing bounds what is kept, without a slot, and where it is not known where that stands', () => {
  expect(look(500n, 100n)).toBeNull();
  identified('-1');
  expect(look(500n, 100n)).toBeNull();
  identified('64MB');
  expect(look(500n, 100n, null)).toBeNull();
  alarm.look({ slot: 'walcast', flushedLsn: toLsn(500n * MIB), promisedLsn: INVALID_LSN });
  expect(alarm.detail).toBeNull();
  expect(look(500n, 100n)).not.toBeNull();
  identified('1GB');
  expect(look(500n, 100n)).toBeNull();
});

it.each([
  ['where the slot stands', 100n, 120n],
  ['where the first stream began, on a server that cannot be asked for its slot', 0n, 100n],
])('counts from %s while nothing was promised', (_from, slot, received) => {
  identified('64MB', slot, received);
  expect(look(132n, 0n)).toBeNull();
  expect(look(133n, 0n)).toContain('stands at 0/6400000');
  // Another connection, with as little said.
  identified('64MB', slot, 133n);
  expect(look(134n, 0n)).not.toBeNull();
  expect(look(134n, 130n)).toBeNull();
});

it('has a bound on its lines where it comes and goes with every commit', () => {
  identified('0');
  for (let round = 0n; round < 500n; round += 1n) {
    expect(look(101n + round, 100n + round)).not.toBeNull();
    expect(look(101n + round, 101n + round)).toBeNull();
  }
  expect(log.lines).toHaveLength(OTHERS_LOG_LINES.linesMax);
  clock.advance(OTHERS_LOG_LINES.windowMs);
  look(900n, 800n);
  expect(log.lines.at(-1)).toContain(`"left_out":${1_000 - OTHERS_LOG_LINES.linesMax}`);
});
