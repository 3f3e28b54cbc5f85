// Who owns this data directory? One process, until it ends by whatever means. The lock is a listening Unix socket
// in the directory: the kernel closes it with its process, also after kill -9, and anybody who shares the directory,
// from another container too, can ask it.
import { randomBytes } from 'node:crypto';
import { link, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { ignoreMissing, storageHint } from '../base/durable-fs.ts';
import { OperationalError, errorText, systemErrorCode } from '../base/errors.ts';
import { UNIX_PATH_BYTES_MAX } from './listener.ts';

/** Name of the lock inside the data directory. */
export const DIRECTORY_LOCK_NAME = 'walcast.lock';

const TEMPORARY_PREFIX = '.walcast.lock.';

/** An owner that has accepted us answers at once; this is for one that is stopped. */
const ANSWER_TIMEOUT_MS = 1000;

/** Long against the few system calls between two steps of a starter. */
const CONTENTION_PAUSE_MS = 100;

/** How often a stale lock is cleared away before giving up. */
const ATTEMPTS_MAX = 10;

/** Longest answer read: `pid `, digits, newline. */
const ANSWER_BYTES_MAX = 32;

type Owner =
  | { readonly state: 'alive'; readonly pid: number | null }
  | { readonly state: 'dead' }
  | { readonly state: 'absent' };

/** The lock of one data directory. */
export class DirectoryLock {
  readonly #directory: SocketDirectory;
  readonly #server: Server;
  readonly #inode: bigint;

  private constructor(directory: SocketDirectory, server: Server, inode: bigint) {
    this.#directory = directory;
    this.#server = server;
    this.#inode = inode;
  }

  /**
   * Takes the lock of `directory`, which must exist. Throws {@link OperationalError} `DATA_DIRECTORY_IN_USE` when
   * another process holds it, and another one when the directory cannot hold a socket.
   */
  static async acquire(directory: string): Promise<DirectoryLock> {
    const sockets = await SocketDirectory.open(directory);
    const name = `${TEMPORARY_PREFIX}${process.pid}.${randomBytes(6).toString('hex')}`;
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.end(`pid ${process.pid}\n`);
    });
    try {
      await listen(server, sockets.path(name));
      const inode = await inodeOf(sockets.path(name));
      if (inode === null) throw lockError(directory, 'the socket just made is gone');
      await takeName(sockets, name, inode);
      const isContended = await removeLeftovers(sockets);
      if (isContended) await confirmName(sockets, inode);
      // Holding the lock must not keep a process alive that has nothing else to do.
      server.unref();
      return new DirectoryLock(sockets, server, inode);
    } catch (error) {
      server.close();
      await sockets.close();
      throw error instanceof OperationalError
        ? error
        : lockError(directory, errorText(error), error);
    }
  }

  /** True while the lock's name still leads to our socket: somebody may have removed it by hand. */
  async isHeld(): Promise<boolean> {
    return (await inodeOf(this.#directory.path(DIRECTORY_LOCK_NAME))) === this.#inode;
  }

  /** Gives the directory free. */
  async release(): Promise<void> {
    if (await this.isHeld()) await unlinkIfThere(this.#directory.path(DIRECTORY_LOCK_NAME));
    this.#server.close();
    await this.#directory.close();
  }
}

/** A process that holds a data directory. */
export interface DirectoryOwner {
  /** Null when it does not say: it is stopped, or of another user. */
  readonly pid: number | null;
}

/** Who holds `directory`; null when nobody does. Changes nothing. */
export async function directoryLockOwner(directory: string): Promise<DirectoryOwner | null> {
  const sockets = await SocketDirectory.open(directory);
  try {
    const owner = await askOwner(sockets.path(DIRECTORY_LOCK_NAME));
    return owner.state === 'alive' ? { pid: owner.pid } : null;
  } finally {
    await sockets.close();
  }
}

/** Paths inside the directory that fit into a socket address, however long the directory's own path is. */
class SocketDirectory {
  readonly directory: string;
  readonly #handle: FileHandle | null;

  private constructor(directory: string, handle: FileHandle | null) {
    this.directory = directory;
    this.#handle = handle;
  }

  static async open(directory: string): Promise<SocketDirectory> {
    const longest = join(directory, `${TEMPORARY_PREFIX}${'0'.repeat(30)}`);
    const isShort = Buffer.byteLength(longest) <= UNIX_PATH_BYTES_MAX;
    if (isShort) return new SocketDirectory(directory, null);
    if (process.platform !== 'linux') {
      throw lockError(directory, 'its path is too long for a socket');
    }
    return new SocketDirectory(directory, await open(directory, 'r'));
  }

  path(name: string): string {
    return this.#handle === null
      ? join(this.directory, name)
      : `/proc/self/fd/${this.#handle.fd}/${name}`;
  }

  async close(): Promise<void> {
    await this.#handle?.close();
  }
}

/** Gives the listening socket `name` the lock's name as well, or throws. */
async function takeName(sockets: SocketDirectory, name: string, inode: bigint): Promise<void> {
  const lockPath = sockets.path(DIRECTORY_LOCK_NAME);
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    if (await linkIfFree(sockets.path(name), lockPath)) {
      await unlinkIfThere(sockets.path(name));
      return;
    }
    const found = await inodeOf(lockPath);
    const owner = await askOwner(lockPath);
    if (owner.state === 'alive') throw inUseError(sockets.directory, owner.pid);
    if (owner.state === 'dead' && found !== null) await clearStale(sockets, found, inode);
  }
  throw lockError(sockets.directory, `others keep replacing ${DIRECTORY_LOCK_NAME}`);
}

/**
 * Takes a dead lock out of the way. Between finding it dead and moving it another starter may have put its own live
 * one there: that one is put back.
 */
async function clearStale(sockets: SocketDirectory, dead: bigint, own: bigint): Promise<void> {
  const lockPath = sockets.path(DIRECTORY_LOCK_NAME);
  const aside = sockets.path(`${TEMPORARY_PREFIX}${process.pid}.${own % 0xffffffn}.old`);
  try {
    await rename(lockPath, aside);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return;
    throw error;
  }
  const moved = await inodeOf(aside);
  if (moved !== dead && (await askOwner(aside)).state === 'alive') {
    await linkIfFree(aside, lockPath);
  }
  await unlinkIfThere(aside);
}

/** Removes sockets of starters that were killed between binding and linking. True when some are being used right now. */
async function removeLeftovers(sockets: SocketDirectory): Promise<boolean> {
  let isContended = false;
  for (const name of await readdir(sockets.directory)) {
    if (!name.startsWith(TEMPORARY_PREFIX)) continue;
    const owner = await askOwner(sockets.path(name));
    if (owner.state === 'dead') await unlinkIfThere(sockets.path(name));
    else isContended = true;
  }
  return isContended;
}

/**
 * While several start over one dead lock, one may find ours moved aside for an instant and a third may use that
 * instant. Everybody who is in the middle of it has finished after this pause; whoever has the name then is the owner.
 */
async function confirmName(sockets: SocketDirectory, own: bigint): Promise<void> {
  await new Promise<void>((resolve) => {
    systemClock.setTimer(CONTENTION_PAUSE_MS, resolve);
  });
  const lockPath = sockets.path(DIRECTORY_LOCK_NAME);
  if ((await inodeOf(lockPath)) === own) return;
  const owner = await askOwner(lockPath);
  throw inUseError(sockets.directory, owner.state === 'alive' ? owner.pid : null);
}

function askOwner(path: string): Promise<Owner> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect({ path });
    const finish = (owner: Owner): void => {
      socket.destroy();
      resolve(owner);
    };
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => finish({ state: 'alive', pid: null }));
    socket.on('error', (error) => finish(ownerOfError(systemErrorCode(error))));
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString('latin1');
      if (answer.length > ANSWER_BYTES_MAX) finish({ state: 'alive', pid: null });
    });
    socket.on('end', () => finish({ state: 'alive', pid: pidOfAnswer(answer) }));
  });
}

