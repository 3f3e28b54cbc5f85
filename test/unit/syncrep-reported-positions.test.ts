// What may be reported upstream: the first table of positions with and without a policy, what was said stays said, and the
// shutdown checkpoint's rule.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import {
  positionsUnderPolicy,
  positionsWithoutPolicy,
  ReportedPositions,
  SHUTDOWN_WITHHOLD_MS,
} from '../../src/syncrep/reported-positions.ts';
import type { Positions, Reportable, ReportFacts } from '../../src/syncrep/reported-positions.ts';

const at = (value: number): Lsn => toLsn(BigInt(value));

type Row = readonly [write: number, flush: number, apply: number];

function row(write: number, flush: number, apply = 0): Positions {
  return { writeLsn: at(write), flushLsn: at(flush), applyLsn: at(apply) };
}

/** W, F; Qw, Qf, Qa under a policy: `unsatisfied` when too few are there, absent without a policy. */
interface Moment {
  readonly own: readonly [writtenLsn: number, flushedLsn: number];
  readonly quorum?: Row | 'unsatisfied';
  readonly shutdown?: ReportFacts['shutdown'];
  readonly isWithdrawn?: boolean;
}

function factsOf({ own, quorum, shutdown = null, isWithdrawn = false }: Moment): ReportFacts {
  const positions = quorum === undefined || quorum === 'unsatisfied' ? null : row(...quorum);
  return {
    own: { writtenLsn: at(own[0]), flushedLsn: at(own[1]) },
    quorum: quorum === undefined ? null : { positions },
    shutdown,
    isWithdrawn,
  };
}

/** One relay's reports. */
class Reports {
  readonly positions = new ReportedPositions();

  constructor(promised = 0, beganAt = 0) {
    this.start(1, promised, beganAt);
  }

  start(timeline: number, promised = 0, beganAt = 0): void {
    this.positions.startStream(toTimelineId(timeline), {
      beganAtLsn: at(beganAt),
      promisedLsn: at(promised),
    });
  }

  next(moment: Moment, nowMs = 0): Reportable {
    return this.positions.next(factsOf(moment), nowMs);
  }

  /** Write, flush, apply. */
  say(moment: Moment, nowMs = 0): Row {
    const { writeLsn, flushLsn, applyLsn } = this.next(moment, nowMs).positions;
    return [Number(writeLsn), Number(flushLsn), Number(applyLsn)];
  }
}

describe('the table', () => {
  const own = { writtenLsn: at(900), flushedLsn: at(800) };

  it('says without a policy what is written, what is durable, and no apply position', () => {
    expect(positionsWithoutPolicy(own)).toEqual(row(900, 800, 0));
  });

  it('says under a policy the lower one of our own end and that of the chosen standbys, each for itself', () => {
    const under = (positions: Positions): Positions => positionsUnderPolicy(own, { positions });
    expect(under(row(700, 600, 500))).toEqual(row(700, 600, 500));
    expect(under(row(950, 940, 930))).toEqual(row(900, 800, 800));
    expect(under(row(850, 820, 780))).toEqual(row(850, 800, 780));
  });

  it('says under a policy with too few standbys what is written, and offers neither flush nor apply', () => {
    expect(positionsUnderPolicy(own, { positions: null })).toEqual(row(900, 0, 0));
  });
});

