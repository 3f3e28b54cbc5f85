// Are the levels of the log shown and set over HTTP, and what is said where they cannot be?
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Log } from '../../src/base/log.ts';
import type { HttpOptions, HttpServer, HttpSources } from '../../src/http/server.ts';
import { openTestPort, RecordingActions } from '../support/http-port.ts';

const TOKEN = 'the-token-of-this-test-which-is-long';

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

describe('a level of the log', () => {
  test('is set until the next restart, and written down with who asked', async () => {
    const { log, lines } = recordingLog();
    const { url, actions } = await open({ log });
    const body = { component: 'walsender', level: 'debug' };
    const { code, answer } = await ask('POST', `${url}/api/v1/log`, { body });
    expect([code, answer]).toEqual([
      200,
      [
        { component: 'default', level: 'info', origin: 'default' },
        { component: 'walsender', level: 'debug', origin: 'runtime' },
      ],
    ]);
    await ask('POST', `${url}/api/v1/log`, { body: { component: 'walsender', level: 'reset' } });
    expect(actions.done).toEqual([
      'log level walsender debug',
      'log level walsender as configured',
    ]);
    const told = lines.filter((line) => line.startsWith('HTTP request done: set log level'));
    expect(told).toHaveLength(2);
    expect(told[0]).toContain(
      '"log_component":"walsender","log_level":"debug","client_addr":"127.0.0.1"',
    );
  });

  test('of a component that is not known is refused with those that are', async () => {
    const { url } = await open();
    const body = { component: 'nobody', level: 'debug' };
    const { code, answer } = await ask('POST', `${url}/api/v1/log`, { body });
    expect([code, answer]).toMatchObject([
      404,
      { type: 'urn:walcast:problem:no-such-object', hint: 'Components are default, walsender.' },
    ]);
  });

  test.each([
    {},
    { component: 'wal' },
    { component: 'wal', level: 'loud' },
    { component: 'wal', level: null },
    { component: 7, level: 'debug' },
    { component: '', level: 'debug' },
    { component: 'x'.repeat(64), level: 'debug' },
    { component: 'wal', level: 'debug', for: 'ever' },
  ])('is not set by %j', async (body) => {
    const { url, actions } = await open();
    expect((await ask('POST', `${url}/api/v1/log`, { body })).code).toBe(400);
    expect(actions.done).toEqual([]);
  });

  test('is shown to whoever may look', async () => {
    const { url } = await open();
    const { code, answer } = await ask('GET', `${url}/api/v1/log`, { token: '' });
    expect([code, answer]).toMatchObject([200, [{ component: 'default' }, { origin: 'runtime' }]]);
  });
});
