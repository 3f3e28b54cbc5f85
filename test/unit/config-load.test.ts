// Is a configuration put together in the right order, and is every mistake named with its place?
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { ConfigSources } from '../../src/config/load.ts';
import { formatConfigError } from '../../src/config/problem.ts';
import { SETTINGS, UNSUPPORTED_KEYS } from '../../src/config/settings.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-config-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

type Given = Partial<Omit<ConfigSources, 'file'>> & { yaml?: string | Uint8Array };

const MINIMUM = 'upstream: { conninfo: "host=pg-a user=replicator" }\n';

function load({ yaml, ...sources }: Given): ReturnType<typeof loadConfig> {
  let file: string | null = null;
  if (yaml !== undefined) {
    file = join(directory, 'walcast.yaml');
    writeFileSync(file, yaml);
  }
  return loadConfig({ flags: [], env: {}, workingDirectory: directory, ...sources, file });
}

function accept(given: Given): Config {
  const loaded = load(given);
  if ('errors' in loaded) throw new Error(loaded.errors.map(formatConfigError).join('\n'));
  return loaded.config;
}

function refuse(given: Given): string[] {
  const loaded = load(given);
  if ('config' in loaded) throw new Error('the configuration was accepted');
  return loaded.errors.map(formatConfigError).map((line) => line.replaceAll(`${directory}/`, ''));
}

