// Is a process that stood still told from one that was only late, and a busy one from a stopped one?
import { describe, expect, it } from 'vitest';
import type { Clock, Timer } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import type { LogFields } from '../../src/base/log.ts';
import { StallWatch } from '../../src/base/stall-watch.ts';

/** A clock whose timers fire when the test says so, however late. */
class LateClock implements Clock {
  now = 5_000;
  timers: { callback: () => void }[] = [];

  nowMs(): number {
    return this.now;
  }

  wallMs(): number {
    throw new Error('a stall is no matter of the wall clock');
  }

  setTimer(_delayMs: number, callback: () => void): Timer {
    const timer = { callback };
    this.timers.push(timer);
    return {
      cancel: () => {
        this.timers = this.timers.filter((other) => other !== timer);
      },
    };
  }

  /** Fires what is set after `elapsedMs`. */
  fireAfter(elapsedMs: number): void {
    this.now += elapsedMs;
    for (const { callback } of this.timers.splice(0)) callback();
  }
}

function watch(): {
  clock: LateClock;
  told: [string, LogFields | undefined][];
  stalls: StallWatch;
  takeCpu: (ms: number) => void;
} {
  const clock = new LateClock();
  const told: [string, LogFields | undefined][] = [];
  let cpuMs = 100;
  const stalls = new StallWatch({
    clock,
    log: {
      ...silentLog,
      info: (message, fields) => void told.push([`info ${message}`, fields]),
      warn: (message, fields) => void told.push([`warn ${message}`, fields]),
    },
    cpuMs: () => cpuMs,
  });
  return {
    clock,
    told,
    stalls,
    takeCpu: (ms) => {
      cpuMs += ms;
    },
  };
}

describe('a process', () => {
  it('that is late as a busy machine is says nothing', () => {
    const { clock, told } = watch();
    for (const elapsedMs of [250, 251, 700, 1_249]) clock.fireAfter(elapsedMs);
    expect(told).toEqual([]);
  });

  it('that was stopped says how long, and that it took no time itself', () => {
    const { clock, told, takeCpu } = watch();
    takeCpu(3);
    clock.fireAfter(90_250);
    expect(told).toEqual([
      [
        expect.stringMatching(/^warn walcast stood still for 90\.0 s: it was stopped/),
        { stall_ms: 90_000, cpu_ms: 3 },
      ],
    ]);
    clock.fireAfter(250);
    expect(told).toHaveLength(1);
  });

  it('whose event loop was busy says so', () => {
    const { clock, told, takeCpu } = watch();
    takeCpu(2_900);
    clock.fireAfter(3_250);
    expect(told).toEqual([
      [
        expect.stringMatching(/^info .* for 3\.0 s: its event loop was busy/),
        { stall_ms: 3_000, cpu_ms: 2_900 },
      ],
    ]);
  });

  it('that ends leaves no timer behind', () => {
    const { clock, stalls } = watch();
    clock.fireAfter(250);
    stalls.stop();
    expect(clock.timers).toEqual([]);
  });
});
