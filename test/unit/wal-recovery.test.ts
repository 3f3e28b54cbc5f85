import { mkdir, mkdtemp, open, readdir, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import type { ChainPosition } from '../../src/wal/records/record-chain.ts';
import { RecordWalk } from '../../src/wal/records/record-walk.ts';
import { recoverWal } from '../../src/wal/recovery.ts';
import type { RecoveredWal } from '../../src/wal/recovery.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const TIMELINE = toTimelineId(1);
let directory: string;
let wal: WalFixture;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-recovery-'));
  wal = new WalFixture();
  wal.fill(500_000, 3);
  wal.record({ body: Buffer.alloc(900_000, 1) });
  wal.fill(300_000, 5);
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

function nameOf(lsn: bigint): string {
  return walFileName(TIMELINE, segmentNumber(toLsn(lsn), wal.segmentSize), wal.segmentSize);
}

/** The store's files as a crash may leave them: `bytes` from the start, then `filler` up to the end of the segment. */
async function writeSegments(bytes: Buffer, filler = 0): Promise<void> {
  for (let at = 0; at < bytes.length; at += wal.segmentSize) {
    const segment = Buffer.alloc(wal.segmentSize, filler);
    bytes.copy(segment, 0, at, at + wal.segmentSize);
    await writeFile(join(directory, nameOf(wal.startLsn + BigInt(at))), segment);
  }
}

async function patch(lsn: bigint, bytes: Uint8Array): Promise<void> {
  const handle = await open(join(directory, nameOf(lsn)), 'r+');
  await handle.write(bytes, 0, bytes.length, Number(lsn % BigInt(wal.segmentSize)));
  await handle.close();
}

/** The chain at the first record end at or after `lsn`. */
function markAt(lsn: bigint): ChainPosition {
  const record = wal.records.find((r) => r.endLsn >= lsn);
  const walk = new RecordWalk({ ...wal.origin, checksums: true }, chainStart(wal.startLsn));
  walk.push(wal.slice(wal.startLsn, record!.endLsn));
  return walk.position();
}

async function recover(
  durableMark: ChainPosition = chainStart(wal.startLsn),
): Promise<RecoveredWal> {
  return await recoverWal({
    directory,
    origin: wal.origin,
    firstLsn: wal.startLsn,
    durableMark,
    log: silentLog,
  });
}

/** What is stored from `startLsn` to the end of the files. */
async function stored(): Promise<Buffer> {
  const names = (await readdir(directory)).toSorted();
  return Buffer.concat(await Promise.all(names.map((name) => readFile(join(directory, name)))));
}

async function expectCutAt(end: Lsn): Promise<void> {
  const bytes = await stored();
  const length = Number(end - wal.startLsn);
  expect(bytes.subarray(0, length).equals(wal.slice(wal.startLsn, end))).toBe(true);
  expect(bytes.subarray(length).every((byte) => byte === 0)).toBe(true);
}

describe('recovery', () => {
  it('finds the end of whole WAL, from any mark', async () => {
    await writeSegments(wal.bytes());
    for (const offset of [0, 1, 300_000, 1_048_576, 1_500_000]) {
      const found = await recover(markAt(wal.startLsn + BigInt(offset)));
      expect(found.end.lsn).toBe(wal.endLsn);
      expect(found.end.lastRecordLsn).toBe(wal.records.at(-1)?.startLsn);
      expect(found.oldestLsn).toBe(wal.startLsn);
    }
    await expectCutAt(wal.endLsn);
  });

  it.each([0x00, 0x5a, 0xff])(
    'is not misled by a segment that was filled with 0x%s',
    async (filler) => {
      await writeSegments(wal.bytes(), filler);
      expect((await recover()).end.lsn).toBe(wal.endLsn);
      await expectCutAt(wal.endLsn);
    },
  );

  it('is not misled by valid WAL of an earlier use of the file', async () => {
    const old = new WalFixture({ startLsn: wal.startLsn - 0x1000000n });
    old.fill(2 * wal.segmentSize, 3);
    const cutAt = wal.records[500]!.endLsn;
    const bytes = old.bytes().subarray(0, wal.segmentSize);
    wal.slice(wal.startLsn, cutAt).copy(bytes);
    await writeSegments(bytes);
    expect((await recover()).end.lsn).toBe(cutAt);
    await expectCutAt(cutAt);
  });

  it('cuts at the last whole record before a torn page, and removes later segments', async () => {
    await writeSegments(wal.bytes());
    const torn = wal.startLsn + 300_000n;
    await patch(torn, Buffer.alloc(512));
    const { end } = await recover();
    const expected = wal.records.findLast((record) => record.endLsn <= torn);
    expect(end.lsn).toBe(expected?.endLsn);
    expect(await readdir(directory)).toEqual([nameOf(wal.startLsn)]);
    await expectCutAt(end.lsn);
  });

  it.each([0x7ffffff9, 0x7fffffff, 0xffffffff])(
    'cuts at a record whose length became %i',
    async (length) => {
      await writeSegments(wal.bytes());
      const victim = wal.records[300]!;
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(length);
      await patch(victim.startLsn, bytes);
      const expected = wal.records[299]!.endLsn;
      expect((await recover()).end.lsn).toBe(expected);
      await expectCutAt(expected);
    },
  );

  it('cuts a record that goes on into a segment that is not there', async () => {
    await writeSegments(wal.bytes());
    await unlink(join(directory, nameOf(wal.startLsn + BigInt(wal.segmentSize))));
    const { end } = await recover();
    const expected = wal.records.findLast(
      (r) => r.endLsn <= wal.startLsn + BigInt(wal.segmentSize),
    );
    expect(end.lsn).toBe(expected?.endLsn);
  });

  it('finds the same end when it is done again after having been cut short anywhere', async () => {
    await writeSegments(wal.bytes());
    const torn = wal.startLsn + 300_000n;
    await patch(torn, Buffer.alloc(512));
    const { end } = await recover();
    const length = Number(end.lsn - wal.startLsn);
    // Zeroing that got only so far.
    for (const zeroed of [0, 1, 24, 4_096, 100_000]) {
      await rm(directory, { recursive: true });
      await mkdir(directory);
      const bytes = wal.bytes().subarray(0, wal.segmentSize);
      bytes.fill(0, 300_000, 300_512);
      bytes.fill(0, length, length + zeroed);
      await writeSegments(bytes);
      expect((await recover()).end).toEqual(end);
      await expectCutAt(end.lsn);
    }
  });

  it('stays at the mark when nothing good is behind it', async () => {
    const mark = markAt(wal.startLsn + 300_000n);
    await writeSegments(wal.slice(wal.startLsn, mark.lsn), 0x77);
    expect((await recover(mark)).end).toEqual(mark);
  });

  it('removes what was being made when the crash came', async () => {
    await writeSegments(wal.bytes());
    await writeFile(join(directory, `xlogtemp.${nameOf(wal.endLsn)}`), 'half');
    await recover();
    expect((await readdir(directory)).filter((name) => name.startsWith('xlogtemp'))).toEqual([]);
  });

  it('finds the oldest byte before the first gap, looking at names alone', async () => {
    await writeSegments(wal.bytes());
    await unlink(join(directory, nameOf(wal.startLsn)));
    const mark = markAt(wal.startLsn + 1_500_000n);
    const { oldestLsn } = await recover(mark);
    expect(oldestLsn).toBe(wal.startLsn + BigInt(wal.segmentSize));
  });

  it('keeps what lies before a gap: a slot may have been promised it', async () => {
    wal.fill(2 * wal.segmentSize, 7);
    await writeSegments(wal.bytes());
    await unlink(join(directory, nameOf(wal.startLsn + BigInt(wal.segmentSize))));
    const before = (await readdir(directory)).toSorted();
    const { oldestLsn } = await recover(markAt(wal.startLsn + BigInt(3 * wal.segmentSize)));
    expect(oldestLsn).toBe(wal.startLsn);
    expect((await readdir(directory)).toSorted()).toEqual(before);
  });

  it('removes what is older than the store and does not join on, which nobody could be served', async () => {
    await writeSegments(wal.bytes());
    await writeFile(join(directory, '00000002.history'), 'stays');
    const before = (await readdir(directory)).toSorted();
    const strays = [2n, 3n].map((count) => nameOf(wal.startLsn - count * BigInt(wal.segmentSize)));
    for (const name of strays)
      await writeFile(join(directory, name), Buffer.alloc(wal.segmentSize));
    const { oldestLsn } = await recover();
    expect(oldestLsn).toBe(wal.startLsn);
    expect((await readdir(directory)).toSorted()).toEqual(before);
  });

  it('begins an empty store again', async () => {
    const { end, oldestLsn } = await recover();
    expect([end.lsn, oldestLsn]).toEqual([wal.startLsn, wal.startLsn]);
  });

  it('refuses a store whose durable WAL is missing', async () => {
    await writeSegments(wal.bytes());
    const mark = markAt(wal.startLsn + 1_500_000n);
    await unlink(join(directory, nameOf(mark.lsn)));
    await expect(recover(mark)).rejects.toMatchObject({ code: 'WAL_MISSING' });
  });

  it('refuses a segment that was cut short', async () => {
    await writeSegments(wal.bytes());
    const handle = await open(join(directory, nameOf(wal.startLsn)), 'r+');
    await handle.truncate(400_000);
    await handle.close();
    await expect(recover()).rejects.toMatchObject({ code: 'SEGMENT_SIZE' });
  });
});
