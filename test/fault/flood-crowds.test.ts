// A crowd of strangers at both ports, while a real standby streams: it is never a second late, by its own position; walcast
// keeps its bound of memory; and the standby is let in again in the middle of it, also from an address that floods.
// (P44, I1, I13, I14, I25, I61, I64, I71)
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { deriveScramSecret, formatScramSecret } from '../../src/auth/scram-secret.ts';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { makeCertificate } from '../support/certificates.ts';
import { LagWatch, loopbackAddresses, startFlood } from '../support/flood-rig.ts';
import type { FloodOptions, FloodReport, RunningFlood } from '../support/flood-rig.ts';
import { FULL_FAULTS, NEWEST_MAJOR, requires } from '../support/requirements.ts';

/** How long a crowd lasts at least before the standby is sent away; longer where the machine is too slow for a crowd. */
const FLOOD_MS = FULL_FAULTS ? 8_000 : 1_500;
const CROWD = 10_000;
const LAG_MS_MAX = 1_000;
/** Resident, at any moment: walcast with its store and a standby, and as many strangers as come. */
const RSS_MAX = 400 * 1024 * 1024;
const PASSWORD = 'only the standby knows';

/** What they send who are about to say who they are, and never get there. */
const DRIPPED_STARTUP = '\0\0\0\x50\0\x03\0\0user\0replicator\0replication\0true\0';
const DRIPPED_REQUEST = 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n';

/** Where strangers come from, who may only try; who has been let in without a word; and where the standby is. */
const STRANGERS = loopbackAddresses(8, 50);
const STRANGERS_IN_TLS = loopbackAddresses(7, 50);
const TRUSTED = loopbackAddresses(9, 50);
const NEIGHBOURS = ['127.0.0.1'];

interface Crowd extends Omit<FloodOptions, 'port' | 'kind'> {
  readonly what: string;
  readonly kind: FloodOptions['kind'];
  readonly port: 'postgresql' | 'http';
  /** What shows that it was one. */
  readonly isCrowd: (report: FloodReport) => boolean;
}

const seconds = FLOOD_MS / 1_000;
const CROWDS: readonly Crowd[] = [
  {
    what: 'of ten thousand who say nothing',
    kind: 'idle',
    port: 'postgresql',
    connections: CROWD,
    perSecond: 5_000,
    addresses: STRANGERS,
    isCrowd: ({ opened }) => opened >= 300 * seconds,
  },
  {
    what: 'of ten thousand who say nothing to the HTTP port',
    kind: 'idle',
    port: 'http',
    connections: CROWD,
    perSecond: 5_000,
    addresses: STRANGERS,
    isCrowd: ({ opened }) => opened >= 300 * seconds,
  },
  {
    what: 'that says a byte a second',
    kind: 'drip',
    port: 'postgresql',
    connections: CROWD,
    perSecond: 1_000,
    addresses: STRANGERS,
    drip: DRIPPED_STARTUP,
    isCrowd: ({ openMax }) => openMax >= 300,
  },
  {
    what: 'that says a byte a second to the HTTP port',
    kind: 'drip',
    port: 'http',
    connections: CROWD,
    perSecond: 1_000,
    addresses: STRANGERS,
    drip: DRIPPED_REQUEST,
    isCrowd: ({ opened }) => opened >= 200 * seconds,
  },
  {
    what: 'that guesses a thousand passwords a second',
    kind: 'passwords',
    port: 'postgresql',
    connections: 2_000,
    perSecond: 1_000,
    addresses: STRANGERS,
    user: 'replicator',
    isCrowd: ({ opened }) => opened >= 100 * seconds,
  },
  {
    what: 'that guesses a thousand passwords a second from where the standby is',
    kind: 'passwords',
    port: 'postgresql',
    connections: 2_000,
    perSecond: 1_000,
    addresses: NEIGHBOURS,
    user: 'replicator',
    isCrowd: ({ opened }) => opened >= 100 * seconds,
  },
  {
    what: 'that guesses passwords inside TLS, as many as it can',
    kind: 'passwords',
    port: 'postgresql',
    connections: 2_000,
    perSecond: 1_000,
    addresses: STRANGERS_IN_TLS,
    tls: true,
    user: 'replicator',
    isCrowd: ({ opened }) => opened >= 10 * seconds,
  },
  {
    what: 'that announces two gigabytes, before the login and behind it',
    kind: 'lengths',
    port: 'postgresql',
    connections: 500,
    perSecond: 500,
    addresses: TRUSTED,
    isCrowd: ({ opened }) => opened >= 100 * seconds,
  },
  {
    what: 'of two hundred that send a hundred thousand commands each and read no answer',
    kind: 'pipeline',
    port: 'postgresql',
    connections: 200,
    perSecond: 1_000,
    addresses: TRUSTED,
    isCrowd: ({ answered }) => answered >= 100_000,
  },
];

