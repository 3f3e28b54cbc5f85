// Does a connection upstream leave anything behind when it is over? A hundred of them (half as many in `npm test`) come and go while the primary writes and a standby
// follows: cut in order and by reset, ended with the primary's walsender, and left because a reload names another address. (F20, P38)
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import { SUPERUSER } from '../../src/demo/postgres-server.ts';
import { renderConninfo } from '../../src/demo/postgres-settings.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { openFaultProxy } from '../harness/fault-proxy.ts';
import type { FaultProxy } from '../harness/fault-proxy.ts';
import { streamsOf } from '../harness/ledger.ts';
import type { Ledger } from '../harness/ledger.ts';
import { ledgerObserver } from '../harness/recorder.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { FULL_FAULTS, NEWEST_MAJOR, requires } from '../support/requirements.ts';
import { probed, resourceUse } from '../support/resource-use.ts';
import type { ResourceUse } from '../support/resource-use.ts';

const MIB = 2 ** 20;
const RECONNECTS = FULL_FAULTS ? 100 : 50;
/** Before the first look: what is made once (compiled code, buffers, the store's next files) is there. */
const WARM_UP = 12;
/** Each kill of a walsender costs the primary a restart of all its processes. */
const KILL_EVERY = 40;
/** What V8 and the allocator keep differs from look to look by some MiB; a leak of a connection's read buffer would be 80. */
const RSS_MORE_BYTES_MAX = 40 * MIB;
const HEAP_MORE_BYTES_MAX = 4 * MIB;
const MORE_MAX = 3;

requires(`postgres-${NEWEST_MAJOR}`).describe(`${RECONNECTS} connections upstream`, () => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let standby: PostgresCluster;
  let relay: WalcastRelay;
  /** Two addresses of the same primary. */
  const proxies: FaultProxy[] = [];
  let load: WriteLoad;
  const ledger: Ledger = { name: 'upstream', connections: [] };

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, { major: NEWEST_MAJOR, name: 'primary' });
    await primary.start();
    for (let count = 0; count < 2; count += 1) {
      const observer = ledgerObserver(ledger);
      proxies.push(await openFaultProxy({ target: () => primary.target(), observer }));
    }
    relay = await createRelay(workspace, {
      name: 'walcast',
      upstream: () => proxyOf(0),
      ...probed(workspace, 'walcast'),
    });
    await relay.start();
    standby = await createStandby(workspace, {
      major: NEWEST_MAJOR,
      name: 'standby',
      backupFrom: primary.target(),
      upstream: relay.target(),
    });
    await standby.start();
    load = await startWriteLoad(primary, 1, 2);
    await caughtUp();
  });

  afterAll(async () => {
    await load.stop();
    await workspace.close();
    for (const proxy of proxies) await proxy.close();
  });

  async function caughtUp(): Promise<void> {
    await standby.waitForReplay(await primary.walPosition());
  }

  function proxyOf(index: number): FaultProxy {
    const proxy = proxies[index % 2];
    if (proxy === undefined) throw new Error('there is no proxy yet');
    return proxy;
  }

  /**
   * Ends the connection in one of four ways, and waits until WAL comes over another one. One that was lost young is made again
   * after a pause that grows; a reload in between ends that.
   */
  async function reconnect(index: number): Promise<void> {
    const before = streamsOf(ledger).length;
    if (index % 2 === 1) await goTo(proxyOf((index + 1) / 2));
    else if (index % KILL_EVERY === 0) await killWalSender();
    else for (const proxy of proxies) proxy.cut(index % 4 === 0 ? 'reset' : 'orderly');
    await pollUntil(
      `WAL over connection ${index + 2}`,
      () =>
        streamsOf(ledger)
          .slice(before)
          .some(({ wal }) => wal.length > 0)
          ? true
          : null,
      { timeoutMs: 30_000 },
    );
  }

  async function goTo({ host, port }: FaultProxy): Promise<void> {
    const conninfo = renderConninfo({
      host,
      port: String(port),
      user: SUPERUSER,
      sslmode: 'disable',
    });
    await relay.reload({ upstream: { conninfo } });
  }

  async function killWalSender(): Promise<void> {
    const from = primary.log.mark();
    const sql = "SELECT pid FROM pg_stat_replication WHERE application_name = 'walcast'";
    signalProcess(Number(await primary.value(sql)), 'SIGKILL');
    await primary.waitForLog(/ready to accept connections/, { from });
  }

  it('leave no memory, descriptor, timer or listener behind', async () => {
    const looks: ResourceUse[] = [];
    for (let index = 0; index < WARM_UP + RECONNECTS; index += 1) {
      if (index === WARM_UP) {
        await caughtUp();
        looks.push(await resourceUse(workspace, relay));
      }
      await reconnect(index);
    }
    await caughtUp();
    looks.push(await resourceUse(workspace, relay));
    const [first, last] = looks;
    if (first === undefined || last === undefined) throw new Error('nothing was measured');
    const text = JSON.stringify({ first, last });
    process.stderr.write(`after ${RECONNECTS} reconnects: ${text}\n`);
    expect(last.rss - first.rss, text).toBeLessThan(RSS_MORE_BYTES_MAX);
    expect(last.heapUsed - first.heapUsed, text).toBeLessThan(HEAP_MORE_BYTES_MAX);
    for (const kind of ['descriptors', 'timers', 'sockets', 'listeners'] as const)
      expect(last[kind] - first[kind], `${kind}: ${text}`).toBeLessThanOrEqual(MORE_MAX);
    expect(relay.log.filter((line) => line.includes('MaxListeners'))).toEqual([]);
    expect(relay.problems()).toEqual([]);
  });
});
