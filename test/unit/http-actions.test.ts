// Who may change something over HTTP, what is done then, and what is said when it is not?
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Log } from '../../src/base/log.ts';
import {
  HTTP_TOKEN_ADDRESSES_MAX,
  HTTP_TOKEN_FORGIVE_MS,
  HTTP_TOKEN_LENGTH_GOOD,
} from '../../src/config/limits.ts';
import type { HttpOptions, HttpServer, HttpSources } from '../../src/http/server.ts';
import { TokenGuard } from '../../src/http/token-guard.ts';
import {
  exchange,
  openTestPort,
  RecordingActions,
  sampleFile,
  problemOf,
} from '../support/http-port.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sampleStatus } from '../support/relay-status.ts';

const TOKEN = 'the-token-of-this-test-which-is-long';
const EVERYWHERE = { kind: 'tcp', host: '0.0.0.0', port: 0 } as const;

async function open(
  options: Partial<HttpOptions> & Partial<HttpSources> = {},
): Promise<{ server: HttpServer; url: string; actions: RecordingActions }> {
  const actions = new RecordingActions();
  const server = await openTestPort({ actions, token: () => TOKEN, ...options });
  onTestFinished(() => server.close());
  return { server, url: `http://127.0.0.1:${server.port}`, actions };
}

interface Asked {
  readonly token?: string;
  readonly body?: unknown;
  readonly type?: string;
}

