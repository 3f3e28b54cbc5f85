// Does a commit on the primary return exactly when the chosen standbys behind walcast have reached its level, whatever the
// policy; does it wait while they are away, and go on as soon as they are back? At length the same standbys are attached
// to the primary itself as well, with the same list: walcast is to do what PostgreSQL does.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { CommitSessions, readOwnWrites, returned } from '../harness/sync-commits.ts';
import { openSyncRig } from '../harness/sync-rig.ts';
import { RELEASE_MS_MAX, releasedAfter, returnedWithout } from '../harness/sync-waits.ts';
import type { Absence, AwayStandby, SyncRig } from '../harness/sync-rig.ts';
import { FULL_FAULTS, itWhen, NEWEST_MAJOR, newestOfEdges } from '../support/requirements.ts';

const MAJORS = newestOfEdges();
const OWN_WRITES = 200;
const SENDER_TIMEOUT_MS = 1_500;
const STREAMING = /started streaming WAL from primary/;
const NAMES = ['a', 'b', 'c'];

type Shown = ReadonlySet<string>;

interface PolicyCase {
  readonly policy: string;
  /** Those whose apply commits at remote_apply wait for. */
  readonly suffices: (shown: Shown) => boolean;
  /** Commits that are looked for, at length. */
  readonly ownWrites: number;
  /** Standbys that are connected and silent: without these commits go on, without those they wait, until the last is back. */
  readonly silent: { readonly without: readonly string[]; readonly blocked: readonly string[] };
  /** Likewise for standbys that are gone: others may take their place. */
  readonly gone: { readonly without: readonly string[]; readonly blocked: readonly string[] };
  /** Standbys are killed only where faults are injected at length. */
  readonly isLong?: boolean;
}

const CASES: readonly PolicyCase[] = [
  {
    policy: 'FIRST 1 (a, b)',
    suffices: (shown) => shown.has('a'),
    ownWrites: 5_000,
    silent: { without: ['b', 'c'], blocked: ['a'] },
    gone: { without: ['a', 'c'], blocked: ['a', 'b'] },
  },
  {
    policy: 'FIRST 2 (a, b, c)',
    suffices: (shown) => shown.has('a') && shown.has('b'),
    ownWrites: 1_500,
    silent: { without: ['c'], blocked: ['b'] },
    gone: { without: ['a'], blocked: ['a', 'b'] },
    isLong: true,
  },
  {
    policy: 'ANY 2 (a, b, c)',
    suffices: (shown) => shown.size >= 2,
    ownWrites: 1_500,
    silent: { without: ['c'], blocked: ['b', 'c'] },
    gone: { without: ['a'], blocked: ['a', 'c'] },
    isLong: true,
  },
  {
    policy: 'ANY 1 (*)',
    suffices: (shown) => shown.size >= 1,
    ownWrites: 1_500,
    silent: { without: ['a', 'c'], blocked: ['a', 'b', 'c'] },
    gone: { without: ['a', 'b'], blocked: ['a', 'b', 'c'] },
    isLong: true,
  },
];

/** At length the newest major is what most is done on, and what is compared with. */
const SETTINGS = MAJORS.flatMap((major) => {
  const isMain = FULL_FAULTS && major === NEWEST_MAJOR;
  const places: readonly ('walcast' | 'primary')[] = isMain ? ['walcast', 'primary'] : ['walcast'];
  return places.map((place) => ({
    major,
    place,
    isAtLength: isMain && place === 'walcast',
  }));
});

describe.each(SETTINGS)(
  'commits on PostgreSQL $major, standbys at $place',
  ({ major, place, isAtLength }) => {
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

    describe.each(CASES)('$policy', ({ policy, suffices, ownWrites, silent, gone, isLong }) => {
      const isKilled = FULL_FAULTS || isLong !== true;

      beforeAll(async () => {
        await use(policy);
      });

      it('return at remote_apply when the standbys that they wait for show what they wrote', async () => {
        const reads = await readOwnWrites(rig.primary, rig.standbys, {
          level: 'remote_apply',
          count: isAtLength ? ownWrites : OWN_WRITES,
          suffices,
        });
        say(`${policy}: own writes ${JSON.stringify(reads)}`);
        expect(reads.misses).toEqual([]);
      });

      if (FULL_FAULTS) {
        it('return at remote_apply likewise when several sessions commit at once', async () => {
          const all = await Promise.all(
            Array.from({ length: 4 }, () =>
              readOwnWrites(rig.primary, rig.standbys, {
                level: 'remote_apply',
                count: 200,
                suffices,
              }),
            ),
          );
          expect(all.flatMap(({ misses }) => misses)).toEqual([]);
        });
      }

      it('wait for standbys that are stopped', async () => {
        say(`${policy}, stopped: ${await withoutSome(silent, 'stopped')}`);
      });

      it('wait for standbys that are cut off', async () => {
        say(`${policy}, cut off: ${await withoutSome(silent, 'cut')}`);
      });

      itWhen(isKilled)(
        'go on with others when standbys are killed, and wait when too few are left',
        async () => {
          say(`${policy}, killed: ${await withoutSome(gone, 'killed')}`);
        },
      );
    });

    if (place === 'primary') return;

    describe('cut off for longer than wal_sender_timeout', () => {
      beforeAll(async () => {
        await rig.relay('walcast').reload({ wal_sender_timeout: `${SENDER_TIMEOUT_MS}ms` });
        // It is that of sessions that begin.
        for (const { name, log } of rig.standbys) {
          const from = log.mark();
          rig.proxy(name).cut('reset');
          await rig.standby(name).waitForLog(STREAMING, { from });
        }
      });

      it('the chosen one is waited for until then; the next one takes its place, until it is back', async () => {
        await use('FIRST 1 (a, b)');
        const cutMs = systemClock.nowMs();
        const { back } = await rig.leave('a', 'cut');
        const waiting = commits.beginAll();
        await returned(waiting);
        const tookMs = Math.round(systemClock.nowMs() - cutMs);
        say(`FIRST 1 (a, b), a cut off: they go on with b after ${tookMs} ms`);
        expect(tookMs).toBeGreaterThan(SENDER_TIMEOUT_MS / 2);
        expect(tookMs).toBeLessThan(SENDER_TIMEOUT_MS + 2 * RELEASE_MS_MAX);
        const from = rig.standby('a').log.mark();
        await back();
        await rig.standby('a').waitForLog(STREAMING, { from });
        await rig.settled();
        const reads = await readOwnWrites(rig.primary, rig.standbys, {
          level: 'remote_apply',
          count: 50,
          suffices: (shown) => shown.has('a'),
        });
        expect(reads.misses).toEqual([]);
      });

      it('commits wait on where nobody can take its place, and go on when it streams again', async () => {
        await use('FIRST 2 (a, b)');
        const { back } = await rig.leave('a', 'cut');
        const waiting = commits.beginAll();
        await rig
          .relay('walcast')
          .waitForStatus(
            'a to be let go',
            ({ standbys, upstream }) =>
              standbys.every(({ application_name: name }) => name !== 'a') &&
              upstream.reported.flush === null,
          );
        expect(await returnedWithout(rig, commits, { waiting, away: ['a'] })).toEqual([]);
        const from = rig.standby('a').log.mark();
        const releasedMs = await releasedAfter(waiting, async () => {
          await back();
          await rig.standby('a').waitForLog(STREAMING, { from });
        });
        say(`FIRST 2 (a, b), a let go: ${releasedMs} ms after it streams again`);
        expect(releasedMs).toBeLessThan(RELEASE_MS_MAX);
      });
    });
  },
);
