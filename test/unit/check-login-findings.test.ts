// Does what a server says, or refuses, become the finding that says what to change, whatever language it speaks?
import { describe, expect, test } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import type { WalcastError } from '../../src/base/errors.ts';
import type { Finding } from '../../src/check/finding.ts';
import { settingsOf } from '../../src/check/host-probe.ts';
import type { HostProbe } from '../../src/check/host-probe.ts';
import { standbyInstructions } from '../../src/check/init-lines.ts';
import { loginFinding } from '../../src/check/login-findings.ts';
import { hbaWord, quoteIdentifier, settingString, shellWord } from '../../src/check/quoting.ts';
import { hostFindings } from '../../src/check/server-findings.ts';
import { ConnectAttempts } from '../../src/walreceiver/connect-attempts.ts';
import { LoginRefusal } from '../../src/walreceiver/upstream-login.ts';
import { SAMPLE_PROBE } from '../support/host-probe.ts';

const CONTEXT = {
  applicationName: 'walcast',
  policy: null,
  slot: 'walcast',
  isRunning: false,
  wallMs: 0,
};

function refusal(sqlstate: string, message: string, routine: string): LoginRefusal {
  const fields = { severity: 'FATAL', sqlstate, message, detail: null, hint: null, routine };
  return new LoginRefusal(fields, false);
}

function found(failure: WalcastError, probe: Partial<HostProbe> = {}): Finding {
  return loginFinding({ ...SAMPLE_PROBE, ...probe, failure }, failure);
}

describe('a refusal', () => {
  test.each([
    ['Rolle »u« existiert nicht', 'InitializeSessionUserId', 'upstream.role'],
    ['Rolle »u« hat keine Berechtigung zum Einloggen', 'InitializeSessionUserId', 'upstream.role'],
    [
      'Ident-Authentifizierung für Benutzer »u« fehlgeschlagen',
      'auth_failed',
      'upstream.auth_method',
    ],
    [
      'Verbindung erfordert ein gültiges Client-Zertifikat',
      'ClientAuthentication',
      'upstream.client_certificate',
    ],
    [
      'kein pg_hba.conf-Eintrag für Replikationsverbindung von Host »10.1.2.3«, Benutzer »u«, keine Verschlüsselung',
      'ClientAuthentication',
      'upstream.hba',
    ],
    [
      'pg_hba.conf lehnt Replikationsverbindung ab für Host »fe80::a«, Benutzer »u«, SSL-Verschlüsselung',
      'ClientAuthentication',
      'upstream.hba',
    ],
  ] as const)('in German, %s', (message, routine, code) => {
    expect(found(refusal('28000', message, routine)).code).toBe(code);
  });

  test('of pg_hba.conf in another language still tells our address, and where the line goes', () => {
    const text =
      'pg_hba.conf rejette la connexion de réplication pour l’hôte « 10.1.2.3 », utilisateur « u »';
    expect(found(refusal('28000', text, 'ClientAuthentication')).fix).toBe(
      'Put this line first in pg_hba.conf of the server, then SELECT pg_reload_conf(): host replication u 10.1.2.3/32 scram-sha-256',
    );
  });

  test('for a role whose name says something is not taken for another one', () => {
    const user = 'x" does not exist';
    const text = `no pg_hba.conf entry for replication connection from host "::1", user "${user}", no encryption`;
    const { code, fix } = found(refusal('28000', text, 'ClientAuthentication'), { user });
    expect(code).toBe('upstream.hba');
    expect(fix).toContain('host replication "x"" does not exist" ::1/128 scram-sha-256');
  });

  test('for want of a client certificate asks for one, not for a way around it', () => {
    const attempts = new ConnectAttempts('prefer', false);
    const text = 'connection requires a valid client certificate';
    attempts.failed(refusal('28000', text, 'ClientAuthentication'));
    const plain = refusal(
      '28000',
      'no pg_hba.conf entry for replication connection from host "10.1.2.3", user "u", no encryption',
      'ClientAuthentication',
    );
    attempts.failed(plain);
    const both = attempts.failure(plain);
    if (!(both instanceof OperationalError)) throw new Error('no failure');
    expect(both.message).toContain('tried without TLS, too');
    const { code, fix } = found(both);
    expect(code).toBe('upstream.client_certificate');
    expect(fix).toContain('Set sslcert and sslkey');
    expect(fix).not.toContain('scram-sha-256');
  });

  test('of a certificate that is for somebody else says whose name it must have', () => {
    const text = 'certificate authentication failed for user "u"';
    const { code, fix } = found(refusal('28000', text, 'auth_failed'));
    expect(code).toBe('upstream.client_certificate');
    expect(fix).toContain('common name is u');
    expect(fix).toContain('pg_ident.conf');
  });

  test('of a method that fails at this machine names the address of this machine', () => {
    const text = 'Ident authentication failed for user "u"';
    const host = { ...SAMPLE_PROBE.host, address: '127.0.0.1' };
    expect(found(refusal('28000', text, 'auth_failed'), { host }).fix).toContain(
      'host replication u 127.0.0.1/32 scram-sha-256',
    );
  });

  test('for too many connections of the role is no matter of max_connections', () => {
    const text = 'zu viele Verbindungen von Rolle »u«';
    expect(found(refusal('53300', text, 'InitializeSessionUserId')).fix).toContain(
      'ALTER ROLE u CONNECTION LIMIT -1;',
    );
  });

  test('with a TLS alert about our certificate is about our certificate', () => {
    const failure = new OperationalError('TLS_CLIENT_CERTIFICATE_REFUSED', 'certificate expired');
    expect(found(failure).code).toBe('upstream.client_certificate');
  });

  test('of a standby without hot_standby says what to set', () => {
    const failure = refusal('57P03', 'the database system is not accepting connections', 'x');
    expect(found(failure).fix).toContain('hot_standby = on');
  });

  test('for want of walsenders leaves a wal_level that is high enough as it is', () => {
    const text = 'number of requested standby connections exceeds max_wal_senders (currently 0)';
    const settings = new Map([
      ['max_wal_senders', '0'],
      ['wal_level', 'logical'],
    ]);
    const { code, fix } = found(refusal('53300', text, 'InitProcess'), { settings });
    expect(code).toBe('upstream.max_wal_senders');
    expect(fix).not.toContain('wal_level');
  });
});

