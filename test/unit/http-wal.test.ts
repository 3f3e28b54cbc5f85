// Is a WAL file given whole, as fast as it is taken and not for ever, and is nothing else given?
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import type { Log } from '../../src/base/log.ts';
import { WAL_DOWNLOAD_BYTES_PER_SECOND_MIN, WAL_DOWNLOAD_MS_MIN } from '../../src/config/limits.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import type { WalFile } from '../../src/status/actions.ts';
import { eventually } from '../support/eventually.ts';
import { exchange, openTestPort, RecordingActions, sampleFile } from '../support/http-port.ts';
import { ManualClock } from '../support/manual-clock.ts';

const NAME = '000000010000000000000003';
const TOKEN = 'the-token-that-opens-wal-files';
const AUTHORIZATION = { authorization: `Bearer ${TOKEN}` };
const HEADER = `Authorization: Bearer ${TOKEN}\r\n`;
const MIB = 1024 * 1024;

async function open(
  file: RecordingActions['file'],
  clock?: ManualClock,
): Promise<{ url: string; port: number }> {
  const actions = new RecordingActions();
  actions.file = file;
  const server = await openTestPort({
    actions,
    walToken: () => TOKEN,
    ...(clock === undefined ? {} : { clock }),
  });
  onTestFinished(() => server.close());
  return { url: server.url, port: server.port };
}

/** Asks with the token. */
function ask(url: string, init: { method?: string; headers?: object } = {}): Promise<Response> {
  return fetch(url, { ...init, headers: { ...AUTHORIZATION, ...init.headers } });
}

/** A file of pieces that tells how many were taken and how often it was closed. */
class WatchedFile {
  taken = 0;
  closed = 0;
  readonly #pieces: number;
  readonly #pieceBytes: number;
  readonly #failAt: number;

  constructor(pieces: number, options: { pieceBytes?: number; failAt?: number } = {}) {
    this.#pieces = pieces;
    this.#pieceBytes = options.pieceBytes ?? 256 * 1024;
    this.#failAt = options.failAt ?? Number.POSITIVE_INFINITY;
  }

  get file(): WalFile {
    return {
      name: NAME,
      size: this.#pieces * this.#pieceBytes,
      version: `1-${NAME}`,
      chunks: this.#chunks(),
      close: () => void this.closed++,
    };
  }

