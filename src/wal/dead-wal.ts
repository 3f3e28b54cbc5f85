// What became of WAL that lies behind a switch point? It is kept aside in `dead/`, because commits in it may have been told
// to be safe, until a person lets go of it. Nothing in there is ever served, listed, imported or recovered.
//
//   NAME            a segment that lies behind the switch point
//   NAME.partial    the segment that the switch point cut, with everything that was in it
//   NAME….1         the same of an earlier store, when a file of that name was there already
import { lstat, readdir, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ignoreMissing, syncDirectory } from '../base/durable-fs.ts';
import type { DeadWalStatus } from '../status/status.ts';
import { loadControl, saveControl } from './control-file.ts';
import { deadDirectory } from './data-directory.ts';
import { withSystemErrors } from './wal-files.ts';

/** What lies in `dead/`. */
export interface DeadFiles {
  readonly files: number;
  readonly bytes: number;
}

/** None. */
export const NO_DEAD_FILES: DeadFiles = { files: 0, bytes: 0 };

/** What lies in `dead/`; nothing when the directory is missing. Rejects with the system's error. */
export async function countDeadWal(dataDirectory: string): Promise<DeadFiles> {
  let bytes = 0;
  let files = 0;
  for (const name of await deadNames(dataDirectory)) {
    const found = await lstat(join(deadDirectory(dataDirectory), name)).catch(ignoreMissing);
    if (found === null) continue;
    files++;
    bytes += found.size;
  }
  return { files, bytes };
}

/**
 * Lets go of the dead WAL in a data directory that nobody else uses; the caller holds its lock. Returns what was let go.
 * Durable when it resolves. Throws OperationalError when the disk or the control file does not let it.
 */
export async function releaseDeadWal(dataDirectory: string): Promise<DeadWalStatus> {
  return await withSystemErrors('dead WAL cannot be removed', async () => {
    const control = await loadControl(dataDirectory);
    const removed = await removeDeadFiles(dataDirectory);
    const acknowledged = control?.acknowledgedBeyond ?? null;
    if (control !== null && acknowledged !== null) {
      await saveControl(dataDirectory, { ...control, acknowledgedBeyond: null });
    }
    return { ...removed, acknowledged };
  });
}

/** Removes the files, durably. Rejects with the system's error; then some may be gone. */
export async function removeDeadFiles(dataDirectory: string): Promise<DeadFiles> {
  const removed = await countDeadWal(dataDirectory);
  const directory = deadDirectory(dataDirectory);
  const names = await deadNames(dataDirectory);
  for (const name of names) await unlink(join(directory, name)).catch(ignoreMissing);
  if (names.length > 0) await syncDirectory(directory);
  return removed;
}

/** Moves the file at `path` into `dead/`, which must be there, as `name`; another file of that name stays. Not durable yet. */
export async function moveToDead(dataDirectory: string, path: string, name: string): Promise<void> {
  const directory = deadDirectory(dataDirectory);
  let free = name;
  for (let number = 1; (await lstat(join(directory, free)).catch(ignoreMissing)) !== null;) {
    free = `${name}.${number++}`;
  }
  await rename(path, join(directory, free));
}

async function deadNames(dataDirectory: string): Promise<string[]> {
  return (await readdir(deadDirectory(dataDirectory)).catch(ignoreMissing)) ?? [];
}
