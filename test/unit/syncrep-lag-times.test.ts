// When was WAL sent, and when was it committed? The rings that all standbys share, and the estimate of a sender's clock.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { CommitTimes } from '../../src/syncrep/lag-commit-times.ts';
import { SENDER_CLOCK_WINDOW_MS, SenderClock } from '../../src/syncrep/lag-sender-clock.ts';
import { LagSeries } from '../../src/syncrep/lag-series.ts';
import { WalTimes } from '../../src/syncrep/lag-wal-times.ts';

const lsn = (value: number | bigint): Lsn => toLsn(BigInt(value));
const HOUR_MS = 3_600_000;

describe('a series', () => {
  const gaps = fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 200 });

  it('finds what a search from one end to the other finds, while it has room', () => {
    fc.assert(
      fc.property(gaps, fc.nat({ max: 2_000 }), (steps, asked) => {
        const series = new LagSeries({ samplesMax: 256, mergedTime: 'earliest' });
        const samples: number[] = [];
        for (const gap of steps) {
          samples.push((samples.at(-1) ?? 0) + gap);
          series.push(samples.at(-1) ?? 0, samples.length);
        }
        const after = samples.findIndex((at) => at > asked);
        const from = samples.findIndex((at) => at >= asked);
        expect(series.firstAfter(asked)).toBe(after < 0 ? samples.length : after);
        expect(series.firstFrom(asked)).toBe(from < 0 ? samples.length : from);
      }),
    );
  });

  it('keeps its ends and its order when it is full, and is wrong by a share of the age that is small for its size', () => {
    const pauses = fc.array(fc.nat({ max: 100 }), { minLength: 1, maxLength: 1_500 });
    fc.assert(
      fc.property(fc.integer({ min: 64, max: 512 }), pauses, (samplesMax, steps) => {
        const series = new LagSeries({ samplesMax, mergedTime: 'earliest' });
        const truth: number[] = [];
        for (const pause of steps) {
          truth.push((truth.at(-1) ?? 0) + pause);
          series.push(truth.length, truth.at(-1) ?? 0);
        }
        const newest = truth.at(-1) ?? 0;
        expect(series.length).toBeLessThanOrEqual(samplesMax);
        expect(series.positionAt(series.length - 1)).toBe(truth.length);
        expect(series.timeAt(0)).toBe(truth[0]);
        const wrong = truth.findIndex((time, index) => {
          const found = series.timeAt(series.firstFrom(index + 1));
          // Twice: of two that were merged each may stand for others.
          return found > time || time - found > (32 / samplesMax) * (newest - found);
        });
        expect(wrong).toBe(-1);
      }),
    );
  });

  it('keeps what is new exact when the newest seems to be old: commits of a primary whose clock was set back', () => {
    const series = new LagSeries({ samplesMax: 1_024, mergedTime: 'latest' });
    for (let index = 1; index < 1_024; index += 1) series.push(index, HOUR_MS + index);
    series.push(1_024, 0);
    series.push(1_025, 60_000);
    expect(series.length).toBeLessThanOrEqual(769);
    const times = [900, 1_000, 1_022, 1_023, 1_024, 1_025].map((position) =>
      series.timeAt(series.firstFrom(position)),
    );
    const exact = [1_000, 1_022, 1_023].map((index) => HOUR_MS + index);
    expect(times).toEqual([expect.closeTo(HOUR_MS + 900, -2), ...exact, 0, 60_000]);
  });

  it('does not take what is not behind everything else', () => {
    const series = new LagSeries({ samplesMax: 8, mergedTime: 'latest' });
    series.push(10, 1);
    series.push(10, 2);
    series.push(5, 3);
    expect([series.length, series.timeAt(0), series.timeAt(1)]).toEqual([1, 1, Number.NaN]);
    expect([series.positionAt(-1), series.timeAt(-1)]).toEqual([0, Number.NaN]);
  });
});

