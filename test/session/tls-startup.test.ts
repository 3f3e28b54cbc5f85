// How clients come in with TLS: by SSLRequest, or by the handshake itself; and what is not let in.
import type { TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { walBytes } from '../support/memory-wal.ts';
import { packet, raw } from '../support/naive-writer.ts';
import { query, STANDBY, startup, StreamReader } from '../support/raw-client.ts';
import {
  askForTls,
  classic,
  direct,
  handshake,
  plainSocket,
  rawClient,
  SSL_REQUEST,
  TlsServerRig,
} from '../support/tls-server-rig.ts';
import { Fixture, rules, START_LSN } from '../support/wal-senders-fixture.ts';

const GSSENC_REQUEST = packet(80_877_104);
const UNSUPPORTED_TLS =
  'E|FATAL|0A000|unsupported frontend protocol 1234.5679: server supports 3.0 to 3.0';

let rig: TlsServerRig;
let fixture: Fixture;

beforeEach(async () => {
  rig = await TlsServerRig.open();
  fixture = await Fixture.start({ tls: rig.acceptor, beside: true });
  fixture.hba = rules('hostssl replication all all trust');
});

afterEach(async () => {
  await fixture.finish();
  await rig.close();
});

/** Is let in, and gets WAL. */
async function expectStream(socket: TLSSocket): Promise<void> {
  const client = rawClient(socket);
  client.send(startup(STANDBY));
  expect((await client.until('Z')).at(-1)?.type).toBe('Z');
  client.send(query(`START_REPLICATION 0/${START_LSN.toString(16)} TIMELINE 1`));
  expect((await client.next())?.type).toBe('W');
  const endLsn = fixture.feed.append(300_000);
  const reader = new StreamReader(client, START_LSN);
  await reader.readTo(endLsn);
  expect(reader.wal().equals(walBytes(START_LSN, endLsn))).toBe(true);
  client.close();
}

describe('by SSLRequest', () => {
  it('a standby streams, without ALPN where it asks for none', async () => {
    const socket = await classic(fixture.port, { servername: 'localhost' });
    expect(socket.alpnProtocol).toBe(false);
    await expectStream(socket);
  });

  it('ALPN postgresql is agreed on where the client asks for it', async () => {
    const socket = await classic(fixture.port, { ALPNProtocols: ['http/1.1', 'postgresql'] });
    expect(socket.alpnProtocol).toBe('postgresql');
    await expectStream(socket);
  });

  it('a client of another protocol is told so', async () => {
    await expect(classic(fixture.port, { ALPNProtocols: ['http/1.1'] })).rejects.toThrow(
      /no application protocol/,
    );
  });

  it('a request for GSSAPI may come before, and not inside', async () => {
    const socket = await plainSocket(fixture.port);
    socket.write(GSSENC_REQUEST);
    await new Promise((resolve) => {
      socket.once('data', resolve);
    });
    expect(await askForTls(socket)).toBe('S');
    const client = rawClient(await handshake(socket));
    client.send(GSSENC_REQUEST);
    expect(await client.rest()).toEqual([
      'E|FATAL|0A000|unsupported frontend protocol 1234.5680: server supports 3.0 to 3.0',
    ]);
  });

  it('a second request inside TLS is no request', async () => {
    const client = rawClient(await classic(fixture.port));
    client.send(SSL_REQUEST);
    expect(await client.rest()).toEqual([UNSUPPORTED_TLS]);
  });

  it.each([
    ['a startup packet', startup(STANDBY)],
    ['one byte', raw(0)],
    ['another request', SSL_REQUEST],
  ])('%s behind the request ends the connection', async (_name, behind) => {
    const client = rawClient(await plainSocket(fixture.port));
    client.send(raw(SSL_REQUEST, behind));
    expect(await client.rest()).toEqual([
      'E|FATAL|08P01|received unencrypted data after SSL request|This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.',
    ]);
  });

  it('plain text behind the answer ends the connection, and is not answered in plain text', async () => {
    const socket = await plainSocket(fixture.port);
    expect(await askForTls(socket)).toBe('S');
    const client = rawClient(socket);
    client.send(startup(STANDBY));
    const answer = await client.closed();
    // An alert, or nothing.
    expect(answer.length === 0 || answer[0] === 0x15).toBe(true);
    expect(fixture.senders.totals().rejected.tls).toBe(1);
    expect(fixture.log.lines.join('\n')).toContain('could not accept SSL connection: ');
  });

  it('who goes away in the middle of the handshake is forgotten', async () => {
    const socket = await plainSocket(fixture.port);
    await askForTls(socket);
    socket.end(raw(0x16, 3, 1, 0, 100, 1));
    await eventually(() => fixture.senders.totals().rejected.tls).toBe(1);
    expect(fixture.log.lines.join('\n')).toContain('could not accept SSL connection: EOF detected');
  });
});

describe('by the handshake itself', () => {
  it('a standby streams when ALPN is agreed on', async () => {
    const socket = await direct(fixture.port);
    expect(socket.alpnProtocol).toBe('postgresql');
    await expectStream(socket);
  });

  it('without ALPN it is closed without a word', async () => {
    const client = rawClient(await handshake(await plainSocket(fixture.port)));
    client.send(startup(STANDBY));
    expect(await client.closed()).toHaveLength(0);
    expect(fixture.log.lines.join('\n')).toContain(
      'received direct SSL connection request without ALPN protocol negotiation extension',
    );
  });

  it('a request for TLS inside is declined once', async () => {
    const socket = await direct(fixture.port);
    expect(await askForTls(socket)).toBe('N');
    const client = rawClient(socket);
    client.send(SSL_REQUEST);
    expect(await client.rest()).toEqual([UNSUPPORTED_TLS]);
  });

  it('is none behind another packet', async () => {
    const socket = await plainSocket(fixture.port);
    socket.write(GSSENC_REQUEST);
    await new Promise((resolve) => {
      socket.once('data', resolve);
    });
    const client = rawClient(socket);
    client.send(raw(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc));
    expect(await client.closed()).toHaveLength(0);
  });
});

describe('what is not done', () => {
  it.each(['TLSv1', 'TLSv1.1'] as const)('%s', async (version) => {
    const options = {
      minVersion: 'TLSv1',
      maxVersion: version,
      ciphers: 'ALL:@SECLEVEL=0',
    } as const;
    await expect(classic(fixture.port, options)).rejects.toThrow(/protocol version/);
    expect(fixture.log.lines.join('\n')).toContain(
      'could not accept SSL connection: unsupported protocol',
    );
  });

  it('a cipher that we do not have', async () => {
    const options = { maxVersion: 'TLSv1.2', ciphers: 'NULL-SHA256:@SECLEVEL=0' } as const;
    await expect(classic(fixture.port, options)).rejects.toThrow(/handshake failure/);
    expect(fixture.log.lines.join('\n')).toContain('no shared cipher');
  });

  it.each(['ffdhe2048', 'ffdhe8192'])('a key exchange that is all work (%s)', async (group) => {
    await expect(classic(fixture.port, { ecdhCurve: group })).rejects.toThrow(/handshake failure/);
    for (const curve of ['X25519', 'P-256', 'P-384', 'P-521', 'X448']) {
      const socket = await classic(fixture.port, { ecdhCurve: `${curve}:${group}` });
      expect(socket.getEphemeralKeyInfo()).toMatchObject({ type: 'ECDH' });
      socket.destroy();
    }
  });

  it('renegotiation', async () => {
    const socket = await classic(fixture.port, { maxVersion: 'TLSv1.2' });
    const client = rawClient(socket);
    client.send(startup(STANDBY));
    await client.until('Z');
    const outcome = new Promise<string>((resolve) => {
      socket.once('error', (error) => resolve(error.message));
      socket.once('close', () => resolve('closed'));
      socket.renegotiate({ rejectUnauthorized: false }, (error) =>
        resolve(error?.message ?? 'renegotiated'),
      );
    });
    expect(await outcome).toMatch(/no renegotiation|closed/);
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)('a session taken up again (%s)', async (version) => {
    const first = await classic(fixture.port, { minVersion: version, maxVersion: version });
    const tickets: Buffer[] = [];
    first.on('session', (ticket) => tickets.push(ticket));
    const client = rawClient(first);
    client.send(startup(STANDBY));
    await client.until('Z');
    const session = tickets.at(-1) ?? first.getSession();
    client.close();
    expect(session).toBeDefined();
    const second = await classic(fixture.port, {
      minVersion: version,
      maxVersion: version,
      ...(session === undefined ? {} : { session }),
    });
    expect(second.isSessionReused()).toBe(false);
    await expectStream(second);
  });

  it('a cipher by the client’s order: ours counts', async () => {
    const ciphers = ['ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-AES128-GCM-SHA256'];
    const names = await Promise.all(
      [ciphers, ciphers.toReversed()].map(async (order) => {
        const socket = await classic(fixture.port, {
          maxVersion: 'TLSv1.2',
          ciphers: order.join(':'),
        });
        const { name } = socket.getCipher();
        socket.destroy();
        return name;
      }),
    );
    expect(new Set(names).size).toBe(1);
  });
});
