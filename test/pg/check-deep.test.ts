// Does `walcast check --deep` say, against real servers, what is wrong and what the user must change?
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { connectPostgres } from '../../src/demo/postgres-connect.ts';
import type { ServerSettings } from '../../src/demo/postgres-settings.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { encodeQuery } from '../../src/wire/frontend-messages.ts';
import { freePort } from '../harness/free-port.ts';
import { createRelay } from '../harness/walcast-process.ts';
import { makeCertificate } from '../support/certificates.ts';
import type { TestCertificate } from '../support/certificates.ts';
import { checkDeep } from '../support/check-command.ts';
import type { CheckEnd } from '../support/check-command.ts';
import { installedMajors } from '../support/requirements.ts';

const HBA = `
local all,replication all trust
host all postgres 127.0.0.1/32 trust
host replication postgres 127.0.0.1/32 trust
host all,replication repl,plain 127.0.0.1/32 scram-sha-256
host all nowal 127.0.0.1/32 trust
host replication rejected 127.0.0.1/32 reject
hostssl replication tlsonly 127.0.0.1/32 trust
`;

/** The oldest and the newest: between them nothing changes in what is asked here. */
const MAJORS = [...new Set([installedMajors().at(0), installedMajors().at(-1)])].filter(
  (major) => major !== undefined,
);

