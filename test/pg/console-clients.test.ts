// Is the console a server to psql and to drivers, and are its views those of PostgreSQL 15? One primary, one walcast in front
// of it, and the same questions to both where a server has an answer.
import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from 'pg';
import type { FieldDef, QueryResult } from 'pg';
import postgres from 'postgres';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { formatLsn, parseLsn } from '../../src/pg/lsn.ts';
import { psqlAnswers } from '../support/clients-psql.ts';
import type { PsqlAnswer } from '../support/clients-psql.ts';
import { openClientsRig } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { cstr, i64, message } from '../support/naive-writer.ts';
import { openRawSession, startup } from '../support/raw-session.ts';
import type { RawSession } from '../support/raw-session.ts';
import {
  findProgram,
  FULL_FAULTS,
  itWhen,
  MUST_HAVE_ALL,
  requires,
} from '../support/requirements.ts';

const MAJOR = 15;

/** Of every form that walcast carries out; nobody is meant by the first ones, whose addresses are for documentation. */
const HBA = `hostssl replication,walcast ops,"all" 192.0.2.0/24 scram-sha-256
host    walcast     /^ops       2001:db8::/32 md5
host    all         all         198.51.100.7 255.255.255.255 reject
host    all         guest       .example.org reject
local   walcast     all         trust
host    replication all         127.0.0.1/32 trust
host    walcast     all         samehost trust
`;

const WAIT = { timeoutMs: 20_000 };

const VIEWS = ['pg_replication_slots', 'pg_stat_replication', 'pg_stat_wal_receiver'];

const { describe: describeWithServer } = requires(`postgres-${MAJOR}`);
const { it: itWithPsql } = requires('psql');

