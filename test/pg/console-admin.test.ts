// Does psql change a running walcast, with a real primary before it, a real standby behind it, and commits all the while?
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import type { CommandResult } from '../../src/demo/postgres-user.ts';
import type { StandbyJson } from '../../src/http/api-types.ts';
import { runTool } from '../harness/pg-tools.ts';
import { openScenario } from '../harness/relay-scenario.ts';
import type { RelayScenario } from '../harness/relay-scenario.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { newestMajors, requires } from '../support/requirements.ts';

const HBA = 'host replication all 127.0.0.1/32 trust\nhost walcast ops,guest 127.0.0.1/32 trust\n';

const { describe: describeWithPsql } = requires('psql');

describeWithPsql.each(newestMajors())('psql on the console, with PostgreSQL %i', (major) => {
  let scenario: RelayScenario;
  let load: WriteLoad;

  beforeAll(async () => {
    scenario = await openScenario({
      major,
      standbys: [{ name: 'stays', settings: { wal_retrieve_retry_interval: '200ms' } }],
      relaySettings: { auth: { hba: HBA, admin_users: ['ops'] }, log_connections: 'off' },
    });
    load = await scenario.startLoad(1);
    await streaming();
  });

  afterAll(() => scenario.close());

  /** Runs each of `commands` as a query of its own; stops at the first that fails. */
  function psql(user: string, ...commands: readonly string[]): Promise<CommandResult> {
    const { host, port } = scenario.relay;
    const server = `host=${host} port=${port} user=${user} dbname=walcast sslmode=disable`;
    return runTool(scenario.workspace, 'psql', [
      '-X',
      '-w',
      '-q',
      '-A',
      '-t',
      '-v',
      'ON_ERROR_STOP=1',
      '-v',
      'VERBOSITY=verbose',
      '-d',
      server,
      ...commands.flatMap((command) => ['-c', command]),
    ]);
  }

  async function ops(...commands: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await psql('ops', ...commands);
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: '' });
    return stderr;
  }

  async function streaming(): Promise<StandbyJson> {
    const { standbys } = await scenario.relay.waitForStatus(
      'the standby streams',
      ({ standbys: all }) => all.some(({ state }) => state === 'streaming'),
    );
    const [standby] = standbys;
    if (standby === undefined) throw new Error('no standby');
    return standby;
  }

  /** Changes the file that the running process reads. */
  async function edit(
    change: (keys: Record<string, Record<string, unknown>>) => void,
  ): Promise<void> {
    const file = join(scenario.workspace.directory, 'walcast-1.yaml');
    const keys = parse(await readFile(file, 'utf8'));
    change(keys);
    await writeFile(file, stringify(keys));
  }

  async function refused(): Promise<true | null> {
    return scenario.standbys[0]?.log.tail(200).includes('walcast is paused') === true ? true : null;
  }

  function walreceiverPid(): Promise<string> {
    return pollUntil(
      'walcast streams from the primary',
      async () => {
        const [row] = await scenario.primary.query(
          "SELECT pid FROM pg_stat_replication WHERE application_name = 'walcast'",
        );
        return row?.[0] ?? null;
      },
      { timeoutMs: 20_000 },
    );
  }

  it('refuses those who are not named, and says who', async () => {
    const { exitCode, stderr } = await psql('guest', 'SHUTDOWN');
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(/ERROR: {2}42501: admin access needed\nHINT: {2}.*auth\.admin_users/);
    expect(scenario.relay.isRunning).toBe(true);
    const line = scenario.relay.log.find((each) => each.includes('console command refused'));
    expect(JSON.parse(line ?? '{}')).toMatchObject({
      level: 'warn',
      msg: 'console command refused: SHUTDOWN',
      user: 'guest',
      client_addr: '127.0.0.1',
      sqlstate: '42501',
    });
  });

  it('creates a slot and drops it', async () => {
    expect(await ops('CREATE SLOT kept RESERVE_WAL')).toBe('');
    expect(await scenario.relay.get('/api/v1/slots')).toMatchObject([
      { slot_name: 'kept', restart_lsn: expect.any(String) },
    ]);
    const { stderr } = await psql('ops', 'CREATE SLOT kept');
    expect(stderr).toMatch(/ERROR: {2}42710: replication slot "kept" already exists/);
    expect(await ops('DROP SLOT kept')).toBe('');
    // In the server's words; it does not mind that no slot can have such a name.
    const { stderr: missing } = await psql('ops', 'DROP SLOT "Bad Name"');
    expect(missing).toMatch(/ERROR: {2}42704: replication slot "Bad Name" does not exist/);
    expect(await scenario.relay.get('/api/v1/slots')).toEqual([]);
  });

  it('reloads, and shows what became of it', async () => {
    await edit((keys) => {
      keys['storage'] = { ...keys['storage'], wal_keep_size: '2GB', verify: 'page' };
    });
    const said = await ops('RELOAD');
    expect(said).toMatch(/NOTICE: {2}00000: changed: storage\.wal_keep_size/);
    expect(said).toMatch(
      /WARNING: {2}55P02: "storage\.verify" cannot be changed without a restart/,
    );
    await edit((keys) => {
      keys['storage'] = { ...keys['storage'], wal_keep_size: 'plenty' };
    });
    const { stderr } = await psql('ops', 'RELOAD');
    expect(stderr).toMatch(/ERROR: {2}F0000: the configuration was not changed/);
    expect(stderr).toMatch(/DETAIL: {2}.*walcast-1\.yaml:\d+:\d+: .*storage\.wal_keep_size/);
    await edit((keys) => {
      keys['storage'] = { ...keys['storage'], wal_keep_size: '2GB', verify: 'record' };
      keys['auth'] = { ...keys['auth'], admin_users: ['ops', 'guest'] };
    });
    await ops('RELOAD');
    expect((await psql('guest', 'RESUME')).exitCode).toBe(0);
  });

  it('pauses, ends a session and resumes; the pause lets nobody in before', async () => {
    const { pid } = await streaming();
    await ops('PAUSE', `KILL ${pid}`);
    await pollUntil('the standby to have been refused', refused, { timeoutMs: 20_000 });
    await load.waitForCommits(10);
    expect((await scenario.relay.status()).state).toBe('paused');
    expect(
      (await scenario.relay.status()).standbys.every(({ state }) => state !== 'streaming'),
    ).toBe(true);
    await ops('RESUME');
    expect((await streaming()).pid).not.toBe(pid);
  });

  it('connects anew under load, and disturbs no standby', async () => {
    const { pid } = await streaming();
    for (let times = 0; times < 3; times += 1) {
      const before = await walreceiverPid();
      await ops('RECONNECT');
      await pollUntil(
        'another session on the primary',
        async () => ((await walreceiverPid()) === before ? null : true),
        { timeoutMs: 20_000 },
      );
      await load.waitForCommits(10);
    }
    expect((await streaming()).pid).toBe(pid);
    const { upstream } = await scenario.relay.status();
    expect(upstream.lag_bytes).toBeGreaterThanOrEqual(0);
  });

  it('counts what was asked for', async () => {
    await pollUntil(
      'fresh metrics',
      async () => {
        const text = await scenario.relay.metrics();
        const counts = [
          ...text.matchAll(/^walcast_admin_commands_total\{command="(\w+)"\} (\d+)/gm),
        ]
          .filter(([, , count]) => count !== '0')
          .map(([, command, count]) => `${command} ${count}`);
        const expected = ['create_slot 2', 'drop_slot 2', 'kill 1', 'pause 1', 'reconnect 3'];
        expected.push('reload 3', 'resume 2', 'shutdown 1');
        return counts.toSorted().join() === expected.join() ? true : null;
      },
      { timeoutMs: 10_000 },
    );
  });

  it('has lost nothing by any of that, and taken nothing back', async () => {
    const endLsn = await scenario.settle();
    // The mistake in the configuration was one; the first look at the new token's file may fall into its time.
    const ours = /configuration|a file with a secret has changed and cannot be used/;
    const violations = await scenario.violations(endLsn);
    expect(violations.filter((line) => !ours.test(line))).toEqual([]);
  });

  it('shuts down: at once, or when everybody has everything', async () => {
    const { relay } = scenario;
    await ops('SHUTDOWN');
    expect(await relay.process.ended).toEqual({ exitCode: 0, signal: null });
    expect(relay.log.some((line) => line.includes('walcast stops at once'))).toBe(true);
    await relay.start();
    await streaming();
    await ops('SHUTDOWN WAIT_FOR_CLIENTS');
    expect(await relay.process.ended).toEqual({ exitCode: 0, signal: null });
    expect(relay.log.some((line) => line.includes('walcast stops after draining'))).toBe(true);
  });
});
