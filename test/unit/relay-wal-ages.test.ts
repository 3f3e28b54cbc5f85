// From received WAL to the lag of a standby: is the newest commit found wherever messages are cut, is what is known cut
// where WAL is taken back or a timeline is left, and does no clock that is set move a figure?
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { pgTimestampFromUnixMs, toPgTimestamp } from '../../src/pg/timestamp.ts';
import { UpstreamClock } from '../../src/relay/upstream-clock.ts';
import type { EndToEndLag } from '../../src/status/status.ts';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import { RecordWalk } from '../../src/wal/records/record-walk.ts';
import { StandbyPositions } from '../../src/walsender/standby-positions.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const RMGR_XACT = 1;
const HOUR_MS = 3_600_000;
const START_WALL_MS = new ManualClock().wallMs();

interface Commit {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  /** By the primary's clock, Unix milliseconds. */
  readonly atMs: number;
}

function addCommit(wal: WalFixture, atMs: number, padding = 0): Commit {
  const main = Buffer.alloc(8 + padding);
  main.writeBigInt64LE(pgTimestampFromUnixMs(atMs));
  const body = Buffer.concat([Buffer.from([255, main.length]), main]);
  const { startLsn, endLsn } = wal.record({ rmgrId: RMGR_XACT, xid: 700, body });
  return { startLsn, endLsn, atMs };
}

/** Commits one second apart, with other records of all lengths between them. */
function manyCommits(): { wal: WalFixture; commits: Commit[] } {
  const wal = new WalFixture({ major: 17 });
  const commits: Commit[] = [];
  for (let index = 0; index < 120; index += 1) {
    wal.record({ xid: 700, body: Buffer.alloc((index * 373) % 3_000, index) });
    commits.push(addCommit(wal, START_WALL_MS + index * 1_000, (index * 13) % 100));
  }
  wal.record({ xid: 700, body: Buffer.alloc(9_000, 1) });
  return { wal, commits };
}

/** The upstream side over a walk, and one standby. `receive` brings the next bytes as one message. */
class Scene {
  readonly clock = new ManualClock();
  readonly times = new UpstreamClock(this.clock);
  readonly walk: RecordWalk;
  readonly positions: StandbyPositions;
  readonly #wal: WalFixture;
  #switchLsn: Lsn | null = null;
  /** Of the server: how far its clock is ahead of ours. */
  aheadMs = 0;
  takenLsn: Lsn;

  constructor(wal: WalFixture) {
    this.#wal = wal;
    this.takenLsn = wal.startLsn;
    this.walk = new RecordWalk({ ...wal.origin, checksums: true }, chainStart(wal.startLsn));
    this.times.follow({
      positions: () => ({ flushedLsn: this.walk.recordEnd() }),
      nextLsn: () => this.takenLsn,
      walk: {
        recordEnd: () => this.#switchLsn ?? this.walk.recordEnd(),
        learned: this.walk.learned,
      },
    });
    this.positions = new StandbyPositions(wal.startLsn, this.times.ages);
    this.confirm(wal.startLsn);
  }

  /** The store has left the timeline there. */
  leaveTimeline(switchLsn: Lsn): void {
    this.#switchLsn = switchLsn;
    this.takenLsn = switchLsn;
    this.times.switched(switchLsn);
    this.positions.cut(switchLsn);
  }

