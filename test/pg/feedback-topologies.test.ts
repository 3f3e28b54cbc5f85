// Does feedback keep rows on the primary through two walcasts in a row, also of the catalogs for a logical slot on the standby,
// and does it go over to another primary?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { createPhysicalSlot } from '../harness/physical-slot.ts';
import { conninfoOf } from '../harness/promotion-rig.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { itWhen, newestOfEdges } from '../support/requirements.ts';

const WAIT_MS = 30_000;
/** The first one in which a standby can have logical slots. */
const MAJOR_LOGICAL_STANDBY = 16;
const MAJORS = newestOfEdges();

interface Held {
  readonly xmin: number;
  readonly catalogXmin: number;
}

describe.each(MAJORS)('a standby behind two walcasts, with PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  /** Follows the primary itself, and is the next one. */
  let next: PostgresCluster;
  let near: WalcastRelay;
  let far: WalcastRelay;
  let standby: PostgresCluster;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    const settings = { autovacuum: 'off', wal_keep_size: '1GB', wal_level: 'logical' };
    primary = await createPrimary(workspace, { major, name: 'primary', settings });
    await primary.start();
    next = await createStandby(workspace, {
      major,
      name: 'next',
      backupFrom: primary.target(),
      upstream: primary.target(),
      settings: { ...settings, hot_standby_feedback: 'off' },
    });
    await next.start();
    near = await createRelay(workspace, {
      name: 'near',
      upstream: () => primary.target(),
      slot: 'near',
      settings: {
        upstream: {
          conninfo: conninfoOf([primary, next]),
          application_name: 'near',
          wal_receiver_status_interval: '1s',
        },
      },
    });
    await near.start();
    far = await createRelay(workspace, {
      name: 'far',
      upstream: () => near,
      slot: 'far',
      settings: { upstream: { application_name: 'far', wal_receiver_status_interval: '1s' } },
    });
    await far.start();
    await createPhysicalSlot(far.target(), 'standby', major);
    standby = await createStandby(workspace, {
      major,
      name: 'standby',
      backupFrom: primary.target(),
      upstream: far.target(),
      slot: 'standby',
      settings: {
        ...settings,
        hot_standby_feedback: 'on',
        wal_receiver_status_interval: '1s',
        wal_retrieve_retry_interval: '200ms',
      },
    });
    await standby.start();
  });

  afterAll(async () => {
    await workspace.close();
  });

  /** What a server's slot for the near walcast holds; 0 = nothing. */
  async function held(server: PostgresCluster): Promise<Held> {
    const rows = await server.query(
      "SELECT coalesce(xmin::text, '0'), coalesce(catalog_xmin::text, '0') FROM pg_replication_slots WHERE slot_name = 'near'",
    );
    const [xmin = 0, catalogXmin = 0] = (rows[0] ?? []).map(Number);
    return { xmin, catalogXmin };
  }

  async function untilHeld(server: PostgresCluster, check: (now: Held) => boolean): Promise<Held> {
    return await pollUntil(
      `the slot on ${server.name}: ${String(check)}`,
      async () => {
        const now = await held(server);
        return check(now) ? now : null;
      },
      { timeoutMs: WAIT_MS },
    );
  }

  async function moveOn(server: PostgresCluster): Promise<void> {
    await using session = await server.session();
    for (let count = 0; count < 20; count += 1) await session.query('SELECT txid_current()');
  }

  async function vacuum(server: PostgresCluster): Promise<'rows' | 'nothing'> {
    await server.query('VACUUM (TRUNCATE false) kept');
    const sql = "SELECT relallvisible FROM pg_class WHERE relname = 'kept'";
    return (await server.value(sql)) === '0' ? 'rows' : 'nothing';
  }

  itWhen(major >= MAJOR_LOGICAL_STANDBY)(
    'keeps catalogs for its logical slot, and rows apart from that',
    async () => {
      // A logical slot on a standby waits for a list of running transactions.
      await using session = await standby.session();
      const isMade = session.query("SELECT pg_create_logical_replication_slot('l', 'pgoutput')");
      let isOver = false;
      void isMade.finally(() => {
        isOver = true;
      });
      while (!isOver) await primary.query('SELECT pg_log_standby_snapshot()');
      await isMade;
      await moveOn(primary);
      const { catalogXmin } = await untilHeld(primary, (now) => now.catalogXmin > 0);
      await untilHeld(primary, (now) => now.xmin > catalogXmin);
      expect((await held(primary)).catalogXmin).toBe(catalogXmin);
      await session.query("SELECT pg_drop_replication_slot('l')");
      await untilHeld(primary, (now) => now.catalogXmin === 0 && now.xmin > 0);
    },
  );

  it('keeps rows while its query runs, also on the next primary', async () => {
    await primary.query('CREATE TABLE kept AS SELECT generate_series(1, 2000) AS n');
    await standby.waitForReplay(await primary.walPosition());
    await using session = await standby.session();
    await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await session.query('SELECT count(*) FROM kept');
    const xmin = Number(await session.value('SELECT txid_snapshot_xmin(txid_current_snapshot())'));
    await primary.query('DELETE FROM kept');
    await moveOn(primary);
    await untilHeld(primary, (now) => now.xmin > 0 && now.xmin <= xmin);
    expect(await vacuum(primary)).toBe('rows');

    await near.kill();
    await moveOn(primary);
    await near.start();
    await far.waitForStatus('the far one streaming', ({ state }) => state === 'streaming');
    expect((await held(primary)).xmin).toBeLessThanOrEqual(xmin);
    expect(await vacuum(primary)).toBe('rows');

    await next.waitForReplay(await primary.walPosition());
    await primary.stop('fast');
    await next.promote();
    await untilHeld(next, (now) => now.xmin > 0 && now.xmin <= xmin);
    await moveOn(next);
    await standby.waitForReplay(await next.walPosition());
    expect((await held(next)).xmin).toBeLessThanOrEqual(xmin);
    expect(await vacuum(next)).toBe('rows');
    expect(await session.value('SELECT count(*) FROM kept')).toBe('2000');

    await session.query('COMMIT');
    await untilHeld(next, (now) => now.xmin > xmin);
    await pollUntil(
      'the rows to go',
      async () => ((await vacuum(next)) === 'nothing' ? true : null),
      { timeoutMs: WAIT_MS },
    );
  });
});
