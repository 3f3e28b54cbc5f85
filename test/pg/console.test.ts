// Does the console's pg_stat_replication look like that of the server behind it, to psql, to pgbench and byte for byte?
// The same clients are attached to both. Positions, process ids and times may differ, their form may not.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { formatLsn } from '../../src/pg/lsn.ts';
import { runTool, startTool } from '../harness/pg-tools.ts';
import { psqlAnswers } from '../support/clients-psql.ts';
import type { PsqlAnswer } from '../support/clients-psql.ts';
import { openClientsRig } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { cstr, i16, i32, i64, message } from '../support/naive-writer.ts';
import { openRawSession, startup } from '../support/raw-session.ts';
import type { RawMessage, RawSession } from '../support/raw-session.ts';
import { requires, spannedMajors } from '../support/requirements.ts';

const HBA = 'host replication all 127.0.0.1/32 trust\nhost walcast all 127.0.0.1/32 trust\n';
const LSN = /^[0-9A-F]+\/[0-9A-F]+$/;
const LAG = /^\d\d:\d\d:\d\d(\.\d{1,6})?$/;
const TIME = /^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00$/;

/** What a value looks like where it is not NULL, in the order of the columns. */
const FORMS: readonly (readonly [name: string, form: RegExp])[] = [
  ['pid', /^\d+$/],
  ['usesysid', /^\d+$/],
  ['usename', /^postgres$/],
  ['application_name', /^\w+$/],
  ['client_addr', /^127\.0\.0\.1$/],
  ['client_hostname', /^$/],
  ['client_port', /^\d+$/],
  ['backend_start', TIME],
  ['backend_xmin', /^\d+$/],
  ['state', /^(startup|catchup|streaming)$/],
  ['sent_lsn', LSN],
  ['write_lsn', LSN],
  ['flush_lsn', LSN],
  ['replay_lsn', LSN],
  ['write_lag', LAG],
  ['flush_lag', LAG],
  ['replay_lag', LAG],
  ['sync_priority', /^\d+$/],
  ['sync_state', /^async$/],
  ['reply_time', TIME],
];

/** Seconds from 1970 to 2000. */
const PG_EPOCH_S = 946_684_800;

