// What is known and decided about one standby, with numbers: timing, positions, plans, settings, reads.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { toPgTimestamp } from '../../src/pg/timestamp.ts';
import { FileReads } from '../../src/walsender/file-reads.ts';
import {
  formatMilliseconds,
  readMilliseconds,
  readSessionSettings,
} from '../../src/walsender/session-settings.ts';
import { StandbyClock } from '../../src/walsender/standby-clock.ts';
import { StandbyPositions } from '../../src/walsender/standby-positions.ts';
import { planStream } from '../../src/walsender/stream-plan.ts';
import { LogBudget } from '../../src/base/log-budget.ts';
import { Wakeup } from '../../src/base/wakeup.ts';
import { OTHERS_LOG_LINES } from '../../src/config/limits.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { TestWalAges } from '../support/wal-ages.ts';

const lsn = (value: number | bigint): Lsn => toLsn(BigInt(value));

describe('StandbyClock', () => {
  it('asks once at half of the timeout, and gives up a moment after the whole', () => {
    const clock = new StandbyClock({ timeoutMs: 1000, nowMs: 0 });
    expect(clock.nextTickMs(true)).toBe(500);
    expect(clock.tick(499, true)).toBe('none');
    expect(clock.tick(500, true)).toBe('ping');
    expect(clock.tick(500, true)).toBe('none');
    expect(clock.nextTickMs(true)).toBe(1000);
    expect(clock.tick(999, true)).toBe('none');
    expect(clock.tick(1000, true)).toBe('none');
    expect(clock.nextTickMs(true)).toBe(1050);
    expect(clock.tick(1050, true)).toBe('timeout');
  });

  it('begins anew with every message', () => {
    const clock = new StandbyClock({ timeoutMs: 1000, nowMs: 0 });
    clock.tick(500, true);
    clock.onMessage(900);
    expect(clock.nextTickMs(true)).toBe(1400);
    expect(clock.tick(1399, true)).toBe('none');
    expect(clock.tick(1400, true)).toBe('ping');
  });

  it('asks after a pause of our own, and gives up nobody whom it did not ask', () => {
    const clock = new StandbyClock({ timeoutMs: 1000, nowMs: 0 });
    // The process stood still for three seconds.
    expect(clock.tick(3000, true)).toBe('ping');
    expect(clock.tick(3000, true)).toBe('none');
    expect(clock.nextTickMs(true)).toBe(3500);
    clock.onMessage(3001);
    expect(clock.tick(3500, true)).toBe('none');
    expect(clock.nextTickMs(true)).toBe(3501);
  });

  it('gives a standby that it had asked a moment after a pause of our own: its answer may lie unread', () => {
    const clock = new StandbyClock({ timeoutMs: 1000, nowMs: 0 });
    expect(clock.tick(500, true)).toBe('ping');
    // The process stood still for an hour.
    expect(clock.tick(3_600_000, true)).toBe('none');
    expect(clock.nextTickMs(true)).toBe(3_600_050);
    clock.onMessage(3_600_001);
    expect(clock.tick(3_600_050, true)).toBe('none');
    expect(clock.nextTickMs(true)).toBe(3_600_501);
  });

  it('gives up a standby that is dead after a pause of our own as well, half a timeout and a moment later', () => {
    const clock = new StandbyClock({ timeoutMs: 1000, nowMs: 0 });
    expect(clock.tick(3000, true)).toBe('ping');
    expect(clock.tick(3499, true)).toBe('none');
    expect(clock.tick(3500, true)).toBe('none');
    expect(clock.tick(3550, true)).toBe('timeout');
  });

  it('asks before its time when it is told to, once, and gives up no sooner for it', () => {
    const clock = new StandbyClock({ timeoutMs: 1000, nowMs: 0 });
    expect(clock.onProbe(100)).toBe(true);
    expect(clock.onProbe(200)).toBe(false);
    expect(clock.tick(500, true)).toBe('none');
    expect(clock.nextTickMs(true)).toBe(1000);
    clock.onMessage(300);
    expect(clock.tick(800, true)).toBe('ping');
    expect(clock.onProbe(900)).toBe(false);
    expect(clock.nextTickMs(true)).toBe(1300);
  });

  it('gives up a standby at the whole of a timeout that began behind its last message, whatever it is', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 120_000 }),
        fc.array(fc.integer({ min: 0, max: 200_000 }), { maxLength: 20 }),
        (timeoutMs, gaps) => {
          const clock = new StandbyClock({ timeoutMs, nowMs: 0 });
          let nowMs = 0;
          let pingedAtMs: number | null = null;
          for (const gap of gaps) {
            nowMs += gap;
            for (;;) {
              const action = clock.tick(nowMs, true);
              if (action === 'none') break;
              if (action === 'ping') pingedAtMs = nowMs;
              if (action !== 'timeout') continue;
              // Only who was asked, and had half of the timeout for the answer.
              expect(nowMs - (pingedAtMs ?? nowMs)).toBeGreaterThanOrEqual(timeoutMs / 2);
              expect(nowMs).toBeGreaterThanOrEqual(timeoutMs);
              return;
            }
          }
        },
      ),
    );
  });

  it('never asks and never gives up with timeout 0', () => {
    const clock = new StandbyClock({ timeoutMs: 0, nowMs: 0 });
    expect(clock.nextTickMs(true)).toBe(Number.POSITIVE_INFINITY);
    expect(clock.tick(1e12, true)).toBe('none');
  });

  it('answers at once, then at most every 50 ms, and forgets no request', () => {
    const clock = new StandbyClock({ timeoutMs: 0, nowMs: 0 });
    expect(clock.onReplyRequested(1000, true)).toBe(true);
    expect(clock.onReplyRequested(1001, true)).toBe(false);
    expect(clock.onReplyRequested(1049, true)).toBe(false);
    expect(clock.nextTickMs(true)).toBe(1050);
    expect(clock.tick(1049, true)).toBe('none');
    expect(clock.tick(1050, true)).toBe('answer');
    expect(clock.tick(1050, true)).toBe('none');
    expect(clock.nextTickMs(true)).toBe(Number.POSITIVE_INFINITY);
    expect(clock.onReplyRequested(1200, true)).toBe(true);
  });

  it('does not wake for an answer that the socket cannot take', () => {
    const clock = new StandbyClock({ timeoutMs: 0, nowMs: 0 });
    expect(clock.onReplyRequested(0, false)).toBe(false);
    expect(clock.nextTickMs(false)).toBe(Number.POSITIVE_INFINITY);
    expect(clock.tick(500, false)).toBe('none');
    expect(clock.tick(500, true)).toBe('answer');
  });
});

