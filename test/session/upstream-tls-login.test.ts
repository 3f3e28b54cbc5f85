// Logging in inside TLS: channel binding and its downgrades, client certificates; and the bytes that flow afterwards.
import { createHash, createPrivateKey, randomBytes } from 'node:crypto';
import { createServer, connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WalcastError } from '../../src/base/errors.ts';
import {
  decodeServerCertificate,
  serverEndPointBinding,
} from '../../src/wire/server-certificate.ts';
import { makeCertificate } from '../support/certificates.ts';
import { cstr, i32, message } from '../support/naive-writer.ts';
import { playScram } from '../support/scram-server.ts';
import { complete, errorResponse, READY, ScriptedUpstream } from '../support/scripted-upstream.ts';
import { TlsRig } from '../support/tls-rig.ts';
import { TlsUpstream } from '../support/tls-upstream.ts';

const PASSWORD = 'secret';
const PLUS = ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'];
const BOUND = 'p=tls-server-end-point,,';

const authority = makeCertificate({ commonName: 'authority', isAuthority: true });
const server = makeCertificate({ commonName: 'pg', dns: ['localhost'], issuer: authority });
const binding = serverEndPointBinding(decodeServerCertificate(server.der));
const client = makeCertificate({ commonName: 'replicator', issuer: authority, to: 7 });

let rig: TlsRig;

beforeAll(async () => {
  rig = await TlsRig.open();
  await rig.write('root.crt', authority.pem);
  await rig.write('me.crt', client.pem);
  await rig.write('me.key', client.key);
});

afterAll(async () => {
  await rig.close();
});

describe('SCRAM inside TLS', () => {
  it.each([
    ['prefer', PLUS, { header: BOUND, binding }],
    ['require', PLUS, { header: BOUND, binding }],
    [
      'require',
      ['SCRAM-SHA-256', 'SCRAM-SHA-256-PLUS'],
      { chosen: PLUS[0], header: BOUND, binding },
    ],
    // We would bind, and the server does not offer it: it gets to know, in case somebody took it off its list.
    ['prefer', ['SCRAM-SHA-256'], { header: 'y,,' }],
    ['disable', PLUS, { chosen: 'SCRAM-SHA-256', header: 'n,,' }],
    ['disable', ['SCRAM-SHA-256'], { header: 'n,,' }],
  ])('with channel_binding=%s and %j offered', async (setting, mechanisms, play) => {
    await using upstream = await TlsUpstream.listen({ certificate: server });
    const conninfo = `sslmode=require channel_binding=${setting}`;
    const opening = rig.connect(upstream, conninfo, { password: PASSWORD });
    const { session } = await upstream.accept();
    await session.startup();
    await playScram(session, PASSWORD, {
      mechanisms,
      header: play.header,
      ...('chosen' in play && play.chosen !== undefined ? { chosen: play.chosen } : {}),
      ...('binding' in play ? { binding: play.binding } : {}),
    });
    (await opening).destroy();
  });

  it('is bound to the certificate that this client saw: one in between is found out', async () => {
    const between = makeCertificate({ dns: ['localhost'] });
    await using upstream = await TlsUpstream.listen({ certificate: between });
    const opening = rig.connect(upstream, 'sslmode=require', { password: PASSWORD });
    opening.catch(() => {});
    const { session } = await upstream.accept();
    await session.startup();
    // The real server, behind, compares with its own certificate.
    const play = playScram(session, PASSWORD, { mechanisms: PLUS, header: BOUND, binding });
    await expect(play).rejects.toThrow('the client sent c=');
  });

  it('with a certificate that has no hash to be bound by is refused, as libpq does', async () => {
    const certificate = makeCertificate({ dns: ['localhost'], kind: 'ed25519' });
    await using upstream = await TlsUpstream.listen({ certificate });
    const refused = rig.refusal(upstream, 'sslmode=require', { password: PASSWORD });
    const { session } = await upstream.accept();
    await session.startup();
    session.send(message('R', i32(10), ...PLUS.map(cstr), 0));
    expect(await refused).toMatchObject({
      code: 'CHANNEL_BINDING_UNAVAILABLE',
      hint: expect.stringContaining('channel_binding=disable'),
    });
  });

  it('is not answered in plain text when the server offers it for TLS', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const refused = rig.refusal(upstream, 'sslmode=prefer', { password: PASSWORD });
    const session = await upstream.accept();
    await session.startup();
    session.send(message('R', i32(10), ...PLUS.map(cstr), 0));
    expect((await refused).message).toContain(
      'server offered SCRAM-SHA-256-PLUS authentication over a non-SSL connection',
    );
  });
});

