// Sessions on database walcast: what both protocols answer, byte for byte.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CONSOLE_PORTALS_MAX, CONSOLE_STATEMENTS_MAX } from '../../src/config/limits.ts';
import {
  bind,
  columnsOf,
  describePortal,
  execute,
  openConsole,
  parse,
  SYNC,
} from '../support/console-client.ts';
import { cstr, i16, i32, message } from '../support/naive-writer.ts';
import { query, rowValues, statusUpdate } from '../support/raw-client.ts';
import type { RawClient } from '../support/raw-client.ts';
import { CUTS, Fixture, identityOf, rules, START_LSN } from '../support/wal-senders-fixture.ts';

const HINT = 'SHOW HELP lists what the console understands.';
const NOT_SUPPORTED = `E|ERROR|0A000|this statement is not supported by walcast's console`;
describe.each(CUTS)('the console, bytes fed %s', (cut) => {
  let fixture: Fixture;
  let client: RawClient;

  beforeEach(async () => {
    fixture = await Fixture.start({ cut, beside: true });
    fixture.hba = rules('host replication all all trust\nhost walcast ops all trust');
    ({ client } = await openConsole(fixture));
  });

  afterEach(() => fixture.finish());

  it('has one row for each standby, and none for a console', async () => {
    await openConsole(fixture);
    await fixture.standby({ application_name: 'idle' });
    const answer = await client.ask(
      'SELECT application_name, state, usename, sync_priority, sync_state FROM pg_stat_replication',
    );
    expect(answer).toEqual([
      'T',
      'D beside,streaming,replicator,0,async',
      'D idle,startup,replicator,0,async',
      'C SELECT 2',
      'Z I',
    ]);
    expect(fixture.senders.statuses()).toHaveLength(2);
  });

  it('says what a standby reported, as a server does, and NULL for what it did not', async () => {
    const standby = await fixture.stream(START_LSN, { parameters: { application_name: 's' } });
    const ask = async (): Promise<string | undefined> =>
      (await client.ask("SELECT * FROM pg_stat_replication WHERE application_name = 's'"))[1];
    const before =
      /^D (\d+),NULL,replicator,s,127\.0\.0\.1,NULL,(\d+),(\S+ \S+),NULL,streaming,0\/1\w+,NULL,NULL,NULL,NULL,NULL,NULL,0,async,NULL$/;
    expect(await ask()).toMatch(before);
    const [, pid] = before.exec((await ask()) ?? '') ?? [];
    expect(Number(pid)).toBe(standby.pid);
    standby.client.send(statusUpdate(START_LSN, START_LSN, 0n, 1));
    await standby.nextOther({ keepalives: true });
    expect(await ask()).toMatch(
      /,streaming,0\/1\w+,0\/1234000,0\/1234000,NULL,.*,async,2022-03-07 20:26:40\+00$/,
    );
    expect((await ask())?.split(',')[7]).toMatch(
      /^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00$/,
    );
  });

  it('describes the columns as a server does', async () => {
    client.send(query('select * from pg_catalog.pg_stat_replication as r;'));
    const [description] = await client.until('Z');
    expect(description === undefined ? [] : columnsOf(description)).toEqual([
      'pid 23 4 0',
      'usesysid 26 4 0',
      'usename 19 64 0',
      'application_name 25 -1 0',
      'client_addr 869 -1 0',
      'client_hostname 25 -1 0',
      'client_port 23 4 0',
      'backend_start 1184 8 0',
      'backend_xmin 28 4 0',
      'state 25 -1 0',
      'sent_lsn 3220 8 0',
      'write_lsn 3220 8 0',
      'flush_lsn 3220 8 0',
      'replay_lsn 3220 8 0',
      'write_lag 1186 16 0',
      'flush_lag 1186 16 0',
      'replay_lag 1186 16 0',
      'sync_priority 23 4 0',
      'sync_state 25 -1 0',
      'reply_time 1184 8 0',
    ]);
  });

  it('runs the extended protocol, in text and in binary, whole and in pieces', async () => {
    await fixture.standby({ application_name: 'second' });
    const sql = 'SELECT application_name AS who, sync_priority FROM pg_stat_replication';
    client.send(parse(sql, 'p'), message('D', 'S', cstr('p')), bind({ name: 'p' }));
    client.send(describePortal(), execute(), SYNC);
    expect(await client.answer()).toEqual([
      '1',
      't',
      'T',
      '2',
      'T',
      'D beside,0',
      'D second,0',
      'C SELECT 2',
      'Z I',
    ]);
    client.send(bind({ name: 'p', formats: [0, 1] }), describePortal(), execute(), SYNC);
    const answer = await client.until('Z');
    expect(answer.map(({ type }) => type)).toEqual(['2', 'T', 'D', 'D', 'C', 'Z']);
    expect(answer[1] === undefined ? [] : columnsOf(answer[1])).toEqual([
      'who 25 -1 0',
      'sync_priority 23 4 1',
    ]);
    expect(answer[2] === undefined ? [] : rowValues(answer[2].body)).toEqual([
      'beside',
      '\0\0\0\0',
    ]);
    client.send(query('BEGIN'), bind({ name: 'p', portal: 'c' }), execute(1, 'c'), execute(1, 'c'));
    client.send(execute(1, 'c'), SYNC, message('C', 'P', cstr('c')), message('C', 'S', cstr('p')));
    client.send(message('H'), SYNC, query('COMMIT'));
    expect(await client.answer()).toEqual(['C BEGIN', 'Z T']);
    expect(await client.answer()).toEqual([
      '2',
      'D beside,0',
      's',
      'D second,0',
      's',
      'C SELECT 0',
      'Z T',
    ]);
    expect(await client.answer()).toEqual(['3', '3', 'Z T']);
    expect(await client.answer()).toEqual(['C COMMIT', 'Z I']);
  });

  it('answers nothing between an error of the extended protocol and Sync', async () => {
    client.send(
      parse('SELECT nothing FROM pg_stat_replication'),
      bind(),
      execute(),
      query('SHOW server_version'),
      // A server does not look into what it skips.
      message('Q', 'no end'),
      message('B', 'nonsense'),
    );
    client.send(SYNC, parse(''), bind(), describePortal(), execute(), SYNC);
    expect(await client.answer()).toEqual(['E|ERROR|42703|column "nothing" does not exist', 'Z I']);
    expect(await client.answer()).toEqual(['1', '2', 'n', 'I', 'Z I']);
  });

  it.each([
    [
      'a statement that is not there',
      [message('D', 'S', cstr('x'))],
      'E|ERROR|26000|prepared statement "x" does not exist',
    ],
    ['no unnamed statement', [bind()], 'E|ERROR|26000|unnamed prepared statement does not exist'],
    ['a portal that is not there', [execute(0, 'x')], 'E|ERROR|34000|portal "x" does not exist'],
    [
      'a name twice',
      [parse('SHOW all', 'n'), parse('SHOW all', 'n')],
      'E|ERROR|42P05|prepared statement "n" already exists',
    ],
    [
      'two statements',
      [parse('SHOW all; SHOW all')],
      'E|ERROR|42601|cannot insert multiple commands into a prepared statement',
    ],
    [
      'a parameter too many',
      [parse('SHOW all'), message('B', cstr(''), cstr(''), i16(0), i16(1), i32(-1), i16(0))],
      'E|ERROR|08P01|bind message supplies 1 parameters, but prepared statement "" requires 0',
    ],
    [
      'formats of no columns',
      [parse('SHOW server_version'), bind({ formats: [0, 0] })],
      'E|ERROR|08P01|bind message has 2 result formats but query has 1 columns',
    ],
    [
      'a format that is none',
      [parse('SHOW server_version'), bind({ formats: [2] })],
      'E|ERROR|22023|unsupported format code: 2',
    ],
    [
      'a parameter in the place of a column',
      [parse('SELECT $1 FROM pg_stat_replication')],
      `${NOT_SUPPORTED}|What is not understood begins at "1".|${HINT}`,
    ],
    [
      'a parameter without a value',
      [parse('SELECT * FROM pg_stat_replication WHERE application_name = $1'), bind()],
      'E|ERROR|08P01|bind message supplies 0 parameters, but prepared statement "" requires 1',
    ],
    ['half a message', [message('B', cstr(''))], 'E|ERROR|08P01|invalid string in message'],
    [
      'a Describe of nothing',
      [message('D', 'X', cstr(''))],
      'E|ERROR|08P01|invalid DESCRIBE message subtype 88',
    ],
  ])('refuses %s, and goes on', async (_name, messages, error) => {
    for (const part of messages) client.send(part);
    client.send(SYNC);
    const answer = await client.answer();
    expect(answer.at(-2)).toBe(error);
    expect(await client.ask('SELECT 1')).toEqual(['T', 'D 1', 'C SELECT 1', 'Z I']);
  });

  it.each([
    ['', ['I']],
    [' ; -- nothing\n /* nor /* here */ */ ', ['I']],
    ['SELECT 1; SELECT 2', ['T', 'D 1', 'C SELECT 1', 'T', 'D 2', 'C SELECT 1']],
    ["SELECT 'it''s' AS text", ['T', "D it's", 'C SELECT 1']],
    [
      'SELECT pg_catalog.version()',
      ['T', 'D PostgreSQL 15.1 behind walcast 0.1.0-test', 'C SELECT 1'],
    ],
    [
      'SELECT current_user, current_database(), current_schema',
      ['T', 'D ops,walcast,pg_catalog', 'C SELECT 1'],
    ],
    ["SELECT current_setting('TimeZone')", ['T', 'D UTC', 'C SELECT 1']],
    ['SELECT count(*) FROM pg_stat_replication', ['T', 'D 1', 'C SELECT 1']],
    [
      "SELECT count(*) FROM pg_stat_replication WHERE state <> 'streaming'",
      ['T', 'D 0', 'C SELECT 1'],
    ],
    ['SHOW TimeZone', ['T', 'D UTC', 'C SHOW']],
    ['SHOW TRANSACTION ISOLATION LEVEL', ['T', 'D read committed', 'C SHOW']],
    ['SHOW wal_level', ['T', 'D replica', 'C SHOW']],
    ['SHOW walcast_version', ['T', 'D 0.1.0-test', 'C SHOW']],
    ['SET extra_float_digits = 3', ['C SET']],
    ['SET SESSION statement_timeout TO DEFAULT', ['C SET']],
    ["SET application_name = 'me'", ['S', 'C SET']],
    ["SET client_encoding TO 'UTF-8'", ['C SET']],
    ['SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY', ['C SET']],
    ['RESET ALL', ['C RESET']],
    ['DISCARD ALL', ['C DISCARD ALL']],
    ['DEALLOCATE ALL', ['C DEALLOCATE ALL']],
    ['COMMIT', ['N|WARNING|25P01|there is no transaction in progress', 'C COMMIT']],
    ['BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY; COMMIT', ['C BEGIN', 'C COMMIT']],
    ['START TRANSACTION READ WRITE; END', ['C START TRANSACTION', 'C COMMIT']],
  ])('answers what clients send around their question: %s', async (sql, answer) => {
    expect(await client.ask(sql)).toEqual([...answer, 'Z I']);
  });

  it('shows settings that mean walcast as walsenders do, also when they have changed', async () => {
    const names = ['synchronous_standby_names', 'max_wal_senders', 'wal_sender_timeout'];
    const shown = async (): Promise<(string | undefined)[]> => {
      const values: (string | undefined)[] = [];
      for (const name of names) values.push((await client.ask(`SHOW ${name}`))[1]);
      return values;
    };
    const upstream = new Map([['synchronous_standby_names', 'walcast']]);
    fixture.identity = { ...identityOf(15), settings: upstream };
    ({ client } = await openConsole(fixture));
    const ownSettings = new Map([['synchronous_standby_names', 'ANY 1 (a, b)']]);
    fixture.settings = { ...fixture.settings, ownSettings };
    expect(await shown()).toEqual(['D ANY 1 (a, b)', 'D 100', 'D 1min']);
    ownSettings.set('synchronous_standby_names', '');
    fixture.settings = { ...fixture.settings, maxWalSenders: 7, walSenderTimeoutMs: 0 };
    expect(await shown()).toEqual(['D ', 'D 7', 'D 0']);
    expect(await client.ask('SHOW ALL')).toContain('D max_wal_senders,7,');
  });

  it.each([
    ['SELECT * FROM pg_class', 'There is no relation "pg_class" here.'],
    ['SELECT * FROM public.pg_stat_replication', 'There is no schema "public".'],
    ['SELECT pg_sleep(1)', 'What is not understood begins at "1".'],
    ['SELECT now()', 'There is no function "now" of these arguments here.'],
    ['UPDATE pg_stat_replication SET pid = 1', 'There is nothing here that begins with "update".'],
    ['START_REPLICATION 0/1000000', 'There is nothing here that begins with "start_replication".'],
    ["SELECT B'1'", "Strings with a prefix, as B'...', are not understood."],
    ["SELECT E'\\x41'", "Strings with a prefix, as B'...', are not understood."],
    [
      "SELECT * FROM pg_stat_replication WHERE sent_lsn = '0/0'",
      'Column "sent_lsn" cannot be compared with a value here.',
    ],
    [
      'SELECT pid FROM pg_stat_replication GROUP BY pid',
      'What is not understood begins at "group".',
    ],
  ])('refuses politely what it does not know: %s', async (sql, detail) => {
    expect(await client.ask(sql)).toEqual([`${NOT_SUPPORTED}|${detail}|${HINT}`, 'Z I']);
  });

  it.each([
    ['SHOW nonsense', `E|ERROR|42704|unrecognized configuration parameter "nonsense"|${HINT}`],
    [
      "SET client_encoding = 'LATIN1'",
      `E|ERROR|0A000|walcast's console has "client_encoding" at UTF8 only|${HINT}`,
    ],
    ['SET wal_level = logical', 'E|ERROR|55P02|parameter "wal_level" cannot be changed now'],
    ["SELECT 'open", `E|ERROR|42601|unterminated quoted string at or near "'open"`],
    ['SELECT', 'E|ERROR|42601|syntax error at end of input'],
    ['SELECT *', 'E|ERROR|42601|SELECT * with no tables specified is not valid'],
    [
      'SELECT pid FROM pg_stat_replication ORDER BY 2',
      'E|ERROR|42P10|ORDER BY position 2 is not in select list',
    ],
    ['DEALLOCATE x', 'E|ERROR|26000|prepared statement "x" does not exist'],
  ])('refuses as a server does: %s', async (sql, error) => {
    expect(await client.ask(sql)).toEqual([error, 'Z I']);
  });

  it('runs nothing behind an error in a query, and nothing in a transaction that failed but its end', async () => {
    expect(await client.ask('BEGIN; SHOW server_version; SELECT nothing; SELECT 1')).toEqual([
      'C BEGIN',
      'T',
      'D 15.1',
      'C SHOW',
      'E|ERROR|42703|column "nothing" does not exist',
      'Z E',
    ]);
    expect(await client.ask('SELECT 1')).toEqual([
      'E|ERROR|25P02|current transaction is aborted, commands ignored until end of transaction block',
      'Z E',
    ]);
    expect(await client.ask('COMMIT')).toEqual(['C ROLLBACK', 'Z I']);
  });

  it('orders, limits and filters', async () => {
    for (const name of ['b', 'a', 'c']) await fixture.standby({ application_name: name });
    const names = async (rest: string): Promise<string[]> =>
      (await client.ask(`SELECT application_name FROM pg_stat_replication ${rest}`))
        .filter((line) => line.startsWith('D '))
        .map((line) => line.slice(2));
    expect(await names('ORDER BY application_name DESC LIMIT 2')).toEqual(['c', 'beside']);
    expect(await names('ORDER BY state, 1')).toEqual(['a', 'b', 'c', 'beside']);
    expect(await names("WHERE application_name IN ('a', 'c') ORDER BY pid")).toEqual(['a', 'c']);
    expect(await names("WHERE sent_lsn IS NOT NULL AND state = 'streaming'")).toEqual(['beside']);
    expect(await names('ORDER BY sent_lsn DESC, 1 LIMIT 1')).toEqual(['a']);
  });

  it('tells at login what it speaks, whatever the client asked for', async () => {
    const { greeting } = await openConsole(fixture, {
      client_encoding: 'LATIN1',
      TimeZone: 'Europe/Berlin',
      application_name: 'psql',
    });
    const told = greeting.filter(({ type }) => type === 'S').map(({ body }) => body.toString());
    expect(told).toContain('client_encoding\0UTF8\0');
    expect(told).toContain('TimeZone\0UTC\0');
    expect(told).toContain('DateStyle\0ISO, MDY\0');
    expect(told).toContain('application_name\0psql\0');
    expect(told).toContain('session_authorization\0ops\0');
    expect(told).toContain('is_superuser\0off\0');
  });

  it('skips what is left of a COPY, refuses a function call, and ends with Terminate', async () => {
    client.send(message('d', 'x'), message('c'), message('F', i32(1)));
    expect(await client.answer()).toEqual([
      `E|ERROR|0A000|fastpath function calls are not supported by walcast's console`,
      'Z I',
    ]);
    client.send(message('X'));
    expect(await client.rest()).toEqual([]);
  });

  it('ends a client that sends no messages of the protocol', async () => {
    client.send(message('~'));
    expect(await client.rest()).toEqual(['E|FATAL|08P01|invalid frontend message type 126']);
  });

  it('holds so many statements and portals, and no more', async () => {
    client.send(query('BEGIN'));
    for (let index = 0; index <= CONSOLE_STATEMENTS_MAX; index += 1) {
      client.send(parse('SHOW server_version', `s${index}`));
    }
    client.send(SYNC);
    expect((await client.answer()).at(-1)).toBe('Z T');
    expect((await client.answer()).slice(-2)).toEqual([
      'E|ERROR|54000|too many prepared statements in this session',
      'Z E',
    ]);
    client.send(query('ROLLBACK; BEGIN'));
    for (let index = 0; index <= CONSOLE_PORTALS_MAX; index += 1) {
      client.send(bind({ name: 's0', portal: `p${index}` }));
    }
    client.send(SYNC);
    expect((await client.answer()).at(-1)).toBe('Z T');
    expect((await client.answer()).slice(-2)).toEqual([
      'E|ERROR|54000|too many portals in this session',
      'Z E',
    ]);
  });
});
