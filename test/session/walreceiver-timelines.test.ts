// How a walreceiver goes from one timeline to the next with a played server: what it asks, in which order, on which
// connection, and what it believes.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { UPSTREAM_HISTORIES_MAX } from '../../src/config/limits.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineId } from '../../src/pg/timeline.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { message, raw } from '../support/naive-writer.ts';
import { lsn, ReceiverRig } from '../support/receiver-rig.ts';
import type { MemorySink, RigOptions } from '../support/receiver-rig.ts';
import {
  COPY_BOTH,
  complete,
  errorResponse,
  keepalive,
  playedServer,
  READY,
  rows,
  ScriptedUpstream,
  walData,
} from '../support/scripted-upstream.ts';
import type { PlayedServer, ScriptedSession } from '../support/scripted-upstream.ts';

const START = 0x5000000n;
const LINES = ['1\t0/5000040\tone\n', '2\t0/5000080\ttwo\n', '3\t0/5000080\tthree\n'];

function bytes(count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, index) => (index * 7 + 1) & 0xff);
}

/** What a server says at the end of a timeline, after CopyDone or instead of a stream. */
function nextTimeline(tli: string | null, start: string | null): Uint8Array {
  return raw(
    rows(['next_tli', 'next_tli_startpos'], [[tli, start]]),
    complete('START_STREAMING'),
    complete('START_REPLICATION'),
    READY,
  );
}

/** The history file of a timeline whose ancestors are 1, 2 …: its parent's, a blank line, a line of its own. */
function fileOf(timeline: number): readonly [string, string] {
  const name = `${timeline.toString(16).toUpperCase().padStart(8, '0')}.history`;
  return [name, LINES.slice(0, timeline - 1).join('\n')];
}

/** A server that was promoted `timeline - 1` times. */
function promoted(timeline: number, overrides: Partial<PlayedServer> = {}): PlayedServer {
  const histories: PlayedServer['histories'] = {};
  for (let tli = 2; tli <= timeline; tli += 1) histories[tli] = fileOf(tli);
  return playedServer({
    timeline: String(timeline),
    xlogPos: '0/5000100',
    histories,
    ...overrides,
  });
}

/** The store and gate of these tests: what is stored, and where the next timeline is asked for. */
class Follower {
  timeline: TimelineId = toTimelineId(1);
  readonly options: RigOptions = {
    stored: (sink: MemorySink) => ({ timeline: this.timeline, receivedLsn: sink.nextLsn() }),
    decide: (identity, sink) => {
      const [next] = identity.histories.keys();
      const fork = identity.history.ancestors.find((entry) => entry.timeline === this.timeline);
      if (fork !== undefined && next !== undefined && fork.endLsn <= sink.nextLsn()) {
        this.timeline = next;
        sink.moveTo(lsn('0/5000000'));
      }
      return { kind: 'start', timeline: this.timeline, startLsn: sink.nextLsn() };
    },
  };
}

async function streaming(
  upstream: ScriptedUpstream,
  options: RigOptions = {},
): Promise<{ rig: ReceiverRig; session: ScriptedSession; follower: Follower }> {
  const follower = new Follower();
  const rig = new ReceiverRig({ port: upstream.port, ...follower.options, ...options });
  rig.receiver.start();
  const session = await upstream.accept();
  await session.stream();
  return { rig, session, follower };
}

/** 64 bytes of timeline 1, then its end; the walreceiver's last words and CopyDone are read. */
async function endTimeline(session: ScriptedSession): Promise<void> {
  session.send(walData(START, bytes(64)), message('c'));
  for (;;) {
    const { type, body } = await session.next();
    if (type === 'c') return;
    expect([type, body[0]]).toEqual(['d', 'r'.charCodeAt(0)]);
  }
}

/** The commands that are no SHOW. */
function deeds(session: ScriptedSession): string[] {
  return session.commands.filter((command) => !command.startsWith('SHOW'));
}

