// SHOW STANDBYS: pg_stat_replication, and what walcast knows besides of each standby.
import { INVALID_LSN, lsnDistance, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { StandbyStatus } from '../status/status.ts';
import type { ConsoleSource } from './source.ts';
import { STAT_REPLICATION_COLUMNS } from './stat-replication.ts';
import { bool, int8, seconds, text } from './view-columns.ts';
import { growingView } from './view.ts';
import type { View, ViewColumn } from './view.ts';

/** A standby, and where WAL ends: as far as is known, and what is here. */
interface StandbyRow {
  readonly standby: StandbyStatus;
  readonly endLsn: Lsn;
  readonly receivedLsn: Lsn;
}

/** One row for each session of a standby, streaming or not, in the order in which they came. */
export const SHOW_STANDBYS: View = growingView<StandbyRow>(standbyRows, [
  ...STAT_REPLICATION_COLUMNS.map(ofStandby),
  text('slot_name', ({ standby }) => standby.slotName),
  int8('timeline', ({ standby }) => standby.timeline),
  int8('lag_bytes', ({ standby, endLsn }) => lagBytes(confirmedLsn(standby), endLsn)),
  int8('hop_lag_bytes', ({ standby, receivedLsn }) => lagBytes(confirmedLsn(standby), receivedLsn)),
  seconds('end_to_end_write_lag', ({ standby }) => standby.endToEndLag.writeSeconds),
  seconds('end_to_end_flush_lag', ({ standby }) => standby.endToEndLag.flushSeconds),
  seconds('end_to_end_replay_lag', ({ standby }) => standby.endToEndLag.applySeconds),
  seconds('replayed_commit_age', ({ standby }) => standby.replayedCommitAgeSeconds),
  text('tls', ({ standby }) => standby.tlsVersion),
  int8('sent_bytes', ({ standby }) => standby.sentBytes),
  int8('send_queue_bytes', ({ standby }) => standby.sendQueueBytes),
  seconds('send_blocked', ({ standby }) => standby.sendBlockedSeconds),
  int8('clamped_replies', ({ standby }) => standby.clampedReplies),
  bool('stalled', ({ standby }) => standby.isStalled),
  bool('name_shared', ({ standby }) => standby.isNameShared),
]);

function standbyRows(inside: ConsoleSource): StandbyRow[] {
  const { standbys, upstream, store } = inside.status();
  const { receivedLsn } = store;
  const endLsn = maxLsn(upstream.serverLsn, receivedLsn);
  return standbys.map((standby) => ({ standby, endLsn, receivedLsn }));
}

function ofStandby(column: ViewColumn<StandbyStatus>): ViewColumn<StandbyRow> {
  return { ...column, value: ({ standby }, facts) => column.value(standby, facts) };
}

/** The furthest that counts: replayed where it says so, else flushed, else written. */
function confirmedLsn({ applyLsn, flushLsn, writeLsn }: StandbyStatus): Lsn {
  return [applyLsn, flushLsn, writeLsn].find((lsn) => lsn !== INVALID_LSN) ?? INVALID_LSN;
}

/** Bytes from `from` to `to`, never negative; null while one of the two is not known. */
export function lagBytes(from: Lsn, to: Lsn): number | null {
  if (from === INVALID_LSN || to === INVALID_LSN) return null;
  return Math.max(0, lsnDistance(from, to));
}
