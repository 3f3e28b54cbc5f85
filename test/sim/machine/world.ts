// In which order does everything happen? One queue of events in virtual time, one step after the other; promises and
// setImmediate settle within the step that woke them. Nothing here, and nothing that runs here, knows real time.
import type { Clock, Timer } from '../../../src/base/clock.ts';
import { Random } from './random.ts';
import { SimProcess } from './sim-process.ts';
import type { SimThread } from './sim-process.ts';
import { Trace } from './trace.ts';

const realSetImmediate = globalThis.setImmediate;
const realRandom = Math.random;

/** On whose behalf something runs: of no process, it is the machine's. */
export interface Context {
  readonly process: SimProcess | null;
  readonly thread: SimThread | null;
}

/** Of the machine itself: networks, disks, faults. */
export const MACHINE: Context = { process: null, thread: null };

/** Something that will happen. */
export interface SimEvent {
  readonly atMs: number;
  readonly order: number;
  readonly context: Context;
  readonly label: string;
  readonly run: () => void;
  isCancelled: boolean;
}

/** A process died of a mistake of its own. */
export interface Crash {
  readonly process: SimProcess | null;
  readonly error: unknown;
}

let active: World | null = null;

/** The simulation that runs; null outside. There is one at a time. */
export function activeWorld(): World | null {
  return active;
}

/** The simulation that runs. */
export function world(): World {
  if (active === null) throw new Error('no simulation runs');
  return active;
}

function activate(next: World | null): void {
  active = next;
}

/** A made-up machine room. */
export class World {
  readonly seed: number;
  readonly random: Random;
  /** For the chance that relays draw themselves. */
  readonly relayRandom: Random;
  readonly trace: Trace;
  readonly crashes: Crash[] = [];
  /** What was met, and how often: does a run exercise what it is for? */
  readonly met = new Map<string, number>();
  nowMs = 0;
  steps = 0;
  context: Context = MACHINE;
  #queue: SimEvent[] = [];
  #order = 0;
  #immediates: { readonly context: Context; readonly run: () => void }[] = [];

  constructor(seed: number, trace: Trace) {
    this.seed = seed;
    this.random = new Random(seed);
    this.relayRandom = this.random.fork();
    this.trace = trace;
  }

  /** Makes this the running simulation until `body` is over. */
  async enter<T>(body: () => Promise<T>): Promise<T> {
    if (active !== null) throw new Error('a simulation runs already');
    const listeners = process.listeners('unhandledRejection');
    const onRejection = (error: unknown): void => this.crashed(error);
    process.removeAllListeners('unhandledRejection');
    process.on('unhandledRejection', onRejection);
    activate(this);
    globalThis.setImmediate = this.#setImmediate as unknown as typeof setImmediate;
    Math.random = () => this.relayRandom.next();
    try {
      return await body();
    } finally {
      globalThis.setImmediate = realSetImmediate;
      Math.random = realRandom;
      activate(null);
      process.off('unhandledRejection', onRejection);
      for (const listener of listeners) process.on('unhandledRejection', listener);
    }
  }

