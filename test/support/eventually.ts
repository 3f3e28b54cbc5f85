// Waits for what will happen some time soon, on a machine that may be busy.
import { expect } from 'vitest';

/** `expect` on a value that is read again until the assertion holds, at most ten seconds. */
export function eventually<T>(read: () => T): ReturnType<typeof expect.poll<T>> {
  return expect.poll(read, { timeout: 10_000, interval: 5 });
}
