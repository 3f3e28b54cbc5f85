// How is WAL from elsewhere brought into a store that no relay holds? Both sides are looked at first, and nothing is
// changed unless they fit together: same cluster, same history, same bytes where both have them, every record's CRC right,
// no hole. WAL before our first byte is copied segment by segment, the newest first, so that the store has no hole at any
// moment; WAL behind our end goes the way received WAL goes. Whatever interrupts this, the store is whole, and the import
// can be done again.
import { open, rename, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { CRC32C_INITIAL, updateCrc32c } from '../base/crc32c.ts';
import { newFileMode, readFully, syncDirectory, writeFully } from '../base/durable-fs.ts';
import { invariant, OperationalError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { advanceLsn, formatLsn, lsnDistance } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentNumber, segmentStart, walFileName } from '../pg/segment.ts';
import type { SegmentNumber, SegmentSize } from '../pg/segment.ts';
import { loadControl, saveControl } from './control-file.ts';
import { walDirectory } from './data-directory.ts';
import { refuseStrangers, SourceSegments } from './import-source.ts';
import type { SourceSegment } from './import-source.ts';
import { Lineage } from './lineage.ts';
import { chainStart } from './records/record-chain.ts';
import type { ChainPosition } from './records/record-chain.ts';
import { RecordWalk } from './records/record-walk.ts';
import { SCAN_CHUNK_BYTES, ScanBuffers } from './segment-scan.ts';
import type { FilePiece } from './segment-scan.ts';
import { TEMPORARY_SEGMENT_PREFIX } from './segment-writer.ts';
import type { StoredIdentity } from './store-options.ts';
import { loadHistory } from './stored-history.ts';
import type { WorkProgress } from './verify.ts';
import { readWalDirectory, withSystemErrors } from './wal-files.ts';
import type { WalDirectory } from './wal-files.ts';
import { WalStore } from './wal-store.ts';

/** What is to be imported. */
export interface ImportOptions {
  /** walcast's data directory; the caller holds its lock. */
  readonly dataDirectory: string;
  /** Where the WAL comes from: another store, a pg_wal, an archive. Nothing is changed there. */
  readonly source: string;
  readonly clock: Clock;
  readonly onProgress: (progress: WorkProgress) => void;
  /** Ends the work with an AbortError; what was imported stays. */
  readonly signal: AbortSignal;
}

/** First byte and end (exclusive) of a store. */
export interface StoreRange {
  readonly oldestLsn: Lsn;
  readonly endLsn: Lsn;
}

/** What came of it. */
export interface ImportReport {
  readonly before: StoreRange;
  readonly after: StoreRange;
  /** Segments that were copied before the first byte. */
  readonly olderSegments: number;
  /** Bytes that were taken in behind the end. */
  readonly newerBytes: number;
  /** What was left out and why, in sentences. */
  readonly notes: readonly string[];
}

/** A segment of the source, walked and found good, as it was then. */
interface CheckedSegment extends SourceSegment {
  readonly crc: number;
}

/**
 * Imports what fits. Throws OperationalError, with nothing changed, when the directory is no store, when the WAL is of
 * another cluster or history, or when there is nothing of our timeline.
 */
export async function importWal(options: ImportOptions): Promise<ImportReport> {
  return await withSystemErrors('the import failed', () => importInto(options));
}

async function importInto(options: ImportOptions): Promise<ImportReport> {
  const control = await loadControl(options.dataDirectory);
  if (control === null) throw noStore(options.dataDirectory);
  const source = await readWalDirectory(options.source);
  // A switch that a stop interrupted is completed when the store is opened.
  const timeline = control.pendingSwitch?.timeline ?? control.timeline;
  const history = await loadHistory(options.dataDirectory, timeline);
  refuseStrangers(source, options.dataDirectory, { control, history });
  let failure: OperationalError | null = null;
  const store = await WalStore.open({
    directory: options.dataDirectory,
    verify: 'record',
    forward: 'received',
    walKeepSizeBytes: Number.MAX_SAFE_INTEGER,
    clock: options.clock,
    log: silentLog,
    onFatal: (error) => {
      failure = error;
    },
  });
  const report = await withStore(store, async () => {
    const end = (await loadControl(options.dataDirectory))?.durableMark ?? control.durableMark;
    return await new Import(options, { store, source, end, failure: () => failure }).run();
  });
  if (failure !== null) throw failure;
  await noteFirst(options.dataDirectory, report.after.oldestLsn);
  return report;
}

/** Whatever came of the work, what was taken in is durable then. */
async function withStore<T>(store: WalStore, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } finally {
    await store.close();
  }
}

