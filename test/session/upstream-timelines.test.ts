// The upstream side of a relay with a real store, and a played upstream that leaves a timeline: what is kept, what is set
// aside, and what is reported.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { openLog } from '../../src/base/log.ts';
import { loadConfig } from '../../src/config/load.ts';
import { formatLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import { UpstreamFollowing } from '../../src/relay/upstream-following.ts';
import { WalStore } from '../../src/wal/wal-store.ts';
import { eventually } from '../support/eventually.ts';
import { message, raw } from '../support/naive-writer.ts';
import {
  COPY_BOTH,
  complete,
  playedServer,
  READY,
  rows,
  ScriptedUpstream,
  walData,
} from '../support/scripted-upstream.ts';
import type { PlayedServer, ScriptedSession } from '../support/scripted-upstream.ts';
import { storeFlushed, storeOptions } from '../support/store-rig.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const MESSAGE_BYTES = 65_536n;

let directory: string;
let store: WalStore;
let following: UpstreamFollowing;
let logLines: string[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walcast-timelines-'));
  store = await WalStore.open(storeOptions(join(directory, 'data')));
  logLines = [];
});

afterEach(async () => {
  following.stop();
  await store.close();
  await rm(directory, { recursive: true });
});

function follow(upstream: ScriptedUpstream): void {
  const conninfo = `host=127.0.0.1 port=${upstream.port} user=replicator sslmode=disable`;
  const loaded = loadConfig({
    flags: Object.entries({ conninfo, slot: '', wal_receiver_status_interval: '0' }).map(
      ([key, text]) => ({ path: `upstream.${key}`, text, flag: '--set' }),
    ),
    env: {},
    file: null,
    workingDirectory: directory,
  });
  if ('errors' in loaded) throw new Error('a mistake in the configuration');
  following = new UpstreamFollowing({
    settings: loaded.config.upstream,
    clock: systemClock,
    log: openLog({
      level: 'info',
      format: 'text',
      destination: { write: (line) => void logLines.push(line) },
    }),
    policy: () => null,
    standbys: () => [],
    onFatal: (error) => {
      throw error;
    },
  });
  store.onFlush(() => following.positionsMoved());
  following.start(store);
}

/** WAL of a timeline that goes on for a while, and of the next one, which left it at `switchLsn`. */
interface Fork {
  readonly left: WalFixture;
  readonly next: WalFixture;
  readonly switchLsn: Lsn;
}

function fork(sizes: { shared: number; left: number; next: number }): Fork {
  const [left, next] = [new WalFixture(), new WalFixture()];
  left.fill(sizes.shared);
  next.fill(sizes.shared);
  const switchLsn = next.endLsn;
  left.fill(sizes.left, 2);
  next.history = historyOf(switchLsn);
  next.fill(sizes.next, 3);
  return { left, next, switchLsn };
}

function historyOf(switchLsn: Lsn): TimelineHistory {
  return {
    timeline: toTimelineId(2),
    ancestors: [{ timeline: toTimelineId(1), endLsn: switchLsn }],
  };
}

function serverOf(wal: WalFixture, overrides: Partial<PlayedServer> = {}): PlayedServer {
  const { wal_segment_size: _, ...settings } = playedServer().settings;
  return playedServer({
    systemIdentifier: wal.systemIdentifier,
    serverVersion: '15.1',
    settings: { ...settings, wal_segment_size: '1MB' },
    xlogPos: formatLsn(wal.endLsn),
    ...overrides,
  });
}

function promoted({ next, switchLsn }: Fork): PlayedServer {
  return serverOf(next, {
    timeline: '2',
    histories: { 2: ['00000002.history', `1\t${formatLsn(switchLsn)}\tno recovery target\n`] },
  });
}

function send(session: ScriptedSession, wal: WalFixture, startLsn: bigint, endLsn: bigint): void {
  for (let at = startLsn; at < endLsn; at += MESSAGE_BYTES) {
    const end = at + MESSAGE_BYTES < endLsn ? at + MESSAGE_BYTES : endLsn;
    session.send(walData(at, wal.slice(at, end)));
  }
}

