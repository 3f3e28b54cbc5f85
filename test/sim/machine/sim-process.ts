// What is a process here? A name that events belong to: when it is killed they never happen, while it is stopped they wait.
import type { Context, SimEvent } from './world.ts';

/** How a process ends. `power`: with its machine, and without a word to anybody. */
export type ProcessEnd = 'kill' | 'power' | 'crash' | 'exit';

/** A thread whose calls block: it is so far ahead of the present in virtual time. */
export interface SimThread {
  readonly name: string;
  aheadMs: number;
  /** It takes nothing else before this time of the world. */
  busyUntilMs: number;
}

/** One run of a program on a host. */
export class SimProcess {
  readonly name: string;
  readonly host: string;
  readonly context: Context;
  readonly backlog: SimEvent[] = [];
  /** What the monotonic clock shows is this much more than the time of the world. */
  readonly monotonicOriginMs: number;
  wallOffsetMs = 0;
  /** Its code waits for promises: they settle within the step that wakes them. */
  readonly hasPromises: boolean;
  isAlive = true;
  isStopped = false;
  /** Who has to be told that it is gone: the network, the disk, the supervisor. */
  readonly onEnd: ((end: ProcessEnd) => void)[] = [];

  constructor(
    host: string,
    options: { readonly monotonicOriginMs: number; readonly hasPromises: boolean },
  ) {
    this.name = host;
    this.host = host;
    this.monotonicOriginMs = options.monotonicOriginMs;
    this.hasPromises = options.hasPromises;
    this.context = { process: this, thread: null };
  }

  /** Nothing of it runs any more. */
  kill(end: ProcessEnd): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    this.backlog.splice(0);
    for (const listener of this.onEnd) listener(end);
  }
}
