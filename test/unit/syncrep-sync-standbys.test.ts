// Are the standbys that commits wait for, their states, and what all of them have confirmed, those of PostgreSQL? Compared
// with a model that is written from the documentation, sorts everything anew and shares nothing with the code. Real
// servers are asked in test/pg/sync-decisions.test.ts.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { WALSENDER_STATES } from '../../src/status/status.ts';
import { parseSynchronousStandbyNames } from '../../src/syncrep/standby-names.ts';
import type { SyncPolicy } from '../../src/syncrep/standby-names.ts';
import { decideSync, SyncDecider } from '../../src/syncrep/sync-standbys.ts';
import type { SyncStandby } from '../../src/syncrep/sync-standbys.ts';

const TIMELINE = toTimelineId(3);
const OTHER_TIMELINE = toTimelineId(2);

const at = (value: number): Lsn => toLsn(BigInt(value));

let lastPid = 100;

function standby(applicationName: string, parts: Partial<SyncStandby> = {}): SyncStandby {
  lastPid += 1;
  const pid = parts.pid ?? lastPid;
  return {
    pid,
    place: pid,
    applicationName,
    state: 'streaming',
    timeline: TIMELINE,
    writeLsn: at(300),
    flushLsn: at(200),
    applyLsn: at(100),
    ...parts,
  };
}

/** Which states a policy gives, in the order of the standbys: `sync 1`. */
function statesOf(text: string, standbys: readonly SyncStandby[]): string[] {
  const decision = decideSync(parseSynchronousStandbyNames(text), standbys, TIMELINE);
  return standbys.map(({ pid }) => {
    const { state, priority } = decision.stateOf(pid);
    return `${state} ${priority}`;
  });
}

describe('standbys', () => {
  const [a, b, c] = [standby('a'), standby('b'), standby('c')];

  it.each([
    ['', ['async 0', 'async 0', 'async 0']],
    ['a', ['sync 1', 'async 0', 'async 0']],
    ['FIRST 1 (b, a)', ['potential 2', 'sync 1', 'async 0']],
    ['2 (c, b, a)', ['potential 3', 'sync 2', 'sync 1']],
    ['FIRST 1 (*)', ['sync 1', 'potential 1', 'potential 1']],
    ['FIRST 2 (c, *)', ['sync 2', 'potential 2', 'sync 1']],
    ['FIRST 3 (a, b)', ['sync 1', 'sync 2', 'async 0']],
    ['ANY 1 (a, b)', ['quorum 1', 'quorum 1', 'async 0']],
    ['ANY 3 (c, *)', ['quorum 1', 'quorum 1', 'quorum 1']],
    ['ANY 9 (A)', ['quorum 1', 'async 0', 'async 0']],
  ] as const)('under %j are %j', (text, states) => {
    expect(statesOf(text, [a, b, c])).toEqual(states);
  });

  it('of one name come in the order of their places, not of their coming', () => {
    const late = standby('a', { place: 1 });
    const early = standby('a', { place: 0 });
    expect(statesOf('FIRST 1 (a)', [late, early])).toEqual(['potential 1', 'sync 1']);
  });

  it('that do not stream, stream another timeline, or report no flush position are waited for by nobody', () => {
    const catching = standby('a', { state: 'catchup' });
    const silent = standby('a', { flushLsn: INVALID_LSN });
    const historic = standby('a', { timeline: OTHER_TIMELINE });
    const stopping = standby('a', { state: 'stopping' });
    const all = [catching, silent, historic, stopping];
    expect(statesOf('FIRST 4 (a)', all)).toEqual([
      'potential 1',
      'async 0',
      'potential 1',
      'sync 1',
    ]);
    expect(statesOf('ANY 4 (a)', all)).toEqual([
      'potential 1',
      'async 0',
      'potential 1',
      'quorum 1',
    ]);
  });

  it('that are not there are asynchronous', () => {
    expect(decideSync(null, [], TIMELINE).stateOf(1)).toEqual({ state: 'async', priority: 0 });
  });
});