function startOf(command: string): { startLsn: bigint; timeline: string } {
  const [, high = '', low = '', timeline = ''] =
    /^START_REPLICATION ([0-9A-F]+)\/([0-9A-F]+) TIMELINE (\d+)$/.exec(command) ?? [];
  return { startLsn: (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`), timeline };
}

/** Reads status updates until one reports `lsn` as flushed. */
async function flushed(session: ScriptedSession, lsn: bigint): Promise<void> {
  for (;;) {
    const { flush } = await session.status();
    if (flush >= lsn) {
      expect(flush).toBe(lsn);
      return;
    }
  }
}

/** The server says that timeline 2 goes on at `switchLsn`; what the walreceiver said until then is read. */
async function endTimeline(session: ScriptedSession, switchLsn: Lsn): Promise<void> {
  session.send(message('c'));
  while ((await session.next()).type !== 'c');
  session.send(
    raw(
      rows(['next_tli', 'next_tli_startpos'], [['2', formatLsn(switchLsn)]]),
      complete('START_STREAMING'),
      complete('START_REPLICATION'),
      READY,
    ),
  );
}

/** The store begins where that WAL does. */
async function beginStore(wal: WalFixture): Promise<void> {
  const { systemIdentifier, facts, segmentSize, history, startLsn } = wal;
  const server = { serverVersion: '15.1', parameters: new Map(), settings: new Map() };
  const { timeline } = history;
  await store.initialize(
    { systemIdentifier, facts, segmentSize, timeline, history, ...server },
    startLsn,
  );
}

/** A first stream on timeline 1, all of it stored and acknowledged. */
async function streamLeft(upstream: ScriptedUpstream, left: WalFixture): Promise<ScriptedSession> {
  await beginStore(left);
  follow(upstream);
  const session = await upstream.accept();
  await session.stream(serverOf(left));
  send(session, left, left.startLsn, left.endLsn);
  await flushed(session, left.endLsn);
  return session;
}

async function segmentsOf(folder: string): Promise<string[]> {
  const names = await readdir(join(directory, 'data', folder));
  return names.filter((name) => /^[0-9A-F]{24}/.test(name)).toSorted();
}

describe('an upstream that left the timeline before what was acknowledged', () => {
  it('is followed; what it does not have is set aside, and nothing of it is reported to it', async () => {
    const wal = fork({ shared: 1_200_000, left: 1_000_000, next: 400_000 });
    await using upstream = await ScriptedUpstream.listen();
    const first = await streamLeft(upstream, wal.left);
    first.reset();
    const session = await upstream.accept();
    await session.login(promoted(wal));
    const start = startOf(await session.identify(promoted(wal)));
    expect(start).toMatchObject({ timeline: '2', startLsn: 0x3100000n });
    session.send(COPY_BOTH);
    const begun = await session.status();
    expect(begun).toMatchObject({ write: wal.switchLsn, flush: wal.switchLsn, apply: 0n });
    send(session, wal.next, start.startLsn, wal.next.endLsn);
    await flushed(session, wal.next.endLsn);
    expect(following.status()).toMatchObject({
      timeline: 2,
      timelineSwitches: 1,
      heldState: null,
      reported: { flushLsn: wal.next.endLsn },
    });
    expect(store.timeline()).toBe(2);
    expect(store.reportedFlushLsn()).toBe(wal.next.endLsn);
    expect(store.deadWal()).toMatchObject({
      files: 2,
      acknowledged: {
        timeline: 1,
        reportedFlushLsn: wal.left.endLsn,
        switchLsn: wal.switchLsn,
        bytes: Number(wal.left.endLsn - wal.switchLsn),
      },
    });
    expect(await segmentsOf('dead')).toEqual([
      '000000010000000000000031.partial',
      '000000010000000000000032',
    ]);
    expect(following.delay().lagSeconds).toBe(0);
  });

  it('is followed to its switch point only, when only half a record lies behind it', async () => {
    const wal = fork({ shared: 1_200_000, left: 40_000, next: 100_000 });
    await using upstream = await ScriptedUpstream.listen();
    // The last record that was sent is cut, so it was never acknowledged.
    const cut = wal.switchLsn + 16n;
    await beginStore(wal.left);
    follow(upstream);
    const session = await upstream.accept();
    await session.stream(serverOf(wal.left));
    send(session, wal.left, wal.left.startLsn, cut);
    await flushed(session, wal.switchLsn);
    await endTimeline(session, wal.switchLsn);
    const start = startOf(await session.identify(promoted(wal)));
    expect(start).toMatchObject({ timeline: '2' });
    session.send(COPY_BOTH);
    await session.status();
    send(session, wal.next, start.startLsn, wal.next.endLsn);
    await flushed(session, wal.next.endLsn);
    expect(upstream.accepted).toBe(1);
    expect(store.deadWal().acknowledged).toBeNull();
    expect(following.status()).toMatchObject({ timelineSwitches: 1 });
  });

  it.each([
    ['page', 'up to there', 0n],
    ['record', 'up to there', 0n],
    ['page', 'to the middle of its rest', 9_000n],
    ['record', 'to the middle of its rest', 9_000n],
  ] as const)(
    'is followed from the middle of a record, verify: %s, received %s',
    async (verify, _to, more) => {
      await store.close();
      store = await WalStore.open(storeOptions(join(directory, 'data'), { verify }));
      const [left, next] = [new WalFixture(), new WalFixture()];
      left.fill(1_200_000);
      next.fill(1_200_000);
      const cutLsn = left.endLsn;
      left.record({ body: Buffer.alloc(20_000, 0x55) });
      const switchLsn = toLsn((cutLsn / 8192n + 1n) * 8192n);
      next.history = historyOf(switchLsn);
      next.crashInside(20_000);
      next.fill(100_000, 3);
      await using upstream = await ScriptedUpstream.listen();
      await beginStore(left);
      follow(upstream);
      const session = await upstream.accept();
      await session.stream(serverOf(left));
      send(session, left, left.startLsn, switchLsn + more);
      await flushed(session, cutLsn);
      await endTimeline(session, switchLsn);
      const server = promoted({ left, next, switchLsn });
      const start = startOf(await session.identify(server));
      expect(start).toEqual({ timeline: '2', startLsn: 0x3100000n });
      session.send(COPY_BOTH);
      // What was promised is before the record that was cut, and stays promised.
      expect((await session.status()).flush).toBeGreaterThanOrEqual(cutLsn);
      send(session, next, start.startLsn, next.endLsn);
      await flushed(session, next.endLsn);
      expect(store.deadWal().acknowledged).toBeNull();
      expect(upstream.accepted).toBe(1);
    },
  );
});

describe('an upstream whose bytes before the switch point are others', () => {
  it('is diverged, after it was asked three times, and changes nothing that is stored', async () => {
    const wal = fork({ shared: 1_200_000, left: 0, next: 300_000 });
    await using upstream = await ScriptedUpstream.listen();
    const first = await streamLeft(upstream, wal.left);
    first.reset();
    let before: Buffer | null = null;
    for (let round = 0; round < 3; round += 1) {
      const session = await upstream.accept();
      await session.login(promoted(wal));
      const { startLsn } = startOf(await session.identify(promoted(wal)));
      session.send(COPY_BOTH);
      await session.status();
      const name = '000000020000000000000031';
      before ??= await readFile(join(directory, 'data', 'pg_wal', name));
      const bytes = wal.next.slice(startLsn, wal.next.endLsn);
      // Behind the page header, in the body of a record.
      bytes[100_000] = (bytes[100_000] ?? 0) ^ 1;
      session.send(walData(startLsn, bytes));
      await session.closed;
      const after = await readFile(join(directory, 'data', 'pg_wal', name));
      expect(after.equals(before)).toBe(true);
    }
    await eventually(() => following.status()?.heldState).toBe('diverged');
    expect(following.status()?.detail).toContain('walcast store reset');
    expect(store.positions().receivedLsn).toBe(wal.switchLsn);
  });
});

describe('an upstream that left the timeline behind our end', () => {
  it('sends ours up to there first', async () => {
    const wal = fork({ shared: 1_200_000, left: 0, next: 100_000 });
    await using upstream = await ScriptedUpstream.listen();
    const early = new WalFixture();
    early.fill(700_000);
    const first = await streamLeft(upstream, early);
    first.reset();
    const session = await upstream.accept();
    await session.login(promoted(wal));
    const start = startOf(await session.identify(promoted(wal)));
    expect(start).toEqual({ timeline: '1', startLsn: early.endLsn });
    session.send(COPY_BOTH);
    await session.status();
    send(session, wal.next, start.startLsn, wal.switchLsn);
    await storeFlushed(store, wal.switchLsn);
    expect(following.status()).toMatchObject({ state: 'catchup', timelineSwitches: 0 });
  });
});

describe('a drain', () => {
  it('leaves the store on its timeline, whatever the upstream is by then', async () => {
    const wal = fork({ shared: 1_200_000, left: 0, next: 100_000 });
    await using upstream = await ScriptedUpstream.listen();
    const first = await streamLeft(upstream, wal.left);
    await following.quiesce();
    first.reset();
    const session = await upstream.accept();
    await session.login(promoted(wal));
    await expect(session.identify(promoted(wal))).rejects.toThrow(/got X|the client closed/);
    await eventually(() => following.status()?.heldState).toBe('waiting');
    expect(store.timeline()).toBe(1);
    expect(store.positions().receivedLsn).toBe(wal.left.endLsn);
  });

  it('waits for a switch that has begun: only then it is known where the end is', async () => {
    const wal = fork({ shared: 1_200_000, left: 100_000, next: 100_000 });
    let begin = (): void => {};
    let goOn = (): void => {};
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const mayGoOn = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    await store.close();
    store = await WalStore.open({
      ...storeOptions(join(directory, 'data')),
      onSwitchStep: async () => {
        begin();
        await mayGoOn;
      },
    });
    await using upstream = await ScriptedUpstream.listen();
    const first = await streamLeft(upstream, wal.left);
    first.reset();
    const session = await upstream.accept();
    await session.login(promoted(wal));
    const identified = session.identify(promoted(wal)).catch(() => {});
    await begun;
    let isQuiet = false;
    const quiet = following.quiesce().then(() => {
      isQuiet = true;
    });
    await nextTurn();
    expect(isQuiet).toBe(false);
    goOn();
    await quiet;
    expect(store.timeline()).toBe(2);
    expect(store.positions().receivedLsn).toBe(wal.switchLsn);
    session.reset();
    await identified;
  });
});