/** What an import works on. */
interface ImportParts {
  readonly store: WalStore;
  readonly source: WalDirectory;
  /** The chain of records at the end of the store. */
  readonly end: ChainPosition;
  /** Why the store can take nothing more; null while it can. */
  readonly failure: () => OperationalError | null;
}

class Import {
  readonly #options: ImportOptions;
  readonly #parts: ImportParts;
  readonly #identity: StoredIdentity;
  readonly #size: SegmentSize;
  readonly #lineage: Lineage;
  readonly #buffers = new ScanBuffers();
  readonly #notes: string[] = [];
  readonly #before: StoreRange;
  #doneBytes = 0;
  #totalBytes = 0;

  constructor(options: ImportOptions, parts: ImportParts) {
    const { store } = parts;
    const { identity } = store;
    invariant(identity !== null, 'a store with a control file has an identity');
    this.#options = options;
    this.#parts = parts;
    this.#identity = identity;
    this.#size = identity.segmentSize;
    this.#lineage = new Lineage(identity.history, identity.segmentSize);
    this.#before = { oldestLsn: store.oldestLsn(), endLsn: store.nextLsn() };
  }

  /** Everything is checked before anything is changed. */
  async run(): Promise<ImportReport> {
    const source = new SourceSegments(this.#parts.source, this.#identity);
    const older = source.before(this.#before.oldestLsn);
    const newer = source.from(this.#before.endLsn);
    this.#notes.push(...source.notes);
    // Each byte is read twice: to be checked, and to be taken.
    this.#totalBytes = 2 * (older.length + newer.length) * this.#size;
    await this.#compareEnd(newer);
    const checkedOlder = await this.#checkOlder(older);
    const sourceEnd = await this.#checkNewer(newer);
    for (const segment of checkedOlder.toReversed()) await this.#copy(segment);
    await this.#append(newer, sourceEnd);
    const [lowest] = checkedOlder;
    const oldestLsn =
      lowest === undefined ? this.#before.oldestLsn : segmentStart(lowest.segment, this.#size);
    return {
      before: this.#before,
      after: { oldestLsn, endLsn: sourceEnd },
      olderSegments: checkedOlder.length,
      newerBytes: lsnDistance(this.#before.endLsn, sourceEnd),
      notes: this.#notes,
    };
  }

  // --- does it fit?

  /** Where both have the segment that holds our end, both must have the same bytes, as far as the source has WAL. */
  async #compareEnd([first]: readonly SourceSegment[]): Promise<void> {
    if (first === undefined) return;
    const length = await this.#validLength(first, this.#before.endLsn);
    if (length === 0) return;
    const own = this.#ownName(first.segment);
    const ours = await open(join(walDirectory(this.#options.dataDirectory), own), 'r');
    try {
      const mine = Buffer.allocUnsafe(SCAN_CHUNK_BYTES);
      await this.#read(first, { from: 0, to: length }, async ({ offset, bytes }) => {
        const size = await readFully(ours, mine.subarray(0, bytes.length), offset);
        if (mine.subarray(0, size).equals(bytes)) return;
        throw this.#differs(first.file.name, this.#lsnAt(first, offset));
      });
    } finally {
      await ours.close();
    }
  }

  /** Bytes from the start of the segment to the end of its good WAL, or to `endLsn` when that comes first. */
  async #validLength(segment: SourceSegment, endLsn: Lsn): Promise<number> {
    const startLsn = this.#lsnAt(segment, 0);
    const to = lsnDistance(startLsn, endLsn);
    const walk = this.#walk(chainStart(startLsn));
    let isOver = false;
    await this.#read(segment, { from: 0, to }, ({ bytes }) => {
      isOver ||= walk.scan(bytes) !== null;
    });
    return isOver ? lsnDistance(startLsn, walk.recordEnd()) : Math.min(to, segment.file.size);
  }

  /** Those from which on everything is good and joins on to our first record; damaged ones and what is older go. */
  async #checkOlder(candidates: readonly SourceSegment[]): Promise<CheckedSegment[]> {
    let rest = candidates;
    while (rest.length > 0) {
      const walk = this.#walk(chainStart(this.#lsnAt(rest[0], 0)));
      const checked: CheckedSegment[] = [];
      let bad: string | null = null;
      for (const segment of rest) {
        let crc = CRC32C_INITIAL;
        await this.#read(segment, { from: 0, to: this.#size }, (piece) => {
          crc = updateCrc32c(crc, piece.bytes, 0, piece.bytes.length);
          bad ??= walk.scan(piece.bytes)?.reason ?? null;
        });
        if (bad !== null) break;
        checked.push({ ...segment, crc });
      }
      if (bad === null) {
        await this.#checkJoin(walk);
        return checked;
      }
      const name = rest[checked.length]?.file.name ?? '';
      this.#notes.push(`${name} and older were left out: ${String(bad)}`);
      rest = rest.slice(checked.length + 1);
    }
    return [];
  }

  /** Walks on into our own WAL up to the end of the first record: it must be the one that the others lead to. */
  async #checkJoin(walk: RecordWalk): Promise<void> {
    const { oldestLsn, endLsn } = this.#before;
    const name = this.#ownName(segmentNumber(oldestLsn, this.#size));
    if (oldestLsn === endLsn) return;
    const handle = await open(join(walDirectory(this.#options.dataDirectory), name), 'r');
    const length = Math.min(this.#size, lsnDistance(oldestLsn, endLsn));
    try {
      for await (const { bytes } of this.#buffers.pieces(handle, 0, length)) {
        const failure = walk.scan(bytes);
        if (failure !== null) throw this.#doesNotJoin(name, failure.reason);
        if (walk.recordEnd() > oldestLsn) return;
      }
    } finally {
      await handle.close();
    }
  }

  /** Where the good WAL of the source ends, our own end at least. */
  async #checkNewer(candidates: readonly SourceSegment[]): Promise<Lsn> {
    const { end } = this.#parts;
    invariant(end.lsn === this.#before.endLsn, 'the control file names the end of the store');
    const walk = this.#walk(end);
    let over: string | null = null;
    for (const segment of candidates) {
      const range = { from: this.#from(segment), to: this.#size };
      await this.#read(segment, range, ({ bytes }) => {
        over ??= walk.scan(bytes)?.reason ?? null;
      });
      if (over === null) continue;
      // The end of the last segment is an end like any other.
      if (segment !== candidates.at(-1)) {
        const lsn = formatLsn(walk.recordEnd());
        this.#notes.push(`the WAL of the source ends at ${lsn}: ${String(over)}`);
      }
      break;
    }
    return walk.recordEnd();
  }

  // --- taking it

  /** Copies one segment before our first byte; durable, with its name, when it resolves. */
  async #copy(segment: CheckedSegment): Promise<void> {
    const { name } = segment.file;
    const directory = walDirectory(this.#options.dataDirectory);
    const temporary = join(directory, TEMPORARY_SEGMENT_PREFIX + name);
    const target = await open(temporary, 'w', newFileMode());
    try {
      let crc = CRC32C_INITIAL;
      await this.#read(segment, { from: 0, to: this.#size }, async ({ offset, bytes }) => {
        crc = updateCrc32c(crc, bytes, 0, bytes.length);
        await writeFully(target, bytes, offset);
      });
      if (crc !== segment.crc) throw this.#changed(name);
      await target.sync();
    } catch (error) {
      await unlink(temporary).catch(() => {});
      throw error;
    } finally {
      await target.close();
    }
    await rename(temporary, join(directory, name));
    await syncDirectory(directory);
  }

  /** Takes in everything from our end up to `endLsn`; durable when the store is closed. */
  async #append(segments: readonly SourceSegment[], endLsn: Lsn): Promise<void> {
    const { store } = this.#parts;
    for (const segment of segments) {
      const to = Math.min(this.#size, lsnDistance(this.#lsnAt(segment, 0), endLsn));
      const range = { from: this.#from(segment), to };
      await this.#read(segment, range, async ({ offset, bytes }) => {
        const refused = store.append(this.#lsnAt(segment, offset), bytes);
        if (refused !== null) throw this.#parts.failure() ?? this.#changed(segment.file.name);
        await this.#room();
      });
    }
  }

  /** Waits until the store takes more; not for ever, where the disk takes nothing. */
  async #room(): Promise<void> {
    const { clock, signal, dataDirectory } = this.#options;
    const { store } = this.#parts;
    let writtenLsn = store.positions().writtenLsn;
    let sinceMs = clock.nowMs();
    while (store.isFull()) {
      const failure = this.#parts.failure();
      if (failure !== null) throw failure;
      signal.throwIfAborted();
      if (store.positions().writtenLsn > writtenLsn) {
        writtenLsn = store.positions().writtenLsn;
        sinceMs = clock.nowMs();
      }
      if (clock.nowMs() - sinceMs > NO_ROOM_MS_MAX) throw noRoom(dataDirectory, writtenLsn);
      await new Promise<void>((resolve) => {
        const timer = clock.setTimer(ROOM_POLL_MS, resolve);
        store.onRoom(() => {
          timer.cancel();
          resolve();
        });
      });
    }
  }

  // --- reading

  /** Hands [from, to) of a file to `take`, piece by piece; a file that is shorter ends earlier. */
  async #read(
    { file }: SourceSegment,
    { from, to }: { readonly from: number; readonly to: number },
    take: (piece: FilePiece) => Promise<void> | void,
  ): Promise<void> {
    if (from >= to) return;
    const handle: FileHandle = await open(join(this.#parts.source.path, file.name), 'r');
    try {
      for await (const piece of this.#buffers.pieces(handle, from, to)) {
        this.#options.signal.throwIfAborted();
        await take(piece);
        this.#doneBytes += piece.bytes.length;
        const [doneBytes, totalBytes] = [this.#doneBytes, this.#totalBytes];
        this.#options.onProgress({ doneBytes: Math.min(doneBytes, totalBytes), totalBytes });
      }
    } finally {
      await handle.close();
    }
  }

  #walk(start: ChainPosition): RecordWalk {
    return new RecordWalk({ ...this.#identity, checksums: true }, start);
  }

  #ownName(segment: SegmentNumber): string {
    return walFileName(this.#lineage.fileTimeline(segment), segment, this.#size);
  }

  #lsnAt(segment: SourceSegment | undefined, offset: number): Lsn {
    invariant(segment !== undefined, 'there is a segment');
    return advanceLsn(segmentStart(segment.segment, this.#size), offset);
  }

  /** Offset of the first byte in the file that we have not got. */
  #from(segment: SourceSegment): number {
    return Math.max(0, lsnDistance(this.#lsnAt(segment, 0), this.#before.endLsn));
  }

  // --- refusals

  #differs(name: string, lsn: Lsn): OperationalError {
    return new OperationalError(
      'IMPORT_DIVERGED',
      `${name} has other bytes than the store at or behind ${formatLsn(lsn)}`,
      {
        hint: 'It is of another history of this cluster. Nothing was changed.',
      },
    );
  }

  #doesNotJoin(name: string, reason: string): OperationalError {
    return new OperationalError(
      'IMPORT_DIVERGED',
      `the WAL of "${this.#options.source}" does not lead to ${name} of the store: ${reason}`,
      { hint: 'It is of another history of this cluster. Nothing was changed.' },
    );
  }

  #changed(name: string): OperationalError {
    return new OperationalError('IMPORT_CHANGED', `${name} changed while it was imported`, {
      hint: 'What was imported before is good. Let nobody write there, and import again.',
    });
  }
}

const ROOM_POLL_MS = 1_000;

/** A disk that takes nothing for so long is full. */
const NO_ROOM_MS_MAX = 15_000;

function noRoom(directory: string, lsn: Lsn): OperationalError {
  return new OperationalError(
    'IMPORT_NO_SPACE',
    `the disk of "${directory}" takes nothing more; WAL up to ${formatLsn(lsn)} was imported`,
    { hint: 'Free space on its file system, and import again.' },
  );
}

function noStore(directory: string): OperationalError {
  return new OperationalError('NO_STORE', `"${directory}" holds no store of walcast`, {
    hint: 'Let walcast run begin one first: only it learns from the server whose WAL it is.',
  });
}

/** The store begins earlier now than where it once was begun. */
async function noteFirst(dataDirectory: string, oldestLsn: Lsn): Promise<void> {
  const control = await loadControl(dataDirectory);
  if (control === null || control.firstLsn <= oldestLsn) return;
  await saveControl(dataDirectory, { ...control, firstLsn: oldestLsn });
}
