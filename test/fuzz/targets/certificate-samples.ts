// Certificates of several kinds, made anew in each process.
import { makeCertificate } from '../../support/certificates.ts';

const authority = makeCertificate({ commonName: 'ca', isAuthority: true, keyUsage: 0x06 });

/** DER. */
export const CERTIFICATES: readonly Uint8Array[] = [
  authority,
  makeCertificate({
    commonName: 'db',
    dns: ['db.example.com', '*.example.com'],
    ip: [Buffer.of(127, 0, 0, 1)],
    issuer: authority,
  }),
  makeCertificate({
    commonName: Buffer.from('a\0b'),
    kind: 'ecdsa-sha384',
    purposes: ['1.3.6.1.5.5.7.3.1'],
  }),
  makeCertificate({
    kind: 'ed25519',
    permittedDomain: 'example.com',
    pathLength: 1,
    isAuthority: true,
  }),
].map(({ der }) => der);
