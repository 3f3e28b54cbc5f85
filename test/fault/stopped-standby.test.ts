// Does one standby that has stopped listening cost the others anything, or walcast its memory? Several times what walcast may
// keep in memory flows past it (two gigabytes at length); then it wakes up and gets everything from disk.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { StandbyJson } from '../../src/http/api-types.ts';
import { INVALID_LSN, formatLsn, lsnDistance, minLsn, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentStartOf, toSegmentSize } from '../../src/pg/segment.ts';
import { compareWal } from '../harness/compare-wal.ts';
import { createPhysicalSlot } from '../harness/relay-scenario.ts';
import { tableDigest } from '../harness/table-digest.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { FULL_FAULTS, NEWEST_MAJOR } from '../support/requirements.ts';
import { metric } from './fault-support.ts';

const SEGMENT = toSegmentSize(16 << 20);
const MIB = 1 << 20;
const MAJOR = NEWEST_MAJOR;
/** WAL that flows past the stopped standby. */
const FLOW_BYTES = (FULL_FAULTS ? 2_048 : 512) * MIB;
/** WAL of one transaction. */
const TRANSACTION_BYTES = 8 * MIB;
const OTHERS_LAG_BYTES_MAX = 64 * MIB;

/**
 * What walcast may take, whatever flows and however far anybody is behind (limits.ts names the limits):
 *
 *     110 MiB  Node.js, the program, two threads' heaps, idle
 *      48 MiB  V8's young generation at its largest (three semi-spaces of 16 MiB)
 *      64 MiB  the tail: TAIL_BYTES_MAX of WAL that is on the disk, and UNFLUSHED_BYTES_MAX that is not
 *       8 MiB  a job handed to the writer thread
 *       1 MiB  the upstream's read buffer
 *      12 MiB  per standby two blocks of the tail in its socket, or a file read in it and one ahead: 4 MiB each
 *      64 MiB  buffers that nobody needs any more, before V8 collects them (its soft limit for external memory)
 *      13 MiB  the rest
 *   = 320 MiB
 */
const RSS_BYTES_MAX = 320 * MIB;

let workspace: Workspace;
let primary: PostgresCluster;
let relay: WalcastRelay;
let stopped: PostgresCluster;
const others: PostgresCluster[] = [];

beforeAll(async () => {
  workspace = await openWorkspace(await serverUser());
  primary = await createPrimary(workspace, {
    major: MAJOR,
    name: 'primary',
    settings: {
      // Every commit waits for walcast's disk: the flow is as fast as walcast can make it durable, and no faster.
      synchronous_standby_names: 'walcast',
      synchronous_commit: 'local',
      // All WAL stays, to compare with.
      wal_keep_size: '4GB',
      max_wal_size: '4GB',
      wal_init_zero: 'off',
      wal_recycle: 'off',
    },
  });
  await primary.start();
  await primary.query('CREATE TABLE t (number int, filler text)');
  relay = await createRelay(workspace, {
    name: 'walcast',
    upstream: () => primary.target(),
    settings: { wal_sender_timeout: '10min', storage: { wal_keep_size: '64MB' } },
  });
  await relay.start();
  stopped = await addStandby('stopped');
  others.push(await addStandby('other_a'), await addStandby('other_b'));
});

afterAll(async () => {
  await workspace.close();
});

async function addStandby(name: string): Promise<PostgresCluster> {
  await createPhysicalSlot(relay.target(), name, MAJOR);
  const standby = await createStandby(workspace, {
    major: MAJOR,
    name,
    backupFrom: primary.target(),
    upstream: relay.target(),
    slot: name,
    // However long it was stopped, it does not give up its connection by itself.
    settings: { wal_keep_size: '4GB', wal_receiver_timeout: '0', synchronous_standby_names: '' },
  });
  await standby.start();
  await relay.waitForStatus(`${name} streaming`, ({ standbys }) =>
    standbys.some((each) => each.application_name === name && each.state === 'streaming'),
  );
  return standby;
}

async function walReceiverPid(cluster: PostgresCluster): Promise<number> {
  const sql =
    "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'walreceiver'";
  return await pollUntil(
    `a walreceiver of ${cluster.name}`,
    async () => {
      const pid = Number(await cluster.value(sql));
      return pid === 0 ? null : pid;
    },
    { timeoutMs: 30_000 },
  );
}

interface Flow {
  /** Farthest that one of the others was behind the primary. */
  readonly lagBytesMax: number;
  readonly endLsn: Lsn;
}

/** Writes `byteCount` of WAL in transactions, and looks at the others after each. */
async function flow(byteCount: number): Promise<Flow> {
  await using session = await primary.session();
  await session.query('SET synchronous_commit = on');
  const count = TRANSACTION_BYTES / MIB;
  let lagBytesMax = 0;
  let endLsn = INVALID_LSN;
  for (let done = 0; done < byteCount; done += TRANSACTION_BYTES) {
    await session.query(`
      BEGIN;
      INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 100) AS i;
      SELECT pg_logical_emit_message(true, 'flow', repeat(md5(i::text), ${MIB / 32})) IS NULL
      FROM generate_series(1, ${count}) AS i;
      COMMIT`);
    endLsn = lsnOf(await session.value('SELECT pg_current_wal_flush_lsn()'));
    const { standbys } = await relay.status();
    for (const { name } of others) {
      const position = writtenBy(standbys, name);
      if (position < endLsn) lagBytesMax = Math.max(lagBytesMax, lsnDistance(position, endLsn));
    }
  }
  return { lagBytesMax, endLsn };
}

