// Which files of the WAL directory may be given to a restore_command, and how? Only what is whole, on the disk, of our own
// history and passes its checks; piece by piece, as fast as it is taken, and a bounded number of files at once.
//
// A download keeps the file of its segment open, in a reader of its own: one that retention removes meanwhile is given
// whole. What it costs others is bounded: few reads at once, one segment held back from being freed a download.
import type { Clock } from '../base/clock.ts';
import { OperationalError } from '../base/errors.ts';
import {
  WAL_DOWNLOAD_PIECE_BYTES,
  WAL_DOWNLOAD_READS_MAX,
  WAL_DOWNLOAD_WAIT_MS,
  WAL_DOWNLOADS_MAX,
} from '../config/limits.ts';
import { advanceLsn, formatLsn, lsnDistance, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { nextSegment, parseWalFileName, segmentStart } from '../pg/segment.ts';
import { isInHistory, parseHistoryFileName, switchPoint } from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { WalFile, WalFileRefusal } from '../status/actions.ts';
import { walDirectory } from '../wal/data-directory.ts';
import type { StoredIdentity } from '../wal/store-options.ts';
import { WalReader } from '../wal/wal-reader.ts';
import type { StoredReadFailure, StoredReadLater } from '../wal/wal-reader.ts';
import type { WalStore } from '../wal/wal-store.ts';
import type { DamagedWal } from './repair.ts';

/** Bounds of all downloads together. */
export interface WalFilesLimits {
  readonly downloadsMax: number;
  readonly waitMs: number;
  readonly readsMax: number;
  readonly pieceBytes: number;
}

const LIMITS: WalFilesLimits = {
  downloadsMax: WAL_DOWNLOADS_MAX,
  waitMs: WAL_DOWNLOAD_WAIT_MS,
  readsMax: WAL_DOWNLOAD_READS_MAX,
  pieceBytes: WAL_DOWNLOAD_PIECE_BYTES,
};

/** A segment as it lies in the store. */
interface Segment {
  readonly name: string;
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
  /** Exclusive. */
  readonly endLsn: Lsn;
}

/** What is read for a download: the piece of its segment that begins at `startLsn`. */
interface PieceRead {
  readonly reader: WalReader;
  readonly segment: Segment;
  readonly startLsn: Lsn;
  readonly isClosed: () => boolean;
}

/** The files of one store. */
export class WalFiles {
  readonly #store: () => WalStore | null;
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #limits: WalFilesLimits;
  readonly #repair: (damage: DamagedWal) => StoredReadFailure | StoredReadLater;
  readonly #waitingReads: (() => void)[] = [];
  /** In the order they came. */
  readonly #waitingDownloads = new Set<() => void>();
  #reads = 0;
  #downloads = 0;

  /** `store` is asked at each request; null before it is open. `dataDirectory` is walcast's own. */
  constructor(options: {
    readonly store: () => WalStore | null;
    readonly dataDirectory: string;
    readonly clock: Clock;
    readonly limits?: WalFilesLimits;
    /** What is to be done about stored WAL that is damaged; nothing, without it. */
    readonly repair?: (damage: DamagedWal) => StoredReadFailure | StoredReadLater;
  }) {
    this.#store = options.store;
    this.#directory = walDirectory(options.dataDirectory);
    this.#clock = options.clock;
    this.#limits = options.limits ?? LIMITS;
    this.#repair = options.repair ?? ((damage) => damage);
  }

  /** Opens a file for a download. What comes back as a file has to be closed. Never rejects for a bad name. */
  async open(name: string): Promise<WalFile | WalFileRefusal> {
    const timeline = parseHistoryFileName(name);
    if (timeline === null && !/^[0-9A-F]{24}$/.test(name)) return { kind: 'unknown-name' };
    const store = this.#store();
    const identity = store?.identity ?? null;
    if (store === null || identity === null) return { kind: 'starting' };
    if (timeline !== null) return await historyOf(store, identity, { name, timeline });
    const segment = segmentOf(name, identity);
    if (segment === null) return { kind: 'unknown-name' };
    const refusal = refusalOf(store, segment);
    if (refusal !== null) return refusal;
    // Waiting is better than a refusal: to a recovery, that is the end of the archive.
    if (!(await this.#beginDownload())) return { kind: 'busy' };
    return await this.#download(store, identity, segment);
  }

  async #download(
    store: WalStore,
    identity: StoredIdentity,
    segment: Segment,
  ): Promise<WalFile | WalFileRefusal> {
    const reader = new WalReader({
      directory: this.#directory,
      origin: identity,
      oldestLsn: () => store.oldestLsn(),
      writtenLsn: () => store.positions().writtenLsn,
      settledLsn: () => store.positions().flushedLsn,
      ...(store.reader === null ? {} : { checks: store.reader.checks }),
      readsMax: 1,
      openFilesMax: 1,
    });
    let isClosed = false;
    const close = (): void => {
      if (isClosed) return;
      isClosed = true;
      reader.close();
      this.#endDownload();
    };
    const read = (startLsn: Lsn): Promise<Uint8Array | StoredReadFailure> =>
      this.#read(store, { reader, segment, startLsn, isClosed: () => isClosed });
    // The first piece opens the file, and is the answer to whether it can be read at all.
    const first = await read(segment.startLsn);
    if (!(first instanceof Uint8Array)) {
      close();
      if (first.kind === 'removed') return { kind: 'absent' };
      return { kind: 'damaged', lsn: first.lsn, reason: first.reason };
    }
    return {
      name: segment.name,
      size: lsnDistance(segment.startLsn, segment.endLsn),
      version: `${identity.systemIdentifier}-${segment.name}`,
      chunks: piecesFrom(first, segment, read),
      close,
    };
  }

  async #read(store: WalStore, piece: PieceRead): Promise<Uint8Array | StoredReadFailure> {
    for (;;) {
      const bytes = await this.#readOnce(store, piece);
      if (bytes instanceof Uint8Array || bytes.kind !== 'later') return bytes;
      // Nobody else's read waits for that.
      await bytes.ready;
    }
  }

  async #readOnce(
    store: WalStore,
    piece: PieceRead,
  ): Promise<Uint8Array | StoredReadFailure | StoredReadLater> {
    const { reader, segment, startLsn, isClosed } = piece;
    const { timeline } = segment;
    const endLsn = minLsn(segment.endLsn, advanceLsn(startLsn, this.#limits.pieceBytes));
    await this.#enter();
    try {
      // A reader that is closed would open the file again, and nobody would close it.
      if (isClosed()) throw new OperationalError('WAL_FILE_CLOSED', 'the download is over');
      const bytes = await reader.read(timeline, startLsn, endLsn);
      // The timeline was left before the segment's end: it is dead, and its file lies elsewhere.
      if (!isWholeIn(store.history(), segment))
        return { kind: 'removed', walFileName: segment.name };
      if (bytes instanceof Uint8Array || bytes.kind !== 'damaged') return bytes;
      // It is said in the log and counted, as for anybody else who comes across it.
      store.noteDamage(bytes);
      return this.#repair(bytes);
    } finally {
      this.#leave();
    }
  }

  /** False when no place became free in time. */
  async #beginDownload(): Promise<boolean> {
    if (this.#downloads < this.#limits.downloadsMax) {
      this.#downloads += 1;
      return true;
    }
    return await new Promise<boolean>((resolve) => {
      const timer = this.#clock.setTimer(this.#limits.waitMs, () => {
        this.#waitingDownloads.delete(begin);
        resolve(false);
      });
      const begin = (): void => {
        timer.cancel();
        resolve(true);
      };
      this.#waitingDownloads.add(begin);
    });
  }

  #endDownload(): void {
    const [next] = this.#waitingDownloads;
    if (next === undefined) {
      this.#downloads -= 1;
      return;
    }
    // The place is handed on, not given back, so that nobody can slip in between.
    this.#waitingDownloads.delete(next);
    next();
  }

  async #enter(): Promise<void> {
    if (this.#reads < this.#limits.readsMax) this.#reads += 1;
    else await new Promise<void>((resolve) => this.#waitingReads.push(resolve));
  }

  #leave(): void {
    const next = this.#waitingReads.shift();
    if (next === undefined) this.#reads -= 1;
    else next();
  }
}

