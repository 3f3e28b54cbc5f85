// Does the upstream side of a relay take a new configuration in order: a last status to the old server, no lower one to the
// new, counters that go on, passwords as they are now?
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { openLog, silentLog } from '../../src/base/log.ts';
import type { Log } from '../../src/base/log.ts';
import type { UpstreamConfig } from '../../src/config/config.ts';
import { LEFT_SLOT_DROP_AFTER_MS, UPSTREAM_FINISH_MS_MAX } from '../../src/config/limits.ts';
import { loadConfig } from '../../src/config/load.ts';
import { formatConfigError } from '../../src/config/problem.ts';
import { StoreReadThrough } from '../../src/relay/read-through.ts';
import { UpstreamDiscovery } from '../../src/relay/upstream-discovery.ts';
import { UpstreamFollowing } from '../../src/relay/upstream-following.ts';
import { LEFT_SLOT_LOOK_MS } from '../../src/relay/upstream-slots.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { i32, message } from '../support/naive-writer.ts';
import {
  errorResponse,
  keepalive,
  playedServer,
  ScriptedUpstream,
} from '../support/scripted-upstream.ts';
import type { ScriptedSession } from '../support/scripted-upstream.ts';
import { storeOptions } from '../support/store-rig.ts';

let directory: string;
let store: WalStore;
let following: UpstreamFollowing;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-following-'));
  store = await WalStore.open(storeOptions(join(directory, 'data')));
});

afterEach(async () => {
  following.stop();
  await store.close();
  await rm(directory, { recursive: true });
});

/** The `upstream` part of a configuration. */
function settingsOf(
  conninfo: string,
  others: Readonly<Record<string, string>> = {},
): UpstreamConfig {
  const keys = Object.entries({ conninfo, slot: '', ...others });
  const loaded = loadConfig({
    flags: keys.map(([key, text]) => ({ path: `upstream.${key}`, text, flag: '--set' })),
    env: {},
    file: null,
    workingDirectory: directory,
  });
  if ('errors' in loaded) throw new Error(loaded.errors.map(formatConfigError).join('\n'));
  return loaded.config.upstream;
}

function follow(settings: UpstreamConfig, clock: Clock = systemClock, log: Log = silentLog): void {
  following = new UpstreamFollowing({
    settings,
    clock,
    log,
    policy: () => null,
    standbys: () => [],
    onFatal: (error) => {
      throw error;
    },
  });
  store.onFlush(() => following.positionsMoved());
  following.start(store);
}

/** A connection string for a scripted server. */
function at(upstream: ScriptedUpstream, others = ''): string {
  return `host=127.0.0.1 port=${upstream.port} user=replicator sslmode=disable ${others}`;
}

/** What was sent as password after a request for one in clear text. */
async function passwordOf(session: ScriptedSession): Promise<string> {
  await session.startup();
  session.send(message('R', i32(3)));
  const { type, body } = await session.next();
  expect(type).toBe('p');
  return body.subarray(0, -1).toString();
}

it('reads the password file at every attempt', async () => {
  await using upstream = await ScriptedUpstream.listen();
  const passfile = join(directory, 'pgpass');
  await writeFile(passfile, '*:*:*:*:before\n', { mode: 0o600 });
  follow(settingsOf(at(upstream, `passfile=${passfile} require_auth=password`)));
  const first = await upstream.accept();
  expect(await passwordOf(first)).toBe('before');
  await writeFile(passfile, '*:*:*:*:after\n', { mode: 0o600 });
  first.send(errorResponse('28P01', 'password authentication failed'));
  first.end();
  const second = await upstream.accept();
  expect(await passwordOf(second)).toBe('after');
});

/** WAL streams in; then the password file says `after` instead of `before`. */
async function streamThenChangePassword(upstream: ScriptedUpstream): Promise<void> {
  const passfile = join(directory, 'pgpass');
  await writeFile(passfile, '*:*:*:*:before\n', { mode: 0o600 });
  follow(settingsOf(at(upstream, `passfile=${passfile} require_auth=password,none`)));
  await (await upstream.accept()).stream();
  await writeFile(passfile, '*:*:*:*:after\n', { mode: 0o600 });
}

