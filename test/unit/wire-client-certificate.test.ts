// Whose certificate it is, in the words that OpenSSL has for it.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeClientCertificate } from '../../src/wire/client-certificate.ts';
import { ProtocolViolation } from '../../src/base/errors.ts';
import { makeCertificate } from '../support/certificates.ts';
import { requires } from '../support/requirements.ts';

const SUBJECTS = [
  '/CN=replicator',
  '/C=DE/ST=Berlin/L=Berlin/O=Example, Inc./OU=WAL/CN=replicator',
  '/CN=first/CN=second',
  '/DC=org/DC=example/UID=u1/CN=a+emailAddress=a@example.org',
  '/O= leading and trailing /CN=#hash',
  '/CN=quote" back\\\\slash <angle> semi;colon',
  '/CN=Größe Ω',
  '/GN=Given/SN=Sur/serialNumber=12/title=Dr/CN=x',
  '/street=Way 1/postalCode=1234/dnQualifier=q/pseudonym=p/initials=i/CN=y',
  '/2.999.1=unknown/CN=z',
];

const witness = requires('openssl');

witness.describe('a client’s certificate, as OpenSSL reads it', () => {
  let directory: string;

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'walcast-dn-'));
    writeFileSync(
      join(directory, 'openssl.cnf'),
      '[req]\ndistinguished_name=dn\nstring_mask=utf8only\n[dn]\n',
    );
    openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', 'k');
  });

  afterAll(() => rmSync(directory, { recursive: true }));

  function openssl(...args: string[]): string {
    return execFileSync('openssl', args, {
      cwd: directory,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  }

  function issue(subject: string): Buffer {
    const made = ['-x509', '-new', '-key', 'k', '-config', 'openssl.cnf', '-days', '2'];
    openssl('req', ...made, '-utf8', '-multivalue-rdn', '-subj', subject, '-out', 'c');
    return new X509Certificate(readFileSync(join(directory, 'c'))).raw;
  }

  it.each(SUBJECTS)('names %s as OpenSSL does', (subject) => {
    const peer = decodeClientCertificate(issue(subject));
    const shown = openssl('x509', '-in', 'c', '-noout', '-subject', '-nameopt', 'RFC2253');
    expect(`subject=${peer.distinguishedName}\n`).toBe(shown);
    const serial = openssl('x509', '-in', 'c', '-noout', '-serial').trim().split('=')[1] ?? '';
    expect(peer.serial).toBe(BigInt(`0x${serial}`).toString());
  });

  it('takes the first of two common names, and none where there is none', () => {
    expect(decodeClientCertificate(issue('/CN=first/CN=second')).commonName).toBe('first');
    expect(decodeClientCertificate(issue('/O=nobody')).commonName).toBeNull();
  });
});

describe('a client’s certificate', () => {
  it('names its issuer in one line', () => {
    const issuer = makeCertificate({ commonName: 'Größe, Inc.', isAuthority: true });
    const { der } = makeCertificate({ commonName: 'x', issuer });
    expect(decodeClientCertificate(der).issuer).toBe('/CN=Größe\\, Inc.');
  });

  it('with a NUL in its name is refused', () => {
    const { der } = makeCertificate({ commonName: Buffer.from('replicator\0.evil') });
    expect(() => decodeClientCertificate(der)).toThrow(
      "SSL certificate's common name contains embedded null",
    );
  });

  it('has no common name where that is no UTF-8: others of its kind would be the same user', () => {
    for (const name of ['M\xfcller', 'M\xf6ller']) {
      const { der } = makeCertificate({ commonName: Buffer.from(name, 'latin1') });
      expect(decodeClientCertificate(der).commonName).toBeNull();
    }
    const { der } = makeCertificate({ commonName: '\ufeffMüller' });
    expect(decodeClientCertificate(der).commonName).toBe('\ufeffMüller');
  });

  it('that is no certificate is a violation of the protocol, wherever it is broken', () => {
    const { der } = makeCertificate({ commonName: 'replicator' });
    for (let length = 0; length < der.length; length += 1) {
      const cut = (): unknown => decodeClientCertificate(der.subarray(0, length));
      expect(cut).toThrow(ProtocolViolation);
    }
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.nat(255), (offset, byte) => {
        const bent = Buffer.from(der);
        bent[offset] = byte;
        try {
          decodeClientCertificate(bent);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolViolation);
        }
      }),
    );
  });
});