async function* piecesFrom(
  first: Uint8Array,
  segment: Segment,
  read: (startLsn: Lsn) => Promise<Uint8Array | StoredReadFailure>,
): AsyncGenerator<Uint8Array> {
  yield first;
  for (let lsn = advanceLsn(segment.startLsn, first.length); lsn < segment.endLsn;) {
    const piece = await read(lsn);
    if (!(piece instanceof Uint8Array)) throw unreadable(segment.name, piece);
    yield piece;
    lsn = advanceLsn(lsn, piece.length);
  }
}

function unreadable(name: string, failure: StoredReadFailure): OperationalError {
  const what =
    failure.kind === 'removed'
      ? 'it was removed'
      : `at ${formatLsn(failure.lsn)}: ${failure.reason}`;
  return new OperationalError('WAL_FILE', `WAL file "${name}" cannot be given whole: ${what}`);
}

async function historyOf(
  store: WalStore,
  identity: StoredIdentity,
  file: { readonly name: string; readonly timeline: TimelineId },
): Promise<WalFile | WalFileRefusal> {
  // A recovery follows the newest history it can get: one that we have no WAL for would lead it astray.
  if (!isInHistory(identity.history, file.timeline)) return { kind: 'absent' };
  const bytes = await store.historyFile(file.timeline);
  if (bytes === null) return { kind: 'absent' };
  return {
    name: file.name,
    size: bytes.length,
    version: `${identity.systemIdentifier}-${file.name}`,
    chunks: onePiece(bytes),
    close: () => {},
  };
}

