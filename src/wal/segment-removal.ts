// Which segments go, and how? The first stored byte moves in memory before a file is touched, so that no reader begins
// on it; the files go one after the other through the thread pool. History files stay for ever: they are tiny, and every
// newer standby asks for them. A segment that several timelines of our history have bytes in goes with all its files.
import { unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText, systemErrorCode } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { advanceLsn, INVALID_LSN, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import {
  nextSegment,
  segmentNumber,
  segmentStart,
  segmentStartOf,
  walFileName,
} from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { TimelineHistory } from '../pg/timeline.ts';
import { Lineage } from './lineage.ts';
import { removePageSums } from './page-sums.ts';

/** What removal needs. */
export interface SegmentRemovalOptions {
  /** The directory of the segments. */
  readonly directory: string;
  readonly segmentSize: SegmentSize;
  /** Of the timeline that is being received. */
  readonly history: TimelineHistory;
  readonly oldestLsn: Lsn;
  readonly log: Log;
  /** Called before each file goes and again when it has gone: a read may have opened it in between. */
  readonly onRemove: (walFile: string) => void;
  /** Offers the file at a path for another use. False: it is still there, and is removed. Never rejects. */
  readonly onRemovable?: (path: string) => Promise<boolean>;
  readonly onError: () => void;
}

/** What needs WAL that is stored. */
export interface WalNeeds {
  readonly writtenLsn: Lsn;
  readonly flushedLsn: Lsn;
  readonly walKeepSizeBytes: number;
  /** Where the next recovery begins, as it stands on the disk. */
  readonly markLsn: Lsn;
  /** Of the slots, as it stands on the disk; null when they keep nothing. */
  readonly minimumSlotLsn: Lsn | null;
}

/** The first byte that neither the keep window, nor slots, nor a recovery can do without. */
export function firstNeeded(needs: WalNeeds): Lsn {
  const { writtenLsn, flushedLsn, walKeepSizeBytes, markLsn, minimumSlotLsn } = needs;
  const isMore = BigInt(walKeepSizeBytes) < writtenLsn;
  const windowStart = isMore ? advanceLsn(writtenLsn, -walKeepSizeBytes) : INVALID_LSN;
  const keepLsn = minLsn(windowStart, minLsn(markLsn, flushedLsn));
  return minimumSlotLsn === null ? keepLsn : minLsn(keepLsn, minimumSlotLsn);
}

/** Knows the first stored byte and moves it. */
export class SegmentRemoval {
  readonly #options: SegmentRemovalOptions;
  #lineage: Lineage;
  #oldestLsn: Lsn;
  #removed = 0;
  #running: Promise<void> = Promise.resolve();

  constructor(options: SegmentRemovalOptions) {
    this.#options = options;
    this.#lineage = new Lineage(options.history, options.segmentSize);
    this.#oldestLsn = options.oldestLsn;
  }

  /** First byte that is stored: a segment start. */
  get oldestLsn(): Lsn {
    return this.#oldestLsn;
  }

  /** Segments removed since the start. */
  get removed(): number {
    return this.#removed;
  }

  /** Removes whole segments that end at or before `keepLsn`. */
  removeBefore(keepLsn: Lsn): void {
    const { segmentSize } = this.#options;
    const newOldest = segmentStartOf(keepLsn, segmentSize);
    const names: string[] = [];
    let segment = segmentNumber(this.#oldestLsn, segmentSize);
    while (segmentStart(segment, segmentSize) < newOldest) {
      for (const timeline of this.#lineage.fileTimelines(segment)) {
        names.push(walFileName(timeline, segment, segmentSize));
      }
      segment = nextSegment(segment);
    }
    if (names.length === 0) return;
    this.#oldestLsn = newOldest;
    this.#running = this.#running.then(() => this.#remove(names));
  }

  /** Another timeline is being received, of which the one before is an ancestor. */
  follow(history: TimelineHistory): void {
    this.#lineage = new Lineage(history, this.#options.segmentSize);
  }

  /** Resolves when no removal is under way. */
  async settle(): Promise<void> {
    await this.#running;
  }

  async #remove(names: readonly string[]): Promise<void> {
    for (const name of names) {
      this.#options.onRemove(name);
      try {
        const path = join(this.#options.directory, name);
        const isTaken = (await this.#options.onRemovable?.(path)) ?? false;
        if (!isTaken) await unlink(path);
        await removePageSums(this.#options.directory, name);
        this.#options.onRemove(name);
        this.#removed++;
      } catch (error) {
        if (systemErrorCode(error) === 'ENOENT') continue;
        this.#options.onError();
        this.#options.log.warn('a WAL segment that is not needed could not be removed', {
          file: name,
          error: errorText(error),
        });
      }
    }
  }
}
