// Both relays of a pair are restarted again and again, one after the other, while commits wait for one of them: does any
// commit fail, how long does one wait, and do all standbys end with everything?
import { afterAll, beforeAll, expect, it } from 'vitest';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import { startCommitLoad } from '../harness/commit-load.ts';
import type { CommitLoad, CommitStalls } from '../harness/commit-load.ts';
import { openTopology } from '../harness/topology.ts';
import type { Topology } from '../harness/topology.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { FULL_FAULTS, NEWEST_MAJOR, requires } from '../support/requirements.ts';

const RELAYS = ['relay_a', 'relay_b'] as const;
const CLIENTS = 4;
const SECONDS = FULL_FAULTS ? 15 : 5;
/** How long a relay waits for a standby that stands still. */
const DRAIN_S = 4;
/** Far more than is measured (docs/two-relays.md), and less than any timeout on the way. */
const STALL_MS_MAX = 8_000;

requires(`postgres-${NEWEST_MAJOR}`).describe('two relays that commits wait for', () => {
  let topology: Topology;

  beforeAll(async () => {
    topology = await openTopology({
      major: NEWEST_MAJOR,
      network: 'host',
      proxies: true,
      segmentSizeMb: 1,
      relays: RELAYS.map((name) => ({
        name,
        // How soon the one that takes over tells the primary about WAL that it had before.
        settings: {
          upstream: { application_name: name, wal_receiver_status_interval: '1s' },
          drain_timeout: `${DRAIN_S}s`,
        },
      })),
      standbys: [
        { name: 'standby_a', upstreams: ['relay_a', 'relay_b'], hasSlot: true },
        { name: 'standby_b', upstreams: ['relay_b', 'relay_a'], hasSlot: true },
      ],
    });
  });

  afterAll(async () => {
    await topology[Symbol.asyncDispose]();
  });

  /** The primary counts on both again. */
  async function bothCount(): Promise<void> {
    await topology.primary.waitForValue(
      `SELECT count(*) FROM pg_stat_replication
       WHERE application_name IN ('relay_a', 'relay_b') AND state = 'streaming' AND sync_state <> 'async' AND flush_lsn IS NOT NULL`,
      '2',
      30_000,
    );
  }

  async function waitsFor(names: string): Promise<void> {
    const { primary } = topology;
    await primary.configure({ synchronous_standby_names: names, synchronous_commit: 'on' });
    await primary.reload();
    await pollUntil(
      `${names} in effect`,
      async () => ((await primary.value('SHOW synchronous_standby_names')) === names ? true : null),
      { timeoutMs: 10_000 },
    );
    await bothCount();
  }

  /** Restarts one after the other until the load has ended; gives how often. */
  async function restartInTurn(
    load: CommitLoad,
    end: (relay: WalcastRelay) => Promise<void>,
  ): Promise<number> {
    let restarts = 0;
    while (load.isRunning || restarts < RELAYS.length) {
      const relay = topology.relay(RELAYS[restarts % RELAYS.length] ?? 'relay_a');
      await end(relay);
      await relay.start();
      await bothCount();
      restarts += 1;
    }
    return restarts;
  }

  async function drain(relay: WalcastRelay): Promise<void> {
    expect(await relay.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
  }

  const kill = (relay: WalcastRelay): Promise<void> => relay.kill();
  const rounds = [
    ['ANY 1 (relay_a, relay_b)', 'stopped in order', drain],
    ['FIRST 1 (relay_a, relay_b)', 'killed', kill],
    ...(FULL_FAULTS
      ? ([
          ['FIRST 1 (relay_a, relay_b)', 'stopped in order', drain],
          ['ANY 1 (relay_a, relay_b)', 'killed', kill],
        ] as const)
      : []),
  ] as const;

  it.each(rounds)('%s: are %s in turn, and no commit fails', async (names, how, end) => {
    await waitsFor(names);
    // Remembers what it was told of, which has to be on every standby.
    await topology.startLoad(1, 20);
    const load = await startCommitLoad(topology.primary, { clients: CLIENTS, seconds: SECONDS });
    const restarts = await restartInTurn(load, end);
    const stalls = await load.ended();
    tell(`${names}, ${how}: ${restarts} restarts`, stalls);
    expect(stalls.failures).toEqual([]);
    expect(stalls.transactions).toBeGreaterThan(0);
    expect(stalls.longestMs).toBeLessThan(STALL_MS_MAX);
    const endLsn = await topology.settle();
    expect(await topology.violations(endLsn)).toEqual([]);
  });

  it('hold up no commit while the first of them waits for a standby that stands still', async () => {
    const relay = topology.relay('relay_a');
    const standby = topology.standby('standby_a');
    // It went to the other relay meanwhile, perhaps; cut off from there it begins with the first of its list.
    await topology.relay('relay_b').stop('SIGTERM');
    await topology.relay('relay_b').start();
    await relay.waitForStatus('the standby', ({ standbys }) =>
      standbys.some(({ application_name: name }) => name === 'standby_a'),
    );
    await waitsFor('FIRST 1 (relay_a, relay_b)');
    await topology.startLoad(1, 20);
    const receiver = Number(await standby.value('SELECT pid FROM pg_stat_wal_receiver'));
    const load = await startCommitLoad(topology.primary, {
      clients: CLIENTS,
      seconds: DRAIN_S + 3,
    });
    signalProcess(receiver, 'SIGSTOP');
    await topology.relay('relay_a').stop('SIGTERM');
    signalProcess(receiver, 'SIGCONT');
    await relay.start();
    const stalls = await load.ended();
    tell('FIRST 1 (relay_a, relay_b), stopped in order beside a standby that stands still', stalls);
    expect(stalls.failures).toEqual([]);
    expect(stalls.longestMs).toBeLessThan((DRAIN_S - 1) * 1000);
    const endLsn = await topology.settle();
    expect(await topology.violations(endLsn)).toEqual([]);
  });
});

function tell(what: string, { tool, transactions, failures, longestMs }: CommitStalls): void {
  process.stderr.write(
    `${what} under ${tool}, ${transactions} transactions, ${failures.length} failed, the slowest took ${longestMs.toFixed(0)} ms\n`,
  );
}
