// One primary after another, with walcast in between: does everybody follow without anybody touching a standby, and is
// every byte and every acknowledged row where it should be?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { becomeNextTimeline, openPromotionRig } from '../harness/promotion-rig.ts';
import type { PromotionRig } from '../harness/promotion-rig.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import { installedMajors } from '../support/requirements.ts';

const COMMITS = 150;

describe.each(installedMajors())('three servers of PostgreSQL %i around walcast', (major) => {
  let rig: PromotionRig;

  beforeAll(async () => {
    rig = await openPromotionRig({ major });
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  it('change places in order: the other standby stays in its walreceiver, the old primary comes back as it is', async () => {
    const [alpha, beta, gamma] = [rig.server('alpha'), rig.server('beta'), rig.server('gamma')];
    const load = await startWriteLoad(alpha);
    await load.waitForCommits(COMMITS);
    const pid = await rig.receiverPid(gamma);
    await alpha.stop('fast');
    await load.stop();
    await rig.promote(beta);
    expect(await load.lostOn(beta)).toEqual([]);
    await rig.followed(2);
    await rig.rejoin(alpha);
    const next = await startWriteLoad(beta);
    await next.waitForCommits(COMMITS);
    await next.stop();
    const endLsn = await rig.settle();
    expect(await rig.receiverPid(gamma)).toBe(pid);
    expect(await next.lostOn(alpha)).toEqual([]);
    expect(await rig.violations(endLsn)).toEqual([]);
    expect(rig.relay.problems()).toEqual([]);
  });

  it('lose no row that walcast vouched for when the primary is killed, and do not follow it when it comes back', async () => {
    const [alpha, beta, gamma] = [rig.server('alpha'), rig.server('beta'), rig.server('gamma')];
    await beta.configure({ synchronous_standby_names: 'walcast' });
    await beta.reload();
    const load = await startWriteLoad(beta);
    await load.waitForCommits(COMMITS);
    const pid = await rig.receiverPid(alpha);
    await beta.kill();
    await load.stop();
    await rig.promote(gamma);
    expect(await load.lostOn(gamma)).toEqual([]);
    await rig.followed(3);
    const next = await startWriteLoad(gamma);
    await next.waitForCommits(COMMITS);

    // Without walcast its commits would wait for ever.
    await beta.configure({ synchronous_standby_names: '' });
    await beta.start();
    await beta.query('CREATE TABLE only_here AS SELECT generate_series(1, 1000)');
    await gamma.restart('fast');
    await rig.followed(3);
    expect(rig.relay.log.filter((line) => line.includes('an old primary came back'))).not.toEqual(
      [],
    );
    await beta.stop('fast');
    await next.waitForCommits(COMMITS);
    await next.stop();
    const endLsn = await rig.settle();
    expect(await rig.receiverPid(alpha)).toBe(pid);
    expect(await next.lostOn(alpha)).toEqual([]);
    expect(await rig.violations(endLsn)).toEqual([]);
    expect(rig.relay.problems()).toEqual([]);
  });

  it('are followed over two promotions that walcast did not see', async () => {
    const [alpha, gamma] = [rig.server('alpha'), rig.server('gamma')];
    await rig.relay.stop('SIGTERM');
    await becomeNextTimeline(gamma);
    await gamma.query('CREATE TABLE on_four AS SELECT generate_series(1, 20000) AS i');
    await gamma.query('SELECT pg_switch_wal()');
    await becomeNextTimeline(gamma);
    const load = await startWriteLoad(gamma);
    await rig.relay.start();
    await rig.followed(5);
    await load.waitForCommits(COMMITS);
    await load.stop();
    const endLsn = await rig.settle();
    expect(await load.lostOn(alpha)).toEqual([]);
    expect(await rig.violations(endLsn)).toEqual([]);
    const { ancestors } = await rig.history();
    expect(ancestors.map(({ timeline }) => timeline)).toEqual([1, 2, 3, 4]);
    expect(rig.relay.problems()).toEqual([]);
  });
});
