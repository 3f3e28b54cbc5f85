// Is damage found wherever it is, with file, LSN and reason, and is the end of the WAL not taken for damage?
import { execFileSync } from 'node:child_process';
import {
  chmod,
  mkdir,
  mkdtemp,
  open,
  readFile,
  readdir,
  rename,
  rm,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatLsn, INVALID_LSN, PAGE_SIZE, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import type { VerifyReport } from '../../src/wal/verify.ts';
import { listWal } from '../../src/wal/listing.ts';
import { PageSumsWriter } from '../../src/wal/page-sums-writer.ts';
import { saveControlOf } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

/** Debian's and everybody's user without rights. */
const NOBODY = 65_534;

let directory: string;
let wal: WalFixture;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-verify-'));
  wal = new WalFixture();
  wal.fill(500_000, 3);
  wal.record({ body: Buffer.alloc(900_000, 1) });
  wal.fill(1_700_000, 5);
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

function nameOf(lsn: bigint, timeline = 1, fixture = wal): string {
  const segment = segmentNumber(toLsn(lsn), fixture.segmentSize);
  return walFileName(toTimelineId(timeline), segment, fixture.segmentSize);
}

/** The segments of a fixture, zeros behind its end. */
async function writeSegments(fixture = wal, timeline = 1): Promise<string[]> {
  const bytes = fixture.bytes();
  const names: string[] = [];
  for (let at = 0; at < bytes.length; at += fixture.segmentSize) {
    const segment = Buffer.alloc(fixture.segmentSize);
    bytes.copy(segment, 0, at, at + fixture.segmentSize);
    const name = nameOf(fixture.startLsn + BigInt(at), timeline, fixture);
    await writeFile(join(directory, name), segment);
    names.push(name);
  }
  return names;
}

async function patch(lsn: bigint, change: (byte: number) => number): Promise<void> {
  const handle = await open(join(directory, nameOf(lsn)), 'r+');
  const byte = Buffer.alloc(1);
  const at = Number(lsn % BigInt(wal.segmentSize));
  await handle.read(byte, 0, 1, at);
  byte[0] = change(byte[0] ?? 0);
  await handle.write(byte, 0, 1, at);
  await handle.close();
}

function verify(options: { from?: bigint; path?: string } = {}): Promise<VerifyReport> {
  return verifyWal({
    directory: options.path ?? directory,
    fromLsn: options.from === undefined ? null : toLsn(options.from),
    onProgress: () => {},
    signal: new AbortController().signal,
  });
}

function problems(report: VerifyReport): string[] {
  return report.problems.map(
    ({ kind, file, lsn, reason }) =>
      `${kind} ${file} ${lsn === null ? '-' : formatLsn(lsn)} ${reason}`,
  );
}

describe('good WAL', () => {
  it('is walked to its end, every record of it', async () => {
    await writeSegments();
    const report = await verify();
    expect(problems(report)).toEqual([]);
    expect(report.directory.kind).toBe('archive');
    expect(report.identity.systemIdentifier).toBe(wal.systemIdentifier);
    expect(report.timelines).toMatchObject([
      {
        timeline: 1,
        segments: 3,
        unusedSegments: 0,
        startLsn: wal.startLsn,
        endLsn: wal.endLsn,
        records: wal.records.length,
        endReason: `invalid record length at ${formatLsn(wal.endLsn)}: expected at least 24, got 0`,
      },
    ]);
  });

  it('may end with its last segment, inside a record', async () => {
    const [, , last = ''] = await writeSegments();
    await unlink(join(directory, last));
    const report = await verify();
    expect(problems(report)).toEqual([]);
    expect(report.timelines[0]?.endReason).toBeNull();
  });

  it('is of any major that is known', async () => {
    for (const major of [13, 14, 16, 17, 18]) {
      const other = new WalFixture({ major });
      other.fill(100_000);
      await writeSegments(other);
      const report = await verify();
      expect(report.identity.facts.major).toBe(major);
      expect(problems(report)).toEqual([]);
    }
  });

  it('may be followed by blank and recycled segments, which are told apart', async () => {
    const names = await writeSegments();
    const blank = nameOf(wal.endLsn + 0x100000n);
    const recycled = nameOf(wal.endLsn + 0x200000n);
    await writeFile(join(directory, blank), Buffer.alloc(wal.segmentSize));
    await writeFile(join(directory, recycled), wal.bytes().subarray(0, wal.segmentSize));
    const report = await verify();
    expect(problems(report)).toEqual([]);
    expect(report.timelines).toMatchObject([{ segments: 3, unusedSegments: 2 }]);
    const { files } = await listWal(directory);
    expect(files.map(({ file, kind }) => [file.name, kind])).toEqual([
      ...names.map((name) => [name, 'segment']),
      [blank, 'blank'],
      [recycled, 'recycled'],
    ]);
  });

  it('may end inside a recycled segment, whose old pages follow', async () => {
    const names = await writeSegments();
    const last = join(directory, names.at(-1) ?? '');
    const at = Number(wal.endLsn % BigInt(wal.segmentSize));
    const page = Math.ceil(at / 8192) * 8192;
    const handle = await open(last, 'r+');
    await handle.write(wal.bytes(), page, wal.segmentSize - page, page);
    await handle.close();
    const report = await verify();
    expect(problems(report)).toEqual([]);
    expect(report.timelines[0]?.endLsn).toBe(wal.endLsn);
  });

  it('may end in a .partial file; one beside its whole segment is left out', async () => {
    const names = await writeSegments();
    const last = names.at(-1) ?? '';
    const bytes = wal.bytes().subarray(2 * wal.segmentSize);
    await unlink(join(directory, last));
    await writeFile(join(directory, `${last}.partial`), bytes);
    await writeFile(join(directory, `${names[0]}.partial`), bytes);
    const report = await verify();
    expect(problems(report)).toEqual([]);
    expect(report.timelines[0]).toMatchObject({ segments: 3, endLsn: wal.endLsn });
    expect(report.notes).toEqual([
      `${names[0]}.partial was left out: the whole segment is there, too`,
    ]);
  });

  it('is found below a data directory, and other files there do not matter', async () => {
    await mkdir(join(directory, 'pg_wal'));
    await writeFile(join(directory, 'PG_VERSION'), '15\n');
    for (const name of await writeSegments()) {
      await rename(join(directory, name), join(directory, 'pg_wal', name));
    }
    await mkdir(join(directory, 'pg_wal', 'archive_status'));
    await writeFile(join(directory, 'pg_wal', '000000010000000000000031.00000028.backup'), 'x');
    await writeFile(join(directory, 'pg_wal', `${nameOf(wal.startLsn)}.gz`), 'x');
    const report = await verify();
    expect(report.directory.kind).toBe('server');
    expect(problems(report)).toEqual([]);
    expect(report.notes[0]).toContain('1 compressed segments were left out');
  });

  it('begins where it is asked to, with the record that spans the beginning checked', async () => {
    await writeSegments();
    const from = wal.startLsn + 0x100000n + 77n;
    const report = await verify({ from });
    expect(report.timelines[0]).toMatchObject({ segments: 2, startLsn: wal.startLsn + 0x100000n });
    const spanning = wal.records.find(({ endLsn }) => endLsn > wal.startLsn + 0x100000n);
    await patch((spanning?.endLsn ?? 0n) - 9n, (byte) => byte ^ 1);
    expect(problems(await verify({ from }))).toEqual([
      `damage ${nameOf(spanning?.startLsn ?? 0n)} ${formatLsn(spanning?.startLsn ?? INVALID_LSN)} ` +
        `incorrect resource manager data checksum in record at ${formatLsn(spanning?.startLsn ?? INVALID_LSN)}`,
    ]);
  });
});

describe('damage', () => {
  it('of any one bit of any record but the last is found at its record or page', async () => {
    await writeSegments();
    const known = wal.records.slice(0, -1);
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: known.length - 1 }),
        fc.nat({ max: 1_000_000 }),
        fc.nat({ max: 7 }),
        async (index, offset, bit) => {
          const record = known[index];
          if (record === undefined) return;
          // Padding behind the record is zero and checked, too.
          const at = record.startLsn + BigInt(offset % Number(record.endLsn - record.startLsn));
          await patch(at, (byte) => byte ^ (1 << bit));
          const report = await verify();
          await patch(at, (byte) => byte ^ (1 << bit));
          expect(report.problems.length).toBeGreaterThan(0);
          const lsn = report.problems[0]?.lsn ?? INVALID_LSN;
          // A length that grew shows where the next page begins.
          expect(lsn).toBeGreaterThanOrEqual(record.startLsn - 40n);
          expect(lsn).toBeLessThanOrEqual(record.endLsn + 8192n);
        },
      ),
      { numRuns: 40 },
    );
    expect(problems(await verify())).toEqual([]);
  });

  it('is told for each place, and what lies behind it is walked', async () => {
    await writeSegments();
    const hit = [40, 900, 2200].map((index) => wal.records[index]);
    for (const record of hit) await patch((record?.startLsn ?? 0n) + 25n, (byte) => byte ^ 8);
    const report = await verify();
    expect(report.problems.map(({ lsn }) => lsn)).toEqual(hit.map((record) => record?.startLsn));
    expect(report.timelines[0]?.endLsn).toBe(wal.endLsn);
  });

  it('of every page is told up to a bound, and does not take for ever', async () => {
    const names = await writeSegments();
    for (const name of names) {
      const handle = await open(join(directory, name), 'r+');
      for (let page = 0; page < wal.segmentSize; page += 8192) {
        await handle.write(Buffer.from([9]), 0, 1, page + 4);
      }
      await handle.close();
    }
    const report = await verify();
    expect(report.problems).toHaveLength(100);
    expect(report.isTruncated).toBe(true);
    expect(report.problems[0]?.reason).toContain('unexpected timeline ID 9 (expected 1)');
  });

  it('of the first page of a segment is found, of the last segment too', async () => {
    const names = await writeSegments();
    for (const at of [0x100000n, 0x200000n]) await patch(wal.startLsn + at, () => 0);
    const report = await verify();
    expect(report.problems.map(({ file }) => file)).toEqual(names.slice(1));
    expect(report.problems[0]?.reason).toContain('invalid magic number');
  });

  it('of a segment that is short, long, or of another cluster is found', async () => {
    const names = await writeSegments();
    await truncate(join(directory, names[0] ?? ''), 600_000);
    expect(problems(await verify())).toEqual([
      expect.stringMatching(
        /^damage .*30 0\/3092(?:000|7C0) it has 600000 bytes instead of 1048576$/,
      ),
    ]);
    await writeSegments();
    await patch(wal.startLsn + 0x100000n + 24n, (byte) => byte ^ 1);
    expect((await verify()).problems[0]?.reason).toContain(
      'WAL file is from different database system',
    );
  });

  it('before the durable mark of a store is damage, even when nothing follows', async () => {
    const names = await writeSegments();
    await mkdir(join(directory, 'store', 'pg_wal'), { recursive: true });
    for (const name of names) {
      await rename(join(directory, name), join(directory, 'store', 'pg_wal', name));
    }
    const path = join(directory, 'store');
    await saveControlOf(path, wal, { firstLsn: wal.startLsn });
    const report = await verify({ path });
    expect(report.directory.kind).toBe('store');
    expect(problems(report)).toEqual([]);
    const last = wal.records.at(-1)?.startLsn ?? INVALID_LSN;
    const file = join(path, 'pg_wal', nameOf(last));
    const handle = await open(file, 'r+');
    await handle.write(Buffer.from([0xff]), 0, 1, Number(last % BigInt(wal.segmentSize)) + 20);
    await handle.close();
    expect(problems(await verify({ path }))).toEqual([
      `damage ${nameOf(last)} ${formatLsn(last)} incorrect resource manager data checksum in record at ${formatLsn(last)}`,
    ]);
  });
});

