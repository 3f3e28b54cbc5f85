// Several relays between the primary and the standbys that commits wait for: one behind the other, side by side in the
// primary's list, and one whose place another standby takes while its own policy is not fulfilled.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import { CommitSessions, readOwnWrites, returned } from '../harness/sync-commits.ts';
import { openSyncRig } from '../harness/sync-rig.ts';
import type { SyncRig } from '../harness/sync-rig.ts';
import { RELEASE_MS_MAX, releasedAfter, returnedWithout } from '../harness/sync-waits.ts';
import { FULL_FAULTS, newestOfEdges } from '../support/requirements.ts';

const MAJORS = newestOfEdges();
const OWN_WRITES = FULL_FAULTS ? 1_000 : 50;
/** Of the standby that is attached to the primary; PostgreSQL's own is ten seconds. */
const STATUS_INTERVAL_S = FULL_FAULTS ? 10 : 1;
const LATE_MS = 1_000;
const WAIT_MS = 20_000;
const FAST_STOP_MS_MAX = 2_000;

// near and far in a row, with b behind both; left with a beside them; d at the primary itself.
describe.each(MAJORS)('commits on PostgreSQL %i through several relays', (major) => {
  let rig: SyncRig;
  let commits: CommitSessions;

  beforeAll(async () => {
    rig = await openSyncRig({
      major,
      relays: [
        {
          name: 'left',
          settings: { synchronous_standby_names: 'a', storage: { forward: 'flushed' } },
        },
        {
          name: 'near',
          settings: { synchronous_standby_names: 'far', storage: { verify: 'record' } },
        },
        { name: 'far', upstream: 'near', settings: { synchronous_standby_names: 'b' } },
      ],
      standbys: [
        { name: 'a', upstream: 'left' },
        { name: 'b', upstream: 'far' },
        {
          name: 'd',
          upstream: 'primary',
          settings: { wal_receiver_status_interval: `${STATUS_INTERVAL_S}s` },
        },
      ],
      primaryNames: '',
    });
    commits = await CommitSessions.open(rig.primary);
  });

  afterAll(async () => {
    await commits[Symbol.asyncDispose]();
    await rig[Symbol.asyncDispose]();
  });

  afterEach(async () => {
    await rig.settled();
    expect(rig.relays.flatMap((relay) => relay.problems())).toEqual([]);
  });

  function say(text: string): void {
    process.stderr.write(`PostgreSQL ${major}: ${text}\n`);
  }

  async function ownWrites(
    on: readonly PostgresCluster[],
    suffices: (shown: ReadonlySet<string>) => boolean,
  ): Promise<void> {
    const reads = await readOwnWrites(rig.primary, on, {
      level: 'remote_apply',
      count: OWN_WRITES,
      suffices,
    });
    say(`${await rig.primary.value('SHOW synchronous_standby_names')}: ${JSON.stringify(reads)}`);
    expect(reads.misses).toEqual([]);
  }

  /** Commits wait without this standby, and go on when it is back. */
  async function waitFor(
    name: string,
    how: 'stopped' | 'killed' | 'cut',
    othersAway: readonly string[] = [],
  ): Promise<void> {
    const { back } = await rig.leave(name, how);
    const waiting = commits.beginAll();
    const away = [name, ...othersAway];
    expect(await returnedWithout(rig, commits, { waiting, away })).toEqual([]);
    const releasedMs = await releasedAfter(waiting, back);
    say(`${releasedMs} ms after ${name}, which had been ${how}, is back`);
    expect(releasedMs).toBeLessThan(RELEASE_MS_MAX);
  }

  /** Waits until the primary counts these as it says: application_name and sync_state. */
  async function countedAs(states: Readonly<Record<string, string>>): Promise<void> {
    const sql = 'SELECT application_name, sync_state FROM pg_stat_replication';
    let last: Record<string, string> = {};
    await pollUntil(
      `${JSON.stringify(states)} at the primary`,
      async () => {
        const rows = await rig.primary.query(sql);
        last = Object.fromEntries(rows.map(([name = '', state = '']) => [name, state]));
        return Object.entries(states).every(([name, state]) => last[name] === state) ? true : null;
      },
      { timeoutMs: WAIT_MS },
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}; last: ${JSON.stringify(last)}\n${rig.explain()}`, {
        cause: error,
      });
    });
  }

  describe('two in a row', () => {
    beforeAll(async () => {
      await rig.setPrimaryNames('near');
      await commits.commitAll();
    });

    it('return at remote_apply when the standby behind both shows what they wrote', async () => {
      await ownWrites([rig.standby('b')], (shown) => shown.has('b'));
    });

    it('wait for the standby behind both', async () => {
      await waitFor('b', 'stopped');
      await waitFor('b', 'cut');
      await waitFor('b', 'killed');
    });

    it.each(['near', 'far'])(
      'wait for %s while it is stopped, and after it was killed',
      async (name) => {
        const relay = rig.relay(name);
        signalProcess(relay.process.pid, 'SIGSTOP');
        const waiting = commits.beginAll();
        await commits.untilWaiting(waiting);
        const goOn = async (): Promise<void> => signalProcess(relay.process.pid, 'SIGCONT');
        const releasedMs = await releasedAfter(waiting, goOn);
        expect(releasedMs).toBeLessThan(RELEASE_MS_MAX);

        await relay.kill();
        const others = commits.beginAll();
        await commits.untilWaiting(others);
        // Nobody can have confirmed anything before they all stream again.
        const releasedLaterMs = await releasedAfter(others, async () => {
          await relay.start();
          for (const each of [rig.relay('near'), rig.relay('far')])
            await each.waitForStatus(`${each.name} streaming`, ({ state, standbys }) =>
              [state, standbys[0]?.state].every((which) => which === 'streaming'),
            );
        });
        say(
          `${releasedMs} ms after ${name} went on, ${releasedLaterMs} ms after it was started again`,
        );
        expect(releasedLaterMs).toBeLessThan(RELEASE_MS_MAX);
      },
    );
  });

  describe('two side by side, each with a policy', () => {
    it('both of them: return when a standby of each has reached the level', async () => {
      await rig.setPrimaryNames('FIRST 2 (left, near)');
      await commits.commitAll();
      await ownWrites([rig.standby('a'), rig.standby('b')], (shown) => shown.size === 2);
      await waitFor('a', 'stopped');
      await waitFor('b', 'killed');
    });

    it('either of them: return when a standby of one of them has', async () => {
      await rig.setPrimaryNames('ANY 1 (left, near)');
      await commits.commitAll();
      const ours = [rig.standby('a'), rig.standby('b')];
      await ownWrites(ours, (shown) => shown.size >= 1);
      const { back } = await rig.leave('a', 'stopped');
      await commits.commitAll();
      await waitFor('b', 'killed', ['a']);
      await back();
    });
  });

  describe('one whose place a standby of the primary can take', () => {
    beforeAll(async () => {
      await rig.setPrimaryNames('FIRST 1 (left, d)');
      await commits.commitAll();
    });

    it('go on with that standby while the policy of walcast is not fulfilled', async () => {
      await countedAs({ left: 'sync', d: 'potential' });
      const silent = await rig.leave('a', 'stopped');
      const waiting = commits.beginAll();
      expect(await returnedWithout(rig, commits, { waiting, away: ['a'] })).toEqual([]);
      // Connected and silent it is waited for. Once it is gone, the primary looks at the waiting ones when d next says
      // something: at its interval where nothing else is written.
      await rig.standby('a').kill();
      const goneOnMs = await releasedAfter(
        waiting,
        () => countedAs({ d: 'sync' }),
        STATUS_INTERVAL_S * 1000 + WAIT_MS,
      );
      say(
        `${goneOnMs} ms after walcast's last standby went, with the interval of the other one at ${STATUS_INTERVAL_S} s`,
      );
      expect(goneOnMs).toBeLessThan(STATUS_INTERVAL_S * 1000 + LATE_MS);
      // From then on nothing is late.
      const nextMs = await commits.commitAll();
      say(`the next commits take ${Math.round(nextMs)} ms`);
      expect(nextMs).toBeLessThan(RELEASE_MS_MAX);
      await ownWrites([rig.standby('d')], (shown) => shown.has('d'));
      await silent.back();
      await rig.standby('a').start();
      await countedAs({ left: 'sync', d: 'potential' });
      await waitFor('a', 'stopped');
    });

    it('go on at once where somebody else commits', async () => {
      await countedAs({ left: 'sync', d: 'potential' });
      const waiter = await CommitSessions.open(rig.primary);
      await using _ = waiter;
      await rig.leave('a', 'stopped');
      const waiting = waiter.beginAll();
      await waiter.untilWaiting(waiting);
      await rig.standby('a').kill();
      await countedAs({ d: 'sync' });
      const releasedMs = await releasedAfter(waiting, async () => void (await commits.commitAll()));
      say(`${releasedMs} ms after the commit of somebody else`);
      expect(releasedMs).toBeLessThan(RELEASE_MS_MAX);
      await rig.standby('a').start();
      await countedAs({ left: 'sync' });
    });

    it('go on with that standby while walcast is not there', async () => {
      const relay = rig.relay('left');
      await relay.kill();
      await countedAs({ d: 'sync' });
      await returned(commits.beginAll());
      await ownWrites([rig.standby('d')], (shown) => shown.has('d'));
      await relay.start();
      await countedAs({ left: 'sync', d: 'potential' });
    });
  });

  it('end with the primary within two seconds, although the standbys behind all of them are stopped', async () => {
    await rig.setPrimaryNames('FIRST 2 (left, near)');
    await commits.commitAll();
    const away = [await rig.leave('a', 'stopped'), await rig.leave('b', 'stopped')];
    const waiting = commits.beginAll();
    await commits.untilWaiting(waiting);
    const startedMs = systemClock.nowMs();
    await rig.primary.stop('fast');
    const tookMs = Math.round(systemClock.nowMs() - startedMs);
    say(`fast stop in ${tookMs} ms`);
    for (const { back } of away) await back();
    await rig.primary.start();
    expect(tookMs).toBeLessThan(FAST_STOP_MS_MAX);
  });
});