describe('the times of WAL', () => {
  const note = (times: WalTimes, end: number | bigint, sentMs: number): void =>
    times.note({ recordEndLsn: lsn(end), takenLsn: lsn(end), knownLsn: lsn(end) }, sentMs);

  it('say of every byte when it was named, and nothing of those beyond the end', () => {
    const times = new WalTimes({ samplesMax: 64 });
    expect([times.sentBefore(lsn(8)), times.sentAt(lsn(8)), times.endLsn]).toEqual([
      null,
      null,
      0n,
    ]);
    note(times, 100, 1_000);
    note(times, 200, 2_000);
    expect([1, 100, 101, 200, 201].map((at) => times.sentBefore(lsn(at)))).toEqual([
      1_000,
      1_000,
      2_000,
      2_000,
      null,
    ]);
    expect([0, 99, 100, 199, 200].map((at) => times.sentAt(lsn(at)))).toEqual([
      1_000,
      1_000,
      2_000,
      2_000,
      null,
    ]);
  });

  it('do not run back with the estimate of a sender’s clock', () => {
    const times = new WalTimes({ samplesMax: 64 });
    note(times, 100, 5_000);
    note(times, 200, 4_000);
    expect(times.sentAt(lsn(150))).toBe(5_000);
  });

  it('are never later than when a byte was named in truth, and ages hardly too high, from a millisecond to a day', () => {
    const times = new WalTimes({ samplesMax: 16_384 });
    const sent: number[] = [];
    let nowMs = 0;
    for (let index = 0; index < 200_000; index += 1) {
      nowMs += index < 100_000 ? 864 : 0.05;
      sent.push(nowMs);
      note(times, (index + 1) * 8, nowMs);
    }
    const worst = sent.map((truth, index) => {
      const found = times.sentBefore(lsn((index + 1) * 8)) ?? Number.NaN;
      return found > truth ? Number.NaN : (truth - found) / (nowMs - found + 1e-9);
    });
    expect(Math.max(...worst.slice(0, 100_000))).toBeLessThan(0.02);
    expect(Math.max(...worst.slice(100_000))).toBeLessThan(0.02);
  });

  it('hold at addresses that no double tells apart byte by byte', () => {
    const times = new WalTimes({ samplesMax: 64 });
    const base = 1n << 55n;
    note(times, base, 1_000);
    note(times, base + 8n, 2_000);
    expect(times.sentBefore(lsn(base))).toBe(1_000);
    expect(times.sentBefore(lsn(base + 8n))).toBe(2_000);
    note(times, (1n << 64n) - 8n, 3_000);
    expect(times.sentAt(lsn((1n << 64n) - 4_096n))).toBe(3_000);
    expect(times.sentAt(times.endLsn)).toBeNull();
  });

  it('are cut anywhere: before, in the middle of what came at once, at its end, and twice', () => {
    for (const cut of [0, 50, 100, 150, 200, 250]) {
      const times = new WalTimes({ samplesMax: 64 });
      note(times, 100, 1_000);
      note(times, 200, 2_000);
      times.cut(lsn(cut));
      times.cut(lsn(cut));
      const end = Math.min(cut, 200);
      expect(times.endLsn).toBe(BigInt(end));
      expect(times.sentAt(lsn(end))).toBeNull();
      if (end > 0) expect(times.sentBefore(lsn(end))).toBe(end > 100 ? 2_000 : 1_000);
      note(times, 300, 3_000);
      expect(times.sentBefore(lsn(end + 1))).toBe(3_000);
      expect(times.endLsn).toBe(300n);
    }
  });

  it('give each of many standbys that ask for the same place the same answer, also behind a cut', () => {
    const times = new WalTimes({ samplesMax: 64 });
    note(times, 100, 1_000);
    expect([times.sentBefore(lsn(100)), times.sentBefore(lsn(100))]).toEqual([1_000, 1_000]);
    times.cut(lsn(50));
    expect(times.sentBefore(lsn(100))).toBeNull();
    note(times, 100, 2_000);
    expect(times.sentBefore(lsn(100))).toBe(2_000);
  });
});

