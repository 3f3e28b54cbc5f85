// TLS towards an upstream: every sslmode against honest servers and against what somebody in between could do.
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  decodeServerCertificate,
  serverEndPointBinding,
} from '../../src/wire/server-certificate.ts';
import { makeCertificate, makeRevocationList } from '../support/certificates.ts';
import type { TestCertificate } from '../support/certificates.ts';
import { playScram } from '../support/scram-server.ts';
import { errorResponse } from '../support/scripted-upstream.ts';
import { TlsUpstream } from '../support/tls-upstream.ts';
import type { TlsUpstreamOptions } from '../support/tls-upstream.ts';
import { TlsRig } from '../support/tls-rig.ts';

const PASSWORD = 'secret';

const authority = makeCertificate({ commonName: 'authority', isAuthority: true });
const stranger = makeCertificate({ commonName: 'stranger', isAuthority: true });
const server = makeCertificate({ commonName: 'pg', dns: ['localhost'], issuer: authority });

let rig: TlsRig;

beforeAll(async () => {
  rig = await TlsRig.open();
  await rig.write('root.crt', authority.pem);
});

afterAll(async () => {
  await rig.close();
});

/** A server that shows `certificate`, unless `options` says more. */
function listen(options: Partial<TlsUpstreamOptions> = {}): Promise<TlsUpstream> {
  return TlsUpstream.listen({ certificate: server, ...options });
}

describe('sslmode=verify-full', () => {
  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'logs in over %s, bound to the channel',
    async (version) => {
      await using upstream = await listen({ maxVersion: version });
      const opening = rig.connect(upstream, 'sslmode=verify-full sslrootcert=@root.crt', {
        password: PASSWORD,
      });
      const { session, serverName, isDirect } = await upstream.accept();
      expect({ serverName, isDirect }).toEqual({ serverName: 'localhost', isDirect: false });
      await session.startup();
      await playScram(session, PASSWORD, {
        mechanisms: ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'],
        header: 'p=tls-server-end-point,,',
        binding: serverEndPointBinding(decodeServerCertificate(server.der)),
      });
      const connection = await opening;
      expect(connection.tlsVersion).toBe(version);
      expect(connection.clientCertificateExpiresAtMs).toBeNull();
      connection.close();
      expect((await session.next()).type).toBe('X');
      expect(await session.closed).toBe(true);
    },
  );

  it('needs the file of the authority', async () => {
    await using upstream = await listen();
    const missing = rig.path('nothing.crt');
    const error = await rig.refusal(upstream, `sslmode=verify-full sslrootcert=${missing}`);
    expect(error.code).toBe('TLS_ROOT_CERT_MISSING');
    expect(error.message).toContain(`root certificate file "${missing}" does not exist`);
    expect(error.hint).toContain('sslrootcert=system');
  });
});

