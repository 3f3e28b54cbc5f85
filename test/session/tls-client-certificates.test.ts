// Whose certificates are taken: none, those of our authorities, not those that were revoked; and what is known of them then.
import { createHash, X509Certificate } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { AcceptedConnection } from '../../src/net/connection.ts';
import { Listener } from '../../src/net/listener.ts';
import type { ClientCertMode } from '../../src/net/tls-acceptor.ts';
import type { TlsFacts } from '../../src/wire/tls-facts.ts';
import { makeCertificate, makeRevocationList } from '../support/certificates.ts';
import type { CertificateOptions } from '../support/certificates.ts';
import { deferred } from '../support/deferred.ts';
import { eventually } from '../support/eventually.ts';
import { STANDBY, startup } from '../support/raw-client.ts';
import { classic, direct, rawClient, TlsServerRig } from '../support/tls-server-rig.ts';
import type { RigOptions } from '../support/tls-server-rig.ts';
import { Fixture, rules } from '../support/wal-senders-fixture.ts';

const REFUSED = ['E|FATAL|28000|connection requires a valid client certificate'];

let rig: TlsServerRig;
let fixture: Fixture | null = null;

afterEach(async () => {
  await fixture?.finish();
  fixture = null;
  await rig.close();
});

async function open(clientCert: ClientCertMode, options: RigOptions = {}): Promise<Fixture> {
  rig = await TlsServerRig.open({ clientCert, ...options });
  fixture = await Fixture.start({ tls: rig.acceptor });
  fixture.hba = rules('hostssl replication all all trust');
  return fixture;
}

/** Letters of what a standby with that certificate is answered; an error in full. */
async function answerTo(
  { port }: Fixture,
  client: { cert: string; key: string } | null,
): Promise<string[]> {
  const session = rawClient(await classic(port, client ?? {}));
  session.send(startup(STANDBY));
  const answer = await session.answer();
  session.close();
  return answer;
}

describe.each(['optional', 'require'] as const)('client_cert: %s', (mode) => {
  it('takes who has a certificate of our authority', async () => {
    const { port } = await open(mode);
    const session = rawClient(await direct(port, rig.client()));
    session.send(startup(STANDBY));
    expect((await session.answer()).at(-1)).toBe('Z I');
    session.close();
  });

  it(mode === 'require' ? 'refuses who has none' : 'takes who has none', async () => {
    const answer = await answerTo(await open(mode), null);
    if (mode === 'require') expect(answer).toEqual(REFUSED);
    else expect(answer.at(-1)).toBe('Z I');
  });

  it.each<[string, CertificateOptions, string]>([
    ['that has expired', { from: -10, to: -1 }, 'certificate has expired'],
    ['that is not valid yet', { from: 1, to: 10 }, 'certificate is not yet valid'],
    [
      'of another authority',
      { issuer: makeCertificate({ commonName: 'authority', isAuthority: true }) },
      '',
    ],
    ['that is for servers', { purposes: ['1.3.6.1.5.5.7.3.1'] }, 'unsuitable certificate purpose'],
  ])('refuses a certificate %s', async (_name, options, reason) => {
    const port = await open(mode);
    expect(await answerTo(port, rig.client(options))).toEqual(REFUSED);
    expect(port.log.lines.join('\n')).toContain(
      `connection refused: connection requires a valid client certificate: client certificate verification failed: ${reason}`,
    );
    expect(port.senders.totals().rejected.tls).toBe(1);
  });

  it('refuses one that signed itself', async () => {
    const own = makeCertificate({ commonName: 'replicator' });
    const answer = await answerTo(await open(mode), { cert: own.pem, key: own.key });
    expect(answer).toEqual(REFUSED);
  });

  it('reads no name that nobody vouches for', async () => {
    const to = await open(mode);
    const issuer = makeCertificate({ commonName: 'somebody', isAuthority: true });
    const evil = rig.client({ commonName: Buffer.from('replicator\0.example.org'), issuer });
    expect(await answerTo(to, evil)).toEqual(REFUSED);
    expect(to.log.lines.join('\n')).toContain('client certificate verification failed');
  });

  it('closes without a word where a NUL is in the name', async () => {
    const to = await open(mode);
    const evil = rig.client({ commonName: Buffer.from('replicator\0.example.org') });
    expect(await answerTo(to, evil)).toEqual([]);
    expect(to.log.lines.join('\n')).toContain(
      "SSL certificate's common name contains embedded null",
    );
  });
});

it('client_cert: none asks nobody for a certificate', async () => {
  const to = await open('none');
  expect((await answerTo(to, null)).at(-1)).toBe('Z I');
  const socket = await classic(to.port);
  // Filled from a CertificateRequest only.
  expect(socket.getSharedSigalgs()).toEqual([]);
  socket.destroy();
});

it('a revoked certificate is refused, another one is taken', async () => {
  const authority = makeCertificate({ commonName: 'revoking', isAuthority: true, keyUsage: 0x06 });
  const good = makeCertificate({ commonName: 'good', issuer: authority });
  const bad = makeCertificate({ commonName: 'bad', issuer: authority });
  rig = await TlsServerRig.open({
    clientCert: 'require',
    crl: makeRevocationList(authority, [bad]),
  });
  await rig.write('ca.crt', authority.pem);
  await rig.certificates.refresh();
  fixture = await Fixture.start({ tls: rig.acceptor });
  expect((await answerTo(fixture, { cert: good.pem, key: good.key })).at(-1)).toBe('Z I');
  expect(await answerTo(fixture, { cert: bad.pem, key: bad.key })).toEqual(REFUSED);
  expect(fixture.log.lines.join('\n')).toContain('certificate revoked');
});

