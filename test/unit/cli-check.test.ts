// Does `walcast check` print every finding in a form that people and scripts can rely on?
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { FINDING_CODES, formatFinding } from '../../src/check/finding.ts';
import { syncMembership } from '../../src/check/sync-names.ts';
import { checkCommand } from '../../src/cli/check.ts';
import { runCommand } from '../../src/cli/run.ts';
import { checkDeep, typeCommand } from '../support/check-command.ts';
import type { CheckEnd } from '../support/check-command.ts';
import { errorResponse, playedServer, ScriptedUpstream } from '../support/scripted-upstream.ts';
import type { PlayedServer, ScriptedSession } from '../support/scripted-upstream.ts';

const PAGE = fileURLToPath(new URL('../../docs/check.md', import.meta.url));

const check = (...words: string[]) => typeCommand(['check', ...words], [checkCommand]);

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'walcast-check-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function deep(conninfo: string, directory: string, ...words: string[]): Promise<CheckEnd> {
  return checkDeep([
    `--upstream=${conninfo}`,
    `--data=${directory}`,
    '--http=',
    '--listen=127.0.0.1:0',
    '--set=auth.hba=host replication all 127.0.0.1/32 reject',
    ...words,
  ]);
}

describe('a configuration', () => {
  test('that is wrong gives the lines of run, and 1 instead of 78', async () => {
    const words = ['--set', 'nonsense', '--http', 'x'];
    const { code, out, err } = await check(...words);
    const neverStarted = runCommand(() => Promise.reject(new Error('not to be started')));
    const run = await typeCommand(['run', ...words], [neverStarted]);
    expect([code, run.code]).toEqual([1, 78]);
    expect(out).toBe('');
    expect(err).toBe(run.err);
    expect(err.trim().split('\n')).toHaveLength(3);
  });

  test('that is wrong is told as JSON with the place of each mistake', async () => {
    const { code, out, err } = await check('--http', 'x', '--upstream', 'host=a', '--json');
    expect([code, err]).toEqual([1, '']);
    expect(JSON.parse(out)).toEqual({
      ok: false,
      errors: 1,
      warnings: 0,
      findings: [
        {
          severity: 'error',
          code: 'config.invalid',
          subject: '--http',
          message: expect.stringContaining('"x" is no address'),
          fix: 'Use "" for no HTTP port.',
        },
      ],
    });
  });

  test('that is valid is said to be, with its warnings, and nothing is contacted', async () => {
    const { code, out } = await check(
      '--upstream=host=no-such-host.invalid',
      '--set=auth.hba=host replication all all trust',
    );
    expect(code).toBe(0);
    const [valid, warning, summary] = out.split('\n');
    expect(valid).toBe('ok       configuration: the configuration is valid. [config.valid]');
    expect(warning).toMatch(/^warning {2}configuration: auth\.hba, line 1: "trust" lets .*\]$/);
    expect(summary).toBe('0 errors, 1 warning');
  });

  test('an unknown option is a mistake of usage', async () => {
    expect((await check('--depe')).code).toBe(2);
  });
});

describe('lines', () => {
  test('a finding is one line with its code at the end', () => {
    const text = { subject: 'pg-a:5432', message: 'it is so', fix: 'SELECT 1;' };
    expect(formatFinding({ severity: 'error', code: 'upstream.hba', ...text })).toBe(
      'error    pg-a:5432: it is so. SELECT 1; [upstream.hba]',
    );
    expect(formatFinding({ severity: 'ok', code: 'upstream.slot', ...text, fix: null })).toBe(
      'ok       pg-a:5432: it is so. [upstream.slot]',
    );
  });

  test('the page lists every code with its meaning', () => {
    const page = readFileSync(PAGE, 'utf8');
    const rows = Object.entries(FINDING_CODES).map(
      ([code, meaning]) => `| \`${code}\` | ${meaning} |`,
    );
    const table = ['| code | what it is about |', '|---|---|', ...rows].join('\n');
    const wanted = page.replace(
      /(<!-- codes: [^>]*-->)[\s\S]*(<!-- end of codes -->)/,
      (_all, begin: string, end: string) => `${begin}\n\n${table}\n\n${end}`,
    );
    if (process.env['WALCAST_TEST_UPDATE'] === '1') writeFileSync(PAGE, wanted);
    else expect(page).toBe(wanted);
  });
});

describe('synchronous_standby_names', () => {
  test.each([
    ['', 'none'],
    ['walcast', 'named'],
    ['WalCast', 'named'],
    ['"walcast"', 'named'],
    ['a, walcast', 'named'],
    ['2 (a, walcast)', 'named'],
    ['FIRST 1 (walcast, b)', 'named'],
    ['any 1 (a,walcast)', 'named'],
    ['first 1(walcast)', 'named'],
    ['*', 'any'],
    ['ANY 2 (*)', 'any'],
    ['"*"', 'any'],
    ['walcast2, "my walcast"', 'none'],
    ['"wal""cast"', 'none'],
    ['ANY 1 (first, any)', 'none'],
  ])('%j counts walcast: %s', (setting, membership) => {
    expect(syncMembership(setting, 'walcast')).toBe(membership);
  });

  test('a name with a quote in it is found', () => {
    expect(syncMembership('"wal""cast"', 'wal"cast')).toBe('named');
  });
});

