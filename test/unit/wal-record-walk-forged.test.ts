// Is a forged header refused in PostgreSQL's own words? The cases of its own test of the end of WAL
// (src/test/recovery/t/039_end_of_wal.pl), and ends that are easily missed.
import { describe, expect, it, vi } from 'vitest';
import { advanceLsn, formatLsn, PAGE_SIZE } from '../../src/pg/lsn.ts';
import { chainStart } from '../../src/wal/records/record-chain.ts';
import { RecordWalk } from '../../src/wal/records/record-walk.ts';
import { RMGR, WalFixture } from '../support/wal-fixture.ts';

vi.setConfig({ testTimeout: 30_000 });

/** Records up to `left` bytes before the end of the third page, then one of 20 kB. */
function beforeLongRecord(left: number): { bytes: Buffer; at: number; page: number; text: string } {
  const wal = new WalFixture({ major: 16 });
  wal.fill(2 * PAGE_SIZE + 500);
  const room = PAGE_SIZE - Number(wal.endLsn % BigInt(PAGE_SIZE)) - left;
  wal.record({ body: Buffer.alloc(room - 24, 1) });
  const { startLsn } = wal.record({ body: Buffer.alloc(20_000, 2) });
  const at = Number(startLsn - wal.startLsn);
  const page = at - (at % PAGE_SIZE) + PAGE_SIZE;
  return { bytes: wal.bytes(), at, page, text: formatLsn(startLsn) };
}

type Forge = (bytes: Buffer, at: number, page: number) => void;

/** What is forged, how, and what PostgreSQL says; `X` stands for the record's address. */
const WHOLE_HEADER: readonly [string, Forge, string][] = [
  [
    'a length of zero',
    (b, at) => b.writeUInt32LE(0, at),
    'invalid record length at X: expected at least 24, got 0',
  ],
  [
    'a length that is too small',
    (b, at) => b.writeUInt32LE(23, at),
    'invalid record length at X: expected at least 24, got 23',
  ],
  [
    'a link to nowhere, and a length that is too large',
    (b, at) => {
      b.writeUInt32LE(0x80000000, at);
      b.writeBigUInt64LE(0xdeadbeefn, at + 8);
    },
    'record with incorrect prev-link 0/DEADBEEF at X',
  ],
  [
    'a resource manager that is none',
    (b, at) => b.writeUInt8(99, at + 17),
    'invalid resource manager ID 99 at X',
  ],
  [
    'a checksum',
    (b, at) => b.writeUInt32LE(1, at + 20),
    'incorrect resource manager data checksum in record at X',
  ],
];

/** These are found before the rest of a record header that was cut by the page. */
const NEXT_PAGE: readonly [string, Forge, string][] = [
  [
    'a page of zeros',
    (b, _at, page) => b.fill(0, page, page + PAGE_SIZE),
    'invalid magic number 0000 in WAL segment P',
  ],
  [
    'a magic number',
    (b, _at, page) => b.writeUInt16LE(0xcafe, page),
    'invalid magic number CAFE in WAL segment P',
  ],
  [
    'the address of a recycled page',
    (b, _at, page) => b.writeBigUInt64LE(0xbaaaaaadn, page + 8),
    'unexpected pageaddr 0/BAAAAAAD in WAL segment P',
  ],
  [
    'unknown bits',
    (b, _at, page) => b.writeUInt16LE(0x1234, page + 2),
    'invalid info bits 1234 in WAL segment P',
  ],
  [
    'no continuation',
    (b, _at, page) => b.writeUInt16LE(0, page + 2),
    'there is no contrecord flag at X',
  ],
  [
    'a remaining length',
    (b, _at, page) => b.writeUInt32LE(123_456, page + 16),
    'invalid contrecord length 123456 (expected L) at X',
  ],
];

function expectRefusal(left: number, forge: Forge, reason: string): void {
  for (const checksums of [true, false]) {
    for (const step of [200_000, 1_000, 8]) {
      const { bytes, at, page, text } = beforeLongRecord(left);
      forge(bytes, at, page);
      const wal = new WalFixture({ major: 16 });
      const walk = new RecordWalk({ ...wal.origin, checksums }, chainStart(wal.startLsn));
      let failure = null;
      for (let i = 0; i < bytes.length && failure === null; i += step) {
        failure = walk.push(bytes.subarray(i, i + step));
      }
      const lsn = formatLsn(advanceLsn(wal.startLsn, page));
      const where = `000000010000000000000030, LSN ${lsn}, offset ${page}`;
      expect(failure?.reason).toBe(
        reason
          .replace('X', text)
          .replace('P', where)
          .replace('(expected L)', `(expected ${20_024 - left})`),
      );
      expect(walk.recordEnd() <= wal.startLsn + BigInt(at)).toBe(true);
    }
  }
}