describe('the end of a timeline', () => {
  it.each([
    ['whole', false],
    ['one by one', true],
  ])('is followed on the same connection, its bytes coming %s', async (_name, cutsBytes) => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    session.cutsBytes = cutsBytes;
    await endTimeline(session);
    // A keepalive may still follow the server's own CopyDone.
    session.send(keepalive(START + 64n), nextTimeline('2', '0/5000040'));
    expect(await session.identify(promoted(2))).toBe('START_REPLICATION 0/5000000 TIMELINE 2');
    session.send(COPY_BOTH);
    await session.status();
    expect(deeds(session)).toEqual([
      'IDENTIFY_SYSTEM',
      'START_REPLICATION 0/5000000 TIMELINE 1',
      'IDENTIFY_SYSTEM',
      'TIMELINE_HISTORY 2',
      'START_REPLICATION 0/5000000 TIMELINE 2',
    ]);
    expect(upstream.accepted).toBe(1);
    expect(rig.ends).toEqual([{ timeline: 1, nextTimeline: 2, switchLsn: lsn('0/5000040') }]);
    expect(rig.receiver.status()).toMatchObject({
      timeline: 2,
      heldState: null,
      detail: null,
      disconnects: { timeline_end: 1, error: 0, eof: 0 },
    });
  });

  it('is told a last status before CopyDone, and nothing behind it', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    session.send(walData(START, bytes(64)), message('c'));
    expect((await session.status()).flush).toBe(START + 64n);
    expect((await session.next()).type).toBe('c');
    rig.receiver.positionsMoved();
    await nextTurn();
    session.send(nextTimeline('2', '0/5000040'));
    expect(await session.command()).toMatch(/^SHOW/);
  });

  it('is read although there was no room for more WAL, when it came in one piece with the last of it', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    rig.sink.full = true;
    session.send(raw(walData(START, bytes(64)), message('c'), nextTimeline('2', '0/5000040')));
    while ((await session.next()).type !== 'c');
    expect(await session.identify(promoted(2))).toBe('START_REPLICATION 0/5000000 TIMELINE 2');
  });

  it('fetches the history file of every timeline up to the server’s, and follows one at a time', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session, follower } = await streaming(upstream);
    await using _ = rig;
    await endTimeline(session);
    session.send(nextTimeline('2', '0/5000040'));
    expect(await session.identify(promoted(4))).toBe('START_REPLICATION 0/5000000 TIMELINE 2');
    expect(deeds(session).slice(2, -1)).toEqual([
      'IDENTIFY_SYSTEM',
      'TIMELINE_HISTORY 4',
      'TIMELINE_HISTORY 2',
      'TIMELINE_HISTORY 3',
    ]);
    const files = rig.identities.at(-1)?.histories;
    expect([...(files ?? [])].map(([tli, file]) => [tli, Buffer.from(file).toString()])).toEqual(
      [2, 3, 4].map((tli) => [tli, fileOf(tli)[1]]),
    );
    session.send(COPY_BOTH);
    await session.status();
    session.send(walData(START, bytes(128)), message('c'));
    while ((await session.next()).type !== 'c');
    session.send(nextTimeline('3', '0/5000080'));
    await session.identify(promoted(4));
    expect(follower.timeline).toBe(3);
    expect(deeds(session).slice(-4, -1)).toEqual([
      'IDENTIFY_SYSTEM',
      'TIMELINE_HISTORY 4',
      'TIMELINE_HISTORY 3',
    ]);
  });

  it('is also understood when it comes instead of a stream', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const follower = new Follower();
    const start = lsn('0/5000040');
    await using rig = new ReceiverRig({
      port: upstream.port,
      ...follower.options,
      start,
      // As a gate that learns of the switch from the server's answer only.
      decide: (identity, sink) =>
        follower.timeline === 1 && rig.ends.length === 0
          ? { kind: 'start', timeline: toTimelineId(1), startLsn: start }
          : (follower.options.decide?.(identity, sink) ?? {
              kind: 'start',
              timeline: identity.timeline,
              startLsn: start,
            }),
    });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login();
    expect(await session.identify(promoted(2))).toBe('START_REPLICATION 0/5000040 TIMELINE 1');
    session.send(nextTimeline('2', '0/5000040'));
    expect(await session.identify(promoted(2))).toBe('START_REPLICATION 0/5000000 TIMELINE 2');
    expect(rig.ends).toHaveLength(1);
    expect(upstream.accepted).toBe(1);
  });

  it('does not make a historic timeline look as if everything was received', async () => {
    await using upstream = await ScriptedUpstream.listen();
    await using rig = new ReceiverRig({ port: upstream.port, ...new Follower().options });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.stream(promoted(2));
    session.send(walData(START, bytes(64)));
    await rig.until('it arrived', () => rig.sink.nextLsn() === lsn('0/5000040'));
    expect(rig.receiver.status().state).toBe('catchup');
  });

  it('comes to a standby that was promoted, whose session is another kind then', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const settings = { ...playedServer().settings, in_hot_standby: 'on' };
    const follower = new Follower();
    await using rig = new ReceiverRig({ port: upstream.port, ...follower.options });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.stream(playedServer({ settings }));
    await endTimeline(session);
    session.send(nextTimeline('2', '0/5000040'));
    await session.identify(promoted(2));
    expect(rig.identities.map(({ isInRecovery }) => isInRecovery)).toEqual([true, false]);
  });

  it('leaves a server of an old major what it was found to be: it cannot be asked again', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { in_hot_standby: _, ...settings } = playedServer().settings;
    const old = {
      serverVersion: '13.23',
      isStandby: true,
      settings: { ...settings, transaction_read_only: 'on', default_transaction_read_only: 'on' },
    };
    await using rig = new ReceiverRig({ port: upstream.port, ...new Follower().options });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.stream(playedServer(old));
    await endTimeline(session);
    session.send(nextTimeline('2', '0/5000040'));
    await session.identify(promoted(2, old));
    const early = session.commands.filter((command) => command.endsWith(' TIMELINE 2147483647'));
    expect(early).toHaveLength(1);
    expect(rig.identities.map(({ isInRecovery }) => isInRecovery)).toEqual([true, true]);
  });

  it('keeps the slot of the first part of the session in mind', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const server = playedServer();
    const follower = new Follower();
    await using rig = new ReceiverRig({
      port: upstream.port,
      ...follower.options,
      slot: 'walcast',
    });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.stream(server);
    await endTimeline(session);
    session.send(nextTimeline('2', '0/5000040'));
    const next = promoted(2, { slots: server.slots });
    expect(await session.identify(next)).toBe(
      'START_REPLICATION SLOT "walcast" 0/5000000 TIMELINE 2',
    );
    expect(deeds(session).filter((command) => command.startsWith('CREATE'))).toHaveLength(1);
    // What is not there any more makes a gap, and the slot that this session made is dropped.
    session.send(errorResponse('58P01', 'requested WAL segment has already been removed'), READY);
    expect(await session.command()).toBe('DROP_REPLICATION_SLOT "walcast"');
    await rig.untilState('waiting_for_wal', 'gap');
  });
});

