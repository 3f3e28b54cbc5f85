// Logging in at an upstream: every kind of authentication request, honest and not, and every way to be turned away.
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';
import { rm, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { WalcastError } from '../../src/base/errors.ts';
import { systemClock } from '../../src/base/clock.ts';
import { OperationalError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { dial } from '../../src/net/dial.ts';
import { UpstreamConnection } from '../../src/walreceiver/upstream-connection.ts';
import type { UpstreamConnectionOptions } from '../../src/walreceiver/upstream-connection.ts';
import { valueText } from '../../src/walreceiver/upstream-query.ts';
import { UpstreamTunnels } from '../../src/walreceiver/tunnel.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { cstr, i32, message, raw } from '../support/naive-writer.ts';
import { playScram } from '../support/scram-server.ts';
import { targetFor } from '../support/upstream-target.ts';
import {
  complete,
  errorResponse,
  READY,
  rows,
  ScriptedSession,
  ScriptedUpstream,
} from '../support/scripted-upstream.ts';

const PASSWORD = 'sécret, =with marks';

interface Login {
  readonly password?: string | null;
  readonly requireAuth?: string | null;
  readonly sslmode?: string;
}

function optionsFor(host: string, port: number, login: Login = {}): UpstreamConnectionOptions {
  const entry = { host, address: host, port, password: login.password ?? null };
  return {
    target: targetFor(`sslmode=${login.sslmode ?? 'prefer'}`, {
      hosts: [entry],
      requireAuth: login.requireAuth ?? null,
      parameters: new Map([['options', '-c wal_sender_timeout=5s']]),
    }),
    host: entry,
    database: 'postgres',
    applicationName: 'tester',
    isReplication: false,
    timeoutMs: 10_000,
    readBufferBytes: 16 << 10,
    clock: systemClock,
    log: silentLog,
    dial,
  };
}

function open(upstream: ScriptedUpstream, login: Login = {}): Promise<UpstreamConnection> {
  return UpstreamConnection.open(optionsFor('127.0.0.1', upstream.port, login));
}

/** The error an opening ends with. */
async function refusal(
  opening: Promise<UpstreamConnection>,
): Promise<WalcastError & { hint?: string }> {
  return opening.then(
    () => Promise.reject(new Error('the login succeeded')),
    (error: WalcastError) => error,
  );
}

describe('a login', () => {
  it('without a password sends the parameters in order and keeps what the server reports', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const opening = open(upstream);
    const session = await upstream.accept();
    const startup = await session.login();
    expect([...startup]).toEqual([
      ['user', 'replicator'],
      ['database', 'postgres'],
      ['options', '-c wal_sender_timeout=5s'],
      ['application_name', 'tester'],
    ]);
    const connection = await opening;
    expect(connection.parameters.get('server_version')).toBe('18.4');
    expect(connection.backendPid).toBe(4242);
    connection.close();
    expect((await session.next()).type).toBe('X');
    expect(await session.closed).toBe(true);
  });

  it('by SCRAM-SHA-256, with the server’s bytes cut one by one', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const opening = open(upstream, { password: PASSWORD });
    const session = await upstream.accept();
    session.cutsBytes = true;
    await session.startup();
    await playScram(session, PASSWORD);
    (await opening).close();
  });

  it('with a wrong password tells the server’s own words, and that it is tried again', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const opening = open(upstream, { password: 'wrong' });
    const refused = refusal(opening);
    const session = await upstream.accept();
    await session.startup();
    await playScram(session, PASSWORD);
    const error = await refused;
    expect(error).toMatchObject({ code: '28P01', isRetryable: true });
    expect(error.message).toContain('password authentication failed for user "replicator"');
    expect(error.hint).toContain('upstream.conninfo');
  });

  it.each([
    [
      'proves nothing',
      { signature: () => Buffer.alloc(32).toString('base64') },
      'incorrect server signature',
    ],
    ['has a nonce of its own', { nonce: () => 'another' }, 'nonce'],
    ['repeats our nonce only', { nonce: (mine: string) => mine }, 'nonce'],
    ['wants a billion rounds', { iterations: 1_000_000_000 }, 'iteration'],
    ['wants no round', { iterations: 0 }, 'iteration'],
    ['has a salt that is none', { salt: '!!!' }, 'salt'],
  ])('is not finished with a server that %s', async (_name, twist, text) => {
    await using upstream = await ScriptedUpstream.listen();
    const refused = refusal(open(upstream, { password: PASSWORD }));
    const session = await upstream.accept();
    await session.startup();
    // The client leaves in the middle, which the script need not survive.
    void playScram(session, PASSWORD, twist).catch(() => {});
    expect((await refused).message).toContain(text);
    await session.closed;
  });

  it.each([
    [
      'says OK in the middle of SCRAM',
      [message('R', i32(10), cstr('SCRAM-SHA-256'), 0), message('R', i32(0))],
    ],
    [
      'skips the challenge',
      [message('R', i32(10), cstr('SCRAM-SHA-256'), 0), message('R', i32(12), 'v=xx')],
    ],
    ['is ready before it authenticated', [READY]],
    ['gives a key before it authenticated', [message('K', i32(1), i32(2))]],
    ['asks twice', [message('R', i32(0)), message('R', i32(3))]],
    ['answers a command nobody gave', [rows(['a'], [['b']])]],
    ['negotiates a version nobody asked for', [message('v', i32(0x30000), i32(0))]],
    ['sends CopyData', [message('d', 'w')]],
  ])('is not finished with a server that %s', async (_name, messages) => {
    await using upstream = await ScriptedUpstream.listen();
    const refused = refusal(open(upstream, { password: PASSWORD }));
    const session = await upstream.accept();
    await session.startup();
    session.send(...messages);
    expect(await refused).toMatchObject({ code: '08P01', isRetryable: true });
    await session.closed;
  });

  it('in clear text or by MD5 is refused, with the risk and the way out', async () => {
    const requests = [
      ['password', message('R', i32(3))],
      ['md5', message('R', i32(5), 'salt')],
    ] as const;
    for (const [method, request] of requests) {
      await using upstream = await ScriptedUpstream.listen();
      const refused = refusal(open(upstream, { password: PASSWORD }));
      const session = await upstream.accept();
      await session.startup();
      session.send(request);
      const error = await refused;
      expect(error.code).toBe('AUTH_METHOD_REFUSED');
      expect(error.hint).toContain(`require_auth=${method}`);
      await session.closed;
    }
  });

  it('in clear text or by MD5 is done where require_auth names it', async () => {
    const inner = createHash('md5').update(`${PASSWORD}replicator`).digest('hex');
    const md5 = createHash('md5').update(inner).update('salt').digest('hex');
    const requests = [
      ['password', message('R', i32(3)), PASSWORD],
      ['md5', message('R', i32(5), 'salt'), `md5${md5}`],
    ] as const;
    for (const [method, request, answer] of requests) {
      await using upstream = await ScriptedUpstream.listen();
      const opening = open(upstream, {
        password: PASSWORD,
        requireAuth: `scram-sha-256,${method}`,
      });
      const session = await upstream.accept();
      await session.startup();
      session.send(request);
      expect(await session.next()).toEqual({ type: 'p', body: Buffer.from(`${answer}\0`) });
      session.send(message('R', i32(0)));
      session.greet();
      (await opening).close();
    }
  });

  it('is not done without authentication where require_auth demands one', async () => {
    for (const requireAuth of ['scram-sha-256', '!none']) {
      await using upstream = await ScriptedUpstream.listen();
      const refused = refusal(open(upstream, { password: PASSWORD, requireAuth }));
      const session = await upstream.accept();
      await session.startup();
      session.send(message('R', i32(0)));
      expect(await refused).toMatchObject({ code: 'AUTH_METHOD_REFUSED' });
    }
  });

  it('says which password is missing', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const refused = refusal(open(upstream));
    const session = await upstream.accept();
    await session.startup();
    session.send(message('R', i32(10), cstr('SCRAM-SHA-256'), 0));
    expect(await refused).toMatchObject({ code: 'PASSWORD_MISSING', isRetryable: true });
  });

  it('names the method it cannot speak', async () => {
    for (const request of [message('R', i32(7)), message('R', i32(10), cstr('OAUTHBEARER'), 0)]) {
      await using upstream = await ScriptedUpstream.listen();
      const refused = refusal(open(upstream, { password: PASSWORD }));
      const session = await upstream.accept();
      await session.startup();
      session.send(request);
      expect(await refused).toMatchObject({ code: 'AUTH_METHOD_UNSUPPORTED' });
    }
  });

  it.each([
    ['28000', 'no pg_hba.conf entry for replication connection', 'pg_hba.conf'],
    ['42501', 'permission denied to start WAL sender', 'REPLICATION'],
    ['53300', 'number of requested standby connections exceeds max_wal_senders', 'max_wal_senders'],
    ['57P03', 'the database system is starting up', 'tries again'],
  ])('refused with %s says what to do', async (sqlstate, text, hint) => {
    await using upstream = await ScriptedUpstream.listen();
    const refused = refusal(open(upstream));
    const session = await upstream.accept();
    await session.startup();
    session.send(errorResponse(sqlstate, text, 'FATAL'));
    session.end();
    const error = await refused;
    expect(error).toMatchObject({ code: sqlstate, isRetryable: true });
    expect(error.message).toContain(text);
    expect(error.hint).toContain(hint);
  });

  it('ends when the server closes without a word', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const refused = refusal(open(upstream));
    const session = await upstream.accept();
    await session.startup();
    session.end();
    expect(await refused).toMatchObject({ code: 'UPSTREAM_CLOSED', isRetryable: true });
  });
});

