// What is on a disk, what only seems to be, and what is left after the power was gone? Bytes and names each have a present
// and a durable state. Knows nothing of processes or time; node-fs.ts gives it the face of node:fs.
import type { Random } from './random.ts';

const PAGE_BYTES = 4096;

/** A file: its present bytes, and those that power loss leaves. */
export interface FileNode {
  readonly kind: 'file';
  readonly id: number;
  data: Buffer;
  size: number;
  durable: Buffer;
  durableSize: number;
  readonly dirty: Set<number>;
  /** Pages that an fsync failed to write: they look clean, and are not. */
  readonly lost: Set<number>;
  links: number;
  mode: number;
}

/** A directory. */
export interface DirNode {
  readonly kind: 'dir';
  readonly id: number;
  entries: Map<string, DiskNode>;
  durable: Map<string, DiskNode>;
  mode: number;
}

export type DiskNode = FileNode | DirNode;

interface NameChange {
  readonly dirs: readonly DirNode[];
  readonly apply: () => void;
}

/** An error as the system gives it. */
export class DiskError extends Error {
  readonly code: string;
  readonly syscall: string;
  readonly errno: number;

  constructor(code: string, syscall: string, path: string) {
    super(`${code}: ${syscall} '${path}'`);
    this.code = code;
    this.syscall = syscall;
    this.errno = -(ERRNO[code] ?? 1);
  }
}

const ERRNO: Readonly<Record<string, number>> = {
  ENOENT: 2,
  EIO: 5,
  EEXIST: 17,
  ENOTDIR: 20,
  EISDIR: 21,
  ENOSPC: 28,
  ENOTEMPTY: 39,
};

/** What an fsync will have made durable. */
export interface SyncTicket {
  readonly node: DiskNode;
  readonly pages: readonly number[];
  readonly size: number;
}

/** One disk. Paths begin with `root`, which is a directory. */
export class Disk {
  readonly root: string;
  /** Bytes for all files together. */
  capacity: number = Number.POSITIVE_INFINITY;
  /** The next fsyncs that fail with EIO. */
  failingSyncs = 0;
  /** An fsync has failed, and whoever called was told. */
  onSyncFailed: (path: string, id: number) => void = () => {};
  /** An fsync has succeeded. */
  onSynced: (path: string, id: number) => void = () => {};
  /** The name at `path` goes: removed or replaced (`to` is null), or renamed. */
  onNameGoes: (path: string, to: string | null) => void = () => {};
  /** Where an fsync may fail. */
  mayFail: (path: string) => boolean = () => true;
  /** Something was met: an error that was given out, pages that were lost. */
  onMet: (what: string, count: number) => void = () => {};
  /** Counts the times the power was lost. */
  generation = 0;
  readonly #top: DirNode;
  #ids = 0;
  #used = 0;
  #changes: NameChange[] = [];

  constructor(root: string) {
    this.root = root;
    this.#top = this.#newDir();
  }

  /** Bytes in files. */
  get usedBytes(): number {
    return this.#used;
  }

  // --- names

