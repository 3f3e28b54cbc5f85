// Is all the WAL in this directory good? Every page header, the chain of records and the CRC-32C of every record, of every
// timeline in it, with nothing changed. Damage is told apart from the end of the WAL: behind an end there are only zeros,
// or pages that a recycled file holds still; where pages of the right address follow, something before them is damaged.
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { OperationalError, systemErrorCode } from '../base/errors.ts';
import { INVALID_LSN, lsnDistance, PAGE_SIZE } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentNumber, segmentStart } from '../pg/segment.ts';
import type { SegmentNumber } from '../pg/segment.ts';
import {
  HISTORY_FILE_BYTES_MAX,
  historyFileName,
  parseTimelineHistory,
  rootHistory,
} from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import { loadPageSums, UNKNOWN_SUM } from './page-sums.ts';
import type { PageOrigin } from './records/page-header.ts';
import { ScanBuffers } from './segment-scan.ts';
import { inferHistory } from './inferred-history.ts';
import { TimelineVerification } from './verify-timeline.ts';
import { readWalDirectory, withSystemErrors } from './wal-files.ts';
import type { StoredWalFile, WalDirectory, WalIdentity } from './wal-files.ts';

/** Something that is wrong. */
export interface WalProblem {
  /** `damage`: bytes are not what the server wrote. `gap`: segments are missing. `history`: a history file is, or is bad. */
  readonly kind: 'damage' | 'gap' | 'history';
  readonly timeline: TimelineId;
  /** The file it is in, or the first one that is missing. */
  readonly file: string;
  /** Where; null for a history file. */
  readonly lsn: Lsn | null;
  readonly reason: string;
}

/** One timeline that was walked. */
export interface VerifiedTimeline {
  readonly timeline: TimelineId;
  /** Segments that hold WAL. */
  readonly segments: number;
  /** Segments behind the end: blank, or recycled and not yet written again. */
  readonly unusedSegments: number;
  /** First byte that was walked, and the end (exclusive) of the last complete record. */
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  /** Why the WAL ends inside a segment; null when it goes on to the end of the last one. */
  readonly endReason: string | null;
  /** Records whose checksum was right. */
  readonly records: number;
}

/** What was found. */
export interface VerifyReport {
  readonly directory: WalDirectory;
  readonly identity: WalIdentity;
  readonly timelines: readonly VerifiedTimeline[];
  readonly problems: readonly WalProblem[];
  /** There are more problems than are listed. */
  readonly isTruncated: boolean;
  /** What was left out, in sentences. */
  readonly notes: readonly string[];
  /** Bytes of the files that were walked. */
  readonly bytes: number;
}

/** How far a long work has come. */
export interface WorkProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** What is to be verified. */
export interface VerifyOptions {
  readonly directory: string;
  /** Segments that end before it are left out; null for all. */
  readonly fromLsn: Lsn | null;
  readonly onProgress: (progress: WorkProgress) => void;
  /** Ends the work with an AbortError. */
  readonly signal: AbortSignal;
}

/** Problems that are listed. */
const PROBLEMS_MAX = 100;

/** Walks everything. Throws OperationalError when there is nothing to verify, or it cannot be read at all. */
export async function verifyWal(options: VerifyOptions): Promise<VerifyReport> {
  return await withSystemErrors('the WAL cannot be read', async () => {
    return await new Verification(options, await readWalDirectory(options.directory)).run();
  });
}

class Verification {
  readonly #options: VerifyOptions;
  readonly #directory: WalDirectory;
  readonly #byTimeline: ReadonlyMap<TimelineId, readonly StoredWalFile[]>;
  readonly #problems: WalProblem[] = [];
  readonly #notes: string[] = [];
  readonly #buffers = new ScanBuffers();
  #isTruncated = false;
  #doneBytes = 0;
  #walkedBytes = 0;
  #totalBytes = 0;

  constructor(options: VerifyOptions, directory: WalDirectory) {
    this.#options = options;
    this.#directory = directory;
    this.#byTimeline = byTimeline(directory.files);
  }

  async run(): Promise<VerifyReport> {
    const directory = this.#directory;
    const { identity } = directory;
    const segments = this.#segments();
    if (identity === null || segments.length === 0) throw this.#nothingThere();
    this.#totalBytes = segments.reduce((sum, { size }) => sum + size, 0);
    this.#noteCompressed();
    this.#reportUnusable(identity);
    const timelines: VerifiedTimeline[] = [];
    for (const [timeline, files] of byTimeline(segments)) {
      const verified = await this.#verifyTimeline(timeline, files, identity);
      if (verified === null) continue;
      const used = files.slice(0, verified.segments);
      this.#walkedBytes += used.reduce((sum, { size }) => sum + size, 0);
      timelines.push(verified);
    }
    return {
      directory,
      identity,
      timelines,
      problems: this.#problems,
      isTruncated: this.#isTruncated,
      notes: this.#notes,
      bytes: this.#walkedBytes,
    };
  }

