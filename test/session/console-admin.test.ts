// What changes something on database walcast: who may, what it is answered, what is done, counted and written down.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ADMIN_COMMANDS } from '../../src/status/status.ts';
import {
  bind,
  describePortal,
  execute,
  openConsole,
  parse,
  SYNC,
} from '../support/console-client.ts';
import { eventually } from '../support/eventually.ts';
import { query } from '../support/raw-client.ts';
import type { RawClient } from '../support/raw-client.ts';
import type { RawMessage } from '../support/raw-session.ts';
import { CUTS, Fixture, rules } from '../support/wal-senders-fixture.ts';

const HBA = 'host replication all all trust\nhost walcast all all trust';
const NO_ADMIN =
  'E|ERROR|42501|admin access needed|Those who have it are named in auth.admin_users.';

/** Each command, how it is answered, and what it does. */
const COMMANDS: readonly (readonly [sql: string, tag: string, done: string])[] = [
  ['RELOAD', 'RELOAD', 'reload'],
  ['PAUSE', 'PAUSE', 'pause'],
  ['pause upstream;', 'PAUSE', 'pause'],
  ['RECONNECT', 'RECONNECT', 'reconnect'],
  ['reconnect UPSTREAM', 'RECONNECT', 'reconnect'],
  ['CREATE SLOT standby_c', 'CREATE SLOT', 'create standby_c'],
  ['create slot "standby_d" reserve_wal', 'CREATE SLOT', 'create standby_d with WAL'],
  ['DROP SLOT standby_c', 'DROP SLOT', 'drop standby_c'],
  ['LOG LEVEL walsender debug', 'LOG LEVEL', 'log level walsender debug'],
  ['log level read-through "warn"', 'LOG LEVEL', 'log level read-through warn'],
  ['LOG LEVEL default RESET;', 'LOG LEVEL', 'log level default as configured'],
  ['DRAIN', 'DRAIN', 'drain'],
  ['SHUTDOWN', 'SHUTDOWN', 'shutdown'],
  ['shutdown wait_for_clients', 'SHUTDOWN', 'drain'],
];

/** The pid of a session, by its greeting. */
function pidOf(greeting: readonly RawMessage[]): number {
  return greeting.find(({ type }) => type === 'K')?.body.readInt32BE(0) ?? 0;
}

/** Log lines of the console, without what differs from run to run. */
function told({ log }: Fixture): string[] {
  return log.lines
    .filter((line) => line.includes('console command'))
    .map((line) => line.replace(/"client_port":\d+,"pid":\d+/, '…'));
}

