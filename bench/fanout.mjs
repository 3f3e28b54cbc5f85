// What a gigabyte delivered costs: walcast and the primary's own walsenders side by side, in the same run, over the same
// WAL. Each side has as many receivers; walcast's figure includes receiving, checking and storing the WAL.
import { setTimeout as sleep } from 'node:timers/promises';
import { withPrimary } from './bench-primary.mjs';
import { HelperProcess } from './child.mjs';
import { walcastConfiguration } from './configuration.mjs';
import {
  cpuSeconds,
  cpuSecondsByThread,
  cpuSecondsOfAll,
  ioOfThread,
  peakRssBytes,
} from './process-cpu.mjs';
import { medianRow, round } from './report.mjs';
import { formatLsn, parseLsn } from './wal-stream.mjs';
import { BENCH_TABLE, flushAll, makeWal } from './workloads.mjs';

const IDLE_SECONDS = 2;

/** @typedef {'message' | 'insert' | 'catchup'} Workload */
/** @typedef {'page' | 'record'} Verify */
/** @typedef {import('../src/demo/postgres-server.ts').PostgresCluster} PostgresCluster */
/** @typedef {import('../src/demo/postgres-workspace.ts').Workspace} Workspace */
/** @typedef {import('../src/demo/walcast-process.ts').WalcastProcess} WalcastProcess */

/**
 * @typedef {object} FanoutOptions
 * @property {readonly number[]} receivers
 * @property {readonly Workload[]} workloads
 * @property {readonly Verify[]} verify ways to check received WAL, measured one after the other
 * @property {number} gigabytes
 * @property {number} megabytesPerSecond 0: as fast as the primary makes WAL
 * @property {number} warmGigabytes WAL sent before each figure
 * @property {number} keepMegabytes wal_keep_size of walcast; 0: everything
 * @property {number} runs
 * @property {number} postgres
 * @property {string} nodeOptions
 * @property {string} dist folder with the compiled walcast
 * @property {(text: string) => void} progress
 */

/** @typedef {import('./bench-primary.mjs').BenchPlace & { options: FanoutOptions }} Bench */

/** @param {FanoutOptions} options */
export async function benchFanout(options) {
  const settings = primarySettings(options);
  return withPrimary({ ...options, settings }, async (place) => {
    await place.session.query(BENCH_TABLE);
    const version = await place.session.value('SHOW server_version');
    const rows = await measureAll({ ...place, options });
    return {
      facts: { postgres: version },
      sections: [{ title: TITLE, rows }],
    };
  });
}

const TITLE =
  'CPU seconds per GB delivered (walcast: whole process; walsenders: those of the direct receivers), same run, same WAL';

/** Megabytes that hold everything one figure makes. @param {{ gigabytes: number, warmGigabytes: number }} options */
function keepAll({ gigabytes, warmGigabytes }) {
  return Math.ceil((gigabytes + warmGigabytes) * 1200) + 512;
}

/** @param {FanoutOptions} options */
function primarySettings({ gigabytes, warmGigabytes, receivers }) {
  return {
    shared_buffers: '256MB',
    wal_buffers: '16MB',
    max_wal_size: '64GB',
    checkpoint_timeout: '1h',
    // Both sides read from the same place in a catch-up; nothing may be removed meanwhile.
    wal_keep_size: `${keepAll({ gigabytes, warmGigabytes })}MB`,
    max_wal_senders: String(Math.max(...receivers) + 10),
    autovacuum: 'off',
  };
}

/** @param {Bench} bench */
async function measureAll(bench) {
  const { options } = bench;
  const rows = [];
  for (const workload of options.workloads) {
    for (const receivers of options.receivers) {
      rows.push(...(await measureShape(bench, workload, receivers)));
    }
  }
  return rows;
}

/** A row for each way to check, in turns. @param {Bench} bench @param {Workload} workload @param {number} receivers */
async function measureShape(bench, workload, receivers) {
  const { verify, runs, progress } = bench.options;
  const results = verify.map(() => /** @type {any[]} */ ([]));
  for (let run = 0; run < runs; run += 1) {
    for (const [index, mode] of verify.entries()) {
      progress(`${workload}, verify: ${mode}, ${receivers} receivers, run ${run + 1} of ${runs}`);
      results[index]?.push(await measure(bench, { workload, verify: mode, receivers }));
      await bench.session.query('TRUNCATE bench; CHECKPOINT');
    }
  }
  return results.map((ofMode) => medianRow(ofMode, 3));
}