describe.each(spannedMajors())('the console in front of PostgreSQL %i', (major) => {
  let rig: ClientsRig;
  let servers: readonly { host: string; port: number; database: string }[];
  const sessions: RawSession[] = [];

  beforeAll(async () => {
    rig = await openClientsRig({ major, relaySettings: { auth: { hba: HBA } } });
    servers = [
      { ...rig.primary.target(), database: 'postgres' },
      { host: rig.relay.host, port: rig.relay.port, database: 'walcast' },
    ];
    for (const server of servers) {
      await attach(server, 'idle', {});
      await attach(server, 'receiver', { stream: true });
      await attach(server, 'standby', { stream: true, applies: true });
    }
    const sql =
      "SELECT count(*) FROM pg_stat_replication WHERE application_name IN ('receiver', 'standby') AND state = 'streaming' AND write_lsn IS NOT NULL";
    await pollUntil(
      'both to have heard both standbys',
      async () => {
        const counts = (await answers(message('Q', cstr(sql)))).map((answer) =>
          firstValues(answer),
        );
        return counts.every(([count]) => count === '2') ? true : null;
      },
      { timeoutMs: 20_000 },
    );
  });

  afterAll(async () => {
    for (const session of sessions) session.close();
    await rig[Symbol.asyncDispose]();
  });

  /** A walreceiver of our own, which has reported where it begins. */
  async function attach(
    server: { host: string; port: number },
    name: string,
    options: { stream?: boolean; applies?: boolean; slot?: string },
  ): Promise<RawSession> {
    const startLsn = await rig.primary.walPosition();
    const session = await openRawSession(server);
    sessions.push(session);
    session.send(startup({ user: 'postgres', replication: 'true', application_name: name }));
    await session.until('Z');
    if (options.stream !== true) return session;
    let slot = '';
    if (options.slot !== undefined) {
      slot = `SLOT ${options.slot} `;
      session.send(message('Q', cstr(`CREATE_REPLICATION_SLOT ${options.slot} PHYSICAL`)));
      await session.until('Z');
    }
    session.send(message('Q', cstr(`START_REPLICATION ${slot}${formatLsn(startLsn)}`)));
    expect((await session.next())?.type).toBe('W');
    const apply = options.applies === true ? startLsn : 0n;
    const now = BigInt(Math.round((Date.now() / 1000 - PG_EPOCH_S) * 1e6));
    session.send(message('d', 'r', i64(startLsn), i64(startLsn), i64(apply), i64(now), 1));
    // The answer to it; WAL may come before.
    for (;;) if ((await session.next())?.body[0] === 0x6b) return session;
  }

  async function attachWithFeedback(name: string, xmin: number, slot?: string): Promise<void> {
    for (const server of servers) {
      const session = await attach(server, name, {
        stream: true,
        applies: true,
        ...(slot === undefined ? {} : { slot }),
      });
      session.send(message('d', 'h', i64(0n), i32(xmin), i32(0), i32(0), i32(0)));
    }
  }

  function raw(server: { host: string; port: number; database: string }): Promise<RawSession> {
    return openRawSession(server).then(async (session) => {
      session.send(startup({ user: 'postgres', database: server.database, TimeZone: 'UTC' }));
      await session.until('Z');
      return session;
    });
  }

  /** What each server answers to the same messages, up to ReadyForQuery. */
  async function answers(...messages: readonly Uint8Array[]): Promise<RawMessage[][]> {
    return await Promise.all(
      servers.map(async (server) => {
        const session = await raw(server);
        for (const part of messages) session.send(part);
        const answer = await session.until('Z');
        session.close();
        return answer;
      }),
    );
  }

  it.each([
    'SELECT * FROM pg_stat_replication',
    'SELECT pid, sync_state AS s, application_name FROM pg_catalog.pg_stat_replication',
    'SELECT count(*) FROM pg_stat_replication',
    "SELECT 1, 'a', current_user, version(), pg_backend_pid(), current_database() AS d",
    'SHOW TimeZone',
  ])('describes the same columns: %s', async (sql) => {
    const [theirs = [], ours = []] = await answers(message('Q', cstr(sql)));
    const [first] = ours;
    expect(first?.type).toBe('T');
    expect(first === undefined ? [] : columnsOf(first)).toEqual(
      theirs[0] === undefined ? null : columnsOf(theirs[0]),
    );
    const [parsed = [], alike = []] = await answers(
      message('P', cstr('p'), cstr(sql), i16(0)),
      message('D', 'S', cstr('p')),
      message('B', cstr(''), cstr('p'), i16(0), i16(0), i16(1), i16(1)),
      message('D', 'P', cstr('')),
      message('S'),
    );
    const shape = (answer: readonly RawMessage[]): unknown[] =>
      answer.map((item) => (item.type === 'T' ? columnsOf(item) : item.type));
    expect(shape(alike)).toEqual(shape(parsed));
  });

  it('has the same values, each in the same form, and NULL in the same places', async () => {
    const sql = `SELECT ${FORMS.map(([name]) => name).join(', ')} FROM pg_stat_replication WHERE application_name IN ('idle', 'receiver', 'standby') ORDER BY application_name`;
    const [theirs = [], ours = []] = (await answers(message('Q', cstr(sql)))).map((answer) =>
      answer.filter(({ type }) => type === 'D').map(({ body }) => valuesOf(body)),
    );
    expect(theirs).toHaveLength(3);
    expect(ours).toHaveLength(3);
    for (const [row, values] of ours.entries()) {
      for (const [column, [name, form]] of FORMS.entries()) {
        const [their, our] = [theirs[row]?.[column]?.toString(), values[column]?.toString()];
        const where = `${name} of row ${row}`;
        if (their !== undefined) expect(their, where).toMatch(form);
        if (our !== undefined) expect(our, where).toMatch(form);
        // Roles are the server's; lags come and go by themselves.
        if (name === 'usesysid' || name.endsWith('_lag')) continue;
        expect(our === undefined, where).toBe(their === undefined);
        if (
          [
            'usename',
            'application_name',
            'client_addr',
            'state',
            'sync_priority',
            'sync_state',
          ].includes(name)
        )
          expect(our, where).toBe(their);
      }
    }
  });

  it('shows the xmin of a standby without a slot, as the server does, and of one with a slot none', async () => {
    const xmin = Number(await rig.primary.value('SELECT txid_current()::text'));
    // What the next transaction id is, walcast reads in the WAL.
    await rig.primary.query('CHECKPOINT');
    await attachWithFeedback('free', xmin);
    await attachWithFeedback('bound', xmin, `slot_${major}`);
    const sql =
      "SELECT backend_xmin FROM pg_stat_replication WHERE application_name IN ('free', 'bound') ORDER BY application_name";
    const shown = async (): Promise<unknown[]> =>
      (await answers(message('Q', cstr(sql)))).map((answer) => firstValues(answer));
    const wanted = [undefined, String(xmin)];
    await expect.poll(shown, { timeout: 20_000 }).toEqual([wanted, wanted]);
  });

  it('sends values in binary as long as the server does, and the same where they are the same', async () => {
    const sql = `SELECT * FROM pg_stat_replication WHERE application_name = 'standby'`;
    const rows = await answers(
      message('P', cstr(''), cstr(sql), i16(0)),
      message('B', cstr(''), cstr(''), i16(0), i16(0), i16(1), i16(1)),
      message('E', cstr(''), i32(0)),
      message('S'),
    );
    const [theirs = [], ours = []] = rows.map((answer) => {
      const row = answer.find(({ type }) => type === 'D');
      return row === undefined ? [] : valuesOf(row.body);
    });
    expect(ours).toHaveLength(FORMS.length);
    for (const [column, [name]] of FORMS.entries()) {
      const [their, our] = [theirs[column], ours[column]];
      if (our === null || our === undefined || their === null || their === undefined) continue;
      expect(our.length, name).toBe(their.length);
      if (
        ['application_name', 'client_addr', 'state', 'sync_priority', 'sync_state'].includes(name)
      )
        expect(our, name).toEqual(their);
      // The same second, day or segment: only the last bytes differ.
      if (['backend_start', 'reply_time', 'write_lsn'].includes(name))
        expect(our.subarray(0, 3), name).toEqual(their.subarray(0, 3));
    }
  });

  it('answers errors with the codes of a server', async () => {
    const statements = [
      'SELECT nothing FROM pg_stat_replication',
      'SHOW nonsense',
      'DEALLOCATE nothing',
      "SELECT 'open",
      'SELECT',
      '',
      'BEGIN; BEGIN; COMMIT; COMMIT',
      'SELECT pid FROM pg_stat_replication ORDER BY 2',
      'BEGIN; SHOW nonsense',
    ];
    for (const sql of statements) {
      const [theirs = [], ours = []] = await answers(message('Q', cstr(sql)));
      if (sql === 'SELECT') continue;
      expect(ours.map(outline), sql).toEqual(theirs.map(outline));
    }
  });

  const { it: itWithPsql } = requires('psql');

  itWithPsql('is a server to psql: \\gx, \\gdesc, \\d and transactions', async () => {
    const { workspace } = rig;
    const target = servers[1] ?? { host: '', port: 0 };
    const file = join(workspace.directory, `gx-${major}.sql`);
    const view = "FROM pg_stat_replication WHERE application_name = 'standby'";
    await writeFile(file, `SELECT application_name, state, replay_lsn ${view} \\gx\n`, {
      mode: 0o644,
    });
    await workspace.giveAway(file);
    const answer = await psqlAnswers(workspace, { ...target, conninfo: 'dbname=walcast' }, [
      `\\i ${file}`,
      '\\d',
      '\\d+ pg_stat_replication',
      'BEGIN',
      "SET application_name TO 'me'",
      'SHOW application_name',
      'COMMIT',
      '\\conninfo',
      '\\encoding',
    ]);
    const [shown, listed, details, ...rest] = answer;
    expect(shown?.stdout).toBe('application_name|standby\nstate|streaming\nreplay_lsn|LSN\n');
    expect(listed?.stdout).toContain('pg_catalog|pg_stat_replication|view|');
    expect(details?.stdout).toContain('\nreplay_lsn|pg_lsn|');
    expect(details?.stderr).toBe('');
    expect(rest.map(said)).toEqual([
      'BEGIN\n',
      'SET\n',
      'application_name\nme\n(1 row)\n',
      'COMMIT\n',
      expect.stringContaining('You are connected to database "walcast" as user "postgres"'),
      'UTF8\n',
    ]);
  });

  const { it: itWithPgbench } = requires('pgbench');

  itWithPgbench('is a server to a program that prepares what it asks', async () => {
    const { workspace } = rig;
    const script = join(workspace.directory, `console-${major}.sql`);
    await writeFile(
      script,
      "SELECT pid, application_name FROM pg_stat_replication WHERE application_name = 'standby' \\gset\nSELECT 1;\n",
      { mode: 0o644 },
    );
    await workspace.giveAway(script);
    const { host, port } = servers[1] ?? { host: '', port: 0 };
    for (const mode of ['simple', 'extended', 'prepared']) {
      const result = await runTool(workspace, 'pgbench', [
        '-n',
        '-M',
        mode,
        '-f',
        script,
        '-t',
        '5',
        '-c',
        '2',
        '-h',
        host,
        '-p',
        String(port),
        '-U',
        'postgres',
        'walcast',
      ]);
      expect(`${result.exitCode} ${result.stderr}${result.stdout}`).toMatch(
        /^0 [^]*number of transactions actually processed: 10\/10/,
      );
    }
  });
});

