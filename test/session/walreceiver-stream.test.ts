// The walreceiver against a played server: what it asks, what it keeps, what it reports, and what it refuses.
import { describe, expect, it } from 'vitest';
import {
  COPY_BOTH,
  complete,
  errorResponse,
  keepalive,
  playedServer,
  READY,
  ScriptedUpstream,
  walData,
} from '../support/scripted-upstream.ts';
import type { ScriptedSession } from '../support/scripted-upstream.ts';
import { TIMEOUT_SECOND_LOOK_MS } from '../../src/config/limits.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { cstr, i32, message, raw } from '../support/naive-writer.ts';
import { lsn, ReceiverRig } from '../support/receiver-rig.ts';
import type { RigOptions } from '../support/receiver-rig.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';

const START = 0x5000000n;

function bytes(count: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length: count }, (_, index) => (index * 7 + seed) & 0xff);
}

/** A rig whose first connection streams. */
async function streaming(
  upstream: ScriptedUpstream,
  options: RigOptions = {},
): Promise<{ rig: ReceiverRig; session: ScriptedSession }> {
  const rig = new ReceiverRig({ port: upstream.port, ...options });
  rig.receiver.start();
  const session = await upstream.accept();
  await session.stream();
  return { rig, session };
}

describe('a good stream', () => {
  it('logs in as walreceivers do and asks for WAL at the next byte', async () => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port });
    rig.receiver.start();
    const session = await upstream.accept();
    const startup = await session.login();
    expect(Object.fromEntries(startup)).toEqual({
      user: 'replicator',
      database: 'replication',
      replication: 'true',
      application_name: 'walcast',
    });
    const start = await session.identify();
    expect(start).toBe('START_REPLICATION 0/5000000 TIMELINE 1');
    expect(session.commands.filter((command) => !command.startsWith('SHOW'))).toEqual([
      'IDENTIFY_SYSTEM',
      start,
    ]);
    expect(rig.identities[0]).toMatchObject({
      systemIdentifier: '7301234567890123456',
      timeline: 1,
      xlogPos: lsn('0/5000060'),
      serverVersion: '18.4',
      isInRecovery: false,
      segmentSize: 16 << 20,
      slotRestartLsn: INVALID_LSN,
      historyFile: null,
    });
    expect(rig.identities[0]?.parameters.get('TimeZone')).toBe('UTC');
    expect(rig.identities[0]?.settings.get('data_directory_mode')).toBe('0700');
    expect(rig.identities[0]?.settings.has('wal_level')).toBe(false);
  });

  it('keeps the bytes however they are cut, and reports what is written and flushed', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    const first = bytes(300);
    const second = bytes(9_000, 5);
    session.sendByteByByte(walData(START, first));
    session.send(walData(START + 300n, second), keepalive(START + 9_300n));
    await rig.until('both messages arrived', () => rig.sink.appended === 2);
    expect(rig.sink.bytes()).toEqual(Buffer.concat([first, second]));
    rig.receiver.positionsMoved();
    rig.receiver.positionsMoved();
    expect(await session.status()).toEqual({
      write: START + 9_300n,
      flush: START + 9_300n,
      apply: 0n,
      replyRequested: false,
    });
    // One update for the turn: the next one answers a keepalive.
    session.send(keepalive(START + 9_300n, true));
    expect((await session.status()).flush).toBe(START + 9_300n);
    const status = rig.receiver.status();
    expect(status).toMatchObject({
      state: 'streaming',
      heldState: null,
      detail: null,
      serverLsn: START + 9_300n,
      receivedBytes: 9_300,
      walMessages: 2,
      keepaliveMessages: 2,
      connectsSucceeded: 1,
      connectsFailed: 0,
    });
  });

  it('is shown as catching up until everything the server has was received', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    session.send(walData(START, bytes(100), START + 500n));
    await rig.until('the first message arrived', () => rig.sink.appended === 1);
    expect(rig.receiver.status().state).toBe('catchup');
    session.send(walData(START + 100n, bytes(400), START + 500n));
    await rig.untilState('streaming');
  });

  it('is shown as streaming at once when the server has no more than we do', async () => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port, start: lsn('0/5000060') });
    rig.receiver.start();
    await (await upstream.accept()).stream();
    await rig.untilState('streaming');
    expect(rig.receiver.status().serverLsn).toBe(lsn('0/5000060'));
  });

  it('says nothing when positions did not move', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    rig.receiver.positionsMoved();
    session.send(keepalive(START, true));
    const answered = await session.status();
    expect(answered.write).toBe(START);
    rig.receiver.positionsMoved();
    session.send(walData(START, bytes(8)));
    await rig.until('it arrived', () => rig.sink.appended === 1);
    rig.receiver.positionsMoved();
    expect((await session.status()).write).toBe(START + 8n);
  });
});

