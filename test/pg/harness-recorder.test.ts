// Is a plain pair of servers clean in the eyes of the instruments, and does each instrument see the fault it is for?
// No walcast here: what these tests find in walcast later must not be what they find in PostgreSQL itself.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { segmentStartOf, toSegmentSize } from '../../src/pg/segment.ts';
import { compareWal, missingSegments, walDirectoryTruth } from '../harness/compare-wal.ts';
import { openFaultProxy } from '../harness/fault-proxy.ts';
import type { FaultProxy } from '../harness/fault-proxy.ts';
import { checkContiguous, checkLedger, checkSameBytes } from '../harness/ledger-checks.ts';
import { streamsOf } from '../harness/ledger.ts';
import { openRecorder } from '../harness/recorder.ts';
import type { Recorder } from '../harness/recorder.ts';
import { recordEnds } from '../harness/record-ends.ts';
import { tableDigest } from '../harness/table-digest.ts';
import { NEWEST_MAJOR, newestOfEdges } from '../support/requirements.ts';

const SEGMENT = toSegmentSize(16 << 20);

describe.each(newestOfEdges())('a standby of PostgreSQL %i behind a recorder', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let standby: PostgresCluster;
  let recorder: Recorder;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, {
      major,
      name: 'primary',
      settings: { wal_keep_size: '1GB' },
    });
    await primary.start();
    recorder = await openRecorder({ name: 'primary', target: () => primary.target() });
    await primary.query("SELECT pg_create_physical_replication_slot('standby')");
    standby = await createStandby(workspace, {
      major,
      name: 'standby',
      backupFrom: { ...primary.target(), port: recorder.port },
      upstream: { ...primary.target(), port: recorder.port },
      slot: 'standby',
    });
    await standby.start();
    await primary.query(
      'CREATE TABLE t AS SELECT i, repeat(md5(i::text), 20) AS filler FROM generate_series(1, 40000) AS i',
    );
    await primary.query('SELECT pg_switch_wal()');
    await primary.query('UPDATE t SET i = i + 1 WHERE i < 5000');
    await standby.waitForReplay(await primary.walPosition());
  });

  afterAll(async () => {
    await workspace.close();
    await recorder.close();
  });

  it('shows no violation of any promise', async () => {
    const isRecordEnd = await recordEndsOf(primary);
    expect(streamsOf(recorder.ledger, 'standby').length).toBeGreaterThan(0);
    expect(
      recorder.ledger.connections.flatMap(({ streams }) => streams.flatMap((s) => s.wal)).length,
    ).toBeGreaterThan(10);
    expect(checkLedger(recorder.ledger, { reporter: 'standby', isRecordEnd })).toEqual([]);
  });

  it('carries bytes that are those of the primary', async () => {
    const truth = walDirectoryTruth(primary.walDirectory, SEGMENT);
    const streams = streamsOf(recorder.ledger, 'standby');
    const checked = streams.flatMap((stream) => stream.pages).length;
    const violations = await Promise.all(streams.map((stream) => checkSameBytes(stream, truth)));
    expect(checked).toBeGreaterThan(1000);
    expect(violations.flat()).toEqual([]);
  });

  it('has the WAL files and the rows of the primary', async () => {
    const untilLsn = await standby.walPosition();
    const fromLsn = streamsOf(recorder.ledger, 'standby')[0]?.startLsn ?? untilLsn;
    const comparison = await compareWal({
      expected: primary.walDirectory,
      actual: standby.walDirectory,
      segmentSize: SEGMENT,
      fromLsn,
      untilLsn,
    });
    expect(comparison.differences).toEqual([]);
    expect(comparison.comparedBytes).toBeGreaterThan(16 << 20);
    expect(
      await missingSegments({
        directory: standby.walDirectory,
        timeline: 1,
        segmentSize: SEGMENT,
        fromLsn,
        untilLsn,
      }),
    ).toEqual([]);
    expect(await tableDigest(standby)).toEqual(await tableDigest(primary));
    expect((await tableDigest(primary)).rows).toBe(40_000);
  });

  it('has slots, replies and keepalives in its book', () => {
    const streams = streamsOf(recorder.ledger, 'standby');
    expect(streams.at(-1)?.slot).toBe('standby');
    expect(streams.flatMap((stream) => stream.replies).length).toBeGreaterThan(1);
    expect(
      recorder.ledger.connections.flatMap(({ commands }) => commands.map(({ sql }) => sql)),
    ).toContain('IDENTIFY_SYSTEM');
  });
});