describe('what a store has noted of its pages', () => {
  /** A copy of a store without its control file: nobody says where its WAL ends. */
  async function copyWithSums(): Promise<string> {
    const names = await writeSegments();
    const pgWal = join(directory, 'copy', 'pg_wal');
    await mkdir(pgWal, { recursive: true });
    await mkdir(join(directory, 'copy', 'page_sums'));
    const writer = new PageSumsWriter(pgWal, wal.segmentSize);
    for (const [index, name] of names.entries()) {
      const bytes = await readFile(join(directory, name));
      await rename(join(directory, name), join(pgWal, name));
      const start = wal.startLsn + BigInt(index * wal.segmentSize);
      const written = Math.min(bytes.length, Number(wal.endLsn - start));
      const whole = bytes.subarray(0, written - (written % PAGE_SIZE));
      writer.beforeWrite(name, 0, whole.length);
      writer.afterWrite(name, -1, { offset: 0, bytes: whole });
    }
    writer.close();
    return pgWal;
  }

  it('tells damage in the last records from the end of the WAL', async () => {
    const pgWal = await copyWithSums();
    expect(problems(await verify({ path: join(directory, 'copy') }))).toEqual([]);
    const lastWhole = wal.endLsn - (wal.endLsn % BigInt(PAGE_SIZE)) - BigInt(PAGE_SIZE);
    const record = wal.records.find(({ endLsn }) => endLsn > lastWhole);
    const lsn = record?.startLsn ?? INVALID_LSN;
    const path = join(pgWal, nameOf(lsn));
    const bytes = await readFile(path);
    // Nothing follows that could be told from zeros.
    bytes.fill(0, Number(lsn % BigInt(wal.segmentSize)));
    await writeFile(path, bytes);
    const report = await verify({ path: join(directory, 'copy') });
    expect(report.problems).toMatchObject([{ kind: 'damage', file: nameOf(lsn) }]);
    await rm(join(directory, 'copy', 'page_sums'), { recursive: true });
    expect(problems(await verify({ path: join(directory, 'copy') }))).toEqual([]);
  });

  it('tells a flipped flag of a page that no record has', async () => {
    const pgWal = await copyWithSums();
    const path = join(pgWal, nameOf(wal.startLsn));
    const bytes = await readFile(path);
    // XLP_BKP_REMOVABLE of the sixth page.
    bytes[5 * PAGE_SIZE + 2] = (bytes[5 * PAGE_SIZE + 2] ?? 0) ^ 4;
    await writeFile(path, bytes);
    expect(problems(await verify({ path: join(directory, 'copy') }))).toEqual([
      expect.stringContaining('is not the one that was written') as string,
    ]);
  });
});

