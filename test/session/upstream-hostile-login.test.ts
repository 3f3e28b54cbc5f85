// A server that plays PostgreSQL up to a point of the login and then does what none does: nothing of it may stay, run on,
// be shown as it came, or take the process along.
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { WalcastError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { dial } from '../../src/net/dial.ts';
import { UpstreamTunnels } from '../../src/walreceiver/tunnel.ts';
import { UpstreamConnection } from '../../src/walreceiver/upstream-connection.ts';
import type { UpstreamConnectionOptions } from '../../src/walreceiver/upstream-connection.ts';
import { cstr, i32, message, raw } from '../support/naive-writer.ts';
import { ReceiverRig } from '../support/receiver-rig.ts';
import {
  complete,
  playedServer,
  READY,
  rows,
  ScriptedUpstream,
} from '../support/scripted-upstream.ts';
import type { ScriptedSession } from '../support/scripted-upstream.ts';
import { targetFor } from '../support/upstream-target.ts';

const PASSWORD = 'canary in the mine';
const OK = message('R', i32(0));

function optionsFor(
  upstream: ScriptedUpstream,
  more: Partial<UpstreamConnectionOptions> = {},
): UpstreamConnectionOptions {
  const host = { host: '127.0.0.1', address: '127.0.0.1', port: upstream.port, password: PASSWORD };
  return {
    target: targetFor('sslmode=disable', { hosts: [host] }),
    host,
    database: 'replication',
    applicationName: 'tester',
    isReplication: true,
    timeoutMs: 10_000,
    readBufferBytes: 16 << 10,
    clock: systemClock,
    log: silentLog,
    dial,
    ...more,
  };
}

/** Lets `play` answer a startup packet; the error the login ends with. */
async function refused(
  play: (session: ScriptedSession) => Promise<void> | void,
  more: Partial<UpstreamConnectionOptions> = {},
): Promise<WalcastError & { hint?: string }> {
  await using upstream = await ScriptedUpstream.listen();
  const opening = UpstreamConnection.open(optionsFor(upstream, more)).then(
    (connection) => {
      connection.destroy();
      throw new Error('the login succeeded');
    },
    (error: WalcastError) => error,
  );
  const session = await upstream.accept();
  await session.startup();
  await play(session);
  const error = await opening;
  await session.closed;
  expect(inspect(error, { depth: 20, showHidden: true })).not.toContain(PASSWORD);
  return error;
}

const VISIBLE = /^[^\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]*$/u;

describe('what a server says is shown without control characters when it is', () => {
  it.each<[string, Uint8Array]>([
    ['a SQLSTATE', message('E', 'S', cstr('FATAL'), 'C', cstr('\u001b[2J\n'), 'M', cstr('x'), 0)],
    [
      'an error',
      message(
        'E',
        'S',
        cstr('FATAL'),
        'C',
        cstr('28000'),
        'M',
        cstr('\u001b[2J\nx\u2028y\u202ez'),
        0,
      ),
    ],
    ['a SASL mechanism', message('R', i32(10), cstr('\u001b]0;x\u0007\n'), 0)],
    [
      'a parameter',
      raw(
        OK,
        Buffer.concat(
          Array.from({ length: 2000 }, (_, n) => message('S', cstr(`\u001b[2J\n${n}`), cstr('x'))),
        ),
      ),
    ],
    ['a long parameter', raw(OK, message('S', cstr(`\u001b[2J\n`), cstr('x'.repeat(20_000))))],
  ])('%s', async (_, bytes) => {
    const error = await refused((session) => session.send(bytes));
    expect(error.message).toMatch(VISIBLE);
    expect(error.code).toMatch(/^[0-9A-Z_]{5,}$/);
    expect(error.message.length).toBeLessThan(3_000);
  });
});

it.each(['UPSTREAM_CLOSED', 'OTHER_SESSION_KIND', 'TLS_UNKNOWN_CA', '28p01', '28P012', ''])(
  'a SQLSTATE "%s" is none, and does not pass for a code of ours',
  async (code) => {
    const error = await refused((session) =>
      session.send(message('E', 'S', cstr('FATAL'), 'C', cstr(code), 'M', cstr('no'), 0)),
    );
    expect(error.code).toBe('XX000');
  },
);

describe('bytes that make no sense, in one piece with the end of the login,', () => {
  const NONSENSE: [string, Uint8Array][] = [
    ['an unknown type', Buffer.from('Q\0\0\0\x05\0')],
    ['a length that is none', Buffer.from('Z\0\0\0\0')],
    ['a second ReadyForQuery', READY],
    ['an AuthenticationOk', OK],
    [
      'a FATAL and nonsense',
      raw(message('E', 'S', cstr('FATAL'), 'C', cstr('57P01'), 'M', cstr('bye'), 0), 'Q', i32(4)),
    ],
  ];

  it.each(NONSENSE)('%s: a tunnel is refused', async (_, nonsense) => {
    await using upstream = await ScriptedUpstream.listen();
    const { target } = optionsFor(upstream);
    const tunnels = new UpstreamTunnels({ target, clock: systemClock, log: silentLog, dial });
    const opening = tunnels
      .open('tester', { onBytes() {}, onDrain() {}, onClose() {} })
      .catch((error: unknown) => error);
    const session = await upstream.accept();
    await session.startup();
    session.send(OK, message('K', i32(1), i32(1)), READY, nonsense);
    expect(await opening).toMatchObject({ isRetryable: true });
    expect(tunnels.count).toBe(0);
    await session.closed;
  });

  it.each(NONSENSE)('%s: the walreceiver tries again', async (_, nonsense) => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port, sslmode: 'disable' });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.startup();
    session.send(OK, message('K', i32(1), i32(1)), READY, nonsense);
    await rig.until('it is disconnected', () => rig.receiver.status().state === 'disconnected');
    await session.closed;
    rig.receiver.reconnect();
    await (await upstream.accept()).startup();
  });
});

