// What is added to a connection string, from where, and which source wins?
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import type { FileLook } from '../../src/pg/conninfo-defaults.ts';
import { CONNINFO_OPTIONS } from '../../src/pg/conninfo-options.ts';
import { parseConninfo } from '../../src/pg/conninfo.ts';
import type { Conninfo } from '../../src/pg/conninfo.ts';
import {
  processSurroundings,
  resolveUpstream,
  targetOf,
} from '../../src/relay/upstream-address.ts';
import type {
  UpstreamRefusal,
  UpstreamResolution,
  UpstreamSurroundings,
} from '../../src/relay/upstream-address.ts';

interface Around {
  readonly env?: Record<string, string>;
  /** Content by path, mode 0600; or content and mode, or null for what is no plain file. */
  readonly files?: Record<string, string | readonly [text: string | null, mode: number] | null>;
  readonly userName?: string | null;
}

function parsed(text: string): Conninfo {
  const conninfo = parseConninfo(text);
  if ('error' in conninfo) throw new Error(conninfo.error);
  return conninfo;
}

function surroundings({ env = {}, files = {}, userName = 'me' }: Around): UpstreamSurroundings {
  return {
    env,
    userId: 77,
    userName,
    homeDirectory: '/passwd/home',
    readFile: (path) => {
      const found = files[path];
      if (found === undefined) return { kind: 'absent' };
      if (found === null) return { kind: 'other' };
      const [text, mode] = typeof found === 'string' ? [found, 0o600] : found;
      return { kind: 'file', text, mode };
    },
  };
}

function outcome(text: string, around: Around = {}): UpstreamResolution | UpstreamRefusal {
  return resolveUpstream(parsed(text), surroundings(around));
}

function resolved(text: string, around: Around = {}): UpstreamResolution {
  const result = outcome(text, around);
  if ('error' in result) throw new Error(result.error);
  return result;
}

function refused(text: string, around: Around = {}): UpstreamRefusal {
  const result = outcome(text, around);
  if (!('error' in result)) throw new Error('it was accepted');
  return result;
}

describe('the environment', () => {
  it('gives what the string does not say, and nothing else', () => {
    const env = { PGHOST: 'e', PGPORT: '7', PGUSER: 'eu', PGPASSWORD: 'ep', PGSSLMODE: 'require' };
    expect(resolved('', { env }).target).toMatchObject({
      hosts: [{ host: 'e', address: 'e', port: 7, password: 'ep' }],
      user: 'eu',
      tls: { mode: 'require' },
    });
    const given = resolved('host=h port=8 user=u password=p sslmode=disable', { env });
    expect(given.target).toMatchObject({
      hosts: [{ host: 'h', port: 8, password: 'p' }],
      user: 'u',
      tls: { mode: 'disable' },
    });
  });

  it('has a variable for every option that has one in libpq', () => {
    const plain: Record<string, string> = {
      PGCONNECT_TIMEOUT: '3',
      PGPORT: '4',
      PGHOSTADDR: '127.0.0.1',
      PGREQUIREAUTH: 'md5',
      PGCHANNELBINDING: 'disable',
      PGSSLMODE: 'allow',
      PGSSLNEGOTIATION: 'postgres',
      PGSSLCERTMODE: 'disable',
      PGGSSENCMODE: 'prefer',
      PGTARGETSESSIONATTRS: 'primary',
      PGLOADBALANCEHOSTS: 'random',
      PGMINPROTOCOLVERSION: '3.0',
      PGMAXPROTOCOLVERSION: '3.2',
      PGSSLMINPROTOCOLVERSION: 'TLSv1.3',
      PGSSLMAXPROTOCOLVERSION: 'TLSv1.3',
    };
    const variables = [...CONNINFO_OPTIONS].filter(([name]) => !name.startsWith('service'));
    for (const [keyword, variable] of variables) {
      if (variable === null) continue;
      const value = plain[variable] ?? 'x';
      const { conninfo } = resolved('', { env: { [variable]: value } });
      expect([keyword, conninfo.given.get(keyword)]).toEqual([keyword, value]);
    }
  });

  it('is not asked for an option that the string gives as empty', () => {
    const env = { PGHOST: 'e', PGPASSWORD: 'p', PGUSER: 'u' };
    expect(resolved("host='' password='' user=''", { env }).target).toMatchObject({
      hosts: [{ host: 'localhost', password: null }],
      user: 'me',
    });
  });

  it('is heard in its old word for TLS, after PGSSLMODE', () => {
    expect(resolved('', { env: { PGREQUIRESSL: '1' } }).target.tls.mode).toBe('require');
    expect(resolved('', { env: { PGREQUIRESSL: '0' } }).target.tls.mode).toBe('prefer');
    const both = { PGREQUIRESSL: '1', PGSSLMODE: 'allow' };
    expect(resolved('', { env: both }).target.tls.mode).toBe('allow');
  });

  it('can put right what the string leaves open, or spoil it', () => {
    expect(resolved('port=1,2', { env: { PGHOST: 'a,b' } }).target.hosts).toHaveLength(2);
    const direct = resolved('sslnegotiation=direct', { env: { PGSSLMODE: 'require' } });
    expect(direct.target.tls.negotiation).toBe('direct');
    expect(refused('sslmode=prefer', { env: { PGSSLROOTCERT: 'system' } }).error).toContain(
      'weak sslmode "prefer"',
    );
  });

  it('is named when it is to blame', () => {
    expect(refused('', { env: { PGSSLMODE: 'on' } })).toEqual({
      error: 'invalid sslmode value: "on"',
      hint: 'The value comes from the environment variable PGSSLMODE.',
    });
    expect(refused('port=1,2').hint).toBe('Correct upstream.conninfo.');
  });

  it('need not name a user where the system knows one', () => {
    expect(resolved('').target.user).toBe('me');
    expect(resolved('user=u', { userName: null }).target.user).toBe('u');
    expect(refused('', { userName: null }).error).toBe('local user with ID 77 does not exist');
  });
});

