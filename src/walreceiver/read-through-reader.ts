// The old WAL of one standby: what it has, what it still wants, and how it goes wrong. Takes turns at the connections of
// the pool (read-through.ts); keeps its place between two turns.
import type { Clock } from '../base/clock.ts';
import {
  READ_THROUGH_BUFFER_BYTES,
  READ_THROUGH_RETRY_MS,
  READ_THROUGH_RETRY_MS_MAX,
} from '../config/limits.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentNumber, walFileName } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { ReceivedError } from '../wire/upstream-messages.ts';
import type { WalRejection } from './ports.ts';
import { ReadThroughBuffer } from './read-through-buffer.ts';
import type { LinkStreamEnd, ReadThroughLink } from './read-through-link.ts';
import type {
  ReadThroughFailure,
  ReadThroughPiece,
  ReadThroughRequest,
  WalCheck,
} from './read-through-ports.ts';
import { printable } from './upstream-errors.ts';

/** Below this much a connection is read again, or wished for. */
const LOW_BYTES: number = READ_THROUGH_BUFFER_BYTES / 2;

/** What a reader needs from the pool. */
export interface ReaderHost {
  readonly clock: Clock;
  /** How long it may go wrong. */
  timeoutMs(): number;
  /** It may want a connection now. */
  onTaken(reader: ReadThroughReader, byteCount: number): void;
  /** WAL of it arrived and was good. */
  onProgress(reader: ReadThroughReader): void;
  /** Its buffer has become full, or has room again. */
  onFull(reader: ReadThroughReader, isFull: boolean): void;
  onClosed(reader: ReadThroughReader): void;
}

/** One standby's old WAL. */
export class ReadThroughReader {
  readonly #host: ReaderHost;
  readonly #request: ReadThroughRequest;
  readonly #segmentSize: SegmentSize;
  readonly #buffer: ReadThroughBuffer;
  #limitLsn: Lsn;
  #link: ReadThroughLink | null = null;
  #isFull = false;
  #isAwaited = false;
  #isRevoked = false;
  #isClosed = false;
  #failure: ReadThroughFailure | null = null;
  #progressAtMs: number;
  /** Since when a connection is being used or opened and nothing has come; null while it has no turn. */
  #attemptAtMs: number | null = null;
  /** How long it was so in the turns before, since WAL last came. */
  #silentMs = 0;
  /** Since when every turn went wrong. */
  #troubleSinceMs: number | null = null;
  #retryMs = READ_THROUGH_RETRY_MS;
  #retryAtMs = Number.NEGATIVE_INFINITY;

  constructor(
    host: ReaderHost,
    request: ReadThroughRequest,
    check: { segmentSize: SegmentSize; openCheck: (startLsn: Lsn) => WalCheck },
  ) {
    this.#host = host;
    this.#request = request;
    this.#segmentSize = check.segmentSize;
    this.#buffer = new ReadThroughBuffer({ startLsn: request.startLsn, ...check });
    this.#limitLsn = request.limitLsn;
    this.#progressAtMs = host.clock.nowMs();
  }

  get timeline(): TimelineId {
    return this.#request.timeline;
  }

  get isStreaming(): boolean {
    return this.#link !== null;
  }

  /** When WAL of it last arrived or was taken, monotonic. */
  get progressAtMs(): number {
    return this.#progressAtMs;
  }

