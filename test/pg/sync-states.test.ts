// Does walcast call the standbys behind it what a real primary calls the same standbys attached directly? Two sets of
// walreceivers with the same names come and go in the same order and confirm the same, one on a server, one on walcast,
// under the same text of synchronous_standby_names.
import { afterAll, beforeAll, describe, it } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import type { SqlSession } from '../../src/demo/sql-session.ts';
import type { StandbyJson } from '../../src/http/api-types.ts';
import { advanceLsn, pageStart } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { RawWalReceiver } from '../harness/raw-walreceiver.ts';
import { openClientsRig, writeWal } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { eventually } from '../support/eventually.ts';
import { NEWEST_MAJOR, requires, spannedMajors } from '../support/requirements.ts';

/**
 * What a standby does: it streams and confirms; confirms no flush, or no apply position; is catching up; is logged in only; has
 * been there.
 */
type Conduct = 'confirms' | 'no flush' | 'no apply' | 'behind' | 'idle' | 'away';

interface Configuration {
  readonly names: string;
  /** In the order in which they come. */
  readonly standbys: readonly (readonly [name: string, conduct: Conduct])[];
  /** As `name state priority`, in the order of the standbys: what is expected of both, so that both cannot be wrong together. */
  readonly states: readonly string[];
}

const FOUR = [
  ['a', 'confirms'],
  ['b', 'confirms'],
  ['c', 'confirms'],
  ['d', 'confirms'],
] as const;

const TWINS = [
  ['a', 'confirms'],
  ['A', 'confirms'],
  ['b', 'confirms'],
  ['a', 'confirms'],
] as const;

const MIXED = [
  ['a', 'no flush'],
  ['b', 'idle'],
  ['c', 'confirms'],
  ['d', 'no apply'],
] as const;

const BEHIND = [
  ['a', 'behind'],
  ['b', 'confirms'],
  ['c', 'behind'],
  ['d', 'no flush'],
] as const;

const ABSENT = [
  ['a', 'away'],
  ['b', 'confirms'],
  ['c', 'confirms'],
  ['d', 'away'],
] as const;

const CONFIGURATIONS: readonly Configuration[] = [
  { names: '', standbys: FOUR, states: ['a async 0', 'b async 0', 'c async 0', 'd async 0'] },
  { names: 'b', standbys: FOUR, states: ['a async 0', 'b sync 1', 'c async 0', 'd async 0'] },
  {
    names: 'FIRST 1 (d, b, a)',
    standbys: FOUR,
    states: ['a potential 3', 'b potential 2', 'c async 0', 'd sync 1'],
  },
  {
    names: 'FIRST 2 (c, *)',
    standbys: FOUR,
    states: ['a sync 2', 'b potential 2', 'c sync 1', 'd potential 2'],
  },
  {
    names: '3 (d, "C", x, a, b)',
    standbys: FOUR,
    states: ['a sync 4', 'b potential 5', 'c sync 2', 'd sync 1'],
  },
  {
    names: 'FIRST 9 (a, b)',
    standbys: FOUR,
    states: ['a sync 1', 'b sync 2', 'c async 0', 'd async 0'],
  },
  {
    names: 'ANY 2 (a, b, c)',
    standbys: FOUR,
    states: ['a quorum 1', 'b quorum 1', 'c quorum 1', 'd async 0'],
  },
  {
    names: 'any 1 (*)',
    standbys: FOUR,
    states: ['a quorum 1', 'b quorum 1', 'c quorum 1', 'd quorum 1'],
  },
  {
    names: 'FIRST 1 (a)',
    standbys: TWINS,
    states: ['a sync 1', 'A potential 1', 'b async 0', 'a potential 1'],
  },
  {
    names: 'FIRST 2 (b, A)',
    standbys: TWINS,
    states: ['a sync 2', 'A potential 2', 'b sync 1', 'a potential 2'],
  },
  {
    names: '"a", "a", b',
    standbys: TWINS,
    states: ['a sync 1', 'A potential 1', 'b potential 3', 'a potential 1'],
  },
  {
    names: 'ANY 9 (a)',
    standbys: TWINS,
    states: ['a quorum 1', 'A quorum 1', 'b async 0', 'a quorum 1'],
  },
  {
    names: 'FIRST 2 (a, b, c, d)',
    standbys: MIXED,
    states: ['a async 0', 'b async 0 idle', 'c sync 3', 'd sync 4'],
  },
  {
    names: 'ANY 1 (*)',
    standbys: MIXED,
    states: ['a async 0', 'b async 0 idle', 'c quorum 1', 'd quorum 1'],
  },
  {
    names: 'FIRST 1 (a, b, c, d)',
    standbys: BEHIND,
    states: ['a potential 1', 'b sync 2', 'c potential 3', 'd async 0'],
  },
  {
    names: 'ANY 2 (a, b, d)',
    standbys: BEHIND,
    states: ['a potential 1', 'b quorum 1', 'c async 0', 'd async 0'],
  },
  {
    names: 'FIRST 1 (a, b, c)',
    standbys: ABSENT,
    states: ['b sync 2', 'c potential 3'],
  },
  {
    names: 'FIRST 2 (a, d)',
    standbys: ABSENT,
    states: ['b async 0', 'c async 0'],
  },
];

/** Where standbys connect, and how it tells what they are. */
interface Side {
  readonly port: number;
  /** Where its WAL ends. */
  endLsn(): Promise<Lsn>;
  /** So far behind that end that what lies between is more than sockets take. */
  farLsn(): Lsn;
  setNames(names: string): Promise<void>;
  /** Pid, time of the last reply, application_name, sync_state and sync_priority of every session, in each way that it can be asked. */
  views(): Promise<string[][][]>;
}