describe('a service', () => {
  const FILE = '[s]\nhost=sh\nport=5\nsslmode=disable\n';

  it('comes after the string and before the environment', () => {
    const around = {
      env: { HOME: '/home/me', PGPORT: '6', PGUSER: 'eu' },
      files: { '/home/me/.pg_service.conf': FILE },
    };
    expect(resolved('service=s host=h', around).target).toMatchObject({
      hosts: [{ host: 'h', port: 5 }],
      user: 'eu',
    });
    const named = { ...around, env: { ...around.env, PGSERVICE: 's' } };
    expect(resolved('', named).target.hosts[0]).toMatchObject({ host: 'sh', port: 5 });
  });

  it.each([
    ['service=s', { PGSERVICEFILE: '/f' }, '/f'],
    ['service=s servicefile=/f', { PGSERVICEFILE: '/g' }, '/f'],
    ['service=s', {}, '/passwd/home/.pg_service.conf'],
    ['service=s', { HOME: '' }, '/passwd/home/.pg_service.conf'],
    ['service=s', { HOME: '/h' }, '/h/.pg_service.conf'],
    ['service=s', { PGSYSCONFDIR: '/c' }, '/c/pg_service.conf'],
    ['service=s', {}, '/etc/postgresql-common/pg_service.conf'],
    ['service=s', {}, '/etc/sysconfig/pgsql/pg_service.conf'],
  ])('%s with %j is found in %s', (text, env: Record<string, string>, path) => {
    expect(resolved(text, { env, files: { [path]: FILE } }).target.hosts[0]?.host).toBe('sh');
  });

  it('is looked for in the next file where the first does not have it', () => {
    const files = { '/h/.pg_service.conf': '[t]\nhost=x', '/c/pg_service.conf': FILE };
    const env = { HOME: '/h', PGSYSCONFDIR: '/c' };
    expect(resolved('service=s', { env, files }).target.hosts[0]?.host).toBe('sh');
  });

  it("is missed in libpq's words", () => {
    const error = (text: string, around: Around): string => refused(text, around).error;
    expect(error('service=s', {})).toBe('definition of service "s" not found');
    expect(error('service=s', { env: { PGSERVICEFILE: '/f' } })).toBe(
      'service file "/f" not found',
    );
    const unreadable: Around = { env: { HOME: '/h' }, files: { '/h/.pg_service.conf': [null, 0] } };
    expect(error('service=s', unreadable)).toBe('service file "/h/.pg_service.conf" not found');
    const folder: Around = { env: { PGSERVICEFILE: '/f' }, files: { '/f': null } };
    expect(error('service=s', folder)).toBe('definition of service "s" not found');
  });

  it('is named when it is to blame', () => {
    const files = { '/f': '[s]\nport=x' };
    expect(refused('service=s', { env: { PGSERVICEFILE: '/f' }, files })).toEqual({
      error: 'invalid integer value "x" for connection option "port"',
      hint: 'The value comes from the service "s" in /f.',
    });
  });
});