describe('dialling', () => {
  it('names host and port of a server that is not there', async () => {
    const upstream = await ScriptedUpstream.listen();
    const { port } = upstream;
    await upstream[Symbol.asyncDispose]();
    const error = await refusal(UpstreamConnection.open(optionsFor('127.0.0.1', port)));
    expect(error).toMatchObject({ code: 'CONNECT_FAILED', isRetryable: true });
    expect(error.message).toBe(
      `could not connect to 127.0.0.1:${port}: connection refused (ECONNREFUSED)`,
    );
  });

  it('goes through a Unix socket when the host is a directory', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'walcast-dial-'));
    const server = createServer();
    const accepted = new Promise<ScriptedSession>((resolve) => {
      server.on('connection', (socket) => resolve(new ScriptedSession(socket)));
    });
    await new Promise<void>((resolve) => {
      server.listen(join(directory, '.s.PGSQL.5433'), resolve);
    });
    const opening = UpstreamConnection.open(optionsFor(directory, 5433));
    await (await accepted).login();
    (await opening).destroy();
    await (
      await accepted
    ).closed;
    server.close();
    await rm(directory, { recursive: true });
  });

  it.runIf(process.platform === 'linux')('goes through an abstract socket', async () => {
    const name = `walcast-test-${process.pid}`;
    const server = createServer();
    const accepted = new Promise<ScriptedSession>((resolve) => {
      server.on('connection', (socket) => resolve(new ScriptedSession(socket)));
    });
    await new Promise<void>((resolve) => {
      server.listen(`\0${name}/.s.PGSQL.5433`, resolve);
    });
    const opening = UpstreamConnection.open(optionsFor(`@${name}`, 5433));
    await (await accepted).login();
    (await opening).destroy();
    server.close();
  });

  it('is stopped by its signal and by its time limit', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const abort = new AbortController();
    const stopped = refusal(
      UpstreamConnection.open({ ...optionsFor('127.0.0.1', upstream.port), signal: abort.signal }),
    );
    const session = await upstream.accept();
    await session.startup();
    abort.abort();
    expect(await stopped).toMatchObject({ code: 'UPSTREAM_CLOSED' });
    await session.closed;
    const events = { onBytes() {}, onDrain() {}, onEnd() {}, onClose() {} };
    const clock = new ManualClock();
    const target = { host: '127.0.0.1', port: upstream.port };
    const limits = { clock, timeoutMs: 700, readBufferBytes: 1 };
    const aborted = dial(target, { ...limits, signal: AbortSignal.abort() }, events);
    await expect(aborted).rejects.toMatchObject({ code: 'CONNECT_ABORTED' });
    const late = dial(target, limits, events);
    clock.advance(700);
    await expect(late).rejects.toMatchObject({ code: 'CONNECT_TIMEOUT', isRetryable: true });
    expect(clock.nextTimerMs()).toBeNull();
  });
});

