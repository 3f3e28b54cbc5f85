// Does somebody who only answers the questions of `walcast init` get a walcast that runs, and a standby behind it?
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { appendFile, chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil as poll } from '../../src/demo/postgres-process.ts';
import { runCommand, serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import type { StatusJson } from '../../src/http/api-types.ts';
import { freePort } from '../harness/free-port.ts';
import { clientMajor, findProgram, installedMajors, requires } from '../support/requirements.ts';
import { Terminal } from '../support/terminal.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/walcast.mjs', import.meta.url));

/** The newest that the installed pg_basebackup takes a backup of. */
const MAJOR = installedMajors().findLast((major) => major <= clientMajor('pg_basebackup')) ?? 15;

/** The superuser comes in without a password, the role of walcast with one only. */
const HBA = `local all all trust
host all postgres 127.0.0.1/32 trust
host all replicator 127.0.0.1/32 scram-sha-256
host replication replicator 127.0.0.1/32 scram-sha-256
`;

/** Until `look` gives something. */
async function pollUntil(what: string, look: () => Promise<true | null>): Promise<void> {
  await poll(what, look, { timeoutMs: 60_000 });
}

requires('python3', 'pg_basebackup', `postgres-${MAJOR}`).describe('on a terminal', () => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let directory: string;
  let port: number;
  let http: number;
  let shown: string;
  let walcast: ChildProcess;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, { major: MAJOR, name: 'primary' });
    await writeFile(join(primary.dataDirectory, 'pg_hba.conf'), HBA);
    await primary.start();
    directory = await workspace.makeDirectory('config');
    [port, http] = [await freePort(), await freePort()];
  });

  afterAll(async () => {
    await runCommand(
      join(primary.binaries.binDirectory, 'pg_ctl'),
      ['-D', 'data', '-m', 'immediate', 'stop'],
      {
        user: workspace.user,
        cwd: directory,
      },
    );
    walcast?.kill('SIGKILL');
    await workspace.close();
  });

  /** Types a line at the shell of the user who runs it all, whose home is the directory. */
  async function shell(line: string): Promise<string> {
    const { user } = workspace;
    const done = await runCommand('sh', ['-c', line], { user, cwd: directory });
    expect([done.exitCode, done.stdout + done.stderr]).toEqual([0, expect.any(String)]);
    return done.stdout;
  }

  function printed(pattern: RegExp): string {
    const line = pattern.exec(shown)?.[1];
    if (line === undefined) throw new Error(`no line ${String(pattern)} in:\n${shown}`);
    return line;
  }

  async function standbyValue(sql: string): Promise<string> {
    const target = { host: directory, port: port + 1, user: 'postgres', database: 'postgres' };
    await using session = await openSqlSession(target);
    return await session.value(sql);
  }

  async function status(): Promise<StatusJson> {
    const answer = await fetch(`http://127.0.0.1:${http}/api/v1/status`);
    return (await answer.json()) as StatusJson;
  }

  async function untilStreaming(): Promise<void> {
    const sql = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    await pollUntil('the standby streaming', async () =>
      (await standbyValue(sql).catch(() => '')) === '1' ? true : null,
    );
  }

  it('asks, looks at each answer, waits while the primary is mended, and writes what was said', async () => {
    const terminal = new Terminal(
      process.execPath,
      [PROGRAM, 'init', '--http', `127.0.0.1:${http}`],
      {
        cwd: directory,
        user: workspace.user,
      },
    );
    try {
      await terminal.answer(
        'Primary: its host name, or a connection string [host=localhost]: ',
        '127.0.0.1',
      );
      await terminal.answer('Its port [5432]: ', 'x');
      await terminal.until('invalid integer value "x" for connection option "port"');
      await terminal.answer('Its port [5432]: ', String(primary.port));
      await terminal.answer('with REPLICATION [replicator]: ');
      await terminal.answer('[walcast]: ', 'not-a-slot');
      await terminal.answer('[walcast]: ');
      // There is no such role yet; a server asks for its password all the same.
      await terminal.answer(
        'Password for the primary (kept in upstream.pgpass; Enter for none): ',
        'pencil',
      );
      await terminal.until('[upstream.password]');
      await terminal.answer('Enter for none): ');
      await terminal.until('Enter looks again');
      shown = terminal.shown;
      const create = printed(/^ {2}(CREATE ROLE replicator .*;)/m);
      await primary.query(create.replace('…', 'pencil'));
      terminal.type('\r');
      await terminal.answer('Enter for none): ', 'pencil');
      await terminal.until('[upstream.identified]');
      await terminal.answer('none) [-]: ');
      await terminal.answer('[127.0.0.1:5433]: ', `127.0.0.1:${primary.port}`);
      await terminal.until('Another answer, or Enter to go on with this one all the same.');
      await terminal.answer(`[127.0.0.1:${primary.port}]: `, `127.0.0.1:${port}`);
      await terminal.answer('Directory for WAL and state', 'store');
      await terminal.answer('log in at walcast as [replicator]: ');
      await terminal.answer('With the password (Enter: one is made up for replicator): ');
      expect([await terminal.end, terminal.shown]).toEqual([0, expect.any(String)]);
    } finally {
      terminal.close();
    }
    shown = terminal.shown;
    expect(shown).not.toContain('pencil');
    expect(shown).toContain('\n0 errors, ');
    expect(shown).toMatch(/\nNext: walcast run -c walcast\.yaml\n$/);
  }, 180_000);

  it('keeps every secret in a file of its own, which its owner alone may read', async () => {
    const names = (await readdir(directory)).filter((name) => !name.startsWith('.')).toSorted();
    expect(names).toEqual([
      'standby.pgpass',
      'token',
      'upstream.pgpass',
      'userlist.txt',
      'walcast.yaml',
    ]);
    for (const name of names) {
      const { mode } = await stat(join(directory, name));
      expect([name, mode & 0o777]).toEqual([name, name === 'walcast.yaml' ? 0o644 : 0o600]);
    }
    const text = await readFile(join(directory, 'walcast.yaml'), 'utf8');
    expect(text).toContain(`passfile=${join(directory, 'upstream.pgpass')}`);
    expect(text).not.toMatch(/^ *[^#\s].*trust/m);
    expect(text).not.toContain('pencil');
  });

  it('and what was written runs', async () => {
    await shell(`"${process.execPath}" "${PROGRAM}" check -c walcast.yaml --deep`);
    const { user } = workspace;
    walcast = spawn(process.execPath, [PROGRAM, 'run', '-c', 'walcast.yaml'], {
      cwd: directory,
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { PATH: process.env['PATH'], HOME: directory, WALCAST_LOG_LEVEL: 'error' },
      ...(user === null ? {} : { uid: user.uid, gid: user.gid }),
    });
    await pollUntil('walcast being ready', async () => {
      const answer = await fetch(`http://127.0.0.1:${http}/readyz`).catch(() => null);
      return answer?.status === 200 ? true : null;
    });
  });

  it('and the lines for a new standby make one, with the password that was made up', async () => {
    await shell(printed(/^ {2}(\(umask 077 && cat .*\.pgpass.*)$/m));
    const line = printed(/^ {2}(pg_basebackup .*)$/m);
    await shell(
      line
        .replace('pg_basebackup', findProgram('pg_basebackup') ?? '')
        .replace('DATA_DIRECTORY', 'data'),
    );
    await chmod(join(directory, 'data'), 0o700);
    const options = `-c port=${port + 1} -c unix_socket_directories=${directory} -c listen_addresses=`;
    await shell(`${primary.binaries.binDirectory}/pg_ctl -D data -l log -w -o '${options}' start`);
    await untilStreaming();
    await primary.query('CREATE TABLE seen AS SELECT 1 AS n');
    await pollUntil('the row on the standby', async () =>
      (await standbyValue('SELECT n FROM seen').catch(() => '')) === '1' ? true : null,
    );
  }, 180_000);

  it('so do those for one that exists', async () => {
    await writeFile(join(directory, 'data', 'postgresql.auto.conf'), '');
    const lines = [
      printed(/^ {2}(primary_conninfo = .*)$/m),
      printed(/^ {2}(primary_slot_name = .*)$/m),
    ];
    await appendFile(join(directory, 'data', 'postgresql.conf'), `${lines.join('\n')}\n`);
    await shell(`${primary.binaries.binDirectory}/pg_ctl -D data -l log -w -m fast restart`);
    await untilStreaming();
    expect(await standbyValue('SHOW primary_conninfo')).toContain('application_name=standby_a');
  }, 180_000);

  it('and those for commits that wait, on the primary and in the configuration', async () => {
    const [onPrimary = '', inFile = ''] = [
      ...shown.matchAll(/^ {2}(synchronous_standby_names.*)$/gm),
    ].map(([, line]) => line);
    await appendFile(join(directory, 'walcast.yaml'), `${inFile}\n`);
    walcast.kill('SIGHUP');
    await primary.query(`ALTER SYSTEM SET ${onPrimary.replace(/ *#.*/, '')}`);
    await primary.reload();
    await primary.waitForValue(
      "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'walcast'",
      'sync',
    );
    await pollUntil('a synchronous standby behind walcast', async () => {
      const { sync, standbys } = await status();
      expect(standbys[0]).toMatchObject({ application_name: 'standby_a', user: 'replicator' });
      const isNamed = sync.synchronous_standby_names === 'FIRST 1 (standby_a)';
      return isNamed && sync.satisfied && standbys[0]?.sync_state === 'sync' ? true : null;
    });
    await primary.query('INSERT INTO seen VALUES (2)');
  });

  it('lets nobody in without the password', async () => {
    const line = printed(/psql ('.* replication=true')/);
    const psql = findProgram('psql') ?? 'psql';
    const done = await runCommand(
      'sh',
      ['-c', `PGPASSFILE=none ${psql} -w ${line} -c IDENTIFY_SYSTEM`],
      { user: workspace.user, cwd: directory },
    );
    expect([done.exitCode, done.stderr]).toEqual([
      2,
      expect.stringContaining('no password supplied'),
    ]);
  });
});
