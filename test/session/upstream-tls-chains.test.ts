// Which chains of certificates lead from an upstream to an authority that is trusted? The same ones as for libpq: OpenSSL's
// rules for a TLS server, whole chains only.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { extension, makeCertificate, makeRevocationList } from '../support/certificates.ts';
import type { CertificateOptions, TestCertificate } from '../support/certificates.ts';
import { TlsRig } from '../support/tls-rig.ts';
import { TlsUpstream } from '../support/tls-upstream.ts';

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

const root = makeCertificate({ commonName: 'root', isAuthority: true });
const leaf = { commonName: 'leaf', dns: ['localhost'] };

function authority(name: string, more: CertificateOptions = {}): TestCertificate {
  return makeCertificate({ commonName: name, isAuthority: true, issuer: root, ...more });
}

const middle = authority('middle');
const selfSigned = makeCertificate({ ...leaf, commonName: 'self-signed' });
const child = makeCertificate({ commonName: 'child', issuer: root });
const notAuthority = makeCertificate({ commonName: 'no', isAuthority: false, issuer: root });
const expired = authority('expired', { from: -9, to: -2 });
const future = authority('future', { from: 2, to: 9 });
const noSigning = authority('no signing', { keyUsage: 0x02 });
const shortPath = authority('short', { pathLength: 0 });
const belowShort = authority('below short', { issuer: shortPath });
const constrained = authority('constrained', { permittedDomain: 'example.org' });
const clientsOnly = authority('clients only', { purposes: [CLIENT_AUTH] });
const stranger = makeCertificate({ commonName: 'root', isAuthority: true });

let rig: TlsRig;

beforeAll(async () => {
  rig = await TlsRig.open();
  await rig.write('root.crt', root.pem);
  await rig.write('middle.crt', middle.pem);
  await rig.write('self.crt', selfSigned.pem);
  await rig.write('two.crt', `${selfSigned.pem}${root.pem}`);
  await rig.write('broken.crt', root.pem.replace(/\n[^-\n]{64}\n/, '\nAAAA\n'));
  await rig.write('empty.crt', '');
  await rig.write('key.crt', root.key);
  await rig.write('middle.crl', makeRevocationList(root, [middle]));
  await rig.write('both.crl', makeRevocationList(root, []) + makeRevocationList(middle, []));
});

afterAll(async () => {
  await rig.close();
});

/** The code of the refusal, or null when the login was let through. */
async function codeOf(
  certificate: TestCertificate,
  chain: readonly TestCertificate[],
  conninfo: string,
): Promise<string | null> {
  await using upstream = await TlsUpstream.listen({ certificate, chain });
  const opening = rig.connect(upstream, conninfo).then(
    (connection) => {
      connection.destroy();
      return null;
    },
    (error: { code: string }) => error.code,
  );
  const login = upstream.accept().then(({ session }) => session.login());
  const code = await opening;
  if (code === null) await login;
  login.catch(() => {});
  return code;
}

function signed(by: TestCertificate, more: CertificateOptions = {}): TestCertificate {
  return makeCertificate({ ...leaf, issuer: by, ...more });
}

describe('sslmode=verify-ca takes', () => {
  it.each<[string, TestCertificate, TestCertificate[], string]>([
    ['a leaf of the root', signed(root), [], 'root'],
    ['a leaf with its intermediate', signed(middle), [middle], 'root'],
    ['a chain that repeats the root', signed(middle), [middle, root], 'root'],
    [
      'a chain in the wrong order, with one too many',
      signed(middle),
      [root, expired, middle],
      'root',
    ],
    ['a leaf for servers', signed(root, { purposes: [SERVER_AUTH] }), [], 'root'],
    ['a self-signed one that is itself named', selfSigned, [], 'self'],
    ['a leaf of the second root in the file', signed(root), [], 'two'],
  ])('%s', async (_, certificate, chain, file) => {
    expect(
      await codeOf(certificate, chain, `sslmode=verify-ca sslrootcert=@${file}.crt`),
    ).toBeNull();
  });
});

describe('sslmode=verify-ca refuses', () => {
  it.each<[string, TestCertificate, TestCertificate[], string, string]>([
    ['a leaf without its intermediate', signed(middle), [], 'root', 'TLS_UNKNOWN_CA'],
    [
      'a chain that ends in an intermediate that is named',
      signed(middle),
      [middle],
      'middle',
      'TLS_UNKNOWN_CA',
    ],
    ['a leaf signed by a leaf', signed(child), [child], 'root', 'TLS_CERTIFICATE_INVALID'],
    [
      'a leaf signed by what says it is no authority',
      signed(notAuthority),
      [notAuthority],
      'root',
      'TLS_CERTIFICATE_INVALID',
    ],
    ['an expired intermediate', signed(expired), [expired], 'root', 'TLS_CERTIFICATE_EXPIRED'],
    [
      'an intermediate of tomorrow',
      signed(future),
      [future],
      'root',
      'TLS_CERTIFICATE_NOT_YET_VALID',
    ],
    [
      'an intermediate that may not sign',
      signed(noSigning),
      [noSigning],
      'root',
      'TLS_CERTIFICATE_INVALID',
    ],
    [
      'an intermediate too many',
      signed(belowShort),
      [belowShort, shortPath],
      'root',
      'TLS_CERTIFICATE_INVALID',
    ],
    [
      'a name outside of the constraints',
      signed(constrained),
      [constrained],
      'root',
      'TLS_CERTIFICATE_INVALID',
    ],
    [
      'a common name outside of the constraints',
      makeCertificate({ commonName: 'pg.example.com', issuer: constrained }),
      [constrained],
      'root',
      'TLS_CERTIFICATE_INVALID',
    ],
    [
      'a leaf for clients',
      signed(root, { purposes: [CLIENT_AUTH] }),
      [],
      'root',
      'TLS_CERTIFICATE_INVALID',
    ],
    [
      'an intermediate for clients',
      signed(clientsOnly),
      [clientsOnly],
      'root',
      'TLS_CERTIFICATE_INVALID',
    ],
    [
      'a root of the same name with another key',
      signed(stranger),
      [stranger],
      'root',
      'TLS_UNKNOWN_CA',
    ],
    [
      'an extension that nobody knows and is critical',
      signed(root, { extensions: [extension('1.2.3.4', Buffer.of(5, 0))] }),
      [],
      'root',
      'TLS_CERTIFICATE_INVALID',
    ],
    ['a self-signed one', selfSigned, [], 'root', 'TLS_UNKNOWN_CA'],
    ['a file without certificates', signed(root), [], 'empty', 'TLS_ROOT_CERT_UNREADABLE'],
    ['a file that has a key', signed(root), [], 'key', 'TLS_ROOT_CERT_UNREADABLE'],
    ['a file that is damaged', signed(root), [], 'broken', 'TLS_ROOT_CERT_UNREADABLE'],
  ])('%s', async (...[, certificate, chain, file, code]) => {
    const files = `sslrootcert=@${file}.crt`;
    expect(await codeOf(certificate, chain, `sslmode=verify-ca ${files}`)).toBe(code);
    expect(await codeOf(certificate, chain, `sslmode=require ${files}`)).toBe(code);
  });

  it('an intermediate that was revoked, and one without a list', async () => {
    const certificate = signed(middle);
    const base = 'sslmode=verify-ca sslrootcert=@root.crt';
    expect(await codeOf(certificate, [middle], `${base} sslcrl=@both.crl`)).toBeNull();
    expect(await codeOf(certificate, [middle], `${base} sslcrl=@middle.crl`)).toMatch(
      /REVOKED|CRL/,
    );
  });
});
