// Is a stream that works left only for a server that would be followed, and is that one given the moment it needs to catch up?
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Log } from '../../src/base/log.ts';
import { silentLog } from '../../src/base/log.ts';
import { DISCOVERY_CATCH_UP_MS } from '../../src/config/limits.ts';
import { dial } from '../../src/net/dial.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { formatLsn, INVALID_LSN } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { rootHistory, toTimelineId } from '../../src/pg/timeline.ts';
import { UpstreamDiscovery } from '../../src/relay/upstream-discovery.ts';
import type { StoredWal } from '../../src/relay/upstream-gate.ts';
import type { UpstreamIdentity } from '../../src/walreceiver/ports.ts';
import type { UpstreamHost } from '../../src/walreceiver/upstream-target.ts';
import { memberAt } from '../harness/patroni-api.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { bodyOf } from '../support/patroni-samples.ts';
import type { SampleMember } from '../support/patroni-samples.ts';
import { lsn } from '../support/receiver-rig.ts';
import {
  answer,
  errorResponse,
  playedServer,
  READY,
  ScriptedUpstream,
} from '../support/scripted-upstream.ts';
import type { PlayedServer, ScriptedSession } from '../support/scripted-upstream.ts';
import { targetFor } from '../support/upstream-target.ts';

const TIMELINE = toTimelineId(1);
const END = lsn('0/5000060');
const STORED: StoredWal = {
  systemIdentifier: playedServer().systemIdentifier,
  major: 18,
  segmentSize: toSegmentSize(16 << 20),
  timeline: TIMELINE,
  history: rootHistory(TIMELINE),
  oldestLsn: lsn('0/3000000'),
  nextLsn: END,
  receivedLsn: END,
  isFull: false,
};

/** Where our stream comes from: a port that nobody dials here. */
const FOLLOWED: UpstreamHost = { host: '127.0.0.1', address: '127.0.0.1', port: 9, password: null };

class Rig {
  readonly clock = new ManualClock();
  readonly lines: string[] = [];
  readonly gone: UpstreamHost[] = [];
  hostsChanged = 0;
  streaming: UpstreamHost | null = FOLLOWED;
  stored: StoredWal | null = STORED;
  attributes = 'any';
  members: readonly SampleMember[] = [];
  readonly discovery: UpstreamDiscovery;

  constructor() {
    const log: Log = {
      ...silentLog,
      info: (text, fields) => this.lines.push(`${text} ${JSON.stringify(fields)}`),
      child: () => log,
    };
    this.discovery = new UpstreamDiscovery({
      clock: this.clock,
      log,
      dial,
      httpGet: () => Promise.resolve({ status: 200, body: bodyOf({ members: this.members }) }),
      random: () => 0.5,
      applicationName: () => 'walcast',
      target: () => this.#target(),
      stored: () => this.stored,
      streamingFrom: () => this.streaming,
      onHostsChanged: () => {
        this.hostsChanged += 1;
      },
      changeOver: (first) => this.gone.push(first),
    });
  }

  #target(): ReturnType<typeof targetFor> {
    const hosts = (this.discovery.hosts() ?? []).map(({ host, port }) => ({
      host,
      address: host,
      port,
      password: null,
    }));
    const attributes = `target_session_attrs=${this.attributes}`;
    return targetFor(`host=127.0.0.1 user=replicator sslmode=disable ${attributes}`, { hosts });
  }

  /** The candidate becomes known, and is waited for until it is looked at. */
  async prefer(candidate: ScriptedUpstream): Promise<ScriptedSession> {
    this.members = [
      memberAt('candidate', candidate.port, { timeline: 1 }),
      memberAt('leader', FOLLOWED.port, { role: 'leader', timeline: 1 }),
    ];
    this.discovery.streaming(true);
    this.discovery.follow({ urls: ['http://patroni'], preference: { kind: 'standby' } });
    while (candidate.accepted === 0) {
      await nextTurn();
      this.clock.advance(1_000);
    }
    return await candidate.accept();
  }

  async until(what: string, check: () => boolean): Promise<void> {
    for (let turn = 0; !check(); turn += 1) {
      if (turn > 20_000) throw new Error(`never: ${what}`);
      await nextTurn();
    }
  }
}

/** Answers commands until the client closes. */
async function serve(session: ScriptedSession, server: PlayedServer): Promise<void> {
  const parameters = await session.login(server);
  expect(parameters.get('application_name')).toBe('walcast_probe');
  try {
    for (;;) session.send(answer(server, await session.command()), READY);
  } catch {
    session.end();
    await session.closed;
  }
}

