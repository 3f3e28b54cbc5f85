// Who comes first of the servers that discovery knows, and when is a stream that works left for another one?
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  DISCOVERY_LEADER_MOVED_MS,
  DISCOVERY_RETURN_AGAIN_MS,
  DISCOVERY_RETURN_AGAIN_MS_MAX,
  DISCOVERY_RETURN_MS,
} from '../../src/config/limits.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { orderHosts } from '../../src/walreceiver/discovery-order.ts';
import type { HostPreference } from '../../src/walreceiver/discovery-order.ts';
import { ReturnPolicy } from '../../src/walreceiver/discovery-return.ts';
import type { PatroniMember } from '../../src/walreceiver/patroni-cluster.ts';

function member(name: string, fields: Partial<PatroniMember> = {}): PatroniMember {
  return {
    name,
    role: 'standby',
    state: 'streaming',
    isRunning: true,
    host: name,
    port: 5432,
    timeline: toTimelineId(1),
    lagBytes: 0,
    zone: null,
    isSpared: false,
    ...fields,
  };
}

const A = member('a', { zone: 'east' });
const LEADER = member('b', { role: 'primary', lagBytes: null, zone: 'west' });
const C = member('c', { zone: 'west' });
const DOWN = member('d', { isRunning: false, zone: 'west' });
const CLUSTER = [A, LEADER, C, DOWN];

const PRIMARY: HostPreference = { kind: 'primary' };
const STANDBY: HostPreference = { kind: 'standby' };

function order(members: readonly PatroniMember[], preference: HostPreference): string[] {
  return orderHosts(members, preference).map(({ name, rank }) => `${name} ${rank}`);
}

describe('the order', () => {
  test('has the leader first, then the others, then who does not run', () => {
    expect(order(CLUSTER, PRIMARY)).toEqual(['b preferred', 'a other', 'c other', 'd down']);
  });

  test('has standbys first where they are preferred, and the leader as fall-back', () => {
    expect(order(CLUSTER, STANDBY)).toEqual(['a preferred', 'c preferred', 'b other', 'd down']);
  });

  test('has the zone first, in it the leader', () => {
    const zone = (name: string): HostPreference => ({ kind: 'zone', zone: name });
    expect(order(CLUSTER, zone('west'))).toEqual([
      'b preferred',
      'c preferred',
      'a other',
      'd down',
    ]);
    expect(order(CLUSTER, zone('east'))).toEqual(['a preferred', 'b other', 'c other', 'd down']);
    expect(order(CLUSTER, zone('none'))).toEqual(['b other', 'a other', 'c other', 'd down']);
  });

  test('has the leader of a standby cluster where a leader is meant', () => {
    const members = [A, { ...LEADER, role: 'standby_leader' as const }];
    expect(order(members, PRIMARY)).toEqual(['b preferred', 'a other']);
    expect(order(members, STANDBY)).toEqual(['a preferred', 'b other']);
  });

  test('has who is on an older timeline than the leader behind the others', () => {
    const moved = { ...LEADER, timeline: toTimelineId(2) };
    const followed = { ...C, timeline: toTimelineId(2) };
    expect(order([A, moved, followed], STANDBY)).toEqual(['c preferred', 'b other', 'a behind']);
    expect(order([A, moved, { ...C, timeline: null }], STANDBY)[0]).toBe('c preferred');
  });

  test('spares who asks for it', () => {
    const spared = { ...A, isSpared: true };
    expect(order([spared, LEADER, C], STANDBY)).toEqual(['c preferred', 'b other', 'a other']);
    expect(order([spared, LEADER, C], PRIMARY)).toEqual(['b preferred', 'c other', 'a other']);
  });

  test('does not move with the lag', () => {
    const lagging = CLUSTER.map((one) => ({ ...one, lagBytes: 1e9 }));
    expect(order(lagging, STANDBY)).toEqual(order(CLUSTER, STANDBY));
  });

  test('has everybody, whatever is preferred', () => {
    const members = fc.array(
      fc.record({
        role: fc.constantFrom('primary', 'standby_leader', 'standby'),
        isRunning: fc.boolean(),
        isSpared: fc.boolean(),
        zone: fc.constantFrom(null, 'east', 'west'),
        timeline: fc.constantFrom(null, toTimelineId(1), toTimelineId(2)),
      }),
      { maxLength: 8 },
    );
    const preference = fc.constantFrom<HostPreference>(PRIMARY, STANDBY, {
      kind: 'zone',
      zone: 'east',
    });
    fc.assert(
      fc.property(members, preference, (given, wanted) => {
        const all = given.map((fields, index) => member(`m${index}`, fields));
        const ordered = orderHosts(all, wanted);
        expect(ordered.map(({ name }) => name).toSorted()).toEqual(all.map(({ name }) => name));
        const ranks = ['preferred', 'other', 'behind', 'down'];
        const places = ordered.map(({ rank }) => ranks.indexOf(rank));
        expect(places).toEqual(places.toSorted((a, b) => a - b));
      }),
    );
  });
});

/** Answers to a policy, five seconds apart. */
class Answers {
  readonly policy = new ReturnPolicy();
  nowMs = 0;

  /** Whom to go over to at this answer. */
  give(
    members: readonly PatroniMember[],
    followed: PatroniMember,
    preference = PRIMARY,
    timeline = 1,
  ): string | null {
    const hosts = orderHosts(members, preference);
    const view = { nowMs: this.nowMs, hosts, followed, timeline: toTimelineId(timeline) };
    const change = this.policy.answered(view);
    this.nowMs += 5_000;
    return change === null ? null : `${change.to.name} ${change.reason}`;
  }

