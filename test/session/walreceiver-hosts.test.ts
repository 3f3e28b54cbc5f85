// Which of several upstream hosts the walreceiver follows, how soon, and what it says about the others.
import { describe, expect, it } from 'vitest';
import { openLog } from '../../src/base/log.ts';
import type { TargetSessionAttrs } from '../../src/pg/conninfo.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { ReceiverRig } from '../support/receiver-rig.ts';
import { playedServer, READY, ScriptedUpstream } from '../support/scripted-upstream.ts';
import type { PlayedServer, ScriptedSession } from '../support/scripted-upstream.ts';

const BASE = { wal_segment_size: '16MB', wal_block_size: '8192' };

/** A server as it shows itself to a replication session: from 14 on by parameters, before by what SHOW answers. */
function server(major: number, kind: { isStandby?: boolean; readsOnly?: boolean }): PlayedServer {
  const { isStandby = false, readsOnly = false } = kind;
  const onOff = (is: boolean): string => (is ? 'on' : 'off');
  const reported = {
    in_hot_standby: onOff(isStandby),
    default_transaction_read_only: onOff(readsOnly),
  };
  const shown = {
    ...BASE,
    transaction_read_only: onOff(isStandby || readsOnly),
    default_transaction_read_only: onOff(readsOnly),
  };
  const isNew = major >= 14;
  return playedServer({
    serverVersion: `${major}.1`,
    parameters: isNew ? reported : {},
    settings: isNew ? { ...shown, in_hot_standby: reported.in_hot_standby } : shown,
    isStandby,
  });
}

/** A port of this machine on which nobody listens. */
async function closedPort(): Promise<number> {
  const gone = await ScriptedUpstream.listen();
  const { port } = gone;
  await gone[Symbol.asyncDispose]();
  return port;
}

function local(...ports: readonly number[]): { host: string; port: number }[] {
  return ports.map((port) => ({ host: '127.0.0.1', port }));
}

/** As many played servers as a test wants. */
class Upstreams implements AsyncDisposable {
  readonly list: ScriptedUpstream[] = [];

  async add(): Promise<void> {
    this.list.push(await ScriptedUpstream.listen());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const upstream of this.list) await upstream[Symbol.asyncDispose]();
  }
}

/** The commands of a session that the walreceiver ended by itself. */
async function turnedAway(session: ScriptedSession, played: PlayedServer): Promise<string[]> {
  await session.login(played);
  await expect(session.identify(played)).rejects.toThrow(/got X|the client closed/);
  return session.commands;
}

describe('a list of hosts', () => {
  it('is gone through in order at once', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const hosts = local(await closedPort(), upstream.port);
    await using rig = new ReceiverRig({ hosts, clock: new ManualClock() });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.stream();
    expect(rig.receiver.status()).toMatchObject({
      port: upstream.port,
      connectsFailed: 1,
      connectsSucceeded: 1,
    });
  });

  it('names the host that is followed, and between two streams the one that was', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const hosts = local(upstream.port, 1);
    await using rig = new ReceiverRig({ hosts, clock: new ManualClock() });
    expect(rig.receiver.followedHost()).toBeNull();
    rig.receiver.start();
    const session = await upstream.accept();
    await session.stream();
    await rig.until('streaming', () => rig.receiver.followedHost() !== null);
    expect(rig.receiver.followedHost()).toMatchObject({ port: upstream.port });
    session.end();
    await rig.untilState('disconnected');
    expect(rig.receiver.followedHost()).toMatchObject({ port: upstream.port });
  });

  it('is connected to at hostaddr, and called by its name', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const hosts = [{ host: 'no-such-name.invalid', address: '127.0.0.1', port: upstream.port }];
    await using rig = new ReceiverRig({ hosts });
    rig.receiver.start();
    await (await upstream.accept()).stream();
    expect(rig.receiver.status().host).toBe('no-such-name.invalid');
  });

  it('is taken in another order with load_balance_hosts=random', async () => {
    await using first = await ScriptedUpstream.listen();
    await using second = await ScriptedUpstream.listen();
    // A die that always shows its highest number turns a list around.
    await using rig = new ReceiverRig({
      hosts: local(first.port, second.port),
      loadBalanceHosts: 'random',
      random: () => 0.99,
    });
    rig.receiver.start();
    await (await second.accept()).stream();
    expect(first.accepted).toBe(0);
  });

  it.each([
    [3_000, 3_000],
    [0, 5_000],
  ])(
    'waits for a host that answers nothing as long as connect_timeout says: %i ms gives %i ms',
    async (connectTimeoutMs, waitsMs) => {
      await using silent = await ScriptedUpstream.listen();
      await using upstream = await ScriptedUpstream.listen();
      const clock = new ManualClock();
      const hosts = local(silent.port, upstream.port);
      await using rig = new ReceiverRig({ hosts, clock, connectTimeoutMs });
      rig.receiver.start();
      const session = await silent.accept();
      await session.startup();
      clock.advance(waitsMs - 1);
      expect(rig.receiver.status()).toMatchObject({ state: 'connecting', connectsFailed: 0 });
      clock.advance(1);
      await (await upstream.accept()).stream();
      expect(rig.receiver.status()).toMatchObject({ port: upstream.port, connectsFailed: 1 });
    },
  );

  it('that fails as a whole is tried again soon, and each host has its line in the log, once', async () => {
    const lines: string[] = [];
    const destination = { write: (line: string) => void lines.push(line) };
    const log = openLog({ level: 'info', format: 'text', destination });
    await using standby = await ScriptedUpstream.listen();
    const refused = await closedPort();
    const clock = new ManualClock();
    await using rig = new ReceiverRig({
      hosts: local(refused, standby.port),
      targetSessionAttrs: 'read-write',
      clock,
      log,
    });
    rig.receiver.start();
    for (let round = 0; round < 3; round += 1) {
      await turnedAway(await standby.accept(), server(18, { isStandby: true }));
      await rig.untilState('disconnected');
      const { detail } = rig.receiver.status();
      expect(detail).toMatch(/^none of the 2 upstream hosts can be followed: /);
      expect(detail).toContain(`127.0.0.1:${refused}: connection refused (ECONNREFUSED)`);
      expect(detail).toContain(`127.0.0.1:${standby.port}: session is read-only`);
      clock.advance(5_000);
    }
    const of = (port: number): string[] =>
      lines.filter((line) => line.includes(`host 127.0.0.1:${port} is left out`));
    expect(of(refused)).toHaveLength(1);
    expect(of(refused)[0]).toMatch(/WARN.*connection refused/);
    expect(of(standby.port)).toHaveLength(1);
    expect(of(standby.port)[0]).toMatch(
      /INFO.*session is read-only \(target_session_attrs=read-write\)/,
    );
  });
});

