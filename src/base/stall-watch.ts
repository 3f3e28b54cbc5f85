// Did this process stand still? A timer that comes much too late shows it, and the CPU time taken meanwhile shows why: a
// busy event loop took it, a process that was stopped, starved or frozen with its container did not.
import { cpuUsage } from 'node:process';
import type { Clock, Timer } from './clock.ts';
import type { Log } from './log.ts';

/** How often it is looked. */
const TICK_MS = 250;

/** A tick that is later than this is told: far beyond what a busy machine does to a timer. */
const STALL_MS_MIN = 1_000;

/** From here on a person should look, whatever the machine was busy with. */
const STALL_MS_GRAVE = 5_000;

/** From this share of a stall on our own code had the processor. */
const BUSY_SHARE = 0.5;

/** What the watch looks at. */
export interface StallWatchParts {
  readonly clock: Clock;
  readonly log: Log;
  /** CPU time this process has taken, in milliseconds; only differences mean something. */
  readonly cpuMs?: () => number;
}

/** Watches from its construction on, by the monotonic clock. */
export class StallWatch {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #cpuMs: () => number;
  #dueAtMs = 0;
  #cpuAtMs = 0;
  #timer: Timer | null = null;

  constructor({ clock, log, cpuMs = processCpuMs }: StallWatchParts) {
    this.#clock = clock;
    this.#log = log;
    this.#cpuMs = cpuMs;
    this.#arm();
  }

  /** No more ticks: nothing keeps the process alive. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #arm(): void {
    this.#dueAtMs = this.#clock.nowMs() + TICK_MS;
    this.#cpuAtMs = this.#cpuMs();
    this.#timer = this.#clock.setTimer(TICK_MS, () => this.#tick());
  }

  #tick(): void {
    const lateMs = this.#clock.nowMs() - this.#dueAtMs;
    if (lateMs >= STALL_MS_MIN) this.#tell(lateMs, this.#cpuMs() - this.#cpuAtMs);
    this.#arm();
  }

  #tell(stallMs: number, cpuMs: number): void {
    const why =
      cpuMs >= stallMs * BUSY_SHARE
        ? 'its event loop was busy; this is a bug or an overload'
        : 'it was stopped, or the machine had no time for it';
    const text = `walcast stood still for ${(stallMs / 1000).toFixed(1)} s: ${why}. Timeouts of its peers may have passed meanwhile`;
    const fields = { stall_ms: Math.round(stallMs), cpu_ms: Math.round(cpuMs) };
    if (stallMs >= STALL_MS_GRAVE) this.#log.warn(text, fields);
    else this.#log.info(text, fields);
  }
}

function processCpuMs(): number {
  const { user, system } = cpuUsage();
  return (user + system) / 1000;
}
