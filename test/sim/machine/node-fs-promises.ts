// node:fs/promises as the program sees it in a simulation: every call takes its time, and has its effect at the end of it.
import type * as FsPromises from 'node:fs/promises';
import {
  callMs,
  closeFile,
  diskOf,
  isSimulated,
  openPath,
  regular,
  statOf,
  syncNow,
} from './disk-calls.ts';
import type { MountedDisk, OpenFile, SimStats } from './disk-calls.ts';
import { DiskError } from './disk.ts';
import { lies } from './lies.ts';
import { activeWorld, world } from './world.ts';

type CallKind = 'names' | 'read' | 'write' | 'sync';
type Replaced = Record<string, (...args: never[]) => unknown>;

/** What replaces the module. */
export function simulatedFsPromises(module: typeof FsPromises): object {
  const real = absentWhileSimulated(module);
  const replaced = { ...real, ...changes(real), ...looks(real) };
  return { ...module, ...replaced, default: { ...module, ...replaced } };
}

/** While a simulation runs the real disk is not there: nothing of the machine's own may decide what happens when. */
function absentWhileSimulated(module: typeof FsPromises): typeof FsPromises {
  const guarded = Object.entries(module).map(([name, value]) => {
    if (typeof value !== 'function') return [name, value] as const;
    const call = value as (...args: unknown[]) => unknown;
    const guard = (...args: unknown[]): unknown =>
      activeWorld() === null ? call(...args) : Promise.reject(absent(name, args));
    return [name, guard] as const;
  });
  return Object.fromEntries(guarded) as unknown as typeof FsPromises;
}

function absent(name: string, [path]: unknown[]): DiskError {
  return new DiskError('ENOENT', name, typeof path === 'string' ? path : '');
}

/** Makes a call on behalf of whoever runs now. */
function call<T>(on: MountedDisk, kind: CallKind, action: () => T): Promise<T> {
  const simulated = world();
  const { context } = simulated;
  return new Promise((resolve, reject) => {
    simulated.schedule(context, callMs(on, kind), `disk ${on.name} ${kind}`, () => {
      try {
        resolve(action());
      } catch (error) {
        reject(error);
      }
    });
  });
}

function at<T>(path: string, kind: CallKind, action: (on: MountedDisk) => T): Promise<T> {
  const on = diskOf(path);
  return call(on, kind, () => action(on));
}

function changes(real: typeof FsPromises): Replaced {
  return {
    open: (path: string, flags: string | number = 'r', mode?: number) =>
      isSimulated(path)
        ? at(path, 'names', () => new SimHandle(openPath(path, flags, mode)))
        : real.open(path, flags, mode),
    mkdir: (path: string, options: { mode?: number; recursive?: boolean } = {}) => {
      // Where the disks are mounted.
      if (isSimulated(path) && path.split('/').length > 3) {
        const { mode = 0o700, recursive = false } = options;
        return at(path, 'names', ({ disk }) => disk.makeDirectory(path, mode, recursive));
      }
      return isSimulated(path) ? Promise.resolve() : real.mkdir(path, options);
    },
    rename: (from: string, to: string) =>
      isSimulated(from)
        ? at(from, 'names', ({ disk }) => disk.rename(from, to))
        : real.rename(from, to),
    link: (from: string, to: string) =>
      isSimulated(from)
        ? at(from, 'names', ({ disk }) => disk.link(from, to))
        : real.link(from, to),
    unlink: (path: string) =>
      isSimulated(path)
        ? at(path, 'names', ({ disk }) => disk.remove(path, 'unlink'))
        : real.unlink(path),
    rm: (path: string, options: { force?: boolean; recursive?: boolean } = {}) => {
      if (!isSimulated(path)) return real.rm(path, options);
      return at(path, 'names', ({ disk }) => {
        if (disk.find(path) !== null) disk.removeTree(path);
        else if (options.force !== true) throw new DiskError('ENOENT', 'rm', path);
      });
    },
  };
}

function looks(real: typeof FsPromises): Replaced {
  const stat = (path: string): Promise<SimStats> =>
    at(path, 'names', ({ disk }) => statOf(disk.get(path, 'stat')));
  return {
    access: (path: string, mode?: number) =>
      isSimulated(path) ? stat(path).then(() => {}) : real.access(path, mode),
    stat: (path: string) => (isSimulated(path) ? stat(path) : real.stat(path)),
    lstat: (path: string) => (isSimulated(path) ? stat(path) : real.lstat(path)),
    readFile: (path: string, options?: 'utf8') => {
      if (!isSimulated(path)) return real.readFile(path, options);
      return at(path, 'read', ({ disk }) => {
        const node = disk.get(path, 'open');
        if (node.kind !== 'file') throw new DiskError('EISDIR', 'read', path);
        const content = Buffer.from(node.data.subarray(0, node.size));
        return options === 'utf8' ? content.toString('utf8') : content;
      });
    },
    readdir: (path: string, options?: { withFileTypes?: boolean }) => {
      if (!isSimulated(path)) return real.readdir(path);
      return at(path, 'names', ({ disk }) => {
        const node = disk.get(path, 'scandir');
        if (node.kind !== 'dir') throw new DiskError('ENOTDIR', 'scandir', path);
        const entries = [...node.entries];
        if (options?.withFileTypes !== true) return entries.map(([name]) => name);
        return entries.map(([name, entry]) => ({
          name,
          isDirectory: () => entry.kind === 'dir',
          isFile: () => entry.kind === 'file',
        }));
      });
    },
  };
}

/** The part of FileHandle that is used. */
class SimHandle {
  readonly #file: OpenFile;
  readonly fd: number;

  constructor(file: OpenFile) {
    this.#file = file;
    this.fd = file.fd;
  }

  async read(
    into: Uint8Array,
    offset = 0,
    length: number = into.length,
    position = 0,
  ): Promise<{ bytesRead: number; buffer: Uint8Array }> {
    const file = this.#file;
    const part = into.subarray(offset, offset + length);
    const bytesRead = await call(file.on, 'read', () =>
      file.on.disk.read(regular(file, 'read'), part, position),
    );
    return { bytesRead, buffer: into };
  }

  async write(
    from: Uint8Array,
    offset = 0,
    length: number = from.length,
    position = 0,
  ): Promise<{ bytesWritten: number; buffer: Uint8Array }> {
    const file = this.#file;
    const part = from.subarray(offset, offset + length);
    const bytesWritten = await call(file.on, 'write', () =>
      file.on.disk.write(regular(file, 'write'), part, position),
    );
    return { bytesWritten, buffer: from };
  }

  truncate(size = 0): Promise<void> {
    const file = this.#file;
    return call(file.on, 'write', () => file.on.disk.truncate(regular(file, 'ftruncate'), size));
  }

  stat(): Promise<SimStats> {
    return call(this.#file.on, 'names', () => statOf(this.#file.node));
  }

  sync(): Promise<void> {
    const file = this.#file;
    return call(file.on, 'sync', () => lies().beforeSync(file, () => syncNow(file, 0)));
  }

  datasync(): Promise<void> {
    return this.sync();
  }

  async close(): Promise<void> {
    closeFile(this.#file.fd);
  }
}
