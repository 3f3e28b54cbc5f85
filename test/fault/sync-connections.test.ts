// Commits wait for standbys behind walcast while its connections break, on either side, again and again: is what a commit at
// remote_apply wrote always there? And who is waited for while a standby that was away catches up?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signalProcess } from '../../src/demo/postgres-process.ts';
import { INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { seededRandom } from '../harness/fault-proxy.ts';
import { CommitSessions, readOwnWrites } from '../harness/sync-commits.ts';
import { openSyncRig } from '../harness/sync-rig.ts';
import type { SyncRig } from '../harness/sync-rig.ts';
import { FULL_FAULTS, installedMajors, NEWEST_MAJOR } from '../support/requirements.ts';

const MAJORS = installedMajors().filter((major) => major === NEWEST_MAJOR);
const NAMES = ['a', 'b', 'c'];
const COMMITS = FULL_FAULTS ? 600 : 72;
/** Fifty breaks, each with a start or a new connection, on a machine that does something else, too. */
const BREAKS_TIMEOUT_MS = 400_000;
/** So many commits lie between two breaks. */
const EVERY = 12;
/** A stall would last as long as it takes to catch up; a busy machine needs some of this for a commit, too. */
const STALL_MS_MAX = 3_000;
/** About a kilobyte of WAL each. */
const BULK_ROWS = FULL_FAULTS ? 200_000 : 40_000;
const SEED = 20_260_101;

const TERMINATE =
  "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'walcast'";

const SLOT_POSITION = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'walcast'";

/** Whoever is connected at the moment of a commit, the policy leaves no choice in what is to be seen. */
const POLICIES = [
  {
    policy: 'FIRST 2 (a, b)',
    suffices: (shown: ReadonlySet<string>) => shown.has('a') && shown.has('b'),
  },
  { policy: 'ANY 2 (a, b, c)', suffices: (shown: ReadonlySet<string>) => shown.size >= 2 },
];

describe.each(MAJORS)('commits on PostgreSQL %i while connections break', (major) => {
  let rig: SyncRig;

  beforeAll(async () => {
    rig = await openSyncRig({
      major,
      relays: [{ name: 'walcast' }],
      standbys: NAMES.map((name) => ({
        name,
        upstream: 'walcast',
        settings: { wal_retrieve_retry_interval: '100ms' },
      })),
      primaryNames: 'walcast',
    });
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  /** Ways in which a connection breaks, by name. */
  const breaks: Readonly<Record<string, (name: string) => Promise<void>>> = {
    'walsender of the primary ended': async () => void (await rig.primary.query(TERMINATE)),
    'connection to a standby reset': async (name) => rig.proxy(name).cut('reset'),
    'walreceiver of a standby ended': async (name) =>
      signalProcess(await rig.processOf(name, 'walreceiver'), 'SIGTERM'),
    'walcast killed': async () => {
      await rig.relay('walcast').kill();
      await rig.relay('walcast').start();
    },
  };

  it.each(FULL_FAULTS ? POLICIES : POLICIES.slice(0, 1))(
    'show what they wrote: $policy',
    async ({ policy, suffices }) => {
      rig.relay('walcast').configure({ synchronous_standby_names: policy });
      await rig.relay('walcast').reload({});
      const random = seededRandom(SEED);
      const pick = <T>(of: readonly T[]): T => {
        const one = of[Math.floor(random() * of.length)];
        if (one === undefined) throw new Error('nothing to pick from');
        return one;
      };
      const done: Record<string, number> = {};
      const running: Promise<void>[] = [];
      const slotPositions: Lsn[] = [];
      const reads = await readOwnWrites(rig.primary, rig.standbys, {
        level: 'remote_apply',
        count: COMMITS,
        suffices,
        before: async (count) => {
          if (count % EVERY !== 0) return;
          await Promise.all(running.splice(0));
          slotPositions.push(parseLsn(await rig.primary.value(SLOT_POSITION)) ?? INVALID_LSN);
          const [what, action] = pick(Object.entries(breaks));
          done[what] = (done[what] ?? 0) + 1;
          // Not awaited: the next commits meet it at any moment.
          const broken = action(pick(NAMES));
          broken.catch(() => {});
          running.push(broken);
        },
      });
      await Promise.all(running);
      process.stderr.write(
        `PostgreSQL ${major}, ${policy}, seed ${SEED}: ${JSON.stringify(reads)}, ${JSON.stringify(done)}\n`,
      );
      expect(reads.misses).toEqual([]);
      await rig.settled();
      expect(rig.relay('walcast').problems()).toEqual([]);
    },
    BREAKS_TIMEOUT_MS,
  );

  it('go on with the next standby until the one that was away has caught up, and then wait for that one', async () => {
    const relay = rig.relay('walcast');
    await relay.reload({ synchronous_standby_names: 'FIRST 1 (a, b)' });
    await rig.settled();
    const { back } = await rig.leave('a', 'killed');
    await rig.primary.query(
      `SET synchronous_commit = local;
       CREATE TABLE bulk AS SELECT i, repeat(md5(i::text), 30) AS filler FROM generate_series(1, ${BULK_ROWS}) AS i`,
    );
    await rig.standby('b').waitForReplay(await rig.primary.walPosition());
    let isBack = false;
    const returning = back().then(() => {
      isBack = true;
    });
    const stateOfA = async (): Promise<string | null> => {
      const { standbys } = await relay.status();
      return standbys.find(({ application_name: name }) => name === 'a')?.sync_state ?? null;
    };
    await using commits = await CommitSessions.open(rig.primary);
    let longestMs = 0;
    let count = 0;
    while (!isBack || (await stateOfA()) !== 'sync') {
      longestMs = Math.max(longestMs, await commits.commitAll());
      count += 3;
    }
    await returning;
    process.stderr.write(
      `PostgreSQL ${major}: ${count} commits while a standby caught up, the slowest took ${Math.round(longestMs)} ms\n`,
    );
    expect(longestMs).toBeLessThan(STALL_MS_MAX);
    const reads = await readOwnWrites(rig.primary, rig.standbys, {
      level: 'remote_apply',
      count: 50,
      suffices: (shown) => shown.has('a'),
    });
    expect(reads.misses).toEqual([]);
  });

  it('return when all of a large transaction is there', async () => {
    await rig.relay('walcast').reload({ synchronous_standby_names: 'FIRST 2 (a, c)' });
    await using writer = await rig.primary.session();
    await writer.query('SET synchronous_commit = remote_apply');
    await writer.query(
      `CREATE TABLE large AS SELECT i, repeat(md5(i::text), 30) AS filler FROM generate_series(1, ${BULK_ROWS}) AS i`,
    );
    const counts = ['a', 'c'].map((name) => rig.standby(name).value('SELECT count(*) FROM large'));
    expect(await Promise.all(counts)).toEqual([`${BULK_ROWS}`, `${BULK_ROWS}`]);
  });
});
