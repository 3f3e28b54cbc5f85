// The WAL of one timeline as it streams: checked, kept in memory, written, flushed, read back, removed. Everything the
// store does once it knows whose WAL it holds; its positions are those of the table of ends:
//
//   received R   end of what was checked and may count: message ends, or record ends with `verify: record`
//   written  W   of that, what the kernel has
//   flushed  F   the last record end before which everything is on the disk, names of files included
//
// Bytes behind R (a record that is not whole yet, with `verify: record`) are in memory and in the files all the same.
// When a check fails, everything behind the last record end is taken back and fetched again: R and W fall, F never does.
// With `verify: page` records in mid-message are not summed: recovery does, and may cut below the F of before the restart.
import type { Timer } from '../base/clock.ts';
import { errorText, invariant, OperationalError, systemErrorCode } from '../base/errors.ts';
import { advanceLsn, formatLsn, INVALID_LSN, lsnDistance, maxLsn, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentNumber, walFileName } from '../pg/segment.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { StoreStatus } from '../status/status.ts';
import { AdvanceSignal } from './advance-signal.ts';
import type { ControlKeeper } from './control-keeper.ts';
import { walDirectory } from './data-directory.ts';
import { chainStart } from './records/record-chain.ts';
import type { ChainPosition } from './records/record-chain.ts';
import { RecordWalk } from './records/record-walk.ts';
import type { WalkFailure } from './records/record-walk.ts';
import { SegmentRemoval } from './segment-removal.ts';
import { StoreCounters } from './store-counters.ts';
import { STORE_LIMITS } from './store-options.ts';
import type {
  StoredIdentity,
  StoreLimits,
  StorePositions,
  WalStoreOptions,
} from './store-options.ts';
import { storeStatus } from './store-status.ts';
import { Tail } from './tail.ts';
import { WalReader } from './wal-reader.ts';
import type { StoredReadFailure } from './wal-reader.ts';
import { WalWriter } from './wal-writer.ts';
import type { WriterListener } from './wal-writer.ts';
import { cutJobs, JOB_BYTES } from './write-job.ts';
import type { WriteJob } from './write-job.ts';
import type { WriterError } from './writer-messages.ts';

/** Where a live WAL begins: at the start, R = W = F. */
export interface LiveWalStart {
  readonly identity: StoredIdentity;
  readonly end: ChainPosition;
  readonly oldestLsn: Lsn;
}

export class LiveWal implements WriterListener {
  readonly #options: WalStoreOptions;
  readonly #limits: StoreLimits;
  readonly #control: ControlKeeper;
  readonly #timeline: TimelineId;
  readonly #segmentSize: StoredIdentity['segmentSize'];
  readonly #walk: RecordWalk;
  readonly #tail: Tail;
  readonly #writer: WalWriter;
  readonly #reader: WalReader;
  readonly #removal: SegmentRemoval;
  readonly #counters = new StoreCounters();
  readonly #advance = new AdvanceSignal();
  readonly #onFlush = new Set<() => void>();

  /** End of the bytes taken in, of those in the files, of those on the disk. */
  #appendedLsn: Lsn;
  #inFilesLsn: Lsn;
  #durableLsn: Lsn;
  #receivedLsn: Lsn;
  #writtenLsn: Lsn;
  #flushed: ChainPosition;

  #job: WriteJob | null = null;
  /** Full jobs that wait behind it, oldest first; what came after them is no job yet. */
  #fullJobs: WriteJob[] = [];
  /** Where that begins. */
  #openJobLsn: Lsn;
  #noSpaceTimer: Timer | null = null;
  #hasNoSpace = false;
  #hasFailed = false;
  /** With `verify: off`: the chain of records is lost, and no position can be a record end any more. */
  #isWalkLost = false;
  #isHeld = false;
  #onRoom: () => void = () => {};
  #onTakenBack: (lsn: Lsn) => void = () => {};
  #slotSource: (() => Lsn | null) | null = null;
  #idleWaiters: Array<() => void> = [];
  #lastViews: { startLsn: Lsn; endLsn: Lsn; views: readonly Uint8Array[] } | null = null;

