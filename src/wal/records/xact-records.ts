// What do records of transactions say? When one committed, whether its session waits until standbys have applied it, and
// which transaction ids are in use. The layouts are the same from PostgreSQL 13 on; what differs is in VersionFacts.
// (src/include/access/xact.h, standbydefs.h, xlogrecord.h; xactdesc.c:ParseCommitRecord)
import type { LearnedFacts } from './wal-facts.ts';
import { OPERATION_MASK, RECORD_HEADER_SIZE, RMGR_STANDBY, RMGR_XACT } from './xlog-records.ts';

/** XLOG_XACT_OPMASK: the uppermost bit of xl_info is XLOG_XACT_HAS_INFO. */
const XACT_OPERATION_MASK = 0x70;
const XACT_HAS_INFO = 0x80;

const XACT_OPERATION = {
  commit: 0x00,
  abort: 0x20,
  commitPrepared: 0x30,
  abortPrepared: 0x40,
  assignment: 0x50,
} as const;

/** Bits of xinfo. */
const XINFO = { hasDatabase: 1 << 0, hasSubtransactions: 1 << 1, applyFeedback: 1 << 29 } as const;

/** XLOG_RUNNING_XACTS, and the offset of nextXid in it. */
const RUNNING_XACTS = 0x10;
const RUNNING_XACTS_NEXT_XID = 12;

/** Offsets in the main data of commit and abort records, behind the time. */
const END = { xinfo: 8, rest: 12 } as const;
const DATABASE_SIZE = 8;
/** A record with flags and nothing before its main data has so many bytes at least. */
const INFO_BYTES = RECORD_HEADER_SIZE + 2 + END.rest;
/** Behind the id of the top-level transaction. */
const ASSIGNMENT_COUNT = 4;

/** Ids of the headers before the main data. (XLR_BLOCK_ID_*) */
const HEADER = { shortData: 255, longData: 254, origin: 253, topLevelXid: 252 } as const;

/**
 * A record whose checksum matches, or its beginning: header and so on from `view[at]`, `length` bytes of it. Filled in anew
 * for each record, because there are millions a gigabyte.
 */
export interface ReadableRecord {
  view: DataView;
  at: number;
  length: number;
}

/** True for resource managers whose records {@link learnFrom} understands. */
export function isLearned(rmgrId: number): boolean {
  return rmgrId === RMGR_XACT || rmgrId === RMGR_STANDBY;
}

/** What the end of a transaction may be, as far as {@link learnFrom} is concerned. */
export const XACT_END = {
  /** More than the others, or no end. */
  other: 0,
  /** A commit that tells nothing but its time: only the last of many says something new. */
  plainCommit: 1,
  /** An abort that tells nothing. */
  plainAbort: 2,
} as const;

/** Which of {@link XACT_END} a record of RM_XACT is; `length` bytes of it are there from `view[at]` on. */
export function xactEnd(view: DataView, at: number, length: number): number {
  const info = view.getUint8(at + 16);
  const operation = info & XACT_OPERATION_MASK;
  const isCommit = operation === XACT_OPERATION.commit;
  if (!isCommit && operation !== XACT_OPERATION.abort) return XACT_END.other;
  const plain = isCommit ? XACT_END.plainCommit : XACT_END.plainAbort;
  if ((info & XACT_HAS_INFO) === 0) return plain;
  const isShort = view.getUint8(at + RECORD_HEADER_SIZE) === HEADER.shortData;
  if (!isShort || length < INFO_BYTES) return XACT_END.other;
  const xinfo = view.getInt32(at + RECORD_HEADER_SIZE + 2 + END.xinfo, true);
  const isMore = (xinfo & (XINFO.hasSubtransactions | XINFO.applyFeedback)) !== 0;
  return isMore ? XACT_END.other : plain;
}

/**
 * Notes what a record of such a resource manager tells; true when it is a commit that waits for apply feedback. Its own
 * transaction id is the caller's matter. Fields beyond `length` are not there: nothing is learned from them.
 */
export function learnFrom(record: ReadableRecord, learned: LearnedFacts): boolean {
  const main = mainDataOffset(record);
  if (main < 0) return false;
  const info = record.view.getUint8(record.at + 16);
  if (record.view.getUint8(record.at + 17) === RMGR_XACT) {
    return learnFromXact(record, main, learned);
  }
  const end = main + RUNNING_XACTS_NEXT_XID + 4;
  if ((info & OPERATION_MASK) !== RUNNING_XACTS || end > record.at + record.length) return false;
  learned.noteXid((record.view.getInt32(end - 4, true) - 1) | 0);
  return false;
}

function learnFromXact(record: ReadableRecord, main: number, learned: LearnedFacts): boolean {
  const { view, at, length } = record;
  const info = view.getUint8(at + 16);
  const available = at + length - main;
  const operation = info & XACT_OPERATION_MASK;
  if (operation === XACT_OPERATION.assignment) {
    noteNewestOf(record, main + ASSIGNMENT_COUNT, learned);
    return false;
  }
  const isCommit =
    operation === XACT_OPERATION.commit || operation === XACT_OPERATION.commitPrepared;
  const isAbort = operation === XACT_OPERATION.abort || operation === XACT_OPERATION.abortPrepared;
  if (isCommit && available >= END.xinfo) {
    learned.noteCommit(view.getInt32(main + 4, true), view.getInt32(main, true));
  }
  const hasInfo = (info & XACT_HAS_INFO) !== 0 && available >= END.rest;
  if (!hasInfo || !(isCommit || isAbort)) return false;
  const xinfo = view.getInt32(main + END.xinfo, true);
  if ((xinfo & XINFO.hasSubtransactions) !== 0) {
    const skipped = (xinfo & XINFO.hasDatabase) === 0 ? 0 : DATABASE_SIZE;
    noteNewestOf(record, main + END.rest + skipped, learned);
  }
  return isCommit && (xinfo & XINFO.applyFeedback) !== 0;
}

/**
 * Of an array of subtransaction ids, with its count before it, the newest that is there: they are in order. Ids behind the
 * kept beginning of a record are not missed for long: a server lists what is running at least every quarter of a minute.
 */
function noteNewestOf(
  { view, at, length }: ReadableRecord,
  from: number,
  learned: LearnedFacts,
): void {
  const room = (at + length - from - 4) >> 2;
  if (room < 1) return;
  const count = Math.min(view.getInt32(from, true), room);
  if (count > 0) learned.noteXid(view.getInt32(from + 4 * count, true));
}

/** Where the main data begins in a record without block references; -1 for any other. */
function mainDataOffset({ view, at, length }: ReadableRecord): number {
  const end = at + length;
  let i = at + RECORD_HEADER_SIZE;
  while (i < end) {
    switch (view.getUint8(i)) {
      case HEADER.shortData:
        return i + 2;
      case HEADER.longData:
        return i + 5;
      case HEADER.origin:
        i += 3;
        break;
      case HEADER.topLevelXid:
        i += 5;
        break;
      default:
        return -1;
    }
  }
  return -1;
}
