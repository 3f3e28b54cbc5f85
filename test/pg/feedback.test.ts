// Does a long query on a standby behind walcast keep its rows on the primary: with a slot and without, on either side of
// walcast, over walcast's restarts; and are they let go when nobody needs them any more?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import type { SqlSession } from '../../src/demo/sql-session.ts';
import { streamsOf } from '../harness/ledger.ts';
import type { FeedbackEntry } from '../harness/ledger.ts';
import { createPhysicalSlot } from '../harness/physical-slot.ts';
import { openRecorder } from '../harness/recorder.ts';
import type { Recorder } from '../harness/recorder.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { FULL_FAULTS, newestOfEdges } from '../support/requirements.ts';

type Upstream = 'slotted' | 'slotless';
type Downstream = 'with_slot' | 'without_slot';

/** Of all pairs the two that differ in everything, unless there is time. */
const PAIRS: readonly (readonly [Upstream, Downstream])[] = FULL_FAULTS
  ? [
      ['slotted', 'with_slot'],
      ['slotted', 'without_slot'],
      ['slotless', 'with_slot'],
      ['slotless', 'without_slot'],
    ]
  : [
      ['slotted', 'without_slot'],
      ['slotless', 'with_slot'],
    ];
const MAJORS = newestOfEdges();

const WAIT_MS = 30_000;
const ROWS = 2_000;
const STANDBY_SETTINGS = {
  hot_standby_feedback: 'on',
  wal_receiver_status_interval: '1s',
  wal_retrieve_retry_interval: '200ms',
};

interface Behind {
  readonly relay: WalcastRelay;
  /** Between walcast and the primary. */
  readonly upstream: Recorder;
  readonly standbys: Readonly<Record<Downstream, PostgresCluster>>;
  /** What the primary holds for walcast; null for nothing. */
  held(): Promise<number | null>;
}

interface Query {
  readonly session: SqlSession;
  /** Its snapshot's xmin. */
  readonly xmin: number;
}