it('a server of a major that is known from its sources only is followed, with one warning', async () => {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  const log = openLog({ level: 'warn', format: 'text', destination });
  await using upstream = await ScriptedUpstream.listen();
  await using rig = new ReceiverRig({ port: upstream.port, log });
  rig.receiver.start();
  const first = await upstream.accept();
  await first.stream(server(19, {}));
  first.end();
  await (await upstream.accept()).stream(server(19, {}));
  expect(lines.filter((line) => line.includes('PostgreSQL 19 is known'))).toHaveLength(1);
  expect(rig.identities.map(({ facts }) => facts.isVerified)).toEqual([false, false]);
});

describe.each([13, 18])('target_session_attrs on servers of PostgreSQL %i', (major) => {
  const kinds = {
    primary: server(major, {}),
    'read-only primary': server(major, { readsOnly: true }),
    standby: server(major, { isStandby: true }),
    'read-only standby': server(major, { isStandby: true, readsOnly: true }),
  };

  it.each<[TargetSessionAttrs, left: (keyof typeof kinds)[], followed: keyof typeof kinds]>([
    ['any', [], 'primary'],
    ['any', [], 'read-only standby'],
    ['read-write', ['standby', 'read-only primary', 'read-only standby'], 'primary'],
    ['read-only', ['primary'], 'standby'],
    ['read-only', ['primary'], 'read-only primary'],
    ['primary', ['standby', 'read-only standby'], 'primary'],
    ['primary', ['standby', 'read-only standby'], 'read-only primary'],
    ['standby', ['primary', 'read-only primary'], 'standby'],
    ['standby', ['primary', 'read-only primary'], 'read-only standby'],
    ['prefer-standby', ['primary', 'read-only primary'], 'standby'],
  ])('%s leaves %j and follows a %s', async (targetSessionAttrs, left, followed) => {
    await using upstreams = new Upstreams();
    for (const _kind of [...left, followed]) await upstreams.add();
    await using rig = new ReceiverRig({
      hosts: local(...upstreams.list.map(({ port }) => port)),
      targetSessionAttrs,
      slot: 'walcast',
    });
    rig.receiver.start();
    for (const [index, kind] of left.entries()) {
      const session = await upstreams.list[index]?.accept();
      if (session === undefined) throw new Error('no session');
      const commands = await turnedAway(session, kinds[kind]);
      // Nothing was done there, above all no slot was made.
      expect(
        commands.filter((command) => !/^SHOW |^START_REPLICATION 0\/0 /.test(command)),
      ).toEqual([]);
    }
    const session = await upstreams.list.at(-1)?.accept();
    await session?.stream(structuredClone(kinds[followed]));
    expect(rig.receiver.status().port).toBe(upstreams.list.at(-1)?.port);
    expect(rig.identities.map(({ isInRecovery }) => isInRecovery)).toEqual([
      followed.endsWith('standby'),
    ]);
  });

  it('prefer-standby follows the primary when no host is a standby', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const hosts = local(await closedPort(), upstream.port);
    await using rig = new ReceiverRig({ hosts, targetSessionAttrs: 'prefer-standby' });
    rig.receiver.start();
    await turnedAway(await upstream.accept(), kinds.primary);
    await (await upstream.accept()).stream(kinds.primary);
    // The host that does not answer was tried in the first pass only.
    expect(rig.receiver.status()).toMatchObject({ port: upstream.port, connectsFailed: 1 });
  });

  it('is looked at anew for every connection', async () => {
    await using upstream = await ScriptedUpstream.listen();
    await using other = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({
      hosts: local(upstream.port, other.port),
      targetSessionAttrs: 'primary',
    });
    rig.receiver.start();
    const first = await upstream.accept();
    await first.stream(kinds.primary);
    first.send(READY);
    first.end();
    await turnedAway(await upstream.accept(), kinds.standby);
    await (await other.accept()).stream(kinds.primary);
    expect(rig.receiver.status().port).toBe(other.port);
  });
});
