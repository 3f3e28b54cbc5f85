// The WAL of one stream from before the store, as it comes from the upstream. Holds a reader only while the standby is
// behind the store's first byte, and no place of those who read files.
import { HOLD_KEEPALIVE_MS } from '../config/limits.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { pgTimestampFromUnixMs } from '../pg/timestamp.ts';
import type { OlderWalFailure, OlderWalReader, WalFeed } from './ports.ts';
import { frameMessages } from './shared-frames.ts';
import type { BatchRequest, FrameBatch } from './shared-frames.ts';

/** Too many standbys read through already. */
export type NoRoom = { readonly kind: 'no-room' };

/** What a cursor works with. */
export interface ReadThroughCursorOptions {
  readonly feed: WalFeed;
  readonly timeline: TimelineId;
  /** After a take that gave nothing there is something. */
  readonly onReady: () => void;
}

/** One stream's place in older WAL. */
export class ReadThroughCursor {
  readonly #options: ReadThroughCursorOptions;
  #reader: OlderWalReader | null = null;
  #nextLsn: Lsn | null = null;
  #keepaliveAtMs = Number.POSITIVE_INFINITY;

  constructor(options: ReadThroughCursorOptions) {
    this.#options = options;
  }

  /** When to look whether a waiting standby must hear from us; infinity while it does not wait. */
  get keepaliveAtMs(): number {
    return this.#keepaliveAtMs;
  }

  /**
   * The batch from `request.startLsn` on, up to `limitLsn` (exclusive) at most; or why there is none; or null, and
   * `onReady` follows.
   */
  take(request: BatchRequest, limitLsn: Lsn): FrameBatch | OlderWalFailure | NoRoom | null {
    const reader = this.#readerAt(request.startLsn, limitLsn);
    if (reader === null) return { kind: 'no-room' };
    const piece = reader.take(limitLsn);
    if (piece === null) {
      if (this.#keepaliveAtMs === Number.POSITIVE_INFINITY) this.noteKeepalive(request.nowMs);
      return null;
    }
    this.#keepaliveAtMs = Number.POSITIVE_INFINITY;
    if ('kind' in piece) return piece;
    this.#nextLsn = piece.endLsn;
    return frameMessages(piece.views, {
      startLsn: request.startLsn,
      endLsn: piece.endLsn,
      walEnd: request.sendableLsn,
      sendTime: pgTimestampFromUnixMs(request.wallMs),
    });
  }

  /** A keepalive was sent to a standby that waits: the next one has time. */
  noteKeepalive(nowMs: number): void {
    this.#keepaliveAtMs = nowMs + HOLD_KEEPALIVE_MS;
  }

  /** The store has what follows, or the stream is over. */
  leave(): void {
    if (this.#reader === null) return;
    this.#reader.close();
    this.#reader = null;
    this.#nextLsn = null;
    this.#keepaliveAtMs = Number.POSITIVE_INFINITY;
  }

  #readerAt(startLsn: Lsn, limitLsn: Lsn): OlderWalReader | null {
    if (this.#reader !== null && this.#nextLsn === startLsn) return this.#reader;
    this.leave();
    const { feed, timeline, onReady } = this.#options;
    this.#reader = feed.openOlder({ timeline, startLsn, limitLsn, onReady });
    this.#nextLsn = startLsn;
    return this.#reader;
  }
}