requires(`postgres-${NEWEST_MAJOR}`).describe('a crowd', () => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let standby: PostgresCluster;
  let control: PostgresCluster;
  let relay: WalcastRelay;
  let load: WriteLoad;
  let watch: LagWatch;
  let controlWatch: LagWatch;
  /** Of what has been opened, in that order. */
  const closers: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    closers.push(() => workspace.close());
    primary = await createPrimary(workspace, { major: NEWEST_MAJOR, name: 'primary' });
    await primary.start();
    relay = await createRelay(workspace, {
      name: 'walcast',
      upstream: () => primary.target(),
      settings: { slots: ['standby'], auth: await access() },
    });
    relay.configure({ listen: [{ address: `127.0.0.1:${relay.port}`, tls: await pair() }] });
    await relay.start();
    const parts = {
      major: NEWEST_MAJOR,
      backupFrom: primary.target(),
      settings: { wal_retrieve_retry_interval: '100ms' },
    };
    const upstream = relay.target({ user: 'replicator', password: PASSWORD });
    [standby, control] = await Promise.all([
      createStandby(workspace, { ...parts, name: 'standby', upstream, slot: 'standby' }),
      createStandby(workspace, { ...parts, name: 'control', upstream: primary.target() }),
    ]);
    await Promise.all([standby.start(), control.start()]);
    load = await startWriteLoad(() => primary, 1, 20);
    load.start();
    closers.push(() => load.stop());
    await streaming().catch((error: unknown) => {
      throw new Error(
        `${String(error)}\n${standby.log.tail(10)}\n${relay.log.slice(-10).join('\n')}`,
      );
    });
    watch = await LagWatch.start(primary, standby);
    controlWatch = await LagWatch.start(primary, control);
    closers.push(
      () => watch.stop(),
      () => controlWatch.stop(),
    );
  }, 120_000);

  afterAll(async () => {
    for (const close of closers.toReversed()) await close();
  });

  async function access(): Promise<Readonly<Record<string, unknown>>> {
    const salt = Buffer.alloc(16, 7);
    const secret = await deriveScramSecret(PASSWORD, { salt, iterations: 4_096 });
    const hba = `host replication all 127.0.9.0/24 trust\nhost replication all 127.0.0.0/8 scram-sha-256\n`;
    return { hba, users: { replicator: formatScramSecret(secret) } };
  }

  async function pair(): Promise<{ cert: string; key: string }> {
    const certificate = makeCertificate({ commonName: 'walcast' });
    const [cert, key] = ['server.crt', 'server.key'].map((name) => join(workspace.directory, name));
    if (cert === undefined || key === undefined) throw new Error('no names');
    await writeFile(cert, certificate.pem);
    await writeFile(key, certificate.key, { mode: 0o600 });
    return { cert, key };
  }

  async function streaming(): Promise<void> {
    await standby.waitForValue(
      "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'",
      '1',
      30_000,
    );
  }

  /** There is a crowd, and the standby has been looked at meanwhile. */
  async function crowded(flood: RunningFlood, isCrowd: Crowd['isCrowd']): Promise<void> {
    const look = (): Promise<true | null> =>
      Promise.resolve(isCrowd(flood.report()) && watch.samples > 10 ? true : null);
    await pollUntil('a crowd', look, { timeoutMs: 20_000 }).catch((error: unknown) => {
      throw new Error(`no crowd: ${JSON.stringify(flood.report())}`, { cause: error });
    });
  }

  /** The standby loses its connection and has to log in again, in the middle of the crowd. */
  async function reconnect(): Promise<void> {
    const receiver = 'SELECT pid FROM pg_stat_wal_receiver';
    const [[before = ''] = []] = await standby.query(receiver);
    process.kill(Number(before), 'SIGTERM');
    const isBack = `SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND pid <> ${before}`;
    await standby.waitForValue(isBack, '1', 30_000);
  }

  it.each(CROWDS)('$what', { timeout: 90_000 }, async ({ port, isCrowd, ...crowd }) => {
    await standby.waitForReplay(await primary.walPosition(), 30_000);
    for (const one of [watch, controlWatch]) one.take();
    const flood = await startFlood({
      ...crowd,
      port: port === 'http' ? relay.httpPort : relay.port,
    });
    await new Promise((resolve) => setTimeout(resolve, FLOOD_MS));
    await crowded(flood, isCrowd).catch(async (error: unknown) => {
      await flood.stop();
      throw error;
    });
    const lag = watch.take();
    // What a machine that is too busy for everybody does is nothing of ours.
    const late = controlWatch.take().longestMs;
    await reconnect().catch(async (error: unknown) => {
      await flood.stop();
      throw error;
    });
    const report = await flood.stop();
    const { rssMax } = await relay.memory();
    expect(isCrowd(report), JSON.stringify(report)).toBe(true);
    expect(lag.longestMs).toBeLessThan(LAG_MS_MAX + late);
    expect(rssMax).toBeLessThan(RSS_MAX);
    expect(relay.problems()).toEqual([]);
  });
});
