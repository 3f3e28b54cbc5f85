import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { writeNewFile } from '../../src/base/durable-fs.ts';
import { prepareDataDirectory } from '../../src/wal/data-directory.ts';

let parent: string;
let directory: string;

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'walcast-dir-'));
  directory = join(parent, 'a', 'b');
});

afterEach(async () => {
  vi.restoreAllMocks();
  await rm(parent, { recursive: true });
});

it('makes the directory and its parts, for the owner alone', async () => {
  await prepareDataDirectory(directory);
  await prepareDataDirectory(directory);
  expect((await readdir(directory)).toSorted()).toEqual(['page_sums', 'pg_replslot', 'pg_wal']);
  for (const path of [directory, join(directory, 'pg_wal')]) {
    expect((await stat(path)).mode & 0o777).toBe(0o700);
  }
});

it('lets the group read what it makes in a directory that the group may read, as PostgreSQL does', async () => {
  await mkdir(directory, { recursive: true });
  await chmod(directory, 0o750);
  await prepareDataDirectory(directory);
  await writeNewFile(join(directory, 'walcast.control'), new Uint8Array(1));
  expect((await stat(join(directory, 'pg_wal'))).mode & 0o777).toBe(0o750);
  expect((await stat(join(directory, 'walcast.control'))).mode & 0o777).toBe(0o640);
  await chmod(directory, 0o700);
  await prepareDataDirectory(directory);
  await writeNewFile(join(directory, 'walcast.feedback'), new Uint8Array(1));
  expect((await stat(join(directory, 'walcast.feedback'))).mode & 0o777).toBe(0o600);
});

it('refuses a directory of another user, which root could write', async () => {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const own = process.geteuid?.() ?? 0;
  vi.spyOn(process, 'geteuid').mockReturnValue(own + 1);
  await expect(prepareDataDirectory(directory)).rejects.toMatchObject({
    code: 'DATA_DIRECTORY_OWNER',
    message: expect.stringContaining(
      `user ${own} owns it, walcast runs as user ${own + 1}`,
    ) as string,
  });
  expect(await readdir(directory)).toEqual([]);
});

it.each([0o755, 0o770, 0o707, 0o777])('refuses mode %i before it writes anything', async (mode) => {
  await mkdir(directory, { recursive: true });
  await chmod(directory, mode);
  await expect(prepareDataDirectory(directory)).rejects.toMatchObject({
    code: 'DATA_DIRECTORY_MODE',
    hint: expect.stringContaining('chmod 0700') as string,
  });
  expect(await readdir(directory)).toEqual([]);
});

it.each([
  ['PG_VERSION', /data directory of a PostgreSQL server/],
  ['notes.txt', /holds "notes.txt", which is not walcast's/],
])('refuses a directory with %s in it', async (name, message) => {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await writeFile(join(directory, name), '');
  await expect(prepareDataDirectory(directory)).rejects.toThrow(message);
  expect(await readdir(directory)).toEqual([name]);
});

it('takes the root of a file system', async () => {
  await mkdir(join(directory, 'lost+found'), { recursive: true, mode: 0o700 });
  await prepareDataDirectory(directory);
});

it('says what is in the way when it cannot be made', async () => {
  await mkdir(join(parent, 'a'));
  await writeFile(directory, '');
  await expect(prepareDataDirectory(directory)).rejects.toMatchObject({ code: 'DATA_DIRECTORY' });
});
