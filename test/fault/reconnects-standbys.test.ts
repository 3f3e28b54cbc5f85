// What do standbys cost that come and go? Five hundred at once while others stream (F48), a thousand one after the other in
// every way a client can end, and real walreceivers that are killed (F47): nobody waits, nothing stays behind.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { SlotJson } from '../../src/http/api-types.ts';
import { formatLsn, INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import { createRelay, HERE } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import {
  message,
  query,
  RawClient,
  startup,
  STANDBY,
  statusUpdate,
} from '../support/raw-client.ts';
import { NEWEST_MAJOR, requires } from '../support/requirements.ts';
import { probed, resourceUse } from '../support/resource-use.ts';
import type { ResourceUse } from '../support/resource-use.ts';
import { metric } from './fault-support.ts';

const MIB = 2 ** 20;
const STORM = 500;
const STANDBYS_MAX = 400;
/** As promised: a keepalive that asks is answered in this time, also while a crowd comes in. */
const ANSWER_MS_MAX = 100;
/**
 * The loop is measured from outside its process, on two cores that others use: where it is starved by them, so is this
 * test, and its own lateness says by how much.
 */
const LOOP_DELAY_MS_MAX = 50;

const RECONNECTS = 1_000;
const AT_ONCE = 40;
const SLOTS = 20;
const KILLS = 3;
/** Open files that the system allows where it allows few. */
const FEW_FILES = 512;
/** What V8 and the allocator keep differs from look to look by some MiB; a leak of one batch a session would be a gigabyte. */
const RSS_MORE_BYTES_MAX = 40 * MIB;
const HEAP_MORE_BYTES_MAX = 4 * MIB;
const MORE_MAX = 3;

requires(`postgres-${NEWEST_MAJOR}`).describe('standbys that come and go', () => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let standby: PostgresCluster;
  let relay: WalcastRelay;
  let load: WriteLoad;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, { major: NEWEST_MAJOR, name: 'primary' });
    await primary.start();
    relay = await createRelay(workspace, {
      name: 'walcast',
      upstream: () => primary.target(),
      settings: {
        slots: ['standby', ...Array.from({ length: SLOTS }, (_, index) => `slot_${index}`)],
        storage: { max_wal_senders: STANDBYS_MAX },
      },
      ...probed(workspace, 'walcast'),
    });
    await relay.start();
    standby = await createStandby(workspace, {
      major: NEWEST_MAJOR,
      name: 'standby',
      backupFrom: primary.target(),
      upstream: relay.target(),
      slot: 'standby',
      settings: { wal_retrieve_retry_interval: '100ms' },
    });
    await standby.start();
    load = await startWriteLoad(primary, 1, 5);
    await caughtUp();
  });

  afterAll(async () => {
    await load.stop();
    await workspace.close();
  });

  async function caughtUp(): Promise<void> {
    await standby.waitForReplay(await primary.walPosition());
  }

  /** A client that is let in and streams; the letter of the last answer. */
  async function begin(client: RawClient, sql: string): Promise<string> {
    client.send(startup({ ...STANDBY, application_name: 'crowd' }), query(sql));
    await client.until('ZE');
    const answer = await client.next();
    return answer?.type ?? 'closed';
  }

  async function onlyTheRealOne(): Promise<void> {
    await relay.waitForStatus('the real standby alone', ({ standbys }) => standbys.length === 1);
    const slots = (await relay.get('/api/v1/slots')) as SlotJson[];
    expect(slots.filter(({ active }) => active).map(({ slot_name: name }) => name)).toEqual([
      'standby',
    ]);
  }

  it('five hundred at once are served or told that it is full; nobody who streams waits for it', async () => {
    const startLsn = formatLsn(await relay.flushedLsn());
    const answers = await answerTimes(relay, startLsn);
    // A reading of the metrics begins the measurement of the loop anew.
    await relay.metrics();
    const own = ownLateness();
    const clients = await Promise.all(
      Array.from({ length: STORM }, () => RawClient.open(relay.port)),
    );
    const letters = await Promise.all(
      clients.map((client) => {
        client.send(startup({ ...STANDBY, application_name: 'crowd' }), query(start(startLsn)));
        return client.until('WE').then((items) => items.at(-1)?.type ?? 'closed');
      }),
    );
    const loopMs = 1000 * ((await metric(relay.httpPort, 'nodejs_eventloop_lag_p99_seconds')) ?? 0);
    const times = await answers.stop();
    const ownMs = own.stop();
    for (const client of clients) client.socket.resetAndDestroy();
    const count = (letter: string): number => letters.filter((each) => each === letter).length;
    const text = `${count('W')} served, ${count('E')} refused; loop p99 ${loopMs.toFixed(1)} ms, answers at most ${Math.max(...times).toFixed(1)} ms, own lateness at most ${ownMs.toFixed(1)} ms`;
    process.stderr.write(`${text}\n`);
    // The real one and the one that asks are in, and each slot of the configuration keeps a place for its standby.
    const places = STANDBYS_MAX - 2 - SLOTS;
    expect(count('W'), text).toBe(places);
    expect(count('E'), text).toBe(STORM - places);
    expect(times.length).toBeGreaterThan(3);
    expect(Math.max(...times), text).toBeLessThan(ANSWER_MS_MAX + 2 * ownMs);
    expect(loopMs, text).toBeLessThan(LOOP_DELAY_MS_MAX + 2 * ownMs);
    await onlyTheRealOne();
    await caughtUp();
  });

  it(
    'a thousand, each ending in one of six ways, leave nothing behind',
    { timeout: 120_000 },
    async () => {
      const looks: ResourceUse[] = [];
      const startLsn = formatLsn(await relay.flushedLsn());
      for (let done = 0; done < RECONNECTS + 3 * AT_ONCE; done += AT_ONCE) {
        if (done === 3 * AT_ONCE) {
          await onlyTheRealOne();
          looks.push(await resourceUse(workspace, relay));
        }
        await Promise.all(
          Array.from({ length: AT_ONCE }, (_, index) => comeAndGo(index, startLsn)),
        );
        // A slot is free once its session has ended, and each is asked for in each round.
        await slotsFree();
      }
      await onlyTheRealOne();
      await caughtUp();
      looks.push(await resourceUse(workspace, relay));
      const [first, last] = looks;
      if (first === undefined || last === undefined) throw new Error('nothing was measured');
      expectFlat(first, last, `after ${RECONNECTS} clients`);
      expect(relay.log.filter((line) => line.includes('MaxListeners'))).toEqual([]);
      expect(relay.problems()).toEqual([]);
    },
  );

  it('real walreceivers that are killed come back to their slot, and leave nothing behind', async () => {
    const first = await resourceUse(workspace, relay);
    for (let kill = 0; kill < KILLS; kill += 1) {
      const pid = await walReceiverPid(standby);
      signalProcess(pid, 'SIGKILL');
      await pollUntil(
        'another walreceiver',
        async () => ((await walReceiverPid(standby)) === pid ? null : true),
        { timeoutMs: 30_000 },
      );
      await caughtUp();
    }
    await onlyTheRealOne();
    expectFlat(first, await resourceUse(workspace, relay), `after ${KILLS} killed walreceivers`);
    const { absent_standbys: absent } = await relay.status();
    expect(absent.filter(({ slot_name: slot }) => slot === 'standby')).toEqual([]);
  });

  it('more than the system has descriptors for take none from the store and the upstream', async () => {
    const small = await createRelay(workspace, {
      name: 'few_files',
      slot: 'few_files',
      upstream: () => primary.target(),
      place: { ...HERE, wrapper: ['/bin/sh', '-c', `ulimit -n ${FEW_FILES}; exec "$0" "$@"`] },
    });
    await small.start();
    const clients = await Promise.all(
      Array.from({ length: FEW_FILES + 100 }, () => RawClient.open(small.port)),
    );
    const startLsn = formatLsn(await primary.walPosition());
    const streams = await Promise.all(
      clients.slice(0, 10).map(async () => {
        const client = await RawClient.open(small.port);
        clients.push(client);
        const letter = await begin(client, start(startLsn));
        // What follows is three segments for each, and nobody's business here.
        client.pause();
        return letter;
      }),
    );
    expect(streams).toEqual(Array.from({ length: 10 }, () => 'W'));
    for (let segment = 0; segment < 3; segment += 1) {
      await primary.query('SELECT pg_switch_wal()');
      const endLsn = await primary.walPosition();
      await small.waitForStatus(
        'its flush',
        ({ store }) => (parseLsn(store.flushed_lsn ?? '') ?? INVALID_LSN) >= endLsn,
      );
    }
    expect((await small.status()).state).toBe('streaming');
    expect(small.problems()).toEqual([]);
    for (const client of clients) client.close();
    await small.stop();
  });

  /** One client: half of them with a slot; each of the six ways is taken as often. */
  async function comeAndGo(index: number, startLsn: string): Promise<void> {
    const client = await RawClient.open(relay.port);
    const way = index % 6;
    if (way === 5) {
      // Not even let in.
      client.send(startup({ ...STANDBY }).subarray(0, 20));
      client.close();
      return;
    }
    const slot = index < SLOTS ? `slot_${index}` : null;
    expect(await begin(client, start(startLsn, slot))).toBe('W');
    client.send(statusUpdate(1n, 1n, 1n, 1));
    await client.next();
    if (way === 0) client.socket.resetAndDestroy();
    else if (way === 1) client.socket.end();
    else if (way === 2) client.send(message('X'));
    else if (way === 3) client.send(message('c'), message('X'));
    else client.send(message('?'));
    client.socket.resume();
    await client.closed();
  }

  async function slotsFree(): Promise<void> {
    await pollUntil(
      'free slots',
      async () => {
        const slots = (await relay.get('/api/v1/slots')) as SlotJson[];
        return slots.filter(({ active }) => active).length === 1 ? true : null;
      },
      { timeoutMs: 20_000 },
    );
  }
});

