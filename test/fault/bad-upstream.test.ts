// What does walcast make of a primary that refuses it, or that is not the one whose WAL it keeps? One clear line for each
// reason, with the next step; it goes on by itself once the reason is gone, and keeps serving what it has meanwhile.
import { appendFile, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import { formatLsn, parseLsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { UPSTREAM_SLOTS_FILE_NAME } from '../../src/wal/data-directory.ts';
import { compareWal } from '../harness/compare-wal.ts';
import { RawClient, StreamReader, query } from '../support/raw-client.ts';
import { NEWEST_MAJOR, newestMajors } from '../support/requirements.ts';
import {
  attempt,
  complaints,
  copyTree,
  fingerprint,
  httpJson,
  metric,
  told,
  waitForFlushed,
  waitForState,
} from './fault-support.ts';
import type { Attempt, AttemptOptions } from './fault-support.ts';

const SEGMENT = toSegmentSize(16 << 20);

let workspace: Workspace;
let stores = 0;

beforeAll(async () => {
  workspace = await openWorkspace(await serverUser());
});

afterAll(async () => {
  await workspace.close();
});

/** Attempts to connect so far, whatever became of them. */
async function connects(started: Attempt): Promise<number> {
  const counts = await Promise.all(
    ['success', 'failure'].map((outcome) =>
      metric(
        started.httpPort,
        `walcast_upstream_connects_total{upstream="default",outcome="${outcome}"}`,
      ),
    ),
  );
  return counts.reduce<number>((sum, count) => sum + (count ?? 0), 0);
}

/** A primary that refuses walcast for one reason, told once over several attempts, until somebody repairs it. */
interface Trouble {
  readonly primary: PostgresCluster;
  readonly options?: Partial<AttemptOptions>;
  /** What the one line says: what happened, and what to do. */
  readonly says: readonly RegExp[];
  readonly repair: () => Promise<unknown>;
}

async function expectTroubleUntilRepaired(trouble: Trouble): Promise<void> {
  stores += 1;
  const started = await attempt(workspace, {
    directory: join(workspace.directory, `store-${stores}`),
    upstreamPort: trouble.primary.port,
    ...trouble.options,
  });
  await started.process.waitForLog(/"level":"(warn|error)".*upstream/);
  // That one reason is told once depends on no major, so one major waits for more attempts.
  const attempts = trouble.primary.major === NEWEST_MAJOR ? 3 : 1;
  await pollUntil(
    `${attempts} attempts`,
    async () => ((await connects(started)) >= attempts ? true : null),
    { timeoutMs: 30_000 },
  );
  const lines = complaints(started.process);
  expect(lines.map(told)).toHaveLength(1);
  for (const text of trouble.says) expect(told(lines[0])).toMatch(text);
  expect(await httpJson(started.httpPort, '/api/v1/status')).toMatchObject({ state: 'connecting' });
  await trouble.repair();
  await waitForState(started, 'streaming');
  expect(await started.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
}

async function dropSlots(primary: PostgresCluster): Promise<void> {
  await primary.query('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
}

async function startPrimary(
  major: number,
  name: string,
  settings: ServerSettings = {},
): Promise<PostgresCluster> {
  const primary = await createPrimary(workspace, { major, name, settings });
  await primary.start();
  return primary;
}

// The words are the server's; they hardly changed from one major to the next.
describe.each(newestMajors())('a primary of PostgreSQL %i that refuses walcast', (major) => {
  let primary: PostgresCluster;

  beforeAll(async () => {
    primary = await startPrimary(major, `refusing-${major}`, {
      wal_level: 'logical',
      max_wal_senders: '3',
      max_replication_slots: '3',
      password_encryption: 'scram-sha-256',
    });
    await primary.query(`
      CREATE ROLE careful LOGIN REPLICATION PASSWORD 'right';
      CREATE ROLE plain LOGIN;
      CREATE ROLE outsider LOGIN REPLICATION`);
    const file = join(primary.dataDirectory, 'pg_hba.conf');
    const rules = await readFile(file, 'utf8');
    const closed = rules.replaceAll(/^(host replication) all/gm, '$1 postgres,plain');
    await writeFile(file, `host replication careful 127.0.0.1/32 scram-sha-256\n${closed}`);
    await primary.reload();
  });

  afterEach(async () => {
    await dropSlots(primary);
  });

  afterAll(async () => {
    await primary.stop('immediate');
  });

  it('because the password is wrong', async () => {
    await expectTroubleUntilRepaired({
      primary,
      options: { slot: '', conninfo: { user: 'careful', password: 'wrong' } },
      says: [/password authentication failed for user "careful"/, /upstream\.conninfo/],
      repair: () => primary.query("ALTER ROLE careful PASSWORD 'wrong'"),
    });
  });

  it('because the role lacks REPLICATION', async () => {
    await expectTroubleUntilRepaired({
      primary,
      options: { slot: '', conninfo: { user: 'plain' } },
      says: [/replication|WAL sender/, /ALTER ROLE .* REPLICATION/],
      repair: () => primary.query('ALTER ROLE plain REPLICATION'),
    });
  });

  it('because pg_hba.conf has no line for it', async () => {
    await expectTroubleUntilRepaired({
      primary,
      options: { slot: '', conninfo: { user: 'outsider' } },
      says: [/no pg_hba\.conf entry/, /pg_hba\.conf.*such as: host replication/],
      repair: async () => {
        const file = join(primary.dataDirectory, 'pg_hba.conf');
        await appendFile(file, 'host replication outsider 127.0.0.1/32 trust\n');
        await primary.reload();
      },
    });
  });

  it('because max_wal_senders are busy', async () => {
    const busy = await Promise.all(
      [1, 2, 3].map(() => openSqlSession(primary.target({ replication: true }))),
    );
    await expectTroubleUntilRepaired({
      primary,
      options: { slot: '' },
      says: [/max_wal_senders/, /Raise max_wal_senders/],
      repair: async () => {
        for (const session of busy) session.close();
      },
    });
  });

  it('because all replication slots are taken', async () => {
    await primary.query(
      "SELECT pg_create_physical_replication_slot('taken_' || i) FROM generate_series(1, 3) AS i",
    );
    await expectTroubleUntilRepaired({
      primary,
      says: [/all replication slots are in use/, /max_replication_slots/],
      repair: () => dropSlots(primary),
    });
  });

  it('because its slot is in use by somebody else', async () => {
    await primary.query("SELECT pg_create_physical_replication_slot('walcast', true)");
    const { client } = await RawClient.standby(primary.port, { user: 'postgres' });
    const startLsn = await primary.value('SELECT pg_current_wal_lsn()');
    client.send(query(`START_REPLICATION SLOT walcast ${startLsn}`));
    await client.until('W');
    await expectTroubleUntilRepaired({
      primary,
      says: [/slot "walcast" is active for PID/, /Another session holds the slot/],
      repair: async () => client.close(),
    });
  });

  it('because its slot is a logical one', async () => {
    await primary.query("SELECT pg_create_logical_replication_slot('walcast', 'pgoutput')");
    await expectTroubleUntilRepaired({
      primary,
      says: [/logical/, /upstream\.slot/],
      repair: () => dropSlots(primary),
    });
  });

  it('because wal_level is minimal', async () => {
    await primary.configure({ wal_level: 'minimal', max_wal_senders: '0' });
    await primary.restart();
    await expectTroubleUntilRepaired({
      primary,
      options: { slot: '' },
      says: [/max_wal_senders"? \(currently 0\)/, /max_wal_senders.*wal_level/],
      repair: async () => {
        await primary.configure({ wal_level: 'replica', max_wal_senders: '3' });
        await primary.restart();
      },
    });
  });

  it('because it can have no slots', async () => {
    await primary.configure({
      wal_level: 'replica',
      max_wal_senders: '3',
      max_replication_slots: '0',
    });
    await primary.restart();
    await expectTroubleUntilRepaired({
      primary,
      says: [/max_replication_slots/, /Raise max_replication_slots/],
      repair: async () => {
        await primary.configure({ max_replication_slots: '3' });
        await primary.restart();
      },
    });
  });
});

describe('another cluster behind the same address', () => {
  let mine: PostgresCluster;
  let other: PostgresCluster;
  let directory: string;

  beforeAll(async () => {
    mine = await startPrimary(NEWEST_MAJOR, 'mine');
    other = await startPrimary(NEWEST_MAJOR, 'other');
    directory = join(workspace.directory, 'followed');
    const started = await attempt(workspace, { directory, upstreamPort: mine.port });
    await waitForState(started, 'streaming');
    await mine.query(
      'CREATE TABLE t AS SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 20000) AS i',
    );
    await waitForFlushed(started, await mine.walPosition());
    await started.process.stop('SIGKILL');
  });

  it('is not followed: state diverged, not a byte changes, what is stored is served', async () => {
    // The same start without a server to talk to shows what a start itself changes.
    const twin = join(workspace.directory, 'twin');
    await copyTree(directory, twin);
    const alone = await attempt(workspace, { directory: twin, upstreamPort: 1 });
    await alone.process.waitForLog(/"upstream: could not connect|could not connect/);
    // Which slots it has made on servers is noted for as long as they are there, in a file of its own.
    const looks = {
      withTimes: false,
      leaveOut: ['', '.tmp'].map((end) => UPSTREAM_SLOTS_FILE_NAME + end),
    };
    const expected = await fingerprint(twin, looks);
    await alone.process.stop('SIGTERM');

    const mark = other.log.mark();
    const started = await attempt(workspace, { directory, upstreamPort: other.port });
    await waitForState(started, 'diverged');
    await pollUntil(
      'a second attempt',
      () => {
        const asked = other.log.textFrom(mark).match(/IDENTIFY_SYSTEM/g) ?? [];
        return asked.length >= 2 ? true : null;
      },
      { timeoutMs: 30_000 },
    );
    const lines = complaints(started.process);
    expect(lines.map(({ level }) => level)).toEqual(['error']);
    expect(told(lines[0])).toMatch(
      /system identifier differs.*upstream\.conninfo.*storage\.directory/,
    );
    expect(await fingerprint(directory, looks)).toEqual(expected);
    // Nothing is left over there either.
    expect(await other.query('SELECT slot_name FROM pg_replication_slots')).toEqual([]);
    await expectServesEverything(started);
    expect(await started.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });

    const back = await attempt(workspace, { directory, upstreamPort: mine.port });
    await waitForState(back, 'streaming');
    await mine.query('INSERT INTO t VALUES (0)');
    const endLsn = await mine.walPosition();
    await waitForFlushed(back, endLsn);
    const comparison = await compareWal({
      expected: mine.walDirectory,
      actual: join(directory, 'pg_wal'),
      segmentSize: SEGMENT,
      untilLsn: endLsn,
    });
    expect(comparison.differences).toEqual([]);
    expect(comparison.comparedBytes).toBeGreaterThan(4 << 20);
    await back.process.stop('SIGTERM');
  });

  it("that has somebody else's slot of our name leaves that slot alone", async () => {
    const mark = other.log.mark();
    await other.query("SELECT pg_create_physical_replication_slot('walcast')");
    const started = await attempt(workspace, { directory, upstreamPort: other.port });
    await waitForState(started, 'diverged');
    await started.process.stop('SIGTERM');
    expect(await other.query('SELECT slot_name FROM pg_replication_slots')).toEqual([['walcast']]);
    expect(other.log.textFrom(mark)).not.toContain('DROP_REPLICATION_SLOT');
  });

  async function expectServesEverything(started: Attempt): Promise<void> {
    const status = await httpJson(started.httpPort, '/api/v1/status');
    const { oldest_lsn: oldest, flushed_lsn: flushed } = status['store'] as Record<string, string>;
    const [startLsn, endLsn] = [parseLsn(oldest ?? ''), parseLsn(flushed ?? '')];
    if (startLsn === null || endLsn === null) throw new Error(JSON.stringify(status));
    const { client } = await RawClient.standby(started.port);
    client.send(query(`START_REPLICATION ${formatLsn(startLsn)} TIMELINE 1`));
    await client.until('W');
    const reader = new StreamReader(client, startLsn);
    expect(await reader.readTo(endLsn)).toBeNull();
    client.close();
    const files = (await readdir(mine.walDirectory)).filter((name) => /^[0-9A-F]{24}$/.test(name));
    const truth = await Promise.all(
      files.toSorted().map((name) => readFile(join(mine.walDirectory, name))),
    );
    const first = BigInt(`0x${files.toSorted()[0]?.slice(16) ?? '0'}`) * BigInt(SEGMENT);
    const all = Buffer.concat(truth);
    const from = Number(startLsn - first);
    const wal = reader.wal();
    expect(wal.length).toBe(Number(endLsn - startLsn));
    expect(wal.equals(all.subarray(from, from + wal.length))).toBe(true);
  }
});
