// What lies in a directory of WAL that nobody has opened: a walcast store, the pg_wal of a server, an archive? Which
// files, of which cluster, and what does the first page of each say about itself?
// (src/bin/pg_waldump/pg_waldump.c: search_directory, identify_target_directory)
import { lstat, open, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { readFully, storageHint } from '../base/durable-fs.ts';
import { errorText, OperationalError, systemErrorCode, WalcastError } from '../base/errors.ts';
import { PAGE_SIZE, toLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { parseWalFileName, segmentStart, toSegmentSize } from '../pg/segment.ts';
import type { SegmentNumber, SegmentSize } from '../pg/segment.ts';
import { SUPPORTED_MAJORS, versionFacts } from '../pg/server-version.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import { parseHistoryFileName } from '../pg/timeline.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { loadControl } from './control-file.ts';
import { readCheckpoint } from './server-control.ts';
import type { RequiredWal } from './server-control.ts';
import type { ControlState } from './control-file.ts';
import { CONTROL_FILE_NAME, walDirectory } from './data-directory.ts';
import { LONG_PAGE_HEADER_SIZE } from './records/page-header.ts';
import { isZeroRange } from './records/zeros.ts';

/** One file of a directory of WAL. */
export interface StoredWalFile {
  readonly name: string;
  /** Bytes it has. */
  readonly size: number;
  readonly timeline: TimelineId;
  /** Null for a history file. */
  readonly segment: SegmentNumber | null;
  /** The name ends in `.partial`: the segment was never finished on this timeline, or not yet. */
  readonly isPartial: boolean;
}

/** Something under the name of a WAL file that cannot be read as one, and is never opened. */
export interface UnusableFile {
  readonly name: string;
  readonly timeline: TimelineId;
  /** Null for a history file. */
  readonly segment: SegmentNumber | null;
  readonly reason: string;
}

/** The cluster that a directory of WAL is of. */
export interface WalIdentity {
  readonly facts: VersionFacts;
  readonly segmentSize: SegmentSize;
  /** Decimal text of the unsigned 64-bit system identifier. */
  readonly systemIdentifier: string;
}

/** A directory of WAL. */
export interface WalDirectory {
  /** Where the files are: the directory that was named, or `pg_wal` below it. */
  readonly path: string;
  /** `store`: of walcast. `server`: of a PostgreSQL server. `archive`: neither is known. */
  readonly kind: 'store' | 'server' | 'archive';
  /** The store's control file; null for any other kind. */
  readonly control: ControlState | null;
  /** Up to where the WAL of a timeline must be there and good, by what the owner says of itself; null when unknown. */
  readonly required: RequiredWal | null;
  /** Null when there is no segment that says whose it is. */
  readonly identity: WalIdentity | null;
  /** By timeline, history first, then by segment. */
  readonly files: readonly StoredWalFile[];
  /** What has the name of such a file and is none: a directory, a pipe, a link that leads nowhere. By name. */
  readonly unusable: readonly UnusableFile[];
  /** Names of compressed segments, which are not looked into. */
  readonly compressed: readonly string[];
}

/** What the first page of a segment says. `foreign`: it is no page header that we know. */
export type FirstPage =
  | { readonly kind: 'blank' }
  | { readonly kind: 'foreign' }
  | {
      readonly kind: 'header';
      readonly identity: WalIdentity;
      readonly timeline: number;
      readonly lsn: Lsn;
    };

const SEGMENT = /^[0-9A-F]{24}(?:\.partial)?$/;
const COMPRESSED = /^[0-9A-F]{24}(?:\.partial)?\.(?:gz|lz4|zst|bz2|xz)$/;
const PARTIAL_SUFFIX = '.partial';

/** Reads what is there. Throws OperationalError when `directory` cannot be read, or is a damaged store. */
export async function readWalDirectory(directory: string): Promise<WalDirectory> {
  const { path, kind, control } = await locate(directory);
  // Before the segments: what it names was written to them before.
  const required =
    control === null
      ? kind === 'server'
        ? await readCheckpoint(join(path, '..', 'global', 'pg_control'))
        : null
      : { timeline: control.timeline, lsn: control.durableMark.lsn };
  const names = await readNames(path);
  const looks = await lookAt(path, names);
  const segments = names.filter((name) => SEGMENT.test(name) && looks.get(name)?.kind === 'file');
  const identity =
    control === null ? await identify(path, segments.toSorted()) : identityOf(control);
  const files: StoredWalFile[] = [];
  const unusable: UnusableFile[] = [];
  for (const [name, look] of looks) {
    const parsed = parseName(name, identity);
    if (parsed === null) continue;
    if (look.kind === 'file') files.push({ ...parsed, size: look.size });
    else unusable.push({ ...parsed, reason: look.reason });
  }
  return {
    path,
    kind,
    control,
    required,
    identity,
    files: files.toSorted(byPosition),
    unusable: unusable.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    compressed: names.filter((name) => COMPRESSED.test(name)).toSorted(),
  };
}

/** Runs `work`; an error of the system that it meets is one of the world, told as `what`. */
export async function withSystemErrors<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof WalcastError || systemErrorCode(error) === null) throw error;
    const hint = storageHint(error);
    throw new OperationalError('WAL_FILES', `${what}: ${errorText(error)}`, {
      ...(hint === null ? {} : { hint }),
      cause: error,
    });
  }
}

