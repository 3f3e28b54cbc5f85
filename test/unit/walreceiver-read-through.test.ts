// Reading old WAL through, without sockets: whose turn it is, what of the bytes may be given out, and which upstream is the
// right one.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INVALID_LSN, advanceLsn, minLsn, pageStart, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { rootHistory, toTimelineId } from '../../src/pg/timeline.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import { RecordWalk } from '../../src/wal/records/record-walk.ts';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import type { UpstreamIdentity } from '../../src/walreceiver/ports.ts';
import { ReadThroughBuffer } from '../../src/walreceiver/read-through-buffer.ts';
import { readThroughName, whyNotReadFrom } from '../../src/walreceiver/read-through-identity.ts';
import type { ReadThroughOrigin } from '../../src/walreceiver/read-through-ports.ts';
import { ReadThroughTurns } from '../../src/walreceiver/read-through-turns.ts';
import type { TurnAction } from '../../src/walreceiver/read-through-turns.ts';
import { WalFixture } from '../support/wal-fixture.ts';

const LIMITS = { connectionsMax: 2, claimantsMax: 4, turnMs: 100, stallMs: 20 };

describe('turns', () => {
  function machine(...claimants: string[]): ReadThroughTurns<string> {
    const turns = new ReadThroughTurns<string>(LIMITS);
    for (const claimant of claimants) expect(turns.join(claimant)).toBe(true);
    return turns;
  }

  function due(turns: ReadThroughTurns<string>, nowMs: number): string[] {
    const actions: string[] = [];
    for (
      let action: TurnAction<string> | null = turns.next(nowMs);
      action !== null;
      action = turns.next(nowMs)
    ) {
      actions.push(`${action.type} ${action.claimant}`);
    }
    return actions;
  }

  it('are granted in the order of the wishes, as far as there are connections', () => {
    const turns = machine('a', 'b', 'c');
    turns.want('b');
    turns.want('a');
    turns.want('b');
    turns.want('c');
    expect(due(turns, 0)).toEqual(['grant b', 'grant a']);
    expect(due(turns, 99)).toEqual([]);
    expect(turns.isWaiting('c')).toBe(true);
    turns.released('a');
    expect(due(turns, 99)).toEqual(['grant c']);
  });

  it('come sooner for a visitor who wants one for a moment, and who takes no place', () => {
    const turns = machine('a', 'b', 'c', 'd');
    for (const claimant of ['a', 'b', 'c']) turns.want(claimant);
    expect(due(turns, 0)).toEqual(['grant a', 'grant b']);
    turns.wantSoon('visitor');
    turns.wantSoon('gone');
    turns.leave('gone');
    expect(turns.isWaiting('visitor')).toBe(true);
    expect(due(turns, 100)).toEqual(['revoke a', 'revoke b']);
    turns.released('a');
    expect(due(turns, 101)).toEqual(['grant visitor']);
    turns.released('visitor');
    expect(due(turns, 102)).toEqual(['grant c']);
    expect(turns.claimantCount).toBe(4);
  });

  it('are left to the others by visitors, however many come', () => {
    const turns = machine('a', 'b', 'c', 'd');
    for (const visitor of ['v', 'w', 'x']) turns.wantSoon(visitor);
    turns.want('a');
    turns.want('b');
    expect(due(turns, 0)).toEqual(['grant v', 'grant a']);
    turns.released('v');
    expect(due(turns, 1)).toEqual(['grant w']);
    turns.released('w');
    turns.released('a');
    expect(due(turns, 2)).toEqual(['grant x', 'grant b']);
    // Nobody's turn ends for a visitor who has to wait for another.
    turns.wantSoon('y');
    expect(due(turns, 200)).toEqual([]);
    turns.released('x');
    expect(due(turns, 201)).toEqual(['grant y']);
  });

  it('end after a while when somebody waits, the oldest first, and only as many as wait', () => {
    const turns = machine('a', 'b', 'c');
    turns.want('a');
    expect(due(turns, 0)).toEqual(['grant a']);
    turns.want('b');
    expect(due(turns, 10)).toEqual(['grant b']);
    expect(due(turns, 5_000)).toEqual([]);
    turns.want('c');
    expect(due(turns, 5_000)).toEqual(['revoke a']);
    expect(due(turns, 5_001)).toEqual([]);
    turns.want('a');
    turns.released('a');
    expect(due(turns, 5_002)).toEqual(['grant c']);
    turns.want('a');
    expect(due(turns, 5_003)).toEqual(['revoke b']);
  });

  it('end sooner for one that leaves a full buffer untouched', () => {
    const turns = machine('a', 'b', 'c');
    turns.want('a');
    turns.want('b');
    expect(due(turns, 0)).toEqual(['grant a', 'grant b']);
    turns.setFull('b', true, 5);
    turns.setFull('b', true, 9);
    turns.want('c');
    expect(due(turns, 24)).toEqual([]);
    expect(due(turns, 25)).toEqual(['revoke b']);
    turns.setFull('a', true, 30);
    turns.setFull('a', false, 31);
    expect(due(turns, 60)).toEqual([]);
  });

  it('end for one that takes nothing also when nobody waits', () => {
    const turns = machine('a');
    turns.want('a');
    expect(due(turns, 0)).toEqual(['grant a']);
    turns.setFull('a', true, 10);
    expect(due(turns, 29)).toEqual([]);
    expect(due(turns, 30)).toEqual(['revoke a']);
    expect(turns.turnCount).toBe(1);
  });

  it('are of no more claimants than may join, and of none that left', () => {
    const turns = machine('a', 'b', 'c', 'd');
    expect(turns.join('e')).toBe(false);
    turns.want('e');
    turns.want('a');
    turns.leave('a');
    expect(due(turns, 0)).toEqual([]);
    expect(turns.join('e')).toBe(true);
    expect(turns.claimantCount).toBe(4);
  });

  it('are held by no more than there are connections, and everybody gets one, whatever happens', () => {
    const step = fc.record({
      claimant: fc.constantFrom('a', 'b', 'c', 'd'),
      event: fc.constantFrom('want', 'full', 'room', 'release', 'wait'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const turns = machine('a', 'b', 'c', 'd');
        const held = new Set<string>();
        let nowMs = 0;
        const act = (): void => {
          for (const action of due(turns, nowMs)) {
            const [type = '', claimant = ''] = action.split(' ');
            if (type === 'grant') expect(held.has(claimant)).toBe(false);
            if (type === 'grant') held.add(claimant);
            else expect(held.has(claimant)).toBe(true);
            expect(held.size).toBeLessThanOrEqual(2);
          }
        };
        for (const { claimant, event } of steps) {
          nowMs += 7;
          if (event === 'want') turns.want(claimant);
          else if (event === 'full' || event === 'room')
            turns.setFull(claimant, event === 'full', nowMs);
          else if (event === 'release' && held.delete(claimant)) turns.released(claimant);
          act();
        }
        // From now on turns end when they are told to; every wish is heard within so many turns.
        for (const claimant of ['a', 'b', 'c', 'd']) turns.want(claimant);
        const served = new Set<string>(held);
        for (let round = 0; round < 8; round += 1) {
          nowMs += LIMITS.turnMs;
          act();
          for (const claimant of held) {
            served.add(claimant);
            turns.released(claimant);
          }
          held.clear();
          act();
        }
        for (const claimant of held) served.add(claimant);
        expect([...served].toSorted((a, b) => a.localeCompare(b))).toEqual(['a', 'b', 'c', 'd']);
      }),
    );
  });
});