describe('commands', () => {
  async function ready(upstream: ScriptedUpstream): Promise<[UpstreamConnection, ScriptedSession]> {
    const opening = open(upstream);
    const session = await upstream.accept();
    await session.login();
    return [await opening, session];
  }

  it('are sent at once and answered in order, errors included', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const [connection, session] = await ready(upstream);
    const outcomes = Promise.all(
      ['A', 'B', 'C'].map((sql) => connection.query(sql, { timeoutMs: 10_000 })),
    );
    expect([await session.command(), await session.command(), await session.command()]).toEqual([
      'A',
      'B',
      'C',
    ]);
    session.send(
      rows(
        ['x', 'y'],
        [
          ['1', null],
          ['2', 'zwö'],
        ],
      ),
      complete('SELECT 2'),
      READY,
    );
    session.send(rows(['x'], []), errorResponse('42601', 'no'), READY);
    session.send(complete('SET'), complete('SET'), READY);
    const [a, b, c] = await outcomes;
    expect(a?.results[0]?.columns).toEqual(['x', 'y']);
    expect(a?.results[0]?.rows.map((row) => row.map(valueText))).toEqual([
      ['1', null],
      ['2', 'zwö'],
    ]);
    expect(b?.error).toMatchObject({ sqlstate: '42601', message: 'no' });
    expect(c?.results.map((result) => result.tag)).toEqual(['SET', 'SET']);
    connection.destroy();
  });

  it('reject when the session ends, with the reason the server gave', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const [connection, session] = await ready(upstream);
    const outcome = connection.query('A', { timeoutMs: 10_000 });
    await session.command();
    session.send(errorResponse('57P01', 'terminating connection', 'FATAL'));
    session.end();
    await expect(outcome).rejects.toMatchObject({ code: '57P01' });
    await expect(connection.query('B', { timeoutMs: 0 })).rejects.toBeInstanceOf(OperationalError);
  });

  it('end the session when the answer is too large or never ends', async () => {
    for (const flood of [
      rows(['a'], [['x'], ['x'], ['x'], ['x']]),
      rows(['a'], [['x'.repeat(200)]]),
    ]) {
      await using upstream = await ScriptedUpstream.listen();
      const [connection, session] = await ready(upstream);
      const limits = { rowsMax: 3, bytesMax: 100 };
      const outcome = connection.query('A', { timeoutMs: 10_000, limits });
      await session.command();
      session.send(flood, complete('SELECT'), READY);
      await expect(outcome).rejects.toMatchObject({ code: '08P01' });
      await session.closed;
      expect(connection.isClosed).toBe(true);
    }
  });
});