describe('what an owner says of its WAL', () => {
  /** A server's data directory whose last checkpoint is `lsn`. */
  async function serverWith(lsn: bigint): Promise<string[]> {
    const names = await writeSegments();
    await mkdir(join(directory, 'pg_wal'));
    await mkdir(join(directory, 'global'));
    await writeFile(join(directory, 'PG_VERSION'), '15\n');
    for (const name of names) {
      await rename(join(directory, name), join(directory, 'pg_wal', name));
    }
    const control = Buffer.alloc(8192);
    control.writeUInt32LE(1300, 8);
    control.writeBigUInt64LE(lsn, 32);
    control.writeUInt32LE(1, 48);
    await writeFile(join(directory, 'global', 'pg_control'), control);
    return names;
  }

  it('a damaged checkpoint record is damage, though nothing follows it', async () => {
    const last = wal.records.at(-1)?.startLsn ?? INVALID_LSN;
    await serverWith(last);
    expect(problems(await verify())).toEqual([]);
    const handle = await open(join(directory, 'pg_wal', nameOf(last)), 'r+');
    await handle.write(Buffer.from([0xff]), 0, 1, Number(last % BigInt(wal.segmentSize)) + 20);
    await handle.close();
    for (const path of [directory, join(directory, 'pg_wal')]) {
      await mkdir(join(directory, 'pg_wal', 'archive_status'), { recursive: true });
      expect((await verify({ path })).problems).toMatchObject([{ kind: 'damage', lsn: last }]);
    }
  });

  it('the segment of the last checkpoint must be there', async () => {
    const names = await serverWith(wal.records.at(-1)?.startLsn ?? INVALID_LSN);
    await unlink(join(directory, 'pg_wal', names.at(-1) ?? ''));
    expect((await verify()).problems).toMatchObject([
      { kind: 'gap', file: names.at(-1), reason: expect.stringContaining('segments are missing') },
    ]);
  });
});