  /** Milliseconds until somebody is to be gone over to, and who. */
  until(give: () => string | null, atMostMs = 3_600_000): [ms: number, change: string | null] {
    const beganMs = this.nowMs;
    while (this.nowMs - beganMs <= atMostMs) {
      const atMs = this.nowMs;
      const change = give();
      if (change !== null) return [atMs - beganMs, change];
    }
    return [atMostMs, null];
  }
}

describe('a stream that works', () => {
  test('stays with a preferred server for ever', () => {
    const answers = new Answers();
    expect(answers.until(() => answers.give(CLUSTER, LEADER))).toEqual([3_600_000, null]);
    expect(answers.until(() => answers.give(CLUSTER, A, STANDBY))).toEqual([3_600_000, null]);
  });

  test('goes back to a preferred server after it has been there for a while', () => {
    const answers = new Answers();
    const change = answers.until(() => answers.give(CLUSTER, A));
    expect(change).toEqual([DISCOVERY_RETURN_MS, 'b preferred']);
  });

  test('stays where no preferred server is', () => {
    const answers = new Answers();
    const led = [A, { ...LEADER, isRunning: false }, C];
    expect(answers.until(() => answers.give(led, A))).toEqual([3_600_000, null]);
    expect(answers.until(() => answers.give([LEADER, DOWN], LEADER, STANDBY))[1]).toBeNull();
  });

  test('stays while the preferred server comes and goes', () => {
    const answers = new Answers();
    let turn = 0;
    const change = answers.until(() => {
      turn += 1;
      return answers.give(turn % 5 === 0 ? [A, C] : CLUSTER, A);
    });
    expect(change).toEqual([3_600_000, null]);
  });

  test('does not go to a preferred server on an older timeline than ours', () => {
    const answers = new Answers();
    expect(answers.until(() => answers.give([A, C], LEADER, STANDBY, 2))[1]).toBeNull();
    const followed = { ...C, timeline: toTimelineId(2) };
    expect(answers.until(() => answers.give([A, followed], LEADER, STANDBY, 2))[1]).toBe(
      'c preferred',
    );
  });

  test('tries again and again, later each time, and another one where there are several', () => {
    const answers = new Answers();
    const tries = Array.from({ length: 8 }, () =>
      answers.until(() => answers.give(CLUSTER, LEADER, STANDBY)),
    );
    expect(tries.map(([, change]) => change)).toEqual(
      Array.from({ length: 8 }, (_, index) => `${index % 2 === 0 ? 'a' : 'c'} preferred`),
    );
    const waits = tries.map(([ms]) => ms);
    expect(waits).toEqual(waits.toSorted((a, b) => a - b));
    expect(waits[0]).toBe(DISCOVERY_RETURN_MS);
    expect(waits.at(-1)).toBeLessThanOrEqual(DISCOVERY_RETURN_AGAIN_MS_MAX);
    expect(waits.at(-1)).toBeGreaterThan(DISCOVERY_RETURN_AGAIN_MS_MAX / 2);
  });

  test('does not flap between two zones whatever Patroni says', () => {
    // Each change is followed, and the tag changes at once.
    const answers = new Answers();
    let followed = A;
    let changes = 0;
    for (; answers.nowMs < 3_600_000;) {
      const other = followed === A ? C : A;
      const members = [
        { ...followed, zone: 'there' },
        { ...other, zone: 'here' },
      ];
      if (answers.give(members, followed, { kind: 'zone', zone: 'here' }) !== null) {
        changes += 1;
        followed = other;
      }
    }
    expect(changes).toBeLessThan(12);
  });

  test('leaves a server that stays on its timeline when the leader went on, soon', () => {
    const moved = { ...LEADER, timeline: toTimelineId(2) };
    const answers = new Answers();
    expect(answers.until(() => answers.give([A, moved], A, STANDBY))).toEqual([
      DISCOVERY_LEADER_MOVED_MS,
      'b leader-moved',
    ]);
    // Whoever is not listed any more stands still as well.
    const others = new Answers();
    expect(others.until(() => others.give([moved], A, STANDBY))[1]).toBe('b leader-moved');
  });

  test('stays with a server that has followed the leader, however long our own timeline takes to its end', () => {
    const moved = { ...LEADER, timeline: toTimelineId(2) };
    const followed = { ...A, timeline: toTimelineId(2) };
    for (const from of [followed, moved]) {
      const answers = new Answers();
      const preference = from === moved ? PRIMARY : STANDBY;
      const change = answers.until(() => answers.give([followed, moved], from, preference));
      expect(change).toEqual([3_600_000, null]);
    }
  });

  test('stays with a server that follows the leader within a moment', () => {
    const moved = { ...LEADER, timeline: toTimelineId(2) };
    const answers = new Answers();
    expect(answers.give([A, moved], A, STANDBY)).toBeNull();
    expect(
      answers.until(() =>
        answers.give([{ ...A, timeline: toTimelineId(2) }, moved], A, STANDBY, 2),
      ),
    ).toEqual([3_600_000, null]);
  });

  test('leaves for a leader on a newer timeline also soon after another change, but not twice at once', () => {
    const moved = { ...LEADER, timeline: toTimelineId(2) };
    const answers = new Answers();
    answers.until(() => answers.give([A, moved], A, STANDBY));
    const again = answers.until(() => answers.give([A, moved], A, STANDBY));
    expect(again).toEqual([DISCOVERY_RETURN_AGAIN_MS - 5_000, 'b leader-moved']);
  });

  test('counts from anew after it was lost', () => {
    const answers = new Answers();
    answers.give(CLUSTER, A);
    answers.nowMs = DISCOVERY_RETURN_MS - 1;
    answers.policy.streamLost();
    expect(answers.until(() => answers.give(CLUSTER, A))[0]).toBe(DISCOVERY_RETURN_MS);
  });
});