function start(startLsn: string, slot: string | null = null): string {
  return `START_REPLICATION ${slot === null ? '' : `SLOT ${slot} `}${startLsn} TIMELINE 1`;
}

function expectFlat(first: ResourceUse, last: ResourceUse, when: string): void {
  const text = `${when}: ${JSON.stringify({ first, last })}`;
  process.stderr.write(`${text}\n`);
  expect(last.rss - first.rss, text).toBeLessThan(RSS_MORE_BYTES_MAX);
  expect(last.heapUsed - first.heapUsed, text).toBeLessThan(HEAP_MORE_BYTES_MAX);
  for (const kind of ['descriptors', 'timers', 'sockets', 'listeners'] as const)
    expect(last[kind] - first[kind], `${kind}: ${text}`).toBeLessThanOrEqual(MORE_MAX);
}

/** A standby that streams and asks ten times a second whether walcast is there: milliseconds until each answer. */
async function answerTimes(
  relay: WalcastRelay,
  startLsn: string,
): Promise<{ stop(): Promise<number[]> }> {
  const client = await RawClient.open(relay.port);
  client.send(startup({ ...STANDBY, application_name: 'asks' }), query(start(startLsn)));
  await client.until('W');
  const times: number[] = [];
  let isOver = false;
  const asking = (async () => {
    while (!isOver) {
      const askedMs = performance.now();
      client.send(statusUpdate(1n, 1n, 1n, 1));
      for (;;) {
        const item = await client.next();
        if (item === null) throw new Error('the standby that asks was sent away');
        if (item.type === 'd' && item.body[0] === 0x6b) break;
      }
      times.push(performance.now() - askedMs);
      await new Promise((resolve) => {
        setTimeout(resolve, 100);
      });
    }
  })();
  return {
    async stop() {
      isOver = true;
      await asking;
      client.close();
      return times;
    },
  };
}

/** How late this process's own timers are at most, in milliseconds. */
function ownLateness(): { stop(): number } {
  let latestMs = 0;
  let atMs = performance.now();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    latestMs = Math.max(latestMs, nowMs - atMs - 10);
    atMs = nowMs;
  }, 10);
  return {
    stop() {
      clearInterval(timer);
      return latestMs;
    },
  };
}

async function walReceiverPid(cluster: PostgresCluster): Promise<number> {
  const sql =
    "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'walreceiver'";
  return await pollUntil(
    `a walreceiver of ${cluster.name}`,
    async () => {
      const pid = Number(await cluster.value(sql).catch(() => '0'));
      return pid === 0 ? null : pid;
    },
    { timeoutMs: 30_000 },
  );
}
