// How is an LSN handled where a bigint would cost more than the work itself? As two signed 32-bit halves.
import { formatLsn, toLsn } from '../../pg/lsn.ts';
import type { Lsn } from '../../pg/lsn.ts';

/** The upper 32 bits of `lsn` as a signed number. */
export function highHalf(lsn: Lsn): number {
  return Number(BigInt.asIntN(32, lsn >> 32n));
}

/** The lower 32 bits of `lsn` as a signed number. */
export function lowHalf(lsn: Lsn): number {
  return Number(BigInt.asIntN(32, lsn));
}

/** The LSN of two halves. */
export function lsnOfHalves(high: number, low: number): Lsn {
  return toLsn((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0));
}

/** `X/X` of two halves, for messages. */
export function formatHalves(high: number, low: number): string {
  return formatLsn(lsnOfHalves(high, low));
}

/** True when the first address lies below the second. */
export function isBelow(high: number, low: number, thanHigh: number, thanLow: number): boolean {
  return high === thanHigh ? low >>> 0 < thanLow >>> 0 : high >>> 0 < thanHigh >>> 0;
}
