// No byte is lost or mistaken on the way into TLS, and a session inside it is one like every other: cuts, slow readers, ends.
import { connect as connectTls } from 'node:tls';
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openAccepted } from '../../src/net/accepted-connection.ts';
import type { AcceptedConnection } from '../../src/net/connection.ts';
import { Listener } from '../../src/net/listener.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { walBytes } from '../support/memory-wal.ts';
import { query, STANDBY, startup, StreamReader } from '../support/raw-client.ts';
import {
  askForTls,
  classic,
  direct,
  handshake,
  plainSocket,
  rawClient,
  TlsServerRig,
} from '../support/tls-server-rig.ts';
import { Fixture, START_LSN } from '../support/wal-senders-fixture.ts';

let rig: TlsServerRig;
let fixture: Fixture;

beforeEach(async () => {
  rig = await TlsServerRig.open();
  fixture = await Fixture.start({ tls: rig.acceptor });
});

afterEach(async () => {
  await fixture.finish();
  await rig.close();
});

/** What a client with ALPN sends first. */
async function recordHello(): Promise<Buffer> {
  return await new Promise((resolve) => {
    const pipe = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        resolve(chunk);
        done();
      },
    });
    connectTls({ socket: pipe, ALPNProtocols: ['postgresql'] }).on('error', () => {});
  });
}

/** A socket whose writes leave in pieces, each in a packet of its own where the machine is quick enough. */
class Chopped extends Duplex {
  readonly #socket: Socket;
  readonly #size: number;

  constructor(socket: Socket, size: number) {
    super();
    this.#socket = socket;
    this.#size = size;
    socket.on('data', (chunk: Buffer) => this.push(chunk));
    socket.on('end', () => this.push(null));
    socket.on('close', () => this.destroy());
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    void this.#pieces(chunk).then(done);
  }

  override _final(done: () => void): void {
    this.#socket.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }

  async #pieces(chunk: Buffer): Promise<void> {
    for (let offset = 0; offset < chunk.length; offset += this.#size) {
      this.#socket.write(chunk.subarray(offset, offset + this.#size));
      await turn();
    }
  }
}

/** The first byte of the answer. */
async function firstByte(socket: Socket): Promise<number | null> {
  return await new Promise((resolve) => {
    socket.once('data', (chunk: Buffer) => resolve(chunk[0] ?? null));
    socket.once('close', () => resolve(null));
  });
}

describe.each(['by SSLRequest', 'by the handshake itself'])('a handshake begun %s', (door) => {
  const isDirect = door !== 'by SSLRequest';

  it('is answered wherever its first message is cut', async () => {
    const hello = await recordHello();
    for (let cut = 1; cut < hello.length; cut += 1) {
      const socket = await plainSocket(fixture.port);
      if (!isDirect) expect(await askForTls(socket)).toBe('S');
      socket.write(hello.subarray(0, cut));
      await turn();
      socket.write(hello.subarray(cut));
      // A handshake record: the ServerHello.
      expect(await firstByte(socket)).toBe(0x16);
      socket.destroy();
    }
  });

  it.each([
    ['fills more than a record', 80],
    ['is longer than what is waited for', 240],
  ])('is answered when its first message %s', async (_name, names) => {
    const long = Array.from({ length: names }, (_, index) => `${index}`.padEnd(250, '-'));
    const socket = await plainSocket(fixture.port);
    if (!isDirect) await askForTls(socket);
    const secured = await handshake(socket, { ALPNProtocols: [...long, 'postgresql'] });
    const client = rawClient(secured);
    client.send(startup(STANDBY));
    expect((await client.until('Z')).at(-1)?.type).toBe('Z');
    client.close();
  });

  it.each([1, 7])('goes on as a session when all of it comes in pieces of %i', async (size) => {
    const socket = await plainSocket(fixture.port);
    if (!isDirect) await askForTls(socket);
    // TLS over a stream of its own, not over the socket: all that is written goes through the pieces.
    const secured = connectTls({
      socket: new Chopped(socket, size),
      rejectUnauthorized: false,
      ALPNProtocols: ['postgresql'],
    });
    const client = rawClient(secured);
    client.send(startup(STANDBY));
    expect((await client.until('Z')).at(-1)?.type).toBe('Z');
    client.close();
  });
});