function identity(server: PlayedServer): UpstreamIdentity {
  return {
    systemIdentifier: server.systemIdentifier,
    timeline: TIMELINE,
    xlogPos: lsn(server.xlogPos),
    serverVersion: '18.4',
    facts: versionFacts(18),
    isInRecovery: true,
    isRelay: false,
    segmentSize: toSegmentSize(16 << 20),
    parameters: new Map(),
    settings: new Map(),
    history: rootHistory(TIMELINE),
    historyFile: null,
    histories: new Map(),
    slotRestartLsn: INVALID_LSN,
  };
}

const STANDBY = { settings: { ...playedServer().settings, in_hot_standby: 'on' }, isStandby: true };

let rig: Rig;
let candidate: ScriptedUpstream;

beforeEach(async () => {
  rig = new Rig();
  candidate = await ScriptedUpstream.listen();
});

afterEach(async () => {
  rig.discovery.stop();
  await candidate[Symbol.asyncDispose]();
});

describe('a preferred server', () => {
  test('that would be followed is gone over to, and the session beside ends when it streams', async () => {
    const session = await rig.prefer(candidate);
    const served = serve(session, playedServer(STANDBY));
    await rig.until('it is gone over to', () => rig.gone.length > 0);
    expect(rig.gone).toMatchObject([{ host: '127.0.0.1', port: candidate.port }]);
    expect(session.commands.filter((command) => !command.startsWith('SHOW'))).toEqual([
      'IDENTIFY_SYSTEM',
    ]);
    rig.streaming = { ...FOLLOWED, port: candidate.port };
    rig.discovery.streaming(false);
    rig.discovery.streaming(true);
    await served;
    rig.clock.advance(600_000);
    expect(candidate.accepted).toBe(1);
  });

  test.each<[what: string, server: Partial<PlayedServer>, attributes: string, reason: RegExp]>([
    ['is another system', { systemIdentifier: '7' }, 'any', /system identifier differs/],
    ['is far behind us', { ...STANDBY, xlogPos: '0/3000060' }, 'any', /waiting for the upstream/],
    ['lost WAL', { xlogPos: '0/3000060' }, 'any', /it lost WAL/],
    ['lost a little WAL', { xlogPos: '0/5000000' }, 'any', /it lost WAL/],
    ['is of another kind', STANDBY, 'read-write', /session is read-only/],
  ])('that %s is not', async (_what, server, attributes, reason) => {
    rig.attributes = attributes;
    const session = await rig.prefer(candidate);
    await serve(session, playedServer(server));
    await rig.until('it is told', () =>
      rig.lines.some((line) => line.includes('does not go over')),
    );
    expect(rig.lines.at(-1)).toMatch(reason);
    expect(rig.gone).toEqual([]);
  });

  test('is not gone over to once the stream is lost: the next one begins as the list says', async () => {
    const session = await rig.prefer(candidate);
    rig.streaming = null;
    rig.discovery.streaming(false);
    await serve(session, playedServer(STANDBY));
    expect(rig.gone).toEqual([]);
  });

  test('that lets nobody in is not', async () => {
    const session = await rig.prefer(candidate);
    await session.startup();
    session.send(errorResponse('28000', 'no pg_hba.conf entry', 'FATAL'));
    session.end();
    await rig.until('it is told', () => rig.lines.some((line) => line.includes('no pg_hba.conf')));
    expect(rig.gone).toEqual([]);
  });

  test('that says nothing is given up, and asked again later', async () => {
    await rig.prefer(candidate);
    const before = rig.clock.nowMs();
    rig.clock.advance(6_000);
    await rig.until('it is told', () => rig.lines.some((line) => line.includes('within 5000 ms')));
    while (candidate.accepted === 1) {
      await nextTurn();
      rig.clock.advance(1_000);
    }
    expect(rig.clock.nowMs() - before).toBeGreaterThan(25_000);
    expect(rig.gone).toEqual([]);
  });

  test('is not kept waiting on the session beside when nothing comes of the change', async () => {
    const session = await rig.prefer(candidate);
    const served = serve(session, playedServer(STANDBY));
    await rig.until('it is gone over to', () => rig.gone.length > 0);
    rig.discovery.streaming(false);
    rig.streaming = null;
    rig.members = [];
    rig.clock.advance(15_000);
    await served;
  });

  test('is not looked at any more after the end', async () => {
    const session = await rig.prefer(candidate);
    rig.discovery.stop();
    await session.closed;
    expect(rig.gone).toEqual([]);
  });
});

