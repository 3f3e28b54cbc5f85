// Is what walcast takes as confirmed by the standbys behind it what a real primary releases commits up to, when the same
// standbys are attached to it and say the same? Both sets of walreceivers stream the same WAL of one server.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SyncJson } from '../../src/http/api-types.ts';
import { advanceLsn, pageStart } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { RawWalReceiver } from '../harness/raw-walreceiver.ts';
import type { Claim } from '../harness/raw-walreceiver.ts';
import { openClientsRig } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { eventually } from '../support/eventually.ts';
import { FULL_FAULTS, spannedMajors } from '../support/requirements.ts';

/** Not `*`: walcast itself is a standby of the server. */
const POLICIES = [
  'a',
  'FIRST 1 (b, a)',
  'FIRST 2 (c, b, a)',
  'FIRST 2 (a)',
  'FIRST 5 (a, b, c)',
  'ANY 1 (a, b)',
  'ANY 2 (a, b, c)',
  'ANY 4 (c, a)',
];

const NAMES = ['a', 'b', 'c', 'A', 'x'];
const STEPS = FULL_FAULTS ? 60 : 15;

/** Different positions that a claim may have. */
const PLACES = 8;

interface Step {
  readonly who: number;
  readonly write: number;
  readonly flush: number | null;
  readonly apply: number;
}

const place = fc.nat({ max: PLACES - 1 });
const steps: fc.Arbitrary<Step> = fc.record({
  who: fc.nat({ max: NAMES.length - 1 }),
  write: place,
  // Now and then one reports no flush position any more, and another takes its part.
  flush: fc.option(place, { freq: 8 }),
  apply: place,
});

describe.each(spannedMajors())('PostgreSQL %i and walcast', (major) => {
  let rig: ClientsRig;
  let lsns: Lsn[];
  const direct: RawWalReceiver[] = [];
  const behind: RawWalReceiver[] = [];

  beforeAll(async () => {
    rig = await openClientsRig({ major, primarySettings: { wal_sender_timeout: '0' } });
    await rig.primary.query("SELECT pg_create_restore_point('something to confirm')");
    const endLsn = await rig.primary.walPosition();
    lsns = Array.from({ length: PLACES }, (_, index) => advanceLsn(endLsn, index - PLACES + 1));
    for (const applicationName of NAMES) {
      const options = '-c log_min_messages=debug3';
      const { port } = rig.primary;
      direct.push(await RawWalReceiver.connect({ port, applicationName, options }));
      behind.push(await RawWalReceiver.connect({ port: rig.relay.port, applicationName }));
    }
    for (const receiver of [...direct, ...behind]) {
      await receiver.start(pageStart(advanceLsn(endLsn, -PLACES)));
      await receiver.received(endLsn);
    }
    const names = NAMES.length + 1;
    const sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    await rig.primary.waitForValue(sql, String(names));
  });

  afterAll(async () => {
    for (const receiver of [...direct, ...behind]) receiver.close();
    await rig[Symbol.asyncDispose]();
  });

  it.each(POLICIES)('agree under %j about how far commits are confirmed', async (names) => {
    await setNames(names);
    let releases = 0;
    for (const step of fc.sample(steps, { numRuns: STEPS, seed: 7 })) {
      const released = await releasedBy(direct[step.who], claimOf(step));
      await confirmed(behind[step.who], claimOf(step));
      if (released === null) continue;
      await eventually(ours).toEqual(released);
      releases += 1;
    }
    const { satisfied, eligible_standbys: eligible, required_standbys: required } = await sync();
    expect(satisfied).toBe(eligible >= required);
    // Four standbys have one of the names, three of them one of the last policy's.
    expect(releases > 0).toBe(!names.startsWith('FIRST 5') && !names.startsWith('ANY 4'));
  });

  /** Every walsender of the server goes by it when this resolves: each says so when its priority changes. */
  async function setNames(names: string): Promise<void> {
    for (const text of ['q, r, s, t, a, b, c, x', names]) {
      const from = rig.primary.log.mark();
      await rig.primary.configure({ synchronous_standby_names: text });
      await rig.primary.reload();
      for (const { pid } of direct) {
        const line = new RegExp(`\\[${pid}\\].* now has synchronous standby priority `);
        await rig.primary.waitForLog(line, { from, timeoutMs: 10_000 });
      }
    }
    await rig.relay.reload({ synchronous_standby_names: names });
  }

  function claimOf({ write, flush, apply }: Step): Claim {
    const at = (index: number): bigint => lsns[index] ?? 0n;
    return { write: at(write), flush: flush === null ? 0n : at(flush), apply: at(apply) };
  }

  /** What the server says that it releases; null when it releases nothing. */
  async function releasedBy(
    receiver: RawWalReceiver | undefined,
    claim: Claim,
  ): Promise<string[] | null> {
    if (receiver === undefined) throw new Error('no such standby');
    const from = rig.primary.log.mark();
    receiver.confirm(claim);
    receiver.sendEmptyFeedback();
    const done = new RegExp(`\\[${receiver.pid}\\].*hot standby feedback xmin`);
    await rig.primary.waitForLog(done, { from, timeoutMs: 10_000 });
    const line = new RegExp(
      `\\[${receiver.pid}\\].*released \\d+ procs up to write (\\S+), \\d+ procs up to flush (\\S+), .* apply (\\S+)`,
    );
    return line.exec(rig.primary.log.textFrom(from))?.slice(1) ?? null;
  }

  async function confirmed(receiver: RawWalReceiver | undefined, claim: Claim): Promise<void> {
    if (receiver === undefined) throw new Error('no such standby');
    await receiver.confirmAndWait(claim);
  }

  async function sync(): Promise<SyncJson> {
    return (await rig.relay.get('/api/v1/sync')) as SyncJson;
  }

  async function ours(): Promise<(string | null)[]> {
    const { confirmed: of } = await sync();
    return [of.write, of.flush, of.apply];
  }
});