describe('what was said without a policy stays said', () => {
  it('is a crash when a position would go back', () => {
    for (const own of [
      [499, 400],
      [500, 399],
    ] as const) {
      const reports = new Reports();
      reports.say({ own: [500, 400] });
      expect(() => reports.say({ own })).toThrow(/I[12]/);
    }
  });

  it('offers nothing after a restart until the store has again what was promised before it', () => {
    const reports = new Reports(700);
    expect(reports.positions.promisedLsn).toBe(at(700));
    expect(reports.say({ own: [700, 699] })).toEqual([700, 0, 0]);
    expect(reports.say({ own: [700, 700] })).toEqual([700, 700, 0]);
    expect(() => reports.say({ own: [700, 699] })).toThrow('I1');
  });

  it('keeps P on another connection of the same timeline, whatever was stored of it', () => {
    const reports = new Reports();
    reports.say({ own: [500, 400] });
    reports.start(1);
    expect(reports.say({ own: [450, 390] })).toEqual([450, 0, 0]);
    expect(reports.say({ own: [450, 410] })).toEqual([450, 410, 0]);
  });

  it('begins anew on another timeline', () => {
    const reports = new Reports();
    reports.say({ own: [500, 400] });
    reports.start(2, 300);
    expect(reports.say({ own: [350, 300] })).toEqual([350, 300, 0]);
  });

  it('offers nothing on another timeline until it has what was promised up to the switch point', () => {
    const reports = new Reports();
    reports.say({ own: [500, 400] });
    // A switch point in the middle of a record: F lies before it.
    reports.start(2, 400);
    expect(reports.say({ own: [400, 390] })).toEqual([400, 0, 0]);
    expect(reports.say({ own: [450, 410] })).toEqual([450, 410, 0]);
  });
});

describe('what was said under a policy', () => {
  it('stays said while the chosen standbys are others, further back', () => {
    const reports = new Reports();
    expect(reports.say({ own: [900, 900], quorum: [800, 700, 600] })).toEqual([800, 700, 600]);
    expect(reports.say({ own: [900, 900], quorum: [500, 400, 300] })).toEqual([800, 700, 600]);
    expect(reports.say({ own: [900, 900], quorum: [810, 400, 610] })).toEqual([810, 700, 610]);
  });

  it('stays said across a time with too few standbys, when write was our own', () => {
    const reports = new Reports();
    reports.say({ own: [900, 900], quorum: [800, 700, 600] });
    expect(reports.say({ own: [950, 900], quorum: 'unsatisfied' })).toEqual([950, 0, 0]);
    expect(reports.say({ own: [950, 900], quorum: [500, 400, 300] })).toEqual([800, 700, 600]);
    expect(reports.positions.promisedLsn).toBe(at(700));
  });

  it('stays said where the chosen ones apply nothing any more', () => {
    const reports = new Reports();
    reports.say({ own: [900, 900], quorum: [800, 700, 600] });
    expect(reports.say({ own: [900, 900], quorum: [800, 750, 0] })).toEqual([800, 750, 600]);
  });

  it('keeps P on another connection, and its write and apply positions begin anew', () => {
    const reports = new Reports();
    reports.say({ own: [900, 900], quorum: [800, 700, 600] });
    reports.start(1);
    expect(reports.say({ own: [900, 900], quorum: 'unsatisfied' })).toEqual([900, 0, 0]);
    expect(reports.say({ own: [900, 900], quorum: [500, 400, 300] })).toEqual([500, 700, 300]);
  });

  it('is not promised for another timeline beyond the switch point', () => {
    const reports = new Reports();
    reports.say({ own: [900, 900], quorum: [800, 700, 600] });
    reports.start(2, 650);
    expect(reports.say({ own: [660, 660], quorum: [640, 640, 640] })).toEqual([640, 650, 640]);
  });

  it('offers nothing while our own disk has less than was promised, however far the standbys are', () => {
    const reports = new Reports(700);
    const quorum: Row = [900, 900, 900];
    expect(reports.say({ own: [690, 690], quorum })).toEqual([690, 0, 0]);
    expect(reports.say({ own: [710, 710], quorum })).toEqual([710, 710, 710]);
  });

  it('follows a policy that is given and taken away', () => {
    const reports = new Reports();
    expect(reports.say({ own: [900, 800] })).toEqual([900, 800, 0]);
    // Commits up to 800 were released on our own word, when that was enough.
    expect(reports.say({ own: [900, 850], quorum: [600, 500, 400] })).toEqual([900, 800, 400]);
    expect(reports.say({ own: [900, 850], quorum: 'unsatisfied' })).toEqual([900, 0, 0]);
    expect(reports.say({ own: [900, 850] })).toEqual([900, 850, 0]);
    expect(reports.say({ own: [900, 850], quorum: [900, 900, 300] })).toEqual([900, 850, 400]);
  });
});

