// Does a GET end in time and in words whatever the other side does: hang, trickle, talk nonsense or without end, redirect?
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { httpGet } from '../../src/net/http-get.ts';
import type { HttpGetOptions } from '../../src/net/http-get.ts';
import { HostDiscovery } from '../../src/walreceiver/discovery.ts';
import { freePort } from '../harness/free-port.ts';
import { makeCertificate } from '../support/certificates.ts';
import { bodyOf, PATRONI_4_0 } from '../support/patroni-samples.ts';

const LIMITS = {
  clock: systemClock,
  timeoutMs: 2_000,
  connectTimeoutMs: 1_000,
  silenceTimeoutMs: 1_000,
  bodyBytesMax: 10_000,
} satisfies HttpGetOptions;

const BODY = bodyOf(PATRONI_4_0);
const HEAD = 'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n';

/** What a server does with a connection once it was asked something. */
type Script = (socket: Socket, asked: string) => void;

const servers: { readonly server: Server; readonly sockets: Set<Socket> }[] = [];

afterEach(async () => {
  for (const { server, sockets } of servers.splice(0)) {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => {
      server.close(resolve);
    });
  }
});

/** `host:port` of a server that does as the script says. */
async function serve(script: Script): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    let asked = '';
    socket.on('data', (chunk) => {
      asked += chunk.toString('latin1');
      if (asked.endsWith('\r\n\r\n')) script(socket, asked);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  servers.push({ server, sockets });
  const { port } = server.address() as AddressInfo;
  return `127.0.0.1:${port}`;
}

function get(address: string, limits: Partial<HttpGetOptions> = {}): ReturnType<typeof httpGet> {
  return httpGet(`http://${address}/cluster`, { ...LIMITS, ...limits });
}

/** Sends a byte again and again, until the socket is closed. */
function trickle(socket: Socket, text: string, everyMs: number): void {
  const timer = setInterval(() => {
    if (socket.writable) socket.write(text);
  }, everyMs);
  socket.on('close', () => clearInterval(timer));
}

/** Sends without end, as fast as it is taken. */
function flood(socket: Socket, text: string): void {
  const more = (): void => {
    while (socket.writable && socket.write(text));
  };
  socket.on('drain', more);
  more();
}

describe('a GET', () => {
  test('is one HTTP/1.1 request on a connection of its own, and reads what Patroni’s HTTP/1.0 server sends', async () => {
    const asked: string[] = [];
    const address = await serve((socket, text) => {
      asked.push(text);
      socket.write(HEAD);
      for (const byte of BODY) socket.write(Buffer.of(byte));
      socket.end();
    });
    for (let round = 0; round < 2; round += 1) {
      const { status, body } = await get(address);
      expect(status).toBe(200);
      expect(Buffer.from(body)).toEqual(Buffer.from(BODY));
    }
    expect(asked).toHaveLength(2);
    expect(asked[0]).toMatch(/^GET \/cluster HTTP\/1\.1\r\n/);
    expect(asked[0]?.toLowerCase()).toContain(`host: ${address}\r\n`);
    expect(asked[0]?.toLowerCase()).not.toMatch(/authorization|cookie|accept-encoding/);
  });

  test('gives an answer of any status', async () => {
    const address = await serve((socket) => socket.end('HTTP/1.0 503 No\r\n\r\n{}'));
    const { status, body } = await get(address);
    expect([status, Buffer.from(body).toString()]).toEqual([503, '{}']);
  });

  test.each<[what: string, script: Script, code: string, words: RegExp]>([
    ['says nothing', () => {}, 'HTTP_TIMEOUT', /did not begin in time/],
    [
      'trickles its headers',
      (socket) => {
        socket.write('HTTP/1.0 200 OK\r\n');
        trickle(socket, 'X: y\r\n', 200);
      },
      'HTTP_TIMEOUT',
      /./,
    ],
    [
      'goes on saying that it goes on',
      (socket) => trickle(socket, 'HTTP/1.1 100 Continue\r\n\r\n', 100),
      'HTTP_',
      /./,
    ],
    [
      'stops half-way',
      (socket) => socket.write(`${HEAD}{"members":[`),
      'HTTP_TIMEOUT',
      /stopped half-way/,
    ],
    [
      'trickles its body',
      (socket) => {
        socket.write(HEAD);
        trickle(socket, ' ', 100);
      },
      'HTTP_TIMEOUT',
      /no whole answer within 2000 ms/,
    ],
    [
      'sends a body without end',
      (socket) => {
        socket.write(HEAD);
        flood(socket, 'x'.repeat(65_536));
      },
      'HTTP_TOO_LARGE',
      /more than 10000 bytes/,
    ],
    [
      'announces more than it may',
      (socket) => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n');
        flood(socket, 'x'.repeat(65_536));
      },
      'HTTP_TOO_LARGE',
      /more than 10000 bytes/,
    ],
    [
      'sends headers without end',
      (socket) => {
        socket.write('HTTP/1.1 200 OK\r\n');
        flood(socket, `X-Y: ${'z'.repeat(1_000)}\r\n`);
      },
      'HTTP_TOO_LARGE',
      /bytes of headers/,
    ],
    ['closes', (socket) => socket.end(), 'HTTP_BROKEN', /broke off/],
    ['resets the connection', (socket) => socket.resetAndDestroy(), 'HTTP_BROKEN', /./],
    [
      'closes in the middle of what it announced',
      (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}'),
      'HTTP_BROKEN',
      /broke off/,
    ],
    ['speaks another language', (socket) => socket.end('220 mail ready\r\n'), 'HTTP_BROKEN', /./],
    [
      'redirects',
      (socket) =>
        socket.end('HTTP/1.1 302 Found\r\nLocation: http://u:secret@169.254.0.1/\r\n\r\n'),
      'HTTP_REDIRECT',
      /redirected to http:\/\/\*{8}@169\.254\.0\.1\/, which is not followed/,
    ],
  ])('of a server that %s is over in time', async (_what, script, code, words) => {
    const address = await serve(script);
    const error: unknown = await get(address).then(
      () => null,
      (failure: unknown) => failure,
    );
    expect(error).toMatchObject({ isRetryable: true, code: expect.stringContaining(code) });
    const message = error instanceof Error ? error.message : '';
    expect(message).toMatch(words);
    expect(message.startsWith(`${address}: `)).toBe(true);
    expect(message).not.toContain('secret');
    expect(message.length).toBeLessThan(400);
  });

  test('where nobody listens says so', async () => {
    const address = `127.0.0.1:${await freePort()}`;
    await expect(get(address)).rejects.toThrow(`${address}: connection refused (ECONNREFUSED)`);
  });

  test('of a name that nobody knows says so', async () => {
    await expect(get('walcast.invalid:8008')).rejects.toThrow(/^walcast\.invalid:8008: .*name/);
  });

  test('ends when it is told to, at whatever step', async () => {
    const steps: Script[] = [
      () => {},
      (socket) => socket.write('HTTP/1.1 200 OK\r\n'),
      (socket) => socket.write(`${HEAD}{`),
    ];
    for (const script of steps) {
      const abort = new AbortController();
      const address = await serve((socket, asked) => {
        script(socket, asked);
        setImmediate(() => abort.abort());
      });
      await expect(get(address, { signal: abort.signal })).rejects.toMatchObject({
        code: 'HTTP_ABORTED',
      });
    }
    const address = await serve(() => {});
    await expect(get(address, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'HTTP_ABORTED',
    });
  });

  test('with TLS of a server that never shakes hands is over in time', async () => {
    const address = await serve(() => {});
    await expect(httpGet(`https://${address}/`, LIMITS)).rejects.toMatchObject({
      code: 'HTTP_TIMEOUT',
    });
  });

  test('with TLS sends nothing to a server whose certificate nobody vouches for', async () => {
    const { pem, key } = makeCertificate({ commonName: '127.0.0.1' });
    let asked = '';
    const server = createTlsServer({ cert: pem, key }, (socket) => {
      socket.on('error', () => {});
      socket.on('data', (chunk) => {
        asked += chunk.toString();
      });
    });
    server.on('tlsClientError', () => {});
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    servers.push({ server, sockets: new Set() });
    const { port } = server.address() as AddressInfo;
    await expect(httpGet(`https://127.0.0.1:${port}/cluster`, LIMITS)).rejects.toMatchObject({
      code: 'HTTP_CONNECT_FAILED',
      message: expect.stringMatching(/^127\.0\.0\.1:\d+: self-signed certificate/),
    });
    expect(asked).toBe('');
  });

  test('leaves no connection behind', async () => {
    const address = await serve((socket) => socket.write(`${HEAD}{}`));
    await expect(get(address, { timeoutMs: 200 })).rejects.toMatchObject({ code: 'HTTP_TIMEOUT' });
    const [{ sockets } = { sockets: new Set<Socket>() }] = servers;
    await Promise.all(
      [...sockets].map(
        (socket) =>
          new Promise((resolve) => {
            if (socket.destroyed) resolve(null);
            else socket.once('close', resolve);
          }),
      ),
    );
    expect(sockets.size).toBe(0);
  });
});

describe('discovery', () => {
  test('finds the one Patroni that answers among those that do everything else', async () => {
    const hang = await serve(() => {});
    const garbage = await serve((socket) => socket.end(`${HEAD}<html>`));
    const elsewhere = await serve((socket) => socket.end('HTTP/1.1 301 M\r\nLocation: /x\r\n\r\n'));
    const good = await serve((socket) => socket.end(Buffer.concat([Buffer.from(HEAD), BODY])));
    const nobody = `127.0.0.1:${await freePort()}`;
    const urls = [nobody, garbage, elsewhere, hang, good].map((address) => `http://${address}`);
    const discovery = new HostDiscovery(
      { urls, preference: { kind: 'primary' } },
      { clock: systemClock, log: silentLog, httpGet, random: Math.random },
    );
    discovery.start();
    await discovery.firstAnswer(20_000);
    discovery.stop();
    expect(discovery.hosts().map(({ name }) => name)).toEqual(['b', 'a', 'c']);
    expect(discovery.status().lastAnswerFrom).toBe(`http://${good}`);
  });
});
