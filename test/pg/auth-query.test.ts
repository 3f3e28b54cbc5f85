// Users that a real upstream knows: let in behind walcast with the passwords they have there, as long as they have them.
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { spannedMajors } from '../support/requirements.ts';

/** The function that the documentation gives. */
const FUNCTION = `
  CREATE FUNCTION walcast_auth(wanted text)
    RETURNS TABLE (name text, secret text, valid_until timestamptz, may_replicate boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
      SELECT rolname::text, rolpassword, rolvaliduntil, rolreplication OR rolsuper
      FROM pg_authid WHERE rolname = wanted AND rolcanlogin
    $$;
  REVOKE ALL ON FUNCTION walcast_auth(text) FROM PUBLIC;
  GRANT EXECUTE ON FUNCTION walcast_auth(text) TO walcast_login`;

/** Roles, each with its own name for a password, and what distinguishes it. */
const ROLES: Readonly<Record<string, string>> = {
  standby: 'REPLICATION',
  changes: 'REPLICATION',
  expired: "REPLICATION VALID UNTIL '2001-01-01'",
  expires: "REPLICATION VALID UNTIL '2001-01-01'",
  forever: "REPLICATION VALID UNTIL 'infinity'",
  later: "REPLICATION VALID UNTIL '9999-12-31'",
  reader: '',
  nologin: 'REPLICATION NOLOGIN',
  [`o'Brien"; DROP TABLE x; --`]: 'REPLICATION',
  'Ünïcödé $1 \\': 'REPLICATION',
};

const HBA =
  'host replication old 127.0.0.1/32 md5\nhost replication all 127.0.0.1/32 scram-sha-256\n';

