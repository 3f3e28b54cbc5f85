// How are the same bytes sent to a thousand standbys without being copied or framed a thousand times? A batch of
// messages is built once per distinct range and handed to every socket that is at its start.
import { advanceLsn, lsnDistance } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { pgTimestampFromUnixMs } from '../pg/timestamp.ts';
import type { PgTimestamp } from '../pg/timestamp.ts';
import { encodeWalDataFrameHeader } from '../wire/replication-messages.ts';
import { limitedEnd, messageEnd, WAL_MESSAGE_BYTES_MAX } from './message-end.ts';

/** Messages in a row, ready for a socket. */
export interface FrameBatch {
  readonly startLsn: Lsn;
  /** Exclusive. */
  readonly endLsn: Lsn;
  /** Frame headers and WAL views in turn. Immutable: shared by sockets until they have drained. */
  readonly chunks: readonly Uint8Array[];
}

/** Most WAL bytes in one batch, and so in one write: eight messages. */
export const BATCH_BYTES_MAX: number = 8 * WAL_MESSAGE_BYTES_MAX;

/** Batches remembered. Each may keep {@link BATCH_BYTES_MAX} of the tail from being freed. */
export const SHARED_BATCHES_MAX = 16;

/** A header carries the time it was made: nothing is reused later than this. */
const BATCH_AGE_MS_MAX = 50;

interface CachedBatch extends FrameBatch {
  readonly timeline: TimelineId;
  readonly sendableLsn: Lsn;
  readonly madeAtMs: number;
}

/** What a batch is made from. */
export interface BatchRequest {
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
  /** End of what may be sent, announced in each header as the server's end. */
  readonly sendableLsn: Lsn;
  /** Monotonic. */
  readonly nowMs: number;
  /** Unix time, for the headers. */
  readonly wallMs: number;
}

/** The batches made last. One for all sessions. */
export class SharedFrames {
  #batches: CachedBatch[] = [];
  #sentBytes = 0;

  /** Bytes of WAL in all batches that were given away, each as often as it was. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /**
   * The messages from `startLsn` on, or null when `load` has no bytes for the range. `load` is asked only for a batch
   * that is not remembered.
   */
  batch(
    request: BatchRequest,
    load: (startLsn: Lsn, endLsn: Lsn) => readonly Uint8Array[] | null,
  ): FrameBatch | null {
    const batch = this.#find(request) ?? this.#make(request, load);
    if (batch !== null) this.#sentBytes += lsnDistance(batch.startLsn, batch.endLsn);
    return batch;
  }

  /** Forgets everything: nobody streams, and nothing of the tail is to be held on to; or received WAL was taken back. */
  clear(): void {
    this.#batches = [];
  }

  #make(
    request: BatchRequest,
    load: (startLsn: Lsn, endLsn: Lsn) => readonly Uint8Array[] | null,
  ): CachedBatch | null {
    const endLsn = limitedEnd(request.startLsn, request.sendableLsn, BATCH_BYTES_MAX);
    const views = load(request.startLsn, endLsn);
    if (views === null) return null;
    const framed = frameMessages(views, {
      startLsn: request.startLsn,
      endLsn,
      walEnd: request.sendableLsn,
      sendTime: pgTimestampFromUnixMs(request.wallMs),
    });
    const { timeline, sendableLsn, nowMs } = request;
    const batch = { ...framed, timeline, sendableLsn, madeAtMs: nowMs };
    this.#batches.unshift(batch);
    if (this.#batches.length > SHARED_BATCHES_MAX) this.#batches.pop();
    return batch;
  }

  #find(request: BatchRequest): CachedBatch | null {
    for (const batch of this.#batches) {
      if (
        batch.startLsn === request.startLsn &&
        batch.sendableLsn === request.sendableLsn &&
        batch.timeline === request.timeline &&
        request.nowMs - batch.madeAtMs <= BATCH_AGE_MS_MAX
      ) {
        return batch;
      }
    }
    return null;
  }
}

/** Where a run of WAL begins and ends, and what its headers say. */
export interface FrameRange {
  readonly startLsn: Lsn;
  /** Exclusive. */
  readonly endLsn: Lsn;
  /** End of what could be sent; at least `endLsn`. */
  readonly walEnd: Lsn;
  readonly sendTime: PgTimestamp;
}

/** Puts a frame header before each message's share of `views`, which hold exactly the bytes of the range. Copies nothing. */
export function frameMessages(views: readonly Uint8Array[], range: FrameRange): FrameBatch {
  const chunks: Uint8Array[] = [];
  const cursor = new ViewCursor(views);
  let startLsn = range.startLsn;
  while (startLsn < range.endLsn) {
    const end = messageEnd(startLsn, range.endLsn);
    const length = lsnDistance(startLsn, end);
    const header = encodeWalDataFrameHeader(startLsn, range.walEnd, range.sendTime, length);
    chunks.push(header);
    cursor.take(length, chunks);
    startLsn = advanceLsn(startLsn, length);
  }
  return { startLsn: range.startLsn, endLsn: range.endLsn, chunks };
}

/** Cuts views at message ends. */
class ViewCursor {
  readonly #views: readonly Uint8Array[];
  #index = 0;
  #offset = 0;

  constructor(views: readonly Uint8Array[]) {
    this.#views = views;
  }

  take(byteCount: number, into: Uint8Array[]): void {
    let missing = byteCount;
    while (missing > 0) {
      const view = this.#views[this.#index];
      if (view === undefined) throw new RangeError('fewer bytes than the range is long');
      const count = Math.min(missing, view.length - this.#offset);
      if (count > 0) into.push(view.subarray(this.#offset, this.#offset + count));
      this.#offset += count;
      missing -= count;
      if (this.#offset === view.length) {
        this.#index += 1;
        this.#offset = 0;
      }
    }
  }
}
