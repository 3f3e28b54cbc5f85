// What does the writer thread do with a request? Writes, flushes, makes the next segment ahead. Every call blocks, so it
// belongs into a thread of its own (writer-thread.ts); a simulation runs it beside a disk of its own making.
import { rmSync } from 'node:fs';
import { systemClock } from '../base/clock.ts';
import { errorText, systemErrorCode } from '../base/errors.ts';
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

type WriteRequest = Extract<WriterRequest, { kind: 'write' }>;

/** Where replies go. */
export interface WriterPort {
  reply(message: WriterReply): void;
  /** The last word was said, and no request will be answered any more. */
  close(): void;
}

/** The writer of one directory. Requests come one at a time. */
export class WriterLoop {
  readonly #setup: WriterSetup;
  readonly #port: WriterPort;
  /** Files given to us to make segments of, oldest first. */
  readonly #recycled: string[] = [];
  readonly #writer: SegmentWriter;
  readonly #preparation: SegmentPreparation;
  /** After a failure nothing is written or flushed any more, and nothing said. */
  #hasFailed = false;

  constructor(setup: WriterSetup, port: WriterPort) {
    this.#setup = setup;
    this.#port = port;
    const place: SegmentPlace = {
      directory: setup.directory,
      size: setup.segmentSize,
      takeRecycled: () => this.#takeRecycled(),
    };
    this.#writer = new SegmentWriter(place);
    this.#preparation = new SegmentPreparation(place, (error) => this.#fail(error));
  }

  /** Carries out one request, and answers it through the port. Never rejects. */
  async handle(request: WriterRequest): Promise<void> {
    switch (request.kind) {
      case 'recycle':
        this.#recycled.push(request.path);
        return;
      case 'close':
        await this.#end();
        return;
      case 'write':
        await this.#write(request);
    }
  }

  async #write(request: WriteRequest): Promise<void> {
    try {
      if (this.#needsPreparation(request)) await this.#preparation.settle();
      if (this.#hasFailed) return;
      const start = systemClock.nowMs();
      this.#writer.write(request.timeline, request.startLsn, request.bytes);
      const written = systemClock.nowMs();
      this.#port.reply({ kind: 'written', seconds: (written - start) / 1000 });
      this.#writer.flush();
      this.#port.reply({ kind: 'flushed', seconds: (systemClock.nowMs() - written) / 1000 });
      this.#prepareNext(request);
    } catch (error) {
      if (error instanceof NoSpace) {
        this.#port.reply({ kind: 'no-space', error: describe(error.cause) });
      } else this.#fail(error);
    }
  }

  async #end(): Promise<void> {
    await this.#preparation.settle();
    try {
      this.#writer.close();
    } catch (error) {
      this.#fail(error);
    }
    for (const path of this.#recycled) rmSync(path, { force: true });
    this.#port.close();
  }

  #takeRecycled(): string | null {
    const path = this.#recycled.shift();
    if (path === undefined) return null;
    this.#port.reply({ kind: 'recycled' });
    return path;
  }

  #fail(error: unknown): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#port.reply({ kind: 'failed', during: stepOf(error), error: describe(error) });
  }

  #needsPreparation(request: WriteRequest): boolean {
    const { segmentSize } = this.#setup;
    const last = segmentNumberBefore(endOf(request), segmentSize);
    let segment = segmentNumber(request.startLsn, segmentSize);
    for (; segment <= last; segment = nextSegment(segment)) {
      const name = walFileName(request.timeline, segment, segmentSize);
      if (this.#preparation.isMaking(name)) return true;
    }
    return false;
  }

  /** Past half of a segment the next one is made, so that crossing over costs no commit the time to fill it with zeros. */
  #prepareNext(request: WriteRequest): void {
    const { segmentSize } = this.#setup;
    const endLsn = endOf(request);
    if (segmentOffset(endLsn, segmentSize) < segmentSize / 2) return;
    const next = nextSegment(segmentNumber(endLsn, segmentSize));
    this.#preparation.begin(walFileName(request.timeline, next, segmentSize));
  }
}

function endOf(request: WriteRequest): Lsn {
  return advanceLsn(request.startLsn, request.bytes.length);
}

/** A segment that is left behind is flushed amid a write, so only the system call tells. */
function stepOf(error: unknown): 'write' | 'fsync' {
  const call = error instanceof Error && 'syscall' in error ? String(error.syscall) : '';
  return call.endsWith('sync') ? 'fsync' : 'write';
}

function describe(error: unknown): WriterError {
  return { code: systemErrorCode(error), message: errorText(error) };
}
