// When hot standby feedback goes upstream: at once where something is held that was not, or is gone, a second apart, else once
// per interval; and with the right bytes.
import fc from 'fast-check';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { UPSTREAM_UNSENT_STATUS_BYTES_MAX } from '../../src/config/limits.ts';
import { isSameXmins, NO_XMINS } from '../../src/pg/xmins.ts';
import type { Xmins } from '../../src/pg/xmins.ts';
import { isDeeper, isUrgent, readFeedback } from '../../src/syncrep/feedback.ts';
import { FeedbackReporter } from '../../src/walreceiver/feedback-reporter.ts';
import { decodeHotStandbyFeedback } from '../../src/wire/replication-messages.ts';
import { ManualClock } from '../support/manual-clock.ts';

const NEXT_XID = 3n * (1n << 32n) + 5_000n;

class Rig {
  readonly clock = new ManualClock();
  readonly startMs = this.clock.nowMs();
  /** What was sent, with the time since the start. */
  readonly sent: { atMs: number; xmins: Xmins }[] = [];
  readonly noted: Xmins[] = [];
  wants: Xmins | null = NO_XMINS;
  asked = 0;
  pending = 0;
  statusIntervalMs = 10_000;
  readonly reporter = new FeedbackReporter({
    source: {
      feedback: () => {
        this.asked += 1;
        return this.wants === null ? null : { ...this.wants, nextXid: NEXT_XID };
      },
      onSent: (xmins) => this.noted.push(xmins),
    },
    statusIntervalMs: () => this.statusIntervalMs,
    clock: this.clock,
  });

  attach(): void {
    this.reporter.attach({
      write: ([frame]) => {
        // CopyData: letter and length, then the message.
        const message = decodeHotStandbyFeedback((frame ?? new Uint8Array()).subarray(5));
        const reading = readFeedback(message, NEXT_XID);
        if (reading?.kind !== 'xmins') throw new Error('a server would drop this');
        this.sent.push({ atMs: this.clock.nowMs() - this.startMs, xmins: reading.xmins });
      },
      pendingBytes: () => this.pending,
    });
  }

  async change(wants: Xmins | null): Promise<void> {
    this.wants = wants;
    this.reporter.changed();
    await nextTurn();
  }

  times(): number[] {
    return this.sent.map(({ atMs }) => atMs);
  }
}

const held = (behind: bigint, catalogBehind: bigint | null = null): Xmins => ({
  xmin: NEXT_XID - behind,
  catalogXmin: catalogBehind === null ? null : NEXT_XID - catalogBehind,
});