/** Waits for a tunnel's end. */
class Closing {
  onClose: (reason: string | null) => void = () => {};
  readonly reason: Promise<string | null> = new Promise((resolve) => {
    this.onClose = resolve;
  });
}

describe('a tunnel', () => {
  it('hands bytes through as they are, both ways, past a login of its own', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const tunnels = new UpstreamTunnels({
      target: { ...optionsFor('127.0.0.1', upstream.port).target },
      clock: systemClock,
      log: silentLog,
      dial,
    });
    const received: Buffer[] = [];
    const closing = new Closing();
    const opening = tunnels.open('backup', {
      onBytes: (chunk) => received.push(Buffer.from(chunk)),
      onDrain: () => {},
      onClose: closing.onClose,
    });
    const session = await upstream.accept();
    const startup = await session.login();
    // Nothing else of what the client said reaches the upstream before its command.
    expect(Object.fromEntries(startup)).toEqual({
      user: 'replicator',
      database: 'replication',
      replication: 'true',
      application_name: 'backup',
      options: '-c wal_sender_timeout=5s',
    });
    const tunnel = await opening;
    expect(tunnels.count).toBe(1);
    tunnel.write(message('Q', cstr('BASE_BACKUP')));
    expect(await session.command()).toBe('BASE_BACKUP');
    const nonsense = raw('?', i32(1 << 30), 'not a message at all');
    session.send(nonsense);
    session.end();
    expect(await closing.reason).toBeNull();
    expect(Buffer.concat(received)).toEqual(Buffer.from(nonsense));
    expect(tunnels.count).toBe(0);
  });

  it('sends what is pending before it closes, and says that it is closed', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { target } = optionsFor('127.0.0.1', upstream.port);
    const tunnels = new UpstreamTunnels({ target, clock: systemClock, log: silentLog, dial });
    const closing = new Closing();
    const opening = tunnels.open('backup', {
      onBytes() {},
      onDrain() {},
      onClose: closing.onClose,
    });
    const session = await upstream.accept();
    await session.login();
    const tunnel = await opening;
    tunnel.write(message('X'));
    tunnel.close();
    expect(await closing.reason).toBeNull();
    expect((await session.next()).type).toBe('X');
    await session.closed;
    expect(tunnels.count).toBe(0);
  });

  it('tries the next host, and rejects with the last reason when none is left', async () => {
    const gone = await ScriptedUpstream.listen();
    const { port } = gone;
    await gone[Symbol.asyncDispose]();
    await using upstream = await ScriptedUpstream.listen();
    const { target } = optionsFor('127.0.0.1', port);
    const second = { host: '127.0.0.1', address: '127.0.0.1', port: upstream.port, password: null };
    const make = (hosts: typeof target.hosts): UpstreamTunnels =>
      new UpstreamTunnels({
        target: { ...target, hosts },
        clock: systemClock,
        log: silentLog,
        dial,
      });
    const silent = { onBytes() {}, onDrain() {}, onClose() {} };
    const opening = make([...target.hosts, second]).open('backup', silent);
    await (await upstream.accept()).login();
    (await opening).close();
    // A base backup has to come from the server whose WAL is followed.
    const followed = new UpstreamTunnels({
      target: { ...target, hosts: [...target.hosts, ...target.hosts] },
      clock: systemClock,
      log: silentLog,
      dial,
      followedHost: () => second,
    });
    const following = followed.open('backup', silent);
    await (await upstream.accept()).login();
    (await following).close();
    // Which of several that is cannot be known before one was; a single one it is in any case.
    const startingUp = (hosts: typeof target.hosts): UpstreamTunnels =>
      new UpstreamTunnels({
        target: { ...target, hosts },
        clock: systemClock,
        log: silentLog,
        dial,
        followedHost: () => null,
      });
    const undecided = startingUp([second, ...target.hosts]);
    await expect(undecided.open('backup', silent)).rejects.toMatchObject({
      code: 'TUNNEL_HOST_UNKNOWN',
      isRetryable: true,
    });
    expect(undecided.count).toBe(0);
    const only = startingUp([second]).open('backup', silent);
    await (await upstream.accept()).login();
    (await only).close();
    const failing = make(target.hosts);
    await expect(failing.open('backup', silent)).rejects.toMatchObject({ code: 'CONNECT_FAILED' });
    expect(failing.count).toBe(0);
  });
});
