// Where does the stored WAL end, for sure? Asked at every start. From the durable mark on, everything is read, written
// back and flushed (pages whose fsync once failed look clean, so flushing alone would prove nothing), and walked with all
// checksums. The last complete record is the end; what lies behind it is cut, because it is fetched again. Each step can
// be cut short by a crash and done again: nothing before the end is ever changed, and what is behind it stays invalid.
// With `verify: page` not every record's checksum was seen at receipt, only those that positions are named after. A
// record that came damaged inside a message is found here, if it lies behind the mark: then the end is before what was
// reported as flushed, and no flush is offered upstream until the WAL from there on was fetched again.
// The time this takes depends on the WAL behind the mark, not on how much is kept: the rest is a list of names.
// A mark at the switch point of the newest timeline is as good as any: nothing before it is looked at, or cut.
import { open, readdir, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { readFully, syncDirectory, writeFully } from '../base/durable-fs.ts';
import { OperationalError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { advanceLsn, formatLsn, lsnDistance, pageStart } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import {
  nextSegment,
  parseWalFileName,
  segmentNumber,
  segmentNumberBefore,
  segmentOffset,
  segmentStart,
  walFileName,
} from '../pg/segment.ts';
import type { SegmentNumber } from '../pg/segment.ts';
import { Lineage } from './lineage.ts';
import { preparePageSums } from './page-sums.ts';
import type { PageOrigin } from './records/page-header.ts';
import type { ChainPosition } from './records/record-chain.ts';
import { RecordWalk } from './records/record-walk.ts';
import { isZeroRange } from './records/zeros.ts';
import { TEMPORARY_SEGMENT_PREFIX } from './segment-writer.ts';

/** What is to be recovered. */
export interface RecoveryOptions {
  /** The directory of the segments. */
  readonly directory: string;
  /** Its history says which files are ours: WAL of every timeline up to the newest one, which is being received. */
  readonly origin: PageOrigin;
  /** Where the store once began. */
  readonly firstLsn: Lsn;
  readonly durableMark: ChainPosition;
  readonly log: Log;
}

/** What was found. */
export interface RecoveredWal {
  /** The end: R, W and F at once. */
  readonly end: ChainPosition;
  /** First byte that belongs to the store: a segment start. Segments behind it may be missing, and are fetched when read. */
  readonly oldestLsn: Lsn;
}

const CHUNK_BYTES = 1 << 20;

/** Finds the end and cuts what lies behind it. Throws OperationalError when the store is damaged before the mark. */
export async function recoverWal(options: RecoveryOptions): Promise<RecoveredWal> {
  return await new Recovery(options).run();
}

class Recovery {
  readonly #options: RecoveryOptions;
  readonly #lineage: Lineage;
  readonly #walk: RecordWalk;
  #readBytes = 0;
  #segments = new Set<SegmentNumber>();
  /** Files of older timelines whose segment a newer one has, too: nobody reads them here. */
  readonly #superseded = new Map<string, SegmentNumber>();

  constructor(options: RecoveryOptions) {
    this.#options = options;
    this.#lineage = new Lineage(options.origin.history, options.origin.segmentSize);
    this.#walk = new RecordWalk({ ...options.origin, checksums: true }, options.durableMark);
  }

  async run(): Promise<RecoveredWal> {
    await this.#list();
    this.#checkMarkIsStored();
    await this.#walkFiles();
    const end = this.#walk.position();
    await this.#removeBehind(end.lsn);
    await this.#zeroBehind(end.lsn);
    await syncDirectory(this.#options.directory);
    const oldestLsn = this.#oldestBefore(end.lsn);
    this.#tellMissing(oldestLsn, end.lsn);
    await this.#removeBefore(oldestLsn);
    const { directory, origin } = this.#options;
    const { timeline } = origin.history;
    await preparePageSums(directory, { timeline, endLsn: end.lsn, ...origin });
    this.#options.log.info('stored WAL ends here', {
      lsn: formatLsn(end.lsn),
      oldest_lsn: formatLsn(oldestLsn),
      durable_mark: formatLsn(this.#options.durableMark.lsn),
      bytes_read: this.#readBytes,
    });
    return { end, oldestLsn };
  }

  async #list(): Promise<void> {
    const { directory, origin } = this.#options;
    for (const name of await readdir(directory)) {
      if (name.startsWith(TEMPORARY_SEGMENT_PREFIX)) await unlink(join(directory, name));
      const parsed = parseWalFileName(name, origin.segmentSize);
      if (parsed === null) continue;
      const { segment, timeline } = parsed;
      const [newest, ...older] = this.#lineage.fileTimelines(segment);
      if (timeline === newest) this.#segments.add(segment);
      else if (older.includes(timeline)) this.#superseded.set(name, segment);
    }
  }

  #checkMarkIsStored(): void {
    const { durableMark, firstLsn, origin } = this.#options;
    const { lsn } = durableMark;
    const isInside = segmentOffset(lsn, origin.segmentSize) !== 0;
    const segment = segmentNumber(lsn, origin.segmentSize);
    if (lsn >= firstLsn && (!isInside || this.#segments.has(segment))) return;
    throw new OperationalError(
      'WAL_MISSING',
      `the WAL segment "${this.#path(segment)}" is missing, though WAL up to ${formatLsn(lsn)} was durable`,
      {
        hint: 'Something removed it. Put it back, or begin anew with "walcast store reset".',
      },
    );
  }

  /** Walks on until the chain of records breaks or the files end, and leaves all it read durable. */
  async #walkFiles(): Promise<void> {
    const { origin, durableMark } = this.#options;
    let segment = segmentNumber(durableMark.lsn, origin.segmentSize);
    let isOver = false;
    while (this.#segments.has(segment) && !isOver) {
      const handle = await this.#open(segment);
      try {
        isOver = await this.#walkSegment(handle, segment);
        await handle.datasync();
      } finally {
        await handle.close();
      }
      segment = nextSegment(segment);
    }
  }

  async #walkSegment(handle: FileHandle, segment: SegmentNumber): Promise<boolean> {
    const { segmentSize } = this.#options.origin;
    const start = segmentStart(segment, segmentSize);
    const end = advanceLsn(start, segmentSize);
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    let from = pageStart(this.#walk.nextLsn());
    while (from < end) {
      const length = Math.min(CHUNK_BYTES, lsnDistance(from, end));
      const chunk = buffer.subarray(0, length);
      await this.#readWhole(handle, chunk, { segment, offset: lsnDistance(start, from) });
      await writeFully(handle, chunk, lsnDistance(start, from));
      const failure = this.#walk.scan(chunk.subarray(lsnDistance(from, this.#walk.nextLsn())));
      if (failure !== null) return true;
      from = advanceLsn(from, length);
    }
    return false;
  }

  async #removeBehind(end: Lsn): Promise<void> {
    const { directory, origin } = this.#options;
    const last = segmentNumberBefore(end, origin.segmentSize);
    const behind = [...this.#segments].filter((segment) => segment > last).toSorted(descending);
    for (const segment of behind) {
      await unlink(this.#path(segment));
      this.#segments.delete(segment);
    }
    // Gone before anything before them is made to look like an end.
    if (behind.length > 0) await syncDirectory(directory);
  }

  /** Zeros behind the end, as in a segment that was never written further. */
  async #zeroBehind(end: Lsn): Promise<void> {
    const { segmentSize } = this.#options.origin;
    const offset = segmentOffset(end, segmentSize);
    if (offset === 0) return;
    const segment = segmentNumber(end, segmentSize);
    const handle = await this.#open(segment);
    try {
      const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
      for (let at = offset; at < segmentSize; at += CHUNK_BYTES) {
        const chunk = buffer.subarray(0, Math.min(CHUNK_BYTES, segmentSize - at));
        await this.#readWhole(handle, chunk, { segment, offset: at });
        if (isZeroRange(chunk, 0, chunk.length)) continue;
        await writeFully(handle, chunk.fill(0), at);
      }
      await handle.datasync();
    } finally {
      await handle.close();
    }
  }

  /**
   * Also behind a hole: slots were promised what lies before it, and what is missing is fetched again from the upstream when
   * somebody wants it. Only what is older than the store, and does not join on, is none of its WAL.
   */
  #oldestBefore(end: Lsn): Lsn {
    const { origin, firstLsn } = this.#options;
    const { segmentSize } = origin;
    const last = segmentNumberBefore(end, segmentSize);
    if (!this.#segments.has(last)) return end;
    const first = segmentNumber(firstLsn, segmentSize);
    let oldest = last;
    for (const segment of [...this.#segments].toSorted(descending)) {
      if (segment >= first || segment === oldest - 1n) oldest = segment;
    }
    return segmentStart(oldest, segmentSize);
  }

  #tellMissing(oldestLsn: Lsn, end: Lsn): void {
    const { origin, log } = this.#options;
    const { segmentSize } = origin;
    const last = segmentNumberBefore(end, segmentSize);
    const first = segmentNumber(oldestLsn, segmentSize);
    const there = [...this.#segments].filter((segment) => segment >= first).toSorted(ascending);
    const missing = Number(last - first) + 1 - there.length;
    if (there.length === 0 || missing <= 0) return;
    const before = there.findIndex((segment, index) => segment !== first + BigInt(index));
    log.error('WAL segments of the store are missing', {
      segments: missing,
      first_file: this.#name((first + BigInt(before)) as SegmentNumber),
      next: 'they are fetched from the upstream when they are needed; archived copies can be put in their place',
    });
  }

  /** What is older than the store can be served to nobody, and nothing would ever remove it. */
  async #removeBefore(oldestLsn: Lsn): Promise<void> {
    const { origin, log } = this.#options;
    const first = segmentNumber(oldestLsn, origin.segmentSize);
    for (const [file, segment] of this.#superseded) {
      if (segment < first) await unlink(join(this.#options.directory, file));
    }
    const left = [...this.#segments].filter((segment) => segment < first).toSorted(ascending);
    for (const segment of left) {
      const file = this.#name(segment);
      await unlink(this.#path(segment));
      this.#segments.delete(segment);
      log.warn('a WAL segment from before the store was removed: it cannot be served', {
        file,
        oldest_lsn: formatLsn(oldestLsn),
      });
    }
  }

  async #open(segment: SegmentNumber): Promise<FileHandle> {
    return await open(this.#path(segment), 'r+');
  }

  async #readWhole(
    handle: FileHandle,
    chunk: Uint8Array,
    at: { segment: SegmentNumber; offset: number },
  ): Promise<void> {
    this.#readBytes += chunk.length;
    if ((await readFully(handle, chunk, at.offset)) === chunk.length) return;
    throw new OperationalError(
      'SEGMENT_SIZE',
      `the WAL segment "${this.#path(at.segment)}" is shorter than ${this.#options.origin.segmentSize} bytes`,
      { hint: 'Something else than walcast changed it.' },
    );
  }

  #path(segment: SegmentNumber): string {
    return join(this.#options.directory, this.#name(segment));
  }

  #name(segment: SegmentNumber): string {
    const timeline = this.#lineage.fileTimeline(segment);
    return walFileName(timeline, segment, this.#options.origin.segmentSize);
  }
}

function ascending(a: bigint, b: bigint): number {
  return -descending(a, b);
}

function descending(a: bigint, b: bigint): number {
  return a < b ? 1 : -1;
}
