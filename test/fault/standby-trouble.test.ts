// Real standbys in trouble behind walcast: half-dead connections (F35, F36), a slot whose old connection is dead, and a
// standby whose recovery met a damaged record and never comes back by itself (P41).
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { SlotJson } from '../../src/http/api-types.ts';
import { ABSENT_STANDBY_WEDGED_MS } from '../../src/config/limits.ts';
import { INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import { openFaultProxy } from '../harness/fault-proxy.ts';
import type { FaultProxy } from '../harness/fault-proxy.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { FULL_FAULTS, NEWEST_MAJOR, requires } from '../support/requirements.ts';

const TIMEOUT_MS = 3_000;
/** What a loaded machine may be late by. */
const LATE_MS = 1_500;

requires(`postgres-${NEWEST_MAJOR}`).describe('a real standby', () => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let standby: PostgresCluster;
  let relay: WalcastRelay;
  let proxy: FaultProxy;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, { major: NEWEST_MAJOR, name: 'primary' });
    await primary.start();
    await primary.query('CREATE TABLE t (number int, filler text)');
    relay = await createRelay(workspace, {
      name: 'walcast',
      upstream: () => primary.target(),
      settings: { slots: ['standby'] },
    });
    await relay.start();
    proxy = await openFaultProxy({ target: () => relay });
    standby = await createStandby(workspace, {
      major: NEWEST_MAJOR,
      name: 'standby',
      backupFrom: primary.target(),
      upstream: relay.target({ port: proxy.port }),
      slot: 'standby',
      // It never gives up its own connection; so walcast has to.
      settings: { wal_receiver_timeout: '0', wal_retrieve_retry_interval: '200ms' },
    });
    await standby.start();
    await streaming();
  });

  afterAll(async () => {
    await workspace.close();
    await proxy.close();
  });

  const write = (): Promise<unknown> =>
    primary.query('INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 300) AS i');

  async function streaming(): Promise<number> {
    const { standbys } = await relay.waitForStatus('the standby to stream', (status) =>
      status.standbys.some(({ state }) => state === 'streaming'),
    );
    return standbys[0]?.pid ?? 0;
  }

  async function caughtUp(): Promise<void> {
    await standby.waitForReplay(await primary.walPosition(), 60_000);
  }

  /** As a cable that is pulled, for the connection that is open; new ones pass. */
  function goDeaf(...ways: readonly ('fromServer' | 'fromClient')[]): void {
    for (const session of proxy.proxy.sessions) {
      for (const way of ways) session.lanes[way].setMode('deaf');
    }
  }

  async function slotActive(): Promise<boolean | undefined> {
    const slots = (await relay.get('/api/v1/slots')) as SlotJson[];
    return slots.find(({ slot_name: name }) => name === 'standby')?.active;
  }

  it('that died without a word gets its slot back on a new connection, long before any timeout', async () => {
    const pid = await streaming();
    goDeaf('fromServer', 'fromClient');
    await standby.kill();
    await write();
    expect((await relay.status()).standbys.map((each) => each.pid)).toEqual([pid]);
    const startedMs = performance.now();
    await standby.start();
    await relay.waitForStatus('the slot to go over', ({ standbys }) =>
      standbys.some((each) => each.pid !== pid && each.slot_name === 'standby'),
    );
    expect(performance.now() - startedMs).toBeLessThan(30_000);
    await caughtUp();
    const { standbys, standby_events: events, absent_standbys: absent } = await relay.status();
    expect(standbys).toHaveLength(1);
    expect(events.takeovers).toBe(1);
    expect(absent).toEqual([]);
    expect(relay.log.join('\n')).toContain('its slot goes over');
  });

  it.each<[string, readonly ('fromServer' | 'fromClient')[]]>([
    ['hears nothing and is not heard', ['fromServer', 'fromClient']],
    ['is not heard', ['fromClient']],
  ])(
    'that %s is let go at the timeout, its slot is free, and it is back once it notices',
    async (_, ways) => {
      await relay.reload({ wal_sender_timeout: `${TIMEOUT_MS}ms` });
      // The setting is that of sessions that begin.
      proxy.cut('reset');
      const before = await caughtUpOnAnother(await pidNow());
      goDeaf(...ways);
      const startedMs = performance.now();
      await relay.waitForStatus('it to be let go', ({ standbys }) =>
        standbys.every((each) => each.pid !== before),
      );
      expect(performance.now() - startedMs).toBeLessThan(TIMEOUT_MS + 1_000 + LATE_MS);
      // One that still hears is told by the close, and may be back already.
      if (ways.includes('fromServer')) {
        expect(await slotActive()).toBe(false);
        const { absent_standbys: absent } = await relay.status();
        expect(absent).toEqual([
          expect.objectContaining({ slot_name: 'standby', how: 'timeout', state: 'away' }),
        ]);
        proxy.cut('reset');
      }
      expect(await caughtUpOnAnother(before)).not.toBe(before);
      expect((await relay.status()).absent_standbys).toEqual([]);
      await relay.reload({ wal_sender_timeout: '60s' });
    },
  );

  it(
    'whose recovery meets a damaged record says goodbye with it unreplayed, stays away, and is shown so until it is restarted',
    { timeout: 240_000 },
    async () => {
      await caughtUpOnAnother(0);
      const damaged = proxy.faultNextWal({ kind: 'flip', place: 'recordBody' });
      await write();
      await damaged;
      const { absent_standbys: absent } = await relay.waitForStatus(
        'it to leave',
        ({ standbys }) => standbys.length === 0,
      );
      const [gone] = absent;
      expect(gone).toMatchObject({ slot_name: 'standby', how: 'terminated', reason: 'client' });
      const lsn = (text: string | null | undefined): bigint => parseLsn(text ?? '') ?? INVALID_LSN;
      expect(lsn(gone?.replay_lsn)).toBeLessThan(lsn(gone?.flush_lsn));
      if (FULL_FAULTS) {
        await relay.waitForStatus(
          'it to be called wedged',
          ({ absent_standbys: [first] }) => first?.state === 'wedged?',
          ABSENT_STANDBY_WEDGED_MS + 20_000,
        );
      }
      expect((await relay.status()).standbys).toEqual([]);
      await standby.restart();
      await caughtUp();
      expect((await relay.status()).absent_standbys).toEqual([]);
    },
  );

  it('that is stopped or promoted with everything replayed is away, and not more', async () => {
    await caughtUp();
    await standby.stop('fast');
    const { absent_standbys: absent } = await relay.waitForStatus(
      'it to leave',
      ({ standbys }) => standbys.length === 0,
    );
    expect(absent).toHaveLength(1);
    expect(absent[0]).toMatchObject({ how: 'terminated', state: 'away' });
    expect(absent[0]?.replay_lsn).toBe(absent[0]?.flush_lsn);
    await standby.start();
    await caughtUp();
    await standby.promote();
    const { absent_standbys: promoted } = await relay.waitForStatus(
      'it to leave',
      ({ standbys }) => standbys.length === 0,
    );
    expect(promoted[0]).toMatchObject({ how: 'terminated', state: 'away' });
    expect(promoted[0]?.replay_lsn).toBe(promoted[0]?.flush_lsn);
  });

  async function pidNow(): Promise<number> {
    return (await relay.status()).standbys[0]?.pid ?? 0;
  }

  /** Waits for a session other than `pid` that has got everything; its own pid. */
  async function caughtUpOnAnother(pid: number): Promise<number> {
    await write();
    await relay.waitForStatus('another session', ({ standbys }) =>
      standbys.some((each) => each.pid !== pid && each.state === 'streaming'),
    );
    await caughtUp();
    return await pidNow();
  }
});
