// How much of the store does a start look at?
import { mkdir, mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import type * as FsPromises from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { formatLsn, INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { segmentNumber, walFileName } from '../../src/pg/segment.ts';
import type { SegmentNumber } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { saveControl } from '../../src/wal/control-file.ts';
import { Lineage } from '../../src/wal/lineage.ts';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import { RecordWalk } from '../../src/wal/records/record-walk.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import { storeOptions } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const opened: string[] = [];

vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof FsPromises>();
  const openNoted: typeof FsPromises.open = async (path, ...more) => {
    opened.push(String(path));
    return await real.open(path, ...more);
  };
  return { ...real, open: openNoted };
});

// Making the files takes a while where the disk is busy.
vi.setConfig({ testTimeout: 120_000 });

const SEGMENT_SIZE = 16 << 20;
const SEGMENTS = 6_400n;
const FIRST = 256n;

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-start-'));
  await mkdir(join(directory, 'pg_wal'), { mode: 0o700 });
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

it.each([
  ['one timeline', []],
  ['three timelines', [FIRST + 2_000n, FIRST + 4_000n]],
])('a start over 100 GB of %s reads what is behind the mark', async (_what, switches) => {
  const last = FIRST + SEGMENTS - 1n;
  const wal = new WalFixture({
    startLsn: last * BigInt(SEGMENT_SIZE),
    segmentSize: SEGMENT_SIZE,
  });
  const timeline = toTimelineId(switches.length + 1);
  wal.history = {
    timeline,
    ancestors: switches.map((segment, index) => ({
      timeline: toTimelineId(index + 1),
      endLsn: toLsn(segment * BigInt(SEGMENT_SIZE) + 4_096n),
    })),
  };
  wal.fill(900_000, 3);
  const lineage = new Lineage(wal.history, wal.segmentSize);
  for (let segment = FIRST; segment <= last; segment++) {
    const number = segment as SegmentNumber;
    const name = walFileName(lineage.fileTimeline(number), number, wal.segmentSize);
    const path = join(directory, 'pg_wal', name);
    await writeFile(path, segment === last ? wal.bytes() : '');
    await truncate(path, SEGMENT_SIZE);
  }
  const lines = wal.history.ancestors.map(
    (entry) => `${entry.timeline}\t${formatLsn(entry.endLsn)}\n`,
  );
  await writeFile(join(directory, 'pg_wal', `0000000${timeline}.history`), lines.join(''));
  const walk = new RecordWalk({ ...wal.origin, checksums: true }, chainStart(wal.startLsn));
  walk.push(wal.slice(wal.startLsn, wal.records[100]?.endLsn ?? wal.endLsn));
  await saveControl(directory, {
    systemIdentifier: wal.systemIdentifier,
    major: wal.facts.major,
    segmentSize: wal.segmentSize,
    timeline,
    server: { serverVersion: '15.1', parameters: new Map(), settings: new Map() },
    firstLsn: toLsn(FIRST * BigInt(SEGMENT_SIZE)),
    durableMark: walk.position(),
    reportedFlushLsn: INVALID_LSN,
    maybeReportedLsn: INVALID_LSN,
    wasCleanStop: false,
    pendingSwitch: null,
    acknowledgedBeyond: null,
  });
  const found: Array<Record<string, unknown>> = [];
  const options = storeOptions(directory);
  const log = {
    ...options.log,
    info: (_text: string, fields?: object) => void found.push({ ...fields }),
  };
  opened.length = 0;
  const startedAt = performance.now();
  const store = await WalStore.open({ ...options, log });
  const seconds = (performance.now() - startedAt) / 1_000;
  process.stdout.write(`  a start over ${SEGMENTS} segments took ${seconds.toFixed(3)} s\n`);
  const segments = opened.filter((path) => /\/[0-9A-F]{24}$/.test(path));
  const lastName = walFileName(
    timeline,
    segmentNumber(wal.startLsn, wal.segmentSize),
    wal.segmentSize,
  );
  expect(new Set(segments)).toEqual(new Set([join(directory, 'pg_wal', lastName)]));
  expect(found).toContainEqual(expect.objectContaining({ lsn: formatLsn(wal.endLsn) }));
  const [bytes] = found.flatMap((fields) =>
    typeof fields['bytes_read'] === 'number' ? [fields['bytes_read']] : [],
  );
  expect(bytes).toBeLessThanOrEqual(SEGMENT_SIZE + (4 << 20));
  expect(store.nextLsn()).toBe(wal.endLsn);
  expect(store.oldestLsn()).toBe(toLsn(FIRST * BigInt(SEGMENT_SIZE)));
  await store.close();
  expect(await readdir(join(directory, 'pg_wal'))).toHaveLength(Number(SEGMENTS) + 1);
});
