// Which places of max_wal_senders are kept for standbys that are named, and who may sit on them meanwhile?
import { describe, expect, it } from 'vitest';
import { ReservedPlaces } from '../../src/walsender/reserved-places.ts';
import type { ReservedNames } from '../../src/walsender/reserved-places.ts';

interface Session {
  readonly applicationName: string;
  slot: string | null;
}

function places(
  max: number,
  names: Partial<ReservedNames> = {},
): { reserved: ReservedPlaces<Session>; come: (name: string, slot?: string) => Session } {
  const reserved = new ReservedPlaces<Session>({
    names: () => ({ slots: [], standbys: [], ...names }),
    max: () => max,
  });
  const come = (applicationName: string, slot: string | null = null): Session => {
    const session = { applicationName, slot };
    reserved.take(session);
    return session;
  };
  return { reserved, come };
}

describe('places', () => {
  it('are free up to the limit where nobody is named', () => {
    const { reserved, come } = places(2);
    expect(reserved.placeFor('a')).toBe('free');
    const first = come('a');
    come('b');
    expect([reserved.placeFor('c'), reserved.size]).toEqual(['none', 2]);
    reserved.leave(first);
    reserved.leave(first);
    expect(reserved.placeFor('c')).toBe('free');
  });

  it('are kept for synchronous standbys that are not there, and for nobody who is', () => {
    const { reserved, come } = places(3, { standbys: ['s1', 'S2'] });
    come('other');
    expect(reserved.placeFor('another')).toBe('none');
    expect(reserved.placeFor('S1')).toBe('own');
    come('s1');
    expect([reserved.placeFor('another'), reserved.placeFor('s1')]).toEqual(['none', 'lent']);
    come('s2');
    expect([reserved.placeFor('s2'), reserved.size]).toEqual(['none', 3]);
  });

  it('are lent to who is not known by name where a slot is, who stays only with such a slot', () => {
    const { reserved, come } = places(2, { slots: ['pg_0', 'pg_1'] });
    expect(reserved.placeFor('pg-0')).toBe('own');
    expect(reserved.placeFor('walreceiver')).toBe('lent');
    const first = come('walreceiver');
    expect([reserved.mayStay(first, null), reserved.mayStay(first, 'mine')]).toEqual([
      false,
      false,
    ]);
    expect(reserved.mayStay(first, 'pg_0')).toBe(true);
    first.slot = 'pg_0';
    const second = come('walreceiver');
    expect(reserved.mayStay(second, null)).toBe(false);
    expect(reserved.mayStay(first, null)).toBe(true);
  });

  it('that are lent are given back to who they are kept for, the longest lent first', () => {
    const { reserved, come } = places(2, { slots: ['a', 'b'] });
    const stranger = come('x');
    const other = come('y');
    const owner = { applicationName: 'a', slot: null };
    expect(reserved.placeFor('a')).toBe('own');
    expect(reserved.take(owner)).toBe(stranger);
    expect(reserved.size).toBe(2);
    expect(reserved.take({ applicationName: 'b', slot: null })).toBe(other);
    expect([reserved.placeFor('x'), reserved.size]).toEqual(['none', 2]);
  });

  it('that are lent become free ones when there is room after all', () => {
    const { reserved, come } = places(2, { slots: ['a'] });
    const ordinary = come('x');
    const lent = come('y');
    expect(reserved.mayStay(lent, null)).toBe(false);
    reserved.leave(ordinary);
    expect(reserved.mayStay(lent, null)).toBe(true);
    expect(reserved.placeFor('z')).toBe('lent');
  });

  it('are not refused to who is named and comes again before its old session is known to be dead', () => {
    const { reserved, come } = places(3, { standbys: ['s1', 's2'] });
    come('other');
    const dead = come('s1');
    expect(reserved.placeFor('other')).toBe('none');
    expect(reserved.placeFor('s1')).toBe('lent');
    const back = come('s1');
    expect(reserved.mayStay(back, null)).toBe(true);
    expect(reserved.size).toBe(3);
    reserved.leave(dead);
    // It has the place of its name now, and the other one is kept.
    expect([reserved.placeFor('other'), reserved.placeFor('s2')]).toEqual(['none', 'own']);
    expect(reserved.take({ applicationName: 's2', slot: null })).toBeNull();
    expect([reserved.placeFor('other'), reserved.placeFor('s1')]).toEqual(['none', 'none']);
  });

  it('that are lent to a second one of a name are given back to who they are kept for', () => {
    const { reserved, come } = places(2, { standbys: ['s1', 's2'] });
    come('s1');
    const second = come('s1');
    expect(reserved.mayStay(second, null)).toBe(true);
    // The third one does not drive out the second.
    expect(reserved.placeFor('s1')).toBe('none');
    expect(reserved.take({ applicationName: 's2', slot: null })).toBe(second);
    expect(reserved.placeFor('s1')).toBe('none');
  });

  it('are no more than there are after a reload made them fewer', () => {
    let max = 4;
    const reserved = new ReservedPlaces<Session>({
      names: () => ({ slots: ['a', 'b'], standbys: [] }),
      max: () => max,
    });
    for (const applicationName of ['x', 'y', 'z']) reserved.take({ applicationName, slot: null });
    max = 1;
    expect([reserved.placeFor('a'), reserved.placeFor('x'), reserved.size]).toEqual([
      'none',
      'none',
      3,
    ]);
  });

  it('are found in no time, however many are named and there: whoever knocks makes us ask', () => {
    const slots = Array.from({ length: 1_000 }, (_, index) => `slot_${index}`);
    const names = { slots, standbys: [] };
    const reserved = new ReservedPlaces<Session>({ names: () => names, max: () => 2_500 });
    for (let index = 0; index < 1_490; index += 1) {
      reserved.take({ applicationName: `standby-${index}`, slot: null });
    }
    const beganAtMs = performance.now();
    for (let count = 0; count < 10_000; count += 1) reserved.placeFor(`stranger-${count}`);
    expect(performance.now() - beganAtMs).toBeLessThan(1_000);
  });
});
