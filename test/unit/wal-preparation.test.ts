// Errors of fsync, open and rename, which no file system here gives on demand.
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { SegmentPreparation } from '../../src/wal/segment-preparation.ts';

const disk = vi.hoisted(() => ({ failing: '', code: '', call: 'fsync' }));

vi.mock('node:fs/promises', async (importOriginal) => {
  const original = await importOriginal<typeof import('node:fs/promises')>();
  const open = async (path: string, flags: string, mode?: number): Promise<FileHandle> => {
    const isFailing = disk.failing !== '' && path.endsWith(disk.failing);
    if (isFailing && disk.call === 'open') throw failure();
    const handle = await original.open(path, flags, mode);
    if (isFailing && disk.call === 'fsync') handle.sync = () => Promise.reject(failure());
    return handle;
  };
  const rename = async (from: string, to: string): Promise<void> => {
    if (disk.call === 'rename') throw failure();
    await original.rename(from, to);
  };
  const failure = (): Error =>
    Object.assign(new Error('made up'), { code: disk.code, syscall: disk.call });
  return { ...original, open, rename };
});

const NAME = '000000010000000000000001';
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-ahead-'));
});

afterEach(async () => {
  Object.assign(disk, { failing: '', call: 'fsync' });
  await rm(directory, { recursive: true });
});

async function failuresOf(
  failing: string,
  code: string,
  recycled: string | null = null,
): Promise<unknown[]> {
  Object.assign(disk, { failing, code });
  const failures: unknown[] = [];
  const place = { directory, size: toSegmentSize(1 << 20), takeRecycled: () => recycled };
  const preparation = new SegmentPreparation(place, (error) => failures.push(error));
  preparation.begin(NAME);
  expect(preparation.isMaking(NAME)).toBe(true);
  await preparation.settle();
  return failures;
}

describe('a segment made ahead of time', () => {
  it('is there, and nothing is said, when all goes well', async () => {
    expect(await failuresOf('nothing', '')).toEqual([]);
    expect(await readdir(directory)).toEqual([NAME]);
  });

  it.each(['EIO', 'ENOSPC', 'EDQUOT'])(
    'tells of an fsync that failed with %s, and leaves no file',
    async (code) => {
      expect(await failuresOf(NAME, code)).toMatchObject([{ code, syscall: 'fsync' }]);
      expect(await readdir(directory)).toEqual([]);
    },
  );

  it.each(['EIO', 'ENOSPC'])(
    'tells of a name that could not be made durable (%s)',
    async (code) => {
      expect(await failuresOf(directory, code)).toMatchObject([{ code, syscall: 'fsync' }]);
    },
  );

  it.each([
    ['of the directory', ''],
    ['of the new file', NAME],
  ])('leaves it to the write to wait for a descriptor, at the open %s', async (_, name) => {
    disk.call = 'open';
    expect(await failuresOf(name === '' ? directory : name, 'EMFILE')).toEqual([]);
    expect(await readdir(directory)).toEqual([]);
  });

  it.each([false, true])(
    'leaves it to the write to wait for space for a name (recycled: %s)',
    async (isRecycled) => {
      const recycled = join(directory, 'xlogtemp.recycled.1');
      if (isRecycled) await writeFile(recycled, 'old');
      disk.call = 'rename';
      expect(await failuresOf('', 'ENOSPC', isRecycled ? recycled : null)).toEqual([]);
      const left = (await readdir(directory)).filter((name) => !name.startsWith('xlogtemp.0'));
      expect(left).toEqual([]);
    },
  );
});
