// What becomes of walcast when something goes wrong in its own process: it stands still for a while, its heap is full, its
// writer thread dies, somebody sets the clock? (F57, F58, F59, F60, F61)
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { statusUpdate } from '../support/raw-client.ts';
import type { StreamReader } from '../support/raw-client.ts';
import { requires } from '../support/requirements.ts';
import { httpJson } from './fault-support.ts';
import { ProcessRig, confirm, playedWal } from './process-rig.ts';

const FAILPOINTS = fileURLToPath(new URL('../support/failpoints.mjs', import.meta.url));
const TIMEOUT_MS = 2_000;
/** Timeouts that the standing still is longer than, on both sides. */
const SHORT_TIMEOUTS = `wal_sender_timeout: ${TIMEOUT_MS}ms\n`;
const TICK_MS = 200;

let workspace: Workspace;
let rigs = 0;

beforeAll(async () => {
  workspace = await openWorkspace(await serverUser());
});

afterAll(async () => {
  await workspace.close();
});

function open(byteCount?: number): Promise<ProcessRig> {
  rigs += 1;
  const wal = byteCount === undefined ? undefined : playedWal(byteCount);
  return ProcessRig.open(workspace, `store-${rigs}`, wal);
}

/** Starts walcast with a fault in it that {@link SET_OFF} sets off. */
async function startWith(rig: ProcessRig, failpoint: string): Promise<void> {
  await rig.startStreaming({
    extraYaml: SHORT_TIMEOUTS,
    receiverTimeoutMs: TIMEOUT_MS,
    environment: {
      NODE_OPTIONS: `--import ${FAILPOINTS}`,
      WALCAST_TEST_FAILPOINT: failpoint,
    },
  });
}

const SET_OFF = 'SIGUSR2';

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => systemClock.setTimer(ms, resolve));
}

/** Both peers of walcast say something now and then, whatever walcast does. Returns how to end it. */
function keepTalking(rig: ProcessRig, reader: StreamReader): () => void {
  let isOver = false;
  const talk = async (): Promise<void> => {
    while (!isOver) {
      rig.upstream.keepAlive();
      reader.client.send(statusUpdate(reader.endLsn, reader.endLsn, reader.endLsn));
      await pause(TICK_MS);
    }
  };
  void talk();
  return () => {
    isOver = true;
  };
}

describe.concurrent('a walcast that stands still for longer than every timeout, while its peers talk,', () => {
  it.each([
    [
      'because its event loop is busy',
      async (rig: ProcessRig): Promise<void> => {
        await rig.signal(SET_OFF);
      },
    ],
    [
      'because it was stopped',
      async (rig: ProcessRig): Promise<void> => {
        await rig.signal('SIGSTOP');
        await pause(TIMEOUT_MS + 1_500);
        await rig.signal('SIGCONT');
      },
    ],
  ])('%s, takes nobody for silent, says how long it was, and goes on', async (_, standStill) => {
    await using rig = await open();
    await startWith(rig, 'busy');
    const reader = await rig.standby();
    await reader.readTo(rig.upstream.fixture.endLsn);
    const stop = keepTalking(rig, reader);
    const connections = rig.upstream.accepted;
    const from = rig.started.process.log.length;
    await standStill(rig);
    const line = await rig.started.process.waitForLog(/stood still for/, { from });
    expect(Number(/"stall_ms":(\d+)/.exec(line)?.[1])).toBeGreaterThan(TIMEOUT_MS + 500);
    rig.upstream.sendMore(50_000);
    const { endLsn } = rig.upstream.fixture;
    expect(await reader.readTo(endLsn)).toBeNull();
    await rig.untilFlushed();
    // Long enough for whatever was due to happen.
    await pause(TIMEOUT_MS / 2);
    stop();
    expect(rig.log).not.toMatch(/replication timeout|nothing was heard|silen/);
    expect(rig.upstream.accepted).toBe(connections);
    confirm(reader, endLsn);
    await rig.signal('SIGTERM');
    expect((await rig.ended()).end).toEqual({ exitCode: 0, signal: null });
  });
});

