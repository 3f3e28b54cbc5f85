// What becomes of walcast and its standby when the primary crashes, is stopped, or its WAL ends at a bad place? They go on, with
// the primary's bytes and rows. (F20, F21, F22, F69, F70, F71, F72)
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import { INVALID_LSN, PAGE_SIZE, formatLsn, parseLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import {
  segmentNumber,
  segmentOffset,
  segmentStartOf,
  toSegmentSize,
  walFileName,
} from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import {
  WAL_DATA_HEADER_BYTES,
  copyDataKind,
  decodeWalDataHeader,
} from '../../src/wire/replication-messages.ts';
import { compareWal } from '../harness/compare-wal.ts';
import { recordEnds } from '../harness/record-ends.ts';
import { openScenario } from '../harness/relay-scenario.ts';
import type { RelayScenario } from '../harness/relay-scenario.ts';
import { tableDigest } from '../harness/table-digest.ts';
import { createRelay } from '../harness/walcast-process.ts';
import { CRAFTED_ENDS, craftEnd, describeEnd, fillUpTo, insertLsn } from '../harness/wal-ends.ts';
import { openWireProxy } from '../harness/wire-proxy.ts';
import type { Transform } from '../harness/wire-proxy.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { FULL_FAULTS, NEWEST_MAJOR, itWhen, requires } from '../support/requirements.ts';

const SEGMENT = toSegmentSize(1 << 20);
const MAJOR = NEWEST_MAJOR;
/** xlp_pageaddr in a page header. */
const PAGE_ADDRESS_AT = 8;
/** A primary's fast stop with a healthy receiver. (P39) */
const FAST_STOP_MS_MAX = 2_000;
const WAL_SENDERS = "SELECT pid FROM pg_stat_replication WHERE application_name = 'walcast'";

requires(`postgres-${MAJOR}`).describe('a primary under load', () => {
  let scenario: RelayScenario;
  let load: WriteLoad;

  beforeAll(async () => {
    scenario = await openScenario({
      major: MAJOR,
      segmentSizeMb: 1,
      standbys: [{ name: 'standby', hasSlot: true }],
      primarySettings: { wal_sender_timeout: '10s' },
    });
    load = await scenario.startLoad();
    await load.waitForCommits(20);
  });

  afterAll(async () => {
    await scenario.close();
  });

  async function goesOn(): Promise<void> {
    await load.waitForCommits(20);
    const endLsn = await scenario.primary.walPosition();
    await scenario.standbys[0]?.waitForReplay(endLsn);
  }

  /** The last record of a stopped primary ends here. */
  async function endOfStopped(fromLsn: Lsn): Promise<Lsn> {
    const ends = await recordEnds({
      directory: scenario.primary.walDirectory,
      timeline: 1,
      segmentSize: SEGMENT,
      fromLsn,
      untilLsn: toLsn(fromLsn + (64n << 20n)),
    });
    return [...ends].reduce((highest, lsn) => (lsn > highest ? lsn : highest), INVALID_LSN);
  }

  it('whose walsender is killed restarts itself; the stream goes on', async () => {
    const mark = scenario.primary.log.mark();
    const pid = Number(await scenario.primary.value(WAL_SENDERS));
    signalProcess(pid, 'SIGKILL');
    await scenario.primary.waitForLog(/all server processes terminated; reinitializing/, {
      from: mark,
    });
    await scenario.primary.waitForLog(/ready to accept connections/, { from: mark });
    await goesOn();
  });

  it('that is killed and recovers is followed again', async () => {
    await scenario.primary.kill();
    await scenario.primary.start();
    await goesOn();
  });

  it('stops fast, and walcast and the standby have its shutdown checkpoint', async () => {
    await goesOn();
    const before = await scenario.primary.walPosition();
    const startedMs = systemClock.nowMs();
    await scenario.primary.stop('fast');
    expect(systemClock.nowMs() - startedMs).toBeLessThan(FAST_STOP_MS_MAX);
    const endLsn = await endOfStopped(segmentStartOf(before, SEGMENT));
    await pollUntil(
      `everything before ${formatLsn(endLsn)} on the disk of walcast`,
      async () => ((await scenario.relay.flushedLsn()) >= endLsn ? true : null),
      { timeoutMs: 10_000 },
    );
    await scenario.standbys[0]?.waitForReplay(endLsn);
    await scenario.primary.start();
    await goesOn();
  });

  it('stops although walcast is killed and started again meanwhile', async () => {
    const stopping = scenario.primary.stop('fast');
    await scenario.relay.kill();
    await scenario.relay.start();
    await stopping;
    await scenario.primary.start();
    await goesOn();
  });

  it('that is stopped at once behind a switch of segments goes on in the next one', async () => {
    await scenario.primary.query('SELECT pg_switch_wal()');
    await scenario.primary.stop('immediate');
    await scenario.primary.start();
    await goesOn();
  });

  it('ends, after all that, with its bytes and its rows everywhere', async () => {
    const endLsn = await scenario.settle();
    expect(await scenario.violations(endLsn)).toEqual([]);
  });
});

requires(`postgres-${MAJOR}`).describe('a primary whose WAL ends with', () => {
  let scenario: RelayScenario;

  beforeAll(async () => {
    scenario = await openScenario({
      major: MAJOR,
      segmentSizeMb: 1,
      standbys: [{ name: 'standby', hasSlot: true }],
      // Nothing is written by itself.
      primarySettings: { autovacuum: 'off', checkpoint_timeout: '1h', bgwriter_delay: '10s' },
    });
    await scenario.primary.query('CREATE TABLE write_load (i text)');
  });

  afterAll(async () => {
    await scenario.close();
  });

  for (const shape of CRAFTED_ENDS) {
    // Messages are flushed on request from PostgreSQL 17 on.
    itWhen(MAJOR >= 17)(`${shape}: all three are killed, and go on`, async () => {
      const { primary, relay, standbys } = scenario;
      {
        await using session = await primary.session();
        await craftEnd(session, shape, SEGMENT);
        const where = await describeEnd(session, SEGMENT);
        const endLsn = await insertLsn(session);
        if (shape.startsWith('a switch'))
          expect(Number(endLsn % BigInt(SEGMENT)), where).toBeLessThan(64);
        await standbys[0]?.waitForReplay(await primary.walPosition());
      }
      await primary.stop('immediate');
      await relay.kill();
      await standbys[0]?.kill();
      await relay.start({ wait: false });
      await primary.start();
      await standbys[0]?.start();
      await primary.query("INSERT INTO write_load VALUES ('after')");
      await standbys[0]?.waitForReplay(await primary.walPosition());
    });
  }

  it('any of these has its bytes and rows everywhere afterwards', async () => {
    const endLsn = await scenario.settle();
    expect(await scenario.violations(endLsn)).toEqual([]);
  });
});

/** Lets pass what lies before `limit`, and holds the rest back for good: a stream that breaks off inside a record. */
function upTo(limit: () => Lsn | null): Transform {
  return (_session, direction, frame) => {
    const end = limit();
    if (end === null || direction !== 'fromServer' || frame.type !== 0x64) return [frame];
    if (copyDataKind(frame.body) !== 0x77) return [];
    const { startLsn } = decodeWalDataHeader(frame.body);
    if (startLsn >= end) return [];
    const length = WAL_DATA_HEADER_BYTES + Number(end - startLsn);
    return [{ type: frame.type, body: frame.body.subarray(0, length) }];
  };
}

/** True when the page that ends at `endLsn` has been written. */
async function isPageStored(walDirectory: string, endLsn: Lsn): Promise<boolean> {
  const pageLsn = toLsn(endLsn - BigInt(PAGE_SIZE));
  const name = walFileName(toTimelineId(1), segmentNumber(pageLsn, SEGMENT), SEGMENT);
  await using file = await open(join(walDirectory, name)).catch(() => null);
  const address = Buffer.alloc(8);
  await file?.read(address, 0, address.length, segmentOffset(pageLsn, SEGMENT) + PAGE_ADDRESS_AT);
  return address.readBigUInt64LE() === pageLsn;
}

requires(`postgres-${MAJOR}`).describe('a primary that lost the second half of a record', () => {
  it.each(FULL_FAULTS ? [false, true] : [true])(
    'overwrites it; walcast, killed meanwhile: %s, takes that as it is, and the standby skips it',
    async (isKilled) => {
      await using workspace = await openWorkspace(await serverUser());
      const settings = { autovacuum: 'off', wal_keep_size: '1GB', checkpoint_timeout: '1h' };
      const primary = await createPrimary(workspace, {
        major: MAJOR,
        name: 'primary',
        settings,
        segmentSizeMb: 1,
      });
      await primary.start();
      let limit: Lsn | null = null;
      const proxy = await openWireProxy({
        target: () => primary.target(),
        transform: upTo(() => limit),
      });
      workspace.onClose(() => proxy.close());
      const relay = await createRelay(workspace, { name: 'walcast', upstream: () => proxy });
      await relay.start();
      const standby = await createStandby(workspace, {
        major: MAJOR,
        name: 'standby',
        backupFrom: primary.target(),
        upstream: relay.target(),
      });
      await standby.start();
      await primary.query('CREATE TABLE t (v text)');
      await standby.waitForReplay(await primary.walPosition());

      // The record begins in one segment and goes on in the next, which the primary loses. (TAP 026)
      {
        await using session = await primary.session();
        await fillUpTo(session, { boundary: SEGMENT, left: PAGE_SIZE - 512 });
        const boundary = toLsn(segmentStartOf(await insertLsn(session), SEGMENT) + BigInt(SEGMENT));
        limit = boundary;
        await session.query(`SELECT pg_logical_emit_message(true, 'x', repeat('x', 300000))`);
      }
      const boundary = limit;
      // Not a status: with `verify: record` no position lies inside a record.
      await pollUntil(
        'the last page of the first half',
        async () => ((await isPageStored(relay.walDirectory, boundary)) ? true : null),
        { timeoutMs: 30_000 },
      );
      await primary.stop('immediate');
      const lost = walFileName(toTimelineId(1), segmentNumber(boundary, SEGMENT), SEGMENT);
      await rm(join(primary.walDirectory, lost));
      limit = null;
      if (isKilled) {
        await relay.kill();
        await relay.start({ wait: false });
      }
      await primary.start();
      const load = await startWriteLoad(primary);
      await load.waitForCommits(50);
      await load.stop();
      const endLsn = await primary.walPosition();
      await standby.waitForReplay(endLsn);
      // What is forwarded is not written at that moment.
      await relay.waitForStatus(
        'everything being on the disk',
        ({ upstream }) => (parseLsn(upstream.flushed_lsn ?? '0/0') ?? INVALID_LSN) >= endLsn,
      );

      expect(standby.log.textFrom(0)).toMatch(/successfully skipped missing contrecord at/);
      expect(await tableDigest(standby)).toEqual(await tableDigest(primary));
      for (const { walDirectory } of [relay, standby]) {
        const comparison = await compareWal({
          expected: primary.walDirectory,
          actual: walDirectory,
          segmentSize: SEGMENT,
          untilLsn: endLsn,
        });
        expect(comparison.differences).toEqual([]);
      }
      expect(relay.problems()).toEqual([]);
    },
  );
});
