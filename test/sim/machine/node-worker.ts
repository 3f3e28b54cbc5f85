// node:worker_threads as the program sees it in a simulation: the one thread there is, the writer of WAL, runs its real loop in
// this process, with a time of its own that its blocking calls move.
import { WriterLoop } from '../../../src/wal/writer-loop.ts';
import type { WriterReply, WriterRequest, WriterSetup } from '../../../src/wal/writer-messages.ts';
import type { SimThread } from './sim-process.ts';
import { world } from './world.ts';
import type { Context } from './world.ts';

type Listener = (value: never) => void;

/** What a message takes from one thread to the other. */
const MESSAGE_MS = 0.02;

/** Stands for Worker. */
export class SimWorker {
  readonly #owner: Context;
  readonly #thread: SimThread;
  readonly #loop: WriterLoop;
  readonly #requests: WriterRequest[] = [];
  readonly #listeners = new Map<string, Listener>();
  #lastReplyAtMs = 0;
  #isOver = false;

  constructor(_module: URL, options: { workerData: WriterSetup }) {
    this.#owner = world().context;
    this.#thread = { name: 'wal-writer', aheadMs: 0, busyUntilMs: 0 };
    this.#loop = new WriterLoop(options.workerData, {
      reply: (message) => this.#tell('message', message),
      close: () => this.#tell('exit', 0),
    });
  }

  on(event: string, listener: Listener): this {
    this.#listeners.set(event, listener);
    return this;
  }

  postMessage(request: WriterRequest): void {
    const context = { process: this.#owner.process, thread: this.#thread };
    this.#requests.push(request);
    world().schedule(context, MESSAGE_MS, `writer ${this.#owner.process?.name} takes`, () => {
      const next = this.#requests.shift();
      if (next !== undefined && !this.#isOver) void this.#loop.handle(next);
    });
  }

  async terminate(): Promise<number> {
    this.#tell('exit', 1);
    this.#isOver = true;
    return 1;
  }

  unref(): void {}

  #tell(event: string, value: WriterReply | number): void {
    if (this.#isOver) return;
    const simulated = world();
    const ahead = simulated.context.thread === this.#thread ? this.#thread.aheadMs : 0;
    this.#lastReplyAtMs = Math.max(this.#lastReplyAtMs, simulated.nowMs + ahead + MESSAGE_MS);
    const delayMs = this.#lastReplyAtMs - simulated.nowMs;
    const label = `writer ${this.#owner.process?.name} ${typeof value === 'number' ? event : value.kind}`;
    simulated.schedule(this.#owner, delayMs, label, () => {
      this.#listeners.get(event)?.(value as never);
    });
  }
}