describe('bytes that are refused', () => {
  const cases: readonly (readonly [name: string, bytes: Uint8Array])[] = [
    ['WALData shorter than its header', message('d', 'w', bytes(20))],
    ['an empty CopyData', message('d')],
    ['a keepalive of 17 bytes', message('d', 'k', bytes(16))],
    ['a keepalive of 19 bytes', message('d', 'k', bytes(18))],
    ['an unknown replication message', message('d', 's', bytes(33))],
    ['an unknown message type', message('!', bytes(4))],
    ['a message of a gigabyte', raw('d', i32(1 << 30))],
    ['a message of negative length', raw('d', i32(-5))],
    ['a data row without a description', raw(message('c'), message('D', 0, 0))],
    ['a ParameterStatus without its end', message('S', 'name')],
    ['a second CopyBothResponse', COPY_BOTH],
    ['an authentication request in the stream', message('R', i32(0))],
  ];

  it.each(cases)('%s drops the connection; the stream is asked for again', async (_name, bad) => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    session.send(walData(START, bytes(64)), bad);
    await session.closed;
    const next = await upstream.accept();
    await next.login();
    expect(await next.identify()).toBe('START_REPLICATION 0/5000040 TIMELINE 1');
    expect(rig.receiver.status().disconnects).toMatchObject({ error: 1 });
    expect(rig.sink.appended).toBe(1);
  });

  const misplaced: readonly (readonly [name: string, bytes: Uint8Array])[] = [
    ['a gap', walData(START + 65n, bytes(10))],
    ['an overlap', walData(START + 60n, bytes(10))],
    ['a repetition', walData(START, bytes(64))],
    ['bytes beyond the server’s own end', walData(START + 64n, bytes(10), START + 73n)],
  ];

  it.each(misplaced)(
    '%s drops the connection; the stream is asked for again',
    async (_name, bad) => {
      await using upstream = await ScriptedUpstream.listen();
      const { rig, session } = await streaming(upstream);
      await using _ = rig;
      session.send(walData(START, bytes(64)), bad, walData(START + 64n, bytes(1_000)));
      await session.closed;
      const next = await upstream.accept();
      await next.login();
      expect(await next.identify()).toBe('START_REPLICATION 0/5000040 TIMELINE 1');
      // Nothing that followed the bad message in the same read was taken.
      expect(rig.sink.appended).toBe(1);
    },
  );

  it('three times at one place is corrupt, alarmed, and tried again every minute until it is good', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    await using rig = new ReceiverRig({ port: upstream.port, clock });
    const rejection = { lsn: lsn('0/5000020'), reason: 'incorrect CRC' };
    rig.sink.check = () => rejection;
    rig.receiver.start();
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const session = await upstream.accept();
      await session.stream();
      session.send(walData(START, bytes(64)));
      await session.closed;
      clock.advance(200);
    }
    await rig.untilState('disconnected', 'corrupt');
    expect(rig.receiver.status().detail).toContain('incorrect CRC');
    expect(rig.receiver.status().detail).toContain('0/5000020');
    expect(upstream.accepted).toBe(3);
    clock.advance(59_000);
    expect(upstream.accepted).toBe(3);
    rig.sink.check = () => null;
    clock.advance(1_000);
    const session = await upstream.accept();
    await session.stream();
    expect(rig.receiver.status().heldState).toBe('corrupt');
    session.send(walData(START, bytes(64)));
    await rig.untilState('streaming');
    expect(rig.sink.bytes()).toEqual(Buffer.from(bytes(64)));
  });
});