test.each([
  'UPSTREAM_CLOSED',
  'XX000',
  'TLS_WHATEVER',
  '53300',
  '28000',
  '57P01',
  'NEVER_HEARD_OF',
])('no error is without something to do: %s', (code) => {
  expect(found(new OperationalError(code, 'so it is')).fix).toMatch(/\w+ \w+/);
});

test('a socket that we may not reach is no server that does not run', () => {
  const cause = Object.assign(new Error('connect EACCES'), { code: 'EACCES' });
  const failure = new OperationalError('CONNECT_FAILED', 'permission denied', { cause });
  const host = { ...SAMPLE_PROBE.host, address: '/run/postgresql' };
  const { code, fix } = found(failure, { host });
  expect(code).toBe('upstream.unreachable');
  expect(fix).toContain('unix_socket_permissions');
  expect(fix).not.toContain('running');
});

test('the time of a host that does not answer is the one that was given, not what was left of it', () => {
  const failure = new OperationalError('CONNECT_TIMEOUT', 'could not connect within 1986.4158 ms');
  expect(found(failure, { timeoutMs: 2_000 }).message).toBe('could not connect within 2 s');
});

describe('what an earlier refusal hides', () => {
  const full = refusal('53300', 'exceeds max_wal_senders (currently 3)', 'InitProcess');
  const noLine = refusal(
    '28000',
    'no pg_hba.conf entry for host "10.1.2.3"',
    'ClientAuthentication',
  );
  const wrong = refusal('28P01', 'password authentication failed', 'auth_failed');
  const barred = refusal('28000', 'role "u" is not permitted to log in', 'InitializeSessionUserId');

  test.each([
    [full, wrong, ['upstream.max_wal_senders', 'upstream.password']],
    [full, barred, ['upstream.max_wal_senders', 'upstream.role']],
    [noLine, wrong, ['upstream.hba', 'upstream.password']],
    [noLine, noLine, ['upstream.hba']],
    [full, noLine, ['upstream.max_wal_senders']],
  ] as const)('is told, too', (failure, sqlProblem, codes) => {
    const findings = hostFindings({ ...SAMPLE_PROBE, failure, sqlProblem }, CONTEXT);
    expect(findings.map(({ code }) => code)).toEqual(codes);
  });
});

