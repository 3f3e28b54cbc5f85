// Is what takes too long no longer waited for, and everything else told as it is?
import { expect, it } from 'vitest';
import { within } from '../../src/base/within.ts';
import { ManualClock } from '../support/manual-clock.ts';

it('is true for what is done in time, and leaves no timer', async () => {
  const clock = new ManualClock();
  expect(await within(clock, 100, Promise.resolve(7))).toBe(true);
  expect(clock.nextTimerMs()).toBeNull();
});

it('is false once the time is up, whatever comes of it then', async () => {
  const clock = new ManualClock();
  let fail: (error: Error) => void = () => {};
  const work = new Promise<void>((_, reject) => {
    fail = reject;
  });
  const waited = within(clock, 100, work);
  clock.advance(100);
  expect(await waited).toBe(false);
  // Nobody waits any more, so nobody is told; it is no unhandled rejection either.
  fail(new Error('late'));
});

it('rejects with what goes wrong in time', async () => {
  const clock = new ManualClock();
  await expect(within(clock, 100, Promise.reject(new Error('soon')))).rejects.toThrow('soon');
  expect(clock.nextTimerMs()).toBeNull();
});
