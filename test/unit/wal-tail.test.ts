import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { advanceLsn, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { Tail, TAIL_BLOCK_BYTES } from '../../src/wal/tail.ts';

const START = toLsn(0x1234500n);

function pattern(length: number, seed: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => (index * 31 + seed * 7) & 0xff));
}

function read(tail: Tail, startLsn: Lsn, endLsn: Lsn): Buffer | null {
  const views = tail.views(startLsn, endLsn);
  return views === null ? null : Buffer.concat(views);
}

describe('the tail', () => {
  it('gives back any range of what was appended', () => {
    const tail = new Tail(START, 8 * TAIL_BLOCK_BYTES);
    const all = pattern(3 * TAIL_BLOCK_BYTES, 1);
    for (let at = 0; at < all.length; at += 700_001) tail.append(all.subarray(at, at + 700_001));
    expect(tail.endLsn).toBe(advanceLsn(START, all.length));
    fc.assert(
      fc.property(fc.nat(all.length), fc.nat(all.length), (a, b) => {
        const [from, to] = a < b ? [a, b] : [b, a];
        const bytes = read(tail, advanceLsn(START, from), advanceLsn(START, to));
        expect(bytes?.equals(all.subarray(from, to))).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('gives nothing before its start or behind its end', () => {
    const tail = new Tail(START, TAIL_BLOCK_BYTES);
    tail.append(pattern(100, 2));
    expect(tail.views(advanceLsn(START, -1), advanceLsn(START, 1))).toBeNull();
    expect(tail.views(START, advanceLsn(START, 101))).toBeNull();
    expect(tail.views(START, START)).toEqual([]);
  });

  it('forgets no block that is still needed, and all others beyond its bound', () => {
    const tail = new Tail(toLsn(0n), 2 * TAIL_BLOCK_BYTES);
    for (let i = 0; i < 6; i++) tail.append(pattern(TAIL_BLOCK_BYTES, i));
    tail.trim(toLsn(BigInt(TAIL_BLOCK_BYTES)));
    expect(tail.byteLength).toBe(5 * TAIL_BLOCK_BYTES);
    tail.trim(tail.endLsn);
    expect(tail.byteLength).toBe(2 * TAIL_BLOCK_BYTES);
    expect(tail.startLsn).toBe(BigInt(4 * TAIL_BLOCK_BYTES));
    expect(read(tail, tail.startLsn, tail.endLsn)).toHaveLength(2 * TAIL_BLOCK_BYTES);
  });

  it('never changes a byte that was handed out, when it is rewound and written again', () => {
    const tail = new Tail(START, 8 * TAIL_BLOCK_BYTES);
    const first = pattern(2 * TAIL_BLOCK_BYTES, 3);
    tail.append(first);
    const views = tail.views(START, tail.endLsn) ?? [];
    const cut = TAIL_BLOCK_BYTES + 17;
    tail.rewind(advanceLsn(START, cut));
    const second = pattern(TAIL_BLOCK_BYTES, 4);
    tail.append(second);
    expect(Buffer.concat(views).equals(first)).toBe(true);
    const expected = Buffer.concat([first.subarray(0, cut), second]);
    expect(read(tail, START, tail.endLsn)?.equals(expected)).toBe(true);
  });

  it('can be rewound to before what it still holds', () => {
    const tail = new Tail(toLsn(0n), TAIL_BLOCK_BYTES);
    for (let i = 0; i < 3; i++) tail.append(pattern(TAIL_BLOCK_BYTES, i));
    tail.trim(tail.endLsn);
    const back = toLsn(4_000n);
    tail.rewind(back);
    expect([tail.startLsn, tail.endLsn]).toEqual([back, back]);
    tail.append(pattern(50, 9));
    expect(read(tail, back, advanceLsn(back, 50))?.equals(pattern(50, 9))).toBe(true);
  });
});
