// walcast behind another walcast, and behind a standby: does a promotion far upstream pass through, on the connection that
// is there?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseLsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { compareWal } from '../harness/compare-wal.ts';
import { openPromotionRig } from '../harness/promotion-rig.ts';
import type { PromotionRig } from '../harness/promotion-rig.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { newestMajors } from '../support/requirements.ts';

describe.each(newestMajors())('a promotion of PostgreSQL %i', (major) => {
  let rig: PromotionRig;
  let relays: readonly WalcastRelay[];

  beforeAll(async () => {
    rig = await openPromotionRig({ major });
    const behindWalcast = await createRelay(rig.workspace, {
      name: 'far',
      slot: 'far',
      upstream: () => rig.relay.target(),
    });
    const behindStandby = await createRelay(rig.workspace, {
      name: 'side',
      slot: 'side',
      upstream: () => rig.server('gamma').target(),
    });
    relays = [behindWalcast, behindStandby];
    for (const relay of relays) {
      await relay.start();
      await relay.waitForStatus('a stream', ({ state }) => state === 'streaming');
    }
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  it('is followed behind walcast and behind a standby, without a new connection', async () => {
    const [alpha, beta] = [rig.server('alpha'), rig.server('beta')];
    await alpha.query('CREATE TABLE before AS SELECT generate_series(1, 20000) AS i');
    await rig.caughtUp(beta);
    await alpha.kill();
    await rig.promote(beta);
    await rig.followed(2);
    await beta.query('CREATE TABLE after AS SELECT generate_series(1, 20000) AS i');
    const endLsn = await rig.settle();
    const { ancestors } = await rig.history();
    const switchLsn = ancestors[0]?.endLsn ?? null;
    for (const relay of relays) {
      const { store } = await relay.waitForStatus(
        'all of it',
        ({ timeline, store }) =>
          timeline === 2 && (parseLsn(store.flushed_lsn ?? '0/0') ?? 0n) >= endLsn,
      );
      const answer = await fetch(`${relay.url}/api/v1/upstream`);
      expect(await answer.json()).toMatchObject({
        timeline: 2,
        connects: { success: 1 },
        disconnects: { timeline_end: 1, eof: 0, error: 0 },
      });
      const span = {
        expected: beta.walDirectory,
        actual: relay.walDirectory,
        segmentSize: rig.segmentSize,
      };
      for (const [timeline, fromLsn, untilLsn] of [
        [1, parseLsn(store.oldest_lsn ?? '0/0'), switchLsn],
        [2, switchLsn, endLsn],
      ] as const) {
        if (fromLsn === null || untilLsn === null) throw new Error('no place to compare from');
        const of = { timeline: toTimelineId(timeline), fromLsn, untilLsn };
        const { differences, comparedBytes } = await compareWal({ ...span, ...of });
        expect(differences).toEqual([]);
        if (timeline === 2) expect(comparedBytes).toBeGreaterThan(0);
      }
      expect(relay.problems()).toEqual([]);
    }
    expect(await rig.violations(endLsn)).toEqual([]);
  });

  it('and then a commit that waits to be applied raises an alarm everywhere', async () => {
    const waiting = 'SET synchronous_commit = remote_apply; CREATE TABLE applied ()';
    await rig.primary.query(waiting);
    for (const relay of [rig.relay, ...relays]) {
      const status = await relay.waitForStatus('an alarm', ({ detail }) => detail !== null);
      expect(status).toMatchObject({ state: 'streaming' });
      expect(status.detail).toContain('synchronous_commit = remote_apply');
      expect(relay.problems()).toHaveLength(1);
    }
  });
});
