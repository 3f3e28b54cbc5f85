// One primary after another, with walcast in between: does everybody follow without anybody touching a standby, and is
// every byte and every acknowledged row where it should be?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentStartOf } from '../../src/pg/segment.ts';
import { becomeNextTimeline, openPromotionRig } from '../harness/promotion-rig.ts';
import type { PromotionRig } from '../harness/promotion-rig.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import {
  message,
  query,
  RawClient,
  rowValues,
  StreamReader,
  summary,
} from '../support/raw-client.ts';
import { newestMajors } from '../support/requirements.ts';

const COMMITS = 150;

describe.each(newestMajors())('three servers of PostgreSQL %i around walcast', (major) => {
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

  it('find of every timeline through walcast what the primary has, to the last byte of each answer', async () => {
    const { ancestors } = await rig.history();
    const { segmentSize } = rig;
    const commands = ['IDENTIFY_SYSTEM'];
    for (const { timeline, endLsn } of ancestors) {
      const before = segmentStartOf(endLsn, segmentSize) - 8192n;
      commands.push(
        `TIMELINE_HISTORY ${timeline + 1}`,
        `START_REPLICATION ${formatLsn(endLsn)} TIMELINE ${timeline}`,
        `START_REPLICATION ${formatLsn(toLsn(endLsn + 1n))} TIMELINE ${timeline}`,
        `START_REPLICATION ${formatLsn(toLsn(before))} TIMELINE ${timeline + 1}`,
      );
    }
    commands.push('START_REPLICATION 0/3000000 TIMELINE 9');
    const servers = [rig.primary, rig.relay];
    const [theirs, ours] = await Promise.all(servers.map(({ port }) => answersOf(port, commands)));
    expect(ours).toEqual(theirs);
    for (const [index, { timeline, endLsn }] of ancestors.entries()) {
      const begin = segmentStartOf(ancestors[index - 1]?.endLsn ?? endLsn, segmentSize);
      const [expected, actual] = await Promise.all(
        servers.map(({ port }) => wholeStream(port, begin, timeline)),
      );
      expect(actual?.end).toEqual(expected?.end);
      expect(actual?.wal.equals(expected?.wal ?? Buffer.alloc(0))).toBe(true);
      expect(actual?.wal.length).toBe(Number(endLsn - begin));
    }
  });
});

/** Every message of every answer, byte for byte; the position, which moves, is left out. */
async function answersOf(port: number, commands: readonly string[]): Promise<string[][]> {
  const { client } = await RawClient.standby(port, { user: 'postgres' });
  const answers: string[][] = [];
  for (const command of commands) {
    client.send(query(command));
    const messages = await client.until('Z');
    answers.push([
      command,
      ...messages.map((item) => {
        // An error's fields name lines of the server's source; and a server writes of its own accord.
        if (item.type === 'E') return summary(item);
        const isPosition = command === 'IDENTIFY_SYSTEM' && item.type === 'D';
        if (isPosition) return rowValues(item.body).slice(0, 2).join(' ');
        return `${item.type} ${item.body.toString('latin1')}`;
      }),
    ]);
  }
  client.close();
  return answers;
}

/** A timeline that was left, from `startLsn` to its end, and what is said there. */
async function wholeStream(
  port: number,
  startLsn: Lsn,
  timeline: number,
): Promise<{ wal: Buffer; end: string[] }> {
  const { client } = await RawClient.standby(port, { user: 'postgres' });
  client.send(query(`START_REPLICATION ${formatLsn(startLsn)} TIMELINE ${timeline}`));
  expect((await client.next())?.type).toBe('W');
  const reader = new StreamReader(client, startLsn);
  expect((await reader.nextOther())?.type).toBe('c');
  client.send(message('c'));
  const end = await client.answer();
  client.close();
  return { wal: reader.wal(), end };
}
