// What does a walcast of a given size need: memory by what it does, descriptors, room on disk beside what it is told to keep,
// bytes on the network beside WAL? The figures behind docs/sizing.md. Each row is a walcast of its own.
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { withPrimary } from './bench-primary.mjs';
import { HelperProcess } from './child.mjs';
import { walcastConfiguration } from './configuration.mjs';
import { cpuSeconds, peakRssBytes } from './process-cpu.mjs';
import { round } from './report.mjs';
import { formatLsn, parseLsn } from './wal-stream.mjs';
import { BENCH_TABLE, flushAll, makeWal } from './workloads.mjs';

const MB = 1e6;

/** What was used for an answer, or a burst, is given back by then, as far as it ever is. */
const SETTLE_MS = 3_000;

/** Bytes of a message of WAL beside WAL: type, length, and the header of XLogData. (PostgreSQL, protocol-replication) */
const MESSAGE_BYTES = 30;

const SMALL_COMMITS = 500;

/** What docs/sizing.md says that is enough, in the process and in the kernel together. @param {Situation} situation */
function allowedMib({ standbys = 0, slots = 0, isStalled = false }) {
  return 320 + 0.12 * standbys + 0.01 * slots + (isStalled ? 5 * standbys : 0);
}

/**
 * @typedef {object} Situation
 * @property {string} what
 * @property {number} [standbys]
 * @property {number} [slots]
 * @property {number} [walMegabytes] made while they stream, as fast as the primary can
 * @property {boolean} [isStalled] standbys stop reading before that WAL is made
 * @property {boolean} [isBehind] standbys come after that WAL was made, and read it from disk
 * @property {boolean} [isSmall] one small commit after the other instead
 * @property {boolean} [hasTls]
 * @property {number} [keepMegabytes]
 */

/** @type {readonly Situation[]} */
const SITUATIONS = [
  { what: 'nobody connected, nothing received' },
  { what: 'nobody connected', walMegabytes: 1_000 },
  { what: '1,000 slots that reserve nothing', slots: 1_000 },
  { what: 'standbys, small commits', standbys: 1, isSmall: true },
  { what: 'standbys, small commits', standbys: 100, isSmall: true },
  { what: 'standbys, small commits', standbys: 1_000, isSmall: true },
  { what: 'standbys inside TLS, small commits', standbys: 100, isSmall: true, hasTls: true },
  { what: 'standbys inside TLS, small commits', standbys: 1_000, isSmall: true, hasTls: true },
  { what: 'standbys, as fast as it goes', standbys: 2, walMegabytes: 1_000 },
  { what: 'standbys, as fast as it goes', standbys: 32, walMegabytes: 100 },
  { what: 'standbys, as fast as it goes', standbys: 200, walMegabytes: 50 },
  {
    what: 'standbys inside TLS, as fast as it goes',
    standbys: 32,
    walMegabytes: 100,
    hasTls: true,
  },
  { what: 'standbys that stopped reading', standbys: 32, walMegabytes: 400, isStalled: true },
  { what: 'standbys that stopped reading', standbys: 200, walMegabytes: 400, isStalled: true },
  {
    what: 'standbys inside TLS that stopped reading',
    standbys: 200,
    walMegabytes: 400,
    isStalled: true,
    hasTls: true,
  },
  { what: 'standbys that come from behind', standbys: 8, walMegabytes: 400, isBehind: true },
  { what: 'standbys that come from behind', standbys: 100, walMegabytes: 60, isBehind: true },
  { what: 'wal_keep_size of 200 MB', walMegabytes: 1_000, keepMegabytes: 200 },
];

/**
 * @typedef {object} SizingOptions
 * @property {number} postgres
 * @property {string} nodeOptions
 * @property {string} dist folder with the compiled walcast
 * @property {(text: string) => void} progress
 */

