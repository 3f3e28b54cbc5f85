// The real store under real walsenders: a message is refused behind a record that was sent in part. Nobody may get good
// bytes behind refused ones (I3).
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ConsoleOpener } from '../../src/console/opener.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { Listener } from '../../src/net/listener.ts';
import { advanceLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { LateWalFeed } from '../../src/relay/late-binding.ts';
import type { DamagedWal } from '../../src/relay/repair.ts';
import { StoreFeed } from '../../src/relay/store-adapters.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import { WalSenders } from '../../src/walsender/wal-senders.ts';
import { sampleConsole } from '../support/console-source.ts';
import { MemorySlots, MemoryTunnels } from '../support/memory-wal.ts';
import { query, RawClient, StreamReader } from '../support/raw-client.ts';
import { feedStore, storeOptions } from '../support/store-rig.ts';
import { TestWalAges } from '../support/wal-ages.ts';
import { WalFixture } from '../support/wal-fixture.ts';
import { identityOf, rules } from '../support/wal-senders-fixture.ts';

it('ends the session that holds part of a record that was refused, and serves all of it afterwards', async () => {
  const wal = new WalFixture();
  wal.fill(300_000, 3);
  wal.record({ body: Buffer.alloc(400_000, 1) });
  wal.fill(300_000, 5);
  await using served = await serve(wal);
  const { store } = served;
  feedStore(store, wal, { endLsn: advanceLsn(wal.startLsn, 500_000) });
  const first = await served.stream(wal.startLsn);
  await first.readTo(store.sendableLsn());

  const sentLsn = store.sendableLsn();
  const bad = wal.slice(sentLsn, advanceLsn(sentLsn, 65_536)).fill(0xee, 20_000, 30_000);
  expect(store.append(sentLsn, bad)).not.toBeNull();
  expect(store.sendableLsn()).toBeLessThan(sentLsn);
  feedStore(store, wal);
  expect(await first.client.closed()).toHaveLength(0);

  const again = await served.stream(wal.startLsn);
  await again.readTo(wal.endLsn);
  expect(again.wal().equals(wal.bytes())).toBe(true);
  again.client.close();
});

interface Served extends AsyncDisposable {
  readonly store: WalStore;
  stream(startLsn: Lsn): Promise<StreamReader>;
}

/** An empty store of the fixture's cluster, and walsenders over it as the relay puts them together. */
async function serve(wal: WalFixture): Promise<Served> {
  const directory = await mkdtemp(join(tmpdir(), 'walcast-refused-'));
  const store = await WalStore.open(storeOptions(directory));
  const identity = { ...identityOf(15), ...wal.origin };
  await store.initialize({ ...identity, timeline: toTimelineId(1) }, wal.startLsn);
  const feed = new LateWalFeed();
  const nothing = {
    openOlder: () => null,
    historyFile: () => Promise.resolve(null),
    repair: (damage: DamagedWal) => damage,
  };
  feed.bind(new StoreFeed(store, nothing, { expectsWal: () => true, ages: new TestWalAges() }));
  const senders = new WalSenders({
    consoles: new ConsoleOpener(sampleConsole()),
    feed,
    slots: new MemorySlots(),
    tunnels: new MemoryTunnels(),
    identity: () => identity,
    hba: () => rules('host replication all all trust'),
    settings: () => ({
      maxWalSenders: 10,
      ownSettings: new Map(),
      walSenderTimeoutMs: 60_000,
      reserved: { slots: [], standbys: [] },
      authenticationTimeoutMs: 60_000,
      connectionsPerNetworkMax: null,
      logConnections: false,
      logDisconnections: false,
      logReplicationCommands: false,
      holdAheadMs: 2_000,
      drainTimeoutMs: 5_000,
      version: '0.1.0-test',
    }),
    clock: systemClock,
    log: silentLog,
    onReply: () => {},
  });
  const listener = await Listener.open({
    target: { kind: 'tcp', host: '127.0.0.1', port: 0 },
    connectionsMax: 10,
    onConnection: (open) => senders.accept(open),
  });
  return {
    store,
    stream: async (startLsn) => {
      const { client } = await RawClient.standby(listener.port ?? 0, {});
      client.send(query(`START_REPLICATION 0/${startLsn.toString(16)} TIMELINE 1`));
      expect((await client.next())?.type).toBe('W');
      return new StreamReader(client, startLsn);
    },
    [Symbol.asyncDispose]: async () => {
      listener.close();
      senders.terminate();
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
}