describe('StandbyPositions', () => {
  const reply = (write: number, flush: number, apply: number) => ({
    writeLsn: lsn(write),
    flushLsn: lsn(flush),
    applyLsn: lsn(apply),
    sendTime: toPgTimestamp(0n),
    replyRequested: false,
  });

  it('takes claims as far as the stream has got, and moves a slot only by a whole one', () => {
    const positions = new StandbyPositions(lsn(1000), new TestWalAges());
    expect(positions.onReply(reply(5000, 5000, 5000), 0)).toEqual({
      hasMoved: true,
      isClamped: true,
      confirmedLsn: null,
    });
    expect([positions.writeLsn, positions.flushLsn, positions.applyLsn]).toEqual([
      1000n,
      1000n,
      1000n,
    ]);
    positions.onSend(lsn(2000), lsn(3000), 0);
    expect(positions.onReply(reply(2001, 1999, 0), 0)).toEqual({
      hasMoved: true,
      isClamped: true,
      confirmedLsn: 1999n,
    });
    expect(positions.onReply(reply(2000, 0, 0), 0).confirmedLsn).toBeNull();
    expect(positions.onReply(reply(2000, 0, 0), 0).hasMoved).toBe(false);
  });

  it('is confirmed by the flush position, or by the write position where there is none', () => {
    const positions = new StandbyPositions(lsn(1000), new TestWalAges());
    expect(positions.isConfirmed()).toBe(false);
    positions.onSend(lsn(2000), lsn(2000), 0);
    positions.onReply(reply(2000, 1999, 0), 0);
    expect(positions.isConfirmed()).toBe(false);
    positions.onReply(reply(2000, 2000, 0), 0);
    expect(positions.isConfirmed()).toBe(true);
    positions.onReply(reply(2000, 0, 0), 0);
    expect(positions.isConfirmed()).toBe(true);
  });

  it('measures lag, keeps it while nothing is new, and forgets it when all is quiet', () => {
    const positions = new StandbyPositions(lsn(1000), new TestWalAges());
    positions.onSend(lsn(2000), lsn(2000), 100);
    positions.onReply(reply(2000, 1000, 0), 150);
    expect(positions.lagSeconds('write')).toBe(0.05);
    expect(positions.lagSeconds('flush')).toBe(0.05);
    expect(positions.lagSeconds('apply')).toBeNull();
    positions.onReply(reply(2000, 2000, 2000), 300);
    expect([
      positions.lagSeconds('write'),
      positions.lagSeconds('flush'),
      positions.lagSeconds('apply'),
    ]).toEqual([0.05, 0.2, 0.2]);
    positions.onReply(reply(2000, 2000, 2000), 400);
    expect([
      positions.lagSeconds('write'),
      positions.lagSeconds('flush'),
      positions.lagSeconds('apply'),
    ]).toEqual([null, null, null]);
  });

  it('is cut at the end of a timeline', () => {
    const positions = new StandbyPositions(lsn(1000), new TestWalAges());
    positions.onSend(lsn(2000), lsn(2000), 0);
    positions.onReply(reply(2000, 1500, 900), 0);
    positions.cut(lsn(1600));
    expect([positions.sentLsn, positions.writeLsn, positions.flushLsn, positions.applyLsn]).toEqual(
      [1600n, 1600n, 1500n, 900n],
    );
  });
});