const { describe: describeWithPsql } = requires('psql');

describeWithPsql('psql that watches', () => {
  it('sees the standbys again and again, and is told when walcast goes', async () => {
    const [major = 15] = spannedMajors().toReversed();
    const rig = await openClientsRig({ major, relaySettings: { auth: { hba: HBA } } });
    try {
      const { host, port } = rig.relay;
      const script = join(rig.workspace.directory, 'watch.sql');
      await writeFile(script, 'SELECT count(*) FROM pg_stat_replication \\watch 0.1\n', {
        mode: 0o644,
      });
      await rig.workspace.giveAway(script);
      const psql = startTool(rig.workspace, 'psql', [
        '-Xw',
        '-f',
        script,
        `host=${host} port=${port} user=postgres dbname=walcast`,
      ]);
      await expect
        .poll(() => psql.output().split('(1 row)').length, { timeout: 20_000 })
        .toBeGreaterThan(4);
      await rig.relay.stop('SIGTERM');
      const { stderr } = await psql.ended;
      expect(stderr).toContain('FATAL:  terminating connection due to administrator command');
    } finally {
      await rig[Symbol.asyncDispose]();
    }
  });
});

function said({ stdout, stderr }: PsqlAnswer): string {
  return stdout + stderr;
}

/** Letters, tags, and codes of errors. */
function outline({ type, body }: RawMessage): string {
  if (type === 'C' || type === 'Z') return `${type} ${body.toString()}`;
  if (type !== 'E' && type !== 'N') return type;
  return `${type} ${/\0C(\w{5})\0/.exec(body.toString())?.[1] ?? ''}`;
}

