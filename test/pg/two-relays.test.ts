// Two walcasts for the same standbys: does a standby that loses one of them go on at the other by itself, although its slot
// there was not used for long?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { SlotJson } from '../../src/http/api-types.ts';
import { parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentStartOf, toSegmentSize } from '../../src/pg/segment.ts';
import { compareWal, missingSegments } from '../harness/compare-wal.ts';
import { startTool } from '../harness/pg-tools.ts';
import { openRelaysRig, standbyConninfoOf } from '../harness/relays-rig.ts';
import type { RelaysRig } from '../harness/relays-rig.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import {
  clientMajor,
  EDGE_MAJORS,
  FULL_FAULTS,
  installedMajors,
  itWhen,
  NEWEST_MAJOR,
  requires,
} from '../support/requirements.ts';

const SEGMENT_MB = 1;
const SEGMENT_SIZE = toSegmentSize(SEGMENT_MB << 20);
/** More segments than a relay keeps for a slot. */
const LOSING_SEGMENTS = 8;
const STORAGE = { wal_keep_size: '2MB', max_slot_wal_keep_size: '3MB' };

const MAJORS = installedMajors().filter((major) =>
  (FULL_FAULTS ? EDGE_MAJORS : [NEWEST_MAJOR]).includes(major),
);