/**
 * @typedef {import('./bench-primary.mjs').BenchPlace & {
 *   options: SizingOptions,
 *   tls: { certificate: string, key: string },
 * }} Bench tls: files
 */

/** @param {SizingOptions} options */
export async function benchSizing(options) {
  const settings = { max_wal_size: '16GB', wal_keep_size: '2GB', autovacuum: 'off' };
  return withPrimary({ ...options, settings }, async (place) => {
    await place.session.query(BENCH_TABLE);
    const tls = certificate(place.workspace.directory);
    const rows = [];
    for (const situation of SITUATIONS) {
      options.progress(`${situation.what}, ${situation.standbys ?? 0} standbys`);
      rows.push(await measure({ ...place, options, tls }, situation));
    }
    return [{ title: TITLE, rows }];
  });
}

const TITLE =
  'memory (MiB: resident at the end, highest, in the kernel for sockets of standbys, what docs/sizing.md allows for the two, V8 heap), descriptors, files of the store (MB) and bytes sent beside WAL (%)';

/** A walcast of its own, and its standbys. @param {Bench} bench @param {Situation} situation */
async function measure(bench, situation) {
  const { standbys = 0 } = situation;
  const relay = await startWalcast(bench, situation);
  const receivers = new HelperProcess('./receiver.mjs');
  try {
    const startLsn = await flushAll(bench.session);
    await relay.waitFor(startLsn);
    const connectAll = () =>
      receivers.ask('connect', {
        count: standbys,
        port: relay.port,
        name: 'bench',
        user: 'postgres',
        timeline: 1,
        startLsn: formatLsn(startLsn),
        isSpread: true,
        hasTls: situation.hasTls === true,
      });
    if (standbys > 0 && situation.isBehind !== true) await connectAll();
    if (situation.isStalled === true) process.kill(receivers.pid, 'SIGSTOP');
    const cpuBefore = cpuSeconds(relay.process.pid).total;
    const endLsn = await work(bench, situation);
    await relay.waitFor(endLsn);
    if (situation.isBehind === true) await connectAll();
    const atWork = standbys > 0 && situation.isStalled !== true;
    if (atWork) await receivers.ask('waitFor', endLsn);
    const cpu = cpuSeconds(relay.process.pid).total - cpuBefore;
    await sleep(SETTLE_MS);
    const counts = atWork ? await receivers.ask('counts') : null;
    return await row(situation, { relay, counts, cpu, walBytes: endLsn - startLsn });
  } finally {
    if (situation.isStalled === true) process.kill(receivers.pid, 'SIGCONT');
    await receivers.close();
    await relay.process.stop('SIGINT');
  }
}

/** Makes the WAL of a situation; returns the end of what is flushed then. @param {Bench} bench @param {Situation} situation */
async function work({ session }, { walMegabytes = 0, isSmall = false }) {
  if (isSmall) {
    for (let commit = 0; commit < SMALL_COMMITS; commit += 1) {
      await session.query("INSERT INTO bench (note) VALUES ('a small commit')");
    }
  }
  if (walMegabytes > 0) {
    await makeWal(session, { kind: 'message', bytes: walMegabytes * MB, bytesPerSecond: 0 });
  }
  return flushAll(session);
}

/**
 * @param {Situation} situation
 * @param {{ relay: Awaited<ReturnType<typeof startWalcast>>, counts: { walBytes: number, messages: number } | null, cpu: number, walBytes: number }} seen
 */
async function row(situation, { relay, counts, cpu, walBytes }) {
  const { pid } = relay.process;
  const besides =
    counts === null ? null : (counts.messages * MESSAGE_BYTES * 100) / counts.walBytes;
  return {
    what: situation.what,
    standbys: situation.standbys ?? 0,
    wal_mb: round(walBytes / MB, 1),
    rss_mib: round(residentBytes(pid) / 2 ** 20, 0),
    peak_mib: round(peakRssBytes(pid) / 2 ** 20, 0),
    kernel_mib: round(socketBytes(relay.port) / 2 ** 20, 0),
    allowed_mib: round(allowedMib(situation), 0),
    heap_mib: round((await heapBytes(relay.url)) / 2 ** 20, 0),
    files: readdirSync(`/proc/${pid}/fd`).length,
    store_mb: round(diskBytes(relay.directory) / MB, 1),
    besides: besides === null ? null : round(besides, 2),
    cpu_s: round(cpu, 2),
  };
}