async function ask(
  method: string,
  url: string,
  { token = TOKEN, body, type = 'application/json' }: Asked = {},
): Promise<{ code: number; answer: unknown; headers: Headers }> {
  const response = await fetch(url, {
    method,
    headers: {
      ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { 'content-type': type }),
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  return {
    code: response.status,
    answer: text === '' ? null : JSON.parse(text),
    headers: response.headers,
  };
}

function recordingLog(): { lines: string[]; log: Log } {
  const lines: string[] = [];
  const log: Log = {
    debug: () => {},
    info: (message, fields) => void lines.push(`${message} ${JSON.stringify(fields)}`),
    warn: (message, fields) => void lines.push(`warn ${message} ${JSON.stringify(fields)}`),
    error: (message) => void lines.push(`error ${message}`),
    child: () => log,
  };
  return { lines, log };
}

const WRITES = [
  ['POST', '/api/v1/reload'],
  ['POST', '/api/v1/drain'],
  ['POST', '/api/v1/pause'],
  ['POST', '/api/v1/resume'],
  ['POST', '/api/v1/slots'],
  ['DELETE', '/api/v1/slots/slot_a'],
  ['DELETE', '/api/v1/standbys/42'],
  ['POST', '/api/v1/store/release'],
  ['POST', '/api/v1/log'],
] as const;

describe('the token', () => {
  test.each(WRITES)(
    '%s %s is refused without one, with a wrong one, and nothing is done',
    async (method, path) => {
      const { url, actions } = await open();
      const missing = await ask(method, url + path, { token: '' });
      const wrong = await ask(method, url + path, { token: `${TOKEN}x` });
      expect([missing.code, wrong.code]).toEqual([401, 401]);
      expect(missing.headers.get('www-authenticate')).toBe('Bearer realm="walcast"');
      expect(wrong.headers.get('www-authenticate')).toContain('error="invalid_token"');
      expect(missing.answer).toMatchObject({
        type: 'urn:walcast:problem:token-missing',
        detail: 'this needs a token',
        hint: expect.any(String),
      });
      expect(actions.done).toEqual([]);
    },
  );

  test.each(WRITES)(
    '%s %s is refused while none is configured, and says which key to set',
    async (method, path) => {
      const { url, actions } = await open({ token: () => null });
      const { code, answer } = await ask(method, url + path);
      expect([code, answer]).toMatchObject([
        403,
        { hint: expect.stringContaining('http.token_file') },
      ]);
      expect(actions.done).toEqual([]);
    },
  );

  test('a reload that changes it takes effect at once', async () => {
    let token = TOKEN;
    const { url } = await open({ token: () => token });
    expect((await ask('POST', `${url}/api/v1/reload`)).code).toBe(200);
    token = 'another-token-that-is-long-enough';
    expect((await ask('POST', `${url}/api/v1/reload`)).code).toBe(401);
    expect((await ask('POST', `${url}/api/v1/reload`, { token })).code).toBe(200);
  });

  test.each([
    '',
    'Basic dXNlcjpwYXNz',
    'Bearer',
    `Bearer ${TOKEN} ${TOKEN}`,
    `Bearer ${'x'.repeat(1025)}`,
  ])('the header %j shows none', async (header) => {
    const guard = new TokenGuard({ clock: new ManualClock() });
    expect(guard.check(header, '127.0.0.1', [TOKEN])).toBe('missing');
  });

  test('the scheme is read in any case', () => {
    const guard = new TokenGuard({ clock: new ManualClock() });
    expect(guard.check(`bearer ${TOKEN}`, '127.0.0.1', [TOKEN])).toBe('good');
  });

  test('who guesses from the address of the owner of a good token does not shut the owner out', () => {
    const guard = new TokenGuard({ clock: new ManualClock() });
    for (let index = 0; index < 50; index += 1)
      guard.check(`Bearer guess-${index}`, '10.0.0.1', [TOKEN]);
    expect(guard.check('Bearer guess', '10.0.0.1', [TOKEN])).toBe('locked');
    expect(guard.check(`Bearer ${TOKEN}`, '10.0.0.1', [TOKEN])).toBe('good');
    expect(guard.check('Bearer guess', '10.0.0.1', [TOKEN])).toBe('locked');
  });

  test('a token that can be guessed is not looked at for a while at an address that guesses; at others it is', () => {
    const clock = new ManualClock();
    const short = 'x'.repeat(HTTP_TOKEN_LENGTH_GOOD - 1);
    const guard = new TokenGuard({ clock });
    const verdicts = Array.from({ length: 12 }, (_, index) =>
      guard.check(`Bearer guess-${index}`, '10.0.0.1', [short]),
    );
    expect(verdicts).toEqual([...Array<string>(10).fill('wrong'), 'locked', 'locked']);
    expect(guard.check(`Bearer ${short}`, '10.0.0.1', [short])).toBe('locked');
    expect(guard.check(`Bearer ${short}`, '10.0.0.2', [short])).toBe('good');
    clock.advance(HTTP_TOKEN_FORGIVE_MS);
    expect(guard.check(`Bearer ${short}`, '10.0.0.1', [short])).toBe('good');
    expect(guard.check('Bearer again', '10.0.0.1', [short])).toBe('wrong');
    expect(guard.check('Bearer again', '10.0.0.1', [short])).toBe('locked');
  });

  test('one host has one count for all its IPv6 addresses, and for IPv4 in IPv6', () => {
    const guard = new TokenGuard({ clock: new ManualClock() });
    const guess = (address: string): string => guard.check('Bearer guess', address, [TOKEN]);
    for (let index = 1; index <= 10; index += 1) guess(`2001:db8::${index}`);
    expect(guess('2001:db8::ffff')).toBe('locked');
    expect(guess('2001:db8:0:1::1')).toBe('wrong');
    for (let index = 1; index <= 10; index += 1) guess('::ffff:10.0.0.9');
    expect(guess('10.0.0.9')).toBe('locked');
  });

  test('addresses beyond the bound are counted together, so that the count cannot be washed out', () => {
    const clock = new ManualClock();
    const guard = new TokenGuard({ clock });
    const guess = (index: number): string =>
      guard.check('Bearer guess', `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`, [
        TOKEN,
      ]);
    for (let index = 0; index < HTTP_TOKEN_ADDRESSES_MAX + 10; index += 1) guess(index);
    expect(guess(HTTP_TOKEN_ADDRESSES_MAX + 500)).toBe('locked');
    clock.advance(HTTP_TOKEN_FORGIVE_MS);
    expect(guess(HTTP_TOKEN_ADDRESSES_MAX + 501)).toBe('wrong');
  });

  test('guessing over the port ends in 429, and is logged once, without what was guessed', async () => {
    const { lines, log } = recordingLog();
    const { url } = await open({ log, clock: new ManualClock() });
    const codes: number[] = [];
    for (let index = 0; index < 12; index += 1) {
      codes.push((await ask('POST', `${url}/api/v1/drain`, { token: `guess-${index}` })).code);
    }
    expect(codes).toEqual([...Array<number>(10).fill(401), 429, 429]);
    const locked = await ask('POST', `${url}/api/v1/drain`, { token: 'guess-again' });
    expect([locked.code, locked.headers.get('retry-after')]).toEqual([429, '6']);
    const about = lines.filter((line) => line.includes('wrong token'));
    expect(about).toHaveLength(1);
    expect(lines.join('\n')).not.toContain('guess-');
    expect((await ask('POST', `${url}/api/v1/drain`)).code).toBe(202);
  });
});

describe('reading', () => {
  const PATHS = ['/api/v1/status', '/api/v1/config'];
  const OPEN_PATHS = ['/livez', '/readyz', '/startupz', '/metrics', '/openapi.json'];

  test('needs no token on loopback', async () => {
    const { url } = await open();
    for (const path of [...PATHS, ...OPEN_PATHS]) {
      expect((await fetch(url + path)).status, path).toBe(200);
    }
  });

  test('needs it where others can reach the port, except for probes and metrics', async () => {
    const { url } = await open({ listen: EVERYWHERE });
    for (const path of PATHS) {
      expect((await fetch(url + path)).status, path).toBe(401);
      expect((await fetch(url + path, { method: 'HEAD' })).status, path).toBe(401);
      const headers = { authorization: `Bearer ${TOKEN}` };
      expect((await fetch(url + path, { headers })).status, path).toBe(200);
    }
    for (const path of OPEN_PATHS) expect((await fetch(url + path)).status, path).toBe(200);
  });

  test('stays open there while no token is configured, which a warning says', async () => {
    const { lines, log } = recordingLog();
    const { url } = await open({ listen: EVERYWHERE, token: () => null, log });
    for (const path of PATHS) expect((await fetch(url + path)).status, path).toBe(200);
    expect(lines.filter((line) => line.startsWith('warn'))).toEqual([
      expect.stringContaining('set http.token_file'),
      expect.stringContaining('set http.tls'),
    ]);
  });

  test('there is no warning on loopback; elsewhere one says that tokens can be read on the way', async () => {
    const { lines, log } = recordingLog();
    const warnings = (): string[] => lines.filter((line) => line.startsWith('warn'));
    await open({ token: () => null, log });
    expect(warnings()).toEqual([]);
    await open({ listen: EVERYWHERE, log });
    expect(warnings()).toEqual([expect.stringContaining('without TLS')]);
  });
});

describe('WAL files', () => {
  const PATH = '/wal/00000002.history';
  const WAL_TOKEN = 'the-token-that-opens-wal-files-only';
  const codes = async (
    tokens: Pick<Partial<HttpOptions>, 'token' | 'walToken' | 'listen'>,
    shown: readonly string[],
  ): Promise<number[]> => {
    const actions = new RecordingActions();
    actions.file = (name) => sampleFile(name, [Buffer.from('x')]);
    const { url } = await open({ actions, ...tokens });
    return Promise.all(
      shown.map(async (token) => {
        const headers = token === '' ? {} : { authorization: `Bearer ${token}` };
        const head = await fetch(url + PATH, { method: 'HEAD', headers });
        const { status } = await fetch(url + PATH, { headers });
        expect(head.status).toBe(status);
        return status;
      }),
    );
  };

  test.each([['127.0.0.1'], ['0.0.0.0']])(
    'need a token wherever the port is (%s): being on the same machine is no permission',
    async (host) => {
      const listen = { kind: 'tcp', host, port: 0 } as const;
      expect(await codes({ listen }, ['', 'guess', TOKEN])).toEqual([401, 401, 200]);
    },
  );

  test('are refused to everybody while no token is configured, and it says which key to set', async () => {
    expect(await codes({ token: () => null }, ['', 'guess'])).toEqual([403, 403]);
    const { url } = await open({ token: () => null });
    const refused = await (await fetch(url + PATH)).json();
    expect(refused).toMatchObject({ hint: expect.stringContaining('http.wal_token_file') });
  });

  test('are opened by a token of their own, and by the one for everything', async () => {
    const tokens = { walToken: (): string => WAL_TOKEN };
    expect(await codes(tokens, [WAL_TOKEN, TOKEN, '', 'x'])).toEqual([200, 200, 401, 401]);
    expect(await codes({ ...tokens, token: () => null }, [WAL_TOKEN, TOKEN])).toEqual([200, 401]);
  });

  test('are all that their token opens', async () => {
    const { url, actions } = await open({ listen: EVERYWHERE, walToken: () => WAL_TOKEN });
    for (const [method, path] of WRITES) {
      expect((await ask(method, url + path, { token: WAL_TOKEN })).code, path).toBe(401);
    }
    expect((await ask('GET', `${url}/api/v1/status`, { token: WAL_TOKEN })).code).toBe(401);
    expect(actions.done).toEqual([]);
  });

  test('leave a line in the log for each client that takes some, and no more of them than one in ten seconds', async () => {
    const clock = new ManualClock();
    const { lines, log } = recordingLog();
    const actions = new RecordingActions();
    actions.file = (name) => sampleFile(name, [Buffer.from('x')]);
    const { url } = await open({ actions, log, clock });
    const headers = { authorization: `Bearer ${TOKEN}` };
    const take = async (): Promise<void> => {
      await (await fetch(url + PATH, { headers })).arrayBuffer();
    };
    for (let index = 0; index < 5; index += 1) await take();
    const { host, port } = new URL(url);
    const other = connect({ port: Number(port), host: '127.0.0.1', localAddress: '127.0.0.2' });
    other.write(
      `GET ${PATH} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${TOKEN}\r\nConnection: close\r\n\r\n`,
    );
    await once(other.resume(), 'close');
    clock.advance(10_000);
    await take();
    const given = lines.filter((line) => line.includes('WAL is given'));
    expect(given).toEqual([
      expect.stringMatching(/"client_addr":"127\.0\.0\.1"\}/),
      // Nobody is said to have taken what another one took.
      expect.stringMatching(/"client_addr":"127\.0\.0\.2","left_out":4\}/),
      expect.stringMatching(/"client_addr":"127\.0\.0\.1"\}/),
    ]);
  });

  test('are not asked of the store before the token is right', async () => {
    const asked: string[] = [];
    const actions = new RecordingActions();
    actions.file = (name) => {
      asked.push(name);
      return sampleFile(name, [Buffer.from('x')]);
    };
    const { url } = await open({ actions });
    await fetch(`${url}/wal/000000010000000000000001`);
    await fetch(`${url}/wal/nonsense`);
    expect(asked).toEqual([]);
  });
});