it('opens tunnels with the password of today', async () => {
  await using upstream = await ScriptedUpstream.listen();
  await streamThenChangePassword(upstream);
  const events = { onBytes: () => {}, onDrain: () => {}, onClose: () => {} };
  const opening = following.openTunnels().open('backup', events);
  const session = await upstream.accept();
  expect(await passwordOf(session)).toBe('after');
  session.send(message('R', i32(0)));
  session.greet();
  (await opening).close();
});

it('reads through with the password of today', async () => {
  await using upstream = await ScriptedUpstream.listen();
  await streamThenChangePassword(upstream);
  const readThrough = new StoreReadThrough({
    store,
    upstream: following,
    applicationName: () => 'walcast',
    verify: 'page',
    timeoutMs: () => 60_000,
    clock: systemClock,
    log: silentLog,
  });
  const asking = readThrough.historyFile(toTimelineId(2)).catch(() => null);
  expect(await passwordOf(await upstream.accept())).toBe('after');
  readThrough.close();
  await asking;
});

it('goes to another server in order when it is told to', async () => {
  await using old = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  follow(settingsOf(at(old)));
  const session = await old.accept();
  const begun = await session.stream();
  following.prepare(settingsOf(at(next)))();
  const last = await session.status();
  expect(last.flush).toBeGreaterThanOrEqual(begun.flush);
  expect((await session.next()).type).toBe('c');
  expect(next.accepted).toBe(0);
  session.send(message('c'), message('C', 'COPY 0\0'), message('Z', 'I'));
  expect((await session.next()).type).toBe('X');
  const successor = await next.accept();
  expect((await successor.stream()).flush).toBeGreaterThanOrEqual(last.flush);
  expect(following.status()).toMatchObject({
    port: next.port,
    connectsSucceeded: 2,
    disconnects: { reload: 1, shutdown: 0 },
  });
});

it('does not wait for ever for an old server that does not answer', async () => {
  await using old = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  const clock = new ManualClock();
  follow(settingsOf(at(old)), clock);
  const session = await old.accept();
  await session.stream();
  following.prepare(settingsOf(at(next)))();
  await session.status();
  expect((await session.next()).type).toBe('c');
  clock.advance(UPSTREAM_FINISH_MS_MAX);
  await (await next.accept()).stream();
});

it('takes the settings that came last while the old stream ended', async () => {
  await using old = await ScriptedUpstream.listen();
  await using never = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  follow(settingsOf(at(old)));
  const session = await old.accept();
  await session.stream();
  following.prepare(settingsOf(at(never)))();
  following.prepare(settingsOf(at(next), { application_name: 'anew' }))();
  session.reset();
  const parameters = await (await next.accept()).login();
  expect(parameters.get('application_name')).toBe('anew');
  expect(never.accepted).toBe(0);
});

it('disconnects nothing for the same server in other words, or for timeouts', async () => {
  await using upstream = await ScriptedUpstream.listen();
  follow(
    settingsOf(at(upstream), { wal_receiver_status_interval: '0', wal_receiver_timeout: '0' }),
  );
  const session = await upstream.accept();
  await session.stream();
  const uri = `postgresql://replicator@127.0.0.1:${upstream.port}/?sslmode=disable`;
  following.prepare(
    settingsOf(uri, { wal_receiver_status_interval: '1', wal_receiver_timeout: '0' }),
  )();
  // The new interval counts for the stream that runs: nothing was ever sent by timer before.
  await session.status();
  await session.status();
  expect(upstream.accepted).toBe(1);
});

it('tries again at once when something may have been mended', async () => {
  await using upstream = await ScriptedUpstream.listen();
  const settings = settingsOf(at(upstream));
  follow(settings);
  const first = await upstream.accept();
  await first.startup();
  first.send(errorResponse('28000', 'no pg_hba.conf entry'));
  await first.closed;
  following.prepare(settings)();
  await (await upstream.accept()).stream();
});

