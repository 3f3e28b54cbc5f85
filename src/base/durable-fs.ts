// How do bytes and names get onto the disk for good? Whole writes (a short write is no error to Node.js), fsync of the
// file, rename, fsync of the directory: in that order, and none of it retried. An error of fsync is never retried,
// because the kernel drops the dirty pages with it and the next call succeeds.
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { mkdir, open, rename, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { OperationalError, systemErrorCode } from './errors.ts';

/** Mode of a directory for the owner alone. */
export const PRIVATE_DIRECTORY_MODE = 0o700;

/** Who besides the owner may look at the files of this process: nobody, or its group. */
let isGroupReading = false;

/**
 * Whether the group may read what is made from now on: as many as may read the data directory. Of this thread only.
 * (file_perm.c:SetDataDirectoryCreatePerm)
 */
export function letGroupRead(isAllowed: boolean): void {
  isGroupReading = isAllowed;
}

/** See {@link letGroupRead}. */
export function isGroupLetRead(): boolean {
  return isGroupReading;
}

/** Mode of every file we make: 0600, or 0640 where the group may read. (pg_file_create_mode) */
export function newFileMode(): number {
  return isGroupReading ? 0o640 : 0o600;
}

/** Mode of every directory we make: 0700, or 0750. (pg_dir_create_mode) */
export function newDirectoryMode(): number {
  return isGroupReading ? 0o750 : PRIVATE_DIRECTORY_MODE;
}

/**
 * True for the errors that mean "no room now" and may go away by themselves: no space, or no free file descriptor. From an
 * fsync they do not: what the kernel had taken is lost then, as with any other error of it.
 */
export function isOutOfSpace(error: unknown): boolean {
  const call = error instanceof Error && 'syscall' in error ? error.syscall : null;
  switch (systemErrorCode(error)) {
    case 'ENOSPC':
    case 'EDQUOT':
      return call !== 'fsync' && call !== 'fdatasync';
    case 'EMFILE':
    case 'ENFILE':
      return call === 'open';
    default:
      return false;
  }
}

/** For the `catch` of a call about a file that need not be there: null when it is not, else the error again. */
export function ignoreMissing(error: unknown): null {
  if (systemErrorCode(error) === 'ENOENT') return null;
  throw error;
}

/** What a person does about a directory that cannot be written, where the error tells; null for any other error. */
export function storageHint(error: unknown): string | null {
  switch (systemErrorCode(error)) {
    case 'EACCES':
    case 'EPERM':
      return 'Let the user that runs walcast own it, or set storage.directory to another one.';
    case 'EROFS':
      return 'The file system is mounted read-only: mount it writable, or set storage.directory to another one.';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'Free space on its file system (or raise the quota), or set storage.directory to another one.';
    case 'EFBIG':
      return 'A limit on the size of files is below that of a WAL segment: raise it (LimitFSIZE=infinity, ulimit -f unlimited).';
    case 'EMFILE':
    case 'ENFILE':
      return 'Too many files are open: raise the limit (LimitNOFILE=, ulimit -n).';
    default:
      return null;
  }
}

/**
 * Writes all of `bytes` from byte `position` of the file on, however often the kernel takes less. Blocks. Throws the
 * system's error; what was written before it stays written.
 */
export function writeFullySync(fd: number, bytes: Uint8Array, position: number): void {
  let done = 0;
  while (done < bytes.length) {
    const written = writeSync(fd, bytes, done, bytes.length - done, position + done);
    if (written <= 0) throw noProgress(position + done);
    done += written;
  }
}

/** The same through the thread pool. */
export async function writeFully(
  handle: FileHandle,
  bytes: Uint8Array,
  position: number,
): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    if (bytesWritten <= 0) throw noProgress(position + done);
    done += bytesWritten;
  }
}

/** Reads up to `bytes.length` bytes from `position` on into `bytes`; less only at the end of the file. Returns the count. */
export async function readFully(
  handle: FileHandle,
  bytes: Uint8Array,
  position: number,
): Promise<number> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await handle.read(bytes, done, bytes.length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/**
 * Makes the names that `change` gives to files in `directory` durable. Without a free descriptor it changes nothing: who
 * tries again later has to find it as it was. Blocks.
 */
export function changeNamesSync(directory: string, change: () => void): void {
  const fd = openSync(directory, 'r');
  try {
    change();
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** The same through the thread pool. */
export async function changeNames(directory: string, change: () => Promise<void>): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await change();
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes the names in `directory` durable: files created, renamed or removed there. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Makes `directory` unless it is there, with its name durable. Returns true when it was made. Its parent must exist.
 */
export async function createDirectory(directory: string): Promise<boolean> {
  try {
    await mkdir(directory, { mode: newDirectoryMode() });
  } catch (error) {
    if (systemErrorCode(error) === 'EEXIST') return false;
    throw error;
  }
  await syncDirectory(dirname(directory));
  return true;
}

/**
 * Puts `bytes` in the place of `path` in one step: after a crash the file is the old one or the new one, whole. Durable
 * when it resolves. Uses `path.tmp`; two replacements of one path must not overlap.
 */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.tmp`;
  await changeNames(dirname(path), async () => {
    await writeNewFile(temporary, bytes);
    await rename(temporary, path);
  });
}

/** Writes `path` anew and fsyncs it; its name is not durable yet. A half-written file is removed when that fails. */
export async function writeNewFile(path: string, bytes: Uint8Array): Promise<void> {
  const handle = await open(path, 'w', newFileMode());
  try {
    await writeFully(handle, bytes, 0);
    await handle.sync();
  } catch (error) {
    await unlink(path).catch(() => {});
    throw error;
  } finally {
    await handle.close();
  }
}

function noProgress(position: number): OperationalError {
  return new OperationalError('SHORT_WRITE', `the kernel took no byte at offset ${position}`);
}
