// What check says of access rules, users and TLS: who is kept out without anybody meaning it, and what is too weak.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { authFindings } from '../../src/check/auth-findings.ts';
import { loadConfig } from '../../src/config/load.ts';

const SECRET = `SCRAM-SHA-256$4096:c2FsdA==$${'A'.repeat(43)}=:${'B'.repeat(43)}=`;
const MD5 = `md5${'0'.repeat(32)}`;

const directory = mkdtempSync(join(tmpdir(), 'walcast-auth-'));

afterAll(() => rmSync(directory, { recursive: true }));

interface Given {
  readonly hba: string;
  readonly users?: Readonly<Record<string, string>>;
  readonly set?: Readonly<Record<string, string>>;
  readonly tls?: string;
}

/** Codes and places of what is found, in order. */
function found({ hba, users = {}, set = {}, tls }: Given): string[] {
  const lines = Object.entries(users).map(([name, secret]) => `"${name}" "${secret}"`);
  const yaml = `listen: [ { address: "0.0.0.0:5432"${tls === undefined ? '' : `, tls: { ${tls} }`} } ]`;
  writeFileSync(join(directory, 'walcast.yaml'), yaml);
  const flags = Object.entries({
    'upstream.conninfo': 'host=a',
    'auth.hba': hba,
    ...(lines.length === 0 ? {} : { 'auth.users': lines.join('\n') }),
    ...set,
  }).map(([path, text]) => ({ path, text, flag: '--set' }));
  const loaded = loadConfig({
    flags,
    env: {},
    file: 'walcast.yaml',
    workingDirectory: directory,
  });
  if ('errors' in loaded) throw new Error(JSON.stringify(loaded.errors));
  return authFindings(loaded.config).map(({ code, subject }) => `${code} ${subject}`);
}

const TLS = 'cert: a, key: b';

describe('a rule', () => {
  test('below one that takes all of its connections is told', () => {
    const hba = [
      'hostssl all all 10.0.0.0/8 reject',
      'hostssl postgres anne 10.1.0.0/16 trust',
      'hostssl replication anne 10.1.0.0/16 trust',
      'hostssl all all 11.0.0.0/8 reject',
      'hostssl all "all" 10.0.0.0/7 trust',
    ].join('\n');
    expect(found({ hba, tls: TLS })).toEqual(['auth.unreachable auth.hba, line 2']);
  });

  test.each([
    ['host all all all reject', 'hostssl a b 10.0.0.0/8 reject', true],
    ['hostssl all all all reject', 'host a b 10.0.0.0/8 reject', false],
    ['local all all reject', 'local a b reject', true],
    ['host all all all reject', 'local all all reject', false],
    ['host all all 10.0.0.0/8 reject', 'host all all 10.0.0.0/7 reject', false],
    ['host all all 10.0.0.0/8 reject', 'host all all ::/8 reject', false],
    ['host all all samenet reject', 'host all all samenet reject', true],
    ['host all all samenet reject', 'host all all samehost reject', false],
    ['host all all a.example reject', 'host all all a.example reject', true],
    ['host a all all reject', 'host a,c all all reject', false],
    ['host a,c all all reject', 'host c,a b all reject', true],
    ['host /^a all all reject', 'host a all all reject', false],
    ['host /^a all all reject', 'host /^a all all reject', true],
    ['host all all all reject', 'host replication all all reject', false],
    ['host sameuser all all reject', 'host "sameuser" all all reject', false],
  ])('%s above %s: %s', (above, below, isUnreachable) => {
    const codes = found({ hba: `${above}\n${below}`, tls: TLS });
    expect(codes.includes('auth.unreachable auth.hba, line 2')).toBe(isUnreachable);
  });

  test('for TLS where none is offered, and for certificates where nobody is asked for one', () => {
    const hba = 'hostssl replication all 10.0.0.0/8 cert';
    expect(found({ hba })).toEqual(['auth.hostssl auth.hba, line 1']);
    expect(found({ hba, tls: TLS })).toEqual(['auth.client_cert auth.hba, line 1']);
    expect(found({ hba, tls: `${TLS}, ca: c, client_cert: none` })).toEqual([
      'auth.client_cert auth.hba, line 1',
    ]);
    expect(found({ hba, tls: `${TLS}, ca: c` })).toEqual(['auth.rules auth.hba']);
  });

  test('with a password for users that have no secret', () => {
    const hba = 'hostssl replication anne,bert all scram-sha-256';
    expect(found({ hba, tls: TLS })).toEqual(['auth.no_secret auth.hba, line 1']);
    expect(found({ hba, tls: TLS, users: { anne: SECRET } })).toEqual([
      'auth.no_secret auth.hba, line 1',
    ]);
    expect(found({ hba, tls: TLS, users: { anne: SECRET, bert: SECRET } })).toEqual([
      'auth.rules auth.hba',
    ]);
    const set = { 'auth.auth_query': 'SELECT * FROM f($1)' };
    expect(found({ hba, tls: TLS, set })).toEqual(['auth.rules auth.hba']);
  });

  test('for SCRAM does not take an md5 secret, one for md5 takes both, and md5 is told in any case', () => {
    const users = { anne: MD5 };
    expect(found({ hba: 'hostssl all anne all scram-sha-256', tls: TLS, users })).toEqual([
      'auth.no_secret auth.hba, line 1',
      'auth.md5 auth.users',
    ]);
    expect(found({ hba: 'hostssl all anne all md5', tls: TLS, users })).toEqual([
      'auth.md5 auth.hba, line 1',
      'auth.md5 auth.users',
    ]);
    const scram = { anne: SECRET };
    expect(found({ hba: 'hostssl all anne all md5', tls: TLS, users: scram })).toEqual([
      'auth.md5 auth.hba, line 1',
    ]);
  });
});

describe('an address without TLS', () => {
  test.each([
    ['host replication all 10.0.0.0/8 trust', true],
    ['hostnossl replication all all trust', true],
    ['host replication all 0.0.0.0/0 trust', true],
    ['host replication all replica.example trust', true],
    ['host replication all all reject', false],
    ['host replication all 127.0.0.1/32 trust', false],
    ['host replication all ::1/128 trust', false],
    ['host replication all samehost trust', false],
    ['host replication all localhost trust', false],
    ['local replication all trust', false],
  ])('that is opened by %s is told: %s', (hba, isTold) => {
    const clear = 'listen.clear_text 0.0.0.0:5432';
    expect(found({ hba }).includes(clear)).toBe(isTold);
    expect(found({ hba, tls: TLS })).not.toContain(clear);
  });
});

test('without rules there is nothing to say here', () => {
  expect(found({ hba: '# nobody' })).toEqual([]);
});