async function* onePiece(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function segmentOf(name: string, { segmentSize }: StoredIdentity): Segment | null {
  const parsed = parseWalFileName(name, segmentSize);
  if (parsed === null) return null;
  const { timeline, segment } = parsed;
  // The last one of all ends where no LSN is any more: nobody ever writes it.
  if (nextSegment(segment) * BigInt(segmentSize) >= 1n << 64n) return null;
  const startLsn = segmentStart(segment, segmentSize);
  return { name, timeline, startLsn, endLsn: segmentStart(nextSegment(segment), segmentSize) };
}

/** Null for a segment that is whole and durable. */
function refusalOf(store: WalStore, segment: Segment): WalFileRefusal | null {
  const { timeline, startLsn, endLsn } = segment;
  const history = store.history();
  if (startLsn < store.oldestLsn() || !isWholeIn(history, segment)) return { kind: 'absent' };
  const { receivedLsn, flushedLsn } = store.positions();
  if (endLsn <= flushedLsn) return null;
  const isBegun = timeline === history.timeline && startLsn < receivedLsn;
  return isBegun ? { kind: 'incomplete', availableLsn: flushedLsn } : { kind: 'absent' };
}

/**
 * A timeline's files begin with the segment in which it was entered, which starts with a copy, and end before the one in
 * which it was left: that one is whole on the next timeline only.
 */
function isWholeIn(history: TimelineHistory, { timeline, endLsn }: Segment): boolean {
  if (!isInHistory(history, timeline)) return false;
  const left = switchPoint(history, timeline);
  if (left !== null && endLsn > left.endLsn) return false;
  const parent = history.ancestors.findLast((entry) => entry.timeline < timeline);
  return parent === undefined || endLsn > parent.endLsn;
}
