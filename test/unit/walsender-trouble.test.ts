// Standbys in trouble, with numbers: stalled ones, absent ones, a slot that a dead connection holds, a crowd at the door.
import { describe, expect, it } from 'vitest';
import {
  ABSENT_STANDBY_FORGET_MS,
  ABSENT_STANDBY_WEDGED_MS,
  ABSENT_STANDBYS_MAX,
  TIMEOUT_SECOND_LOOK_MS,
} from '../../src/config/limits.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { AbsentStandbys } from '../../src/walsender/absent-standbys.ts';
import type { Departure } from '../../src/walsender/absent-standbys.ts';
import { mayTakeOver, SlotTakeover } from '../../src/walsender/slot-takeover.ts';
import { StandbyStall } from '../../src/walsender/standby-stall.ts';
import { sampleStandby } from '../support/relay-status.ts';

describe('StandbyStall', () => {
  const watch = (): StandbyStall => new StandbyStall({ limitMs: 60_000, tickMs: 1000, nowMs: 0 });
  const at = (nowMs: number, confirmed: bigint, end: bigint) => ({
    nowMs,
    confirmedLsn: toLsn(confirmed),
    endLsn: toLsn(end),
  });

  it('calls a standby stalled that confirms nothing for a minute although there is more, and says so once', () => {
    const stall = watch();
    const changes: string[] = [];
    for (let second = 1; second <= 200; second += 1) {
      const change = stall.tick(at(second * 1000, 100n, 100n + BigInt(second)));
      if (change !== 'none') changes.push(`${change} ${second}`);
    }
    // Its first word is progress; the minute begins with it.
    expect(changes).toEqual(['stalled 61']);
    expect(stall.isStalled).toBe(true);
    expect(stall.tick(at(201_000, 101n, 400n))).toBe('resumed');
    expect(stall.isStalled).toBe(false);
  });

  it('takes any progress, and nothing left to confirm, for good', () => {
    const stall = watch();
    for (let second = 1; second <= 300; second += 1) {
      const confirmed = BigInt(100 + Math.floor(second / 59));
      expect(stall.tick(at(second * 1000, confirmed, 10_000n))).toBe('none');
    }
    const idle = watch();
    for (let second = 1; second <= 300; second += 1) {
      expect(idle.tick(at(second * 1000, 100n, 100n))).toBe('none');
    }
    expect(idle.withoutProgressMs).toBe(0);
  });

  it('does not count time in which we did not run', () => {
    const stall = watch();
    stall.tick(at(1000, 100n, 200n));
    // Stopped for ten minutes, twice.
    expect(stall.tick(at(601_000, 100n, 200n))).toBe('none');
    expect(stall.tick(at(1_201_000, 100n, 200n))).toBe('none');
    expect(stall.withoutProgressMs).toBeLessThan(10_000);
  });

  it('counts from where a switch of the timeline cut what had been confirmed', () => {
    const stall = watch();
    stall.tick(at(1000, 500n, 600n));
    stall.tick(at(2000, 300n, 600n));
    expect(stall.tick(at(3000, 301n, 600n))).toBe('none');
    expect(stall.withoutProgressMs).toBe(0);
  });
});

describe('SlotTakeover', () => {
  const ask = (): SlotTakeover => new SlotTakeover({ nowMs: 1000, probeMs: 3000 });

  it('waits for the answer of the holder, and gives it a moment more in case nobody listened', () => {
    const takeover = ask();
    takeover.tick(3999);
    expect(takeover.state).toBe('asking');
    expect(takeover.nextTickMs).toBe(4000);
    takeover.tick(4000);
    expect(takeover.state).toBe('asking');
    expect(takeover.nextTickMs).toBe(4000 + TIMEOUT_SECOND_LOOK_MS);
    takeover.tick(4000 + TIMEOUT_SECOND_LOOK_MS);
    expect(takeover.state).toBe('silent');
  });

  it('gives the moment after a pause of our own, however long it was', () => {
    const takeover = ask();
    takeover.tick(100_000);
    expect(takeover.state).toBe('asking');
    takeover.onSignOfLife();
    takeover.tick(200_000);
    expect(takeover.state).toBe('held');
  });

  it.each([
    ['onSignOfLife', 'held'],
    ['onHolderGone', 'free'],
    ['onCalledOff', 'off'],
  ] as const)('is settled by the first that happens: %s', (event, state) => {
    const takeover = ask();
    takeover[event]();
    takeover.onSignOfLife();
    takeover.onHolderGone();
    takeover.onCalledOff();
    takeover.tick(10_000);
    takeover.tick(20_000);
    expect(takeover.state).toBe(state);
  });

  it('is no matter of what comes after silence was found', () => {
    const takeover = ask();
    takeover.tick(4000);
    takeover.tick(5000);
    takeover.onSignOfLife();
    expect(takeover.state).toBe('silent');
  });

  it('happens between equals only, and not on Unix sockets', () => {
    const party = {
      user: 'replicator',
      applicationName: 'a',
      clientAddr: '10.0.0.1',
      isEncrypted: false,
    };
    expect(mayTakeOver(party, { ...party })).toBe(true);
    expect(mayTakeOver(party, { ...party, user: 'other' })).toBe(false);
    expect(mayTakeOver(party, { ...party, applicationName: 'b' })).toBe(false);
    expect(mayTakeOver(party, { ...party, clientAddr: '10.0.0.2' })).toBe(false);
    expect(mayTakeOver(party, { ...party, isEncrypted: true })).toBe(false);
    const local = { ...party, clientAddr: null };
    expect(mayTakeOver(local, { ...local })).toBe(false);
  });
});

