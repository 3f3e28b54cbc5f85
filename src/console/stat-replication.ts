// pg_stat_replication, with walcast's standbys: names, order, types and NULLs as in PostgreSQL; they are the same in all
// majors from 13 on. (system_views.sql, walsender.c:pg_stat_get_wal_senders)
import type { StandbyStatus } from '../status/status.ts';
import { inetCell } from './cells.ts';
import { INET, OID, TEXT } from './columns.ts';
import { identifier, int4, lsn, nothing, seconds, text, time, xid } from './view-columns.ts';
import { growingView } from './view.ts';
import type { View, ViewColumn } from './view.ts';

/** What PostgreSQL shows as the port of a connection over a Unix socket. */
const NO_PORT = -1;

/** Its columns, for reports that have more of them. */
export const STAT_REPLICATION_COLUMNS: readonly ViewColumn<StandbyStatus>[] = [
  int4('pid', ({ pid }) => pid),
  // Roles live in the upstream's catalogue, which nobody here can read.
  nothing('usesysid', OID),
  identifier('usename', ({ user }) => user),
  text('application_name', ({ applicationName }) => applicationName),
  {
    name: 'client_addr',
    type: INET,
    value: ({ clientAddr }) => (clientAddr === null ? null : inetCell(clientAddr)),
  },
  // As with log_hostname off.
  nothing('client_hostname', TEXT),
  int4('client_port', ({ clientPort }) => clientPort ?? NO_PORT),
  time('backend_start', ({ connectedAtMs }) => connectedAtMs),
  xid('backend_xmin', backendXmin),
  text('state', ({ state }) => state),
  lsn('sent_lsn', ({ sentLsn }) => sentLsn),
  lsn('write_lsn', ({ writeLsn }) => writeLsn),
  lsn('flush_lsn', ({ flushLsn }) => flushLsn),
  lsn('replay_lsn', ({ applyLsn }) => applyLsn),
  // Of this hop, and none when there is nothing to measure, as in PostgreSQL.
  seconds('write_lag', ({ writeLagSeconds }) => writeLagSeconds),
  seconds('flush_lag', ({ flushLagSeconds }) => flushLagSeconds),
  seconds('replay_lag', ({ applyLagSeconds }) => applyLagSeconds),
  int4('sync_priority', ({ syncPriority }) => syncPriority),
  text('sync_state', ({ syncState }) => syncState),
  time('reply_time', ({ replyTimeMs }) => replyTimeMs),
];

/** One row for each session of a standby, streaming or not, in the order in which they came. */
export const STAT_REPLICATION: View = growingView<StandbyStatus>(
  (inside) => inside.status().standbys,
  STAT_REPLICATION_COLUMNS,
);

/** With a slot it is the slot that holds it; without one a session has one id for both. (walsender.c) */
function backendXmin({ slotName, feedback }: StandbyStatus): bigint | null {
  const xmin = slotName === null ? (feedback?.xmin ?? null) : null;
  if (xmin === null) return null;
  const catalogXmin = feedback?.catalogXmin ?? xmin;
  return catalogXmin < xmin ? catalogXmin : xmin;
}
