// Which host a certificate is for, by libpq's rules: the cases are those of PostgreSQL's own src/test/ssl.
import { describe, expect, it } from 'vitest';
import { hostNameProblem, isServerName } from '../../src/net/tls-host-name.ts';
import { decodeServerCertificate } from '../../src/wire/server-certificate.ts';
import { makeCertificate } from '../support/certificates.ts';
import type { CertificateOptions } from '../support/certificates.ts';

function problem(host: string, options: CertificateOptions): string | null {
  return hostNameProblem(decodeServerCertificate(makeCertificate(options).der), host);
}

const V4 = Buffer.of(192, 0, 2, 1);
const V6 = Buffer.from('20010db8000000000000000000000001', 'hex');

describe('a certificate is for', () => {
  it.each<[string, CertificateOptions]>([
    ['pg-a', { commonName: 'pg-a' }],
    ['PG-a', { commonName: 'pg-A' }],
    ['pg-a', { dns: ['pg-b', 'pg-a'] }],
    ['foo.wildcard.test', { dns: ['*.wildcard.test'] }],
    ['foo.wildcard.test', { commonName: '*.wildcard.test' }],
    ['192.0.2.1', { ip: [V4] }],
    ['2001:db8::1', { ip: [V6] }],
    ['2001:DB8:0:0:0:0:0:1', { ip: [V6] }],
    // Without an entry of its own kind, the common name counts.
    ['192.0.2.1', { commonName: '192.0.2.1' }],
    ['192.0.2.1', { commonName: '192.0.2.1', dns: ['pg-a'] }],
    ['192.0.2.1', { dns: ['192.0.2.1'] }],
    ['pg-a', { commonName: 'pg-a', ip: [V4] }],
    ['grün.test', { dns: [Buffer.from('grün.test')] }],
    ['sub.grün.test', { dns: ['*.grün.test'] }],
  ])('%s with %j', (host, options) => {
    expect(problem(host, options)).toBeNull();
  });
});

describe('a certificate is not for', () => {
  const wildcard = { dns: ['*.wildcard.test'] };
  it.each<[string, CertificateOptions, string]>([
    [
      'wronghost.test',
      { commonName: 'common-name.test' },
      'server certificate for "common-name.test" does not match host name "wronghost.test"',
    ],
    [
      'wronghost.test',
      { commonName: 'x', dns: ['dns1.test', 'dns2.test', '*.wildcard.test'] },
      'server certificate for "dns1.test" (and 2 other names) does not match host name "wronghost.test"',
    ],
    [
      'pg-a',
      { commonName: 'pg-a', dns: ['x', 'y'] },
      'server certificate for "x" (and 1 other name) does not match host name "pg-a"',
    ],
    [
      'deep.sub.wildcard.test',
      wildcard,
      'server certificate for "*.wildcard.test" does not match host name "deep.sub.wildcard.test"',
    ],
    [
      'wildcard.test',
      wildcard,
      'server certificate for "*.wildcard.test" does not match host name "wildcard.test"',
    ],
    ['a.test', { dns: ['*'] }, 'server certificate for "*" does not match host name "a.test"'],
    [
      '192.0.2.2',
      { commonName: '192.0.2.2', ip: [V4] },
      'server certificate for "192.0.2.1" does not match host name "192.0.2.2"',
    ],
    [
      '192.0.2.1',
      { commonName: '*.0.2.1', dns: ['*.0.2.1'] },
      'server certificate for "*.0.2.1" (and 1 other name) does not match host name "192.0.2.1"',
    ],
    [
      'ü.test',
      { dns: [Buffer.from('ü.test', 'latin1')] },
      'server certificate for "ü.test" does not match host name "ü.test"',
    ],
    [
      'pg-a.test.',
      { dns: ['pg-a.test', '*.test'] },
      'server certificate for "pg-a.test" (and 1 other name) does not match host name "pg-a.test."',
    ],
    [
      'pg-a',
      { commonName: Buffer.from('pg-a', 'utf16le').swap16() },
      "SSL certificate's name contains embedded null",
    ],
    ['pg-a', {}, "could not get server's host name from server certificate"],
    ['', { commonName: '' }, 'host name must be specified for a verified SSL connection'],
    [
      'pg-a',
      { commonName: Buffer.from('pg-a\0.evil.test') },
      "SSL certificate's name contains embedded null",
    ],
    [
      'pg-a',
      { dns: [Buffer.from('pg-a\0.evil.test')] },
      "SSL certificate's name contains embedded null",
    ],
    [
      '192.0.2.1',
      { ip: [Buffer.of(192, 0, 2)] },
      'certificate contains IP address with invalid length 3',
    ],
  ])('%j with %j', (host, options, text) => {
    expect(problem(host, options)).toBe(text);
  });
});

it('a server is told the name that is asked for unless that is an address', () => {
  expect(['pg-a', 'a.b', '10.0.0.1', '::1', ''].map(isServerName)).toEqual([
    true,
    true,
    false,
    false,
    false,
  ]);
});
