// What is read from a server's certificate: the names it is for, and the hash that a login is bound to it by.
import { createHash, X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OperationalError, ProtocolViolation } from '../../src/base/errors.ts';
import {
  decodeServerCertificate,
  serverEndPointBinding,
} from '../../src/wire/server-certificate.ts';
import { makeCertificate } from '../support/certificates.ts';
import type { SignatureKind } from '../support/certificates.ts';

describe('a server certificate', () => {
  it('gives its names as they are written in it', () => {
    const made = makeCertificate({
      commonName: 'pg-a',
      dns: ['pg-a.example.com', '*.example.org'],
      ip: [Buffer.of(10, 0, 0, 1), Buffer.alloc(16, 1)],
    });
    const read = decodeServerCertificate(made.der);
    expect(Buffer.from(read.commonName ?? []).toString()).toBe('pg-a');
    const names = read.alternativeNames.map(({ kind, value }) => [kind, Buffer.from(value)]);
    expect(names).toEqual([
      ['dns', Buffer.from('pg-a.example.com')],
      ['dns', Buffer.from('*.example.org')],
      ['ip', Buffer.of(10, 0, 0, 1)],
      ['ip', Buffer.alloc(16, 1)],
    ]);
    // The writer of the tests makes what others read, too.
    expect(new X509Certificate(made.pem).subjectAltName).toContain('DNS:pg-a.example.com');
  });

  it('may have no name at all', () => {
    const read = decodeServerCertificate(makeCertificate().der);
    expect(read).toMatchObject({ commonName: null, alternativeNames: [] });
  });

  it('with more names than are looked at is refused: behind one left out, the common name would count', () => {
    const many = Array.from({ length: 1_000 }, () => Buffer.of(10, 0, 0, 1));
    const read = decodeServerCertificate(makeCertificate({ ip: many }).der);
    expect(read.alternativeNames).toHaveLength(1_000);
    const { der } = makeCertificate({ commonName: 'pg', dns: ['elsewhere'], ip: many });
    expect(() => decodeServerCertificate(der)).toThrow('more than 1000 names');
  });

  // RFC 5929 section 4.1: the hash of the signature, SHA-256 where that is MD5 or SHA-1.
  it.each<[SignatureKind, string]>([
    ['ecdsa-sha256', 'sha256'],
    ['ecdsa-sha384', 'sha384'],
    ['rsa-sha1', 'sha256'],
    ['rsa-sha256', 'sha256'],
    ['rsa-sha512', 'sha512'],
    ['rsa-pss-sha384', 'sha384'],
  ])('signed with %s is bound by its %s', (kind, hash) => {
    const { der } = makeCertificate({ commonName: 'pg', kind });
    const binding = serverEndPointBinding(decodeServerCertificate(der));
    expect(binding).toEqual(createHash(hash).update(der).digest());
  });

  it('signed without a hash can bind nothing, and says so', () => {
    const { der } = makeCertificate({ commonName: 'pg', kind: 'ed25519' });
    const certificate = decodeServerCertificate(der);
    expect(() => serverEndPointBinding(certificate)).toThrow(OperationalError);
    expect(() => serverEndPointBinding(certificate)).toThrow('could not find digest for NID UNDEF');
  });

  it('that is cut or changed anywhere is read or refused, and nothing else happens', () => {
    const { der } = makeCertificate({ commonName: 'pg', dns: ['pg'], kind: 'rsa-pss-sha384' });
    const readOrRefuse = (bytes: Uint8Array): void => {
      try {
        decodeServerCertificate(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(ProtocolViolation);
      }
    };
    for (let length = 0; length < der.length; length += 1) {
      expect(() => decodeServerCertificate(der.subarray(0, length))).toThrow(ProtocolViolation);
    }
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.nat(255), (offset, byte) => {
        const changed = Uint8Array.from(der);
        changed[offset] = byte;
        readOrRefuse(changed);
      }),
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), readOrRefuse));
  });
});