describe('values', () => {
  test('a connection string alone gives the documented defaults', () => {
    const config = accept({ yaml: MINIMUM });
    expect(config).toMatchObject({
      upstream: {
        slot: 'walcast',
        applicationName: 'walcast',
        walReceiverTimeoutMs: 60_000,
        walReceiverStatusIntervalMs: 10_000,
      },
      listen: [{ kind: 'tcp', host: '0.0.0.0', port: 5432 }],
      hba: null,
      storage: {
        directory: '/var/lib/walcast',
        walKeepSizeBytes: 1024 ** 3,
        maxWalSenders: 1000,
        maxReplicationSlots: 1000,
        verify: 'record',
        forward: 'received',
      },
      walSenderTimeoutMs: 60_000,
      drainTimeoutMs: 30_000,
      http: { listen: { host: '127.0.0.1', port: 9188 } },
      log: { level: 'info', format: 'auto' },
      warnings: [],
    });
    expect(config.upstream.server.hosts).toMatchObject([{ host: 'pg-a', port: 5432 }]);
  });

  test('every key of the file arrives in its unit', () => {
    writeFileSync(join(directory, 'rules'), 'host replication all 10.0.0.0/8 reject\n');
    const config = accept({
      yaml: `
upstream:
  conninfo: postgresql://replicator@pg-a:5433/?application_name=other
  slot: ""
  application_name: relay
  wal_receiver_timeout: 1min
  wal_receiver_status_interval: 5
listen: [ { address: "127.0.0.1:6000" }, { address: /run/walcast } ]
auth: { hba_file: rules }
storage:
  directory: data
  wal_keep_size: 64
  max_wal_senders: 10
  max_replication_slots: 0
  verify: page
  forward: flushed
wal_sender_timeout: 0
drain_timeout: 90
http: { listen: "" }
log: { level: debug, format: text }
`,
    });
    expect(config).toMatchObject({
      upstream: {
        slot: null,
        applicationName: 'relay',
        walReceiverTimeoutMs: 60_000,
        walReceiverStatusIntervalMs: 5_000,
      },
      listen: [{ port: 6000 }, { path: '/run/walcast/.s.PGSQL.5432' }],
      storage: {
        directory: join(directory, 'data'),
        walKeepSizeBytes: 64 * 1024 * 1024,
        maxWalSenders: 10,
        maxReplicationSlots: 0,
        verify: 'page',
        forward: 'flushed',
      },
      walSenderTimeoutMs: 0,
      drainTimeoutMs: 90_000,
      http: { listen: null },
      log: { level: 'debug', format: 'text' },
    });
    expect(config.hba).toMatchObject({
      source: join(directory, 'rules'),
      rules: { rules: [{ line: 1 }] },
    });
  });

  test('flags count before the environment, the environment before the file, the file before defaults', () => {
    const config = accept({
      yaml: `${MINIMUM}storage: { directory: /file, wal_keep_size: 1MB, max_wal_senders: 3 }\n`,
      env: { WALCAST_STORAGE_DIRECTORY: '/environment', WALCAST_STORAGE_WAL_KEEP_SIZE: '2MB' },
      flags: [{ path: 'storage.directory', text: '/flag', flag: '--data' }],
    });
    expect(config.storage).toMatchObject({
      directory: '/flag',
      walKeepSizeBytes: 2 * 1024 * 1024,
      maxWalSenders: 3,
    });
    expect(
      [
        'storage.directory',
        'storage.wal_keep_size',
        'storage.max_wal_senders',
        'drain_timeout',
      ].map((path) => config.values.get(path)?.origin),
    ).toEqual(['flag', 'environment', 'file', 'default']);
  });

  test('every key can be set by its environment variable', () => {
    for (const { path } of SETTINGS) {
      const name = `WALCAST_${path.toUpperCase().replaceAll('.', '_')}`;
      const loaded = load({ env: { [name]: '\u0001' } });
      const lines = 'errors' in loaded ? loaded.errors.map(({ place }) => place.source) : [];
      const isKnown =
        'errors' in loaded && !loaded.errors.some(({ message }) => message.includes('sets no'));
      expect({ path, isKnown, lines: lines.length > 0 }).toEqual({
        path,
        isKnown: true,
        lines: true,
      });
    }
  });

  test('a list is written with commas, or with the flag given twice', () => {
    const env = { WALCAST_UPSTREAM_CONNINFO: 'host=a', WALCAST_LISTEN: '127.0.0.1:1, /run' };
    expect(accept({ env }).listen).toHaveLength(2);
    const flags = ['127.0.0.1:1', '127.0.0.1:2'].map((text) => ({
      path: 'listen',
      text,
      flag: '--listen',
    }));
    expect(accept({ env, flags }).listen).toMatchObject([{ port: 1 }, { port: 2 }]);
  });

  test('application_name of the connection string counts unless the key is set', () => {
    const conninfo = 'host=a application_name=from_conninfo';
    expect(accept({ env: { WALCAST_UPSTREAM_CONNINFO: conninfo } }).upstream.applicationName).toBe(
      'from_conninfo',
    );
    const env = { WALCAST_UPSTREAM_CONNINFO: conninfo, WALCAST_UPSTREAM_APPLICATION_NAME: 'key' };
    expect(accept({ env }).upstream.applicationName).toBe('key');
  });

  test('names in the file are relative to the file, others to the working directory', () => {
    mkdirSync(join(directory, 'elsewhere'));
    const workingDirectory = join(directory, 'elsewhere');
    const yaml = `${MINIMUM}storage: { directory: data }\n`;
    expect(accept({ yaml, workingDirectory }).storage.directory).toBe(join(directory, 'data'));
    const env = { WALCAST_UPSTREAM_CONNINFO: 'host=a', WALCAST_STORAGE_DIRECTORY: 'data' };
    expect(accept({ env, workingDirectory }).storage.directory).toBe(
      join(workingDirectory, 'data'),
    );
  });
});

