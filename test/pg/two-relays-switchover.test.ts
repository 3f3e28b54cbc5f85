// A primary that changes while two walcasts stand side by side: both follow, and standbys come in by themselves although the
// relays are on different timelines for a while. (F26, F27, F28)
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { becomeNextTimeline } from '../harness/promotion-rig.ts';
import { openRelaysRig } from '../harness/relays-rig.ts';
import type { RelaysRig } from '../harness/relays-rig.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import {
  EDGE_MAJORS,
  FULL_FAULTS,
  installedMajors,
  NEWEST_MAJOR,
} from '../support/requirements.ts';

const COMMITS = 50;
/** What a standby says that finds its server on an older timeline. (walreceiver.c:WalReceiverMain) */
const SERVER_IS_BEHIND = /highest timeline \d+ of the primary is behind recovery timeline \d+/;

const MAJORS = installedMajors().filter((major) =>
  (FULL_FAULTS ? EDGE_MAJORS : [NEWEST_MAJOR]).includes(major),
);

describe.each(MAJORS)('three servers of PostgreSQL %i around two relays', (major) => {
  let rig: RelaysRig;
  let relayA: WalcastRelay;
  let relayB: WalcastRelay;

  beforeAll(async () => {
    rig = await openRelaysRig({
      major,
      segmentSizeMb: 1,
      relays: [{ name: 'relay_a' }, { name: 'relay_b', isProxied: true }],
      servers: [
        { name: 'alpha', relays: ['relay_b', 'relay_a'] },
        { name: 'beta', relays: ['relay_a', 'relay_b'] },
        { name: 'gamma', relays: ['relay_a', 'relay_b'] },
      ],
    });
    [relayA, relayB] = [rig.relay('relay_a'), rig.relay('relay_b')];
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  /** relay_b reaches nobody any more, or everybody again. */
  function cutOff(isCutOff: boolean): void {
    for (const proxy of rig.proxies('relay_b')) {
      proxy.refuse(isCutOff);
      if (isCutOff) proxy.cut('reset');
    }
  }

  it('change places in order: both relays follow, and the old primary comes back behind the other one as it is', async () => {
    const [alpha, beta, gamma] = [rig.server('alpha'), rig.server('beta'), rig.server('gamma')];
    const load = await startWriteLoad(alpha);
    await load.waitForCommits(COMMITS);
    const pid = await rig.receiverPid(gamma, relayA);
    await alpha.stop('fast');
    await load.stop();
    await rig.promote(beta);
    expect(await load.lostOn(beta)).toEqual([]);
    await rig.followed(2);
    await rig.rejoin(alpha);
    await rig.receiverPid(alpha, relayB);
    const next = await startWriteLoad(beta);
    await next.waitForCommits(COMMITS);
    await next.stop();
    const endLsn = await rig.settle();
    expect(await rig.receiverPid(gamma, relayA)).toBe(pid);
    expect(await next.lostOn(alpha)).toEqual([]);
    expect(await rig.violations(endLsn)).toEqual([]);
  });

  it('lose no row that either relay vouched for when the primary is killed while one relay is cut off', async () => {
    const [alpha, beta, gamma] = [rig.server('alpha'), rig.server('beta'), rig.server('gamma')];
    await beta.configure({ synchronous_standby_names: 'ANY 1 (relay_a, relay_b)' });
    await beta.reload();
    await beta.waitForValue('SHOW synchronous_standby_names', 'ANY 1 (relay_a, relay_b)');
    const load = await startWriteLoad(beta);
    await load.waitForCommits(COMMITS);
    cutOff(true);
    // Without relay_b.
    await load.waitForCommits(COMMITS);
    await beta.kill();
    await load.stop();
    await rig.promote(gamma);
    expect(await load.lostOn(gamma)).toEqual([]);
    await rig.followed(3, [relayA]);
    const next = await startWriteLoad(gamma);
    await next.waitForCommits(COMMITS);
    cutOff(false);
    await rig.followed(3);

    // Without the relays its commits would wait for ever.
    await beta.configure({ synchronous_standby_names: '' });
    await beta.start();
    await beta.query('CREATE TABLE only_here AS SELECT generate_series(1, 1000)');
    await gamma.restart('fast');
    await rig.followed(3);
    for (const relay of rig.relays) {
      expect(relay.log.join('\n')).toContain('an old primary came back');
    }
    await beta.stop('fast');
    await next.waitForCommits(COMMITS);
    await next.stop();
    const endLsn = await rig.settle();
    expect(await next.lostOn(alpha)).toEqual([]);
    // While the new primary restarts there may be nobody but the old one, and that is what a relay says then.
    const isRefusal = (text: string): boolean => text.includes('"held":"diverged"');
    const found = await rig.violations(endLsn);
    expect(found.filter((text) => !isRefusal(text))).toEqual([]);
  });

  it('are followed over two promotions that one relay did not see; a standby that comes to it before it has followed comes in by itself', async () => {
    const [alpha, gamma] = [rig.server('alpha'), rig.server('gamma')];
    await relayB.stop('SIGTERM');
    await rig.receiverPid(alpha, relayA);
    await becomeNextTimeline(gamma);
    await gamma.query('CREATE TABLE on_four AS SELECT generate_series(1, 20000) AS i');
    await becomeNextTimeline(gamma);
    await rig.followed(5, [relayA]);
    await rig.caughtUp(alpha);
    await rig.receiverPid(alpha, relayA);

    cutOff(true);
    await relayB.start();
    expect((await relayB.status()).timeline).toBe(3);
    const mark = alpha.log.mark();
    await relayA.kill();
    await alpha.waitForLog(SERVER_IS_BEHIND, { from: mark });
    cutOff(false);
    await rig.followed(5, [relayB]);
    await rig.receiverPid(alpha, relayB);
    const load = await startWriteLoad(gamma);
    await load.waitForCommits(COMMITS);
    await relayA.start();
    await rig.followed(5);
    await load.stop();
    const endLsn = await rig.settle();
    expect(await load.lostOn(alpha)).toEqual([]);
    expect(await rig.violations(endLsn)).toEqual([]);
  });
});
