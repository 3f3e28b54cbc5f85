// What is asked of an upstream before any WAL flows, what is believed, and what becomes of our slot there.
import { describe, expect, it } from 'vitest';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { lsn, ReceiverRig } from '../support/receiver-rig.ts';
import {
  answer,
  COPY_BOTH,
  errorResponse,
  playedServer,
  READY,
  rows,
  complete,
  ScriptedUpstream,
} from '../support/scripted-upstream.ts';
import type { PlayedServer } from '../support/scripted-upstream.ts';

/** The commands that are no SHOW. */
function deeds(commands: readonly string[]): string[] {
  return commands.filter((command) => !command.startsWith('SHOW'));
}

/** Lets the walreceiver identify `server` once and gives what it made of it: the last change of state. */
async function refused(server: PlayedServer): Promise<{ rig: ReceiverRig; reason: string }> {
  await using upstream = await ScriptedUpstream.listen();
  const rig = new ReceiverRig({ port: upstream.port, clock: new ManualClock() });
  rig.receiver.start();
  const session = await upstream.accept();
  await session.login(server);
  await expect(session.identify(server)).rejects.toThrow(/got X|the client closed/);
  await rig.until('it is refused', () => rig.receiver.status().state === 'disconnected');
  rig.receiver.stop();
  return { rig, reason: rig.changes.find((change) => change.status.detail !== null)?.reason ?? '' };
}

describe('IDENTIFY_SYSTEM', () => {
  it.each([
    ['timeline 0', { timeline: '0' }, 'timeline 0'],
    ['a timeline beyond 2^31', { timeline: '2147483648' }, 'timeline 2147483648'],
    ['a timeline that is no number', { timeline: '1x' }, 'timeline 1x'],
    ['a system identifier that is no number', { systemIdentifier: 'abc' }, 'systemid abc'],
    [
      'a system identifier beyond 64 bits',
      { systemIdentifier: '18446744073709551616' },
      'systemid',
    ],
    ['a position that is none', { xlogPos: '5000060' }, 'xlogpos 5000060'],
    ['position 0/0', { xlogPos: '0/0' }, 'xlogpos 0/0'],
  ])('with %s is refused, and tried again', async (_name, wrong, text) => {
    const { rig, reason } = await refused(playedServer(wrong));
    expect(reason).toContain(`invalid answer of the upstream to IDENTIFY_SYSTEM: ${text}`);
    expect(rig.identities).toEqual([]);
    expect(rig.fatal).toEqual([]);
  });

  it.each([
    ['no row', rows(['a', 'b', 'c'], [])],
    [
      'two rows',
      rows(
        ['a', 'b', 'c'],
        [
          ['1', '1', '0/1'],
          ['1', '1', '0/1'],
        ],
      ),
    ],
    ['two columns', rows(['a', 'b'], [['1', '1']])],
    ['NULL for a position', rows(['a', 'b', 'c'], [['1', '1', null]])],
  ])('with %s is refused', async (_name, result) => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port, clock: new ManualClock() });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login();
    for (;;) {
      const command = await session.command();
      if (command !== 'IDENTIFY_SYSTEM') session.send(answer(playedServer(), command), READY);
      else break;
    }
    session.send(result, complete('IDENTIFY_SYSTEM'), READY);
    await session.closed;
    expect(rig.changes.at(-1)?.reason).toContain('IDENTIFY_SYSTEM');
    expect(rig.identities).toEqual([]);
  });
});

