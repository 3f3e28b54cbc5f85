// Does a real primary read the same names, refuse the same texts in the same words, choose the same standbys and release
// commits up to the same positions? It is fed by walreceivers that confirm what the test says, and tells in its log what it
// releases.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { parseLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import {
  parseSynchronousStandbyNames,
  SyncNamesError,
  syncPriority,
} from '../../src/syncrep/standby-names.ts';
import { decideSync } from '../../src/syncrep/sync-standbys.ts';
import type { SyncDecision, SyncStandby } from '../../src/syncrep/sync-standbys.ts';
import { RawWalReceiver } from '../harness/raw-walreceiver.ts';
import type { Claim } from '../harness/raw-walreceiver.ts';
import { eventually } from '../support/eventually.ts';
import { RawClient } from '../support/raw-client.ts';
import { FULL_FAULTS, spannedMajors } from '../support/requirements.ts';
import { SYNC_NAMES_SAMPLES } from '../support/sync-names-samples.ts';

const TIMELINE = toTimelineId(1);
const NAMES = ['a', 'b', 'A', 'c', 'x', 'a'];
const REPLIES = FULL_FAULTS ? 60 : 12;

const POLICIES = [
  'a',
  'FIRST 1 (b, a)',
  'FIRST 2 (b, a)',
  '3 (c, b, a)',
  'FIRST 2 (*)',
  'FIRST 3 (c, *)',
  'FIRST 5 (a, b)',
  'FIRST 6 (*)',
  'ANY 1 (a, b, c)',
  'ANY 2 (a, b, c)',
  'ANY 3 (*)',
  'ANY 5 (a, b)',
  'ANY 6 (*, c)',
  'ANY 2 ("A", "*")',
  '"nobody"',
];

/** Gives everybody a priority that no other policy here gives. */
const FAR_BEHIND = 'q, r, s, t, u, *';

const ANY_TEXTS = FULL_FAULTS ? 2_000 : 300;

/** What looks like a text of the setting; most are none. */
const anyText = fc
  .array(
    fc.constantFrom(
      'a',
      'any',
      'FIRST',
      ' ',
      ' ',
      ',',
      ',',
      '(',
      ')',
      '"',
      '*',
      '1',
      '20',
      'é',
      '-',
    ),
    { maxLength: 9 },
  )
  .map((pieces) => pieces.join(''));

/** A standby as the primary has it. */
interface Fed {
  readonly receiver: RawWalReceiver;
  /** The lowest one that was free. */
  readonly place: number;
  claim: Claim;
}

function standbyOf({ receiver, place, claim }: Fed): SyncStandby {
  return {
    pid: receiver.pid,
    place,
    applicationName: receiver.applicationName,
    state: 'streaming',
    timeline: TIMELINE,
    writeLsn: toLsn(claim.write),
    flushLsn: toLsn(claim.flush),
    applyLsn: toLsn(claim.apply),
  };
}

/** A position of a reply: few different ones, so that standbys meet and pass each other; some go back, some are 0. */
const position = fc.oneof(
  { weight: 1, arbitrary: fc.constant(0n) },
  { weight: 6, arbitrary: fc.bigInt({ min: 1n, max: 12n }) },
  { weight: 1, arbitrary: fc.bigInt({ min: 1n, max: (1n << 64n) - 1n }) },
);

const replies = fc.tuple(
  fc.nat({ max: NAMES.length - 1 }),
  fc.record({ write: position, flush: position, apply: position }),
);

