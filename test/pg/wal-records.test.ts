// Does our reading of WAL agree with the servers that write it, and with pg_waldump?
import { execFileSync } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { formatLsn, INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { parseWalFileName, segmentStart, toSegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { rootHistory, toTimelineId } from '../../src/pg/timeline.ts';
import type { PageOrigin } from '../../src/wal/records/page-header.ts';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import { RecordWalk } from '../../src/wal/records/record-walk.ts';
import type { RecordObserver } from '../../src/wal/records/record-walk.ts';
import { findProgram, installedMajors, requires } from '../support/requirements.ts';

const SEGMENT_SIZE = toSegmentSize(1 << 20);
const TIMELINE = toTimelineId(1);

/** Everything a server of its own wrote before it stopped. */
interface ServerWal {
  readonly directory: string;
  readonly origin: PageOrigin;
  readonly startLsn: Lsn;
  readonly bytes: Buffer;
}

/** Returns an end of WAL from before the server was killed. */
async function runWorkload(primary: PostgresCluster): Promise<Lsn> {
  await primary.query('CREATE TABLE t (id bigserial PRIMARY KEY, v text)');
  for (let round = 0; round < 2; round++) {
    await primary.query(
      'INSERT INTO t (v) SELECT repeat(md5(g::text), 1 + g % 20) FROM generate_series(1, 2000) g',
    );
    await primary.query('CHECKPOINT');
    await primary.query("UPDATE t SET v = v || 'x' WHERE id % 3 = 0");
    await primary.query("SELECT pg_logical_emit_message(false, 'x', repeat('y', 3000000))");
    await primary.query('SELECT pg_switch_wal()');
    await primary.query("SELECT pg_create_restore_point('here')");
    await primary.query('SELECT pg_switch_wal()');
  }
  await primary.query('CREATE INDEX ON t (v)');
  const beforeKill = parseLsn(await primary.value('SELECT pg_current_wal_lsn()'));
  // Killed while it writes: the next start goes on behind a record that was cut short, or right at the end.
  await primary.query("SELECT pg_logical_emit_message(false, 'x', repeat('z', 100000))");
  await primary.kill();
  await primary.start();
  await primary.query('UPDATE t SET v = id::text');
  await primary.stop('fast');
  return beforeKill ?? INVALID_LSN;
}

/** The files from the first one on that have no gap between them; recycled files behind the end read as bad WAL. */
async function readWal(major: number, directory: string): Promise<ServerWal> {
  const files: Buffer[] = [];
  let startLsn: Lsn | null = null;
  for (const name of (await readdir(directory)).toSorted()) {
    const parsed = parseWalFileName(name, SEGMENT_SIZE);
    if (parsed === null) continue;
    startLsn ??= segmentStart(parsed.segment, SEGMENT_SIZE);
    files.push(await readFile(join(directory, name)));
  }
  const bytes = Buffer.concat(files);
  const systemIdentifier = bytes.readBigUInt64LE(24).toString();
  const [facts, history] = [versionFacts(major), rootHistory(TIMELINE)];
  const origin = { facts, segmentSize: SEGMENT_SIZE, systemIdentifier, history };
  return { directory, origin, startLsn: startLsn ?? INVALID_LSN, bytes };
}

function walkOver(wal: ServerWal, checksums: boolean, observer?: RecordObserver): RecordWalk {
  const options = { ...wal.origin, checksums, ...(observer === undefined ? {} : { observer }) };
  return new RecordWalk(options, chainStart(wal.startLsn));
}

describe.each(installedMajors())('WAL of PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let wal: ServerWal;
  let good: Buffer;
  let endLsn: Lsn;
  let killedLsn: Lsn;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    const primary = await createPrimary(workspace, { major, name: 'p', segmentSizeMb: 1 });
    await primary.configure({ wal_level: 'logical', wal_keep_size: '512MB', fsync: 'off' });
    await primary.start();
    killedLsn = await runWorkload(primary);
    wal = await readWal(major, join(primary.dataDirectory, 'pg_wal'));
    const walk = walkOver(wal, true);
    walk.scan(wal.bytes);
    endLsn = walk.recordEnd();
    good = wal.bytes.subarray(0, Number(endLsn - wal.startLsn));
  });

  afterAll(async () => {
    await workspace.close();
  });

  it('is whole up to the shutdown checkpoint, which is its own redo position', () => {
    const walk = walkOver(wal, true);
    expect(walk.push(good)).toBeNull();
    const { lastRecordLsn, redoLsn, isShutdownCheckpoint } = walk.position();
    expect(isShutdownCheckpoint).toBe(true);
    expect(redoLsn).toBe(lastRecordLsn);
    expect(good.length).toBeGreaterThan(8_000_000);
  });

  it.each([997, 8_191, 8_192, 131_072])('is the same in messages of %i bytes', (step) => {
    for (const checksums of [true, false]) {
      let count = 0;
      const walk = walkOver(wal, checksums, { onRecord: () => count++ });
      for (let at = 0; at < good.length; at += step) {
        expect(walk.push(good.subarray(at, at + step))).toBeNull();
      }
      expect(walk.recordEnd()).toBe(endLsn);
      let expected = 0;
      walkOver(wal, true, { onRecord: () => expected++ }).push(good);
      expect(count).toBe(expected);
    }
  });

  // Debian's pg_waldump reads the WAL of its own major only.
  if (major === 15) {
    requires('pg_waldump').it('has the records that pg_waldump finds', () => {
      const program = findProgram('pg_waldump') ?? '';
      const range = ['-s', formatLsn(wal.startLsn), '-e', formatLsn(endLsn)];
      const output = execFileSync(program, ['-p', wal.directory, ...range], {
        maxBuffer: 1 << 28,
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const expected = [...output.toString().matchAll(/lsn: ([0-9A-F/]+), prev/g)].map((match) =>
        parseLsn(match[1] ?? ''),
      );
      const starts: Lsn[] = [];
      const walk = walkOver(wal, true);
      for (let at = 0; at < good.length; at += 8) {
        walk.push(good.subarray(at, at + 8));
        const { lastRecordLsn } = walk.position();
        if (lastRecordLsn !== null && lastRecordLsn !== starts.at(-1)) starts.push(lastRecordLsn);
      }
      expect(starts).toEqual(expected);
    });
  }

  it('with one bit flipped is refused before it is past, and taken again when it is right', () => {
    const step = 65_536;
    let found = 0;
    // A record that never got its end, because the server was killed, has no checksum that anybody could check.
    const length = Number(killedLsn - wal.startLsn);
    for (let at = 5_000; at < length; at += 611_953) {
      const walk = walkOver(wal, true);
      expect(walk.push(good.subarray(0, at - (at % step)))).toBeNull();
      const damaged = Buffer.from(good);
      damaged[at] = (damaged[at] ?? 0) ^ (1 << (at % 8));
      let from = at - (at % step);
      while (from < good.length && walk.push(damaged.subarray(from, from + step)) === null) {
        from += step;
      }
      const next = Number(walk.nextLsn() - wal.startLsn);
      expect(next).toBeLessThanOrEqual(at);
      expect(walk.push(good.subarray(next))).toBeNull();
      expect(walk.recordEnd()).toBe(endLsn);
      found++;
    }
    expect(found).toBeGreaterThan(10);
  });
});
