// Where does the next WAL of one stream come from: the shared batches of the tail, segment files, or the upstream?
import { minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { FileCursor } from './file-cursor.ts';
import type { FileReads } from './file-reads.ts';
import type { OlderWalFailure, WalFeed, WalReadFailure } from './ports.ts';
import { ReadThroughCursor } from './read-through-cursor.ts';
import type { NoRoom } from './read-through-cursor.ts';
import type { BatchRequest, FrameBatch, SharedFrames } from './shared-frames.ts';

/** What a source works with. */
export interface WalSourceOptions {
  readonly feed: WalFeed;
  readonly frames: SharedFrames;
  readonly reads: FileReads;
  readonly timeline: TimelineId;
  /** After a take that gave nothing there is something. */
  readonly onReady: () => void;
}

/** Why there is no WAL to send. */
export type SourceFailure = WalReadFailure | OlderWalFailure | NoRoom;

/** The sources of one stream: at most one of them is in use. */
export class WalSource {
  readonly #options: WalSourceOptions;
  readonly #files: FileCursor;
  readonly #older: ReadThroughCursor;
  readonly #loadFromMemory: (startLsn: Lsn, endLsn: Lsn) => readonly Uint8Array[] | null;

  constructor(options: WalSourceOptions) {
    this.#options = options;
    const { feed, reads, timeline, onReady } = options;
    this.#files = new FileCursor({ feed, reads, timeline, onReady });
    this.#older = new ReadThroughCursor({ feed, timeline, onReady });
    this.#loadFromMemory = (startLsn, endLsn) => feed.fromMemory(startLsn, endLsn);
  }

  /** When to look whether a standby that waits for older WAL must hear from us; infinity while it does not wait. */
  get keepaliveAtMs(): number {
    return this.#older.keepaliveAtMs;
  }

  /**
   * The batch from `request.startLsn` on, or why there is none; null while it is fetched, `onReady` follows. The tail
   * holds the current timeline only: `isHistoric` streams do not read it.
   */
  take(request: BatchRequest, isHistoric: boolean): FrameBatch | SourceFailure | null {
    const { feed, frames } = this.#options;
    if (request.startLsn < feed.oldestLsn()) return this.#takeOlder(request);
    this.#older.leave();
    const shared = isHistoric ? null : frames.batch(request, this.#loadFromMemory);
    if (shared === null) return this.#files.take(request);
    this.#files.leave();
    return shared;
  }

  /** What follows a batch that was sent is read meanwhile, where it comes from files. */
  readAhead(startLsn: Lsn, targetLsn: Lsn): void {
    if (this.#files.isInUse) this.#files.readAhead(startLsn, targetLsn);
  }

  /** A keepalive was sent to a standby that waits for older WAL. */
  noteKeepalive(nowMs: number): void {
    this.#older.noteKeepalive(nowMs);
  }

  /** Received WAL was taken back: what was read from files is thrown away. */
  discard(): void {
    this.#files.discard();
  }

  /** The stream is over. */
  close(): void {
    this.#files.close();
    this.#older.leave();
  }

  /** WAL from before the store, up to where the store goes on; its first byte may move up meanwhile. */
  #takeOlder(request: BatchRequest): FrameBatch | SourceFailure | null {
    this.#files.leave();
    const limitLsn = minLsn(this.#options.feed.oldestLsn(), request.sendableLsn);
    return this.#older.take(request, limitLsn);
  }
}
