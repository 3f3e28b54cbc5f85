// Can a client that says nothing, reads nothing or asks too fast keep the HTTP port from others, or fill its memory?
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { HTTP_CONNECTIONS_MAX } from '../../src/config/limits.ts';
import type { Metrics } from '../../src/metrics/registry.ts';
import { openTestPort } from '../support/http-port.ts';

/** Metrics of any size that count how often they were rendered, and see each answer end. */
class SizedMetrics implements Metrics {
  renderings = 0;
  readonly #body: string;
  #onAnswered: () => void = () => {};

  constructor(bytes: number) {
    this.#body = 'x'.repeat(bytes);
  }

  async render(): Promise<{ contentType: string; body: string }> {
    this.renderings++;
    return { contentType: 'text/plain', body: this.#body };
  }

  observeRequest(): void {
    this.#onAnswered();
  }

  answered(): Promise<void> {
    return new Promise((resolve) => (this.#onAnswered = resolve));
  }
}

async function open(options: { metrics?: SizedMetrics; inactivityMs?: number }): Promise<number> {
  const server = await openTestPort({
    ...(options.inactivityMs === undefined ? {} : { times: { inactivity: options.inactivityMs } }),
    metrics: options.metrics ?? new SizedMetrics(10),
  });
  onTestFinished(() => server.close());
  return server.port;
}

async function client(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  // A reset is one of the ways to be refused.
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  return socket;
}

async function allOf(socket: Socket): Promise<string> {
  let answer = '';
  socket.setEncoding('latin1');
  socket.on('data', (text: string) => (answer += text));
  await new Promise((resolve) => socket.once('close', resolve));
  return answer;
}

const GET = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
const LAST_GET = (path: string): string =>
  `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;

describe('silence', () => {
  test('a full house of clients that say nothing is emptied', { timeout: 20_000 }, async () => {
    const port = await open({ inactivityMs: 300 });
    const silent = await Promise.all(
      Array.from({ length: HTTP_CONNECTIONS_MAX }, () => client(port)),
    );
    await Promise.all(silent.map(allOf));
    const asking = await client(port);
    asking.write(LAST_GET('/livez'));
    expect(await allOf(asking)).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('a client that does not read its answer is cut off', { timeout: 20_000 }, async () => {
    const metrics = new SizedMetrics(32 * 1024 * 1024);
    const port = await open({ metrics, inactivityMs: 300 });
    const deaf = await client(port);
    deaf.pause();
    const answered = metrics.answered();
    deaf.write(GET('/metrics'));
    await answered;
    deaf.resume();
    expect((await allOf(deaf)).length).toBeLessThan(32 * 1024 * 1024);
  });

  test('a client that reads slowly but reads gets everything', { timeout: 20_000 }, async () => {
    const bytes = 24 * 1024 * 1024;
    const port = await open({ metrics: new SizedMetrics(bytes), inactivityMs: 1_000 });
    const slow = await client(port);
    let received = 0;
    slow.on('data', (chunk: Buffer) => {
      received += chunk.length;
      slow.pause();
      setTimeout(() => slow.resume(), 2);
    });
    slow.write(LAST_GET('/metrics'));
    await once(slow, 'close');
    expect(received).toBeGreaterThan(bytes);
  });
});

describe('requests that do not wait for the answer', () => {
  test('the first is answered and the connection closes', async () => {
    const metrics = new SizedMetrics(100);
    const port = await open({ metrics });
    const hasty = await client(port);
    hasty.write(GET('/metrics').repeat(3));
    const answer = await allOf(hasty);
    expect(answer.match(/^HTTP\/1\.1 /gm)).toHaveLength(1);
    expect(answer).toContain('Connection: close\r\n');
    expect(metrics.renderings).toBe(1);
  });

  test.each(['/livez', '/nothing', '/%E0%A4%A'])(
    'of %s asked 1500 times at once at most one is answered',
    async (path) => {
      const port = await open({});
      const hasty = await client(port);
      hasty.write(GET(path).repeat(1500));
      const answer = await allOf(hasty);
      expect((answer.match(/^HTTP\/1\.1 /gm) ?? []).length).toBeLessThanOrEqual(1);
      const next = await client(port);
      next.write(LAST_GET('/livez'));
      expect(await allOf(next)).toMatch(/^HTTP\/1\.1 200 /);
    },
  );

  test('a full house of them that never reads is not rendered for again and again', async () => {
    const metrics = new SizedMetrics(64 * 1024);
    const port = await open({ metrics });
    const crowd = await Promise.all(Array.from({ length: 250 }, () => client(port)));
    for (const socket of crowd) {
      socket.pause();
      socket.write(GET('/metrics').repeat(100));
    }
    const next = await client(port);
    next.write(LAST_GET('/livez'));
    expect(await allOf(next)).toMatch(/^HTTP\/1\.1 200 /);
    expect(metrics.renderings).toBeLessThanOrEqual(250);
  });

  test('one after the other are all answered on one connection', async () => {
    const port = await open({});
    const patient = await client(port);
    for (const path of ['/livez', '/metrics', '/nothing', '/api/v1/status', '/livez']) {
      patient.write(GET(path));
      const [answer] = await once(patient, 'data');
      expect(String(answer)).toMatch(/^HTTP\/1\.1 (200|404) /);
      expect(String(answer)).toContain('keep-alive');
    }
  });
});