/**
 * One figure: warm up, take stock, make WAL (or send what was made), wait until everybody has it, take stock again.
 * @param {Bench} bench @param {{ workload: Workload, verify: Verify, receivers: number }} shape
 */
async function measure(bench, { workload, verify, receivers }) {
  const relay = await startWalcast(bench, verify);
  const direct = new HelperProcess('./receiver.mjs');
  const behind = new HelperProcess('./receiver.mjs');
  try {
    const sides = { direct, behind, relay, receivers };
    const isLive = workload !== 'catchup';
    const startLsn = await warmUp(bench, sides, isLive ? workload : 'message');
    const wal = amountOf(bench.options);
    if (!isLive) {
      await Promise.all([direct.ask('close'), behind.ask('close')]);
      await relay.waitFor(await makeWal(bench.session, { kind: 'message', ...wal }));
    }
    const idle = await idleCpu(relay.process.pid);
    const before = await snapshot(bench, relay, isLive);
    const startedMs = performance.now();
    if (!isLive) await connect(bench, sides, startLsn);
    const endLsn = isLive
      ? await makeWal(bench.session, { kind: workload, ...wal })
      : await flushAll(bench.session);
    const madeMs = performance.now() - startedMs;
    const costs = await waitForAll(bench, sides, { endLsn, startedMs, before });
    const walBytes = endLsn - parseLsn(startLsn);
    return describe({ workload, verify, receivers, walBytes, madeMs, idle, ...costs });
  } finally {
    await Promise.all([direct.close(), behind.close()]);
    await relay.process.stop();
  }
}

/**
 * @typedef {object} Sides
 * @property {HelperProcess} direct receivers at the primary
 * @property {HelperProcess} behind receivers at walcast
 * @property {Awaited<ReturnType<typeof startWalcast>>} relay
 * @property {number} receivers of each side
 */

/** @param {FanoutOptions} options */
function amountOf({ gigabytes, megabytesPerSecond }) {
  return { bytes: gigabytes * 1e9, bytesPerSecond: megabytesPerSecond * 1e6 };
}

/**
 * Connects everybody and sends the warm-up's WAL, so that code is compiled and buffers are there. Returns its end.
 * @param {Bench} bench @param {Sides} sides @param {'message' | 'insert'} kind
 */
async function warmUp(bench, sides, kind) {
  const { session, options } = bench;
  await connect(bench, sides, await session.value('SELECT pg_current_wal_flush_lsn()'));
  const { bytesPerSecond } = amountOf(options);
  const endLsn = await makeWal(session, {
    kind,
    bytes: options.warmGigabytes * 1e9,
    bytesPerSecond,
  });
  await Promise.all([sides.direct.ask('waitFor', endLsn), sides.behind.ask('waitFor', endLsn)]);
  await sides.relay.waitFor(endLsn);
  await Promise.all([sides.direct.ask('reset'), sides.behind.ask('reset')]);
  return formatLsn(endLsn);
}

/** @param {Bench} bench @param {Sides} sides @param {string} startLsn */
async function connect({ primary }, { direct, behind, relay, receivers }, startLsn) {
  const common = { count: receivers, user: 'postgres', startLsn, timeline: 1 };
  await Promise.all([
    direct.ask('connect', { ...common, port: primary.port, name: 'bench_direct' }),
    behind.ask('connect', { ...common, port: relay.port, name: 'bench_walcast' }),
  ]);
}

/**
 * Each side's costs at the moment when all its receivers have everything; walcast's, when it has stored it as well.
 * @param {Bench} bench @param {Sides} sides
 * @param {{ endLsn: number, startedMs: number, before: Awaited<ReturnType<typeof snapshot>> }} span
 */
async function waitForAll({ session }, { direct, behind, relay }, { endLsn, startedMs, before }) {
  const [walsenders, walcast] = await Promise.all([
    direct.ask('waitFor', endLsn).then(async () => ({
      ms: performance.now() - startedMs,
      cpu: (await walsenderSeconds(session, 'bench_direct%')) - before.walsenders,
      ...(await direct.ask('counts')),
    })),
    behind.ask('waitFor', endLsn).then(async () => {
      const ms = performance.now() - startedMs;
      await relay.waitFor(endLsn);
      return { ms, ...walcastCosts(relay.process.pid, before), ...(await behind.ask('counts')) };
    }),
  ]);
  const upstream = (await walsenderSeconds(session, 'walcast')) - before.upstream;
  return { walsenders, walcast, upstream };
}