describe('a server’s certificate', () => {
  const certificates: Readonly<Record<string, TestCertificate>> = {
    good: server,
    unknown: makeCertificate({ dns: ['localhost'], issuer: stranger }),
    'self-signed': makeCertificate({ dns: ['localhost'] }),
    expired: makeCertificate({ dns: ['localhost'], issuer: authority, from: -9, to: -2 }),
    'not yet valid': makeCertificate({ dns: ['localhost'], issuer: authority, from: 2, to: 9 }),
    'of another host': makeCertificate({ dns: ['elsewhere'], issuer: authority }),
  };

  it.each([
    ['good', 'verify-full', null],
    ['good', 'verify-ca', null],
    ['good', 'require', null],
    ['unknown', 'verify-full', 'TLS_UNKNOWN_CA'],
    ['unknown', 'verify-ca', 'TLS_UNKNOWN_CA'],
    // With the authority's file there, it is looked at in the weaker modes, too.
    ['unknown', 'require', 'TLS_UNKNOWN_CA'],
    ['self-signed', 'verify-ca', 'TLS_UNKNOWN_CA'],
    ['expired', 'verify-ca', 'TLS_CERTIFICATE_EXPIRED'],
    ['not yet valid', 'verify-ca', 'TLS_CERTIFICATE_NOT_YET_VALID'],
    ['of another host', 'verify-full', 'TLS_NAME_MISMATCH'],
    ['of another host', 'verify-ca', null],
    ['of another host', 'require', null],
  ])('that is %s with sslmode=%s: %s', async (name, mode, code) => {
    await using upstream = await listen({ certificate: certificates[name] ?? server });
    const conninfo = `sslmode=${mode} sslrootcert=@root.crt`;
    if (code === null) {
      await rig.logIn(upstream, conninfo);
      return;
    }
    const error = await rig.refusal(upstream, conninfo);
    expect(error).toMatchObject({ code, isRetryable: true, hint: expect.any(String) });
    expect(error.message).toMatch(
      code === 'TLS_NAME_MISMATCH'
        ? /server certificate for "elsewhere" does not match host name "localhost"/
        : /SSL error: certificate verify failed: /,
    );
  });

  it('is not looked at with sslmode=require and no file', async () => {
    await using upstream = await listen({ certificate: certificates['expired'] ?? server });
    await rig.logIn(upstream, 'sslmode=require');
    await rig.logIn(upstream, `sslmode=require sslrootcert=${rig.path('nothing.crt')}`);
    expect(rig.warnings.at(-1)).toContain("the server's certificate is not verified");
  });

  it('that is revoked is refused, by file and by directory', async () => {
    const revoked = makeCertificate({ dns: ['localhost'], issuer: authority });
    await rig.write('root.crl', makeRevocationList(authority, [revoked]));
    await rig.write('crls/0a1b2c3d.r0', makeRevocationList(authority, [revoked]));
    await rig.write('late.crl', makeRevocationList(authority, [], -0.5));
    await rig.write('empty.crl', 'nothing');
    const base = 'sslmode=verify-full sslrootcert=@root.crt';
    for (const option of ['sslcrl=@root.crl', 'sslcrldir=@crls']) {
      await using bad = await listen({ certificate: revoked });
      expect((await rig.refusal(bad, `${base} ${option}`)).code).toBe('TLS_CERTIFICATE_REVOKED');
      await using good = await listen();
      await rig.logIn(good, `${base} ${option}`);
    }
    for (const [option, code] of [
      ['sslcrl=@late.crl', 'TLS_CRL_UNUSABLE'],
      ['sslcrl=@empty.crl', 'TLS_CRL_UNUSABLE'],
      ['sslcrl=@no.crl', 'TLS_FILE_UNREADABLE'],
    ] as const) {
      await using upstream = await listen();
      expect((await rig.refusal(upstream, `${base} ${option}`)).code).toBe(code);
    }
  });

  it('is checked against what the system trusts, name and all, with sslrootcert=system', async () => {
    const system = 'sslmode=verify-full sslrootcert=system';
    await using good = await listen();
    await using other = await listen({ certificate: certificates['of another host'] ?? server });
    // The authority is none that this machine trusts by itself.
    expect((await rig.refusal(good, system)).code).toBe('TLS_UNKNOWN_CA');
    await rig.write('certs/0a1b2c3d.0', authority.pem);
    for (const [variable, path] of [
      ['SSL_CERT_FILE', rig.path('root.crt')],
      ['SSL_CERT_DIR', rig.path('certs')],
    ] as const) {
      vi.stubEnv(variable, path);
      await rig.logIn(good, system);
      expect((await rig.refusal(other, system)).code).toBe('TLS_NAME_MISMATCH');
      vi.unstubAllEnvs();
    }
  });

  it('may be that of an authority in OpenSSL’s own form', async () => {
    await rig.write('trusted.crt', authority.pem.replaceAll('CERTIFICATE', 'TRUSTED CERTIFICATE'));
    await using upstream = await listen();
    await rig.logIn(upstream, 'sslmode=verify-full sslrootcert=@trusted.crt');
  });

  it('comes with its chain', async () => {
    const between = makeCertificate({ commonName: 'i', isAuthority: true, issuer: authority });
    const leaf = makeCertificate({ dns: ['localhost'], issuer: between });
    await using whole = await listen({ certificate: leaf, chain: [between] });
    await rig.logIn(whole, 'sslmode=verify-full sslrootcert=@root.crt');
    await using cut = await listen({ certificate: leaf });
    const error = await rig.refusal(cut, 'sslmode=verify-full sslrootcert=@root.crt');
    expect(error.code).toBe('TLS_UNKNOWN_CA');
  });
});

