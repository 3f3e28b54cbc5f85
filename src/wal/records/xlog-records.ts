// What do the few records say that the store itself must understand? Those of resource manager XLOG.
// (src/include/catalog/pg_control.h, xlog_internal.h, xlogrecord.h)
import type { VersionFacts } from '../../pg/server-version.ts';

/** Size of XLogRecord, the fixed header. */
export const RECORD_HEADER_SIZE = 24;

/** Offset of xl_crc. The checksum covers the body first, then the header before this field. */
export const RECORD_CRC_OFFSET = 20;

/** XLogRecordMaxSize: a longer total length is damage. Servers before 16 had no limit of their own below 1 GB. */
export const RECORD_SIZE_MAX: number = 1020 * 1024 * 1024;

/** RM_XLOG_ID. */
export const RMGR_XLOG = 0;

/** RM_XACT_ID. */
export const RMGR_XACT = 1;

/** RM_STANDBY_ID. */
export const RMGR_STANDBY = 8;

/** The operation is the upper half of xl_info. (XLR_RMGR_INFO_MASK) */
export const OPERATION_MASK = 0xf0;

/** Operations of RM_XLOG_ID. */
export const XLOG_OPERATION = {
  checkpointShutdown: 0x00,
  checkpointOnline: 0x10,
  switch: 0x40,
  overwriteContrecord: 0xd0,
} as const;

/**
 * So much of a record that says something is kept while it passes by: a checkpoint has 114 bytes, a commit record its time
 * and flags within 60, then 8 kB hold two thousand subtransactions.
 */
export const KEPT_RECORD_SIZE_MAX = 8192;

/** Larger records of RM_XLOG_ID are images of pages, which say nothing. */
export const KEPT_XLOG_SIZE_MAX = 256;

const SHORT_MAIN_DATA = 255;

/** True for a resource manager that the server has, or that an extension may have registered. (RmgrIdIsValid) */
export function isResourceManager(id: number, facts: VersionFacts): boolean {
  return id <= facts.rmgrIdMax || (facts.hasCustomRmgrs && id >= 128);
}

/**
 * Offset of the main data in a record without block references whose main data is short, at least `size` bytes of it;
 * -1 for any other record. `length` is the record's total length.
 */
export function shortMainDataOffset(record: DataView, length: number, size: number): number {
  const start = RECORD_HEADER_SIZE + 2;
  if (length < start + size) return -1;
  if (record.getUint8(RECORD_HEADER_SIZE) !== SHORT_MAIN_DATA) return -1;
  return record.getUint8(RECORD_HEADER_SIZE + 1) === length - start ? start : -1;
}
