import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createDirectory, replaceFile } from '../../src/base/durable-fs.ts';
import {
  decodeStateFile,
  encodeStateFile,
  loadStateFile,
  saveStateFile,
  STATE_FILE_BYTES_MAX,
} from '../../src/base/state-file.ts';

const KIND = { magic: 'test-state', version: 3 };
const BODY = { name: 'größe', list: [1, 2, 3], nothing: null };

describe('a state file', () => {
  it('gives back what was put in', () => {
    expect(decodeStateFile(KIND, encodeStateFile(KIND, BODY))).toEqual({ body: BODY, version: 3 });
  });

  it('is refused with any bit flipped', () => {
    const bytes = encodeStateFile(KIND, BODY);
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Buffer.from(bytes);
      damaged[at] = (damaged[at] ?? 0) ^ (1 << (at % 8));
      expect(decodeStateFile(KIND, damaged), `flip at ${at}`).toBeTypeOf('string');
    }
  });

  it('is refused cut short anywhere', () => {
    const bytes = encodeStateFile(KIND, BODY);
    for (let length = 0; length < bytes.length; length++) {
      expect(decodeStateFile(KIND, bytes.subarray(0, length))).toBeTypeOf('string');
    }
  });

  it('is refused when it is of another kind, of another version, or too large', () => {
    const bytes = encodeStateFile(KIND, BODY);
    expect(decodeStateFile({ magic: 'other', version: 3 }, bytes)).toMatch(/wanted is "other 3"/);
    expect(decodeStateFile({ magic: 'test-state', version: 4 }, bytes)).toMatch(/test-state 4/);
    expect(decodeStateFile(KIND, Buffer.alloc(STATE_FILE_BYTES_MAX + 1))).toMatch(/larger/);
  });

  it('is read in every version that its kind allows, which is told, and in no other', () => {
    const kind = { magic: 'test-state', version: 4, oldestVersion: 2 };
    const versionOf = (version: number): number | string => {
      const decoded = decodeStateFile(kind, encodeStateFile({ ...KIND, version }, BODY));
      return typeof decoded === 'string' ? decoded : decoded.version;
    };
    expect([2, 3, 4].map(versionOf)).toEqual([2, 3, 4]);
    expect(versionOf(1)).toMatch(/it says "test-state 1", wanted is "test-state 4"/);
    expect(versionOf(5)).toMatch(/it says "test-state 5"/);
  });
});

describe('on the disk', () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'walcast-state-'));
  });

  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  it('is replaced as a whole and leaves no temporary file', async () => {
    const path = join(directory, 'state');
    await saveStateFile(path, KIND, { a: 1 });
    await saveStateFile(path, KIND, { a: 2 });
    expect(await loadStateFile(path, KIND)).toEqual({ body: { a: 2 }, version: 3 });
    expect(await readdir(directory)).toEqual(['state']);
  });

  it('is null when it is not there, and an error that says so when it is damaged', async () => {
    const path = join(directory, 'state');
    expect(await loadStateFile(path, KIND)).toBeNull();
    await writeFile(path, 'rubbish');
    await expect(loadStateFile(path, KIND)).rejects.toMatchObject({ code: 'STATE_FILE_DAMAGED' });
  });

  it('says when another version of walcast wrote it, and leaves it as it is', async () => {
    const path = join(directory, 'state');
    const newer = { ...KIND, version: 4 };
    await saveStateFile(path, newer, BODY);
    await expect(loadStateFile(path, KIND)).rejects.toMatchObject({ code: 'STATE_FILE_VERSION' });
    expect(await loadStateFile(path, newer)).toEqual({ body: BODY, version: 4 });
  });

  it('keeps the old content when the new one cannot be written', async () => {
    const path = join(directory, 'state');
    await saveStateFile(path, KIND, { a: 1 });
    // A directory in the way of the temporary file.
    await createDirectory(`${path}.tmp`);
    await expect(replaceFile(path, Buffer.from('x'))).rejects.toMatchObject({ code: 'EISDIR' });
    expect(await readFile(path)).toEqual(Buffer.from(encodeStateFile(KIND, { a: 1 })));
  });
});
