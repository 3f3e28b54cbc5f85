// Waiting for something, but not for ever.
import type { Clock } from './clock.ts';

/**
 * Resolves to true once `work` is done, to false when that takes longer than `timeoutMs`; `work` goes on then, and what
 * becomes of it is not told any more. Rejects with what `work` rejects with in time.
 */
export function within(clock: Clock, timeoutMs: number, work: Promise<unknown>): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const timer = clock.setTimer(timeoutMs, () => resolve(false));
    work.then(
      () => {
        timer.cancel();
        resolve(true);
      },
      (error: unknown) => {
        timer.cancel();
        reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}
