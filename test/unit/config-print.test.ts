// Does `walcast config --print` say what is in effect and where it comes from, keep secrets, and read back as the same?
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { Value } from 'typebox/value';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parse } from 'yaml';
import { systemClock } from '../../src/base/clock.ts';
import { configCommand } from '../../src/cli/config.ts';
import { dispatch } from '../../src/cli/dispatch.ts';
import type { Config } from '../../src/config/config.ts';
import { configFileSchema } from '../../src/config/file-schema.ts';
import { loadConfig } from '../../src/config/load.ts';
import { formatConfigError } from '../../src/config/problem.ts';
import { printConfig } from '../../src/config/print.ts';
import { SETTINGS } from '../../src/config/settings.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-print-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

interface Printed {
  readonly code: number;
  readonly out: string;
  readonly errors: string;
}

async function config(args: readonly string[], env: Record<string, string> = {}): Promise<Printed> {
  let [out, errors] = ['', ''];
  const code = await dispatch(['config', ...args], [configCommand], {
    env,
    workingDirectory: directory,
    clock: systemClock,
    print: (text) => {
      out += text;
    },
    printError: (text) => {
      errors += text;
    },
    isTerminal: false,
    onSignal: () => () => {},
    useLog: () => {},
  });
  return { code, out, errors };
}

function write(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

function load(file: string, workingDirectory = directory): Config {
  const loaded = loadConfig({ flags: [], env: {}, file, workingDirectory });
  if ('errors' in loaded) throw new Error(loaded.errors.map(formatConfigError).join('\n'));
  return loaded.config;
}

const FULL = `
upstream:
  conninfo: host=pg-a user=replicator password='top secret' application_name=inside
  wal_receiver_timeout: 5000
  wal_receiver_status_interval: 0
listen: [ { address: "*:6000" }, { address: /run/walcast } ]
auth:
  hba: |2
      # indented

    local replication all trust
    host replication "a user" 10.0.0.0/8 reject   # no
storage: { directory: data, wal_keep_size: 64, max_wal_senders: 0x10 }
http: { listen: "", token_file: token }
log: { level: debug, format: text }
`;

test('every key has its value, its origin, and whether a reload changes it', async () => {
  write('walcast.yaml', FULL);
  write('token', '0123456789abcdef');
  const { code, out, errors } = await config(
    ['--print', '-c', 'walcast.yaml', '--data', 'elsewhere', '--set', 'drain_timeout=90'],
    { WALCAST_STORAGE_WAL_KEEP_SIZE: '2GB', WALCAST_LOG_FORMAT: 'json' },
  );
  expect({ code, errors }).toEqual({ code: 0, errors: '' });
  const steady = out
    .replaceAll(directory, '/here')
    .replace(/walcast [\w.-]+,/, 'walcast VERSION,')
    .replaceAll(/ {2,}#/g, '  #');
  expect(steady).toMatchInlineSnapshot(`
    "# effective configuration of walcast VERSION, from walcast.yaml
    upstream:
      conninfo: host=pg-a user=replicator password=*** application_name=inside  # walcast.yaml:3:13 · reload
      # conninfo_file:  # not set · reload
      slot: walcast  # default · reload
      application_name: inside  # walcast.yaml:3:13 · default walcast · reload
      discovery:
        patroni: []  # default · reload
      prefer: primary  # default · reload
      # zone:  # not set · reload
      wal_receiver_timeout: 5000ms  # walcast.yaml:4:25 · default 60s · reload
      wal_receiver_status_interval: 0  # walcast.yaml:5:33 · default 10s · reload
      hot_standby_feedback: on  # default · reload
    listen:  # walcast.yaml:6:9 · default 0.0.0.0:5432 · restart
      - address: "*:6000"
      - address: /run/walcast
    auth:
      # hba_file:  # not set · reload
      hba: |2  # walcast.yaml:8:8 · reload
      # indented

        local replication all trust
        host replication "a user" 10.0.0.0/8 reject  # no
      # ident_file:  # not set · reload
      # ident:  # not set · reload
      # users_file:  # not set · reload
      # users:  # not set · reload
      auth_query: ""  # default · reload
      auth_dbname: postgres  # default · reload
      auth_cache_time: 60s  # default · reload
      admin_users: []  # default · reload
    authentication_timeout: 1min  # default · reload
    max_connections_per_address: 0  # default · reload
    log_connections: on  # default · reload
    log_disconnections: off  # default · reload
    log_replication_commands: off  # default · reload
    storage:
      directory: /here/elsewhere  # --data · default /var/lib/walcast · restart
      wal_keep_size: 2GB  # WALCAST_STORAGE_WAL_KEEP_SIZE · default 1GB · reload
      max_slot_wal_keep_size: 64GB  # default · reload
      quota: -1  # default · reload
      max_wal_senders: 0x10  # walcast.yaml:13:65 · default 1000 · reload
      max_replication_slots: 1000  # default · reload
      verify: record  # default · restart
      forward: received  # default · restart
    synchronous_standby_names: ""  # default · reload
    max_feedback_xmin_age: -1  # default · reload
    wal_sender_timeout: 60s  # default · reload
    idle_replication_slot_timeout: 0  # default · reload
    slots: []  # default · reload
    auto_create_slots: off  # default · reload
    drain_timeout: 90s  # --set · default 30s · reload
    http:
      listen: ""  # walcast.yaml:14:17 · default 127.0.0.1:9188 · restart
      token_file: /here/token  # walcast.yaml:14:33 · reload
      # wal_token_file:  # not set · reload
      # tls:
      # cert:  # not set · restart
      # key:  # not set · restart
      # ca:  # not set · restart
    log:
      level: debug  # walcast.yaml:15:15 · default info · reload
      levels: {}  # default · reload
      format: json  # WALCAST_LOG_FORMAT · default auto · reload
    "
  `);
});

test('the print is a valid configuration that means the same', async () => {
  const original = write('walcast.yaml', FULL.replace("password='top secret'", ''));
  write('token', '0123456789abcdef');
  const { out } = await config(['--print', '-c', 'walcast.yaml']);
  expect([...Value.Errors(configFileSchema(), parse(out))]).toEqual([]);
  const again = load(write('again.yaml', out), '/');
  const before = load(original);
  for (const { path } of SETTINGS) {
    expect([path, again.values.get(path)?.meaning]).toEqual([
      path,
      before.values.get(path)?.meaning,
    ]);
  }
  // Where it was read from is another place.
  const without = { values: null, hba: null, places: null };
  expect({ ...again, ...without }).toEqual({ ...before, ...without });
});

/** Lines and blanks of every kind, where YAML could see something else in them. */
const LINES = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        '\n',
        '\n\n',
        '\r\n',
        ' ',
        '  ',
        '\t',
        '\u0085',
        '\u2028',
        '\u{1F600}',
        '\u0001',
      ),
      fc.constantFrom('# x', '#', '"a b"', ': ', '- ', '---', '|', "'", '\\', '%', '&a', '*a'),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(''));

