// Does a commit on the primary return exactly when the chosen standbys behind walcast have reached its level, whatever the
// policy; does it wait while they are away, and go on as soon as they are back? At length the same standbys are attached
// to the primary itself as well, with the same list: walcast is to do what PostgreSQL does.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CommitSessions, readOwnWrites } from '../harness/sync-commits.ts';
import { openSyncRig } from '../harness/sync-rig.ts';
import { RELEASE_MS_MAX, releasedAfter, returnedWithout } from '../harness/sync-waits.ts';
import type { Absence, AwayStandby, SyncRig } from '../harness/sync-rig.ts';
import {
  EDGE_MAJORS,
  FULL_FAULTS,
  installedMajors,
  NEWEST_MAJOR,
} from '../support/requirements.ts';

const MAJORS = installedMajors().filter((major) =>
  (FULL_FAULTS ? EDGE_MAJORS : [NEWEST_MAJOR]).includes(major),
);
const OWN_WRITES = FULL_FAULTS ? 5_000 : 200;
const NAMES = ['a', 'b', 'c'];

type Shown = ReadonlySet<string>;

interface PolicyCase {
  readonly policy: string;
  /** Those whose apply commits at remote_apply wait for. */
  readonly suffices: (shown: Shown) => boolean;
  /** Standbys that are connected and silent: without these commits go on, without those they wait, until the last is back. */
  readonly silent: { readonly without: readonly string[]; readonly blocked: readonly string[] };
  /** Likewise for standbys that are gone: others may take their place. */
  readonly gone: { readonly without: readonly string[]; readonly blocked: readonly string[] };
}

const CASES: readonly PolicyCase[] = [
  {
    policy: 'FIRST 1 (a, b)',
    suffices: (shown) => shown.has('a'),
    silent: { without: ['b', 'c'], blocked: ['a'] },
    gone: { without: ['a', 'c'], blocked: ['a', 'b'] },
  },
  {
    policy: 'FIRST 2 (a, b, c)',
    suffices: (shown) => shown.has('a') && shown.has('b'),
    silent: { without: ['c'], blocked: ['b'] },
    gone: { without: ['a'], blocked: ['a', 'b'] },
  },
  {
    policy: 'ANY 2 (a, b, c)',
    suffices: (shown) => shown.size >= 2,
    silent: { without: ['c'], blocked: ['b', 'c'] },
    gone: { without: ['a'], blocked: ['a', 'c'] },
  },
  {
    policy: 'ANY 1 (*)',
    suffices: (shown) => shown.size >= 1,
    silent: { without: ['a', 'c'], blocked: ['a', 'b', 'c'] },
    gone: { without: ['a', 'b'], blocked: ['a', 'b', 'c'] },
  },
];

/** Where the standbys are. */
const PLACES: readonly ('walcast' | 'primary')[] = FULL_FAULTS
  ? ['walcast', 'primary']
  : ['walcast'];

const SETTINGS = MAJORS.flatMap((major) => PLACES.map((place) => ({ major, place })));

describe.each(SETTINGS)('commits on PostgreSQL $major, standbys at $place', ({ major, place }) => {
  let rig: SyncRig;
  let commits: CommitSessions;

  beforeAll(async () => {
    rig = await openSyncRig({
      major,
      relays: place === 'walcast' ? [{ name: 'walcast' }] : [],
      standbys: NAMES.map((name) => ({ name, upstream: place })),
      primaryNames: place === 'walcast' ? 'walcast' : '',
    });
    commits = await CommitSessions.open(rig.primary);
  });

  afterAll(async () => {
    await commits[Symbol.asyncDispose]();
    await rig[Symbol.asyncDispose]();
  });

  /** Takes a policy into use, where the standbys are, and waits until it is fulfilled. */
  async function use(policy: string): Promise<void> {
    if (place === 'primary') await rig.setPrimaryNames(policy);
    else await rig.relay('walcast').reload({ synchronous_standby_names: policy });
    await commits.commitAll();
    await rig.settled();
  }

  function say(text: string): void {
    process.stderr.write(`PostgreSQL ${major}, standbys at ${place}: ${text}\n`);
  }

  async function leave(names: readonly string[], how: Absence): Promise<AwayStandby[]> {
    return await Promise.all(names.map((name) => rig.leave(name, how)));
  }

  /** Goes on without some, waits without others, goes on with the last of them alone. */
  async function withoutSome(
    {
      without,
      blocked,
    }: { readonly without: readonly string[]; readonly blocked: readonly string[] },
    how: Absence,
  ): Promise<string> {
    const dispensable = await leave(without, how);
    const goneOnMs = await commits.commitAll();
    for (const { back } of dispensable) await back();
    await rig.settled();

    const needed = await leave(blocked, how);
    const waiting = commits.beginAll();
    expect(await returnedWithout(rig, commits, { waiting, away: blocked })).toEqual([]);
    const last = needed.at(-1);
    if (last === undefined) throw new Error('nobody is needed');
    const releasedMs = await releasedAfter(waiting, last.back);
    expect(releasedMs).toBeLessThan(RELEASE_MS_MAX);
    for (const { back } of needed.slice(0, -1)) await back();
    await rig.settled();
    return `without ${without.join()} they go on in ${Math.round(goneOnMs)} ms; without ${blocked.join()} they wait, until ${releasedMs} ms after ${last.name} is back`;
  }

  describe.each(CASES)('$policy', ({ policy, suffices, silent, gone }) => {
    beforeAll(async () => {
      await use(policy);
    });

    it('return at remote_apply when the standbys that they wait for show what they wrote', async () => {
      const reads = await readOwnWrites(rig.primary, rig.standbys, {
        level: 'remote_apply',
        count: OWN_WRITES,
        suffices,
      });
      say(`${policy}: own writes ${JSON.stringify(reads)}`);
      expect(reads.misses).toEqual([]);
    });

    it('wait for standbys that are stopped', async () => {
      say(`${policy}, stopped: ${await withoutSome(silent, 'stopped')}`);
    });

    it('wait for standbys that are cut off', async () => {
      say(`${policy}, cut off: ${await withoutSome(silent, 'cut')}`);
    });

    it('go on with others when standbys are killed, and wait when too few are left', async () => {
      say(`${policy}, killed: ${await withoutSome(gone, 'killed')}`);
    });
  });
});