it.each([
  ['that has expired', -0.5, 'CRL has expired'],
  ['of another authority', 30, 'unable to get certificate CRL'],
])('with a list of revoked ones %s nobody is taken', async (_name, to, reason) => {
  const authority = makeCertificate({ commonName: 'revoking', isAuthority: true, keyUsage: 0x06 });
  const other = makeCertificate({ commonName: 'other', isAuthority: true, keyUsage: 0x06 });
  const good = makeCertificate({ commonName: 'good', issuer: authority });
  rig = await TlsServerRig.open({
    clientCert: 'optional',
    crl: makeRevocationList(to < 0 ? authority : other, [], to),
  });
  await rig.write('ca.crt', authority.pem);
  await rig.certificates.refresh();
  fixture = await Fixture.start({ tls: rig.acceptor });
  expect(await answerTo(fixture, { cert: good.pem, key: good.key })).toEqual(REFUSED);
  expect(fixture.log.lines.join('\n')).toContain(reason);
  // Who has none to show is none of the list's business.
  expect((await answerTo(fixture, null)).at(-1)).toBe('Z I');
});

describe('what is known of a session', () => {
  /** Facts of one handshake; the connection is closed. */
  async function factsOf(options: Parameters<typeof classic>[1]): Promise<TlsFacts> {
    const facts = deferred<TlsFacts>();
    const listener = await Listener.open({
      target: { kind: 'tcp', host: '127.0.0.1', port: 0 },
      tls: rig.acceptor,
      connectionsMax: 10,
      onConnection: (openConnection) => {
        const connection: AcceptedConnection = openConnection({
          onBytes: (firstBytes) =>
            connection.startTls({
              firstBytes,
              isDirect: true,
              inTurn: (piece) => {
                piece();
                return () => {};
              },
              onSecure: facts.resolve,
              onRefused: (text) => facts.reject(new Error(text)),
              onFailed: (text) => facts.reject(new Error(text)),
            }),
          onDrain() {},
          onEnd() {},
          onClose() {},
        });
      },
    });
    const socket = await direct(listener.port, options);
    const result = await facts.promise;
    socket.destroy();
    listener.close();
    return result;
  }

  it('is the certificate’s names, the cipher, and what binds a login to it', async () => {
    rig = await TlsServerRig.open({ clientCert: 'optional' });
    const client = rig.client({ commonName: 'replicator' });
    const facts = await factsOf({ ...client, maxVersion: 'TLSv1.3' });
    expect(facts).toMatchObject({
      protocol: 'TLSv1.3',
      cipher: 'TLS_AES_256_GCM_SHA384',
      bits: 256,
      alpn: 'postgresql',
      peer: {
        commonName: 'replicator',
        distinguishedName: 'CN=replicator',
        issuer: '/CN=authority',
        serial: BigInt(`0x${new X509Certificate(client.cert).serialNumber}`).toString(),
      },
    });
    expect(facts.endPoint()).toEqual(createHash('sha256').update(rig.server.der).digest());
    expect((await factsOf({ maxVersion: 'TLSv1.2' })).protocol).toBe('TLSv1.2');
    expect((await factsOf({})).peer).toBeNull();
  });

  it.each([
    ['TLS_AES_128_GCM_SHA256', 'TLSv1.3', 128],
    ['TLS_CHACHA20_POLY1305_SHA256', 'TLSv1.3', 256],
    ['ECDHE-ECDSA-AES128-GCM-SHA256', 'TLSv1.2', 128],
    ['ECDHE-ECDSA-CHACHA20-POLY1305', 'TLSv1.2', 256],
  ] as const)('is the strength of %s', async (ciphers, version, bits) => {
    rig = await TlsServerRig.open();
    const facts = await factsOf({ ciphers, minVersion: version, maxVersion: version });
    expect(facts).toMatchObject({ cipher: ciphers, bits });
  });

  it.each([
    ['ecdsa-sha384', 'sha384'],
    ['rsa-sha512', 'sha512'],
    ['rsa-pss-sha384', 'sha384'],
    ['ed25519', null],
  ] as const)('is the hash of a certificate signed by %s', async (kind, hash) => {
    const issuer = makeCertificate({ commonName: 'signer', isAuthority: true, kind });
    rig = await TlsServerRig.open({ server: { issuer } });
    const endPoint = (await factsOf({})).endPoint();
    if (hash === null) expect(endPoint).toBeNull();
    else expect(endPoint).toEqual(createHash(hash).update(rig.server.der).digest());
  });
});

it('a certificate of ours with more names than anybody reads binds a login like every other', async () => {
  const dns = Array.from({ length: 1_100 }, (_, index) => `host-${index}.example.org`);
  rig = await TlsServerRig.open({ server: { dns } });
  fixture = await Fixture.start({ tls: rig.acceptor });
  const session = rawClient(await classic(fixture.port));
  session.send(startup(STANDBY));
  expect((await session.answer()).at(-1)).toBe('Z I');
  session.close();
});

it('who is refused inside TLS leaves nothing behind', async () => {
  const to = await open('require');
  for (let index = 0; index < 5; index += 1) await answerTo(to, null);
  await turn();
  await eventually(() => to.senders.totals().rejected.tls).toBe(5);
  expect(to.senders.statuses()).toEqual([]);
});
