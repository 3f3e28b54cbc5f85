// Is it written down who asked over HTTP for a change, and what came of it?
import { once } from 'node:events';
import { connect } from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { Log } from '../../src/base/log.ts';
import type { HttpSources } from '../../src/http/server.ts';
import { SQLSTATE } from '../../src/pg/sqlstate.ts';
import { openTestPort, RecordingActions } from '../support/http-port.ts';
import { sampleStatus } from '../support/relay-status.ts';

const TOKEN = 'a-token-that-is-long-enough-to-be-good-0123456789';

interface Line {
  readonly level: string;
  readonly message: string;
  readonly fields: unknown;
}

async function open(sources: Partial<HttpSources> = {}) {
  const lines: Line[] = [];
  const write =
    (level: string) =>
    (message: string, fields: unknown): void => {
      lines.push({ level, message, fields });
    };
  const log: Log = {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: () => log,
  };
  const actions = new RecordingActions();
  const server = await openTestPort({ actions, token: () => TOKEN, log, ...sources });
  onTestFinished(() => server.close());
  const ask = async (method: string, path: string, body?: unknown): Promise<number> => {
    const response = await fetch(`http://127.0.0.1:${server.port}/api/v1/${path}`, {
      method,
      headers: {
        authorization: `Bearer ${TOKEN}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    await response.arrayBuffer();
    return response.status;
  };
  const told = (): Line[] => lines.filter(({ message }) => message.startsWith('HTTP request '));
  return { actions, ask, port: server.port, told };
}

const WHO = {
  client_addr: '127.0.0.1',
  client_port: expect.any(Number),
  token: 'http.token_file',
};

test.each([
  ['POST', 'reload', 'reload', {}],
  ['POST', 'pause', 'pause', {}],
  ['POST', 'resume', 'resume', {}],
  ['POST', 'drain', 'drain', {}],
  ['POST', 'store/release', 'release dead WAL', {}],
  ['DELETE', 'slots/slot_a', 'drop slot', { slot: 'slot_a' }],
  ['DELETE', 'standbys/42', 'disconnect standby', { pid: '42' }],
] as const)('%s %s that is done has one line, which says who asked', async (...row) => {
  const [method, path, action, subject] = row;
  const { ask, told } = await open();
  expect(await ask(method, path)).toBeLessThan(300);
  expect(told()).toEqual([
    { level: 'info', message: `HTTP request done: ${action}`, fields: { ...subject, ...WHO } },
  ]);
});

test('what is refused has one line, which says why; a name is shortened', async () => {
  const { actions, ask, told } = await open();
  actions.refusal = { sqlstate: SQLSTATE.nameTooLong, message: 'x'.repeat(5_000) };
  const name = 'x'.repeat(500);
  expect(await ask('POST', 'slots', { name })).toBe(400);
  expect(told()).toEqual([
    {
      level: 'warn',
      message: 'HTTP request refused: create slot',
      fields: {
        slot: 'x'.repeat(63),
        ...WHO,
        status: 400,
        problem: 'invalid-name',
        sqlstate: '42622',
        reason: 'x'.repeat(1_000),
      },
    },
  ]);
});

test.each([
  ['DELETE', 'standbys/43', 'refused', 'disconnect standby', 404, 'no-such-object'],
  ['DELETE', 'standbys/all', 'refused', 'disconnect standby', 400, 'invalid-name'],
] as const)('%s %s is %s', async (...row) => {
  const [method, path, word, action, status, problem] = row;
  const { ask, told } = await open();
  expect(await ask(method, path)).toBe(status);
  expect(told()).toMatchObject([
    { level: 'warn', message: `HTTP request ${word}: ${action}`, fields: { status, problem } },
  ]);
});

test('what was tried in vain has failed: a disk, a configuration with mistakes', async () => {
  const { actions, ask, told } = await open();
  actions.refusal = { sqlstate: SQLSTATE.ioError, message: 'the disk failed' };
  actions.report = { problems: ['a:1:1: no'], changed: [], pendingRestart: [] };
  expect(await ask('DELETE', 'slots/slot_a')).toBe(500);
  expect(await ask('POST', 'reload')).toBe(422);
  expect(told()).toMatchObject([
    {
      level: 'warn',
      message: 'HTTP request failed: drop slot',
      fields: { status: 500, sqlstate: '58030', reason: 'the disk failed' },
    },
    { level: 'warn', message: 'HTTP request failed: reload', fields: { status: 422 } },
  ]);
});

test('so has what ran into a mistake of ours', async () => {
  const { actions, ask, told } = await open();
  actions.dropSlot = () => Promise.reject(new Error('a mistake'));
  expect(await ask('DELETE', 'slots/slot_a')).toBe(500);
  expect(told()).toMatchObject([
    {
      level: 'error',
      message: 'HTTP request failed: drop slot',
      fields: { slot: 'slot_a', ...WHO, status: 500, reason: expect.stringContaining('a mistake') },
    },
  ]);
});

test('a reload while draining is refused', async () => {
  const { ask, told } = await open({
    source: { status: () => sampleStatus({ isDraining: true }) },
  });
  expect(await ask('POST', 'reload')).toBe(409);
  expect(told()).toMatchObject([
    { message: 'HTTP request refused: reload', fields: { status: 409, problem: 'not-now' } },
  ]);
});

test('one whose client is gone before it is done is told with its address', async () => {
  const { actions, ask, port, told } = await open();
  let finish: () => void = () => {};
  const begun = new Promise<void>((isBegun) => {
    actions.dropSlot = () => {
      isBegun();
      return new Promise((resolve) => (finish = () => resolve(null)));
    };
  });
  const client = connect(port, '127.0.0.1');
  client.write(
    `DELETE /api/v1/slots/a HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`,
  );
  await begun;
  client.resetAndDestroy();
  await once(client, 'close');
  // What comes after it was seen after it.
  expect(await ask('POST', 'pause')).toBe(200);
  finish();
  await vi.waitFor(() => expect(told()).toHaveLength(2));
  expect(told()[1]).toMatchObject({
    message: 'HTTP request done: drop slot',
    fields: { slot: 'a', ...WHO },
  });
});