describe('secrets', () => {
  function secret(content: string, mode = 0o600): Given {
    const path = join(directory, 'conninfo');
    writeFileSync(path, content);
    chmodSync(path, mode);
    return { env: { WALCAST_UPSTREAM_CONNINFO_FILE: path } };
  }

  test.each(['host=a password=geheim\n', 'host=a password=geheim\r\n', 'host=a password=geheim'])(
    'a connection string from a file loses one line end: %j',
    (content) => {
      expect(accept(secret(content)).upstream.server.password).toBe('geheim');
    },
  );

  test.each([0o644, 0o604, 0o660])(
    'a secret that others may read is refused, and the refusal does not hold it: %o',
    (mode) => {
      const [line] = refuse(secret('host=a password=geheim', mode));
      expect(line).toMatch(/^WALCAST_UPSTREAM_CONNINFO_FILE: .* has group or world access; /);
      expect(line).toMatch(/chmod 0600 ".*conninfo"/);
      expect(line).not.toContain('geheim');
    },
  );

  test('in the configuration itself are warned about where others can read it', () => {
    const file = join(directory, 'open.yaml');
    const warningsOf = (conninfo: string, mode: number): readonly string[] => {
      writeFileSync(file, `upstream: { conninfo: "${conninfo}" }\n`);
      chmodSync(file, mode);
      const loaded = loadConfig({ flags: [], env: {}, file, workingDirectory: directory });
      return 'config' in loaded ? loaded.config.warnings : ['refused'];
    };
    expect(warningsOf('host=a password=geheim', 0o644)).toEqual([
      expect.stringMatching(/^the configuration file has group or world access; .*passwords$/),
    ]);
    expect(warningsOf('host=a password=geheim', 0o600)).toEqual([]);
    expect(warningsOf('host=a', 0o644)).toEqual([]);
  });

  test('an empty or missing file is refused', () => {
    expect(refuse(secret('\n'))[0]).toMatch(/^WALCAST_UPSTREAM_CONNINFO_FILE: .* is empty$/);
    expect(refuse({ env: { WALCAST_UPSTREAM_CONNINFO_FILE: '/nowhere/x' } })[0]).toMatch(
      /no such file$/,
    );
  });

  test('a connection string that cannot be read is refused without being shown', () => {
    const [line] = refuse({ env: { WALCAST_UPSTREAM_CONNINFO: 'password=geheim hots=a' } });
    expect(line).toMatch(
      /^WALCAST_UPSTREAM_CONNINFO: `upstream.conninfo` cannot be read: .* behind "password"/,
    );
    expect(line).not.toContain('geheim');
  });

  test('inline and file together are refused, unless one stands above the other', () => {
    const given = secret('host=file');
    const env = { ...given.env, WALCAST_UPSTREAM_CONNINFO: 'host=inline' };
    expect(refuse({ env })[0]).toContain('are both given');
    const flags = [{ path: 'upstream.conninfo', text: 'host=flag', flag: '--upstream' }];
    expect(accept({ ...given, flags }).upstream.conninfo).toBe('host=flag');
  });
});

describe('the token of the HTTP port', () => {
  const yaml = `${MINIMUM}http: { token_file: token }\n`;

  test('is the content of its file without white space around it', () => {
    writeFileSync(join(directory, 'token'), '  0123456789abcdef\n\n', { mode: 0o600 });
    const config = accept({ yaml });
    expect(config.http.token).toBe('0123456789abcdef');
    expect(config.warnings).toEqual([]);
    expect(accept({ yaml: MINIMUM }).http.token).toBeNull();
  });

  test('is refused when others can read it', () => {
    writeFileSync(join(directory, 'token'), '0123456789abcdef');
    chmodSync(join(directory, 'token'), 0o644);
    expect(refuse({ yaml })[0]).toMatch(/`http\.token_file`: .* has group or world access/);
  });

  test('is warned about when it is short', () => {
    writeFileSync(join(directory, 'token'), 'short', { mode: 0o600 });
    expect(accept({ yaml }).warnings).toEqual([expect.stringContaining('can be guessed')]);
  });

  test.each([
    ['', '`http.token_file`: "token" is empty'],
    [' \n', '`http.token_file`: "token" is empty'],
    ['two words 0123456789', '`http.token_file` must hold one token'],
    ['tökentökentökentöken', '`http.token_file` must hold one token'],
    ['x'.repeat(1025), '`http.token_file` must hold one token'],
  ])('%j is refused', (content, message) => {
    writeFileSync(join(directory, 'token'), content, { mode: 0o600 });
    const [line, ...others] = refuse({ yaml });
    expect(line).toContain(message);
    expect(line).not.toContain('0123456789');
    expect(others).toEqual([]);
  });
});