  /** What is at `path` now; null when nothing is. */
  find(path: string): DiskNode | null {
    return walk(this.#top, this.#parts(path), (dir) => dir.entries);
  }

  /** What would be at `path` after a loss of power now, in its durable state. */
  findDurable(path: string): DiskNode | null {
    return walk(this.#top, this.#parts(path), (dir) => dir.durable);
  }

  /** What is at `path`; throws ENOENT. */
  get(path: string, syscall: string): DiskNode {
    const node = this.find(path);
    if (node === null) throw new DiskError('ENOENT', syscall, path);
    return node;
  }

  makeDirectory(path: string, mode: number, isRecursive: boolean): void {
    if (this.find(path) !== null) {
      if (isRecursive) return;
      throw new DiskError('EEXIST', 'mkdir', path);
    }
    const { dir, name } = this.#place(path, 'mkdir');
    const node = this.#newDir();
    node.mode = mode;
    this.#change([dir], () => dir.entries.set(name, node), dir.durable, [name, node]);
  }

  makeFile(path: string, mode: number): FileNode {
    const { dir, name } = this.#place(path, 'open');
    if (this.#used >= this.capacity) throw this.#full('open', path);
    this.#ids += 1;
    const node: FileNode = {
      kind: 'file',
      id: this.#ids,
      data: Buffer.alloc(0),
      size: 0,
      durable: Buffer.alloc(0),
      durableSize: 0,
      dirty: new Set(),
      lost: new Set(),
      links: 1,
      mode,
    };
    this.#change([dir], () => dir.entries.set(name, node), dir.durable, [name, node]);
    return node;
  }

  link(from: string, to: string): void {
    const node = this.get(from, 'link');
    if (this.find(to) !== null) throw new DiskError('EEXIST', 'link', to);
    const { dir, name } = this.#place(to, 'link');
    if (node.kind === 'file') node.links += 1;
    this.#change([dir], () => dir.entries.set(name, node), dir.durable, [name, node]);
  }

  rename(from: string, to: string): void {
    const node = this.get(from, 'rename');
    const source = this.#place(from, 'rename');
    const target = this.#place(to, 'rename');
    const replaced = target.dir.entries.get(target.name);
    if (replaced?.kind === 'dir' && replaced.entries.size > 0) {
      throw new DiskError('ENOTEMPTY', 'rename', to);
    }
    if (replaced !== undefined) this.onNameGoes(plainPath(to), null);
    this.onNameGoes(plainPath(from), plainPath(to));
    if (replaced?.kind === 'file') this.#unlinked(replaced);
    source.dir.entries.delete(source.name);
    target.dir.entries.set(target.name, node);
    this.#changes.push({
      dirs: source.dir === target.dir ? [source.dir] : [source.dir, target.dir],
      apply: () => {
        source.dir.durable.delete(source.name);
        target.dir.durable.set(target.name, node);
      },
    });
  }

  remove(path: string, syscall: string): void {
    const node = this.get(path, syscall);
    const { dir, name } = this.#place(path, syscall);
    if (node.kind === 'dir' && node.entries.size > 0) {
      throw new DiskError('ENOTEMPTY', syscall, path);
    }
    this.onNameGoes(plainPath(path), null);
    if (node.kind === 'file') this.#unlinked(node);
    dir.entries.delete(name);
    this.#changes.push({ dirs: [dir], apply: () => void dir.durable.delete(name) });
  }

  removeTree(path: string): void {
    const node = this.find(path);
    if (node?.kind === 'dir') {
      for (const name of node.entries.keys()) this.removeTree(`${path}/${name}`);
    }
    if (node !== null) this.remove(path, 'rm');
  }

  // --- bytes

  read(node: FileNode, into: Uint8Array, position: number): number {
    const count = Math.max(0, Math.min(into.length, node.size - position));
    into.set(node.data.subarray(position, position + count));
    return count;
  }

  write(node: FileNode, bytes: Uint8Array, position: number): number {
    const end = position + bytes.length;
    const growth = Math.max(0, end - node.size);
    const room = this.capacity - this.#used;
    if (growth > 0 && growth > room) throw this.#full('write', `#${node.id}`);
    this.#resize(node, Math.max(node.size, end));
    node.data.set(bytes, position);
    const last = Math.floor((end - 1) / PAGE_BYTES);
    for (let page = Math.floor(position / PAGE_BYTES); page <= last; page += 1) {
      node.dirty.add(page);
      node.lost.delete(page);
    }
    return bytes.length;
  }

  truncate(node: FileNode, size: number): void {
    if (size > node.size && size - node.size > this.capacity - this.#used) {
      throw this.#full('ftruncate', `#${node.id}`);
    }
    const before = node.size;
    this.#resize(node, size);
    if (size < before) node.data.fill(0, size);
    node.dirty.add(Math.floor(size / PAGE_BYTES));
  }

  // --- durability

  /** An fsync begins. Throws EIO when it is to fail: then what it should have written never will be. */
  beginSync(node: DiskNode, path: string): SyncTicket {
    if (this.failingSyncs > 0 && node.kind === 'file' && this.mayFail(path)) {
      this.failingSyncs -= 1;
      for (const page of node.dirty) node.lost.add(page);
      node.dirty.clear();
      this.onSyncFailed(plainPath(path), node.id);
      this.onMet('fsync failed', 1);
      throw new DiskError('EIO', 'fsync', path);
    }
    this.onSynced(plainPath(path), node.id);
    if (node.kind === 'dir') return { node, pages: [], size: 0 };
    return { node, pages: [...node.dirty], size: node.size };
  }

  /** It is over. */
  endSync({ node, pages, size }: SyncTicket): void {
    if (node.kind === 'dir') this.#syncNames(node);
    else {
      if (node.durable.length < node.data.length) {
        const grown = Buffer.alloc(node.data.length);
        node.durable.copy(grown, 0, 0, node.durableSize);
        node.durable = grown;
      }
      for (const page of pages) {
        const at = page * PAGE_BYTES;
        node.data.copy(node.durable, at, at, Math.min(at + PAGE_BYTES, node.data.length));
        node.dirty.delete(page);
      }
      node.durableSize = Math.min(size, node.size);
    }
  }

  /** The power is gone. `random` says what of the rest had been written by chance. */
  losePower(random: Random): void {
    this.generation += 1;
    const kept = random.chance(0.3)
      ? this.#changes.length
      : random.between(0, this.#changes.length);
    for (const change of this.#changes.slice(0, kept)) change.apply();
    this.onMet('change of a name lost with the power', this.#changes.length - kept);
    this.#changes = [];
    const keepChance = random.pick([0, 0, 0.5, 1]);
    this.#used = 0;
    this.#revert(this.#top, (node) => {
      this.#revertFile(node, random, keepChance);
      this.#used += node.size;
    });
  }

  #revert(dir: DirNode, onFile: (node: FileNode) => void): void {
    dir.entries = new Map(dir.durable);
    for (const node of dir.entries.values()) {
      if (node.kind === 'dir') this.#revert(node, onFile);
      else onFile(node);
    }
  }

  #revertFile(node: FileNode, random: Random, keepChance: number): void {
    const data = Buffer.alloc(Math.max(node.data.length, node.durable.length));
    let lost = node.lost.size;
    node.durable.copy(data, 0, 0, node.durableSize);
    let size = node.durableSize;
    for (const page of node.dirty) {
      if (node.lost.has(page) || !random.chance(keepChance)) {
        lost += 1;
        continue;
      }
      const at = page * PAGE_BYTES;
      const end = Math.min(at + PAGE_BYTES, node.size);
      if (end <= at) continue;
      node.data.copy(data, at, at, end);
      size = Math.max(size, end);
    }
    node.data = data;
    node.size = size;
    node.durable = Buffer.from(data);
    node.durableSize = size;
    node.dirty.clear();
    node.lost.clear();
    this.onMet('page lost with the power', lost);
  }

