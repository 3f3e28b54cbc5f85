// What can a standby behind walcast reach by saying what is not true? Nothing: no commit returns for it, no position and no
// slot moves, and nobody loses what protects him.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { advanceLsn, formatLsn, INVALID_LSN, parseLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import type { SlotJson } from '../../src/http/api-types.ts';
import { EVERYTHING, LyingStandby } from '../harness/lying-standby.ts';
import { CommitSessions, LEVELS, returned } from '../harness/sync-commits.ts';
import type { SentCommit } from '../harness/sync-commits.ts';
import { openClientsRig, writeWal } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { query, RawClient } from '../support/raw-client.ts';
import { newestOfEdges } from '../support/requirements.ts';

/** Nothing may happen in this time: the only wait that no event ends. */
const HOLD_MS = 250;

/** So much that one who does not read is not sent all of it. */
const MORE_THAN_SOCKETS_MB = 24;

/** Under each of these commits need one who tells the truth, and nobody does. */
const POLICIES = [
  'FIRST 1 (liar)',
  'FIRST 1 (liar, honest)',
  'FIRST 1 (honest, liar)',
  'FIRST 2 (liar, honest)',
  'ANY 1 (honest, liar)',
  'ANY 2 (honest, liar)',
  '*',
  'ANY 1 (*)',
] as const;

/** Claims of one who has not been sent the WAL that a commit waits for. */
const LIES = [
  { write: EVERYTHING, flush: EVERYTHING, apply: EVERYTHING },
  { write: 1n, flush: EVERYTHING, apply: 1n },
  { write: 1n, flush: 1n, apply: EVERYTHING },
  { write: EVERYTHING, flush: 1n, apply: 1n },
] as const;

