// Does the HTTP port speak TLS to whom it should, with the certificate of the moment, and does nobody get past it?
import { once } from 'node:events';
import { Agent, request } from 'node:https';
import type { RequestOptions } from 'node:https';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { PortCertificate, PortTls } from '../../src/http/secure-port.ts';
import type { HttpOptions, HttpServer } from '../../src/http/server.ts';
import { makeCertificate } from '../support/certificates.ts';
import type { TestCertificate } from '../support/certificates.ts';
import { exchange, openTestPort, RecordingActions, sampleFile } from '../support/http-port.ts';

const TOKEN = 'the-token-of-this-test-which-is-long';
const authority = makeCertificate({ commonName: 'the authority', isAuthority: true });
const server = certificateFor('localhost');
const clients = makeCertificate({ commonName: 'of clients', isAuthority: true });
const monitor = makeCertificate({ commonName: 'monitor', issuer: clients });
const stranger = makeCertificate({ commonName: 'monitor', issuer: authority });

function certificateFor(name: string): TestCertificate {
  return makeCertificate({
    commonName: name,
    dns: [name],
    ip: [Buffer.from([127, 0, 0, 1])],
    issuer: authority,
  });
}

/** A certificate that can be replaced. */
class TestTls implements PortTls {
  readonly hasClientAuthorities: boolean;
  readonly #listeners = new Set<() => void>();
  #current: PortCertificate;

  constructor(certificate: TestCertificate, ca: string | null = null) {
    this.hasClientAuthorities = ca !== null;
    this.#current = { cert: certificate.pem, key: certificate.key, ca };
  }

  current(): PortCertificate {
    return this.#current;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  replace(certificate: TestCertificate, ca = this.#current.ca): void {
    this.#current = { cert: certificate.pem, key: certificate.key, ca };
    for (const listener of this.#listeners) listener();
  }

  get isFollowed(): boolean {
    return this.#listeners.size > 0;
  }
}

async function open(
  tls: PortTls = new TestTls(server),
  options: Partial<HttpOptions> = {},
): Promise<HttpServer> {
  const actions = new RecordingActions();
  actions.file = (name) => sampleFile(name, [Buffer.from('x')]);
  const port = await openTestPort({ tls, actions, token: () => TOKEN, ...options });
  onTestFinished(() => port.close());
  return port;
}

/** One request on a connection of its own; the status code. */
function ask(port: HttpServer, path: string, options: RequestOptions = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const target = { host: '127.0.0.1', port: port.port, path, agent: new Agent(), ...options };
    const asked = request({ ca: authority.pem, ...target }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
    });
    asked.on('error', reject);
    asked.end();
  });
}

async function secured(port: HttpServer, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connectTls({
    host: '127.0.0.1',
    port: port.port,
    ca: authority.pem,
    ...options,
  });
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

/** What a handshake that has to fail failed with. */
function refused(port: HttpServer, options: ConnectionOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({
      host: '127.0.0.1',
      port: port.port,
      ca: authority.pem,
      ...options,
    });
    socket.on('secureConnect', () => reject(new Error('the handshake succeeded')));
    socket.on('error', (error) => resolve(String(error)));
    socket.on('close', () => resolve('closed'));
  });
}

