// SHOW SLOTS, SHOW STORE and SHOW TIMELINES: what is kept, for whom, and of which history.
import { INVALID_LSN } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { RelayStatus, SlotStatus } from '../status/status.ts';
import { lagBytes } from './show-standbys.ts';
import type { ConsoleSource } from './source.ts';
import { REPLICATION_SLOTS_COLUMNS } from './stat-slots.ts';
import { bool, int8, lsn, text, time } from './view-columns.ts';
import { growingView, viewOf } from './view.ts';
import type { View } from './view.ts';

interface SlotRow {
  readonly slot: SlotStatus;
  readonly receivedLsn: Lsn;
}

/** pg_replication_slots, and what is known besides: one row for each slot. */
export const SHOW_SLOTS: View = growingView<SlotRow>(slotRows, [
  ...REPLICATION_SLOTS_COLUMNS.map((column) => ({
    ...column,
    value: ({ slot }: SlotRow, facts: Parameters<typeof column.value>[1]) =>
      column.value(slot, facts),
  })),
  int8('retained_bytes', ({ slot, receivedLsn }) =>
    slot.invalidationReason === null ? lagBytes(slot.restartLsn, receivedLsn) : null,
  ),
  time('inactive_since', ({ slot }) => slot.inactiveSinceMs),
  text('invalidation_reason', ({ slot }) => slot.invalidationReason),
]);

function slotRows(inside: ConsoleSource): SlotRow[] {
  const { slots, store } = inside.status();
  return slots.map((slot) => ({ slot, receivedLsn: store.receivedLsn }));
}

/** One row. */
export const SHOW_STORE: View = viewOf<RelayStatus>(
  (inside) => [inside.status()],
  [
    int8('timeline', ({ store }) => store.timeline),
    lsn('oldest_lsn', ({ store }) => store.oldestLsn),
    lsn('received_lsn', ({ store }) => store.receivedLsn),
    lsn('written_lsn', ({ store }) => store.writtenLsn),
    lsn('flushed_lsn', ({ store }) => store.flushedLsn),
    int8('size_bytes', ({ store }) => store.sizeBytes),
    int8('segments', ({ store }) => store.segments),
    int8('limit_bytes', ({ retention }) =>
      retention.limitBytes === 0 ? null : retention.limitBytes,
    ),
    bool('near_limit', ({ retention }) => retention.isNearLimit),
    int8('memory_bytes', ({ store }) => store.tailBytes),
    int8('memory_bytes_max', ({ store }) => store.tailBytesMax),
    int8('read_through_connections', ({ readThrough }) => readThrough.connections),
    int8('dead_files', ({ store }) => store.dead.files),
    int8('dead_bytes', ({ store }) => store.dead.bytes),
    int8('dead_acknowledged_bytes', ({ store }) => store.dead.acknowledged?.bytes ?? null),
    int8('free_bytes', ({ filesystem }) => filesystem?.freeBytes ?? null),
    int8('disk_bytes', ({ filesystem }) => filesystem?.sizeBytes ?? null),
  ],
);

interface TimelineRow {
  readonly timeline: number;
  readonly startLsn: Lsn;
  /** INVALID_LSN for the one that goes on. */
  readonly endLsn: Lsn;
}

/** One row for each timeline of the stored history, oldest first; none while nothing is stored. */
export const SHOW_TIMELINES: View = viewOf<TimelineRow>(timelineRows, [
  int8('timeline', ({ timeline }) => timeline),
  // Nobody says where the first one began.
  lsn('start_lsn', ({ startLsn }) => startLsn),
  lsn('end_lsn', ({ endLsn }) => endLsn),
  bool('current', ({ endLsn }) => endLsn === INVALID_LSN),
]);

function timelineRows(inside: ConsoleSource): TimelineRow[] {
  const history = inside.history();
  if (history === null) return [];
  const rows: TimelineRow[] = [];
  let startLsn = INVALID_LSN;
  for (const { timeline, endLsn } of history.ancestors) {
    rows.push({ timeline, startLsn, endLsn });
    startLsn = endLsn;
  }
  rows.push({ timeline: history.timeline, startLsn, endLsn: INVALID_LSN });
  return rows;
}
