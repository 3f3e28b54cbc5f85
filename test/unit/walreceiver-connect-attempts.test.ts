// The order in which TLS and plain text are tried, for every sslmode and every way to fail. (libpq_encryption's table)
import { describe, expect, it } from 'vitest';
import { OperationalError, ProtocolViolation } from '../../src/base/errors.ts';
import { TlsFailure } from '../../src/net/tls-errors.ts';
import { SSL_MODES } from '../../src/pg/conninfo.ts';
import type { SslMode } from '../../src/pg/conninfo.ts';
import { ConnectAttempts } from '../../src/walreceiver/connect-attempts.ts';
import { connectionEnded } from '../../src/walreceiver/connection-errors.ts';
import { LoginRefusal } from '../../src/walreceiver/upstream-login.ts';

function refusal(sqlstate: string, message = 'no', isAuthenticated = false): LoginRefusal {
  const fields = { severity: 'FATAL', sqlstate, message, detail: null, hint: null, routine: null };
  return new LoginRefusal(fields, isAuthenticated);
}

const NO_RULE = refusal('28000', 'no pg_hba.conf entry');
const WRONG_PASSWORD = refusal('28P01', 'password authentication failed');
const UNKNOWN_CA = new TlsFailure('TLS_UNKNOWN_CA', 'unknown', { hint: 'name it' });

/** What is tried when every attempt fails with `errors` in turn. */
function tried(mode: SslMode, errors: readonly unknown[]): string[] {
  const attempts = new ConnectAttempts(mode, false);
  const order: string[] = [attempts.current];
  for (const error of errors) {
    if (!attempts.failed(error)) break;
    order.push(attempts.current);
  }
  return order;
}

describe('when the server refuses who asks', () => {
  it.each<[SslMode, string[]]>([
    ['disable', ['plain']],
    ['allow', ['plain', 'tls']],
    ['prefer', ['tls', 'plain']],
    ['require', ['tls']],
    ['verify-ca', ['tls']],
    ['verify-full', ['tls']],
  ])('sslmode=%s tries %j', (mode, order) => {
    for (const error of [NO_RULE, WRONG_PASSWORD]) {
      expect(tried(mode, [error, error, error])).toEqual(order);
    }
  });
});

describe('the other way is not tried', () => {
  it.each<[string, unknown]>([
    ['a server that starts', refusal('57P03')],
    ['one that let us in and refused then', refusal('42501', 'no', true)],
    ['a server that breaks the protocol', new ProtocolViolation('08P01', 'x')],
    ['one that cannot be reached', new OperationalError('CONNECT_FAILED', 'x')],
    ['bytes between answer and handshake', new OperationalError('TLS_UNENCRYPTED_DATA', 'x')],
    ['a password that is missing', new OperationalError('PASSWORD_MISSING', 'x')],
    [
      'an alert behind the handshake of TLS 1.3',
      connectionEnded('pg-a:5432', 'ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED', true),
    ],
    ['a mistake of ours', new Error('x')],
  ])('after %s', (_name, error) => {
    for (const mode of SSL_MODES) {
      const attempts = new ConnectAttempts(mode, false);
      expect(attempts.failed(error)).toBe(false);
      expect(attempts.failure(error)).toBe(error);
    }
  });
});

it('a Unix socket has no TLS, whatever sslmode says', () => {
  for (const mode of SSL_MODES) {
    const attempts = new ConnectAttempts(mode, true);
    expect([attempts.current, attempts.mayDoWithout]).toEqual(['plain', false]);
    expect(attempts.failed(NO_RULE)).toBe(false);
  }
});

it('only sslmode=prefer takes a server without TLS, and has nothing left to try then', () => {
  const may = SSL_MODES.filter((mode) => new ConnectAttempts(mode, false).mayDoWithout);
  expect(may).toEqual(['prefer']);
  const attempts = new ConnectAttempts('prefer', false);
  attempts.plainTaken();
  expect(attempts.current).toBe('plain');
  expect(attempts.failed(NO_RULE)).toBe(false);
  const second = new ConnectAttempts('allow', false);
  expect(second.failed(NO_RULE)).toBe(true);
  expect([second.current, second.mayDoWithout]).toEqual(['tls', false]);
});

describe('what is reported of two attempts is', () => {
  const notOffered = new OperationalError('TLS_NOT_OFFERED', 'none');
  it.each<[SslMode, [OperationalError, OperationalError], string, RegExp]>([
    [
      'prefer',
      [UNKNOWN_CA, NO_RULE],
      'TLS_UNKNOWN_CA',
      /unknown; tried without TLS, too: .*no pg_hba/,
    ],
    ['prefer', [UNKNOWN_CA, WRONG_PASSWORD], '28P01', /failed.*; tried with TLS, too: unknown/],
    ['prefer', [WRONG_PASSWORD, NO_RULE], '28P01', /failed.*; tried without TLS, too: .*no pg_hba/],
    ['prefer', [NO_RULE, WRONG_PASSWORD], '28P01', /failed.*; tried with TLS, too: .*no pg_hba/],
    ['allow', [NO_RULE, notOffered], '28000', /no pg_hba.*; tried with TLS, too: none/],
    ['allow', [NO_RULE, UNKNOWN_CA], 'TLS_UNKNOWN_CA', /unknown; tried without TLS, too/],
  ])('with sslmode=%s the one that says what to change', (mode, [first, second], code, text) => {
    const attempts = new ConnectAttempts(mode, false);
    expect(attempts.failed(first)).toBe(true);
    expect(attempts.failed(second)).toBe(false);
    const error = attempts.failure(second);
    expect(error).toMatchObject({ code, isRetryable: true, hint: expect.any(String) });
    expect(error).toMatchObject({ message: expect.stringMatching(text) });
  });
});