  /** Adds an event. With a process, it is dropped when that process is gone by then, and late while it is stopped. */
  schedule(context: Context, delayMs: number, label: string, run: () => void): SimEvent {
    this.#order += 1;
    const atMs = this.nowMs + Math.max(0, delayMs);
    const event = { atMs, order: this.#order, context, label, run, isCancelled: false };
    push(this.#queue, event);
    return event;
  }

  /** So much of it was met. */
  count(what: string, by = 1): void {
    if (by > 0) this.met.set(what, (this.met.get(what) ?? 0) + by);
  }

  /** Runs `body` now, as code of that process. */
  within<T>(context: Context, body: () => T): T {
    const before = this.context;
    this.context = context;
    try {
      return body();
    } finally {
      this.context = before;
    }
  }

  /** Resolves after that much virtual time, on behalf of whoever asks. */
  sleep(ms: number, label = 'sleep'): Promise<void> {
    const { context } = this;
    return new Promise((resolve) => {
      this.schedule(context, ms, label, resolve);
    });
  }

  /** Lets `process` have its late events. */
  wake(process: SimProcess): void {
    for (const event of process.backlog.splice(0)) {
      this.schedule(event.context, 0, event.label, event.run);
    }
  }

  /** Runs everything that is due until `endMs`, with `afterStep` after each step; ends early when that says so. */
  async runUntil(endMs: number, afterStep: () => boolean): Promise<void> {
    for (;;) {
      const event = this.#queue[0];
      if (event === undefined || event.atMs > endMs) break;
      pop(this.#queue);
      if (event.isCancelled) continue;
      this.nowMs = Math.max(this.nowMs, event.atMs);
      const { process } = event.context;
      if (process !== null && !process.isAlive) continue;
      if (process?.isStopped === true) {
        process.backlog.push(event);
        continue;
      }
      if (isBusy(event.context, this.nowMs)) {
        this.#postpone(event);
        continue;
      }
      this.steps += 1;
      this.trace.step(this.nowMs, event.label);
      this.#call(event.context, event.run);
      // What the machine and modelled servers do ends with the call.
      if (process?.hasPromises === true || this.#immediates.length > 0)
        await this.#settle(event.context);
      this.context = MACHINE;
      if (!afterStep()) return;
    }
    this.nowMs = Math.max(this.nowMs, endMs);
  }

  /** An error that nobody caught. */
  crashed(error: unknown): void {
    const { process } = this.context;
    this.trace.note(`crash of ${process?.name ?? 'the machine'}: ${String(error)}`);
    this.crashes.push({ process, error });
    process?.kill('crash');
  }

  /** A thread that blocks is not ahead of itself. */
  #postpone({ context, label, run }: SimEvent): void {
    this.schedule(context, (context.thread?.busyUntilMs ?? 0) - this.nowMs, label, run);
  }

  #call(context: Context, run: () => void): void {
    this.context = context;
    if (context.thread !== null) context.thread.aheadMs = 0;
    try {
      run();
    } catch (error) {
      this.crashed(error);
    }
  }

  /** Lets promises settle, then what was put off to the end of the turn, one after the other. */
  async #settle({ thread }: Context): Promise<void> {
    await turn();
    if (thread !== null) thread.busyUntilMs = this.nowMs + thread.aheadMs;
    for (let next = this.#immediates.shift(); next !== undefined; next = this.#immediates.shift()) {
      const { process } = next.context;
      if (process !== null && !process.isAlive) continue;
      if (process?.isStopped === true) this.schedule(next.context, 0, 'immediate', next.run);
      else {
        this.#call(next.context, next.run);
        await turn();
      }
    }
  }

  readonly #setImmediate = (run: (...args: unknown[]) => void, ...args: unknown[]): object => {
    this.#immediates.push({ context: this.context, run: () => run(...args) });
    return {};
  };
}

/** The clock of one process: its own origin, and a wall clock that can be set. */
export function clockOf(simulated: World, process: SimProcess): Clock {
  return {
    nowMs: () => simulated.nowMs + process.monotonicOriginMs,
    wallMs: () => Math.round(1_735_689_600_000 + simulated.nowMs + process.wallOffsetMs),
    setTimer: (delayMs, callback): Timer => {
      // As Node.js: whole milliseconds, one at least, so that a timer may even come a little early.
      const wholeMs = Math.max(1, Math.trunc(delayMs));
      const event = simulated.schedule(process.context, wholeMs, `timer ${process.name}`, callback);
      return {
        cancel: () => {
          event.isCancelled = true;
        },
      };
    },
  };
}

/** All promises that can settle have settled when it is over. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    realSetImmediate(resolve);
  });
}

function isBusy({ thread }: Context, nowMs: number): boolean {
  return thread !== null && thread.busyUntilMs > nowMs;
}

function isBefore(a: SimEvent, b: SimEvent): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

function push(heap: SimEvent[], event: SimEvent): void {
  let index = heap.length;
  heap.push(event);
  while (index > 0) {
    const parent = (index - 1) >> 1;
    const above = heap[parent];
    if (above === undefined || !isBefore(event, above)) break;
    heap[index] = above;
    index = parent;
  }
  heap[index] = event;
}

function pop(heap: SimEvent[]): void {
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return;
  let index = 0;
  for (;;) {
    const left = 2 * index + 1;
    const [a, b] = [heap[left], heap[left + 1]];
    if (a === undefined) break;
    const isRight = b !== undefined && isBefore(b, a);
    const child = isRight ? b : a;
    if (!isBefore(child, last)) break;
    heap[index] = child;
    index = isRight ? left + 1 : left;
  }
  heap[index] = last;
}
