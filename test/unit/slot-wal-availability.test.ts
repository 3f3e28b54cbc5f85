// What is left of the WAL of a slot, in PostgreSQL's words and numbers; and from which byte on WAL is kept at all.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import {
  bindingSetting,
  limitLsn,
  safeWalSize,
  walStatus,
  windowBytes,
} from '../../src/slot/wal-availability.ts';
import type { WalBounds } from '../../src/slot/wal-availability.ts';

const MB = 1024 * 1024;

/** In segments of 1 MB: the store begins at 10, W and F are in 30. */
function bounds(overrides: Partial<WalBounds> = {}): WalBounds {
  return {
    segmentSize: toSegmentSize(MB),
    walKeepSizeBytes: 2 * MB,
    maxSlotWalKeepSizeBytes: 8 * MB,
    quotaBytes: null,
    deadBytes: 0,
    oldestLsn: at(10),
    writtenLsn: at(30, 500),
    flushedLsn: at(30, 400),
    ...overrides,
  };
}

function at(segment: number, offset = 0): Lsn {
  return toLsn(BigInt(segment * MB + offset));
}

describe('the limit', () => {
  test('is so many whole segments before the one that is written', () => {
    expect(limitLsn(bounds())).toBe(at(22));
    expect(limitLsn(bounds({ writtenLsn: at(31) }))).toBe(at(23));
    expect(limitLsn(bounds({ maxSlotWalKeepSizeBytes: 8 * MB + MB / 2 }))).toBe(at(22));
    expect(limitLsn(bounds({ maxSlotWalKeepSizeBytes: 0 }))).toBe(at(28));
  });

  test('is nowhere when nothing bounds slots', () => {
    expect(limitLsn(bounds({ maxSlotWalKeepSizeBytes: null }))).toBe(INVALID_LSN);
    expect(limitLsn(bounds({ maxSlotWalKeepSizeBytes: 100 * MB }))).toBe(INVALID_LSN);
  });

  test('is not within the window that is kept in any case, nor behind what is flushed', () => {
    expect(limitLsn(bounds({ walKeepSizeBytes: 12 * MB }))).toBe(at(18));
    const none = { maxSlotWalKeepSizeBytes: 0, walKeepSizeBytes: 0 };
    expect(limitLsn(bounds({ ...none, flushedLsn: at(25, 1) }))).toBe(at(25));
  });

  test('is drawn by the quota where that leaves less: for dead WAL, and for two segments at the end', () => {
    expect(limitLsn(bounds({ quotaBytes: 7 * MB }))).toBe(at(25));
    expect(limitLsn(bounds({ quotaBytes: 7 * MB, deadBytes: 3 * MB }))).toBe(at(28));
    expect(limitLsn(bounds({ quotaBytes: 7 * MB, deadBytes: 30 * MB }))).toBe(at(30));
    expect(limitLsn(bounds({ quotaBytes: 20 * MB }))).toBe(at(22));
    expect(limitLsn(bounds({ quotaBytes: 7 * MB, maxSlotWalKeepSizeBytes: null }))).toBe(at(25));
  });

  test('names the setting that draws it', () => {
    expect(bindingSetting(bounds())).toBe('max_slot_wal_keep_size');
    expect(bindingSetting(bounds({ quotaBytes: 7 * MB }))).toBe('storage.quota');
    expect(bindingSetting(bounds({ quotaBytes: 20 * MB }))).toBe('max_slot_wal_keep_size');
  });

  test('cuts the window of wal_keep_size by the quota first', () => {
    const wide = { walKeepSizeBytes: 12 * MB };
    expect(windowBytes(bounds(wide))).toBe(12 * MB);
    expect(windowBytes(bounds({ ...wide, quotaBytes: 7 * MB }))).toBe(5 * MB);
    expect(limitLsn(bounds({ ...wide, quotaBytes: 7 * MB }))).toBe(at(25));
  });
});

describe('wal_status', () => {
  test('is reserved inside the window, extended behind it, unreserved behind the limit, then lost', () => {
    const of = (segment: number): unknown => walStatus(at(segment), at(segment), bounds());
    expect([31, 30, 28, 27].map(of)).toEqual(['reserved', 'reserved', 'reserved', 'reserved']);
    expect([26, 22].map(of)).toEqual(['extended', 'extended']);
    expect([21, 10].map(of)).toEqual(['unreserved', 'unreserved']);
    expect(of(9)).toBe('lost');
  });

  test('is unknown for a slot that reserves nothing', () => {
    expect(walStatus(INVALID_LSN, null, bounds())).toBeNull();
  });
});

describe('safe_wal_size', () => {
  test('is how much may be written until the limit has passed the slot', () => {
    expect(safeWalSize(at(30, 7), bounds())).toBe(9 * MB - 500);
    expect(safeWalSize(at(22), bounds())).toBe(MB - 500);
    expect(safeWalSize(at(20), bounds())).toBe(-MB - 500);
  });

  test('is unknown without a bound and without a position', () => {
    expect(safeWalSize(at(30), bounds({ maxSlotWalKeepSizeBytes: null }))).toBeNull();
    expect(safeWalSize(INVALID_LSN, bounds())).toBeNull();
  });

  test('ends where the limit begins: writing it all loses the slot, a byte less does not', () => {
    const size = fc.integer({ min: 0, max: 40 * MB });
    fc.assert(
      fc.property(size, size, size, size, (keep, most, start, behind) => {
        const writtenLsn = toLsn(BigInt(64 * MB + start));
        const restartLsn = toLsn(writtenLsn - BigInt(Math.min(behind, most)));
        const sizes = { walKeepSizeBytes: keep, maxSlotWalKeepSizeBytes: most };
        const given = { ...sizes, writtenLsn, flushedLsn: writtenLsn };
        const safe = safeWalSize(restartLsn, bounds(given)) ?? 0;
        const isLostAfter = (bytes: number): boolean => {
          const later = toLsn(writtenLsn + BigInt(bytes));
          return restartLsn < limitLsn(bounds({ ...given, writtenLsn: later, flushedLsn: later }));
        };
        fc.pre(safe > 0);
        expect([isLostAfter(safe - 1), isLostAfter(safe)]).toEqual([false, true]);
      }),
    );
  });
});
