import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeStateFile } from '../../src/base/state-file.ts';
import { silentLog } from '../../src/base/log.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { toSegmentSize, walFileName } from '../../src/pg/segment.ts';
import type { SegmentNumber } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import { loadControl, saveControl } from '../../src/wal/control-file.ts';
import { Lineage } from '../../src/wal/lineage.ts';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import { recoverWal } from '../../src/wal/recovery.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const MB = 1 << 20;
const SIZE = toSegmentSize(MB);
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-lineage-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

function history(timeline: number, ...ends: Array<readonly [number, bigint]>): TimelineHistory {
  return {
    timeline: toTimelineId(timeline),
    ancestors: ends.map(([id, end]) => ({ timeline: toTimelineId(id), endLsn: toLsn(end) })),
  };
}

function segment(number: number): SegmentNumber {
  return BigInt(number) as SegmentNumber;
}

describe('whose file holds a segment', () => {
  const mega = BigInt(MB);

  it('of a single timeline is no question', () => {
    const lineage = new Lineage(history(1), SIZE);
    expect(lineage.fileTimeline(segment(0))).toBe(1);
    expect(lineage.fileTimelines(segment(12))).toEqual([1]);
  });

  it('is the newest timeline that had begun by then', () => {
    const lineage = new Lineage(history(5, [1, 3n * mega + 8n], [3, 6n * mega]), SIZE);
    const found = [0, 2, 3, 4, 5, 6, 7].map((number) => lineage.fileTimeline(segment(number)));
    expect(found).toEqual([1, 1, 3, 3, 3, 5, 5]);
    expect(lineage.fileTimelines(segment(3))).toEqual([3, 1]);
    // Left with the last byte of a segment, the next one has nothing of it.
    expect(lineage.fileTimelines(segment(5))).toEqual([3]);
    expect(lineage.fileTimelines(segment(6))).toEqual([5]);
  });

  it('several switches in one segment all have bytes in it', () => {
    const ends = [1, 2, 3].map((id) => [id, 3n * mega + BigInt(id) * 8n] as const);
    const lineage = new Lineage(history(4, ...ends), SIZE);
    expect(lineage.fileTimelines(segment(3))).toEqual([4, 3, 2, 1]);
    expect(lineage.fileTimelines(segment(2))).toEqual([1]);
    expect(lineage.fileTimelines(segment(4))).toEqual([4]);
  });

  it('a timeline that was left where it began has no byte anywhere', () => {
    const lineage = new Lineage(history(3, [1, 3n * mega], [2, 3n * mega]), SIZE);
    expect(lineage.fileTimelines(segment(3))).toEqual([3]);
    expect(lineage.fileTimelines(segment(2))).toEqual([1]);
    expect(lineage.has(toTimelineId(2))).toBe(true);
    expect(lineage.firstSegment(toTimelineId(2))).toBe(3n);
    expect(lineage.firstSegment(toTimelineId(9))).toBeNull();
  });
});