describe.each(MAJORS)('a long query behind walcast, with PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  const recorders: Recorder[] = [];
  const behind = new Map<string, Behind>();
  let tables = 0;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, {
      major,
      name: 'primary',
      settings: { autovacuum: 'off', wal_keep_size: '1GB' },
    });
    await primary.start();
    const names = ['slotted', 'slotless'] as const;
    await Promise.all(names.map(async (name) => behind.set(name, await openBehind(name))));
  });

  afterAll(async () => {
    await workspace.close();
    for (const recorder of recorders) await recorder.close();
  });

  async function openBehind(name: Upstream): Promise<Behind> {
    const upstream = await openRecorder({ name, target: () => primary.target() });
    recorders.push(upstream);
    const relay = await createRelay(workspace, {
      name,
      upstream: () => upstream,
      slot: name === 'slotted' ? name : '',
      settings: { upstream: { application_name: name, wal_receiver_status_interval: '1s' } },
    });
    await relay.start();
    const standby = async (kind: Downstream): Promise<PostgresCluster> => {
      const hasSlot = kind === 'with_slot';
      if (hasSlot) await createPhysicalSlot(relay.target(), kind, major);
      const server = await createStandby(workspace, {
        major,
        name: `${name}_${kind}`,
        backupFrom: primary.target(),
        upstream: relay.target(),
        ...(hasSlot ? { slot: kind } : {}),
        settings: STANDBY_SETTINGS,
      });
      await server.start();
      return server;
    };
    const [withSlot, withoutSlot] = await Promise.all([
      standby('with_slot'),
      standby('without_slot'),
    ]);
    const standbys = { with_slot: withSlot, without_slot: withoutSlot };
    const sql =
      name === 'slotted'
        ? `SELECT coalesce(xmin::text, '') FROM pg_replication_slots WHERE slot_name = '${name}'`
        : `SELECT coalesce(min(backend_xmin::text::bigint)::text, '') FROM pg_stat_replication WHERE application_name = '${name}'`;
    const held = async (): Promise<number | null> => {
      const text = await primary.value(sql);
      return text === '' ? null : Number(text);
    };
    return { relay, upstream, standbys, held };
  }

  function at(name: string): Behind {
    const found = behind.get(name);
    if (found === undefined) throw new Error(`no ${name}`);
    return found;
  }

  /** A table with rows. */
  async function newTable(): Promise<string> {
    tables += 1;
    const table = `t${tables}`;
    await primary.query(`CREATE TABLE ${table} AS SELECT generate_series(1, ${ROWS}) AS n`);
    return table;
  }

  async function longQuery(standby: PostgresCluster, table: string): Promise<Query> {
    await standby.waitForReplay(await primary.walPosition());
    const session = await standby.session();
    await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await session.query(`SELECT count(*) FROM ${table}`);
    const xmin = Number(await session.value('SELECT txid_snapshot_xmin(txid_current_snapshot())'));
    return { session, xmin };
  }

  /** Uses up transaction ids, so that everybody else's horizon goes on. */
  async function moveOn(): Promise<void> {
    await using session = await primary.session();
    for (let count = 0; count < 20; count += 1) await session.query('SELECT txid_current()');
  }

  function until(what: string, check: () => Promise<boolean>): Promise<true> {
    const look = async (): Promise<true | null> => ((await check()) ? true : null);
    return pollUntil(what, look, { timeoutMs: WAIT_MS });
  }

  /** Waits until the primary holds everything from `xmin` on for walcast. */
  function untilHeld(place: Behind, xmin: number): Promise<true> {
    return until(
      `a horizon of at most ${xmin}`,
      async () => ((await place.held()) ?? Infinity) <= xmin,
    );
  }

  /**
   * Removes rows that nobody may see any more, and says whether any were left: a page with one is not all-visible. Without
   * truncation, whose lock would be in the way of the query on the standby.
   */
  async function vacuum(table: string): Promise<'rows' | 'nothing'> {
    await primary.query(`VACUUM (TRUNCATE false) ${table}`);
    const sql = `SELECT relallvisible FROM pg_class WHERE relname = '${table}'`;
    return (await primary.value(sql)) === '0' ? 'rows' : 'nothing';
  }

  function saidUpstream({ upstream }: Behind): FeedbackEntry[] {
    return streamsOf(upstream.ledger).flatMap(({ feedback }) => feedback);
  }

  /** Waits for so many more messages of walcast. */
  async function messages(place: Behind, count: number): Promise<FeedbackEntry[]> {
    const before = saidUpstream(place).length;
    await until('feedback of walcast', async () => saidUpstream(place).length >= before + count);
    return saidUpstream(place).slice(before);
  }

  async function standbysBack({ relay }: Behind): Promise<void> {
    await relay.waitForStatus(
      'both standbys streaming',
      ({ standbys }) => standbys.filter(({ state }) => state === 'streaming').length === 2,
    );
  }

  it.each(PAIRS)(
    'keeps its rows, with walcast %s upstream and the standby %s, also over restarts of walcast',
    async (name, kind) => {
      const place = at(name);
      const other = kind === 'with_slot' ? 'without_slot' : 'with_slot';
      const table = await newTable();
      const query = await longQuery(place.standbys[kind], table);
      await primary.query(`DELETE FROM ${table}`);
      await moveOn();
      await untilHeld(place, query.xmin);

      // The other standby is further by now; what it says lifts nothing.
      await place.standbys[other].waitForReplay(await primary.walPosition());
      for (const { xmin } of await messages(place, 2)) expect(xmin).toBeLessThanOrEqual(query.xmin);
      expect(await place.held()).toBeLessThanOrEqual(query.xmin);
      expect(await vacuum(table)).toBe('rows');

      for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
        await place.relay.stop(signal);
        // A slot on the primary holds it meanwhile; without one nobody does, and nobody is asked.
        if (name === 'slotted') expect(await vacuum(table)).toBe('rows');
        await moveOn();
        await place.relay.start();
        await untilHeld(place, query.xmin);
        await standbysBack(place);
        for (const { xmin } of await messages(place, 1))
          expect(xmin).toBeLessThanOrEqual(query.xmin);
        expect(await vacuum(table)).toBe('rows');
      }

      expect(await query.session.value(`SELECT count(*) FROM ${table}`)).toBe(String(ROWS));
      await query.session.query('COMMIT');
      query.session.close();
      await until('the horizon to go on', async () => ((await place.held()) ?? 0) > query.xmin);
      await until('the rows to go', async () => (await vacuum(table)) === 'nothing');
    },
  );

  it('holds nothing for a standby that has left, unless it has a slot; and nothing for a slot that was dropped', async () => {
    for (const name of FULL_FAULTS ? (['slotted', 'slotless'] as const) : (['slotless'] as const)) {
      const place = at(name);
      const { with_slot: withSlot, without_slot: withoutSlot } = place.standbys;
      await untilHeld(place, Number.MAX_SAFE_INTEGER);
      await withSlot.stop('fast');
      await moveOn();
      const stays = (await place.held()) ?? 0;
      const replayed = await primary.walPosition();
      await withoutSlot.waitForReplay(replayed);
      await messages(place, 2);
      expect(await place.held()).toBeLessThanOrEqual(stays + 1);
      await withoutSlot.stop('fast');
      await messages(place, 2);
      const kept = await place.held();
      expect(kept).toBeGreaterThan(0);
      await moveOn();
      await messages(place, 2);
      expect(await place.held()).toBe(kept);
      // What the slot holds is on the disk; its standby is not there to say it again.
      await place.relay.kill();
      await place.relay.start();
      await messages(place, 1);
      await until('the slot to hold it again', async () => (await place.held()) === kept);

      await using relay = await openReplication(place.relay);
      await relay.query('DROP_REPLICATION_SLOT with_slot');
      await until('nothing to be held', async () => (await place.held()) === null);
      await createPhysicalSlot(place.relay.target(), 'with_slot', major);
      await Promise.all([withSlot.start(), withoutSlot.start()]);
      await untilHeld(place, Number.MAX_SAFE_INTEGER);
    }
  });

  it('holds nothing when feedback is turned off, on walcast or on the standbys, and does again when it is turned on', async () => {
    const place = at('slotted');
    await untilHeld(place, Number.MAX_SAFE_INTEGER);
    await place.relay.reload({ upstream: { hot_standby_feedback: 'off' } });
    await until('nothing to be held', async () => (await place.held()) === null);
    await place.relay.reload({ upstream: { hot_standby_feedback: 'on' } });
    await untilHeld(place, Number.MAX_SAFE_INTEGER);

    const standbys = Object.values(place.standbys);
    for (const standby of standbys) {
      await standby.configure({ hot_standby_feedback: 'off' });
      await standby.reload();
    }
    await until('nothing to be held', async () => (await place.held()) === null);
    for (const standby of standbys) {
      await standby.configure({ hot_standby_feedback: 'on' });
      await standby.reload();
    }
    await untilHeld(place, Number.MAX_SAFE_INTEGER);
  });

  it('does not count when it is older than max_feedback_xmin_age, and is told of', async () => {
    const place = at('slotted');
    const table = await newTable();
    const query = await longQuery(place.standbys.without_slot, table);
    await untilHeld(place, query.xmin);
    const from = place.relay.process.log.length;
    await place.relay.reload({ max_feedback_xmin_age: 10 });
    await moveOn();
    await until('the horizon to go on', async () => ((await place.held()) ?? 0) > query.xmin);
    await place.relay.process.waitForLog(/slotted_without_slot.*too old and left out/, { from });
    await place.relay.reload({ max_feedback_xmin_age: -1 });
    await place.relay.process.waitForLog(/slotted_without_slot.*counts in the feedback again/, {
      from,
    });
    query.session.close();
  });

  async function openReplication(relay: WalcastRelay): Promise<SqlSession> {
    return await openSqlSession(relay.target({ replication: true }));
  }
});