describe('a forged record header', () => {
  it.each(WHOLE_HEADER)('with %s is refused', (_what, forge, reason) => {
    expectRefusal(3_000, forge, reason);
  });

  it('that the page cuts is refused by its length alone', () => {
    const reason = 'invalid record length at X: expected at least 24, got 1';
    expectRefusal(8, (bytes, at) => bytes.writeUInt32LE(1, at), reason);
  });
});

describe('a forged page header', () => {
  it.each(NEXT_PAGE)('with %s is refused inside a record', (_what, forge, reason) => {
    expectRefusal(3_000, forge, reason);
  });

  it.each(NEXT_PAGE)(
    'with %s is refused before the rest of a bad record header',
    (_what, forge, reason) => {
      const both: Forge = (bytes, at, page) => {
        bytes.writeUInt32LE(0xdeadbeef, page + 24);
        forge(bytes, at, page);
      };
      expectRefusal(8, both, reason);
    },
  );

  it('that goes on with a record that is whole is refused', () => {
    const wal = new WalFixture({ major: 16 });
    wal.fill(500);
    wal.record({ body: Buffer.alloc(PAGE_SIZE - Number(wal.endLsn % BigInt(PAGE_SIZE)) - 24) });
    wal.record({ body: Buffer.alloc(10) });
    const bytes = wal.bytes();
    bytes.writeUInt16LE(1, PAGE_SIZE + 2);
    const walk = new RecordWalk({ ...wal.origin, checksums: true }, chainStart(wal.startLsn));
    const first = formatLsn(advanceLsn(wal.startLsn, PAGE_SIZE + 24));
    expect(walk.push(bytes)?.reason).toBe(`contrecord is requested by ${first}`);
  });
});

/** WAL whose last record ends in a way of its own. */
const ENDS: readonly [string, (wal: WalFixture) => void][] = [
  ['a switch', (wal) => wal.switchSegment()],
  [
    'a switch whose record ends with its page',
    (wal) => {
      wal.record({ body: Buffer.alloc(roomInPage(wal) - 24 - 24) });
      wal.switchSegment();
    },
  ],
  [
    'a switch whose record ends with its segment',
    (wal) => {
      while (roomInSegment(wal) > 2 * PAGE_SIZE) wal.record({ body: Buffer.alloc(3_000) });
      while (roomInSegment(wal) > PAGE_SIZE) wal.record({ body: Buffer.alloc(100) });
      wal.record({ body: Buffer.alloc(roomInSegment(wal) - 24 - 24) });
      wal.switchSegment();
    },
  ],
  [
    'a record across a segment, and a small one behind it',
    (wal) => {
      while (roomInSegment(wal) > 9_000) wal.record({ body: Buffer.alloc(3_000) });
      wal.record({ body: Buffer.alloc(30_000, 5) });
      wal.record({ body: Buffer.alloc(3) });
    },
  ],
];

function roomInPage(wal: WalFixture): number {
  return PAGE_SIZE - Number(wal.endLsn % BigInt(PAGE_SIZE));
}

function roomInSegment(wal: WalFixture): number {
  return wal.segmentSize - Number(wal.endLsn % BigInt(wal.segmentSize));
}

describe('WAL that ends with', () => {
  it.each(ENDS)('%s is walked to its end, cut anywhere, and from its end on', (_what, write) => {
    const wal = new WalFixture({ major: 18 });
    wal.fill(3_000, 2);
    write(wal);
    const end = wal.endLsn;
    const bytes = wal.bytes();
    for (const step of [bytes.length, PAGE_SIZE, 999]) {
      const walk = new RecordWalk(
        { ...wal.origin, checksums: step !== 999 },
        chainStart(wal.startLsn),
      );
      for (let at = 0; at < bytes.length; at += step) {
        expect(walk.push(bytes.subarray(at, at + step))).toBeNull();
      }
      expect(walk.recordEnd()).toBe(end);
      const goesOn = new RecordWalk({ ...wal.origin, checksums: true }, walk.position());
      expect(goesOn.push(continued(write, end))).toBeNull();
      expect(goesOn.recordEnd() > end).toBe(true);
    }
  });

  /** The same again and a small record: its bytes from `from` on. */
  function continued(write: (wal: WalFixture) => void, from: bigint): Buffer {
    const wal = new WalFixture({ major: 18 });
    wal.fill(3_000, 2);
    write(wal);
    wal.record({ rmgrId: RMGR.heap, body: Buffer.alloc(5) });
    return wal.slice(from, wal.endLsn);
  }
});
