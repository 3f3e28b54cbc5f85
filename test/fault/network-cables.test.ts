// Does a network that breaks (cut, cut in one direction, slow, forgetful) or a process at one of its ends leave anything that a person has to
// mend? Each node in a network namespace, cables that the kernel itself cuts, two relays, four standbys behind both.
import { afterAll, describe, expect, it } from 'vitest';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import { namespaceProblem } from '../harness/namespaces.ts';
import type { Topology } from '../harness/topology.ts';
import type { Link } from '../harness/topology-links.ts';
import type { Direction } from '../harness/wire-proxy.ts';
import {
  EDGE_MAJORS,
  FULL_FAULTS,
  NEWEST_MAJOR,
  installedMajors,
  needs,
} from '../support/requirements.ts';
import { FaultTable, live, openPair } from './network-rig.ts';
import type { NetworkFault } from './network-rig.ts';

const PROBLEM = namespaceProblem();
const NOTICED_MS = 30_000;

/** Until the primary has given the relay up and the relay the primary: nothing told them. */
async function uplinkNoticed(topology: Topology, relay: string): Promise<void> {
  await topology
    .relay(relay)
    .waitForStatus('the cut being noticed', ({ state }) => state !== 'streaming', NOTICED_MS);
  await topology.primary.waitForValue(
    `SELECT count(*) FROM pg_stat_replication WHERE application_name = '${relay}'`,
    '0',
    NOTICED_MS,
  );
}

/** Until the standby streams on another way. */
async function movedAway(topology: Topology, standby: PostgresCluster, from: Link): Promise<void> {
  await pollUntil(
    `${standby.name} leaving ${from.from}`,
    async () => ((await topology.linkOf(standby)) === from ? null : true),
    { timeoutMs: NOTICED_MS },
  );
}

async function downlink(topology: Topology): Promise<Link> {
  return await topology.linkOf(topology.standby('s1'));
}

async function healAll(topology: Topology): Promise<void> {
  for (const link of topology.links) await link.heal();
}

async function receiverOf(standby: PostgresCluster): Promise<number> {
  return Number(await standby.value('SELECT pid FROM pg_stat_wal_receiver'));
}

function uplinkCut(title: string, directions: readonly Direction[]): NetworkFault {
  return {
    fault: directions.length === 2 ? 'F35' : 'F36',
    title,
    outcome:
      'both ends give up at their timeouts, and commits wait for it; standbys stay with their relay and get the rest once it has it',
    inject: async (topology) => {
      for (const direction of directions) await topology.link('primary', 'r1').cutOneWay(direction);
    },
    during: (topology) => uplinkNoticed(topology, 'r1'),
    heal: healAll,
  };
}

function downlinkCut(title: string, directions: readonly Direction[]): NetworkFault {
  let link: Link | null = null;
  return {
    fault: directions.length === 2 ? 'F35' : 'F36',
    title,
    outcome: 'both ends give up at their timeouts; the standby goes on behind the other relay',
    inject: async (topology) => {
      link = await downlink(topology);
      for (const direction of directions) await link.cutOneWay(direction);
    },
    during: async (topology) => {
      if (link !== null) await movedAway(topology, topology.standby('s1'), link);
    },
    heal: healAll,
  };
}

const BOTH = ['fromServer', 'fromClient'] as const;
let stopped = 0;

