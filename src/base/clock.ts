// The only door to clocks and timers. Durations come from the monotonic clock, never from the wall clock,
// so a clock step changes no timeout and no lag.

/** A pending timer. */
export interface Timer {
  cancel(): void;
}

/** Time as the rest of the program sees it; tests hand in a clock they move by hand. */
export interface Clock {
  /** Milliseconds of the monotonic clock; only differences mean something. */
  nowMs(): number;
  /** Milliseconds since 1970-01-01 UTC, for display and for timestamps on the wire. */
  wallMs(): number;
  /** Calls `callback` once after `delayMs`. Delays beyond Node's 2^31-1 ms limit are re-armed, not shortened. */
  setTimer(delayMs: number, callback: () => void): Timer;
}

const NODE_TIMER_MS_MAX = 2 ** 31 - 1;

class SystemTimer implements Timer {
  #handle: NodeJS.Timeout;

  constructor(delayMs: number, callback: () => void) {
    this.#handle = this.#arm(delayMs, callback);
  }

  cancel(): void {
    clearTimeout(this.#handle);
  }

  #arm(delayMs: number, callback: () => void): NodeJS.Timeout {
    if (delayMs <= NODE_TIMER_MS_MAX) return setTimeout(callback, Math.max(0, delayMs));
    return setTimeout(() => {
      this.#handle = this.#arm(delayMs - NODE_TIMER_MS_MAX, callback);
    }, NODE_TIMER_MS_MAX);
  }
}

/** CLOCK_MONOTONIC in microseconds, as other programs of this machine read it. (libuv: uv_hrtime) */
export function monotonicUsec(): bigint {
  return process.hrtime.bigint() / 1000n;
}

/** The clock of the running process. */
export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer: (delayMs, callback) => new SystemTimer(delayMs, callback),
};
