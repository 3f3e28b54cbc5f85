// The WAL of one timeline as it streams: checked, kept in memory, written, flushed, read back. Everything the store does
// once it knows whose WAL it holds, up to a timeline switch: then a new one takes over at the switch point. Its positions
// are those of the table of ends:
//
//   received R   end of what was checked and may count: message ends, or record ends with `verify: record`
//   written  W   of that, what the kernel has
//   flushed  F   the last record end before which everything is on the disk, names of files included
//
// Bytes behind R (a record that is not whole yet, with `verify: record`) are in memory and in the files all the same.
// When a check fails, everything behind the last record end is taken back and fetched again: R and W fall, F never does.
// With `verify: page` records in mid-message are not summed: recovery does, and may cut below the F of before the restart.
import { errorText, OperationalError, systemErrorCode } from '../base/errors.ts';
import { advanceLsn, formatLsn, lsnDistance, maxLsn, minLsn, INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentNumber, walFileName } from '../pg/segment.ts';
import { switchPoint } from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { ControlKeeper } from './control-keeper.ts';
import { walDirectory } from './data-directory.ts';
import { liveWalk } from './live-walk.ts';
import type { ReceivedWalk } from './live-walk.ts';
import type { ChainPosition } from './records/record-chain.ts';
import type { WalkFailure } from './records/record-walk.ts';
import type { WalFacts } from './records/wal-facts.ts';
import type { SegmentRemoval } from './segment-removal.ts';
import type { StoreCounters } from './store-counters.ts';
import type { StoreListeners } from './store-listeners.ts';
import { STORE_LIMITS } from './store-options.ts';
import type {
  StoredIdentity,
  StoreLimits,
  StorePositions,
  WalRefusal,
  WalStoreOptions,
} from './store-options.ts';
import { storeStatus } from './store-status.ts';
import type { WalStatus } from './store-status.ts';
import { Tail } from './tail.ts';
import { WalReader } from './wal-reader.ts';
import type { StoredReadFailure, StoredReadLater } from './wal-reader.ts';
import { WritePipeline } from './write-pipeline.ts';
import type { WritePipelineOwner } from './write-pipeline.ts';

/** Where a live WAL begins: at the start, R = W = F. */
export interface LiveWalStart {
  readonly identity: StoredIdentity;
  readonly end: ChainPosition;
  /**
   * Stored WAL up to `end`, from a page start on: the upstream sends it once more, and it must be the same. Empty when
   * nothing is to be compared.
   */
  readonly overlap: Uint8Array;
}

/** What outlives the WAL of one timeline. Its functions are called from the event loop, at once. */
export interface LiveWalOwner {
  readonly control: ControlKeeper;
  readonly counters: StoreCounters;
  readonly removal: SegmentRemoval;
  readonly listeners: StoreListeners;
  /** F came into another segment, or space is wanted: what is not needed may go. */
  readonly onRemovalDue: () => void;
}

export class LiveWal implements WritePipelineOwner {
  readonly #options: WalStoreOptions;
  readonly #limits: StoreLimits;
  readonly #owner: LiveWalOwner;
  readonly #timeline: TimelineId;
  readonly #history: TimelineHistory;
  readonly #segmentSize: StoredIdentity['segmentSize'];
  readonly #walk: ReceivedWalk;
  readonly #tail: Tail;
  readonly #pipeline: WritePipeline;
  readonly #reader: WalReader;

  /** End of the bytes taken in. */
  #appendedLsn: Lsn;
  #receivedLsn: Lsn;
  #writtenLsn: Lsn;
  #flushed: ChainPosition;
  /** Where it began; below it nothing is taken back. */
  readonly #startLsn: Lsn;
  /** What the upstream sends once more was compared up to here: at most the start. */
  #comparedLsn: Lsn;

  #hasFailed = false;
  /** Nothing is taken in, because the timeline is about to be left. */
  #isStopped = false;
  #isHeld = false;
  #lastViews: { startLsn: Lsn; endLsn: Lsn; views: readonly Uint8Array[] } | null = null;

