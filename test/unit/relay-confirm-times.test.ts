// Is the time from the arrival of WAL to its confirmation counted once for each piece, and never by mistake?
import { expect, it } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import { ConfirmTimes } from '../../src/relay/confirm-times.ts';

function figures(times: ConfirmTimes): readonly [count: number, sumSeconds: number] {
  const { counts, sumSeconds } = times.histogram();
  return [counts.reduce((sum, count) => sum + count, 0), sumSeconds];
}

it('counts each piece when its end is confirmed, once', () => {
  const times = new ConfirmTimes();
  times.received(toLsn(100n), 1_000);
  times.received(toLsn(200n), 1_500);
  times.confirmed(toLsn(99n), 2_000);
  expect(figures(times)).toEqual([0, 0]);
  times.confirmed(toLsn(150n), 2_000);
  expect(figures(times)).toEqual([1, 1]);
  times.confirmed(toLsn(150n), 3_000);
  times.confirmed(toLsn(200n), 3_500);
  expect(figures(times)).toEqual([2, 3]);
});

it('counts nothing for a message that brought no further end', () => {
  const times = new ConfirmTimes();
  times.received(toLsn(100n), 1_000);
  times.received(toLsn(100n), 1_100);
  times.confirmed(toLsn(100n), 2_000);
  expect(figures(times)).toEqual([1, 1]);
});

it('forgets what waits on a timeline that was left', () => {
  const times = new ConfirmTimes();
  times.received(toLsn(500n), 1_000);
  times.forget();
  times.received(toLsn(300n), 2_000);
  times.confirmed(toLsn(600n), 2_250);
  expect(figures(times)).toEqual([1, 0.25]);
});

it('has a bound: while nothing is confirmed the oldest wait, and those behind are not measured', () => {
  const times = new ConfirmTimes();
  for (let lsn = 1n; lsn <= 5_000n; lsn += 1n) times.received(toLsn(lsn), 1_000);
  times.confirmed(toLsn(5_000n), 2_000);
  expect(figures(times)).toEqual([1_024, 1_024]);
  times.received(toLsn(6_000n), 3_000);
  times.confirmed(toLsn(6_000n), 3_500);
  expect(figures(times)).toEqual([1_025, 1_024.5]);
});
