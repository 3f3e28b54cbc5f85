import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { formatLsn, INVALID_LSN, toLsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import { RecordWalk } from '../../src/wal/records/record-walk.ts';
import type { WalkFailure } from '../../src/wal/records/record-walk.ts';
import { RMGR, WalFixture } from '../support/wal-fixture.ts';

vi.setConfig({ testTimeout: 30_000 });

/** Two segments and a bit, with every kind of record: small, large, across segments, checkpoint, switch. */
function sampleWal(options: { major?: number; startLsn?: bigint } = {}): WalFixture {
  const wal = new WalFixture(options);
  wal.fill(100_000, 3);
  wal.checkpoint();
  wal.record({ body: Buffer.alloc(1_000_000, 7) });
  wal.fill(50_000, 5);
  wal.switchSegment();
  wal.fill(40_000, 9);
  wal.checkpoint({ shutdown: true });
  return wal;
}

function walkOf(wal: WalFixture, checksums = true): RecordWalk {
  return new RecordWalk({ ...wal.origin, checksums }, chainStart(wal.startLsn));
}

function pushAll(walk: RecordWalk, bytes: Buffer, step: number): WalkFailure | null {
  for (let at = 0; at < bytes.length; at += step) {
    const failure = walk.push(bytes.subarray(at, at + step));
    if (failure !== null) return failure;
  }
  return null;
}

function flipped(bytes: Buffer, at: number, mask = 1): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ mask;
  return copy;
}

