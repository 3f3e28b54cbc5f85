import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  advanceLsn,
  formatLsn,
  INVALID_LSN,
  lsnDistance,
  maxLsn,
  minLsn,
  pageOffset,
  pageStart,
  parseLsn,
  toLsn,
} from '../../src/pg/lsn.ts';

const LSN_MAX = (1n << 64n) - 1n;
const anyLsn = fc.bigInt({ min: 0n, max: LSN_MAX }).map(toLsn);

describe('an LSN', () => {
  it('lies within 64 bits', () => {
    expect(toLsn(LSN_MAX)).toBe(LSN_MAX);
    expect(() => toLsn(-1n)).toThrow(RangeError);
    expect(() => toLsn(LSN_MAX + 1n)).toThrow(RangeError);
  });

  it('is written as PostgreSQL writes it, padded from 19 on', () => {
    expect(formatLsn(INVALID_LSN)).toBe('0/0');
    expect(formatLsn(toLsn(0x1763e00n))).toBe('0/1763E00');
    expect(formatLsn(toLsn(0x16b374d848n))).toBe('16/B374D848');
    expect(formatLsn(toLsn(0x1_00000001n))).toBe('1/1');
    expect(formatLsn(toLsn(0x1_00000001n), true)).toBe('1/00000001');
    expect(formatLsn(toLsn(LSN_MAX))).toBe('FFFFFFFF/FFFFFFFF');
  });

  it('reads back as it was written, padded or not, in either case', () => {
    fc.assert(
      fc.property(anyLsn, fc.boolean(), (lsn, padLow) => {
        expect(parseLsn(formatLsn(lsn, padLow))).toBe(lsn);
        expect(parseLsn(formatLsn(lsn, padLow).toLowerCase())).toBe(lsn);
      }),
    );
  });

  it.each([
    '',
    '0',
    '/',
    '0/',
    '/0',
    '0/0/0',
    '123456789/0',
    '0/123456789',
    'G/0',
    ' 0/0',
    '0/0\n',
  ])('is not %j', (text) => {
    expect(parseLsn(text)).toBeNull();
  });

  it('moves by bytes and measures the way back, beyond 2^53 too', () => {
    const small = fc.integer({ min: 0, max: 2 ** 40 });
    const base = fc.bigInt({ min: 0n, max: LSN_MAX - (1n << 41n) }).map(toLsn);
    fc.assert(
      fc.property(base, small, (lsn, count) => {
        const end = advanceLsn(lsn, count);
        expect(end - lsn).toBe(BigInt(count));
        expect(lsnDistance(lsn, end)).toBe(count);
        expect(lsnDistance(end, lsn) + count).toBe(0);
        expect(advanceLsn(end, -count)).toBe(lsn);
      }),
    );
    expect(() => advanceLsn(INVALID_LSN, -1)).toThrow(RangeError);
    expect(() => advanceLsn(toLsn(LSN_MAX), 1)).toThrow(RangeError);
  });

  it('is compared as a number, not as text', () => {
    const [low, high] = [toLsn(0xf_fffffffn), toLsn(0x1_00000000n)];
    expect(minLsn(low, high)).toBe(low);
    expect(minLsn(high, low)).toBe(low);
    expect(maxLsn(low, high)).toBe(high);
    expect(maxLsn(high, low)).toBe(high);
  });

  it('lies in exactly one page', () => {
    fc.assert(
      fc.property(anyLsn, (lsn) => {
        const start = pageStart(lsn);
        expect(start % 8192n).toBe(0n);
        expect(start + BigInt(pageOffset(lsn))).toBe(lsn);
        expect(pageOffset(lsn)).toBeLessThan(8192);
      }),
    );
  });
});