describe('planStream', () => {
  const history = {
    timeline: toTimelineId(5),
    ancestors: [
      { timeline: toTimelineId(1), endLsn: lsn(0x1000) },
      { timeline: toTimelineId(3), endLsn: lsn(0x2000) },
    ],
  };
  const plan = (startLsn: number, timeline: number | null) =>
    planStream(
      { startLsn: lsn(startLsn), timeline: timeline === null ? null : toTimelineId(timeline) },
      history,
      versionFacts(15),
    );

  it.each([
    [0x9999, null, { kind: 'stream', timeline: 5, end: null }],
    [0x9999, 5, { kind: 'stream', timeline: 5, end: null }],
    [0, 5, { kind: 'stream', timeline: 5, end: null }],
    [0, 1, { kind: 'stream', timeline: 1, end: { endLsn: 0x1000n, nextTimeline: 3 } }],
    [0xfff, 1, { kind: 'stream', timeline: 1, end: { endLsn: 0x1000n, nextTimeline: 3 } }],
    [0x1000, 1, { kind: 'nothing-left', end: { endLsn: 0x1000n, nextTimeline: 3 } }],
    [0, 3, { kind: 'stream', timeline: 3, end: { endLsn: 0x2000n, nextTimeline: 5 } }],
  ])('start %i on timeline %s', (startLsn, timeline, expected) => {
    expect(plan(startLsn, timeline)).toEqual(expected);
  });

  it.each([2, 4, 6])('refuses timeline %i', (timeline) => {
    expect(plan(0, timeline)).toEqual({
      kind: 'refused',
      error: {
        sqlstate: 'XX000',
        message: `requested timeline ${timeline} is not in this server's history`,
      },
    });
  });
});

describe('session settings', () => {
  it.each([
    ['60000', 60_000],
    ['60s', 60_000],
    [' 1 min ', 60_000],
    ['1.5s', 1500],
    ['2h', 7_200_000],
    ['1d', 86_400_000],
    ['1500us', 2],
    ['0', 0],
    ['1e3', 1000],
    ['0x10', 16],
    ['0X1fs', 31_000],
    ['010', 8],
    ['+010 s', 8000],
    ['010.5s', 10_500],
  ])('reads %j as %i ms', (text, milliseconds) => {
    expect(readMilliseconds('x', text, versionFacts(17))).toBe(milliseconds);
  });

  it.each([
    ['', 'invalid value for parameter "x": ""'],
    ['soon', 'invalid value for parameter "x": "soon"'],
    ['0x', 'invalid value for parameter "x": "0x"'],
    ['08', 'invalid value for parameter "x": "08"'],
    ['08.5', 'invalid value for parameter "x": "08.5"'],
    ['.', 'invalid value for parameter "x": "."'],
    ['1 fortnight', 'invalid value for parameter "x": "1 fortnight"'],
    ['-1', '-1 ms is outside the valid range for parameter "x" (0 ms .. 2147483647 ms)'],
    ['30d', 'invalid value for parameter "x": "30d"'],
  ])('refuses %j', (text, message) => {
    expect(readMilliseconds('x', text, versionFacts(17))).toMatchObject({
      sqlstate: '22023',
      message,
    });
  });

  it.each([
    ['blanks behind the unit', `1x${' '.repeat(300_000)}y`],
    ['blanks before the unit', `1${' '.repeat(300_000)}y`],
    ['blanks before and behind the unit', `1${' '.repeat(150_000)}x${' '.repeat(150_000)}y`],
    ['digits', `${'1'.repeat(300_000)} x y`],
    ['digits and blanks in turn', `${'1 '.repeat(150_000)}y`],
  ])('refuses many %s at once: nobody has logged in yet', (_name, text) => {
    expect(readMilliseconds('x', text, versionFacts(17))).toMatchObject({ sqlstate: '22023' });
  });

  it.each([
    [0, '0'],
    [60_000, '1min'],
    [90_000, '90s'],
    [1500, '1500ms'],
    [86_400_000, '1d'],
  ])('shows %i ms as %s', (milliseconds, text) => {
    expect(formatMilliseconds(milliseconds)).toBe(text);
  });

  it('lets the last value win, in any case of the name, and takes names of extensions on trust', () => {
    const settings = readSessionSettings(
      [
        ['Wal_Sender_Timeout', '1s'],
        ['wal_sender_timeout', '2s'],
        ['my_extension.level', '9'],
        ['DateStyle', 'German'],
      ],
      versionFacts(15),
    );
    expect(settings).toMatchObject({ walSenderTimeoutMs: 2000, applicationName: '' });
  });

  it.each(['foo', '.x', 'x.', '1a.b', 'a b.c'])('does not know %j', (name) => {
    expect(readSessionSettings([[name, '1']], versionFacts(15))).toEqual({
      sqlstate: '42704',
      message: `unrecognized configuration parameter "${name}"`,
    });
  });
});