describe('a standby behind a fault proxy and a recorder', () => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let faults: FaultProxy;
  let recorder: Recorder;
  let standby: PostgresCluster;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, {
      major: NEWEST_MAJOR,
      name: 'primary',
      settings: { wal_keep_size: '1GB' },
    });
    await primary.start();
    await primary.query('CREATE TABLE t (i int, filler text)');
    faults = await openFaultProxy({ target: () => primary.target() });
    recorder = await openRecorder({ name: 'behind the faults', target: () => faults });
    standby = await createStandby(workspace, {
      major: NEWEST_MAJOR,
      name: 'standby',
      backupFrom: primary.target(),
      upstream: { ...primary.target(), port: recorder.port },
    });
    await standby.start();
    await write();
  });

  afterAll(async () => {
    await workspace.close();
    await recorder.close();
    await faults.close();
  });

  // Several transactions, so that there are several messages of every kind.
  async function write(): Promise<void> {
    for (let round = 0; round < 5; round += 1) {
      await primary.query(
        "INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 300) AS i",
      );
    }
  }

  // A damaged standby does not heal by itself, and the next fault needs a stream.
  async function heal(): Promise<void> {
    await standby.restart('immediate');
    await write();
    await standby.waitForReplay(await primary.walPosition());
  }

  it.each([
    ['drop', 'gap'],
    ['repeat', 'repeat'],
    ['swap', 'gap'],
  ] as const)('a %s shows as a %s', async (kind, word) => {
    const done = faults.faultNextWal({ kind });
    await write();
    const { startLsn } = await done;
    await write();
    const stream = streamsOf(recorder.ledger).find(({ wal }) =>
      wal.some((message) => message.startLsn >= startLsn),
    );
    expect(stream && checkContiguous(stream).join('\n')).toContain(word);
    await heal();
  });

  it.each(['pageHeader', 'recordHeader', 'recordBody'] as const)(
    "a flipped bit in a %s shows as bytes that are not upstream's",
    async (place) => {
      const done = faults.faultNextWal({ kind: 'flip', place });
      await write();
      const { startLsn } = await done;
      await write();
      await standby.stop('immediate');
      const truth = walDirectoryTruth(primary.walDirectory, SEGMENT);
      const violations = await Promise.all(
        streamsOf(recorder.ledger)
          .filter(({ pages }) => pages.some(({ endLsn }) => endLsn > startLsn))
          .map((stream) => checkSameBytes(stream, truth)),
      );
      expect(violations.flat().join('\n')).toContain("not upstream's");
      await standby.start();
      await heal();
    },
  );

  it('a flipped bit in the message header shows as a gap or a repeat', async () => {
    const done = faults.faultNextWal({ kind: 'flip', place: 'messageHeader' });
    await write();
    await done;
    const stream = streamsOf(recorder.ledger).at(-1);
    expect(stream && checkContiguous(stream)).not.toEqual([]);
  });
});

async function recordEndsOf(primary: PostgresCluster): Promise<(lsn: bigint) => boolean> {
  const untilLsn = await primary.walPosition();
  const ends = await recordEnds({
    directory: primary.walDirectory,
    timeline: 1,
    segmentSize: SEGMENT,
    fromLsn: segmentStartOf(toLsn(BigInt(SEGMENT)), SEGMENT),
    untilLsn,
  });
  return (lsn) => ends.has(toLsn(lsn));
}