describeWithServer('the console in front of PostgreSQL 15', () => {
  let rig: ClientsRig;
  let theirs: Client;
  let ours: Client;
  const sessions: RawSession[] = [];

  beforeAll(async () => {
    rig = await openClientsRig({
      major: MAJOR,
      primarySettings: { max_slot_wal_keep_size: '64GB' },
      relaySettings: { auth: { hba: HBA }, upstream: { slot: 'walcast' } },
    });
    theirs = await connect(rig.primary.target(), 'postgres');
    ours = await connect(rig.relay, 'walcast');
    for (const server of [rig.primary.target(), rig.relay]) {
      await command(server, 'CREATE_REPLICATION_SLOT spare PHYSICAL RESERVE_WAL');
      await command(server, 'CREATE_REPLICATION_SLOT idle PHYSICAL');
    }
    await attachReceiver();
  });

  afterAll(async () => {
    for (const session of sessions) session.close();
    await Promise.all([theirs.end(), ours.end()]);
    await rig[Symbol.asyncDispose]();
  });

  async function connect(
    server: { host: string; port: number },
    database: string,
  ): Promise<Client> {
    const { host, port } = server;
    const client = new Client({ host, port, user: 'postgres', database });
    await client.connect();
    return client;
  }

  async function command(
    server: { host: string; port: number },
    text: string,
    name = 'maker',
  ): Promise<RawSession> {
    const session = await openRawSession(server);
    sessions.push(session);
    session.send(startup({ user: 'postgres', replication: 'true', application_name: name }));
    await session.until('Z');
    session.send(message('Q', cstr(text)));
    expect((await session.next())?.type).toBe(text.startsWith('START') ? 'W' : 'T');
    if (!text.startsWith('START')) await session.until('Z');
    return session;
  }

  /** One that has reported where it is. */
  async function attachReceiver(): Promise<void> {
    const lsn = await rig.primary.walPosition();
    const session = await command(rig.relay, `START_REPLICATION ${formatLsn(lsn)}`, 'receiver');
    session.send(message('d', 'r', i64(lsn), i64(lsn), i64(lsn), i64(0n), 1));
    const count =
      "SELECT 1 FROM pg_stat_replication WHERE application_name = 'receiver' AND write_lsn IS NOT NULL";
    await pollUntil(
      'walcast to have caught up, and to have heard the receiver',
      async () => {
        const [state] = (await ours.query('SHOW STATE')).rows;
        if (state?.state !== 'streaming') return null;
        return (await ours.query(count)).rowCount === 1 ? true : null;
      },
      WAIT,
    );
  }

  it.each(VIEWS)(
    'describes %s as the server does, and lists the same columns to \\d',
    async (view) => {
      const shape = ({ fields }: QueryResult): unknown =>
        fields.map(({ name, dataTypeID, dataTypeSize, dataTypeModifier }: FieldDef) => {
          return [name, dataTypeID, dataTypeSize, dataTypeModifier];
        });
      const sql = `SELECT * FROM ${view}`;
      expect(shape(await ours.query(sql))).toEqual(shape(await theirs.query(sql)));
      expect(shape(await ours.query({ text: sql, name: view }))).toEqual(
        shape(await theirs.query({ text: sql, name: view })),
      );
    },
  );

  it('shows slots as the server shows the same ones', async () => {
    const sql =
      "SELECT * FROM pg_replication_slots WHERE slot_name IN ('spare', 'idle') ORDER BY slot_name";
    const [mine, other] = [await ours.query(sql), await theirs.query(sql)];
    expect(mine.rows).toHaveLength(2);
    for (const [index, row] of mine.rows.entries()) {
      const server: Record<string, unknown> = other.rows[index];
      // Both stand where their WAL begins, or how much may still be written differs with it.
      const { restart_lsn: position, safe_wal_size: size, ...rest } = row;
      const { restart_lsn: theirPosition, safe_wal_size: theirSize, ...theirRest } = server;
      expect(rest).toEqual(theirRest);
      // Of a slot that keeps nothing the server computes what is left from position 0.
      if (position !== null) expect(size === null).toBe(theirSize === null);
      expect(position === null).toBe(theirPosition === null);
      if (position !== null) expect(parseLsn(String(position))).not.toBeNull();
    }
  });

  it('shows of its own stream what the server shows of it, and its address as it is configured', async () => {
    await theirs.query('SELECT pg_switch_wal()');
    const sender = "SELECT * FROM pg_stat_replication WHERE application_name = 'walcast'";
    const row = await pollUntil(
      'both to say the same positions',
      async () => {
        const [their] = (await theirs.query(sender)).rows;
        const [our] = (await ours.query('SELECT * FROM pg_stat_wal_receiver')).rows;
        return our?.flushed_lsn === their?.flush_lsn && our?.written_lsn === their?.write_lsn
          ? our
          : null;
      },
      WAIT,
    );
    const { host, port } = rig.primary.target();
    const status = 'streaming';
    expect(row).toMatchObject({
      status,
      slot_name: 'walcast',
      sender_host: host,
      sender_port: port,
    });
    expect(row).toMatchObject({ receive_start_tli: 1, received_tli: 1 });
    expect(row.conninfo).toContain(`host=${host} port=${port}`);
    const [{ now }] = (await theirs.query('SELECT now()')).rows;
    for (const name of ['last_msg_send_time', 'last_msg_receipt_time', 'latest_end_time']) {
      expect(Math.abs(now.getTime() - row[name].getTime()), name).toBeLessThan(60_000);
    }
    const between =
      'SELECT $1::pg_lsn <= $2::pg_lsn AND $2::pg_lsn <= pg_current_wal_lsn() AS is_so';
    const ends = [row.flushed_lsn, row.latest_end_lsn];
    expect((await theirs.query(between, ends)).rows).toEqual([{ is_so: true }]);
  });

  // A base backup takes its time.
  itWhen(FULL_FAULTS)(
    'says NULL, and what it says in which form, as a standby does of its own stream',
    async () => {
      const { workspace, primary } = rig;
      const upstream = primary.target();
      const options = { major: MAJOR, name: 'standby', backupFrom: upstream, upstream };
      const standby = await createStandby(workspace, options);
      await standby.start();
      const server = await connect(standby.target(), 'postgres');
      try {
        const sql = 'SELECT * FROM pg_stat_wal_receiver';
        const their = await pollUntil(
          'the standby to stream',
          async () => {
            const [row] = (await server.query(sql)).rows;
            // Positions and times come with the first messages.
            const isWhole = Object.values({ ...row, slot_name: '' }).every(
              (value) => value !== null,
            );
            return row !== undefined && isWhole ? row : null;
          },
          WAIT,
        );
        const [our] = (await ours.query(sql)).rows;
        const forms = (row: Record<string, unknown>): unknown =>
          Object.entries(row).map(([name, value]) => [name, formOf(value)]);
        // The standby has no slot.
        expect(forms({ ...our, slot_name: null })).toEqual(forms(their));
        for (const name of [
          'status',
          'receive_start_tli',
          'received_tli',
          'sender_host',
          'sender_port',
        ])
          expect(our[name], name).toBe(their[name]);
      } finally {
        await server.end();
        await standby.stop();
      }
    },
  );

  it('shows its rules as the server shows the same ones', async () => {
    await writeFile(join(rig.primary.dataDirectory, 'pg_hba.conf'), HBA);
    const columns =
      'line_number, type, database, user_name, address, netmask, auth_method, options';
    const { rows: wanted } = await theirs.query(
      `SELECT ${columns} FROM pg_hba_file_rules ORDER BY line_number`,
    );
    const { rows: shown } = await ours.query('SHOW HBA');
    const names = columns.split(', ');
    expect(
      shown.map((row: Record<string, unknown>) =>
        Object.fromEntries(names.map((name) => [name, row[name]])),
      ),
    ).toEqual(wanted);
  });

  it('shows the configuration with its secrets masked', async () => {
    const { rows } = await ours.query('SHOW CONFIG');
    const entries = new Map(rows.map((row) => [row.key, row]));
    expect(entries.get('upstream.slot')).toMatchObject({ value: 'walcast', source: 'file' });
    expect(entries.get('storage.wal_keep_size')).toMatchObject({ reloadable: true });
    expect(entries.get('storage.directory')).toMatchObject({ reloadable: false });
  });

  itWithPsql(
    'answers psql as the server does: \\d of a view, \\gdesc, and lists of what there is',
    async () => {
      const file = join(rig.workspace.directory, 'gdesc.sql');
      await writeFile(
        file,
        'SELECT pid, client_addr, write_lag FROM pg_stat_replication \\gdesc\n',
        {
          mode: 0o644,
        },
      );
      await rig.workspace.giveAway(file);
      const alike = [...VIEWS.map((view) => `\\d ${view}`), '\\d nothing', '\\dt', `\\i ${file}`];
      const psql = (
        server: { host: string; port: number },
        database: string,
      ): Promise<PsqlAnswer[]> =>
        psqlAnswers(rig.workspace, { ...server, conninfo: `dbname=${database}` }, [
          ...alike,
          '\\d',
          '\\dv pg_stat*',
          '\\l',
          '\\d+ pg_stat_wal_receiver',
          '\\du',
          '\\df',
          'SHOW FINDINGS',
        ]);
      const { host, port } = rig.relay;
      const mine = await psql({ host, port }, 'walcast');
      const server = await psql(rig.primary.target(), 'postgres');
      const said = ({ stdout, stderr }: PsqlAnswer): string => stdout + stderr;
      for (const [index, question] of alike.entries())
        expect(said(mine[index] ?? FAILED), question).toBe(said(server[index] ?? FAILED));
      const [all, views, databases, verbose, roles, functions, findings] = mine.slice(alike.length);
      for (const view of VIEWS) expect(all?.stdout).toContain(`pg_catalog|${view}|view|`);
      expect(views?.stdout).toContain('(2 rows)');
      expect(databases?.stdout).toContain('walcast|');
      expect(verbose?.stdout).toContain('receive_start_lsn|pg_lsn|');
      expect(roles?.stderr).toContain('HINT:  SHOW HELP lists');
      expect(functions?.stderr).toContain('0A000');
      expect(findings?.stdout).toContain('severity|code|subject|message|next_step|alert');
    },
  );

  it('is a server to pg: questions, parameters, prepared statements and binary values', async () => {
    const sql = 'SELECT pid, application_name, client_addr, write_lag FROM pg_stat_replication';
    const { rows } = await ours.query(`${sql} WHERE application_name = $1`, ['receiver']);
    expect(rows).toMatchObject([{ application_name: 'receiver', client_addr: '127.0.0.1' }]);
    const prepared = { name: 'by_pid', text: `${sql} WHERE pid = $1` };
    expect((await ours.query({ ...prepared, values: [rows[0].pid] })).rowCount).toBe(1);
    expect((await ours.query({ ...prepared, values: [-5] })).rowCount).toBe(0);
    const slots = 'SELECT slot_name, active FROM pg_replication_slots WHERE active = $1 ORDER BY 1';
    expect((await ours.query(slots, [false])).rows).toEqual([
      { slot_name: 'idle', active: false },
      { slot_name: 'spare', active: false },
    ]);
    const binary = { text: 'SHOW VERSION', values: [], binary: true };
    const [version] = (await ours.query(binary)).rows;
    expect(version).toMatchObject({ version: expect.stringMatching(/^walcast /) });
    await expect(ours.query('LISTEN changes')).rejects.toMatchObject({
      code: '0A000',
      hint: 'SHOW HELP lists what the console understands.',
    });
    await ours.query('BEGIN');
    await expect(ours.query('SELECT nothing', [])).rejects.toMatchObject({ code: '42703' });
    await expect(ours.query('SELECT 1')).rejects.toMatchObject({ code: '25P02' });
    await ours.query('ROLLBACK');
    expect((await ours.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  it.each([true, false])('is a server to postgres, prepared: %s', async (prepare) => {
    const { host, port } = rig.relay;
    const options = { host, port, username: 'postgres', database: 'walcast', max: 2, prepare };
    const sql = postgres({ ...options, onnotice: () => {} });
    try {
      const name = 'receiver';
      for (let round = 0; round < 2; round += 1) {
        const rows = await sql`SELECT application_name, state, backend_start
          FROM pg_stat_replication WHERE application_name = ${name}`;
        expect(rows).toMatchObject([{ application_name: 'receiver' }]);
        expect(rows[0]?.['backend_start']).toBeInstanceOf(Date);
      }
      const rules = await sql`SHOW HBA`.simple();
      // Known by the array types that it asks the catalogue for.
      expect(rules[0]?.['database']).toEqual(['replication', 'walcast']);
      const [one, two] = await sql.unsafe('SELECT 1 AS a; SHOW STATE').simple();
      expect([one?.[0], two?.[0]?.['state']]).toEqual([{ a: 1 }, 'streaming']);
      await expect(sql`SELECT * FROM pg_stat_activity`).rejects.toMatchObject({ code: '0A000' });
      const inside = await sql.begin(
        'read only',
        (run) => run`SELECT count(*) FROM pg_replication_slots`,
      );
      expect(inside[0]?.['count']).toBe('2');
    } finally {
      await sql.end();
    }
  });

  const { it: itWithPsycopg, python } = requiresPsycopg();

  itWithPsycopg('is a server to psycopg2, which begins a transaction by itself', () => {
    const script = fileURLToPath(new URL('../support/console_psycopg.py', import.meta.url));
    const { host, port } = rig.relay;
    const { stdout, stderr } = spawnSync(python, [script, host, String(port)], {
      encoding: 'utf8',
      timeout: 30_000,
    });
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toMatchObject({
      row: ['receiver', expect.stringMatching(/^(catchup|streaming)$/), 0],
      columns: ['application_name', 'state', 'sync_priority'],
      slot: ['bool', 'int'],
      databases: ['replication', 'walcast'],
      error: '0A000',
      state: 'streaming',
    });
  });
});

/** What a value is, apart from which. */
function formOf(value: unknown): string {
  if (value instanceof Date) return 'time';
  if (typeof value === 'string' && parseLsn(value) !== null) return 'lsn';
  return value === null ? 'NULL' : typeof value;
}

const FAILED: PsqlAnswer = { command: '', stdout: '', stderr: 'no answer' };

/** The module is no program of its own, and not every Python that is installed has it. */
function requiresPsycopg(): { readonly it: typeof it | typeof it.skip; readonly python: string } {
  const programs = [findProgram('python3'), '/usr/bin/python3'].filter((path) => path !== null);
  const python = programs.find((path) => spawnSync(path, ['-c', 'import psycopg2']).status === 0);
  if (python !== undefined) return { it, python };
  if (MUST_HAVE_ALL) throw new Error('WALCAST_TEST_REQUIRE=all, but psycopg2 is not installed');
  process.stderr.write('skipped: psycopg2 is not installed\n');
  return { it: it.skip, python: '' };
}