describe('a session inside TLS', () => {
  it('gets the bytes that came with the end of the handshake', async () => {
    // TLS 1.2: the client's last flight and its startup packet leave together.
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const socket = await plainSocket(fixture.port);
      await askForTls(socket);
      const secured = connectTls({ socket, rejectUnauthorized: false, maxVersion });
      const client = rawClient(secured);
      client.send(startup(STANDBY));
      expect((await client.until('Z')).at(-1)?.type).toBe('Z');
      client.close();
    }
  });

  it('is not sent more than its reader takes, and gets all of it', async () => {
    const client = rawClient(await direct(fixture.port));
    client.send(startup(STANDBY));
    await client.until('Z');
    client.send(query(`START_REPLICATION 0/${START_LSN.toString(16)} TIMELINE 1`));
    expect((await client.next())?.type).toBe('W');
    client.pause();
    const before = process.memoryUsage().arrayBuffers;
    const endLsn = fixture.feed.append(30_000_000);
    await eventually(() => fixture.senders.statuses()[0]?.sentLsn ?? 0n).toBeGreaterThan(START_LSN);
    for (let index = 0; index < 100; index += 1) await turn();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16_000_000);
    expect(fixture.senders.statuses()[0]?.sentLsn).toBeLessThan(endLsn);
    client.resume();
    const reader = new StreamReader(client, START_LSN);
    await reader.readTo(endLsn);
    expect(reader.wal().equals(walBytes(START_LSN, endLsn))).toBe(true);
    client.close();
  });

  it('is told of its end, in whole', async () => {
    const { pid, client } = await session();
    fixture.senders.kill(pid);
    expect(await client.rest()).toEqual([
      'E|FATAL|57P01|terminating connection due to administrator command',
    ]);
    await eventually(() => fixture.senders.statuses().length).toBe(0);
  });

  it('ends when the client closes its half, and when it is gone', async () => {
    const half = await session();
    half.client.socket.end();
    await eventually(() => fixture.senders.statuses().length).toBe(0);
    const gone = await session();
    gone.plain.resetAndDestroy();
    await eventually(() => fixture.senders.statuses().length).toBe(0);
    expect(fixture.senders.totals().disconnects).toMatchObject({ client: 1, error: 1 });
  });

  it('ends when what arrives was not encrypted by the client', async () => {
    const { plain } = await session();
    plain.write(Buffer.from([0x17, 3, 3, 0, 20, ...Buffer.alloc(20)]));
    await eventually(() => fixture.senders.statuses().length).toBe(0);
    expect(fixture.senders.totals().disconnects.error).toBe(1);
  });

  async function session(): Promise<{
    client: ReturnType<typeof rawClient>;
    plain: Socket;
    pid: number;
  }> {
    const plain = await plainSocket(fixture.port);
    await askForTls(plain);
    const client = rawClient(await handshake(plain));
    client.send(startup(STANDBY));
    const greeting = await client.until('Z');
    const pid = greeting.find(({ type }) => type === 'K')?.body.readInt32BE(0) ?? 0;
    return { client, plain, pid };
  }
});

describe('the time of a handshake', () => {
  it.each(['SSLRequest', 'ClientHello'])(
    'is part of that of the whole login, behind a %s',
    async (part) => {
      const clock = new ManualClock();
      const late = await Fixture.start({ tls: rig.acceptor, clock });
      const socket = await plainSocket(late.port);
      if (part === 'SSLRequest') await askForTls(socket);
      const client = rawClient(socket);
      const hello = await recordHello();
      client.send(hello.subarray(0, 100));
      await eventually(() => clock.nextTimerMs()).toBe(60_000);
      for (let second = 0; second < 6; second += 1) {
        clock.advance(9_999);
        client.send(hello.subarray(100 + second, 101 + second));
        await turn();
        expect(client.isClosed).toBe(false);
      }
      clock.advance(10);
      expect(await client.closed()).toHaveLength(0);
      await late.finish();
    },
  );

  it('is no longer than that where the client stops behind our answer', async () => {
    const clock = new ManualClock();
    const late = await Fixture.start({ tls: rig.acceptor, clock });
    const socket = await plainSocket(late.port);
    const hello = await recordHello();
    socket.write(hello);
    expect(await firstByte(socket)).toBe(0x16);
    const client = rawClient(socket);
    clock.advance(60_001);
    await client.closed();
    await late.finish();
  });
});

it('handshakes are answered one in a turn of the event loop', async () => {
  const hello = await recordHello();
  const sockets = await Promise.all(Array.from({ length: 20 }, () => plainSocket(fixture.port)));
  // All have been taken in: what they say next arrives in one turn.
  await Promise.all(sockets.map((socket) => askForTls(socket)));
  const { acceptor } = rig;
  const begin = acceptor.begin.bind(acceptor);
  const beginsOfTurns: number[] = [0];
  acceptor.begin = (socket, onOutcome) => {
    beginsOfTurns.push((beginsOfTurns.pop() ?? 0) + 1);
    if (beginsOfTurns.at(-1) === 1) setImmediate(() => beginsOfTurns.push(0));
    begin(socket, onOutcome);
  };
  const answers = sockets.map((socket) => {
    const answer = firstByte(socket);
    socket.write(hello);
    return answer;
  });
  expect(await Promise.all(answers)).toEqual(sockets.map(() => 0x16));
  // The one that waits longest begins before this turn's mark is set: two at most are between two marks.
  expect(Math.max(...beginsOfTurns)).toBeLessThanOrEqual(2);
  for (const socket of sockets) socket.destroy();
});

it('a client that goes before its turn costs nothing', async () => {
  const sockets = await Promise.all(Array.from({ length: 20 }, () => plainSocket(fixture.port)));
  const hello = await recordHello();
  for (const socket of sockets) {
    socket.write(hello);
    socket.resetAndDestroy();
  }
  const client = rawClient(await classic(fixture.port));
  client.send(startup(STANDBY));
  expect((await client.until('Z')).at(-1)?.type).toBe('Z');
  client.close();
});