describe.each(spannedMajors())('PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let relay: WalcastRelay;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, {
      major,
      name: 'primary',
      settings: { password_encryption: 'scram-sha-256', log_statement: 'all' },
    });
    await primary.start();
    await primary.query(`CREATE ROLE walcast_login LOGIN REPLICATION; ${FUNCTION}`);
    const roles = Object.entries(ROLES).map(
      ([name, attributes]) =>
        `CREATE ROLE ${identifier(name)} ${attributes.includes('NOLOGIN') ? '' : 'LOGIN'} ${attributes} PASSWORD ${literal(name)}`,
    );
    await primary.query(roles.join(';'));
    await primary.query(`CREATE ROLE bare LOGIN REPLICATION; CREATE ROLE old LOGIN REPLICATION;
      SET password_encryption = 'md5'; ALTER ROLE old PASSWORD 'old'`);
    relay = await createRelay(workspace, {
      name: 'walcast',
      upstream: () => primary.target(),
      settings: {
        upstream: {
          conninfo: `host=127.0.0.1 port=${primary.port} user=walcast_login sslmode=disable`,
        },
        auth: {
          hba: HBA,
          auth_query: 'SELECT * FROM walcast_auth($1)',
          users: { own: 'of walcast', standby: 'of walcast' },
        },
        log: { level: 'debug' },
      },
    });
    await relay.start();
  });

  afterAll(async () => {
    await workspace.close();
  });

  /** What became of a login: `in`, or the SQLSTATE with the server's text. */
  async function login(
    user: string,
    password: string = user,
    at: { host: string; port: number } = relay,
  ): Promise<string> {
    const { host, port } = at;
    try {
      await using session = await openSqlSession({
        host,
        port,
        user,
        password,
        database: 'replication',
        replication: true,
        applicationName: 'of a client',
      });
      await session.query('IDENTIFY_SYSTEM');
      return 'in';
    } catch (error) {
      const { code, message } = error as { code: string; message: string };
      return `${code} ${message.slice(message.lastIndexOf(': ') + 2)}`;
    }
  }

  function refusal(user: string): string {
    return expect.stringMatching(
      new RegExp(`^28P01 .*password authentication failed for user "${user}"`),
    ) as string;
  }

  it('a user gets in with the password of the upstream, whatever the name is made of', async () => {
    for (const name of Object.keys(ROLES).slice(-2)) expect(await login(name)).toBe('in');
    expect(await primary.value('SELECT count(*) FROM walcast_auth($$forever$$)')).toBe('1');
    expect(await login('changes')).toBe('in');
    expect(await login('old')).toBe('in');
  });

  it('a user of its own wins over one of the upstream', async () => {
    expect(await login('own', 'of walcast')).toBe('in');
    expect(await login('standby', 'of walcast')).toBe('in');
    expect(await login('standby', 'standby')).toEqual(refusal('standby'));
  });

  it('whoever has no such password is refused in the same words', async () => {
    for (const user of ['old', 'bare', 'nologin', 'expired', 'nobody']) {
      expect(await login(user, 'wrong'), user).toEqual(refusal(user));
    }
    for (const user of ['bare', 'nologin', 'expired', 'nobody']) {
      expect(await login(user, user), user).toEqual(refusal(user));
    }
  });

  it('VALID UNTIL is honoured', async () => {
    expect(await login('forever')).toBe('in');
    expect(await login('later')).toBe('in');
    expect(await login('expires')).toEqual(refusal('expires'));
    await primary.query(`ALTER ROLE expires VALID UNTIL 'infinity'`);
    expect(await login('expires')).toBe('in');
  });

  it('a role without REPLICATION is refused after its password was right, as by the server', async () => {
    const answer = await login('reader');
    expect(answer).toMatch(/^42501 /);
    expect(await login('reader', 'reader', primary.target())).toBe(answer);
    expect(await login('reader', 'wrong')).toEqual(refusal('reader'));
  });

  it('a changed password works at once, and the old one no more', async () => {
    expect(await login('changes')).toBe('in');
    await primary.query(`ALTER ROLE changes PASSWORD 'new'`);
    const first = await login('changes', 'new');
    expect(first === 'in' ? refusal('changes') : first).toEqual(refusal('changes'));
    expect(await login('changes', 'new')).toBe('in');
    expect(await login('changes', 'changes')).toEqual(refusal('changes'));
  });

  it('asks over one session with a name of its own, and sends nothing of a client but the name', async () => {
    await login('nobody at all');
    const sessions = await primary.query(
      `SELECT application_name, usename, datname, query FROM pg_stat_activity
       WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`,
    );
    expect(sessions).toEqual([
      ['walcast_auth', 'walcast_login', 'postgres', 'SELECT * FROM walcast_auth($1)'],
    ]);
    const walsenders = await primary.query('SELECT application_name FROM pg_stat_replication');
    expect(walsenders).toEqual([['walcast']]);
    expect(await readFile(primary.logFile, 'utf8')).not.toContain('of a client');
  });

  it('keeps the seed of unknown salts for itself, over restarts', async () => {
    const file = join(relay.directory, 'walcast.auth-seed');
    const before = await stat(file);
    expect(before.mode & 0o7777).toBe(0o600);
    await relay.stop('SIGINT');
    await relay.start();
    expect((await stat(file)).mtimeMs).toBe(before.mtimeMs);
  });

  it('while the upstream is gone, whoever it knew gets in, and nobody else does', async () => {
    expect(await login('forever')).toBe('in');
    const soon = new Date(Date.now() + 6_000).toISOString();
    await primary.query(`ALTER ROLE later VALID UNTIL '${soon}'`);
    expect(await login('later')).toBe('in');
    await primary.stop('immediate');
    expect(await login('forever')).toBe('in');
    expect(await login('forever', 'wrong')).toEqual(refusal('forever'));
    expect(await login('forever')).toBe('in');
    expect(await login('changes', 'new')).toEqual(refusal('changes'));
    expect(await login('nobody')).toEqual(refusal('nobody'));
    expect(await login('own', 'of walcast')).toBe('in');
    await expect.poll(() => login('later'), { timeout: 40_000 }).toEqual(refusal('later'));
    await primary.start();
    await expect.poll(() => login('changes', 'new'), { timeout: 40_000 }).toBe('in');
    const said = relay.log.filter((line) => line.includes('auth_query: the upstream could not'));
    expect(said.length).toBeGreaterThan(0);
  });
});

function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function literal(text: string): string {
  return `$literal$${text}$literal$`;
}