describe('recovery over several timelines', () => {
  it('finds the first byte in the files of an older one, and looks at no older file of a newer segment', async () => {
    const old = new WalFixture();
    old.fill(2_500_000, 3);
    const switchLsn = old.records.find(({ endLsn }) => endLsn > old.startLsn + 1_300_000n)!.endLsn;
    const wal = old.branch(switchLsn, toTimelineId(2));
    wal.fill(1_500_000, 4);
    const lineage = new Lineage(wal.history, SIZE);
    const write = async (of: WalFixture, timeline: number, number: bigint): Promise<string> => {
      const name = walFileName(toTimelineId(timeline), number as SegmentNumber, SIZE);
      const start = Number(number * BigInt(MB) - of.startLsn);
      const bytes = Buffer.alloc(MB);
      of.bytes().copy(bytes, 0, start, start + MB);
      await writeFile(join(directory, name), bytes);
      return name;
    };
    const first = old.startLsn / BigInt(MB);
    const names: string[] = [];
    for (let number = first; number * BigInt(MB) < wal.endLsn; number++) {
      names.push(await write(wal, lineage.fileTimeline(number as SegmentNumber), number));
    }
    const superseded = await write(old, 1, first + 1n);
    const options = { directory, origin: wal.origin, firstLsn: wal.startLsn, log: silentLog };
    const mark = chainStart(wal.startLsn);
    const found = await recoverWal({ ...options, durableMark: mark });
    expect([found.end.lsn, found.oldestLsn]).toEqual([wal.endLsn, wal.startLsn]);
    expect((await readdir(directory)).toSorted()).toEqual([...names, superseded].toSorted());
    // The segment that both have is missing: what is older stays, because a slot may need it.
    await rm(join(directory, names[1] ?? ''));
    const { end } = found;
    const again = await recoverWal({ ...options, durableMark: end });
    expect(again.oldestLsn).toBe(wal.startLsn);
    const left = [...names, superseded].filter((name) => name !== names[1]);
    expect((await readdir(directory)).toSorted()).toEqual(left.toSorted());
  });

  it('never cuts before the mark at a switch point, whatever lies there', async () => {
    const old = new WalFixture();
    old.fill(700_000, 3);
    old.record({ body: Buffer.alloc(100_000, 5) });
    const { startLsn } = old.records.at(-1)!;
    const switchLsn = toLsn((startLsn / 8192n) * 8192n + 5n * 8192n);
    const wal = old.branch(switchLsn, toTimelineId(2));
    const name = walFileName(toTimelineId(2), (switchLsn / BigInt(MB)) as SegmentNumber, SIZE);
    const bytes = Buffer.alloc(MB, 0x5a);
    wal.bytes().copy(bytes);
    await writeFile(join(directory, name), bytes);
    const found = await recoverWal({
      directory,
      origin: wal.origin,
      firstLsn: wal.startLsn,
      durableMark: chainStart(switchLsn),
      log: silentLog,
    });
    expect(found.end.lsn).toBe(switchLsn);
    const stored = await readFile(join(directory, name));
    const length = Number(switchLsn - wal.startLsn);
    expect(stored.subarray(0, length).equals(wal.slice(wal.startLsn, switchLsn))).toBe(true);
    expect(stored.subarray(length).every((byte) => byte === 0)).toBe(true);
  });
});

describe('the control file', () => {
  const body = {
    system_identifier: '7300000000000000123',
    major: 15,
    wal_segment_size: MB,
    timeline: 1,
    server_version: '15.18',
    parameters: { TimeZone: 'UTC' },
    settings: {},
    first_lsn: '0/3000000',
    durable_lsn: '0/3000100',
    last_record_lsn: '0/30000C0',
    last_record_is_shutdown_checkpoint: false,
    redo_lsn: '0/0',
    reported_flush_lsn: '0/3000100',
    was_clean_stop: true,
  };

  async function write(version: number): Promise<void> {
    const bytes = encodeStateFile({ magic: 'walcast-control', version }, body);
    await writeFile(join(directory, 'walcast.control'), bytes);
  }

  it('of version 1 is read, and becomes one of version 2 when it is saved', async () => {
    await write(1);
    const control = await loadControl(directory);
    expect(control).toMatchObject({ pendingSwitch: null, acknowledgedBeyond: null });
    expect(control?.durableMark.lsn).toBe(toLsn(0x3000100n));
    if (control !== null) await saveControl(directory, control);
    expect(await readFile(join(directory, 'walcast.control'), 'utf8')).toMatch(
      /^walcast-control 2\n/,
    );
    expect(await loadControl(directory)).toEqual(control);
  });

  it('of a newer version is refused by name', async () => {
    await write(3);
    await expect(loadControl(directory)).rejects.toMatchObject({
      code: 'STATE_FILE_VERSION',
      message: expect.stringContaining('walcast-control 3'),
    });
  });

  it('keeps a switch under way and what was acknowledged beyond one', async () => {
    await mkdir(join(directory, 'other'));
    await write(1);
    const control = await loadControl(directory);
    if (control === null) throw new Error('it is there');
    const [reportedFlushLsn, switchLsn] = [toLsn(0x3000100n), toLsn(0x3000080n)];
    const state = {
      ...control,
      pendingSwitch: {
        timeline: toTimelineId(4),
        chain: { ...control.durableMark, lsn: toLsn(0x3000090n) },
        endLsn: toLsn(0x3100000n),
      },
      maybeReportedLsn: toLsn(0x3000180n),
      acknowledgedBeyond: { timeline: toTimelineId(1), reportedFlushLsn, switchLsn, bytes: 128 },
    };
    await saveControl(directory, state);
    expect(await loadControl(directory)).toEqual(state);
  });
});