describe('FileReads', () => {
  it('runs a few at a time, in order of arrival, and goes on after a failure', async () => {
    const reads = new FileReads();
    const started: number[] = [];
    const finish: (() => void)[] = [];
    const results = Array.from({ length: 7 }, (_, index) =>
      reads.run(async () => {
        started.push(index);
        await new Promise<void>((resolve) => {
          finish.push(resolve);
        });
        if (index === 0) throw new Error('disk');
        return index;
      }),
    );
    const settled = Promise.allSettled(results);
    await eventually(() => started).toEqual([0, 1, 2, 3]);
    finish[0]?.();
    await eventually(() => started).toEqual([0, 1, 2, 3, 4]);
    for (let index = 1; index < 7; index += 1) {
      await eventually(() => finish.length).toBeGreaterThan(index);
      finish[index]?.();
    }
    expect((await settled).map((result) => result.status)).toEqual([
      'rejected',
      ...Array.from({ length: 6 }, () => 'fulfilled'),
    ]);
    expect(await reads.run(async () => 'again')).toBe('again');
  });

  it('gives each reader a smaller share the more there are, within limits', () => {
    const reads = new FileReads();
    expect(reads.readBytes()).toBe(1 << 20);
    for (let count = 0; count < 64; count += 1) reads.enter();
    expect(reads.readBytes()).toBe(1 << 19);
    for (let count = 0; count < 10_000; count += 1) reads.enter();
    expect(reads.readBytes()).toBe(1 << 16);
    for (let count = 0; count < 10_064; count += 1) reads.leave();
    expect(reads.readBytes()).toBe(1 << 20);
  });
});

describe('LogBudget', () => {
  it('gives twenty lines in ten seconds, and says afterwards how many were left out', () => {
    const budget = new LogBudget(OTHERS_LOG_LINES);
    const taken = Array.from({ length: 30 }, (_, index) => budget.take(1000 + index));
    expect(taken.slice(0, 20)).toEqual(Array.from({ length: 20 }, () => 0));
    expect(taken.slice(20)).toEqual(Array.from({ length: 10 }, () => null));
    expect(budget.take(10_999)).toBeNull();
    expect(budget.take(11_000)).toBe(11);
    expect(budget.take(11_001)).toBe(0);
  });
});

describe('Wakeup', () => {
  it('wakes at the earliest time asked for, once, and not after it was cancelled', () => {
    const clock = new ManualClock();
    const wakes: number[] = [];
    const startMs = clock.nowMs();
    const wakeup = new Wakeup(clock, () => wakes.push(clock.nowMs() - startMs));
    wakeup.ensure(startMs + 500);
    wakeup.ensure(startMs + 100);
    wakeup.ensure(startMs + 300);
    wakeup.ensure(Number.POSITIVE_INFINITY);
    clock.advance(1000);
    expect(wakes).toEqual([100]);
    wakeup.ensure(clock.nowMs() + 10);
    wakeup.cancel();
    clock.advance(1000);
    expect(wakes).toEqual([100]);
    expect(clock.nextTimerMs()).toBeNull();
    expect(INVALID_LSN).toBe(0n);
  });
});