function lsnOf(text: string | null | undefined): Lsn {
  return parseLsn(text ?? '') ?? INVALID_LSN;
}

/** What a standby says it has written; nothing when it is not connected. */
function writtenBy(standbys: readonly StandbyJson[], name: string): Lsn {
  return lsnOf(standbys.find((each) => each.application_name === name)?.write_lsn);
}

async function fromDisk(): Promise<number> {
  return (await metric(relay.httpPort, READ_FROM_DISK)) ?? Number.NaN;
}

const READ_FROM_DISK = 'walcast_store_read_bytes_total{source="disk"}';

async function differences(directory: string, fromLsn: Lsn, untilLsn: Lsn): Promise<string[]> {
  const comparison = await compareWal({
    expected: primary.walDirectory,
    actual: directory,
    segmentSize: SEGMENT,
    fromLsn,
    untilLsn,
  });
  const expected = lsnDistance(fromLsn, untilLsn);
  return comparison.comparedBytes === expected
    ? comparison.differences
    : [...comparison.differences, `${comparison.comparedBytes} of ${expected} bytes were there`];
}

describe('a standby whose walreceiver is stopped', () => {
  it('holds nobody up while WAL flows, costs no memory, and catches up from disk', async () => {
    const startLsn = segmentStartOf(await primary.walPosition(), SEGMENT);
    const pid = await walReceiverPid(stopped);
    signalProcess(pid, 'SIGSTOP');
    const { lagBytesMax, endLsn } = await flow(FLOW_BYTES);

    const status = await relay.status();
    const behind = writtenBy(status.standbys, 'stopped');
    expect(lsnDistance(minLsn(behind, endLsn), endLsn)).toBeGreaterThan(FLOW_BYTES - 64 * MIB);
    expect(status.standbys.map(({ application_name: name }) => name).toSorted()).toEqual([
      'other_a',
      'other_b',
      'stopped',
    ]);
    expect(lagBytesMax).toBeLessThan(OTHERS_LAG_BYTES_MAX);
    for (const other of others) await other.waitForReplay(endLsn);
    // The others were served from memory; one that fell back for a moment may have read a little.
    expect(await fromDisk()).toBeLessThan(FLOW_BYTES / 8);
    expect((await relay.memory()).rssMax).toBeLessThan(RSS_BYTES_MAX);

    signalProcess(pid, 'SIGCONT');
    await stopped.waitForReplay(endLsn, 120_000);
    expect(await walReceiverPid(stopped)).toBe(pid);
    expect(await fromDisk()).toBeGreaterThan(FLOW_BYTES - 128 * MIB);
    const { rssMax } = await relay.memory();
    process.stderr.write(
      `walcast: at most ${Math.round(rssMax / MIB)} MiB, others at most ${Math.round(lagBytesMax / MIB)} MiB behind\n`,
    );
    expect(rssMax).toBeLessThan(RSS_BYTES_MAX);
    // All of it came out of the store's files: these bytes are theirs.
    expect(await differences(stopped.walDirectory, startLsn, endLsn)).toEqual([]);
    expect(await tableDigest(stopped)).toEqual(await tableDigest(primary));
    expect(relay.problems()).toEqual([]);
  });

  it('that is dropped for its silence comes back by itself and catches up', async () => {
    await relay.stop();
    relay.configure({ wal_sender_timeout: '2s' });
    await relay.start();
    await relay.waitForStatus('three standbys', ({ standbys }) => standbys.length === 3);
    const startLsn = await primary.walPosition();
    const pid = await walReceiverPid(stopped);
    signalProcess(pid, 'SIGSTOP');
    const { endLsn, lagBytesMax } = await flow(128 * MIB);
    const status = await relay.waitForStatus('it to be dropped', ({ standbys }) =>
      standbys.every(({ application_name: name }) => name !== 'stopped'),
    );
    expect(status.standbys).toHaveLength(2);
    expect(status.absent_standbys).toEqual([
      expect.objectContaining({ application_name: 'stopped', how: 'timeout', state: 'away' }),
    ]);
    expect(relay.log.join('\n')).toMatch(/replication timeout/);
    expect(lagBytesMax).toBeLessThan(OTHERS_LAG_BYTES_MAX);
    signalProcess(pid, 'SIGCONT');
    await stopped.waitForReplay(endLsn);
    expect((await relay.status()).absent_standbys).toEqual([]);
    expect(await differences(stopped.walDirectory, startLsn, endLsn), formatLsn(endLsn)).toEqual(
      [],
    );
    expect(await tableDigest(stopped)).toEqual(await tableDigest(primary));
  });
});