  /** The segments to walk. A `.partial` one counts where the whole one is not there. */
  #segments(): StoredWalFile[] {
    const { identity, files } = this.#directory;
    if (identity === null) return [];
    const first = this.#firstSegment(identity);
    const whole = new Set(files.filter(({ isPartial }) => !isPartial).map(({ name }) => name));
    return files.filter(({ name, segment, isPartial }) => {
      if (segment === null || segment < first) return false;
      if (!isPartial || !whole.has(name.replace('.partial', ''))) return true;
      this.#notes.push(`${name} was left out: the whole segment is there, too`);
      return false;
    });
  }

  #firstSegment({ segmentSize }: WalIdentity): SegmentNumber {
    return segmentNumber(this.#options.fromLsn ?? INVALID_LSN, segmentSize);
  }

  async #verifyTimeline(
    timeline: TimelineId,
    files: readonly StoredWalFile[],
    identity: WalIdentity,
  ): Promise<VerifiedTimeline | null> {
    const { required, path } = this.#directory;
    const history = await this.#history(timeline, files, identity);
    const origin: PageOrigin = { ...identity, history };
    const verification = new TimelineVerification({
      path,
      origin,
      files,
      all: [timeline, ...history.ancestors.map((ancestor) => ancestor.timeline)].flatMap(
        (member) => this.#byTimeline.get(member) ?? [],
      ),
      requiredLsn: required?.timeline === timeline ? required.lsn : INVALID_LSN,
      sumsOf: (file) => this.#sumsOf(file, identity),
      buffers: this.#buffers,
      signal: this.#options.signal,
      onProblem: (problem) => this.#report(problem),
      onNote: (note) => this.#notes.push(note),
      onBytes: (bytes) => {
        this.#doneBytes += bytes;
        const [doneBytes, totalBytes] = [this.#doneBytes, this.#totalBytes];
        this.#options.onProgress({ doneBytes: Math.min(doneBytes, totalBytes), totalBytes });
      },
    });
    return await verification.run();
  }

  /**
   * What a store has noted of the pages of a file. What lies behind its durable mark may have been lost with the power, and
   * is fetched again: there a sum says nothing.
   */
  async #sumsOf(
    { name, timeline, segment }: StoredWalFile,
    { segmentSize }: WalIdentity,
  ): Promise<Float64Array | null> {
    const { path, required } = this.#directory;
    if (segment === null || basename(path) !== 'pg_wal') return null;
    const of = { timeline, segment, segmentSize };
    const sums = await loadPageSums(path, name, of).catch(() => null);
    if (sums === null || required === null || required.timeline !== timeline) return sums;
    const bound = lsnDistance(segmentStart(segment, segmentSize), required.lsn) / PAGE_SIZE;
    return sums.fill(UNKNOWN_SUM, Math.max(0, Math.min(sums.length, Math.floor(bound))));
  }

  async #history(
    timeline: TimelineId,
    files: readonly StoredWalFile[],
    identity: WalIdentity,
  ): Promise<TimelineHistory> {
    const name = historyFileName(timeline);
    const content = await this.#historyContent(timeline);
    if (content === null && timeline === 1) return rootHistory(timeline);
    const parsed =
      content === null
        ? 'it is missing: no server can follow this timeline without it'
        : parseTimelineHistory(timeline, content);
    if (typeof parsed !== 'string') return parsed;
    this.#report({ kind: 'history', timeline, file: name, lsn: null, reason: parsed });
    return await inferHistory(this.#buffers, {
      path: this.#directory.path,
      timeline,
      files,
      identity,
    });
  }

  async #historyContent(timeline: TimelineId): Promise<string | null> {
    const name = historyFileName(timeline);
    const file = this.#byTimeline.get(timeline)?.find((entry) => entry.name === name);
    if (file === undefined) return null;
    if (file.size > HISTORY_FILE_BYTES_MAX) return 'too large';
    return await readFile(join(this.#directory.path, name), 'latin1').catch((error: unknown) => {
      if (systemErrorCode(error) === 'ENOENT') return null;
      throw error;
    });
  }

  #report(problem: WalProblem): void {
    if (this.#problems.length < PROBLEMS_MAX) this.#problems.push(problem);
    else this.#isTruncated = true;
  }

  #reportUnusable(identity: WalIdentity): void {
    const first = this.#firstSegment(identity);
    for (const { name, timeline, segment, reason } of this.#directory.unusable) {
      if (segment !== null && segment < first) continue;
      const lsn = segment === null ? null : segmentStart(segment, identity.segmentSize);
      const kind = segment === null ? 'history' : 'damage';
      this.#report({ kind, timeline, file: name, lsn, reason });
    }
  }

  #noteCompressed(): void {
    const { compressed } = this.#directory;
    if (compressed.length === 0) return;
    this.#notes.push(
      `${compressed.length} compressed segments were left out, the first is ${compressed[0] ?? ''}`,
    );
  }

  #nothingThere(): OperationalError {
    const { path, identity, compressed } = this.#directory;
    const { fromLsn } = this.#options;
    const message =
      identity === null || fromLsn === null
        ? `"${path}" holds no WAL segment that can be read`
        : `"${path}" holds no WAL at or behind the position that was asked for`;
    const hint =
      compressed.length > 0
        ? `There are ${compressed.length} compressed ones: unpack them first.`
        : 'Name the data directory of walcast, a pg_wal, or an archive directory.';
    return new OperationalError('NO_WAL', message, { hint });
  }
}

/** Keeps the order of timelines and of files. A directory may hold thousands of timelines. */
function byTimeline(files: readonly StoredWalFile[]): Map<TimelineId, StoredWalFile[]> {
  const groups = new Map<TimelineId, StoredWalFile[]>();
  for (const file of files) {
    const group = groups.get(file.timeline);
    if (group === undefined) groups.set(file.timeline, [file]);
    else group.push(file);
  }
  return groups;
}
