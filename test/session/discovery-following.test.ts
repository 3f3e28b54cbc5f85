// Does the upstream side of a relay follow what Patroni says, and leave a stream alone that works?
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import type { UpstreamConfig } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import { formatConfigError } from '../../src/config/problem.ts';
import { UpstreamFollowing } from '../../src/relay/upstream-following.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import { memberAt, openPatroniApi } from '../harness/patroni-api.ts';
import type { PatroniApi } from '../harness/patroni-api.ts';
import { eventually } from '../support/eventually.ts';
import { ScriptedUpstream } from '../support/scripted-upstream.ts';
import type { ScriptedSession } from '../support/scripted-upstream.ts';
import { storeOptions } from '../support/store-rig.ts';

let directory: string;
let store: WalStore;
let following: UpstreamFollowing | null = null;
let patroni: PatroniApi;
/** Of the connection string. */
let seed: ScriptedUpstream;
let one: ScriptedUpstream;
let other: ScriptedUpstream;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-discovery-'));
  store = await WalStore.open(storeOptions(join(directory, 'data')));
  patroni = await openPatroniApi();
  [seed, one, other] = await Promise.all([
    ScriptedUpstream.listen(),
    ScriptedUpstream.listen(),
    ScriptedUpstream.listen(),
  ]);
  patroni.members = [
    memberAt('one', one.port, { timeline: 1 }),
    memberAt('other', other.port, { role: 'leader', timeline: 1 }),
  ];
});

afterEach(async () => {
  following?.stop();
  following = null;
  await store.close();
  for (const server of [patroni, seed, one, other]) await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

/** With discovery unless `others` say otherwise. */
function settings(others: Readonly<Record<string, string>> = {}, port = seed.port): UpstreamConfig {
  const conninfo = `host=127.0.0.1 port=${port} user=replicator sslmode=disable`;
  const keys = { conninfo, slot: '', 'discovery.patroni': patroni.url, ...others };
  const loaded = loadConfig({
    flags: Object.entries(keys).map(([key, text]) => ({
      path: `upstream.${key}`,
      text,
      flag: '--set',
    })),
    env: {},
    file: null,
    workingDirectory: directory,
  });
  if ('errors' in loaded) throw new Error(loaded.errors.map(formatConfigError).join('\n'));
  return loaded.config.upstream;
}

function follow(config: UpstreamConfig): UpstreamFollowing {
  const made = new UpstreamFollowing({
    settings: config,
    clock: systemClock,
    log: silentLog,
    policy: () => null,
    standbys: () => [],
    onFatal: (error) => {
      throw error;
    },
  });
  following = made;
  made.start(store);
  return made;
}

/** The stream of a server that is followed because Patroni names it first. */
async function streamFrom(server: ScriptedUpstream): Promise<ScriptedSession> {
  const session = await server.accept();
  await session.stream();
  await eventually(() => following?.isMoving()).toBe(true);
  return session;
}

/** The list has so many servers. */
async function known(count: number): Promise<void> {
  const options = { timeout: 15_000, interval: 5 };
  await expect.poll(() => following?.status()?.discovery?.members.length, options).toBe(count);
}

test('the first connection goes to the first server that Patroni names', async () => {
  follow(settings());
  await streamFrom(other);
  expect(one.accepted).toBe(0);
  expect(following?.status()).toMatchObject({
    host: '127.0.0.1',
    port: other.port,
    discovery: {
      source: 'patroni',
      lastError: null,
      members: [{ name: 'other' }, { name: 'one' }],
    },
  });
});

test('the connection string counts while Patroni does not answer, and its host stays while it streams', async () => {
  patroni.isDown = true;
  follow(settings());
  const session = await streamFrom(seed);
  expect(following?.status()?.discovery).toMatchObject({ members: [] });
  patroni.isDown = false;
  await known(2);
  expect(following?.status()).toMatchObject({ port: seed.port });
  session.reset();
  await streamFrom(other);
});

test('a server that Patroni does not name any more is left when its stream ends, not before', async () => {
  follow(settings());
  const session = await streamFrom(other);
  patroni.members = [memberAt('one', one.port, { timeline: 1 })];
  await known(1);
  expect(following?.status()).toMatchObject({ port: other.port, state: 'catchup' });
  expect(one.accepted).toBe(0);
  session.reset();
  await streamFrom(one);
});

test('a lost stream goes on with whom Patroni names by then', async () => {
  follow(settings());
  const session = await streamFrom(other);
  patroni.members = [
    memberAt('one', one.port, { role: 'leader', timeline: 1 }),
    memberAt('other', other.port, { timeline: 1 }),
  ];
  await other[Symbol.asyncDispose]();
  session.reset();
  await streamFrom(one);
});

test('a reload with another preference, other URLs or other hosts in the string disturbs no stream', async () => {
  const relay = follow(settings());
  await streamFrom(other);
  relay.prepare(settings({ prefer: 'standby' }))();
  expect(relay.status()?.discovery).toMatchObject({
    members: [{ name: 'one' }, { name: 'other' }],
  });
  relay.prepare(settings({ prefer: 'standby' }, 1))();
  await using second = await openPatroniApi();
  second.members = patroni.members;
  relay.prepare(settings({ 'discovery.patroni': second.url }))();
  await eventually(() => relay.status()?.discovery?.lastAnswerFrom).toBe(second.url);
  expect(relay.status()).toMatchObject({ port: other.port, state: 'catchup' });
  expect([one.accepted, other.accepted]).toEqual([0, 1]);
});

test('a reload without discovery goes to the hosts of the connection string', async () => {
  const relay = follow(settings());
  const session = await streamFrom(other);
  relay.prepare(settings({ 'discovery.patroni': '' }))();
  await session.status();
  expect((await session.next()).type).toBe('c');
  session.reset();
  await streamFrom(seed);
  expect(relay.status()?.discovery).toBeNull();
});

test('a reload with discovery keeps the stream, and the next one begins where Patroni says', async () => {
  const relay = follow(settings({ 'discovery.patroni': '' }));
  const session = await streamFrom(seed);
  relay.prepare(settings())();
  await known(2);
  expect(relay.status()).toMatchObject({ port: seed.port, state: 'catchup' });
  session.reset();
  await streamFrom(other);
});