function ownerOfError(code: string | null): Owner {
  if (code === 'ENOENT') return { state: 'absent' };
  // A file that is no socket refuses as well: nobody can be listening on it.
  if (code === 'ECONNREFUSED') return { state: 'dead' };
  return { state: 'alive', pid: null };
}

function pidOfAnswer(answer: string): number | null {
  const match = /^pid (\d{1,10})\n$/.exec(answer);
  return match === null ? null : Number(match[1]);
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path }, () => {
      server.off('error', reject);
      server.on('error', () => {});
      resolve();
    });
  });
}

/** False when the name is taken. */
async function linkIfFree(existing: string, name: string): Promise<boolean> {
  try {
    await link(existing, name);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  await unlink(path).catch(ignoreMissing);
}

async function inodeOf(path: string): Promise<bigint | null> {
  try {
    return (await stat(path, { bigint: true })).ino;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

function inUseError(directory: string, pid: number | null): OperationalError {
  const who = pid === null ? 'another walcast' : `another walcast (pid ${pid})`;
  return new OperationalError(
    'DATA_DIRECTORY_IN_USE',
    `${who} is using data directory "${directory}"`,
    { hint: 'Stop it first, or give this one another storage.directory.' },
  );
}

function lockError(directory: string, reason: string, cause?: unknown): OperationalError {
  return new OperationalError(
    'DATA_DIRECTORY_LOCK',
    `could not lock data directory "${directory}": ${reason}`,
    {
      hint:
        storageHint(cause) ??
        'The directory must be on a local file system that can hold Unix sockets and links.',
      cause,
    },
  );
}