describe('the buffer of one standby', () => {
  const wal = new WalFixture();
  wal.fill(300_000, 3);

  function buffer(startLsn: Lsn): ReadThroughBuffer {
    const { segmentSize, origin } = wal;
    return new ReadThroughBuffer({
      startLsn,
      segmentSize,
      openCheck: (lsn) => new RecordWalk({ ...origin, checksums: true }, chainStart(lsn)),
    });
  }

  /** End of the record that holds the byte before `lsn`. */
  function recordEndAt(lsn: Lsn): Lsn {
    return wal.records.find(({ endLsn }) => endLsn >= lsn)?.endLsn ?? wal.endLsn;
  }

  it.each([1, 7, 8_192, 24, 131_072])('gives out all of it, fed %i bytes at a time', (size) => {
    const startLsn = toLsn(wal.startLsn + 4_711n);
    const limitLsn = toLsn(wal.startLsn + (size < 100 ? 20_001n : 150_001n));
    const endLsn = recordEndAt(limitLsn);
    const reader = buffer(startLsn);
    const taken: Uint8Array[] = [];
    const ends: bigint[] = [];
    for (let lsn = wal.startLsn; lsn < endLsn; lsn = reader.nextLsn) {
      const end = minLsn(advanceLsn(lsn, size), endLsn);
      if (reader.append(lsn, wal.slice(lsn, end)) !== null) throw new Error(`refused at ${lsn}`);
      const piece = reader.take(limitLsn);
      if (piece === null) continue;
      ends.push(piece.endLsn);
      for (const view of piece.views) taken.push(view);
    }
    const bytes = Buffer.concat(taken);
    expect(bytes.equals(wal.slice(startLsn, limitLsn))).toBe(true);
    expect(ends.at(-1)).toBe(limitLsn);
    for (const end of ends.slice(0, -1)) expect(end % 8_192n).toBe(0n);
    expect(reader.takenLsn).toBe(limitLsn);
  });

  it('keeps what is not taken, and what was taken does not change', () => {
    const reader = buffer(wal.startLsn);
    const half = advanceLsn(wal.startLsn, 150_000);
    reader.append(wal.startLsn, wal.slice(wal.startLsn, half));
    expect(reader.byteCount).toBe(150_000);
    const first = reader.take(wal.endLsn);
    const before = Buffer.concat(first?.views ?? []);
    reader.append(half, wal.slice(half, wal.endLsn));
    expect(Buffer.concat(first?.views ?? []).equals(before)).toBe(true);
    const second = reader.take(wal.endLsn);
    const all = Buffer.concat([before, ...(second?.views ?? [])]);
    expect(all.equals(wal.bytes())).toBe(true);
    expect(reader.take(wal.endLsn)).toBeNull();
    expect(reader.byteCount).toBe(0);
  });

  it('takes nothing that does not join on, and nothing that fails its check', () => {
    const reader = buffer(wal.startLsn);
    expect(reader.append(advanceLsn(wal.startLsn, 1), new Uint8Array(1))).toMatchObject({
      lsn: wal.startLsn,
      reason: 'the message starts at 0/3000001, expected 0/3000000',
    });
    const bad = wal.slice(wal.startLsn, advanceLsn(wal.startLsn, 30_000));
    const record = Number((wal.records[5]?.startLsn ?? 0n) - wal.startLsn);
    bad[record + 8] = (bad[record + 8] ?? 0) ^ 1;
    expect(reader.append(wal.startLsn, bad)).not.toBeNull();
    expect(reader.take(wal.endLsn)).toBeNull();
  });

  it('gives out nothing before a page is whole', () => {
    const reader = buffer(wal.startLsn);
    const inPage = wal.records.findLast(({ endLsn }) => endLsn < wal.startLsn + 8_192n)?.endLsn;
    if (inPage === undefined) throw new Error('no record ends in the first page');
    reader.append(wal.startLsn, wal.slice(wal.startLsn, inPage));
    expect(reader.take(wal.endLsn)).toBeNull();
    expect(reader.take(inPage)?.endLsn).toBe(inPage);
  });

  it('gives out nothing of a record that is not whole, up to no limit', () => {
    const reader = buffer(wal.startLsn);
    const long = wal.records.find(({ startLsn, endLsn }) => endLsn - startLsn > 16_384n);
    if (long === undefined) throw new Error('no record spans pages');
    const cut = toLsn(long.endLsn - 9n);
    reader.append(wal.startLsn, wal.slice(wal.startLsn, cut));
    const inRecord = toLsn(cut - 100n);
    const last = reader.take(inRecord)?.endLsn ?? wal.startLsn;
    expect(last).toBeLessThanOrEqual(long.startLsn);
    expect(reader.hasPiece(inRecord)).toBe(false);
    expect(reader.hasUpTo(inRecord)).toBe(false);
    reader.append(cut, wal.slice(cut, long.endLsn));
    expect(reader.hasUpTo(inRecord)).toBe(true);
    expect(reader.take(inRecord)?.endLsn).toBe(inRecord);
    expect(reader.hasUpTo(inRecord)).toBe(true);
  });

  it('gives out a record that never becomes whole where its timeline ends', () => {
    const reader = buffer(wal.startLsn);
    const long = wal.records.find(({ startLsn, endLsn }) => endLsn - startLsn > 16_384n);
    if (long === undefined) throw new Error('no record spans pages');
    const end = pageStart(long.endLsn);
    expect(end).toBeGreaterThan(long.startLsn);
    reader.append(wal.startLsn, wal.slice(wal.startLsn, end));
    expect(reader.hasUpTo(end)).toBe(false);
    reader.noteEnd();
    expect(reader.take(end)?.endLsn).toBe(end);
  });
});

