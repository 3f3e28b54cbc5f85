// WAL as a server writes it, made without one: page headers, chained records with checksums, switches, crashes.
import { CRC32C_INITIAL, finishCrc32c, updateCrc32c } from '../../src/base/crc32c.ts';
import { PAGE_SIZE, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import type { VersionFacts } from '../../src/pg/server-version.ts';
import { rootHistory, timelineOfLsn, toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../../src/pg/timeline.ts';
import type { PageOrigin } from '../../src/wal/records/page-header.ts';

/** Resource managers that the records below use. */
export const RMGR = { xlog: 0, heap: 10 } as const;

/** A record as it was written. */
export interface WrittenRecord {
  readonly startLsn: Lsn;
  /** Aligned, exclusive; for a switch the end of the segment. */
  readonly endLsn: Lsn;
  readonly rmgrId: number;
}

/** What to write. */
export interface RecordContent {
  readonly rmgrId?: number;
  readonly info?: number;
  readonly xid?: number;
  readonly body?: Uint8Array;
}

/** Writes WAL from the start of a segment on. */
export class WalFixture {
  readonly facts: VersionFacts;
  readonly segmentSize: SegmentSize;
  readonly systemIdentifier: string;
  readonly startLsn: Lsn;
  readonly records: WrittenRecord[] = [];
  history: TimelineHistory;
  #bytes = Buffer.alloc(1 << 20);
  #length = 0;
  #previous: bigint;

  constructor(options: { major?: number; startLsn?: bigint; segmentSize?: number } = {}) {
    this.facts = versionFacts(options.major ?? 15);
    this.segmentSize = toSegmentSize(options.segmentSize ?? 1 << 20);
    this.systemIdentifier = '7300000000000000123';
    this.startLsn = toLsn(options.startLsn ?? 0x3000000n);
    this.history = rootHistory(toTimelineId(1));
    this.#previous = this.startLsn - 40n;
  }

  /** For a RecordWalk or a reader. */
  get origin(): PageOrigin {
    const { facts, segmentSize, systemIdentifier, history } = this;
    return { facts, segmentSize, systemIdentifier, history };
  }

  get endLsn(): Lsn {
    return toLsn(this.startLsn + BigInt(this.#length));
  }

  /** All of it, a copy. */
  bytes(): Buffer {
    return Buffer.from(this.#bytes.subarray(0, this.#length));
  }

  /** The bytes [startLsn, endLsn), a copy. */
  slice(startLsn: bigint, endLsn: bigint): Buffer {
    const from = Number(startLsn - this.startLsn);
    return Buffer.from(this.#bytes.subarray(from, from + Number(endLsn - startLsn)));
  }

  /** The same WAL up to `switchLsn`, to go on there on `timeline`, as a server does that is promoted there. */
  branch(switchLsn: Lsn, timeline: TimelineId): WalFixture {
    const { startLsn, segmentSize, facts, history } = this;
    const next = new WalFixture({ major: facts.major, startLsn, segmentSize });
    const entry = { timeline: history.timeline, endLsn: switchLsn };
    next.history = { timeline, ancestors: [...history.ancestors, entry] };
    const bytes = this.slice(startLsn, switchLsn);
    next.#reserve(bytes.length);
    bytes.copy(next.#bytes);
    next.#length = bytes.length;
    next.records.push(...this.records.filter(({ endLsn }) => endLsn <= switchLsn));
    next.#previous = next.records.at(-1)?.startLsn ?? startLsn - 40n;
    return next;
  }

  /** At a page start: says that the record that began at `lostLsn` never gets its end. */
  overwrite(lostLsn: Lsn): void {
    this.#pageHeader(this.facts.walPageOverwriteFlag, 0);
    const body = Buffer.alloc(18);
    body[0] = 255;
    body[1] = 16;
    body.writeBigUInt64LE(lostLsn, 2);
    this.record({ rmgrId: RMGR.xlog, info: 0xd0, body });
  }

  /** Appends one record. */
  record(content: RecordContent = {}): WrittenRecord {
    const startLsn = this.#beginPageIfDue();
    const bytes = this.#encode(content);
    this.#emit(bytes, bytes.length);
    this.#pad();
    this.#previous = startLsn;
    return this.#note(startLsn, content.rmgrId ?? RMGR.heap);
  }

  /** Ordinary records until at least `byteCount` bytes were written; sizes repeat in a pattern that hits every alignment. */
  fill(byteCount: number, seed = 1): void {
    const until = this.#length + byteCount;
    let state = seed;
    while (this.#length < until) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
      const size = state % 100 === 0 ? 20_000 : state % 300;
      this.record({ xid: 700 + (state % 50), body: Buffer.alloc(size, state & 0xff) });
    }
  }

  /** A checkpoint record; its redo is its own start unless told otherwise, its next transaction id 0:900. */
  checkpoint(
    options: { shutdown?: boolean; redoLsn?: bigint; nextFullXid?: bigint } = {},
  ): WrittenRecord {
    const body = Buffer.alloc(98);
    body[0] = 255;
    body[1] = 96;
    body.writeBigUInt64LE(options.redoLsn ?? this.#beginPageIfDue(), 2);
    body.writeBigUInt64LE(options.nextFullXid ?? 900n, 2 + this.facts.checkpointNextXidOffset);
    return this.record({ rmgrId: RMGR.xlog, info: options.shutdown === true ? 0 : 0x10, body });
  }

  /** XLOG_SWITCH, with its zeros up to the end of the segment. */
  switchSegment(): WrittenRecord {
    const { startLsn } = this.record({ rmgrId: RMGR.xlog, info: 0x40 });
    this.records.pop();
    const size = BigInt(this.segmentSize);
    const rest = Number((size - (this.endLsn % size)) % size);
    this.#reserve(rest);
    this.#length += rest;
    return this.#note(startLsn, RMGR.xlog);
  }

  /**
   * The server crashed inside a record of `size` bytes, of which whole pages came out; it starts again on the next page.
   * Returns where the lost record began.
   */
  crashInside(size: number): Lsn {
    const startLsn = this.#beginPageIfDue();
    const bytes = this.#encode({ body: Buffer.alloc(size, 0x55) });
    const room = PAGE_SIZE - (this.#length % PAGE_SIZE);
    this.#emit(bytes.subarray(0, room), bytes.length);
    this.overwrite(startLsn);
    return startLsn;
  }

  #note(startLsn: Lsn, rmgrId: number): WrittenRecord {
    const record = { startLsn, endLsn: this.endLsn, rmgrId };
    this.records.push(record);
    return record;
  }

  #encode({
    rmgrId = RMGR.heap,
    info = 0,
    xid = 0,
    body = Buffer.alloc(0),
  }: RecordContent): Buffer {
    const bytes = Buffer.concat([Buffer.alloc(24), body]);
    bytes.writeUInt32LE(bytes.length, 0);
    bytes.writeUInt32LE(xid, 4);
    bytes.writeBigUInt64LE(this.#previous, 8);
    bytes[16] = info;
    bytes[17] = rmgrId;
    const crc = updateCrc32c(updateCrc32c(CRC32C_INITIAL, bytes, 24, bytes.length), bytes, 0, 20);
    bytes.writeUInt32LE(finishCrc32c(crc), 20);
    return bytes;
  }

  /** Writes `bytes` of a record that has `total`, with page headers where they fall. */
  #emit(bytes: Buffer, total: number): void {
    let done = 0;
    while (done < bytes.length) {
      if (this.#length % PAGE_SIZE === 0) this.#pageHeader(1, total - done);
      const take = Math.min(bytes.length - done, PAGE_SIZE - (this.#length % PAGE_SIZE));
      this.#reserve(take);
      bytes.copy(this.#bytes, this.#length, done, done + take);
      this.#length += take;
      done += take;
    }
  }

  #pad(): void {
    const padding = -this.#length & 7;
    this.#reserve(padding);
    this.#length += padding;
  }

  #beginPageIfDue(): Lsn {
    if (this.#length % PAGE_SIZE === 0) this.#pageHeader(0, 0);
    return this.endLsn;
  }

  #pageHeader(flags: number, remaining: number): void {
    const lsn = this.endLsn;
    const isFirst = lsn % BigInt(this.segmentSize) === 0n;
    const header = Buffer.alloc(isFirst ? 40 : 24);
    header.writeUInt16LE(this.facts.walPageMagic, 0);
    header.writeUInt16LE(flags | (isFirst ? 2 : 0), 2);
    header.writeUInt32LE(timelineOfLsn(this.history, lsn), 4);
    header.writeBigUInt64LE(lsn, 8);
    header.writeUInt32LE(remaining, 16);
    if (isFirst) {
      header.writeBigUInt64LE(BigInt(this.systemIdentifier), 24);
      header.writeUInt32LE(this.segmentSize, 32);
      header.writeUInt32LE(PAGE_SIZE, 36);
    }
    this.#reserve(header.length);
    header.copy(this.#bytes, this.#length);
    this.#length += header.length;
  }

  #reserve(byteCount: number): void {
    if (this.#length + byteCount <= this.#bytes.length) return;
    const grown = Buffer.alloc(Math.max(this.#bytes.length * 2, this.#length + byteCount));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}
