// A server, or somebody in between, that holds up, floods or breaks off a connection with TLS at each of its steps; and
// what is left behind of many that failed.
import { getEventListeners } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { WalcastError } from '../../src/base/errors.ts';
import { makeCertificate, makeRevocationList } from '../support/certificates.ts';
import { cstr, i32, message } from '../support/naive-writer.ts';
import type { ScriptedSession } from '../support/scripted-upstream.ts';
import { TlsRig } from '../support/tls-rig.ts';
import type { RigConnect } from '../support/tls-rig.ts';
import { TlsUpstream } from '../support/tls-upstream.ts';
import type { TlsUpstreamOptions } from '../support/tls-upstream.ts';

const authority = makeCertificate({ commonName: 'authority', isAuthority: true });
const server = makeCertificate({ commonName: 'pg', dns: ['localhost'], issuer: authority });

let rig: TlsRig;

beforeAll(async () => {
  rig = await TlsRig.open();
  await rig.write('root.crt', authority.pem);
});

afterAll(async () => {
  await rig.close();
});

/** In front of `port`: what the server says goes through `toClient`. */
async function between(
  port: number,
  toClient: (chunk: Buffer, client: Socket) => void,
): Promise<AsyncDisposable & { port: number }> {
  const sockets = new Set<Socket>();
  const proxy: Server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {});
    }
    client.on('data', (chunk) => upstream.write(chunk));
    client.on('close', () => upstream.destroy());
    upstream.on('data', (chunk) => toClient(chunk, client));
    upstream.on('close', () => client.destroy());
  });
  await new Promise<void>((resolve) => {
    proxy.listen(0, '127.0.0.1', resolve);
  });
  return {
    port: (proxy.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => {
        proxy.close(() => resolve());
      });
    },
  };
}

/** One byte a turn of the loop, for ever: each is progress. */
function drip(chunk: Buffer, client: Socket): void {
  let at = 0;
  const next = (): void => {
    if (client.destroyed || at >= chunk.length) return;
    client.write(chunk.subarray(at, at + 1));
    at += 1;
    setTimeout(next, 5);
  };
  next();
}

describe('connect_timeout', () => {
  it('counts for a handshake that drips, too', async () => {
    await using upstream = await TlsUpstream.listen({ certificate: server });
    await using proxy = await between(upstream.port, drip);
    const startedAt = performance.now();
    const error = await rig.refusal(proxy, 'sslmode=verify-full sslrootcert=@root.crt', {
      timeoutMs: 300,
    });
    expect(error.code).toBe('CONNECT_TIMEOUT');
    expect(performance.now() - startedAt).toBeLessThan(8_000);
  });

  it('counts once for all attempts', async () => {
    await using upstream = await TlsUpstream.listen({ certificate: server, isSilent: true });
    const startedAt = performance.now();
    const error = await rig.refusal(upstream, 'sslmode=prefer', { timeoutMs: 200 });
    expect(error.code).toBe('CONNECT_TIMEOUT');
    expect(performance.now() - startedAt).toBeLessThan(8_000);
    expect(upstream.accepted).toBe(1);
  });
});

/** The server has offered SCRAM and got the client's first message, which is returned. */
async function offered(session: ScriptedSession): Promise<string> {
  await session.startup();
  session.send(message('R', i32(10), cstr('SCRAM-SHA-256'), 0));
  return (await session.next()).body.toString();
}

async function challenged(upstream: TlsUpstream): Promise<void> {
  await offered((await upstream.accept()).session);
}

/** The client has to do a million rounds of hashing. */
async function slowlyChallenged(upstream: TlsUpstream): Promise<void> {
  const { session } = await upstream.accept();
  const nonce = /r=(.*)$/.exec(await offered(session))?.[1] ?? '';
  session.send(message('R', i32(11), `r=${nonce}x,s=AAAA,i=1000000`));
}

describe('an attempt that is stopped', () => {
  it.each<[string, Partial<TlsUpstreamOptions>, (upstream: TlsUpstream) => Promise<unknown>]>([
    ['before it began', {}, () => Promise.resolve()],
    ['while the answer is awaited', { answer: '' }, (upstream) => upstream.requested()],
    ['during the handshake', { isSilent: true }, (upstream) => upstream.requested()],
    ['before the startup packet is answered', {}, (upstream) => upstream.accept()],
    ['during the login', {}, challenged],
    ['while the key is derived', {}, slowlyChallenged],
  ])('%s ends at once, and closes its connection', async (_, options, reached) => {
    await using upstream = await TlsUpstream.listen({ certificate: server, ...options });
    const stop = new AbortController();
    const refused = rig.refusal(upstream, 'sslmode=require', {
      signal: stop.signal,
      password: 'secret',
    });
    await reached(upstream);
    stop.abort();
    expect((await refused).code).toMatch(/^(CONNECT_ABORTED|UPSTREAM_CLOSED)$/);
    await upstream.empty();
  });
});

