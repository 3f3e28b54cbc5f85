// What does a reload change, what waits for a restart, and does a bad configuration change nothing at all?
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import { openLog } from '../../src/base/log.ts';
import type { Config } from '../../src/config/config.ts';
import { RELOAD_READINGS_MAX, RELOAD_SETTLE_MS } from '../../src/config/limits.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { LoadedConfig } from '../../src/config/load.ts';
import { formatConfigError } from '../../src/config/problem.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { planReload } from '../../src/relay/reload-plan.ts';
import { LiveConfiguration } from '../../src/relay/reload.ts';
import type { ReloadReport } from '../../src/status/actions.ts';
import { ManualClock } from '../support/manual-clock.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-reload-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function write(name: string, text: string): void {
  writeFileSync(join(directory, name), text, { mode: 0o600 });
}

function read(): LoadedConfig {
  return loadConfig({ flags: [], env: {}, file: 'walcast.yaml', workingDirectory: directory });
}

function configOf(text: string): Config {
  write('walcast.yaml', text);
  const loaded = read();
  if ('errors' in loaded) throw new Error(loaded.errors.map(formatConfigError).join('\n'));
  return loaded.config;
}

const BASE = 'upstream: { conninfo: "host=pg-a password=hunter2" }\n';

/** A relay's configuration with everything around it, and what was done to it. */
class Rig {
  readonly clock = new ManualClock();
  readonly lines: string[] = [];
  readonly told: string[] = [];
  readonly applied: Config[] = [];
  readonly live: LiveConfiguration;
  refusal: string | null = null;
  failure: Error | null = null;
  /** What a preparation waits for. */
  opening: Promise<void> = Promise.resolve();

  constructor(text: string) {
    const destination = { write: (line: string) => void this.lines.push(line) };
    this.live = new LiveConfiguration(configOf(text), {
      read,
      prepare: async (next) => {
        if (this.failure !== null) throw this.failure;
        await this.opening;
        return () => void this.applied.push(next);
      },
      board: {
        reloaded: (_nowMs, pending) => void this.told.push(`good ${pending.join(' ')}`.trim()),
        reloadRefused: () => void this.told.push('refused'),
        secretsRead: () => {},
      },
      refusal: () => this.refusal,
      clock: this.clock,
      log: openLog({ level: 'debug', format: 'text', destination }),
    });
  }

  /** Lets the readings happen that a reload waits for. */
  async settle(report: Promise<ReloadReport>): Promise<ReloadReport> {
    let isDone = false;
    const onDone = (): void => {
      isDone = true;
    };
    report.then(onDone, onDone);
    while (!isDone) {
      await new Promise((resolve) => setImmediate(resolve));
      if (!isDone) this.clock.advance(RELOAD_SETTLE_MS);
    }
    return await report;
  }

  reload(): Promise<ReloadReport> {
    return this.settle(this.live.reload());
  }
}