it('is not told to connect anew before it has begun, nor once it takes nothing in', async () => {
  await using upstream = await ScriptedUpstream.listen();
  following = new UpstreamFollowing({
    settings: settingsOf(at(upstream)),
    clock: systemClock,
    log: silentLog,
    policy: () => null,
    standbys: () => [],
    onFatal: () => {},
  });
  expect(following.reconnect()).toBe(false);
  following.start(store);
  const session = await upstream.accept();
  await session.stream();
  await following.quiesce();
  expect(following.reconnect()).toBe(false);
  expect(upstream.accepted).toBe(1);
});

it('connects anew to the first of its servers', async () => {
  await using first = await ScriptedUpstream.listen();
  await using second = await ScriptedUpstream.listen();
  const hosts = `host=127.0.0.1,127.0.0.1 port=${first.port},${second.port}`;
  follow(settingsOf(`${hosts} user=replicator sslmode=disable`));
  const away = await first.accept();
  await away.startup();
  away.send(errorResponse('57P03', 'the database system is starting up', 'FATAL'));
  away.end();
  const session = await second.accept();
  const begun = await session.stream();
  expect(following.reconnect()).toBe(true);
  expect(await session.status()).toMatchObject({ flush: begun.flush });
  expect((await session.next()).type).toBe('c');
  session.reset();
  const again = await (await first.accept()).stream();
  expect(again.flush).toBe(begun.flush);
  expect(following.status()).toMatchObject({ port: first.port, disconnects: { reload: 1 } });
});

it('gives up for a new session whatever is under way, and does not wait for ever for a server that is silent', async () => {
  await using upstream = await ScriptedUpstream.listen();
  const clock = new ManualClock();
  follow(settingsOf(at(upstream)), clock);
  const silent = await upstream.accept();
  await silent.startup();
  expect(following.reconnect()).toBe(true);
  await silent.closed;
  const asked = await upstream.accept();
  await asked.login();
  await asked.command();
  expect(following.reconnect()).toBe(true);
  await asked.closed;
  const streaming = await upstream.accept();
  await streaming.stream();
  expect(following.reconnect()).toBe(true);
  await streaming.status();
  expect((await streaming.next()).type).toBe('c');
  // It has nothing to say to that.
  clock.advance(UPSTREAM_FINISH_MS_MAX);
  await (await upstream.accept()).stream();
  expect(upstream.accepted).toBe(4);
});

it('waits for a server that is silent without looking again and again', async () => {
  await using upstream = await ScriptedUpstream.listen();
  const clock = new ManualClock();
  follow({ ...settingsOf(at(upstream)), walReceiverStatusIntervalMs: 1_000 }, clock);
  const session = await upstream.accept();
  await session.stream();
  let timers = 0;
  const setTimer = clock.setTimer.bind(clock);
  clock.setTimer = (delayMs, callback) => {
    timers += 1;
    if (timers > 1_000) throw new Error('timers without end');
    return setTimer(delayMs, callback);
  };
  expect(following.reconnect()).toBe(true);
  // Status updates would be due, and nobody is there to have them.
  clock.advance(UPSTREAM_FINISH_MS_MAX);
  expect(timers).toBeLessThan(20);
  await (await upstream.accept()).stream();
});

it('ends with a drain that comes while it is on its way', async () => {
  await using old = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  follow(settingsOf(at(old)));
  const session = await old.accept();
  await session.stream();
  following.prepare(settingsOf(at(next)))();
  await following.quiesce();
  const finished = following.finish();
  await session.status();
  expect((await session.next()).type).toBe('c');
  session.reset();
  await finished;
  expect(following.status()).toMatchObject({ state: 'disconnected' });
});

it('comes back to the server that it is told again while it leaves it', async () => {
  await using old = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  follow(settingsOf(at(old)));
  const session = await old.accept();
  const begun = await session.stream();
  for (const upstream of [next, old, next, old]) following.prepare(settingsOf(at(upstream)))();
  session.reset();
  const again = await (await old.accept()).stream();
  expect(again.flush).toBeGreaterThanOrEqual(begun.flush);
  expect(next.accepted).toBe(0);
  expect(following.status()).toMatchObject({ port: old.port, disconnects: { reload: 1 } });
});

