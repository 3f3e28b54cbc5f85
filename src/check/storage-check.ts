// Could walcast work in its data directory? Looks only: nothing is created, locked or repaired.
import { constants } from 'node:fs';
import { access, readdir, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { storageHint } from '../base/durable-fs.ts';
import { errorText, OperationalError, systemErrorCode } from '../base/errors.ts';
import type { Config } from '../config/config.ts';
import { DIRECTORY_LOCK_NAME, directoryLockOwner } from '../net/directory-lock.ts';
import type { DirectoryOwner } from '../net/directory-lock.ts';
import type { ControlState } from '../wal/control-file.ts';
import { loadControl } from '../wal/control-file.ts';
import { inspectDataDirectory, refuseLeftSegments, walDirectory } from '../wal/data-directory.ts';
import { errorFinding, okFinding, warningFinding } from './finding.ts';
import type { Finding } from './finding.ts';
import { shellWord } from './quoting.ts';

/** What was found out about the directory. */
export interface StorageCheck {
  readonly findings: readonly Finding[];
  /** What the store says about itself; null when it is empty or cannot be read. */
  readonly control: ControlState | null;
  /** The walcast that holds the directory; null when none does. */
  readonly owner: DirectoryOwner | null;
}

/** Segments that are made ahead, and the one being written. */
const SEGMENTS_AHEAD = 4;

/** wal_segment_size of a server that was not built or set up otherwise. */
const SEGMENT_BYTES_DEFAULT = 16 * 1024 ** 2;

/** Looks at `storage.directory`. Never rejects for what is or is not there. */
export async function checkStorage({ storage }: Config): Promise<StorageCheck> {
  const { directory } = storage;
  try {
    await inspectDataDirectory(directory);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return await checkMissing(storage);
    return { findings: [unusable(directory, error)], control: null, owner: null };
  }
  const denied = await deniedFinding(directory, directory);
  if (denied !== null) return { findings: [denied], control: null, owner: null };
  return await checkExisting(storage);
}

async function checkExisting(storage: Config['storage']): Promise<StorageCheck> {
  const { directory } = storage;
  const findings: Finding[] = [];
  const owner = await ownerOf(directory);
  if (owner !== null) findings.push(ownerFinding(directory, owner));
  let control: ControlState | null = null;
  try {
    control = await loadControl(directory);
    if (control === null) await refuseLeftSegmentsOf(directory);
    findings.push(contentFinding(directory, control));
  } catch (error) {
    findings.push(controlFinding(directory, error));
  }
  findings.push(...(await spaceFindings(directory, storage, control)));
  return { findings, control, owner };
}

/** A missing directory is made at the start, when somebody lets us. */
async function checkMissing(storage: Config['storage']): Promise<StorageCheck> {
  const { directory } = storage;
  const parent = await nearestExisting(dirname(directory));
  const denied = await deniedFinding(directory, parent);
  const made = okFinding('storage.directory', {
    subject: directory,
    message: 'the data directory does not exist; walcast makes it',
  });
  const findings = [denied ?? made, ...(await spaceFindings(parent, storage, null))];
  return { findings, control: null, owner: null };
}

async function nearestExisting(path: string): Promise<string> {
  for (let directory = path; ; directory = dirname(directory)) {
    try {
      await stat(directory);
      return directory;
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT' || directory === dirname(directory)) return directory;
    }
  }
}

/** `where` is what has to be written into so that `directory` can be used. */
async function deniedFinding(directory: string, where: string): Promise<Finding | null> {
  try {
    await access(where, constants.R_OK | constants.W_OK | constants.X_OK);
    return null;
  } catch (error) {
    const code = systemErrorCode(error);
    const isReadOnly = code === 'EROFS';
    return errorFinding('storage.directory', {
      subject: directory,
      message: isReadOnly
        ? `"${where}" is on a file system that is mounted read-only`
        : `this user (uid ${process.getuid?.() ?? '?'}) may not write into "${where}" (${code ?? errorText(error)})`,
      fix: isReadOnly
        ? 'Mount it writable, or set storage.directory to another one'
        : `Run walcast as the owner, or: install -d -m 0700 -o USER ${shellWord(directory)}; or set storage.directory to another one`,
    });
  }
}

function ownerFinding(directory: string, { pid }: DirectoryOwner): Finding {
  if (pid !== null) {
    return okFinding('storage.in_use', {
      subject: directory,
      message: `a walcast (pid ${pid}) is running on this data directory; a second one would be refused`,
    });
  }
  return warningFinding('storage.in_use', {
    subject: directory,
    message: 'a process holds this data directory and does not answer; a walcast would be refused',
    fix: `Find it (fuser ${shellWord(join(directory, DIRECTORY_LOCK_NAME))}), and let it go on or end it`,
  });
}

async function ownerOf(directory: string): Promise<DirectoryOwner | null> {
  try {
    return await directoryLockOwner(directory);
  } catch {
    // A directory that cannot be asked holds no lock of ours; what is wrong with it is found by the other looks.
    return null;
  }
}

async function refuseLeftSegmentsOf(directory: string): Promise<void> {
  try {
    await refuseLeftSegments(directory);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
  }
}

function contentFinding(directory: string, control: ControlState | null): Finding {
  const message =
    control === null
      ? 'the store is empty; it begins with the first upstream that is followed'
      : `the store holds WAL of system identifier ${control.systemIdentifier}, PostgreSQL ${control.major}, timeline ${control.timeline}`;
  return okFinding('storage.directory', { subject: directory, message });
}

function controlFinding(directory: string, error: unknown): Finding {
  const isTold = error instanceof OperationalError;
  return errorFinding('storage.control', {
    subject: directory,
    message: isTold ? error.message : `the store cannot be read: ${errorText(error)}`,
    fix: (isTold ? error.hint : undefined) ?? 'Look at the disk and the kernel log',
  });
}

function unusable(directory: string, error: unknown): Finding {
  const isTold = error instanceof OperationalError;
  return errorFinding('storage.directory', {
    subject: directory,
    message: isTold
      ? error.message
      : `the data directory "${directory}" cannot be used: ${errorText(error)}`,
    fix:
      (isTold ? error.hint : storageHint(error)) ??
      'Set storage.directory to a directory that walcast can make or own',
  });
}

async function spaceFindings(
  where: string,
  { directory, walKeepSizeBytes }: Config['storage'],
  control: ControlState | null,
): Promise<Finding[]> {
  const free = await freeBytes(where);
  if (free === null) return [];
  const segmentSize = control?.segmentSize ?? SEGMENT_BYTES_DEFAULT;
  const ahead = SEGMENTS_AHEAD * segmentSize;
  const held = control === null ? 0 : (await segmentCount(directory)) * segmentSize;
  const wanted = Math.max(0, walKeepSizeBytes - held) + ahead;
  const kept = `storage.wal_keep_size (${sizeText(walKeepSizeBytes)})`;
  const text = {
    subject: directory,
    message: `${sizeText(free)} are free; ${kept} and segments in preparation need ${sizeText(wanted)} more`,
  };
  const fix = 'Free space there, lower storage.wal_keep_size, or move storage.directory';
  if (free < ahead) return [errorFinding('storage.space', { ...text, fix })];
  if (free < wanted) return [warningFinding('storage.space', { ...text, fix })];
  return [okFinding('storage.space', text)];
}

/** Null where the file system does not say, or we may not ask. */
async function freeBytes(where: string): Promise<number | null> {
  try {
    const { bavail, bsize } = await statfs(where);
    return bavail * bsize;
  } catch {
    return null;
  }
}

async function segmentCount(directory: string): Promise<number> {
  try {
    const names = await readdir(walDirectory(directory));
    return names.filter((name) => /^[0-9A-F]{24}$/.test(name)).length;
  } catch {
    return 0;
  }
}

function sizeText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'] as const;
  let index = 0;
  let value = bytes;
  while (value >= 1024 && index < units.length - 1) {
    value /= 1024;
    index += 1;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[index] ?? ''}`;
}
