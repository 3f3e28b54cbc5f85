// How far behind in time is a standby? The figures of one standby whose upstream, WAL and clock a test moves.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { EndToEndStage, LAG_IDLE_MS } from '../../src/syncrep/lag-end-to-end.ts';
import { WalTimes } from '../../src/syncrep/lag-wal-times.ts';

const lsn = (value: number): Lsn => toLsn(BigInt(value));

/** One stage of one standby; `wal(end)` is a whole record up to there that was sent now. */
class Scene {
  readonly times = new WalTimes({ samplesMax: 1024 });
  readonly stage = new EndToEndStage();
  nowMs = 1_000;

  wal(end: number, partial: { taken?: number; known?: number } = {}): void {
    const ends = {
      recordEndLsn: lsn(end),
      takenLsn: lsn(partial.taken ?? end),
      knownLsn: lsn(partial.known ?? partial.taken ?? end),
    };
    this.times.note(ends, this.nowMs);
  }

  confirm(end: number): void {
    this.stage.confirm(lsn(end), this.nowMs, this.times);
  }

  pass(ms: number): void {
    this.nowMs += ms;
  }

  get lagMs(): number | null {
    return this.stage.lagMs(this.nowMs, this.times);
  }
}

/** A standby that has everything. */
function caughtUp(): Scene {
  const scene = new Scene();
  scene.wal(800);
  scene.confirm(800);
  scene.pass(60_000);
  return scene;
}

describe('the end-to-end lag', () => {
  it('is not known before the standby said anything, nor for what it never reports', () => {
    const scene = new Scene();
    scene.wal(800);
    expect(scene.lagMs).toBeNull();
    scene.stage.confirm(INVALID_LSN, scene.nowMs, scene.times);
    scene.pass(60_000);
    expect(scene.lagMs).toBeNull();
  });

  it('is not known while nothing is known of the WAL', () => {
    const scene = new Scene();
    scene.confirm(800);
    expect(scene.lagMs).toBeNull();
  });

  it('is 0 for a standby that has everything, for however long', () => {
    const scene = caughtUp();
    expect(scene.lagMs).toBe(0);
    scene.pass(3_600_000);
    scene.confirm(800);
    expect(scene.lagMs).toBe(0);
  });

  it('is what the newest confirmation took, until the standby has had everything for a moment', () => {
    const scene = caughtUp();
    scene.wal(1600);
    scene.pass(7);
    scene.confirm(1600);
    expect(scene.lagMs).toBe(7);
    scene.pass(LAG_IDLE_MS);
    expect(scene.lagMs).toBe(7);
    scene.pass(1);
    expect(scene.lagMs).toBe(0);
  });

  it('does not come back to an old figure when WAL comes after an idle time', () => {
    const scene = caughtUp();
    scene.wal(1600);
    scene.pass(9_000);
    scene.confirm(1600);
    scene.pass(LAG_IDLE_MS + 1);
    scene.wal(2400);
    expect(scene.lagMs).toBe(0);
    scene.pass(3);
    expect(scene.lagMs).toBe(3);
  });

  it('grows with every millisecond in which a standby is silent and WAL is there that it has not confirmed', () => {
    const scene = caughtUp();
    scene.wal(1600);
    for (let second = 1; second <= 120; second += 1) {
      scene.pass(1_000);
      if (second % 10 === 0) scene.wal(1600 + second * 8);
      expect(scene.lagMs).toBe(second * 1_000);
    }
    scene.confirm(1600);
    expect(scene.lagMs).toBe(120_000);
    scene.confirm(1600 + 120 * 8);
    scene.pass(LAG_IDLE_MS + 1);
    expect(scene.lagMs).toBe(0);
  });

  it('is the delay of a standby that applies everything five seconds late', () => {
    const scene = caughtUp();
    const sent: { end: number; atMs: number }[] = [];
    for (let turn = 1; turn <= 300; turn += 1) {
      scene.pass(100);
      scene.wal(800 + 8 * turn);
      sent.push({ end: 800 + 8 * turn, atMs: scene.nowMs });
      const due = sent.findLast(({ atMs }) => atMs <= scene.nowMs - 5_000);
      if (due !== undefined) scene.confirm(due.end);
      if (turn > 60) expect(scene.lagMs).toBe(5_000);
    }
  });

  it('does not take where a standby stands when it comes for something that it took so long to do', () => {
    const scene = caughtUp();
    scene.pass(3_600_000);
    const again = new EndToEndStage();
    again.confirm(lsn(800), scene.nowMs, scene.times);
    expect(again.lagMs(scene.nowMs, scene.times)).toBe(0);
    scene.wal(1600);
    scene.pass(10);
    again.confirm(lsn(1600), scene.nowMs, scene.times);
    expect(again.lagMs(scene.nowMs, scene.times)).toBe(10);
  });

  it('counts from before for a standby that comes back and lacks WAL of the time it was away', () => {
    const scene = caughtUp();
    scene.wal(1600);
    scene.pass(600_000);
    const again = new EndToEndStage();
    again.confirm(lsn(800), scene.nowMs, scene.times);
    expect(again.lagMs(scene.nowMs, scene.times)).toBe(600_000);
  });

  it('counts WAL that the upstream named and has not sent', () => {
    const scene = caughtUp();
    scene.wal(800, { known: 80_000 });
    scene.pass(500);
    expect(scene.lagMs).toBe(500);
    scene.wal(40_000, { known: 80_000 });
    scene.pass(500);
    scene.confirm(40_000);
    expect(scene.lagMs).toBe(1_000);
    scene.wal(80_000);
    scene.confirm(80_000);
    expect(scene.lagMs).toBe(1_000);
  });

  it('does not count half a record, which nobody can replay, however long it stays half', () => {
    const scene = caughtUp();
    scene.wal(800, { taken: 8_192 });
    scene.pass(600_000);
    expect(scene.lagMs).toBe(0);
    scene.wal(9_000);
    scene.pass(2);
    expect(scene.lagMs).toBe(2);
    scene.confirm(9_000);
    expect(scene.lagMs).toBe(2);
  });

  it('is what whole records took, also for who confirms half a record behind them', () => {
    const scene = caughtUp();
    scene.wal(8_000, { taken: 8_192 });
    scene.pass(150);
    scene.confirm(8_192);
    expect(scene.lagMs).toBe(150);
    scene.pass(500);
    // More of the same record: nothing that anybody could have waited for.
    scene.wal(8_000, { taken: 16_384 });
    scene.pass(300);
    scene.confirm(16_384);
    expect(scene.lagMs).toBe(150);
    scene.pass(LAG_IDLE_MS);
    expect(scene.lagMs).toBe(0);
  });

  it('does not count half a record that was named before it came, either', () => {
    const scene = caughtUp();
    scene.wal(800, { taken: 800, known: 8_192 });
    scene.wal(800, { taken: 8_192, known: 8_192 });
    scene.pass(600_000);
    expect(scene.lagMs).toBe(0);
  });

  it('does not count what was taken back, and counts anew what comes in its place', () => {
    const scene = caughtUp();
    scene.wal(1600);
    scene.pass(1_000);
    scene.wal(2400);
    scene.pass(1_000);
    scene.times.cut(lsn(1600));
    expect(scene.lagMs).toBe(2_000);
    scene.confirm(1600);
    scene.pass(LAG_IDLE_MS + 1);
    expect(scene.lagMs).toBe(0);
    scene.wal(2400);
    scene.pass(5);
    expect(scene.lagMs).toBe(5);
  });

  it('goes on over a switch of timelines from where the timeline was left', () => {
    const scene = caughtUp();
    scene.wal(1600);
    scene.confirm(1600);
    scene.pass(10_000);
    scene.times.cut(lsn(1200));
    scene.stage.cut(lsn(1200));
    expect(scene.lagMs).toBe(0);
    scene.wal(1300);
    scene.pass(20);
    expect(scene.lagMs).toBe(20);
    scene.confirm(1300);
    expect(scene.lagMs).toBe(20);
  });

  it('takes a position that went back for what it is', () => {
    const scene = caughtUp();
    scene.wal(1600);
    scene.pass(50);
    scene.confirm(1600);
    scene.pass(5_000);
    scene.confirm(800);
    expect(scene.lagMs).toBe(5_050);
    scene.confirm(1600);
    expect(scene.lagMs).toBe(5_050);
    scene.pass(LAG_IDLE_MS + 1);
    expect(scene.lagMs).toBe(0);
  });
});

