// The thread that writes and flushes WAL: blocking calls, so that no other work of the process (its thread pool is shared
// by file reads, name look-ups and password hashing) ever stands before an fdatasync that a commit waits for.
import { rmSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../base/clock.ts';
import { errorText, invariant, systemErrorCode } from '../base/errors.ts';
import { advanceLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import {
  nextSegment,
  segmentNumber,
  segmentNumberBefore,
  segmentOffset,
  walFileName,
} from '../pg/segment.ts';
import { SegmentPreparation } from './segment-preparation.ts';
import { NoSpace, SegmentWriter } from './segment-writer.ts';
import type { SegmentPlace } from './segment-writer.ts';
import type { WriterError, WriterReply, WriterRequest, WriterSetup } from './writer-messages.ts';

const port = parentPort;
invariant(port !== null, 'the WAL writer runs as a thread');
const setup = workerData as WriterSetup;
/** Files given to us to make segments of, oldest first. */
const recycled: string[] = [];
const place: SegmentPlace = {
  directory: setup.directory,
  size: setup.segmentSize,
  takeRecycled,
};
const writer = new SegmentWriter(place);
const preparation = new SegmentPreparation(place, fail);
/** After a failure nothing is written or flushed any more, and nothing said. */
let hasFailed = false;

port.on('message', (request: WriterRequest) => {
  // Requests come one at a time, and `handle` lets no error out.
  void handle(request);
});

async function handle(request: WriterRequest): Promise<void> {
  if (request.kind === 'recycle') {
    recycled.push(request.path);
    return;
  }
  if (request.kind === 'close') {
    await end();
    return;
  }
  try {
    if (needsPreparation(request)) await preparation.settle();
    if (hasFailed) return;
    const start = systemClock.nowMs();
    writer.write(request.timeline, request.startLsn, request.bytes);
    const written = systemClock.nowMs();
    reply({ kind: 'written', seconds: (written - start) / 1000 });
    writer.flush();
    reply({ kind: 'flushed', seconds: (systemClock.nowMs() - written) / 1000 });
    prepareNext(request);
  } catch (error) {
    if (error instanceof NoSpace) reply({ kind: 'no-space', error: describe(error.cause) });
    else fail(error);
  }
}

async function end(): Promise<void> {
  await preparation.settle();
  try {
    writer.close();
  } catch (error) {
    fail(error);
  }
  for (const path of recycled) rmSync(path, { force: true });
  port?.close();
}

function takeRecycled(): string | null {
  const path = recycled.shift();
  if (path === undefined) return null;
  reply({ kind: 'recycled' });
  return path;
}

function fail(error: unknown): void {
  if (hasFailed) return;
  hasFailed = true;
  reply({ kind: 'failed', during: stepOf(error), error: describe(error) });
}

function needsPreparation(request: Extract<WriterRequest, { kind: 'write' }>): boolean {
  const { segmentSize } = setup;
  const last = segmentNumberBefore(endOf(request), segmentSize);
  let segment = segmentNumber(request.startLsn, segmentSize);
  for (; segment <= last; segment = nextSegment(segment)) {
    if (preparation.isMaking(walFileName(request.timeline, segment, segmentSize))) return true;
  }
  return false;
}

function endOf(request: Extract<WriterRequest, { kind: 'write' }>): Lsn {
  return advanceLsn(request.startLsn, request.bytes.length);
}

/** Past half of a segment the next one is made, so that crossing over costs no commit the time to fill it with zeros. */
function prepareNext(request: Extract<WriterRequest, { kind: 'write' }>): void {
  const endLsn = endOf(request);
  if (segmentOffset(endLsn, setup.segmentSize) < setup.segmentSize / 2) return;
  const next = nextSegment(segmentNumber(endLsn, setup.segmentSize));
  preparation.begin(walFileName(request.timeline, next, setup.segmentSize));
}

/** A segment that is left behind is flushed amid a write, so only the system call tells. */
function stepOf(error: unknown): 'write' | 'fsync' {
  const call = error instanceof Error && 'syscall' in error ? String(error.syscall) : '';
  return call.endsWith('sync') ? 'fsync' : 'write';
}

function describe(error: unknown): WriterError {
  return { code: systemErrorCode(error), message: errorText(error) };
}

function reply(message: WriterReply): void {
  port?.postMessage(message);
}
