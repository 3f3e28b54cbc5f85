// When is an upstream that brings nothing left for another one: with numbers instead of clocks and servers.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  STANDSTILL_AGAIN_MS_MAX,
  STANDSTILL_AVOID_MS,
  STANDSTILL_CONFIRM_MS,
  STANDSTILL_MS,
} from '../../src/config/limits.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { Standstill } from '../../src/walreceiver/standstill.ts';

const END: Lsn = toLsn(0x5000000n);
const LATER: Lsn = toLsn(0x5000100n);

/** A rule whose stream from `a` has stood still until the others are asked, and the time. */
function asking(): { rule: Standstill; nowMs: number } {
  const rule = new Standstill(() => 60_000);
  rule.began('a', END, 0);
  expect(rule.look(END, false, STANDSTILL_MS)).toEqual({ kind: 'ask' });
  return { rule, nowMs: STANDSTILL_MS };
}

describe('a stream', () => {
  it('that moves is left alone, for ever', () => {
    const rule = new Standstill(() => 60_000);
    rule.began('a', END, 0);
    let lsn = END;
    for (let nowMs = STANDSTILL_MS; nowMs < 1_000_000; nowMs = rule.nextLookAtMs() ?? nowMs) {
      lsn = toLsn(lsn + 1n);
      expect(rule.look(lsn, false, nowMs)).toEqual({ kind: 'none' });
    }
  });

  it('that we do not read ourselves is left alone', () => {
    const rule = new Standstill(() => 60_000);
    rule.began('a', END, 0);
    expect(rule.look(END, true, STANDSTILL_MS)).toEqual({ kind: 'none' });
    expect(rule.nextLookAtMs()).toBe(2 * STANDSTILL_MS);
  });

  it('that stands still has the others asked, later each time', () => {
    const { rule, nowMs } = asking();
    expect(rule.nextLookAtMs()).toBeNull();
    const waits: number[] = [];
    let now = nowMs;
    for (let count = 0; count < 6; count += 1) {
      rule.asked(null, now);
      waits.push((rule.nextLookAtMs() ?? 0) - now);
      now = rule.nextLookAtMs() ?? 0;
      expect(rule.look(END, false, now)).toEqual({ kind: 'ask' });
    }
    expect(waits.slice(0, 3)).toEqual([2 * STANDSTILL_MS, 4 * STANDSTILL_MS, 30_000]);
    expect(Math.max(...waits)).toBe(STANDSTILL_AGAIN_MS_MAX);
  });

  it('is looked at as often as a shorter wal_receiver_timeout says', () => {
    const rule = new Standstill(() => 800);
    rule.began('a', END, 0);
    expect(rule.nextLookAtMs()).toBe(800);
    const never = new Standstill(() => 0);
    never.began('a', END, 0);
    expect(never.nextLookAtMs()).toBe(STANDSTILL_MS);
  });

  it('is left for another that has more, when nothing comes although it had time to', () => {
    const { rule, nowMs } = asking();
    rule.asked('b', nowMs + 100);
    const atMs = nowMs + 100 + STANDSTILL_CONFIRM_MS;
    expect(rule.nextLookAtMs()).toBe(atMs);
    expect(rule.look(END, false, atMs - 1)).toEqual({ kind: 'none' });
    expect(rule.look(END, false, atMs)).toEqual({ kind: 'change', host: 'b' });
  });

  it('is not left when what the other had arrives meanwhile', () => {
    const { rule, nowMs } = asking();
    rule.asked('b', nowMs);
    const atMs = nowMs + STANDSTILL_CONFIRM_MS;
    expect(rule.look(LATER, false, atMs)).toEqual({ kind: 'none' });
    expect(rule.look(LATER, false, atMs + STANDSTILL_MS)).toEqual({ kind: 'ask' });
  });

  it('that ended is not spoken of any more', () => {
    const { rule, nowMs } = asking();
    rule.ended();
    rule.asked('b', nowMs);
    expect(rule.nextLookAtMs()).toBeNull();
    expect(rule.look(END, false, 1e9)).toEqual({ kind: 'none' });
  });
});

it('a host that could not be followed is not asked again for a while, until it is followed', () => {
  const { rule, nowMs } = asking();
  rule.asked('b', nowMs);
  const atMs = rule.nextLookAtMs() ?? 0;
  expect(rule.look(END, false, atMs)).toEqual({ kind: 'change', host: 'b' });
  rule.ended();
  rule.began('a', END, atMs);
  expect(rule.mayAsk('b', atMs + STANDSTILL_AVOID_MS - 1)).toBe(false);
  expect(rule.mayAsk('c', atMs)).toBe(true);
  expect(rule.mayAsk('b', atMs + STANDSTILL_AVOID_MS)).toBe(true);
});

it('whatever happens, hosts are changed only after a standstill, and asked at most once in its time', () => {
  const event = fc.record({
    afterMs: fc.integer({ min: 0, max: 20_000 }),
    kind: fc.constantFrom('move', 'nothing', 'answer better', 'answer nobody', 'restart'),
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      const rule = new Standstill(() => 60_000);
      let [lsn, nowMs, movedAtMs, askedAtMs, isAsking] = [0n, 0, 0, -STANDSTILL_MS, false];
      rule.began('a', toLsn(lsn), nowMs);
      for (const { afterMs, kind } of events) {
        nowMs += afterMs;
        if (kind === 'move') [lsn, movedAtMs] = [lsn + 1n, nowMs];
        if (kind === 'answer better' && isAsking) rule.asked('b', nowMs);
        if (kind === 'answer nobody' && isAsking) rule.asked(null, nowMs);
        if (kind.startsWith('answer')) isAsking = false;
        if (kind === 'restart') {
          rule.ended();
          rule.began('a', toLsn(lsn), nowMs);
          [movedAtMs, isAsking] = [nowMs, false];
        }
        const step = rule.look(toLsn(lsn), false, nowMs);
        if (step.kind === 'none') continue;
        expect(nowMs - movedAtMs).toBeGreaterThanOrEqual(STANDSTILL_MS);
        if (step.kind === 'change') continue;
        isAsking = true;
        expect(nowMs - askedAtMs).toBeGreaterThanOrEqual(STANDSTILL_MS);
        askedAtMs = nowMs;
      }
    }),
    { numRuns: 300 },
  );
});
