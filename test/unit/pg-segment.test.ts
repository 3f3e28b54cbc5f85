import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import {
  nextSegment,
  parseWalFileName,
  segmentNumber,
  segmentNumberBefore,
  segmentOffset,
  segmentStart,
  segmentStartOf,
  toSegmentSize,
  walFileName,
} from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';

const MB = 1 << 20;
const SIZE = toSegmentSize(16 * MB);
const anySize = fc.integer({ min: 20, max: 30 }).map((power) => toSegmentSize(2 ** power));
const anyLsn = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map(toLsn);
const anyTimeline = fc.integer({ min: 1, max: 0xffffffff }).map(toTimelineId);

describe('the segment size', () => {
  it('is a power of two from 1 MB to 1 GB', () => {
    for (const bytes of [MB, 16 * MB, 1024 * MB]) expect(toSegmentSize(bytes)).toBe(bytes);
    for (const bytes of [0, -MB, MB / 2, MB + 1, 3 * MB, 2048 * MB, MB + 0.5, Number.NaN]) {
      expect(() => toSegmentSize(bytes)).toThrow(RangeError);
    }
  });
});

describe('a segment', () => {
  it("holds the bytes from its start to the next one's", () => {
    fc.assert(
      fc.property(anyLsn, anySize, (lsn, size) => {
        const segment = segmentNumber(lsn, size);
        expect(segmentStart(segment, size)).toBe(segmentStartOf(lsn, size));
        expect(segmentStartOf(lsn, size) + BigInt(segmentOffset(lsn, size))).toBe(lsn);
        expect(segmentOffset(lsn, size)).toBeLessThan(size);
        expect(nextSegment(segment) * BigInt(size)).toBeGreaterThan(lsn);
      }),
    );
  });

  it('of an end position is the one that holds the byte before it', () => {
    const boundary = toLsn(BigInt(SIZE) * 5n);
    expect(segmentNumber(boundary, SIZE)).toBe(5n);
    expect(segmentNumberBefore(boundary, SIZE)).toBe(4n);
    expect(segmentNumberBefore(toLsn(boundary + 1n), SIZE)).toBe(5n);
    expect(segmentNumberBefore(toLsn(0n), SIZE)).toBe(0n);
  });

  it('is named as PostgreSQL names it', () => {
    const name = (lsn: bigint, bytes: number): string => {
      const size = toSegmentSize(bytes);
      return walFileName(toTimelineId(1), segmentNumber(toLsn(lsn), size), size);
    };
    // SELECT pg_walfile_name('16/B374D848') with 16 MB segments.
    expect(name(0x16b374d848n, 16 * MB)).toBe('0000000100000016000000B3');
    expect(name(0x16b374d848n, MB)).toBe('000000010000001600000B37');
    expect(name(0x16b374d848n, 1024 * MB)).toBe('000000010000001600000002');
    expect(name(0x1_00000000n, 16 * MB)).toBe('000000010000000100000000');
  });

  it('is found by its name, on any timeline and of any size', () => {
    fc.assert(
      fc.property(anyTimeline, anyLsn, anySize, (timeline, lsn, size) => {
        const segment = segmentNumber(lsn, size);
        const name = walFileName(timeline, segment, size);
        expect(name).toMatch(/^[0-9A-F]{24}$/);
        expect(parseWalFileName(name, size)).toEqual({ timeline, segment });
      }),
    );
  });

  it.each([
    '',
    '00000001000000000000001',
    '0000000100000000000000010',
    '00000001000000000000001g',
    '0000000100000000000000ab',
    '000000010000000000000001.partial',
    '000000000000000000000001',
    '000000010000000000000100',
    '00000002.history',
  ])('is not named %j', (name) => {
    expect(parseWalFileName(name, SIZE)).toBeNull();
  });
});