  constructor(options: WalStoreOptions, control: ControlKeeper, start: LiveWalStart) {
    const { identity, end } = start;
    const directory = walDirectory(options.directory);
    this.#options = options;
    this.#limits = options.limits ?? STORE_LIMITS;
    this.#control = control;
    this.#timeline = identity.timeline;
    this.#segmentSize = identity.segmentSize;
    this.#walk = new RecordWalk({ ...identity, checksums: options.verify === 'record' }, end);
    this.#tail = new Tail(end.lsn, this.#limits.tailBytesMax);
    this.#appendedLsn = end.lsn;
    this.#inFilesLsn = end.lsn;
    this.#durableLsn = end.lsn;
    this.#openJobLsn = end.lsn;
    this.#receivedLsn = end.lsn;
    this.#writtenLsn = end.lsn;
    this.#flushed = end;
    this.#removal = new SegmentRemoval({
      directory,
      segmentSize: identity.segmentSize,
      timeline: identity.timeline,
      oldestLsn: start.oldestLsn,
      log: options.log,
      onRemove: (walFile) => this.#reader.forget(walFile),
      onRemovable: (path) => this.#writer.recycle(path),
      onError: () => this.#counters.countError('remove'),
    });
    this.#reader = new WalReader({
      directory,
      origin: identity,
      oldestLsn: () => this.#removal.oldestLsn,
      writtenLsn: () => this.#inFilesLsn,
      readsMax: this.#limits.readsMax,
      openFilesMax: this.#limits.openFilesMax,
    });
    this.#writer = new WalWriter({ directory, segmentSize: identity.segmentSize }, this);
  }

  // --- taking in

  get nextLsn(): Lsn {
    return this.#appendedLsn;
  }

  append(startLsn: Lsn, data: Uint8Array): WalkFailure | null {
    if (this.#hasFailed) return { lsn: startLsn, reason: 'the WAL store has failed' };
    if (startLsn !== this.#appendedLsn) {
      this.#counters.rejectedFromUpstream++;
      const expected = formatLsn(this.#appendedLsn);
      return {
        lsn: startLsn,
        reason: `WAL begins at ${formatLsn(startLsn)}, expected ${expected}`,
      };
    }
    const failure = this.#isWalkLost ? null : this.#walk.push(data);
    if (failure !== null && !this.#isTolerated(failure)) {
      this.#counters.rejectedFromUpstream++;
      this.#rewind();
      return failure;
    }
    this.#tail.append(data);
    this.#appendedLsn = advanceLsn(startLsn, data.length);
    const isWhole = this.#options.verify !== 'record';
    this.#setReceived(isWhole ? this.#appendedLsn : this.#walk.recordEnd());
    if (lsnDistance(this.#openJobLsn, this.#appendedLsn) >= JOB_BYTES) {
      this.#fullJobs.push(this.#closeJob());
    }
    this.#writeNext();
    return null;
  }

  isFull(): boolean {
    const isFull =
      this.#hasFailed ||
      this.#hasNoSpace ||
      this.#unflushedBytes() >= this.#limits.unflushedBytesMax;
    if (isFull) this.#isHeld = true;
    return isFull;
  }

  onRoom(listener: () => void): void {
    this.#onRoom = listener;
  }

  // --- giving out

  get timeline(): TimelineId {
    return this.#timeline;
  }

  get sendableLsn(): Lsn {
    return this.#options.forward === 'flushed' ? this.#flushed.lsn : this.#receivedLsn;
  }

  get oldestLsn(): Lsn {
    return this.#removal.oldestLsn;
  }

  get redoLsn(): Lsn {
    return this.#walk.redoLsn();
  }

  fromMemory(startLsn: Lsn, endLsn: Lsn): readonly Uint8Array[] | null {
    const last = this.#lastViews;
    // A thousand standbys that have caught up ask for the same range one after the other.
    const isSame = last !== null && last.startLsn === startLsn && last.endLsn === endLsn;
    const views = isSame ? last.views : this.#tail.views(startLsn, endLsn);
    if (views === null) return null;
    if (!isSame) this.#lastViews = { startLsn, endLsn, views };
    this.#counters.readFromMemoryBytes += lsnDistance(startLsn, endLsn);
    return views;
  }

  async fromFiles(
    timeline: TimelineId,
    startLsn: Lsn,
    endLsn: Lsn,
  ): Promise<Uint8Array | StoredReadFailure> {
    // What is not in the files yet is surely in memory; it must be taken now, because it may leave while we read.
    const filesEnd = maxLsn(startLsn, minLsn(endLsn, this.#inFilesLsn));
    const rest = filesEnd < endLsn ? this.#tail.views(filesEnd, endLsn) : [];
    if (rest === null) return this.#beyondEnd(startLsn, endLsn);
    const read = await this.#reader.read(timeline, startLsn, filesEnd);
    if (read instanceof Uint8Array) {
      this.#counters.readFromDiskBytes += read.length;
      return rest.length === 0 ? read : Buffer.concat([read, ...rest]);
    }
    if (read.kind === 'damaged') {
      this.#counters.rejectedFromDisk++;
      this.#counters.countError('read');
      const fields = { file: read.walFileName, lsn: formatLsn(read.lsn), reason: read.reason };
      this.#options.log.error('stored WAL is damaged', fields);
    }
    return read;
  }

  onAdvance(listener: () => void): () => void {
    return this.#advance.listen(listener);
  }

  /** Sets the one listener that is called when the sendable end fell, with where it is now, before anything else runs. */
  onTakenBack(listener: (lsn: Lsn) => void): void {
    this.#onTakenBack = listener;
  }

  // --- positions

  positions(): StorePositions {
    return {
      receivedLsn: this.#receivedLsn,
      writtenLsn: this.#writtenLsn,
      flushedLsn: this.#flushed.lsn,
    };
  }

  onFlush(listener: () => void): void {
    this.#onFlush.add(listener);
  }

  /** True when the record that ends at F is a CHECKPOINT_SHUTDOWN. */
  lastRecordIsShutdownCheckpoint(): boolean {
    return this.#flushed.isShutdownCheckpoint;
  }

  status(): StoreStatus {
    return storeStatus({
      timeline: this.#timeline,
      segmentSize: this.#segmentSize,
      oldestLsn: this.#removal.oldestLsn,
      inFilesLsn: this.#inFilesLsn,
      positions: this.positions(),
      segmentsRemoved: this.#removal.removed,
      tailBytes: this.#tail.byteLength,
      tailBytesMax: this.#limits.tailBytesMax,
      counters: this.#counters,
    });
  }

  // --- retention

  setRetention(minimumSlotLsn: () => Lsn | null): void {
    this.#slotSource = minimumSlotLsn;
    this.#removeUnneeded();
  }

  removeOldSegments(minimumSlotLsn: Lsn | null): void {
    const kept = BigInt(this.#options.walKeepSizeBytes);
    const windowStart =
      kept < this.#writtenLsn ? advanceLsn(this.#writtenLsn, -Number(kept)) : INVALID_LSN;
    const mark = this.#control.saved?.durableMark.lsn ?? INVALID_LSN;
    const keepLsn = minLsn(windowStart, minLsn(mark, this.#flushed.lsn));
    this.#removal.removeBefore(minimumSlotLsn === null ? keepLsn : minLsn(keepLsn, minimumSlotLsn));
  }

  // --- the end

  /** Flushes everything that can be flushed, and ends the writer. Resolves with whether all of it is on the disk. */
  async close(): Promise<boolean> {
    this.#noSpaceTimer?.cancel();
    while (this.#isWriting()) await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
    if (this.#hasFailed) this.#writer.leave();
    else await this.#writer.close();
    await this.#removal.settle();
    this.#reader.close();
    return !this.#hasFailed && this.#durableLsn === this.#appendedLsn;
  }

  /** The disk does not answer and nobody waits for it any longer: as after a failure, but nobody is told. */
  leave(): void {
    this.#hasFailed = true;
    this.#noSpaceTimer?.cancel();
    this.#writer.leave();
    this.#wakeIdleWaiters();
  }

  get flushedChain(): ChainPosition {
    return this.#flushed;
  }

  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  /** Nothing counts as durable from now on. */
  fail(during: 'open' | 'write' | 'fsync', error: unknown): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#counters.countError(during);
    const failure =
      error instanceof OperationalError
        ? error
        : new OperationalError('STORE_FAILED', `the WAL store failed: ${errorText(error)}`, {
            hint: 'Look at the disk and the kernel log, then start walcast again.',
            cause: error,
          });
    this.#options.log.error(failure.message, { code: systemErrorCode(error) });
    this.#wakeIdleWaiters();
    this.#options.onFatal(failure);
  }

  // --- the writer's side

  onWritten(seconds: number): void {
    const job = this.#job;
    if (job === null || this.#hasFailed) return;
    this.#counters.writeDuration.observe(seconds);
    if (job.endLsn > this.#inFilesLsn) this.#inFilesLsn = job.endLsn;
    if (job.receivedLsn <= this.#writtenLsn) return;
    this.#writtenLsn = job.receivedLsn;
    for (const listener of this.#onFlush) listener();
  }

  onFlushed(seconds: number): void {
    const job = this.#job;
    this.#job = null;
    if (job === null || this.#hasFailed) return;
    this.#counters.flushDuration.observe(seconds);
    this.#durableLsn = maxLsn(this.#durableLsn, job.endLsn);
    if (this.#hasNoSpace) this.#leaveNoSpace();
    if (job.chain.lsn > this.#flushed.lsn) this.#setFlushed(job.chain);
    this.#tail.trim(this.#durableLsn);
    this.#writeNext();
    if (!this.#isWriting()) this.#wakeIdleWaiters();
    this.#offerRoom();
  }

  onNoSpace(error: WriterError): void {
    const job = this.#job;
    this.#job = null;
    if (job === null || this.#hasFailed) return;
    this.#counters.countError('write');
    // Rewound meanwhile, nothing of it may be left.
    if (job.startLsn < job.endLsn) this.#fullJobs.unshift(job);
    if (!this.#hasNoSpace) {
      this.#options.log.error('no space for WAL: the upstream is not read until there is some', {
        lsn: formatLsn(job.startLsn),
        error: error.message,
        next: 'free space in storage.directory; walcast goes on by itself',
      });
    }
    this.#hasNoSpace = true;
    this.#wakeIdleWaiters();
    this.#noSpaceTimer = this.#options.clock.setTimer(this.#limits.noSpaceRetryMs, () => {
      this.#noSpaceTimer = null;
      // A slot may have moved on, or the window have become smaller.
      this.#removeUnneeded();
      this.#writeNext();
    });
  }

  onFailed(during: 'open' | 'write' | 'fsync', error: OperationalError): void {
    this.fail(during, error);
  }

  // --- inside

  #writeNext(): void {
    if (this.#job !== null || this.#writer.isBusy || this.#hasFailed) return;
    if (this.#noSpaceTimer !== null) return;
    const job = this.#fullJobs.shift() ?? this.#closeJob();
    if (job.startLsn === job.endLsn) return;
    const chunks = this.#tail.views(job.startLsn, job.endLsn);
    invariant(chunks !== null, `unwritten WAL at ${formatLsn(job.startLsn)} is not in memory`);
    this.#job = job;
    this.#writer.write(this.#timeline, job.startLsn, chunks);
  }

  /** Makes a job of everything that is in none yet. */
  #closeJob(): WriteJob {
    const startLsn = this.#openJobLsn;
    this.#openJobLsn = this.#appendedLsn;
    return {
      startLsn,
      endLsn: this.#appendedLsn,
      receivedLsn: this.#receivedLsn,
      chain: this.#isWalkLost ? this.#uncheckedEnd() : this.#walk.position(),
    };
  }

  #uncheckedEnd(): ChainPosition {
    return { ...chainStart(this.#appendedLsn), redoLsn: this.#walk.redoLsn() };
  }

  /** With `verify: off` the first failure is said aloud, and the last. */
  #isTolerated(failure: WalkFailure): boolean {
    if (this.#options.verify !== 'off') return false;
    this.#isWalkLost = true;
    this.#options.log.error('WAL does not hold together, and is taken as it is (verify: off)', {
      lsn: formatLsn(failure.lsn),
      reason: failure.reason,
    });
    return true;
  }

  /** Takes back what lies behind the last record end; the upstream is asked for it again. */
  #rewind(): void {
    const lsn = this.#walk.recordEnd();
    const sendableLsn = this.sendableLsn;
    this.#tail.rewind(lsn);
    this.#lastViews = null;
    this.#appendedLsn = lsn;
    this.#inFilesLsn = minLsn(this.#inFilesLsn, lsn);
    this.#durableLsn = minLsn(this.#durableLsn, lsn);
    this.#openJobLsn = minLsn(this.#openJobLsn, lsn);
    this.#receivedLsn = minLsn(this.#receivedLsn, lsn);
    this.#writtenLsn = minLsn(this.#writtenLsn, lsn);
    this.#fullJobs = this.#fullJobs.filter((job) => job.startLsn < lsn);
    cutJobs(this.#job === null ? this.#fullJobs : [this.#job, ...this.#fullJobs], lsn);
    if (this.sendableLsn < sendableLsn) this.#onTakenBack(this.sendableLsn);
  }

  /** Taken back since it was offered, most likely: who asks has to look again, and nobody else is harmed. */
  #beyondEnd(startLsn: Lsn, endLsn: Lsn): StoredReadFailure {
    const lsn = maxLsn(startLsn, this.#appendedLsn);
    const segment = segmentNumber(lsn, this.#segmentSize);
    return {
      kind: 'damaged',
      walFileName: walFileName(this.#timeline, segment, this.#segmentSize),
      lsn,
      reason: `WAL up to ${formatLsn(endLsn)} was asked for, the store ends at ${formatLsn(this.#appendedLsn)}`,
    };
  }

  #setReceived(lsn: Lsn): void {
    if (lsn <= this.#receivedLsn) return;
    this.#receivedLsn = lsn;
    if (this.#options.forward === 'received') this.#advance.raise();
  }

  #setFlushed(chain: ChainPosition): void {
    const size = this.#segmentSize;
    this.#flushed = chain;
    const markLsn = this.#control.state.durableMark.lsn;
    if (segmentNumber(chain.lsn, size) === segmentNumber(markLsn, size)) {
      this.#control.change({ durableMark: chain });
    } else {
      this.#control.changeSoon({ durableMark: chain });
      this.#removeUnneeded();
    }
    if (this.#options.forward === 'flushed') this.#advance.raise();
    for (const listener of this.#onFlush) listener();
  }

  #removeUnneeded(): void {
    if (this.#slotSource !== null) this.removeOldSegments(this.#slotSource());
  }

  #leaveNoSpace(): void {
    this.#hasNoSpace = false;
    this.#options.log.info('there is space for WAL again', { lsn: formatLsn(this.#durableLsn) });
  }

  #offerRoom(): void {
    if (!this.#isHeld || this.#hasNoSpace) return;
    if (this.#unflushedBytes() > this.#limits.unflushedBytesMax / 2) return;
    this.#isHeld = false;
    this.#onRoom();
  }

  #unflushedBytes(): number {
    return lsnDistance(this.#durableLsn, this.#appendedLsn);
  }

  #isWriting(): boolean {
    return this.#job !== null && !this.#hasFailed;
  }

  #wakeIdleWaiters(): void {
    for (const wake of this.#idleWaiters.splice(0)) wake();
  }
}
