// Does any secret ever show up? Everything that walcast says, at its most talkative, on every way out, while it is used,
// misused, reloaded and broken, is searched for everything that it was trusted with.
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deriveScramSecret, formatScramSecret } from '../../src/auth/scram-secret.ts';
import { REPORTS } from '../../src/console/show-reports.ts';
import { VIEWS } from '../../src/console/views.ts';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { SUPERUSER } from '../../src/demo/postgres-server.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { makeCertificate } from '../support/certificates.ts';
import { walcast } from '../support/cli.ts';
import { readEvents } from '../support/event-client.ts';
import { installedMajors } from '../support/requirements.ts';

const HBA = `host replication,walcast md5user 127.0.0.1/32 md5
host replication,walcast all 127.0.0.1/32 scram-sha-256
`;

/** What the console shows. */
const CONSOLE_QUESTIONS = [
  ...Array.from(REPORTS.keys(), (name) => `SHOW ${name}`),
  ...Array.from(VIEWS.keys(), (name) => `SELECT * FROM ${name}`),
];

/** Something that stands nowhere else. */
function canary(kind: string): string {
  return `canary-${kind}-${randomBytes(12).toString('hex')}`;
}

// What is said does not depend on the version of the servers.
describe.each(installedMajors().slice(-1))('walcast before PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let relay: WalcastRelay;
  let directory: string;
  const passwords = {
    upstream: canary('upstream'),
    plain: canary('plain'),
    scram: canary('scram'),
    role: canary('role'),
    wrong: canary('wrong'),
    inline: canary('inline'),
    changed: canary('changed'),
  };
  const tokens = { all: canary('token'), wal: canary('wal'), wrong: canary('guess') };
  const md5 = randomBytes(16).toString('hex');
  const certificate = makeCertificate({ commonName: 'relay', dns: ['localhost'] });
  /** By what it is; values as they would show up. */
  const secrets = new Map<string, string>();
  /** Everything that was said, by who said it. */
  const said = new Map<string, string>();

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    ({ directory } = workspace);
    primary = await createPrimary(workspace, { major, name: 'primary' });
    await primary.start();
    await primary.query(`CREATE ROLE login LOGIN REPLICATION PASSWORD '${passwords.upstream}'`);
    await primary.query(`CREATE ROLE role LOGIN REPLICATION PASSWORD '${passwords.role}'`);
    await primary.query('GRANT pg_read_all_data TO login; GRANT SELECT ON pg_authid TO login');
    await writeFile(
      join(primary.dataDirectory, 'pg_hba.conf'),
      `host all login 127.0.0.1/32 scram-sha-256\nhost replication login 127.0.0.1/32 scram-sha-256\nlocal all all trust\nhost all ${SUPERUSER} 127.0.0.1/32 trust\n`,
    );
    await primary.reload();
    const kept = await primary.value(`SELECT rolpassword FROM pg_authid WHERE rolname = 'role'`);
    await writeSecrets(kept);
    relay = await createRelay(workspace, {
      name: 'walcast',
      upstream: () => primary.target(),
      settings: {
        upstream: { conninfo: undefined, conninfo_file: join(directory, 'conninfo') },
        auth: {
          hba: HBA,
          users_file: join(directory, 'users'),
          auth_query:
            'SELECT rolname, rolpassword, rolvaliduntil, rolreplication FROM pg_authid WHERE rolname = $1',
        },
        http: {
          token_file: join(directory, 'token'),
          wal_token_file: join(directory, 'wal-token'),
        },
        log: { level: 'debug' },
        log_disconnections: 'on',
      },
    });
    relay.configure({
      listen: [
        {
          address: `127.0.0.1:${relay.port}`,
          tls: { cert: join(directory, 'relay.crt'), key: join(directory, 'relay.key') },
        },
      ],
    });
    await relay.start();
  });

  afterAll(async () => {
    await workspace.close();
  });

  async function writeSecrets(kept: string): Promise<void> {
    const parameters = { salt: randomBytes(16), iterations: 4096 };
    const own = formatScramSecret(await deriveScramSecret(passwords.scram, parameters));
    for (const [what, password] of Object.entries(passwords)) secrets.set(what, password);
    for (const [what, token] of Object.entries(tokens)) secrets.set(what, token);
    secrets.set('md5', md5);
    for (const [what, text] of [
      ['own', own],
      ['kept upstream', kept],
    ] as const) {
      const [, storedKey = '', serverKey = ''] = /\$([^$:]+):([^$:]+)$/.exec(text) ?? [];
      secrets.set(`StoredKey ${what}`, storedKey);
      secrets.set(`ServerKey ${what}`, serverKey);
    }
    const [, first = '', second = ''] = certificate.key.split('\n');
    secrets.set('first line of the key', first);
    secrets.set('second line of the key', second);
    const users = [`"plain" "${passwords.plain}"`, `"scram" "${own}"`, `"md5user" "md5${md5}"`];
    await write('users', `${users.join('\n')}\n`);
    await write('conninfo', conninfo(passwords.upstream));
    await write('token', `${tokens.all}\n`);
    await write('wal-token', `${tokens.wal}\n`);
    await write('relay.key', certificate.key);
    await write('relay.crt', certificate.pem);
  }

  function conninfo(password: string): string {
    return `host=127.0.0.1 port=${primary.port} user=login password=${password} sslmode=disable`;
  }

  async function write(name: string, content: string): Promise<void> {
    await writeFile(join(directory, name), content, { mode: 0o600 });
  }

  function say(who: string, what: string): void {
    said.set(who, `${said.get(who) ?? ''}${what}\n`);
  }

  async function login(user: string, password: string, database = 'replication'): Promise<void> {
    const replication = database === 'replication';
    const { host, port } = relay;
    try {
      await using session = await openSqlSession({
        host,
        port,
        user,
        password,
        database,
        replication,
      });
      const questions = replication
        ? ['IDENTIFY_SYSTEM', 'SHOW data_directory_mode', 'SHOW primary_conninfo', 'NONSENSE']
        : [...CONSOLE_QUESTIONS, 'SHOW ALL', 'SHOW primary_conninfo', 'NONSENSE'];
      for (const sql of questions) {
        const answer = await session.query(sql).catch(String);
        say(`${database}`, JSON.stringify(answer));
      }
      say('login', `${user} in`);
    } catch (error) {
      say('login', `${user} ${String(error)}`);
    }
  }

  async function get(
    path: string,
    headers: Record<string, string> = {},
    method = 'GET',
  ): Promise<void> {
    const response = await fetch(`${relay.url}${path}`, { headers, method });
    const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') === true;
    const body = isStream ? await firstEvent(response) : await response.text();
    say('http', `${path} ${JSON.stringify([...response.headers])} ${body}`);
  }

  async function firstEvent(response: Response): Promise<string> {
    const events = readEvents(response);
    const snapshot = await events.nextOf('snapshot');
    await events.close();
    return JSON.stringify(snapshot);
  }

  it('is used, misused, reloaded and broken', async () => {
    await login('plain', passwords.plain);
    await login('scram', passwords.scram);
    await login('role', passwords.role);
    for (const user of ['plain', 'scram', 'role', 'md5user', 'nobody']) {
      await login(user, passwords.wrong);
    }
    await login('plain', passwords.plain, 'walcast');
    await login('plain', passwords.wrong, 'walcast');
    const paths = Object.keys(
      ((await relay.get('/openapi.json')) as { paths: Record<string, unknown> }).paths,
    );
    for (const token of Object.values(tokens)) {
      for (const path of [
        '/metrics',
        '/openapi.json',
        ...paths.filter((one) => !one.includes('{')),
      ]) {
        await get(path, { authorization: `Bearer ${token}` });
      }
      await get('/wal/000000010000000000000001x', { authorization: `Bearer ${token}` });
      await get('/api/v1/slots/nobody', { authorization: `Basic ${token}` }, 'DELETE');
    }
    const from = relay.process.log.length;
    await write('users', `"plain" "${passwords.plain}`);
    await relay.process.waitForLog(/a file with a secret has changed and cannot be used/, { from });
    await get('/api/v1/status');
    await get('/metrics');
    await write('users', `"plain" "${passwords.changed}"\n`);
    await relay.process.waitForLog(/files with secrets are in order again/, { from });
    await login('plain', passwords.plain);
    await login('plain', passwords.changed);
    await write('token', `${tokens.all} ${tokens.wrong}\n`);
    relay.process.signal('SIGHUP');
    await relay.process.waitForLog(/the new configuration was refused/, { from });
    expect(said.get('login')).toMatch(
      /plain in[^]*scram in[^]*role in[^]*plain .*password auth[^]*plain in$/m,
    );
    expect(said.get('walcast')).toContain('nonsense');
    expect(said.get('walcast')).toContain('upstream.conninfo_file');
    expect(said.get('http')).toContain('walcast_build_info');
    expect(said.get('http')).toContain('"event":"snapshot"');
  });

  it('starts with secrets that are wrong', async () => {
    await relay.stop('SIGINT');
    await write('users', `"plain" "${passwords.plain}"\n`);
    await write('token', `${tokens.all}\n`);
    await write('conninfo', conninfo(passwords.wrong));
    await relay.start({ wait: false });
    await relay.process.waitForLog(/password authentication failed for user \\?"login/);
    await relay.stop('SIGINT');
    await write('conninfo', `${conninfo(passwords.upstream)} nonsense=${passwords.wrong}`);
    await relay.start({ wait: false });
    await expect.poll(() => relay.process.end, { timeout: 20_000 }).not.toBeNull();
    await write('conninfo', conninfo(passwords.upstream));
  });

  it('is asked by its own commands', async () => {
    const inline = join(directory, 'inline.yaml');
    await write(
      'inline.yaml',
      `upstream: { conninfo: "${conninfo(passwords.inline)}" }\nauth: { users: { plain: "${passwords.plain}", md5user: "md5${md5}" } }\nstorage: { directory: ${directory}/other }\n`,
    );
    await relay.start();
    const file = (await readdir(directory)).filter((name) => /^walcast-\d+\.yaml$/.test(name));
    const configuration = join(directory, file.toSorted().at(-1) ?? '');
    const token = ['--url', relay.url, '--token-file', join(directory, 'token')];
    for (const words of [
      ['config', '--print', '-c', configuration],
      ['config', '--print', '-c', inline],
      ['check', '-c', configuration],
      ['check', '-c', inline],
      ['init', '-c', inline],
      ['status', ...token],
      ['status', '--json', ...token],
      ['health', '--url', relay.url],
      ['slots', ...token],
    ]) {
      const { out, err } = await walcast(words, { workingDirectory: directory });
      say(words[0] ?? '', out + err);
    }
    expect(said.get('config')).toContain('users_file');
    expect(said.get('status')).toContain('standbys');
    say('command line', await readFile(`/proc/${relay.process.pid}/cmdline`, 'utf8'));
  });

  it('keeps everything to itself in its directory, too', async () => {
    const state = await readFile(join(relay.directory, 'walcast.auth-seed'), 'utf8');
    secrets.set('seed', /"seed": "([^"]{40,})"/.exec(state)?.[1] ?? '');
    await expectModes({ ofDirectories: 0o700, ofFiles: 0o600 });
  });

  it('lets the group read where the group may read its directory', async () => {
    await relay.stop('SIGINT');
    await rm(relay.directory, { recursive: true });
    await mkdir(relay.directory);
    await chmod(relay.directory, 0o750);
    await relay.start();
    await primary.query('SELECT txid_current()');
    await relay.waitForStatus('WAL is stored', ({ store }) => store.segments > 0);
    await expectModes({ ofDirectories: 0o750, ofFiles: 0o640 });
    await relay.stop('SIGINT');
    await chmod(relay.directory, 0o751);
    await relay.start({ wait: false });
    await relay.process.waitForLog(/has mode 0751, which lets other users in/);
  });

  async function expectModes(modes: { ofDirectories: number; ofFiles: number }): Promise<void> {
    const names = await readdir(relay.directory, { recursive: true });
    expect(names.some((name) => /^pg_wal\/[0-9A-F]{24}$/.test(name))).toBe(true);
    for (const name of names) {
      const info = await stat(join(relay.directory, name));
      if (info.isSocket()) continue;
      const wanted = info.isDirectory() ? modes.ofDirectories : modes.ofFiles;
      expect(info.mode & 0o7777, name).toBe(wanted);
    }
  }

  it('has said none of it', () => {
    say('log', relay.log.join('\n'));
    expect(said.get('log')).toContain('"level":"debug"');
    for (const secret of secrets.values()) expect(secret.length).toBeGreaterThan(20);
    const shown: string[] = [];
    for (const [who, text] of said) {
      for (const [what, secret] of secrets) {
        for (const form of formsOf(secret)) {
          if (text.includes(form)) shown.push(`${who} says ${what}: ${around(text, form)}`);
        }
      }
    }
    expect(shown).toEqual([]);
    // The search itself sees what is there.
    expect(formsOf('a b').some((form) => 'x a%20b y'.includes(form))).toBe(true);
  });
});

/** As it is, and as it may stand in other texts. */
function formsOf(secret: string): readonly string[] {
  const bytes = Buffer.from(secret);
  const base64 = bytes.toString('base64').replace(/.?=*$/, '');
  return [secret, encodeURIComponent(secret), bytes.toString('hex'), base64];
}

function around(text: string, form: string): string {
  const at = text.indexOf(form);
  return text.slice(Math.max(0, at - 80), at + 20);
}
