// Bits rot, files get short, are swapped or removed on walcast's own disk: does a real standby that needs them ever see it?
import { copyFile, readdir, readFile, rename, truncate, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { StoreDetailJson } from '../../src/http/api-types.ts';
import { advanceLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, segmentStartOf, toSegmentSize, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { compareWal } from '../harness/compare-wal.ts';
import { createPhysicalSlot } from '../harness/relay-scenario.ts';
import { tableDigest } from '../harness/table-digest.ts';
import { openClientsRig, writeWal } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { newestMajors } from '../support/requirements.ts';

const SEGMENT_SIZE = toSegmentSize(1 << 20);

/** What a standby would say that was given something wrong; at offset 0 it looks at a file of its own, not written yet. */
const ALARMS =
  /PANIC|(?<!data_)checksum|invalid magic number (?!0000)|unexpected pageaddr(?!.*offset 0$)|incorrect resource|TRAP:/;

const WAIT = { timeoutMs: 60_000 };

describe.each(newestMajors())('walcast on a bad disk behind PostgreSQL %i', (major) => {
  let rig: ClientsRig;
  /** Stopped while its WAL is damaged; streams all the time. */
  let late: PostgresCluster;
  let steady: PostgresCluster;

  beforeAll(async () => {
    rig = await openClientsRig({ major, segmentSizeMb: 1 });
    late = await addStandby('late');
    steady = await addStandby('steady');
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  async function addStandby(name: string): Promise<PostgresCluster> {
    const upstream = rig.relay.target({ applicationName: name });
    await createPhysicalSlot(upstream, name, major);
    const standby = await createStandby(rig.workspace, {
      major,
      name,
      backupFrom: rig.primary.target(),
      upstream,
      slot: name,
    });
    await standby.start();
    return standby;
  }

  /** Stops one standby, writes, and starts walcast anew, so that nothing of it is in memory. Gives where it begins. */
  async function leaveBehind(megabytes: number): Promise<Lsn> {
    await late.waitForReplay(await rig.primary.walPosition(), WAIT.timeoutMs);
    await late.stop('fast');
    const fromLsn = advanceLsn(
      segmentStartOf(await rig.primary.walPosition(), SEGMENT_SIZE),
      SEGMENT_SIZE,
    );
    await writeWal(rig.primary, megabytes);
    const endLsn = await rig.primary.walPosition();
    await pollUntil(
      'walcast to have it',
      async () => ((await rig.relay.flushedLsn()) >= endLsn ? true : null),
      WAIT,
    );
    await rig.relay.stop();
    await rig.relay.start();
    return fromLsn;
  }

  function fileAt(fromLsn: Lsn, index: number): string {
    const segment = segmentNumber(advanceLsn(fromLsn, index * SEGMENT_SIZE), SEGMENT_SIZE);
    return walFileName(toTimelineId(1), segment, SEGMENT_SIZE);
  }

  async function store(): Promise<StoreDetailJson> {
    return (await rig.relay.get('/api/v1/store')) as StoreDetailJson;
  }

  it('heals what is damaged from the primary while the standby waits', async () => {
    const fromLsn = await leaveBehind(9);
    const path = (index: number): string => join(rig.relay.walDirectory, fileAt(fromLsn, index));
    await flip(path(0), 300_000);
    await flip(path(1), 8192 * 50 + 10);
    await flip(path(2), SEGMENT_SIZE - 3);
    await truncate(path(3), 500_000);
    await rename(path(4), `${path(4)}.swap`);
    await rename(path(5), path(4));
    await rename(`${path(4)}.swap`, path(5));
    await unlink(path(6));
    await late.start();
    const endLsn = await rig.primary.walPosition();
    await late.waitForReplay(endLsn, WAIT.timeoutMs);
    await steady.waitForReplay(endLsn, WAIT.timeoutMs);
    expect(await tableDigest(late)).toEqual(await tableDigest(rig.primary));
    for (const directory of [rig.relay.walDirectory, late.walDirectory]) {
      const compared = await compareWal({
        expected: rig.primary.walDirectory,
        actual: directory,
        segmentSize: SEGMENT_SIZE,
        fromLsn,
        untilLsn: endLsn,
      });
      expect(compared.differences).toEqual([]);
      expect(compared.comparedFiles).toBeGreaterThan(7);
    }
    expect((await store()).repairs).toEqual({ repaired: 7, failed: 0 });
    const kept = await readdir(join(rig.relay.walDirectory, '..', 'dead'));
    expect([3, 4]).toContain(kept.length);
    const metrics = await rig.relay.metrics();
    expect(metrics).toMatch(/^walcast_store_crc_failures_total\{source="disk"\} [1-9]/m);
    expect(metrics).toMatch(/^walcast_store_errors_total\{operation="read"\} [1-9]/m);
    for (let index = 0; index < 7; index++) {
      const told = rig.relay.log.filter((line) => line.includes(fileAt(fromLsn, index)));
      expect(told.filter((line) => line.includes('was replaced'))).toHaveLength(1);
    }
    for (const standby of [late, steady]) expect(alarmsOf(standby)).toEqual([]);
  });

  it('tells that standby alone where the primary has it no more, and goes on when a copy is put back', async () => {
    const fromLsn = await leaveBehind(5);
    const name = fileAt(fromLsn, 2);
    const path = join(rig.relay.walDirectory, name);
    const copy = await rig.workspace.makeDirectory('archive');
    await copyFile(path, join(copy, name));
    await flip(path, 300_000);
    await rig.primary.configure({ wal_keep_size: '0', max_wal_size: '2MB', min_wal_size: '2MB' });
    await rig.primary.reload();
    await pollUntil(
      'the primary to have removed it',
      async () => {
        await rig.primary.query('SELECT pg_switch_wal()');
        await rig.primary.query('CHECKPOINT');
        return (await readdir(rig.primary.walDirectory)).includes(name) ? null : true;
      },
      WAIT,
    );
    const said = late.log.mark();
    await late.start();
    await pollUntil(
      'the standby to be told',
      () =>
        Promise.resolve(
          late.log.textFrom(said).includes(`could not read WAL segment ${name}`) || null,
        ),
      WAIT,
    );
    await writeWal(rig.primary, 1);
    await steady.waitForReplay(await rig.primary.walPosition(), WAIT.timeoutMs);
    expect((await store()).repairs).toMatchObject({ repaired: 0 });
    expect((await store()).repairs.failed).toBeGreaterThan(0);
    await copyFile(join(copy, name), path);
    await late.waitForReplay(await rig.primary.walPosition(), WAIT.timeoutMs);
    expect(await tableDigest(late)).toEqual(await tableDigest(rig.primary));
    expect(alarmsOf(steady)).toEqual([]);
    // walcast's words about its own disk; what was sent was right.
    const own = /could not read WAL segment/;
    expect(alarmsOf(late).filter((line) => !own.test(line))).toEqual([]);
  });
});

async function flip(path: string, offset: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[offset] = (bytes[offset] ?? 0) ^ 0x20;
  await writeFile(path, bytes);
}

function alarmsOf(standby: PostgresCluster): string[] {
  return standby.log
    .textFrom(0)
    .split('\n')
    .filter((line) => ALARMS.test(line));
}