describe('positions', () => {
  const [a, b, c] = [
    standby('a', { writeLsn: at(30), flushLsn: at(20), applyLsn: at(1) }),
    standby('b', { writeLsn: at(50), flushLsn: at(10), applyLsn: at(5) }),
    standby('c', { writeLsn: at(40), flushLsn: at(40), applyLsn: at(0) }),
  ];

  function positions(text: string): unknown {
    const policy = parseSynchronousStandbyNames(text);
    const decision = decideSync(policy, [a, b, c], TIMELINE);
    const found = decision.positions;
    if (found === null) return decision.isSatisfied ? 'no policy' : 'too few';
    return [found.writeLsn, found.flushLsn, found.applyLsn].map(Number);
  }

  it.each([
    ['', 'no policy'],
    ['a', [30, 20, 1]],
    ['FIRST 1 (b, a)', [50, 10, 5]],
    ['FIRST 2 (b, a)', [30, 10, 1]],
    ['FIRST 2 (c, a)', [30, 20, 0]],
    ['FIRST 3 (*)', [30, 10, 0]],
    ['FIRST 4 (*)', 'too few'],
    ['ANY 1 (a, b, c)', [50, 40, 5]],
    ['ANY 2 (a, b, c)', [40, 20, 1]],
    ['ANY 3 (a, b, c)', [30, 10, 0]],
    ['ANY 2 (c)', 'too few'],
    ['x', 'too few'],
    ['ANY 257 (a, b, c)', 'too few'],
  ] as const)('under %j are %j', (text, wanted) => {
    expect(positions(text)).toEqual(wanted);
  });

  it('of a chosen standby that reports none are none for all, where a server would forget it', () => {
    const silent = standby('a', { applyLsn: INVALID_LSN, writeLsn: INVALID_LSN });
    const policy = parseSynchronousStandbyNames('FIRST 2 (a, b)');
    expect(decideSync(policy, [silent, b], TIMELINE).positions).toEqual({
      writeLsn: INVALID_LSN,
      flushLsn: at(10),
      applyLsn: INVALID_LSN,
    });
  });

  it('are the n-th latest of as many as there are, more than a byte can count', () => {
    const many = Array.from({ length: 600 }, (_, index) =>
      standby('m', { writeLsn: at(index + 1), flushLsn: at(index + 1), applyLsn: at(index + 1) }),
    );
    const nth = (count: number): unknown =>
      decideSync(parseSynchronousStandbyNames(`ANY ${count} (*)`), many, TIMELINE).positions;
    expect(nth(256)).toMatchObject({ flushLsn: at(345) });
    expect(nth(257)).toMatchObject({ flushLsn: at(344) });
    expect(nth(600)).toMatchObject({ flushLsn: at(1) });
  });
});

interface ModelDecision {
  readonly chosen: readonly SyncStandby[];
  readonly eligible: number;
  readonly states: ReadonlyMap<number, string>;
  readonly positions: readonly Lsn[] | null;
}

const order = (one: Lsn, other: Lsn): number => (one < other ? -1 : one > other ? 1 : 0);

/** The model. */
function model(policy: SyncPolicy, standbys: readonly SyncStandby[]): ModelDecision {
  const isQuorum = policy.method === 'quorum';
  const rank = ({ applicationName }: SyncStandby): number => {
    const wanted = applicationName.toLowerCase();
    const index = policy.names.findIndex((name) => name === '*' || name.toLowerCase() === wanted);
    return index < 0 ? 0 : isQuorum ? 1 : index + 1;
  };
  const candidates = standbys
    .filter((one) => rank(one) > 0 && one.flushLsn > 0n && one.timeline === TIMELINE)
    .filter(({ state }) => state === 'streaming' || state === 'stopping')
    .toSorted((one, other) => rank(one) - rank(other) || one.place - other.place);
  const chosen = isQuorum ? candidates : candidates.slice(0, policy.required);
  const states = standbys.map((one): [number, string] => {
    const priority = one.flushLsn > 0n ? rank(one) : 0;
    const state = chosen.includes(one) ? (isQuorum ? 'quorum' : 'sync') : 'potential';
    return [one.pid, priority === 0 ? 'async 0' : `${state} ${priority}`];
  });
  const nth = (of: (one: SyncStandby) => Lsn): Lsn =>
    chosen.map(of).toSorted(order).at(-policy.required) ?? INVALID_LSN;
  return {
    chosen,
    eligible: candidates.length,
    states: new Map(states),
    positions:
      candidates.length < policy.required
        ? null
        : [
            nth(({ writeLsn }) => writeLsn),
            nth(({ flushLsn }) => flushLsn),
            nth(({ applyLsn }) => applyLsn),
          ],
  };
}

