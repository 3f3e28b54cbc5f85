// Is an upstream left that stands still while another host has more, and one that follows ourselves; and nobody else?
import { expect, it } from 'vitest';
import { STANDSTILL_CONFIRM_MS, STANDSTILL_MS } from '../../src/config/limits.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { message } from '../support/naive-writer.ts';
import { lsn, ReceiverRig } from '../support/receiver-rig.ts';
import type { RigOptions } from '../support/receiver-rig.ts';
import {
  keepalive,
  playedServer,
  ScriptedUpstream,
  walData,
} from '../support/scripted-upstream.ts';
import type { PlayedServer, ScriptedSession } from '../support/scripted-upstream.ts';

const START = lsn('0/5000000');
const STILL = playedServer({ xlogPos: '0/5000000' });
const AHEAD = playedServer({ xlogPos: '0/5000100' });

class Pair implements AsyncDisposable {
  readonly followed: ScriptedUpstream;
  readonly other: ScriptedUpstream;
  readonly clock = new ManualClock();
  readonly rig: ReceiverRig;

  private constructor(servers: readonly [ScriptedUpstream, ScriptedUpstream], options: RigOptions) {
    [this.followed, this.other] = servers;
    const hosts = servers.map(({ port }) => ({ host: '127.0.0.1', port }));
    this.rig = new ReceiverRig({ hosts, clock: this.clock, statusIntervalMs: 0, ...options });
  }

  static async open(options: RigOptions = {}): Promise<Pair> {
    const servers = [await ScriptedUpstream.listen(), await ScriptedUpstream.listen()] as const;
    return new Pair(servers, options);
  }

  /** The first host is followed, and says nothing. */
  async start(server: PlayedServer = STILL): Promise<ScriptedSession> {
    this.rig.receiver.start();
    const session = await this.followed.accept();
    await session.stream(server);
    await this.rig.until('it streams', () => this.rig.receiver.followedHost() !== null);
    return session;
  }

  /** The other host is asked who it is, as `server`; resolves once the question is over. */
  async isAsked(server: PlayedServer): Promise<Map<string, string>> {
    this.clock.advance(STANDSTILL_MS);
    const session = await this.other.accept();
    const parameters = await session.login(server);
    await expect(session.identify(server)).rejects.toThrow(/got X|the client closed/);
    await session.closed;
    expect(session.commands.filter((text) => /START|SLOT/.test(text))).toEqual([]);
    return parameters;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.rig[Symbol.asyncDispose]();
    await this.followed[Symbol.asyncDispose]();
    await this.other[Symbol.asyncDispose]();
  }
}

async function endsInOrder(session: ScriptedSession): Promise<void> {
  for (;;) {
    const { type } = await session.next();
    if (type === 'c') break;
    expect(type).toBe('d');
  }
  session.send(message('c'), message('C', 'COPY 0\0'), message('Z', 'I'));
  expect((await session.next()).type).toBe('X');
}

it('a host that has more is followed instead, after both had their time, and in order', async () => {
  await using pair = await Pair.open();
  const session = await pair.start();
  const parameters = await pair.isAsked(AHEAD);
  expect(parameters.get('application_name')).toBe('walcast_probe');
  await pair.rig.until(
    'a look is due',
    () => (pair.clock.nextTimerMs() ?? 0) <= STANDSTILL_CONFIRM_MS,
  );
  pair.clock.advance(STANDSTILL_CONFIRM_MS);
  await endsInOrder(session);
  await (await pair.other.accept()).stream(AHEAD);
  expect(pair.rig.receiver.status()).toMatchObject({ port: pair.other.port });
  expect(pair.followed.accepted).toBe(1);
});

it('what the other has and then comes from the first, is no reason to leave', async () => {
  await using pair = await Pair.open();
  const session = await pair.start();
  await pair.isAsked(AHEAD);
  session.send(walData(START, new Uint8Array(256)));
  await pair.rig.until('it comes', () => pair.rig.sink.appended === 1);
  session.send(keepalive(START + 256n));
  pair.clock.advance(STANDSTILL_CONFIRM_MS);
  expect(pair.rig.receiver.status()).toMatchObject({ port: pair.followed.port });
  expect(pair.other.accepted).toBe(1);
});