describe('a walk over good WAL', () => {
  it.each([13, 14, 15, 16, 17, 18, 19])('accepts what PostgreSQL %i writes', (major) => {
    const wal = sampleWal({ major });
    const walk = walkOf(wal);
    expect(walk.push(wal.bytes())).toBeNull();
    expect(walk.recordEnd()).toBe(wal.endLsn);
    expect(walk.position()).toMatchObject({
      lastRecordLsn: wal.records.at(-1)?.startLsn,
      isShutdownCheckpoint: true,
      redoLsn: wal.records.at(-1)?.startLsn,
    });
  });

  it.each([1, 5, 8, 23, 24, 1000, 8191, 8192, 8193, 131_072])(
    'sees the same records in messages of %i bytes',
    (step) => {
      const wal = new WalFixture();
      wal.fill(60_000, 11);
      wal.switchSegment();
      wal.fill(30_000, 13);
      for (const checksums of [true, false]) {
        const seen: number[] = [];
        const walk = new RecordWalk(
          {
            ...wal.origin,
            checksums,
            observer: { onRecord: (rmgrId) => seen.push(rmgrId) },
          },
          chainStart(wal.startLsn),
        );
        expect(pushAll(walk, wal.bytes(), step)).toBeNull();
        expect(walk.recordEnd()).toBe(wal.endLsn);
        expect(seen).toEqual(wal.records.map((record) => record.rmgrId));
      }
    },
  );

  it('names a record end exactly when the record, its padding and a switch’s zeros are whole', () => {
    const wal = new WalFixture();
    wal.fill(20_000, 17);
    wal.record({ body: Buffer.alloc(9_000) });
    const walk = walkOf(wal);
    const ends = [wal.startLsn, ...wal.records.map((record) => record.endLsn)];
    const bytes = wal.bytes();
    for (let at = 0; at < bytes.length; at++) {
      expect(walk.push(bytes.subarray(at, at + 1))).toBeNull();
      const here = wal.startLsn + BigInt(at + 1);
      expect(walk.recordEnd()).toBe(ends.findLast((end) => end <= here));
    }
  });

  it('is found whole when it is cut in two at any offset around a page boundary', () => {
    const wal = new WalFixture();
    wal.fill(24_000, 19);
    const bytes = wal.bytes();
    for (let cut = 8_100; cut < 8_300; cut++) {
      const walk = walkOf(wal, false);
      expect(walk.push(bytes.subarray(0, cut))).toBeNull();
      expect(walk.push(bytes.subarray(cut))).toBeNull();
      expect(walk.recordEnd()).toBe(wal.endLsn);
    }
  });

  it('may cross a 4 GB boundary of the address', () => {
    const wal = sampleWal({ startLsn: 0xfff00000n });
    const walk = walkOf(wal);
    expect(pushAll(walk, wal.bytes(), 100_003)).toBeNull();
    expect(walk.recordEnd()).toBe(wal.endLsn);
    expect(walk.recordEnd() > 0x100000000n).toBe(true);
  });

  it('may lie at the far end of the address space', () => {
    const wal = sampleWal({ startLsn: 0xfffffffe_80000000n });
    const walk = walkOf(wal);
    expect(pushAll(walk, wal.bytes(), 8_192)).toBeNull();
    expect(formatLsn(walk.recordEnd())).toBe(formatLsn(wal.endLsn));
  });

  it('may begin inside a record whose start is not stored', () => {
    const wal = sampleWal();
    const start = toLsn(wal.startLsn + BigInt(wal.segmentSize));
    const bytes = wal.slice(start, wal.endLsn);
    for (const step of [bytes.length, 1_000, 8_192]) {
      const walk = new RecordWalk({ ...wal.origin, checksums: true }, chainStart(start));
      expect(pushAll(walk, bytes, step)).toBeNull();
      expect(walk.recordEnd()).toBe(wal.endLsn);
    }
  });

  it('goes on at a record end in the middle of a page when the last record is known', () => {
    const wal = sampleWal();
    const [next, last] = [wal.records[100], wal.records[99]];
    const walk = new RecordWalk(
      { ...wal.origin, checksums: true },
      { ...chainStart(next!.startLsn), lastRecordLsn: last!.startLsn },
    );
    expect(walk.push(wal.slice(next!.startLsn, wal.endLsn))).toBeNull();
    expect(walk.recordEnd()).toBe(wal.endLsn);
  });

  it('accepts the record that never got its end when the server crashed inside it', () => {
    const wal = new WalFixture();
    wal.fill(10_000);
    wal.crashInside(30_000);
    wal.fill(10_000);
    for (const step of [wal.bytes().length, 100, 8_192]) {
      const walk = walkOf(wal);
      expect(pushAll(walk, wal.bytes(), step)).toBeNull();
      expect(walk.recordEnd()).toBe(wal.endLsn);
    }
  });

  it('follows the timeline of each page through the history', () => {
    const wal = new WalFixture();
    wal.fill(30_000);
    wal.history = {
      timeline: toTimelineId(3),
      ancestors: [{ timeline: toTimelineId(1), endLsn: wal.endLsn }],
    };
    wal.fill(30_000);
    const walk = walkOf(wal);
    expect(pushAll(walk, wal.bytes(), 1_000)).toBeNull();
    expect(walk.recordEnd()).toBe(wal.endLsn);
  });
});

