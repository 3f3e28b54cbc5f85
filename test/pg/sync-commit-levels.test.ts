// remote_write, on and remote_apply are three things: does a commit at each wait for its own one on the standby behind walcast,
// and not for the next? And what becomes of commits that wait when the policy changes, or when one of them is cancelled?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTool } from '../harness/pg-tools.ts';
import type { RunningTool } from '../harness/pg-tools.ts';
import { slowDownFsync } from '../harness/slow-fsync.ts';
import { CommitSessions, LEVELS, returned } from '../harness/sync-commits.ts';
import type { CommitLevel } from '../harness/sync-commits.ts';
import { openSyncRig } from '../harness/sync-rig.ts';
import type { SyncRig } from '../harness/sync-rig.ts';
import { RELEASE_MS_MAX, releasedAfter, returnedWithout } from '../harness/sync-waits.ts';
import {
  clientMajor,
  FULL_FAULTS,
  itWhen,
  NEWEST_MAJOR,
  newestOfEdges,
  requires,
} from '../support/requirements.ts';

const MAJORS = newestOfEdges();
/** How much longer one stage on a standby takes; a commit that does not wait for it takes less than half of it. */
const DELAY_MS = 1_200;
const CANCELLED = /WARNING: {2}canceling wait for synchronous replication due to user request/;
/** At length standbys at the primary itself show that the tests ask for what PostgreSQL does. */
const SETTINGS = MAJORS.flatMap((major) => {
  const isCompared = FULL_FAULTS && major === NEWEST_MAJOR;
  const places: readonly ('walcast' | 'primary')[] = isCompared
    ? ['walcast', 'primary']
    : ['walcast'];
  return places.map((place) => ({ major, place }));
});

function open(major: number, place: 'walcast' | 'primary'): Promise<SyncRig> {
  return openSyncRig({
    major,
    relays: place === 'walcast' ? [{ name: 'walcast', settings: { drain_timeout: '500ms' } }] : [],
    standbys: ['a', 'b'].map((name) => ({ name, upstream: place })),
    primaryNames: place === 'walcast' ? 'walcast' : 'FIRST 1 (a)',
  });
}

describe.each(SETTINGS)(
  'FIRST 1 (a) on PostgreSQL $major, standbys at $place',
  ({ major, place }) => {
    let rig: SyncRig;
    let commits: CommitSessions;

    beforeAll(async () => {
      rig = await open(major, place);
      if (place === 'walcast')
        await rig.relay('walcast').reload({ synchronous_standby_names: 'FIRST 1 (a)' });
      commits = await CommitSessions.open(rig.primary);
      await commits.commitAll();
    });

    afterAll(async () => {
      await commits[Symbol.asyncDispose]();
      await rig[Symbol.asyncDispose]();
    });

    /** Commits at each level, each when the one before has come to its end on the standby; milliseconds of each. */
    async function timesOfEach(): Promise<Record<CommitLevel, number>> {
      const took = { remote_write: 0, on: 0, remote_apply: 0 };
      for (const level of LEVELS) {
        took[level] = Math.round(await commits.begin(level).ended);
        await rig.settled();
      }
      process.stderr.write(
        `PostgreSQL ${major}, standbys at ${place}: ms ${JSON.stringify(took)}\n`,
      );
      return took;
    }

    it('remote_apply waits for a standby that applies late, the others do not', async () => {
      const a = rig.standby('a');
      await a.configure({ recovery_min_apply_delay: `${DELAY_MS}ms` });
      await a.reload();
      await a.waitForValue('SHOW recovery_min_apply_delay', `${DELAY_MS}ms`);
      const took = await timesOfEach();
      await a.configure({ recovery_min_apply_delay: null });
      await a.reload();
      await rig.settled();
      expect(took.remote_write).toBeLessThan(DELAY_MS / 2);
      expect(took.on).toBeLessThan(DELAY_MS / 2);
      expect(took.remote_apply).toBeGreaterThan(DELAY_MS - 50);
    });

    it('remote_apply alone waits for a standby whose recovery is stopped', async () => {
      const goOn = await rig.stopProcess('a', 'startup');
      const durable = [commits.begin('remote_write'), commits.begin('on')];
      const waiting = [commits.begin('remote_apply')];
      await returned(durable);
      expect(await returnedWithout(rig, commits, { waiting, away: ['a'] })).toEqual([]);
      expect(await releasedAfter(waiting, goOn)).toBeLessThan(RELEASE_MS_MAX);
    });

    requires('strace').it(
      'on waits for the disk of the standby, remote_write does not',
      async () => {
        const stop = await slowDownFsync(await rig.processOf('a', 'walreceiver'), DELAY_MS);
        const took = await timesOfEach();
        await stop();
        expect(took.remote_write).toBeLessThan(DELAY_MS / 2);
        expect(took.on).toBeGreaterThan(DELAY_MS - 50);
        // What is not on the disk is not applied.
        expect(took.remote_apply).toBeGreaterThan(DELAY_MS - 50);
      },
    );

    if (place === 'walcast' && FULL_FAULTS) {
      requires('strace').it("on and remote_apply wait for walcast's own disk, too", async () => {
        const stop = await slowDownFsync(rig.relay('walcast').process.pid, DELAY_MS);
        const took = await timesOfEach();
        await stop();
        expect(took.remote_write).toBeLessThan(DELAY_MS / 2);
        expect(took.on).toBeGreaterThan(DELAY_MS / 2);
        expect(took.remote_apply).toBeGreaterThan(DELAY_MS / 2);
      });
    }

    it('one that is cancelled while it waits returns with a warning, and changes nothing for the others', async () => {
      const { back } = await rig.leave('a', 'stopped');
      const waiting = commits.beginAll();
      expect(await returnedWithout(rig, commits, { waiting, away: ['a'] })).toEqual([]);
      const reported = async (): Promise<unknown> =>
        await Promise.all(
          rig.relays.map(async (relay) => (await relay.status()).upstream.reported),
        );
      const before = await reported();
      const from = rig.primary.log.mark();
      const cancelled = waiting.filter(({ level }) => level === 'on');
      for (const commit of cancelled) await commits.cancel(commit);
      // It is committed on the primary, whatever the standbys have.
      await returned(cancelled);
      await rig.primary.waitForLog(CANCELLED, { from });
      const others = waiting.filter(({ level }) => level !== 'on');
      expect(await returnedWithout(rig, commits, { waiting: others, away: ['a'] })).toEqual([]);
      expect(await reported()).toEqual(before);
      expect(await releasedAfter(others, back)).toBeLessThan(RELEASE_MS_MAX);
      await commits.commitAll();
    });
  },
);