describe('a preferred server a moment behind us', () => {
  const BEHIND = '0/4FFF000';
  const MORE = lsn('0/5000100');

  /** It comes to where we were, and then more came to us. */
  async function goneOver(server: PlayedServer): Promise<void> {
    const session = await rig.prefer(candidate);
    void serve(session, server);
    rig.clock.setTimer(400, () => {
      server.xlogPos = formatLsn(END);
    });
    await rig.until('it is gone over to', () => {
      passTime();
      return rig.gone.length > 0;
    });
    rig.discovery.streaming(false);
    rig.streaming = null;
    rig.stored = { ...STORED, nextLsn: MORE, receivedLsn: MORE };
  }

  function passTime(): void {
    const ms = rig.clock.nextTimerMs();
    if (ms !== null && ms <= 50) rig.clock.advance(ms);
  }

  /** What the gate is told, while the clock goes on. */
  async function freshened(server: PlayedServer, port = candidate.port): Promise<[Lsn, number]> {
    const before = rig.clock.nowMs();
    let fresh: UpstreamIdentity | null = null;
    const waiting = rig.discovery
      .freshen(identity(server), { host: '127.0.0.1', port })
      .then((answered) => {
        fresh = answered;
      });
    while (fresh === null) {
      await nextTurn();
      passTime();
    }
    await waiting;
    return [(fresh as UpstreamIdentity).xlogPos, rig.clock.nowMs() - before];
  }

  test('is waited for until it has caught up', async () => {
    const server = playedServer({ ...STANDBY, xlogPos: BEHIND });
    await goneOver(server);
    rig.clock.setTimer(400, () => {
      server.xlogPos = formatLsn(MORE);
    });
    const [position, waitedMs] = await freshened(server);
    expect(position).toBe(MORE);
    expect(waitedMs).toBeGreaterThanOrEqual(400);
    expect(waitedMs).toBeLessThan(700);
  });

  test('is not waited for longer than two seconds', async () => {
    const server = playedServer({ ...STANDBY, xlogPos: BEHIND });
    await goneOver(server);
    const [position, waitedMs] = await freshened(server);
    expect(position).toBe(END);
    expect(waitedMs).toBeGreaterThanOrEqual(DISCOVERY_CATCH_UP_MS);
    expect(waitedMs).toBeLessThan(DISCOVERY_CATCH_UP_MS + 300);
  });

  test('is waited for alone: another host that is behind is not', async () => {
    const server = playedServer({ ...STANDBY, xlogPos: BEHIND });
    await goneOver(server);
    expect(await freshened(server, 9)).toEqual([END, 0]);
  });

  test('is not gone over to when it stands still: the stream goes on where it is', async () => {
    const session = await rig.prefer(candidate);
    const served = serve(session, playedServer({ ...STANDBY, xlogPos: BEHIND }));
    const before = rig.clock.nowMs();
    await rig.until('it is told', () => {
      passTime();
      return rig.lines.some((line) => line.includes('it stands still at 0/4FFF000'));
    });
    expect(rig.clock.nowMs() - before).toBeGreaterThanOrEqual(DISCOVERY_CATCH_UP_MS);
    await served;
    expect(rig.gone).toEqual([]);
  });
});

describe('the list', () => {
  test('has the server that streams, although Patroni does not name it any more', async () => {
    rig.members = [memberAt('a', 1, { role: 'leader', timeline: 1 })];
    rig.discovery.follow({ urls: ['http://patroni'], preference: { kind: 'primary' } });
    await rig.until('it is known', () => rig.hostsChanged > 0);
    const a = { host: '127.0.0.1', hostaddr: null, port: 1 };
    expect(rig.discovery.hosts()).toEqual([a, { host: '127.0.0.1', hostaddr: null, port: 9 }]);
    rig.streaming = { host: 'pg', address: '127.0.0.1', port: 9, password: null };
    expect(rig.discovery.hosts()).toEqual([a, { host: 'pg', hostaddr: '127.0.0.1', port: 9 }]);
    rig.streaming = null;
    expect(rig.discovery.hosts()).toEqual([a]);
  });

  test('is that of the connection string before the first answer, and without discovery', async () => {
    expect(rig.discovery.hosts()).toBeNull();
    rig.members = [memberAt('a', 1, { role: 'leader', timeline: 1 })];
    rig.discovery.follow({ urls: ['http://patroni'], preference: { kind: 'primary' } });
    expect(rig.discovery.hosts()).toBeNull();
    await rig.discovery.firstAnswer();
    expect(rig.discovery.hosts()).toHaveLength(2);
    rig.discovery.follow(null);
    expect([rig.discovery.hosts(), rig.discovery.status()]).toEqual([null, null]);
  });
});
