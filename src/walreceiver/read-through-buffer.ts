// What of the old WAL has arrived for one standby and was found good? Checks what comes, keeps it until it is taken, and
// gives it out in pieces that end where a message to a standby may end. Pure.
//
// The check begins at the segment's start, wherever the standby begins: only there is a page header that names the
// cluster, and never the zeros behind an XLOG_SWITCH. It belongs to the standby and not to a connection, so that another
// connection can go on at any byte.
//
// A record is given out when it is whole, also the one that goes on in the store: a standby that has got a bad head from
// here and the rest from there would never recover from that by itself. Only of a record that is too large to be kept the
// pages go out as they come. When it turns out to be bad its end is missing, and the standby asks for all of it again.
import { READ_THROUGH_BUFFER_BYTES } from '../config/limits.ts';
import { advanceLsn, formatLsn, lsnDistance, minLsn, pageStart } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentStartOf } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { WalRejection } from './ports.ts';
import type { ReadThroughPiece, WalCheck } from './read-through-ports.ts';

/** Bytes are kept in blocks of this size, however small the messages are. */
const BLOCK_BYTES = 128 * 1024;

/** What a buffer begins with. */
export interface ReadThroughBufferOptions {
  /** First byte the standby wants. */
  readonly startLsn: Lsn;
  readonly segmentSize: SegmentSize;
  /** A check of the WAL from this segment start on. Called once, when the first bytes arrive. */
  readonly openCheck: (startLsn: Lsn) => WalCheck;
}

/** Checked WAL of one standby. */
export class ReadThroughBuffer {
  readonly #openCheck: (startLsn: Lsn) => WalCheck;
  #check: WalCheck | null = null;
  /** The byte that has to arrive next. */
  #nextLsn: Lsn;
  /** The byte that is taken next; before it has arrived, what comes is checked and dropped. */
  #takenLsn: Lsn;
  /** Nothing follows what has arrived: the timeline ends there. */
  #isEnd = false;
  #blocks: Uint8Array[] = [];
  /** First byte not taken in the first block, first free one in the last. */
  #head = 0;
  #tail = BLOCK_BYTES;

  constructor({ startLsn, segmentSize, openCheck }: ReadThroughBufferOptions) {
    this.#openCheck = openCheck;
    this.#nextLsn = segmentStartOf(startLsn, segmentSize);
    this.#takenLsn = startLsn;
  }

  /** The byte that has to arrive next: where a START_REPLICATION begins or goes on. */
  get nextLsn(): Lsn {
    return this.#nextLsn;
  }

  /** The byte that is taken next. */
  get takenLsn(): Lsn {
    return this.#takenLsn;
  }

  /** Bytes that arrived and were not taken. */
  get byteCount(): number {
    return Math.max(0, lsnDistance(this.#takenLsn, this.#nextLsn));
  }

  /** Checks and copies `data`, the WAL from `startLsn` on. After a rejection the buffer is of no use any more. */
  append(startLsn: Lsn, data: Uint8Array): WalRejection | null {
    if (startLsn !== this.#nextLsn) {
      const reason = `the message starts at ${formatLsn(startLsn)}, expected ${formatLsn(this.#nextLsn)}`;
      return { lsn: this.#nextLsn, reason };
    }
    this.#check ??= this.#openCheck(this.#nextLsn);
    const rejection = this.#check.push(data);
    if (rejection !== null) return rejection;
    const unwanted = Math.max(0, lsnDistance(this.#nextLsn, this.#takenLsn));
    this.#nextLsn = advanceLsn(this.#nextLsn, data.byteLength);
    if (unwanted < data.byteLength) this.#keep(data.subarray(unwanted));
    return null;
  }

  /** Everything up to `limitLsn` (exclusive) that ends there or on a page boundary; null when that is nothing. */
  take(limitLsn: Lsn): ReadThroughPiece | null {
    const endLsn = this.#pieceEnd(limitLsn);
    const byteCount = lsnDistance(this.#takenLsn, endLsn);
    if (byteCount <= 0) return null;
    this.#takenLsn = endLsn;
    return { endLsn, views: this.#cut(byteCount) };
  }

  /** True when {@link take} would give something. */
  hasPiece(limitLsn: Lsn): boolean {
    return this.#pieceEnd(limitLsn) > this.#takenLsn;
  }

  /** True when everything up to `limitLsn` (exclusive) has been taken or can be. */
  hasUpTo(limitLsn: Lsn): boolean {
    return this.#takenLsn >= limitLsn || this.#goodLsn() >= limitLsn;
  }

  /** The timeline ends at {@link nextLsn}, also if that is inside a record: it will never be whole. */
  noteEnd(): void {
    this.#isEnd = true;
  }

  #pieceEnd(limitLsn: Lsn): Lsn {
    const available = minLsn(limitLsn, this.#goodLsn());
    return available === limitLsn ? available : pageStart(available);
  }

  /** End (exclusive) of what may be given out. */
  #goodLsn(): Lsn {
    const isKept = !this.#isEnd && this.byteCount < READ_THROUGH_BUFFER_BYTES;
    const recordEnd = isKept ? this.#check?.recordEnd() : null;
    return recordEnd ?? this.#nextLsn;
  }

  #keep(data: Uint8Array): void {
    for (let done = 0; done < data.byteLength;) {
      let block = this.#blocks.at(-1);
      if (block === undefined || this.#tail === BLOCK_BYTES) {
        block = new Uint8Array(BLOCK_BYTES);
        this.#blocks.push(block);
        this.#tail = 0;
      }
      const count = Math.min(data.byteLength - done, BLOCK_BYTES - this.#tail);
      block.set(data.subarray(done, done + count), this.#tail);
      this.#tail += count;
      done += count;
    }
  }

  #cut(byteCount: number): Uint8Array[] {
    const views: Uint8Array[] = [];
    for (let missing = byteCount; missing > 0;) {
      const block = this.#blocks[0];
      if (block === undefined) throw new RangeError('fewer bytes than were counted');
      const count = Math.min(missing, BLOCK_BYTES - this.#head);
      views.push(block.subarray(this.#head, this.#head + count));
      this.#head += count;
      missing -= count;
      if (this.#head === BLOCK_BYTES) {
        this.#blocks.shift();
        this.#head = 0;
      }
    }
    return views;
  }
}