it.each(['the client', 'we'])(
  'a handshake leaves the queue when %s end it before its turn',
  async (who) => {
    const waiting = new Set<() => void>();
    const failures: string[] = [];
    let accepted: AcceptedConnection | null = null;
    const listener = await Listener.open({
      target: { kind: 'tcp', host: '127.0.0.1', port: 0 },
      tls: rig.acceptor,
      connectionsMax: 10,
      onConnection: (open) => {
        const connection = open({
          onBytes: (firstBytes) =>
            connection.startTls({
              firstBytes,
              isDirect: true,
              inTurn: (piece) => {
                waiting.add(piece);
                return () => void waiting.delete(piece);
              },
              onSecure() {},
              onRefused() {},
              onFailed: (text) => failures.push(text),
            }),
          onDrain() {},
          onEnd() {},
          onClose() {},
        });
        accepted = connection;
      },
    });
    const socket = await plainSocket(listener.port);
    socket.write(await recordHello());
    await eventually(() => waiting.size).toBe(1);
    if (who === 'we') endAtOnce(accepted);
    else socket.resetAndDestroy();
    await eventually(() => waiting.size).toBe(0);
    expect(failures.length).toBe(who === 'we' ? 0 : 1);
    socket.destroy();
    listener.close();
  },
);

it('a handshake whose turn comes when the client has just closed its half is not begun', async () => {
  const hello = await recordHello();
  let begins = 0;
  const begin = rig.acceptor.begin.bind(rig.acceptor);
  rig.acceptor.begin = (socket, onOutcome) => {
    begins += 1;
    begin(socket, onOutcome);
  };
  const told: string[] = [];
  const server = createServer((socket) => {
    let turnOf: (() => void) | null = null;
    // Before anybody else can see the end.
    socket.on('end', () => turnOf?.());
    const connection = openAccepted(socket, rig.acceptor, {
      onBytes: (firstBytes) =>
        connection.startTls({
          firstBytes,
          isDirect: true,
          inTurn: (piece) => {
            turnOf = piece;
            return () => {};
          },
          onSecure() {},
          onRefused() {},
          onFailed: (text) => told.push(text),
        }),
      onDrain() {},
      onEnd: () => told.push('end'),
      onClose: (code) => told.push(`closed ${code}`),
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const socket = await plainSocket(address.port);
  socket.resume();
  socket.end(hello);
  await once(socket, 'close');
  await eventually(() => told).toEqual([
    'could not accept SSL connection: EOF detected',
    'closed null',
  ]);
  expect(begins).toBe(0);
  server.close();
});

function endAtOnce(connection: AcceptedConnection | null): void {
  connection?.destroy();
}

it('a client that closes its half before its turn is closed, not waited for', async () => {
  const hello = await recordHello();
  const sockets = await Promise.all(Array.from({ length: 20 }, () => plainSocket(fixture.port)));
  await Promise.all(sockets.map((socket) => askForTls(socket)));
  const ends = sockets.map(
    (socket) =>
      new Promise((resolve) => {
        socket.resume();
        socket.once('close', resolve);
      }),
  );
  for (const socket of sockets) socket.end(hello);
  await Promise.all(ends);
  await eventually(() => fixture.senders.totals().rejected.tls).toBe(sockets.length);
});

it('whatever comes as a handshake, nobody else notices', async () => {
  const reader = await besides();
  const hello = await recordHello();
  const bent = fc.record({
    door: fc.constantFrom('direct', 'classic'),
    changes: fc.array(fc.tuple(fc.nat(hello.length - 1), fc.nat(255)), { maxLength: 6 }),
    length: fc.nat(hello.length),
    more: fc.uint8Array({ maxLength: 300 }),
  });
  await fc.assert(
    fc.asyncProperty(bent, async ({ door, changes, length, more }) => {
      const bytes = Buffer.from(hello);
      for (const [offset, byte] of changes) if (offset > 0) bytes[offset] = byte;
      const socket = await plainSocket(fixture.port);
      if (door === 'classic') expect(await askForTls(socket)).toBe('S');
      const end = new Promise((resolve) => {
        socket.once('close', resolve);
      });
      socket.resume();
      socket.end(Buffer.concat([bytes.subarray(0, length), more]));
      await end;
    }),
    { numRuns: 200 },
  );
  await reader.readTo(fixture.feed.append(100_000));
  reader.client.close();
  await eventually(() => fixture.senders.statuses().length).toBe(0);
});

/** A standby that streams inside TLS. */
async function besides(): Promise<StreamReader> {
  const client = rawClient(await direct(fixture.port));
  client.send(startup(STANDBY));
  await client.until('Z');
  client.send(query(`START_REPLICATION 0/${START_LSN.toString(16)} TIMELINE 1`));
  expect((await client.next())?.type).toBe('W');
  return new StreamReader(client, START_LSN);
}
