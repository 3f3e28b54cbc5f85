// A bit flips between primary and walcast, a message gets lost, comes twice, or out of order: is it fetched again, and does
// no standby ever see it?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { compareWal } from '../harness/compare-wal.ts';
import { FLIP_PLACES, openFaultProxy } from '../harness/fault-proxy.ts';
import type { FaultProxy, WalFault } from '../harness/fault-proxy.ts';
import { tableDigest } from '../harness/table-digest.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { FULL_FAULTS, NEWEST_MAJOR, newestMajors } from '../support/requirements.ts';

const FAULTS: readonly WalFault[] = [
  ...FLIP_PLACES.map((place) => ({ kind: 'flip', place }) as const),
  { kind: 'drop' },
  { kind: 'repeat' },
  { kind: 'swap' },
];

/**
 * What a standby would say that was given something wrong. The end of what it has is found by reading on, into zeros: a
 * length of 0 there is no fault of anybody.
 */
const ALARMS =
  /PANIC|(?<!data_)checksum|invalid magic number|unexpected pageaddr|incorrect|invalid record(?! length at \S+ (?:wanted|expected at least) \d+, got 0)|TRAP:/;

describe.each(newestMajors())('between PostgreSQL %i and walcast', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let faults: FaultProxy;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, {
      major,
      name: 'primary',
      settings: { wal_keep_size: '1GB' },
    });
    await primary.start();
    await primary.query('CREATE TABLE written (id serial, filler text)');
    faults = await openFaultProxy({ target: () => primary.target() });
  });

  afterAll(async () => {
    await workspace.close();
    await faults.close();
  });

  /** Writes until the fault has happened, and some more for what has to come behind it. */
  async function writeUntil(done: Promise<unknown>): Promise<void> {
    let isDone = false;
    const noted = done.finally(() => {
      isDone = true;
    });
    for (let round = 0; !isDone || round < 5; round++) {
      await primary.query(
        `INSERT INTO written (filler) SELECT repeat('x', i % 900) FROM generate_series(1, 300) i`,
      );
    }
    await noted;
  }

  async function rejected(relay: WalcastRelay): Promise<number> {
    const found = /^walcast_store_crc_failures_total\{source="upstream"\} (\d+)/m.exec(
      await relay.metrics(),
    );
    return Number(found?.[1] ?? '0');
  }

  // What "page" leaves out differs between majors in nothing.
  const modes =
    FULL_FAULTS || major === NEWEST_MAJOR ? (['record', 'page'] as const) : (['record'] as const);
  it.each(modes)('nothing wrong reaches a standby, verify: %s', async (verify) => {
    const relay = await createRelay(workspace, {
      name: verify,
      upstream: () => faults,
      slot: `walcast_${verify}`,
      settings: { storage: { verify } },
    });
    await relay.start();
    const standby = await createStandby(workspace, {
      major,
      name: `standby_${verify}`,
      backupFrom: primary.target(),
      upstream: relay.target(),
    });
    await standby.start();
    const fromLsn = await relay.flushedLsn();
    // A body that is flipped inside a message is what "page" leaves to recovery (docs).
    const known = FAULTS.filter(
      (fault) => verify === 'record' || fault.kind !== 'flip' || fault.place !== 'recordBody',
    );
    for (const fault of known) {
      const before = await rejected(relay);
      const linesBefore = relay.log.length;
      await writeUntil(faults.faultNextWal(fault, 60_000));
      const what = faults.done.at(-1)?.what ?? '';
      await standby.waitForReplay(await primary.walPosition(), 60_000).catch((error: unknown) => {
        throw new Error(`${what}: ${relay.log.slice(-10).join('\n')}`, { cause: error });
      });
      // A rendering is given again for a moment.
      await pollUntil(
        `a rejection to be counted: ${what}`,
        async () => ((await rejected(relay)) > before ? true : null),
        { timeoutMs: 20_000 },
      );
      const told = relay.log.slice(linesBefore).filter((line) => line.includes('fails its check'));
      expect(told.length, what).toBeGreaterThan(0);
    }
    const endLsn = await primary.walPosition();
    expect(await tableDigest(standby)).toEqual(await tableDigest(primary));
    for (const directory of [relay.walDirectory, standby.walDirectory]) {
      const compared = await compareWal({
        expected: primary.walDirectory,
        actual: directory,
        segmentSize: toSegmentSize(16 << 20),
        fromLsn,
        untilLsn: endLsn,
      });
      expect(compared.differences).toEqual([]);
      expect(compared.comparedBytes).toBeGreaterThan(100_000);
    }
    const alarms = standby.log
      .textFrom(0)
      .split('\n')
      .filter((line) => ALARMS.test(line));
    expect(alarms).toEqual([]);
    await standby.stop('fast');
    await relay.stop();
  });
});
