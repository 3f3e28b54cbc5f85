// Log sequence numbers: a byte position in the WAL of one timeline, 64 bits, unsigned.
// End positions are exclusive ("last byte + 1"), so nobody ever adds one. (src/include/access/xlogdefs.h)

declare const lsnBrand: unique symbol;

/** A WAL position. Made only by the functions of this file. */
export type Lsn = bigint & { readonly [lsnBrand]: true };

const LSN_MAX = (1n << 64n) - 1n;

/** XLOG_BLCKSZ of every server we accept; a server built with another size is refused when it is identified. */
export const PAGE_SIZE = 8192;

/** Checks and brands. Throws RangeError outside 0 … 2^64-1. */
export function toLsn(value: bigint): Lsn {
  if (value < 0n || value > LSN_MAX) throw new RangeError(`LSN out of range: ${value}`);
  return value as Lsn;
}

/** 0/0: "not known", "not offered". (InvalidXLogRecPtr) */
export const INVALID_LSN: Lsn = toLsn(0n);

/** Reads `X/X`, 1 to 8 hexadecimal digits on each side; null when the text is anything else. (pg_lsn.c:pg_lsn_in_internal) */
export function parseLsn(text: string): Lsn | null {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text);
  if (match === null) return null;
  return toLsn((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`));
}

/** `%X/%X`, or `%X/%08X` when `padLow` is set, as servers from 19 on print it. */
export function formatLsn(lsn: Lsn, padLow = false): string {
  const low = (lsn & 0xffffffffn).toString(16).toUpperCase();
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${padLow ? low.padStart(8, '0') : low}`;
}

/** The position `byteCount` bytes further on (or back, when negative). Throws RangeError when it leaves the range. */
export function advanceLsn(lsn: Lsn, byteCount: number): Lsn {
  return toLsn(lsn + BigInt(byteCount));
}

/** Bytes from `start` to `end`; negative when `end` lies before `start`. Exact up to 2^53. */
export function lsnDistance(start: Lsn, end: Lsn): number {
  return Number(end - start);
}

/** The lower of two positions of one timeline. */
export function minLsn(a: Lsn, b: Lsn): Lsn {
  return a < b ? a : b;
}

/** The higher of two positions of one timeline. */
export function maxLsn(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b;
}

/** The start of the 8 KiB page that holds `lsn`. */
export function pageStart(lsn: Lsn): Lsn {
  return toLsn(lsn - (lsn % BigInt(PAGE_SIZE)));
}

/** Bytes between the start of the page and `lsn`, 0 … 8191. */
export function pageOffset(lsn: Lsn): number {
  return Number(lsn % BigInt(PAGE_SIZE));
}
