// What has an import to choose from: is the WAL of the same cluster, and which of its segments join on to a store?
import { resolve } from 'node:path';
import { OperationalError } from '../base/errors.ts';
import type { Lsn } from '../pg/lsn.ts';
import {
  nextSegment,
  segmentNumber,
  segmentNumberBefore,
  segmentStart,
  walFileName,
} from '../pg/segment.ts';
import type { SegmentNumber, SegmentSize } from '../pg/segment.ts';
import type { TimelineHistory } from '../pg/timeline.ts';
import type { ControlState } from './control-file.ts';
import { walDirectory } from './data-directory.ts';
import { Lineage } from './lineage.ts';
import type { StoredIdentity } from './store-options.ts';
import type { StoredWalFile, WalDirectory } from './wal-files.ts';

/** A segment of the source. */
export interface SourceSegment {
  readonly file: StoredWalFile;
  readonly segment: SegmentNumber;
}

/** The segments of the store's history, each in the file of the timeline that has all of it. */
export class SourceSegments {
  /** What was left out and why, in sentences. */
  readonly notes: string[] = [];
  readonly #segments = new Map<SegmentNumber, SourceSegment>();
  readonly #lineage: Lineage;
  readonly #size: SegmentSize;

  constructor(source: WalDirectory, { history, segmentSize }: StoredIdentity) {
    this.#lineage = new Lineage(history, segmentSize);
    this.#size = segmentSize;
    // Of two files of one segment the whole one comes first, and counts.
    for (const file of source.files) {
      const { segment } = file;
      if (segment === null || file.timeline !== this.#lineage.fileTimeline(segment)) continue;
      if (!this.#segments.has(segment)) this.#segments.set(segment, { file, segment });
    }
  }

  /** Whole segments before `oldestLsn`, without a hole up to it, lowest first. */
  before(oldestLsn: Lsn): SourceSegment[] {
    const found: SourceSegment[] = [];
    let segment = segmentNumber(oldestLsn, this.#size);
    for (;;) {
      segment = segmentNumberBefore(segmentStart(segment, this.#size), this.#size);
      const candidate = this.#segments.get(segment);
      if (candidate === undefined || candidate.file.isPartial) break;
      if (candidate.file.size !== this.#size) {
        const { name, size } = candidate.file;
        this.notes.push(`${name} and older were left out: it has ${size} bytes`);
        break;
      }
      found.unshift(candidate);
    }
    const isHole = [...this.#segments.keys()].some((other) => other < segment);
    if (isHole && !this.#segments.has(segment)) {
      const name = this.#name(segment);
      this.notes.push(`what is older than ${name} was left out: that segment is missing`);
    }
    return found;
  }

  /** Segments from the one that holds `endLsn` on, without a hole. */
  from(endLsn: Lsn): SourceSegment[] {
    const found: SourceSegment[] = [];
    const first = segmentNumber(endLsn, this.#size);
    let segment = first;
    for (;;) {
      const candidate = this.#segments.get(segment);
      if (candidate === undefined) break;
      found.push(candidate);
      if (candidate.file.size < this.#size) break;
      segment = nextSegment(segment);
    }
    const isHole = [...this.#segments.keys()].some((other) => other > segment);
    if (isHole) {
      const name = this.#name(segment);
      this.notes.push(`what is newer than ${name} was left out: that segment is missing or short`);
    }
    return found;
  }

  #name(segment: SegmentNumber): string {
    return walFileName(this.#lineage.fileTimeline(segment), segment, this.#size);
  }
}

/** Throws OperationalError when the WAL of `found` can never be the store's. */
export function refuseStrangers(
  found: WalDirectory,
  dataDirectory: string,
  { control, history }: { readonly control: ControlState; readonly history: TimelineHistory },
): void {
  const source = found.path;
  if (resolve(found.path) === resolve(walDirectory(dataDirectory))) {
    throw new OperationalError('IMPORT_SELF', `"${source}" is the store itself`);
  }
  const { identity } = found;
  if (identity === null) {
    throw new OperationalError('NO_WAL', `"${source}" holds no WAL segment that can be read`);
  }
  const ours = {
    'system identifier': control.systemIdentifier,
    'segment size': control.segmentSize,
    'PostgreSQL major': control.major,
  };
  const theirs = {
    'system identifier': identity.systemIdentifier,
    'segment size': identity.segmentSize,
    'PostgreSQL major': identity.facts.major,
  } satisfies Record<keyof typeof ours, unknown>;
  for (const [what, own] of Object.entries(ours)) {
    const other = Object.entries(theirs).find(([name]) => name === what)?.[1];
    if (own === other) continue;
    throw new OperationalError(
      'IMPORT_FOREIGN',
      `the WAL of "${source}" has ${what} ${String(other)}, the store has ${String(own)}`,
      { hint: 'It is of another cluster. Nothing was changed.' },
    );
  }
  const lineage = new Lineage(history, control.segmentSize);
  if (found.files.some((file) => file.segment !== null && lineage.has(file.timeline))) return;
  const older = history.ancestors.length === 0 ? '' : ' (nor of those before it)';
  throw new OperationalError(
    'IMPORT_TIMELINE',
    `"${source}" holds no segment of timeline ${history.timeline}${older}, which the store is on`,
    { hint: 'Nothing was changed.' },
  );
}