const FAULTS: readonly NetworkFault[] = [
  uplinkCut('link from the primary to a relay cut', BOTH),
  {
    fault: 'F35',
    title: 'links from the primary to both relays cut',
    outcome: 'no commit is acknowledged until a relay is back, none is lost',
    inject: async (topology) => {
      for (const relay of ['r1', 'r2']) await topology.link('primary', relay).cut();
    },
    during: async (topology) => {
      for (const relay of ['r1', 'r2']) await uplinkNoticed(topology, relay);
    },
    heal: healAll,
  },
  downlinkCut('link from a relay to a standby cut', BOTH),
  uplinkCut('nothing passes from the primary to a relay', ['fromServer']),
  uplinkCut('nothing passes from a relay to the primary', ['fromClient']),
  downlinkCut('nothing passes from a relay to a standby', ['fromServer']),
  downlinkCut('nothing passes from a standby to a relay', ['fromClient']),
  {
    fault: 'F37',
    title: 'connection between primary and relay forgotten on the way',
    outcome: 'reset at the next message; a new connection at once',
    inject: async (topology) => await topology.link('primary', 'r1').reset(),
  },
  {
    fault: 'F37',
    title: 'connection between relay and standby forgotten on the way',
    outcome: 'reset at the next message; the standby connects again',
    inject: async (topology) => await (await downlink(topology)).reset(),
  },
  {
    fault: 'F40',
    title: '1 Mbit/s between primary and relay',
    outcome: 'commits become as slow as the link; nobody is given up',
    inject: async (topology) => await topology.link('primary', 'r1').rate(1_000_000),
    during: (_, load) => load.waitForCommits(50),
    heal: healAll,
  },
  {
    fault: 'F40',
    title: '1 Mbit/s between relay and standby',
    outcome: 'that standby falls behind, nobody else does',
    inject: async (topology) => await (await downlink(topology)).rate(1_000_000),
    during: (_, load) => load.waitForCommits(300),
    heal: healAll,
  },
  {
    fault: 'F46',
    title: '1 KB/s between relay and standby',
    outcome: 'that standby falls behind; the others, and the commits, are not held up',
    inject: async (topology) => await (await downlink(topology)).rate(8_000),
    during: async (topology, load) => {
      await load.waitForCommits(100);
      const endLsn = await topology.primary.walPosition();
      for (const name of ['s2', 's3', 's4']) await topology.standby(name).waitForReplay(endLsn);
    },
    heal: healAll,
  },
  {
    fault: 'F24',
    title: 'slot of a relay dropped while its link was cut',
    outcome: 'the slot is made again, because the primary still has the WAL',
    inject: (topology) => topology.link('primary', 'r1').cut(),
    during: async (topology) => {
      await uplinkNoticed(topology, 'r1');
      await topology.primary.query("SELECT pg_drop_replication_slot('r1')");
    },
    heal: healAll,
  },
  {
    fault: 'F25',
    title: 'slot of a relay held by a connection that is dead',
    outcome: 'tried again, a few times a second at most, until the primary lets the slot go',
    inject: async (topology) => {
      const sql = "SELECT pid FROM pg_stat_replication WHERE application_name = 'r1'";
      stopped = Number(await topology.primary.value(sql));
      // It cannot notice that its connection has gone.
      signalProcess(stopped, 'SIGSTOP');
      await topology.link('primary', 'r1').reset();
    },
    during: async ({ primary }) => {
      const from = primary.log.mark();
      await primary.waitForLog(/(replication slot "r1" is active for PID[^]*?){3}/, { from });
    },
    heal: async () => signalProcess(stopped, 'SIGCONT'),
  },
  {
    fault: 'F1',
    title: 'one relay of two killed and started',
    outcome: 'commits wait for the other one; standbys go there at once',
    inject: (topology) => topology.relay('r1').kill(),
    during: async (topology, load) => {
      expect(await topology.lostBy(topology.relay('r1'))).toEqual([]);
      await load.waitForCommits(20);
    },
    heal: (topology) => topology.relay('r1').start(),
  },
  {
    fault: 'F57',
    title: 'one relay of two stopped (SIGSTOP) until it was given up',
    outcome:
      'given up by the primary and its standbys; awake again it acknowledges nothing from before and connects anew',
    inject: async (topology) => topology.relay('r1').process.signal('SIGSTOP'),
    during: async (topology, load) => {
      await topology.primary.waitForValue(
        "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'r1'",
        '0',
        NOTICED_MS,
      );
      await load.waitForCommits(20);
    },
    heal: async (topology) => topology.relay('r1').process.signal('SIGCONT'),
  },
  {
    fault: 'F45',
    title: 'walreceiver of a standby stopped (SIGSTOP) until it was given up',
    outcome: 'its connection ends at the timeout; awake again it connects anew',
    inject: async (topology) => {
      stopped = await receiverOf(topology.standby('s1'));
      signalProcess(stopped, 'SIGSTOP');
    },
    during: async (topology) => {
      const isGone = ({
        standbys,
      }: {
        standbys: readonly { application_name: string }[];
      }): boolean => standbys.every((each) => each.application_name !== 's1');
      for (const relay of topology.relays)
        await relay.waitForStatus('s1 being given up', isGone, NOTICED_MS);
    },
    heal: async () => signalProcess(stopped, 'SIGCONT'),
  },
  {
    fault: 'F20',
    title: 'walsender of the primary killed',
    outcome: 'the primary restarts all its processes; both relays follow',
    inject: async (topology) => {
      const sql = "SELECT pid FROM pg_stat_replication WHERE application_name = 'r1'";
      signalProcess(Number(await topology.primary.value(sql)), 'SIGKILL');
    },
  },
  {
    fault: 'F21',
    title: 'primary killed and started',
    outcome: 'crash recovery; both relays follow',
    inject: (topology) => topology.primary.kill(),
    heal: (topology) => topology.primary.start(),
  },
];

const TABLE = new FaultTable('network-cables', FAULTS);

/** Where there is little time: one of each kind of cut. */
const FEW = ['F35', 'F36', 'F37'].map((kind) => FAULTS.find(({ fault }) => fault === kind));
const MAJORS = installedMajors().filter((major) =>
  FULL_FAULTS ? EDGE_MAJORS.includes(major) : major === NEWEST_MAJOR,
);

describe.each(MAJORS)(
  'PostgreSQL %i, two relays and four standbys in networks of their own',
  (major) => {
    let topology: Topology | null = null;

    afterAll(async () => {
      await topology?.[Symbol.asyncDispose]();
    });

    it.for(FAULTS.filter((fault) => FULL_FAULTS || FEW.includes(fault)))(
      'go on by themselves: $fault $title',
      async (fault, context) => {
        needs(context, PROBLEM);
        topology ??= await openPair(major, 'namespaces');
        TABLE.add(major, await live(topology, fault));
      },
    );
  },
);

afterAll(async () => {
  await TABLE.report();
});

it('stand in the table of faults and recovery times', async () => {
  if (process.env['WALCAST_TEST_UPDATE'] === '1') return;
  expect(await TABLE.undocumented()).toEqual([]);
});
