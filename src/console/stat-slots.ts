// pg_replication_slots, with the slots that walcast keeps: the columns of PostgreSQL 15, whatever the upstream's major is.
// (system_views.sql, slotfuncs.c:pg_get_replication_slots)
import type { SlotStatus } from '../status/status.ts';
import { NAME, OID, PG_LSN } from './columns.ts';
import { bool, identifier, int4, int8, lsn, nothing, text, xid } from './view-columns.ts';
import { growingView } from './view.ts';
import type { View, ViewColumn } from './view.ts';

/** Its columns, for reports that have more of them. */
export const REPLICATION_SLOTS_COLUMNS: readonly ViewColumn<SlotStatus>[] = [
  identifier('slot_name', ({ name }) => name),
  // All slots are physical: there is no plugin, and no database.
  nothing('plugin', NAME),
  text('slot_type', () => 'physical'),
  nothing('datoid', OID),
  nothing('database', NAME),
  bool('temporary', ({ temporary }) => temporary),
  bool('active', ({ activePid }) => activePid !== null),
  int4('active_pid', ({ activePid }) => activePid),
  xid('xmin', ({ xmin }) => xmin),
  xid('catalog_xmin', ({ catalogXmin }) => catalogXmin),
  lsn('restart_lsn', ({ restartLsn }) => restartLsn),
  nothing('confirmed_flush_lsn', PG_LSN),
  text('wal_status', ({ walStatus }) => walStatus),
  int8('safe_wal_size', ({ safeWalSize }) => safeWalSize),
  bool('two_phase', () => false),
];

/** One row for each slot. */
export const REPLICATION_SLOTS: View = growingView<SlotStatus>(
  (inside) => inside.status().slots,
  REPLICATION_SLOTS_COLUMNS,
);
