// How long does a call to a disk take, and on whose behalf is it made? What node:fs and node:fs/promises have in common
// here: the disks of the simulation by path, open files, the time of calls.
import { Disk, DiskError } from './disk.ts';
import type { DiskNode, FileNode } from './disk.ts';
import { world } from './world.ts';

/** Everything below it is on a disk of the simulation. */
export const DISKS_PREFIX = '/sim/';

/** A disk with its owner's times. */
export interface MountedDisk {
  readonly name: string;
  readonly disk: Disk;
  /** Until this time of the world an fsync takes as long as until then. */
  slowUntilMs: number;
}

const mounted = new Map<string, MountedDisk>();

/** Makes an empty disk at `/sim/<name>`. */
export function mountDisk(name: string): MountedDisk {
  const entry = { name, disk: new Disk(DISKS_PREFIX + name), slowUntilMs: 0 };
  mounted.set(name, entry);
  return entry;
}

/** Forgets all disks and open files: a simulation begins. */
export function unmountAll(): void {
  mounted.clear();
  openFiles.clear();
}

/** True for what the simulation has to answer. */
export function isSimulated(path: unknown): path is string {
  return typeof path === 'string' && path.startsWith(DISKS_PREFIX);
}

/** The disk that holds `path`. */
export function diskOf(path: string): MountedDisk {
  const name = path.slice(DISKS_PREFIX.length).split(/[./]/)[0] ?? '';
  const entry = mounted.get(name);
  if (entry === undefined) throw new DiskError('ENOENT', 'access', path);
  return entry;
}

/** A file or directory that a process has open. */
export interface OpenFile {
  readonly fd: number;
  readonly path: string;
  readonly node: DiskNode;
  readonly on: MountedDisk;
}

const openFiles = new Map<number, OpenFile>();
let lastFd = 100_000;

/** True for a descriptor of ours. */
export function isSimulatedFd(fd: number): boolean {
  return openFiles.has(fd);
}

/** What a descriptor stands for; throws EBADF. */
export function openFile(fd: number): OpenFile {
  const found = openFiles.get(fd);
  if (found === undefined) throw new DiskError('EBADF', 'close', `fd ${fd}`);
  return found;
}

export function closeFile(fd: number): void {
  openFile(fd);
  openFiles.delete(fd);
}

/** The same as a regular file. */
export function regular(file: OpenFile, syscall: string): FileNode {
  if (file.node.kind !== 'file') throw new DiskError('EISDIR', syscall, file.path);
  return file.node;
}

/** What open(2) does, by the flags of node:fs. */
export function openPath(path: string, flags: string | number, mode = 0o600): OpenFile {
  const on = diskOf(path);
  const { disk } = on;
  const isCreating =
    typeof flags === 'number' ? (flags & O_CREAT) !== 0 : flags.startsWith('w') || flags === 'a';
  const isNew = typeof flags === 'string' && flags.includes('x');
  const isTruncating = typeof flags === 'string' && flags.startsWith('w');
  let node = disk.find(path);
  if (node !== null && isNew) throw new DiskError('EEXIST', 'open', path);
  if (node === null && !isCreating) throw new DiskError('ENOENT', 'open', path);
  node ??= disk.makeFile(path, mode);
  if (isTruncating && node.kind === 'file' && node.size > 0) disk.truncate(node, 0);
  lastFd += 1;
  const file = { fd: lastFd, path, node, on };
  openFiles.set(lastFd, file);
  return file;
}

const O_CREAT = 0o100;

/** What stat(2) says of it, as far as anybody asks. */
export function statOf(node: DiskNode): SimStats {
  const isFile = node.kind === 'file';
  const size = isFile ? node.size : 4096;
  return {
    size,
    blocks: Math.ceil(size / 512),
    nlink: isFile ? node.links : 2,
    ino: node.id,
    dev: 1,
    mode: (isFile ? 0o100000 : 0o040000) | node.mode,
    uid: process.geteuid?.() ?? 0,
    mtimeMs: 0,
    isFile: () => isFile,
    isDirectory: () => !isFile,
    isSymbolicLink: () => false,
  };
}

/** The part of fs.Stats that is asked for. */
export interface SimStats {
  readonly size: number;
  readonly blocks: number;
  readonly nlink: number;
  readonly ino: number;
  readonly dev: number;
  readonly uid: number;
  readonly mode: number;
  readonly mtimeMs: number;
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
}

/** Milliseconds that a call which touches the disk takes. */
export function callMs(on: MountedDisk, kind: 'names' | 'read' | 'write' | 'sync'): number {
  const { random, nowMs, context } = world();
  if (kind !== 'sync') return random.real(0.02, 0.4);
  // A thread that was held up once already is that much later.
  const slowMs = on.slowUntilMs - nowMs - (context.thread?.aheadMs ?? 0);
  return slowMs > 0 ? slowMs + random.real(0, 5) : random.real(0.3, 4);
}

/**
 * A blocking call begins in a thread: it ends that much later, in the thread's own time. `at` is how far that is ahead of the
 * present. Outside of a thread such calls take no time: only the start of a program makes them there.
 */
export function blockFor(ms: number): number {
  const { thread } = world().context;
  if (thread === null) return 0;
  thread.aheadMs += ms;
  return thread.aheadMs;
}

/** An fsync in a thread, or of a handle whose call ends now: durable when its time is over, if the power lasts. */
export function syncNow(file: OpenFile, delayMs: number): void {
  const { disk, name } = file.on;
  const ticket = disk.beginSync(file.node, file.path);
  if (delayMs === 0) {
    disk.endSync(ticket);
    return;
  }
  const { generation } = disk;
  const simulated = world();
  simulated.schedule({ process: null, thread: null }, delayMs, `disk ${name} durable`, () => {
    if (disk.generation === generation) disk.endSync(ticket);
  });
}