describe('a next timeline that cannot be', () => {
  it.each([
    ['a timeline that is not later', '1', '0/5000040'],
    ['timeline 0', '0', '0/5000040'],
    ['no number', 'x', '0/5000040'],
    ['a timeline beyond 2^31', '2147483648', '0/5000040'],
    ['a start beyond what was sent', '2', '0/5000041'],
    ['a start that is no LSN', '2', '5000040'],
    ['a start at 0/0', '2', '0/0'],
    ['NULLs', null, null],
  ])('is refused when it is %s', async (_name, tli, start) => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    await endTimeline(session);
    session.send(nextTimeline(tli, start));
    await session.closed;
    expect(rig.ends).toEqual([]);
    expect(rig.receiver.status().disconnects).toMatchObject({ timeline_end: 0, error: 1 });
  });

  it('is refused when nothing is named', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream);
    await using _ = rig;
    await endTimeline(session);
    session.send(complete('START_STREAMING'), complete('START_REPLICATION'), READY);
    await session.closed;
    expect(rig.ends).toEqual([]);
  });

  it.each([
    ['is still on the timeline that it ended', playedServer(), 'is not left in the history'],
    ['left it elsewhere', forked('1\t0/5000038\tx\n'), 'for timeline 2 at 0/5000038'],
    ['left it for another one', forked('1\t0/5000040\tx\n', 3), 'for timeline 3 at 0/5000040'],
    ['never had it', forked('2\t0/5000040\tx\n', 3), 'is not left in the history'],
    ['has a file of another name', forked(LINES[0] ?? '', 2, '00000003.history'), 'unexpected'],
    ['has a file with carriage returns', forked('1\t0/5000040\tx\r\n'), 'carriage returns'],
    ['has an empty file', forked(''), 'names no ancestor'],
    ['names itself as its ancestor', forked('2\t0/5000040\tx\n'), 'less than child'],
    ['has an unsorted file', forked('3\t0/5000040\tx\n1\t0/5000060\tx\n', 4), 'increasing'],
    ['has a file of ten megabytes', forked(`#${'x'.repeat(10_000_000)}\n`), 'with length'],
    ['has no file', promoted(2, { histories: {} }), 'refused TIMELINE_HISTORY 2'],
    [
      'lacks the file of a timeline between',
      promoted(3, { histories: { 3: fileOf(3) } }),
      'refused TIMELINE_HISTORY 2',
    ],
    [
      'contradicts itself about a timeline between',
      promoted(3, {
        histories: { 3: fileOf(3), 2: ['00000002.history', '1\t0/5000038\tx\n'] },
      }),
      'contradicts the history of timeline 3',
    ],
  ])('is not followed to a server that %s', async (_name, server, text) => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream, { clock: new ManualClock() });
    await using _ = rig;
    await endTimeline(session);
    session.send(nextTimeline('2', '0/5000040'));
    await expect(session.identify(server)).rejects.toThrow(/got X|the client closed/);
    await rig.untilState('disconnected');
    expect(rig.receiver.status().detail).toContain(text);
    expect(rig.sink.nextLsn()).toBe(lsn('0/5000040'));
  });

  it('is asked for on a new connection, later each time, when nothing ever comes of it', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const clock = new ManualClock();
    const { rig, session } = await streaming(upstream, { clock });
    await using _ = rig;
    const delays: number[] = [];
    let current = session;
    for (let round = 0; round < 4; round += 1) {
      if (round === 0) await endTimeline(current);
      current.send(nextTimeline('2', '0/5000040'));
      await expect(current.identify(playedServer())).rejects.toThrow(/got X|the client closed/);
      await rig.untilState('disconnected');
      const delayMs = clock.nextTimerMs() ?? 0;
      delays.push(delayMs);
      clock.advance(delayMs);
      current = await upstream.accept();
      await current.login();
      expect(await current.identify()).toBe('START_REPLICATION 0/5000040 TIMELINE 1');
    }
    expect(delays).toEqual([180, 360, 720, 1440]);
  });
});