describe('what no retry can mend', () => {
  it.each([
    ['a major too old', { serverVersion: '12.22' }, 'UNSUPPORTED_SERVER_VERSION', 'speaks 13 to'],
    [
      'a major too new',
      { serverVersion: '77devel' },
      'UNSUPPORTED_SERVER_VERSION',
      'PostgreSQL 77',
    ],
    [
      'WAL pages of another size',
      { settings: { wal_segment_size: '16MB', wal_block_size: '32768' } },
      'UNSUPPORTED_WAL_BLOCK_SIZE',
      '32768',
    ],
  ])('%s is told as fatal at first contact', async (_name, wrong, code, text) => {
    const { rig } = await refused(playedServer(wrong));
    expect(rig.fatal).toHaveLength(1);
    expect(rig.fatal[0]).toMatchObject({ code });
    expect(rig.fatal[0]?.message).toContain(text);
    expect(rig.changes.at(-1)?.status.heldState).not.toBe('gap');
  });

  it('a server that can never be followed ends nothing where another one may be listed later', async () => {
    await using wrong = await ScriptedUpstream.listen();
    await using right = await ScriptedUpstream.listen();
    const hosts = [{ host: '127.0.0.1', port: wrong.port }];
    await using rig = new ReceiverRig({ hosts, clock: new ManualClock(), hostsMayChange: true });
    rig.receiver.start();
    const session = await wrong.accept();
    await session.login(playedServer({ serverVersion: '77devel' }));
    await rig.untilState('disconnected', 'failed');
    expect(rig.fatal).toEqual([]);
    hosts.splice(0, 1, { host: '127.0.0.1', port: right.port });
    rig.receiver.hostsChanged();
    await (await right.accept()).stream();
  });

  it('a segment size that is none is only refused', async () => {
    for (const wal_segment_size of ['', '16', '3MB', '2GB', '16 MB']) {
      const { rig, reason } = await refused(
        playedServer({ settings: { wal_segment_size, wal_block_size: '8192' } }),
      );
      expect(reason).toContain('no segment size');
      expect(rig.fatal).toEqual([]);
    }
  });
});

describe('the history file', () => {
  const good = '1\t0/3000000\tno recovery target specified\n\n2\t0/4000000\tbefore 2020\n';
  const server = (content: string, name = '00000003.history'): PlayedServer =>
    playedServer({ timeline: '3', histories: { 3: [name, content] } });

  it('is asked for beyond timeline 1, checked, and handed out byte for byte', async () => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login();
    expect(await session.identify(server(good))).toBe('START_REPLICATION 0/5000000 TIMELINE 3');
    expect(rig.identities[0]?.history).toEqual({
      timeline: 3,
      ancestors: [
        { timeline: 1, endLsn: lsn('0/3000000') },
        { timeline: 2, endLsn: lsn('0/4000000') },
      ],
    });
    expect(Buffer.from(rig.identities[0]?.historyFile ?? []).toString()).toBe(good);
  });

  it.each([
    ['is empty', ''],
    ['has only comments', '# nothing\n\n'],
    ['is not sorted', '2\t0/3000000\tx\n1\t0/4000000\tx\n'],
    ['names itself', '3\t0/3000000\tx\n'],
    ['names a later timeline', '4\t0/3000000\tx\n'],
    ['goes back', '1\t0/4000000\tx\n2\t0/3000000\tx\n'],
    ['has no number', 'one\t0/3000000\tx\n'],
    ['has no LSN', '1\t3000000\tx\n'],
    ['has carriage returns', '1\t0/3000000\tx\r\n'],
    ['has a megabyte and more', `${good}${'#'.repeat(1_100_000)}\n`],
  ])('is refused when it %s', async (_name, content) => {
    const { rig } = await refused(server(content));
    expect(rig.identities).toEqual([]);
  });

  it('is refused under another name', async () => {
    const { reason } = await refused(server(good, '00000002.history'));
    expect(reason).toContain('unexpected file name for timeline history file: 00000002.history');
  });

  it('that is missing is told in the server’s words', async () => {
    const { reason } = await refused(playedServer({ timeline: '3' }));
    expect(reason).toContain('refused TIMELINE_HISTORY 3');
  });
});

