// What bad input does the HTTP port get, and what does it make of it? What the other files about it do not show, in the order of the list
// of bad inputs: I100 to I108.
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { HTTP_CONNECTIONS_MAX, METRICS_REUSE_MS } from '../../src/config/limits.ts';
import { ConnectionCaps } from '../../src/http/connection-caps.ts';
import { hasDuplicateKeys } from '../../src/http/json-body.ts';
import type { HttpOptions, HttpServer, HttpSources } from '../../src/http/server.ts';
import { openMetrics } from '../../src/metrics/registry.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { openTestPort, exchange, RecordingActions } from '../support/http-port.ts';
import { sampleStandby, sampleStatus } from '../support/relay-status.ts';

const TOKEN = 'the-token-of-this-test-which-is-long';
const HEAD = `Host: localhost\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Type: application/json\r\n`;

async function open(
  options: Partial<HttpOptions> & Partial<HttpSources> = {},
): Promise<{ server: HttpServer; actions: RecordingActions }> {
  const actions = new RecordingActions();
  const server = await openTestPort({ actions, token: () => TOKEN, ...options });
  onTestFinished(() => server.close());
  return { server, actions };
}

async function client(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  // A reset is one of the ways to be refused.
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  return socket;
}

async function post(server: HttpServer, body: string): Promise<string> {
  const length = `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n`;
  return await exchange(server.port, `POST /api/v1/slots HTTP/1.1\r\n${HEAD}${length}\r\n${body}`);
}

describe('I100 tokens', () => {
  test('one that is too short, too long, cut off or nearly right gets the same answer as any wrong one', async () => {
    const { server } = await open();
    const answers = new Set<string>();
    for (const token of [
      TOKEN.slice(0, -1),
      `${TOKEN}x`,
      'x',
      'x'.repeat(1024),
      `x${TOKEN.slice(1)}`,
    ]) {
      const answer = await exchange(
        server.port,
        `POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\n\r\n`,
      );
      answers.add(answer.replace(/^Date: .*\r\n/im, ''));
    }
    expect(answers.size).toBe(1);
    expect([...answers][0]).toMatch(/^HTTP\/1\.1 401 /);
  });

  test('no answer, whatever is asked, has a token in it', async () => {
    const walToken = 'the-token-for-wal-files-of-this-test';
    const { server } = await open({ walToken: () => walToken });
    const paths = ['status', 'upstream', 'standbys', 'slots', 'store', 'sync', 'version', 'config'];
    const asked = [
      ...paths.map((name) => `/api/v1/${name}`),
      '/metrics',
      '/openapi.json',
      '/livez',
      '/readyz',
      '/startupz',
      '/wal/x',
      '/nothing',
    ];
    for (const path of asked) {
      const answer = await exchange(
        server.port,
        `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${walToken}\r\n\r\n`,
      );
      expect(answer).toMatch(/^HTTP\/1\.1 /);
      expect(answer).not.toContain(TOKEN);
      expect(answer).not.toContain(walToken);
    }
  });
});

test('I100, I103 no other spelling of a path, method or version gets past the token', async () => {
  const actions = new RecordingActions();
  actions.openWalFile = async (name) => {
    actions.done.push(name);
    return { kind: 'absent' };
  };
  const { server } = await open({ actions });
  const file = '000000010000000000000001';
  const spellings = [
    ...['HEAD', 'OPTIONS', 'SEARCH', 'get'].map((method) => `${method} /wal/${file}`),
    `/%77al/${file}`,
    `//wal/${file}`,
    `/WAL/${file}`,
    `/wal/${file}/`,
    `/livez/../wal/${file}`,
    `/wal/..%2f${file}`,
    `/wal/${file}%00`,
    `/wal/${file};x`,
    `/wal/${file}?x`,
    `wal/${file}`,
    `http://localhost/wal/${file}`,
    `http://localhost/livez?/wal/${file}`,
    'POST /api/v1/%64rain',
    'POST //api/v1/drain',
    'POST /api/v1/drain?token=x',
    'POST http://localhost/api/v1/drain',
    'GET /api/v1/drain?_method=POST',
    'HEAD /api/v1/drain',
  ].map((line) => (line.includes(' ') ? line : `GET ${line}`));
  for (const line of spellings) {
    for (const version of ['HTTP/1.1\r\nHost: localhost', 'HTTP/1.0']) {
      const answer = await exchange(
        server.port,
        `${line} ${version}\r\nX-HTTP-Method-Override: POST\r\nConnection: close\r\n\r\n`,
      );
      // The probe, to which all of it is a query.
      const code = line.includes('/livez?') ? /^HTTP\/1\.1 200 / : /^HTTP\/1\.1 4\d\d /;
      expect(answer, line).toMatch(code);
    }
  }
  expect(actions.done).toEqual([]);
});