describe('channel_binding=require', () => {
  const scram = message('R', i32(10), cstr('SCRAM-SHA-256'), 0);
  it.each([
    [
      'require',
      message('R', i32(0)),
      'channel binding required, but server authenticated client without channel binding',
    ],
    [
      'require',
      message('R', i32(5), 'salt'),
      "channel binding required but not supported by server's authentication request",
    ],
    [
      'require',
      message('R', i32(3)),
      "channel binding required but not supported by server's authentication request",
    ],
    [
      'require',
      scram,
      'channel binding is required, but server did not offer an authentication method that supports channel binding',
    ],
    ['disable', scram, 'channel binding required, but SSL not in use'],
  ])('with sslmode=%s is not content with %j', async (mode, request, text) => {
    await using upstream = await TlsUpstream.listen({ certificate: server });
    const conninfo = `sslmode=${mode} channel_binding=require require_auth=none,md5,password,scram-sha-256`;
    const refused = rig.refusal(upstream, conninfo, { password: PASSWORD });
    const { session } = await upstream.accept();
    await session.startup();
    session.send(request);
    expect(await refused).toMatchObject({ code: 'CHANNEL_BINDING_MISSING', message: text });
    // No password went out.
    await expect(session.next()).rejects.toThrow('the client closed the connection');
  });
});

describe('require_auth', () => {
  it.each([
    ['scram-sha-256', message('R', i32(0)), 'server did not complete authentication'],
    ['scram-sha-256', message('R', i32(5), 'salt'), 'server requested a hashed password'],
    ['!password,!md5', message('R', i32(3)), 'server requested a cleartext password'],
    [
      'none',
      message('R', i32(10), cstr('SCRAM-SHA-256'), 0),
      'server requested SASL authentication',
    ],
    ['md5', message('R', i32(3)), 'server requested a cleartext password'],
  ])('=%s refuses %j in libpq’s words', async (value, request, text) => {
    await using upstream = await TlsUpstream.listen({ certificate: server });
    const conninfo = `sslmode=require require_auth=${value}`;
    const refused = rig.refusal(upstream, conninfo, { password: PASSWORD });
    const { session } = await upstream.accept();
    await session.startup();
    session.send(request);
    expect(await refused).toMatchObject({
      code: 'AUTH_METHOD_REFUSED',
      message: `authentication method requirement "${value}" failed: ${text}`,
    });
  });
});

