// What a commit waits for: one standby, attached directly to the primary, through a process that only hands bytes on, and behind
// walcast; and beside these what one sync of the same disk takes. They take turns, so that whatever else the machine does hits all.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { HelperProcess } from './child.mjs';
import { walcastConfiguration } from './configuration.mjs';
import { closeWhenInterrupted } from './interrupt.mjs';
import { cpuSeconds } from './process-cpu.mjs';
import { median, percentile, round } from './report.mjs';
import { SyncThread } from './sync-thread.mjs';

const STANDBY = 'bench_standby';
const SIDES = /** @type {const} */ (['direct', 'proxy', 'walcast']);
const WARM_COMMITS = 30;
const SYNCS_PER_TURN = 40;
/** A page of WAL, the least that a commit makes durable. */
const SYNC_BYTES = 8 << 10;
const SYNC_FILE_BYTES = 16 << 20;
const SWITCH_TIMEOUT_MS = 60_000;

const TITLE =
  'milliseconds from COMMIT to its answer, the standby attached directly, through a process that hands bytes on (proxy), and behind walcast, same run; fsync: write and fdatasync of one page on the same disk';

/** @typedef {'direct' | 'proxy' | 'walcast'} Side */
/** @typedef {import('../src/demo/postgres-server.ts').PostgresCluster} PostgresCluster */
/** @typedef {import('../src/demo/postgres-workspace.ts').Workspace} Workspace */
/** @typedef {import('../src/demo/walcast-process.ts').WalcastProcess} WalcastProcess */
/** @typedef {import('./workloads.mjs').Session} Session */

/**
 * @typedef {object} CommitOptions
 * @property {readonly string[]} levels
 * @property {readonly number[]} clients numbers of sessions that commit at the same time
 * @property {number} runs turns of each side
 * @property {number} count commits of each session per figure and turn
 * @property {'page' | 'record'} verify how walcast checks what it receives
 * @property {number} postgres
 * @property {string} nodeOptions
 * @property {string} dist folder with the compiled walcast
 * @property {string} directory where walcast keeps its WAL; '' for the disk of the servers
 * @property {(text: string) => void} progress
 */

/**
 * @typedef {object} Bench
 * @property {CommitOptions} options
 * @property {PostgresCluster} primary
 * @property {PostgresCluster} standby
 * @property {Session} session
 * @property {readonly Session[]} clients
 * @property {{ process: WalcastProcess, port: number }} relay
 * @property {HelperProcess} proxy
 * @property {number} proxyPort
 * @property {SyncThread} disk
 */

/** @typedef {{ commits: number[], cpuSeconds: number }} Samples */

/** @param {CommitOptions} options */
export async function benchCommit(options) {
  const load = (/** @type {string} */ name) =>
    import(pathToFileURL(`${options.dist}/demo/${name}.js`).href);
  const { openWorkspace } = await load('postgres-workspace');
  const { serverUser } = await load('postgres-user');
  const clusters = await load('postgres-cluster');
  const harness = await load('walcast-process');
  /** @type {Workspace} */
  const workspace = await openWorkspace(await serverUser());
  const interrupted = closeWhenInterrupted(workspace);
  try {
    const bench = await setUp(options, { workspace, clusters, harness });
    try {
      const figures = await measureAll(bench);
      const postgres = await bench.session.value('SHOW server_version');
      return { facts: { postgres }, sections: [{ title: TITLE, rows: rowsOf(bench, figures) }] };
    } finally {
      // Stopped processes do not hear that they shall end.
      bench.relay.process.signal('SIGCONT');
      await Promise.all([bench.disk.close(), bench.proxy.close()]);
    }
  } finally {
    await workspace.close();
    interrupted.cancel();
  }
}

/**
 * @param {CommitOptions} options
 * @param {{ workspace: Workspace, clusters: any, harness: any }} parts
 * @returns {Promise<Bench>}
 */
