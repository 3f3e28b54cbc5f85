// Is an error of the disk taken for what it is: no room now, or the end?
import { describe, expect, it } from 'vitest';
import { isOutOfSpace, storageHint } from '../../src/base/durable-fs.ts';
import { errorText, systemErrorCode } from '../../src/base/errors.ts';

function systemError(code: string, syscall: string): Error {
  return Object.assign(new Error(`${code}: ${code}, ${syscall}`), { code, syscall });
}

/** EDQUOT on Linux, as Node.js tells it from a call that blocks, and from one that does not. */
function unnamedErrors(syscall: string, errno = -122): Error[] {
  const unknown = `Unknown system error ${errno}`;
  return [
    Object.assign(new Error(`UNKNOWN: unknown error, ${syscall}`), {
      errno,
      code: 'UNKNOWN',
      syscall,
    }),
    Object.assign(new Error(`${unknown}: ${unknown}, ${syscall}`), {
      errno,
      code: unknown,
      syscall,
    }),
  ];
}

describe('an error of the disk', () => {
  it('means no room when a write or a new file says so, and never when a flush does', () => {
    for (const code of ['ENOSPC', 'EDQUOT']) {
      for (const syscall of ['write', 'open', 'rename']) {
        expect(isOutOfSpace(systemError(code, syscall)), `${code} ${syscall}`).toBe(true);
      }
      for (const syscall of ['fsync', 'fdatasync']) {
        expect(isOutOfSpace(systemError(code, syscall)), `${code} ${syscall}`).toBe(false);
      }
    }
    for (const code of ['EMFILE', 'ENFILE']) {
      expect(isOutOfSpace(systemError(code, 'open'))).toBe(true);
    }
    for (const code of ['EIO', 'EROFS', 'EFBIG']) {
      expect(isOutOfSpace(systemError(code, 'write'))).toBe(false);
    }
  });

  it('has its name, also where Node.js knows none', () => {
    for (const error of unnamedErrors('write')) {
      expect(systemErrorCode(error)).toBe('EDQUOT');
      expect(errorText(error)).toBe('EDQUOT, write');
      expect(isOutOfSpace(error)).toBe(true);
      expect(storageHint(error)).toMatch(/quota/);
    }
    for (const error of unnamedErrors('fdatasync')) expect(isOutOfSpace(error)).toBe(false);
    for (const error of unnamedErrors('write', -9999)) {
      expect(systemErrorCode(error)).toMatch(/UNKNOWN|-9999/);
    }
  });

  it('comes with what a person does about it', () => {
    expect(storageHint(systemError('EFBIG', 'write'))).toMatch(/LimitFSIZE/);
    expect(storageHint(systemError('EMFILE', 'open'))).toMatch(/LimitNOFILE/);
    expect(storageHint(systemError('EROFS', 'open'))).toMatch(/read-only/);
    expect(storageHint(systemError('EIO', 'write'))).toBeNull();
  });
});
