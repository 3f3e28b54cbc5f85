// Is there a request, put together at random, that makes the port fail, answer twice, or stop answering?
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Log } from '../../src/base/log.ts';
import type { HttpServer } from '../../src/http/server.ts';
import { exchange, openTestPort, RecordingActions, sampleFile } from '../support/http-port.ts';

const TOKEN = 'the-token-of-this-test-which-is-long';
const errors: string[] = [];
const log: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: (message, fields) => void errors.push(`${message} ${JSON.stringify(fields)}`),
  child: () => log,
};
let server: HttpServer;

beforeAll(async () => {
  const actions = new RecordingActions();
  actions.file = (name) =>
    /^[0-9A-F]{24}$/.test(name) ? sampleFile(name, [Buffer.from('x')]) : { kind: 'unknown-name' };
  server = await openTestPort({ actions, log, token: () => TOKEN });
});

afterAll(async () => {
  await server.close();
});

const method = fc.constantFrom(
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'OPTIONS',
  'TRACE',
  'PATCH',
  'PROPFIND',
  'get',
);
const segment = fc.oneof(
  fc.constantFrom(
    ...'api v1 status slots standbys wal metrics readyz config drain'.split(' '),
    ...'.. . %2e%2e %2f %00 % %zz %F0%9F%98%80 * :name {file}'.split(' '),
    ...'000000010000000000000003 00000002.history 42 __proto__ constructor'.split(' '),
    '',
  ),
  fc.string({ unit: fc.constantFrom(...'abcXYZ019-_.~%;=@!$&()+,'.split('')), maxLength: 40 }),
);
const query = fc.oneof(
  fc.constant(''),
  fc.constantFrom(
    '?lag=64MB',
    '?lag=',
    '?lag=1&lag=2',
    '?lag[x]=1',
    '?lag=1e999',
    '?lag=NaN',
    '?__proto__[x]=1',
    '?%',
    '?a=%00',
  ),
);
const header = fc.constantFrom(
  `Authorization: Bearer ${TOKEN}`,
  'Authorization: Bearer',
  'Content-Type: application/json',
  'Content-Type: text/plain',
  'Content-Type: application/json; charset=utf-16',
  'Content-Type: ;;;',
  'Accept: application/openmetrics-text',
  'Accept: */*;q=x,,,;',
  'If-None-Match: *',
  'Range: bytes=0-0',
  'Expect: 100-continue',
  'Transfer-Encoding: chunked',
  'X-Forwarded-For: 10.0.0.1',
  'Upgrade: websocket',
);
const body = fc.oneof(
  fc.constantFrom(
    '',
    '{}',
    '[]',
    'null',
    '{"name":"a"}',
    '{"name":"a","reserve_wal":1}',
    '{"__proto__":{}}',
    '{',
  ),
  fc.string({ maxLength: 50 }),
);

test(
  'whatever is asked, the answer is one, is no 5xx, and the port lives on',
  { timeout: 60_000 },
  async () => {
    const path = fc.array(segment, { maxLength: 5 }).map((segments) => `/${segments.join('/')}`);
    const request = fc.record({
      method,
      path,
      query,
      headers: fc.uniqueArray(header, { maxLength: 4 }),
      body,
    });
    await fc.assert(
      fc.asyncProperty(request, async (parts) => {
        const bytes = Buffer.from(parts.body);
        const lines = [
          `${parts.method} ${parts.path}${parts.query} HTTP/1.1`,
          'Host: localhost',
          'Connection: close',
          ...(parts.headers.includes('Transfer-Encoding: chunked') || bytes.length === 0
            ? []
            : [`Content-Length: ${bytes.length}`]),
          ...parts.headers,
        ];
        const chunk = parts.headers.includes('Transfer-Encoding: chunked')
          ? `${bytes.length === 0 ? '' : `${bytes.length.toString(16)}\r\n${bytes.toString('latin1')}\r\n`}0\r\n\r\n`
          : bytes.toString('latin1');
        const answer = await exchange(server.port, `${lines.join('\r\n')}\r\n\r\n${chunk}`);
        const codes = [...answer.matchAll(/^HTTP\/1\.1 (\d{3}) /gm)].map(([, code]) =>
          Number(code),
        );
        const final = codes.filter((code) => code !== 100);
        expect(final).toHaveLength(1);
        // 501 is what Node.js answers to nothing here; TRACE and the like are 4xx.
        expect(final[0]).toBeLessThan(500);
      }),
      { numRuns: 400 },
    );
    expect(errors).toEqual([]);
    const last = await exchange(
      server.port,
      'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    );
    expect(last).toMatch(/^HTTP\/1\.1 200 /);
  },
);