  /**
   * The next bytes, up to `limitLsn` (exclusive) at most, which may have moved since the last take; or why there will be
   * none; or null: `onReady` follows.
   */
  take(limitLsn: Lsn): ReadThroughPiece | ReadThroughFailure | null {
    this.#limitLsn = limitLsn;
    const before = this.#buffer.byteCount;
    const piece = this.#buffer.take(limitLsn);
    if (piece === null && this.#failure !== null) return this.#failure;
    this.#isAwaited = piece === null;
    if (piece !== null) this.#progressAtMs = this.#host.clock.nowMs();
    this.#noteRoom();
    this.#host.onTaken(this, before - this.#buffer.byteCount);
    return piece;
  }

  /** The standby needs no more of it. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#link?.endStream();
    this.#host.onClosed(this);
  }

  /** True when a connection would be of use now. */
  isWanting(nowMs: number): boolean {
    if (!this.#isIncomplete() || nowMs < this.#retryAtMs) return false;
    // What has come of a record that is not whole yet may be more than that, and cannot be taken.
    return this.#buffer.byteCount < LOW_BYTES || !this.#buffer.hasPiece(this.#limitLsn);
  }

  /** Its turn begins: a connection is being opened for it. */
  onGranted(): void {
    this.#attemptAtMs = this.#host.clock.nowMs();
    this.#isRevoked = false;
  }

  /** Its turn: reads from `link` until it has what it wants, or the turn is revoked, or it goes wrong. */
  async readFrom(link: ReadThroughLink): Promise<void> {
    this.#isFull = false;
    if (this.#isRevoked || !this.#isIncomplete()) {
      this.#endAttempt();
      return;
    }
    this.#link = link;
    try {
      const { nextLsn } = this.#buffer;
      const onWal = (lsn: Lsn, data: Uint8Array): void => this.#onWal(lsn, data);
      this.#onEnd(await link.stream(this.timeline, nextLsn, onWal));
    } finally {
      this.#link = null;
    }
  }

  /** The turn is over, also one whose connection is not open yet. */
  revoke(): void {
    this.#isRevoked = this.#link === null;
    this.#link?.endStream();
  }

  /** A turn went wrong. It is tried again, unless every turn did for the time that is allowed. */
  noteTrouble(reason: string): void {
    const nowMs = this.#host.clock.nowMs();
    this.#troubleSinceMs ??= this.#attemptAtMs ?? nowMs;
    this.#attemptAtMs = null;
    this.#retryAtMs = nowMs + this.#retryMs;
    this.#retryMs = Math.min(2 * this.#retryMs, READ_THROUGH_RETRY_MS_MAX);
    if (nowMs - this.#troubleSinceMs >= this.#host.timeoutMs()) this.giveUp(reason);
  }

  /** Gives up when nothing has come for as long in the turn it has and those before: a turn may be shorter than that. */
  checkTimeout(nowMs: number): void {
    const timeoutMs = this.#host.timeoutMs();
    // A buffer that is full waits for the standby, not for the upstream.
    if (this.#isFull || this.#attemptAtMs === null) return;
    if (this.#silentMs + nowMs - this.#attemptAtMs < timeoutMs) return;
    this.giveUp(`nothing came from it for ${timeoutMs} ms`);
    this.#link?.destroy();
  }

  /** There will be no more: the upstream could not be asked. */
  giveUp(reason: string): void {
    this.#fail({ kind: 'removed', walFileName: this.#walFileName(), reason });
  }

  #isIncomplete(): boolean {
    return !this.#isClosed && this.#failure === null && !this.#buffer.hasUpTo(this.#limitLsn);
  }

  #onWal(startLsn: Lsn, data: Uint8Array): void {
    if (!this.#isIncomplete()) return;
    const rejection = this.#buffer.append(startLsn, data);
    if (rejection !== null) {
      this.#reject(rejection);
      return;
    }
    this.#progressAtMs = this.#host.clock.nowMs();
    this.#attemptAtMs = this.#progressAtMs;
    this.#silentMs = 0;
    this.#troubleSinceMs = null;
    this.#retryMs = READ_THROUGH_RETRY_MS;
    this.#host.onProgress(this);
    if (this.#buffer.hasUpTo(this.#limitLsn)) this.#link?.endStream();
    this.#wake();
    // The stream may have ended meanwhile; what still comes of it has to be read then.
    const isFull = this.#buffer.byteCount >= READ_THROUGH_BUFFER_BYTES;
    if (!isFull || this.#isFull || !this.#isIncomplete()) return;
    this.#isFull = true;
    this.#link?.pause();
    this.#host.onFull(this, true);
  }

  #noteRoom(): void {
    if (!this.#isFull || this.#buffer.byteCount >= LOW_BYTES) return;
    this.#isFull = false;
    if (this.#attemptAtMs !== null) this.#attemptAtMs = this.#host.clock.nowMs();
    this.#link?.resume();
    this.#host.onFull(this, false);
  }

  /** The standby is told, and asks again; nobody is served from that connection any more. */
  #reject({ lsn, reason }: WalRejection): void {
    this.#fail({ kind: 'mismatch', walFileName: this.#walFileName(), lsn, reason });
    this.#link?.close();
  }

  #onEnd(end: LinkStreamEnd): void {
    if (end.kind === 'ended') {
      this.#endAttempt();
    } else if (end.kind === 'refused') {
      this.#onRefused(end.error);
    } else if (end.kind === 'timeline-end') {
      this.#onTimelineEnd();
    }
  }

  #endAttempt(): void {
    const isSilent = this.#attemptAtMs !== null && !this.#isFull;
    if (isSilent) this.#silentMs += this.#host.clock.nowMs() - (this.#attemptAtMs ?? 0);
    this.#attemptAtMs = null;
  }

  #onTimelineEnd(): void {
    const { nextLsn } = this.#buffer;
    if (nextLsn < this.#limitLsn) {
      this.#disown(`timeline ${this.timeline} ends there at ${formatLsn(nextLsn)} already`);
      return;
    }
    this.#attemptAtMs = null;
    this.#buffer.noteEnd();
    this.#wake();
  }

  /** Another server may have taken this one's place since it was asked who it is: the next attempt asks anew. */
  #disown(reason: string): void {
    this.#link?.close();
    this.noteTrouble(reason);
  }

  #onRefused(error: ReceivedError): void {
    const text = printable(error.message);
    if (error.sqlstate !== SQLSTATE.undefinedFile) {
      this.#disown(`it answered: ${text}`);
      return;
    }
    // Which timeline's file is meant depends on the server's own history.
    const named = /\b[0-9A-F]{24}\b/.exec(text)?.[0];
    this.#fail({ kind: 'removed', walFileName: named ?? this.#walFileName(), reason: null });
  }

  #fail(failure: ReadThroughFailure): void {
    if (this.#failure !== null || this.#isClosed) return;
    this.#failure = failure;
    this.#link?.endStream();
    this.#wake();
  }

  #wake(): void {
    if (!this.#isAwaited) return;
    this.#isAwaited = false;
    this.#request.onReady();
  }

  #walFileName(): string {
    const { nextLsn } = this.#buffer;
    const segment = segmentNumber(nextLsn, this.#segmentSize);
    return walFileName(this.timeline, segment, this.#segmentSize);
  }
}
