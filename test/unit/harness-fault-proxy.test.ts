// Does the fault proxy do what it says, and nothing before it is told to? Real sockets, a scripted server and client.
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import { toPgTimestamp } from '../../src/pg/timestamp.ts';
import { encodeCopyBothResponse, encodeReadyForQuery } from '../../src/wire/backend-messages.ts';
import { encodeQuery } from '../../src/wire/frontend-messages.ts';
import {
  encodeStandbyStatusUpdate,
  encodeWalDataFrameHeader,
} from '../../src/wire/replication-messages.ts';
import { encodeSslRequest, encodeStartupMessage } from '../../src/wire/startup.ts';
import { openFaultProxy, seededRandom } from '../harness/fault-proxy.ts';
import type { FaultProxy } from '../harness/fault-proxy.ts';
import { checkContiguous } from '../harness/ledger-checks.ts';
import type { Ledger } from '../harness/ledger.ts';
import { ledgerObserver } from '../harness/recorder.ts';
import { openWireProxy } from '../harness/wire-proxy.ts';

let server: Server;
let proxy: FaultProxy;
let client: Peer;
let upstream: Peer;

beforeEach(async () => {
  const accepted: Socket[] = [];
  server = createServer({ allowHalfOpen: true }, (socket) => accepted.push(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  proxy = await openFaultProxy({ target: () => ({ host: '127.0.0.1', port }) });
  client = new Peer(connect(proxy.port, '127.0.0.1'));
  await once(client.socket, 'connect');
  await until(() => accepted.length > 0);
  upstream = new Peer(accepted[0]!);
});

afterEach(async () => {
  client.socket.destroy();
  upstream.socket.destroy();
  await proxy.close();
  server.close();
});

describe('a fault proxy that was not told anything', () => {
  it('passes startup, TLS questions, and messages on unchanged however they are cut', async () => {
    const startup = Buffer.from(encodeStartupMessage([['user', 'postgres']]));
    const question = Buffer.from(encodeSslRequest());
    const query = Buffer.from(encodeQuery('IDENTIFY_SYSTEM'));
    const sent = Buffer.concat([question, startup, query]);
    for (const byte of question) client.socket.write(Buffer.of(byte));
    await upstream.received(question.length);
    upstream.socket.write('N');
    await client.received(1);
    for (const byte of Buffer.concat([startup, query])) client.socket.write(Buffer.of(byte));
    expect(await upstream.received(sent.length)).toEqual(sent);
    const answer = Buffer.from(encodeReadyForQuery());
    upstream.socket.write(answer);
    expect(await client.received(1 + answer.length)).toEqual(
      Buffer.concat([Buffer.from('N'), answer]),
    );
  });

  it('shows each end that the other closed', async () => {
    await begin();
    upstream.socket.end();
    await client.ended;
    client.socket.end();
    await upstream.ended;
  });

  it('passes bytes that are no messages on as they are', async () => {
    await begin();
    upstream.clear();
    const nonsense = Buffer.from([0x51, 0, 0, 0, 1, 9, 9]);
    client.socket.write(nonsense);
    await until(() => proxy.proxy.sessions[0]?.isOpaque === true);
    client.socket.write('more');
    expect((await upstream.received(4)).subarray(-4).toString()).toBe('more');
  });
});

describe('a fault on one message', () => {
  it('drops, repeats or swaps whole WAL messages and leaves the others alone', async () => {
    await begin();
    const [a, b, c] = [wal(0, 'aaaa'), wal(4, 'bbbb'), wal(8, 'cccc')];
    const dropped = proxy.faultNextWal({ kind: 'drop' });
    upstream.socket.write(Buffer.concat([a, b]));
    expect(await client.received(b.length)).toEqual(b);
    expect((await dropped).startLsn).toBe(toLsn(0n));

    client.clear();
    void proxy.faultNextWal({ kind: 'repeat' });
    upstream.socket.write(Buffer.concat([a, b]));
    expect(await client.received(3 * a.length)).toEqual(Buffer.concat([a, a, b]));

    client.clear();
    void proxy.faultNextWal({ kind: 'swap' });
    upstream.socket.write(Buffer.concat([a, b, c]));
    expect(await client.received(3 * a.length)).toEqual(Buffer.concat([b, a, c]));
  });

  it('turns exactly one bit round, at the place it was told', async () => {
    await begin();
    const message = wal(8192, 'page header, record header and a record'.padEnd(200, '.'));
    const done = proxy.faultNextWal({ kind: 'flip', place: 'pageHeader' });
    upstream.socket.write(message);
    const got = await client.received(message.length);
    const different = [...message].flatMap((byte, index) => (byte === got[index] ? [] : [index]));
    expect(different).toEqual([5 + 25 + 8]);
    const bits = (message[different[0]!] ?? 0) ^ (got[different[0]!] ?? 0);
    expect(bits & (bits - 1)).toBe(0);
    expect((await done).what).toContain('pageHeader');
  });

  it('waits for a message that has the place', async () => {
    await begin();
    const done = proxy.faultNextWal({ kind: 'flip', place: 'pageHeader' });
    const without = wal(16, 'x'.repeat(100));
    upstream.socket.write(without);
    expect(await client.received(without.length)).toEqual(without);
    expect(proxy.done).toEqual([]);
    upstream.socket.write(wal(16384, 'y'.repeat(100)));
    expect((await done).startLsn).toBe(toLsn(16384n));
  });

  it('hits the same messages again when it is opened with the same seed', () => {
    const draw = (seed: number): number[] => Array.from({ length: 5 }, seededRandom(seed));
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
  });
});

describe('a fault on the connection', () => {
  it('delays what passes, in order', async () => {
    await begin();
    proxy.setDelay(80, 'fromServer');
    const startedAt = performance.now();
    upstream.socket.write(Buffer.concat([wal(0, 'a'), wal(1, 'b')]));
    const expected = Buffer.concat([wal(0, 'a'), wal(1, 'b')]);
    expect(await client.received(expected.length)).toEqual(expected);
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(79);
  });

  it('stalls one way while the other goes on, and loses nothing', async () => {
    await begin();
    proxy.stall('fromServer');
    const message = wal(0, 'a'.repeat(1000));
    upstream.socket.write(message);
    upstream.clear();
    const reply = standbyReply();
    client.socket.write(reply);
    expect(await upstream.received(reply.length)).toEqual(reply);
    expect(client.length).toBe(0);
    proxy.resume('fromServer');
    expect(await client.received(message.length)).toEqual(message);
  });

  it('leaves both ends in the dark when it is half-open, and shows the close when it is over', async () => {
    await begin();
    proxy.halfOpen();
    upstream.socket.destroy();
    client.socket.write(standbyReply());
    expect(client.hasEnded).toBe(false);
    proxy.resume();
    await client.ended;
  });

  it('cuts by reset, and refuses while it is told to', async () => {
    await begin();
    proxy.cut('reset');
    await client.ended;
    expect(client.error).toBe('ECONNRESET');
    proxy.refuse(true);
    const next = new Peer(connect(proxy.port, '127.0.0.1'));
    await next.ended;
    proxy.refuse(false);
    const welcome = new Peer(connect(proxy.port, '127.0.0.1'));
    await once(welcome.socket, 'connect');
    welcome.socket.destroy();
  });

  it('hands bytes over one at a time', async () => {
    await begin();
    proxy.fragment(1, 'fromServer');
    const message = wal(0, 'abcdefgh');
    const chunksBefore = client.chunks;
    upstream.socket.write(message);
    expect(await client.received(message.length)).toEqual(message);
    expect(client.chunks - chunksBefore).toBeGreaterThan(5);
  });
});

describe('a ledger', () => {
  it('shows an acknowledgement beyond what was sent, one that goes back, and a gap', async () => {
    const ledger: Ledger = { name: 'forged', connections: [] };
    const recording = await openWireProxy({
      target: () => proxy,
      observer: ledgerObserver(ledger),
    });
    client = new Peer(connect(recording.port, '127.0.0.1'));
    const [socket] = (await once(server, 'connection')) as [Socket];
    upstream = new Peer(socket);
    await begin();
    upstream.socket.write(wal(0, 'aaaa'));
    upstream.socket.write(wal(8, 'bbbb'));
    await client.received(2 * wal(0, 'aaaa').length);
    upstream.clear();
    const replies = Buffer.concat([standbyReply(100n), standbyReply(4n)]);
    client.socket.write(replies);
    await upstream.received(replies.length);
    const stream = ledger.connections[0]?.streams[0];
    expect(stream?.replies.map(({ flushLsn, sentLsn }) => [flushLsn, sentLsn])).toEqual([
      [100n, 12n],
      [4n, 12n],
    ]);
    expect(stream && checkContiguous(stream).join()).toContain('gap');
    await recording.close();
  });
});

/** Logs in and starts streaming from 0/0, so that WAL messages are looked at. */
async function begin(): Promise<void> {
  const startup = Buffer.from(encodeStartupMessage([['user', 'postgres']]));
  const query = Buffer.from(encodeQuery('START_REPLICATION 0/0 TIMELINE 1'));
  client.socket.write(Buffer.concat([startup, query]));
  await upstream.received(startup.length + query.length);
  const answer = Buffer.from(encodeCopyBothResponse());
  upstream.socket.write(answer);
  await client.received(answer.length);
  client.clear();
}

function wal(startLsn: number, text: string): Buffer {
  const start = toLsn(BigInt(startLsn));
  const end = toLsn(BigInt(startLsn + text.length));
  return Buffer.concat([
    encodeWalDataFrameHeader(start, end, toPgTimestamp(0n), text.length),
    Buffer.from(text),
  ]);
}

function standbyReply(position = 0n): Buffer {
  const lsn = toLsn(position);
  return Buffer.from(
    encodeStandbyStatusUpdate({
      writeLsn: lsn,
      flushLsn: lsn,
      applyLsn: lsn,
      sendTime: toPgTimestamp(0n),
      replyRequested: false,
    }),
  );
}

async function until(check: () => boolean): Promise<void> {
  while (!check()) await new Promise((resolve) => setImmediate(resolve));
}

/** One end of a connection: everything it got, and how it ended. */
class Peer {
  readonly socket: Socket;
  readonly ended: Promise<unknown>;
  hasEnded = false;
  error: string | null = null;
  chunks = 0;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.socket = socket;
    this.ended = new Promise((resolve) => {
      for (const event of ['end', 'close']) {
        socket.once(event, () => {
          this.hasEnded = true;
          resolve(event);
        });
      }
    });
    socket.on('data', (chunk: Buffer) => {
      this.chunks += 1;
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.error = error.code ?? error.message;
    });
  }

  get length(): number {
    return this.#bytes.length;
  }

  clear(): void {
    this.#bytes = Buffer.alloc(0);
  }

  async received(count: number): Promise<Buffer> {
    while (this.#bytes.length < count) await once(this.socket, 'data');
    return this.#bytes;
  }
}