/** Reads the first page of the segment file at `path`. Rejects with the system's error. */
export async function readFirstPage(path: string): Promise<FirstPage> {
  const bytes = Buffer.alloc(LONG_PAGE_HEADER_SIZE);
  const handle = await open(path, 'r');
  try {
    if ((await readFully(handle, bytes, 0)) < bytes.length) return { kind: 'foreign' };
  } finally {
    await handle.close();
  }
  return parseFirstPage(bytes);
}

/** The same over the first bytes of a segment, {@link LONG_PAGE_HEADER_SIZE} at least. */
export function parseFirstPage(bytes: Uint8Array): FirstPage {
  if (isZeroRange(bytes, 0, LONG_PAGE_HEADER_SIZE)) return { kind: 'blank' };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const facts = factsOfMagic(view.getUint16(0, true));
  const segmentSize = segmentSizeOf(view.getUint32(32, true));
  if (facts === null || segmentSize === null || view.getUint32(36, true) !== PAGE_SIZE) {
    return { kind: 'foreign' };
  }
  return {
    kind: 'header',
    identity: { facts, segmentSize, systemIdentifier: view.getBigUint64(24, true).toString() },
    timeline: view.getUint32(4, true),
    lsn: toLsn(view.getBigUint64(8, true)),
  };
}

/** True when `page` is the first page of the file that holds `segment`, not what a recycled file holds still. */
export function isPageOf(page: FirstPage, segment: SegmentNumber, size: SegmentSize): boolean {
  return page.kind === 'header' && page.lsn === segmentStart(segment, size);
}

async function locate(directory: string): Promise<Pick<WalDirectory, 'path' | 'kind' | 'control'>> {
  const names = await readNames(directory);
  if (names.includes(CONTROL_FILE_NAME)) {
    const control = await loadControl(directory);
    return { path: walDirectory(directory), kind: 'store', control };
  }
  if (names.includes('PG_VERSION')) {
    return { path: join(directory, 'pg_wal'), kind: 'server', control: null };
  }
  const isInside = names.includes('pg_wal') && !names.some((name) => SEGMENT.test(name));
  if (isInside) return { path: join(directory, 'pg_wal'), kind: 'archive', control: null };
  const isServers = names.includes('archive_status');
  return { path: directory, kind: isServers ? 'server' : 'archive', control: null };
}

async function readNames(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    const reason = systemErrorCode(error) ?? errorText(error);
    const message = `the directory "${directory}" cannot be read: ${reason}`;
    throw new OperationalError('WAL_DIRECTORY', message, { cause: error });
  }
}

