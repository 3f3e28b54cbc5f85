// Is this directory ours to write into? Its layout, made when missing, and refused when it belongs to somebody else:
//
//   pg_wal/            segments under PostgreSQL's names and sizes, zero behind the end, and `.history` files
//   dead/              WAL behind a switch point, kept aside (dead-wal.ts), and damaged segments that were replaced
//   pg_replslot/NAME/  one replication slot each (src/slot)
//   page_sums/         a checksum of each page of the segments (page-sums.ts)
//   walcast.control    identity and durable mark (control-file.ts)
//   walcast.upstream-slots  slots that walcast made on upstream servers (src/relay/upstream-slots.ts)
//   walcast.feedback   what was said upstream last of rows that standbys need (src/relay/feedback-note.ts)
//   walcast.auth-seed  the seed of the salts that unknown users are shown (src/relay/auth-seed.ts)
//   walcast.lock       the owner's lock (src/net/directory-lock.ts)
import { mkdir, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import {
  createDirectory,
  letGroupRead,
  PRIVATE_DIRECTORY_MODE,
  storageHint,
} from '../base/durable-fs.ts';
import { errorText, OperationalError } from '../base/errors.ts';
import { PAGE_SUMS_DIRECTORY } from './page-sums.ts';

/** Name of the control file inside the data directory. */
export const CONTROL_FILE_NAME = 'walcast.control';

/** Name of the file of the slots that walcast made on upstream servers, inside the data directory. */
export const UPSTREAM_SLOTS_FILE_NAME = 'walcast.upstream-slots';

/** Name of the file of what was fed back upstream last, inside the data directory. */
export const FEEDBACK_FILE_NAME = 'walcast.feedback';

/** Name of the file of the seed of unknown users' salts, inside the data directory. */
export const AUTH_SEED_FILE_NAME = 'walcast.auth-seed';

/** `lost+found` is what a file system puts at its root. */
const OUR_NAMES: ReadonlySet<string> = new Set([
  'pg_wal',
  'pg_replslot',
  'dead',
  PAGE_SUMS_DIRECTORY,
  CONTROL_FILE_NAME,
  `${CONTROL_FILE_NAME}.tmp`,
  UPSTREAM_SLOTS_FILE_NAME,
  `${UPSTREAM_SLOTS_FILE_NAME}.tmp`,
  FEEDBACK_FILE_NAME,
  `${FEEDBACK_FILE_NAME}.tmp`,
  AUTH_SEED_FILE_NAME,
  `${AUTH_SEED_FILE_NAME}.tmp`,
  'walcast.lock',
  'lost+found',
]);
const OUR_PREFIXES: readonly string[] = ['.walcast.lock.'];

/** Bits that let others in; the group may read (0750), as PostgreSQL allows. */
const REFUSED_MODE_BITS = 0o027;

/** What the group needs to read what is inside. */
const GROUP_READS = 0o050;

/** Where segments and history files are. */
export function walDirectory(dataDirectory: string): string {
  return join(dataDirectory, 'pg_wal');
}

/** Where WAL behind a switch point is kept aside. Made when there is some. */
export function deadDirectory(dataDirectory: string): string {
  return join(dataDirectory, 'dead');
}

/** Where the control file is. */
export function controlFile(dataDirectory: string): string {
  return join(dataDirectory, CONTROL_FILE_NAME);
}

/**
 * Makes the directory and what is missing inside it, durably. Changes nothing and throws OperationalError when the
 * directory holds anything that is not ours, lets other users in, belongs to another user, or cannot be used. Where its group may read
 * it, the group may read what is made inside from now on.
 */
export async function prepareDataDirectory(dataDirectory: string): Promise<void> {
  try {
    await makeTopDirectory(dataDirectory);
    const { mode, uid } = await checkMode(dataDirectory);
    // Whose it is comes second: who takes over a server's directory should not be told to run as its owner.
    await checkContent(dataDirectory);
    checkOwner(dataDirectory, uid);
    // What is made inside may be read by as many as the directory; everything else was refused.
    letGroupRead((mode & GROUP_READS) === GROUP_READS);
    await createDirectory(walDirectory(dataDirectory));
    await createDirectory(join(dataDirectory, 'pg_replslot'));
    await createDirectory(join(dataDirectory, PAGE_SUMS_DIRECTORY));
  } catch (error) {
    if (error instanceof OperationalError) throw error;
    throw new OperationalError(
      'DATA_DIRECTORY',
      `the data directory "${dataDirectory}" cannot be used: ${errorText(error)}`,
      {
        hint:
          storageHint(error) ??
          'Set storage.directory to a directory that walcast can make or own.',
        cause: error,
      },
    );
  }
}

/**
 * Looks at an existing directory as {@link prepareDataDirectory} would, and changes nothing. Throws OperationalError when
 * it would be refused, and the system's error when it cannot be looked at (ENOENT: it is missing).
 */
export async function inspectDataDirectory(dataDirectory: string): Promise<void> {
  await checkMode(dataDirectory);
  await checkContent(dataDirectory);
}

/** A segment of any timeline and any size, whole or cut at a timeline switch. */
const SEGMENT_NAME = /^[0-9A-F]{24}(?:\.partial)?$/;

/**
 * To be called before a store begins in a directory without control file: throws OperationalError when segments lie in
 * pg_wal. Whose they are and where they end, nobody knows any more, and they would be written over.
 */
export async function refuseLeftSegments(dataDirectory: string): Promise<void> {
  const pgWal = walDirectory(dataDirectory);
  const left = (await readdir(pgWal)).filter((name) => SEGMENT_NAME.test(name)).toSorted();
  if (left.length === 0) return;
  throw new OperationalError(
    'STORE_HAS_WAL',
    `"${pgWal}" holds ${left.length} WAL segments, the first is "${left[0]}", but "${controlFile(dataDirectory)}" is missing`,
    {
      hint: `Nothing was changed. Restore ${CONTROL_FILE_NAME} from a copy, or move the segments away to begin anew.`,
    },
  );
}

async function makeTopDirectory(dataDirectory: string): Promise<void> {
  const parent = dirname(dataDirectory);
  await mkdir(parent, { recursive: true, mode: PRIVATE_DIRECTORY_MODE });
  await createDirectory(join(parent, basename(dataDirectory)));
}

/** Root, too: what it made here, the owner could not write any more. (miscinit.c:checkDataDir) */
function checkOwner(dataDirectory: string, uid: number): void {
  const own = process.geteuid?.() ?? null;
  if (own === null || uid === own) return;
  throw new OperationalError(
    'DATA_DIRECTORY_OWNER',
    `the data directory "${dataDirectory}" has wrong ownership: user ${uid} owns it, walcast runs as user ${own}`,
    { hint: 'Run walcast as the user that owns its data directory.' },
  );
}

async function checkMode(dataDirectory: string): Promise<{ mode: number; uid: number }> {
  const found = await stat(dataDirectory);
  if (!found.isDirectory()) throw new Error('it is not a directory');
  const { mode, uid } = found;
  if ((mode & REFUSED_MODE_BITS) === 0) return { mode, uid };
  throw new OperationalError(
    'DATA_DIRECTORY_MODE',
    `the data directory "${dataDirectory}" has mode ${(mode & 0o7777).toString(8).padStart(4, '0')}, which lets other users in`,
    { hint: `WAL holds everything the database holds. Run: chmod 0700 '${dataDirectory}'` },
  );
}

async function checkContent(dataDirectory: string): Promise<void> {
  const names = await readdir(dataDirectory);
  const foreign = names.filter((name) => !isOurs(name));
  if (foreign.length === 0) return;
  const isCluster = foreign.includes('PG_VERSION');
  const what = isCluster
    ? 'is the data directory of a PostgreSQL server'
    : `holds "${foreign[0]}", which is not walcast's`;
  throw new OperationalError('DATA_DIRECTORY_FOREIGN', `the directory "${dataDirectory}" ${what}`, {
    hint: 'Nothing was written. Set storage.directory to an empty directory, or to one that walcast made.',
  });
}

function isOurs(name: string): boolean {
  return OUR_NAMES.has(name) || OUR_PREFIXES.some((prefix) => name.startsWith(prefix));
}