describe.each(CUTS)('a command of an administrator, bytes fed %s', (cut) => {
  let fixture: Fixture;
  let client: RawClient;

  beforeEach(async () => {
    fixture = await Fixture.start({ cut, beside: true });
    fixture.hba = rules(HBA);
    fixture.admins.add('ops');
    ({ client } = await openConsole(fixture));
  });

  afterEach(() => fixture.finish());

  it.each(COMMANDS)('is carried out by the simple protocol: %s', async (sql, tag, done) => {
    expect(await client.ask(sql)).toEqual([`C ${tag}`, 'Z I']);
    await eventually(() => fixture.actions.done).toEqual([done]);
    expect(await client.ask('SELECT 1')).toEqual(['T', 'D 1', 'C SELECT 1', 'Z I']);
  });

  it.each(COMMANDS)('is carried out by the extended protocol: %s', async (sql, tag, done) => {
    client.send(parse(sql), bind(), describePortal(), execute(), SYNC);
    expect(await client.answer()).toEqual(['1', '2', 'n', `C ${tag}`, 'Z I']);
    await eventually(() => fixture.actions.done).toEqual([done]);
    client.send(bind(), execute(), SYNC);
    const again = await client.answer();
    expect(again.filter((line) => !line.startsWith('N|'))).toEqual(['2', `C ${tag}`, 'Z I']);
    await eventually(() => fixture.actions.done).toEqual([done, done]);
  });

  it('is answered in order with what came before and behind it', async () => {
    client.send(query('SELECT 1; CREATE SLOT a; SELECT 2'), query('DROP SLOT a'));
    client.send(parse('RELOAD'), bind(), execute(), parse('RESUME'), bind(), execute(), SYNC);
    expect(await client.answer()).toEqual([
      'T',
      'D 1',
      'C SELECT 1',
      'C CREATE SLOT',
      'T',
      'D 2',
      'C SELECT 1',
      'Z I',
    ]);
    expect(await client.answer()).toEqual(['C DROP SLOT', 'Z I']);
    expect(await client.answer()).toEqual([
      '1',
      '2',
      'C RELOAD',
      '1',
      '2',
      'N|NOTICE|00000|walcast is not paused',
      'C RESUME',
      'Z I',
    ]);
    expect(fixture.actions.done).toEqual(['create a', 'drop a', 'reload', 'resume']);
  });

  it('that fails ends a query, and what comes before Sync', async () => {
    fixture.actions.refusal = {
      sqlstate: '42710',
      message: 'replication slot "a" already exists',
    };
    const error = 'E|ERROR|42710|replication slot "a" already exists';
    expect(await client.ask('CREATE SLOT a; RELOAD')).toEqual([error, 'Z I']);
    client.send(parse('CREATE SLOT a'), bind(), execute(), parse('RELOAD'), bind(), execute());
    client.send(SYNC);
    expect(await client.answer()).toEqual(['1', '2', error, 'Z I']);
    expect(fixture.actions.done).toEqual(['create a', 'create a']);
  });

  it('has to be written as it is', async () => {
    for (const sql of [
      'RELOAD now',
      'PAUSE mydb',
      'KILL',
      'SHUTDOWN WAIT_FOR_SERVERS',
      'CREATE TABLE t ()',
      'CREATE SLOT',
      'CREATE SLOT a PHYSICAL',
      'DROP SLOT',
      'DROP SLOT a b',
      'LOG walsender debug',
      'LOG LEVEL walsender',
      'LOG LEVEL read- debug',
      'LOG LEVEL wal debug now',
    ]) {
      const answer = await client.ask(sql);
      expect(answer[0]).toMatch(/^E\|ERROR\|(0A000|42601)\|/);
      expect(answer).toHaveLength(2);
    }
    for (const sql of ['KILL standby_a', 'KILL 1.5', 'KILL 12345678901', "KILL ''", 'KILL $1']) {
      const shown = sql.slice('KILL '.length).replaceAll("'", '');
      const answer = await client.ask(sql);
      expect(answer[0]).toContain(`E|ERROR|22023|"${shown}" is no pid|SHOW STANDBYS `);
    }
    expect(fixture.actions.done).toEqual([]);
    expect([...fixture.desk.counts().values()].every((count) => count === 0)).toBe(true);
  });
});

