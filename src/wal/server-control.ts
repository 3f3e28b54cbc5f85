// Up to where must the WAL of a PostgreSQL server be good? Its own control file names the last checkpoint: what comes up to
// that record was on the disk when it was written. (src/include/catalog/pg_control.h)
import { open } from 'node:fs/promises';
import { readFully } from '../base/durable-fs.ts';
import { toLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { toTimelineId } from '../pg/timeline.ts';
import type { TimelineId } from '../pg/timeline.ts';

/** WAL that must be there and good. */
export interface RequiredWal {
  readonly timeline: TimelineId;
  /** End (exclusive); it may lie inside the last record that is required. */
  readonly lsn: Lsn;
}

/** PG_CONTROL_VERSION of the servers whose layout is known here. */
const KNOWN_VERSIONS: ReadonlySet<number> = new Set([1300, 1700, 1800]);

/** Offsets in ControlFileData; the same in every version above. */
const VERSION_OFFSET = 8;
const CHECKPOINT_OFFSET = 32;
const TIMELINE_OFFSET = 48;
const BYTES = 64;

/** Null when the file is not there, cannot be read, or is of a version that is not known. */
export async function readCheckpoint(path: string): Promise<RequiredWal | null> {
  const handle = await open(path, 'r').catch(() => null);
  if (handle === null) return null;
  try {
    const bytes = Buffer.alloc(BYTES);
    if ((await readFully(handle, bytes, 0)) < BYTES) return null;
    if (!KNOWN_VERSIONS.has(bytes.readUInt32LE(VERSION_OFFSET))) return null;
    const timeline = bytes.readUInt32LE(TIMELINE_OFFSET);
    if (timeline === 0) return null;
    // One byte of the checkpoint record makes all of it required.
    const lsn = toLsn(bytes.readBigUInt64LE(CHECKPOINT_OFFSET) + 1n);
    return { timeline: toTimelineId(timeline), lsn };
  } catch {
    return null;
  } finally {
    await handle.close();
  }
}