describe('being in recovery', () => {
  it.each([
    ['says so itself', { in_hot_standby: 'on', transaction_read_only: 'off' }, true],
    ['says that it is not', { in_hot_standby: 'off', transaction_read_only: 'on' }, false],
    [
      'of an old major shows as read-only',
      { transaction_read_only: 'on', default_transaction_read_only: 'off' },
      true,
    ],
    ['of an old major shows as not read-only', { transaction_read_only: 'off' }, false],
  ])('a server that %s', async (_name, settings, expected) => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login();
    await session.identify(
      playedServer({ settings: { wal_segment_size: '1MB', wal_block_size: '8192', ...settings } }),
    );
    expect(rig.identities[0]).toMatchObject({ isInRecovery: expected, segmentSize: 1 << 20 });
  });
});

describe('our slot', () => {
  /** One attempt up to START_REPLICATION. */
  async function attempt(
    server: PlayedServer,
    slot: string | null = 'walcast',
  ): Promise<{ commands: string[]; restartLsn: bigint | undefined }> {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port, slot });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login(server);
    await session.identify(server);
    return { commands: deeds(session.commands), restartLsn: rig.identities[0]?.slotRestartLsn };
  }

  it('is read, created reserving WAL, and read again', async () => {
    expect(await attempt(playedServer())).toEqual({
      commands: [
        'IDENTIFY_SYSTEM',
        'READ_REPLICATION_SLOT "walcast"',
        'CREATE_REPLICATION_SLOT "walcast" PHYSICAL (RESERVE_WAL)',
        'READ_REPLICATION_SLOT "walcast"',
        'START_REPLICATION SLOT "walcast" 0/5000000 TIMELINE 1',
      ],
      restartLsn: lsn('0/4000028'),
    });
  });

  it('is used as it is when it is there', async () => {
    const server = playedServer({ slots: { walcast: ['physical', '0/4000100'] } });
    const { commands, restartLsn } = await attempt(server);
    expect(commands).toHaveLength(3);
    expect(restartLsn).toBe(lsn('0/4000100'));
  });

  it('is made anew when it reserves nothing, once the server was found to be the right one', async () => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port, slot: 'walcast' });
    const server = playedServer({ slots: { walcast: ['physical', null] } });
    rig.receiver.start();
    const first = await upstream.accept();
    await first.login(server);
    await expect(first.identify(server)).rejects.toThrow('expected a command, got X');
    expect(deeds(first.commands)).toEqual(['IDENTIFY_SYSTEM', 'READ_REPLICATION_SLOT "walcast"']);
    const second = await upstream.accept();
    await second.login(server);
    await second.identify(server);
    expect(deeds(second.commands).slice(1, 4)).toEqual([
      'READ_REPLICATION_SLOT "walcast"',
      'DROP_REPLICATION_SLOT "walcast"',
      'CREATE_REPLICATION_SLOT "walcast" PHYSICAL (RESERVE_WAL)',
    ]);
    expect(rig.identities[1]?.slotRestartLsn).toBe(lsn('0/4000028'));
  });

  it.each([
    ['reserves nothing', null, null],
    ['was called invalidated', '0/4000100', '55000'],
  ])('that %s and was made by somebody else since is used', async (_what, restartLsn, sqlstate) => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    await using rig = new ReceiverRig({ port: upstream.port, slot: 'walcast', clock });
    const server = playedServer({ slots: { walcast: ['physical', restartLsn] } });
    rig.receiver.start();
    const first = await upstream.accept();
    await first.login(server);
    if (sqlstate === null) {
      await expect(first.identify(server)).rejects.toThrow('expected a command, got X');
    } else {
      await first.identify(server);
      first.send(errorResponse(sqlstate, 'can no longer access replication slot'), READY);
      await first.closed;
      clock.advance(200);
    }
    server.slots['walcast'] = ['physical', '0/4800000'];
    const second = await upstream.accept();
    await second.login(server);
    await second.identify(server);
    expect(deeds(second.commands).join()).not.toContain('DROP');
    expect(server.slots['walcast']).toEqual(['physical', '0/4800000']);
  });

  it('is left alone on a server that must not be followed, though it reserves nothing', async () => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({
      port: upstream.port,
      slot: 'walcast',
      decide: () => ({
        kind: 'hold',
        state: 'diverged',
        detail: 'another cluster',
        retryMs: 5_000,
      }),
    });
    const server = playedServer({ slots: { walcast: ['physical', null] } });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login(server);
    await expect(session.identify(server)).rejects.toThrow('expected a command, got X');
    expect(server.slots['walcast']).toEqual(['physical', null]);
  });

  it('is created by the old grammar, and never read, on majors that cannot', async () => {
    const { commands, restartLsn } = await attempt(playedServer({ serverVersion: '14.23' }));
    expect(commands).toEqual([
      'IDENTIFY_SYSTEM',
      'CREATE_REPLICATION_SLOT "walcast" PHYSICAL RESERVE_WAL',
      'START_REPLICATION SLOT "walcast" 0/5000000 TIMELINE 1',
    ]);
    expect(restartLsn).toBe(INVALID_LSN);
  });

  it('that exists there already is fine, and not created again by the same process', async () => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port, slot: 'walcast' });
    const server = playedServer({
      serverVersion: '13.23',
      slots: { walcast: ['physical', '0/1'] },
    });
    rig.receiver.start();
    const first = await upstream.accept();
    await first.stream(server);
    expect(deeds(first.commands)).toHaveLength(3);
    first.end();
    const second = await upstream.accept();
    await second.login(server);
    await second.identify(server);
    expect(deeds(second.commands)).toEqual([
      'IDENTIFY_SYSTEM',
      'START_REPLICATION SLOT "walcast" 0/5000000 TIMELINE 1',
    ]);
  });

  it('"" means none', async () => {
    expect((await attempt(playedServer(), null)).commands).toEqual([
      'IDENTIFY_SYSTEM',
      'START_REPLICATION 0/5000000 TIMELINE 1',
    ]);
  });

  it('of a wrong type is refused with what to do', async () => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port, slot: 'walcast' });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login();
    const server = playedServer({ slots: { walcast: ['logical', '0/1'] } });
    await expect(session.identify(server)).rejects.toThrow(/got X|the client closed/);
    await rig.until('it is told', () =>
      rig.changes.some((change) => change.reason.includes('logical slot')),
    );
    expect(rig.changes.find((change) => change.reason.includes('logical slot'))?.reason).toContain(
      'Give upstream.slot another name',
    );
  });

  it('names the setting to raise when no slot is free', async () => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port, slot: 'walcast' });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login();
    const server = playedServer();
    for (;;) {
      const command = await session.command();
      if (command.startsWith('CREATE')) break;
      session.send(answer(server, command), READY);
    }
    session.send(errorResponse('53400', 'all replication slots are in use'), READY);
    await session.closed;
    await rig.until(
      'it is told',
      () => rig.changes.at(-1)?.reason.includes('max_replication_slots') === true,
    );
  });

  it('must have a name that a server accepts', () => {
    for (const slot of ['', 'Walcast', 'a b', 'a"b', 'x'.repeat(64)]) {
      expect(() => new ReceiverRig({ port: 1, slot })).toThrow('is not valid');
    }
  });

  it('is created again when it was dropped in between', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    await using rig = new ReceiverRig({ port: upstream.port, slot: 'walcast', clock });
    const server = playedServer({ serverVersion: '14.1', slots: { walcast: ['physical', '0/1'] } });
    rig.receiver.start();
    const first = await upstream.accept();
    await first.login(server);
    await first.identify(server);
    delete server.slots['walcast'];
    first.send(errorResponse('42704', 'replication slot "walcast" does not exist'), READY);
    await first.closed;
    clock.advance(200);
    const second = await upstream.accept();
    await second.login(server);
    await second.identify(server);
    expect(server.slots['walcast']).toBeDefined();
  });

  it('that the server calls invalidated is made anew where that can be told from other refusals', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    await using rig = new ReceiverRig({ port: upstream.port, slot: 'walcast', clock });
    const server = playedServer({ slots: { walcast: ['physical', '0/4000100'] } });
    rig.receiver.start();
    const first = await upstream.accept();
    await first.login(server);
    await first.identify(server);
    first.send(errorResponse('55000', 'can no longer access replication slot "walcast"'), READY);
    await first.closed;
    clock.advance(200);
    const second = await upstream.accept();
    await second.login(server);
    await second.identify(server);
    expect(deeds(second.commands)).toContain('DROP_REPLICATION_SLOT "walcast"');
    expect(server.slots['walcast']).toEqual(['physical', '0/4000028']);
  });

  it('still held by a session that is gone is waited for, quicker than it takes a server to time out', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    await using rig = new ReceiverRig({ port: upstream.port, slot: 'walcast', clock });
    const server = playedServer({ slots: { walcast: ['physical', '0/4000100'] } });
    rig.receiver.start();
    for (let count = 0; count < 3; count += 1) {
      const session = await upstream.accept();
      await session.login(server);
      await session.identify(server);
      session.send(
        errorResponse('55006', 'replication slot "walcast" is active for PID 99'),
        READY,
      );
      await session.closed;
      expect(rig.changes.at(-1)?.reason).toContain('active for PID 99');
      clock.advance(5_000);
    }
  });

  it('that we created is dropped again when the WAL we need is gone', async () => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({
      port: upstream.port,
      slot: 'walcast',
      clock: new ManualClock(),
    });
    const server = playedServer();
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login(server);
    await session.identify(server);
    session.send(
      COPY_BOTH,
      errorResponse('58P01', 'requested WAL segment has already been removed'),
      READY,
    );
    await rig.untilState('waiting_for_wal', 'gap');
    await session.status();
    expect(await session.command()).toBe('DROP_REPLICATION_SLOT "walcast"');
    session.send(complete('DROP_REPLICATION_SLOT'), READY);
    expect((await session.next()).type).toBe('X');
  });

  it('is dropped again, and not created a second time, on a server that must not be followed', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    let isRight = false;
    await using rig = new ReceiverRig({
      port: upstream.port,
      slot: 'walcast',
      clock,
      decide: (identity, sink) =>
        isRight
          ? { kind: 'start', timeline: identity.timeline, startLsn: sink.nextLsn() }
          : { kind: 'hold', state: 'diverged', detail: 'another cluster', retryMs: 5_000 },
    });
    const server = playedServer();
    rig.receiver.start();
    const first = await upstream.accept();
    await first.login(server);
    await expect(first.identify(server)).rejects.toThrow('expected a command, got X');
    expect(deeds(first.commands).at(-1)).toBe('DROP_REPLICATION_SLOT "walcast"');
    expect(rig.receiver.status()).toMatchObject({
      heldState: 'diverged',
      detail: 'another cluster',
    });
    clock.advance(5_000);
    const second = await upstream.accept();
    await second.login(server);
    await expect(second.identify(server)).rejects.toThrow('expected a command, got X');
    expect(deeds(second.commands)).toEqual(['IDENTIFY_SYSTEM', 'READ_REPLICATION_SLOT "walcast"']);
    isRight = true;
    await rig.until('it stands', () => rig.receiver.status().heldState === 'diverged');
    clock.advance(5_000);
    // Found right: the slot is created on another session before any WAL flows.
    const third = await upstream.accept();
    await third.login(server);
    await expect(third.identify(server)).rejects.toThrow('expected a command, got X');
    const fourth = await upstream.accept();
    await fourth.login(server);
    await fourth.identify(server);
    expect(server.slots['walcast']).toBeDefined();
  });
});