  /** Up to `endLsn`; `knownLsn` is the end that the server names. `transitMs`: it was sent so long ago. */
  receive(endLsn: Lsn, { knownLsn = endLsn, transitMs = 0 } = {}): void {
    const sentMs = this.clock.wallMs() + this.aheadMs - transitMs;
    this.times.observe(knownLsn, pgTimestampFromUnixMs(sentMs));
    const failure = this.walk.push(this.#wal.slice(this.takenLsn, endLsn));
    expect(failure).toBeNull();
    this.takenLsn = endLsn;
    this.times.taken();
    this.positions.onSend(this.walk.recordEnd(), this.walk.recordEnd(), this.clock.nowMs());
  }

  confirm(lsn: Lsn): void {
    const sendTime = toPgTimestamp(0n);
    const update = { writeLsn: lsn, flushLsn: lsn, applyLsn: lsn, sendTime, replyRequested: false };
    this.positions.onReply(update, this.clock.nowMs());
  }

  get lag(): EndToEndLag {
    return this.positions.endToEndLag(this.clock.nowMs());
  }

  get commitAge(): number | null {
    return this.positions.replayedCommitAge(this.clock.nowMs());
  }
}

describe('the newest commit', () => {
  const { wal, commits } = manyCommits();
  const bytes = wal.bytes();
  const placeOf = (walk: RecordWalk): bigint =>
    (BigInt(walk.learned.commitAtHigh >>> 0) << 32n) | BigInt(walk.learned.commitAtLow >>> 0);
  const newestAt = (endLsn: Lsn): Commit | undefined =>
    commits.findLast((commit) => commit.endLsn <= endLsn);

  it('is found with the place where its record begins, wherever messages are cut', () => {
    fc.assert(
      fc.property(
        fc
          .array(fc.oneof(fc.integer({ min: 1, max: 300 }), fc.nat({ max: 30_000 })), {
            minLength: 2,
          })
          .map((steps) => [...steps, 2_000]),
        fc.boolean(),
        (steps, checksums) => {
          const walk = new RecordWalk({ ...wal.origin, checksums }, chainStart(wal.startLsn));
          let at = 0;
          let wrong = 0;
          for (let index = 0; at < bytes.length; index += 1) {
            const step = steps[index % steps.length] ?? 1;
            walk.push(bytes.subarray(at, at + step));
            at += step;
            if (placeOf(walk) !== (newestAt(walk.recordEnd())?.startLsn ?? 0n)) wrong += 1;
          }
          expect(wrong).toBe(0);
          expect(walk.nextLsn()).toBe(wal.endLsn);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('is forgotten with a message that is refused', () => {
    const walk = new RecordWalk({ ...wal.origin, checksums: true }, chainStart(wal.startLsn));
    const half = bytes.length >> 1;
    walk.push(bytes.subarray(0, half));
    const before = placeOf(walk);
    const damaged = Buffer.from(bytes.subarray(half));
    damaged[damaged.length - 4_000] = (damaged[damaged.length - 4_000] ?? 0) ^ 1;
    expect(walk.push(damaged)).not.toBeNull();
    expect(placeOf(walk)).toBe(before);
  });

  it('gives no place to a commit that only an earlier walk has seen', () => {
    const walk = new RecordWalk({ ...wal.origin, checksums: true }, chainStart(wal.startLsn));
    walk.push(bytes);
    const other = new RecordWalk({ ...wal.origin, checksums: true }, walk.position());
    expect(placeOf(other)).toBe(0n);
    expect(other.learned.committedMicros).toBe(walk.learned.committedMicros);
  });
});

describe('the age of the last replayed commit', () => {
  it('is that of the commit, from its time in the WAL, for a standby anywhere in WAL that came long after', () => {
    const { wal, commits } = manyCommits();
    const scene = new Scene(wal);
    // An hour after the first of them, one message a commit.
    scene.clock.advance(HOUR_MS);
    for (const { endLsn } of commits) scene.receive(endLsn, { knownLsn: wal.endLsn });
    for (const [index, commit] of commits.entries()) {
      scene.confirm(commit.endLsn);
      const isLast = index === commits.length - 1;
      const exact = (START_WALL_MS + HOUR_MS - commit.atMs) / 1_000;
      // What the upstream named and has not sent may hold commits.
      expect(scene.commitAge).toBeCloseTo(exact, 3);
      if (isLast) break;
      scene.confirm(toLsn(commit.endLsn + 1n));
      expect(scene.commitAge).toBeCloseTo(exact, 3);
    }
    scene.receive(wal.endLsn);
    expect(scene.commitAge).toBe(0);
    scene.clock.advance(HOUR_MS);
    expect(scene.commitAge).toBe(0);
  });

  it('is never that of a commit that the standby has not replayed, and hardly older than that of its last, in large messages', () => {
    const { wal, commits } = manyCommits();
    const scene = new Scene(wal);
    scene.clock.advance(HOUR_MS);
    const ends: Lsn[] = [];
    while (scene.takenLsn < wal.endLsn) {
      const endLsn = toLsn(
        scene.takenLsn + 9_000n < wal.endLsn ? scene.takenLsn + 9_000n : wal.endLsn,
      );
      scene.receive(endLsn, { knownLsn: toLsn(wal.endLsn + 8n) });
      ends.push(scene.walk.recordEnd());
    }
    for (const { endLsn, atMs } of commits) {
      scene.confirm(endLsn);
      const ageMs = (scene.commitAge ?? Number.NaN) * 1_000;
      const exactMs = START_WALL_MS + HOUR_MS - atMs;
      const before = ends.findLast((end) => end <= endLsn);
      const noted = commits.findLast((commit) => before !== undefined && commit.endLsn <= before);
      if (noted === undefined) continue;
      expect(ageMs).toBeGreaterThanOrEqual(exactMs - 0.01);
      expect(ageMs).toBeLessThanOrEqual(START_WALL_MS + HOUR_MS - noted.atMs + 0.01);
    }
  });

  it('goes on over a restart: the newest commit of what was stored is known, when the upstream says what time it is', () => {
    const clock = new ManualClock();
    const times = new UpstreamClock(clock);
    const endLsn = toLsn(0x3000000n);
    const committed = pgTimestampFromUnixMs(clock.wallMs() - 90_000);
    times.follow({
      positions: () => ({ flushedLsn: endLsn }),
      nextLsn: () => endLsn,
      walk: {
        recordEnd: () => endLsn,
        learned: { commitAtHigh: 0, commitAtLow: 0, committedMicros: Number(committed) },
      },
    });
    expect(times.ages.commits.ageMs(endLsn, clock.nowMs(), false)).toBeNull();
    times.observe(toLsn(0x3000100n), pgTimestampFromUnixMs(clock.wallMs()));
    clock.advance(1_000);
    expect(times.ages.commits.ageMs(endLsn, clock.nowMs(), false)).toBeCloseTo(91_000, 2);
    expect(times.ages.commits.ageMs(toLsn(endLsn - 8n), clock.nowMs(), false)).toBeNull();
  });

  it('is not known, and not 0, for who lacks WAL whose commits nobody has looked at', () => {
    const clock = new ManualClock();
    const [startLsn, endLsn] = [toLsn(0x3000000n), toLsn(0x3800000n)];
    const learned = { commitAtHigh: 0, commitAtLow: 0, committedMicros: null };
    const ageAt = (times: UpstreamClock, lsn: Lsn): number | null =>
      times.ages.commits.ageMs(lsn, clock.nowMs(), true);
    // A store that was opened, its upstream away, or without a commit in it that was read.
    const times = new UpstreamClock(clock);
    times.follow({
      positions: () => ({ flushedLsn: endLsn }),
      nextLsn: () => endLsn,
      walk: { recordEnd: () => endLsn, learned },
    });
    expect([ageAt(times, startLsn), ageAt(times, endLsn)]).toEqual([null, 0]);
    times.observe(endLsn, pgTimestampFromUnixMs(clock.wallMs()), true);
    expect([ageAt(times, startLsn), ageAt(times, endLsn)]).toEqual([null, 0]);
    // One that begins later; older WAL is read through from the upstream.
    let nextLsn = INVALID_LSN;
    const begun = new UpstreamClock(clock);
    begun.follow({
      positions: () => ({ flushedLsn: nextLsn }),
      nextLsn: () => nextLsn,
      get walk() {
        return nextLsn === INVALID_LSN ? null : { recordEnd: () => nextLsn, learned };
      },
    });
    nextLsn = endLsn;
    begun.startStream(endLsn);
    expect([ageAt(begun, startLsn), ageAt(begun, endLsn)]).toEqual([null, 0]);
    begun.switched(toLsn(endLsn - 0x1000n));
    expect(ageAt(begun, toLsn(endLsn - 0x1000n))).toBe(0);
  });

  it('is not that of a commit beyond the point where the timeline was left', () => {
    const { wal, commits } = manyCommits();
    const scene = new Scene(wal);
    scene.clock.advance(HOUR_MS);
    for (const { endLsn } of commits) scene.receive(endLsn);
    const [left, last] = [commits[60], commits[59]];
    if (left === undefined || last === undefined) throw new Error('too few commits');
    scene.leaveTimeline(left.startLsn);
    scene.confirm(left.startLsn);
    expect(scene.times.ages.commits.ageMs(left.startLsn, scene.clock.nowMs(), true)).toBe(0);
    expect(scene.times.ages.commits.ageMs(last.startLsn, scene.clock.nowMs(), true)).not.toBe(0);
    expect(scene.times.ages.wal.endLsn).toBe(left.startLsn);
  });
});

describe('WAL that was named and will not come', () => {
  it('holds nobody back once the server that is followed now has no more: it may be idle, and say nothing', () => {
    const { wal, commits } = manyCommits();
    const scene = new Scene(wal);
    for (const { endLsn } of commits) scene.receive(endLsn);
    scene.receive(wal.endLsn, { knownLsn: toLsn(wal.endLsn + 1_000n) });
    scene.confirm(wal.endLsn);
    scene.clock.advance(HOUR_MS);
    expect(scene.lag.applySeconds).toBe(HOUR_MS / 1_000);
    expect(scene.commitAge).toBeGreaterThan(0);
    scene.times.startStream(wal.endLsn);
    expect(scene.lag.applySeconds).toBe(0);
    expect(scene.commitAge).toBe(0);
  });
});

describe('a message that took long', () => {
  it('makes what it brought older by that, in every figure, and nothing else', () => {
    const { wal, commits } = manyCommits();
    const scene = new Scene(wal);
    const [first, second, third] = commits;
    if (first === undefined || second === undefined || third === undefined) throw new Error('few');
    scene.receive(first.endLsn, { transitMs: 3 });
    scene.confirm(first.endLsn);
    scene.clock.advance(2_000);
    scene.receive(second.endLsn, { transitMs: 703 });
    expect(scene.lag.applySeconds).toBeCloseTo(0.7, 6);
    scene.confirm(second.endLsn);
    expect(scene.lag.applySeconds).toBeCloseTo(0.7, 6);
    scene.clock.advance(2_000);
    scene.receive(third.endLsn, { transitMs: 3 });
    expect(scene.lag.applySeconds).toBe(0);
  });
});

describe('clocks that are set', () => {
  const step = fc.record({
    waitMs: fc.nat({ max: 2_000 }),
    /** The server's clock is set by hours. */
    setHours: fc.option(fc.constantFrom(-1, 1, -24, 120_000), { freq: 4 }),
    isSilent: fc.boolean(),
  });

  it('move no lag below zero, nor above what has passed, be it the server’s or ours', () => {
    const { wal, commits } = manyCommits();
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const scene = new Scene(wal);
        const beganMs = scene.clock.nowMs();
        for (const [index, { waitMs, setHours, isSilent }] of steps.entries()) {
          scene.clock.advance(waitMs);
          scene.aheadMs += (setHours ?? 0) * HOUR_MS;
          const { endLsn } = commits[index] ?? { endLsn: scene.takenLsn };
          scene.receive(endLsn);
          const passedMs = scene.clock.nowMs() - beganMs;
          for (const seconds of Object.values<number | null>({ ...scene.lag })) {
            expect(seconds).toBeGreaterThanOrEqual(0);
            expect(seconds).toBeLessThanOrEqual(passedMs / 1_000 + 1e-9);
          }
          expect(scene.commitAge ?? 0).toBeGreaterThanOrEqual(0);
          if (isSilent) continue;
          scene.confirm(endLsn);
          expect(scene.commitAge).toBe(0);
        }
      }),
    );
  });
});

describe('a standby that came back', () => {
  it('has an unknown lag while it is sent again what it has had for long, and then none; a receiver far behind has its own', () => {
    const { wal, commits } = manyCommits();
    const scene = new Scene(wal);
    scene.clock.advance(HOUR_MS);
    for (const { endLsn } of commits) scene.receive(endLsn);
    scene.receive(wal.endLsn);
    scene.clock.advance(HOUR_MS);
    const positions = new StandbyPositions(wal.startLsn, scene.times.ages);
    const nowMs = scene.clock.nowMs();
    const say = (lsn: Lsn): void => {
      const sendTime = toPgTimestamp(0n);
      positions.onReply(
        { writeLsn: lsn, flushLsn: lsn, applyLsn: lsn, sendTime, replyRequested: false },
        nowMs,
      );
    };
    const half = commits[60]?.endLsn ?? wal.startLsn;
    const unknown = { writeSeconds: null, flushSeconds: null, applySeconds: null };
    // It says where it is at once, while the first of what it is sent is still being read from a file.
    say(wal.endLsn);
    expect(positions.endToEndLag(nowMs)).toEqual(unknown);
    expect(positions.replayedCommitAge(nowMs)).toBeNull();
    positions.onSend(half, wal.endLsn, nowMs);
    say(wal.endLsn);
    expect(positions.endToEndLag(nowMs)).toEqual(unknown);
    expect(positions.replayedCommitAge(nowMs)).toBeNull();
    positions.onSend(wal.endLsn, wal.endLsn, nowMs);
    say(wal.endLsn);
    expect(positions.endToEndLag(nowMs)).toEqual({
      writeSeconds: 0,
      flushSeconds: 0,
      applySeconds: 0,
    });
    expect(positions.replayedCommitAge(nowMs)).toBe(0);

    const behind = new StandbyPositions(wal.startLsn, scene.times.ages);
    behind.onSend(half, wal.endLsn, nowMs);
    const first = commits[10]?.endLsn ?? wal.startLsn;
    const word = { writeLsn: half, flushLsn: half, applyLsn: first, replyRequested: false };
    behind.onReply({ ...word, sendTime: toPgTimestamp(0n) }, nowMs);
    expect(behind.endToEndLag(nowMs).applySeconds).toBe(HOUR_MS / 1_000);
    expect(behind.replayedCommitAge(nowMs)).toBeCloseTo((2 * HOUR_MS - 10_000) / 1_000, 3);
  });
});
