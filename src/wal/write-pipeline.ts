// What is on its way to the disk, and how far has it come? WAL of one timeline that was taken in is made into jobs for the
// writer thread, one at a time; what arrived during the last one is the next (group commit). Lack of space at a write is
// waited out here; every other error goes to the owner.
import type { Clock, Timer } from '../base/clock.ts';
import { invariant } from '../base/errors.ts';
import type { OperationalError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatLsn, lsnDistance, maxLsn, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { ChainPosition } from './records/record-chain.ts';
import type { StoreCounters } from './store-counters.ts';
import { WalWriter } from './wal-writer.ts';
import type { WriterListener } from './wal-writer.ts';
import { cutJobs, JOB_BYTES } from './write-job.ts';
import type { WriteJob } from './write-job.ts';
import type { WriterError, WriterSetup } from './writer-messages.ts';

/** Whose WAL is written. Calls come from the event loop. */
export interface WritePipelineOwner {
  /** [startLsn, endLsn), which was appended and is not durable yet, as views. Null: a bug. */
  chunks(startLsn: Lsn, endLsn: Lsn): readonly Uint8Array[] | null;
  /** What counts, of everything appended so far, once it is written (`receivedLsn`) and flushed (`chain`). */
  mark(): { readonly receivedLsn: Lsn; readonly chain: ChainPosition };
  /** The kernel has everything that `receivedLsn` stands for. */
  onWritten(receivedLsn: Lsn): void;
  /** It is on the disk, with the names of its files, up to `chain`. */
  onFlushed(chain: ChainPosition): void;
  /** Before a write that met no space is tried again: what is not needed can be removed. */
  onSpaceWanted(): void;
  /** Nothing more will be durable. */
  onFailed(during: 'open' | 'write' | 'fsync', error: OperationalError): void;
}

/** How a pipeline is made. */
export interface WritePipelineOptions {
  readonly setup: WriterSetup;
  readonly timeline: TimelineId;
  /** Everything before it is on the disk. */
  readonly startLsn: Lsn;
  readonly noSpaceRetryMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly counters: StoreCounters;
}

/** Writes the WAL of one timeline, in order, from `startLsn` on. */
export class WritePipeline implements WriterListener {
  readonly #options: WritePipelineOptions;
  readonly #owner: WritePipelineOwner;
  readonly #writer: WalWriter;
  /** End of the bytes taken in, of those in the files, of those on the disk. */
  #appendedLsn: Lsn;
  #inFilesLsn: Lsn;
  #durableLsn: Lsn;
  #job: WriteJob | null = null;
  /** Full jobs that wait behind it, oldest first; what came after them is no job yet. */
  #fullJobs: WriteJob[] = [];
  /** Where that begins. */
  #openJobLsn: Lsn;
  #noSpaceTimer: Timer | null = null;
  #hasNoSpace = false;
  #isOver = false;
  #idleWaiters: Array<() => void> = [];

  /** Starts the writer thread. */
  constructor(options: WritePipelineOptions, owner: WritePipelineOwner) {
    this.#options = options;
    this.#owner = owner;
    this.#appendedLsn = options.startLsn;
    this.#inFilesLsn = options.startLsn;
    this.#durableLsn = options.startLsn;
    this.#openJobLsn = options.startLsn;
    this.#writer = new WalWriter(options.setup, this);
  }

  /** End (exclusive) of what is in the files. */
  get inFilesLsn(): Lsn {
    return this.#inFilesLsn;
  }

  /** End (exclusive) of what is on the disk: not a record end. */
  get durableLsn(): Lsn {
    return this.#durableLsn;
  }

  /** A write met no space, and none succeeded since. */
  get hasNoSpace(): boolean {
    return this.#hasNoSpace;
  }

  /** Bytes that are in memory only. */
  unflushedBytes(): number {
    return lsnDistance(this.#durableLsn, this.#appendedLsn);
  }

  /** Everything up to `endLsn` was appended, and {@link WritePipelineOwner.mark} says what it stands for. */
  extend(endLsn: Lsn): void {
    this.#appendedLsn = endLsn;
    if (lsnDistance(this.#openJobLsn, endLsn) >= JOB_BYTES) this.#fullJobs.push(this.#closeJob());
    this.#writeNext();
  }

  /** What was appended from `lsn` on is taken back. */
  rewind(lsn: Lsn): void {
    this.#appendedLsn = minLsn(this.#appendedLsn, lsn);
    this.#inFilesLsn = minLsn(this.#inFilesLsn, lsn);
    this.#durableLsn = minLsn(this.#durableLsn, lsn);
    this.#openJobLsn = minLsn(this.#openJobLsn, lsn);
    this.#fullJobs = this.#fullJobs.filter((job) => job.startLsn < lsn);
    cutJobs(this.#job === null ? this.#fullJobs : [this.#job, ...this.#fullJobs], lsn);
  }

  /** Offers the file of a segment that nobody needs any more, see {@link WalWriter.recycle}. */
  async recycle(path: string): Promise<boolean> {
    return await this.#writer.recycle(path);
  }

  /** Resolves when nothing is under way: everything is on the disk, or there is no space, or it is over. */
  async idle(): Promise<void> {
    while (this.#job !== null && !this.#isOver) {
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
    }
  }

  /** Ends the writer thread when it is idle. Resolves with whether everything appended is on the disk. */
  async close(): Promise<boolean> {
    this.#noSpaceTimer?.cancel();
    await this.idle();
    if (this.#isOver) this.#writer.leave();
    else await this.#writer.close();
    return !this.#isOver && this.#durableLsn === this.#appendedLsn;
  }

  /** Nothing is written, flushed or told any more, and nobody waits for what is under way. The thread ends at {@link close}. */
  stop(): void {
    this.#isOver = true;
    this.#noSpaceTimer?.cancel();
    this.#wakeIdleWaiters();
  }

  /** Ends the thread without waiting for what is under way. */
  leave(): void {
    this.stop();
    this.#writer.leave();
  }

  // --- the writer's side

  onWritten(seconds: number): void {
    const job = this.#job;
    if (job === null || this.#isOver) return;
    this.#options.counters.writeDuration.observe(seconds);
    this.#inFilesLsn = maxLsn(this.#inFilesLsn, job.endLsn);
    this.#owner.onWritten(job.receivedLsn);
  }

  onFlushed(seconds: number): void {
    const job = this.#job;
    this.#job = null;
    if (job === null || this.#isOver) return;
    this.#options.counters.flushDuration.observe(seconds);
    this.#durableLsn = maxLsn(this.#durableLsn, job.endLsn);
    if (this.#hasNoSpace) this.#leaveNoSpace();
    this.#owner.onFlushed(job.chain);
    this.#writeNext();
    if (this.#job === null || this.#isOver) this.#wakeIdleWaiters();
  }

  onNoSpace(error: WriterError): void {
    const { counters, log, clock, noSpaceRetryMs } = this.#options;
    const job = this.#job;
    this.#job = null;
    if (job === null || this.#isOver) return;
    counters.countError('write');
    // Rewound meanwhile, nothing of it may be left.
    if (job.startLsn < job.endLsn) this.#fullJobs.unshift(job);
    if (!this.#hasNoSpace) {
      const isFull = error.code !== 'EMFILE' && error.code !== 'ENFILE';
      const what = isFull ? 'space' : 'file descriptor';
      log.error(`no ${what} for WAL: the upstream is not read until there is some`, {
        lsn: formatLsn(job.startLsn),
        error: error.message,
        next: `${isFull ? 'free space in storage.directory' : 'raise the limit (LimitNOFILE=, ulimit -n)'}; walcast goes on by itself`,
      });
    }
    this.#hasNoSpace = true;
    this.#wakeIdleWaiters();
    this.#noSpaceTimer = clock.setTimer(noSpaceRetryMs, () => {
      this.#noSpaceTimer = null;
      // A slot may have moved on, or the window have become smaller.
      this.#owner.onSpaceWanted();
      this.#writeNext();
    });
  }

  onFailed(during: 'open' | 'write' | 'fsync', error: OperationalError): void {
    this.#owner.onFailed(during, error);
  }

  // --- inside

  #writeNext(): void {
    if (this.#job !== null || this.#writer.isBusy || this.#isOver) return;
    if (this.#noSpaceTimer !== null) return;
    const job = this.#fullJobs.shift() ?? this.#closeJob();
    if (job.startLsn === job.endLsn) return;
    const chunks = this.#owner.chunks(job.startLsn, job.endLsn);
    invariant(chunks !== null, `unwritten WAL at ${formatLsn(job.startLsn)} is not in memory`);
    this.#job = job;
    this.#writer.write(this.#options.timeline, job.startLsn, chunks);
  }

  /** Makes a job of everything that is in none yet. */
  #closeJob(): WriteJob {
    const startLsn = this.#openJobLsn;
    this.#openJobLsn = this.#appendedLsn;
    return { startLsn, endLsn: this.#appendedLsn, ...this.#owner.mark() };
  }

  #leaveNoSpace(): void {
    this.#hasNoSpace = false;
    this.#options.log.info('there is space for WAL again', { lsn: formatLsn(this.#durableLsn) });
  }

  #wakeIdleWaiters(): void {
    for (const wake of this.#idleWaiters.splice(0)) wake();
  }
}
