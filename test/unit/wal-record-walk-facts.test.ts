// What does the walk know of transactions, wherever the WAL is cut, and does a refused piece leave nothing of it behind?
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import { RecordWalk } from '../../src/wal/records/record-walk.ts';
import { LearnedFacts, NO_WAL_FACTS } from '../../src/wal/records/wal-facts.ts';
import type { WalFacts } from '../../src/wal/records/wal-facts.ts';
import { WalFixture } from '../support/wal-fixture.ts';

vi.setConfig({ testTimeout: 30_000 });

const RMGR_XACT = 1;
const EPOCH = 1n << 32n;

/** Main data of a commit or abort record behind its short header. */
function xactBody(at: bigint, info?: { feedback?: boolean; subxids?: readonly number[] }): Buffer {
  const main = Buffer.alloc(8);
  main.writeBigInt64LE(at);
  if (info === undefined) return withHeader(main);
  const { feedback = false, subxids = [] } = info;
  const flags = Buffer.alloc(12);
  // Bit 0: a database, eight bytes.
  flags.writeUInt32LE(1 | (subxids.length > 0 ? 2 : 0) | (feedback ? 0x20000000 : 0));
  const ids = Buffer.alloc(subxids.length === 0 ? 0 : 4 + 4 * subxids.length);
  if (subxids.length > 0) ids.writeUInt32LE(subxids.length);
  for (const [index, xid] of subxids.entries()) ids.writeUInt32LE(xid, 4 + 4 * index);
  return withHeader(Buffer.concat([main, flags, ids]));
}

function withHeader(main: Buffer): Buffer {
  const long = Buffer.alloc(5, 254);
  long.writeUInt32LE(main.length, 1);
  const header = main.length < 256 ? Buffer.from([255, main.length]) : long;
  return Buffer.concat([header, main]);
}

/** Every kind of record that tells something, and what is known at the end of each record. */
function tellingWal(): { wal: WalFixture; known: Map<bigint, WalFacts> } {
  const wal = new WalFixture({ major: 17 });
  const known = new Map<bigint, WalFacts>([[wal.startLsn, NO_WAL_FACTS]]);
  let facts: WalFacts = NO_WAL_FACTS;
  const note = (change: Partial<WalFacts>): void => {
    facts = { ...facts, ...change };
    known.set(wal.endLsn, facts);
  };
  const commit = (xid: number, at: bigint): void => {
    wal.record({ rmgrId: RMGR_XACT, xid, body: xactBody(at) });
  };
  wal.record({ xid: 750, body: Buffer.alloc(50) });
  note({});
  commit(750, 1_000n);
  note({ newestCommitAt: 1_000n as WalFacts['newestCommitAt'] });
  wal.checkpoint({ nextFullXid: 3n * EPOCH + 700n });
  note({ nextFullXid: 3n * EPOCH + 751n });
  for (let xid = 751; xid < 900; xid++) {
    wal.record({ xid, body: Buffer.alloc((xid * 37) % 400, xid) });
    note({ nextFullXid: 3n * EPOCH + BigInt(xid) + 1n });
    const abort = { rmgrId: RMGR_XACT, info: 0x20, xid, body: xactBody(1n) };
    if (xid % 3 === 0) wal.record(abort);
    else commit(xid, BigInt(xid) * 1_000_000_000_000n);
    note(
      xid % 3 === 0
        ? {}
        : { newestCommitAt: (BigInt(xid) * 1_000_000_000_000n) as WalFacts['newestCommitAt'] },
    );
  }
  const subxids = Array.from({ length: 400 }, (_, index) => 901 + index);
  const body = xactBody(-5n, { feedback: true, subxids });
  const { startLsn } = wal.record({ rmgrId: RMGR_XACT, info: 0x80, xid: 900, body });
  note({
    nextFullXid: 3n * EPOCH + 1_301n,
    newestCommitAt: -5n as WalFacts['newestCommitAt'],
    applyFeedbackLsn: startLsn,
  });
  wal.record({ body: Buffer.alloc(20_000, 3) });
  note({});
  wal.checkpoint({ nextFullXid: 3n * EPOCH + 2_000n, shutdown: true });
  note({ nextFullXid: 3n * EPOCH + 2_000n });
  return { wal, known };
}