describe('the answer to the request for TLS', () => {
  it('N ends the attempt where TLS is required', async () => {
    for (const mode of ['require', 'verify-ca', 'verify-full']) {
      await using upstream = await listen({ answer: 'N' });
      const error = await rig.refusal(upstream, `sslmode=${mode} sslrootcert=@root.crt`);
      expect(error).toMatchObject({ code: 'TLS_NOT_OFFERED', isRetryable: true });
      expect(error.message).toContain('server does not support SSL, but SSL was required');
      expect(error.hint).toContain('ssl=on');
    }
  });

  it('N goes on in plain text on the same connection with sslmode=prefer', async () => {
    await using upstream = await listen({ answer: 'N' });
    const connection = await rig.logIn(upstream, 'sslmode=prefer');
    expect(connection.tlsVersion).toBeNull();
    expect(upstream.accepted).toBe(1);
  });

  it.each([
    ['E', 'server sent an error response during SSL exchange', 'TLS_NEGOTIATION_FAILED'],
    ['H', 'received invalid response to SSL negotiation: H', 'TLS_NEGOTIATION_FAILED'],
    ['S\0\0', 'received unencrypted data after SSL response', 'TLS_UNENCRYPTED_DATA'],
    ['Sx', 'received unencrypted data after SSL response', 'TLS_UNENCRYPTED_DATA'],
    [
      'NR\0\0\0\x08\0\0\0\0',
      'received unencrypted data after SSL response',
      'TLS_UNENCRYPTED_DATA',
    ],
  ])('%j ends the attempt, with sslmode=prefer as well', async (answer, text, code) => {
    for (const mode of ['prefer', 'require']) {
      await using upstream = await listen({ answer });
      const error = await rig.refusal(upstream, `sslmode=${mode}`);
      expect(error).toMatchObject({ code, isRetryable: true });
      expect(error.message).toContain(text);
      expect(upstream.accepted).toBe(1);
    }
  });

  it('is waited for no longer than the time limit, and so is the handshake', async () => {
    for (const answer of ['', 'S']) {
      await using upstream = await listen({ answer, isSilent: true });
      const error = await rig.refusal(upstream, 'sslmode=require', { timeoutMs: 300 });
      expect(error).toMatchObject({ code: 'CONNECT_TIMEOUT', isRetryable: true });
      await upstream.empty();
    }
  });

  it('is not waited for when the attempt is stopped', async () => {
    for (const answer of ['', 'S']) {
      await using upstream = await listen({ answer, isSilent: true });
      const abort = new AbortController();
      const refused = rig.refusal(upstream, 'sslmode=prefer', { signal: abort.signal });
      await upstream.requested();
      abort.abort();
      expect(await refused).toMatchObject({ code: 'CONNECT_ABORTED' });
      await upstream.empty();
      expect(upstream.accepted).toBe(1);
    }
  });

  it('that never comes ends the attempt', async () => {
    await using upstream = await listen({ closes: true });
    const error = await rig.refusal(upstream, 'sslmode=prefer');
    expect(error.code).toBe('TLS_NEGOTIATION_FAILED');
    expect(error.message).toContain('closed the connection instead of answering');
  });
});

describe('a handshake that fails', () => {
  it('is an error with sslmode=require, and says what to look at', async () => {
    await using upstream = await listen({ brokenHandshakes: 1 });
    const error = await rig.refusal(upstream, 'sslmode=require');
    expect(error.code).toBe('TLS_HANDSHAKE_FAILED');
    expect(error.message).toContain('SSL SYSCALL error: EOF detected');
    await using garbage = await listen({ answer: 'S', garbles: true });
    const other = await rig.refusal(garbage, 'sslmode=require');
    expect(other.message).toMatch(/SSL error: wrong version number.*between TLSv1.2 and TLSv1.3/);
  });

  it('is followed by plain text with sslmode=prefer, and the log tells', async () => {
    await using upstream = await listen({ brokenHandshakes: 1 });
    const connection = await rig.logIn(upstream, 'sslmode=prefer');
    expect(connection.tlsVersion).toBeNull();
    expect(upstream.accepted).toBe(2);
    expect(rig.warnings.at(-1)).toContain('failed with TLS, trying plain text');
  });

  it('for want of a version in common names the versions', async () => {
    await using upstream = await listen({ maxVersion: 'TLSv1.2' });
    const error = await rig.refusal(upstream, 'sslmode=require ssl_min_protocol_version=TLSv1.3');
    expect(error.code).toBe('TLS_PROTOCOL_VERSION');
    expect(error.message).toContain('between TLSv1.3 and TLSv1.3');
  });

  it('for a certificate that prefer does not trust leads to plain text, as in libpq', async () => {
    const unknown = makeCertificate({ dns: ['localhost'], issuer: stranger });
    await using upstream = await listen({ certificate: unknown });
    const opening = rig.connect(upstream, 'sslmode=prefer sslrootcert=@root.crt');
    // The server may have seen the handshake through before the client turned away.
    const session = await upstream.acceptPlain();
    await session.login();
    (await opening).destroy();
  });
});

