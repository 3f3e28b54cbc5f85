// What becomes of a running session when the list of hosts changes, or another host is to be followed?
import { expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { UPSTREAM_FINISH_MS_MAX } from '../../src/config/limits.ts';
import type { UpstreamHost } from '../../src/walreceiver/upstream-target.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { message } from '../support/naive-writer.ts';
import { ReceiverRig } from '../support/receiver-rig.ts';
import {
  answer,
  errorResponse,
  playedServer,
  READY,
  ScriptedUpstream,
} from '../support/scripted-upstream.ts';
import type { ScriptedSession } from '../support/scripted-upstream.ts';

function local({ port }: ScriptedUpstream): UpstreamHost {
  return { host: '127.0.0.1', address: '127.0.0.1', port, password: null };
}

async function refuse(session: ScriptedSession): Promise<void> {
  await session.startup();
  session.send(errorResponse('57P03', 'the database system is starting up', 'FATAL'));
  session.end();
}

/** The client's side of an orderly end, answered as a server does. */
async function endsInOrder(session: ScriptedSession): Promise<void> {
  await session.status();
  expect((await session.next()).type).toBe('c');
  session.send(message('c'), message('C', 'COPY 0\0'), message('Z', 'I'));
  expect((await session.next()).type).toBe('X');
}

it('goes to a host that was not in the list before, when the one that is followed leaves it', async () => {
  await using old = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  const hosts = [local(old)];
  await using rig = new ReceiverRig({ hosts });
  rig.receiver.start();
  const session = await old.accept();
  await session.stream();
  hosts.splice(0, 1, local(next));
  rig.receiver.hostsChanged();
  await endsInOrder(session);
  await (await next.accept()).stream();
  expect(rig.receiver.status()).toMatchObject({ port: next.port, disconnects: { reload: 1 } });
});

it('stays where it is when the list changes around the host that is followed', async () => {
  await using first = await ScriptedUpstream.listen();
  await using second = await ScriptedUpstream.listen();
  const hosts = [local(second)];
  await using rig = new ReceiverRig({ hosts });
  rig.receiver.start();
  const session = await second.accept();
  await session.stream();
  hosts.unshift(local(first));
  rig.receiver.hostsChanged();
  expect(rig.receiver.status()).toMatchObject({ port: second.port, state: 'catchup' });
  session.reset();
  await (await first.accept()).stream();
  expect(second.accepted).toBe(1);
});

it('makes a waiting attempt at once when the list changes, with the new list', async () => {
  await using old = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  const hosts = [local(old)];
  await using rig = new ReceiverRig({ hosts, clock: new ManualClock() });
  rig.receiver.start();
  const session = await old.accept();
  await session.startup();
  session.send(errorResponse('57P03', 'the database system is starting up', 'FATAL'));
  session.end();
  await rig.until('it waits', () => rig.receiver.status().detail !== null);
  hosts.splice(0, 1, local(next));
  rig.receiver.hostsChanged();
  await (await next.accept()).stream();
});

it('gives up an attempt at a host that is no longer listed', async () => {
  await using silent = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  const hosts = [local(silent)];
  await using rig = new ReceiverRig({ hosts, clock: new ManualClock() });
  rig.receiver.start();
  const session = await silent.accept();
  await session.startup();
  hosts.splice(0, 1, local(next));
  rig.receiver.hostsChanged();
  await (await next.accept()).stream();
  await session.closed;
});

it('takes the new list as soon as the host that is being tried is left', async () => {
  await using trying = await ScriptedUpstream.listen();
  await using before = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  const hosts = [local(trying), local(before)];
  await using rig = new ReceiverRig({ hosts, clock: new ManualClock() });
  rig.receiver.start();
  const session = await trying.accept();
  await session.startup();
  hosts.splice(0, 2, local(next), local(trying));
  rig.receiver.hostsChanged();
  session.send(errorResponse('57P03', 'the database system is shutting down', 'FATAL'));
  session.end();
  await (await next.accept()).stream();
  expect(before.accepted).toBe(0);
});

it('takes a list that became shorter while its last host was tried', async () => {
  await using first = await ScriptedUpstream.listen();
  await using trying = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  const hosts = [local(first), local(trying)];
  const lines: string[] = [];
  const log = { ...silentLog, warn: (text: string): void => void lines.push(text) };
  await using rig = new ReceiverRig({ hosts, log, clock: new ManualClock() });
  rig.receiver.start();
  await refuse(await first.accept());
  const session = await trying.accept();
  await session.startup();
  hosts.shift();
  rig.receiver.hostsChanged();
  hosts[0] = local(next);
  session.send(errorResponse('57P03', 'the database system is shutting down', 'FATAL'));
  session.end();
  await (await next.accept()).stream();
  expect(lines.map((line) => /^upstream: host \S+ is left out/.exec(line)?.[0])).toEqual(
    [first, trying].map(({ port }) => `upstream: host 127.0.0.1:${port} is left out`),
  );
});

it('tries every host of a list that changes all the time', async () => {
  await using first = await ScriptedUpstream.listen();
  await using second = await ScriptedUpstream.listen();
  await using good = await ScriptedUpstream.listen();
  const hosts = [local(first), local(second), local(good)];
  await using rig = new ReceiverRig({ hosts, clock: new ManualClock() });
  rig.receiver.start();
  const change = (): void => {
    hosts.splice(1, 2, ...hosts.slice(1).toReversed());
    rig.receiver.hostsChanged();
  };
  const served = good.accept().then((session) => session.stream());
  for (let times = 0; times < 2; times += 1) {
    const session = await first.accept();
    await session.startup();
    change();
    change();
    session.send(errorResponse('57P03', 'the database system is starting up', 'FATAL'));
    session.end();
  }
  await refuse(await second.accept());
  await served;
  expect(first.accepted).toBe(2);
});

it('changes over in order to the host it is told, whatever the order of the list', async () => {
  await using first = await ScriptedUpstream.listen();
  await using second = await ScriptedUpstream.listen();
  await using third = await ScriptedUpstream.listen();
  const hosts = [local(first), local(second), local(third)];
  await using rig = new ReceiverRig({ hosts });
  rig.receiver.start();
  const session = await first.accept();
  await session.stream();
  rig.receiver.changeOver(local(third));
  await endsInOrder(session);
  await (await third.accept()).stream();
  expect(second.accepted).toBe(0);
  expect(rig.receiver.status()).toMatchObject({ port: third.port, detail: null });
});

it('changes over in time from a host that does not answer, and once however often it is told', async () => {
  await using first = await ScriptedUpstream.listen();
  await using second = await ScriptedUpstream.listen();
  const clock = new ManualClock();
  await using rig = new ReceiverRig({ hosts: [local(first), local(second)], clock });
  rig.receiver.start();
  const session = await first.accept();
  await session.stream();
  rig.receiver.changeOver(local(second));
  rig.receiver.changeOver(local(second));
  await session.status();
  expect((await session.next()).type).toBe('c');
  clock.advance(UPSTREAM_FINISH_MS_MAX - 1);
  expect(second.accepted).toBe(0);
  clock.advance(1);
  await (await second.accept()).stream();
  expect(second.accepted).toBe(1);
});

it('ends for good while it changes over', async () => {
  await using first = await ScriptedUpstream.listen();
  await using second = await ScriptedUpstream.listen();
  await using rig = new ReceiverRig({ hosts: [local(first), local(second)] });
  rig.receiver.start();
  const session = await first.accept();
  await session.stream();
  rig.receiver.changeOver(local(second));
  const finished = rig.receiver.finish();
  await endsInOrder(session);
  await finished;
  expect(rig.receiver.status()).toMatchObject({ state: 'disconnected', connectsSucceeded: 1 });
  expect(second.accepted).toBe(0);
});

const IN_USE = errorResponse('55006', 'replication slot "s" is active for PID 42');

it('asks again and again, never in a hurry, for a slot that our own last session still holds', async () => {
  await using upstream = await ScriptedUpstream.listen();
  const clock = new ManualClock();
  const server = playedServer({ slots: { s: ['physical', '0/5000000'] } });
  await using rig = new ReceiverRig({ hosts: [local(upstream)], clock, slot: 's' });
  rig.receiver.start();
  const first = await upstream.accept();
  await first.stream(server);
  first.reset();
  // The server finds out after its wal_sender_timeout only.
  const endMs = clock.nowMs() + 60_000;
  let refused = 0;
  await rig.untilState('disconnected');
  while (clock.nowMs() < endMs) {
    clock.advance(5_000);
    const session = await upstream.accept();
    await session.login(server);
    expect(await session.identify(server)).toContain('START_REPLICATION SLOT "s"');
    session.send(IN_USE, READY);
    await session.closed;
    refused += 1;
    await rig.untilState('disconnected');
    expect(rig.receiver.status().detail).toContain(
      'or our own last session until its wal_sender_timeout',
    );
  }
  expect(refused).toBeLessThan(20);
  clock.advance(5_000);
  await (await upstream.accept()).stream(server);
  expect(rig.receiver.status()).toMatchObject({ detail: null, heldState: null });
});

it('goes to another host while our own last session holds the slot at the first', async () => {
  await using first = await ScriptedUpstream.listen();
  await using second = await ScriptedUpstream.listen();
  const server = playedServer({ slots: { s: ['physical', '0/5000000'] } });
  await using rig = new ReceiverRig({ hosts: [local(first), local(second)], slot: 's' });
  rig.receiver.start();
  const session = await first.accept();
  await session.login(server);
  await session.identify(server);
  session.send(IN_USE, READY);
  await (await second.accept()).stream(server);
  expect(first.accepted).toBe(1);
});

it('leaves a server that takes its time for every command after twice wal_receiver_timeout', async () => {
  await using slow = await ScriptedUpstream.listen();
  await using next = await ScriptedUpstream.listen();
  const clock = new ManualClock();
  const server = playedServer();
  const hosts = [local(slow), local(next)];
  await using rig = new ReceiverRig({ hosts, clock, slot: 's', receiverTimeoutMs: 60_000 });
  rig.receiver.start();
  const session = await slow.accept();
  await session.login(server);
  for (const until of [/^IDENTIFY_SYSTEM/, /^READ_REPLICATION_SLOT/]) {
    const command = await session.identify(server, until);
    clock.advance(59_000);
    session.send(answer(server, command), READY);
  }
  await session.identify(server, /^CREATE_REPLICATION_SLOT/);
  clock.advance(1_999);
  expect(rig.receiver.status()).toMatchObject({ port: slow.port, state: 'connecting' });
  clock.advance(1);
  await (await next.accept()).stream();
});