describe('servers that are not at hand', () => {
  /** A server that answers every session as `play` says, until the test ends. */
  async function listening(play: (session: ScriptedSession) => Promise<void>): Promise<number> {
    const upstream = await ScriptedUpstream.listen();
    onTestFinished(() => upstream[Symbol.asyncDispose]());
    void (async () => {
      for (;;) {
        const session = await upstream.accept();
        // A client that closes ends its session here with an error.
        void play(session).catch(() => {});
      }
    })();
    return upstream.port;
  }

  function checkPort(port: number, rest = ''): Promise<CheckEnd> {
    const conninfo = `host=127.0.0.1 port=${port} user=u sslmode=disable ${rest}`;
    return deep(conninfo, join(temporaryDirectory(), 'data'));
  }

  async function checkPlayed(server: PlayedServer, rest = ''): Promise<CheckEnd> {
    const port = await listening(async (session) => {
      await session.login(server);
      await session.identify(server);
    });
    return await checkPort(port, rest);
  }

  async function checkRefusing(sqlstate: string, text: string): Promise<CheckEnd> {
    const port = await listening(async (session) => {
      await session.startup();
      session.send(errorResponse(sqlstate, text, 'FATAL'));
      session.end();
    });
    return await checkPort(port);
  }

  test('a PostgreSQL that is too old is named with what is spoken', async () => {
    const { code, one } = await checkPlayed(playedServer({ serverVersion: '12.22' }));
    expect(code).toBe(1);
    expect(one('upstream.version')).toMatchObject({
      message: expect.stringContaining('PostgreSQL 12; this walcast speaks 13 to'),
      fix: expect.stringContaining('Upgrade the server'),
    });
  });

  test('WAL pages of another size are refused', async () => {
    const server = playedServer();
    server.settings['wal_block_size'] = '16384';
    expect((await checkPlayed(server)).one('upstream.block_size').severity).toBe('error');
  });

  test('without an SQL session only what replication commands tell is said', async () => {
    const server = playedServer({ slots: { walcast: ['logical', '0/4000028'] } });
    const { one } = await checkPlayed(server);
    expect(one('upstream.sql').severity).toBe('ok');
    expect(one('upstream.slot_logical').fix).toContain("pg_drop_replication_slot('walcast')");
  });

  test('a list without a server of the wanted kind', async () => {
    const server = playedServer();
    server.settings['in_hot_standby'] = 'on';
    const told = await checkPlayed(server, 'target_session_attrs=read-write');
    expect(told.one('upstream.target_session_attrs')).toMatchObject({
      severity: 'error',
      message: 'session is read-only (target_session_attrs=read-write)',
    });
    const fine = await checkPlayed(server, 'target_session_attrs=prefer-standby');
    expect(fine.code).toBe(0);
  });

  test.each([
    ['57P03', 'the database system is starting up', 'upstream.starting'],
    ['53300', 'sorry, too many clients already', 'upstream.max_connections'],
    ['53300', 'too many connections for role "u"', 'upstream.max_connections'],
    [
      '53300',
      'number of requested standby connections exceeds max_wal_senders (currently 0)',
      'upstream.max_wal_senders',
    ],
    ['28000', 'role "u" is not permitted to log in', 'upstream.role'],
    ['28000', 'Peer authentication failed for user "u"', 'upstream.auth_method'],
    ['0A000', 'pooler: no replication', 'upstream.protocol'],
    ['XX000', 'something else', 'upstream.refused'],
  ] as const)('a refusal %s "%s" is %s', async (sqlstate, text, wanted) => {
    const { code, one } = await checkRefusing(sqlstate, text);
    expect(code).toBe(1);
    expect(one(wanted).message).toContain(text);
    expect(one(wanted).subject).toMatch(/^127\.0\.0\.1:\d+$/);
  });

  test('what is no PostgreSQL is said to be none', async () => {
    const port = await listening(async (session) => {
      await session.startup();
      session.send('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    expect((await checkPort(port)).one('upstream.protocol').severity).toBe('error');
  });

  test('a host that never answers ends with its connect_timeout, beside the others', async () => {
    const port = await listening(async (session) => {
      await session.startup();
    });
    const { one } = await checkPort(port, 'connect_timeout=2');
    expect(one('upstream.timeout').fix).toContain('connect_timeout');
  });
});

describe('the data directory', () => {
  const nowhere = 'host=127.0.0.1 port=1 user=u';

  test('of a PostgreSQL server is refused', async () => {
    const directory = temporaryDirectory();
    writeFileSync(join(directory, 'PG_VERSION'), '18');
    const { one } = await deep(nowhere, directory);
    expect(one('storage.directory')).toMatchObject({
      severity: 'error',
      subject: directory,
      message: expect.stringContaining('is the data directory of a PostgreSQL server'),
    });
  });

  test('that is open to others is refused with the command that closes it', async () => {
    const directory = join(temporaryDirectory(), 'open');
    mkdirSync(directory, { mode: 0o755 });
    const { one } = await deep(nowhere, directory);
    expect(one('storage.directory').fix).toContain(`chmod 0700 '${directory}'`);
  });

  test('whose control file is damaged, or missing beside segments', async () => {
    const damaged = temporaryDirectory();
    writeFileSync(join(damaged, 'walcast.control'), 'nonsense');
    expect((await deep(nowhere, damaged)).one('storage.control').severity).toBe('error');
    const left = temporaryDirectory();
    mkdirSync(join(left, 'pg_wal'));
    writeFileSync(join(left, 'pg_wal', '000000010000000000000001'), '');
    expect((await deep(nowhere, left)).one('storage.control').message).toContain(
      'holds 1 WAL segments',
    );
  });

  test('with less room than is to be kept', async () => {
    const end = await deep(nowhere, temporaryDirectory(), '--set=storage.wal_keep_size=1000TB');
    expect(end.one('storage.space')).toMatchObject({
      severity: 'warning',
      fix: expect.stringContaining('lower storage.wal_keep_size'),
    });
  });
});