describe('whatever comes', () => {
  const step = fc.record({
    wait: fc.integer({ min: 0, max: 3_000 }),
    grow: fc.integer({ min: 0, max: 5 }),
    half: fc.boolean(),
    ahead: fc.integer({ min: 0, max: 5 }),
    confirmed: fc.integer({ min: -3, max: 8 }),
    /** What the estimate of the time of sending is off by; never later than now. */
    early: fc.integer({ min: 0, max: 200 }),
  });

  it('is never negative, never less than the age of what is not confirmed, and 0 a moment behind the last of it', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const scene = caughtUp();
        const known: { end: number; atMs: number }[] = [];
        let [end, confirmed] = [800, 800];
        let target = 800;
        for (const { wait, grow, half, ahead, confirmed: by, early } of steps) {
          scene.pass(wait);
          end += 8 * grow;
          const takenLsn = lsn(end + (half ? 4 : 0));
          const knownLsn = lsn(Number(takenLsn) + 8 * ahead);
          const sentMs = scene.nowMs - early;
          scene.times.note({ recordEndLsn: lsn(end), takenLsn, knownLsn }, sentMs);
          target = ahead > 0 ? Number(knownLsn) : end;
          while ((known.at(-1)?.end ?? 0) > target) known.pop();
          if ((known.at(-1)?.end ?? 800) < target) known.push({ end: target, atMs: scene.nowMs });
          confirmed = Math.max(8, Math.min(end, confirmed + 8 * by));
          scene.confirm(confirmed);
          const oldest = known.find((entry) => entry.end > confirmed);
          const lagMs = scene.lagMs ?? -1;
          expect(lagMs).toBeGreaterThanOrEqual(0);
          if (oldest !== undefined) expect(lagMs).toBeGreaterThanOrEqual(scene.nowMs - oldest.atMs);
        }
        scene.wal(end + 8);
        scene.confirm(end + 8);
        scene.pass(LAG_IDLE_MS + 1);
        expect(scene.lagMs).toBe(0);
      }),
    );
  });
});