describe('access rules', () => {
  test('trust over TCP is warned about, on a Unix socket it is not', () => {
    const yaml = `${MINIMUM}auth:\n  hba: |\n    local replication all trust\n    host replication all 10.0.0.0/8 trust\n`;
    const { hba, warnings } = accept({ yaml });
    expect(hba?.rules.rules).toHaveLength(2);
    expect(warnings).toEqual([expect.stringMatching(/^auth\.hba, line 2: "trust" lets anybody/)]);
  });

  test('a mistake in inline rules has the line of the file', () => {
    const yaml = `${MINIMUM}auth:\n  hba: |\n    local replication all trust\n    host replication all 10.0.0.0/99 trust\n`;
    expect(refuse({ yaml })).toEqual([expect.stringMatching(/^walcast\.yaml:5:5: /)]);
  });

  test('a mistake in indented rules has its column', () => {
    const yaml = `${MINIMUM}auth:\n  hba: |2\n\n      # deeper\n       host replication\n`;
    expect(refuse({ yaml })).toEqual([expect.stringMatching(/^walcast\.yaml:6:8: /)]);
    writeFileSync(join(directory, 'hba'), '\n\t host replication\r\n');
    expect(refuse({ yaml: `${MINIMUM}auth: { hba_file: hba }\n` })).toEqual([
      expect.stringMatching(/^hba:2:3: /),
    ]);
  });

  test('a mistake in a rules file has its name and line', () => {
    writeFileSync(join(directory, 'hba'), '# comment\nhost replication\n');
    expect(refuse({ yaml: `${MINIMUM}auth: { hba_file: hba }\n` })).toEqual([
      expect.stringMatching(/^hba:2:1: /),
    ]);
  });

  test('comments alone are no rules', () => {
    expect(accept({ yaml: `${MINIMUM}auth:\n  hba: |\n    # nothing\n` }).hba).toBeNull();
  });
});