describe('a server that ends the stream', () => {
  it('by closing: the stream is asked for again from the next byte, a partial message is dropped', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    const whole = walData(START + 64n, bytes(500));
    session.send(walData(START, bytes(64)), whole.subarray(0, 300));
    await rig.until('the first message arrived', () => rig.sink.appended === 1);
    session.end();
    const next = await upstream.accept();
    await next.login();
    expect(await next.identify()).toBe('START_REPLICATION 0/5000040 TIMELINE 1');
    expect(rig.receiver.status().disconnects).toMatchObject({ eof: 1 });
  });

  it('by a reset', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    session.reset();
    await (await upstream.accept()).login();
    expect(rig.receiver.status().disconnects).toMatchObject({ eof: 1 });
  });

  it('by COPY 0, as a server that shuts down: it is reconnected', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    session.send(walData(START, bytes(64)), complete('COPY 0'));
    session.end();
    const next = await upstream.accept();
    await next.login();
    expect(await next.identify()).toBe('START_REPLICATION 0/5000040 TIMELINE 1');
    expect(rig.receiver.status().disconnects).toMatchObject({ shutdown: 1 });
    expect(rig.changes.some((change) => change.reason.includes('shutting down'))).toBe(true);
  });

  it('by an error in the middle of COPY: its text is told and the stream asked for again', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    session.send(errorResponse('57014', 'canceling statement due to user request'), READY);
    const next = await upstream.accept();
    await next.login();
    expect(rig.changes.some((change) => change.reason.includes('due to user request'))).toBe(true);
  });

  it('by a FATAL error: its text is told and the stream asked for again', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    session.send(
      errorResponse('57P01', 'terminating connection due to administrator command', 'FATAL'),
    );
    session.end();
    await (await upstream.accept()).login();
    expect(rig.changes.some((change) => change.reason.includes('administrator command'))).toBe(
      true,
    );
  });

  it('because WAL was removed: gap, with the place and the ways out', async () => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login();
    await session.identify();
    const text = 'requested WAL segment 000000010000000000000005 has already been removed';
    session.send(COPY_BOTH, errorResponse('58P01', text), READY);
    await rig.untilState('waiting_for_wal', 'gap');
    expect(rig.receiver.status().detail).toContain('0/5000000 on timeline 1');
    expect(rig.receiver.status().detail).toContain('000000010000000000000005');
  });

  it('notices, notifications and changed parameters in the stream are taken as they come', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    const notice = message('N', raw('S', cstr('WARNING'), 'C', cstr('01000'), 'M', cstr('hm'), 0));
    for (let count = 0; count < 1_000; count += 1) session.send(notice);
    session.send(
      message('S', cstr('in_hot_standby'), cstr('off')),
      message('A', i32(1), cstr('channel'), cstr('payload')),
      walData(START, bytes(64)),
    );
    await rig.until('the WAL arrived', () => rig.sink.appended === 1);
    expect(rig.receiver.status().state).toBe('streaming');
  });

  it('a flood of parameters ends the session', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    for (let count = 0; count < 300; count += 1) {
      session.send(message('S', cstr(`p${count}`), cstr('x')));
    }
    await session.closed;
    expect(rig.receiver.status().disconnects).toMatchObject({ error: 1 });
  });
});

