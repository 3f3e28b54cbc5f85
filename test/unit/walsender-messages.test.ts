// Where messages end, how they are framed and shared, and how a tunnel finds ReadyForQuery.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { advanceLsn, toLsn } from '../../src/pg/lsn.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { toPgTimestamp } from '../../src/pg/timestamp.ts';
import { limitedEnd, messageEnd, WAL_MESSAGE_BYTES_MAX } from '../../src/walsender/message-end.ts';
import { MessageScanner } from '../../src/walsender/message-scanner.ts';
import {
  BATCH_BYTES_MAX,
  frameMessages,
  SharedFrames,
  SHARED_BATCHES_MAX,
} from '../../src/walsender/shared-frames.ts';
import { walBytes } from '../support/memory-wal.ts';
import { message } from '../support/raw-client.ts';

const PAGE = 8192n;
const lsn = (value: number | bigint) => toLsn(BigInt(value));

describe('messageEnd', () => {
  it.each([
    // start, sendable, end
    [0x1000000, 0x1000000, 0x1000000],
    [0x1000000, 0x1000001, 0x1000001],
    [0x1000000, 0x1020000, 0x1020000],
    [0x1000000, 0x1020001, 0x1020000],
    [0x1000080, 0x1020080, 0x1020080],
    [0x1000080, 0x1020081, 0x1020000],
    [0x1001fff, 0x2000000, 0x1020000],
  ])('from %i with %i sendable: %i', (start, sendable, end) => {
    expect(messageEnd(lsn(start), lsn(sendable))).toBe(lsn(end));
  });

  it('advances by at most 128 KiB, to the end or to a page boundary, whatever the range', () => {
    fc.assert(
      fc.property(fc.nat(1 << 30), fc.integer({ min: 1, max: 1 << 22 }), (start, length) => {
        const startLsn = lsn(start);
        const sendable = advanceLsn(startLsn, length);
        const end = messageEnd(startLsn, sendable);
        expect(end > startLsn && end <= sendable).toBe(true);
        expect(end - startLsn <= BigInt(WAL_MESSAGE_BYTES_MAX)).toBe(true);
        expect(end === sendable || end % PAGE === 0n).toBe(true);
        const batch = limitedEnd(startLsn, sendable, 65_536);
        expect(batch > startLsn && (batch === sendable || batch % PAGE === 0n)).toBe(true);
      }),
    );
  });
});

describe('frameMessages', () => {
  const range = (start: bigint, end: bigint) => ({
    startLsn: lsn(start),
    endLsn: lsn(end),
    walEnd: lsn(end + 5n),
    sendTime: toPgTimestamp(7n),
  });

  it('puts one header before each message and copies nothing', () => {
    const [start, end] = [0x1000080n, 0x1041234n];
    const bytes = walBytes(start, end);
    const batch = frameMessages([bytes.subarray(0, 100), bytes.subarray(100)], range(start, end));
    const wire = Buffer.concat(batch.chunks);
    const messages: [string, number, bigint, bigint][] = [];
    const data: Buffer[] = [];
    for (let offset = 0; offset < wire.length;) {
      const length = wire.readInt32BE(offset + 1);
      const body = wire.subarray(offset + 5, offset + 1 + length);
      messages.push([
        wire.toString('latin1', offset, offset + 1),
        body[0] ?? 0,
        body.readBigUInt64BE(1),
        body.readBigUInt64BE(9),
      ]);
      data.push(body.subarray(25));
      offset += 1 + length;
    }
    expect(messages).toEqual([
      ['d', 0x77, 0x1000080n, end + 5n],
      ['d', 0x77, 0x1020000n, end + 5n],
      ['d', 0x77, 0x1040000n, end + 5n],
    ]);
    expect(Buffer.concat(data).equals(bytes)).toBe(true);
    const views = batch.chunks.filter((chunk) => chunk.buffer === bytes.buffer);
    expect(views.length).toBe(4);
  });

  it('gives the same bytes however the WAL is cut into views', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 400_000 }),
        fc.array(fc.nat(400_000), { maxLength: 8 }),
        (length, cuts) => {
          const start = 0x2000010n;
          const end = start + BigInt(length);
          const bytes = walBytes(start, end);
          const ends = [...cuts.filter((cut) => cut < length), length].toSorted((a, b) => a - b);
          const views = ends.map((cut, index) => bytes.subarray(ends[index - 1] ?? 0, cut));
          const whole = frameMessages([bytes], range(start, end));
          const cut = frameMessages(views, range(start, end));
          expect(Buffer.concat(cut.chunks).equals(Buffer.concat(whole.chunks))).toBe(true);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('refuses views that hold less than the range', () => {
    expect(() => frameMessages([new Uint8Array(10)], range(0n, 11n))).toThrow(RangeError);
  });
});

