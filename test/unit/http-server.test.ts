// Does the HTTP port answer what it should, refuse what it should not, and give up on who wastes its time?
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { Log } from '../../src/base/log.ts';
import type { HttpOptions, HttpServer } from '../../src/http/server.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { exchange, openTestPort, RecordingMetrics, problemOf } from '../support/http-port.ts';
import { sampleStandby, sampleStatus, unknownStatus } from '../support/relay-status.ts';

const servers: HttpServer[] = [];
const metrics = new RecordingMetrics();

async function open(
  status: () => RelayStatus = sampleStatus,
  listen: HttpOptions['listen'] = { kind: 'tcp', host: '127.0.0.1', port: 0 },
  options: Partial<HttpOptions> = {},
): Promise<HttpServer> {
  const server = await openTestPort({ listen, source: { status }, metrics, ...options });
  servers.push(server);
  return server;
}

afterEach(async () => {
  metrics.requests.length = 0;
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

function recordingLog(): { lines: string[]; log: Log } {
  const lines: string[] = [];
  const log: Log = {
    debug: (message) => void lines.push(`debug ${message}`),
    info: (message) => void lines.push(`info ${message}`),
    warn: (message) => void lines.push(`warn ${message}`),
    error: (message) => void lines.push(`error ${message}`),
    child: () => log,
  };
  return { lines, log };
}

function get(port: number, path: string, headers = ''): Promise<string> {
  return exchange(
    port,
    `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}\r\n`,
  );
}

describe('answers', () => {
  test('status, standbys and version are JSON and are not cached', async () => {
    const { url } = await open();
    const response = await fetch(`${url}/api/v1/status`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(await response.json()).toMatchObject({
      state: 'streaming',
      upstream: {
        reported: { write: '0/3000060', flush: '0/3000000', apply: null },
        lag_bytes: 256,
      },
      standbys: [{ pid: 42, replay_lag: 2.5, tls: false }],
    });
    const standbys = await fetch(`${url}/api/v1/standbys`);
    expect(await standbys.json()).toMatchObject([
      { application_name: 'standby_a', client_addr: '10.0.0.7' },
    ]);
    const version = await fetch(`${url}/api/v1/version`);
    expect(await version.json()).toMatchObject({
      version: '0.1.0',
      postgresql_majors: expect.arrayContaining([13, 18]),
    });
  });

  test('metrics go out with exactly the content type they were rendered for', async () => {
    const { url } = await open();
    const response = await fetch(`${url}/metrics`);
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(await response.text()).toBe('walcast_ready 1\n');
  });

  test('probes answer 200 or 503 with the reason', async () => {
    const { url } = await open(unknownStatus);
    const answers = await Promise.all(
      ['livez', 'startupz', 'readyz'].map((path) => fetch(`${url}/${path}`)),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 503, 503]);
    expect(await answers[2]!.json()).toEqual({
      status: 'unavailable',
      state: 'starting',
      reason: 'the upstream has not been identified yet',
    });
  });

  test('readyz takes a bound on the lag in PostgreSQL units', async () => {
    const { url } = await open();
    const codes = await Promise.all(
      ['1kB', '255', '64MB', '1 parsec', '-1'].map((lag) => fetch(`${url}/readyz?lag=${lag}`)),
    );
    expect(codes.map(({ status }) => status)).toEqual([200, 503, 200, 400, 400]);
  });

  test('a bound on the lag that is given twice is refused, not left out', async () => {
    const { url } = await open();
    expect((await fetch(`${url}/readyz?lag=1kB&lag=64MB`)).status).toBe(400);
  });

  test('HEAD is answered where GET is, without a body', async () => {
    const { url } = await open();
    const response = await fetch(`${url}/readyz`, { method: 'HEAD' });
    expect([response.status, await response.text()]).toEqual([200, '']);
  });

  test('the status is asked anew at each request', async () => {
    let isReady = false;
    const { url } = await open(() => sampleStatus({ isReady }));
    expect((await fetch(`${url}/readyz`)).status).toBe(503);
    isReady = true;
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
  });

  test('the made-up clock of one standby does not take the API from everybody', async () => {
    const times = ['+010000-01-01T00:00:00Z', '-000001-12-31T23:59:59Z', '2026-01-01T00:00:00Z'];
    const standbys = times.map((time) => sampleStandby({ replyTimeMs: Date.parse(time) }));
    const { url } = await open(() => sampleStatus({ standbys }));
    for (const path of ['status', 'standbys'])
      expect((await fetch(`${url}/api/v1/${path}`)).status).toBe(200);
    expect(await (await fetch(`${url}/api/v1/standbys`)).json()).toMatchObject([
      { reply_time: null },
      { reply_time: null },
      { reply_time: '2026-01-01T00:00:00.000Z' },
    ]);
  });

  test('each request is measured by its route, never by its URL', async () => {
    const { url } = await open();
    await fetch(`${url}/readyz?lag=1kB`);
    await fetch(`${url}/no/such/path/4711`);
    expect(
      metrics.requests.map(({ method, route, statusCode }) => [method, route, statusCode]),
    ).toEqual([
      ['GET', '/readyz', 200],
      ['GET', 'none', 404],
    ]);
    expect(metrics.requests.every(({ seconds }) => seconds >= 0 && seconds < 5)).toBe(true);
  });
});

const SAYS_WHAT_TO_DO = {
  type: expect.stringMatching(/^urn:walcast:problem:[a-z-]+$/),
  title: expect.any(String),
  status: expect.any(Number),
  detail: expect.any(String),
  hint: expect.any(String),
};

describe('refusals', () => {
  test('unknown paths are 404, known paths with another method 405', async () => {
    const { url } = await open();
    const unknown = await fetch(`${url}/nothing`);
    expect([unknown.status, await unknown.json()]).toEqual([
      404,
      problemOf('not-found', {
        detail: 'not found',
        hint: 'GET /openapi.json lists every path.',
      }),
    ]);
    const posted = await fetch(`${url}/api/v1/status`, { method: 'POST', body: '{}' });
    expect([posted.status, posted.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    const deleted = await fetch(`${url}/metrics`, { method: 'DELETE' });
    expect(deleted.status).toBe(405);
  });

  test.each(['/:x(', '/*', '/:a', '/livez/:b(\\d+', '//', '/constructor', '/livez?(', '*'])(
    'the path %s is compared, not understood as a pattern',
    async (path) => {
      const { lines, log } = recordingLog();
      const { port } = await open(sampleStatus, undefined, { log });
      const known = path === '/livez?(';
      for (const method of ['GET', 'DELETE']) {
        const answer = await exchange(
          port,
          `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
        );
        const code = known ? (method === 'GET' ? 200 : 405) : 404;
        expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${code} `));
      }
      expect(lines).toEqual(['info HTTP port is open']);
    },
  );

  test('a request in the name of another site is refused on loopback', async () => {
    const { port } = await open();
    const answer = await exchange(
      port,
      'GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n',
    );
    expect(answer).toMatch(/^HTTP\/1\.1 421 /);
    expect(answer).not.toContain('system_identifier');
  });

  test('on an address others can reach the name does not matter', async () => {
    const { port } = await open(sampleStatus, { kind: 'tcp', host: '0.0.0.0', port: 0 });
    expect(
      await exchange(
        port,
        'GET /livez HTTP/1.1\r\nHost: relay.example\r\nConnection: close\r\n\r\n',
      ),
    ).toMatch(/^HTTP\/1\.1 200 /);
  });

  test.each([
    ['a chunk without a length', '0x5\r\nhello\r\n0\r\n\r\n'],
    ['a chunk longer than it says', '2\r\nhello\r\n0\r\n\r\n'],
  ])('%s in the body is told, and is no trouble of ours', async (_what, chunks) => {
    const { lines, log } = recordingLog();
    const { port } = await open(sampleStatus, undefined, { log, token: () => 'x'.repeat(32) });
    const answer = await exchange(
      port,
      `POST /api/v1/slots HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${'y'.repeat(32)}\r\n` +
        `Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 40[01] /);
    await servers.at(-1)?.close();
    expect(lines.filter((line) => line.startsWith('error'))).toEqual([]);
  });

  test.each([
    ['no HTTP at all', 'IDENTIFY_SYSTEM\r\n\r\n', /^HTTP\/1\.1 400 /],
    ['an unknown method', 'BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n', /^HTTP\/1\.1 400 /],
    ['no Host', 'GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n', /^HTTP\/1\.1 400 /],
    [
      'headers without end',
      `GET / HTTP/1.1\r\nHost: localhost\r\nA: ${'b'.repeat(20_000)}\r\n\r\n`,
      /^HTTP\/1\.1 431 /,
    ],
    [
      'a body over the bound',
      `POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 70000\r\nConnection: close\r\n\r\n`,
      /^HTTP\/1\.1 4(04|13) /,
    ],
    [
      'two lengths',
      'POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      /^HTTP\/1\.1 400 /,
    ],
    [
      'a path that climbs',
      'GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
      /^HTTP\/1\.1 404 /,
    ],
    [
      'an encoded zero',
      'GET /api/v1/%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
      /^HTTP\/1\.1 404 /,
    ],
    [
      'half an escape',
      'GET /%E0%A4%A HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
      /^HTTP\/1\.1 40[04] /,
    ],
    [
      'a very long path',
      `GET /${'x'.repeat(8000)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
      /^HTTP\/1\.1 4(04|14) /,
    ],
  ])('%s is refused and the port lives on', async (_what, request, answer) => {
    const { port } = await open();
    const refused = await exchange(port, request);
    expect(refused).toMatch(answer);
    // The one about the Host is Node.js' own, without a body.
    if (!request.includes('Host:') && request.startsWith('GET'))
      expect(refused).toMatch(/0\r\n\r\n$/);
    else expect(JSON.parse(refused.slice(refused.indexOf('\r\n\r\n')))).toEqual(SAYS_WHAT_TO_DO);
    expect(await get(port, '/livez')).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('a failure inside shows nothing of the inside', async () => {
    const { url } = await open(() => {
      throw new Error('secret detail');
    });
    const response = await fetch(`${url}/api/v1/status`);
    expect([response.status, await response.json()]).toEqual([
      500,
      problemOf('internal-error', {
        detail: 'internal error',
        hint: 'The log of walcast says more.',
      }),
    ]);
  });
});

describe('lifetime', () => {
  test('headers that do not arrive end the connection', { timeout: 15_000 }, async () => {
    const { port } = await open();
    expect(await exchange(port, 'GET /livez HTTP/1.1\r\nHost: local')).toMatch(/^HTTP\/1\.1 408 /);
  });

  test('a port that is taken is an error that says so', async () => {
    const { port } = await open();
    await expect(
      open(sampleStatus, { kind: 'tcp', host: '127.0.0.1', port }),
    ).rejects.toMatchObject({
      name: 'OperationalError',
      code: 'EADDRINUSE',
      message: `cannot listen on 127.0.0.1:${port} for HTTP: the port is in use`,
      hint: expect.stringContaining('http.listen'),
    });
  });

  test('an address of another machine is an error that says so', async () => {
    await expect(
      open(sampleStatus, { kind: 'tcp', host: '203.0.113.1', port: 0 }),
    ).rejects.toMatchObject({
      message: 'cannot listen on 203.0.113.1:0 for HTTP: this machine has no such address',
    });
  });

  test('closing does not wait for a connection that is kept alive', async () => {
    const server = await open();
    const { url } = server;
    await (await fetch(`${url}/livez`)).text();
    const started = systemClock.nowMs();
    await server.close();
    expect(systemClock.nowMs() - started).toBeLessThan(900);
    await expect(fetch(`${url}/livez`)).rejects.toThrow();
  });

  test('a request that comes while it closes is told so, and its connection ends', async () => {
    const server = await open();
    const { port } = server;
    const late = connect(port, '127.0.0.1');
    late.on('error', () => {});
    let answer = '';
    late.setEncoding('latin1').on('data', (text: string) => (answer += text));
    late.write('GET /livez HTTP/1.1\r\nHost: localhost\r\n');
    // Its beginning is there when another one has been answered.
    await once(late, 'connect');
    await get(port, '/livez');
    const closing = server.close();
    late.write('\r\n');
    await once(late, 'close');
    await closing;
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    expect(head).toMatch(/^HTTP\/1\.1 503 /);
    expect(head).toMatch(/^content-type: application\/problem\+json; charset=utf-8$/im);
    expect(head).toMatch(/^connection: close$/im);
    expect(JSON.parse(body)).toMatchObject({ type: 'urn:walcast:problem:shutting-down' });
  });

  test('closing gives up on a request that hangs', { timeout: 10_000 }, async () => {
    const server = await open();
    const { port } = server;
    const hanging = exchange(
      port,
      'POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n123',
    );
    await get(port, '/livez');
    const started = systemClock.nowMs();
    await server.close();
    await hanging;
    expect(systemClock.nowMs() - started).toBeLessThan(5_000);
  });
});
