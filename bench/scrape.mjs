// How long does looking at a walcast with many standbys hold up its event loop? Real sessions that stream and report, a real
// primary; the longest turn of the loop is taken inside of the process that is asked.
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { withPrimary } from './bench-primary.mjs';
import { HelperProcess } from './child.mjs';
import { walcastConfiguration } from './configuration.mjs';
import { median, round } from './report.mjs';

/** Answers are shared by all who ask within a second. */
const BETWEEN_MS = 1_100;
const WINDOW_MS = 300;
const EVENT_CLIENTS = 10;
const EVENTS_MS = 3_000;

/** @type {readonly { what: string, path: string, accept?: string, clients?: number }[]} */
const REQUESTS = [
  { what: 'GET /metrics', path: '/metrics' },
  { what: 'GET /metrics, 100 at once', path: '/metrics', clients: 100 },
  { what: 'GET /metrics (OpenMetrics)', path: '/metrics', accept: 'application/openmetrics-text' },
  { what: 'GET /api/v1/status', path: '/api/v1/status' },
  { what: 'GET /api/v1/status, 100 at once', path: '/api/v1/status', clients: 100 },
  { what: 'GET /api/v1/standbys', path: '/api/v1/standbys' },
  { what: 'GET /api/v1/slots', path: '/api/v1/slots' },
  { what: 'GET /readyz', path: '/readyz' },
];

/**
 * @typedef {object} ScrapeOptions
 * @property {number} standbys
 * @property {number} slots
 * @property {number} runs
 * @property {number} postgres
 * @property {string} nodeOptions
 * @property {string} dist folder with the compiled walcast
 * @property {(text: string) => void} progress
 */

/** @param {ScrapeOptions} options */
export async function benchScrape(options) {
  return withPrimary(options, (place) => measureStandbys(options, place));
}

/** @param {ScrapeOptions} options @param {import('./bench-primary.mjs').BenchPlace} place */
async function measureStandbys(options, { workspace, primary, session, harness }) {
  const receivers = new HelperProcess('./receiver.mjs');
  try {
    const probe = `${workspace.directory}/loop-probe.sock`;
    const relay = await harness.spawnWalcast(workspace, {
      name: 'walcast',
      configuration: configuration(primary.port, `${workspace.directory}/store`, options),
      environment: { BENCH_LOOP_PROBE: probe },
      nodeArguments: [
        ...options.nodeOptions.split(' ').filter((word) => word !== ''),
        '--import',
        new URL('loop-probe.mjs', import.meta.url).href,
      ],
    });
    const { port, url } = await harness.listeningAt(relay);
    await harness.waitUntilReady(relay, url);
    options.progress(`${options.standbys} standbys connect`);
    await receivers.ask('connect', {
      count: options.standbys,
      port,
      name: 'bench',
      user: 'postgres',
      timeline: 1,
      startLsn: await session.value('SELECT pg_current_wal_flush_lsn()'),
      isSpread: true,
    });
    const rows = await measureAll({ options, url, probe });
    await receivers.close();
    await relay.stop('SIGINT');
    return [{ title: `${options.standbys} standbys that stream: ${TITLE}`, rows }];
  } finally {
    await receivers.close();
  }
}

const TITLE =
  'longest turn of the event loop while one is answered (ms by the wall clock and of CPU time; median and maximum)';

/** @param {{ options: ScrapeOptions, url: string, probe: string }} bench */
async function measureAll({ options, url, probe }) {
  const rows = [];
  rows.push(await measure({ what: 'nothing asked', options, probe, act: () => sleep(WINDOW_MS) }));
  for (const { what, path, accept, clients = 1 } of REQUESTS) {
    const headers = accept === undefined ? {} : { accept };
    const one = async () => {
      const response = await fetch(`${url}${path}`, { headers });
      return (await response.arrayBuffer()).byteLength;
    };
    const act = async () => Math.max(...(await Promise.all(Array.from({ length: clients }, one))));
    rows.push(await measure({ what, options, probe, act }));
  }
  const what = `GET /api/v1/events, ${EVENT_CLIENTS} clients for ${EVENTS_MS / 1000} s`;
  const act = () => listen(`${url}/api/v1/events`);
  rows.push(await measure({ what, options: { ...options, runs: 2 }, probe, act }));
  return rows;
}

/**
 * Each run once by the wall clock and once by CPU time: looking at every turn makes turns of its own.
 * @param {{ what: string, options: ScrapeOptions, probe: string, act: () => Promise<number | void> }} one
 */
async function measure({ what, options, probe, act }) {
  options.progress(what);
  /** @type {{ wall: number[], cpu: number[] }} */
  const longest = { wall: [], cpu: [] };
  /** @type {number[]} */
  const answerMs = [];
  let bytes = 0;
  for (let run = 0; run < options.runs; run += 1) {
    for (const clock of /** @type {const} */ (['wall', 'cpu'])) {
      await sleep(BETWEEN_MS);
      await ask(probe, clock);
      const startedMs = performance.now();
      bytes = (await act()) ?? 0;
      if (clock === 'wall') answerMs.push(performance.now() - startedMs);
      longest[clock].push(await ask(probe, `${clock}End`));
    }
  }
  return {
    what,
    kb: round(bytes / 1e3, 0),
    answer_ms: round(median(answerMs), 1),
    wall_ms: round(median(longest.wall), 1),
    wall_max: round(Math.max(...longest.wall), 1),
    cpu_ms: round(median(longest.cpu), 1),
    cpu_max: round(Math.max(...longest.cpu), 1),
  };
}

/** Bytes that one client got. @param {string} url */
async function listen(url) {
  const ending = new AbortController();
  let bytes = 0;
  const clients = Array.from({ length: EVENT_CLIENTS }, async (_, index) => {
    const { body } = await fetch(url, { signal: ending.signal });
    for await (const chunk of body ?? []) if (index === 0) bytes += chunk.byteLength;
  });
  await sleep(EVENTS_MS);
  ending.abort();
  await Promise.allSettled(clients);
  return bytes;
}

/** @param {string} path @param {string} question @returns {Promise<number>} */
function ask(path, question) {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => socket.write(question));
    let answer = '';
    socket.on('data', (data) => (answer += data.toString()));
    socket.on('end', () => resolve(Number(answer)));
    socket.on('error', reject);
  });
}

/** @param {number} primaryPort @param {string} directory @param {ScrapeOptions} options */
function configuration(primaryPort, directory, { standbys, slots }) {
  const names = Array.from({ length: slots }, (_, index) => `slot_${index}`);
  return [
    walcastConfiguration({ primaryPort, directory, verify: 'record' }).replace(
      'storage:',
      `storage:\n  max_wal_senders: ${standbys + slots + 10}\n  max_replication_slots: ${Math.max(10, slots)}`,
    ),
    ...(slots === 0 ? [] : [`slots: [${names.join(', ')}]`]),
    '',
  ].join('\n');
}