describe('SharedFrames', () => {
  const request = (startLsn: number, sendableLsn: number, nowMs = 0, timeline = 1) => ({
    timeline: toTimelineId(timeline),
    startLsn: lsn(startLsn),
    sendableLsn: lsn(sendableLsn),
    nowMs,
    wallMs: 1_700_000_000_000,
  });

  function counted(): {
    frames: SharedFrames;
    loads: () => number;
    get: (r: ReturnType<typeof request>) => unknown;
  } {
    const frames = new SharedFrames();
    let loads = 0;
    const load = (start: bigint, end: bigint): Uint8Array[] => {
      loads += 1;
      return [walBytes(start, end)];
    };
    return { frames, loads: () => loads, get: (r) => frames.batch(r, load) };
  }

  it('builds a batch once for everybody who is at its start', () => {
    const { loads, get } = counted();
    const first = get(request(0, 5000));
    for (let index = 0; index < 1000; index += 1) expect(get(request(0, 5000))).toBe(first);
    expect(loads()).toBe(1);
  });

  it('builds another for another start, end or timeline, and when the first has become old', () => {
    const { loads, get } = counted();
    get(request(0, 5000));
    get(request(1, 5000));
    get(request(0, 5001));
    get(request(0, 5000, 0, 2));
    expect(loads()).toBe(4);
    get(request(0, 5000, 50));
    expect(loads()).toBe(4);
    get(request(0, 5000, 51));
    expect(loads()).toBe(5);
  });

  it('takes at most 1 MiB at a time and remembers a bounded number of batches', () => {
    const { loads, get } = counted();
    expect(get(request(0, 10 << 20))).toMatchObject({ endLsn: BigInt(BATCH_BYTES_MAX) });
    for (let start = 1; start <= SHARED_BATCHES_MAX; start += 1) get(request(start, 5000));
    const before = loads();
    get(request(0, 10 << 20));
    expect(loads()).toBe(before + 1);
  });

  it('remembers nothing that is not in memory, and nothing once cleared', () => {
    const { frames, loads, get } = counted();
    expect(frames.batch(request(0, 10), () => null)).toBeNull();
    get(request(0, 10));
    frames.clear();
    get(request(0, 10));
    expect(loads()).toBe(2);
  });
});

describe('MessageScanner', () => {
  const stream = Buffer.concat([
    message('T', 'x'),
    message('d', Buffer.alloc(300, 0x5a)),
    message('c'),
    message('Z', 'I'),
    message('S', 'late'),
  ]);
  const readyEnd = stream.length - 9;

  it('finds the end of ReadyForQuery wherever the stream is cut', () => {
    for (let cut = 0; cut <= stream.length; cut += 1) {
      const scanner = new MessageScanner();
      const first = scanner.passReady(stream.subarray(0, cut));
      if (cut >= readyEnd) {
        expect(first).toBe(readyEnd);
      } else {
        expect(first).toBe(-1);
        expect(scanner.passReady(stream.subarray(cut))).toBe(readyEnd - cut);
      }
      expect(scanner.isAtBoundary).toBe(true);
    }
  });

  it('finds it byte by byte too, and knows where messages begin', () => {
    const scanner = new MessageScanner();
    const boundaries: number[] = [];
    for (let index = 0; index < readyEnd; index += 1) {
      const end = scanner.passReady(stream.subarray(index, index + 1));
      expect(end).toBe(index === readyEnd - 1 ? 1 : -1);
      if (scanner.isAtBoundary) boundaries.push(index + 1);
    }
    expect(boundaries).toEqual([6, 311, 316, 322]);
    expect(scanner.hasSeenError).toBe(false);
  });

  it('notes an error', () => {
    const scanner = new MessageScanner();
    scanner.passReady(message('E', 'SERROR', 0, 0));
    expect(scanner.hasSeenError).toBe(true);
  });

  it.each([3, 0, -1])('refuses length %i', (length) => {
    const header = Buffer.alloc(5, 0x54);
    header.writeInt32BE(length, 1);
    expect(() => new MessageScanner().passReady(header)).toThrow(/invalid message length/);
  });
});
