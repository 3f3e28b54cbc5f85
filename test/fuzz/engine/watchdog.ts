// Who notices that the program hangs? A thread of its own: it sees which input runs and since when, through shared memory,
// writes it down when it runs for too long, and ends the process, which cannot end itself any more.
import { writeFileSync, writeSync } from 'node:fs';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { formatInput, packSession, unpackSession } from './session.ts';
import type { FuzzSession } from './session.ts';

const STARTED = 0;
const STATE = 1;
const HEADER_BYTES = 8;
const MEMORY_BYTES = 1 << 18;
const LOOK_MS = 100;

interface WatchdogData {
  readonly memory: SharedArrayBuffer;
  readonly limitMs: number;
  readonly target: string;
  readonly file: string;
}

/** Tells the thread what runs. */
export class Watchdog {
  readonly #header: Int32Array;
  readonly #memory: Buffer;
  readonly #worker: Worker;

  /** `file`: where an input goes that runs for more than `limitMs`. */
  constructor(options: { target: string; limitMs: number; file: string }) {
    const memory = new SharedArrayBuffer(MEMORY_BYTES);
    this.#header = new Int32Array(memory, 0, 2);
    this.#memory = Buffer.from(memory);
    const workerData: WatchdogData = { memory, ...options };
    this.#worker = new Worker(new URL(import.meta.url), { workerData });
    this.#worker.unref();
  }

  /** An input begins. */
  begin(session: FuzzSession): void {
    packSession(session, this.#memory, HEADER_BYTES);
    this.#header[STATE] = 1;
    Atomics.add(this.#header, STARTED, 1);
  }

  /** It is over, and nothing runs. */
  rest(): void {
    this.#header[STATE] = 0;
    Atomics.add(this.#header, STARTED, 1);
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}

function watch({ memory, limitMs, target, file }: WatchdogData): void {
  const header = new Int32Array(memory, 0, 2);
  let seen = 0;
  let stillLooks = 0;
  setInterval(() => {
    const started = Atomics.load(header, STARTED);
    // Looks are counted and not time: where the whole process does not run, nothing hangs.
    stillLooks = started === seen ? stillLooks + 1 : 0;
    seen = started;
    if (stillLooks * LOOK_MS < limitMs || header[STATE] === 0) return;
    const session = unpackSession(Buffer.from(memory), HEADER_BYTES);
    const message = `one input ran for more than ${limitMs} ms`;
    writeFileSync(file, formatInput({ target, sessions: [session] }, { kind: 'hang', message }));
    writeSync(1, `${JSON.stringify({ type: 'failure', target, kind: 'hang', message, file })}\n`);
    process.kill(process.pid, 'SIGKILL');
  }, LOOK_MS);
}

if (!isMainThread) watch(workerData as WatchdogData);
