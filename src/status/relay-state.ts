// Words and figures that several parts of the status share.
import type { Lsn } from '../pg/lsn.ts';

/** State of the whole relay, as `GET /api/v1/status` names it. */
export const RELAY_STATES = [
  'starting',
  'connecting',
  'catchup',
  'streaming',
  'waiting',
  'paused',
  'full',
  'gap',
  'diverged',
  'corrupt',
  'draining',
  'failed',
] as const;
export type RelayState = (typeof RELAY_STATES)[number];

/** Positions as last reported upstream; INVALID_LSN = not offered. */
export interface ReportedPositions {
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
}

/** A histogram kept as plain numbers in the hot path: counts per bucket (not cumulative; the last is +Inf). */
export interface DurationHistogram {
  readonly boundsSeconds: readonly number[];
  readonly counts: readonly number[];
  readonly sumSeconds: number;
}