describe.each(newestOfEdges())('standbys that lie to walcast behind PostgreSQL %i', (major) => {
  let rig: ClientsRig;
  let commits: CommitSessions;
  let honest: LyingStandby;
  let liar: LyingStandby;

  beforeAll(async () => {
    rig = await openClientsRig({
      major,
      // The age that no standby of these tests may reach by waiting.
      relaySettings: {
        max_feedback_xmin_age: 1000,
        upstream: { wal_receiver_status_interval: '1s' },
      },
      prepare: async (primary) => {
        await primary.query('CREATE TABLE commits (id bigint PRIMARY KEY)');
        await primary.query('CREATE TABLE clients_filler (filler text)');
      },
    });
    commits = await CommitSessions.open(rig.primary);
  });

  afterAll(async () => {
    await commits[Symbol.asyncDispose]();
    await rig[Symbol.asyncDispose]();
  });

  /** A standby that streams and has confirmed everything there is. */
  async function join(name: string, slot?: string): Promise<LyingStandby> {
    const standby = await LyingStandby.connect(rig.relay.port, name);
    const endLsn = await onDisk();
    await standby.start(toLsn(endLsn - (endLsn % 8192n)), slot);
    await standby.received(endLsn);
    await standby.confirm();
    return standby;
  }

  /** The primary's end of WAL, once walcast has it on its disk. */
  async function onDisk(): Promise<Lsn> {
    const endLsn = await rig.primary.walPosition();
    await rig.relay.waitForStatus(
      `everything before ${formatLsn(endLsn)} on the disk`,
      ({ store }) => lsnOf(store.flushed_lsn) >= endLsn,
    );
    return endLsn;
  }

  async function use(policy: string): Promise<void> {
    await rig.relay.reload({ synchronous_standby_names: policy });
  }

  /** Whom the primary's commits wait for; '' lets go of all that wait. */
  async function waitFor(names: 'walcast' | ''): Promise<void> {
    await rig.primary.configure({ synchronous_standby_names: names });
    await rig.primary.reload();
    await rig.primary.waitForValue('SHOW synchronous_standby_names', names, 30_000);
  }

  /** Of commits that must wait, those that have returned after everything had its time. */
  async function returnedWrongly(waiting: readonly SentCommit[]): Promise<string[]> {
    await onDisk();
    await new Promise<void>((resolve) => systemClock.setTimer(HOLD_MS, resolve));
    return waiting.filter(({ doneMs }) => doneMs !== null).map(({ level }) => level);
  }

  /** What walcast has told the primary last. */
  async function reported(): Promise<{ write: Lsn; flush: Lsn; apply: Lsn }> {
    const { upstream } = await rig.relay.status();
    const { write, flush, apply } = upstream.reported;
    return { write: lsnOf(write), flush: lsnOf(flush), apply: lsnOf(apply) };
  }

  /** Has walcast seen it among those who wait, so that a policy looks at it? */
  async function isSeen(name: string, check: (flush: Lsn, sent: Lsn) => boolean): Promise<void> {
    await rig.relay.waitForStatus(`what ${name} says`, ({ standbys }) =>
      standbys.some(
        (one) => one.application_name === name && check(lsnOf(one.flush_lsn), lsnOf(one.sent_lsn)),
      ),
    );
  }

  describe('about positions', () => {
    beforeAll(async () => {
      honest = await join('honest');
      liar = await join('liar');
      await waitFor('walcast');
    });

    afterAll(async () => {
      await waitFor('');
      honest.close();
      liar.close();
      await use('');
    });

    it.each(POLICIES)('release no commit that comes after the lie under %s', async (policy) => {
      await use(policy);
      await liar.confirm();
      await honest.confirm();
      for (const lie of LIES) await liar.say(lie);
      await liar.say({ write: EVERYTHING, flush: EVERYTHING, apply: EVERYTHING });
      const waiting = commits.beginAll();
      await commits.untilWaiting(waiting);
      const endLsn = await onDisk();
      await liar.received(endLsn);
      expect(await returnedWrongly(waiting)).toEqual([]);
      const told = await reported();
      expect(told.flush).toBeLessThan(endLsn);
      // The truth of both is what they wait for.
      await liar.confirm();
      await honest.received(endLsn);
      await honest.confirm();
      await returned(waiting);
    });

    it('release no commit whose WAL they were not sent, whatever they say and under no policy', async () => {
      await use('FIRST 1 (liar)');
      const early = await reported();
      liar.stopReading();
      const filling = await rig.primary.session();
      await filling.query('SET synchronous_commit = local');
      await filling.query(
        `INSERT INTO clients_filler SELECT repeat(md5(i::text), 30) FROM generate_series(1, ${MORE_THAN_SOCKETS_MB * 1000}) AS i`,
      );
      filling.close();
      const filledLsn = await onDisk();
      const wrong: string[] = [];
      for (const policy of POLICIES) {
        await use(policy);
        const waiting = commits.beginAll();
        await commits.untilWaiting(waiting);
        for (const lie of LIES) liar.sayUnheard(lie);
        liar.sayUnheard({ write: EVERYTHING, flush: EVERYTHING, apply: EVERYTHING });
        await isSeen('liar', (flush, sent) => flush === sent && sent < filledLsn);
        wrong.push(...(await returnedWrongly(waiting)).map((level) => `${policy}: ${level}`));
        await waitFor('');
        await returned(waiting);
        await waitFor('walcast');
      }
      expect(wrong).toEqual([]);
      await use('FIRST 1 (liar)');
      const waiting = commits.beginAll();
      await commits.untilWaiting(waiting);
      liar.goOn();
      await liar.received(await onDisk());
      await liar.confirm();
      await returned(waiting);
      expect((await reported()).flush).toBeGreaterThan(early.flush);
    });

    it('take nothing back that was confirmed, and move no slot of the primary back', async () => {
      await use('FIRST 1 (liar)');
      const waiting = commits.beginAll();
      await commits.untilWaiting(waiting);
      const endLsn = await onDisk();
      await liar.received(endLsn);
      await liar.confirm();
      await returned(waiting);
      const before = await pollUntil(
        'all of it reported',
        async () => {
          const told = await reported();
          return told.apply >= endLsn ? told : null;
        },
        { timeoutMs: 30_000 },
      );
      const slot = (): Promise<string> =>
        rig.primary.value(
          `SELECT restart_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = 'walcast'`,
        );
      await rig.primary.waitForValue(
        `SELECT restart_lsn >= '${formatLsn(endLsn)}' FROM pg_replication_slots WHERE slot_name = 'walcast'`,
        't',
        30_000,
      );
      const slotBefore = BigInt(await slot());
      const back = advanceLsn(toLsn(endLsn - (1n << 20n)), 0);
      for (const said of [
        { write: back, flush: back, apply: back },
        { write: back, flush: endLsn, apply: back },
        { write: 1n, flush: 1n, apply: 1n },
        { write: 0n, flush: back, apply: 0n },
      ]) {
        await liar.say(said);
        const told = await reported();
        expect(told.write).toBeGreaterThanOrEqual(before.write);
        expect(told.flush).toBeGreaterThanOrEqual(before.flush);
        expect(told.apply).toBeGreaterThanOrEqual(before.apply);
      }
      // And a commit that comes then waits for the truth.
      const later = commits.beginAll();
      await commits.untilWaiting(later);
      expect(await returnedWrongly(later)).toEqual([]);
      expect(BigInt(await slot())).toBeGreaterThanOrEqual(slotBefore);
      await liar.received(await onDisk());
      await liar.confirm();
      await returned(later);
    });

    it('keep those who tell the truth from nothing: another one is chosen and its word counts', async () => {
      await use('FIRST 1 (honest, liar)');
      await liar.say({ write: EVERYTHING, flush: EVERYTHING, apply: EVERYTHING });
      const waiting = commits.beginAll();
      await commits.untilWaiting(waiting);
      const endLsn = await onDisk();
      await honest.received(endLsn);
      await honest.confirm();
      await returned(waiting);
      expect(LEVELS).toHaveLength(waiting.length);
    });
  });

  it('cannot wait for WAL that the primary has never named: the start is refused at once, as the primary does', async () => {
    const startLsn = toLsn((await onDisk()) + (1n << 30n));
    const ask = async (port: number): Promise<string[]> => {
      const { client } = await RawClient.standby(port, { user: 'postgres' });
      client.send(query(`START_REPLICATION PHYSICAL ${formatLsn(startLsn)}`));
      const answer = (await client.answer()).map((line) => line.replace(/server \S+$/, 'server'));
      client.close();
      return answer;
    };
    const startMs = systemClock.nowMs();
    const ours = await ask(rig.relay.port);
    // wal_receiver_timeout, for which a start that may be right is held, is a minute.
    expect(systemClock.nowMs() - startMs).toBeLessThan(20_000);
    expect(ours).toEqual(await ask(rig.primary.port));
    expect(ours[1]).toContain('is ahead of the WAL flush position of this server');
  });

  it('move no slot here beyond what they were sent', async () => {
    const { client } = await RawClient.standby(rig.relay.port, { user: 'postgres' });
    await client.ask('CREATE_REPLICATION_SLOT mine PHYSICAL RESERVE_WAL');
    client.close();
    const slotted = await join('slotted', 'mine');
    const sentLsn = slotted.receivedLsn;
    for (const lie of LIES) await slotted.say(lie);
    const slots = (await rig.relay.get('/api/v1/slots')) as readonly SlotJson[];
    const restartLsn = lsnOf(slots.find((one) => one.slot_name === 'mine')?.restart_lsn ?? null);
    expect(restartLsn).toBeGreaterThan(INVALID_LSN);
    expect(restartLsn).toBeLessThanOrEqual(
      (await rig.relay.status()).standbys
        .map((one) => lsnOf(one.sent_lsn))
        .reduce((highest, lsn) => (lsn > highest ? lsn : highest), toLsn(sentLsn)),
    );
    slotted.close();
  });

  it('about transactions take nobody his protection', async () => {
    await rig.primary.query('CHECKPOINT');
    await writeWal(rig.primary, 0.01);
    const protectedOne = await join('protected');
    const feeding = await join('feeding');
    const next = async (): Promise<number> =>
      Number(await rig.primary.value('SELECT txid_snapshot_xmax(txid_current_snapshot())'));
    const held = (): Promise<string> =>
      rig.primary.value(
        `SELECT coalesce(xmin::text, '') FROM pg_replication_slots WHERE slot_name = 'walcast'`,
      );
    const wait = (xid: number | ''): Promise<void> =>
      rig.primary.waitForValue(
        `SELECT coalesce(xmin::text, '') FROM pg_replication_slots WHERE slot_name = 'walcast'`,
        String(xid),
        30_000,
      );
    /** Uses up transaction ids; walcast knows of them when it resolves: a commit that writes something is flushed. */
    const burn = async (count: number): Promise<void> => {
      await rig.primary.query(
        `DO $$ BEGIN FOR i IN 1..${count} LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$`,
      );
      await writeWal(rig.primary, 0.01);
      await onDisk();
    };
    const truth = (one: LyingStandby): { write: bigint; flush: bigint; apply: bigint } => {
      const lsn = one.receivedLsn;
      return { write: lsn, flush: lsn, apply: lsn };
    };
    const first = (await next()) - 1;
    await protectedOne.feedBack({ xmin: first }, truth(protectedOne));
    await wait(first);
    const nextXid = await next();
    for (const lie of [
      { xmin: nextXid + 1000 },
      { xmin: nextXid + 0x4000_0000 },
      // As if from before the counter went round.
      { xmin: 0xffff_fff0 },
      { xmin: first, epoch: 1 },
      { xmin: first, epoch: 0xffff_ffff },
      // One of both is good.
      { xmin: first, catalogXmin: nextXid + 1000 },
      { xmin: nextXid + 1000, catalogXmin: first },
      { xmin: 3, catalogXmin: 3, catalogEpoch: 7 },
    ]) {
      await feeding.feedBack(lie, truth(feeding));
      expect([lie, await held()]).toEqual([lie, String(first)]);
    }
    // Two zeros clear what is one's own, and nobody else's.
    await feeding.feedBack({ xmin: 0 }, truth(feeding));
    expect(await held()).toBe(String(first));
    // What is held goes on with him: the primary still takes what walcast says.
    await burn(10);
    await feeding.feedBack({ xmin: 0, catalogXmin: nextXid + 100_000 }, truth(feeding));
    const second = first + 5;
    await protectedOne.feedBack({ xmin: second }, truth(protectedOne));
    await wait(second);
    // Who holds too much is left out, and the other one is not.
    await burn(1800);
    const third = (await next()) - 1;
    await protectedOne.feedBack({ xmin: third }, truth(protectedOne));
    await feeding.feedBack({ xmin: first }, truth(feeding));
    await wait(third);
    await protectedOne.feedBack({ xmin: 0 }, truth(protectedOne));
    await wait('');
    protectedOne.close();
    feeding.close();
  });
});

function lsnOf(text: string | null): Lsn {
  return parseLsn(text ?? '0/0') ?? INVALID_LSN;
}
