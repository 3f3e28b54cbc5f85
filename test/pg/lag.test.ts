// Are the figures of lag those of a real primary for the same standby, and honest where PostgreSQL's are not?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import { formatLsn, INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import type { StandbyStatus } from '../../src/status/status.ts';
import { openLagRig } from '../harness/lag-rig.ts';
import type { LagRig } from '../harness/lag-rig.ts';
import { RawWalReceiver } from '../harness/raw-walreceiver.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import { newestOfEdges } from '../support/requirements.ts';

const MAJORS = newestOfEdges();
const DELAY_SECONDS = 2;
/** Two processes that look at the same moment do so this far apart, on a busy machine. */
const TOLERANCE_SECONDS = 0.8;
const HOUR_MS = 3_600_000;
const WAIT_MS = 30_000;

const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => systemClock.setTimer(ms, resolve));

function endToEnd({ endToEndLag }: StandbyStatus): (number | null)[] {
  return [endToEndLag.writeSeconds, endToEndLag.flushSeconds, endToEndLag.applySeconds];
}

function isIdle(standby: StandbyStatus): boolean {
  return endToEnd(standby).every((seconds) => seconds === 0);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** Nearly nothing, where a server may write something by itself now and then. */
function expectLittle(standby: StandbyStatus): void {
  for (const seconds of endToEnd(standby)) expect(seconds).toBeLessThan(TOLERANCE_SECONDS);
}

describe.each(MAJORS)('lag of standbys of PostgreSQL %i', (major) => {
  let rig: LagRig;

  beforeAll(async () => {
    rig = await openLagRig({
      major,
      standbySettings: {
        recovery_min_apply_delay: `${DELAY_SECONDS}s`,
        wal_receiver_status_interval: '1s',
      },
    });
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  async function write(): Promise<Lsn> {
    await rig.primary.query('INSERT INTO lines SELECT 1, md5(random()::text)');
    return await rig.primary.walPosition();
  }

  /** Writing goes on until it is disposed of, and began longer ago than standbys are delayed. */
  async function underLoad(): Promise<AsyncDisposable> {
    const load = await startWriteLoad(() => rig.primary, 1, 20);
    await load.waitForCommits(1);
    await rig.settled();
    return { [Symbol.asyncDispose]: () => load.stop() };
  }

  async function receiverPid(): Promise<number> {
    return Number(await rig.behind.value('SELECT pid FROM pg_stat_wal_receiver'));
  }

  it('is, per hop, what the primary measures of a walreceiver that confirms the same at the same time', async () => {
    const startLsn = await rig.primary.walPosition();
    const [there, here] = await Promise.all([
      RawWalReceiver.connect({ port: rig.primary.port, applicationName: 'twin' }),
      RawWalReceiver.connect({ port: rig.relayPort, applicationName: 'twin' }),
    ]);
    const twins = [there, here];
    for (const twin of twins) await twin.start(startLsn);
    const confirm = async (write_: Lsn, flush: Lsn, apply: Lsn): Promise<void> => {
      for (const twin of twins) twin.confirm({ write: write_, flush, apply });
      await Promise.all([
        rig.until('twin', (twin) => twin.writeLsn === write_ && twin.applyLsn === apply),
        rig.primary.waitForValue(
          `SELECT replay_lsn >= '${formatLsn(apply)}' FROM pg_stat_replication WHERE application_name = 'twin'`,
          't',
        ),
      ]);
    };
    const expectSame = async (): Promise<void> => {
      const theirs = await rig.atPrimary('twin');
      const ours = rig.standby('twin');
      const pairs = [
        [theirs.write, ours.writeLagSeconds],
        [theirs.flush, ours.flushLagSeconds],
        [theirs.apply, ours.applyLagSeconds],
      ];
      for (const [their, our] of pairs) {
        if (their === null || their === undefined) expect(our).toBeNull();
        else expect(Math.abs((our ?? Number.NaN) - their)).toBeLessThan(TOLERANCE_SECONDS);
      }
    };
    await confirm(startLsn, startLsn, startLsn);
    const first = await write();
    await Promise.all(twins.map((twin) => twin.received(first)));
    await pause(1_000);
    await confirm(first, startLsn, startLsn);
    await expectSame();
    const second = await write();
    await pause(1_000);
    await confirm(second, first, first);
    await expectSame();
    expect(rig.standby('twin').applyLagSeconds).toBeGreaterThan(1.9);
    expect(rig.standby('twin').endToEndLag.applySeconds).toBeGreaterThan(1.9);
    await confirm(second, second, second);
    await expectSame();
    for (const twin of twins) twin.close();
  });

  it('is the delay of a delayed standby, end to end and per hop, as the primary says of its own, while writing goes on', async () => {
    await using _load = await underLoad();
    const differences: number[] = [];
    for (let round = 0; round < 9; round += 1) {
      await pause(150);
      const { apply: theirs } = await rig.atPrimary('direct');
      const behind = rig.standby('behind');
      const [writeLag, flushLag, applyLag] = endToEnd(behind);
      for (const seconds of [applyLag, behind.applyLagSeconds, behind.replayedCommitAgeSeconds]) {
        differences.push(Math.abs((seconds ?? Number.NaN) - (theirs ?? Number.NaN)));
        expect(seconds).toBeGreaterThan(DELAY_SECONDS - TOLERANCE_SECONDS);
      }
      for (const seconds of [writeLag, flushLag]) expect(seconds).toBeLessThan(DELAY_SECONDS);
    }
    expect(median(differences)).toBeLessThan(TOLERANCE_SECONDS);
    const age = await rig.behind.value(
      'SELECT extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())',
    );
    const ours = rig.standby('behind').replayedCommitAgeSeconds ?? Number.NaN;
    expect(Math.abs(ours - Number(age))).toBeLessThan(TOLERANCE_SECONDS);
  });

  it('is the same when the clock of walcast is set: an hour ahead, an hour back, beyond 2038', async () => {
    await using _load = await underLoad();
    for (const aheadMs of [HOUR_MS, -HOUR_MS, 14 * 365 * 24 * HOUR_MS, 0]) {
      rig.clock.aheadMs = aheadMs;
      for (let round = 0; round < 3; round += 1) {
        await pause(150);
        const behind = rig.standby('behind');
        const [writeLag, flushLag, applyLag] = endToEnd(behind);
        for (const seconds of [applyLag, behind.applyLagSeconds, behind.replayedCommitAgeSeconds]) {
          expect(seconds).toBeGreaterThan(DELAY_SECONDS - TOLERANCE_SECONDS);
          expect(seconds).toBeLessThan(3 * DELAY_SECONDS);
        }
        for (const seconds of [writeLag, flushLag]) {
          expect(seconds).toBeGreaterThanOrEqual(0);
          expect(seconds).toBeLessThan(DELAY_SECONDS);
        }
      }
    }
  });

  it('is 0 in every respect once everything is replayed, and does not grow while nothing is written', async () => {
    await rig.settled();
    await rig.until('behind', isIdle);
    // A server may write something by itself now and then, and that is replayed at once.
    for (let round = 0; round < 10; round += 1) {
      await pause(150);
      const behind = rig.standby('behind');
      expectLittle(behind);
      expect(behind.replayedCommitAgeSeconds).toBe(0);
      expect(rig.upstreamLagSeconds).toBeLessThan(TOLERANCE_SECONDS);
    }
    await rig.until('behind', isIdle);
    expect(rig.upstreamLagSeconds).toBe(0);
  });

  it('does not grow while half a record is all that is missing, because a transaction that wrote more than pages is idle', async () => {
    const session = await rig.primary.session();
    await session.query('BEGIN');
    // The server flushes whole pages of what is not committed, and a page seldom ends where a record does.
    await pollUntil(
      'the WAL ending inside a record',
      async () => {
        await session.query(
          'INSERT INTO lines SELECT i, repeat(md5(i::text), 7) FROM generate_series(1, 90) AS i',
        );
        await rig.until('behind', isIdle);
        const endLsn = await rig.primary.value('SELECT pg_current_wal_flush_lsn()');
        return (parseLsn(endLsn) ?? INVALID_LSN) > rig.receivedLsn ? true : null;
      },
      { timeoutMs: WAIT_MS },
    );
    // What the server does by itself may still write a little.
    for (let round = 0; round < 8; round += 1) {
      await pause(150);
      expectLittle(rig.standby('behind'));
      expect(rig.upstreamLagSeconds).toBeLessThan(TOLERANCE_SECONDS);
    }
    await rig.until('behind', isIdle);
    expect(rig.upstreamLagSeconds).toBe(0);
    await session.query('ROLLBACK');
    session.close();
  });

  it('grows while a standby is stopped and silent, whereas the figure per hop stands still, and is 0 again once it goes on', async () => {
    await write();
    await rig.until('behind', isIdle);
    const pid = await receiverPid();
    signalProcess(pid, 'SIGSTOP');
    try {
      const hopBefore = rig.standby('behind').flushLagSeconds;
      const stoppedAtMs = systemClock.nowMs();
      const endLsn = await write();
      await rig.until('behind', ({ sentLsn }) => sentLsn >= endLsn);
      const writtenAtMs = systemClock.nowMs();
      for (let round = 0; round < 6; round += 1) {
        await pause(200);
        const behind = rig.standby('behind');
        const nowMs = systemClock.nowMs();
        for (const seconds of endToEnd(behind)) {
          expect(seconds).toBeGreaterThanOrEqual((nowMs - writtenAtMs - 50) / 1_000);
          expect(seconds).toBeLessThanOrEqual((nowMs - stoppedAtMs) / 1_000);
        }
        expect(behind.flushLagSeconds).toBe(hopBefore);
      }
    } finally {
      signalProcess(pid, 'SIGCONT');
    }
    await rig.until('behind', isIdle);
  });

  it('does not take the time that a standby was away for a lag when nothing was written', async () => {
    await rig.until('behind', isIdle);
    await pause(1_500);
    const before = rig.standby('behind').pid;
    // The relay is in this process: between any two things that it does a look is taken.
    let highest = 0;
    let isOver = false;
    const look = (): void => {
      for (const standby of rig.standbys()) {
        highest = Math.max(highest, ...endToEnd(standby).map((seconds) => seconds ?? 0));
        highest = Math.max(highest, standby.replayedCommitAgeSeconds ?? 0);
      }
      if (!isOver) setImmediate(look);
    };
    look();
    const leftAtMs = systemClock.nowMs();
    signalProcess(await receiverPid(), 'SIGTERM');
    await rig.until('behind', ({ pid, applyLsn }) => pid !== before && applyLsn > INVALID_LSN);
    await rig.until('behind', isIdle);
    await pause(300);
    isOver = true;
    // What the server wrote by itself meanwhile, if anything, is no older; what the standby is sent again is much older.
    expect(highest).toBeLessThan((systemClock.nowMs() - leftAtMs) / 1_000);
  });

  it('does not forget what a walreceiver lacks that comes back and has not gone on', async () => {
    const startLsn = await rig.primary.walPosition();
    const stream = async (): Promise<RawWalReceiver> => {
      const port = rig.relayPort;
      const receiver = await RawWalReceiver.connect({ port, applicationName: 'again' });
      await receiver.start(startLsn);
      receiver.confirm({ write: startLsn, flush: startLsn, apply: startLsn });
      await rig.until('again', ({ applyLsn }) => applyLsn === startLsn);
      return receiver;
    };
    const first = await stream();
    const endLsn = await write();
    await rig.until('again', ({ sentLsn }) => sentLsn >= endLsn);
    const beganMs = systemClock.nowMs();
    first.close();
    await rig.untilGone('again');
    await pause(1_000);
    const second = await stream();
    const seenMs = systemClock.nowMs();
    for (const seconds of endToEnd(rig.standby('again'))) {
      expect(seconds).toBeGreaterThanOrEqual((seenMs - beganMs) / 1_000);
    }
    second.close();
  });

  it('goes on over a switch of timelines: 0 while nothing is written on the new one, and small when something is', async () => {
    await rig.direct.configure({ recovery_min_apply_delay: '0' });
    await rig.direct.reload();
    await rig.settled();
    await rig.primary.stop('fast');
    await rig.direct.promote();
    const beganMs = systemClock.nowMs();
    await rig.until('behind', ({ timeline }) => timeline === 2);
    await rig.until('behind', isIdle);
    for (let round = 0; round < 8; round += 1) {
      await pause(150);
      expectLittle(rig.standby('behind'));
    }
    expect(rig.standby('behind').replayedCommitAgeSeconds).toBe(0);
    await rig.direct.query('INSERT INTO lines SELECT 2');
    const endLsn = await rig.direct.walPosition();
    const behind = await rig.until('behind', ({ applyLsn }) => applyLsn >= endLsn);
    for (const seconds of endToEnd(behind)) {
      expect(seconds).toBeLessThan((systemClock.nowMs() - beganMs) / 1_000 - 1);
    }
    await rig.until('behind', isIdle);
  });
});