describe('with TLS', () => {
  test('everything is answered as without, and the URL says so', async () => {
    const port = await open();
    expect(port.url).toBe(`https://127.0.0.1:${port.port}`);
    expect(await ask(port, '/livez')).toBe(200);
    expect(await ask(port, '/api/v1/status')).toBe(200);
    expect(await ask(port, '/wal/00000002.history')).toBe(401);
    const headers = { authorization: `Bearer ${TOKEN}` };
    expect(await ask(port, '/wal/00000002.history', { headers })).toBe(200);
  });

  test('the certificate is the one that is configured, for names and for addresses', async () => {
    const port = await open();
    await expect(ask(port, '/livez', { ca: clients.pem })).rejects.toThrow(/certificate/);
    expect(await ask(port, '/livez', { servername: 'localhost' })).toBe(200);
    await expect(ask(port, '/livez', { servername: 'relay.example' })).rejects.toThrow(/altnames/);
  });

  test('plain text gets no answer and disturbs nobody', async () => {
    const port = await open();
    const answer = await exchange(
      port.port,
      'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    );
    expect(answer).not.toContain('HTTP/');
    expect(await ask(port, '/livez')).toBe(200);
  });

  test.each(['TLSv1', 'TLSv1.1'] as const)('%s is refused', async (version) => {
    const port = await open();
    const options = { minVersion: version, maxVersion: version, ciphers: 'ALL:@SECLEVEL=0' };
    expect(await refused(port, options)).toMatch(/alert|version|protocol/i);
  });

  test('a key exchange that is all work is refused', async () => {
    const port = await open();
    expect(await refused(port, { ecdhCurve: 'ffdhe8192' })).toMatch(/handshake failure/);
    const socket = await secured(port, { ecdhCurve: 'P-384:ffdhe8192' });
    expect(socket.getEphemeralKeyInfo()).toMatchObject({ type: 'ECDH' });
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('%s is taken', async (version) => {
    const socket = await secured(await open(), { minVersion: version, maxVersion: version });
    expect(socket.getProtocol()).toBe(version);
  });

  test('a session is not negotiated again', async () => {
    const socket = await secured(await open(), { maxVersion: 'TLSv1.2' });
    const ended = closed(socket);
    let isDone = false;
    socket.renegotiate({}, (error) => (isDone = error === null));
    await ended;
    expect(isDone).toBe(false);
  });

  test('a page of another site is refused on loopback as without', async () => {
    const port = await open();
    const headers = { host: 'evil.example' };
    expect(await ask(port, '/api/v1/status', { headers, servername: 'localhost' })).toBe(421);
  });

  test(
    'a handshake that dribbles is ended, and so are headers that do',
    { timeout: 15_000 },
    async () => {
      const port = await open(new TestTls(server), { times: { headers: 400, inactivity: 60_000 } });
      const silent = connect(port.port, '127.0.0.1');
      silent.on('error', () => {});
      // The beginning of a ClientHello that never goes on.
      silent.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]));
      const slow = await secured(port);
      slow.write('GET /livez HTTP/1.1\r\nHost: local');
      slow.resume();
      await Promise.all([closed(silent), closed(slow)]);
    },
  );

  test('a handshake gets no more time with each byte', { timeout: 15_000 }, async () => {
    const port = await open(new TestTls(server), { times: { headers: 400, inactivity: 60_000 } });
    const slow = connect(port.port, '127.0.0.1');
    slow.on('error', () => {});
    const end = closed(slow);
    // A ClientHello of 512 bytes.
    slow.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc]));
    let bytes = 0;
    const dribble = (): void => {
      if (slow.destroyed) return;
      slow.write(Buffer.of(0x03));
      bytes += 1;
      systemClock.setTimer(50, dribble);
    };
    dribble();
    await end;
    expect(bytes).toBeLessThan(200);
  });

  test('closing does not wait for a handshake', async () => {
    const port = await open(new TestTls(server), { times: { headers: 60_000 } });
    const silent = connect(port.port, '127.0.0.1');
    silent.on('error', () => {});
    await once(silent, 'connect');
    expect(await ask(port, '/livez')).toBe(200);
    const ended = closed(silent);
    const started = systemClock.nowMs();
    await port.close();
    expect(systemClock.nowMs() - started).toBeLessThan(5_000);
    await ended;
  });
});

