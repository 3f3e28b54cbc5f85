// How does a store begin anew? Nothing of the old WAL stays, and the next start learns from the server whose WAL it is.
// The control file goes first: a reset that was cut short leaves WAL that is nobody's, which no start serves or writes
// over, and which the next reset removes.
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncDirectory } from '../base/durable-fs.ts';
import { systemErrorCode } from '../base/errors.ts';
import { loadControl } from './control-file.ts';
import type { ControlState } from './control-file.ts';
import { controlFile, prepareDataDirectory, walDirectory } from './data-directory.ts';
import { countDeadWal, removeDeadFiles } from './dead-wal.ts';
import type { DeadFiles } from './dead-wal.ts';
import { withSystemErrors } from './wal-files.ts';

/** What a reset would remove. */
export interface StoreContent {
  /** Null when there is none, or when it is damaged. */
  readonly control: ControlState | null;
  /** Files in pg_wal: segments, history files, remains. */
  readonly files: readonly string[];
  /** WAL behind switch points, which stays unless it is let go of too. */
  readonly dead: DeadFiles;
}

/** Looks at the store. Throws OperationalError when the directory is none of walcast's. */
export async function storeContent(dataDirectory: string): Promise<StoreContent> {
  return await withSystemErrors('the store cannot be read', async () => {
    await readdir(dataDirectory);
    await prepareDataDirectory(dataDirectory);
    const control = await loadControl(dataDirectory).catch((error: unknown) => {
      if (systemErrorCode(error) !== null && !isDamaged(error)) throw error;
      return null;
    });
    const files = (await readdir(walDirectory(dataDirectory))).toSorted();
    return { control, files, dead: await countDeadWal(dataDirectory) };
  });
}

/**
 * Removes the control file and everything in pg_wal, and with `dead` what lies in `dead/`, too; durable when it resolves.
 * What was acknowledged in dead WAL is forgotten with the control file. The caller holds the directory's lock.
 */
export async function resetStore(
  dataDirectory: string,
  { dead = false }: { readonly dead?: boolean } = {},
): Promise<void> {
  await withSystemErrors('the reset failed', async () => {
    await rm(controlFile(dataDirectory), { force: true });
    await rm(`${controlFile(dataDirectory)}.tmp`, { force: true });
    await syncDirectory(dataDirectory);
    const directory = walDirectory(dataDirectory);
    for (const name of await readdir(directory)) {
      await rm(join(directory, name), { recursive: true });
    }
    await syncDirectory(directory);
    if (dead) await removeDeadFiles(dataDirectory);
  });
}

function isDamaged(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'STATE_FILE_DAMAGED' || code === 'CONTROL_FILE_DAMAGED';
}
