// Errors of fsync, which no file system here gives on demand.
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { SegmentPreparation } from '../../src/wal/segment-preparation.ts';

const disk = vi.hoisted(() => ({ failing: '', code: '' }));

vi.mock('node:fs/promises', async (importOriginal) => {
  const original = await importOriginal<typeof import('node:fs/promises')>();
  const open = async (path: string, flags: string, mode?: number): Promise<FileHandle> => {
    const handle = await original.open(path, flags, mode);
    if (disk.failing === '' || !path.endsWith(disk.failing)) return handle;
    handle.sync = () =>
      Promise.reject(Object.assign(new Error('made up'), { code: disk.code, syscall: 'fsync' }));
    return handle;
  };
  return { ...original, open };
});

const NAME = '000000010000000000000001';
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-ahead-'));
});

afterEach(async () => {
  disk.failing = '';
  await rm(directory, { recursive: true });
});

async function failuresOf(failing: string, code: string): Promise<unknown[]> {
  Object.assign(disk, { failing, code });
  const failures: unknown[] = [];
  const place = { directory, size: toSegmentSize(1 << 20), takeRecycled: () => null };
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
});
