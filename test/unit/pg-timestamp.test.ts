import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  pgTimestampFromUnixMs,
  toPgTimestamp,
  unixMsFromPgTimestamp,
} from '../../src/pg/timestamp.ts';

describe('a timestamp on the wire', () => {
  it('counts microseconds from the year 2000', () => {
    expect(pgTimestampFromUnixMs(Date.UTC(2000, 0, 1))).toBe(0n);
    expect(pgTimestampFromUnixMs(Date.UTC(2000, 0, 1, 0, 0, 1))).toBe(1_000_000n);
    expect(pgTimestampFromUnixMs(Date.UTC(1999, 11, 31, 23, 59, 59))).toBe(-1_000_000n);
    expect(unixMsFromPgTimestamp(toPgTimestamp(1_500n))).toBe(Date.UTC(2000, 0, 1) + 1.5);
  });

  it('is signed, whatever sign it was read with', () => {
    expect(toPgTimestamp(0xffffffff_ffffffffn)).toBe(-1n);
  });

  it('gives back the milliseconds it was made from', () => {
    const anyMs = fc.integer({ min: Date.UTC(1970, 0, 1), max: Date.UTC(2200, 0, 1) });
    fc.assert(
      fc.property(anyMs, (ms) => {
        expect(unixMsFromPgTimestamp(pgTimestampFromUnixMs(ms))).toBe(ms);
      }),
    );
  });
});