describe('the upstream to read from', () => {
  const two: TimelineHistory = {
    timeline: toTimelineId(2),
    ancestors: [{ timeline: toTimelineId(1), endLsn: toLsn(0x5000000n) }],
  };
  const origin: ReadThroughOrigin = {
    systemIdentifier: '7300000000000000123',
    major: 15,
    segmentSize: toSegmentSize(1 << 24),
    history: two,
    receivedLsn: toLsn(0x9000000n),
  };
  const identity: UpstreamIdentity = {
    systemIdentifier: '7300000000000000123',
    timeline: toTimelineId(2),
    xlogPos: toLsn(0x9000000n),
    serverVersion: '15.4',
    facts: versionFacts(15),
    isInRecovery: false,
    isRelay: false,
    segmentSize: toSegmentSize(1 << 24),
    parameters: new Map(),
    settings: new Map(),
    history: two,
    historyFile: null,
    histories: new Map(),
    slotRestartLsn: INVALID_LSN,
  };
  const three: TimelineHistory = {
    timeline: toTimelineId(3),
    ancestors: [...two.ancestors, { timeline: toTimelineId(2), endLsn: toLsn(0x7000000n) }],
  };
  const forked: TimelineHistory = {
    timeline: toTimelineId(2),
    ancestors: [{ timeline: toTimelineId(1), endLsn: toLsn(0x4000000n) }],
  };

  it.each<[string, Partial<UpstreamIdentity>]>([
    ['the server that is followed', {}],
    ['one on a later timeline of our history', { timeline: three.timeline, history: three }],
    ['a standby that is behind us', { xlogPos: toLsn(0x8000000n), isInRecovery: true }],
  ])('may be %s', (_, change) => {
    expect(whyNotReadFrom(origin, { ...identity, ...change })).toBeNull();
  });

  it.each<[string, Partial<UpstreamIdentity>, string]>([
    ['another cluster', { systemIdentifier: '1' }, 'system identifier is 1'],
    ['another major', { facts: versionFacts(16) }, 'another major version'],
    ['another segment size', { segmentSize: toSegmentSize(1 << 20) }, 'wal_segment_size'],
    [
      'an old timeline',
      { timeline: toTimelineId(1), history: rootHistory(toTimelineId(1)) },
      'timeline 2 of the store is not in the history',
    ],
    [
      'another branch of that number',
      { history: forked },
      'does not leave timeline 1 at 0/5000000',
    ],
    ['a primary that lost WAL', { xlogPos: toLsn(0x8ffffffn) }, 'it lost WAL'],
  ])('is never %s', (_, change, reason) => {
    expect(whyNotReadFrom(origin, { ...identity, ...change })).toContain(reason);
  });

  it.each([
    ['walcast', 'walcast_read_through'],
    ['a'.repeat(63), `${'a'.repeat(50)}_read_through`],
    ['wälcast', 'w?lcast_read_through'],
    ['', '_read_through'],
  ])('knows us by a name that is not the walreceiver’s own: %s', (own, name) => {
    expect(readThroughName(own)).toBe(name);
    expect(readThroughName(own).slice(0, 63)).not.toBe(own.slice(0, 63));
  });
});