describe('time', () => {
  it('a silent server is asked at half of wal_receiver_timeout and dropped at the full', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    const { rig, session } = await streaming(upstream, { clock, statusIntervalMs: 0 });
    await using _ = rig;
    clock.advance(29_999);
    clock.advance(1);
    expect((await session.status()).replyRequested).toBe(true);
    session.send(keepalive(START));
    await rig.until('the keepalive arrived', () => rig.receiver.status().keepaliveMessages === 1);
    clock.advance(59_999);
    expect((await session.status()).replyRequested).toBe(true);
    clock.advance(1 + TIMEOUT_SECOND_LOOK_MS);
    await session.closed;
    expect(rig.receiver.status().disconnects).toMatchObject({ timeout: 1 });
  });

  it('that passed while we did not run is not the server’s silence: what it sent meanwhile is read first', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    const { rig, session } = await streaming(upstream, { clock, statusIntervalMs: 0 });
    await using _ = rig;
    clock.advance(30_000);
    expect((await session.status()).replyRequested).toBe(true);
    session.send(walData(START, bytes(64)));
    clock.jump(90_000);
    await rig.until('it is read', () => rig.sink.appended === 1);
    // What is said after the pause is what is true then.
    rig.receiver.positionsMoved();
    expect((await session.status()).flush).toBe(START + 64n);
    clock.advance(29_000);
    expect(rig.receiver.status()).toMatchObject({ disconnects: { timeout: 0 } });
    expect(upstream.accepted).toBe(1);
  });

  it('that passed while we did not run ends in a new connection when the server has given us up', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    const { rig, session } = await streaming(upstream, { clock, statusIntervalMs: 0 });
    await using _ = rig;
    session.send(walData(START, bytes(64)));
    session.end();
    clock.jump(90_000);
    await rig.until('the stream is lost', () => rig.receiver.status().disconnects.eof === 1);
    expect(rig.sink.appended).toBe(1);
    const next = await upstream.accept();
    await next.login();
    expect(await next.identify()).toBe('START_REPLICATION 0/5000040 TIMELINE 1');
  });

  it('a server that never answers the login is given up after connect_timeout', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    await using rig = new ReceiverRig({ port: upstream.port, clock, connectTimeoutMs: 3_000 });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.startup();
    clock.advance(3_000);
    await session.closed;
    expect(rig.receiver.status()).toMatchObject({ connectsFailed: 1, connectsSucceeded: 0 });
  });

  it('a server that never answers a command is given up after wal_receiver_timeout', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    await using rig = new ReceiverRig({ port: upstream.port, clock });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login();
    await session.command();
    clock.advance(60_000);
    await session.closed;
    expect(rig.changes.at(-1)?.reason).toContain('did not answer SHOW within 60000 ms');
  });

  it('a server that never begins the stream is given up after wal_receiver_timeout', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    await using rig = new ReceiverRig({ port: upstream.port, clock });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login();
    await session.identify();
    clock.advance(60_000);
    await session.closed;
  });

  it('the status goes out every wal_receiver_status_interval', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    const { rig, session } = await streaming(upstream, { clock, statusIntervalMs: 4_000 });
    await using _ = rig;
    for (let count = 0; count < 3; count += 1) {
      clock.advance(4_000);
      expect((await session.status()).write).toBe(START);
    }
  });
});