/** @param {Bench} bench @param {Situation} situation */
async function startWalcast({ workspace, primary, harness, options, tls }, situation) {
  const name = `walcast-${Date.now().toString(36)}`;
  const directory = `${workspace.directory}/${name}-store`;
  const process = await harness.spawnWalcast(workspace, {
    name,
    configuration: configuration({ primaryPort: primary.port, directory, tls }, situation),
    nodeArguments: options.nodeOptions.split(' ').filter((word) => word !== ''),
  });
  const { port, url } = await harness.listeningAt(process);
  await harness.waitUntilReady(process, url);
  return {
    process,
    port,
    url,
    directory,
    /** Waits until walcast has that much on disk. @param {number} lsn */
    async waitFor(lsn) {
      for (;;) {
        const { upstream } = await (await fetch(`${url}/api/v1/status`)).json();
        if (parseLsn(upstream.flushed_lsn ?? '0/0') >= lsn) return;
        await sleep(100);
      }
    },
  };
}

/**
 * @param {{ primaryPort: number, directory: string, tls: Bench['tls'] }} places
 * @param {Situation} situation
 */
function configuration({ primaryPort, directory, tls }, situation) {
  const { keepMegabytes = 2_000, slots = 0 } = situation;
  const names = Array.from({ length: slots }, (_, index) => `slot_${index}`);
  const text = walcastConfiguration({ primaryPort, directory, verify: 'record', keepMegabytes });
  const listen = `address: 127.0.0.1:0\n    tls: { cert: ${tls.certificate}, key: ${tls.key} }`;
  return [
    situation.hasTls === true ? text.replace('address: 127.0.0.1:0', listen) : text,
    ...(slots === 0 ? [] : [`slots: [${names.join(', ')}]`]),
    '',
  ].join('\n');
}

/** A key and its certificate, of the user who runs this and walcast. @param {string} directory */
function certificate(directory) {
  const files = { certificate: `${directory}/bench.crt`, key: `${directory}/bench.key` };
  const words = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost`;
  execFileSync('openssl', [...words.split(' '), '-keyout', files.key, '-out', files.certificate], {
    stdio: 'ignore',
  });
  return files;
}

/** @param {number} pid */
function residentBytes(pid) {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return match === null ? 0 : Number(match[1]) * 1024;
}

/**
 * What the kernel holds for the connections of standbys, which counts in the memory of a container, too; 0 without `ss`.
 * Received and not read, queued to be sent, and set aside. (ss(8), sock_diag SK_MEMINFO)
 * @param {number} port
 */
function socketBytes(port) {
  const { stdout } = spawnSync('ss', ['-tmnH', `sport = :${port}`], { encoding: 'utf8' });
  const found = (stdout ?? '').matchAll(/skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f(\d+),w(\d+)/g);
  return [...found].reduce(
    (sum, [, ...parts]) => sum + parts.reduce((a, b) => a + Number(b), 0),
    0,
  );
}

/** Of V8's heap in use. @param {string} url */
async function heapBytes(url) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const match = /^nodejs_heap_size_used_bytes (\S+)$/m.exec(text);
  return match === null ? Number.NaN : Number(match[1]);
}

/** What files take, as the file system counts; one that goes meanwhile is none. @param {string} directory */
function diskBytes(directory) {
  const { stdout } = spawnSync('du', ['-sk', directory], { encoding: 'utf8' });
  return Number(stdout.split('\t')[0]) * 1024;
}