describe('I101 bodies', () => {
  test('a gigabyte that is announced is refused before it comes', async () => {
    const { server, actions } = await open();
    const answer = await exchange(
      server.port,
      `POST /api/v1/slots HTTP/1.1\r\n${HEAD}Content-Length: 1073741824\r\n\r\n{`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    expect(actions.done).toEqual([]);
  });

  test('one without end of somebody without a token is answered, and ends with its time', async () => {
    const { server } = await open({ times: { request: 500, headers: 400 } });
    const endless = await client(server.port);
    endless.resume();
    // Not `once` of node:events, which takes the reset for a failure.
    const ended = new Promise((resolve) => endless.once('close', resolve));
    endless.write(
      'POST /api/v1/slots HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n',
    );
    const more = (): void => {
      if (!endless.destroyed)
        endless.write(`400\r\n${' '.repeat(1024)}\r\n`, () => setImmediate(more));
    };
    more();
    await ended;
  });

  test.each([
    ['lists in lists', '['.repeat(30_000) + ']'.repeat(30_000)],
    ['objects in objects', `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`],
    ['a key twice', '{"name":"a","name":"b"}'],
    ['a key twice, written differently', '{"name":"a","n\\u0061me":"b"}'],
    ['a key twice further in', '{"name":"a","x":{"y":1,"y":2}}'],
    ['a prototype, hidden', '{"name":"a","__pr\\u006fto__":{"x":1}}'],
    ['a number for a name', '{"name":9007199254740993}'],
    ['text behind the end', '{"name":"a"}{"name":"b"}'],
    ['a byte order mark', '\ufeff\ufeff{"name":"a"}'],
  ])('%s is refused, and nothing is done', async (_what, body) => {
    const { server, actions } = await open();
    const answer = await post(server, body);
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(actions.done).toEqual([]);
    expect(({} as { x?: unknown }).x).toBeUndefined();
  });

  test('keys are taken for the same exactly where a reader takes them so', () => {
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { depthSize: 'small' },
        fc.string(),
        fc.constantFrom('1', '[]', '{}', ':', '"', '\\'),
        fc.array(tie('any'), { maxLength: 3 }),
        fc.dictionary(fc.string(), tie('any'), { maxKeys: 4 }),
      ),
    })).any;
    fc.assert(
      fc.property(value, fc.string(), (any, key) => {
        const json = JSON.stringify({ [key]: any });
        expect(hasDuplicateKeys(json)).toBe(false);
        const twice = `{${json.slice(1, -1)},${JSON.stringify(key)}:1}`;
        expect(hasDuplicateKeys(twice)).toBe(true);
        expect(hasDuplicateKeys(`[${json},${json}]`)).toBe(false);
      }),
    );
  });
});