describe('a store that takes no more', () => {
  it('is not read for until there is room, and the server hears from us every second', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    const { rig, session } = await streaming(upstream, { clock, receiverTimeoutMs: 5_000 });
    await using _ = rig;
    rig.sink.full = true;
    session.send(walData(START, bytes(64)));
    await rig.until('the stream is paused', () => rig.receiver.status().heldState === 'full');
    session.send(walData(START + 64n, bytes(64)));
    for (let second = 0; second < 20; second += 1) {
      clock.advance(1_000);
      expect((await session.status()).write).toBe(START + 64n);
    }
    expect(rig.sink.appended).toBe(1);
    rig.sink.makeRoom();
    await rig.until('reading goes on', () => rig.sink.appended === 2);
    expect(rig.receiver.status().heldState).toBeNull();
  });

  it('is waited for while its disk makes progress, also when what is reported stands still', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    const { rig, session } = await streaming(upstream, { clock });
    await using _ = rig;
    let writtenLsn = START;
    Object.assign(rig.sink, { positions: () => ({ writtenLsn }) });
    const reported = { writeLsn: lsn('0/5000000'), flushLsn: INVALID_LSN, applyLsn: INVALID_LSN };
    rig.positions = () => reported;
    rig.sink.full = true;
    session.send(walData(START, bytes(64)));
    await rig.until('the stream is paused', () => rig.receiver.status().heldState === 'full');
    for (let second = 0; second < 100; second += 1) {
      writtenLsn += 1n;
      clock.advance(1_000);
      await session.status();
    }
    expect(rig.receiver.status().state).not.toBe('disconnected');
    clock.advance(62_000);
    await session.closed;
  });

  it('closes the connection after a minute without progress, and comes back with room', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    const { rig, session } = await streaming(upstream, { clock });
    await using _ = rig;
    rig.sink.full = true;
    session.send(walData(START, bytes(64)));
    await rig.until('the stream is paused', () => rig.receiver.status().heldState === 'full');
    // The first report after the pause tells of the last bytes; from there on nothing moves.
    clock.advance(62_000);
    await session.closed;
    expect(rig.receiver.status()).toMatchObject({ state: 'disconnected', heldState: 'full' });
    rig.sink.makeRoom();
    const next = await upstream.accept();
    await next.login();
    expect(await next.identify()).toBe('START_REPLICATION 0/5000040 TIMELINE 1');
  });
});

describe('our own end', () => {
  it('finishes: last status, CopyDone, everything read to ReadyForQuery, Terminate, FIN', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    session.send(walData(START, bytes(64)));
    await rig.until('the WAL arrived', () => rig.sink.appended === 1);
    let isFinished = false;
    const finished = rig.receiver.finish().then(() => {
      isFinished = true;
    });
    expect(await session.status()).toMatchObject({ write: START + 64n, flush: START + 64n });
    expect(await session.next()).toMatchObject({ type: 'c' });
    // What was under way still arrives; none of it is kept or reported.
    session.send(walData(START + 64n, bytes(64)), keepalive(START + 128n, true));
    expect(isFinished).toBe(false);
    session.send(message('c'), complete('START_STREAMING'), complete('START_REPLICATION'), READY);
    await finished;
    expect(await session.next()).toMatchObject({ type: 'X' });
    expect(await session.closed).toBe(true);
    expect(rig.sink.appended).toBe(1);
    expect(rig.receiver.status()).toMatchObject({
      state: 'disconnected',
      disconnects: { shutdown: 1, error: 0 },
    });
  });

  it('finishes within a bound when the server says nothing', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    const { rig, session } = await streaming(upstream, { clock });
    await using _ = rig;
    const finished = rig.receiver.finish();
    await session.status();
    await session.next();
    clock.advance(5_000);
    await finished;
    expect(clock.nextTimerMs()).toBeNull();
  });

  it('finishes at once where nothing streams', async () => {
    const rig = new ReceiverRig({ port: 1 });
    await rig.receiver.finish();
    expect(rig.receiver.status().state).toBe('disconnected');
  });

  it('stops at once and leaves no timer behind', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    const { rig, session } = await streaming(upstream, { clock });
    rig.receiver.stop();
    await session.closed;
    expect(clock.nextTimerMs()).toBeNull();
  });

  it('reconnects at once when told to, counting it as a reload', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    rig.receiver.reconnect();
    await session.closed;
    const next = await upstream.accept();
    await next.stream(playedServer());
    expect(rig.receiver.status().disconnects).toMatchObject({ reload: 1 });
  });
});