async function setUp(options, { workspace, clusters, harness }) {
  const major = options.postgres;
  // Nobody's connection ends because walcast is stopped while it is the other side's turn.
  const settings = {
    shared_buffers: '128MB',
    autovacuum: 'off',
    checkpoint_timeout: '1h',
    max_wal_size: '8GB',
    wal_keep_size: '8GB',
    wal_sender_timeout: '0',
    wal_receiver_timeout: '0',
    wal_retrieve_retry_interval: '100ms',
  };
  /** @type {PostgresCluster} */
  const primary = await clusters.createPrimary(workspace, { name: 'primary', major, settings });
  await primary.start();
  const session = await primary.session();
  await session.query('CREATE TABLE bench_commit (id bigserial PRIMARY KEY, note text NOT NULL)');
  const relay = await startWalcast(options, { workspace, harness, primary });
  /** @type {PostgresCluster} */
  const standby = await clusters.createStandby(workspace, {
    name: STANDBY,
    major,
    settings,
    backupFrom: primary.target(),
    upstream: primary.target(),
  });
  await standby.start();
  const clients = await Promise.all(
    Array.from({ length: Math.max(...options.clients) }, () => primary.session()),
  );
  const file = join(workspace.directory, 'sync-yardstick');
  await writeFile(file, Buffer.alloc(SYNC_FILE_BYTES));
  const disk = new SyncThread({ path: file, blockBytes: SYNC_BYTES, fileBytes: SYNC_FILE_BYTES });
  const proxy = new HelperProcess('./proxy.mjs');
  const proxyPort = await proxy.ask('listen', primary.port);
  return { options, primary, standby, session, clients, relay, proxy, proxyPort, disk };
}

/** @param {CommitOptions} options @param {{ workspace: Workspace, harness: any, primary: PostgresCluster }} parts */
async function startWalcast(options, { workspace, harness, primary }) {
  const directory = join(options.directory || workspace.directory, `bench-store-${process.pid}`);
  const walcast = await harness.spawnWalcast(workspace, {
    name: 'walcast',
    configuration: walcastConfiguration({
      primaryPort: primary.port,
      directory,
      verify: options.verify,
      synchronousStandbyNames: STANDBY,
    }),
    nodeArguments: options.nodeOptions.split(' ').filter((word) => word !== ''),
  });
  const { port, url } = await harness.listeningAt(walcast);
  await harness.waitUntilReady(walcast, url);
  return { process: walcast, port };
}

/**
 * Every turn of every side; each second round in the other order.
 * @param {Bench} bench
 */
async function measureAll(bench) {
  /** @type {Map<string, Samples>} */
  const figures = new Map();
  /** @type {number[]} */
  const syncs = [];
  for (let run = 0; run < bench.options.runs; run += 1) {
    const sides = run % 2 === 0 ? SIDES : SIDES.toReversed();
    for (const side of sides) {
      await attach(bench, side);
      for (const clients of bench.options.clients) {
        for (const level of bench.options.levels) {
          const key = keyOf({ side, clients, level });
          const samples = figures.get(key) ?? { commits: [], cpuSeconds: 0 };
          figures.set(key, samples);
          await measure(bench, { level, clients }, samples);
        }
      }
      syncs.push(...(await bench.disk.measure(SYNCS_PER_TURN)));
    }
    bench.options.progress(`round ${run + 1} of ${bench.options.runs}`);
  }
  return { figures, syncs };
}

/** @param {{ side: Side, clients: number, level: string }} figure */
function keyOf({ side, clients, level }) {
  return `${side} ${clients} ${level}`;
}

/**
 * The standby streams from that side, and the primary's commits wait for nobody else. walcast sleeps while it is not
 * needed: the others are measured as if it did not exist.
 * @param {Bench} bench @param {Side} side
 */
