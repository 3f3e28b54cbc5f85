// Does `walcast init` write a configuration with which walcast runs, and print lines that make a standby?
import { mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { runCommand, serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { spawnWalcast, waitUntilReady } from '../../src/demo/walcast-process.ts';
import type { WalcastProcess } from '../../src/demo/walcast-process.ts';
import { freePort } from '../harness/free-port.ts';
import { walcast } from '../support/cli.ts';
import type { CliOutcome } from '../support/cli.ts';
import { findProgram, installedMajors, itWhen, requires } from '../support/requirements.ts';

const MAJOR = installedMajors().find((major) => major === 15) ?? installedMajors().at(-1);

describe('init', () => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let directory: string;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, { major: MAJOR ?? 15, name: 'primary' });
    await primary.start();
    directory = join(workspace.directory, 'config');
    await mkdir(directory);
  });

  afterAll(async () => {
    await workspace.close();
  });

  function type(command: 'init' | 'check', ...words: string[]): Promise<CliOutcome> {
    return walcast([command, ...words], {
      workingDirectory: directory,
    });
  }

  function upstream(rest = ''): string {
    return `host=127.0.0.1 port=${primary.port} user=postgres sslmode=disable${rest}`;
  }

  describe('with the address of a primary', () => {
    let done: CliOutcome;
    let port: number;
    let walcast: WalcastProcess;

    beforeAll(async () => {
      port = await freePort();
      const http = await freePort();
      const words = ['--listen', `127.0.0.1:${port}`, '--http', `127.0.0.1:${http}`];
      done = await type('init', '--upstream', upstream(), '--data', 'store', ...words);
      const configuration = await readFile(join(directory, 'walcast.yaml'), 'utf8');
      walcast = await spawnWalcast(workspace, { name: 'relay', configuration });
      await waitUntilReady(walcast, `http://127.0.0.1:${http}`, { timeoutMs: 30_000 });
    });

    afterAll(async () => {
      await walcast.stop();
    });

    it('writes a file with which walcast runs', async () => {
      expect([done.code, done.err]).toEqual([0, '']);
      expect(done.out).toContain('[upstream.identified]');
      expect(done.out).not.toContain('CREATE ROLE');
      expect(done.out).toMatch(/\nNext: walcast run -c walcast\.yaml\n$/);
      expect(await stat(join(directory, 'store', 'walcast.control'))).toBeDefined();
    });

    it('writes a file that passes the check', async () => {
      const checked = await type('check', '-c', 'walcast.yaml', '--deep');
      expect([checked.code, checked.err]).toEqual([0, '']);
      expect(checked.out).toContain('\nok ');
      expect(checked.out).not.toMatch(/^error/m);
    });

    // Debian's program is of 15, and takes no backup of a later server.
    const seeding = (MAJOR ?? 15) > 15 ? itWhen(false) : requires('pg_basebackup').it;

    seeding('prints the line that makes a standby', async () => {
      const line = /^ {2}(pg_basebackup .*)$/m.exec(done.out)?.[1] ?? '';
      expect(line).toContain(`host=127.0.0.1 port=${port} user=postgres`);
      const standby = await workspace.makeDirectory('standby');
      const typed = line
        .replace('pg_basebackup', findProgram('pg_basebackup') ?? '')
        .replace('DATA_DIRECTORY', `${standby}/data`);
      const { user } = workspace;
      const ended = await runCommand('sh', ['-c', typed], { user, cwd: standby });
      expect([ended.exitCode, ended.stderr]).toEqual([0, '']);
      const settings = await readFile(join(standby, 'data', 'postgresql.auto.conf'), 'utf8');
      expect(settings).toContain("primary_slot_name = 'standby_a'");
      expect(settings).toMatch(/primary_conninfo = '.*application_name=standby_a/);
      expect(await stat(join(standby, 'data', 'standby.signal'))).toBeDefined();
    });
  });

  it('never overwrites a file', async () => {
    const file = join(directory, 'once.yaml');
    await type('init', '--upstream', upstream(), '-o', file);
    const before = await readFile(file, 'utf8');
    const again = await type('init', '--upstream', upstream(' connect_timeout=5'), '-o', file);
    expect([again.code, again.out]).toEqual([1, '']);
    expect(again.err).toContain(`"${file}" exists, and is never overwritten. Choose another file`);
    expect(await readFile(file, 'utf8')).toBe(before);
  });

  it('keeps a file with a password to its owner, and says what is better', async () => {
    const file = join(directory, 'secret.yaml');
    const done = await type('init', '--upstream', upstream(' password=x'), '-o', file);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const key = join(directory, 'key.yaml');
    await type('init', '--upstream', upstream(' sslpassword=x'), '-o', key);
    expect((await stat(key)).mode & 0o777).toBe(0o600);
    expect(done.out).toContain('upstream.conninfo_file');
    expect(done.out.replaceAll(/Wrote .*/g, '')).not.toContain('password=x');
  });

  it('lets in this machine, in every way it listens', async () => {
    const rules = async (...listen: string[]): Promise<string[]> => {
      const done = await type('init', '--upstream', upstream(), '-o', '-', ...listen);
      return done.out.split('\n').filter((line) => /^ +(local|host) replication/.test(line));
    };
    const ways = {
      local: '    local replication all trust',
      v4: '    host replication all 127.0.0.1/32 trust',
      v6: '    host replication all ::1/128 trust',
    };
    expect(await rules('--listen', `${directory}:1`)).toEqual([ways.local]);
    expect(await rules('--listen', '127.0.0.1:0')).toEqual([ways.v4, ways.v6]);
    expect(await rules('--listen', `localhost:0,${directory}:1`)).toEqual(Object.values(ways));
  });

  it('writes to standard output, and everything else to standard error', async () => {
    const done = await type('init', '--upstream', upstream(), '-o', '-', '--listen', '127.0.0.1:0');
    expect(done.err).toContain('[upstream.identified]');
    expect(done.out).toMatch(/^# walcast: the configuration/);
    expect(done.out).not.toContain('[upstream.');
  });

  it('prints what is missing on the primary, and writes the file all the same', async () => {
    const file = join(directory, 'missing.yaml');
    const conninfo = `host=127.0.0.1 port=${primary.port} user=nobody_yet`;
    const done = await type('init', '--upstream', conninfo, '-o', file);
    expect(done.code).toBe(1);
    expect(done.out).toContain("\n  CREATE ROLE nobody_yet REPLICATION LOGIN PASSWORD '…';");
    expect(done.out).toContain(`\nNext: walcast check -c ${file} --deep\n`);
    const loaded = loadConfig({ flags: [], env: {}, file, workingDirectory: '/' });
    expect(loaded).toMatchObject({ config: { upstream: { conninfo } } });
  });

  it('takes the address from the environment where none is given', async () => {
    const end = await walcast(['init', '-o', '-', '--listen', '127.0.0.1:0'], {
      workingDirectory: directory,
      env: { PGHOST: '127.0.0.1', PGPORT: String(primary.port), PGUSER: 'postgres' },
    });
    expect(end.out).toContain(`conninfo: "host=127.0.0.1 port=${primary.port} user=postgres"`);
    expect(end.err).toContain('[upstream.identified]');
  });
});
