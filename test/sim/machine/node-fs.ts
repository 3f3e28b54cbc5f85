// node:fs as the program sees it in a simulation: blocking calls below /sim/ go to a disk of the simulation, all others to the
// real one (package.json is read there).
import type * as Fs from 'node:fs';
import {
  blockFor,
  callMs,
  closeFile,
  diskOf,
  isSimulated,
  isSimulatedFd,
  openFile,
  openPath,
  regular,
  statOf,
  syncNow,
} from './disk-calls.ts';
import { lies } from './lies.ts';

type Replaced = Record<string, (...args: never[]) => unknown>;

/** What replaces the module. */
export function simulatedFs(real: typeof Fs): object {
  const replaced: Replaced = { ...files(real), ...bytes(real), ...syncs(real), ...names(real) };
  return { ...real, ...replaced, default: { ...real, ...replaced } };
}

function files(real: typeof Fs): Replaced {
  return {
    openSync: (path: string, flags: string | number = 'r', mode?: number) => {
      if (!isSimulated(path)) return real.openSync(path, flags, mode);
      blockFor(callMs(diskOf(path), 'names'));
      return openPath(path, flags, mode).fd;
    },
    closeSync: (fd: number) => {
      if (isSimulatedFd(fd)) closeFile(fd);
      else real.closeSync(fd);
    },
    fstatSync: (fd: number) => (isSimulatedFd(fd) ? statOf(openFile(fd).node) : real.fstatSync(fd)),
    statSync: (path: string) =>
      isSimulated(path) ? statOf(diskOf(path).disk.get(path, 'stat')) : real.statSync(path),
  };
}

function bytes(real: typeof Fs): Replaced {
  return {
    readSync: (fd: number, into: Buffer, ...where: [number?, number?, number?]) => {
      const [offset = 0, length = into.length, position = 0] = where;
      if (!isSimulatedFd(fd)) return real.readSync(fd, into, offset, length, position);
      const file = openFile(fd);
      blockFor(callMs(file.on, 'read'));
      const part = into.subarray(offset, offset + length);
      return file.on.disk.read(regular(file, 'read'), part, position);
    },
    writeSync: (fd: number, from: Uint8Array, ...where: [number?, number?, number?]) => {
      const [offset = 0, length = from.length, position = 0] = where;
      if (!isSimulatedFd(fd)) return real.writeSync(fd, from, offset, length, position);
      const file = openFile(fd);
      blockFor(callMs(file.on, 'write'));
      const part = from.subarray(offset, offset + length);
      return file.on.disk.write(regular(file, 'write'), part, position);
    },
    ftruncateSync: (fd: number, size = 0) => {
      if (!isSimulatedFd(fd)) real.ftruncateSync(fd, size);
      else {
        const file = openFile(fd);
        file.on.disk.truncate(regular(file, 'ftruncate'), size);
      }
    },
  };
}

function syncs(real: typeof Fs): Replaced {
  const sync = (fd: number): void => {
    const file = openFile(fd);
    lies().beforeSync(file, () => syncNow(file, blockFor(callMs(file.on, 'sync'))));
  };
  return {
    fsyncSync: (fd: number) => (isSimulatedFd(fd) ? sync(fd) : real.fsyncSync(fd)),
    fdatasyncSync: (fd: number) => (isSimulatedFd(fd) ? sync(fd) : real.fdatasyncSync(fd)),
  };
}

function names(real: typeof Fs): Replaced {
  return {
    renameSync: (from: string, to: string) => {
      if (!isSimulated(from)) {
        real.renameSync(from, to);
        return;
      }
      const on = diskOf(from);
      blockFor(callMs(on, 'names'));
      on.disk.rename(from, to);
    },
    rmSync: (path: string, options?: { force?: boolean }) => {
      if (!isSimulated(path)) real.rmSync(path, options);
      else if (diskOf(path).disk.find(path) !== null) diskOf(path).disk.removeTree(path);
    },
  };
}
