// Who asks the writer thread to write? This end of it, in the main thread: one job at a time; what arrives meanwhile goes
// into the next (group commit, without a timer).
import { Worker } from 'node:worker_threads';
import { isGroupLetRead } from '../base/durable-fs.ts';
import { OperationalError } from '../base/errors.ts';
import { registerThread } from '../base/kernel-work.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { RecycledSegments } from './recycled-segments.ts';
import { workerModule } from './worker-module.ts';
import type {
  WriterError,
  WriterReply,
  WriterRequest,
  WriterSetup,
  WriterThreadSetup,
} from './writer-messages.ts';

/** Told what became of the job. */
export interface WriterListener {
  /** The kernel has the bytes. */
  onWritten(seconds: number): void;
  /** They are on the disk, with the names of their files. The writer takes the next job. */
  onFlushed(seconds: number): void;
  /** There was no space: the same job may be given again, later. */
  onNoSpace(error: WriterError): void;
  /** The writer is over. Nothing that was not reported flushed may be taken for durable, now or later. */
  onFailed(during: 'open' | 'write' | 'fsync', error: OperationalError): void;
}

/**
 * Bytes of shared memory for jobs, made once: a job is copied into it, because memory that is shared anew for each job is
 * freed only when both threads happen to collect garbage. A larger job makes it grow.
 */
const STAGING_BYTES = 8 << 20;

/** The writer thread. */
export class WalWriter {
  readonly #worker: Worker;
  readonly #listener: WriterListener;
  readonly #directory: string;
  readonly #ended: Promise<void>;
  readonly #recycled: RecycledSegments;
  #staging: Uint8Array = new Uint8Array(new SharedArrayBuffer(STAGING_BYTES));
  #isBusy = false;
  #isClosing = false;
  #isOver = false;

  /** Starts the thread. */
  constructor(setup: WriterSetup, listener: WriterListener) {
    this.#listener = listener;
    this.#directory = setup.directory;
    this.#recycled = new RecycledSegments({
      segmentSize: setup.segmentSize,
      offer: (path) => this.#offer(path),
    });
    this.#worker = new Worker(workerModule(import.meta.url, 'writer-thread'), {
      workerData: { ...setup, isGroupReading: isGroupLetRead() } satisfies WriterThreadSetup,
      name: 'wal-writer',
      // Flags of the process (an inspector, a loader, code to evaluate) are not meant for this thread.
      execArgv: [],
    });
    this.#worker.on('message', (reply: WriterReply) => this.#onReply(reply));
    this.#worker.on('error', (error) => this.#fail('open', { code: null, message: error.message }));
    const unregister = registerThread({
      terminate: () => {
        this.#isClosing = true;
        return this.#worker.terminate();
      },
    });
    this.#ended = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        unregister();
        if (!this.#isClosing) this.#fail('open', { code: null, message: 'the thread ended' });
        resolve();
      });
    });
  }

  /** True while a job is under way, and for ever after the writer failed. */
  get isBusy(): boolean {
    return this.#isBusy || this.#isClosing || this.#isOver;
  }

  /** Writes and flushes `chunks`, the WAL from `startLsn` on. Only while not busy. The chunks are copied. */
  write(timeline: TimelineId, startLsn: Lsn, chunks: readonly Uint8Array[]): void {
    this.#isBusy = true;
    this.#post({ kind: 'write', timeline, startLsn, bytes: this.#stage(chunks) });
  }

  /**
   * Takes the file of a segment that nobody needs any more, to make a future one of it. False when it has to be removed
   * instead ({@link RecycledSegments.take}). Never rejects.
   */
  async recycle(path: string): Promise<boolean> {
    return await this.#recycled.take(path);
  }

  /** Ends the thread; what is under way is finished first. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#post({ kind: 'close' });
    await this.#ended;
  }

  /** Ends the thread without waiting for what is under way. A call that hangs in the kernel goes on hanging there. */
  leave(): void {
    this.#isClosing = true;
    this.#worker.unref();
    void this.#worker.terminate();
  }

  #stage(chunks: readonly Uint8Array[]): Uint8Array {
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    if (length > this.#staging.length) {
      this.#staging = new Uint8Array(new SharedArrayBuffer(length));
    }
    let at = 0;
    for (const chunk of chunks) {
      this.#staging.set(chunk, at);
      at += chunk.length;
    }
    return this.#staging.subarray(0, length);
  }

  #offer(path: string): boolean {
    if (this.#isClosing || this.#isOver) return false;
    this.#post({ kind: 'recycle', path });
    return true;
  }

  #post(request: WriterRequest): void {
    this.#worker.postMessage(request);
  }

  #onReply(reply: WriterReply): void {
    switch (reply.kind) {
      case 'written':
        this.#listener.onWritten(reply.seconds);
        break;
      case 'flushed':
        this.#isBusy = false;
        this.#listener.onFlushed(reply.seconds);
        break;
      case 'recycled':
        this.#recycled.used();
        break;
      case 'no-space':
        this.#isBusy = false;
        this.#listener.onNoSpace(reply.error);
        break;
      case 'failed':
        this.#fail(reply.during, reply.error);
    }
  }

  #fail(during: 'open' | 'write' | 'fsync', error: WriterError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#listener.onFailed(
      during,
      new OperationalError(
        'WAL_WRITE_FAILED',
        `WAL could not be made durable in "${this.#directory}": ${during} failed: ${error.message}`,
        {
          hint:
            'Nothing more is acknowledged, and fsync is never tried twice: after a failure the kernel may have dropped ' +
            'the bytes. Look at the disk and the kernel log, then start walcast again; it fetches what is missing.',
        },
      ),
    );
  }
}