describe('a changing command', () => {
  let fixture: Fixture;
  let client: RawClient;
  let pid: number;

  beforeEach(async () => {
    fixture = await Fixture.start({ beside: true });
    fixture.hba = rules(HBA);
    fixture.admins.add('ops');
    const opened = await openConsole(fixture);
    client = opened.client;
    pid = pidOf(opened.greeting);
  });

  afterEach(() => fixture.finish());

  it.each([...COMMANDS, ['KILL 42', 'KILL', ''] as const])(
    'is refused to everybody else: %s',
    async (sql) => {
      const { client: other } = await openConsole(fixture, { user: 'guest' });
      expect(await other.ask(sql)).toEqual([NO_ADMIN, 'Z I']);
      other.send(parse(sql), bind(), execute(), SYNC);
      expect(await other.answer()).toEqual(['1', '2', NO_ADMIN, 'Z I']);
      expect(await other.ask('SELECT 1')).toContain('D 1');
      expect(fixture.actions.done).toEqual([]);
    },
  );

  it('is taken from whom the configuration names at that moment, and from nobody named alike', async () => {
    fixture.admins.clear();
    fixture.admins.add('Ops');
    expect(await client.ask('PAUSE')).toEqual([NO_ADMIN, 'Z I']);
    fixture.admins.add('ops');
    expect(await client.ask('PAUSE')).toEqual(['C PAUSE', 'Z I']);
    client.send(parse('RESUME', 'later'), SYNC);
    expect(await client.answer()).toEqual(['1', 'Z I']);
    fixture.admins.clear();
    client.send(bind({ name: 'later' }), execute(), SYNC);
    expect(await client.answer()).toEqual(['2', NO_ADMIN, 'Z I']);
    expect(fixture.actions.done).toEqual(['pause']);
  });

  it('is counted, whatever came of it', async () => {
    const { client: guest } = await openConsole(fixture, { user: 'guest' });
    await guest.ask('RELOAD');
    await client.ask('RELOAD');
    await client.ask('KILL 1');
    await client.ask('CREATE SLOT a');
    await client.ask('SHUTDOWN WAIT_FOR_CLIENTS');
    const counts = fixture.desk.counts();
    expect([...counts.keys()]).toEqual([...ADMIN_COMMANDS]);
    expect(Object.fromEntries([...counts].filter(([, count]) => count > 0))).toEqual({
      reload: 2,
      kill: 1,
      create_slot: 1,
      shutdown: 1,
    });
  });

  it('is written down with who, from where, what, and what came of it', async () => {
    await client.ask('PAUSE');
    await client.ask('KILL 7');
    await client.ask('CREATE SLOT "Odd""\nname" RESERVE_WAL');
    fixture.actions.report = {
      problems: ['walcast.yaml:1:1: no'],
      changed: [],
      pendingRestart: [],
    };
    await client.ask('RELOAD');
    const { client: guest } = await openConsole(fixture, { user: 'guest' });
    await guest.ask('SHUTDOWN');
    const ops = '{"user":"ops","client_addr":"127.0.0.1",…';
    expect(told(fixture)).toEqual([
      `info console command done: PAUSE ${ops}}`,
      `warn console command refused: KILL 7 ${ops},"sqlstate":"42704","reason":"no standby has pid 7","detail":null}`,
      `info console command done: CREATE SLOT "Odd""?name" RESERVE_WAL ${ops}}`,
      `warn console command failed: RELOAD ${ops},"sqlstate":"F0000","reason":"the configuration was not changed, because it has mistakes","detail":"walcast.yaml:1:1: no"}`,
      `warn console command refused: SHUTDOWN {"user":"guest","client_addr":"127.0.0.1",…,"sqlstate":"42501","reason":"admin access needed","detail":null}`,
    ]);
    expect(fixture.log.lines.find((line) => line.includes('PAUSE'))).toContain(`"pid":${pid}}`);
  });

  it('of a stranger fills no log, and hides none of an administrator', async () => {
    const { client: guest } = await openConsole(fixture, { user: 'guest' });
    for (let index = 0; index < 150; index += 1) guest.send(query('RELOAD'));
    for (let index = 0; index < 150; index += 1) await guest.answer();
    for (let index = 0; index < 150; index += 1) client.send(query('PAUSE'));
    for (let index = 0; index < 150; index += 1) await client.answer();
    const lines = told(fixture);
    expect(lines.filter((line) => line.includes('guest'))).toHaveLength(100);
    expect(lines.filter((line) => line.includes('ops'))).toHaveLength(150);
    expect(fixture.desk.counts().get('reload')).toBe(150);
  });

  it('cannot be rolled back, so a transaction is no place for it', async () => {
    expect(await client.ask('BEGIN')).toEqual(['C BEGIN', 'Z T']);
    expect(await client.ask('CREATE SLOT a')).toEqual([
      'E|ERROR|25001|CREATE SLOT cannot run inside a transaction block|It takes effect at once and cannot be rolled back: send it outside of one (autocommit).',
      'Z E',
    ]);
    expect(await client.ask('RELOAD')).toEqual([
      'E|ERROR|25P02|current transaction is aborted, commands ignored until end of transaction block',
      'Z E',
    ]);
    expect(await client.ask('ROLLBACK; RELOAD')).toEqual(['C ROLLBACK', 'C RELOAD', 'Z I']);
    expect(fixture.actions.done).toEqual(['reload']);
  });

  it('ends the session of a standby, and only of one', async () => {
    const standby = await fixture.stream();
    expect(await client.ask(`KILL ${pid}`)).toEqual([
      `E|ERROR|42704|no standby has pid ${pid}|SHOW STANDBYS shows those that are connected.`,
      'Z I',
    ]);
    expect(await client.ask(`KILL '${standby.pid}'`)).toEqual(['C KILL', 'Z I']);
    expect((await standby.client.rest()).at(-1)).toBe(
      'E|FATAL|57P01|terminating connection due to administrator command',
    );
    expect(fixture.senders.totals().disconnects.admin).toBe(1);
  });

  it('says what a reload changed, and what only a restart can', async () => {
    fixture.actions.report = {
      problems: [],
      changed: ['log.level', 'slots'],
      pendingRestart: ['listen'],
    };
    expect(await client.ask('RELOAD')).toEqual([
      'N|NOTICE|00000|changed: log.level, slots',
      'N|WARNING|55P02|"listen" cannot be changed without a restart',
      'C RELOAD',
      'Z I',
    ]);
  });

  it('shows the mistakes of a configuration that was not taken', async () => {
    const problems = ['walcast.yaml:1:1: one', 'walcast.yaml:2:1: two'];
    fixture.actions.report = { problems, changed: [], pendingRestart: [] };
    expect(await client.ask('RELOAD')).toEqual([
      `E|ERROR|F0000|the configuration was not changed, because it has mistakes|${problems.join('\n')}|Correct them and reload again.`,
      'Z I',
    ]);
    fixture.actions.report = { problems: ['x'.repeat(100_000)], changed: [], pendingRestart: [] };
    expect((await client.ask('RELOAD'))[0]?.length).toBeLessThan(20_000);
  });

  it('that comes when walcast ends is not said to be a mistake of the configuration', async () => {
    fixture.actions.report = { problems: ['walcast is ending'], changed: [], pendingRestart: [] };
    fixture.actions.onReload = () => {
      fixture.actions.isDraining = true;
    };
    const refusal =
      'the configuration is not read again, because walcast is draining|What the file says takes effect at the next start.';
    const [message, hint] = refusal.split('|');
    expect(await client.ask('RELOAD')).toEqual([
      `E|ERROR|55000|${message}|walcast is ending|${hint}`,
      'Z I',
    ]);
    expect(await client.ask('RELOAD')).toEqual([`E|ERROR|55000|${refusal}`, 'Z I']);
    expect(fixture.actions.done).toEqual(['reload']);
  });

  it('names nothing that looks like a field of the line', async () => {
    fixture.admins.clear();
    await client.ask('DROP SLOT "a"" done user=root client_addr=10.0.0.9\u2003x=1"');
    expect(told(fixture)[0]).toMatch(
      /^warn console command refused: DROP SLOT "a""\?done\?user\?root\?client_addr\?10\.0\.0\.9\?x\?1" \{"user":"ops",/,
    );
  });

  it('is written down in a short line, whatever it names', async () => {
    const name = 'x'.repeat(50_000);
    fixture.actions.refusal = { sqlstate: '42704', message: `slot "${name}" does not exist` };
    expect((await client.ask(`DROP SLOT ${name}`))[0]).toContain('|42704|');
    expect(told(fixture)[0]?.length).toBeLessThan(2_000);
  });

  it('tells a pause that is one already', async () => {
    expect(await client.ask('PAUSE; PAUSE')).toEqual([
      'C PAUSE',
      'N|NOTICE|00000|walcast is paused already',
      'C PAUSE',
      'Z I',
    ]);
    expect(await client.ask('RESUME; RESUME')).toEqual([
      'C RESUME',
      'N|NOTICE|00000|walcast is not paused',
      'C RESUME',
      'Z I',
    ]);
  });

  it('that fails by the disk is said to have failed', async () => {
    fixture.actions.refusal = { sqlstate: '58030', message: 'could not write' };
    expect(await client.ask('DROP SLOT a')).toEqual(['E|ERROR|58030|could not write', 'Z I']);
    expect(told(fixture)[0]).toMatch(/^warn console command failed: DROP SLOT "a" /);
  });
});