describe('another certificate', () => {
  test('is shown to who comes next, and those who are there stay', async () => {
    const tls = new TestTls(server);
    const port = await open(tls);
    const before = await secured(port);
    const next = certificateFor('localhost');
    tls.replace(next);
    const after = await secured(port);
    const shown = (socket: TLSSocket): string => socket.getPeerCertificate().raw.toString('hex');
    expect(shown(before)).toBe(server.der.toString('hex'));
    expect(shown(after)).toBe(next.der.toString('hex'));
    // To a client that names the port by its name, too.
    expect(shown(await secured(port, { servername: 'localhost' }))).toBe(next.der.toString('hex'));
    before.write('GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(String(await once(before, 'data'))).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('that comes while the port is being opened is not missed', async () => {
    const tls = new TestTls(server);
    const opening = open(tls);
    const next = certificateFor('localhost');
    tls.replace(next);
    const { raw } = (await secured(await opening)).getPeerCertificate();
    expect(raw.toString('hex')).toBe(next.der.toString('hex'));
  });

  test('is not followed any more once the port is closed', async () => {
    const tls = new TestTls(server);
    const port = await open(tls);
    expect(tls.isFollowed).toBe(true);
    await port.close();
    expect(tls.isFollowed).toBe(false);
  });
});

describe('with authorities for clients', () => {
  const OPEN = ['/livez', '/readyz', '/startupz', '/metrics', '/openapi.json'];
  const CLOSED = ['/api/v1/status', '/api/v1/config', '/wal/00000002.history'];
  const headers = { authorization: `Bearer ${TOKEN}` };
  const asMonitor = { cert: monitor.pem, key: monitor.key };

  test('who shows no certificate gets probes and metrics, and nothing else, whatever the token', async () => {
    const port = await open(new TestTls(server, clients.pem));
    for (const path of OPEN) expect(await ask(port, path), path).toBe(200);
    for (const path of CLOSED) expect(await ask(port, path, { headers }), path).toBe(403);
    expect(await ask(port, '/api/v1/reload', { method: 'POST', headers })).toBe(403);
  });

  test('who shows a good one may ask, with the token where there has to be one', async () => {
    const port = await open(new TestTls(server, clients.pem));
    expect(await ask(port, '/api/v1/status', asMonitor)).toBe(200);
    expect(await ask(port, '/wal/00000002.history', asMonitor)).toBe(401);
    expect(await ask(port, '/wal/00000002.history', { ...asMonitor, headers })).toBe(200);
    expect(await ask(port, '/api/v1/reload', { ...asMonitor, method: 'POST' })).toBe(401);
    expect(await ask(port, '/api/v1/reload', { ...asMonitor, method: 'POST', headers })).toBe(200);
  });

  test.each([
    ['of another authority', stranger],
    ['signed by itself', makeCertificate({ commonName: 'monitor' })],
    ['that has expired', makeCertificate({ issuer: clients, from: -3, to: -1 })],
  ])('one %s is none', async (_what, { pem: cert, key }) => {
    const port = await open(new TestTls(server, clients.pem));
    expect(await ask(port, '/api/v1/status', { cert, key, headers })).toBe(403);
    expect(await ask(port, '/livez', { cert, key })).toBe(200);
  });

  test('a session that is taken up again is believed no more than it was', async () => {
    const port = await open(new TestTls(server, clients.pem));
    const options = { maxVersion: 'TLSv1.2' } as const;
    const first = await secured(port, options);
    const session = first.getSession();
    first.destroy();
    const again = await secured(port, {
      ...options,
      ...(session === undefined ? {} : { session }),
    });
    again.write(
      `GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`,
    );
    expect(String(await once(again, 'data'))).toMatch(/^HTTP\/1\.1 403 /);
  });

  test('an authority that is believed no more is not: another one counts from the next connection on', async () => {
    const tls = new TestTls(server, clients.pem);
    const port = await open(tls);
    expect(await ask(port, '/api/v1/status', asMonitor)).toBe(200);
    tls.replace(server, makeCertificate({ commonName: 'other', isAuthority: true }).pem);
    expect(await ask(port, '/api/v1/status', asMonitor)).toBe(403);
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'a session with a certificate that is believed no more is not taken up again as one with it (%s)',
    async (version) => {
      const tls = new TestTls(server, clients.pem);
      const port = await open(tls);
      const options = { ...asMonitor, minVersion: version, maxVersion: version };
      const status = async (socket: TLSSocket): Promise<string> => {
        socket.write('GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n');
        return String(await once(socket, 'data')).slice(0, 12);
      };
      const first = await secured(port, options);
      let session = first.getSession();
      first.on('session', (newest) => (session = newest));
      expect(await status(first)).toBe('HTTP/1.1 200');
      expect(session).toBeDefined();
      tls.replace(server, makeCertificate({ commonName: 'other', isAuthority: true }).pem);
      const again = await secured(port, { ...options, ...(session && { session }) });
      expect(await status(again)).toBe('HTTP/1.1 403');
    },
  );
});

/** Resolves when a connection is over, however it ended: what is written to somebody who has gone ends in a reset. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()));
}