/** @param {any} result */
function describe({
  workload,
  verify,
  receivers,
  walBytes,
  madeMs,
  idle,
  walsenders,
  walcast,
  upstream,
}) {
  const gigabytes = (walBytes * receivers) / 1e9;
  const walcastCpu = walcast.cpu - (idle * walcast.ms) / 1000;
  return {
    workload,
    verify,
    receivers,
    wal_gb: round(walBytes / 1e9, 3),
    walcast: round(walcastCpu / gigabytes, 3),
    walsenders: round(walsenders.cpu / gigabytes, 3),
    ratio: round(walcastCpu / walsenders.cpu, 2),
    wc_main: round(walcast.main / gigabytes, 3),
    wc_threads: round((walcast.cpu - walcast.main) / gigabytes, 3),
    up_walsender: round(upstream / (walBytes / 1e9), 3),
    make_mb_s: round(walBytes / 1e3 / madeMs, 0),
    wc_mb_s: round(walBytes / 1e3 / walcast.ms, 0),
    ws_mb_s: round(walBytes / 1e3 / walsenders.ms, 0),
    wc_kib_msg: round(walcast.walBytes / walcast.messages / 1024, 1),
    ws_kib_msg: round(walsenders.walBytes / walsenders.messages / 1024, 1),
    wc_kib_call:
      walcast.writeCalls === 0 ? null : round(walcast.written / walcast.writeCalls / 1024, 1),
    wc_kib_read: walcast.readCalls === 0 ? null : round(walcast.read / walcast.readCalls / 1024, 1),
    wc_rss_mib: round(walcast.rss / 2 ** 20, 0),
  };
}

/** CPU seconds per second of a walcast that has nothing to do. @param {number} pid */
async function idleCpu(pid) {
  const before = cpuSeconds(pid).total;
  await sleep(IDLE_SECONDS * 1000);
  return (cpuSeconds(pid).total - before) / IDLE_SECONDS;
}

/** @param {Bench} bench @param {{ process: WalcastProcess }} relay @param {boolean} isLive */
async function snapshot({ session }, relay, isLive) {
  const { pid } = relay.process;
  return {
    walsenders: isLive ? await walsenderSeconds(session, 'bench_direct%') : 0,
    upstream: await walsenderSeconds(session, 'walcast'),
    cpu: cpuSeconds(pid).total,
    main: cpuSecondsByThread(pid).get(pid)?.seconds ?? 0,
    io: ioOfThread(pid, pid),
  };
}

/** @param {number} pid @param {Awaited<ReturnType<typeof snapshot>>} before */
function walcastCosts(pid, before) {
  const io = ioOfThread(pid, pid);
  return {
    cpu: cpuSeconds(pid).total - before.cpu,
    main: (cpuSecondsByThread(pid).get(pid)?.seconds ?? 0) - before.main,
    written: io.written - before.io.written,
    writeCalls: io.writeCalls - before.io.writeCalls,
    read: io.read - before.io.read,
    readCalls: io.readCalls - before.io.readCalls,
    rss: peakRssBytes(pid),
  };
}

/** @param {import('./workloads.mjs').Session} session @param {string} namePattern */
async function walsenderSeconds(session, namePattern) {
  const sql = `SELECT pid FROM pg_stat_replication WHERE application_name LIKE '${namePattern}'`;
  const rows = await session.query(sql);
  return cpuSecondsOfAll(rows.map(([pid]) => Number(pid)));
}

/** @param {Bench} bench @param {Verify} verify */
async function startWalcast({ workspace, primary, harness, options }, verify) {
  const name = `walcast-${Date.now().toString(36)}`;
  const process = await harness.spawnWalcast(workspace, {
    name,
    configuration: configuration(primary.port, `${workspace.directory}/${name}-store`, {
      ...options,
      verify: [verify],
    }),
    nodeArguments: options.nodeOptions.split(' ').filter((word) => word !== ''),
  });
  const { port, url } = await harness.listeningAt(process);
  await harness.waitUntilReady(process, url);
  return {
    process,
    port,
    url,
    /** Waits until walcast has received that much. @param {number} lsn */
    async waitFor(lsn) {
      for (;;) {
        const status = await (await fetch(`${url}/api/v1/status`)).json();
        if (parseLsn(status.upstream.flushed_lsn ?? '0/0') >= lsn) return;
        await sleep(50);
      }
    },
  };
}

/** @param {number} primaryPort @param {string} directory @param {FanoutOptions} options */
function configuration(primaryPort, directory, options) {
  return walcastConfiguration({
    primaryPort,
    directory,
    verify: options.verify[0],
    keepMegabytes: options.keepMegabytes > 0 ? options.keepMegabytes : keepAll(options),
  });
}