const PRINTABLE = fc
  .array(fc.constantFrom(...' "\'#:-?&*!|>%@`{}[],~\\=01aex_'.split('')), { maxLength: 20 })
  .map((characters) => characters.join(''));

const SAMPLES: Readonly<Record<string, fc.Arbitrary<string>>> = {
  'auth.hba': fc
    .array(
      fc.constantFrom(
        '',
        ' ',
        '\t',
        '\r',
        '# x',
        '  # : -',
        'host all all all reject',
        ' local all all trust',
      ),
    )
    .chain((lines) => fc.constantFrom('', '\n', '\n\n').map((end) => lines.join('\n') + end)),
  'upstream.conninfo': fc
    .tuple(LINES, PRINTABLE)
    .map(
      ([blanks, word]) =>
        `host=pg-a ${blanks.replaceAll(/\S/g, '')} user='${word.replaceAll(/['\\]/g, '')}'`,
    ),
  'upstream.application_name': PRINTABLE,
  'storage.directory': fc.tuple(LINES, PRINTABLE).map(([a, b]) => `/${a}${b}`),
  'storage.wal_keep_size': fc
    .tuple(
      fc.constantFrom('', ' ', '\t', '\n'),
      fc.double({ min: 0, max: 9, noNaN: true }),
      fc.constantFrom('', 'MB', ' GB ', ' '),
    )
    .map((parts) => parts.join('')),
  listen: PRINTABLE.map((text) => `/${text.replaceAll(',', '')}:5432`),
};

test.each(Object.entries(SAMPLES))(
  'any %s is printed so that it reads back as the same',
  (path, texts) => {
    const upstream = { path: 'upstream.conninfo', text: 'host=pg-a', flag: '--set' };
    fc.assert(
      fc.property(texts, (text) => {
        const flags = [upstream, { path, text, flag: '--set' }];
        const loaded = loadConfig({ flags, env: {}, file: null, workingDirectory: directory });
        if ('errors' in loaded) return;
        const again = load(write('again.yaml', printConfig(loaded.config)));
        expect(again.values.get(path)?.meaning).toBe(loaded.config.values.get(path)?.meaning);
      }),
      { numRuns: Number(process.env['WALCAST_TEST_RUNS'] ?? 60) },
    );
  },
);

