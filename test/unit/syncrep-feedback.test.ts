// Hot standby feedback: which messages count, and what the minimum is; against PostgreSQL's own 32-bit arithmetic.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isSameXmins, NO_XMINS } from '../../src/pg/xmins.ts';
import type { Xmins } from '../../src/pg/xmins.ts';
import {
  horizonOf,
  isDeeper,
  isUrgent,
  older,
  olderXmins,
  readFeedback,
  wireXmins,
  xminAge,
} from '../../src/syncrep/feedback.ts';
import type { Contribution, WireXmins } from '../../src/syncrep/feedback.ts';

const EPOCH = 1n << 32n;
const WINDOW = 1n << 31n;
/** So many ids before a wrap-around a server stops, and so far its next id may be ahead of what its WAL says. */
const MARGIN = 1_000_000n;

/**
 * walsender.c:TransactionIdInRecentPast, transam.c:TransactionIdPrecedesOrEquals, in 32-bit arithmetic; but no epoch comes before
 * the first.
 */
function isInRecentPast(xid: number, epoch: number, next: bigint): boolean {
  const nextXid = Number(BigInt.asUintN(32, next));
  const nextEpoch = Number(next >> 32n);
  if (xid <= nextXid) {
    if (epoch !== nextEpoch) return false;
  } else if (epoch + 1 !== nextEpoch) return false;
  return ((xid - nextXid) | 0) <= 0;
}

const message = (parts: Partial<WireXmins>): WireXmins => ({
  xmin: 0,
  xminEpoch: 0,
  catalogXmin: 0,
  catalogXminEpoch: 0,
  ...parts,
});
const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
/** Ids near everything that wraps: ends of an epoch, half a turn away. */
const nearEdges = fc
  .tuple(fc.constantFrom(0n, 3n, WINDOW, EPOCH - 1n), fc.integer({ min: -5, max: 5 }))
  .map(([base, off]) => Number(BigInt.asUintN(32, base + BigInt(off))));
const xidWord = fc.oneof(uint32, nearEdges);
const epochWord = fc.oneof(fc.integer({ min: 0, max: 4 }), fc.constantFrom(0xffff_ffff));
const nextXids = fc
  .tuple(fc.integer({ min: 0, max: 4 }), xidWord)
  .map(([epoch, xid]) => BigInt(epoch) * EPOCH + BigInt(Math.max(3, xid)));
const fullXids = fc
  .tuple(fc.integer({ min: 0, max: 3 }), xidWord)
  .map(([epoch, xid]) => BigInt(epoch) * EPOCH + BigInt(Math.max(3, xid)));
/** How far the server is ahead of its WAL that has arrived. */
const ahead = fc.bigInt({ min: 0n, max: MARGIN });
const maybeXid = fc.option(fullXids, { nil: null });
const xmins: fc.Arbitrary<Xmins> = fc.record({ xmin: maybeXid, catalogXmin: maybeXid });

