// Which WAL lies in a directory, file by file, by names and first pages alone?
import { join } from 'node:path';
import { systemErrorCode } from '../base/errors.ts';
import type { Lsn } from '../pg/lsn.ts';
import { nextSegment, segmentStart } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import { isPageOf, readFirstPage, readWalDirectory, withSystemErrors } from './wal-files.ts';
import type { FirstPage, StoredWalFile, WalDirectory } from './wal-files.ts';

/**
 * What a file is. `blank`: a segment made ahead of time. `recycled`: one that holds older WAL under a name of the future.
 * `foreign`: its first page is none that we know, or of another cluster. `unreadable`: the system does not let us read it.
 */
export type ListedKind =
  | 'segment'
  | 'partial'
  | 'history'
  | 'blank'
  | 'recycled'
  | 'foreign'
  | 'unreadable';

/** One line of the listing. */
export interface ListedFile {
  readonly file: StoredWalFile;
  readonly kind: ListedKind;
  /** First byte it is for, and the end (exclusive); null for a history file. */
  readonly startLsn: Lsn | null;
  readonly endLsn: Lsn | null;
}

/** A directory and its files, by timeline and position. */
export interface WalListing {
  readonly directory: WalDirectory;
  readonly files: readonly ListedFile[];
}

/** Lists `directory`. Throws OperationalError when it cannot be read. */
export async function listWal(directory: string): Promise<WalListing> {
  return await withSystemErrors('the WAL cannot be read', () => list(directory));
}

async function list(directory: string): Promise<WalListing> {
  const found = await readWalDirectory(directory);
  const files: ListedFile[] = [];
  for (const file of found.files) {
    const listed = await listFile(found, file);
    if (listed !== null) files.push(listed);
  }
  return { directory: found, files };
}

/** Null for a file that has gone meanwhile. */
async function listFile(
  { path, identity }: WalDirectory,
  file: StoredWalFile,
): Promise<ListedFile | null> {
  const { segment } = file;
  if (segment === null || identity === null) {
    return { file, kind: 'history', startLsn: null, endLsn: null };
  }
  const { segmentSize, systemIdentifier } = identity;
  const page = await pageOf(join(path, file.name));
  if (page === null) return null;
  const isForeign =
    page !== 'unreadable' &&
    page.kind === 'header' &&
    page.identity.systemIdentifier !== systemIdentifier;
  return {
    file,
    kind: page === 'unreadable' ? page : isForeign ? 'foreign' : kindOf(file, page, segmentSize),
    startLsn: segmentStart(segment, segmentSize),
    endLsn: segmentStart(nextSegment(segment), segmentSize),
  };
}

/** Null for a file that has gone meanwhile. */
async function pageOf(file: string): Promise<FirstPage | 'unreadable' | null> {
  try {
    return await readFirstPage(file);
  } catch (error) {
    return systemErrorCode(error) === 'ENOENT' ? null : 'unreadable';
  }
}

function kindOf(file: StoredWalFile, page: FirstPage, segmentSize: SegmentSize): ListedKind {
  if (page.kind !== 'header') return page.kind;
  if (file.segment === null || !isPageOf(page, file.segment, segmentSize)) return 'recycled';
  return file.isPartial ? 'partial' : 'segment';
}
