// The thread that writes and flushes WAL: blocking calls, so that no other work of the process (its thread pool is shared
// by file reads, name look-ups and password hashing) ever stands before an fdatasync that a commit waits for. What it does
// is in writer-loop.ts.
import { parentPort, workerData } from 'node:worker_threads';
import { letGroupRead } from '../base/durable-fs.ts';
import { invariant } from '../base/errors.ts';
import { WriterLoop } from './writer-loop.ts';
import type { WriterRequest, WriterThreadSetup } from './writer-messages.ts';

const port = parentPort;
invariant(port !== null, 'the WAL writer runs as a thread');
const setup = workerData as WriterThreadSetup;
letGroupRead(setup.isGroupReading);
const loop = new WriterLoop(setup, {
  reply: (message) => port.postMessage(message),
  close: () => port.close(),
});

port.on('message', (request: WriterRequest) => {
  // Requests come one at a time, and `handle` lets no error out.
  void loop.handle(request);
});