describe('what is missing', () => {
  it('a hole between segments is told', async () => {
    const names = await writeSegments();
    await unlink(join(directory, names[1] ?? ''));
    const report = await verify();
    expect(problems(report)).toEqual([
      `gap ${names[1]} 0/3100000 one segment is missing between ${names[0]} and ${names[2]}`,
    ]);
    expect(report.timelines[0]?.endLsn).toBe(wal.endLsn);
  });

  it('a damaged system identifier in the first segment makes no strangers of the others', async () => {
    const names = await writeSegments();
    await patch(wal.startLsn + 24n, (byte) => byte ^ 16);
    expect(problems(await verify())).toEqual([
      expect.stringMatching(
        `^damage ${names[0]} 0/3000000 WAL file is from different database system`,
      ),
    ]);
  });

  it('what is no file is named and never opened, and the others are walked', async () => {
    const names = await writeSegments();
    const [first = '', second = '', third = ''] = names;
    const named = (name: string): string => join(directory, name);
    await unlink(named(first));
    execFileSync('mkfifo', [named(first), named('00000002.history')]);
    await unlink(named(second));
    await mkdir(named(second));
    await symlink('nowhere', named(nameOf(0x9000000n)));
    await symlink(nameOf(0xa000000n), named(nameOf(0xa000000n)));
    const report = await verify();
    const others = problems(report).map((line) => line.replaceAll(/E[A-Z]+:.*/g, 'error'));
    expect(others).toEqual([
      `damage ${first} 0/3000000 it is no regular file`,
      `damage ${second} 0/3100000 it is no regular file`,
      `damage ${nameOf(0x9000000n)} 0/9000000 it is a link that leads nowhere`,
      `damage ${nameOf(0xa000000n)} 0/A000000 error`,
      'history 00000002.history - it is no regular file',
    ]);
    expect(report.timelines[0]?.startLsn).toBe(0x3200000n);
    expect((await listWal(directory)).files.map(({ file }) => file.name)).toContain(third);
  });

  it('what may not be read is named, too', async () => {
    const names = await writeSegments();
    await chmod(directory, 0o755);
    await chmod(join(directory, names[1] ?? ''), 0);
    await asOrdinaryUser(async () => {
      expect(problems(await verify())).toEqual([
        expect.stringMatching(`^damage ${names[1]} 0/3100000 it cannot be read: EACCES`),
      ]);
      const kinds = (await listWal(directory)).files.map(({ kind }) => kind);
      expect(kinds.slice(0, 3)).toEqual(['segment', 'unreadable', 'segment']);
    });
  });

  it('an empty directory, or one without WAL, is no directory of WAL', async () => {
    await expect(verify()).rejects.toThrow('holds no WAL segment that can be read');
    await expect(verify({ path: join(directory, 'nowhere') })).rejects.toThrow('cannot be read');
    await writeSegments();
    await expect(verify({ from: 0x9000000n })).rejects.toThrow('holds no WAL at or behind');
  });
});

