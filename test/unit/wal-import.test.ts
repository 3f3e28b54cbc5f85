// Does an import bring exactly what fits, whatever interrupts it, and does it change nothing where nothing fits?
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import {
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { crc32c } from '../../src/base/crc32c.ts';
import { formatLsn, INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { importWal } from '../../src/wal/import.ts';
import type { ImportReport } from '../../src/wal/import.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import { readStored, saveControlOf, storeOptions } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const MB = 1 << 20;
const PROGRAM = fileURLToPath(new URL('../../bin/walcast.mjs', import.meta.url));
const COMPILED = fileURLToPath(new URL('../../dist/program/main.js', import.meta.url));

let directory: string;
let archive: string;
let data: string;
let wal: WalFixture;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-import-'));
  archive = join(directory, 'archive');
  data = join(directory, 'data');
  await mkdir(archive);
  wal = new WalFixture();
  wal.fill(5.5 * MB, 3);
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

function nameOf(segment: number): string {
  const number = segmentNumber(toLsn(wal.startLsn + BigInt(segment * MB)), wal.segmentSize);
  return walFileName(toTimelineId(1), number, wal.segmentSize);
}

/** Segments of the fixture, `from` to `to` (exclusive), with zeros behind `endLsn`. */
async function writeSegments(
  path: string,
  from: number,
  to: number,
  options: { endLsn?: bigint; fixture?: WalFixture } = {},
): Promise<void> {
  const fixture = options.fixture ?? wal;
  const length = Number((options.endLsn ?? fixture.endLsn) - fixture.startLsn);
  const bytes = fixture.bytes().subarray(0, length);
  for (let index = from; index < to; index++) {
    const segment = Buffer.alloc(MB);
    bytes.copy(segment, 0, index * MB, (index + 1) * MB);
    await writeFile(join(path, nameOf(index)), segment);
  }
}

/** A store that holds the fixture's WAL from a segment on up to the record end at or behind `until`. Returns that end. */
async function makeStore(fromSegment: number, until: number, fixture = wal): Promise<Lsn> {
  const until64 = fixture.startLsn + BigInt(Math.round(until));
  const endLsn = fixture.records.find((record) => record.endLsn >= until64)?.endLsn;
  if (endLsn === undefined) throw new Error('the fixture is shorter');
  await mkdir(join(data, 'pg_wal'), { recursive: true, mode: 0o700 });
  const last = Math.floor(Number(endLsn - fixture.startLsn - 1n) / MB);
  await writeSegments(join(data, 'pg_wal'), fromSegment, last + 1, { endLsn, fixture });
  const firstLsn = fixture.startLsn + BigInt(fromSegment * MB);
  await saveControlOf(data, fixture, { firstLsn, endLsn });
  return endLsn;
}

function run(source = archive, signal = new AbortController().signal): Promise<ImportReport> {
  return importWal({
    dataDirectory: data,
    source,
    clock: systemClock,
    onProgress: () => {},
    signal,
  });
}

/** Opens the store as walcast does, and reads all of it back. */
async function rangeOfStore(): Promise<{ oldest: string; end: string }> {
  const store = await WalStore.open(
    storeOptions(data, { walKeepSizeBytes: Number.MAX_SAFE_INTEGER }),
  );
  const [oldestLsn, endLsn] = [store.oldestLsn(), store.nextLsn()];
  const bytes = await readStored(store, toTimelineId(1), [oldestLsn, endLsn]);
  await store.close();
  if (!(bytes instanceof Uint8Array)) throw new Error(JSON.stringify(bytes));
  expect(Buffer.compare(bytes, wal.slice(oldestLsn, endLsn))).toBe(0);
  return { oldest: formatLsn(oldestLsn), end: formatLsn(endLsn) };
}

/** Every file of the store and the sum of what is in it. */
async function picture(): Promise<Record<string, number>> {
  const names = (await readdir(join(data, 'pg_wal'))).toSorted();
  const contents = await Promise.all(
    names.map(async (name) => crc32c(await readFile(join(data, 'pg_wal', name)))),
  );
  return Object.fromEntries(names.map((name, index) => [name, contents[index] ?? -1]));
}

describe('what fits', () => {
  it('older segments are taken up to the first byte, newer WAL from the end on', async () => {
    const endLsn = await makeStore(2, 3.3 * MB);
    await writeSegments(archive, 0, 6);
    const report = await run();
    expect(report).toMatchObject({ olderSegments: 2, newerBytes: Number(wal.endLsn - endLsn) });
    expect(await rangeOfStore()).toEqual({ oldest: '0/3000000', end: formatLsn(wal.endLsn) });
    const again = await run();
    expect(again).toMatchObject({ olderSegments: 0, newerBytes: 0 });
  });

  it('a store whose end is a segment start goes on with the next segment', async () => {
    wal = new WalFixture();
    wal.fill(1.5 * MB, 3);
    wal.switchSegment();
    const boundary = wal.endLsn;
    wal.fill(0.7 * MB, 4);
    expect(await makeStore(0, Number(boundary - wal.startLsn))).toBe(boundary);
    await writeSegments(archive, 2, 3);
    expect((await run()).newerBytes).toBe(Number(wal.endLsn - boundary));
    expect((await rangeOfStore()).end).toBe(formatLsn(wal.endLsn));
  });

  it('a .partial segment is good for newer WAL', async () => {
    await makeStore(4, 4.2 * MB);
    await writeSegments(archive, 3, 6);
    await rename(join(archive, nameOf(5)), join(archive, `${nameOf(5)}.partial`));
    expect(await run()).toMatchObject({ olderSegments: 1 });
    expect(await rangeOfStore()).toEqual({ oldest: '0/3300000', end: formatLsn(wal.endLsn) });
  });

  it('what lies before a hole, or before damage, is left out and told', async () => {
    await makeStore(4, 4.2 * MB);
    await writeSegments(archive, 0, 4);
    await unlink(join(archive, nameOf(1)));
    const holed = await run();
    expect(holed.olderSegments).toBe(2);
    expect(holed.notes).toEqual([
      `what is older than ${nameOf(1)} was left out: that segment is missing`,
    ]);
    await writeSegments(archive, 0, 2);
    const file = await open(join(archive, nameOf(0)), 'r+');
    await file.write(Buffer.from('damage'), 0, 6, 70_000);
    await file.close();
    const damaged = await run();
    expect(damaged.olderSegments).toBe(1);
    expect(damaged.notes).toEqual([
      expect.stringContaining(`${nameOf(0)} and older were left out`),
    ]);
    expect((await rangeOfStore()).oldest).toBe('0/3100000');
  });

  it('newer WAL is taken up to the last good record', async () => {
    const endLsn = await makeStore(1, 1.5 * MB);
    await writeSegments(archive, 1, 6);
    const bad = wal.records.find(({ startLsn }) => startLsn > wal.startLsn + BigInt(3 * MB));
    const file = await open(join(archive, nameOf(3)), 'r+');
    await file.write(Buffer.from([0xff]), 0, 1, Number((bad?.startLsn ?? 0n) % BigInt(MB)) + 21);
    await file.close();
    const report = await run();
    expect(report.newerBytes).toBe(Number((bad?.startLsn ?? 0n) - endLsn));
    expect(report.notes[0]).toContain(`ends at ${formatLsn(bad?.startLsn ?? INVALID_LSN)}`);
    expect((await rangeOfStore()).end).toBe(formatLsn(bad?.startLsn ?? INVALID_LSN));
  });

  it('a source that ends before the store has nothing newer, and is no contradiction', async () => {
    const endLsn = await makeStore(2, 3.8 * MB);
    const earlier = wal.records.find(
      (record) => record.endLsn >= wal.startLsn + BigInt(Math.round(3.2 * MB)),
    );
    await writeSegments(archive, 1, 4, { endLsn: earlier?.endLsn ?? 0n });
    expect(await run()).toMatchObject({ olderSegments: 1, newerBytes: 0 });
    expect(await rangeOfStore()).toEqual({ oldest: '0/3100000', end: formatLsn(endLsn) });
  });
});

describe('what does not fit changes nothing', () => {
  async function refused(): Promise<string> {
    const before = await picture();
    const message = await run().then(
      () => 'imported',
      (error: unknown) => String(error),
    );
    expect(await picture()).toEqual(before);
    return message;
  }

  it('another history, newer or older', async () => {
    await makeStore(2, 3.3 * MB);
    const other = new WalFixture();
    other.fill(2.5 * MB, 3);
    other.fill(3 * MB, 99);
    await writeSegments(archive, 2, 5, { fixture: other });
    expect(await refused()).toContain('has other bytes than the store');
    await rm(archive, { recursive: true });
    await mkdir(archive);
    await writeSegments(archive, 1, 2, { fixture: new OtherWal().fixture });
    expect(await refused()).toContain(`does not lead to ${nameOf(2)} of the store`);
  });

  it('another cluster, another timeline, another major, nothing at all', async () => {
    await makeStore(2, 3.3 * MB);
    expect(await refused()).toContain('holds no WAL segment');
    await writeSegments(archive, 1, 2);
    const file = await open(join(archive, nameOf(1)), 'r+');
    await file.write(Buffer.from([1]), 0, 1, 24);
    await file.close();
    expect(await refused()).toContain('has system identifier');
    const major = new WalFixture({ major: 16 });
    major.fill(1.2 * MB, 3);
    await writeSegments(archive, 1, 2, { fixture: major });
    expect(await refused()).toContain('has PostgreSQL major 16, the store has 15');
    await writeSegments(archive, 1, 2);
    await rename(
      join(archive, nameOf(1)),
      join(archive, nameOf(1).replace(/^00000001/, '00000007')),
    );
    expect(await refused()).toContain('holds no segment of timeline 1');
    expect(await run(data).then(String, String)).toContain('is the store itself');
    data = join(directory, 'elsewhere');
    await mkdir(data, { mode: 0o700 });
    await expect(run()).rejects.toThrow('holds no store of walcast');
  });

  it('an interrupted import leaves a whole store', async () => {
    await makeStore(2, 3.3 * MB);
    await writeSegments(archive, 0, 6);
    const stop = new AbortController();
    stop.abort();
    await expect(run(archive, stop.signal)).rejects.toThrow('abort');
    expect((await rangeOfStore()).oldest).toBe('0/3200000');
  });
});

/** WAL with the same addresses whose records are others. */
class OtherWal {
  readonly fixture = new WalFixture();

  constructor() {
    this.fixture.fill(3 * MB, 77);
  }
}

describe('kill -9', () => {
  it(
    'at any moment leaves a store without a hole, and the next import completes it',
    { timeout: 60_000 },
    async () => {
      if (!existsSync(COMPILED))
        throw new Error('dist/program/main.js is missing: run "npm run build"');
      wal = new WalFixture();
      wal.fill(9.5 * MB, 3);
      await makeStore(5, 5.5 * MB);
      await writeSegments(archive, 0, 10);
      let kills = 0;
      for (;;) {
        const importing = spawn(process.execPath, [
          PROGRAM,
          'store',
          'import',
          archive,
          '--data',
          data,
        ]);
        const ended = new Promise<number | null>((resolve) => importing.once('close', resolve));
        const isDone = await killAfterFiles(importing, ended, kills + 1);
        const { oldest } = await rangeOfStore();
        const report = await verifyWal({
          directory: data,
          fromLsn: null,
          onProgress: () => {},
          signal: new AbortController().signal,
        });
        expect(report.problems).toEqual([]);
        if (isDone) {
          expect(oldest).toBe('0/3000000');
          break;
        }
        kills++;
      }
      expect(kills).toBeGreaterThan(1);
      expect(await rangeOfStore()).toEqual({ oldest: '0/3000000', end: formatLsn(wal.endLsn) });
    },
  );

  /** Kills it once `more` files came to be; true when it was done before. */
  async function killAfterFiles(
    child: ReturnType<typeof spawn>,
    ended: Promise<number | null>,
    more: number,
  ): Promise<boolean> {
    const path = join(data, 'pg_wal');
    const before = (await readdir(path)).length;
    let code: number | null | undefined;
    void ended.then((status) => {
      code = status;
    });
    for (;;) {
      if (code !== undefined) {
        expect(code).toBe(0);
        return true;
      }
      if ((await readdir(path)).length >= before + more) break;
      await new Promise((resolve) => setImmediate(resolve));
    }
    child.kill('SIGKILL');
    return (await ended) === 0;
  }
});