describe('the password file', () => {
  const LINES = 'a:1:replication:u:for a\nb:*:*:*:for b\nlocalhost:*:*:*:for here\n';

  it('has one password for each host, those of replication', () => {
    const { target } = resolved('host=a,b,c port=1 user=u dbname=other', {
      files: { '/passwd/home/.pgpass': LINES },
    });
    expect(target.hosts.map(({ password }) => password)).toEqual(['for a', 'for b', null]);
    const none = resolved('hostaddr=127.0.0.1', { files: { '/passwd/home/.pgpass': LINES } });
    expect(none.target.hosts[0]?.password).toBeNull();
    const sockets = resolved('host=/tmp,', { files: { '/passwd/home/.pgpass': LINES } });
    expect(sockets.target.hosts.map(({ password }) => password)).toEqual(['for here', 'for here']);
  });

  it('is looked up by the name of a host, not by its address', () => {
    const files = { '/passwd/home/.pgpass': LINES };
    const named = resolved('host=b hostaddr=127.0.0.1', { files });
    expect(named.target.hosts[0]?.password).toBe('for b');
  });

  it('may be named, and is not asked where a password is given', () => {
    const files = { '/p': LINES, '/q': 'b:*:*:*:other' };
    const env = { PGPASSFILE: '/p' };
    const password = (text: string): string | null | undefined =>
      resolved(text, { env, files }).target.hosts[0]?.password;
    expect(password('host=b')).toBe('for b');
    expect(password('host=b passfile=/q')).toBe('other');
    expect(password('host=b password=p')).toBe('p');
    expect(password("host=b password=''")).toBe('for b');
  });

  it.each([
    [null, 'password file "/p" is not a plain file'],
    [
      [LINES, 0o640] as const,
      'password file "/p" has group or world access; permissions should be u=rw (0600) or less',
    ],
    [[null, 0o600] as const, 'password file "/p" cannot be read'],
    [undefined, 'password file "/p" does not exist'],
  ])('%j is not used, and that is said once', (file, warning) => {
    const files = file === undefined ? {} : { '/p': file };
    const result = resolved('host=a,b passfile=/p', { files });
    expect(result.target.hosts.map(({ password }) => password)).toEqual([null, null]);
    expect(result.warnings).toEqual([warning]);
  });

  it.each([
    [0o640, true],
    [0o440, true],
    [0o660, false],
    [0o644, false],
  ])('with mode %o may belong to root: used is %j', (mode, isUsed) => {
    const readFile = (): FileLook => ({ kind: 'file', text: LINES, mode, isRoots: true });
    const result = resolveUpstream(parsed('host=b passfile=/p'), { ...surroundings({}), readFile });
    if ('error' in result) throw new Error(result.error);
    expect(result.target.hosts[0]?.password).toBe(isUsed ? 'for b' : null);
    expect(result.warnings).toHaveLength(isUsed ? 0 : 1);
  });

  it('need not be there unless it is named', () => {
    expect(resolved('host=a').warnings).toEqual([]);
  });
});

describe('the files of TLS', () => {
  it('have their defaults where those exist', () => {
    const at = (name: string): string => `/h/.postgresql/${name}`;
    const env = { HOME: '/h' };
    const all = { [at('root.crt')]: '', [at('root.crl')]: '', [at('postgresql.crt')]: '' };
    expect(resolved('', { env, files: all }).target.tls).toMatchObject({
      rootCert: at('root.crt'),
      crl: at('root.crl'),
      cert: at('postgresql.crt'),
      key: at('postgresql.key'),
    });
    expect(resolved('', { env }).target.tls).toMatchObject({
      rootCert: null,
      crl: null,
      cert: null,
      key: null,
    });
    const named = 'sslrootcert=/r sslcrldir=/d sslcert=/c sslkey=/k';
    expect(resolved(named, { env, files: all }).target.tls).toMatchObject({
      rootCert: '/r',
      crl: null,
      crlDirectory: '/d',
      cert: '/c',
      key: '/k',
    });
    expect(resolved('sslcert=/c', { env }).target.tls.key).toBe(at('postgresql.key'));
  });
});

