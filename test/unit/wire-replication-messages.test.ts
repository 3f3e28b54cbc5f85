import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toLsn } from '../../src/pg/lsn.ts';
import { toPgTimestamp } from '../../src/pg/timestamp.ts';
import * as codec from '../../src/wire/replication-messages.ts';
import { bodyOf, i32, i64, message, raw } from '../support/naive-writer.ts';

const anyLsn = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map(toLsn);
const anyTime = fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }).map(toPgTimestamp);
const anyXid = fc.nat(0xffffffff);
const anyKeepalive = fc.record({
  walEnd: anyLsn,
  sendTime: anyTime,
  replyRequested: fc.boolean(),
});
const anyUpdate = fc.record({
  writeLsn: anyLsn,
  flushLsn: anyLsn,
  applyLsn: anyLsn,
  sendTime: anyTime,
  replyRequested: fc.boolean(),
});
const anyFeedback = fc.record({
  sendTime: anyTime,
  xmin: anyXid,
  xminEpoch: anyXid,
  catalogXmin: anyXid,
  catalogXminEpoch: anyXid,
});
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
      fc.property(anyKeepalive, anyUpdate, anyFeedback, (k, r, h) => {
        expect(codec.encodePrimaryKeepalive(k)).toEqual(
          message('d', 'k', i64(k.walEnd), i64(k.sendTime), k.replyRequested ? 1 : 0),
        );
        const lsns = raw(i64(r.writeLsn), i64(r.flushLsn), i64(r.applyLsn));
        expect(codec.encodeStandbyStatusUpdate(r)).toEqual(
          message('d', 'r', lsns, i64(r.sendTime), r.replyRequested ? 1 : 0),
        );
        const xids = raw(
          i32(h.xmin),
          i32(h.xminEpoch),
          i32(h.catalogXmin),
          i32(h.catalogXminEpoch),
        );
        expect(codec.encodeHotStandbyFeedback(h)).toEqual(message('d', 'h', i64(h.sendTime), xids));
      }),
    );
  });

  it('read back as they were written', () => {
    fc.assert(
      fc.property(anyKeepalive, anyUpdate, anyFeedback, (keepalive, update, feedback) => {
        expect(
          codec.decodePrimaryKeepalive(bodyOf(codec.encodePrimaryKeepalive(keepalive))),
        ).toEqual(keepalive);
        expect(
          codec.decodeStandbyStatusUpdate(bodyOf(codec.encodeStandbyStatusUpdate(update))),
        ).toEqual(update);
        expect(
          codec.decodeHotStandbyFeedback(bodyOf(codec.encodeHotStandbyFeedback(feedback))),
        ).toEqual(feedback);
      }),
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