describe('I102 slowness', () => {
  test.each([
    ['headers', 'POST /api/v1/slots HTTP/1.1\r\n', 'X: y\r\n'],
    ['a body', `POST /api/v1/slots HTTP/1.1\r\n${HEAD}Content-Length: 60000\r\n\r\n`, ' '],
    [
      'chunks',
      `POST /api/v1/slots HTTP/1.1\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\n`,
      '1\r\n \r\n',
    ],
  ])('%s that dribble do not get more time with each byte', async (_what, begin, piece) => {
    const { server, actions } = await open({
      times: { request: 600, headers: 500, inactivity: 60_000 },
    });
    const slow = await client(server.port);
    let answer = '';
    slow.setEncoding('latin1');
    slow.on('data', (text: string) => (answer += text));
    const ended = once(slow, 'close');
    slow.write(begin);
    const dribble = (): void => {
      if (slow.destroyed) return;
      slow.write(piece);
      systemClock.setTimer(50, dribble);
    };
    dribble();
    await ended;
    expect(answer).toMatch(/^HTTP\/1\.1 408 /);
    expect(actions.done).toEqual([]);
  });
});

describe('I103 requests that two readers read differently', () => {
  test.each([
    ['two lengths that differ', 'Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x'],
    ['a length and chunks', 'Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['chunks in another spelling', 'Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n'],
    ['chunks that are not last', 'Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n'],
    ['a length that is no number', 'Content-Length: +2\r\n\r\n{}'],
    ['a header that is continued', 'X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}'],
    ['a space before the colon', 'Content-Length : 2\r\n\r\n{}'],
    ['a bare line feed', 'X: a\nContent-Length: 2\n\n{}'],
    ['a NUL in a header', 'X: a\u0000b\r\nContent-Length: 2\r\n\r\n{}'],
  ])('%s: nothing is done, and no second request is seen in it', async (_what, rest) => {
    const { server, actions } = await open();
    const smuggled = `POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`;
    const answer = await exchange(
      server.port,
      `POST /api/v1/slots HTTP/1.1\r\n${HEAD}Connection: close\r\n${rest}${smuggled}`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /);
    expect(actions.done).toEqual([]);
  });
});

describe('I104, I105 what others have named, and large numbers', () => {
  const hostile = 'a"} 1\nwalcast_ready 0\n{\\x="';
  const status = sampleStatus({
    standbys: [
      sampleStandby({
        applicationName: hostile,
        user: hostile,
        slotName: null,
        flushLsn: toLsn((1n << 63n) + 1n),
      }),
    ],
    slots: [],
  });
  const metrics = openMetrics({
    source: { status: () => status },
    clock: systemClock,
  });

  test('a name cannot end its label, nor begin a line', async () => {
    const { server } = await open({ source: { status: () => status }, metrics });
    const body = await (await fetch(`${server.url}/metrics`)).text();
    expect(body.split('\n').filter((line) => line.startsWith('walcast_ready '))).toEqual([
      'walcast_ready 1',
    ]);
    const lines = body.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    const series = /^[a-z_][a-zA-Z0-9_:]*(\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)*\})? [^ ]+$/;
    expect(lines.filter((line) => !series.test(line))).toEqual([]);
  });

  test('an LSN is text, and no digit of it is lost', async () => {
    const { server } = await open({ source: { status: () => status } });
    const answer = await (await fetch(`${server.url}/api/v1/standbys`)).json();
    expect(answer).toMatchObject([{ application_name: hostile, flush_lsn: '80000000/1' }]);
  });
});

/** Asks `count` times on one connection, each time when it was answered; how many answers were whole. */
async function scrapes(socket: Socket, count: number): Promise<number> {
  let text = '';
  let whole = 0;
  const ask = (): void => {
    socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n');
  };
  return await new Promise((resolve) => {
    socket.setEncoding('latin1');
    socket.once('close', () => resolve(whole));
    socket.on('data', (piece: string) => {
      text += piece;
      const head = /^HTTP\/1\.1 200 [\s\S]*?\r\ncontent-length: (\d+)\r\n[\s\S]*?\r\n\r\n/i.exec(
        text,
      );
      if (head === null || text.length < head[0].length + Number(head[1])) return;
      text = '';
      whole += 1;
      if (whole === count) resolve(whole);
      else ask();
    });
    ask();
  });
}