/** Nothing is forbidden to root: for so long this process is somebody else. */
async function asOrdinaryUser(work: () => Promise<void>): Promise<void> {
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(NOBODY);
  try {
    await work();
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}

describe('timelines', () => {
  /** Timeline 1 with more behind the switch, and timeline 2 from there, as a promotion leaves them. */
  async function promoted(): Promise<{ switchLsn: Lsn; names: string[] }> {
    const names = await writeSegments();
    const child = new WalFixture();
    child.fill(500_000, 3);
    child.record({ body: Buffer.alloc(900_000, 1) });
    child.fill(900_000, 5);
    const switchLsn = child.endLsn;
    child.history = {
      timeline: toTimelineId(2),
      ancestors: [{ timeline: toTimelineId(1), endLsn: switchLsn }],
    };
    child.fill(900_000, 9);
    const bytes = child.bytes();
    const first = Number(switchLsn - child.startLsn) >> 20;
    for (let index = first; index << 20 < bytes.length; index++) {
      const segment = Buffer.alloc(child.segmentSize);
      bytes.copy(segment, 0, index << 20, (index + 1) << 20);
      const name = nameOf(child.startLsn + BigInt(index << 20), 2);
      await writeFile(join(directory, name), segment);
      names.push(name);
    }
    await writeFile(
      join(directory, '00000002.history'),
      `1\t${formatLsn(switchLsn)}\tno recovery target specified\n`,
    );
    return { switchLsn, names };
  }

  it('are each walked along their own history', async () => {
    await promoted();
    const report = await verify();
    expect(problems(report)).toEqual([]);
    expect(report.timelines.map(({ timeline }) => timeline)).toEqual([1, 2]);
    expect(report.timelines[1]?.endLsn).toBeGreaterThan(report.timelines[0]?.startLsn ?? 0n);
  });

  it('what lies in dead/ beside them is none of the WAL, damaged or not', async () => {
    await promoted();
    const data = join(directory, 'copy');
    await mkdir(join(data, 'pg_wal'), { recursive: true });
    await mkdir(join(data, 'dead'));
    for (const name of await readdir(directory)) {
      if (name !== 'copy') await rename(join(directory, name), join(data, 'pg_wal', name));
    }
    const name = nameOf(wal.startLsn);
    const bytes = await readFile(join(data, 'pg_wal', name));
    for (const dead of [`${name}.partial`, `${name}.damaged`]) {
      await writeFile(join(data, 'dead', dead), bytes.subarray(4_711));
    }
    const report = await verify({ path: data });
    expect(problems(report)).toEqual([]);
    expect(report.timelines.map(({ timeline }) => timeline)).toEqual([1, 2]);
  });

  it('a missing or bad history file is a problem, and the pages tell what it would have said', async () => {
    await promoted();
    await unlink(join(directory, '00000002.history'));
    expect(problems(await verify())).toEqual([
      'history 00000002.history - it is missing: no server can follow this timeline without it',
    ]);
    await writeFile(join(directory, '00000002.history'), 'nonsense\n');
    expect(problems(await verify())).toEqual([
      'history 00000002.history - invalid line in history file: "nonsense"',
    ]);
  });

  it('a hole where one timeline goes over into the next is told', async () => {
    const { names } = await promoted();
    for (const name of await readdir(directory)) {
      if (name.startsWith('00000001') && name !== names[0]) await unlink(join(directory, name));
    }
    const left = (await readdir(directory)).filter((name) => /^00000002.{16}$/.test(name));
    const isHole = left.toSorted()[0] !== names[1]?.replace(/^00000001/, '00000002');
    expect(problems(await verify()).length).toBe(isHole ? 1 : 0);
    expect(isHole).toBe(true);
  });
});
