// Does `walcast init` write a configuration with which walcast runs, and print lines that make a standby?
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deriveScramSecret, formatScramSecret } from '../../src/auth/scram-secret.ts';
import { loadConfig } from '../../src/config/load.ts';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { runCommand, serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { spawnWalcast, waitUntilReady } from '../../src/demo/walcast-process.ts';
import type { WalcastProcess } from '../../src/demo/walcast-process.ts';
import { readScramSecret } from '../../src/pg/password-secret.ts';
import { freePort } from '../harness/free-port.ts';
import { makeCertificate } from '../support/certificates.ts';
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
    // What is in the usual directory of this machine is of no interest.
    const data = command === 'init' && !words.includes('--data') ? ['--data', 'data'] : [];
    return walcast([command, ...data, ...words], {
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
      done = await type('init', '--trust', '--upstream', upstream(), '--data', 'store', ...words);
      const written = await readFile(join(directory, 'walcast.yaml'), 'utf8');
      // It runs in another folder, as another user, without the files beside it.
      const configuration = written.replace(/^ *token_file: token$/m, '');
      expect(configuration).not.toBe(written);
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

  /** A folder of its own: files go beside the configuration. */
  async function newFile(name: string): Promise<string> {
    await mkdir(join(directory, name));
    return join(directory, name, 'walcast.yaml');
  }

  it('never overwrites a file, nor one that goes beside it', async () => {
    const file = await newFile('once');
    await type('init', '--upstream', upstream(), '-o', file);
    const before = await readFile(file, 'utf8');
    const again = await type('init', '--upstream', upstream(' connect_timeout=5'), '-o', file);
    expect([again.code, again.out]).toEqual([1, '']);
    expect(again.err).toContain(`"${file}" exists, and is never overwritten. Choose another file`);
    expect(await readFile(file, 'utf8')).toBe(before);
    const beside = await type('init', '--upstream', upstream(), '-o', `${file}.new`);
    expect([beside.code, beside.out]).toEqual([1, '']);
    expect(beside.err).toMatch(
      /userlist\.txt" exists, and is never overwritten\. .* another folder/,
    );
    await expect(stat(`${file}.new`)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('keeps a file with a password to its owner, and says what is better', async () => {
    const file = await newFile('secret');
    const done = await type('init', '--upstream', upstream(' password=x'), '-o', file);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const key = await newFile('key');
    await type('init', '--upstream', upstream(' sslpassword=x'), '-o', key);
    expect((await stat(key)).mode & 0o777).toBe(0o600);
    expect(done.out).toContain('upstream.conninfo_file');
    expect(done.out.replaceAll(/Wrote .*/g, '')).not.toContain('password=x');
  });

  /** Live lines of the rules that it writes. */
  async function rules(...words: string[]): Promise<string[]> {
    const done = await type('init', '--upstream', upstream(), '-o', '-', ...words);
    const lines = done.out.split('\n').map((line) => line.trim());
    return lines.filter((line) => /^(local|host\w*) /.test(line));
  }

  it('lets in this machine alone, with a password, in every way it listens', async () => {
    const ways = {
      local: 'local replication postgres scram-sha-256',
      v4: 'host replication postgres 127.0.0.1/32 scram-sha-256',
      v6: 'host replication postgres ::1/128 scram-sha-256',
    };
    expect(await rules()).toEqual([ways.v4, ways.v6]);
    expect(await rules('--listen', `${directory}:1`)).toEqual([ways.local]);
    expect(await rules('--listen', '127.0.0.1:0')).toEqual([ways.v4, ways.v6]);
    expect(await rules('--listen', `localhost:0,${directory}:1`)).toEqual(Object.values(ways));
  });

  it('writes trust only when it is asked to, and for this machine only', async () => {
    const words = ['--trust', '--allow', '10.0.0.0/8', '--standby-user', 'a b'];
    expect(await rules(...words)).toEqual([
      'host replication all 127.0.0.1/32 trust',
      'host replication all ::1/128 trust',
      'hostssl replication "a b" 10.0.0.0/8 scram-sha-256',
    ]);
  });

  it('offers TLS with the certificate that is given, and tells standbys to verify its name', async () => {
    const file = await newFile('tls');
    const made = makeCertificate({ commonName: 'relay', dns: ['relay.example'] });
    await writeFile(join(dirname(file), 'relay.crt'), made.pem);
    await writeFile(join(dirname(file), 'relay.key'), made.key, { mode: 0o600 });
    const files = ['--tls-cert', 'tls/relay.crt', '--tls-key', 'tls/relay.key'];
    const words = ['--allow', '10.0.0.0/8', '--listen', '127.0.0.1:0', '--http', '127.0.0.1:0'];
    const done = await type('init', '--upstream', upstream(), '-o', file, ...words, ...files);
    expect([done.code, done.err]).toEqual([0, '']);
    expect(done.out).toMatch(
      /^warning .*certificate.*\[listen\.certificate\]$|^ok .*\[listen\.certificate\]$/m,
    );
    expect(done.out).not.toContain('[auth.hostssl]');
    expect(done.out).toContain("primary_conninfo = 'host=relay.example hostaddr=127.0.0.1 port=");
    expect(done.out).toMatch(/^ {2}primary_conninfo = '.* sslmode=verify-full application_name=/m);
    expect(done.out).toContain(`cat ${join(dirname(file), 'relay.crt')} >> ~/.postgresql/root.crt`);
    const loaded = loadConfig({ flags: [], env: {}, file, workingDirectory: '/' });
    const tls = { cert: join(dirname(file), 'relay.crt'), key: join(dirname(file), 'relay.key') };
    expect(loaded).toMatchObject({
      config: { listen: [{ tls }], auth: { users: expect.any(Map) } },
    });
    const checked = await type('check', '-c', file, '--deep');
    expect([checked.code, checked.out]).toEqual([0, expect.stringContaining('[auth.rules]')]);
  });

  it('says how to come by a certificate where other machines are let in and there is none', async () => {
    const done = await type('init', '--upstream', upstream(), '-o', '-', '--allow', 'fd00::/8');
    expect(done.err).toContain('[auth.hostssl]');
    const line = /^ {2}(openssl req .*)$/m.exec(done.err)?.[1] ?? '';
    const folder = await workspace.makeDirectory('certificate');
    const made = await runCommand('sh', ['-c', line], { user: workspace.user, cwd: folder });
    expect([made.exitCode, (await readdir(folder)).toSorted()]).toEqual([
      0,
      ['server.crt', 'server.key'],
    ]);
  });

  it.each([
    [['--allow', '10.0.0.0/33'], '"10.0.0.0/33" is no network'],
    [['--allow', '0.0.0.0/0 trust'], '"0.0.0.0/0 trust" is no network'],
    [['--tls-cert', 'a.crt'], '--tls-cert and --tls-key belong together'],
    [['--standby-user', ''], 'the name of a user is empty'],
    [['--standby-password-file', 'nowhere'], '"nowhere" cannot be read: no such file'],
  ])('does not take %j', async (words, problem) => {
    const done = await type('init', '-o', '-', ...words);
    expect([done.code, done.out]).toEqual([2, '']);
    expect(done.err).toContain(`walcast init: ${problem}`);
  });

  it('makes no user where rules or users are given', async () => {
    const file = await newFile('given');
    const hba = 'auth.hba=host replication all 127.0.0.1/32 scram-sha-256';
    const words = ['--set', hba, '--listen', '127.0.0.1:0', '--http', '127.0.0.1:0'];
    const done = await type('init', '--upstream', upstream(), '-o', file, ...words);
    expect(done.code).toBe(0);
    expect((await readdir(dirname(file))).toSorted()).toEqual(['token', 'walcast.yaml']);
  });

  it('takes the password of standbys from a file, and tells it nobody', async () => {
    const file = await newFile('told');
    const password = join(directory, 'told', 'password');
    await writeFile(password, 'pen"cil\nmore\n');
    const ports = ['--listen', `127.0.0.1:${await freePort()}`, '--http', '127.0.0.1:0'];
    const words = ['--standby-user', 'anne', '--standby-password-file', password, ...ports];
    const done = await type('init', '--upstream', upstream(), '-o', file, ...words);
    expect([done.code, done.err]).toEqual([0, '']);
    expect(done.out).toMatch(/^ {2}127\.0\.0\.1:\d+:\*:anne:PASSWORD$/m);
    expect((await readdir(dirname(file))).toSorted()).toEqual([
      'password',
      'token',
      'userlist.txt',
      'walcast.yaml',
    ]);
    const [, secret = ''] =
      /^"anne" "(.*)"$/m.exec(await readFile(join(directory, 'told', 'userlist.txt'), 'utf8')) ??
      [];
    const scram = readScramSecret(secret);
    if (scram === null) throw new Error(`no secret: ${secret}`);
    expect(formatScramSecret(await deriveScramSecret('pen"cil', scram))).toBe(secret);
    const inline = await type('init', '--upstream', upstream(), '-o', '-', ...words);
    expect(inline.out).toMatch(/^ {4}"anne": "SCRAM-SHA-256\$/m);
    expect(done.out + inline.out + inline.err).not.toContain('pen"cil');
  });

  it('writes to standard output, and everything else to standard error', async () => {
    const done = await type('init', '--upstream', upstream(), '-o', '-', '--listen', '127.0.0.1:0');
    expect(done.err).toContain('[upstream.identified]');
    expect(done.out).toMatch(/^# walcast: the configuration/);
    expect(done.out).not.toContain('[upstream.');
  });

  it('prints what is missing on the primary, and writes the file all the same', async () => {
    const file = await newFile('missing');
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
