import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import { toPgTimestamp } from '../../src/pg/timestamp.ts';
import * as codec from '../../src/wire/replication-messages.ts';
import { bodyOf, i32, i64, message, raw } from '../support/naive-writer.ts';

const anyLsn = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map(toLsn);
const anyTime = fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }).map(toPgTimestamp);
const anyXid = fc.nat(0xffffffff);
const HIGH = toLsn(0xffffffff_fffffff0n);
const BEFORE_2000 = toPgTimestamp(-5n);

function refusal(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return error;
  }
}

describe('payloads inside CopyData', () => {
  it('are told apart by their first byte', () => {
    expect(codec.copyDataKind(raw('w'))).toBe(codec.COPY_DATA_KIND.walData);
    expect(codec.copyDataKind(raw('z', 1))).toBe('z'.charCodeAt(0));
    expect(codec.copyDataKind(raw())).toBe(-1);
  });

  it('hold positions and times over the whole 64 bits', () => {
    expect(codec.decodeWalDataHeader(raw('w', i64(HIGH), i64(HIGH), i64(-5n), 'wal'))).toEqual({
      startLsn: HIGH,
      walEnd: HIGH,
      sendTime: BEFORE_2000,
    });
    expect(codec.decodePrimaryKeepalive(raw('k', i64(HIGH), i64(-5n), 1))).toEqual({
      walEnd: HIGH,
      sendTime: BEFORE_2000,
      replyRequested: true,
    });
  });

  it('are written as the naive writer writes them', () => {
    fc.assert(
      fc.property(anyLsn, anyLsn, anyLsn, anyTime, fc.boolean(), (a, b, c, time, asks) => {
        const flag = asks ? 1 : 0;
        expect(
          codec.encodePrimaryKeepalive({ walEnd: a, sendTime: time, replyRequested: asks }),
        ).toEqual(message('d', 'k', i64(a), i64(time), flag));
        const update = { writeLsn: a, flushLsn: b, applyLsn: c, sendTime: time };
        expect(codec.encodeStandbyStatusUpdate({ ...update, replyRequested: asks })).toEqual(
          message('d', 'r', i64(a), i64(b), i64(c), i64(time), flag),
        );
      }),
      { numRuns: 50 },
    );
    fc.assert(
      fc.property(anyTime, anyXid, anyXid, anyXid, anyXid, (time, x, xe, c, ce) => {
        const feedback = { xmin: x, xminEpoch: xe, catalogXmin: c, catalogXminEpoch: ce };
        expect(codec.encodeHotStandbyFeedback({ ...feedback, sendTime: time })).toEqual(
          message('d', 'h', i64(time), i32(x), i32(xe), i32(c), i32(ce)),
        );
      }),
      { numRuns: 50 },
    );
  });

  it('read back as they were written', () => {
    fc.assert(
      fc.property(anyLsn, anyLsn, anyTime, fc.boolean(), anyXid, (a, b, time, asks, xid) => {
        const keepalive = { walEnd: a, sendTime: time, replyRequested: asks };
        const keepaliveBytes = bodyOf(codec.encodePrimaryKeepalive(keepalive));
        expect(codec.decodePrimaryKeepalive(keepaliveBytes)).toEqual(keepalive);
        const update = {
          writeLsn: a,
          flushLsn: b,
          applyLsn: a,
          sendTime: time,
          replyRequested: asks,
        };
        const updateBytes = bodyOf(codec.encodeStandbyStatusUpdate(update));
        expect(codec.decodeStandbyStatusUpdate(updateBytes)).toEqual(update);
        const feedback = {
          sendTime: time,
          xmin: xid,
          xminEpoch: 1,
          catalogXmin: 0,
          catalogXminEpoch: xid,
        };
        const feedbackBytes = bodyOf(codec.encodeHotStandbyFeedback(feedback));
        expect(codec.decodeHotStandbyFeedback(feedbackBytes)).toEqual(feedback);
      }),
      { numRuns: 50 },
    );
  });

  it('put the frame and the head of WAL data before the bytes', () => {
    const wal = raw('WAL bytes');
    const header = codec.encodeWalDataFrameHeader(toLsn(1n), HIGH, BEFORE_2000, wal.length);
    expect(raw(header, wal)).toEqual(message('d', 'w', i64(1n), i64(HIGH), i64(-5n), wal));
    expect(header).toHaveLength(5 + codec.WAL_DATA_HEADER_BYTES);
  });

  it("from a server are refused with the walreceiver's words when cut or too long", () => {
    const wal = raw('w', i64(1n), i64(2n), i64(3n));
    for (let length = 0; length < wal.length; length += 1) {
      expect(refusal(() => codec.decodeWalDataHeader(wal.slice(0, length)))).toMatchObject({
        code: '08P01',
        message: 'invalid WAL message received from primary',
      });
    }
    const keepalive = raw('k', i64(1n), i64(2n), 0);
    const wrong = [raw(keepalive, 0)];
    for (let length = 0; length < keepalive.length; length += 1) {
      wrong.push(keepalive.slice(0, length));
    }
    for (const body of wrong) {
      expect(refusal(() => codec.decodePrimaryKeepalive(body))).toMatchObject({
        code: '08P01',
        message: 'invalid keepalive message received from primary',
      });
    }
  });

  it("from a standby are refused with the walsender's words when cut", () => {
    const update = raw('r', i64(1n), i64(2n), i64(3n), i64(4n), 1);
    for (let length = 1; length < update.length; length += 1) {
      const what = length === update.length - 1 ? 'no data' : 'insufficient data';
      expect(refusal(() => codec.decodeStandbyStatusUpdate(update.slice(0, length)))).toMatchObject(
        { code: '08P01', message: `${what} left in message` },
      );
    }
    const feedback = raw('h', i64(1n), i32(2), i32(3), i32(4), i32(5));
    for (let length = 1; length < feedback.length; length += 1) {
      expect(
        refusal(() => codec.decodeHotStandbyFeedback(feedback.slice(0, length))),
      ).toMatchObject({ code: '08P01', message: 'insufficient data left in message' });
    }
  });

  it('from a standby may be longer than needed, as PostgreSQL allows', () => {
    const extra = new Uint8Array(10).fill(0xff);
    const update = raw('r', i64(1n), i64(2n), i64(3n), i64(4n), 1, extra);
    expect(codec.decodeStandbyStatusUpdate(update)).toMatchObject({
      applyLsn: 3n,
      replyRequested: true,
    });
    const feedback = raw('h', i64(1n), i32(2), i32(3), i32(4), i32(5), extra);
    expect(codec.decodeHotStandbyFeedback(feedback)).toMatchObject({ catalogXminEpoch: 5 });
  });
});