describe.each(MAJORS)('two relays of PostgreSQL %i', (major) => {
  let rig: RelaysRig;
  let relayA: WalcastRelay;
  let relayB: WalcastRelay;

  beforeAll(async () => {
    rig = await openRelaysRig({
      major,
      segmentSizeMb: SEGMENT_MB,
      relays: [{ name: 'relay_a' }, { name: 'relay_b', isProxied: true }],
      servers: [
        { name: 'alpha', relays: [] },
        { name: 'beta', relays: ['relay_a', 'relay_b'] },
        { name: 'gamma', relays: ['relay_a', 'relay_b'] },
      ],
      relaySettings: { storage: STORAGE },
    });
    [relayA, relayB] = [rig.relay('relay_a'), rig.relay('relay_b')];
    await rig.primary.query('CREATE TABLE filler (bytes text)');
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  /** Writes whole segments and waits until the running relays have them. */
  async function writeSegments(count: number): Promise<Lsn> {
    for (let done = 0; done < count; done++) {
      await rig.primary.query(
        'INSERT INTO filler SELECT repeat(md5(i::text), 30) FROM generate_series(1, 200) AS i; SELECT pg_switch_wal()',
      );
    }
    return await rig.primary.walPosition();
  }

  async function hasAll(relay: WalcastRelay, endLsn: Lsn): Promise<void> {
    await relay.waitForStatus(
      `${relay.name} having everything`,
      ({ store }) => (parseLsn(store.flushed_lsn ?? '0/0') ?? 0n) >= endLsn,
    );
  }

  async function writtenEverywhere(count: number): Promise<Lsn> {
    const endLsn = await writeSegments(count);
    for (const relay of rig.relays) if (relay.isRunning) await hasAll(relay, endLsn);
    return endLsn;
  }

  /** The standbys have everything, and hold their slots on `relay`. */
  async function allStreamFrom(relay: WalcastRelay): Promise<void> {
    const endLsn = await rig.primary.walPosition();
    for (const standby of rig.standbys) {
      await rig.receiverPid(standby, relay);
      await standby.waitForReplay(endLsn);
      await pollUntil(
        `slot ${standby.name} of ${relay.name} at work`,
        async () => (isAtWork(await rig.slot(relay, standby.name)) ? true : null),
        { timeoutMs: 20_000 },
      );
    }
  }

  it('change over although the slots of the idle one were lost long ago, and back', async () => {
    await allStreamFrom(relayA);
    await writtenEverywhere(LOSING_SEGMENTS);
    for (const { name } of rig.standbys) {
      await rig.slotIs(relayB, name, 'lost');
      expect(isAtWork(await rig.slot(relayA, name))).toBe(true);
    }
    await relayA.kill();
    await allStreamFrom(relayB);
    await writtenEverywhere(LOSING_SEGMENTS);
    await allStreamFrom(relayB);
    expect(relayB.log.join('\n')).toContain('lost replication slot is in use again');

    await relayA.start();
    const endLsn = await writtenEverywhere(LOSING_SEGMENTS);
    for (const { name } of rig.standbys) await rig.slotIs(relayA, name, 'lost');
    // Nobody goes back without a reason.
    for (const standby of rig.standbys) await rig.receiverPid(standby, relayB);
    expect(await relayB.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
    await allStreamFrom(relayA);
    await relayB.start();
    await hasAll(relayB, endLsn);
    expect(await rig.violations(await rig.settle())).toEqual([]);
  });

  it('keep at most one slot each on the primary, which neither falls behind', async () => {
    const endLsn = await writtenEverywhere(2);
    await rig.primary.waitForValue(
      `SELECT string_agg(slot_name || ' ' || active, ',' ORDER BY slot_name) FROM pg_replication_slots
       WHERE pg_current_wal_lsn() - restart_lsn <= ${SEGMENT_SIZE}`,
      'relay_a true,relay_b true',
      20_000,
    );
    await rig.primary.waitForValue(
      `SELECT count(*) FROM pg_stat_replication WHERE application_name IN ('relay_a', 'relay_b')`,
      '2',
    );
    expect(await rig.settle()).toBeGreaterThanOrEqual(endLsn);
  });

  it('serve a standby that was away for longer than either keeps WAL, from the primary', async () => {
    const gamma = rig.server('gamma');
    await gamma.stop('fast');
    await writtenEverywhere(LOSING_SEGMENTS * 2);
    for (const relay of [relayA, relayB]) await rig.slotIs(relay, 'gamma', 'lost');
    await gamma.start();
    await allStreamFrom(relayA);
    expect(isAtWork(await rig.slot(relayA, 'gamma'))).toBe(true);
    await gamma.stop('fast');
    await writtenEverywhere(LOSING_SEGMENTS * 2);
    for (const relay of [relayA, relayB]) await rig.slotIs(relay, 'gamma', 'lost');
    await relayA.kill();
    await gamma.start();
    await allStreamFrom(relayB);
    await relayA.start();
    expect(await rig.violations(await rig.settle())).toEqual([]);
  });

  it('serve a third relay behind both, which changes over as a standby does', async () => {
    const far = await createRelay(rig.workspace, {
      name: 'far',
      slot: 'far',
      upstream: () => relayA.target(),
      settings: { upstream: { conninfo: standbyConninfoOf([relayA, relayB], 'far') } },
    });
    await far.start();
    await hasAll(far, await writtenEverywhere(1));
    await relayA.kill();
    await hasAll(far, await writtenEverywhere(LOSING_SEGMENTS));
    await relayA.start();
    await hasAll(relayA, await rig.primary.walPosition());
    await relayB.stop('SIGTERM');
    const endLsn = await writtenEverywhere(LOSING_SEGMENTS);
    await hasAll(far, endLsn);
    await relayB.start();
    const fromLsn = parseLsn((await far.status()).store.oldest_lsn ?? '') ?? endLsn;
    const span = { segmentSize: SEGMENT_SIZE, fromLsn, untilLsn: endLsn };
    const [expected, actual] = [rig.primary.walDirectory, far.walDirectory];
    expect((await compareWal({ expected, actual, ...span })).differences).toEqual([]);
    expect(await missingSegments({ directory: actual, timeline: 1, ...span })).toEqual([]);
    expect(far.problems()).toEqual([]);
    await far.stop();
    expect(await rig.violations(await rig.settle())).toEqual([]);
  });

  it('hold a standby that is ahead of the one it comes to until that one has caught up', async () => {
    await relayB.stop('SIGTERM');
    await allStreamFrom(relayA);
    await relayB.start();
    await relayB.waitForStatus('a stream', ({ state }) => state === 'streaming');
    for (const proxy of rig.proxies('relay_b')) proxy.stall('fromServer');
    const endLsn = await writeSegments(3);
    await hasAll(relayA, endLsn);
    for (const standby of rig.standbys) await standby.waitForReplay(endLsn);
    expect(await relayB.flushedLsn()).toBeLessThan(segmentStartOf(endLsn, SEGMENT_SIZE));
    const beta = rig.server('beta');
    const mark = beta.log.mark();
    await relayA.kill();
    const pid = await rig.receiverPid(beta, relayB);
    for (const proxy of rig.proxies('relay_b')) proxy.resume('fromServer');
    await allStreamFrom(relayB);
    expect(await rig.receiverPid(beta, relayB)).toBe(pid);
    expect(beta.log.textFrom(mark)).not.toContain('is ahead of the WAL flush position');
    await relayA.start();
    expect(await rig.violations(await rig.settle())).toEqual([]);
  });

  const { it: itWithTool } = requires('pg_receivewal');
  const archiving = major <= clientMajor('pg_receivewal') ? itWithTool : itWhen(false);

  archiving('are one place to archive from for pg_receivewal', async () => {
    const directory = await rig.workspace.makeDirectory('archive');
    const fromLsn = segmentStartOf(await writtenEverywhere(1), SEGMENT_SIZE);
    const ports = rig.relays.map(({ port }) => port).join(',');
    const conninfo = `host=127.0.0.1,127.0.0.1 port=${ports} user=postgres connect_timeout=2`;
    const tool = startTool(rig.workspace, 'pg_receivewal', [
      '-d',
      conninfo,
      '-D',
      directory,
      // One of the slots that exist; nobody else has the name.
      '--slot=alpha',
      '--synchronous',
      '--status-interval=1',
    ]);
    await isArchivingFrom(relayA);
    await writtenEverywhere(LOSING_SEGMENTS);
    await rig.slotIs(relayB, 'alpha', 'lost');
    await relayA.kill();
    await isArchivingFrom(relayB);
    await writtenEverywhere(2);
    const endLsn = segmentStartOf(await rig.primary.walPosition(), SEGMENT_SIZE);
    await relayB.waitForStatus('all of it archived', ({ standbys }) =>
      standbys.some(
        ({ application_name: name, flush_lsn: lsn }) =>
          name === 'pg_receivewal' && (parseLsn(lsn ?? '0/0') ?? 0n) >= endLsn,
      ),
    );
    await tool.stop();
    await relayA.start();
    const span = { segmentSize: SEGMENT_SIZE, fromLsn, untilLsn: endLsn };
    const expected = rig.primary.walDirectory;
    const { differences, comparedBytes } = await compareWal({
      expected,
      actual: directory,
      ...span,
    });
    expect(differences).toEqual([]);
    expect(comparedBytes).toBe(Number(endLsn - fromLsn));
    expect(await missingSegments({ directory, timeline: 1, ...span })).toEqual([]);
  });

  it('help each other: one that the primary has no WAL for any more follows the other one until it has caught up', async () => {
    await relayB.reload({ storage: { wal_keep_size: '64MB' } });
    await relayA.stop('SIGTERM');
    const { primary } = rig;
    await primary.query(`SELECT pg_drop_replication_slot('relay_a')`);
    await primary.configure({ wal_keep_size: '0', max_wal_size: '2MB', min_wal_size: '2MB' });
    await primary.reload();
    await writtenEverywhere(LOSING_SEGMENTS);
    await primary.query('CHECKPOINT');
    await relayA.start();
    await relayA.waitForStatus('a gap', ({ state }) => state === 'gap');
    const conninfo = `host=127.0.0.1 user=postgres sslmode=disable port=`;
    await relayA.reload({ upstream: { conninfo: `${conninfo}${relayB.port}` } });
    await hasAll(relayA, await primary.walPosition());
    await relayA.reload({ upstream: { conninfo: `${conninfo}${primary.port}` } });
    await primary.waitForValue(
      `SELECT count(*) FROM pg_stat_replication WHERE application_name = 'relay_a' AND state = 'streaming'`,
      '1',
      30_000,
    );
    await hasAll(relayA, await writeSegments(1));
    await relayB.kill();
    await allStreamFrom(relayA);
    await relayB.start();
    const endLsn = await rig.settle();
    // Both say what was missing; everything else is as it should be.
    const isGap = (text: string): boolean => /has already been removed/.test(text);
    const found = await rig.violations(endLsn);
    expect(found.filter((text) => !isGap(text))).toEqual([]);
  });

  async function isArchivingFrom(relay: WalcastRelay): Promise<void> {
    await relay.waitForStatus('pg_receivewal streaming', ({ standbys }) =>
      standbys.some(
        ({ application_name: name, state }) => name === 'pg_receivewal' && state === 'streaming',
      ),
    );
  }
});

/** In use, and keeping what its standby needs. */
function isAtWork(slot: SlotJson | null): boolean {
  return slot !== null && slot.active && slot.wal_status !== 'lost';
}