describe('a plan', () => {
  test('compares meanings, not spellings', () => {
    const running = configOf(`${BASE}wal_sender_timeout: 60s\nstorage: { wal_keep_size: 1GB }\n`);
    const next = configOf(
      `# moved down\n${BASE}storage: { wal_keep_size: 1024MB, directory: /var/lib/walcast }\nwal_sender_timeout: 1min\n`,
    );
    expect(planReload(running, next)).toMatchObject({ changed: [], pendingRestart: [] });
    expect(planReload(running, next).next.values.get('wal_sender_timeout')?.place).toMatch(
      /:4:21$/,
    );
  });

  test('follows the content of named files', () => {
    const text =
      'upstream: { conninfo_file: conninfo }\nauth: { hba_file: hba }\nhttp: { token_file: token }\n';
    write('conninfo', 'host=a');
    write('hba', 'host all all all reject\n');
    write('token', '0123456789abcdef');
    const running = configOf(text);
    expect(planReload(running, configOf(text)).changed).toEqual([]);
    write('conninfo', 'host=b');
    write('hba', '# nobody\n');
    write('token', 'fedcba9876543210');
    const { changed, next } = planReload(running, configOf(text));
    expect(changed).toEqual(['upstream.conninfo_file', 'auth.hba_file', 'http.token_file']);
    expect(next).toMatchObject({ hba: null, http: { token: 'fedcba9876543210' } });
  });

  const DISCOVERY = `upstream: { conninfo: "host=pg-a password=hunter2", discovery: { patroni: [ "http://a:8008" ] }`;

  /** What is running before the value is another one; {@link BASE} where nothing else has to be so. */
  const BEFORE: Readonly<Record<string, string>> = {
    'upstream.prefer': `${DISCOVERY} }\n`,
    'upstream.zone': `${DISCOVERY}, prefer: zone, zone: a }\n`,
    'auth.auth_dbname': `${BASE}auth: { auth_query: "SELECT a($1)" }\n`,
    'auth.auth_cache_time': `${BASE}auth: { auth_query: "SELECT a($1)" }\n`,
    'http.tls.cert': `${BASE}http: { tls: { cert: a, key: b } }\n`,
    'http.tls.key': `${BASE}http: { tls: { cert: a, key: b } }\n`,
    'http.tls.ca': `${BASE}http: { tls: { cert: a, key: b } }\n`,
  };

  /** Another valid value for each key. */
  const OTHERS: Readonly<Record<string, string>> = {
    'upstream.conninfo': 'upstream: { conninfo: host=pg-b }',
    'upstream.slot': `upstream: { conninfo: "host=pg-a password=hunter2", slot: "" }`,
    'upstream.application_name': `upstream: { conninfo: "host=pg-a password=hunter2", application_name: x }`,
    'upstream.discovery.patroni': `upstream: { conninfo: "host=pg-a password=hunter2", discovery: { patroni: [ "http://a:8008" ] } }`,
    'upstream.prefer': `${DISCOVERY}, prefer: standby }`,
    'upstream.zone': `${DISCOVERY}, prefer: zone, zone: b }`,
    'upstream.wal_receiver_timeout': `upstream: { conninfo: "host=pg-a password=hunter2", wal_receiver_timeout: 1s }`,
    'upstream.wal_receiver_status_interval': `upstream: { conninfo: "host=pg-a password=hunter2", wal_receiver_status_interval: 1s }`,
    listen: `${BASE}listen: [ { address: "*:1" } ]`,
    'auth.hba': `${BASE}auth: { hba: "host all all all trust" }`,
    'auth.ident': `${BASE}auth: { ident: "m a b" }`,
    'auth.users': `${BASE}auth: { users: { a: md500000000000000000000000000000000 } }`,
    'auth.admin_users': `${BASE}auth: { admin_users: [ ops ] }`,
    'auth.auth_query': `${BASE}auth: { auth_query: "SELECT a($1)" }`,
    'auth.auth_dbname': `${BASE}auth: { auth_query: "SELECT a($1)", auth_dbname: other }`,
    'auth.auth_cache_time': `${BASE}auth: { auth_query: "SELECT a($1)", auth_cache_time: 5min }`,
    authentication_timeout: `${BASE}authentication_timeout: 10s`,
    max_connections_per_address: `${BASE}max_connections_per_address: 10`,
    log_connections: `${BASE}log_connections: off`,
    log_disconnections: `${BASE}log_disconnections: on`,
    log_replication_commands: `${BASE}log_replication_commands: on`,
    'storage.directory': `${BASE}storage: { directory: /elsewhere }`,
    'storage.wal_keep_size': `${BASE}storage: { wal_keep_size: 2GB }`,
    'storage.max_slot_wal_keep_size': `${BASE}storage: { max_slot_wal_keep_size: -1 }`,
    'storage.quota': `${BASE}storage: { quota: 100GB }`,
    'storage.max_wal_senders': `${BASE}storage: { max_wal_senders: 1 }`,
    'storage.max_replication_slots': `${BASE}storage: { max_replication_slots: 1 }`,
    'storage.verify': `${BASE}storage: { verify: page }`,
    'storage.forward': `${BASE}storage: { forward: flushed }`,
    synchronous_standby_names: `${BASE}synchronous_standby_names: ANY 1 (a, b)`,
    'upstream.hot_standby_feedback': `upstream: { conninfo: "host=pg-a password=hunter2", hot_standby_feedback: off }`,
    max_feedback_xmin_age: `${BASE}max_feedback_xmin_age: 5000`,
    wal_sender_timeout: `${BASE}wal_sender_timeout: 1s`,
    idle_replication_slot_timeout: `${BASE}idle_replication_slot_timeout: 1d`,
    slots: `${BASE}slots: [ standby_a ]`,
    auto_create_slots: `${BASE}auto_create_slots: on`,
    drain_timeout: `${BASE}drain_timeout: 1s`,
    'http.listen': `${BASE}http: { listen: "" }`,
    'http.tls.cert': `${BASE}http: { tls: { cert: c, key: b } }`,
    'http.tls.key': `${BASE}http: { tls: { cert: a, key: c } }`,
    'http.tls.ca': `${BASE}http: { tls: { cert: a, key: b, ca: c } }`,
    'log.level': `${BASE}log: { level: error }`,
    'log.levels': `${BASE}log: { levels: { wal: debug } }`,
    'log.format': `${BASE}log: { format: text }`,
  };

  /** A configuration without what is not compared as a value. */
  function plain(config: Config): object {
    return { ...config, values: null, warnings: null };
  }

  test.each(SETTINGS.filter(({ path }) => path in OTHERS))(
    '$path is in effect at once or stays as it is, as the table of keys says',
    ({ path, isReloadable }) => {
      const running = configOf(BEFORE[path] ?? BASE);
      const loaded = configOf(`${OTHERS[path]}\n`);
      const plan = planReload(running, loaded);
      expect(plan.changed).toEqual(isReloadable ? [path] : []);
      expect(plan.pendingRestart).toEqual(isReloadable ? [] : [path]);
      expect(plain(plan.next)).toEqual(plain(isReloadable ? loaded : running));
      expect(plain(loaded)).not.toEqual(plain(running));
    },
  );

  test('every key that is not the name of a file was looked at', () => {
    const files = SETTINGS.map(({ path }) => path).filter((path) => path.endsWith('_file'));
    expect(Object.keys(OTHERS).length + files.length).toBe(SETTINGS.length);
  });
});

