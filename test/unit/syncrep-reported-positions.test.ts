// What may be reported upstream without a policy (positions.md, first table), and the shutdown checkpoint's rule.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import {
  positionsWithoutPolicy,
  ReportedPositions,
  SHUTDOWN_WITHHOLD_MS,
} from '../../src/syncrep/reported-positions.ts';
import type { Positions, ShutdownFacts } from '../../src/syncrep/reported-positions.ts';

const at = (value: number): Lsn => toLsn(BigInt(value));
const TIMELINE = toTimelineId(1);

function facts(overrides: Partial<ShutdownFacts> = {}): ShutdownFacts {
  return {
    flushedLsn: at(1_000),
    shutdownCheckpointEndLsn: null,
    standbyLsns: [],
    ...overrides,
  };
}

function row(write: number, flush: number, apply = 0): Positions {
  return { writeLsn: at(write), flushLsn: at(flush), applyLsn: at(apply) };
}

function streaming(): ReportedPositions {
  const positions = new ReportedPositions();
  positions.startStream(TIMELINE, INVALID_LSN);
  return positions;
}

describe('without a policy', () => {
  it('reports what is written, what is durable, and no apply position', () => {
    expect(positionsWithoutPolicy({ writtenLsn: at(900), flushedLsn: at(800) })).toEqual({
      writeLsn: at(900),
      flushLsn: at(800),
      applyLsn: INVALID_LSN,
    });
  });
});

describe('what was said stays said', () => {
  it('passes rising positions and 0', () => {
    const positions = streaming();
    expect(positions.next(row(500, 400), facts(), 0).positions).toEqual(row(500, 400));
    expect(positions.next(row(500, 0), facts(), 0).positions).toEqual(row(500, 0));
    expect(positions.next(row(600, 400), facts(), 0).positions).toEqual(row(600, 400));
    expect(positions.promisedLsn).toBe(at(400));
  });

  it('is a crash when flush would exceed what is durable', () => {
    expect(() => streaming().next(row(500, 401), facts({ flushedLsn: at(400) }), 0)).toThrow('I1');
  });

  it('is a crash when a position would go back', () => {
    for (const lower of [row(499, 400, 300), row(500, 399, 300), row(500, 400, 299)]) {
      const positions = streaming();
      positions.next(row(500, 400, 300), facts(), 0);
      expect(() => positions.next(lower, facts(), 0)).toThrow('I2');
    }
  });

  it('offers no flush below P, across 0 and across connections of one timeline', () => {
    const positions = streaming();
    positions.next(row(500, 400), facts(), 0);
    positions.next(row(500, 0), facts(), 0);
    expect(positions.next(row(500, 399), facts(), 0).positions).toEqual(row(500, 0));
    positions.startStream(TIMELINE, INVALID_LSN);
    expect(positions.next(row(100, 399), facts(), 0).positions).toEqual(row(100, 0));
    expect(positions.next(row(100, 400), facts(), 0).positions).toEqual(row(100, 400));
  });

  it('offers nothing after a restart until the store has again what was promised before it', () => {
    const positions = new ReportedPositions();
    positions.startStream(TIMELINE, at(700));
    expect(positions.promisedLsn).toBe(at(700));
    expect(positions.next(row(700, 699), facts(), 0).positions).toEqual(row(700, 0));
    expect(positions.next(row(700, 700), facts(), 0).positions).toEqual(row(700, 700));
    expect(() => positions.next(row(700, 699), facts(), 0)).toThrow('I2');
  });

  it('begins anew on another timeline', () => {
    const positions = streaming();
    positions.next(row(500, 400), facts(), 0);
    positions.startStream(toTimelineId(2), at(300));
    expect(positions.next(row(350, 300), facts(), 0).positions).toEqual(row(350, 300));
  });

  it('offers nothing on another timeline until it has what was promised up to the switch point', () => {
    const positions = streaming();
    positions.next(row(500, 400), facts(), 0);
    // A switch point in the middle of a record: F lies before it.
    positions.startStream(toTimelineId(2), at(400));
    expect(positions.next(row(400, 390), facts({ flushedLsn: at(390) }), 0).positions).toEqual(
      row(400, 0),
    );
    expect(positions.next(row(450, 410), facts(), 0).positions).toEqual(row(450, 410));
  });

  it('never goes back and never exceeds F, whatever W and F do as long as they rise', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            w: fc.nat(1_000),
            f: fc.nat(1_000),
            shutdown: fc.boolean(),
            confirmed: fc.boolean(),
            ms: fc.nat(800),
          }),
        ),
        (steps) => {
          const positions = streaming();
          let [w, f, last, now] = [0, 0, 0, 0];
          for (const step of steps) {
            w += step.w;
            f = Math.min(w, f + step.f);
            now += step.ms;
            const own = { writtenLsn: at(w), flushedLsn: at(f) };
            const { flushLsn } = positions.next(
              positionsWithoutPolicy(own),
              {
                flushedLsn: at(f),
                shutdownCheckpointEndLsn: step.shutdown ? at(w) : null,
                standbyLsns: [step.confirmed ? at(w) : at(0)],
              },
              now,
            ).positions;
            expect(Number(flushLsn)).toBeLessThanOrEqual(f);
            expect(Number(flushLsn)).toBeGreaterThanOrEqual(last);
            last = Number(flushLsn);
          }
        },
      ),
    );
  });
});

