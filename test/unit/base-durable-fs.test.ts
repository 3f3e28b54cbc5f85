// Is an error of the disk taken for what it is: no room now, or the end?
import { describe, expect, it } from 'vitest';
import { isOutOfSpace, storageHint } from '../../src/base/durable-fs.ts';
import { errorText, systemErrorCode } from '../../src/base/errors.ts';

function systemError(code: string, syscall: string): Error {
  return Object.assign(new Error(`${code}: ${code}, ${syscall}`), { code, syscall });
}

describe('an error of the disk', () => {
  it('means no room when a write or a new file says so, and never when a flush does', () => {
    for (const code of ['ENOSPC', 'EDQUOT', 'Unknown system error -122']) {
      for (const syscall of ['write', 'open', 'rename']) {
        expect(isOutOfSpace(systemError(code, syscall)), `${code} ${syscall}`).toBe(true);
      }
      for (const syscall of ['fsync', 'fdatasync']) {
        expect(isOutOfSpace(systemError(code, syscall)), `${code} ${syscall}`).toBe(false);
      }
    }
    for (const code of ['EIO', 'EROFS', 'EFBIG', 'EMFILE']) {
      expect(isOutOfSpace(systemError(code, 'write'))).toBe(false);
    }
  });

  it('has its name, also where Node.js knows none', () => {
    const error = systemError('Unknown system error -122', 'write');
    expect(systemErrorCode(error)).toBe('EDQUOT');
    expect(errorText(error)).toBe('EDQUOT: EDQUOT, write');
    expect(systemErrorCode(systemError('Unknown system error -9999', 'write'))).toMatch(/-9999/);
  });

  it('comes with what a person does about it', () => {
    expect(storageHint(systemError('Unknown system error -122', 'write'))).toMatch(/quota/);
    expect(storageHint(systemError('EFBIG', 'write'))).toMatch(/LimitFSIZE/);
    expect(storageHint(systemError('EMFILE', 'open'))).toMatch(/LimitNOFILE/);
    expect(storageHint(systemError('EROFS', 'open'))).toMatch(/read-only/);
    expect(storageHint(systemError('EIO', 'write'))).toBeNull();
  });
});