describe('a client certificate', () => {
  const both = 'sslmode=require sslcert=@me.crt sslkey=@me.key';
  const asking = { certificate: server, clientRoots: authority.pem };

  it('is shown, and its expiry is known', async () => {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      await using upstream = await TlsUpstream.listen({ ...asking, maxVersion });
      const opening = rig.connect(upstream, `${both} sslcertmode=require`);
      const { session, tls } = await upstream.accept();
      expect(tls?.getPeerX509Certificate()?.subject).toBe('CN=replicator');
      await session.login();
      const connection = await opening;
      const days = ((connection.clientCertificateExpiresAtMs ?? 0) - Date.now()) / 86_400_000;
      expect(days).toBeGreaterThan(6.9);
      expect(days).toBeLessThan(7.1);
      connection.destroy();
    }
  });

  it('that a server misses is its reason to refuse', async () => {
    await using upstream = await TlsUpstream.listen({ ...asking, maxVersion: 'TLSv1.2' });
    const error = await rig.refusal(upstream, 'sslmode=require');
    expect(error.message).toMatch(/SSL error: .*handshake failure/);
    expect(error.hint).toContain('sslcert');
    // In TLS 1.3 it comes behind the handshake, and may get lost on the way.
    await using late = await TlsUpstream.listen({ ...asking, maxVersion: 'TLSv1.3' });
    expect((await rig.refusal(late, 'sslmode=require')).hint).toContain('sslcert');
  });

  it('is not shown with sslcertmode=disable', async () => {
    await using upstream = await TlsUpstream.listen({
      certificate: server,
      asksForCertificate: true,
    });
    const opening = rig.connect(upstream, `${both} sslcertmode=disable`);
    const { session, tls } = await upstream.accept();
    expect(tls?.getPeerX509Certificate()).toBeUndefined();
    await session.login();
    const connection = await opening;
    expect(connection.clientCertificateExpiresAtMs).toBeNull();
    connection.destroy();
  });

  it('has to be asked for, and had, with sslcertmode=require', async () => {
    for (const [asksForCertificate, conninfo, text] of [
      [false, both, 'server did not request an SSL certificate'],
      [true, 'sslmode=require', 'server accepted connection without a valid SSL certificate'],
    ] as const) {
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        await using upstream = await TlsUpstream.listen({
          certificate: server,
          asksForCertificate,
          maxVersion,
        });
        const refused = rig.refusal(upstream, `${conninfo} sslcertmode=require`);
        const { session } = await upstream.accept();
        await session.startup();
        session.send(message('R', i32(0)));
        expect((await refused).message).toBe(text);
      }
    }
  });

  it('that a login asks for tells where to name it', async () => {
    await using upstream = await TlsUpstream.listen({ certificate: server });
    const refused = rig.refusal(upstream, 'sslmode=require');
    const { session } = await upstream.accept();
    await session.startup();
    session.send(errorResponse('28000', 'connection requires a valid client certificate', 'FATAL'));
    expect(await refused).toMatchObject({
      code: '28000',
      hint: expect.stringContaining('sslcert'),
    });
  });

  it('may have its key encrypted, or in DER form', async () => {
    const key = createPrivateKey(client.key);
    const encrypted = { format: 'pem', cipher: 'aes-256-cbc', passphrase: 'open' } as const;
    await rig.write('pkcs8.key', key.export({ type: 'pkcs8', ...encrypted }));
    await rig.write('sec1.key', key.export({ type: 'sec1', ...encrypted }));
    await rig.write('der.key', key.export({ type: 'pkcs8', format: 'der' }));
    await using upstream = await TlsUpstream.listen(asking);
    for (const name of ['pkcs8.key sslpassword=open', 'sec1.key sslpassword=open', 'der.key']) {
      await rig.logIn(upstream, `sslmode=require sslcert=@me.crt sslkey=@${name}`);
    }
    for (const name of ['pkcs8.key', 'pkcs8.key sslpassword=wrong', 'me.crt']) {
      const error = await rig.refusal(upstream, `sslmode=require sslcert=@me.crt sslkey=@${name}`);
      expect(error.code).toBe('TLS_KEY_UNREADABLE');
      expect(error.message).toMatch(/could not load private key file ".*"/);
    }
  });

  it.each([
    [
      'sslcert=@me.crt sslkey=@no.key',
      'TLS_KEY_UNREADABLE',
      'certificate present, but not private',
    ],
    ['sslcert=@me.crt sslkey=@open.key', 'TLS_KEY_PERMISSIONS', 'has group or world access'],
    ['sslcert=@me.crt sslkey=@other.key', 'TLS_KEY_MISMATCH', 'key values mismatch'],
    ['sslcert=@me.crt sslkey=@folder', 'TLS_FILE_UNREADABLE', 'not a regular file'],
    ['sslcert=@me.key sslkey=@me.key', 'TLS_CERT_UNREADABLE', 'could not read certificate file'],
    ['sslcert=@cut.crt sslkey=@me.key', 'TLS_CERT_UNREADABLE', 'could not read certificate file'],
    ['sslrootcert=@cut.crt', 'TLS_ROOT_CERT_UNREADABLE', 'could not read root certificate file'],
    ['sslrootcert=@me.key', 'TLS_ROOT_CERT_UNREADABLE', 'no certificate or crl found'],
    ['sslrootcert=@folder', 'TLS_FILE_UNREADABLE', 'not a regular file'],
  ])('or its authority by bad files, %s, is refused with the path', async (files, code, text) => {
    await rig.write('open.key', client.key, 0o644);
    await rig.write('other.key', server.key);
    await rig.write('folder/x', '');
    await rig.write('cut.crt', client.pem.replace(/[A-Za-z0-9+/=]{64}\n/, ''));
    await using upstream = await TlsUpstream.listen(asking);
    const error = await rig.refusal(upstream, `sslmode=require ${files}`);
    expect(error).toMatchObject({ code, isRetryable: true, hint: expect.any(String) });
    expect(error.message).toContain(text);
    expect(error.message).toContain(rig.path(''));
    expect(error.message).not.toContain('\n');
  });

  it('that is replaced is taken at the next connection', async () => {
    await using upstream = await TlsUpstream.listen(asking);
    const names: (string | undefined)[] = [];
    for (const commonName of ['first', 'second']) {
      const next = makeCertificate({ commonName, issuer: authority });
      await rig.write('turn.crt', next.pem);
      await rig.write('turn.key', next.key);
      const opening = rig.connect(upstream, 'sslmode=require sslcert=@turn.crt sslkey=@turn.key');
      const { session, tls } = await upstream.accept();
      names.push(tls?.getPeerX509Certificate()?.subject);
      await session.login();
      (await opening).destroy();
    }
    expect(names).toEqual(['CN=first', 'CN=second']);
  });
});