describe('a walk over bad WAL', () => {
  const wal = sampleWal();
  const bytes = wal.bytes();
  const STEP = 16_384;

  /** Pushes what comes before the message of `at`, then damaged messages until one is refused. */
  function firstFailure(
    at: number,
    checksums: boolean,
    damaged: Buffer,
  ): [RecordWalk, WalkFailure | null] {
    const walk = walkOf(wal, checksums);
    const from = Math.floor(at / STEP) * STEP;
    expect(pushAll(walk, bytes.subarray(0, from), STEP)).toBeNull();
    return [walk, pushAll(walk, damaged.subarray(from), STEP)];
  }

  it('finds every flipped bit when all records are summed, and heals with the right bytes', () => {
    for (let at = 0; at < bytes.length; at += 40_009) {
      const [walk, failure] = firstFailure(at, true, flipped(bytes, at, 1 << (at % 8)));
      expect(failure, `flip at ${at}`).not.toBeNull();
      const next = Number(walk.nextLsn() - wal.startLsn);
      expect(next).toBeLessThanOrEqual(at);
      expect(pushAll(walk, bytes.subarray(next), STEP)).toBeNull();
      expect(walk.recordEnd()).toBe(wal.endLsn);
    }
  });

  it('never names a record end that is none, and heals, without summing all records', () => {
    const ends = new Set([wal.startLsn, ...wal.records.map((record) => record.endLsn)]);
    for (let at = 0; at < bytes.length; at += 9_001) {
      const damaged = flipped(bytes, at, 1 << (at % 8));
      const walk = walkOf(wal, false);
      const from = Math.floor(at / STEP) * STEP;
      pushAll(walk, bytes.subarray(0, from), STEP);
      for (let i = from; i < bytes.length; i += STEP) {
        const failure = walk.push(damaged.subarray(i, i + STEP));
        expect(ends, `flip at ${at}`).toContain(walk.recordEnd());
        if (failure !== null) break;
      }
      const next = Number(walk.nextLsn() - wal.startLsn);
      expect(pushAll(walk, bytes.subarray(next), STEP)).toBeNull();
    }
  });

  it.each([
    ['page magic', 8_192, /invalid magic number/],
    ['page flags', 8_195, /invalid info bits/],
    ['page timeline', 8_196, /unexpected timeline ID/],
    ['page address', 8_200, /unexpected pageaddr/],
    ['system identifier', 24, /different database system: WAL file database system identifier is/],
    ['segment size', 33, /incorrect segment size/],
    ['block size', 37, /incorrect XLOG_BLCKSZ/],
    ['record length', 40, /invalid record length|checksum|padding|prev-link|too long/],
    ['resource manager', 57, /invalid resource manager ID|checksum/],
    ['record header padding', 58, /padding of the record header/],
  ])('finds damage in the %s without summing all records', (_what, at, reason) => {
    for (const step of [bytes.length, 64]) {
      const failure = pushAll(walkOf(wal, false), flipped(bytes, at, 0x7c), step);
      expect(failure?.reason).toMatch(reason);
    }
  });

  it.each([
    0x0, 0x17, 0x3fc00001, 0x7ffffff8, 0x7ffffff9, 0x7fffffff, 0x80000000, 0xfffffff8, 0xfffffff9,
    0xffffffff,
  ])('refuses the record length %i at once, wherever messages are cut', (length) => {
    for (const record of [wal.records[0]!, wal.records[2]!, wal.records[400]!]) {
      const at = Number(record.startLsn - wal.startLsn);
      const damaged = Buffer.from(bytes.subarray(0, at + 9_000));
      damaged.writeUInt32LE(length, at);
      for (const checksums of [false, true]) {
        for (const step of [damaged.length, 8_192, 1_000, 64, 8]) {
          const failure = pushAll(walkOf(wal, checksums), damaged, step);
          expect(failure?.reason).toMatch(/invalid record length|too long/);
          expect(failure?.lsn).toBe(record.startLsn);
        }
        const walk = walkOf(wal, checksums);
        expect(walk.scan(damaged)?.lsn).toBe(record.startLsn);
        expect(walk.recordEnd() <= record.startLsn).toBe(true);
      }
    }
  });

  it.each([0x3fc00001, 0x7fffffff, 0x80000000, 0xfffffff9, 0xffffffff])(
    'refuses %i as the rest of a record that began before the stream',
    (length) => {
      const damaged = bytes.subarray(0, 20_000);
      const first = Buffer.from(damaged);
      first.writeUInt16LE(first.readUInt16LE(2) | 1, 2);
      first.writeUInt32LE(length, 16);
      expect(pushAll(walkOf(wal, false), first, 1_000)?.reason).toMatch(
        /invalid contrecord length/,
      );
    },
  );

  it('finds a record that does not name its predecessor', () => {
    const third = wal.records[2]!;
    const at = Number(third.startLsn - wal.startLsn) + 8;
    const failure = pushAll(walkOf(wal, false), flipped(bytes, at), 1_000);
    expect(failure?.reason).toMatch(/record with incorrect prev-link .* at 0\/3/);
    expect(failure?.lsn).toBe(third.startLsn);
  });

  it('finds bytes behind a switch that are not zero', () => {
    const switchEnd = wal.records.find(
      (r) => r.rmgrId === RMGR.xlog && r.endLsn % 0x100000n === 0n,
    );
    const at = Number(switchEnd!.endLsn - wal.startLsn) - 5_000;
    const failure = pushAll(walkOf(wal, false), flipped(bytes, at), STEP);
    expect(failure?.reason).toMatch(/bytes behind the XLOG_SWITCH record/);
  });

  it('finds padding between records that is not zero', () => {
    const short = new WalFixture();
    short.record({ body: Buffer.alloc(5) });
    const at = short.bytes().length - 1;
    expect(pushAll(walkOf(short, false), flipped(short.bytes(), at), 1_000)?.reason).toMatch(
      /padding behind the record is not zero/,
    );
  });

  it('refuses a message as a whole: what was good in it comes again', () => {
    const walk = walkOf(wal);
    expect(walk.push(bytes.subarray(0, 4_000))).toBeNull();
    const end = walk.recordEnd();
    expect(walk.push(flipped(bytes, 12_000).subarray(4_000, 16_000))).not.toBeNull();
    expect(walk.recordEnd()).toBe(end);
    expect(walk.nextLsn()).toBe(end);
  });

  it('refuses a mismatching overwrite record', () => {
    const crashed = new WalFixture();
    crashed.fill(5_000);
    crashed.crashInside(30_000);
    const overwrite = crashed.records.at(-1)!;
    const good = crashed.bytes();
    const asOther = Buffer.from(good);
    // Another valid record in the place of the overwrite record: the same bytes with another operation are not enough.
    asOther[Number(overwrite.startLsn - crashed.startLsn) + 16] = 0x60;
    expect(walkOf(crashed, false).push(asOther)?.reason).toMatch(
      /expected an overwrite contrecord/,
    );
  });

  it('does not take zeros for WAL', () => {
    expect(walkOf(wal).push(Buffer.alloc(100_000))?.reason).toMatch(/invalid magic number 0000/);
  });

  it('scans up to the last whole record before the damage', () => {
    const walk = walkOf(wal);
    const at = 60_000;
    expect(walk.scan(flipped(bytes, at))).not.toBeNull();
    const expected = wal.records.findLast((r) => Number(r.endLsn - wal.startLsn) <= at);
    expect(walk.recordEnd()).toBe(expected?.endLsn);
  });

  it('knows nothing of checkpoints before the first', () => {
    const walk = walkOf(wal);
    walk.push(bytes.subarray(0, 50_000));
    expect(walk.redoLsn()).toBe(INVALID_LSN);
  });

  it('is never confused by any bytes, cut anywhere: it fails or stands at a true record end, and heals', () => {
    const small = new WalFixture({ major: 18 });
    small.fill(30_000, 23);
    small.crashInside(12_000);
    small.fill(20_000, 29);
    const good = small.bytes();
    const ends = new Set([small.startLsn, ...small.records.map((record) => record.endLsn)]);
    const damage = fc.record({
      at: fc.nat(good.length - 1),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 40 }),
      step: fc.integer({ min: 200, max: 20_000 }),
      checksums: fc.boolean(),
    });
    fc.assert(
      fc.property(damage, ({ at, bytes: noise, step, checksums }) => {
        const damaged = Buffer.from(good);
        damaged.set(noise.subarray(0, good.length - at), at);
        const walk = walkOf(small, checksums);
        const failure = pushAll(walk, damaged, step);
        expect(ends).toContain(walk.recordEnd());
        if (failure === null) return;
        expect(walk.nextLsn()).toBe(walk.recordEnd());
        expect(walk.push(good.subarray(Number(walk.nextLsn() - small.startLsn)))).toBeNull();
        expect(walk.recordEnd()).toBe(small.endLsn);
      }),
      { numRuns: 400 },
    );
  });
});
