// Hostile inputs of the catalogue that need TLS: how it is asked for, which certificates come, what the channel is bound to.
import { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { makeCertificate } from './certificates.ts';
import type { CertificateOptions, TestCertificate } from './certificates.ts';
import { open, patiently, said, TRUSTY } from './hostile-case.ts';
import type { HostileCase, Side, Waiting } from './hostile-case.ts';
import { scramExchange, secured } from './hostile-scram.ts';
import type { ScramWords, TlsWords } from './hostile-scram.ts';
import { CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST } from './hostile-startup.ts';
import { i32, packet, raw } from './naive-writer.ts';
import { startup } from './raw-client.ts';
import type { RawClient } from './raw-client.ts';

/** Who signs what both sides trust. */
export const AUTHORITY: TestCertificate = makeCertificate({
  commonName: 'hostile authority',
  isAuthority: true,
  keyUsage: 0x06,
});

/** What both sides show. */
export const SERVER_CERTIFICATE: TestCertificate = makeCertificate({
  commonName: 'localhost',
  dns: ['localhost'],
  issuer: AUTHORITY,
});

const STRANGER = makeCertificate({
  commonName: 'another authority',
  isAuthority: true,
  keyUsage: 0x06,
});

function client(options: CertificateOptions): TlsWords {
  const certificate = makeCertificate({ issuer: AUTHORITY, ...options });
  return { cert: certificate.pem, key: certificate.key };
}

/** A session inside TLS, told by what it is answered. */
async function inside(
  side: Side,
  words: TlsWords,
  talk: (session: RawClient) => Promise<string[]>,
): Promise<string[]> {
  const session = await secured(side, words);
  return session instanceof Array ? session : await talk(session);
}

function sessionAs(row: string, name: string, words: TlsWords, user = 'trusty'): HostileCase {
  return {
    row,
    name,
    run: (side) =>
      inside(side, words, async (session) => {
        session.send(startup({ ...TRUSTY, user }));
        return await said(session);
      }),
  };
}

function scram(row: string, name: string, words: ScramWords, tls: TlsWords = {}): HostileCase {
  return {
    row,
    name,
    run: (side) => inside(side, tls, (session) => scramExchange(session, words)),
  };
}

function bytesInside(row: string, name: string, bytes: Uint8Array): HostileCase {
  return {
    row,
    name,
    run: (side) =>
      inside(side, {}, async (session) => {
        session.send(bytes);
        return await said(session);
      }),
  };
}

/** What comes back byte for byte while nothing is encrypted, and whether the end comes soon. */
function plainAfter(
  row: string,
  name: string,
  parts: readonly Uint8Array[],
  waiting: Waiting = 'nobody',
): HostileCase {
  return {
    row,
    name,
    async run(side): Promise<string[]> {
      const session = await open(side);
      const lines: string[] = [];
      for (const part of parts.slice(0, -1)) {
        session.send(part);
        lines.push((await patiently(session, session.bytes(1))).toString('latin1'));
      }
      session.send(parts.at(-1) ?? '');
      return [...lines, ...(await plainEnd(session, waiting === side.name))];
    },
  };
}

/** Sorts what comes: a record of TLS, an error, or a byte. Which alert it is, is the libraries' business. */
async function plainEnd(session: RawClient, mayWait: boolean): Promise<string[]> {
  let isWaiting = false;
  const giveUp = (): void => {
    isWaiting = true;
    session.close();
  };
  const timer = setTimeout(giveUp, mayWait ? SILENCE_MS : PATIENCE_MS);
  const rest = await session.closed();
  clearTimeout(timer);
  const isAnswered = rest[0] === 0x53;
  const text = isAnswered ? rest.subarray(1) : rest;
  const kinds: Readonly<Record<number, string[]>> = { 0x16: ['handshake'], 0x15: [] };
  const first = text[0] ?? 0x15;
  const what = kinds[first] ?? [text.toString('latin1').replaceAll('\0', '|').slice(5)];
  return [...(isAnswered ? ['S'] : []), ...what, isWaiting ? 'waits' : 'closed'];
}

/** For a server that waits until its deadline; and for everybody else, who has failed then. */
const SILENCE_MS = 6_000;
const PATIENCE_MS = 30_000;

/** The first record that a TLS client sends. */
async function clientHello(): Promise<Buffer> {
  return await new Promise((resolve) => {
    const nobody = new Duplex({
      read: () => {},
      write: (chunk: Buffer, _encoding, done) => {
        resolve(chunk);
        done();
      },
    });
    connectTls({ socket: nobody, rejectUnauthorized: false }).on('error', () => {});
  });
}

/** The request and the handshake in one segment. */
const SMUGGLED: HostileCase = {
  row: 'I15',
  name: 'SSLRequest and a handshake in one segment',
  async run(side): Promise<string[]> {
    const session = await open(side);
    session.send(SSL_REQUEST, await clientHello());
    return await plainEnd(session, side.name === 'postgres');
  },
};

const PLUS = 'SCRAM-SHA-256-PLUS';
const END_POINT = 'p=tls-server-end-point,,';
const ALPN = ['postgresql'];

/** Rows I4, I15, I17, I18, I20, I21 and I27 to I29. */
export const TLS_CASES: readonly HostileCase[] = [
  sessionAs('I4', 'direct TLS with ALPN', { isDirect: true, ALPNProtocols: ALPN }),
  sessionAs('I4', 'direct TLS without ALPN', { isDirect: true }),
  sessionAs('I4', 'direct TLS with another ALPN', {
    isDirect: true,
    ALPNProtocols: ['h2', 'http/1.1'],
  }),
  sessionAs('I4', 'TLS with ALPN behind a request', { ALPNProtocols: ALPN }),
  sessionAs('I4', 'TLS with another ALPN behind a request', { ALPNProtocols: ['h2'] }),
  plainAfter('I4', 'the first bytes of a handshake and rubbish', [
    raw(0x16, 3, 1, 0, 5, 9, 9, 9, 9, 9, 'rubbish'),
  ]),
  SMUGGLED,
  plainAfter(
    'I15',
    'SSLRequest and a session in one segment over TCP',
    [raw(SSL_REQUEST, startup(TRUSTY))],
    'postgres',
  ),
  plainAfter('I17', 'SSLRequest, then again, not encrypted', [SSL_REQUEST, SSL_REQUEST]),
  plainAfter('I17', 'SSLRequest, then a session, not encrypted', [SSL_REQUEST, startup(TRUSTY)]),
  bytesInside('I17', 'SSLRequest inside TLS', SSL_REQUEST),
  bytesInside('I18', 'GSSENCRequest inside TLS', GSSENC_REQUEST),
  bytesInside('I19', 'a cancel request inside TLS', packet(CANCEL_REQUEST, i32(1), i32(2))),
  {
    row: 'I17',
    name: 'SSLRequest inside direct TLS',
    run: (side) =>
      inside(side, { isDirect: true, ALPNProtocols: ALPN }, async (session) => {
        session.send(SSL_REQUEST);
        const answer = (await patiently(session, session.bytes(1))).toString('latin1');
        session.send(startup(TRUSTY));
        return [answer, ...(await said(session))];
      }),
  },
  sessionAs('I20', 'TLS 1.1', {
    minVersion: 'TLSv1',
    maxVersion: 'TLSv1.1',
    ciphers: 'ALL:@SECLEVEL=0',
  }),
  sessionAs('I20', 'TLS 1.2', { maxVersion: 'TLSv1.2' }),
  sessionAs('I20', 'TLS 1.3', { minVersion: 'TLSv1.3' }),
  sessionAs('I20', 'no cipher in common', {
    maxVersion: 'TLSv1.2',
    ciphers: 'ECDHE-RSA-AES128-SHA',
  }),
  sessionAs('I20', 'a cipher without encryption', {
    maxVersion: 'TLSv1.2',
    ciphers: 'NULL:@SECLEVEL=0',
  }),
  sessionAs('I20', 'an odd server name', { servername: 'no.such.host.example' }),
  sessionAs('I20', 'no server name', { servername: '' }),
  sessionAs('I21', 'a certificate of the user', client({ commonName: 'certuser' }), 'certuser'),
  sessionAs('I21', 'no certificate', {}, 'certuser'),
  sessionAs(
    'I21',
    'an expired certificate',
    client({ commonName: 'certuser', from: -9, to: -2 }),
    'certuser',
  ),
  sessionAs(
    'I21',
    'a certificate of tomorrow',
    client({ commonName: 'certuser', from: 1 }),
    'certuser',
  ),
  sessionAs(
    'I21',
    'a certificate of an unknown authority',
    client({ commonName: 'certuser', issuer: STRANGER }),
    'certuser',
  ),
  sessionAs(
    'I21',
    'a certificate of itself',
    client({ commonName: 'certuser', issuer: makeCertificate({ commonName: 'certuser' }) }),
    'certuser',
  ),
  sessionAs('I21', 'a certificate of somebody else', client({ commonName: 'other' }), 'certuser'),
  sessionAs('I21', 'a name in capital letters', client({ commonName: 'CertUser' }), 'certuser'),
  sessionAs('I21', 'a certificate without a common name', client({}), 'certuser'),
  sessionAs(
    'I21',
    'a NUL in the common name',
    client({ commonName: Buffer.from('certuser\0.example') }),
    'certuser',
  ),
  sessionAs(
    'I21',
    'a common name with a comma and more',
    client({ commonName: 'certuser,CN=x' }),
    'certuser',
  ),
  sessionAs(
    'I21',
    'the name first of two',
    client({ commonName: 'certuser', secondName: 'other' }),
    'certuser',
  ),
  sessionAs(
    'I21',
    'the name second of two',
    client({ commonName: 'other', secondName: 'certuser' }),
    'certuser',
  ),
  sessionAs('I21', 'a name that is mapped', client({ commonName: 'standby-7' }), 'mapped'),
  sessionAs('I21', 'a name that is not mapped', client({ commonName: 'certuser' }), 'mapped'),
  sessionAs(
    'I21',
    'an unknown user with a certificate of that name',
    client({ commonName: 'stranger' }),
    'certstranger',
  ),
  sessionAs(
    'I21',
    'an expired certificate nobody asked for',
    client({ commonName: 'x', from: -9, to: -2 }),
  ),
  scram(
    'I21',
    'a password and the certificate',
    { user: 'twofold' },
    client({ commonName: 'twofold' }),
  ),
  scram('I21', 'a password and no certificate', { user: 'twofold' }),
  scram(
    'I21',
    'a password and a certificate of somebody else',
    { user: 'twofold' },
    client({ commonName: 'other' }),
  ),
  scram(
    'I21',
    'a wrong password and the certificate',
    { user: 'twofold', password: 'wrong' },
    client({ commonName: 'twofold' }),
  ),
  scram(
    'I21',
    'a password and any certificate',
    { user: 'verified' },
    client({ commonName: 'other' }),
  ),
  scram('I27', 'p=tls-unique with PLUS', {
    mechanism: PLUS,
    gs2: 'p=tls-unique,,',
    binding: raw('x'),
  }),
  scram('I27', 'p=tls-server-end-point with the plain mechanism', { gs2: END_POINT }),
  scram('I27', 'n,, with PLUS', { mechanism: PLUS, gs2: 'n,,' }),
  scram('I27', 'y,, with PLUS', { mechanism: PLUS, gs2: 'y,,' }),
  scram('I28', 'y,, while PLUS was offered', { gs2: 'y,,' }),
  scram('I28', 'n,, while PLUS was offered', { gs2: 'n,,' }),
  scram('I29', 'the channel bound', { mechanism: PLUS, gs2: END_POINT }),
  scram('I29', 'the channel bound to something else', {
    mechanism: PLUS,
    gs2: END_POINT,
    binding: new Uint8Array(32),
  }),
  scram('I29', 'the channel bound to nothing', { mechanism: PLUS, gs2: END_POINT, binding: raw() }),
  scram('I29', 'the channel bound, and a wrong password', {
    mechanism: PLUS,
    gs2: END_POINT,
    password: 'wrong',
  }),
  scram('I29', 'the channel bound, and an unknown user', {
    mechanism: PLUS,
    gs2: END_POINT,
    user: 'stranger',
  }),
  {
    row: 'I21',
    name: 'a user with a certificate who comes without TLS',
    async run(side): Promise<string[]> {
      const session = await open(side);
      session.send(startup({ ...TRUSTY, user: 'tlsonly' }));
      return await said(session);
    },
  },
];