describe('a refusal by the server', () => {
  const noRule = errorResponse('28000', 'no pg_hba.conf entry for host, no encryption', 'FATAL');

  it('in plain text leads to TLS with sslmode=allow', async () => {
    await using upstream = await listen();
    const opening = rig.connect(upstream, 'sslmode=allow');
    const plain = await upstream.accept();
    expect(plain.tls).toBeNull();
    await plain.session.startup();
    plain.session.send(noRule);
    plain.session.end();
    const secure = await upstream.accept();
    expect(secure.tls).not.toBeNull();
    await secure.session.login();
    expect((await opening).tlsVersion).toBe('TLSv1.3');
    (await opening).destroy();
  });

  it('with TLS leads to plain text with sslmode=prefer; refused both ways tells of both', async () => {
    await using upstream = await listen();
    const refused = rig.refusal(upstream, 'sslmode=prefer');
    const secure = await upstream.accept();
    await secure.session.startup();
    secure.session.send(
      errorResponse('28P01', 'password authentication failed for user "replicator"', 'FATAL'),
    );
    const plain = await upstream.accept();
    expect(plain.tls).toBeNull();
    await plain.session.startup();
    plain.session.send(noRule);
    const error = await refused;
    expect(error.code).toBe('28P01');
    expect(error.message).toMatch(
      /password authentication failed.*tried without TLS, too: .*no pg_hba/,
    );
  });

  it('by a server that starts is not taken for one of TLS', async () => {
    for (const mode of ['allow', 'prefer']) {
      await using upstream = await listen();
      const refused = rig.refusal(upstream, `sslmode=${mode}`);
      const { session } = await upstream.accept();
      await session.startup();
      session.send(errorResponse('57P03', 'the database system is starting up', 'FATAL'));
      expect((await refused).code).toBe('57P03');
      expect(upstream.accepted).toBe(1);
    }
  });

  it('for want of TLS says which setting brings it', async () => {
    await using upstream = await listen();
    const refused = rig.refusal(upstream, 'sslmode=disable');
    const { session } = await upstream.accept();
    await session.startup();
    session.send(noRule);
    expect((await refused).hint).toContain('sslmode=verify-full');
  });
});

describe('sslnegotiation=direct', () => {
  const direct = 'sslmode=verify-full sslrootcert=@root.crt sslnegotiation=direct';

  it('begins with the handshake', async () => {
    await using upstream = await listen();
    const opening = rig.connect(upstream, direct);
    const { session, isDirect } = await upstream.accept();
    expect(isDirect).toBe(true);
    await session.login();
    (await opening).destroy();
  });

  it('refuses a server that does not say that it speaks PostgreSQL', async () => {
    await using upstream = await listen({ alpn: null });
    const error = await rig.refusal(upstream, direct);
    expect(error.code).toBe('TLS_ALPN_MISSING');
    expect(error.message).toContain(
      'direct SSL connection was established without ALPN protocol negotiation extension',
    );
    // Asked for by an SSLRequest, TLS goes without.
    await rig.logIn(upstream, direct.replace('direct', 'postgres'));
  });

  it('is refused by a server that speaks something else', async () => {
    await using upstream = await listen({ alpn: ['http/1.1'] });
    expect((await rig.refusal(upstream, direct)).code).toBe('TLS_ALPN_MISSING');
  });
});

describe('the name of the server', () => {
  it('is told unless it is an address, or sslsni=0', async () => {
    await using upstream = await listen();
    for (const [conninfo, name] of [
      ['host=localhost', 'localhost'],
      ['host=pg.example.com', 'pg.example.com'],
      ['host=127.0.0.1', null],
      ['host=localhost sslsni=0', null],
    ] as const) {
      const opening = rig.connect(upstream, `${conninfo} sslmode=require`);
      const { session, serverName } = await upstream.accept();
      expect(serverName).toBe(name);
      await session.login();
      (await opening).destroy();
    }
  });
});