describe('mistakes', () => {
  test('all of them are named at once, in the order of the file, with what was meant', () => {
    const yaml = `upstrem:
  conninfo: host=a
upstream:
  conninfo: host=a
  slto: x
  slot: Not-Valid
storage: { wal_keep_sise: 1GB, wal_keep_size: 10 gb, verify: maybe, max_wal_senders: -1 }
wal_keep_size: 1GB
listen: 127.0.0.1:5432
http: { listen: 9188 }
drain_timeout: 30 days
`;
    expect(refuse({ yaml })).toEqual([
      'walcast.yaml:1:1: unknown key `upstrem`. Did you mean `upstream`?',
      'walcast.yaml:5:3: unknown key `upstream.slto`. Did you mean `upstream.slot`?',
      expect.stringMatching(
        /^walcast\.yaml:6:9: replication slot name "Not-Valid" is not valid\. /,
      ),
      'walcast.yaml:7:12: unknown key `storage.wal_keep_sise`. Did you mean `storage.wal_keep_size`?',
      expect.stringMatching(
        /^walcast\.yaml:7:47: invalid value for `storage\.wal_keep_size`: "10 gb" has the unknown unit/,
      ),
      expect.stringMatching(
        /^walcast\.yaml:7:62: `storage\.verify` must be one of page, record, off/,
      ),
      'walcast.yaml:7:86: -1 is outside the valid range for `storage.max_wal_senders` (0 .. 262143)',
      'walcast.yaml:8:1: unknown key `wal_keep_size`. Did you mean `storage.wal_keep_size`?',
      expect.stringMatching(/^walcast\.yaml:9:9: `listen` must be a list such as/),
      expect.stringMatching(/^walcast\.yaml:10:17: `http\.listen` must be an address such as/),
      expect.stringMatching(
        /^walcast\.yaml:11:16: invalid value for `drain_timeout`: "30 days" has the unknown unit "days"\. Valid units/,
      ),
    ]);
  });

  test.each([
    ['nothing', '', 'walcast.yaml:1:1: the file holds no settings'],
    ['comments only', '# nothing\n', 'walcast.yaml:1:1: the file holds no settings'],
    ['a list', '- a\n', 'walcast.yaml:1:1: the file must be a map'],
    [
      'a duplicate key',
      `${MINIMUM}log: { level: info }\nlog: { level: warn }\n`,
      'walcast.yaml:3:1: this key was already given above',
    ],
    ['a tab', 'upstream:\n\tconninfo: host=a\n', 'walcast.yaml:2:1: '],
    [
      'an unknown alias',
      `${MINIMUM}log: *nothing\n`,
      'walcast.yaml:2:6: an alias stands for nothing',
    ],
    ['a second document', `${MINIMUM}---\n${MINIMUM}`, 'walcast.yaml:2:1: '],
    [
      'a key without value',
      'upstream: { conninfo: }\n',
      'walcast.yaml:1:23: `upstream.conninfo` has no value',
    ],
    [
      'a number for text',
      'upstream: { conninfo: host=a, slot: 5 }\n',
      'walcast.yaml:1:37: `upstream.slot` must be text',
    ],
    [
      'a map for a size',
      `${MINIMUM}storage: { wal_keep_size: { a: 1 } }\n`,
      'walcast.yaml:2:27: `storage.wal_keep_size` must be a size',
    ],
    [
      'a size out of all range',
      `${MINIMUM}storage: { wal_keep_size: 1e309 }\n`,
      'walcast.yaml:2:27: `storage.wal_keep_size` must be a size',
    ],
    [
      'a negative time',
      `${MINIMUM}wal_sender_timeout: -5s\n`,
      'walcast.yaml:2:21: -5000 ms is outside the valid range for `wal_sender_timeout` (0 ms .. 2147483647 ms)',
    ],
    [
      'no number',
      `${MINIMUM}wal_sender_timeout: .nan\n`,
      'walcast.yaml:2:21: `wal_sender_timeout` must be a time',
    ],
    ['a scalar for a section', `${MINIMUM}log: info\n`, 'walcast.yaml:2:1: `log` must be a map'],
    [
      'an item without address',
      `${MINIMUM}listen: [ {} ]\n`,
      'walcast.yaml:2:11: this item of `listen` has no `address`',
    ],
    ['an empty list', `${MINIMUM}listen: []\n`, 'walcast.yaml:2:9: `listen` must be a list'],
    [
      'an address twice',
      `${MINIMUM}listen: [ { address: "*:1" }, { address: "*:1" } ]\n`,
      'walcast.yaml:2:31: `listen`: "*:1" is given twice',
    ],
  ])('%s is refused where it stands', (_what, yaml, beginning) => {
    expect(refuse({ yaml })).toEqual([expect.stringContaining(beginning)]);
  });

  test('a file that is no configuration is refused by what it is', () => {
    expect(refuse({ yaml: new Uint8Array([0xff, 0xfe, 0x61, 0x00]) })[0]).toContain(
      'is not UTF-8 text',
    );
    expect(refuse({ yaml: `#${'x'.repeat(64 * 1024)}` })[0]).toContain(
      'is larger than 65536 bytes',
    );
    const missing = loadConfig({
      flags: [],
      env: {},
      file: '/nowhere.yaml',
      workingDirectory: '/',
    });
    expect(missing).toMatchObject({
      errors: [{ message: expect.stringContaining('no such file') }],
    });
  });

  test('a pipe that nobody writes to holds nobody up at a reload', () => {
    const fifo = join(directory, 'pipe');
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0);
    const sources = { flags: [], env: {}, workingDirectory: directory, isPlainOnly: true };
    expect(loadConfig({ ...sources, file: 'pipe' })).toMatchObject({
      errors: [{ message: 'the configuration file is not a plain file' }],
    });
    writeFileSync(join(directory, 'walcast.yaml'), `${MINIMUM}auth: { hba_file: pipe }\n`);
    expect(loadConfig({ ...sources, file: 'walcast.yaml' })).toMatchObject({
      errors: [{ message: expect.stringContaining('is not a plain file') }],
    });
  });

  test('a byte order mark does no harm', () => {
    expect(accept({ yaml: `\uFEFF${MINIMUM}` }).upstream.conninfo).toContain('pg-a');
  });

  test('anchors work, and an expansion bomb is cut short', () => {
    const yaml = `upstream: { conninfo: &c host=a, slot: &s one, application_name: *s }\n`;
    expect(accept({ yaml }).upstream.applicationName).toBe('one');
    const item = '{ *k : *v }, ';
    const bomb = `upstream: { conninfo: &v "host=a" }\nlisten: [ { &k address : "*:1" }, ${item.repeat(60)} ]\n`;
    const started = performance.now();
    expect(refuse({ yaml: bomb })).toContainEqual(expect.stringContaining('more than 100 aliases'));
    expect(performance.now() - started).toBeLessThan(2_000);
  });

  test('thousands of mistakes are cut at a hundred', () => {
    const yaml = Array.from({ length: 3000 }, (_, index) => `key${index}: 1`).join('\n');
    expect(refuse({ yaml })).toHaveLength(100);
  });

  test('a key that is planned is refused from everywhere it can be given', () => {
    expect(refuse({ yaml: `${MINIMUM}tunnel: all\n` })).toEqual([
      'walcast.yaml:2:1: `tunnel` is not supported by this version yet',
    ]);
    const env = { WALCAST_UPSTREAM_CONNINFO: 'host=a', WALCAST_TUNNEL: 'all' };
    expect(refuse({ env })).toEqual([
      'WALCAST_TUNNEL: `tunnel` is not supported by this version yet',
    ]);
    const flags = [{ path: 'tunnel', text: 'x', flag: '--set' }];
    expect(refuse({ env: { WALCAST_UPSTREAM_CONNINFO: 'host=a' }, flags })[0]).toContain(
      'not supported',
    );
    const known = new Set(SETTINGS.map(({ path }) => path));
    expect(UNSUPPORTED_KEYS.filter((path) => known.has(path))).toEqual([]);
  });

  test('a planned key may say what is so without it', () => {
    accept({
      yaml: 'upstream: { conninfo: host=a }\ntunnel: off\n',
      env: { WALCAST_TUNNEL: 'off' },
      flags: [{ path: 'tunnel', text: 'off', flag: '--set' }],
    });
  });

  test('hot standby feedback is passed on, from everybody, unless it is said otherwise', () => {
    expect(accept({ yaml: MINIMUM })).toMatchObject({
      upstream: { hotStandbyFeedback: true },
      maxFeedbackXminAge: null,
    });
    expect(
      accept({
        yaml: 'upstream: { conninfo: host=a, hot_standby_feedback: off }\nmax_feedback_xmin_age: 5000\n',
      }),
    ).toMatchObject({ upstream: { hotStandbyFeedback: false }, maxFeedbackXminAge: 5000n });
    expect(refuse({ yaml: `${MINIMUM}max_feedback_xmin_age: -2\n` })[0]).toContain('-2');
  });

  test('a file with every key of slots and retention, and neutral values of others, loads', () => {
    const config = accept({
      yaml: `
upstream: { conninfo: "host=pg-a,pg-b user=replicator", hot_standby_feedback: off }
storage: { wal_keep_size: 1GB, max_slot_wal_keep_size: -1, quota: 100GB }
synchronous_standby_names: ""
max_feedback_xmin_age: -1
idle_replication_slot_timeout: 2
slots: [ standby_a, standby_b ]
auto_create_slots: on
tunnel: off
`,
    });
    expect(config).toMatchObject({
      storage: { maxSlotWalKeepSizeBytes: null, quotaBytes: 100 * 1024 ** 3 },
      idleReplicationSlotTimeoutMs: 2_000,
      slots: ['standby_a', 'standby_b'],
      autoCreateSlots: true,
    });
    expect(accept({ yaml: MINIMUM, env: { WALCAST_SLOTS: 'a, b' } }).slots).toEqual(['a', 'b']);
    expect(accept({ yaml: MINIMUM, env: { WALCAST_SLOTS: '' } }).slots).toEqual([]);
    expect(accept({ yaml: MINIMUM })).toMatchObject({
      storage: { maxSlotWalKeepSizeBytes: 64 * 1024 ** 3, quotaBytes: null },
      idleReplicationSlotTimeoutMs: 0,
      slots: [],
      autoCreateSlots: false,
    });
  });

  test('a quota of 0, which would lose every slot, is refused', () => {
    const flags = [{ path: 'storage.quota', text: '0', flag: '--set' }];
    expect(refuse({ yaml: MINIMUM, flags })).toEqual([
      expect.stringContaining('`storage.quota` is 0: every replication slot would be lost at once'),
    ]);
  });

  test('a misspelt environment variable is refused, what Kubernetes and the tests set is not', () => {
    const env = { WALCAST_UPSTREAM_CONNINFO: 'host=a' };
    expect(refuse({ env: { ...env, WALCAST_STORAGE_DIRECTRY: '/x' } })).toEqual([
      'WALCAST_STORAGE_DIRECTRY: this variable sets no configuration key. Did you mean WALCAST_STORAGE_DIRECTORY?',
    ]);
    accept({
      env: {
        ...env,
        WALCAST_PORT: 'tcp://10.0.0.1:5432',
        WALCAST_SERVICE_HOST: '10.0.0.1',
        WALCAST_HTTP_SERVICE_PORT_METRICS: '9188',
        WALCAST_PORT_5432_TCP_ADDR: '10.0.0.1',
        WALCAST_TEST_REQUIRE: 'all',
        WALCAST_CONFIG: 'walcast.yaml',
      },
    });
  });

  test('nothing at all asks for the one thing that is needed', () => {
    expect(refuse({})).toEqual([expect.stringContaining('`upstream.conninfo` is required')]);
  });
});
