// pg_stat_replication, with walcast's standbys: names, order, types and NULLs as in PostgreSQL; they are the same in all
// majors from 13 on. (system_views.sql, walsender.c:pg_stat_get_wal_senders)
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import type { StandbyStatus } from '../status/status.ts';
import {
  INET,
  inetCell,
  INT4,
  int4Cell,
  INTERVAL,
  intervalCell,
  lsnCell,
  NAME,
  OID,
  PG_LSN,
  TEXT,
  textCell,
  TIMESTAMPTZ,
  timestamptzCell,
  XID,
  xidCell,
} from './columns.ts';
import type { Cell } from './columns.ts';
import { viewOf } from './view.ts';
import type { View, ViewColumn } from './view.ts';

/** What PostgreSQL shows as the port of a connection over a Unix socket. */
const NO_PORT = -1;

/** One row for each session of a standby, streaming or not, in the order in which they came. */
export const STAT_REPLICATION: View = viewOf<StandbyStatus>(
  (inside) => inside.status().standbys,
  [
    { name: 'pid', type: INT4, value: ({ pid }) => int4Cell(pid) },
    // Roles live in the upstream's catalogue, which nobody here can read.
    { name: 'usesysid', type: OID, value: () => null },
    { name: 'usename', type: NAME, value: ({ user }) => textCell(user) },
    {
      name: 'application_name',
      type: TEXT,
      value: ({ applicationName }) => textCell(applicationName),
    },
    {
      name: 'client_addr',
      type: INET,
      value: ({ clientAddr }) => (clientAddr === null ? null : inetCell(clientAddr)),
    },
    // As with log_hostname off.
    { name: 'client_hostname', type: TEXT, value: () => null },
    {
      name: 'client_port',
      type: INT4,
      value: ({ clientPort }) => int4Cell(clientPort ?? NO_PORT),
    },
    {
      name: 'backend_start',
      type: TIMESTAMPTZ,
      value: ({ connectedAtMs }) => timestamptzCell(connectedAtMs),
    },
    { name: 'backend_xmin', type: XID, value: backendXmin },
    { name: 'state', type: TEXT, value: ({ state }) => textCell(state) },
    lsnColumn('sent_lsn', ({ sentLsn }) => sentLsn),
    lsnColumn('write_lsn', ({ writeLsn }) => writeLsn),
    lsnColumn('flush_lsn', ({ flushLsn }) => flushLsn),
    lsnColumn('replay_lsn', ({ applyLsn }) => applyLsn),
    lagColumn('write_lag', ({ writeLagSeconds }) => writeLagSeconds),
    lagColumn('flush_lag', ({ flushLagSeconds }) => flushLagSeconds),
    lagColumn('replay_lag', ({ applyLagSeconds }) => applyLagSeconds),
    { name: 'sync_priority', type: INT4, value: ({ syncPriority }) => int4Cell(syncPriority) },
    { name: 'sync_state', type: TEXT, value: ({ syncState }) => textCell(syncState) },
    {
      name: 'reply_time',
      type: TIMESTAMPTZ,
      value: ({ replyTimeMs }) => (replyTimeMs === null ? null : timestamptzCell(replyTimeMs)),
    },
  ],
);

/** With a slot it is the slot that holds it; without one a session has one id for both. (walsender.c) */
function backendXmin({ slotName, feedback }: StandbyStatus): Cell | null {
  const xmin = slotName === null ? (feedback?.xmin ?? null) : null;
  if (xmin === null) return null;
  const catalogXmin = feedback?.catalogXmin ?? xmin;
  return xidCell(catalogXmin < xmin ? catalogXmin : xmin);
}

function lsnColumn(
  name: string,
  lsnOf: (standby: StandbyStatus) => Lsn,
): ViewColumn<StandbyStatus> {
  const value = (standby: StandbyStatus, { padsLsnText }: VersionFacts): Cell | null => {
    const lsn = lsnOf(standby);
    return lsn === INVALID_LSN ? null : lsnCell(lsn, padsLsnText);
  };
  return { name, type: PG_LSN, value };
}

/** Of this hop, and none when there is nothing to measure, as in PostgreSQL. */
function lagColumn(
  name: string,
  secondsOf: (standby: StandbyStatus) => number | null,
): ViewColumn<StandbyStatus> {
  const value = (standby: StandbyStatus): Cell | null => {
    const seconds = secondsOf(standby);
    return seconds === null ? null : intervalCell(seconds);
  };
  return { name, type: INTERVAL, value };
}