describe('a shutdown checkpoint', () => {
  const end = at(1_000);

  function beforeShutdown(): ReportedPositions {
    const positions = streaming();
    positions.next(row(900, 900), facts({ flushedLsn: at(900) }), 0);
    return positions;
  }

  it('is not acknowledged before every streaming standby has it', () => {
    const positions = beforeShutdown();
    const waiting = facts({ shutdownCheckpointEndLsn: end, standbyLsns: [end, at(999)] });
    const first = positions.next(row(1_000, 1_000), waiting, 5_000);
    expect(first).toEqual({
      positions: row(1_000, 900),
      againAtMs: 5_000 + SHUTDOWN_WITHHOLD_MS,
    });
    const confirmed = facts({ shutdownCheckpointEndLsn: end, standbyLsns: [end, end] });
    expect(positions.next(row(1_000, 1_000), confirmed, 5_100)).toEqual({
      positions: row(1_000, 1_000),
      againAtMs: null,
    });
  });

  it('is acknowledged after a second even if a standby never answers', () => {
    const positions = beforeShutdown();
    const waiting = facts({ shutdownCheckpointEndLsn: end, standbyLsns: [INVALID_LSN] });
    positions.next(row(1_000, 1_000), waiting, 5_000);
    expect(positions.next(row(1_000, 1_000), waiting, 5_999).positions.flushLsn).toBe(at(900));
    expect(positions.next(row(1_000, 1_000), waiting, 6_000).positions.flushLsn).toBe(end);
  });

  it('is acknowledged at once when nobody streams', () => {
    const alone = facts({ shutdownCheckpointEndLsn: end });
    expect(beforeShutdown().next(row(1_000, 1_000), alone, 0).positions.flushLsn).toBe(end);
  });

  it('is acknowledged on our own flush alone, whatever the policy says: no backend waits any more', () => {
    const alone = facts({ shutdownCheckpointEndLsn: end });
    expect(beforeShutdown().next(row(1_000, 0), alone, 0).positions.flushLsn).toBe(end);
    expect(beforeShutdown().next(row(1_000, 950), alone, 0).positions.flushLsn).toBe(end);
  });

  it('is not acknowledged before it is durable', () => {
    const early = facts({ flushedLsn: at(950), shutdownCheckpointEndLsn: end });
    expect(beforeShutdown().next(row(1_000, 950), early, 0).positions.flushLsn).toBe(at(950));
  });

  it('found as the last record when a stream begins is not withheld: that server runs', () => {
    const positions = streaming();
    const waiting = facts({ shutdownCheckpointEndLsn: end, standbyLsns: [INVALID_LSN] });
    expect(positions.next(row(1_000, 1_000), waiting, 0).positions.flushLsn).toBe(end);
  });

  it('found as the last record of a store that lost what was promised behind it is not offered either', () => {
    const positions = new ReportedPositions();
    positions.startStream(TIMELINE, at(1_200));
    const shutdown = facts({ shutdownCheckpointEndLsn: end, standbyLsns: [INVALID_LSN] });
    expect(positions.next(row(1_000, 1_000), shutdown, 0).positions).toEqual(row(1_000, 0));
    const more = facts({ flushedLsn: at(1_200) });
    expect(positions.next(row(1_200, 1_200), more, 1).positions).toEqual(row(1_200, 1_200));
  });

  it('is not withheld on the timeline that a planned switchover leads to', () => {
    const positions = streaming();
    const shutdown = facts({
      flushedLsn: at(900),
      shutdownCheckpointEndLsn: at(900),
      standbyLsns: [at(800)],
    });
    positions.next(row(800, 800), facts({ flushedLsn: at(800) }), 0);
    expect(positions.next(row(900, 900), shutdown, 10).againAtMs).toBe(10 + SHUTDOWN_WITHHOLD_MS);
    positions.startStream(toTimelineId(2), at(800));
    expect(positions.next(row(900, 900), shutdown, 20)).toEqual({
      positions: row(900, 900),
      againAtMs: null,
    });
  });
});