it.each([
  ['as far as we are', STILL],
  ['behind us', playedServer({ xlogPos: '0/4000000' })],
])('a host that is %s is not followed, and asked ever more rarely', async (_what, server) => {
  await using pair = await Pair.open({ receiverTimeoutMs: 0 });
  await pair.start();
  await pair.isAsked(server);
  for (const waitMs of [2 * STANDSTILL_MS, 4 * STANDSTILL_MS]) {
    await pair.rig.until('a look is due', () => pair.clock.timersMs().includes(waitMs));
    pair.clock.advance(waitMs - 1);
    const before = pair.other.accepted;
    pair.clock.advance(1);
    const session = await pair.other.accept();
    expect(pair.other.accepted).toBe(before + 1);
    await session.login(server);
    await expect(session.identify(server)).rejects.toThrow(/got X|the client closed/);
    await session.closed;
  }
  expect(pair.rig.receiver.status()).toMatchObject({ port: pair.followed.port });
  expect(pair.followed.accepted).toBe(1);
});

it('a host of the wrong kind, and one that does not answer, keep nobody from staying where he is', async () => {
  await using pair = await Pair.open({ targetSessionAttrs: 'primary', receiverTimeoutMs: 0 });
  await pair.start();
  const settings = { ...AHEAD.settings, in_hot_standby: 'on' };
  await pair.isAsked({ ...AHEAD, settings });
  const waitMs = 2 * STANDSTILL_MS;
  await pair.rig.until('a look is due', () => pair.clock.timersMs().includes(waitMs));
  pair.clock.advance(waitMs);
  await (await pair.other.accept()).startup();
  // One is there in any case: who is followed is asked for a sign of life.
  await pair.rig.until('it is waited for', () => pair.clock.timersMs().length > 1);
  pair.clock.advance(10_000);
  await pair.rig.until('a look is due', () => pair.clock.timersMs().includes(2 * waitMs));
  expect(pair.rig.receiver.status()).toMatchObject({ port: pair.followed.port });
});

it('nobody is asked while WAL streams in, or where there is one host', async () => {
  await using alone = await ScriptedUpstream.listen();
  const clock = new ManualClock();
  await using rig = new ReceiverRig({ port: alone.port, clock, receiverTimeoutMs: 0 });
  rig.receiver.start();
  await (await alone.accept()).stream(STILL);
  await rig.until('it streams', () => rig.receiver.followedHost() !== null);
  for (let count = 0; count < 20; count += 1) {
    clock.advance(STANDSTILL_MS);
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
  expect(alone.accepted).toBe(1);

  await using pair = await Pair.open({ receiverTimeoutMs: 0 });
  const session = await pair.start();
  for (let count = 0; count < 10; count += 1) {
    session.send(walData(START + BigInt(count * 64), new Uint8Array(64)));
    await pair.rig.until('it comes', () => pair.rig.sink.appended === count + 1);
    pair.clock.advance(STANDSTILL_MS);
  }
  expect(pair.other.accepted).toBe(0);
});

/** walcast, behind the relays of `path`. */
function relay(path: string): PlayedServer {
  const { shared_buffers: _none, ...settings } = STILL.settings;
  return { ...STILL, settings: { ...settings, walcast_relay_path: path } };
}

it.each([
  ['us', 'me', 'is this walcast itself'],
  ['one that follows us', 'b,me', 'gets its WAL from this one'],
  ['one that follows us through others', 'b,c,d,me,e', 'through 2 more'],
])('a walcast that is %s is not followed', async (_what, path, words) => {
  await using pair = await Pair.open({ relayId: 'me', slot: 's' });
  pair.rig.receiver.start();
  const session = await pair.followed.accept();
  await session.login(relay(path));
  await expect(session.identify(relay(path))).rejects.toThrow(/got X|the client closed/);
  expect(session.commands.join()).not.toContain('SLOT');
  const other = await pair.other.accept();
  await other.startup();
  other.end();
  await pair.rig.until('it waits', () => pair.rig.receiver.status().heldState === 'waiting');
  expect(pair.rig.receiver.status().detail).toContain(words);
  expect(pair.rig.receiver.relayPath()).toEqual(['me']);
});

it('a walcast that follows others is followed, and told of to those behind us', async () => {
  await using pair = await Pair.open({ relayId: 'me' });
  const session = await pair.start(relay('b,c'));
  expect(pair.rig.receiver.relayPath()).toEqual(['me', 'b', 'c']);
  session.reset();
  await pair.rig.until('it is gone', () => pair.rig.receiver.status().state === 'disconnected');
  expect(pair.rig.receiver.relayPath()).toEqual(['me']);
});

it('a walcast that began to follow us later is left when nothing comes from it', async () => {
  await using pair = await Pair.open({ relayId: 'me' });
  const session = await pair.start(relay('b'));
  pair.clock.advance(STANDSTILL_MS);
  const asked = await pair.followed.accept();
  await asked.login(relay('b,me'));
  await expect(asked.identify(relay('b,me'))).rejects.toThrow(/got X|the client closed/);
  await session.closed;
  expect(pair.rig.receiver.status().detail).toContain('gets its WAL from this one');
  await (await pair.followed.accept()).login(relay('b,me'));
});