/** First pages that are heard: one of them may be damaged, and would make strangers of all the others. */
const WITNESSES = 5;

/** A page that names its own file is believed before one that a recycled file holds; what most of them say holds. */
async function identify(path: string, names: readonly string[]): Promise<WalIdentity | null> {
  let other: WalIdentity | null = null;
  const witnesses: WalIdentity[] = [];
  for (const name of names) {
    if (witnesses.length === WITNESSES) break;
    const page = await readFirstPage(join(path, name)).catch(() => null);
    if (page?.kind !== 'header') continue;
    const { identity } = page;
    const parsed = parseWalFileName(name.replace(PARTIAL_SUFFIX, ''), identity.segmentSize);
    if (parsed !== null && isPageOf(page, parsed.segment, identity.segmentSize)) {
      witnesses.push(identity);
    } else {
      other ??= identity;
    }
  }
  return mostFrequent(witnesses) ?? other;
}

/** Of several that are as frequent, the first one. */
function mostFrequent(identities: readonly WalIdentity[]): WalIdentity | null {
  const count = (one: WalIdentity): number =>
    identities.filter((identity) => isDeepStrictEqual(identity, one)).length;
  return identities.reduce<WalIdentity | null>(
    (best, one) => (best === null || count(one) > count(best) ? one : best),
    null,
  );
}

function identityOf(control: ControlState): WalIdentity {
  const { major, segmentSize, systemIdentifier } = control;
  return { facts: versionFacts(major), segmentSize, systemIdentifier };
}

function parseName(name: string, identity: WalIdentity | null): Omit<StoredWalFile, 'size'> | null {
  const history = parseHistoryFileName(name);
  if (history !== null) return { name, timeline: history, segment: null, isPartial: false };
  if (identity === null || !SEGMENT.test(name)) return null;
  const isPartial = name.endsWith(PARTIAL_SUFFIX);
  const parsed = parseWalFileName(basename(name, PARTIAL_SUFFIX), identity.segmentSize);
  return parsed === null ? null : { name, ...parsed, isPartial };
}

/** What lies under a name. */
type Look =
  | { readonly kind: 'file'; readonly size: number }
  | { readonly kind: 'other'; readonly reason: string };

/** Looks at what has the name of a WAL file; without what has gone meanwhile. */
async function lookAt(path: string, names: readonly string[]): Promise<Map<string, Look>> {
  const wanted = names.filter((name) => SEGMENT.test(name) || parseHistoryFileName(name) !== null);
  const looks = await Promise.all(wanted.map((name) => look(join(path, name))));
  return new Map(
    wanted.flatMap((name, index) => {
      const found = looks[index] ?? null;
      return found === null ? [] : [[name, found] as const];
    }),
  );
}

/** Opening a pipe would wait for ever for somebody who writes to it. */
async function look(file: string): Promise<Look | null> {
  try {
    const found = await stat(file);
    if (found.isFile()) return { kind: 'file', size: found.size };
    return { kind: 'other', reason: 'it is no regular file' };
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') return { kind: 'other', reason: errorText(error) };
    const link = await lstat(file).catch(() => null);
    return link === null ? null : { kind: 'other', reason: 'it is a link that leads nowhere' };
  }
}

function byPosition(a: StoredWalFile, b: StoredWalFile): number {
  if (a.timeline !== b.timeline) return a.timeline - b.timeline;
  const [left, right] = [a.segment ?? -1n, b.segment ?? -1n];
  if (left !== right) return left < right ? -1 : 1;
  return Number(a.isPartial) - Number(b.isPartial);
}

function factsOfMagic(magic: number): VersionFacts | null {
  const facts = SUPPORTED_MAJORS.map(versionFacts);
  return facts.find(({ walPageMagic }) => walPageMagic === magic) ?? null;
}

function segmentSizeOf(bytes: number): SegmentSize | null {
  try {
    return toSegmentSize(bytes);
  } catch {
    return null;
  }
}
