// Lag from samples: the numbers of walsender.c:LagTrackerRead, and the ring when it is full.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import { LagTracker } from '../../src/syncrep/lag-tracker.ts';

const lsn = (value: number) => toLsn(BigInt(value));

describe('LagTracker', () => {
  it('gives the time since the newest sample that was passed', () => {
    const tracker = new LagTracker();
    tracker.write(lsn(100), 1000);
    tracker.write(lsn(200), 1010);
    tracker.write(lsn(300), 1020);
    expect(tracker.read('write', lsn(200), 1050)).toBe(40);
    expect(tracker.read('write', lsn(300), 1050)).toBe(30);
  });

  it('keeps write, flush and apply apart', () => {
    const tracker = new LagTracker();
    tracker.write(lsn(100), 1000);
    expect(tracker.read('write', lsn(100), 1005)).toBe(5);
    expect(tracker.read('flush', lsn(100), 1010)).toBe(10);
    expect(tracker.read('apply', lsn(100), 1015)).toBe(15);
  });

  it('knows nothing without samples, and nothing new once all are passed', () => {
    const tracker = new LagTracker();
    expect(tracker.read('apply', lsn(5), 10)).toBeNull();
    tracker.write(lsn(100), 1000);
    expect(tracker.read('apply', lsn(100), 1010)).toBe(10);
    expect(tracker.read('apply', lsn(100), 1020)).toBeNull();
  });

  it('takes the same end only once', () => {
    const tracker = new LagTracker();
    tracker.write(lsn(100), 1000);
    tracker.write(lsn(100), 2000);
    expect(tracker.read('write', lsn(100), 2500)).toBe(1500);
  });

  it('interpolates between the sample passed last and the next one', () => {
    const tracker = new LagTracker();
    tracker.write(lsn(100), 1000);
    tracker.write(lsn(200), 2000);
    expect(tracker.read('apply', lsn(100), 2100)).toBe(1100);
    expect(tracker.read('apply', lsn(150), 2100)).toBe(600);
    expect(tracker.read('apply', lsn(150), 3100)).toBe(1600);
  });

  it('measures against the first sample ahead after a pause, not against one from before it', () => {
    const tracker = new LagTracker();
    tracker.write(lsn(100), 1000);
    tracker.read('apply', lsn(100), 1001);
    tracker.write(lsn(200), 60_000);
    expect(tracker.read('apply', lsn(100), 60_500)).toBe(500);
  });

  it('treats a position that went back, and a time in the future, as unknown', () => {
    const tracker = new LagTracker();
    tracker.write(lsn(100), 1000);
    tracker.write(lsn(200), 2000);
    tracker.read('apply', lsn(100), 2000);
    expect(tracker.read('apply', lsn(50), 2100)).toBeNull();
    expect(tracker.read('write', lsn(200), 1500)).toBeNull();
  });

  it('a reader that fell out of a full ring keeps its own sample and comes back', () => {
    const tracker = new LagTracker({ samplesMax: 8 });
    for (let index = 1; index <= 20; index += 1) tracker.write(lsn(index * 10), 1000 + index);
    // 7 samples fit: 14 … 20. The readers stand at sample 1, kept aside.
    expect(tracker.read('apply', lsn(0), 1100)).toBe(99);
    expect(tracker.read('apply', lsn(10), 1100)).toBe(99);
    expect(tracker.read('apply', lsn(140), 1100)).toBe(86);
    expect(tracker.read('apply', lsn(200), 1100)).toBe(80);
    expect(tracker.read('apply', lsn(200), 1100)).toBeNull();
  });

  it('a fast reader is not disturbed by one that fell out', () => {
    const tracker = new LagTracker({ samplesMax: 8 });
    for (let index = 1; index <= 100; index += 1) {
      tracker.write(lsn(index * 10), 1000 + index);
      expect(tracker.read('write', lsn(index * 10), 1001 + index)).toBe(1);
    }
  });

  it('gives exact elapsed times however the ring had to grow', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            bytes: fc.integer({ min: 1, max: 1000 }),
            ms: fc.integer({ min: 0, max: 50 }),
          }),
          {
            minLength: 1,
            maxLength: 300,
          },
        ),
        fc.nat(),
        (steps, pick) => {
          const tracker = new LagTracker();
          const samples: { at: number; ms: number }[] = [];
          let at = 0;
          let ms = 0;
          for (const step of steps) {
            at += step.bytes;
            ms += step.ms;
            samples.push({ at, ms });
            tracker.write(lsn(at), ms);
          }
          const chosen = samples[pick % samples.length];
          if (chosen === undefined) throw new Error('no sample');
          expect(tracker.read('flush', lsn(chosen.at), ms + 7)).toBe(ms + 7 - chosen.ms);
        },
      ),
    );
  });
});
