// Does `walcast check` print every finding in a form that people and scripts can rely on?
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { errorFinding, FINDING_CODES, formatFinding } from '../../src/check/finding.ts';
import type { HostProbe } from '../../src/check/host-probe.ts';
import { checkName } from '../../src/check/sql-facts.ts';
import { storeFindings } from '../../src/check/store-findings.ts';
import { configTemplate } from '../../src/cli/config-template.ts';
import { runCommand } from '../../src/cli/run.ts';
import { loadConfig } from '../../src/config/load.ts';
import { checkConninfo } from '../../src/config/parsers.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { rootHistory, toTimelineId } from '../../src/pg/timeline.ts';
import type { ControlState } from '../../src/wal/control-file.ts';
import { NO_WAL_FACTS } from '../../src/wal/records/wal-facts.ts';
import type { UpstreamIdentity } from '../../src/walreceiver/ports.ts';
import { freePort } from '../harness/free-port.ts';
import { checkDeep } from '../support/check-command.ts';
import type { CheckEnd } from '../support/check-command.ts';
import { walcast } from '../support/cli.ts';
import { SAMPLE_PROBE } from '../support/host-probe.ts';
import { errorResponse, playedServer, ScriptedUpstream } from '../support/scripted-upstream.ts';
import type { PlayedServer, ScriptedSession } from '../support/scripted-upstream.ts';

const PAGE = fileURLToPath(new URL('../../docs/check.md', import.meta.url));

const check = (...words: string[]) => walcast(['check', ...words]);

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'walcast-check-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function deep(
  conninfo: string,
  directory: string,
  { clock = systemClock, words = [] }: { clock?: Clock; words?: readonly string[] } = {},
): Promise<CheckEnd> {
  return checkDeep(
    [
      `--upstream=${conninfo}`,
      `--data=${directory}`,
      '--http=',
      '--listen=127.0.0.1:0',
      '--set=auth.hba=host replication all 127.0.0.1/32 reject',
      ...words,
    ],
    { clock },
  );
}