const STATES =
  'SELECT pid, reply_time, application_name, sync_state, sync_priority FROM pg_stat_replication';

/** WAL that does not fit into the buffers of a connection. */
const FAR_MB = 32;

const HBA = 'host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n';

const { describe: describeWhen } = requires(`postgres-${NEWEST_MAJOR}`);

describeWhen('the same standbys attached directly and behind walcast', () => {
  let rig: ClientsRig;
  let farLsn: Lsn;
  let console: SqlSession;
  const fleets = new Map<Side, RawWalReceiver[]>();

  beforeAll(async () => {
    rig = await openClientsRig({
      major: NEWEST_MAJOR,
      segmentSizeMb: 1,
      relaySettings: { auth: { hba: HBA } },
    });
    farLsn = pageStart(await rig.primary.walPosition());
    await writeWal(rig.primary, FAR_MB);
    console = await openSqlSession(rig.relay.target({ database: 'walcast' }));
  });

  afterAll(async () => {
    for (const fleet of fleets.values()) for (const receiver of fleet) receiver.close();
    console.close();
    await rig[Symbol.asyncDispose]();
  });

  const walcast: Side = {
    get port() {
      return rig.relay.port;
    },
    endLsn: () => rig.relay.flushedLsn(),
    farLsn: () => farLsn,
    setNames: (names) => rig.relay.reload({ synchronous_standby_names: names }),
    views: async () => [await console.query(STATES), await apiStates()],
  };

  describe.each(spannedMajors())('PostgreSQL %i', (major) => {
    let server: PostgresCluster;
    let serverFarLsn: Lsn;
    let session: SqlSession;

    beforeAll(async () => {
      server = await createPrimary(rig.workspace, {
        major,
        name: `direct_${major}`,
        segmentSizeMb: 1,
        settings: { wal_sender_timeout: '0', wal_keep_size: '1GB' },
      });
      await server.start();
      serverFarLsn = pageStart(await server.walPosition());
      await writeWal(server, FAR_MB);
      session = await server.session();
    });

    afterAll(async () => {
      session.close();
      await server.stop('immediate');
    });

    const direct: Side = {
      get port() {
        return server.port;
      },
      endLsn: () => server.walPosition(),
      farLsn: () => serverFarLsn,
      setNames: async (names) => {
        await server.configure({ synchronous_standby_names: names });
        await server.reload();
      },
      views: async () => [await session.query(STATES)],
    };

    it.each(CONFIGURATIONS)('are the same under "$names": $states', async (configuration) => {
      for (const side of [direct, walcast]) {
        await meet(side, configuration);
        const views = (await side.views()).map(() => configuration.states);
        await eventually(() => statesOf(side)).toEqual(views);
      }
    });
  });

  async function apiStates(): Promise<string[][]> {
    const standbys = (await rig.relay.get('/api/v1/standbys')) as readonly StandbyJson[];
    return standbys.map((one) => [
      String(one.pid),
      one.reply_time ?? '',
      one.application_name,
      one.sync_state,
      String(one.sync_priority),
    ]);
  }

  /** Brings the standbys of a side to what the configuration says. */
  async function meet(side: Side, { names, standbys }: Configuration): Promise<void> {
    for (const receiver of fleets.get(side) ?? []) receiver.close();
    const fleet: RawWalReceiver[] = [];
    fleets.set(side, fleet);
    // Places are free again when nobody is left.
    await eventually(async () => (await side.views()).flat()).toEqual([]);
    await side.setNames(names);
    const away: RawWalReceiver[] = [];
    for (const [applicationName, conduct] of standbys) {
      const receiver = await RawWalReceiver.connect({ port: side.port, applicationName });
      (conduct === 'away' ? away : fleet).push(receiver);
      if (conduct === 'behind') await fallBehind(receiver, side.farLsn());
      else if (conduct !== 'idle') await begin(receiver, conduct, await side.endLsn());
    }
    for (const receiver of away) receiver.close();
  }

  async function begin(receiver: RawWalReceiver, conduct: Conduct, endLsn: Lsn): Promise<void> {
    // Only what was sent can be confirmed to walcast.
    await receiver.start(pageStart(advanceLsn(endLsn, -1)));
    await receiver.received(endLsn);
    receiver.confirm({
      write: endLsn,
      flush: conduct === 'no flush' ? 0n : endLsn,
      apply: conduct === 'no apply' ? 0n : endLsn,
    });
  }

  async function fallBehind(receiver: RawWalReceiver, startLsn: Lsn): Promise<void> {
    await receiver.startBlocked(startLsn);
    receiver.confirm({ write: startLsn, flush: startLsn, apply: startLsn });
  }

  /** `name sync_state priority` in the order in which they came, of each view; a session that is still going is one too many. */
  async function statesOf(side: Side): Promise<string[][]> {
    const fleet = fleets.get(side) ?? [];
    return (await side.views()).map((rows) => {
      const ours = fleet.map(({ pid }) => rows.find((row) => row[0] === String(pid)));
      const others = rows.filter((row) => !ours.includes(row));
      return [...ours, ...others].map((row) => lineOf(row));
    });
  }
});

/** One that has said nothing is idle: what it is does not depend on chance. */
function lineOf(row: readonly string[] | undefined): string {
  if (row === undefined) return 'gone';
  const [, replyTime, ...states] = row;
  return `${states.join(' ')}${replyTime === '' ? ' idle' : ''}`;
}