describe('AbsentStandbys', () => {
  const HOUR_MS = 3_600_000;
  const always = (): boolean => true;
  const left = (
    standby: Partial<Departure['standby']> = {},
    rest: Partial<Departure> = {},
  ): Departure => ({
    standby: sampleStandby({ flushLsn: toLsn(900n), applyLsn: toLsn(800n), ...standby }),
    reason: 'client',
    how: 'terminated',
    nowMs: 0,
    wallMs: 1_700_000_000_000,
    ...rest,
  });
  const names = (absent: AbsentStandbys, nowMs = 0): string[] =>
    absent.list(nowMs, always).map(({ applicationName }) => applicationName);

  it('keeps a standby that left, with its last positions and what was seen of its going', () => {
    const absent = new AbsentStandbys();
    absent.onLeft(left({}, { reason: 'timeout', how: 'timeout' }));
    expect(absent.list(1000, always)).toEqual([
      expect.objectContaining({
        applicationName: 'standby_a',
        user: 'replicator',
        clientAddr: '10.0.0.7',
        slotName: 'slot_a',
        flushLsn: 900n,
        applyLsn: 800n,
        leftAtMs: 1_700_000_000_000,
        reason: 'timeout',
        how: 'timeout',
        isMaybeWedged: false,
      }),
    ]);
  });

  it('calls one maybe wedged that said goodbye with WAL it had not replayed, and is not back after a minute', () => {
    const absent = new AbsentStandbys();
    absent.onLeft(left());
    const isWedged = (nowMs: number): boolean | undefined =>
      absent.list(nowMs, always)[0]?.isMaybeWedged;
    expect(isWedged(ABSENT_STANDBY_WEDGED_MS - 1)).toBe(false);
    expect(isWedged(ABSENT_STANDBY_WEDGED_MS)).toBe(true);
    absent.onStreaming(sampleStandby());
    expect(absent.list(ABSENT_STANDBY_WEDGED_MS, always)).toEqual([]);
  });

  it.each<[string, Departure]>([
    ['had replayed everything, as before a stop or a promotion', left({ applyLsn: toLsn(900n) })],
    ['was killed', left({}, { how: 'closed' })],
    ['was reset', left({}, { how: 'reset' })],
    ['fell silent', left({}, { how: 'timeout', reason: 'timeout' })],
    ['was ended by walcast', left({}, { how: 'ended', reason: 'admin' })],
    ['does not replay', left({ applyLsn: toLsn(0n) })],
  ])('calls none so that %s', (_, departure) => {
    const absent = new AbsentStandbys();
    absent.onLeft(departure);
    expect(absent.list(HOUR_MS, always).map((entry) => entry.isMaybeWedged)).toEqual([false]);
  });

  it('does not wait for receivers that are expected to go: no slot, no replay', () => {
    const absent = new AbsentStandbys();
    absent.onLeft(left({ applyLsn: toLsn(0n), slotName: null }));
    expect(absent.list(0, always)).toEqual([]);
  });

  it('knows a standby again by its slot, whatever else has changed', () => {
    const absent = new AbsentStandbys();
    absent.onLeft(left({ slotName: 'a' }));
    absent.onLeft(left({ slotName: 'b', applicationName: 'second' }));
    absent.onStreaming(sampleStandby({ slotName: 'a', applicationName: 'x', user: 'y' }));
    expect(names(absent)).toEqual(['second']);
    absent.onStreaming(sampleStandby({ slotName: null, applicationName: 'second' }));
    expect(names(absent)).toEqual(['second']);
  });

  it('knows it by name and user without a slot, and of several alike the one of the same address', () => {
    const absent = new AbsentStandbys();
    absent.onLeft(left({ slotName: null, clientAddr: '10.0.0.1' }));
    absent.onLeft(left({ slotName: null, clientAddr: '10.0.0.2' }));
    absent.onLeft(left({ slotName: null, clientAddr: '10.0.0.3' }));
    const addresses = (): (string | null)[] =>
      absent.list(0, always).map(({ clientAddr }) => clientAddr);
    absent.onStreaming(sampleStandby({ slotName: null, user: 'other' }));
    expect(addresses()).toEqual(['10.0.0.3', '10.0.0.2', '10.0.0.1']);
    absent.onStreaming(sampleStandby({ slotName: null, clientAddr: '10.0.0.2' }));
    expect(addresses()).toEqual(['10.0.0.3', '10.0.0.1']);
    absent.onStreaming(sampleStandby({ slotName: null, clientAddr: '10.0.0.9' }));
    expect(addresses()).toEqual(['10.0.0.3']);
  });

  it('takes a temporary slot for none: it goes with the session, and a backup is nobody to wait for', () => {
    const absent = new AbsentStandbys();
    const gone = (name: string): boolean => !name.startsWith('pg_');
    absent.onLeft(left({ slotName: 'pg_walreceiver_10000007' }));
    absent.onLeft(left({ slotName: 'pg_basebackup_10000008', applyLsn: toLsn(0n) }));
    const [standby, ...others] = absent.list(ABSENT_STANDBY_WEDGED_MS, gone);
    expect([standby?.slotName, standby?.isMaybeWedged, others]).toEqual([null, true, []]);
    absent.onStreaming(sampleStandby({ slotName: 'pg_walreceiver_10000009' }));
    expect(names(absent)).toEqual([]);
  });

  it('lets go of one whose slot is gone, and of one that is away too long', () => {
    const absent = new AbsentStandbys();
    absent.onLeft(left({ slotName: 'a' }));
    expect(absent.list(0, (name) => name !== 'a')).toEqual([]);
    absent.onLeft(left({ slotName: 'b' }));
    expect(names(absent, ABSENT_STANDBY_FORGET_MS)).toHaveLength(1);
    expect(names(absent, ABSENT_STANDBY_FORGET_MS + 1)).toHaveLength(0);
  });

  it('is bounded: the one that left first is forgotten first', () => {
    const absent = new AbsentStandbys();
    for (let count = 0; count < ABSENT_STANDBYS_MAX + 3; count += 1) {
      absent.onLeft(left({ slotName: `s${count}`, applicationName: `n${count}` }));
    }
    const kept = names(absent);
    expect(kept).toHaveLength(ABSENT_STANDBYS_MAX);
    expect(kept[0]).toBe(`n${ABSENT_STANDBYS_MAX + 2}`);
    expect(kept.at(-1)).toBe('n3');
  });

  it.each<[string, string | null]>([
    ['with a slot', 'a'],
    ['without one', null],
  ])(
    'keeps one that begins to stream and is refused its WAL, as it was before: %s',
    (_, slotName) => {
      const absent = new AbsentStandbys();
      absent.onLeft(left({ slotName, pid: 1 }));
      absent.onLeft(left({ slotName: 'b', applicationName: 'later', pid: 2 }, { nowMs: 50 }));
      const known = absent.list(100, always);
      for (let pid = 3; pid < 10; pid += 1) {
        const none = toLsn(0n);
        const silent = { writeLsn: none, flushLsn: none, applyLsn: none, lastReplyAtMs: null };
        absent.onStreaming(sampleStandby({ slotName, pid, clientAddr: '10.0.0.9' }));
        expect(names(absent, 100)).toEqual(['later']);
        absent.onLeft(
          left({ slotName, pid, ...silent }, { nowMs: 100 * pid, reason: 'wal_removed' }),
        );
      }
      expect(absent.list(100, always)).toEqual(known);
      absent.onStreaming(sampleStandby({ slotName, pid: 20 }));
      absent.onLeft(left({ slotName, pid: 20, flushLsn: toLsn(950n) }, { nowMs: 2000 }));
      expect(absent.list(2000, always).map(({ flushLsn }) => flushLsn)).toEqual([950n, 900n]);
    },
  );

  it('keeps one entry for one slot', () => {
    const absent = new AbsentStandbys();
    absent.onLeft(left({ slotName: 'a' }));
    absent.onLeft(left({ slotName: 'a' }));
    expect(names(absent)).toHaveLength(1);
  });
});