it.each(['waits for a server that is behind', 'waits to try again'])(
  'goes to another server at once when it %s',
  async (how) => {
    await using old = await ScriptedUpstream.listen();
    await using next = await ScriptedUpstream.listen();
    follow(settingsOf(at(old)), new ManualClock());
    const first = await old.accept();
    if (how.includes('behind')) {
      await first.stream();
      first.reset();
      await eventually(() => following.status()?.state).toBe('disconnected');
      following.prepare(settingsOf(at(old)))();
      const behind = playedServer({
        xlogPos: '0/4000000',
        settings: { ...playedServer().settings, in_hot_standby: 'on' },
      });
      const session = await old.accept();
      await session.login(behind);
      void session.identify(behind).catch(() => {});
      await eventually(() => following.status()?.heldState).toBe('waiting');
    } else {
      await first.startup();
      first.send(errorResponse('57P03', 'the database system is starting up', 'FATAL'));
      first.end();
      await eventually(() => following.status()?.detail).toContain('starting up');
    }
    const accepted = old.accepted;
    following.prepare(settingsOf(at(next)))();
    await (await next.accept()).stream();
    expect(old.accepted).toBe(accepted);
    expect(following.status()).toMatchObject({ port: next.port, heldState: null });
  },
);

it('lists the slot that it leaves behind, drops it a minute later, and makes it anew when it comes back', async () => {
  await using old = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  const clock = new ManualClock();
  const servers = { old: playedServer(), next: playedServer() };
  follow(settingsOf(at(old), { slot: 's' }), clock);
  const session = await old.accept();
  await session.stream(servers.old);
  expect(Object.keys(servers.old.slots)).toEqual(['s']);
  // Where the store begins, of which nothing has come yet: further than we are would be somebody else's.
  servers.old.slots['s'] = ['physical', '0/4000000'];
  following.prepare(settingsOf(at(next), { slot: 's' }))();
  await session.status();
  session.reset();
  const successor = await next.accept();
  await successor.stream(servers.next);
  const left = { host: '127.0.0.1', port: old.port, slot: 's', isOurs: true };
  await eventually(() => following.status()?.leftSlots).toEqual([left]);
  const hears = async (): Promise<void> => {
    const before = following.status()?.keepaliveMessages;
    successor.send(keepalive(0x5000000n));
    await eventually(() => following.status()?.keepaliveMessages).not.toBe(before);
  };
  clock.advance(LEFT_SLOT_DROP_AFTER_MS / 2);
  await hears();
  clock.advance(LEFT_SLOT_DROP_AFTER_MS / 2);
  await hears();
  clock.advance(LEFT_SLOT_LOOK_MS);
  const errand = await old.accept();
  await errand.login(servers.old);
  await expect(errand.identify(servers.old)).rejects.toThrow(/got X|the client closed/);
  await eventually(() => following.status()?.leftSlots).toEqual([]);
  expect(Object.keys(servers.old.slots)).toEqual([]);
  following.prepare(settingsOf(at(old), { slot: 's' }))();
  successor.reset();
  await (await old.accept()).stream(servers.old);
  expect(Object.keys(servers.old.slots)).toEqual(['s']);
});

it('goes from the second of two servers to a single one', async () => {
  await using old = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  const hosts = `host=127.0.0.1,127.0.0.1 port=1,${old.port}`;
  follow(settingsOf(`${hosts} user=replicator sslmode=disable`));
  const session = await old.accept();
  await session.stream();
  following.prepare(settingsOf(at(next)))();
  // The old server is the one that is shown as long as its stream ends.
  expect(following.status()).toMatchObject({ port: old.port });
  await session.status();
  session.reset();
  await (await next.accept()).stream();
  expect(following.status()).toMatchObject({ port: next.port });
});