describe('a relay that goes', () => {
  it('offers no flush once what is durable was said, and nothing to be applied', () => {
    const reports = new Reports();
    const isWithdrawn = true;
    expect(reports.say({ own: [900, 800], isWithdrawn })).toEqual([900, 800, 0]);
    expect(reports.say({ own: [900, 800], isWithdrawn })).toEqual([900, 0, 0]);
    expect(reports.say({ own: [900, 900], isWithdrawn })).toEqual([900, 900, 0]);
    expect(reports.say({ own: [900, 900], isWithdrawn })).toEqual([900, 0, 0]);
  });

  it('goes on with what its standbys confirm until they have all of it', () => {
    const reports = new Reports();
    const own = [900, 900] as const;
    expect(reports.say({ own, quorum: [800, 700, 600], isWithdrawn: true })).toEqual([
      800, 700, 600,
    ]);
    expect(reports.say({ own, quorum: [900, 900, 700], isWithdrawn: true })).toEqual([
      900, 900, 700,
    ]);
    expect(reports.say({ own, quorum: [900, 900, 900], isWithdrawn: true })).toEqual([900, 0, 0]);
  });
});

describe('a shutdown checkpoint', () => {
  const END = 1_000;
  const waiting = { endLsn: at(END), isConfirmed: false };
  const confirmed = { endLsn: at(END), isConfirmed: true };

  function beforeShutdown(quorum?: Moment['quorum']): Reports {
    const reports = new Reports();
    reports.say({ own: [900, 900], ...(quorum === undefined ? {} : { quorum }) });
    return reports;
  }

  it('is not acknowledged before every streaming standby has it', () => {
    const reports = beforeShutdown();
    expect(reports.next({ own: [END, END], shutdown: waiting }, 5_000)).toEqual({
      positions: row(END, 900),
      againAtMs: 5_000 + SHUTDOWN_WITHHOLD_MS,
    });
    expect(reports.next({ own: [END, END], shutdown: confirmed }, 5_100)).toEqual({
      positions: row(END, END),
      againAtMs: null,
    });
  });

  it('is acknowledged after a second even if a standby never answers', () => {
    for (const quorum of [undefined, 'unsatisfied', [900, 900, 900]] as const) {
      const reports = beforeShutdown(quorum);
      const moment: Moment = {
        own: [END, END],
        ...(quorum === undefined ? {} : { quorum }),
        shutdown: waiting,
      };
      expect(reports.next(moment, 5_000).againAtMs).toBe(6_000);
      expect(reports.say(moment, 5_999)[1]).toBe(quorum === 'unsatisfied' ? 0 : 900);
      expect(reports.say(moment, 6_000).slice(0, 2)).toEqual([END, END]);
      expect(reports.say(moment, 6_001).slice(0, 2)).toEqual([END, END]);
    }
  });

  it('is acknowledged at once when nobody streams, on our own flush alone, whatever the policy says', () => {
    for (const quorum of ['unsatisfied', [950, 950, 950]] as const) {
      const moment: Moment = { own: [END, END], quorum, shutdown: confirmed };
      expect(beforeShutdown(quorum).say(moment).slice(0, 2)).toEqual([END, END]);
    }
    expect(beforeShutdown().say({ own: [END, END], shutdown: confirmed })[1]).toBe(END);
  });

  it('is not written either, while no flush is offered: there the server looks at write', () => {
    const reports = beforeShutdown('unsatisfied');
    const early: Moment = { own: [END, 900], quorum: 'unsatisfied', shutdown: waiting };
    expect(reports.say(early, 5_000)).toEqual([900, 0, 0]);
    const durable: Moment = { ...early, own: [END, END] };
    expect(reports.say(durable, 5_500)).toEqual([900, 0, 0]);
    expect(reports.say({ ...durable, shutdown: confirmed }, 5_600)).toEqual([END, END, 0]);
  });

  it('is not written either when the standbys leave in that moment, though it was beside a flush position', () => {
    const reports = beforeShutdown();
    expect(reports.say({ own: [END, 900], shutdown: waiting }, 5_000)).toEqual([END, 900, 0]);
    const without: Moment = { own: [END, END], quorum: 'unsatisfied', shutdown: waiting };
    expect(reports.say(without, 5_010)).toEqual([900, 0, 0]);
  });

  it('is not acknowledged before it is durable', () => {
    expect(beforeShutdown().say({ own: [END, 950], shutdown: confirmed })[1]).toBe(950);
    const quorum = 'unsatisfied';
    const moment: Moment = { own: [END, 950], quorum, shutdown: confirmed };
    expect(beforeShutdown(quorum).say(moment)).toEqual([900, 0, 0]);
  });

  it('lets the chosen standbys confirm what lies before it meanwhile', () => {
    const reports = beforeShutdown([800, 800, 800]);
    const moment = { own: [END, END], shutdown: waiting } as const;
    expect(reports.say({ ...moment, quorum: [950, 940, 930] })).toEqual([950, 940, 930]);
    expect(reports.say({ ...moment, quorum: [END, END, 980] })).toEqual([END, 940, 980]);
  });

  it('does not count when it was here before the stream began: that server runs', () => {
    for (const quorum of ['unsatisfied', [END, 950, 950]] as const) {
      const reports = new Reports(0, END);
      const moment: Moment = { own: [END, END], quorum, shutdown: waiting };
      const { positions, againAtMs } = reports.next(moment);
      expect(againAtMs).toBeNull();
      expect(positions.flushLsn).toBe(quorum === 'unsatisfied' ? INVALID_LSN : at(950));
    }
    expect(new Reports(0, END).say({ own: [END, END], shutdown: waiting })).toEqual([END, END, 0]);
  });

  it('does not count on the timeline that a planned switchover leads to', () => {
    const reports = beforeShutdown('unsatisfied');
    const moment: Moment = { own: [END, END], quorum: 'unsatisfied', shutdown: waiting };
    expect(reports.next(moment, 10).againAtMs).toBe(10 + SHUTDOWN_WITHHOLD_MS);
    reports.start(2, 900, END);
    expect(reports.next(moment, 20)).toEqual({ positions: row(END, 0), againAtMs: null });
  });

  it('of a store that lost what was promised behind it is not offered', () => {
    const reports = new Reports(1_200, 900);
    expect(reports.say({ own: [END, END], shutdown: confirmed })).toEqual([END, 0, 0]);
    expect(reports.say({ own: [1_200, 1_200] })).toEqual([1_200, 1_200, 0]);
  });

  it('is followed by the policy again when the server behind it goes on', () => {
    const reports = beforeShutdown('unsatisfied');
    const stopped: Moment = { own: [END, END], quorum: 'unsatisfied', shutdown: confirmed };
    expect(reports.say(stopped)).toEqual([END, END, 0]);
    expect(reports.say({ own: [1_100, 1_100], quorum: 'unsatisfied' })).toEqual([1_100, 0, 0]);
    expect(reports.say({ own: [1_100, 1_100], quorum: [990, 980, 970] })).toEqual([END, END, 970]);
  });

  it('is said once more on a relay that goes, when it comes after everything was said', () => {
    const reports = new Reports();
    const isWithdrawn = true;
    reports.say({ own: [900, 900], isWithdrawn });
    expect(reports.say({ own: [900, 900], isWithdrawn })).toEqual([900, 0, 0]);
    const moment: Moment = { own: [END, END], isWithdrawn, shutdown: waiting };
    expect(reports.say(moment)).toEqual([900, 0, 0]);
    expect(reports.say({ ...moment, shutdown: confirmed })).toEqual([END, END, 0]);
    expect(reports.say({ ...moment, shutdown: confirmed })).toEqual([END, END, 0]);
  });
});