  constructor(options: WalStoreOptions, owner: LiveWalOwner, start: LiveWalStart) {
    const { identity, end, overlap } = start;
    const { segmentSize, timeline } = identity;
    const directory = walDirectory(options.directory);
    this.#options = options;
    this.#limits = options.limits ?? STORE_LIMITS;
    this.#owner = owner;
    this.#timeline = timeline;
    this.#history = identity.history;
    this.#segmentSize = segmentSize;
    this.#walk = liveWalk(options, identity, end);
    this.#startLsn = end.lsn;
    this.#comparedLsn = advanceLsn(end.lsn, -overlap.length);
    this.#tail = new Tail(this.#comparedLsn, this.#limits.tailBytesMax);
    this.#tail.append(overlap);
    this.#appendedLsn = end.lsn;
    this.#receivedLsn = end.lsn;
    this.#writtenLsn = end.lsn;
    this.#flushed = end;
    this.#reader = new WalReader({
      directory,
      origin: identity,
      oldestLsn: () => owner.removal.oldestLsn,
      writtenLsn: () => this.#pipeline.inFilesLsn,
      settledLsn: () => this.#flushed.lsn,
      readsMax: this.#limits.readsMax,
      openFilesMax: this.#limits.openFilesMax,
    });
    const { noSpaceRetryMs } = this.#limits;
    const { clock, log } = options;
    const { counters } = owner;
    this.#pipeline = new WritePipeline(
      {
        setup: { directory, segmentSize },
        timeline,
        startLsn: end.lsn,
        noSpaceRetryMs,
        clock,
        log,
        counters,
      },
      this,
    );
  }

  // --- taking in

  get nextLsn(): Lsn {
    return this.#comparedLsn < this.#startLsn ? this.#comparedLsn : this.#appendedLsn;
  }

  append(startLsn: Lsn, data: Uint8Array): WalRefusal | null {
    if (this.#hasFailed) return { lsn: startLsn, reason: 'the WAL store has failed' };
    if (this.#isStopped) return { lsn: startLsn, reason: 'the timeline is about to be left' };
    if (startLsn !== this.nextLsn) {
      this.#owner.counters.rejectedFromUpstream++;
      const expected = formatLsn(this.nextLsn);
      return {
        lsn: startLsn,
        reason: `WAL begins at ${formatLsn(startLsn)}, expected ${expected}`,
      };
    }
    if (startLsn < this.#startLsn) return this.#compareAndTake(data);
    return this.#take(data);
  }

  /** True while too much waits for the disk, or there is no space, also for a switch that was begun, or it has failed. */
  isFull(): boolean {
    const isFull =
      this.#hasFailed ||
      this.#isStopped ||
      this.#pipeline.hasNoSpace ||
      this.#pipeline.unflushedBytes() >= this.#limits.unflushedBytesMax;
    if (isFull) this.#isHeld = true;
    return isFull;
  }

  /** The end of the bytes taken in: behind R inside a record. */
  get appendedLsn(): Lsn {
    return this.#appendedLsn;
  }

  /** The chain at the last record end. With `verify: off` it may be lost: then at the end. */
  get chain(): ChainPosition {
    return this.#walk.position();
  }

  // --- giving out

  get timeline(): TimelineId {
    return this.#timeline;
  }

  get sendableLsn(): Lsn {
    return this.#options.forward === 'flushed' ? this.#flushed.lsn : this.#receivedLsn;
  }

  get facts(): WalFacts {
    return this.#walk.facts();
  }

  /** The walk over what is received. */
  get walk(): ReceivedWalk {
    return this.#walk;
  }

  fromMemory(startLsn: Lsn, endLsn: Lsn): readonly Uint8Array[] | null {
    const last = this.#lastViews;
    // A thousand standbys that have caught up ask for the same range one after the other.
    const isSame = last !== null && last.startLsn === startLsn && last.endLsn === endLsn;
    const views = isSame ? last.views : this.#tail.views(startLsn, endLsn);
    if (views === null) return null;
    if (!isSame) this.#lastViews = { startLsn, endLsn, views };
    return views;
  }

  async fromFiles(
    timeline: TimelineId,
    startLsn: Lsn,
    endLsn: Lsn,
  ): Promise<Uint8Array | StoredReadFailure | StoredReadLater> {
    const left = switchPoint(this.#history, timeline);
    if (left !== null && left.endLsn < endLsn) return this.#beyondEnd(endLsn, left.endLsn);
    // What is in memory is taken from there, now, because it may leave while we read: it is surely what was received.
    const memoryLsn = minLsn(this.#tail.startLsn, this.#pipeline.inFilesLsn);
    const filesEnd = maxLsn(startLsn, minLsn(endLsn, memoryLsn));
    const rest = filesEnd < endLsn ? this.#tail.views(filesEnd, endLsn) : [];
    if (rest === null) return this.#beyondEnd(endLsn, maxLsn(startLsn, this.#appendedLsn));
    const read = await this.#reader.read(timeline, startLsn, filesEnd);
    if (!(read instanceof Uint8Array)) return read;
    return rest.length === 0 ? read : Buffer.concat([read, ...rest]);
  }

  /** Of the files of this timeline's history. */
  get reader(): WalReader {
    return this.#reader;
  }

  // --- positions

  positions(): StorePositions {
    return {
      receivedLsn: this.#receivedLsn,
      writtenLsn: this.#writtenLsn,
      flushedLsn: this.#flushed.lsn,
    };
  }

  /** End of the last record received when that is a CHECKPOINT_SHUTDOWN, else INVALID_LSN. */
  shutdownCheckpointLsn(): Lsn {
    const { lsn, isShutdownCheckpoint } = this.chain;
    return isShutdownCheckpoint ? lsn : INVALID_LSN;
  }

  status(): WalStatus {
    const { removal, counters } = this.#owner;
    return storeStatus({
      timeline: this.#timeline,
      segmentSize: this.#segmentSize,
      oldestLsn: removal.oldestLsn,
      inFilesLsn: this.#pipeline.inFilesLsn,
      positions: this.positions(),
      segmentsRemoved: removal.removed,
      tailBytes: this.#tail.byteLength,
      tailBytesMax: this.#limits.tailBytesMax,
      counters,
    });
  }

  // --- removal

  /** A file is about to be removed, or was. */
  forgetFile(walFile: string): void {
    this.#reader.forget(walFile);
  }

  /** Offers the file of a segment that nobody needs any more for another use. False: it has to be removed. */
  async recycle(path: string): Promise<boolean> {
    return await this.#pipeline.recycle(path);
  }

  // --- leaving the timeline

  /** Takes nothing more in. Resolves when the writer is idle, with the end (exclusive) of what is on the disk. */
  async stop(): Promise<Lsn> {
    this.#isStopped = true;
    await this.#pipeline.idle();
    return this.#pipeline.durableLsn;
  }

  /** Goes on after a {@link stop} that led to nothing. */
  goOn(): void {
    this.#isStopped = false;
    this.#offerRoom();
  }

  /**
   * The timeline ends at `end`, for good: what lies behind it is forgotten, R, W and F fall to it, and the writer ends.
   * What lies before it can be read until {@link retire}.
   */
  async cut(end: ChainPosition): Promise<void> {
    this.#isStopped = true;
    this.#takeBack(end.lsn);
    this.#comparedLsn = this.#startLsn;
    this.#flushed = end;
    await this.#pipeline.close();
  }

  /** Another one has taken over. Reads under way may fail. */
  retire(): void {
    this.#reader.close();
  }

  // --- the end

  /** Flushes everything that can be flushed, and ends the writer. Resolves with whether all of it is on the disk. */
  async close(): Promise<boolean> {
    const isFlushed = await this.#pipeline.close();
    await this.#owner.removal.settle();
    this.#reader.close();
    return isFlushed;
  }

  /** The disk does not answer and nobody waits for it any longer: as after a failure, but nobody is told. */
  leave(): void {
    this.#hasFailed = true;
    this.#pipeline.leave();
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
    this.#owner.counters.countError(during);
    const failure =
      error instanceof OperationalError
        ? error
        : new OperationalError('STORE_FAILED', `the WAL store failed: ${errorText(error)}`, {
            hint: 'Look at the disk and the kernel log, then start walcast again.',
            cause: error,
          });
    this.#options.log.error(failure.message, { code: systemErrorCode(error) });
    this.#pipeline.stop();
    this.#options.onFatal(failure);
  }

  // --- the pipeline's side

  chunks(startLsn: Lsn, endLsn: Lsn): readonly Uint8Array[] | null {
    return this.#tail.views(startLsn, endLsn);
  }

  mark(): { readonly receivedLsn: Lsn; readonly chain: ChainPosition } {
    return { receivedLsn: this.#receivedLsn, chain: this.chain };
  }

  onWritten(receivedLsn: Lsn): void {
    if (receivedLsn <= this.#writtenLsn) return;
    this.#writtenLsn = receivedLsn;
    this.#owner.listeners.tellFlush();
  }

  onFlushed(chain: ChainPosition): void {
    if (chain.lsn > this.#flushed.lsn) this.#setFlushed(chain);
    this.#tail.trim(this.#pipeline.durableLsn);
    this.#offerRoom();
  }

  onSpaceWanted(): void {
    this.#owner.onRemovalDue();
  }

  onFailed(during: 'open' | 'write' | 'fsync', error: OperationalError): void {
    this.fail(during, error);
  }

  // --- inside

  #take(data: Uint8Array): WalkFailure | null {
    const failure = this.#walk.push(data);
    if (failure !== null) {
      this.#owner.counters.rejectedFromUpstream++;
      this.#takeBack(this.#walk.recordEnd());
      return failure;
    }
    this.#tail.append(data);
    this.#appendedLsn = advanceLsn(this.#appendedLsn, data.length);
    const isWhole = this.#options.verify !== 'record';
    this.#setReceived(isWhole ? this.#appendedLsn : this.#walk.recordEnd());
    this.#pipeline.extend(this.#appendedLsn);
    return null;
  }

  /** What is stored already must be the same; what lies behind it is taken. */
  #compareAndTake(data: Uint8Array): WalRefusal | null {
    const length = Math.min(data.length, lsnDistance(this.#comparedLsn, this.#startLsn));
    let at = this.#comparedLsn;
    for (const stored of this.#tail.views(at, advanceLsn(at, length)) ?? []) {
      const from = lsnDistance(this.#comparedLsn, at);
      const different = firstDifference(stored, data.subarray(from, from + stored.length));
      if (different !== null) return this.#refuseOther(advanceLsn(at, different));
      at = advanceLsn(at, stored.length);
    }
    this.#comparedLsn = at;
    return length === data.length ? null : this.#take(data.subarray(length));
  }

  #refuseOther(lsn: Lsn): WalRefusal {
    this.#owner.counters.rejectedFromUpstream++;
    const reason = `the upstream has other WAL at ${formatLsn(lsn)} than what is stored`;
    return { lsn, reason, isDivergence: true };
  }

  /** Forgets everything from `lsn` on. */
  #takeBack(lsn: Lsn): void {
    const sendableLsn = this.sendableLsn;
    this.#tail.rewind(lsn);
    this.#lastViews = null;
    this.#appendedLsn = lsn;
    this.#receivedLsn = minLsn(this.#receivedLsn, lsn);
    this.#writtenLsn = minLsn(this.#writtenLsn, lsn);
    this.#pipeline.rewind(lsn);
    if (!this.#isStopped && this.sendableLsn < sendableLsn) {
      this.#owner.listeners.tellTakenBack(this.sendableLsn);
    }
  }

  /** Taken back since it was offered, most likely: who asks has to look again, and nobody else is harmed. */
  #beyondEnd(wantedLsn: Lsn, endLsn: Lsn): StoredReadFailure {
    const segment = segmentNumber(endLsn, this.#segmentSize);
    return {
      kind: 'damaged',
      walFileName: walFileName(this.#timeline, segment, this.#segmentSize),
      lsn: endLsn,
      reason: `WAL up to ${formatLsn(wantedLsn)} was asked for, it ends at ${formatLsn(endLsn)}`,
      isBeyondEnd: true,
    };
  }

  #setReceived(lsn: Lsn): void {
    if (lsn <= this.#receivedLsn) return;
    this.#receivedLsn = lsn;
    if (this.#options.forward === 'received') this.#owner.listeners.advance.raise();
  }

  #setFlushed(chain: ChainPosition): void {
    const size = this.#segmentSize;
    const { control } = this.#owner;
    this.#flushed = chain;
    const markLsn = control.state.durableMark.lsn;
    if (segmentNumber(chain.lsn, size) === segmentNumber(markLsn, size)) {
      control.change({ durableMark: chain });
    } else {
      control.changeSoon({ durableMark: chain });
      this.#owner.onRemovalDue();
    }
    if (this.#options.forward === 'flushed') this.#owner.listeners.advance.raise();
    this.#owner.listeners.tellFlush();
  }

  #offerRoom(): void {
    if (!this.#isHeld || this.#pipeline.hasNoSpace) return;
    if (this.#pipeline.unflushedBytes() > this.#limits.unflushedBytesMax / 2) return;
    this.#isHeld = false;
    this.#owner.listeners.room();
  }
}

/** Index of the first byte that is not the same; null when all of `stored` is. */
function firstDifference(stored: Uint8Array, received: Uint8Array): number | null {
  if (Buffer.compare(stored, received) === 0) return null;
  const index = stored.findIndex((byte, at) => byte !== received[at]);
  return index < 0 ? null : index;
}