describe.each(MAJORS)('commits on PostgreSQL %i that wait when the policy changes', (major) => {
  let rig: SyncRig;
  let commits: CommitSessions;

  beforeAll(async () => {
    rig = await open(major, 'walcast');
    commits = await CommitSessions.open(rig.primary);
  });

  afterAll(async () => {
    await commits[Symbol.asyncDispose]();
    await rig[Symbol.asyncDispose]();
  });

  const policy = async (names: string): Promise<void> => {
    await rig.relay('walcast').reload({ synchronous_standby_names: names });
  };

  function say(what: string, releasedMs: number): void {
    process.stderr.write(`PostgreSQL ${major}: ${releasedMs} ms after ${what}\n`);
  }

  it('without a policy remote_apply waits for ever, and walcast says so; the others need no standby', async () => {
    await commits.begin('on').ended;
    const away = [await rig.leave('a', 'stopped'), await rig.leave('b', 'stopped')];
    await returned([commits.begin('remote_write'), commits.begin('on')]);
    const waiting = [commits.begin('remote_apply')];
    expect(await returnedWithout(rig, commits, { waiting, away: ['a', 'b'] })).toEqual([]);
    for (const { back } of away) await back();
    expect(await returnedWithout(rig, commits, { waiting, away: [] })).toEqual([]);
    await rig.relay('walcast').process.waitForLog(/remote_apply/);
    // A policy is all it lacks: no WAL comes, and no standby says anything new.
    const releasedMs = await releasedAfter(waiting, () => policy('FIRST 1 (a)'));
    say('a policy was given', releasedMs);
    expect(releasedMs).toBeLessThan(RELEASE_MS_MAX);
  });

  it('go on when a standby is named that has what they wait for', async () => {
    await policy('FIRST 1 (a)');
    const { back } = await rig.leave('a', 'stopped');
    const waiting = commits.beginAll();
    expect(await returnedWithout(rig, commits, { waiting, away: ['a'] })).toEqual([]);
    const releasedMs = await releasedAfter(waiting, () => policy('FIRST 1 (b)'));
    say('another standby was named', releasedMs);
    expect(releasedMs).toBeLessThan(RELEASE_MS_MAX);
    await back();
    await rig.settled();
  });

  it('at remote_write and on go on when the policy is taken away, at remote_apply with the next one', async () => {
    await policy('ANY 2 (a, b)');
    await commits.commitAll();
    const { back } = await rig.leave('b', 'stopped');
    const waiting = commits.beginAll();
    expect(await returnedWithout(rig, commits, { waiting, away: ['b'] })).toEqual([]);
    const own = waiting.filter(({ level }) => level !== 'remote_apply');
    const apply = waiting.filter(({ level }) => level === 'remote_apply');
    const ownMs = await releasedAfter(own, () => policy(''));
    say('the policy was taken away', ownMs);
    expect(ownMs).toBeLessThan(RELEASE_MS_MAX);
    expect(await returnedWithout(rig, commits, { waiting: apply, away: ['b'] })).toEqual([]);
    const applyMs = await releasedAfter(apply, () => policy('ANY 1 (a, b)'));
    say('one standby was made enough', applyMs);
    expect(applyMs).toBeLessThan(RELEASE_MS_MAX);
    await back();
    await rig.settled();
  });

  it.each<NodeJS.Signals>(FULL_FAULTS ? ['SIGTERM', 'SIGINT', 'SIGKILL'] : ['SIGTERM'])(
    'are not released by a walcast that ends at %s while the standby has less, and go on when both are back',
    async (signal) => {
      await policy('FIRST 1 (a)');
      await commits.commitAll();
      const { back } = await rig.leave('a', 'stopped');
      const waiting = commits.beginAll();
      expect(await returnedWithout(rig, commits, { waiting, away: ['a'] })).toEqual([]);
      const relay = rig.relay('walcast');
      await relay.stop(signal);
      await relay.start();
      expect(await returnedWithout(rig, commits, { waiting, away: ['a', 'b'] })).toEqual([]);
      await back();
      const relayMs = await releasedAfter(waiting, async () => {
        await relay.waitForStatus('a streaming', ({ standbys }) =>
          standbys.some(
            ({ application_name: name, state }) => name === 'a' && state === 'streaming',
          ),
        );
      });
      say(`walcast ended at ${signal} and a streams again`, relayMs);
      expect(relayMs).toBeLessThan(RELEASE_MS_MAX);
      await rig.settled();
    },
  );

  it('wait while nobody of the policy is there, also those that come later, and go on when somebody is named', async () => {
    await policy('FIRST 1 (a)');
    await commits.commitAll();
    await policy('FIRST 2 (nobody, a)');
    const waiting = commits.beginAll();
    expect(await returnedWithout(rig, commits, { waiting, away: [] })).toEqual([]);
    expect((await rig.relay('walcast').status()).upstream.reported).toMatchObject({
      flush: null,
      apply: null,
    });
    const releasedMs = await releasedAfter(waiting, () => policy('FIRST 2 (a, nobody, b)'));
    say('enough of those who are there were named', releasedMs);
    expect(releasedMs).toBeLessThan(RELEASE_MS_MAX);
  });

  itWhen(major <= clientMajor('pg_receivewal'))(
    'go on with a pg_receivewal that confirms what it has flushed, but for remote_apply: it applies nothing',
    async () => {
      await policy('pg_receivewal');
      const waiting = commits.beginAll();
      const archive = async (...more: readonly string[]): Promise<RunningTool> => {
        const { port } = rig.relay('walcast').target();
        const directory = await rig.workspace.makeDirectory(`archive${more.length}`);
        const where = ['-h', '127.0.0.1', '-p', `${port}`, '-U', 'postgres', '-w'];
        return startTool(rig.workspace, 'pg_receivewal', [...where, '-D', directory, ...more]);
      };
      const silent = await archive();
      await rig
        .relay('walcast')
        .waitForStatus('pg_receivewal', ({ standbys }) =>
          standbys.some(
            ({ application_name: name, write_lsn: lsn }) =>
              name === 'pg_receivewal' && lsn !== null,
          ),
        );
      expect(await returnedWithout(rig, commits, { waiting, away: [] })).toEqual([]);
      await silent.stop();
      const durable = waiting.filter(({ level }) => level !== 'remote_apply');
      const apply = waiting.filter(({ level }) => level === 'remote_apply');
      const speaking = await archive('--synchronous');
      await returned(durable);
      expect(await returnedWithout(rig, commits, { waiting: apply, away: [] })).toEqual([]);
      await releasedAfter(apply, () => policy('FIRST 1 (a)'));
      await speaking.stop();
    },
  );
});
