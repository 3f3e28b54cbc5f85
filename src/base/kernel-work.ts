// Is anything of this process still inside the kernel? process.exit waits for threads and for libuv's pool, and a call to a
// disk that does not answer may never come back: who ends the process has to know before, and end it in another way.
import { createHook } from 'node:async_hooks';
import type { Clock } from './clock.ts';

/** A thread that can be told to end. */
export interface EndableThread {
  /** Resolves when it has ended; not while it is in a system call. */
  terminate(): Promise<unknown>;
}

const threads = new Set<EndableThread>();

const POLL_MS = 20;

/** Makes a thread known to {@link settleKernelWork}. Returns how to take it back, once it has ended. */
export function registerThread(thread: EndableThread): () => void {
  threads.add(thread);
  return () => {
    threads.delete(thread);
  };
}

/**
 * Ends all threads and waits until they, and all calls to file systems that are under way now, are over. False when that
 * takes longer than `timeoutMs`: then process.exit would hang. Calls that begin meanwhile (a start that was told to end
 * goes on reading) are not waited for.
 */
export async function settleKernelWork(clock: Clock, timeoutMs: number): Promise<boolean> {
  const deadlineMs = clock.nowMs() + timeoutMs;
  const ending = new Set<EndableThread>();
  const later = new Set<number>();
  const over = (id: number): void => {
    later.delete(id);
  };
  const hook = createHook({
    init: (id, type) => {
      if (isFileCall(type)) later.add(id);
    },
    before: over,
    destroy: over,
  }).enable();
  try {
    while (threads.size > 0 || fileCalls() > later.size) {
      // Also those that were started since.
      for (const thread of threads) {
        if (ending.has(thread)) continue;
        ending.add(thread);
        void thread.terminate().then(() => threads.delete(thread));
      }
      if (clock.nowMs() >= deadlineMs) return false;
      await new Promise<void>((resolve) => {
        clock.setTimer(POLL_MS, resolve);
      });
    }
    return true;
  } finally {
    hook.disable();
  }
}

function fileCalls(): number {
  return process.getActiveResourcesInfo().filter(isFileCall).length;
}

function isFileCall(type: string): boolean {
  return /^FSReq/i.test(type);
}
