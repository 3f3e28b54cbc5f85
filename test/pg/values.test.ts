// Is what walcast shows of standbys, slots and its upstream true? Everything that the API, the metrics and the console say is
// compared with what those say who know: the primary, and the standbys themselves.
import { statfs } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { claimsOf, judged, untrue } from '../harness/claims.ts';
import { lastViews, Looker, standbyIn } from '../harness/looks.ts';
import type { Look, RelayViews } from '../harness/looks.ts';
import { seriesOf } from '../harness/exposition.ts';
import { exactFigures, growthPerByte, quietCounters } from '../harness/quiet.ts';
import { APPLY_DELAY_MS, openValuesRig, STANDBYS } from '../harness/values-rig.ts';
import type { ValuesRig } from '../harness/values-rig.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { newestOfEdges } from '../support/requirements.ts';

/** Longer than figures get old, and shorter than {@link SENDER_TIMEOUT_MS}: who is stopped is not taken for gone. */
const WATCH_MS = 4_000;
const SENDER_TIMEOUT_MS = 6_000;
const SLOW_MS = 150;
const JUDGED_MIN = 3;
const LOOKS_MORE_MAX = 40;
const UPSTREAM = { upstream: 'default' };

/** Application_name, sync_state and sync_priority of all of them, in the order of their names. */
const STATES = ['standby_a sync 1', 'standby_b potential 2', 'standby_c async 0'];