it('shows what was reported last while one server after another cannot be reached', async () => {
  await using upstream = await ScriptedUpstream.listen();
  follow(settingsOf(at(upstream)));
  const session = await upstream.accept();
  await session.stream();
  const reported = following.status()?.reported;
  expect(reported?.writeLsn).toBeGreaterThan(INVALID_LSN);
  for (const port of [1, 2]) {
    following.prepare(settingsOf(`host=127.0.0.1 port=${port} user=replicator`))();
    if (port === 1) {
      await session.status();
      session.reset();
    }
    await eventually(() => following.status()).toMatchObject({ port, state: 'disconnected' });
    expect(following.status()?.reported).toEqual(reported);
  }
});

it('asks a server that lacked WAL again at once when somebody may have brought it back', async () => {
  await using upstream = await ScriptedUpstream.listen();
  const settings = settingsOf(at(upstream));
  follow(settings, new ManualClock());
  const first = await upstream.accept();
  await first.login();
  await first.identify();
  const removed = 'requested WAL segment has already been removed';
  first.send(errorResponse('58P01', removed), message('Z', 'I'));
  await eventually(() => following.status()?.heldState).toBe('gap');
  following.prepare(settings)();
  await (await upstream.accept()).stream();
});

it('says that a slot stays behind which no longer moves', async () => {
  await using upstream = await ScriptedUpstream.listen();
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  follow(
    settingsOf(at(upstream), { slot: 'before' }),
    systemClock,
    openLog({ level: 'warn', format: 'text', destination }),
  );
  following.prepare(settingsOf(at(upstream), { slot: 'after' }))();
  following.prepare(settingsOf(at(upstream), { slot: 'after', application_name: 'x' }))();
  following.prepare(settingsOf(at(upstream), { slot: '' }))();
  following.prepare(settingsOf(at(upstream), { slot: 'after' }))();
  const stays = lines.filter((line) => line.includes('stays on the upstream'));
  expect(stays.map((line) => /slot "(\w+)"/.exec(line)?.[1])).toEqual(['before', 'after']);
});

it('decides nothing for a session that was lost while it was waited for its server to catch up', async () => {
  await using upstream = await ScriptedUpstream.listen();
  follow(settingsOf(at(upstream)));
  const first = await upstream.accept();
  await first.stream();
  let caughtUp: () => void = () => {};
  const isWaiting = new Promise<void>((resolve) => {
    vi.spyOn(UpstreamDiscovery.prototype, 'freshen').mockImplementationOnce((identity) => {
      resolve();
      return new Promise((goOn) => {
        caughtUp = () => goOn(identity);
      });
    });
  });
  first.reset();
  const second = await upstream.accept();
  await second.login();
  void second.identify().catch(() => {});
  await isWaiting;
  second.reset();
  await (await upstream.accept()).stream();
  const updated = vi.spyOn(store, 'updateServer');
  caughtUp();
  for (let turn = 0; turn < 20; turn += 1) await nextTurn();
  expect(updated).not.toHaveBeenCalled();
});

it('takes one decision after the other, so that an empty store becomes the store of one cluster', async () => {
  await using first = await ScriptedUpstream.listen();
  await using second = await ScriptedUpstream.listen();
  const initialize = store.initialize.bind(store);
  let goOn: () => void = () => {};
  const disk = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const isReached = new Promise<void>((resolve) => {
    vi.spyOn(store, 'initialize').mockImplementation(async (identity, startLsn) => {
      resolve();
      await disk;
      await initialize(identity, startLsn);
    });
  });
  follow(settingsOf(at(first)));
  const session = await first.accept();
  await session.login();
  void session.identify().catch(() => {});
  await isReached;
  following.prepare(settingsOf(at(second)))();
  const other = await second.accept();
  const server = playedServer({ systemIdentifier: '7300000000000000000' });
  await other.login(server);
  void other.identify(server).catch(() => {});
  await eventually(() => following.status()?.systemIdentifier).toBe(server.systemIdentifier);
  goOn();
  await eventually(() => following.status()?.heldState).toBe('diverged');
  expect(store.identity?.systemIdentifier).toBe(playedServer().systemIdentifier);
});
