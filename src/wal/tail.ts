// Where is recent WAL in memory? In blocks that are written once: the one copy of every byte from which all sockets send.
// Views stay good for ever, because no byte of a block changes after it was handed out; a block that is given up is
// simply forgotten and freed with its last view. (Not SharedArrayBuffers: V8 does not count their memory, so garbage
// would pile up to a gigabyte before it is collected.)
import { advanceLsn, lsnDistance, toLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';

/** Bytes per block, and the LSN alignment of blocks: no record and no page of a run ever moves inside its block. */
export const TAIL_BLOCK_BYTES: number = 1 << 20;

/** The WAL [startLsn, endLsn) in memory. */
export class Tail {
  readonly #bytesMax: number;
  #blocks: Buffer[] = [];
  /** LSN of the first byte of the first block. */
  #baseLsn: Lsn;
  #startLsn: Lsn;
  #endLsn: Lsn;

  /** `bytesMax`: what is kept of WAL that need not be kept. */
  constructor(startLsn: Lsn, bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#startLsn = startLsn;
    this.#endLsn = startLsn;
    this.#baseLsn = blockStart(startLsn);
  }

  get startLsn(): Lsn {
    return this.#startLsn;
  }

  get endLsn(): Lsn {
    return this.#endLsn;
  }

  /** Memory taken. */
  get byteLength(): number {
    return this.#blocks.length * TAIL_BLOCK_BYTES;
  }

  /** Copies `data` behind the end. */
  append(data: Uint8Array): void {
    let position = lsnDistance(this.#baseLsn, this.#endLsn);
    let done = 0;
    while (done < data.length) {
      const offset = position % TAIL_BLOCK_BYTES;
      const take = Math.min(data.length - done, TAIL_BLOCK_BYTES - offset);
      this.#blockFor(position).set(data.subarray(done, done + take), offset);
      position += take;
      done += take;
    }
    this.#endLsn = advanceLsn(this.#endLsn, data.length);
  }

  /** The bytes [startLsn, endLsn) as views, at most one a block; null when they are not all here. */
  views(startLsn: Lsn, endLsn: Lsn): Buffer[] | null {
    if (startLsn < this.#startLsn || endLsn > this.#endLsn) return null;
    const views: Buffer[] = [];
    let position = lsnDistance(this.#baseLsn, startLsn);
    const end = lsnDistance(this.#baseLsn, endLsn);
    while (position < end) {
      const offset = position % TAIL_BLOCK_BYTES;
      const take = Math.min(end - position, TAIL_BLOCK_BYTES - offset);
      views.push(this.#blockFor(position).subarray(offset, offset + take));
      position += take;
    }
    return views;
  }

  /** Forgets the oldest blocks that lie before `neededLsn`, as far as there are more bytes than are kept. */
  trim(neededLsn: Lsn): void {
    let count = 0;
    let firstKept = advanceLsn(this.#baseLsn, TAIL_BLOCK_BYTES);
    while (this.byteLength - count * TAIL_BLOCK_BYTES > this.#bytesMax && firstKept <= neededLsn) {
      count++;
      firstKept = advanceLsn(firstKept, TAIL_BLOCK_BYTES);
    }
    if (count === 0) return;
    this.#blocks.splice(0, count);
    this.#baseLsn = advanceLsn(this.#baseLsn, count * TAIL_BLOCK_BYTES);
    if (this.#startLsn < this.#baseLsn) this.#startLsn = this.#baseLsn;
    if (this.#endLsn < this.#startLsn) this.#endLsn = this.#startLsn;
  }

  /** Takes back everything from `lsn` on. What was handed out of it keeps its bytes. */
  rewind(lsn: Lsn): void {
    if (lsn >= this.#endLsn) return;
    if (lsn <= this.#startLsn) {
      this.#blocks = [];
      this.#baseLsn = blockStart(lsn);
      this.#startLsn = lsn;
      this.#endLsn = lsn;
      return;
    }
    const position = lsnDistance(this.#baseLsn, lsn);
    const kept = Math.floor(position / TAIL_BLOCK_BYTES);
    const cut = this.#blocks[kept];
    this.#blocks.length = kept;
    this.#endLsn = lsn;
    const offset = position % TAIL_BLOCK_BYTES;
    if (cut !== undefined && offset > 0) this.#blockFor(position).set(cut.subarray(0, offset));
  }

  /** The block that holds the byte at `position` from the base on, made when it is the next one. */
  #blockFor(position: number): Buffer {
    const index = Math.floor(position / TAIL_BLOCK_BYTES);
    const block = this.#blocks[index];
    if (block !== undefined) return block;
    const made = Buffer.allocUnsafeSlow(TAIL_BLOCK_BYTES);
    this.#blocks[index] = made;
    return made;
  }
}

function blockStart(lsn: Lsn): Lsn {
  return toLsn(lsn - (lsn % BigInt(TAIL_BLOCK_BYTES)));
}