describe('a reload', () => {
  test('applies what can be applied, and says what waits', async () => {
    const rig = new Rig(BASE);
    write('walcast.yaml', `${BASE}listen: [ { address: "*:1" } ]\ndrain_timeout: 5s\n`);
    expect(await rig.reload()).toEqual({
      problems: [],
      changed: ['drain_timeout'],
      pendingRestart: ['listen'],
    });
    expect(rig.live.current).toMatchObject({ drainTimeoutMs: 5_000, listen: [{ port: 5432 }] });
    expect(rig.applied).toEqual([rig.live.current]);
    expect(rig.told).toEqual(['good listen']);
    expect(rig.lines.join('')).toMatch(
      /`drain_timeout` changed from=30s to=5s place=walcast.yaml:3:16\n.*WARN {2}`listen` cannot be changed without a restart from=.*0\.0\.0\.0:5432.* to=.*\*:1.*\n/,
    );
    const entries = rig.live.entries();
    expect(entries.filter(({ isPendingRestart }) => isPendingRestart)).toMatchObject([
      { key: 'listen', value: '[ { address: "0.0.0.0:5432" } ]', origin: 'default' },
    ]);
    write('walcast.yaml', BASE);
    expect(await rig.reload()).toMatchObject({ changed: ['drain_timeout'], pendingRestart: [] });
    expect(rig.live.entries().some(({ isPendingRestart }) => isPendingRestart)).toBe(false);
  });

  test('of a configuration with mistakes changes nothing and repeats the lines of a start', async () => {
    const rig = new Rig(BASE);
    const before = rig.live.current;
    write('walcast.yaml', `${BASE}drain_timeout: 5s\nlog: { level: loud }\nstorag: {}\n`);
    const loaded = read();
    const lines = 'errors' in loaded ? loaded.errors.map(formatConfigError) : [];
    expect(lines).toHaveLength(2);
    expect(await rig.reload()).toEqual({ problems: lines, changed: [], pendingRestart: [] });
    expect(rig.live.current).toBe(before);
    expect(rig.applied).toEqual([]);
    expect(rig.told).toEqual(['refused']);
    for (const line of lines) expect(rig.lines.join('')).toContain(`ERROR configuration: ${line}`);
  });

  test.each([
    ['removed', () => rmSync(join(directory, 'walcast.yaml')), 'no such file'],
    ['emptied', () => write('walcast.yaml', ''), 'holds no settings'],
    ['cut off', () => write('walcast.yaml', BASE.slice(0, 20)), 'walcast.yaml:1:'],
  ])('of a file that was %s changes nothing', async (_what, damage, message) => {
    const rig = new Rig(BASE);
    damage();
    expect((await rig.reload()).problems[0]).toContain(message);
    expect(rig.applied).toEqual([]);
  });

  test('waits until the file is whole: an editor may be writing it', async () => {
    const rig = new Rig(`${BASE}storage: { wal_keep_size: 8GB }\n`);
    const report = rig.live.reload();
    write('walcast.yaml', BASE);
    rig.clock.advance(RELOAD_SETTLE_MS);
    await new Promise((resolve) => setImmediate(resolve));
    write('walcast.yaml', `${BASE}storage: { wal_keep_size: 9GB }\n`);
    expect(await rig.settle(report)).toMatchObject({ changed: ['storage.wal_keep_size'] });
    expect(rig.applied.map(({ storage }) => storage.walKeepSizeBytes)).toEqual([9 * 1024 ** 3]);
  });

  test('of a file that is written all the time ends, and changes nothing: what was read last may be half of it', async () => {
    const rig = new Rig(BASE);
    const report = rig.live.reload();
    let isDone = false;
    void report.then(() => {
      isDone = true;
    });
    let writes = 0;
    while (!isDone) {
      writes += 1;
      write('walcast.yaml', `${BASE}drain_timeout: ${writes}s\n`);
      rig.clock.advance(RELOAD_SETTLE_MS);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(writes).toBeLessThanOrEqual(RELOAD_READINGS_MAX + 1);
    expect((await report).problems).toEqual([expect.stringContaining('never the same twice')]);
    expect(rig.applied).toEqual([]);
    expect(rig.told).toEqual(['refused']);
    expect((await rig.reload()).changed).toEqual(['drain_timeout']);
  });

  test('that what it needs cannot be had changes nothing', async () => {
    const rig = new Rig(BASE);
    rig.failure = new OperationalError('EADDRINUSE', 'the port is in use', { hint: 'Free it.' });
    write('walcast.yaml', `${BASE}drain_timeout: 5s\n`);
    expect((await rig.reload()).problems).toEqual(['the port is in use. Free it.']);
    expect(rig.live.current.drainTimeoutMs).toBe(30_000);
    expect(rig.told).toEqual(['refused']);
  });

  test('while walcast ends changes nothing', async () => {
    const rig = new Rig(BASE);
    rig.refusal = 'walcast is ending';
    write('walcast.yaml', `${BASE}drain_timeout: 5s\n`);
    expect(await rig.reload()).toMatchObject({ problems: ['walcast is ending'], isNotNow: true });
    expect(rig.applied).toEqual([]);
    expect(rig.told).toEqual([]);
  });

  test('that is not ready when walcast begins to end changes nothing', async () => {
    const rig = new Rig(BASE);
    let open: () => void = () => {};
    rig.opening = new Promise((resolve) => {
      open = resolve;
    });
    write('walcast.yaml', `${BASE}drain_timeout: 5s\n`);
    const report = rig.live.reload();
    rig.clock.advance(RELOAD_SETTLE_MS);
    await new Promise((resolve) => setImmediate(resolve));
    rig.refusal = 'walcast is ending';
    open();
    expect((await report).problems).toEqual(['walcast is ending']);
    expect(rig.applied).toEqual([]);
    expect(rig.told).toEqual([]);
    expect(rig.live.current.drainTimeoutMs).toBe(30_000);
  });

  test('a bug is no refusal', async () => {
    const rig = new Rig(BASE);
    rig.failure = new TypeError('bug');
    await expect(rig.reload()).rejects.toThrow('bug');
    rig.failure = null;
    expect((await rig.reload()).problems).toEqual([]);
  });

  test('however many come at once, two serve them all, one after the other', async () => {
    const rig = new Rig(BASE);
    const first = rig.live.reload();
    write('walcast.yaml', `${BASE}drain_timeout: 5s\n`);
    const others = [rig.live.reload(), rig.live.reload(), rig.live.reload()];
    await Promise.all([first, ...others].map((report) => rig.settle(report)));
    expect(rig.told).toEqual(['good', 'good']);
    expect(rig.live.current.drainTimeoutMs).toBe(5_000);
    expect(await rig.reload()).toMatchObject({ changed: [] });
  });

  test('never logs a secret', async () => {
    const rig = new Rig(BASE);
    write('walcast.yaml', 'upstream: { conninfo: "postgresql://u:hunter3@pg-b/" }\n');
    expect((await rig.reload()).changed).toEqual(['upstream.conninfo']);
    const log = rig.lines.join('');
    expect(log).toContain('pg-b');
    expect(log).not.toMatch(/hunter/);
    expect(JSON.stringify(rig.live.entries())).not.toMatch(/hunter/);
  });

  test('repeats no warning that was known', async () => {
    const rig = new Rig(`${BASE}storage: { verify: off }\n`);
    write(
      'walcast.yaml',
      `${BASE}storage: { verify: off }\nauth: { hba: "host all all all trust" }\n`,
    );
    await rig.reload();
    expect(rig.lines.filter((line) => line.includes('WARN'))).toEqual([
      expect.stringContaining('"trust" lets anybody'),
    ]);
  });
});