describe.concurrent('a walcast', () => {
  it.each(['thread-ends', 'thread-throws'])(
    'whose writer thread dies (%s) ends within two seconds and says so',
    async (failpoint) => {
      await using rig = await open();
      await startWith(rig, failpoint);
      const { endLsn } = rig.upstream.fixture;
      const startMs = systemClock.nowMs();
      await rig.signal(SET_OFF);
      await rig.started.process.waitForLog(/walcast ends: WAL could not be made durable/);
      expect(systemClock.nowMs() - startMs).toBeLessThan(2_000);
      rig.upstream.sendMore(50_000);
      expect(await rig.started.process.ended).toEqual({ exitCode: 1, signal: null });
      for (const { flush } of rig.upstream.statuses) expect(flush <= endLsn).toBe(true);
      await rig.startStreaming();
    },
  );

  it('that crashes while a call to the disk hangs ends within two seconds, and acknowledges nothing more', async () => {
    await using rig = await open();
    const fifo = join(workspace.directory, 'fifo');
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0);
    await rig.startStreaming({
      environment: {
        NODE_OPTIONS: `--import ${FAILPOINTS}`,
        WALCAST_TEST_FAILPOINT: 'crash-in-call',
        WALCAST_TEST_FIFO: fifo,
      },
    });
    const reader = await rig.standby();
    await reader.readTo(rig.upstream.fixture.endLsn);
    const { endLsn } = rig.upstream.fixture;
    await rig.signal(SET_OFF);
    await rig.started.process.waitForLog(/walcast crashed: planted/);
    const startMs = systemClock.nowMs();
    rig.upstream.sendMore(50_000);
    expect(await reader.nextOther()).toBeNull();
    const { end, wasStuck } = await rig.ended();
    expect(wasStuck).toBe(false);
    expect(end).toEqual({ exitCode: null, signal: 'SIGKILL' });
    // The promise is two; a busy machine starts late.
    expect(systemClock.nowMs() - startMs).toBeLessThan(4_000);
    expect(rig.log).toMatch(/walcast kills itself/);
    for (const { flush } of rig.upstream.statuses) expect(flush <= endLsn).toBe(true);
  });

  it('whose heap is full dies as in a crash, and the next start has what was acknowledged', async () => {
    await using rig = await open();
    await rig.startStreaming({
      environment: {
        NODE_OPTIONS: `--import ${FAILPOINTS} --max-old-space-size=64`,
        WALCAST_TEST_FAILPOINT: 'heap',
      },
    });
    const { endLsn } = rig.upstream.fixture;
    await rig.signal(SET_OFF);
    // What was received before is acknowledged; what comes while it dies is not, or is on the disk.
    rig.upstream.sendMore(50_000);
    const { end } = await rig.ended();
    expect(end.exitCode ?? end.signal).not.toBe(0);
    expect(rig.log).toMatch(/heap/);
    const acknowledged = rig.upstream.statuses.map(({ flush }) => flush).at(-1) ?? endLsn;
    await rig.startStreaming();
    const found = /"lsn":"([^"]+)".*stored WAL ends here/.exec(rig.log)?.[1] ?? '0/0';
    expect(Number.parseInt(found.split('/')[1] ?? '', 16)).toBeGreaterThanOrEqual(
      Number(acknowledged),
    );
  });

  it('with little heap stays within it while WAL flows past a standby that does not read', async () => {
    await using rig = await open();
    await rig.startStreaming({
      environment: { NODE_OPTIONS: '--max-old-space-size=48' },
      drainTimeout: '1s',
    });
    const stalled = await rig.standby();
    stalled.client.pause();
    const reader = await rig.standby();
    for (let round = 0; round < 16; round += 1) {
      rig.upstream.sendMore(4_000_000);
      await reader.readTo(rig.upstream.fixture.endLsn);
      reader.chunks.splice(0);
    }
    await rig.untilFlushed();
    expect(rig.started.process.end, rig.log).toBeNull();
    confirm(reader, rig.upstream.fixture.endLsn);
    await rig.signal('SIGTERM');
    expect((await rig.ended()).end).toEqual({ exitCode: 0, signal: null });
  });
});

