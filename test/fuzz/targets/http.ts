// What comes to the HTTP port, over real sockets.
import { connect } from 'node:net';
import type { Log } from '../../../src/base/log.ts';
import type { HttpServer } from '../../../src/http/server.ts';
import {
  exchange,
  openTestPort,
  RecordingActions,
  RecordingMetrics,
  sampleFile,
} from '../../support/http-port.ts';
import { say, sessionOf } from '../engine/session.ts';
import type { FuzzSession } from '../engine/session.ts';
import { OracleFailure, requireThat } from '../engine/target.ts';
import type { FuzzTarget, TargetRun } from '../engine/target.ts';

const TOKEN = 'the-token-of-the-fuzzer-which-is-long';
const HANG_MS = 30_000;
/** How long an answer is waited for, where another request goes out on the same connection. */
const PATIENCE_MS = 20;

function request(method: string, path: string, headers: readonly string[] = [], body = ''): string {
  const length = body === '' ? [] : [`Content-Length: ${Buffer.byteLength(body)}`];
  return [`${method} ${path} HTTP/1.1`, 'Host: localhost', ...headers, ...length, '', body].join(
    '\r\n',
  );
}

const BEARER = `Authorization: Bearer ${TOKEN}`;
const JSON_TYPE = 'Content-Type: application/json';
const CLOSE = 'Connection: close';

const REQUESTS: readonly (readonly string[])[] = [
  [request('GET', '/livez', [CLOSE])],
  [
    request('GET', '/readyz?lag=64MB'),
    request('GET', '/metrics', ['Accept: application/openmetrics-text', CLOSE]),
  ],
  [request('GET', '/api/v1/status', [CLOSE])],
  [
    request('GET', '/api/v1/slots'),
    request('GET', '/api/v1/standbys'),
    request('GET', '/api/v1/config', [BEARER, CLOSE]),
  ],
  [
    request('POST', '/api/v1/slots', [BEARER, JSON_TYPE], '{"name":"a","reserve_wal":true}'),
    request('DELETE', '/api/v1/slots/a', [BEARER, CLOSE]),
  ],
  [request('POST', '/api/v1/reload', [BEARER, CLOSE])],
  [request('POST', '/api/v1/pause', ['Authorization: Bearer wrong', CLOSE])],
  [request('DELETE', '/api/v1/standbys/42', [BEARER, CLOSE])],
  [request('GET', '/wal/000000010000000000000003', [BEARER, 'Range: bytes=0-1', CLOSE])],
  [request('HEAD', '/wal/00000002.history', [BEARER, CLOSE])],
  [request('GET', '/openapi.json', [CLOSE])],
  [
    request('POST', '/api/v1/slots', [BEARER, JSON_TYPE, 'Transfer-Encoding: chunked', CLOSE]) +
      '5\r\n{"nam\r\n6\r\ne":"b"\r\n1\r\n}\r\n0\r\n\r\n',
  ],
  [request('OPTIONS', '*', [CLOSE]), 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  [request('GET', '/', ['Expect: 100-continue', 'Upgrade: h2c', CLOSE])],
  ['GET http://localhost/livez HTTP/1.0\r\n\r\n'],
];

/** Statuses above 499 that are an answer: not implemented, version not supported. */
const REFUSALS = new Set([501, 505]);

class HttpRun implements TargetRun {
  readonly #errors: string[] = [];
  readonly #actions = new RecordingActions();
  readonly #metrics = new RecordingMetrics();
  #server: HttpServer | null = null;

  async open(): Promise<this> {
    const log: Log = {
      debug: () => {},
      info: () => {},
      warn: () => {},
      error: (message, fields) => void this.#errors.push(`${message} ${JSON.stringify(fields)}`),
      child: () => log,
    };
    this.#actions.file = (name) =>
      /^[0-9A-F]{24}$/.test(name) ? sampleFile(name, [Buffer.from('x')]) : { kind: 'unknown-name' };
    this.#server = await openTestPort({
      actions: this.#actions,
      metrics: this.#metrics,
      log,
      token: () => TOKEN,
    });
    return this;
  }

  async run(session: FuzzSession): Promise<number> {
    const { answer, count } = await this.#exchange(session);
    for (const [, code] of answer.matchAll(/^HTTP\/1\.1 (\d{3}) /gm)) {
      const status = Number(code);
      requireThat(status < 500 || REFUSALS.has(status), `a request was answered with ${status}`);
    }
    requireThat(this.#errors.length === 0, `the log says ${this.#errors[0]}`);
    this.#actions.done.length = 0;
    this.#metrics.requests.length = 0;
    return count;
  }

  async check(): Promise<void> {
    const answer = await exchange(this.#server?.port ?? 0, request('GET', '/livez', [CLOSE]));
    requireThat(answer.startsWith('HTTP/1.1 200 '), 'the port does not answer any more');
  }

  async close(): Promise<void> {
    await this.#server?.close();
  }

  #exchange(session: FuzzSession): Promise<{ answer: string; count: number }> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.#server?.port ?? 0, '127.0.0.1');
      let answer = '';
      let count = 0;
      const timer = setTimeout(() => {
        socket.destroy();
        reject(
          new OracleFailure(
            'hang',
            `a connection was not closed within ${HANG_MS} ms after its last byte`,
          ),
        );
      }, HANG_MS);
      socket.setEncoding('latin1');
      socket.on('data', (text: string) => {
        answer += text;
        wake();
      });
      socket.on('error', () => {});
      socket.on('close', () => {
        clearTimeout(timer);
        wake();
        resolve({ answer, count });
      });
      let wake: () => void = () => {};
      const play = async (): Promise<void> => {
        for (const [index, { kind, bytes }] of session.steps.entries()) {
          if (socket.destroyed) break;
          if (kind !== 'say') continue;
          const size = session.chunk === 0 ? bytes.length : Math.max(session.chunk, 8);
          for (let at = 0; at < bytes.length; at += size)
            socket.write(bytes.subarray(at, at + size));
          count += 1;
          const waits = new Promise<void>((done) => (wake = done));
          const patience = setTimeout(() => wake(), PATIENCE_MS);
          if (index < session.steps.length - 1 && session.variant % 4 !== 0) await waits;
          clearTimeout(patience);
        }
        socket.end();
      };
      socket.once('connect', () => void play());
    });
  }
}

/** The HTTP port. */
export const HTTP: FuzzTarget = {
  name: 'http',
  about: 'requests to the HTTP port, over real sockets',
  weight: 2,
  seeds: (recorded) => [
    ...REQUESTS.map((requests, index) =>
      sessionOf(
        requests.map((text) => say(Buffer.from(text))),
        index + 1,
      ),
    ),
    ...recorded,
  ],
  words: [
    ...(
      'GET POST DELETE PUT HEAD OPTIONS TRACE CONNECT / /livez /readyz /metrics /api/v1/slots /wal/ %2e%2e %00 %zz ?lag= .. ' +
      'Host: Content-Length: Transfer-Encoding: chunked identity Connection: keep-alive close Range: bytes=0- Expect: 100-continue ' +
      'HTTP/1.1 HTTP/1.0 HTTP/2.0 {"name":"a"} "reserve_wal" null [] __proto__ 0 -1 ffffffffffffffff'
    ).split(' '),
    BEARER,
    JSON_TYPE,
    '\r\n',
    '\r\n\r\n',
    '\n',
    '\r\n ',
    request('GET', '/livez'),
  ],
  events: [],
  open: async () => await new HttpRun().open(),
};