const descriptors = (): number => readdirSync('/proc/self/fd').length;

/** Files that an attempt was reading are closed in a moment; one descriptor an attempt would be far more than this. */
async function settled(before: number): Promise<void> {
  await vi.waitFor(() => expect(descriptors()).toBeLessThan(before + 5));
}

describe('attempts that fail leave nothing behind', () => {
  const ROUNDS = 30;
  const cases: readonly {
    what: string;
    server: Partial<TlsUpstreamOptions>;
    conninfo: string;
    how?: RigConnect;
  }[] = [
    { what: 'refused TLS', server: { answer: 'N' }, conninfo: 'sslmode=require' },
    { what: 'bytes that are none of TLS', server: { garbles: true }, conninfo: 'sslmode=require' },
    {
      what: 'a broken handshake, then plain text that says nothing',
      server: { brokenHandshakes: 1e9 },
      conninfo: 'sslmode=prefer',
      how: { timeoutMs: 50 },
    },
    { what: 'no trust', server: {}, conninfo: 'sslmode=verify-full sslrootcert=@other.crt' },
    {
      what: 'a handshake that never ends',
      server: { isSilent: true },
      conninfo: 'sslmode=require',
      how: { timeoutMs: 20 },
    },
    {
      what: 'a login that never ends',
      server: {},
      conninfo: 'sslmode=verify-full sslrootcert=@root.crt',
      how: { timeoutMs: 60 },
    },
  ];

  it.each(cases)('$what', async ({ server: options, conninfo, how }) => {
    await rig.write('other.crt', makeCertificate({ commonName: 'other' }).pem);
    await using upstream = await TlsUpstream.listen({ certificate: server, ...options });
    const { signal } = new AbortController();
    const attempt = async (): Promise<void> => {
      await rig.refusal(upstream, conninfo, { signal, ...how });
    };
    await attempt();
    await upstream.empty();
    const before = descriptors();
    for (let round = 0; round < ROUNDS; round += 10) {
      await Promise.all(Array.from({ length: 10 }, attempt));
    }
    await upstream.empty();
    await settled(before);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('also those that are stopped at any moment', async () => {
    await using upstream = await TlsUpstream.listen({ certificate: server });
    const before = descriptors();
    for (let round = 0; round < ROUNDS; round += 1) {
      const stop = new AbortController();
      const refused = rig.refusal(upstream, 'sslmode=verify-full sslrootcert=@root.crt', {
        signal: stop.signal,
      });
      for (let turns = round % 30; turns > 0; turns -= 1) await nextTurn();
      stop.abort();
      expect((await refused).code).toMatch(/^(CONNECT_ABORTED|UPSTREAM_CLOSED)$/);
    }
    await upstream.empty();
    await settled(before);
  });
});

it('bytes that were changed on the way end the session, and are not blamed on its settings', async () => {
  await using upstream = await TlsUpstream.listen({ certificate: server });
  let isChanging = false;
  await using proxy = await between(upstream.port, (chunk, client) => {
    client.write(isChanging ? chunk.map((byte) => byte ^ 0x55) : chunk);
  });
  const ends: WalcastError[] = [];
  const onClosed = (error: WalcastError): void => void ends.push(error);
  const opening = rig.connect(proxy, 'sslmode=require', { onClosed });
  const { session } = await upstream.accept();
  await session.login();
  await opening;
  isChanging = true;
  session.send(message('S', cstr('a'), cstr('b')));
  await session.closed;
  expect(ends).toMatchObject([{ code: 'TLS_BROKEN', isRetryable: true }]);
});

it.each([
  ['beginnings', '-----BEGIN X509 CRL-----\n'],
  ['ends', '-----END X509 CRL-----\n'],
  ['dashes', '-----'],
])('a list of revocations among a million %s is found in time', async (_, junk) => {
  const list = makeRevocationList(authority, [server]);
  await rig.write('long.crl', `${junk.repeat((4 << 20) / junk.length)}\n${list}`);
  await using upstream = await TlsUpstream.listen({ certificate: server });
  const files = 'sslrootcert=@root.crt sslcrl=@long.crl';
  const error = await rig.refusal(upstream, `sslmode=verify-full ${files}`);
  expect(error.code).toBe('TLS_CERTIFICATE_REVOKED');
});