/** Hands bytes on to `port`, each in a packet of its own, both ways. */
async function byteByByte(port: number): Promise<{ port: number; close: () => Promise<void> }> {
  const relay = createServer({ noDelay: true }, (near) => {
    const far = connect({ port, host: '127.0.0.1', noDelay: true });
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('data', (chunk: Buffer) => {
        for (const byte of chunk) to.write(Uint8Array.of(byte));
      });
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => {
    relay.listen(0, '127.0.0.1', resolve);
  });
  return {
    port: (relay.address() as AddressInfo).port,
    close: () => new Promise((resolve) => relay.close(() => resolve())),
  };
}

describe('bytes inside TLS', () => {
  it('may be cut anywhere, those of the handshake and of its request too', async () => {
    await using upstream = await TlsUpstream.listen({ certificate: server });
    const relay = await byteByByte(upstream.port);
    const conninfo = 'sslmode=verify-full sslrootcert=@root.crt';
    const opening = rig.connect(relay, conninfo, { password: PASSWORD });
    const { session } = await upstream.accept();
    session.cutsBytes = true;
    await session.startup();
    await playScram(session, PASSWORD, { mechanisms: PLUS, header: BOUND, binding });
    const connection = await opening;
    const answer = connection.query('SHOW x', { timeoutMs: 10_000 });
    expect(await session.command()).toBe('SHOW x');
    session.send(complete('SHOW'), READY);
    expect((await answer).results[0]?.tag).toBe('SHOW');
    connection.destroy();
    await relay.close();
  });

  it('wait on the way while they are not read, and arrive as they were sent', async () => {
    await using upstream = await TlsUpstream.listen({ certificate: server });
    const opening = rig.connect(upstream, 'sslmode=require');
    const { session, tls } = await upstream.accept();
    await session.login();
    const connection = await opening;
    const hash = createHash('sha256');
    const total = 64 << 20;
    const block = randomBytes(1 << 20);
    let received = 0;
    let isPaused = false;
    let whilePaused = 0;
    const done = new Promise<void>((resolve) => {
      connection.toRaw({
        onBytes: (chunk) => {
          if (isPaused) whilePaused += chunk.length;
          received += chunk.length;
          hash.update(chunk);
          if (!isPaused && received < total / 2) {
            connection.pauseReading();
            isPaused = true;
            // Long enough for the sender to come to a stop.
            waitStalled().then(
              () => {
                isPaused = false;
                connection.resumeReading();
              },
              () => {},
            );
          }
          if (received === total) resolve();
        },
        onDrain: () => {},
        onClose: () => {},
      });
    });
    const sent = createHash('sha256');
    let stalls = 0;
    const waitStalled = async (): Promise<void> => {
      stalls += 1;
      // Only the first pause waits for a full pipe; the others just let a turn go by.
      if (stalls > 1) return new Promise((resolve) => setImmediate(resolve));
      let last = -1;
      while (tls !== null && (tls.writableLength !== last || last === 0)) {
        last = tls.writableLength;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      // Most of it is still with the sender: what is not read is not taken in.
      expect(tls?.writableLength).toBeGreaterThan(total / 2);
    };
    for (let offset = 0; offset < total; offset += block.length) {
      sent.update(block);
      tls?.write(block);
    }
    await done;
    expect(whilePaused).toBe(0);
    expect(stalls).toBeGreaterThan(0);
    expect(hash.digest('hex')).toBe(sent.digest('hex'));
    connection.destroy();
  });

  it('count as pending until the kernel has taken them', async () => {
    await using upstream = await TlsUpstream.listen({ certificate: server });
    const opening = rig.connect(upstream, 'sslmode=require');
    const { session, tls } = await upstream.accept();
    await session.login();
    const connection = await opening;
    tls?.pause();
    const drained = new Promise<void>((resolve) => {
      connection.toRaw({ onBytes: () => {}, onDrain: resolve, onClose: () => {} });
    });
    connection.write([Buffer.alloc(32 << 20), Buffer.alloc(1)]);
    expect(connection.pendingBytes()).toBeGreaterThan(16 << 20);
    tls?.removeAllListeners('data').resume();
    await drained;
    expect(connection.pendingBytes()).toBe(0);
    connection.destroy();
  });

  it('end with what the server said, in order or not', async () => {
    for (const isOrderly of [true, false]) {
      await using upstream = await TlsUpstream.listen({ certificate: server });
      let onClosed: (error: WalcastError) => void = () => {};
      const closed = new Promise<WalcastError>((resolve) => {
        onClosed = resolve;
      });
      const opening = rig.connect(upstream, 'sslmode=require', { onClosed: (e) => onClosed(e) });
      const { session, tls } = await upstream.accept();
      await session.login();
      const connection = await opening;
      session.send(errorResponse('57P01', 'terminating connection', 'FATAL'));
      if (isOrderly) session.end();
      else tls?.end(() => tls.destroy());
      expect((await closed).code).toBe('57P01');
      expect(connection.isClosed).toBe(true);
    }
  });
});

describe('a Unix socket', () => {
  it('whose owner is asked for is refused, because that cannot be found out', async () => {
    const error = await rig.refusal({ port: 1 }, 'requirepeer=postgres', { address: '/nowhere' });
    expect(error).toMatchObject({ code: 'REQUIREPEER_UNSUPPORTED', isRetryable: false });
    expect(error.hint).toContain('verify-full');
    const tcp = await rig.refusal({ port: 1 }, 'requirepeer=postgres sslmode=disable');
    expect(tcp.code).toBe('CONNECT_FAILED');
  });
});
