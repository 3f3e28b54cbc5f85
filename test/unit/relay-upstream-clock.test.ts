// Since when is WAL known that is not on our own disk, and how long do messages travel?
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LAG_WAL_SAMPLES_MAX } from '../../src/config/limits.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { pgTimestampFromUnixMs } from '../../src/pg/timestamp.ts';
import { UpstreamClock } from '../../src/relay/upstream-clock.ts';
import { ManualClock } from '../support/manual-clock.ts';

const lsn = (value: number): Lsn => toLsn(BigInt(value));

/** A disk: `flushed` is also how far WAL has come, in whole records. */
function open(flushedLsn = 0): {
  clock: ManualClock;
  times: UpstreamClock;
  flush: (lsn: number) => void;
  hear: (walEnd: number) => void;
  lag: () => number;
} {
  const clock = new ManualClock();
  const times = new UpstreamClock(clock);
  let flushed = lsn(flushedLsn);
  times.follow({
    positions: () => ({ flushedLsn: flushed }),
    nextLsn: () => flushed,
    walk: {
      recordEnd: () => flushed,
      learned: { commitAtHigh: 0, commitAtLow: 0, committedMicros: null },
    },
  });
  return {
    clock,
    times,
    flush: (position) => {
      flushed = lsn(position);
      times.taken();
    },
    hear: (walEnd) => times.observe(lsn(walEnd), pgTimestampFromUnixMs(clock.wallMs())),
    lag: () => times.delay().lagSeconds,
  };
}

describe('the lag', () => {
  test('is 0 before anything is known, and while everything known is flushed', () => {
    const { clock, flush, hear, lag } = open();
    expect(lag()).toBe(0);
    hear(100);
    flush(100);
    clock.advance(60_000);
    expect(lag()).toBe(0);
    hear(100);
    expect(lag()).toBe(0);
  });

  test('does not count what a server claimed that is gone, and that the next one does not have', () => {
    const { clock, times, flush, hear, lag } = open();
    hear(100);
    clock.advance(1_000);
    hear(500);
    flush(90);
    clock.advance(1_000);
    times.startStream(lsn(300));
    expect(lag()).toBe(2);
    flush(100);
    expect(lag()).toBe(1);
    flush(300);
    expect(lag()).toBe(0);
    clock.advance(60_000);
    expect(lag()).toBe(0);
    hear(400);
    clock.advance(1_000);
    expect(lag()).toBe(1);
  });

  test('does not count what only the timeline had that was left', () => {
    const { clock, times, flush, hear, lag } = open();
    hear(500);
    flush(300);
    clock.advance(5_000);
    flush(200);
    times.switched(lsn(200));
    times.startStream(lsn(250));
    expect(lag()).toBe(0);
    hear(250);
    clock.advance(1_000);
    expect(lag()).toBe(1);
    flush(250);
    expect(lag()).toBe(0);
  });

  test('goes back to nothing when the next server has no more than our own disk', () => {
    const { clock, times, flush, hear, lag } = open();
    hear(500);
    flush(100);
    clock.advance(1_000);
    times.startStream(lsn(100));
    expect(lag()).toBe(0);
    hear(100);
    expect(lag()).toBe(0);
  });

  test('goes on through a new stream of the same server', () => {
    const { clock, times, hear, lag } = open();
    hear(100);
    clock.advance(1_000);
    times.startStream(lsn(200));
    hear(200);
    expect(lag()).toBe(1);
  });

  test('is the age of the oldest WAL that is not flushed', () => {
    const { clock, flush, hear, lag } = open();
    hear(100);
    clock.advance(1_000);
    hear(200);
    clock.advance(500);
    expect(lag()).toBe(1.5);
    flush(99);
    expect(lag()).toBe(1.5);
    flush(100);
    expect(lag()).toBe(0.5);
    flush(150);
    expect(lag()).toBe(0.5);
    flush(200);
    expect(lag()).toBe(0);
  });

  test('does not forget what a server has when a keepalive in the middle names only what it has sent', () => {
    const { clock, times, flush, hear, lag } = open();
    const keepalive = (walEnd: number): void =>
      times.observe(lsn(walEnd), pgTimestampFromUnixMs(clock.wallMs()), true);
    hear(1_000);
    flush(200);
    clock.advance(5_000);
    keepalive(200);
    expect(lag()).toBe(5);
    hear(1_000);
    flush(400);
    expect(lag()).toBe(5);
    flush(1_000);
    keepalive(1_000);
    expect(lag()).toBe(0);
    clock.advance(1_000);
    // A server that has more than it sent may say so, too.
    keepalive(1_100);
    clock.advance(2_000);
    expect(lag()).toBe(2);
  });

  test('is 0 when we come back to a server that is idle and has no more than we have', () => {
    const { clock, hear, lag } = open(100);
    hear(100);
    clock.advance(60_000);
    expect(lag()).toBe(0);
  });

  test('goes on growing while the upstream is away', () => {
    const { clock, hear, lag } = open();
    hear(100);
    clock.advance(3_600_000);
    expect(lag()).toBe(3_600);
  });

  test('is exact, however messages and flushes fall', () => {
    const step = fc.record({
      wait: fc.integer({ min: 0, max: 50 }),
      grow: fc.integer({ min: 0, max: 10 }),
      take: fc.integer({ min: 0, max: 12 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { clock, flush, hear, lag } = open();
        const known: { end: number; atMs: number }[] = [];
        let [end, flushed] = [1, 0];
        for (const { wait, grow, take } of steps) {
          clock.advance(wait);
          end += grow;
          hear(end);
          if (known.at(-1)?.end !== end) known.push({ end, atMs: clock.nowMs() });
          flushed = Math.min(end, flushed + take);
          flush(flushed);
          const oldest = known.find((entry) => entry.end > flushed);
          const exact = oldest === undefined ? 0 : (clock.nowMs() - oldest.atMs) / 1000;
          expect(lag()).toBeGreaterThanOrEqual(exact - 1e-9);
          expect(lag()).toBeLessThanOrEqual(exact + 1e-9);
        }
      }),
    );
  });

  test('costs bounded memory when nothing is flushed for long, and is still right for the oldest', () => {
    const { clock, flush, hear, lag } = open();
    const messages = 5 * LAG_WAL_SAMPLES_MAX;
    for (let index = 1; index <= messages; index += 1) {
      hear(index * 100);
      clock.advance(20);
    }
    expect(lag()).toBeCloseTo((messages * 20) / 1000, 6);
    flush((messages / 2) * 100);
    const half = ((messages / 2) * 20) / 1000;
    expect(lag()).toBeGreaterThanOrEqual(half - 1e-9);
    expect(lag()).toBeLessThan(half * 1.01);
    flush(messages * 100);
    expect(lag()).toBe(0);
  });
});

describe('the transit', () => {
  test('is the way from the clock of the server to ours, and never negative', () => {
    const { clock, times } = open();
    const sentAt = (ms: number): void =>
      times.observe(lsn(1), pgTimestampFromUnixMs(clock.wallMs() + ms));
    for (const ms of [0, -3, -3, -700, -60_000, +5_000]) sentAt(ms);
    const { boundsSeconds, counts, sumSeconds } = times.delay().transit;
    expect(sumSeconds).toBeCloseTo(60.706, 6);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(6);
    expect(counts[0]).toBe(2);
    expect(counts[boundsSeconds.indexOf(0.005)]).toBe(2);
    expect(counts[boundsSeconds.indexOf(1)]).toBe(1);
    expect(counts.at(-1)).toBe(1);
  });
});
