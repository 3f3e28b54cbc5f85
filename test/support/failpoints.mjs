// Faults inside a walcast process, for tests: loaded before the program with --import, set off by SIGUSR2. Which one:
// WALCAST_TEST_FAILPOINT.
import { open } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import threads from 'node:worker_threads';

const BUSY_MS = 3_000;

/** The threads that the program has started. */
const started = [];

const FAULTS = {
  /** The event loop is busy with one thing. */
  busy() {
    const untilMs = performance.now() + BUSY_MS;
    while (performance.now() < untilMs);
  },
  /** A thread is gone, and does not say why. */
  'thread-ends'() {
    for (const thread of started) void thread.terminate();
  },
  /** A bug in a thread: it is handed nonsense. */
  'thread-throws'() {
    for (const thread of started) thread.postMessage(null);
  },
  /** A call to a file system does not come back: nobody writes to that FIFO. */
  'call-hangs'() {
    open(process.env['WALCAST_TEST_FIFO'] ?? '', 'r', () => {});
    process.stderr.write('a call hangs now\n');
  },
  /** A bug in the program while such a call is under way. */
  'crash-in-call'() {
    FAULTS['call-hangs']();
    throw new Error('planted');
  },
  /** The heap fills up until there is no more. */
  heap() {
    const hoard = [];
    for (;;) hoard.push(Array.from({ length: 1_000 }, (_, index) => ({ index })));
  },
};

if (threads.isMainThread) {
  const { Worker } = threads;
  threads.Worker = class extends Worker {
    constructor(...parameters) {
      super(...parameters);
      started.push(this);
    }
  };
  syncBuiltinESMExports();
  process.on('SIGUSR2', () => FAULTS[process.env['WALCAST_TEST_FAILPOINT'] ?? '']());
}