describe('feedback upstream', () => {
  it('begins with a stream, also when there is none', () => {
    const rig = new Rig();
    rig.attach();
    expect(rig.sent).toEqual([{ atMs: 0, xmins: NO_XMINS }]);
    rig.reporter.detach();
    rig.wants = held(100n, 200n);
    rig.attach();
    expect(rig.sent.at(-1)?.xmins).toEqual(held(100n, 200n));
    expect(rig.noted).toEqual(rig.sent.map(({ xmins }) => xmins));
  });

  it('is repeated every interval while something is held, and not while nothing is', async () => {
    const rig = new Rig();
    rig.attach();
    rig.clock.advance(60_000);
    expect(rig.times()).toEqual([0]);
    expect(rig.clock.nextTimerMs()).toBeNull();
    await rig.change(NO_XMINS);
    expect(rig.times()).toEqual([0]);
    rig.reporter.detach();
    rig.wants = held(100n);
    rig.attach();
    rig.clock.advance(30_000);
    expect(rig.times()).toEqual([0, 60_000, 70_000, 80_000, 90_000]);
  });

  it('goes at once when a minimum appears, gets older or is gone', async () => {
    const rig = new Rig();
    rig.attach();
    rig.clock.advance(5_000);
    const steps = [held(100n), held(100n, 300n), held(150n, 300n), held(150n), NO_XMINS];
    for (const step of steps) {
      await rig.change(step);
      rig.clock.advance(1_500);
    }
    expect(rig.times()).toEqual([0, 5_000, 6_500, 8_000, 9_500, 11_000]);
    expect(rig.sent.slice(1).map(({ xmins }) => xmins)).toEqual(steps);
  });

  it('waits for the interval when minima move forward', async () => {
    const rig = new Rig();
    rig.wants = held(500n, 500n);
    rig.attach();
    for (const behind of [400n, 300n, 200n]) {
      rig.clock.advance(2_000);
      await rig.change(held(behind, behind));
    }
    expect(rig.times()).toEqual([0]);
    rig.clock.advance(4_000);
    expect(rig.sent.at(-1)).toEqual({ atMs: 10_000, xmins: held(200n, 200n) });
  });

  it('goes once a second at most, with what is so then', async () => {
    const rig = new Rig();
    rig.attach();
    for (const behind of [10n, 20n, 30n]) {
      rig.clock.advance(100);
      await rig.change(held(behind));
    }
    expect(rig.times()).toEqual([0]);
    rig.clock.advance(700);
    expect(rig.sent.slice(1)).toEqual([{ atMs: 1_000, xmins: held(30n) }]);
  });

  it('looks again a second later while nothing may be said, or the server does not read', async () => {
    const rig = new Rig();
    rig.wants = null;
    rig.attach();
    rig.clock.advance(2_500);
    expect(rig.sent).toEqual([]);
    rig.wants = held(10n);
    rig.pending = UPSTREAM_UNSENT_STATUS_BYTES_MAX + 1;
    rig.clock.advance(1_000);
    expect(rig.sent).toEqual([]);
    rig.pending = 0;
    rig.clock.advance(1_000);
    expect(rig.times()).toEqual([4_000]);
  });

  it('is looked at once a turn of the event loop, and never without a stream', async () => {
    const rig = new Rig();
    rig.reporter.changed();
    await nextTurn();
    rig.attach();
    for (let count = 0; count < 1_000; count += 1) rig.reporter.changed();
    await nextTurn();
    expect(rig.asked).toBe(2);
    rig.reporter.changed();
    rig.reporter.detach();
    await nextTurn();
    rig.clock.advance(60_000);
    expect(rig.asked).toBe(2);
  });

  it('goes every ten seconds where the status interval is 0, or the horizon would stand still', () => {
    const rig = new Rig();
    rig.statusIntervalMs = 0;
    rig.wants = held(10n);
    rig.attach();
    rig.clock.advance(20_000);
    expect(rig.times()).toEqual([0, 10_000, 20_000]);
  });

  it('keeps to its times whatever happens', async () => {
    const xid = fc.option(fc.bigInt({ min: 0n, max: 50n }), { nil: null });
    const wants = fc.record({ xmin: xid, catalogXmin: xid }).map((behind) => ({
      xmin: behind.xmin === null ? null : NEXT_XID - behind.xmin,
      catalogXmin: behind.catalogXmin === null ? null : NEXT_XID - behind.catalogXmin,
    }));
    const steps = fc.array(fc.tuple(wants, fc.integer({ min: 1, max: 4_000 })), { maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(steps, async (moves) => {
        const rig = new Rig();
        rig.attach();
        for (const [next, waitMs] of moves) {
          await rig.change(next);
          rig.clock.advance(waitMs);
          const last = rig.sent.at(-1) ?? { atMs: 0, xmins: NO_XMINS };
          const silentMs = rig.clock.nowMs() - rig.startMs - last.atMs;
          // What holds more, or is gone, was said within a second; everything, within the interval.
          if (silentMs >= 1_000 && waitMs >= 1_000) expect(isUrgent(last.xmins, next)).toBe(false);
          if (silentMs >= 1_000) expect(isDeeper(last.xmins, next)).toBe(false);
          if (silentMs >= 10_000) expect(isSameXmins(last.xmins, next)).toBe(true);
        }
        const gaps = rig
          .times()
          .slice(1)
          .map((atMs, index) => atMs - (rig.times()[index] ?? 0));
        for (const gap of gaps) expect(gap).toBeGreaterThanOrEqual(1_000);
      }),
      { numRuns: 200 },
    );
  });
});
