// Does what a network does to messages (late, in crumbs, lost, cut, damaged, out of order) leave anything that a person has to mend? A fault
// proxy on every link, because the kernel of the test machines has no netem; two relays, four standbys behind both.
import { afterAll, describe, expect, it } from 'vitest';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { FaultProxy, WalFault } from '../harness/fault-proxy.ts';
import type { Topology } from '../harness/topology.ts';
import {
  EDGE_MAJORS,
  FULL_FAULTS,
  NEWEST_MAJOR,
  installedMajors,
} from '../support/requirements.ts';
import { FaultTable, live, openPair } from './network-rig.ts';
import type { NetworkFault } from './network-rig.ts';

function proxyOf(topology: Topology, from: string, to: string): FaultProxy {
  const { proxy } = topology.link(from, to);
  if (proxy === null) throw new Error('no proxy');
  return proxy;
}

function uplink(topology: Topology): FaultProxy {
  return proxyOf(topology, 'primary', 'r1');
}

/** All ways from a relay to a standby. */
function downlinks(topology: Topology): FaultProxy[] {
  return topology.links.flatMap(({ from, proxy }) =>
    from === 'primary' || proxy === null ? [] : [proxy],
  );
}

/** One message of the primary to a relay. */
function oneMessage(fault: string, title: string, what: WalFault): NetworkFault {
  return {
    fault,
    title,
    outcome: 'noticed before anything of it is forwarded; fetched again on a new connection',
    inject: async (topology) => void (await uplink(topology).faultNextWal(what)),
  };
}

const FAULTS: readonly NetworkFault[] = [
  {
    fault: 'F38',
    title: '75 ± 50 ms between primary and relay',
    outcome: 'commits take as much longer; no connection ends',
    inject: async (topology) => uplink(topology).setDelay(75, 'both', 50),
    during: (_, load) => load.waitForCommits(30),
    heal: async (topology) => uplink(topology).setDelay(0),
  },
  {
    fault: 'F38',
    title: '75 ± 50 ms between relays and standbys',
    outcome: 'standbys are as much behind; no connection ends',
    inject: async (topology) => {
      for (const proxy of downlinks(topology)) proxy.setDelay(75, 'both', 50);
    },
    during: (_, load) => load.waitForCommits(200),
    heal: async (topology) => {
      for (const proxy of downlinks(topology)) proxy.setDelay(0);
    },
  },
  {
    fault: 'F39',
    title: 'half of the messages from the primary to a relay lost, with all that follows',
    outcome: 'connected anew again and again, commits go on meanwhile; no gap',
    inject: async (topology) => uplink(topology).faultAtRandom(0.5, [{ kind: 'lose' }]),
    during: (topology) => lostOften(uplink(topology), 4),
    heal: async (topology) => uplink(topology).faultAtRandom(0, []),
  },
  {
    fault: 'F39',
    title: 'half of the messages from relays to standbys lost, with all that follows',
    outcome: 'standbys connect anew, to either relay; no gap',
    inject: async (topology) => {
      for (const proxy of downlinks(topology)) proxy.faultAtRandom(0.5, [{ kind: 'lose' }]);
    },
    during: async (topology) => {
      await Promise.race(downlinks(topology).map((proxy) => lostOften(proxy, 3)));
    },
    heal: async (topology) => {
      for (const proxy of downlinks(topology)) proxy.faultAtRandom(0, []);
    },
  },
  {
    fault: 'F41',
    title: 'segments of one byte between primary and relay',
    outcome: 'slower, nothing else',
    inject: async (topology) => uplink(topology).fragment(1),
    during: (_, load) => load.waitForCommits(60),
    heal: async (topology) => uplink(topology).fragment(0),
  },
  oneMessage('F42', 'a bit of the start position of a message turned', {
    kind: 'flip',
    place: 'messageHeader',
  }),
  oneMessage('F42', 'a bit of a page header turned', { kind: 'flip', place: 'pageHeader' }),
  oneMessage('F42', 'a bit of a record header turned', { kind: 'flip', place: 'recordHeader' }),
  oneMessage('F42', "a bit of a record's data turned", { kind: 'flip', place: 'recordBody' }),
  oneMessage('F43', 'a message dropped', { kind: 'drop' }),
  oneMessage('F43', 'a message repeated', { kind: 'repeat' }),
  oneMessage('F43', 'two messages swapped', { kind: 'swap' }),
  oneMessage('F44', 'connection closed in the middle of a message', { kind: 'cut' }),
];

async function lostOften(proxy: FaultProxy, count: number): Promise<void> {
  const goal = proxy.done.length + count;
  await pollUntil(`${count} lost connections`, () => (proxy.done.length >= goal ? true : null), {
    timeoutMs: 60_000,
  });
}

const TABLE = new FaultTable('network-messages', FAULTS);

/** Where there is little time. */
const FEW = ['F39', 'F42', 'F44'].map((kind) => FAULTS.find(({ fault }) => fault === kind));
const MAJORS = installedMajors().filter((major) =>
  FULL_FAULTS ? EDGE_MAJORS.includes(major) : major === NEWEST_MAJOR,
);

describe.each(MAJORS)('PostgreSQL %i, two relays and four standbys behind proxies', (major) => {
  let topology: Topology | null = null;

  afterAll(async () => {
    await topology?.[Symbol.asyncDispose]();
  });

  it.for(FAULTS.filter((fault) => FULL_FAULTS || FEW.includes(fault)))(
    'go on by themselves: $fault $title',
    async (fault) => {
      topology ??= await openPair(major, 'host');
      TABLE.add(major, await live(topology, fault));
    },
  );
});

afterAll(async () => {
  await TABLE.report();
});

it('stand in the table of faults and recovery times', async () => {
  if (process.env['WALCAST_TEST_UPDATE'] === '1') return;
  expect(await TABLE.undocumented()).toEqual([]);
});