describe.each(MAJORS)('PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, {
      major,
      name: 'primary',
      settings: {
        wal_level: 'logical',
        max_wal_senders: '3',
        max_replication_slots: '2',
        max_slot_wal_keep_size: '64GB',
        password_encryption: 'scram-sha-256',
      },
    });
    await primary.start();
    await primary.query(`
      CREATE ROLE repl REPLICATION LOGIN PASSWORD 'right';
      CREATE ROLE plain LOGIN PASSWORD 'right';
      CREATE ROLE nowal REPLICATION LOGIN; CREATE ROLE rejected REPLICATION LOGIN;
      CREATE ROLE tlsonly REPLICATION LOGIN;`);
    await writeFile(join(primary.dataDirectory, 'pg_hba.conf'), HBA);
    await primary.reload();
  });

  afterAll(async () => {
    await workspace.close();
  });

  /** A check of `conninfo` with a data directory of its own, no access rules and no HTTP port. */
  async function check(conninfo: string, ...words: string[]): Promise<CheckEnd> {
    // A walsender of the check before may need a moment to end, and there are three.
    await primary.waitForValue(
      "SELECT count(*) FROM pg_stat_replication WHERE application_name LIKE '% check'",
      '0',
    );
    const directory = await mkdtemp(join(tmpdir(), 'walcast-check-'));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    return await checkDeep([
      `--upstream=${conninfo}`,
      `--data=${join(directory, 'data')}`,
      '--http=',
      '--listen=127.0.0.1:0',
      '--set=auth.hba=host replication all 127.0.0.1/32 reject',
      ...words,
    ]);
  }

  async function privateFile(name: string, text: string): Promise<string> {
    const file = join(primary.directory, name);
    await writeFile(file, text, { mode: 0o600 });
    return file;
  }

  async function serveTls({ pem, key }: TestCertificate): Promise<void> {
    for (const [name, text] of [
      ['server.crt', pem],
      ['server.key', key],
    ] as const) {
      await workspace.giveAway(await privateFile(join('data', name), text));
    }
    await primary.configure({ ssl: 'on' });
    await primary.reload();
  }

  function address(rest = 'user=postgres', server = primary): string {
    return `host=127.0.0.1 port=${server.port} sslmode=disable ${rest}`;
  }

  async function withSettings<T>(settings: ServerSettings, run: () => Promise<T>): Promise<T> {
    await primary.configure(settings);
    await primary.reload();
    try {
      return await run();
    } finally {
      await primary.configure(Object.fromEntries(Object.keys(settings).map((key) => [key, null])));
      await primary.reload();
    }
  }

  it('finds nothing wrong where nothing is, and leaves nothing behind', async () => {
    const { code, problems, one } = await check(address());
    expect([code, problems]).toEqual([0, []]);
    const subject = `127.0.0.1:${primary.port}`;
    expect(one('upstream.identified')).toMatchObject({ severity: 'ok', subject });
    expect(one('upstream.identified').message).toMatch(
      new RegExp(`^PostgreSQL ${major}\\S*, primary, system identifier \\d+, at 0/`),
    );
    expect(one('upstream.slot').message).toBe(
      'replication slot "walcast" is missing; walcast creates it (0 of 2 slots are in use)',
    );
    expect(one('storage.directory').message).toContain('does not exist; walcast makes it');
    expect(await primary.value('SELECT count(*) FROM pg_replication_slots')).toBe('0');
  });

  it('says that the password is wrong, and how it is set', async () => {
    const { code, one } = await check(address('user=repl password=wrong'));
    expect(code).toBe(1);
    expect(one('upstream.password')).toMatchObject({
      severity: 'error',
      subject: `127.0.0.1:${primary.port}`,
      message: expect.stringContaining('password authentication failed for user "repl"'),
      fix: expect.stringContaining("ALTER ROLE repl PASSWORD '…'"),
    });
    const none = await check(address('user=repl'));
    expect(none.one('upstream.password_missing').fix).toContain('PGPASSWORD');
  });

  it('says that the role lacks REPLICATION, and the statement that gives it', async () => {
    const { code, one } = await check(address('user=plain password=right'));
    expect(code).toBe(1);
    expect(one('upstream.replication_attribute').fix).toBe(
      'Run on the server: ALTER ROLE plain REPLICATION;',
    );
  });

  it('says that a role does not exist', async () => {
    const { one } = await check(`host=${primary.directory} port=${primary.port} user=nobody`);
    expect(one('upstream.role')).toMatchObject({
      message: expect.stringContaining('role "nobody" does not exist'),
      fix: expect.stringContaining("CREATE ROLE nobody REPLICATION LOGIN PASSWORD '…';"),
    });
  });

  it('shows the pg_hba.conf line that is missing, and where a line rejects us', async () => {
    const missing = await check(address('user=nowal'));
    expect(missing.code).toBe(1);
    expect(missing.one('upstream.hba')).toMatchObject({
      message: expect.stringContaining('no pg_hba.conf entry for replication connection from host'),
      fix: expect.stringContaining('host replication nowal 127.0.0.1/32 scram-sha-256'),
    });
    const rejected = await check(address('user=rejected'));
    expect(rejected.one('upstream.hba').fix).toContain('before the one that rejects');
  });

  it('says that every walsender is in use, by whom, and what to raise', async () => {
    const sessions = await Promise.all(
      ['a', 'b', 'c'].map((applicationName) =>
        connectPostgres(primary.target({ replication: true, applicationName })),
      ),
    );
    const { code, one } = await check(address('user=repl password=right'));
    const wrong = await check(address('user=repl password=wrong'));
    for (const session of sessions) session.close();
    await primary.waitForValue('SELECT count(*) FROM pg_stat_replication', '0');
    expect(code).toBe(1);
    const { message, fix } = one('upstream.max_wal_senders');
    expect(message).toMatch(/exceeds "?max_wal_senders"? \(currently 3\)/);
    expect(message).toMatch(/in use by [abc], [abc], [abc]$/);
    expect(fix).toContain('Raise max_wal_senders above 3');
    // The server does not look at the password before it has a walsender to give.
    expect(wrong.problems).toEqual(['upstream.max_wal_senders', 'upstream.password']);
  });

  it('looks at the slot: ours, logical, in use, none left', async () => {
    await primary.query(
      "SELECT pg_create_physical_replication_slot('walcast', true), pg_create_logical_replication_slot('other', 'pgoutput')",
    );
    expect((await check(address())).one('upstream.slot').message).toMatch(
      /^replication slot "walcast" is there, from 0\//,
    );
    const logical = await check(address(), '--slot', 'other');
    expect(logical.code).toBe(1);
    expect(logical.one('upstream.slot_logical').message).toBe(
      'replication slot "other" is a logical slot, not a physical one',
    );
    const full = await check(address(), '--slot', 'third');
    expect(full.code).toBe(1);
    expect(full.one('upstream.slots_full')).toMatchObject({
      message: expect.stringContaining('max_replication_slots = 2'),
      fix: expect.stringContaining('Drop a slot nobody uses'),
    });
    const held = await connectPostgres(primary.target({ replication: true }));
    const lsn = await primary.value('SELECT pg_current_wal_flush_lsn()');
    held.send(encodeQuery(`START_REPLICATION SLOT walcast ${lsn} TIMELINE 1`));
    await primary.waitForValue(
      "SELECT active FROM pg_replication_slots WHERE slot_name = 'walcast'",
      't',
    );
    const used = await check(address());
    held.close();
    expect(used.code).toBe(1);
    expect(used.one('upstream.slot_in_use').fix).toContain('pg_terminate_backend(');
    // The same session has our application_name, too.
    expect(used.one('upstream.application_name').severity).toBe('warning');
    await primary.waitForValue('SELECT count(*) FROM pg_replication_slots WHERE active', '0');
    await primary.query('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
  });

  it('tells both settings and the restart where wal_level is minimal', async () => {
    const minimal = { wal_level: 'minimal', max_wal_senders: '0' };
    await primary.configure(minimal);
    await primary.restart();
    const told = await check(address());
    await primary.configure({ wal_level: 'logical', max_wal_senders: '3' });
    await primary.restart();
    expect(told.code).toBe(1);
    const { message, fix } = told.one('upstream.wal_level');
    expect(message).toContain('wal_level = minimal and max_wal_senders = 0');
    expect(fix).toBe(
      'Set wal_level = replica and max_wal_senders = 10 in postgresql.conf of the server and restart it; a reload is not enough',
    );
  });

  it('names every host of the list that cannot be used, not only the first', async () => {
    const nobody = await freePort();
    const { code, one, findings } = await check(
      `host=127.0.0.1,127.0.0.1,no-such-host.invalid port=${primary.port},${nobody},5432 user=postgres`,
    );
    expect(code).toBe(1);
    expect(one('upstream.identified').subject).toBe(`127.0.0.1:${primary.port}`);
    expect(one('upstream.unreachable')).toMatchObject({
      subject: `127.0.0.1:${nobody}`,
      message: expect.stringContaining('connection refused'),
      fix: expect.stringContaining('take the host out of it'),
    });
    expect(one('upstream.name')).toMatchObject({
      subject: 'no-such-host.invalid:5432',
      message: expect.stringContaining('could not translate host name "no-such-host.invalid"'),
    });
    expect(findings.filter(({ severity }) => severity === 'error')).toHaveLength(2);
  });

  it('says how sslmode does not fit the server, and what is wrong with its certificate', async () => {
    const secured = (rest: string) =>
      check(`host=localhost hostaddr=127.0.0.1 port=${primary.port} user=postgres ${rest}`);
    const none = await secured('sslmode=require');
    expect(none.code).toBe(1);
    expect(none.one('upstream.sslmode')).toMatchObject({
      subject: `localhost:${primary.port}`,
      message: expect.stringContaining('server does not support SSL, but SSL was required'),
      fix: expect.stringContaining('Set ssl=on with a certificate on the upstream'),
    });
    const root = makeCertificate({ commonName: 'root', isAuthority: true });
    const rootFile = await privateFile('root.crt', root.pem);
    await serveTls(makeCertificate({ dns: ['localhost'], issuer: root }));
    const only = await check(address('user=tlsonly'));
    expect(only.one('upstream.sslmode')).toMatchObject({
      message: expect.stringContaining('lets this login in with TLS only'),
      fix: expect.stringContaining('Set sslmode=require'),
    });
    const verified = await secured(`sslmode=verify-full sslrootcert=${rootFile}`);
    expect([verified.code, verified.problems]).toEqual([0, []]);
    expect(verified.one('upstream.identified').message).toMatch(/, TLSv1\.[23]$/);
    const stranger = makeCertificate({ commonName: 'stranger', isAuthority: true });
    const strangerFile = await privateFile('stranger.crt', stranger.pem);
    const unknown = await secured(`sslmode=verify-ca sslrootcert=${strangerFile}`);
    expect(unknown.one('upstream.certificate').fix).toContain('sslrootcert');
    await serveTls(makeCertificate({ dns: ['localhost'], issuer: root, from: -10, to: -1 }));
    const expired = await secured(`sslmode=verify-full sslrootcert=${rootFile}`);
    expect(expired.code).toBe(1);
    expect(expired.one('upstream.certificate_expired')).toMatchObject({
      message: expect.stringContaining('certificate has expired'),
      fix: expect.stringContaining('have it renewed (ssl_cert_file on the upstream)'),
    });
    await primary.configure({ ssl: 'off' });
    await primary.reload();
  });

  it('warns where synchronous_standby_names counts us, and where commits would wait for ever', async () => {
    const named = await withSettings(
      { synchronous_standby_names: 'FIRST 1 (standby_a, "WalCast")' },
      () => check(address()),
    );
    expect([named.code, named.problems]).toEqual([0, ['upstream.synchronous_standby_names']]);
    expect(named.one('upstream.synchronous_standby_names')).toMatchObject({
      message: expect.stringContaining('commits then wait until walcast has flushed their WAL'),
      fix: expect.stringContaining('upstream.application_name'),
    });
    const any = await withSettings(
      { synchronous_standby_names: '*', synchronous_commit: 'remote_apply' },
      () => check(address(), '--set', 'upstream.application_name=relay'),
    );
    expect(any.problems).toEqual(['upstream.remote_apply', 'upstream.synchronous_standby_names']);
    expect(any.one('upstream.remote_apply')).toMatchObject({
      message: expect.stringContaining('commits that wait for it wait for ever'),
      fix: expect.stringContaining("ALTER SYSTEM SET synchronous_commit = 'on'"),
    });
    const others = await withSettings({ synchronous_standby_names: 'ANY 1 (a, walcast2)' }, () =>
      check(address()),
    );
    expect(others.problems).toEqual([]);
  });

  it('says for which standbys commits wait under a policy, and where none waits for it', async () => {
    const policy = ['--set', 'synchronous_standby_names=ANY 1 (a, b)'];
    const settings = {
      synchronous_standby_names: 'FIRST 1 (walcast, c)',
      synchronous_commit: 'remote_apply',
    };
    const named = await withSettings(settings, () => check(address(), ...policy));
    expect([named.code, named.problems]).toEqual([0, []]);
    expect(named.one('upstream.synchronous_standby_names').message).toContain(
      "commits then wait for the standbys behind walcast that its own synchronous_standby_names = 'ANY 1 (a, b)' chooses",
    );
    const idle = await withSettings({ synchronous_standby_names: 'c' }, () =>
      check(address(), ...policy),
    );
    expect([idle.code, idle.problems]).toEqual([0, ['upstream.sync_policy']]);
    expect(idle.one('upstream.sync_policy').fix).toContain('with "walcast" among the names');
  });

  it('warns of settings of the server that lose WAL or hold up too much', async () => {
    const settings = { wal_sender_timeout: '0', max_slot_wal_keep_size: '-1' };
    const told = await withSettings(settings, () => check(address()));
    await primary.configure({ max_slot_wal_keep_size: '64GB' });
    await primary.reload();
    expect(told.problems).toEqual([
      'upstream.max_slot_wal_keep_size',
      'upstream.wal_sender_timeout',
    ]);
    const bare = await check(address(), '--slot=');
    expect(bare.problems).toEqual(['upstream.wal_keep_size']);
    expect(bare.one('upstream.wal_keep_size').message).toContain('wal_keep_size = 0');
  });

  it('says that the WAL of the slot was given up', async () => {
    await primary.query("SELECT pg_create_physical_replication_slot('walcast', true)");
    await primary.configure({ max_slot_wal_keep_size: '1MB' });
    await primary.reload();
    for (let segment = 0; segment < 3; segment += 1) {
      await primary.query('CREATE TABLE t (); DROP TABLE t; SELECT pg_switch_wal()');
    }
    await primary.query('CHECKPOINT');
    await primary.waitForValue('SELECT wal_status FROM pg_replication_slots', 'lost');
    const { code, one } = await check(address());
    await primary.query("SELECT pg_drop_replication_slot('walcast')");
    await primary.configure({ max_slot_wal_keep_size: '64GB' });
    await primary.reload();
    expect(code).toBe(0);
    expect(one('upstream.slot_lost')).toMatchObject({
      severity: 'warning',
      message: expect.stringContaining('wal_status "lost"'),
      fix: expect.stringContaining('Raise max_slot_wal_keep_size'),
    });
  });

  it('says that a store is of another cluster, and that a running walcast holds it', async () => {
    const running = await createRelay(workspace, {
      name: 'relay',
      upstream: () => ({ host: '127.0.0.1', port: primary.port }),
    });
    const words = [
      `--data=${running.directory}`,
      `--listen=127.0.0.1:${running.port}`,
      `--http=127.0.0.1:${running.httpPort}`,
      '--set=auth.hba=host replication all 127.0.0.1/32 reject',
    ];
    await running.start();
    await running.waitForStatus('it streams', ({ state }) => state === 'streaming');
    const own = await checkDeep([...words, '--upstream', address()]);
    expect([own.code, own.problems]).toEqual([0, []]);
    expect(own.one('storage.in_use').message).toContain(`(pid ${running.process.pid})`);
    expect(own.one('upstream.slot').message).toContain('in use by PID');
    expect(own.one('storage.timeline').message).toContain("a server of this store's history");
    await running.stop();
    const other = await createPrimary(workspace, { major, name: 'other' });
    await other.start();
    const told = await checkDeep([
      ...words,
      '--upstream',
      `host=127.0.0.1,127.0.0.1 port=${other.port},${primary.port} user=postgres`,
    ]);
    await other.stop();
    expect(told.code).toBe(1);
    expect(told.one('storage.system_identifier')).toMatchObject({
      subject: running.directory,
      message: expect.stringMatching(
        /^127\.0\.0\.1:\d+: database system identifier differs between the upstream and the store/,
      ),
      fix: 'Point upstream.conninfo at the right server, or storage.directory at an empty directory.',
    });
    expect(told.one('upstream.other_cluster').subject).toBe(`127.0.0.1:${primary.port}`);
  });

  it('says that an upstream is a standby', async () => {
    const standby = await createStandby(workspace, {
      major,
      name: 'standby',
      backupFrom: primary.target(),
      upstream: primary.target(),
    });
    await standby.start();
    const { code, one } = await check(address('user=postgres', standby));
    await standby.stop();
    expect(code).toBe(0);
    expect(one('upstream.standby').severity).toBe('ok');
    expect(one('upstream.identified').message).toContain(', standby, ');
  });
});
