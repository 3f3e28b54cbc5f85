// What does it cost to check a gigabyte of WAL? The walk over headers alone and with every checksum, over WAL that a real
// server wrote; and the checksums by themselves, computed in each way that walcast has.
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { medianRow, round } from './report.mjs';
import { formatLsn, parseLsn } from './wal-stream.mjs';

const SEGMENT_BYTES = 16 << 20;
const PAGE_BYTES = 8192;
const PUSH_BYTES = { small: 8 << 10, large: 128 << 10 };

/** @typedef {{ data: Buffer, startLsn: bigint, records: Int32Array }} Wal records: start and length of each, by turns */
/** @typedef {{ gigabytes: number, runs: number, postgres: number, dist: string, progress: (text: string) => void }} WalkOptions */

/** Rows of CPU seconds per GB. @param {WalkOptions} options */
export async function benchWalk(options) {
  const load = (/** @type {string} */ name) =>
    import(pathToFileURL(`${options.dist}/${name}.js`).href);
  const { openWorkspace } = await load('demo/postgres-workspace');
  const { serverUser } = await load('demo/postgres-user');
  const { createPrimary } = await load('demo/postgres-cluster');
  const modules = {
    ...(await load('wal/records/record-walk')),
    ...(await load('wal/records/record-chain')),
    ...(await load('pg/server-version')),
    ...(await load('pg/timeline')),
    ...(await load('base/crc32c')),
  };
  const workspace = await openWorkspace(await serverUser());
  try {
    const primary = await createPrimary(workspace, {
      name: 'primary',
      major: options.postgres,
      settings: { wal_keep_size: '4GB', max_wal_size: '8GB', autovacuum: 'off', fsync: 'off' },
    });
    await primary.start();
    const wals = await makeWals(primary, modules, options);
    await primary.stop('fast');
    return wals.map(({ kind, wal }) => {
      const results = [];
      for (let run = 0; run < options.runs; run += 1)
        results.push(measure(kind, wal, modules, options));
      options.progress(`${kind}: done`);
      return medianRow(results, 3);
    });
  } finally {
    await workspace.close();
  }
}

/** @param {any} primary @param {any} modules @param {WalkOptions} options */
async function makeWals(primary, modules, { postgres, gigabytes }) {
  const session = await primary.session();
  await session.query('CREATE TABLE bench (id bigserial PRIMARY KEY, note text NOT NULL)');
  const wals = [];
  for (const [kind, statement] of Object.entries(WORKLOADS)) {
    await session.query('CHECKPOINT');
    await session.query('SELECT pg_switch_wal()');
    const startLsn = parseLsn(await session.value('SELECT pg_current_wal_insert_lsn()'));
    const bytes = Math.min(gigabytes * 1e9, 256e6);
    for (;;) {
      await session.query(statement);
      const end = parseLsn(await session.value('SELECT pg_current_wal_insert_lsn()'));
      if (end - startLsn >= bytes) break;
    }
    await session.query('SELECT pg_switch_wal()');
    const end = parseLsn(await session.value('SELECT pg_current_wal_insert_lsn()'));
    wals.push({ kind, wal: await readWal(primary, modules, { postgres, startLsn, end }) });
  }
  session.close();
  return wals;
}

const WORKLOADS = {
  // Two records of about 100 bytes a row, a commit every five rows.
  'small records': `DO $$ BEGIN FOR i IN 1..4000 LOOP
    INSERT INTO bench (note) SELECT repeat('n', 64) FROM generate_series(1, 5); COMMIT; END LOOP; END $$`,
  // The first change of every page since a checkpoint is a page image of up to 8 kB.
  'page images': `CHECKPOINT; UPDATE bench SET note = note WHERE id % 97 = 0`,
  'messages of 8 kB': `SELECT count(pg_logical_emit_message(false, 'bench', repeat('w', 8000))) FROM generate_series(1, 500)`,
};