describe('a feedback message', () => {
  it('counts where PostgreSQL takes it, except exactly half a turn back', () => {
    fc.assert(
      fc.property(xidWord, epochWord, nextXids, (xid, epoch, next) => {
        const reading = readFeedback(message({ xmin: xid, xminEpoch: epoch }), next);
        if (xid < 3) {
          expect(reading).toEqual({ kind: 'xmins', xmins: NO_XMINS });
          return;
        }
        const full = BigInt(epoch) * EPOCH + BigInt(xid);
        const isTaken = isInRecentPast(xid, epoch, next) && next - full !== WINDOW;
        expect(reading?.kind).toBe(isTaken ? 'xmins' : 'void');
      }),
      { numRuns: 5_000 },
    );
  });

  it('is void as a whole when one of its two ids is', () => {
    const next = 5n * EPOCH + 1_000n;
    const good = { xmin: 900, xminEpoch: 5 };
    const ahead = message({ ...good, catalogXmin: 1_001, catalogXminEpoch: 5 });
    expect(readFeedback(ahead, next)).toEqual({ kind: 'void', reason: 'future' });
    const behind = message({ ...good, catalogXmin: 900, catalogXminEpoch: 4 });
    expect(readFeedback(behind, next)).toEqual({ kind: 'void', reason: 'past' });
    expect(readFeedback(message(good), next)).toEqual({
      kind: 'xmins',
      xmins: { xmin: 5n * EPOCH + 900n, catalogXmin: null },
    });
  });

  it('reaches back over the end of an epoch', () => {
    const next = 2n * EPOCH + 10n;
    const before = message({ xmin: 0xffff_fff0, xminEpoch: 1 });
    expect(readFeedback(before, next)).toEqual({
      kind: 'xmins',
      xmins: { xmin: EPOCH + 0xffff_fff0n, catalogXmin: null },
    });
    const wrongEpoch = message({ xmin: 0xffff_fff0, xminEpoch: 2 });
    expect(readFeedback(wrongEpoch, next)).toEqual({ kind: 'void', reason: 'future' });
  });

  it('waits while the next transaction id is not known, unless it clears', () => {
    expect(readFeedback(message({ xmin: 700 }), null)).toBeNull();
    expect(readFeedback(message({ xmin: 2, catalogXmin: 1 }), null)).toEqual({
      kind: 'xmins',
      xmins: NO_XMINS,
    });
  });

  it('comes back as it was read when it is written again', () => {
    fc.assert(
      fc.property(xmins, nextXids, (held, next) => {
        const words = wireXmins(held, next);
        const far = 4n * EPOCH + 0xffff_ffffn;
        for (const word of Object.values(words)) expect(word).toBe(word >>> 0);
        if (held.xmin === null)
          expect([words.xmin, BigInt(words.xminEpoch)]).toEqual([0, next >> 32n]);
        const read = readFeedback({ ...words, catalogXmin: 0 }, held.xmin ?? far);
        expect(read).toEqual({ kind: 'xmins', xmins: { xmin: held.xmin, catalogXmin: null } });
      }),
    );
  });
});