describe('what is asked of a server that has switched often', () => {
  it('is bounded: the oldest history files first', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const count = UPSTREAM_HISTORIES_MAX + 5;
    const lines = Array.from({ length: count }, (_each, index) => `${index + 1}\t0/4000000\tx\n`);
    const histories: PlayedServer['histories'] = {};
    for (let tli = 2; tli <= count + 1; tli += 1) {
      const name = `${tli.toString(16).toUpperCase().padStart(8, '0')}.history`;
      histories[tli] = [name, lines.slice(0, tli - 1).join('\n')];
    }
    const server = playedServer({ timeline: String(count + 1), histories });
    await using rig = new ReceiverRig({
      port: upstream.port,
      stored: (sink) => ({ timeline: toTimelineId(3), receivedLsn: sink.nextLsn() }),
    });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login();
    await session.identify(server);
    const files = [...(rig.identities[0]?.histories.keys() ?? [])];
    expect(files).toHaveLength(UPSTREAM_HISTORIES_MAX);
    expect([files[0], files.at(-1)]).toEqual([4, 3 + UPSTREAM_HISTORIES_MAX]);
  });

  it('is bounded in bytes, too: as much as gets us on', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const filler = `# ${'x'.repeat(600_000)}\n`;
    const histories: PlayedServer['histories'] = {};
    for (let tli = 2; tli <= 4; tli += 1) {
      const [name, text] = fileOf(tli);
      histories[tli] = [name, filler + text];
    }
    await using rig = new ReceiverRig({
      port: upstream.port,
      stored: (sink) => ({ timeline: toTimelineId(1), receivedLsn: sink.nextLsn() }),
    });
    rig.receiver.start();
    const session = await upstream.accept();
    await session.login();
    await session.identify(promoted(4, { histories }));
    expect([...(rig.identities[0]?.histories.keys() ?? [])]).toEqual([2, 3]);
  });

  it('is nothing for an empty store, nor for a timeline that is none of its own', async () => {
    for (const stored of [null, { timeline: toTimelineId(5), receivedLsn: INVALID_LSN }]) {
      await using upstream = await ScriptedUpstream.listen();
      await using rig = new ReceiverRig({ port: upstream.port, stored: () => stored });
      rig.receiver.start();
      const session = await upstream.accept();
      await session.login();
      await session.identify(promoted(4));
      expect(rig.identities[0]?.histories.size).toBe(0);
      expect(deeds(session)).not.toContain('TIMELINE_HISTORY 2');
    }
  });

  it('is whether it is another walcast, when it is no standby and behind', async () => {
    for (const [version, isRelay] of [
      [{ walcast_version: '1.0.0' }, true],
      [{}, false],
    ] as const) {
      await using upstream = await ScriptedUpstream.listen();
      await using rig = new ReceiverRig({
        port: upstream.port,
        stored: () => ({ timeline: toTimelineId(1), receivedLsn: lsn('0/6000000') }),
      });
      rig.receiver.start();
      const session = await upstream.accept();
      await session.login();
      const settings = { ...playedServer().settings, ...version };
      await session.identify(playedServer({ settings }));
      expect(rig.identities[0]).toMatchObject({ isRelay });
      expect(session.commands).toContain('SHOW walcast_version');
    }
  });

  it('is the same when it is before the beginning of its own timeline, as a walcast in mid-record is', async () => {
    for (const [xlogPos, isRelay] of [
      ['0/500007F', true],
      ['0/5000080', false],
    ] as const) {
      await using upstream = await ScriptedUpstream.listen();
      await using rig = new ReceiverRig({
        port: upstream.port,
        stored: () => ({ timeline: toTimelineId(1), receivedLsn: lsn('0/6000000') }),
      });
      rig.receiver.start();
      const session = await upstream.accept();
      await session.login();
      const settings = { ...playedServer().settings, walcast_version: '1.0.0' };
      await session.identify(promoted(3, { settings, xlogPos }));
      expect(rig.identities[0]).toMatchObject({ isRelay });
    }
  });
});

describe('a drain', () => {
  it('follows to no other timeline', async () => {
    await using upstream = await ScriptedUpstream.listen();
    const { rig, session } = await streaming(upstream, { clock: new ManualClock() });
    await using _ = rig;
    rig.receiver.quiesce();
    await endTimeline(session);
    session.send(nextTimeline('2', '0/5000040'));
    await session.closed;
    await rig.untilState('disconnected');
    expect(rig.receiver.status().detail).toContain('walcast is stopping');
    expect(rig.ends).toEqual([]);
  });
});

/** A server on `timeline` with that history file. */
function forked(content: string, timeline = 2, name?: string): PlayedServer {
  const own = name ?? `${timeline.toString(16).padStart(8, '0')}.history`;
  return promoted(timeline, { histories: { [timeline]: [own, content] } });
}