describe('a warning', () => {
  it('is for what the string or the service says, not for the environment', () => {
    expect(resolved('krbsrvname=x').warnings).toHaveLength(1);
    expect(resolved('', { env: { PGKRBSRVNAME: 'x', PGCLIENTENCODING: 'x' } }).warnings).toEqual(
      [],
    );
  });
});

describe('the process', () => {
  let home = '';
  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'walcast-address-'));
  });
  afterEach(() => {
    rmSync(home, { recursive: true });
  });

  it('reads real files, plain ones only', () => {
    const { readFile } = processSurroundings({});
    const path = join(home, 'f');
    expect(readFile(path)).toEqual({ kind: 'absent' });
    expect(readFile(join(path, 'below'))).toEqual({ kind: 'absent' });
    expect(readFile('a\0b')).toEqual({ kind: 'absent' });
    expect(readFile(home)).toEqual({ kind: 'other' });
    expect(readFile('/dev/null')).toEqual({ kind: 'other' });
    writeFileSync(path, 'text', { mode: 0o600 });
    const isRoots = process.geteuid?.() === 0;
    expect(readFile(path)).toEqual({ kind: 'file', mode: 0o600, isRoots, text: 'text' });
    chmodSync(path, 0o644);
    expect(readFile(path)).toMatchObject({ mode: 0o644 });
    writeFileSync(path, Buffer.alloc(1024 * 1024 + 1));
    expect(readFile(path)).toMatchObject({ text: null });
  });

  it('puts discovered hosts in the place of the string’s, each with its own password', () => {
    const files = { '/f': 'pg-a:5433:*:*:a\npg-b:*:*:*:b\nseed:*:*:*:no' };
    const text =
      'host=seed hostaddr=10.9.9.9 passfile=/f load_balance_hosts=random sslmode=require';
    const hosts = [
      { host: 'pg-a', hostaddr: null, port: 5433 },
      { host: 'pg-b', hostaddr: null, port: 5432 },
      { host: 'pg-c', hostaddr: null, port: 5432 },
    ];
    const found = resolveUpstream(parsed(text), surroundings({ files }), hosts);
    if ('error' in found) throw new Error(found.error);
    expect(found.target.hosts).toEqual([
      { host: 'pg-a', address: 'pg-a', port: 5433, password: 'a' },
      { host: 'pg-b', address: 'pg-b', port: 5432, password: 'b' },
      { host: 'pg-c', address: 'pg-c', port: 5432, password: null },
    ]);
    expect(found.target).toMatchObject({ loadBalanceHosts: 'disable', tls: { mode: 'require' } });
    expect(resolved(text, { files }).target).toMatchObject({
      hosts: [{ host: 'seed', address: '10.9.9.9', password: 'no' }],
      loadBalanceHosts: 'random',
    });
  });

  it('hands out a target, or one line that says why not', () => {
    mkdirSync(join(home, '.postgresql'));
    writeFileSync(join(home, '.postgresql', 'root.crt'), '');
    writeFileSync(join(home, '.pgpass'), 'h:*:*:*:secret', { mode: 0o644 });
    const warnings: string[] = [];
    const target = targetOf(parsed('host=h'), { HOME: home }, (text) => warnings.push(text));
    expect(target.user).toBe(userInfo().username);
    expect(target.tls.rootCert).toBe(join(home, '.postgresql', 'root.crt'));
    expect(target.hosts[0]?.password).toBeNull();
    expect(warnings).toHaveLength(1);
    chmodSync(join(home, '.pgpass'), 0o600);
    expect(targetOf(parsed('host=h'), { HOME: home }).hosts[0]?.password).toBe('secret');
    const refuse = (): unknown => targetOf(parsed(''), { HOME: home, PGPORT: '0' });
    expect(refuse).toThrow(OperationalError);
    expect(refuse).toThrow('upstream.conninfo: invalid port number: "0"');
  });
});