describe('the minimum', () => {
  const contributions = fc.array(
    fc.tuple(fc.constantFrom('a', 'b', 'c'), xmins).map(([name, held]) => ({ name, ...held })),
    { maxLength: 12 },
  );

  it('is over everybody, both ids apart, within what an upstream takes', () => {
    fc.assert(
      fc.property(contributions, nextXids, maybeAge(), ahead, (all, nextXid, maxAge, more) => {
        const horizon = horizonOf(all, { nextXid, maxAge });
        for (const key of ['xmin', 'catalogXmin'] as const) {
          expect(horizon[key]).toBe(minimumByHand(all, { key, nextXid, maxAge }));
        }
        const words = wireXmins(horizon, nextXid);
        expect(readFeedback(words, nextXid)).toEqual({
          kind: 'xmins',
          xmins: { xmin: horizon.xmin, catalogXmin: horizon.catalogXmin },
        });
        const isTaken = (xid: number, epoch: number): boolean =>
          xid === 0 || isInRecentPast(xid, epoch, nextXid + more);
        expect(isTaken(words.xmin, words.xminEpoch)).toBe(true);
        expect(isTaken(words.catalogXmin, words.catalogXminEpoch)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it('is never lifted by one more', () => {
    fc.assert(
      fc.property(contributions, xmins, nextXids, (all, more, nextXid) => {
        const rules = { nextXid, maxAge: null };
        const before = horizonOf(all, rules);
        const after = horizonOf([...all, { name: 'late', ...more }], rules);
        for (const key of ['xmin', 'catalogXmin'] as const) {
          if (before[key] !== null) expect(older(before[key], after[key])).toBe(after[key]);
        }
      }),
    );
  });

  it('leaves out what is too old, by name, and says who holds it', () => {
    const nextXid = 10_000n;
    const all: Contribution[] = [
      { name: 'slow', xmin: 100n, catalogXmin: null },
      { name: 'good', xmin: 9_000n, catalogXmin: null },
      { name: 'logical', xmin: null, catalogXmin: 200n },
    ];
    expect(horizonOf(all, { nextXid, maxAge: null })).toMatchObject({ xmin: 100n, heldBy: 'slow' });
    expect(horizonOf(all, { nextXid, maxAge: 1_000n })).toEqual({
      xmin: 9_000n,
      catalogXmin: null,
      heldBy: 'good',
      tooOld: ['slow', 'logical'],
    });
    expect(horizonOf(all.slice(2), { nextXid, maxAge: 9_800n }).heldBy).toBe('logical');
  });

  it('counts an id from beyond the next one as the next one', () => {
    const all = [{ name: 'a', xmin: 500n, catalogXmin: null }];
    expect(horizonOf(all, { nextXid: 400n, maxAge: null }).xmin).toBe(400n);
  });

  it('leaves out who is so far back that the upstream, a few ids ahead of its WAL, would drop everything', () => {
    const nextXid = 5n * EPOCH;
    const honest = { name: 'honest', xmin: nextXid - 10n, catalogXmin: null };
    const liar = { name: 'liar', xmin: null, catalogXmin: nextXid - WINDOW + 1n };
    expect(horizonOf([honest, liar], { nextXid, maxAge: null })).toEqual({
      xmin: nextXid - 10n,
      catalogXmin: null,
      heldBy: 'honest',
      tooOld: ['liar'],
    });
  });

  function maybeAge(): fc.Arbitrary<bigint | null> {
    return fc.option(fc.bigInt({ min: 0n, max: WINDOW }), { nil: null });
  }
});

describe('a change of the minimum', () => {
  it('is urgent when an id appears, gets older or is gone, and not when it moves forward', () => {
    const at = (xmin: bigint | null, catalogXmin: bigint | null = null): Xmins => ({
      xmin,
      catalogXmin,
    });
    expect(isUrgent(NO_XMINS, at(5n))).toBe(true);
    expect(isUrgent(at(5n), at(4n))).toBe(true);
    expect(isUrgent(at(5n), NO_XMINS)).toBe(true);
    expect(isUrgent(at(5n, 7n), at(5n))).toBe(true);
    expect(isUrgent(at(5n), at(6n))).toBe(false);
    expect(isUrgent(at(5n, 5n), at(5n, 5n))).toBe(false);
    expect(isDeeper(at(5n), NO_XMINS)).toBe(false);
    expect(isDeeper(at(5n), at(9n, 3n))).toBe(true);
    expect(isSameXmins(at(5n), at(5n))).toBe(true);
    expect(isSameXmins(at(5n), at(5n, 1n))).toBe(false);
    expect(olderXmins(at(5n), at(6n, 2n))).toEqual(at(5n, 2n));
  });

  it('has an age that is never negative', () => {
    expect(xminAge({ xmin: 90n, catalogXmin: 70n }, 100n)).toBe(30);
    expect(xminAge({ xmin: 190n, catalogXmin: null }, 100n)).toBe(0);
    expect(xminAge(NO_XMINS, 100n)).toBeNull();
  });
});

function minimumByHand(
  all: readonly Contribution[],
  at: { key: 'xmin' | 'catalogXmin'; nextXid: bigint; maxAge: bigint | null },
): bigint | null {
  const ids = all
    .map((one) => one[at.key])
    .filter((xid) => xid !== null)
    .filter((xid) => at.nextXid - xid < WINDOW - MARGIN)
    .filter((xid) => at.maxAge === null || at.nextXid - xid <= at.maxAge)
    .map((xid) => (xid > at.nextXid ? at.nextXid : xid))
    .toSorted((a, b) => (a < b ? -1 : Number(a > b)));
  return ids[0] ?? null;
}