/** Whole segments from the one of `startLsn` on. @param {any} primary @param {any} modules @param {{ postgres: number, startLsn: number, end: number }} range */
async function readWal(primary, modules, { postgres, startLsn, end }) {
  const directory = join(primary.dataDirectory, 'pg_wal');
  const first = Math.floor(startLsn / SEGMENT_BYTES);
  const names = (await readdir(directory)).filter((name) => /^[0-9A-F]{24}$/.test(name)).toSorted();
  const files = names.filter((name) => {
    const segment =
      Number.parseInt(name.slice(8, 16), 16) * 256 + Number.parseInt(name.slice(16), 16);
    return segment >= first && segment < Math.floor(end / SEGMENT_BYTES);
  });
  const data = Buffer.concat(
    await Promise.all(files.map((name) => readFile(join(directory, name)))),
  );
  const wal = { data, startLsn: BigInt(first) * BigInt(SEGMENT_BYTES), postgres };
  return { ...wal, records: recordsOf(data) };
}

/** Start and length of every record, or of its part in a page. @param {Buffer} data */
function recordsOf(data) {
  const found = [];
  for (let page = 0; page < data.length; page += PAGE_BYTES) {
    if (data.readUInt16LE(page) === 0) continue;
    const end = page + PAGE_BYTES;
    let at = page + ((data.readUInt16LE(page + 2) & 2) === 0 ? 24 : 40);
    let length = data.readUInt32LE(page + 16);
    if (length === 0) length = data.readUInt32LE(at);
    while (length > 0) {
      found.push(at, Math.min(length, end - at));
      at += (length + 7) & ~7;
      length = at < end ? data.readUInt32LE(at) : 0;
    }
  }
  return Int32Array.from(found);
}

/** @param {string} kind @param {any} wal @param {any} modules @param {WalkOptions} options */
function measure(kind, wal, modules, options) {
  const { records, data } = wal;
  const count = records.length / 2;
  let summed = 0;
  for (let i = 1; i < records.length; i += 2) summed += records[i] ?? 0;
  const rounds = Math.max(1, Math.round((options.gigabytes * 1e9) / data.length));
  const walk = (/** @type {boolean} */ checksums, /** @type {number} */ step) =>
    perGigabyte(data.length * rounds, () => {
      for (let round = 0; round < rounds; round += 1) walkOver(wal, modules, checksums, step);
    });
  const sums = (/** @type {any} */ window) =>
    perGigabyte(summed * rounds, () => {
      for (let round = 0; round < rounds; round += 1) sumAll(wal, window);
    });
  walkOver(wal, modules, true, PUSH_BYTES.large);
  return {
    wal: kind,
    record_bytes: Math.round(summed / count),
    page_128k: walk(false, PUSH_BYTES.large),
    record_128k: walk(true, PUSH_BYTES.large),
    page_8k: walk(false, PUSH_BYTES.small),
    record_8k: walk(true, PUSH_BYTES.small),
    crc_script: sums(modules.scriptWindow()),
    crc_compiled: sums(modules.compiledWindow()),
  };
}

/** @param {any} wal @param {any} modules @param {boolean} checksums @param {number} step */
function walkOver({ data, startLsn, postgres }, modules, checksums, step) {
  const facts = modules.versionFacts(postgres);
  const history = modules.rootHistory(modules.toTimelineId(1));
  const systemIdentifier = data.readBigUInt64LE(24).toString();
  const origin = { facts, segmentSize: SEGMENT_BYTES, systemIdentifier, history };
  const walk = new modules.RecordWalk({ ...origin, checksums }, modules.chainStart(startLsn));
  for (let at = 0; at < data.length; at += step) {
    const failure = walk.push(data.subarray(at, at + step));
    if (failure !== null) throw new Error(`${formatLsn(Number(failure.lsn))}: ${failure.reason}`);
  }
}

/** Sums every record, or part of one, by itself, body and header apart. @param {any} wal @param {any} window */
function sumAll({ data, records }, window) {
  let opened = -1;
  for (let i = 0; i < records.length; i += 2) {
    const at = records[i];
    const end = at + records[i + 1];
    const page = at - (at % PAGE_BYTES);
    if (page !== opened) window.open(data, page, page + PAGE_BYTES);
    opened = page;
    const head = Math.min(at + 20, end);
    window.update(window.update(-1, head, end), at, head);
  }
}

/** CPU seconds of this process per GB. @param {number} bytes @param {() => void} work */
function perGigabyte(bytes, work) {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return round((user + system) / 1e6 / (bytes / 1e9), 3);
}
