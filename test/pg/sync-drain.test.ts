// walcast is told to end while commits of a real primary wait for a standby behind it: does the standby's word still reach
// the primary, and does nothing else?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CommitSessions, returned } from '../harness/sync-commits.ts';
import { openSyncRig } from '../harness/sync-rig.ts';
import type { SyncRig } from '../harness/sync-rig.ts';
import { RELEASE_MS_MAX, releasedAfter, returnedWithout } from '../harness/sync-waits.ts';
import { newestOfEdges } from '../support/requirements.ts';

const MAJORS = newestOfEdges();

describe.each(MAJORS)('SIGTERM with a policy, PostgreSQL %i', (major) => {
  let rig: SyncRig;
  let commits: CommitSessions;

  beforeAll(async () => {
    rig = await openSyncRig({
      major,
      relays: [
        {
          name: 'walcast',
          settings: { synchronous_standby_names: 'a', drain_timeout: '20s' },
        },
      ],
      standbys: [{ name: 'a', upstream: 'walcast' }],
      primaryNames: 'walcast',
    });
    commits = await CommitSessions.open(rig.primary);
    await commits.commitAll();
  });

  afterAll(async () => {
    await commits[Symbol.asyncDispose]();
    await rig[Symbol.asyncDispose]();
  });

  it('lets commits go that the standby confirms to the last, and none that come later', async () => {
    const relay = rig.relay('walcast');
    const { back } = await rig.leave('a', 'stopped');
    const waiting = [commits.begin('remote_write'), commits.begin('on')];
    expect(await returnedWithout(rig, commits, { waiting, away: ['a'] })).toEqual([]);
    const from = relay.process.log.length;
    const ended = relay.stop();
    await relay.process.waitForLog(/"draining"/, { from });
    expect(waiting.every(({ doneMs }) => doneMs === null)).toBe(true);
    const tookMs = await releasedAfter(waiting, back);
    expect(tookMs).toBeLessThan(RELEASE_MS_MAX);
    expect(await ended).toMatchObject({ exitCode: 0 });
    const later = [commits.begin('remote_write'), commits.begin('on')];
    await commits.untilWaiting(later);
    await relay.start();
    await returned(later);
    expect(later.every(({ doneMs }) => doneMs !== null)).toBe(true);
  });
});
