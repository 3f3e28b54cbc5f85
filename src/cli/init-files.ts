// How do the files of a first configuration come to the disk? All or none, never over one that exists, secrets for their reader only.
import { access, constants, lstat, open, stat, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorText, OperationalError, systemErrorCode } from '../base/errors.ts';

/** A file to be written. */
export interface NewFile {
  /** Absolute. */
  readonly path: string;
  readonly text: string;
  /** Nobody but who runs walcast may read it. */
  readonly isSecret: boolean;
  /** It is for who set walcast up, and not for walcast. */
  readonly isPersonal?: boolean;
}

const ROOT = 0;

/**
 * Writes all of them, or none. What root writes into a folder of another user, or of another group, is for that user, or may be
 * read by that group: walcast does not run as root. Rejects with OperationalError.
 */
export async function writeNewFiles(files: readonly NewFile[]): Promise<void> {
  const written: string[] = [];
  try {
    for (const file of files) {
      await writeNew(file);
      written.push(file.path);
    }
  } catch (error) {
    for (const path of written) await unlink(path).catch(() => {});
    throw error;
  }
}

/**
 * Rejects with OperationalError when there is something at `path` already, or at one of those `beside` it, or when nothing can be
 * written there.
 */
export async function refuseExisting(path: string, beside: readonly string[]): Promise<void> {
  for (const name of [path, ...beside]) {
    const found = await lstat(name).catch(() => null);
    if (found !== null) throw exists(name, name === path ? IN_ANOTHER_FILE : IN_ANOTHER_FOLDER);
  }
  try {
    await access(dirname(path), constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw notWritten(path, cause);
  }
}

async function writeNew({ path, text, isSecret, isPersonal = false }: NewFile): Promise<void> {
  let file: FileHandle;
  try {
    file = await open(path, 'wx', isSecret ? 0o600 : 0o644);
  } catch (cause) {
    throw systemErrorCode(cause) === 'EEXIST'
      ? exists(path, IN_ANOTHER_FILE, cause)
      : notWritten(path, cause);
  }
  try {
    await file.writeFile(text);
    if (process.geteuid?.() === ROOT && !isPersonal) await handOver(file, { path, isSecret });
  } catch (cause) {
    await unlink(path).catch(() => {});
    throw notWritten(path, cause);
  } finally {
    await file.close();
  }
}

/** Whether what we write to `path` is for somebody else than us, who then runs walcast. */
export async function isForOthers(path: string): Promise<boolean> {
  return process.geteuid?.() === ROOT && (await reader(path)) !== null;
}

/** Whom root writes for in the folder of `path`; null: for itself. */
async function reader(path: string): Promise<{ uid: number; gid: number } | null> {
  const { mode, uid, gid } = await stat(dirname(path));
  // Anybody may write to such a folder: whose it is says nothing.
  if ((mode & 0o002) !== 0) return null;
  return uid === ROOT && gid === ROOT ? null : { uid, gid };
}

async function handOver(
  file: FileHandle,
  { path, isSecret }: Pick<NewFile, 'path' | 'isSecret'>,
): Promise<void> {
  const folder = await reader(path);
  if (folder === null) return;
  if (folder.uid !== ROOT) await file.chown(folder.uid, folder.gid);
  else {
    await file.chown(ROOT, folder.gid);
    // A strict umask of root's is no reason to keep the service from reading its own configuration.
    const { mode } = await file.stat();
    await file.chmod(isSecret ? 0o640 : (mode & 0o777) | 0o040);
  }
}

function notWritten(path: string, cause: unknown): OperationalError {
  const message = `"${path}" cannot be written: ${errorText(cause)}`;
  return new OperationalError('FILE_NOT_WRITTEN', message, {
    hint: 'Choose another file with -o.',
    cause,
  });
}

const IN_ANOTHER_FILE = 'Choose another file with -o, or look at the new one with -o -.';
const IN_ANOTHER_FOLDER =
  'It would be written beside the configuration: choose a file in another folder with -o, or move this one away.';

function exists(path: string, hint: string, cause?: unknown): OperationalError {
  const message = `"${path}" exists, and is never overwritten`;
  return new OperationalError('FILE_EXISTS', message, { hint, cause });
}
