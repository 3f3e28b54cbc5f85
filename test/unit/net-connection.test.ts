// A byte connection over a real socket: what is pending, when it has drained, how it ends.
import { createServer, connect } from 'node:net';
import type { Server, Socket } from 'node:net';
import { connect as startTls } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { makeCertificate } from '../support/certificates.ts';
import { eventually } from '../support/eventually.ts';
import { TlsUpstream } from '../support/tls-upstream.ts';
import { openConnection } from '../../src/net/connection.ts';
import type { ByteConnection } from '../../src/net/connection.ts';

let server: Server | null = null;
let peer: Socket | null = null;

afterEach(() => {
  peer?.destroy();
  server?.close();
});

/** A connection whose peer does not read yet. `drains` counts onDrain. */
async function openPair(): Promise<{
  connection: ByteConnection;
  peer: Socket;
  events: { drains: number; closedWith: string | null | undefined };
}> {
  const events: { drains: number; closedWith: string | null | undefined } = {
    drains: 0,
    closedWith: undefined,
  };
  const listening = createServer();
  server = listening;
  const accepted = new Promise<ByteConnection>((resolve) => {
    listening.once('connection', (socket) =>
      resolve(
        openConnection(socket, {
          onBytes() {},
          onDrain() {
            events.drains += 1;
          },
          onEnd() {},
          onClose(code) {
            events.closedWith = code;
          },
        }),
      ),
    );
  });
  await new Promise<void>((resolve) => {
    listening.listen(0, '127.0.0.1', resolve);
  });
  const address = listening.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const socket = connect({ port: address.port, host: '127.0.0.1' });
  socket.on('error', () => {});
  socket.pause();
  peer = socket;
  return { connection: await accepted, peer: socket, events };
}

/** Writes small pieces until the kernel takes no more. */
function fill(connection: ByteConnection, pieceBytes: number): number {
  let written = 0;
  while (connection.pendingBytes() === 0) {
    connection.write([Buffer.alloc(pieceBytes)]);
    written += pieceBytes;
    if (written > 1 << 26) throw new Error('the kernel takes everything');
  }
  return written;
}

describe('SocketConnection', () => {
  it.each([100, 1000, 10_000, 100_000])(
    'tells when everything has been taken, also of a last write of %i bytes',
    async (pieceBytes) => {
      const pair = await openPair();
      fill(pair.connection, pieceBytes);
      pair.events.drains = 0;
      expect(pair.connection.pendingBytes()).toBeGreaterThan(0);
      pair.peer.resume();
      await eventually(() => pair.connection.pendingBytes()).toBe(0);
      await eventually(() => pair.events.drains).toBeGreaterThan(0);
    },
  );

  it('gives way after the grace when the peer does not read what is pending', async () => {
    const pair = await openPair();
    fill(pair.connection, 100_000);
    pair.connection.end(50);
    await eventually(() => pair.events.closedWith).toBeNull();
  });

  it('says with which error the peer went', async () => {
    const pair = await openPair();
    pair.peer.resetAndDestroy();
    await eventually(() => pair.events.closedWith).toBe('ECONNRESET');
    pair.connection.write([Buffer.alloc(10)]);
    expect(pair.connection.pendingBytes()).toBe(0);
  });
});

/** In TLS 1.3 the server looks at our certificate when the handshake is over for us: its alert is followed by its end. */
it('ends with the alert of the other side, not with the end behind it', async () => {
  const authority = makeCertificate({ commonName: 'authority', isAuthority: true });
  await using upstream = await TlsUpstream.listen({
    certificate: makeCertificate({ dns: ['localhost'], issuer: authority }),
    clientRoots: authority.pem,
    maxVersion: 'TLSv1.3',
  });
  const socket = startTls({
    port: upstream.port,
    host: '127.0.0.1',
    ca: authority.pem,
    servername: 'localhost',
  });
  const ended = new Promise<string | null>((resolve) => {
    openConnection(socket, {
      onBytes() {},
      onDrain() {},
      onEnd: () => resolve('an end'),
      onClose: resolve,
    });
  });
  expect(await ended).toMatch(/^ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED$/);
});