describe('a configuration', () => {
  test('that is wrong gives the lines of run, and 1 instead of 78', async () => {
    const words = ['--set', 'nonsense', '--http', 'x'];
    const { code, out, err } = await check(...words);
    const neverStarted = runCommand(() => Promise.reject(new Error('not to be started')));
    const run = await walcast(['run', ...words], { table: [neverStarted] });
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
    const [valid, warning, clearText, summary] = out.split('\n');
    expect(clearText).toMatch(/^warning {2}0\.0\.0\.0:5432: no TLS .*\[listen\.clear_text\]$/);
    expect(valid).toBe('ok       configuration: the configuration is valid. [config.valid]');
    expect(warning).toMatch(/^warning {2}configuration: auth\.hba, line 1: "trust" lets .*\]$/);
    expect(summary).toBe('0 errors, 2 warnings');
  });

  test('whose connection string cannot be completed is refused without --deep, too', async () => {
    for (const words of [[], ['--deep', '--http=', `--data=${temporaryDirectory()}`]]) {
      const { code, out } = await walcast(['check', '--upstream=host=a', ...words], {
        env: { PGSERVICE: 'nowhere', PGSERVICEFILE: '/no/such/file' },
      });
      expect(code).toBe(1);
      expect(out).toMatch(/^error {4}upstream\.conninfo: .*service.*\[upstream\.conninfo\]$/m);
      // What is wrong is not in the connection string.
      expect(out).not.toContain('Correct upstream.conninfo');
      expect(out).not.toContain('upstream.conninfo: upstream.conninfo');
    }
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
    // A full stop behind a line of pg_hba.conf would be copied with it.
    const line = 'Put this line first: host replication u ::1/128 scram-sha-256';
    expect(formatFinding({ severity: 'error', code: 'upstream.hba', ...text, fix: line })).toBe(
      `error    pg-a:5432: it is so. ${line} [upstream.hba]`,
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

  /** Time passes twenty times as fast. */
  const clock: Clock = {
    ...systemClock,
    setTimer: (ms, callback) => systemClock.setTimer(ms / 20, callback),
  };

  function checkPort(port: number, rest = ''): Promise<CheckEnd> {
    const conninfo = `host=127.0.0.1 port=${port} user=u ${rest}`;
    return deep(conninfo, join(temporaryDirectory(), 'data'), { clock });
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

  test('no session of a check passes for a walcast', async () => {
    const names: (string | undefined)[] = [];
    const port = await listening(async (session) => {
      const parameters = await session.login(playedServer());
      names.push(parameters.get('application_name'));
      await session.identify(playedServer());
    });
    await checkPort(port);
    expect(new Set(names)).toEqual(new Set(['walcast check']));
    expect(checkName('x'.repeat(63))).toBe(`${'x'.repeat(57)} check`);
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
    ['08P01', 'unsupported startup parameter: replication', 'upstream.protocol'],
    ['XX000', 'something else', 'upstream.refused'],
  ] as const)('a refusal %s "%s" is %s', async (sqlstate, text, wanted) => {
    const { code, one } = await checkRefusing(sqlstate, text);
    expect(code).toBe(1);
    expect(one(wanted).message).toContain(text);
    expect(one(wanted).subject).toMatch(/^127\.0\.0\.1:\d+$/);
  });

  test.each(['disable', 'require'])(
    'what is no PostgreSQL is said to be none (%s)',
    async (mode) => {
      const upstream = await ScriptedUpstream.listen();
      onTestFinished(() => upstream[Symbol.asyncDispose]());
      void (async () => {
        for (;;) (await upstream.accept()).send('HTTP/1.1 400 Bad Request\r\n\r\n');
      })();
      const end = await checkPort(upstream.port, `sslmode=${mode}`);
      expect(end.one('upstream.protocol')).toMatchObject({
        severity: 'error',
        fix: expect.stringContaining('Check host and port'),
      });
    },
  );

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

  test('that somebody holds without a word is held all the same', async () => {
    const directory = temporaryDirectory();
    const silent = createServer();
    await new Promise<void>((resolve) => {
      silent.listen(join(directory, 'walcast.lock'), resolve);
    });
    onTestFinished(() => void silent.close());
    const { one } = await deep(nowhere, directory);
    expect(one('storage.in_use')).toMatchObject({
      severity: 'warning',
      fix: expect.stringContaining(`fuser ${directory}/walcast.lock`),
    });
    expect(one('listen.address').message).toMatch(/^not tried: the walcast that is running may/);
  });

  test('with less room than is to be kept', async () => {
    const end = await deep(nowhere, temporaryDirectory(), {
      words: ['--set=storage.wal_keep_size=1000TB'],
    });
    expect(end.one('storage.space')).toMatchObject({
      severity: 'warning',
      fix: expect.stringContaining('lower storage.wal_keep_size'),
    });
  });
});

describe('addresses', () => {
  test('that are taken, given twice, or have no directory are refused at once', async () => {
    const taken = await ScriptedUpstream.listen();
    onTestFinished(() => taken[Symbol.asyncDispose]());
    const free = await freePort();
    const { code, findings } = await checkDeep([
      '--upstream=host=127.0.0.1 port=1 user=u',
      `--data=${temporaryDirectory()}`,
      `--http=127.0.0.1:${taken.port}`,
      `--listen=127.0.0.1:${free}`,
      `--listen=0.0.0.0:${free}`,
      '--listen=/no/such/directory:5432',
      '--set=auth.hba=host replication all 127.0.0.1/32 reject',
    ]);
    expect(code).toBe(1);
    const of = (wanted: string) =>
      findings
        .filter((finding) => finding.code === wanted)
        .map(({ severity, subject, message }) => [severity, subject, message]);
    expect(of('listen.address')).toEqual([
      ['ok', `127.0.0.1:${free}`, 'free to listen on'],
      ['error', `0.0.0.0:${free}`, expect.stringContaining('EADDRINUSE')],
      [
        'error',
        '/no/such/directory/.s.PGSQL.5432',
        expect.stringContaining('the directory does not exist'),
      ],
    ]);
    expect(of('http.address')).toEqual([
      ['error', `127.0.0.1:${taken.port}`, expect.stringContaining('EADDRINUSE')],
    ]);
    const http = findings.find((finding) => finding.code === 'http.address');
    expect(http?.fix).toContain('"http.listen"');
  });

  test('for standbys are not opened without rules, which is said', async () => {
    const { one } = await checkDeep([
      '--upstream=host=127.0.0.1 port=1 user=u',
      `--data=${temporaryDirectory()}`,
      '--http=',
    ]);
    expect(one('listen.rules')).toMatchObject({
      severity: 'warning',
      fix: expect.stringContaining('host replication all 127.0.0.1/32 trust'),
    });
  });
});

describe('a store that does not fit', () => {
  const mark = { lsn: toLsn(0x5000060n), lastRecordLsn: null, isShutdownCheckpoint: false };
  const control: ControlState = {
    systemIdentifier: '7301234567890123456',
    major: 18,
    segmentSize: toSegmentSize(16 * 1024 ** 2),
    timeline: toTimelineId(1),
    server: { serverVersion: '18.4', parameters: new Map(), settings: new Map() },
    firstLsn: toLsn(0x1000000n),
    durableMark: { ...mark, redoLsn: toLsn(0x1000000n), facts: NO_WAL_FACTS },
    reportedFlushLsn: toLsn(0x5000060n),
    maybeReportedLsn: INVALID_LSN,
    wasCleanStop: true,
    pendingSwitch: null,
    acknowledgedBeyond: null,
  };
  const identity: UpstreamIdentity = {
    systemIdentifier: control.systemIdentifier,
    timeline: toTimelineId(1),
    xlogPos: toLsn(0x6000000n),
    serverVersion: '18.4',
    facts: versionFacts(18),
    isInRecovery: false,
    isRelay: false,
    segmentSize: control.segmentSize,
    parameters: new Map(),
    settings: new Map(),
    history: rootHistory(toTimelineId(1)),
    historyFile: null,
    histories: new Map(),
    slotRestartLsn: INVALID_LSN,
  };
  const probe: HostProbe = { ...SAMPLE_PROBE, identity };

  const found = (
    stored: Partial<ControlState>,
    said: Partial<UpstreamIdentity>,
    sql: HostProbe['sql'] = null,
  ) =>
    storeFindings(
      { ...control, ...stored },
      [{ ...probe, sql, identity: { ...identity, ...said } }],
      '/store',
    ).map(({ severity, code }) => [severity, code]);

  const slotFrom = (restartLsn: string): HostProbe['sql'] => ({
    hasReplicationAttribute: true,
    slotCount: 1,
    slot: {
      type: 'physical',
      activePid: null,
      restartLsn,
      walStatus: 'reserved',
      invalidationReason: null,
    },
    walSenders: [],
  });

  test('nothing is said against one that does', () => {
    expect(found({}, {})).toEqual([['ok', 'storage.timeline']]);
    expect(found({}, {}, slotFrom('0/5000060'))).toEqual([['ok', 'storage.timeline']]);
  });

  test.each([
    ['system_identifier', { systemIdentifier: '1' }],
    ['major', { major: 17 }],
    ['segment_size', { segmentSize: toSegmentSize(1024 ** 2) }],
    ['timeline', { timeline: toTimelineId(2) }],
  ] as const)('another %s is an error', (code, stored) => {
    expect(found(stored, {})).toEqual([['error', `storage.${code}`]]);
    const [finding] = storeFindings({ ...control, ...stored }, [{ ...probe, identity }], '/store');
    expect(finding?.fix).toMatch(/storage\.directory|upstream\.conninfo|walcast store reset/);
    expect(finding?.message).not.toContain(finding?.fix);
  });

  test('a standby that is behind will catch up, a primary that is behind lost WAL', () => {
    const behind = { xlogPos: toLsn(0x4000000n) };
    expect(found({}, { ...behind, isInRecovery: true })).toEqual([['warning', 'storage.timeline']]);
    expect(found({}, behind)).toEqual([['error', 'storage.timeline']]);
  });

  test('a slot that begins behind the end of the store is a gap, when that end is known', () => {
    expect(found({}, {}, slotFrom('0/5000068'))).toEqual([['warning', 'storage.gap']]);
    const unknown = found({ wasCleanStop: false }, {}, slotFrom('0/5000068'));
    expect(unknown).toEqual([['ok', 'storage.timeline']]);
  });
});

describe('the file that init writes', () => {
  const load = (text: string): ReturnType<typeof loadConfig> => {
    const file = join(temporaryDirectory(), 'walcast.yaml');
    writeFileSync(file, text);
    return loadConfig({ flags: [], env: {}, file, workingDirectory: '/' });
  };

  test('holds any connection string as it was given', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (password) => {
        const value = password.replaceAll('\0', '').replaceAll(/[\\']/g, String.raw`\$&`);
        const conninfo = `host=a password='${value}'`;
        const direct = checkConninfo(conninfo);
        const loaded = load(configTemplate(new Map([['upstream.conninfo', [conninfo]]])));
        if ('problem' in direct) expect(loaded).toHaveProperty('errors');
        else expect(loaded).toMatchObject({ config: { upstream: { conninfo } } });
      }),
      { numRuns: 50 },
    );
  });

  test('is valid with every key that has a default written out', () => {
    const given = new Map([['upstream.conninfo', ['host=a']]]);
    for (const { path, defaultText } of SETTINGS) {
      if (defaultText !== null) given.set(path, [defaultText]);
    }
    const text = configTemplate(given);
    expect(load(text)).toHaveProperty('config');
    for (const { path } of SETTINGS) expect(text).toContain(`${path.split('.').at(-1)}:`);
  });

  test('keeps rules, lists and odd values', () => {
    const given = new Map([
      ['upstream.conninfo', ['host=a']],
      ['listen', ['127.0.0.1:1', '[::1]:2,/run/x:3']],
      [
        'auth.hba',
        ['  # first\n\thost replication all 127.0.0.1/32 trust\n\n local all all trust\n'],
      ],
      ['http.listen', ['']],
      ['storage.directory', ['/a b: #c']],
    ]);
    expect(load(configTemplate(given))).toMatchObject({
      config: {
        listen: [{ port: 1 }, { port: 2 }, { port: 3 }],
        hba: { rules: { rules: [{ type: 'host' }, { type: 'local' }] } },
        http: { listen: null },
        storage: { directory: '/a b: #c' },
      },
    });
  });
});

test('a server cannot put a line of its own among the findings', () => {
  const { message } = errorFinding('upstream.refused', {
    subject: 'a',
    message: 'b\nok  c\u001b[2J',
  });
  expect(message).toBe('b ok  c [2J');
});
