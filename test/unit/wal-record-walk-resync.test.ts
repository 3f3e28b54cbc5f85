// With `verify: off` damaged WAL is taken as it is; where does the chain of records go on behind it?
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import type { WalkFailure } from '../../src/wal/records/record-walk.ts';
import { ResynchronisingWalk } from '../../src/wal/records/resynchronising-walk.ts';
import { WalFixture } from '../support/wal-fixture.ts';

interface Witness {
  readonly walk: ResynchronisingWalk;
  readonly lost: WalkFailure[];
  readonly found: Lsn[];
}

function witness(wal: WalFixture): Witness {
  const [lost, found]: [WalkFailure[], Lsn[]] = [[], []];
  const options = {
    ...wal.origin,
    checksums: false,
    onLost: (failure: WalkFailure) => lost.push(failure),
    onFound: (lsn: Lsn) => found.push(lsn),
  };
  return { walk: new ResynchronisingWalk(options, chainStart(wal.startLsn)), lost, found };
}

function pushAll(walk: ResynchronisingWalk, bytes: Buffer, step: number): void {
  for (let at = 0; at < bytes.length; at += step) walk.push(bytes.subarray(at, at + step));
}

function sample(): WalFixture {
  const wal = new WalFixture({ major: 18 });
  wal.fill(60_000, 3);
  wal.record({ body: Buffer.alloc(40_000, 1) });
  wal.fill(60_000, 5);
  wal.checkpoint({ nextFullXid: 0x1_0000_0400n });
  wal.fill(20_000, 7);
  return wal;
}

describe('a walk that resynchronises', () => {
  it.each([
    ['a page header', 3 * PAGE_SIZE + 8],
    ['a record header', 2 * PAGE_SIZE + 24 + 4_000],
    ['the long record', 70_000],
    ['the address of a page in the long record', 9 * PAGE_SIZE + 9],
  ])('is lost once over damage in %s, and stands at record ends again behind it', (_what, at) => {
    for (const step of [200, 8_192, 20_000, 200_000]) {
      const wal = sample();
      const bytes = wal.bytes();
      for (let i = at; i < at + 40; i++) bytes[i] = 0xa5;
      const { walk, lost, found } = witness(wal);
      pushAll(walk, bytes, step);
      expect(walk.nextLsn()).toBe(wal.endLsn);
      expect(walk.recordEnd()).toBe(wal.endLsn);
      expect(walk.position()).toMatchObject({
        lastRecordLsn: wal.records.at(-1)?.startLsn,
        redoLsn: wal.records.findLast((record) => record.rmgrId === 0)?.startLsn,
      });
      expect(walk.facts().nextFullXid).toBe(0x1_0000_0400n);
      expect(lost.length).toBe(found.length);
      expect(lost.length).toBeLessThanOrEqual(1);
    }
  });

  it('names the end of what came while it is lost, and begins at a record behind the damage', () => {
    const wal = sample();
    const bytes = wal.bytes();
    bytes[3 * PAGE_SIZE] = 0;
    const { walk, lost, found } = witness(wal);
    walk.push(bytes.subarray(0, 3 * PAGE_SIZE + 100));
    expect(lost).toHaveLength(1);
    expect(walk.recordEnd()).toBe(wal.startLsn + BigInt(3 * PAGE_SIZE + 100));
    expect(walk.position().lastRecordLsn).toBeNull();
    walk.push(bytes.subarray(3 * PAGE_SIZE + 100, 4 * PAGE_SIZE + 100));
    expect(found).toHaveLength(0);
    walk.push(bytes.subarray(4 * PAGE_SIZE + 100, 5 * PAGE_SIZE));
    expect(wal.records.map((record) => record.endLsn)).toContain(walk.recordEnd());
    expect(found).toEqual([walk.recordEnd()]);
  });

  it('takes zeros, and goes on where WAL begins again', () => {
    const wal = sample();
    const bytes = wal.bytes().fill(0, 2 * PAGE_SIZE, 6 * PAGE_SIZE);
    const { walk, lost } = witness(wal);
    pushAll(walk, bytes, 10_000);
    expect(walk.recordEnd()).toBe(wal.endLsn);
    expect(lost).toHaveLength(1);
  });

  it('takes any bytes, and stands at a true record end when good pages follow', () => {
    const wal = sample();
    const good = wal.bytes();
    const ends = new Set(wal.records.map((record) => record.endLsn));
    const damage = fc.record({
      at: fc.nat(90_000),
      noise: fc.uint8Array({ minLength: 1, maxLength: 3_000 }),
      step: fc.integer({ min: 64, max: 70_000 }),
    });
    fc.assert(
      fc.property(damage, ({ at, noise, step }) => {
        const bytes = Buffer.from(good);
        bytes.set(noise, at);
        const { walk, lost, found } = witness(wal);
        pushAll(walk, bytes, step);
        expect(walk.nextLsn()).toBe(wal.endLsn);
        expect(walk.recordEnd()).toBe(wal.endLsn);
        expect(found.every((lsn) => ends.has(lsn))).toBe(true);
        expect(found.length).toBe(lost.length);
      }),
      { numRuns: 200 },
    );
  });
});