/** The library that gives a process another clock; null where it is not installed. */
function clockLibrary(): string | null {
  const places = readdirSync('/usr/lib').map(
    (name) => `/usr/lib/${name}/faketime/libfaketime.so.1`,
  );
  return places.find((place) => existsSync(place)) ?? null;
}

requires('faketime').describe('a clock that is set', () => {
  it('an hour ahead, an hour back, and beyond 2038 ends no session, and no lag is below zero', async () => {
    await using rig = await open();
    const file = join(workspace.directory, 'clock');
    const set = (text: string): void => writeFileSync(file, `${text}\n`);
    set('+0');
    await rig.startStreaming({
      extraYaml: SHORT_TIMEOUTS,
      receiverTimeoutMs: TIMEOUT_MS,
      environment: {
        LD_PRELOAD: clockLibrary() ?? '',
        FAKETIME_TIMESTAMP_FILE: file,
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      },
    });
    const reader = await rig.standby();
    await reader.readTo(rig.upstream.fixture.endLsn);
    const stop = keepTalking(rig, reader);
    const connections = rig.upstream.accepted;
    for (const [text, year] of [
      ['+3600', null],
      ['-3600', null],
      ['@2038-01-19 03:14:05', 2038],
      ['+0', null],
    ] as const) {
      set(text);
      // Past the timeouts, were they of this clock.
      for (let round = 0; round < 5; round += 1) {
        rig.upstream.sendMore(20_000);
        expect(await reader.readTo(rig.upstream.fixture.endLsn)).toBeNull();
        confirm(reader, rig.upstream.fixture.endLsn);
        await pause(TIMEOUT_MS / 4);
        await expectNoNegativeLag(rig);
      }
      if (year !== null) {
        const status = await httpJson(rig.started.httpPort, '/api/v1/upstream');
        expect(new Date(String(status['last_message_at'])).getUTCFullYear()).toBe(year);
      }
      await rig.untilFlushed();
    }
    stop();
    expect(rig.upstream.accepted).toBe(connections);
    expect(rig.log).not.toMatch(/timeout|"level":"error"/);
    confirm(reader, rig.upstream.fixture.endLsn);
    await rig.signal('SIGTERM');
    expect((await rig.ended()).end).toEqual({ exitCode: 0, signal: null });
  });
});

const LAGS: readonly string[] = ['', 'hop_'].flatMap((hop) =>
  ['write_lag', 'flush_lag', 'replay_lag'].map((name) => hop + name),
);

async function expectNoNegativeLag(rig: ProcessRig): Promise<void> {
  const { httpPort } = rig.started;
  const standbys = (await httpJson(httpPort, '/api/v1/standbys')) as unknown as readonly Record<
    string,
    unknown
  >[];
  for (const standby of standbys) {
    for (const name of ['lag_bytes', 'hop_lag_bytes', ...LAGS, 'replayed_commit_age']) {
      // An hour would be a step of the clock, not a lag.
      expect(Number(standby[name] ?? 0), name).toBeGreaterThanOrEqual(0);
      if (!name.endsWith('bytes')) expect(Number(standby[name] ?? 0), name).toBeLessThan(60);
    }
    for (const name of ['write_lag', 'flush_lag', 'replay_lag'])
      expect(standby[name]).not.toBeNull();
  }
  const metrics = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
  expect(metrics).toMatch(/^walcast_upstream_lag_seconds/m);
  expect(metrics.split('\n').filter((line) => /^walcast_.*lag.* -/.test(line))).toEqual([]);
}
