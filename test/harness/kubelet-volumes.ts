// What does a volume of a pod look like on disk? ConfigMaps and Secrets behind `..data`, replaced in one rename as the kubelet
// does it, with the modes and the group that a pod's fsGroup gives them; empty directories; claims that outlive their pod.
// (kubernetes pkg/volume/util/atomic_writer.go:Write, pkg/volume/volume_linux.go:SetVolumeOwnership)
import { randomBytes } from 'node:crypto';
import {
  chmod,
  chown,
  mkdir,
  readFile,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** A file of a ConfigMap or Secret volume. */
export interface VolumeFile {
  /** Relative; may be below a directory. */
  readonly path: string;
  readonly bytes: Uint8Array;
  /** As `defaultMode` or an item's `mode` has it. */
  readonly mode: number;
}

const DATA = '..data';
const DIRECTORY_MODE = 0o755;
const SETGID = 0o2000;
/** What fsGroup adds to files of a volume that is read only, of one that is written, and to directories. */
const READ_MASK = 0o440;
const WRITE_MASK = 0o660;
const SEARCH_MASK = 0o110;

/**
 * Makes `directory` show `files`: a new directory beside the old one, one rename of `..data`, and the old one goes. False when it
 * shows them already.
 */
export async function writeAtomically(
  directory: string,
  files: readonly VolumeFile[],
  fsGroup: number | null,
): Promise<boolean> {
  const before = await readlink(join(directory, DATA)).catch(() => null);
  if (before !== null && (await shows(join(directory, before), files))) return false;
  const payload = `..${stamp()}.${randomBytes(4).readUInt32LE()}`;
  const target = join(directory, payload);
  await mkdir(target);
  await chmod(target, DIRECTORY_MODE);
  for (const file of files) await writePayload(target, file, fsGroup);
  await own(target, fsGroup, SEARCH_MASK | READ_MASK);
  await symlink(payload, join(directory, `${DATA}_tmp`));
  await rename(join(directory, `${DATA}_tmp`), join(directory, DATA));
  await showNames(directory, files);
  if (before !== null) await rm(join(directory, before), { recursive: true });
  return true;
}

/** Makes the directory of a ConfigMap or Secret volume; {@link writeAtomically} fills it. */
export async function makeFilesVolume(directory: string, fsGroup: number | null): Promise<void> {
  await mkdir(directory, { recursive: true });
  await chmod(directory, 0o777);
  await own(directory, fsGroup, SEARCH_MASK | READ_MASK);
}

/** Makes an emptyDir. (pkg/volume/emptydir/empty_dir.go: perm) */
export async function makeEmptyVolume(directory: string, fsGroup: number | null): Promise<void> {
  await mkdir(directory, { recursive: true });
  await chmod(directory, 0o777);
  await own(directory, fsGroup, SEARCH_MASK | WRITE_MASK);
}

/**
 * Prepares a claim's file system for a pod: a new one belongs to root, as mkfs leaves it. With `isOnRootMismatch` nothing is
 * changed where the root directory has the group and its rights already.
 */
export async function prepareClaim(
  directory: string,
  fsGroup: number | null,
  isOnRootMismatch: boolean,
): Promise<void> {
  await mkdir(directory, { recursive: true });
  if (fsGroup === null) return;
  const { gid, mode } = await stat(directory);
  const wanted = SETGID | SEARCH_MASK | WRITE_MASK;
  if (isOnRootMismatch && gid === fsGroup && (mode & wanted) === wanted) return;
  await ownTree(directory, fsGroup);
}

async function ownTree(path: string, gid: number): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const child = join(path, entry.name);
    if (entry.isDirectory()) await ownTree(child, gid);
    else if (!entry.isSymbolicLink()) await own(child, gid, WRITE_MASK);
  }
  await own(path, gid, SEARCH_MASK | WRITE_MASK);
}

async function writePayload(
  target: string,
  { path, bytes, mode }: VolumeFile,
  fsGroup: number | null,
): Promise<void> {
  const full = join(target, path);
  const parent = dirname(full);
  if (parent !== target) {
    await mkdir(parent, { recursive: true });
    await own(parent, fsGroup, SEARCH_MASK | READ_MASK);
  }
  await writeFile(full, bytes);
  await chmod(full, mode);
  await own(full, fsGroup, READ_MASK);
}

/** Gives `path` to the group, with the rights of `mask` besides its own; a directory hands its group on. */
async function own(path: string, gid: number | null, mask: number): Promise<void> {
  if (gid === null) return;
  const entry = await stat(path);
  await chown(path, entry.uid, gid);
  await chmod(path, (entry.mode & 0o7777) | mask | (entry.isDirectory() ? SETGID : 0));
}

async function shows(payload: string, files: readonly VolumeFile[]): Promise<boolean> {
  const names = await readdir(payload, { recursive: true, withFileTypes: true });
  if (names.filter((entry) => entry.isFile()).length !== files.length) return false;
  for (const { path, bytes } of files) {
    const there = await readFile(join(payload, path)).catch(() => null);
    if (there === null || !there.equals(bytes)) return false;
  }
  return true;
}

/** What users of the volume see: links through `..data`, one a name. */
async function showNames(directory: string, files: readonly VolumeFile[]): Promise<void> {
  const wanted = new Set(files.map(({ path }) => path.split('/')[0] ?? path));
  for (const name of await readdir(directory)) {
    if (name.startsWith('..')) continue;
    if (!wanted.delete(name)) await rm(join(directory, name));
  }
  for (const name of wanted) await symlink(join(DATA, name), join(directory, name));
}

function stamp(): string {
  return new Date().toISOString().slice(0, 19).replaceAll(/[-T:]/g, '_');
}