  #full(syscall: string, path: string): DiskError {
    this.onMet('refused: disk full', 1);
    return new DiskError('ENOSPC', syscall, path);
  }

  /** Changes of names are written in order as far as they depend on each other: what an fsync of `dir` needs goes with it. */
  #syncNames(dir: DirNode): void {
    const wanted = new Set<DirNode>([dir]);
    const isNeeded = this.#changes.map(() => false);
    for (let index = this.#changes.length - 1; index >= 0; index -= 1) {
      const dirs = this.#changes[index]?.dirs ?? [];
      if (!dirs.some((one) => wanted.has(one))) continue;
      isNeeded[index] = true;
      for (const one of dirs) wanted.add(one);
    }
    for (const [index, change] of this.#changes.entries()) {
      if (isNeeded[index] === true) change.apply();
    }
    this.#changes = this.#changes.filter((_, index) => isNeeded[index] !== true);
  }

  #change(
    dirs: readonly DirNode[],
    now: () => void,
    durable: Map<string, DiskNode>,
    [name, node]: readonly [string, DiskNode],
  ): void {
    now();
    this.#changes.push({ dirs, apply: () => void durable.set(name, node) });
  }

  #resize(node: FileNode, size: number): void {
    if (size > node.data.length) {
      const wanted = size > 4096 ? Math.max(size, 1 << 20) : 4096;
      const grown = Buffer.alloc(wanted);
      node.data.copy(grown, 0, 0, node.size);
      node.data = grown;
    }
    if (node.links > 0) this.#used += size - node.size;
    node.size = size;
  }

  #unlinked(node: FileNode): void {
    node.links -= 1;
    if (node.links === 0) this.#used -= node.size;
  }

  #newDir(): DirNode {
    this.#ids += 1;
    return { kind: 'dir', id: this.#ids, entries: new Map(), durable: new Map(), mode: 0o700 };
  }

  /** `/sim/NAME/…`, or `/sim/NAME.N/…` as one run of a program spells it. */
  #parts(path: string): string[] {
    return path.split('/').slice(3);
  }

  #place(path: string, syscall: string): { dir: DirNode; name: string } {
    const parts = this.#parts(path);
    const name = parts.pop() ?? '';
    const dir = walk(this.#top, parts, (one) => one.entries);
    if (dir === null) throw new DiskError('ENOENT', syscall, path);
    if (dir.kind !== 'dir') throw new DiskError('ENOTDIR', syscall, path);
    return { dir, name };
  }
}

/** The path without what tells one run of a program from another. */
export function plainPath(path: string): string {
  return path.replace(/^(\/sim\/\w+)\.[^/]*/, '$1');
}

function walk(
  top: DirNode,
  parts: readonly string[],
  names: (dir: DirNode) => Map<string, DiskNode>,
): DiskNode | null {
  let node: DiskNode = top;
  for (const part of parts) {
    if (node.kind !== 'dir') return null;
    const next = names(node).get(part);
    if (next === undefined) return null;
    node = next;
  }
  return node;
}