describe('slots', () => {
  test('one is created with the options given, and shown', async () => {
    const { url, actions } = await open();
    const created = await ask('POST', `${url}/api/v1/slots`, {
      body: { name: 'slot_a', reserve_wal: true },
    });
    expect(created).toMatchObject({
      code: 201,
      answer: { slot_name: 'slot_a', slot_type: 'physical' },
    });
    expect(created.headers.get('location')).toBe('/api/v1/slots/slot_a');
    await ask('POST', `${url}/api/v1/slots`, { body: { name: 'slot_a' } });
    expect(actions.done).toEqual(['create slot_a true', 'create slot_a false']);
  });

  test('one is dropped', async () => {
    const { url, actions } = await open();
    expect(await ask('DELETE', `${url}/api/v1/slots/slot_a`)).toMatchObject({
      code: 204,
      answer: null,
    });
    expect(actions.done).toEqual(['drop slot_a']);
  });

  test.each([
    ['42602', 400, 'invalid-name'],
    ['42622', 400, 'invalid-name'],
    ['42704', 404, 'no-such-object'],
    ['42710', 409, 'already-exists'],
    ['55006', 409, 'in-use'],
    ['53400', 409, 'limit-reached'],
    ['57P03', 503, 'starting-up'],
    ['58030', 500, 'failed'],
  ] as const)(
    'a refusal with SQLSTATE %s is %i, in the same words',
    async (sqlstate, code, kind) => {
      const { url, actions } = await open();
      actions.refusal = { sqlstate, message: 'no', detail: 'because', hint: 'try again' };
      const wanted = problemOf(kind, { detail: 'no. because', hint: 'try again', sqlstate });
      const created = await ask('POST', `${url}/api/v1/slots`, { body: { name: 'a' } });
      expect([created.code, created.answer]).toEqual([code, wanted]);
      const dropped = await ask('DELETE', `${url}/api/v1/slots/a`);
      expect([dropped.code, dropped.answer]).toEqual([code, wanted]);
      expect(created.headers.get('retry-after')).toBe(code === 503 ? '1' : null);
      expect(created.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
      actions.refusal = { sqlstate, message: 'no' };
      const { answer } = await ask('DELETE', `${url}/api/v1/slots/a`);
      expect(answer).toMatchObject({ detail: 'no', hint: expect.stringMatching(/.\.$/) });
    },
  );

  test.each([
    ['no body', undefined, 400],
    ['an empty body', '', 400],
    ['no JSON', '{name:', 400],
    ['no object', '[]', 400],
    ['no name', {}, 400],
    ['a name that is no text', { name: 7 }, 400],
    ['a flag that is no flag', { name: 'a', reserve_wal: 'yes' }, 400],
    ['a field too many', { name: 'a', temporary: true }, 400],
    ['a prototype', '{"name":"a","__proto__":{"x":1}}', 400],
    ['a constructor', '{"name":"a","constructor":{"prototype":{"x":1}}}', 400],
    ['64 KiB and more', { name: 'a'.repeat(70_000) }, 413],
  ])('%s is refused and nothing is done', async (_what, body, code) => {
    const { url, actions } = await open();
    const refused = await ask('POST', `${url}/api/v1/slots`, { body });
    expect([refused.code, refused.answer]).toMatchObject([
      code,
      { status: code, detail: expect.any(String), hint: expect.any(String) },
    ]);
    expect(actions.done).toEqual([]);
  });

  test('a form, or a body without end, is refused', async () => {
    const { url, server, actions } = await open();
    const body = 'name=a';
    const form = await ask('POST', `${url}/api/v1/slots`, {
      body,
      type: 'application/x-www-form-urlencoded',
    });
    expect([form.code, form.answer]).toMatchObject([
      415,
      { hint: expect.stringContaining('JSON') },
    ]);
    const text = await ask('POST', `${url}/api/v1/slots`, {
      body: '{"name":"a"}',
      type: 'text/plain',
    });
    expect(text.code).toBe(415);
    const endless = await exchange(
      server.port,
      `POST /api/v1/slots HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${TOKEN}\r\n` +
        'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n' +
        `10000\r\n${' '.repeat(65_536)}\r\n`.repeat(4),
    );
    expect(endless).toMatch(/^HTTP\/1\.1 413 /);
    expect(actions.done).toEqual([]);
  });

  test.each(['%00', 'a%2Fb', '%2e%2e', 'x'.repeat(5_000), '%F0%9F%98%80'])(
    'a name like %s reaches the rule for names as it was meant',
    async (name) => {
      const { url, actions } = await open();
      await ask('DELETE', `${url}/api/v1/slots/${name}`);
      // fetch resolves ".." itself: what is left is another path.
      const wanted = name === '%2e%2e' ? [] : [`drop ${decodeURIComponent(name)}`];
      expect(actions.done).toEqual(wanted);
    },
  );
});

describe('standbys', () => {
  test('one is disconnected by its pid', async () => {
    const { url, actions } = await open();
    expect((await ask('DELETE', `${url}/api/v1/standbys/42`)).code).toBe(204);
    expect(await ask('DELETE', `${url}/api/v1/standbys/43`)).toMatchObject({
      code: 404,
      answer: { detail: 'no standby has pid 43' },
    });
    expect(actions.done).toEqual(['disconnect 42', 'disconnect 43']);
  });

  test.each(['all', '-1', '4.2', '0x2a', '1e1', '12345678901', '%00', '42%20'])(
    '%s is no pid',
    async (pid) => {
      const { url, actions } = await open();
      expect((await ask('DELETE', `${url}/api/v1/standbys/${pid}`)).code).toBe(400);
      expect(actions.done).toEqual([]);
    },
  );
});

describe('reload and drain', () => {
  test('a client that gives a type to a body it does not send is served', async () => {
    const { url, actions } = await open();
    expect((await ask('POST', `${url}/api/v1/reload`, { body: '' })).code).toBe(200);
    expect((await ask('DELETE', `${url}/api/v1/standbys/42`, { body: '' })).code).toBe(204);
    expect((await ask('POST', `${url}/api/v1/slots`, { body: '' })).code).toBe(400);
    expect(actions.done).toEqual(['reload', 'disconnect 42']);
  });

  test('a reload while draining is refused as such, not for mistakes in the file', async () => {
    const source = { status: () => sampleStatus({ isDraining: true }) };
    const { url, actions } = await open({ source });
    expect(await ask('POST', `${url}/api/v1/reload`)).toMatchObject({
      code: 409,
      answer: { detail: expect.stringContaining('draining') },
    });
    expect(actions.done).toEqual([]);
  });

  test('neither is one that a drain overtakes', async () => {
    let isDraining = false;
    const { url, actions } = await open({ source: { status: () => sampleStatus({ isDraining }) } });
    const reload = actions.reload.bind(actions);
    actions.report = { problems: ['walcast is ending'], changed: [], pendingRestart: [] };
    actions.reload = () => {
      isDraining = true;
      return reload();
    };
    expect(await ask('POST', `${url}/api/v1/reload`)).toMatchObject({
      code: 409,
      answer: { detail: expect.stringContaining('draining') },
    });
  });

  test('a reload says what changed and what waits for a restart', async () => {
    const { url, actions } = await open();
    actions.report = { problems: [], changed: ['log.level'], pendingRestart: ['listen'] };
    expect(await ask('POST', `${url}/api/v1/reload`)).toMatchObject({
      code: 200,
      answer: { changed: ['log.level'], pending_restart: ['listen'] },
    });
  });

  test('a reload that finds mistakes shows all of them', async () => {
    const { url, actions } = await open();
    actions.report = { problems: ['a:1:1: no', 'a:2:1: no'], changed: [], pendingRestart: [] };
    expect(await ask('POST', `${url}/api/v1/reload`)).toMatchObject({
      code: 422,
      answer: problemOf('configuration-refused', {
        detail: 'the configuration was not changed, because it has mistakes',
        hint: 'Correct them and reload again.',
        problems: ['a:1:1: no', 'a:2:1: no'],
      }),
    });
  });

  test('a pause and its end are done, logged, and may come twice', async () => {
    const { lines, log } = recordingLog();
    const { url, actions } = await open({ log });
    for (const word of ['pause', 'pause', 'resume', 'resume']) {
      expect(await ask('POST', `${url}/api/v1/${word}`)).toMatchObject({
        code: 200,
        answer: { paused: word === 'pause' },
      });
    }
    expect(actions.done).toEqual(['pause', 'pause', 'resume', 'resume']);
    expect(lines.filter((line) => /^HTTP request done: (pause|resume) /.test(line))).toHaveLength(
      4,
    );
  });

  test('a drain begins once its answer is out', async () => {
    const { url, actions } = await open();
    const begun = new Promise<void>((resolve) => {
      actions.drain = () => resolve();
    });
    expect(await ask('POST', `${url}/api/v1/drain`)).toMatchObject({
      code: 202,
      answer: { state: 'draining' },
    });
    await begun;
  });
});

describe('methods', () => {
  test.each([
    ['PUT', '/api/v1/slots', 'GET, HEAD, POST'],
    ['GET', '/api/v1/slots/slot_a', 'DELETE'],
    ['POST', '/api/v1/standbys/42', 'DELETE'],
    ['GET', '/api/v1/drain', 'POST'],
    ['DELETE', '/wal/00000002.history', 'GET, HEAD'],
    ['OPTIONS', '/api/v1/status', 'GET, HEAD'],
  ])('%s %s is 405 and says which there are', async (method, path, allow) => {
    const { url, actions } = await open();
    const { code, headers } = await ask(method, url + path);
    expect([code, headers.get('allow')]).toEqual([405, allow]);
    expect(actions.done).toEqual([]);
  });
});