const NAMES = ['a', 'A', 'b', 'c', 'd', '*'];

const policies: fc.Arbitrary<SyncPolicy> = fc
  .record({
    method: fc.constantFrom('ANY', 'FIRST'),
    required: fc.integer({ min: 1, max: 6 }),
    names: fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 5 }),
  })
  .map(({ method, required, names }) => {
    const policy = parseSynchronousStandbyNames(`${method} ${required} (${names.join(', ')})`);
    if (policy === null) throw new Error('empty');
    return policy;
  });

const lsns = fc.oneof(
  fc.integer({ min: 0, max: 9 }).map(at),
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map(toLsn),
);

const fleets = (maxLength: number): fc.Arbitrary<SyncStandby[]> =>
  fc
    .uniqueArray(
      fc.record({
        place: fc.integer({ min: 0, max: 2 ** 18 }),
        applicationName: fc.constantFrom('a', 'b', 'B', 'c', 'e'),
        state: fc.oneof(
          { weight: 4, arbitrary: fc.constant('streaming' as const) },
          fc.constantFrom(...WALSENDER_STATES),
        ),
        timeline: fc.oneof(
          { weight: 6, arbitrary: fc.constant(TIMELINE) },
          fc.constantFrom(OTHER_TIMELINE, null),
        ),
        writeLsn: lsns,
        flushLsn: lsns,
        applyLsn: lsns,
      }),
      { maxLength, selector: ({ place }) => place },
    )
    .map((fleet) => fleet.map((one, index) => ({ ...one, pid: index + 1 })));

describe('a decision', () => {
  it('is that of the model, for any policy and any standbys', () => {
    let satisfied = 0;
    fc.assert(
      fc.property(policies, fleets(12), (policy, fleet) => {
        const wanted = model(policy, fleet);
        const decision = decideSync(policy, fleet, TIMELINE);
        const found = decision.positions;
        expect(found && [found.writeLsn, found.flushLsn, found.applyLsn]).toEqual(wanted.positions);
        expect(decision.isSatisfied).toBe(wanted.positions !== null);
        expect(decision.eligible).toBe(wanted.eligible);
        for (const { pid } of fleet) {
          const { state, priority } = decision.stateOf(pid);
          expect(`${state} ${priority}`).toBe(wanted.states.get(pid));
        }
        if (decision.isSatisfied) satisfied += 1;
      }),
      { numRuns: 2_000 },
    );
    // A generator that satisfies no policy would show nothing.
    expect(satisfied).toBeGreaterThan(300);
  });

  it('does not depend on what the same decider was asked before', () => {
    const steps = fc.array(fc.tuple(fc.option(policies), fleets(40)), { maxLength: 6 });
    fc.assert(
      fc.property(steps, (all) => {
        const decider = new SyncDecider();
        for (const [policy, fleet] of all) {
          const quorum = decider.decide(policy, fleet, TIMELINE);
          expect(decideSync(policy, fleet, TIMELINE)).toMatchObject(quorum);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('does not depend on the order in which standbys are looked at', () => {
    fc.assert(
      fc.property(policies, fleets(12), (policy, fleet) => {
        const one = decideSync(policy, fleet, TIMELINE);
        const other = decideSync(policy, fleet.toReversed(), TIMELINE);
        expect(other.positions).toEqual(one.positions);
        for (const { pid } of fleet) expect(other.stateOf(pid)).toEqual(one.stateOf(pid));
      }),
    );
  });

  it('never goes beyond what any of the required number of standbys confirmed', () => {
    fc.assert(
      fc.property(policies, fleets(12), (policy, fleet) => {
        const found = decideSync(policy, fleet, TIMELINE).positions;
        if (found === null) return;
        for (const head of ['writeLsn', 'flushLsn', 'applyLsn'] as const) {
          const reached = model(policy, fleet).chosen.filter((one) => one[head] >= found[head]);
          expect(reached.length).toBeGreaterThanOrEqual(policy.required);
        }
      }),
    );
  });
});
