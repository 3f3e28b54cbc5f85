// Listening: ports and sockets, what a refused address is told, the cap on connections.
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import type { ByteConnection } from '../../src/net/connection.ts';
import { formatListenTarget, Listener, localInterfaceAddresses } from '../../src/net/listener.ts';
import type { ConnectionOpener, ListenTarget } from '../../src/net/listener.ts';

const LOOPBACK: ListenTarget = { kind: 'tcp', host: '127.0.0.1', port: 0 };

let directory: string;
let closers: (() => void)[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'wl-'));
  closers = [];
});

afterEach(async () => {
  for (const close of closers) close();
  await rm(directory, { recursive: true, force: true });
});

async function open(
  target: ListenTarget,
  onConnection: (open: ConnectionOpener) => void = () => {},
  connectionsMax = 10,
): Promise<Listener> {
  const listener = await Listener.open({ target, connectionsMax, onConnection });
  closers.push(() => listener.close());
  return listener;
}

function client(port: number): Socket {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => {});
  closers.push(() => socket.destroy());
  return socket;
}

async function refusal(target: ListenTarget): Promise<OperationalError> {
  try {
    await open(target);
  } catch (error) {
    if (error instanceof OperationalError) return error;
    throw error;
  }
  throw new Error('not refused');
}

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

const once = (socket: Socket, event: string): Promise<void> =>
  new Promise((resolve) => socket.once(event, () => resolve()));

describe('Listener', () => {
  it('hands over connections whose bytes nobody has read yet', async () => {
    const received = deferred<string>();
    const listener = await open(LOOPBACK, (openConnection) => {
      const connection: ByteConnection = openConnection({
        onBytes: (chunk) =>
          received.resolve(`${connection.peer.address} ${String.fromCharCode(...chunk)}`),
        onDrain() {},
        onEnd() {},
        onClose() {},
      });
      closers.push(() => connection.destroy());
    });
    client(listener.port).write('hi');
    expect(await received.promise).toBe('127.0.0.1 hi');
  });

  it('closes a connection that was not taken', async () => {
    const listener = await open(LOOPBACK);
    const socket = client(listener.port);
    await once(socket, 'close');
  });

  it('refuses a port in use and says what to do', async () => {
    const listener = await open(LOOPBACK);
    const error = await refusal({ kind: 'tcp', host: '127.0.0.1', port: listener.port });
    expect(error.code).toBe('EADDRINUSE');
    expect(error.message).toContain(`could not listen on 127.0.0.1:${listener.port}`);
    expect(error.hint).toContain('Another process listens there');
  });

  it('refuses an address that is not ours', async () => {
    const error = await refusal({ kind: 'tcp', host: '192.0.2.1', port: 0 });
    expect(error.code).toBe('EADDRNOTAVAIL');
  });

  it('closes connections beyond the cap at once, and counts them', async () => {
    const kept = deferred<ByteConnection>();
    const listener = await open(
      LOOPBACK,
      (openConnection) =>
        kept.resolve(openConnection({ onBytes() {}, onDrain() {}, onEnd() {}, onClose() {} })),
      1,
    );
    const first = client(listener.port);
    await once(first, 'connect');
    const connection = await kept.promise;
    await once(client(listener.port), 'close');
    expect(listener.dropped).toBe(1);
    connection.destroy();
  });

  it('listens on a Unix socket, takes over a dead one, and removes it at the end', async () => {
    const target: ListenTarget = { kind: 'unix', directory, port: 5432 };
    await writeFile(join(directory, '.s.PGSQL.5432'), '');
    const listener = await open(target);
    const socket = connect({ path: formatListenTarget(target) });
    await once(socket, 'connect');
    socket.destroy();
    expect((await refusal(target)).code).toBe('EADDRINUSE');
    listener.close();
    expect(await readdir(directory)).toEqual([]);
  });

  it('refuses a Unix socket path that is too long', async () => {
    const error = await refusal({
      kind: 'unix',
      directory: `${directory}/${'x'.repeat(100)}`,
      port: 5432,
    });
    expect(error.message).toContain('is too long (maximum 107 bytes)');
  });

  it('prints addresses as people type them', () => {
    expect(formatListenTarget({ kind: 'tcp', host: '::1', port: 5432 })).toBe('[::1]:5432');
    expect(formatListenTarget({ kind: 'tcp', host: '0.0.0.0', port: 1 })).toBe('0.0.0.0:1');
  });

  it('knows the loopback address of this machine', () => {
    expect(localInterfaceAddresses()).toContainEqual({
      address: '127.0.0.1',
      netmask: '255.0.0.0',
    });
  });
});

it('turns a peer away that has reset already: without an address it would pass for a local one', async () => {
  const honest = deferred<string | null>();
  const addresses: (string | null)[] = [];
  const listener = await open(LOOPBACK, (accept) => {
    const connection = accept({
      onBytes: () => honest.resolve(connection.peer.address),
      onDrain() {},
      onEnd() {},
      onClose() {},
    });
    addresses.push(connection.peer.address);
    closers.push(() => connection.destroy());
  });
  // This thread waits, so the kernel alone takes the connections: they are reset before they are accepted.
  const script = `
    const { connect } = require('node:net');
    let open = 5;
    for (let i = 0; i < 5; i += 1) {
      const socket = connect(Number(process.argv[1]), '127.0.0.1', () => {
        socket.write('hello', () => { socket.resetAndDestroy(); open -= 1; });
      });
      socket.on('error', () => {});
    }`;
  const { status } = spawnSync(process.execPath, ['-e', script, String(listener.port)]);
  expect(status).toBe(0);
  client(listener.port).write('hello');
  expect(await honest.promise).toBe('127.0.0.1');
  expect(addresses).toEqual(['127.0.0.1']);
  expect(listener.dropped).toBe(5);
});
