// What do the payloads inside CopyData say while WAL is streamed, and how are they written?
// (src/backend/replication/walreceiver.c:XLogWalRcvProcessMsg, walsender.c:ProcessRepliesIfAny, XLogSendPhysical)
import { ProtocolViolation } from '../base/errors.ts';
import { toLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { toPgTimestamp } from '../pg/timestamp.ts';
import type { PgTimestamp } from '../pg/timestamp.ts';
import { MessageReader, readUint64 } from './message-reader.ts';
import { MessageWriter, writeUint32, writeUint64 } from './message-writer.ts';

/** Letters of the payloads. */
export const COPY_DATA_KIND = {
  walData: 0x77,
  primaryKeepalive: 0x6b,
  standbyStatusUpdate: 0x72,
  hotStandbyFeedback: 0x68,
  primaryStatusUpdate: 0x73,
  primaryStatusRequest: 0x70,
} as const;

/** Bytes of a WALData payload before the WAL. */
export const WAL_DATA_HEADER_BYTES = 25;

/** Bytes of a primary keepalive payload, exactly. */
export const PRIMARY_KEEPALIVE_BYTES = 18;

/** WALData (`w`) without the WAL, which is `body.subarray(WAL_DATA_HEADER_BYTES)`. */
export interface WalDataHeader {
  /** First byte of the WAL. */
  readonly startLsn: Lsn;
  /** End (exclusive) of what the server could send. */
  readonly walEnd: Lsn;
  readonly sendTime: PgTimestamp;
}

/** Primary keepalive (`k`). */
export interface PrimaryKeepalive {
  /** End (exclusive) of what the server has sent. */
  readonly walEnd: Lsn;
  readonly sendTime: PgTimestamp;
  readonly replyRequested: boolean;
}

/** Standby status update (`r`). INVALID_LSN = not reported. */
export interface StandbyStatusUpdate {
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
  readonly sendTime: PgTimestamp;
  readonly replyRequested: boolean;
}

/** Hot standby feedback (`h`). A zero xid means "none". */
export interface HotStandbyFeedback {
  readonly sendTime: PgTimestamp;
  readonly xmin: number;
  readonly xminEpoch: number;
  readonly catalogXmin: number;
  readonly catalogXminEpoch: number;
}

/** The payload's letter, or -1 for an empty CopyData. */
export function copyDataKind(body: Uint8Array): number {
  return body[0] ?? -1;
}

/** Reads the head of a WALData payload. Throws {@link ProtocolViolation} 08P01 when it is shorter than its head. */
export function decodeWalDataHeader(body: Uint8Array): WalDataHeader {
  if (body.length < WAL_DATA_HEADER_BYTES) {
    throw violation('invalid WAL message received from primary');
  }
  return {
    startLsn: toLsn(readUint64(body, 1)),
    walEnd: toLsn(readUint64(body, 9)),
    sendTime: toPgTimestamp(readUint64(body, 17)),
  };
}

/** Reads a primary keepalive. Throws {@link ProtocolViolation} 08P01 when it has another length. */
export function decodePrimaryKeepalive(body: Uint8Array): PrimaryKeepalive {
  if (body.length !== PRIMARY_KEEPALIVE_BYTES) {
    throw violation('invalid keepalive message received from primary');
  }
  return {
    walEnd: toLsn(readUint64(body, 1)),
    sendTime: toPgTimestamp(readUint64(body, 9)),
    replyRequested: body[17] !== 0,
  };
}

/** Reads a standby status update; bytes behind it are ignored, as PostgreSQL does. Throws {@link ProtocolViolation} 08P01. */
export function decodeStandbyStatusUpdate(body: Uint8Array): StandbyStatusUpdate {
  const reader = new MessageReader(body, 1);
  return {
    writeLsn: toLsn(reader.uint64()),
    flushLsn: toLsn(reader.uint64()),
    applyLsn: toLsn(reader.uint64()),
    sendTime: toPgTimestamp(reader.uint64()),
    replyRequested: reader.byte() !== 0,
  };
}

/** Reads hot standby feedback; bytes behind it are ignored, as PostgreSQL does. Throws {@link ProtocolViolation} 08P01. */
export function decodeHotStandbyFeedback(body: Uint8Array): HotStandbyFeedback {
  const reader = new MessageReader(body, 1);
  return {
    sendTime: toPgTimestamp(reader.uint64()),
    xmin: reader.uint32(),
    xminEpoch: reader.uint32(),
    catalogXmin: reader.uint32(),
    catalogXminEpoch: reader.uint32(),
  };
}

/**
 * The 30 bytes that precede `dataLength` bytes of WAL on the wire: CopyData's type and length, and the head of the
 * payload. One per range, shared by every socket that sends this range.
 */
export function encodeWalDataFrameHeader(
  startLsn: Lsn,
  walEnd: Lsn,
  sendTime: PgTimestamp,
  dataLength: number,
): Uint8Array {
  const bytes = new Uint8Array(5 + WAL_DATA_HEADER_BYTES);
  bytes[0] = 0x64;
  writeUint32(bytes, 1, 4 + WAL_DATA_HEADER_BYTES + dataLength);
  bytes[5] = COPY_DATA_KIND.walData;
  writeUint64(bytes, 6, startLsn);
  writeUint64(bytes, 14, walEnd);
  writeUint64(bytes, 22, sendTime);
  return bytes;
}

/** A whole CopyData message with a primary keepalive. */
export function encodePrimaryKeepalive(keepalive: PrimaryKeepalive): Uint8Array {
  return new MessageWriter('d')
    .byte(COPY_DATA_KIND.primaryKeepalive)
    .int64(keepalive.walEnd)
    .int64(keepalive.sendTime)
    .byte(keepalive.replyRequested ? 1 : 0)
    .finish();
}

/** A whole CopyData message with a standby status update. */
export function encodeStandbyStatusUpdate(update: StandbyStatusUpdate): Uint8Array {
  return new MessageWriter('d')
    .byte(COPY_DATA_KIND.standbyStatusUpdate)
    .int64(update.writeLsn)
    .int64(update.flushLsn)
    .int64(update.applyLsn)
    .int64(update.sendTime)
    .byte(update.replyRequested ? 1 : 0)
    .finish();
}

/** A whole CopyData message with hot standby feedback. */
export function encodeHotStandbyFeedback(feedback: HotStandbyFeedback): Uint8Array {
  return new MessageWriter('d')
    .byte(COPY_DATA_KIND.hotStandbyFeedback)
    .int64(feedback.sendTime)
    .int32(feedback.xmin)
    .int32(feedback.xminEpoch)
    .int32(feedback.catalogXmin)
    .int32(feedback.catalogXminEpoch)
    .finish();
}

function violation(message: string): ProtocolViolation {
  return new ProtocolViolation(SQLSTATE.protocolViolation, message);
}