/** What can happen, as differences; positions of standbys go back and forth as they like. */
const STEP: fc.Arbitrary<{
  readonly w: number;
  readonly f: number;
  readonly quorum: Row | 'unsatisfied' | null;
  readonly shutdown: boolean | null;
  readonly isWithdrawn: boolean;
  readonly ms: number;
  readonly begins: 'no' | 'connection' | 'timeline';
}> = fc.record({
  w: fc.nat(1_000),
  f: fc.nat(1_000),
  quorum: fc.oneof(
    fc.constant(null),
    fc.constant('unsatisfied' as const),
    fc.tuple(fc.nat(20_000), fc.integer({ min: 1, max: 20_000 }), fc.nat(20_000)),
  ),
  shutdown: fc.option(fc.boolean()),
  isWithdrawn: fc.boolean(),
  ms: fc.nat(800),
  begins: fc.constantFrom('no', 'no', 'no', 'no', 'connection', 'timeline'),
});

it('never says more than the policy allows, never takes back what it offered, whatever happens', () => {
  fc.assert(
    fc.property(fc.array(STEP, { maxLength: 40 }), (steps) => {
      const reports = new Reports();
      let [w, f, now, timeline] = [0, 0, 0, 1];
      let offered: Row = [0, 0, 0];
      /** The highest that may have been told to be safe: by the policy of its time, or as what nobody waits for. */
      let allowed = 0;
      let allowedApply = 0;
      for (const step of steps) {
        if (step.begins !== 'no') {
          if (step.begins === 'timeline') [timeline, allowedApply] = [timeline + 1, 0];
          reports.start(timeline, allowed, w);
          offered = [0, step.begins === 'connection' ? offered[1] : allowed, 0];
        }
        const hadReceived = w;
        w += step.w;
        f = Math.min(w, f + step.f);
        now += step.ms;
        const isStopping = step.shutdown !== null && w > hadReceived;
        const shutdown = isStopping ? { endLsn: at(w), isConfirmed: step.shutdown === true } : null;
        const said = reports.say(
          {
            own: [w, f],
            ...(step.quorum === null ? {} : { quorum: step.quorum }),
            shutdown,
            isWithdrawn: step.isWithdrawn,
          },
          now,
        );
        const [write, flush, apply] = said;
        expect(write).toBeLessThanOrEqual(w);
        expect(flush).toBeLessThanOrEqual(f);
        const quorumFlush =
          step.quorum === null ? f : step.quorum === 'unsatisfied' ? 0 : step.quorum[1];
        allowed = Math.max(allowed, Math.min(f, quorumFlush), isStopping && f >= w ? f : 0);
        expect(flush).toBeLessThanOrEqual(allowed);
        // And never less, or commits would wait that need not.
        const isBound = isStopping || step.isWithdrawn || f < offered[1];
        if (!isBound && step.quorum !== 'unsatisfied') {
          const [quorumWrite, , quorumApply] = step.quorum ?? [w, f, 0];
          expect(write).toBeGreaterThanOrEqual(Math.min(w, quorumWrite));
          expect(flush).toBeGreaterThanOrEqual(Math.min(f, quorumFlush));
          expect(apply).toBeGreaterThanOrEqual(Math.min(f, quorumApply));
        }
        // Never invented: at most what chosen standbys have said that they applied.
        if (step.quorum !== null && step.quorum !== 'unsatisfied') {
          allowedApply = Math.max(allowedApply, Math.min(f, step.quorum[2]));
        }
        expect(apply).toBeLessThanOrEqual(allowedApply);
        if (flush === 0) {
          expect(apply).toBe(0);
          continue;
        }
        expect(write).toBeGreaterThanOrEqual(offered[0]);
        expect(flush).toBeGreaterThanOrEqual(offered[1]);
        if (apply !== 0) expect(apply).toBeGreaterThanOrEqual(offered[2]);
        offered = [write, flush, Math.max(apply, offered[2])];
      }
    }),
    { numRuns: 2_000 },
  );
});
