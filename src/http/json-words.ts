// How single values are written in JSON: positions, times, lags, transaction ids.
import { formatLsn, INVALID_LSN, lsnDistance } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { ReportedPositions } from '../status/status.ts';
import type { ReportedJson } from './api-types.ts';

/** `0/1763E00`; null for an unknown one. */
export function lsnText(lsn: Lsn): string | null {
  return lsn === INVALID_LSN ? null : formatLsn(lsn);
}

/** From the position to the end, never negative; null when one of them is unknown. */
export function lagBytes(position: Lsn, end: Lsn): number | null {
  if (position === INVALID_LSN || end === INVALID_LSN) return null;
  return Math.max(0, lsnDistance(position, end));
}

/** Whole microseconds, as PostgreSQL's interval has them. */
export function lagSeconds(seconds: number | null): number | null {
  return seconds === null ? null : Math.round(seconds * 1e6) / 1e6;
}

/** As text: a full transaction id is larger than what every reader of JSON takes for a number. */
export function xidText(fullXid: bigint | null): string | null {
  return fullXid === null ? null : String(fullXid);
}

/** Positions as the upstream was told them. */
export function reportedJson({ writeLsn, flushLsn, applyLsn }: ReportedPositions): ReportedJson {
  return { write: lsnText(writeLsn), flush: lsnText(flushLsn), apply: lsnText(applyLsn) };
}

/** The years that the format `date-time` (RFC 3339) can write: 0000 to 9999; end exclusive. */
const WRITABLE_FROM_MS = Date.UTC(-1, 12);
const WRITABLE_UNTIL_MS = Date.UTC(10_000, 0);

/** Milliseconds as text. A clock a peer made up may lie outside what the answer's format can hold: that is unknown. */
export function nullableTimeText(ms: number | null): string | null {
  const isWritable = ms !== null && ms >= WRITABLE_FROM_MS && ms < WRITABLE_UNTIL_MS;
  return isWritable ? timeText(ms) : null;
}

/** Milliseconds since the Unix epoch as ISO 8601 in UTC. */
export function timeText(ms: number): string {
  return new Date(ms).toISOString();
}