test('a blank that is none to YAML stays at the end of a path', () => {
  const flags = [
    { path: 'upstream.conninfo', text: 'host=pg-a', flag: '--set' },
    { path: 'storage.directory', text: '/\u2028', flag: '--set' },
  ];
  const loaded = loadConfig({ flags, env: {}, file: null, workingDirectory: directory });
  if ('errors' in loaded) throw new Error('refused');
  const again = load(write('again.yaml', printConfig(loaded.config)));
  expect(again.storage.directory).toBe(loaded.config.storage.directory);
});

test('no secret is printed, in text or JSON', async () => {
  write('walcast.yaml', FULL);
  write('token', '0123456789abcdef');
  write('uri', 'postgresql://replicator:top%20secret@pg-a/?password=top-secret\n');
  const runs = [
    await config(['--print', '-c', 'walcast.yaml']),
    await config(['--json', '-c', 'walcast.yaml']),
    await config(['--json', '--set', 'upstream.conninfo_file=uri']),
    await config(['--print', '--upstream', 'postgresql://replicator:top%20secret@pg-a/']),
    await config(['--print'], { WALCAST_UPSTREAM_CONNINFO: 'host=a password=top-secret' }),
  ];
  for (const { code, out, errors } of runs) {
    expect(code).toBe(0);
    expect(`${out}${errors}`).not.toMatch(/top|secret\b|0123456789/);
  }
});

test('JSON has the same keys in the same order', async () => {
  write('walcast.yaml', FULL);
  write('token', '0123456789abcdef');
  const { out } = await config(['--json', '-c', 'walcast.yaml']);
  const entries: { key: string; value: string | null; origin: string }[] = JSON.parse(out);
  expect(entries.map(({ key }) => key)).toEqual(SETTINGS.map(({ path }) => path));
  expect(entries.find(({ key }) => key === 'listen')).toEqual({
    key: 'listen',
    value: '[ { address: "*:6000" }, { address: "/run/walcast" } ]',
    default: '[ { address: "0.0.0.0:5432" } ]',
    origin: 'file',
    place: 'walcast.yaml:6:9',
    reloadable: false,
    pending_restart: false,
  });
});

test('a list in JSON form reads back as YAML', () => {
  expect(parse('[ { address: "*:6000" }, { address: "/run/walcast" } ]')).toEqual([
    { address: '*:6000' },
    { address: '/run/walcast' },
  ]);
});

test('a bad configuration is refused with every mistake, and 78', async () => {
  write('walcast.yaml', 'storage: { directry: x }\nlog: { level: loud }\n');
  const { code, out, errors } = await config(['--print', '-c', 'walcast.yaml']);
  expect({ code, out }).toEqual({ code: 78, out: '' });
  expect(errors.trimEnd().split('\n')).toHaveLength(3);
});

test('the schema is the published one', async () => {
  const { code, out } = await config(['--schema']);
  const published = new URL('../../docs/walcast.schema.json', import.meta.url);
  expect({ code, schema: JSON.parse(out) }).toEqual({
    code: 0,
    schema: JSON.parse(readFileSync(published, 'utf8')),
  });
});

test('without --print it says what is missing', async () => {
  const { code, errors } = await config([]);
  expect(code).toBe(2);
  expect(errors).toContain('--print');
});

test.each([
  ['yes', 'upstream.application_name'],
  ['0123', 'upstream.application_name'],
  ['null', 'upstream.application_name'],
  ['a: b # c', 'upstream.application_name'],
  ["it's", 'upstream.application_name'],
  ['- x', 'upstream.application_name'],
  [' spaces ', 'upstream.application_name'],
  ['/with "quotes" and \\ backslash', 'storage.directory'],
  ['/very/long/'.repeat(40), 'storage.directory'],
  ['1.5GB', 'storage.wal_keep_size'],
  ['0', 'wal_sender_timeout'],
  [' 10 min ', 'wal_sender_timeout'],
])('%j survives', (text, key) => {
  const flags = [
    { path: 'upstream.conninfo', text: "host=a user='x y' options='-c a=b'", flag: '--upstream' },
    { path: key, text, flag: '--set' },
  ];
  const loaded = loadConfig({ flags, env: {}, file: null, workingDirectory: '/' });
  if ('errors' in loaded) throw new Error(loaded.errors.map(formatConfigError).join('\n'));
  const again = load(write('again.yaml', printConfig(loaded.config)));
  expect(again.values.get(key)?.meaning).toBe(loaded.config.values.get(key)?.meaning);
  expect(again.upstream.conninfo).toBe(loaded.config.upstream.conninfo);
});