  async *#chunks(): AsyncGenerator<Uint8Array> {
    for (; this.taken < this.#pieces; this.taken++) {
      if (this.taken === this.#failAt) throw new Error('the disk');
      yield Buffer.alloc(this.#pieceBytes, this.taken);
    }
  }
}

async function client(port: number, path = `/wal/${NAME}`): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  // A reset is one of the ways to be refused.
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${HEADER}\r\n`);
  return socket;
}

describe('a file', () => {
  test('is given byte for byte, with its length and a tag', async () => {
    let closed = 0;
    const pieces = [Buffer.alloc(100_000, 1), Buffer.alloc(1, 2), Buffer.alloc(70_000, 3)];
    const { url } = await open((name) => sampleFile(name, pieces, () => void closed++));
    const response = await ask(`${url}/wal/${NAME}`);
    expect(response.headers.get('content-type')).toBe('application/octet-stream');
    expect(response.headers.get('content-length')).toBe('170001');
    expect(response.headers.get('etag')).toBe(`"7301234567890123456-${NAME}"`);
    expect(Buffer.concat(pieces).equals(Buffer.from(await response.arrayBuffer()))).toBe(true);
    await eventually(() => closed).toBeGreaterThan(0);
  });

  test('is described to HEAD and not read', async () => {
    const watched = new WatchedFile(4);
    const { url } = await open(() => watched.file);
    const response = await ask(`${url}/wal/${NAME}`, { method: 'HEAD' });
    expect([response.status, response.headers.get('content-length')]).toEqual([200, String(MIB)]);
    await eventually(() => watched.closed).toBeGreaterThan(0);
    expect(watched.taken).toBe(0);
  });

  test.each([`"1-${NAME}"`, `W/"1-${NAME}"`, `"x", "1-${NAME}"`, '*'])(
    'that the client has (If-None-Match: %s) is not sent again',
    async (tag) => {
      const watched = new WatchedFile(4);
      const { url } = await open(() => watched.file);
      const response = await ask(`${url}/wal/${NAME}`, { headers: { 'if-none-match': tag } });
      expect([response.status, await response.text()]).toEqual([304, '']);
      await eventually(() => watched.closed).toBeGreaterThan(0);
      expect(watched.taken).toBe(0);
    },
  );

  test('another tag is no reason to hold it back', async () => {
    const { url } = await open((name) => sampleFile(name, [Buffer.from('x')]));
    const headers = { 'if-none-match': '"other"' };
    expect((await ask(`${url}/wal/${NAME}`, { headers })).status).toBe(200);
  });

  test('that turns out damaged half-way does not look whole', async () => {
    const watched = new WatchedFile(8, { failAt: 3 });
    const { url, port } = await open(() => watched.file);
    await expect(
      ask(`${url}/wal/${NAME}`).then((response) => response.arrayBuffer()),
    ).rejects.toThrow();
    await eventually(() => watched.closed).toBeGreaterThan(0);
    expect(
      await exchange(port, 'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'),
    ).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe('a client', () => {
  test('that does not read makes nobody read ahead of it, and the file is closed with it', async () => {
    const [watched, other] = [new WatchedFile(256), new WatchedFile(256)];
    const { port, url } = await open((name) => (name === NAME ? watched.file : other.file));
    const deaf = await client(port);
    deaf.pause();
    // As long as another one takes to get all of it, which disturbs nobody.
    const all = await (await ask(`${url}/wal/other`)).arrayBuffer();
    expect(all.byteLength).toBe(64 * MIB);
    // What fits into the two sockets has been read, and no more.
    expect(watched.taken * 256 * 1024).toBeLessThan(16 * MIB);
    expect(watched.closed).toBe(0);
    deaf.destroy();
    await eventually(() => watched.closed).toBeGreaterThan(0);
  });

  test('that reads a little now and then loses its place in the end', async () => {
    const clock = new ManualClock();
    const watched = new WatchedFile(256);
    const { port } = await open(() => watched.file, clock);
    const slow = await client(port);
    await once(slow, 'data');
    slow.pause();
    const allowedMs =
      WAL_DOWNLOAD_MS_MIN + ((256 * 256 * 1024) / WAL_DOWNLOAD_BYTES_PER_SECOND_MIN) * 1000;
    clock.advance(allowedMs - 1);
    expect(watched.closed).toBe(0);
    clock.advance(1);
    await eventually(() => watched.closed).toBeGreaterThan(0);
  });

  test('that sends nonsense behind its request finds none of the answer to it in the file', async () => {
    const { port } = await open((name) => sampleFile(name, [Buffer.alloc(8 * MIB, 1)]));
    const odd = await client(port);
    const closed = once(odd, 'close');
    const received: Buffer[] = [];
    odd.on('data', (chunk: Buffer) => received.push(chunk));
    await once(odd, 'data');
    odd.write('\u0000\u0001 nonsense\r\n\r\n');
    await closed;
    const bytes = Buffer.concat(received);
    const begin = bytes.indexOf('\r\n\r\n') + 4;
    // It may be cut short; what comes behind all of it is another answer.
    expect(bytes.subarray(begin, begin + 8 * MIB).every((byte) => byte === 1)).toBe(true);
  });

  test('that left before the file was open leaves nothing open', async () => {
    const watched = new WatchedFile(4);
    let found: (file: WalFile) => void = () => {};
    const finding = new Promise<WalFile>((resolve) => (found = resolve));
    const actions = new RecordingActions();
    let asked: () => void = () => {};
    const isAsked = new Promise<void>((resolve) => (asked = resolve));
    actions.openWalFile = () => {
      asked();
      return finding;
    };
    const clock = new ManualClock();
    const audited: string[] = [];
    const log: Log = { ...silentLog, info: (text) => void audited.push(text) };
    const server = await openTestPort({ actions, walToken: () => TOKEN, clock, log });
    audited.length = 0;
    onTestFinished(() => server.close());
    const hasty = await client(server.port);
    await isAsked;
    hasty.destroy();
    // By the time another request is answered, the end of this one has been seen.
    await fetch(`${server.url}/livez`);
    found(watched.file);
    await eventually(() => watched.closed).toBeGreaterThan(0);
    await fetch(`${server.url}/livez`);
    expect(clock.nextTimerMs()).toBeNull();
    expect(audited).toEqual([]);
  });
});

describe('a refusal', () => {
  test.each([
    ['unknown-name', { kind: 'unknown-name' }, 400, 'no name of a WAL segment'],
    ['absent', { kind: 'absent' }, 404, 'is not stored here'],
    [
      'incomplete',
      { kind: 'incomplete', availableLsn: toLsn(0x3000100n) },
      409,
      'is not complete yet',
    ],
    [
      'damaged',
      { kind: 'damaged', lsn: toLsn(0x3002000n), reason: 'invalid magic number 0000' },
      500,
      'is damaged at 0/3002000: invalid magic number 0000',
    ],
    ['busy', { kind: 'busy' }, 503, 'too many WAL files'],
    ['starting', { kind: 'starting' }, 503, 'the database system is starting up'],
  ] as const)('%s is JSON that says what to do', async (_what, refusal, code, text) => {
    const { url } = await open(() => refusal);
    const response = await ask(`${url}/wal/${NAME}`);
    expect(response.status).toBe(code);
    expect(response.headers.get('content-type')).toContain('application/problem+json');
    expect(response.headers.get('retry-after')).toBe(code === 503 ? '1' : null);
    expect(await response.json()).toMatchObject({
      detail: expect.stringContaining(text),
      hint: expect.any(String),
    });
    const head = await ask(`${url}/wal/${NAME}`, { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([code, '']);
  });

  test('of an incomplete segment says how far it is', async () => {
    const { url } = await open(() => ({ kind: 'incomplete', availableLsn: toLsn(0x3000100n) }));
    expect(await (await ask(`${url}/wal/${NAME}`)).json()).toMatchObject({
      detail: expect.stringContaining('0/3000100'),
    });
  });
});

describe('a path that is made to climb', () => {
  test.each([
    '/wal/%2e%2e',
    '/wal/%2e%2e%2f%2e%2e%2fetc%2fpasswd',
    '/wal/..%2fwalcast.control',
    '/wal/../walcast.control',
    '/wal/%00',
    `/wal/${NAME}%00`,
    `/wal/${NAME}%2f..%2f${NAME}`,
    `/wal/${'A'.repeat(8_000)}`,
    '/wal/%c0%ae%c0%ae',
    '/wal/%E0%A4%A',
    '/wal/',
    `/wal/${NAME}/`,
    `/wal//${NAME}`,
    `//wal/${NAME}`,
    `/wal/./${NAME}`,
    `/WAL/${NAME}`,
  ])('%s gives nothing, and no other name reaches the store', async (path) => {
    const asked: string[] = [];
    const { port } = await open((name) => {
      asked.push(name);
      return { kind: 'unknown-name' };
    });
    const answer = await exchange(
      port,
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${HEADER}\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 4(00|04|14) /);
    expect(asked).not.toContain(NAME);
  });
});
