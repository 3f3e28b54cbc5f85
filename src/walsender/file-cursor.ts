// The WAL of one stream as it comes from segment files: one read at a time, one ahead.
import { INVALID_LSN, lsnDistance, minLsn, pageStart } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { pgTimestampFromUnixMs } from '../pg/timestamp.ts';
import type { FileReads } from './file-reads.ts';
import { limitedEnd } from './message-end.ts';
import type { WalFeed, WalReadFailure, WalReadLater } from './ports.ts';
import { frameMessages } from './shared-frames.ts';
import type { BatchRequest, FrameBatch } from './shared-frames.ts';

interface ReadRange {
  readonly startLsn: Lsn;
  /** Exclusive. */
  readonly endLsn: Lsn;
}

/** What a cursor works with. */
export interface FileCursorOptions {
  readonly reads: FileReads;
  readonly feed: WalFeed;
  readonly timeline: TimelineId;
  /** A read that was asked for has come back. */
  readonly onReady: () => void;
}

/** Holds at most one result, or has one read on the way. */
export class FileCursor {
  readonly #options: FileCursorOptions;
  #reading: ReadRange | null = null;
  #ready: (ReadRange & { readonly bytes: Uint8Array | WalReadFailure }) | null = null;
  /** Counts the times received WAL was taken back: what was read before one is not what will be there after it. */
  #generation = 0;
  #isEntered = false;
  #isClosed = false;

  constructor(options: FileCursorOptions) {
    this.#options = options;
  }

  /** Between the first read and {@link FileCursor.leave}. */
  get isInUse(): boolean {
    return this.#isEntered;
  }

  /** The batch from `startLsn` on if it has been read; else null, and it is being read: `onReady` follows. */
  take(request: BatchRequest): FrameBatch | WalReadFailure | null {
    const ready = this.#ready;
    this.#ready = null;
    // What was read ahead is of no use when the stream has been cut since.
    if (
      ready === null ||
      ready.startLsn !== request.startLsn ||
      ready.endLsn > request.sendableLsn
    ) {
      this.readAhead(request.startLsn, request.sendableLsn);
      return null;
    }
    if (!(ready.bytes instanceof Uint8Array)) return ready.bytes;
    this.#options.reads.sentBytes += ready.bytes.length;
    return frameMessages([ready.bytes], {
      startLsn: ready.startLsn,
      endLsn: ready.endLsn,
      walEnd: request.sendableLsn,
      sendTime: pgTimestampFromUnixMs(request.wallMs),
    });
  }

  /** Begins to read what follows, unless a read is on the way already. */
  readAhead(startLsn: Lsn, targetLsn: Lsn): void {
    if (this.#reading !== null || this.#isClosed || lsnDistance(startLsn, targetLsn) <= 0) return;
    if (!this.#isEntered) this.#options.reads.enter();
    this.#isEntered = true;
    const endLsn = limitedEnd(startLsn, targetLsn, this.#options.reads.readBytes());
    this.#reading = { startLsn, endLsn };
    void this.#read({ startLsn, endLsn });
  }

  /** Received WAL was taken back: what has been read is thrown away, and so is what comes of a read on the way. */
  discard(): void {
    this.#generation += 1;
    this.#ready = null;
  }

  /** The stream reads from memory again. */
  leave(): void {
    this.#ready = null;
    if (this.#isEntered) this.#options.reads.leave();
    this.#isEntered = false;
  }

  /** The stream is over; a read on the way comes to nothing. */
  close(): void {
    this.#isClosed = true;
    this.leave();
  }

  async #read(range: ReadRange): Promise<void> {
    const { feed, reads, timeline } = this.#options;
    const generation = this.#generation;
    let { endLsn } = range;
    const read = (): Promise<Uint8Array | WalReadFailure | WalReadLater | null> =>
      reads.run(async () => {
        // While it was waiting for its turn, the end may have been taken back, to be received again.
        endLsn = minLsn(endLsn, feed.sendableLsn());
        const isOver = this.#isClosed || generation !== this.#generation;
        if (isOver || endLsn <= range.startLsn) return null;
        return await feed.fromFiles(timeline, range.startLsn, endLsn);
      });
    let bytes = await read();
    while (bytes !== null && !(bytes instanceof Uint8Array) && bytes.kind === 'later') {
      await bytes.ready;
      bytes = await read();
    }
    // What lies before the damage is good, and goes out first.
    const goodEnd = bytes === null ? INVALID_LSN : endBeforeDamage(bytes);
    if (goodEnd > range.startLsn) {
      endLsn = goodEnd;
      const before = await read();
      if (before instanceof Uint8Array || before === null) bytes = before;
    }
    this.#reading = null;
    if (this.#isClosed) return;
    if (bytes !== null && generation === this.#generation)
      this.#ready = { startLsn: range.startLsn, endLsn, bytes };
    this.#options.onReady();
  }
}

/** INVALID_LSN when nothing was found damaged. */
function endBeforeDamage(read: Uint8Array | WalReadFailure): Lsn {
  return read instanceof Uint8Array || read.kind !== 'damaged' ? INVALID_LSN : pageStart(read.lsn);
}