describe('I107 a thousand scrapes at once', () => {
  test('are answered from few renderings', async () => {
    let asked = 0;
    const metrics = openMetrics({
      source: { status: () => (asked++, sampleStatus()) },
      clock: systemClock,
    });
    const { server } = await open({ metrics });
    const startedMs = systemClock.nowMs();
    const answers = await Promise.all(
      Array.from({ length: 100 }, async () => {
        const scraper = await client(server.port);
        return await scrapes(scraper, 10);
      }),
    );
    expect(answers.reduce((sum, count) => sum + count, 0)).toBe(1_000);
    const seconds = (systemClock.nowMs() - startedMs) / METRICS_REUSE_MS;
    expect(asked).toBeLessThanOrEqual(2 + seconds);
  });
});

describe('I108 other sites', () => {
  const FOREIGN =
    'Origin: https://evil.example\r\nCookie: token=x\r\nSec-Fetch-Site: cross-site\r\n';

  test('a form that a browser sends for another site does nothing', async () => {
    const { server, actions } = await open();
    for (const path of ['drain', 'pause', 'reload', 'store/release']) {
      const answer = await exchange(
        server.port,
        `POST /api/v1/${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${FOREIGN}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b`,
      );
      expect(answer, path).toMatch(/^HTTP\/1\.1 40[13] /);
    }
    expect(actions.done).toEqual([]);
  });

  test('no answer lets another site read it, and none sets a cookie', async () => {
    const { server } = await open();
    for (const [method, path] of [
      ['GET', '/api/v1/status'],
      ['OPTIONS', '/api/v1/status'],
      ['OPTIONS', '/api/v1/slots'],
      ['GET', '/metrics'],
      ['GET', '/nothing'],
    ] as const) {
      const answer = await exchange(
        server.port,
        `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${FOREIGN}Access-Control-Request-Method: DELETE\r\n\r\n`,
      );
      expect(answer).toMatch(/^HTTP\/1\.1 /);
      expect(answer).not.toMatch(/access-control-allow|set-cookie/i);
      expect(answer).toMatch(/x-content-type-options: nosniff/i);
    }
  });

  test.each([
    'localhost.evil.example',
    'evil.example:9188',
    '127.0.0.1.evil.example',
    '127.0.0.1@evil.example',
    '[::1].evil.example',
    '0x7f.1',
    '10.0.0.1',
    'localhost:9188:80',
    '',
  ])('the name %j is not that of this machine', async (host) => {
    const { server } = await open();
    const answer = await exchange(
      server.port,
      `GET /api/v1/status HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 4(00|21) /);
    expect(answer).not.toContain('system_identifier');
  });

  test.each([
    'localhost',
    'LOCALHOST:1',
    '127.0.0.1:9188',
    '127.1.2.3',
    '[::1]:9188',
    'a.localhost',
  ])('the name %j is', async (host) => {
    const { server } = await open();
    const answer = await exchange(
      server.port,
      `GET /livez HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe('many connections', () => {
  let ports = 0;

  class FakeSocket {
    readonly remoteAddress: string;
    readonly remotePort = (ports += 1);
    isDestroyed = false;
    #onClose: () => void = () => {};

    constructor(remoteAddress: string) {
      this.remoteAddress = remoteAddress;
    }

    once(_event: 'close', listener: () => void): void {
      this.#onClose = listener;
    }

    destroy(): void {
      this.isDestroyed = true;
      this.#onClose();
    }
  }

  function room(options: { max: number; perClientMax: number }): {
    caps: ConnectionCaps;
    come: (address: string) => FakeSocket;
  } {
    const caps = new ConnectionCaps(options);
    const come = (address: string): FakeSocket => {
      const socket = new FakeSocket(address);
      caps.admit(socket);
      return socket;
    };
    return { caps, come };
  }

  test('a client network holds its share at most: who of it has waited longest goes for a newcomer of it', () => {
    const { caps, come } = room({ max: 100, perClientMax: 2 });
    const first = come('2001:db8::1');
    const other = come('2001:db8:0:1::1');
    const [second, third] = [come('2001:db8::2'), come('2001:db8::3')];
    expect([first, second, third, other].map(({ isDestroyed }) => isDestroyed)).toEqual([
      true,
      false,
      false,
      false,
    ]);
    // As IPv4, and as IPv4 in IPv6.
    const [plain] = [come('10.0.0.1'), come('::ffff:10.0.0.1'), come('10.0.0.1')];
    expect(plain?.isDestroyed).toBe(true);
    caps.destroyAll();
    expect([second, third, other].every(({ isDestroyed }) => isDestroyed)).toBe(true);
  });

  test('in a full house room is made by who was silent for longest, of the network that has most', () => {
    const { caps, come } = room({ max: 4, perClientMax: 4 });
    const crowd = [come('10.0.0.1'), come('10.0.0.1'), come('10.0.0.1')];
    const monitor = come('10.0.0.2');
    const done = caps.busy(crowd[0] ?? monitor);
    const probe = come('10.0.0.3');
    expect(crowd.map(({ isDestroyed }) => isDestroyed)).toEqual([false, true, false]);
    expect([monitor, probe].map(({ isDestroyed }) => isDestroyed)).toEqual([false, false]);
    // Once it is answered it waits like others, behind those who waited already.
    done();
    expect([come('10.0.0.4'), crowd[2], crowd[0]].map((one) => one?.isDestroyed)).toEqual([
      false,
      true,
      false,
    ]);
  });

  test('a request protects nobody while it is answered, unless it has shown a token', () => {
    const { caps, come } = room({ max: 2, perClientMax: 2 });
    const [owner, stranger] = [come('10.0.0.1'), come('10.0.0.1')];
    const ends = [owner, stranger].map((one) => caps.busy(one));
    caps.trust(owner);
    const next = come('10.0.0.1');
    expect([owner, stranger, next].map(({ isDestroyed }) => isDestroyed)).toEqual([
      false,
      true,
      false,
    ]);
    caps.busy(next);
    caps.trust(next);
    expect(come('10.0.0.1').isDestroyed).toBe(true);
    // What was shown counts for one request.
    ends[0]?.();
    expect(come('10.0.0.1').isDestroyed).toBe(false);
    expect([owner, next].map(({ isDestroyed }) => isDestroyed)).toEqual([true, false]);
  });

  test('where all have shown a token the newcomer goes', () => {
    const { caps, come } = room({ max: 2, perClientMax: 2 });
    const asking = [come('10.0.0.1'), come('10.0.0.2')];
    for (const socket of asking) {
      caps.busy(socket);
      caps.trust(socket);
    }
    expect(come('10.0.0.3').isDestroyed).toBe(true);
    expect(asking.map(({ isDestroyed }) => isDestroyed)).toEqual([false, false]);
    asking[0]?.destroy();
    expect(come('10.0.0.3').isDestroyed).toBe(false);
  });

  test.each([
    ['say nothing', ''],
    [
      'announce a body for no route and never send it',
      'POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n',
    ],
  ])('a full house of strangers who %s keeps no probe out', async (_what, begin) => {
    // Longer than this takes: nobody is sent away because his time is over.
    const { server } = await open({ times: { headers: 60_000, inactivity: 60_000 } });
    const strangers = await Promise.all(
      Array.from({ length: HTTP_CONNECTIONS_MAX }, async () => {
        const stranger = await client(server.port);
        stranger.write(begin);
        return stranger;
      }),
    );
    for (let round = 0; round < 5; round += 1) {
      const answer = await exchange(
        server.port,
        'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
      );
      expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    }
    expect(strangers.filter(({ destroyed }) => !destroyed).length).toBeGreaterThan(200);
  });

  test('by its name, loopback is one port with all of its limits', async () => {
    const { server } = await open({ listen: { kind: 'tcp', host: 'localhost', port: 0 } });
    const other = connect(server.port, '::1');
    const refused = await new Promise((resolve) => {
      other.on('error', () => resolve(true));
      other.on('connect', () => resolve(false));
    });
    other.destroy();
    expect(refused).toBe(true);
    expect((await fetch(`http://127.0.0.1:${server.port}/livez`)).status).toBe(200);
  });
});