async function attach({ primary, standby, session, relay, proxyPort }, side) {
  if (side === 'walcast') relay.process.signal('SIGCONT');
  const port = { direct: primary.port, proxy: proxyPort, walcast: relay.port }[side];
  await standby.followUpstream({ ...primary.target(), port });
  await standby.reload();
  const name = side === 'walcast' ? 'walcast' : STANDBY;
  await primary.configure({ synchronous_standby_names: name });
  await primary.reload();
  // A commit that comes back was confirmed by the standby that counts now, which therefore has all before it.
  await within(`commits that wait for ${name}`, () => commitOnce(session, 'on'));
  if (side !== 'walcast') relay.process.signal('SIGSTOP');
  await within('the standby to have replayed all', () => commitOnce(session, 'remote_apply'));
}

/** @param {Session} session @param {string} level */
async function commitOnce(session, level) {
  await session.query(`SET synchronous_commit = ${level}`);
  await session.query(INSERT);
}

const INSERT = "INSERT INTO bench_commit (note) VALUES (repeat('n', 64))";

/**
 * @param {Bench} bench
 * @param {{ level: string, clients: number }} figure
 * @param {Samples} samples are added to
 */
async function measure({ clients: sessions, relay, options }, { level, clients }, samples) {
  const active = sessions.slice(0, clients);
  await Promise.all(active.map((session) => session.query(`SET synchronous_commit = ${level}`)));
  await Promise.all(active.map((session) => commit(session, WARM_COMMITS)));
  const before = cpuSeconds(relay.process.pid).total;
  const all = await Promise.all(active.map((session) => commit(session, options.count)));
  samples.cpuSeconds += cpuSeconds(relay.process.pid).total - before;
  samples.commits.push(...all.flat());
}

/** Milliseconds of each of so many commits, one after the other. @param {Session} session @param {number} count */
async function commit(session, count) {
  const milliseconds = [];
  for (let index = 0; index < count; index += 1) {
    const startedMs = performance.now();
    await session.query(INSERT);
    milliseconds.push(performance.now() - startedMs);
  }
  return milliseconds;
}

/**
 * @param {Bench} bench
 * @param {Awaited<ReturnType<typeof measureAll>>} measured
 */
function rowsOf({ options }, { figures, syncs }) {
  const fsync = { p50: median(syncs), p99: percentile(syncs, 0.99) };
  return options.clients.flatMap((clients) =>
    options.levels.map((level) => {
      const of = (/** @type {Side} */ side) =>
        figures.get(keyOf({ side, clients, level })) ?? { commits: [], cpuSeconds: 0 };
      const [direct, proxy, walcast] = [of('direct'), of('proxy'), of('walcast')];
      const at = (/** @type {number} */ share) => ({
        direct: percentile(direct.commits, share),
        walcast: percentile(walcast.commits, share),
      });
      const [p50, p99] = [at(0.5), at(0.99)];
      return {
        level,
        clients,
        commits: direct.commits.length,
        direct_p50: round(p50.direct, 3),
        proxy_p50: round(percentile(proxy.commits, 0.5), 3),
        walcast_p50: round(p50.walcast, 3),
        ratio_p50: round(p50.walcast / p50.direct, 2),
        more_p50: round(p50.walcast - p50.direct, 3),
        direct_p99: round(p99.direct, 3),
        walcast_p99: round(p99.walcast, 3),
        ratio_p99: round(p99.walcast / p99.direct, 2),
        more_p99: round(p99.walcast - p99.direct, 3),
        fsync_p50: round(fsync.p50, 3),
        fsync_p99: round(fsync.p99, 3),
        more_per_fsync: round((p50.walcast - p50.direct) / fsync.p50, 2),
        wc_cpu_us: round((walcast.cpuSeconds / walcast.commits.length) * 1e6, 0),
      };
    }),
  );
}

/** @param {string} what @param {() => Promise<unknown>} action */
async function within(what, action) {
  const late = new AbortController();
  const timeout = sleep(SWITCH_TIMEOUT_MS, null, { signal: late.signal }).then(() => {
    throw new Error(`waiting for ${what}: not in ${SWITCH_TIMEOUT_MS} ms`);
  });
  timeout.catch(() => {});
  try {
    await Promise.race([action(), timeout]);
  } finally {
    late.abort();
  }
}