describe('the clock of a sender', () => {
  it('makes the quickest message the measure: what took longer was sent so much before it came', () => {
    const clock = new SenderClock();
    const skew = -987_654_321;
    expect(clock.observe(1_000 + skew, 1_005)).toBe(1_005);
    expect(clock.observe(1_010 + skew, 1_012)).toBe(1_012);
    expect(clock.observe(1_020 + skew, 1_522)).toBe(1_022);
    expect(clock.observe(1_021 + skew, 1_523)).toBe(1_023);
  });

  it('forgets a quick message after a while, so that clocks may drift apart', () => {
    const clock = new SenderClock();
    const late: number[] = [];
    // 200 ppm slower than ours.
    for (let now = 0; now < 3 * HOUR_MS; now += 100)
      late.push(now - clock.observe(now * 0.9998, now));
    expect(Math.min(...late)).toBe(0);
    expect(Math.max(...late)).toBeLessThanOrEqual(2 * SENDER_CLOCK_WINDOW_MS * 0.0002 + 0.05);
  });

  it.each([
    ['an hour ahead', HOUR_MS],
    ['an hour back', -HOUR_MS],
    ['ten seconds ahead', 10_000],
    ['back by two seconds', -2_000],
    ['beyond 2038', 13 * 365 * 24 * HOUR_MS],
  ])('survives that it is set %s: no message was sent in the future, none long ago', (_, step) => {
    const clock = new SenderClock();
    for (let now = 0; now < 600_000; now += 1_000) {
      const sent = now + (now >= 300_000 ? step : 0);
      expect(now - clock.observe(sent, now)).toBe(0);
    }
  });

  it('is wrong for no longer than it remembers when it was set back while nothing was sent', () => {
    const clock = new SenderClock();
    clock.observe(0, 0);
    clock.observe(1_000, 1_000);
    // Twenty seconds of silence, and ten seconds back: nothing contradicts a message that was on its way for ten seconds.
    expect(clock.observe(11_000, 21_000)).toBe(11_000);
    let now = 21_000;
    for (; now < 21_000 + 2 * SENDER_CLOCK_WINDOW_MS; now += 500) clock.observe(now - 10_000, now);
    expect(clock.observe(now - 10_000, now)).toBe(now);
  });

  it('is not taken for set back by a message that another relay made a moment before it sent it', () => {
    const clock = new SenderClock();
    clock.observe(0, 2);
    // The link is full: everything takes half a second longer.
    expect(clock.observe(1_000, 1_502)).toBe(1_002);
    expect(clock.observe(960, 1_502)).toBe(962);
    expect(clock.observe(1_100, 1_602)).toBe(1_102);
  });

  it('begins anew with another sender', () => {
    const clock = new SenderClock();
    clock.observe(1_000, 1_000);
    clock.reset();
    expect(clock.observe(1_000 - HOUR_MS, 2_000)).toBe(2_000);
  });

  it('puts no message after its arrival and none before the one before it, whatever sender and network do', () => {
    const step = fc.record({
      wait: fc.nat({ max: 5_000 }),
      transit: fc.nat({ max: 2_000 }),
      set: fc.option(fc.integer({ min: -HOUR_MS, max: HOUR_MS }), { freq: 10 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const clock = new SenderClock();
        let [trueMs, set, arrivedMs] = [0, 0, 0];
        for (const { wait, transit, set: by } of steps) {
          trueMs += wait;
          set += by ?? 0;
          const beforeMs = arrivedMs;
          arrivedMs = Math.max(arrivedMs, trueMs + transit);
          const sentMs = clock.observe(trueMs + set, arrivedMs);
          expect(sentMs).toBeLessThanOrEqual(arrivedMs);
          // Where it was set back in silence, by less than that lasted, it looks as if the message took that time.
          expect(arrivedMs - sentMs).toBeLessThanOrEqual(2 * SENDER_CLOCK_WINDOW_MS);
          expect(beforeMs).toBeLessThanOrEqual(arrivedMs);
        }
      }),
    );
  });
});

describe('the age of the last replayed commit', () => {
  const open = (): CommitTimes => {
    const commits = new CommitTimes({ samplesMax: 64 });
    commits.note(1_000, 0, 10_000);
    commits.note(2_000, 50, 20_000);
    commits.note(3_000, 0, 30_000);
    return commits;
  };

  it('is that of the last commit record that begins before where the standby stands', () => {
    const commits = open();
    expect(commits.ageMs(lsn(1_000), 40_000, true)).toBeNull();
    expect(commits.ageMs(lsn(1_001), 40_000, true)).toBe(30_000);
    expect(commits.ageMs(lsn(2_000), 40_000, true)).toBe(30_000);
    expect(commits.ageMs(lsn(2_048), 40_000, true)).toBe(20_050);
    expect(commits.ageMs(lsn(3_000), 40_000, true)).toBe(20_050);
  });

  it('is 0 for who has replayed all commits there are, unless there is WAL that was not looked at yet', () => {
    const commits = open();
    expect(commits.ageMs(lsn(3_001), HOUR_MS, true)).toBe(0);
    expect(commits.ageMs(lsn(3_001), 40_000, false)).toBe(10_000);
  });

  it('is not known for who does not replay, nor before the first commit that is known', () => {
    expect(open().ageMs(INVALID_LSN, 40_000, true)).toBeNull();
    expect(open().ageMs(lsn(500), 40_000, true)).toBeNull();
    const commits = new CommitTimes({ samplesMax: 64 });
    expect(commits.ageMs(lsn(500), 40_000, false)).toBeNull();
    expect(commits.ageMs(lsn(500), 40_000, true)).toBe(0);
  });

  it('is never negative, not even for a commit of a primary whose clock is ahead', () => {
    const commits = new CommitTimes({ samplesMax: 64 });
    commits.note(1_000, -HOUR_MS, 10_000);
    commits.note(2_000, 0, 10_001);
    expect(commits.ageMs(lsn(1_500), 10_002, true)).toBe(2);
    expect(commits.ageMs(lsn(1_500), 9_000, true)).toBe(0);
  });

  it('forgets what was committed on a timeline behind the point where it was left', () => {
    const commits = open();
    commits.cut(lsn(2_000));
    expect(commits.ageMs(lsn(1_500), 40_000, true)).toBe(0);
    commits.note(2_100, 0, 35_000);
    expect(commits.ageMs(lsn(1_500), 40_000, true)).toBe(30_000);
    expect(commits.ageMs(lsn(2_200), 40_000, true)).toBe(0);
    commits.cut(lsn(500));
    expect(commits.ageMs(lsn(400), 40_000, true)).toBe(0);
    expect(commits.ageMs(lsn(400), 40_000, false)).toBeNull();
  });
});