describe.each(newestOfEdges())('what is shown of standbys of PostgreSQL %i', (major) => {
  let rig: ValuesRig;
  let load: WriteLoad;

  beforeAll(async () => {
    rig = await openValuesRig({
      major,
      relaySettings: {
        synchronous_standby_names: 'FIRST 1 (standby_a, standby_b)',
        wal_sender_timeout: `${SENDER_TIMEOUT_MS}ms`,
      },
    });
    load = await startWriteLoad(() => rig.primary, 2, 5);
    await load.stop();
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  it('is what they and the primary say themselves within one status interval, under load', async () => {
    await using looker = new Looker(rig);
    load.start();
    const looks = await looker.watch(WATCH_MS);
    // Each figure could be judged, however busy the machine.
    const isJudged = (): boolean =>
      Object.values(judged(claimsOf(looks))).every((count) => count > JUDGED_MIN);
    for (let more = 0; more < LOOKS_MORE_MAX && !isJudged(); more += 1)
      looks.push(...(await looker.watch(500)));
    await load.stop();
    looks.push(await looker.lookAtWitnesses());
    expect(untrue(claimsOf(looks))).toEqual([]);
    expect(isJudged()).toBe(true);
    for (const { views } of looks) if (views !== null) expectStates(views, STATES);
  });

  it('is exactly what they have a status interval after the last write, and counters grew by as much as was written', async () => {
    await using looker = new Looker(rig);
    const before = quietCounters(await exactFigures(rig, looker), STANDBYS);
    load.start();
    await load.waitForCommits(200);
    await load.stop();
    const growth = growthPerByte(before, quietCounters(await exactFigures(rig, looker), STANDBYS));
    expect(growth).toEqual(Object.fromEntries(Object.keys(growth).map((name) => [name, 1])));
  });

  it('names servers, sessions and disks as they are', async () => {
    await using looker = new Looker(rig);
    const { upstream, status, metrics } = lastViews([await looker.look()]);
    const [[systemIdentifier, version, timeline] = []] = await rig.primary.query(
      "SELECT system_identifier, current_setting('server_version'), timeline_id FROM pg_control_system(), pg_control_checkpoint()",
    );
    expect(status).toMatchObject({
      system_identifier: systemIdentifier,
      server_version: version,
      timeline: Number(timeline),
    });
    expect(upstream).toMatchObject({ host: '127.0.0.1', port: rig.primary.port, slot: 'walcast' });
    for (const name of STANDBYS) {
      const info = {
        standby: name,
        client_addr: '127.0.0.1',
        user: 'postgres',
        slot: name,
        ...UPSTREAM,
        tls_version: '',
      };
      expect(metrics.samples.get(seriesOf('walcast_standby_info', info))).toBe(1);
    }
    const { blocks, bsize } = await statfs(rig.relay.directory);
    expect(metrics.samples.get('walcast_store_filesystem_size_bytes{}')).toBe(blocks * bsize);
  });

  it('is true of one that replays nothing, one that is stopped and one that is slow', async () => {
    await using looker = new Looker(rig);
    load.start();
    await load.waitForCommits(50);
    await rig.standby('standby_a').query('SELECT pg_wal_replay_pause()');
    rig.proxy('standby_c').setDelay(SLOW_MS);
    const stoppedMs = systemClock.wallMs();
    const goOn = await rig.stopWalReceiver('standby_b');
    const looks = await looker.watch(WATCH_MS);
    expect(await checked('name=standby_a')).toBe(200);
    expect(await checked('name=standby_a&lag=16kB')).toBe(503);
    expect(await checked('lag=64MB&min=3')).toBe(200);
    goOn();
    rig.proxy('standby_c').setDelay(0);
    await rig.standby('standby_a').query('SELECT pg_wal_replay_resume()');
    await load.stop();
    looks.push(await looker.lookAtWitnesses());
    const claims = claimsOf(looks, { silentSinceMs: new Map([['standby_b', stoppedMs]]) });
    expect(untrue(claims)).toEqual([]);
    const views = lastViews(looks);
    const [paused, stopped, slow] = STANDBYS.map((name) => standbyIn(views, name));
    const seconds = WATCH_MS / 1_000 - 1;
    // It goes on receiving, and counts: nobody waits for its replay.
    expect(paused?.replay_lag).toBeGreaterThan(seconds);
    expect(paused?.flush_lag).toBeLessThan(seconds);
    for (const stage of ['write_lag', 'flush_lag', 'replay_lag'] as const)
      expect(stopped?.[stage]).toBeGreaterThan(seconds);
    expect(slow?.flush_lag).toBeGreaterThan(SLOW_MS / 1_000);
    expect(slow?.replay_lag).toBeGreaterThan(APPLY_DELAY_MS / 1_000);
    expectStates(views, STATES);
    await exactFigures(rig, looker);
  });

  it('is true of one that is killed and one whose network is gone, and of the policy that needs one of them', async () => {
    await using looker = new Looker(rig);
    load.start();
    await load.waitForCommits(50);
    const looks = [await looker.look()];
    const atMs = systemClock.wallMs();
    rig.proxy('standby_b').halfOpen();
    await rig.standby('standby_a').kill();
    looks.push(...(await looker.watch(WATCH_MS)));
    await rig.relay.waitForStatus('standby_b gone', ({ standbys }) =>
      standbys.every((one) => one.application_name !== 'standby_b'),
    );
    // Longer than a rendering of metrics is used.
    looks.push(...(await looker.watch(1_500)));
    await load.stop();
    looks.push(await looker.lookAtWitnesses());
    const claims = claimsOf(looks, {
      goneAtMs: new Map([['standby_a', atMs]]),
      silentSinceMs: new Map([['standby_b', atMs]]),
    });
    expect(untrue(claims)).toEqual([]);
    expectVanished(looks, atMs);
    expect(await checked('name=standby_a')).toBe(503);
    expect(await checked('name=standby_c&lag=64MB')).toBe(200);
    rig.proxy('standby_b').resume();
    await rig.standby('standby_a').start();
    await rig.streaming();
    await exactFigures(rig, looker);
    // Every stream has a line in the log of the standby that began it.
    const { samples } = lastViews([await looker.look()]).metrics;
    for (const name of STANDBYS) {
      const begun = rig
        .standby(name)
        .log.textFrom(0)
        .match(/started streaming WAL/g);
      const connects = samples.get(seriesOf('walcast_standby_connects_total', { standby: name }));
      expect(connects, name).toBe(begun?.length);
    }
  });

  /** What a load balancer is told. */
  async function checked(question: string): Promise<number> {
    return (await fetch(`${rig.relay.url}/standbys?${question}`)).status;
  }

  /** What is shown at the end of `standby_a`, which was killed at a moment, and of `standby_b`, which was cut off then. */
  function expectVanished(looks: readonly Look[], atMs: number): void {
    const views = lastViews(looks);
    const { status, metrics } = views;
    expectStates(views, STATES.slice(2));
    const absent = new Map(status.absent_standbys.map((one) => [one.application_name, one]));
    expect(absent.get('standby_a')?.how).toMatch(/^(closed|reset|terminated)$/);
    expect(absent.get('standby_b')?.how).toBe('timeout');
    for (const name of ['standby_a', 'standby_b']) {
      const slot = views.slots.find((one) => one.slot_name === name);
      expect(slot).toMatchObject({ active: false, active_pid: null });
      expect(slot?.restart_lsn).toBe(absent.get(name)?.flush_lsn);
      const sinceMs = Date.parse(slot?.inactive_since ?? '');
      expect(sinceMs).toBeGreaterThanOrEqual(atMs);
      expect(sinceMs).toBeLessThan(systemClock.wallMs());
      const state = { standby: name, state: 'disconnected' };
      expect(metrics.samples.get(seriesOf('walcast_standby_state', state))).toBe(1);
      expect(metrics.samples.get(seriesOf('walcast_slot_active', { slot: name }))).toBe(0);
      const lag = { standby: name, stage: 'flush' };
      expect(metrics.samples.has(seriesOf('walcast_standby_lag_bytes', lag))).toBe(false);
    }
    // Nobody that counts is there: the primary is told nothing that it could take for a confirmation.
    expect(status.sync).toMatchObject({ satisfied: false, eligible_standbys: 0 });
    expect(status.sync.reported.flush).toBeNull();
    expect(looks.at(-1)?.primary?.sender?.flushLsn).toBeNull();
    expect(metrics.samples.get(seriesOf('walcast_sync_satisfied', UPSTREAM))).toBe(0);
  }

  function expectStates(views: RelayViews, expected: readonly string[]): void {
    const inJson = views.status.standbys.map(
      (one) => `${one.application_name} ${one.sync_state} ${one.sync_priority}`,
    );
    const inConsole = views.replication.map((row) =>
      [row['application_name'], row['sync_state'], row['sync_priority']].join(' '),
    );
    expect(inJson.toSorted()).toEqual(expected);
    expect(inConsole.toSorted()).toEqual(expected);
  }
});