describe('what a walk learns', () => {
  const { wal, known } = tellingWal();
  const bytes = wal.bytes();
  const walkOf = (checksums: boolean): RecordWalk =>
    new RecordWalk({ ...wal.origin, checksums }, chainStart(wal.startLsn));

  it('is right at every record end, wherever the WAL is cut', () => {
    const cuts = fc.record({
      steps: fc.array(fc.integer({ min: 1, max: 9_000 }), { minLength: 1 }),
    });
    fc.assert(
      fc.property(cuts, fc.boolean(), ({ steps }, checksums) => {
        const walk = walkOf(checksums);
        let at = 0;
        for (let i = 0; at < bytes.length; i++) {
          const step = steps[i % steps.length] ?? 1;
          expect(walk.push(bytes.subarray(at, at + step))).toBeNull();
          at += step;
          expect(walk.facts()).toEqual(known.get(walk.recordEnd()));
        }
      }),
      { numRuns: 60 },
    );
  });

  it('is right cut in two at any offset', () => {
    for (let cut = 0; cut < bytes.length; cut += 29) {
      const walk = walkOf(cut % 2 === 0);
      walk.push(bytes.subarray(0, cut));
      expect(walk.facts()).toEqual(known.get(walk.recordEnd()));
      walk.push(bytes.subarray(cut));
      expect(walk.facts()).toEqual(known.get(wal.endLsn));
    }
  });

  it('is forgotten with a piece that is refused, and goes on from a position', () => {
    for (let at = 300; at < bytes.length; at += 1_511) {
      const walk = walkOf(true);
      const from = Math.max(0, at - 5_000);
      walk.push(bytes.subarray(0, from));
      const damaged = Buffer.from(bytes);
      damaged[at] = (damaged[at] ?? 0) ^ 4;
      walk.push(damaged.subarray(from));
      expect(walk.facts()).toEqual(known.get(walk.recordEnd()));
      const other = new RecordWalk({ ...wal.origin, checksums: false }, walk.position());
      expect(other.push(bytes.subarray(Number(other.nextLsn() - wal.startLsn)))).toBeNull();
      expect(other.facts()).toEqual(known.get(wal.endLsn));
    }
  });

  it('is the same from records that are whole and from those that are cut, for ids of any size', () => {
    for (const xid of [3, 0x7fff_ffff, 0x8000_0000, 0xffff_ff00]) {
      const other = new WalFixture();
      const nextFullXid = 5n * EPOCH + BigInt(xid);
      for (let size = 0; size < 40; size++) other.record({ body: Buffer.alloc(size, 3) });
      other.record({ rmgrId: RMGR_XACT, xid: xid + 40, body: xactBody(8n) });
      other.checkpoint({ nextFullXid });
      other.record({ body: Buffer.alloc(300, 4) });
      const all = other.bytes();
      for (const checksums of [false, true]) {
        const [whole, cut] = [0, 1].map(
          () => new RecordWalk({ ...other.origin, checksums }, chainStart(other.startLsn)),
        );
        expect(whole?.push(all)).toBeNull();
        for (let at = 0; at < all.length; at++)
          expect(cut?.push(all.subarray(at, at + 1))).toBeNull();
        expect(whole?.facts()).toEqual(cut?.facts());
        expect(whole?.facts().nextFullXid).toBe(nextFullXid + 41n);
      }
    }
  });

  it('is no transaction id out of a damaged header, and no time out of a damaged commit', () => {
    for (const { startLsn } of wal.records.slice(4, 300)) {
      const at = Number(startLsn - wal.startLsn);
      for (const [offset, mask] of [
        [7, 0x40],
        [30, 0x01],
      ] as const) {
        const damaged = Buffer.from(bytes);
        damaged[at + offset] = (damaged[at + offset] ?? 0) ^ mask;
        const walk = walkOf(false);
        walk.scan(damaged);
        const { nextFullXid, newestCommitAt } = walk.facts();
        expect(nextFullXid ?? 0n).toBeLessThanOrEqual(3n * EPOCH + 2_000n);
        const times = [...known.values()].map((facts) => facts.newestCommitAt);
        expect(times).toContain(newestCommitAt);
      }
    }
  });
});

describe('the next transaction id', () => {
  const next = (facts: LearnedFacts): bigint | null => facts.facts().nextFullXid;

  it('wraps into the next epoch past the ids that are no transaction’s', () => {
    const facts = new LearnedFacts({ ...NO_WAL_FACTS, nextFullXid: 7n * EPOCH + 0xfffffffen });
    facts.noteXid(0xfffffffe | 0);
    expect(next(facts)).toBe(7n * EPOCH + 0xffffffffn);
    facts.noteXid(0xffffffff | 0);
    expect(next(facts)).toBe(8n * EPOCH + 3n);
    facts.noteXid(0xfffffff0 | 0);
    expect(next(facts)).toBe(8n * EPOCH + 3n);
    for (const xid of [0, 1, 2]) facts.noteXid(xid);
    expect(next(facts)).toBe(8n * EPOCH + 3n);
  });

  it('follows an online checkpoint forwards only, a shutdown checkpoint anywhere', () => {
    const facts = new LearnedFacts({ ...NO_WAL_FACTS, nextFullXid: 2n * EPOCH + 100n });
    facts.noteCheckpoint(2, 50, false);
    expect(next(facts)).toBe(2n * EPOCH + 100n);
    facts.noteCheckpoint(2, 200, false);
    expect(next(facts)).toBe(2n * EPOCH + 200n);
    facts.noteCheckpoint(2, 150, true);
    expect(next(facts)).toBe(2n * EPOCH + 150n);
  });

  it('is what a server in recovery counts, for any ids that lie within half an epoch', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 3n, max: 5n * EPOCH }),
        fc.array(fc.integer({ min: -1_000_000, max: 1_000_000_000 }), { maxLength: 30 }),
        (start, steps) => {
          let expected = (start & 0xffffffffn) < 3n ? start + 3n : start;
          const facts = new LearnedFacts({ ...NO_WAL_FACTS, nextFullXid: expected });
          for (const step of steps) {
            const full = expected + BigInt(step);
            const xid = BigInt.asUintN(32, full);
            if (full < 0n || xid < 3n) continue;
            facts.noteXid(Number(BigInt.asIntN(32, xid)));
            if (step < 0) continue;
            expected = full + 1n;
            if ((expected & 0xffffffffn) < 3n) expected += 3n - (expected & 0xffffffffn);
          }
          expect(next(facts)).toBe(expected);
        },
      ),
    );
  });
});