/** Name, type, length, modifier and format of each column; the server's own numbers of views are not ours. */
function columnsOf({ body }: RawMessage): string[] {
  const columns: string[] = [];
  let offset = 2;
  for (let left = body.readInt16BE(0); left > 0; left -= 1) {
    const end = body.indexOf(0, offset);
    const name = body.toString('utf8', offset, end);
    const numbers = [body.readInt32BE(end + 7), body.readInt16BE(end + 11)];
    columns.push(
      [name, ...numbers, body.readInt32BE(end + 13), body.readInt16BE(end + 17)].join(' '),
    );
    offset = end + 19;
  }
  return columns;
}

/** The first value of each row; undefined for NULL. */
function firstValues(answer: readonly RawMessage[]): (string | undefined)[] {
  return answer.flatMap(({ type, body }) => (type === 'D' ? [valuesOf(body)[0]?.toString()] : []));
}

/** Values of a DataRow as bytes; null for NULL. */
function valuesOf(body: Buffer): (Buffer | null)[] {
  const values: (Buffer | null)[] = [];
  let offset = 2;
  for (let left = body.readInt16BE(0); left > 0; left -= 1) {
    const length = body.readInt32BE(offset);
    offset += 4;
    values.push(length < 0 ? null : body.subarray(offset, offset + length));
    offset += Math.max(length, 0);
  }
  return values;
}
