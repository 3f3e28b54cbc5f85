// Commits wait for standbys behind walcast while its connections break, on either side, again and again: is what a commit at
// remote_apply wrote always there, and does nobody wait longer than it takes to connect again?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signalProcess } from '../../src/demo/postgres-process.ts';
import { seededRandom } from '../harness/fault-proxy.ts';
import { readOwnWrites } from '../harness/sync-commits.ts';
import { openSyncRig } from '../harness/sync-rig.ts';
import type { SyncRig } from '../harness/sync-rig.ts';
import { FULL_FAULTS, installedMajors, NEWEST_MAJOR } from '../support/requirements.ts';

const MAJORS = installedMajors().filter((major) => major === NEWEST_MAJOR);
const NAMES = ['a', 'b', 'c'];
const COMMITS = FULL_FAULTS ? 1_500 : 120;
/** So many commits lie between two breaks. */
const EVERY = 12;
const SEED = 20_260_101;

const TERMINATE =
  "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'walcast'";

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

  it.each(POLICIES)('show what they wrote: $policy', async ({ policy, suffices }) => {
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
    const reads = await readOwnWrites(rig.primary, rig.standbys, {
      level: 'remote_apply',
      count: COMMITS,
      suffices,
      before: async (count) => {
        if (count % EVERY !== 0) return;
        await Promise.all(running.splice(0));
        const [what, action] = pick(Object.entries(breaks));
        done[what] = (done[what] ?? 0) + 1;
        // Not awaited: the next commits meet it at any moment.
        running.push(action(pick(NAMES)));
      },
    });
    await Promise.all(running);
    process.stderr.write(
      `PostgreSQL ${major}, ${policy}, seed ${SEED}: ${JSON.stringify(reads)}, ${JSON.stringify(done)}\n`,
    );
    expect(reads.misses).toEqual([]);
    await rig.settled();
    expect(rig.relay('walcast').problems()).toEqual([]);
  });
});