describe.each(spannedMajors())('PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let client: RawClient;
  let policyText = '';
  let fleet: Fed[] = [];

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, {
      major,
      name: 'primary',
      segmentSizeMb: 1,
      settings: { wal_sender_timeout: '0' },
    });
    await primary.start();
    client = await openSql(primary.port);
  });

  afterAll(async () => {
    for (const { receiver } of fleet) receiver.close();
    client.close();
    await workspace.close();
  });

  it('reads and refuses names as walcast does', async () => {
    const [theirs, ours]: [string, string][][] = [[], []];
    // ALTER SYSTEM takes no line ends, and a Query no NUL.
    const samples = [
      ...SYNC_NAMES_SAMPLES,
      ...fc.sample(anyText, { numRuns: ANY_TEXTS, seed: 11 }),
    ];
    for (const text of samples.filter((sample) => !sample.includes('\n'))) {
      const [answer = ''] = await client.ask(alterSystem(text));
      theirs?.push([text, answer]);
      ours?.push([text, answerOf(text)]);
    }
    expect(ours).toEqual(theirs);
    await client.ask('ALTER SYSTEM RESET synchronous_standby_names');
  });

  it('chooses the same standbys and releases up to the same positions', async () => {
    fleet = [];
    for (const [place, name] of NAMES.entries()) fleet.push(await connect(name, place));
    const seed = 20;
    let released = 0;
    for (const [index, text] of POLICIES.entries()) {
      await setPolicy(text);
      await eventually(theirStates).toEqual(ourStates());
      for (const [who, claim] of fc.sample(replies, { numRuns: REPLIES, seed: seed + index })) {
        const one = fleet[who];
        if (one === undefined) throw new Error('no such standby');
        const theirs = await releasedBy(one, claim);
        expect(theirs, `${text}: ${JSON.stringify(stateOfAll())}`).toEqual(ourRelease(one));
        expect(await theirStates()).toEqual(ourStates());
        if (theirs !== null) released += 1;
      }
    }
    // Few releases would show little.
    expect(released).toBeGreaterThan((POLICIES.length * REPLIES) / 4);
  });

  it('puts a standby that comes back in the lowest free place', async () => {
    await setPolicy('FIRST 2 (*)');
    for (const one of fleet) await releasedBy(one, { write: 9n, flush: 9n, apply: 9n });
    await eventually(theirStates).toEqual(ourStates());
    expect(sync()).toEqual([0, 1]);
    for (const gone of fleet.splice(1, 2)) await leave(gone);
    expect(await theirStates()).toEqual(ourStates());
    expect(sync()).toEqual([0, 3]);
    fleet.push(await connect('c', 1), await connect('b', 2));
    for (const one of fleet) await releasedBy(one, { write: 9n, flush: 9n, apply: 9n });
    expect(await theirStates()).toEqual(ourStates());
    expect(sync()).toEqual([0, 1]);
  });

  /** A session that shows what answers say word for word. */
  async function openSql(port: number): Promise<RawClient> {
    const { client: sql } = await RawClient.standby(port, {
      user: 'postgres',
      database: 'postgres',
      replication: 'false',
      client_encoding: 'UTF8',
    });
    return sql;
  }

  async function connect(applicationName: string, place: number): Promise<Fed> {
    const receiver = await RawWalReceiver.connect({
      port: primary.port,
      applicationName,
      options: '-c log_min_messages=debug3',
    });
    await receiver.start(await primary.walPosition());
    const streaming = `SELECT state FROM pg_stat_replication WHERE pid = ${receiver.pid}`;
    await primary.waitForValue(streaming, 'streaming');
    return { receiver, place, claim: { write: 0n, flush: 0n, apply: 0n } };
  }

  async function leave({ receiver }: Fed): Promise<void> {
    receiver.close();
    const sql = `SELECT count(*) FROM pg_stat_replication WHERE pid = ${receiver.pid}`;
    await primary.waitForValue(sql, '0');
  }

  /** Every walsender goes by it when this resolves: each says so when its priority changes, and from that of the first it does. */
  async function setPolicy(text: string): Promise<void> {
    for (policyText of [FAR_BEHIND, text]) {
      const from = primary.log.mark();
      await client.ask(alterSystem(policyText));
      await client.ask('SELECT pg_reload_conf()');
      const policy = parseSynchronousStandbyNames(policyText);
      for (const { receiver } of fleet) {
        const priority = syncPriority(policy, receiver.applicationName);
        const line = `\\[${receiver.pid}\\].* now has synchronous standby priority ${priority}\n`;
        await primary.waitForLog(new RegExp(line), { from, timeoutMs: 10_000 });
      }
    }
  }

  /** What the server says that it releases when `one` confirms `claim`; null when it releases nothing. */
  async function releasedBy(one: Fed, claim: Claim): Promise<Lsn[] | null> {
    const { receiver } = one;
    const from = primary.log.mark();
    one.claim = claim;
    receiver.confirm(claim);
    receiver.sendEmptyFeedback();
    await primary.waitForLog(new RegExp(`\\[${receiver.pid}\\].*hot standby feedback xmin`), {
      from,
    });
    const line =
      /released \d+ procs up to write (\S+), \d+ procs up to flush (\S+), .* apply (\S+)/;
    const found = line.exec(primary.log.textFrom(from));
    return found === null ? null : found.slice(1).map((text) => parseLsn(text) ?? toLsn(0n));
  }

  function decision(): SyncDecision {
    const policy = parseSynchronousStandbyNames(policyText);
    return decideSync(policy, fleet.map(standbyOf), TIMELINE);
  }

  /**
   * What follows from the decision: a server releases when a chosen standby confirms. Of positions that are 0 it forgets those
   * it has seen before another one, where the standbys are a list (SyncRepGetOldestSyncRecPtr); walcast does not.
   */
  function ourRelease({ receiver }: Fed): Lsn[] | null {
    const { positions, stateOf } = decision();
    const { state } = stateOf(receiver.pid);
    if (positions === null || state === 'async' || state === 'potential') return null;
    const all = [positions.writeLsn, positions.flushLsn, positions.applyLsn];
    if (state === 'quorum') return all;
    const chosen = theirOrder().filter(({ pid }) => stateOf(pid).state === 'sync');
    const oldest = (of: (one: SyncStandby) => Lsn): Lsn =>
      chosen.map(of).reduce((least, lsn) => (least === 0n || least > lsn ? lsn : least));
    const theirs = [
      oldest(({ writeLsn }) => writeLsn),
      oldest(({ flushLsn }) => flushLsn),
      oldest(({ applyLsn }) => applyLsn),
    ];
    for (const [index, lsn] of all.entries()) {
      if (lsn !== 0n) expect(lsn).toBe(theirs[index]);
    }
    return theirs;
  }

  /** Sorted only when there are more than it wants. */
  function theirOrder(): SyncStandby[] {
    const { eligible, stateOf } = decision();
    const required = parseSynchronousStandbyNames(policyText)?.required ?? 0;
    const byPlace = fleet.map(standbyOf).toSorted((one, other) => one.place - other.place);
    if (eligible <= required) return byPlace;
    return byPlace.toSorted(
      (one, other) => stateOf(one.pid).priority - stateOf(other.pid).priority,
    );
  }

  function stateOfAll(): unknown[] {
    return fleet.map(standbyOf).map((one) => [one.applicationName, String(one.flushLsn)]);
  }

  /** Places of the standbys that are synchronous. */
  function sync(): number[] {
    const { stateOf } = decision();
    const chosen = fleet.filter(({ receiver }) => stateOf(receiver.pid).state === 'sync');
    return chosen.map(({ place }) => place).toSorted((one, other) => one - other);
  }

  function ourStates(): string[] {
    const { stateOf } = decision();
    const lines = fleet.map(({ receiver: { pid, applicationName } }) => {
      const { state, priority } = stateOf(pid);
      return `D ${pid},${applicationName},${state},${priority}`;
    });
    return lines.toSorted();
  }

  async function theirStates(): Promise<string[]> {
    const lines = await client.ask(
      'SELECT pid, application_name, sync_state, sync_priority FROM pg_stat_replication',
    );
    return lines.filter((line) => line.startsWith('D ')).toSorted();
  }
});

function alterSystem(text: string): string {
  return `ALTER SYSTEM SET synchronous_standby_names = '${text.replaceAll("'", "''")}'`;
}

/** What the server should answer. */
function answerOf(text: string): string {
  try {
    parseSynchronousStandbyNames(text);
    return 'C ALTER SYSTEM';
  } catch (error) {
    if (!(error instanceof SyncNamesError)) throw error;
    return ['E', 'ERROR', error.code, error.message, error.detail]
      .filter((part) => part !== null)
      .join('|');
  }
}