test('a slot that was idle for too long is not said to have fallen behind', () => {
  const slot = {
    type: 'physical',
    activePid: null,
    restartLsn: '0/1000000',
    walStatus: 'lost',
    invalidationReason: 'idle_timeout',
  };
  const sql = { hasReplicationAttribute: true, slotCount: 1, slot, walSenders: [] };
  const [finding] = hostFindings({ ...SAMPLE_PROBE, sql }, CONTEXT);
  expect(finding).toMatchObject({
    code: 'upstream.slot_lost',
    message: expect.stringContaining('idle_replication_slot_timeout'),
    fix: expect.stringContaining('Raise idle_replication_slot_timeout'),
  });
  expect(finding?.message).not.toContain('max_slot_wal_keep_size');
});

test('a server is asked for no setting that its major does not have: it would log an error', () => {
  expect(settingsOf('17.5 (Debian 17.5-1)')).not.toContain('idle_replication_slot_timeout');
  expect(settingsOf('18.0')).toContain('idle_replication_slot_timeout');
  expect(settingsOf('20devel')).toContain('idle_replication_slot_timeout');
  expect(settingsOf(undefined)).toContain('max_wal_senders');
});

test.each([true, false])('a server without slots is told to be one (SQL: %j)', (hasSql) => {
  const settings = new Map([['max_replication_slots', '0']]);
  const facts = { hasReplicationAttribute: true, slotCount: 0, slot: null, walSenders: [] };
  const sql = hasSql ? facts : null;
  const [finding] = hostFindings({ ...SAMPLE_PROBE, settings, sql }, CONTEXT);
  expect(finding).toMatchObject({
    severity: 'error',
    code: 'upstream.slots_full',
    message: expect.stringContaining('max_replication_slots = 0'),
    fix: expect.stringMatching(/^Set max_replication_slots = 10 .* restart it/),
  });
  expect(finding?.message).not.toContain('in use');
});

describe('a name', () => {
  test.each([
    ['replicator', 'replicator', 'replicator'],
    ['Repl', '"Repl"', '"Repl"'],
    ['a"b', '"a""b"', '"a""b"'],
    ['all', '"all"', '"all"'],
    ['user', '"user"', 'user'],
    ['samerole', 'samerole', '"samerole"'],
    ['+admins', '"+admins"', '"+admins"'],
    ['', '""', '""'],
  ])('%j is quoted where SQL and pg_hba.conf need it', (name, sql, hba) => {
    expect([quoteIdentifier(name), hbaWord(name)]).toEqual([sql, hba]);
  });

  test('is one word for the shell, and one string for postgresql.conf', () => {
    expect(shellWord("a'b $x")).toBe(`'a'\\''b $x'`);
    expect(shellWord('/etc/walcast.yaml')).toBe('/etc/walcast.yaml');
    expect(settingString(String.raw`a'b\c`)).toBe(String.raw`'a''b\\c'`);
  });

  test('with a quote, a dollar and a backslash comes through the lines for a standby', () => {
    const lines = standbyInstructions({ host: '::1', port: 1, user: 'a\'b"$(c)\\' }).flatMap(
      (part) => part.lines,
    );
    const user = String.raw`user='\''a\'\''b"$(c)\\'\''`;
    expect(lines[0]).toContain(`-d 'host=::1 port=1 ${user} application_name=standby_a' -D`);
    expect(lines[1]).toBe(
      String.raw`primary_conninfo = 'host=::1 port=1 user=''a\\''b"$(c)\\\\'' application_name=standby_a'`,
    );
  });
});