describe('a login goes on as long as connect_timeout allows, and no longer,', () => {
  it.each<[string, Uint8Array]>([
    [
      'notices',
      message('N', 'S', cstr('NOTICE'), 'C', cstr('00000'), 'M', cstr('x'.repeat(500)), 0),
    ],
    ['parameters', message('S', cstr('a'), cstr('b'))],
  ])('while %s never end', async (_, flood) => {
    let isOver = false;
    const startedAt = performance.now();
    const error = await refused(
      (session) => {
        void session.closed.then(() => {
          isOver = true;
        });
        const more = (): void => {
          if (isOver) return;
          session.send(flood, flood, flood, flood);
          setImmediate(more);
        };
        more();
      },
      { timeoutMs: 150 },
    );
    expect(error.code).toBe('CONNECT_TIMEOUT');
    expect(performance.now() - startedAt).toBeLessThan(8_000);
  });
});

describe('a message that is out of place ends the login', () => {
  const SASL = message('R', i32(10), cstr('SCRAM-SHA-256'), 0);
  it.each<[string, Uint8Array]>([
    ['NegotiateProtocolVersion, though 3.0 was asked for', message('v', i32(0x30000), i32(0))],
    ['the same with an option never sent', message('v', i32(0x30000), i32(1), cstr('_pq_.x'))],
    ['the same with a count that is none', message('v', i32(0x30000), i32(-1))],
    ['ReadyForQuery before a login', READY],
    ['BackendKeyData before a login', message('K', i32(1), i32(1))],
    ['SASLFinal before a challenge', raw(SASL, message('R', i32(12), 'v=AAAA'))],
    ['AuthenticationOk behind the offer of SASL', raw(SASL, OK)],
    ['a second offer of SASL', raw(SASL, SASL)],
    ['an MD5 request behind the offer of SASL', raw(SASL, message('R', i32(5), 'salt'))],
    ['a request for the password behind the offer of SASL', raw(SASL, message('R', i32(3)))],
    ['AuthenticationOk twice', raw(OK, OK)],
    ['SASL behind AuthenticationOk', raw(OK, SASL)],
    ['a request for the password behind AuthenticationOk', raw(OK, message('R', i32(3)))],
    ['an authentication request of one byte', message('R', 0)],
    ['a mechanism list without end', message('R', i32(10), 'SCRAM-SHA-256')],
    ['WAL', message('d', 'w')],
    ['CopyBothResponse', message('W', 0, 0, 0)],
    ['a row', message('D', 0, 0)],
  ])('%s', async (_, bytes) => {
    const error = await refused((session) => session.send(bytes));
    expect(error).toMatchObject({ code: '08P01', isRetryable: true });
  });
});

it('a server_version that would steer a terminal is that of no PostgreSQL', async () => {
  await using upstream = await ScriptedUpstream.listen();
  await using rig = new ReceiverRig({ port: upstream.port, sslmode: 'disable' });
  rig.receiver.start();
  const session = await upstream.accept();
  await session.login(playedServer({ serverVersion: '18.4 \u001b]0;x\u0007' }));
  await rig.until('it is disconnected', () => rig.receiver.status().state === 'disconnected');
  const reason = rig.changes.at(-1)?.reason ?? '';
  expect(reason).toContain('server_version "18.4 ');
  expect(reason).toMatch(VISIBLE);
  expect(rig.receiver.status().serverVersion).toBeNull();
});

it('the type of a slot and the next timeline are shown as short visible text, too', async () => {
  const odd = `\u001b[2J\n${'x'.repeat(50_000)}`;
  await using upstream = await ScriptedUpstream.listen();
  await using slotted = new ReceiverRig({
    port: upstream.port,
    sslmode: 'disable',
    slot: 'walcast',
  });
  slotted.receiver.start();
  const session = await upstream.accept();
  const server = playedServer({ slots: { walcast: [odd, null] } });
  await session.login(server);
  const asked = session.identify(server).catch(() => {});
  await slotted.until('it ends', () => slotted.receiver.status().state === 'disconnected');
  expect(slotted.changes.at(-1)?.reason).toMatch(/^replication slot "walcast" .{0,3000}$/u);
  expect(slotted.changes.at(-1)?.reason).toMatch(VISIBLE);
  await asked;

  await using rig = new ReceiverRig({ port: upstream.port, sslmode: 'disable' });
  rig.receiver.start();
  const streaming = await upstream.accept();
  await streaming.stream();
  const copyDone = message('c');
  streaming.send(copyDone, rows(['next_tli', 'next_tli_startpos'], [['2', odd]]));
  streaming.send(complete('START_STREAMING'), READY);
  await rig.until('it ends', () => rig.receiver.status().state === 'disconnected');
  expect(rig.changes.at(-1)?.reason).toContain('next timeline starts at');
  expect(rig.changes.at(-1)?.reason).toMatch(VISIBLE);
});
