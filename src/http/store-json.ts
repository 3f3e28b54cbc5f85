// The WAL store and the slots as the API shows them.
import type { DeadWalStatus, RelayStatus } from '../status/status.ts';
import type { DeadWalJson, SlotJson, StoreDetailJson, StoreJson } from './api-types.ts';
import { lagBytes, lsnText, nullableTimeText, xidText } from './json-words.ts';

/** As in the status. */
export function storeJson({ store, retention }: RelayStatus): StoreJson {
  return {
    oldest_lsn: lsnText(store.oldestLsn),
    flushed_lsn: lsnText(store.flushedLsn),
    size_bytes: store.sizeBytes,
    segments: store.segments,
    limit_bytes: retention.limitBytes === 0 ? null : retention.limitBytes,
    near_limit: retention.isNearLimit,
  };
}

/** The answer of `/api/v1/store`. */
export function storeDetailJson(status: RelayStatus): StoreDetailJson {
  const { store, filesystem, readThrough, retention, standbyTotals } = status;
  return {
    ...storeJson(status),
    timeline: store.timeline,
    received_lsn: lsnText(store.receivedLsn),
    written_lsn: lsnText(store.writtenLsn),
    segments_removed: store.segmentsRemoved,
    segments_removed_by_limit: retention.segmentsRemovedByLimit,
    slots_invalidated: retention.slotsInvalidated,
    memory_bytes: store.tailBytes,
    memory_bytes_max: store.tailBytesMax,
    read_bytes: {
      ...standbyTotals.sentBytes,
      upstream: readThrough.bytes,
    },
    rejected: { upstream: store.rejectedFromUpstream, disk: store.rejectedFromDisk },
    errors: store.errors,
    read_through: {
      connections: readThrough.connections,
      connections_max: readThrough.connectionsMax,
    },
    repairs: { repaired: readThrough.repairedSegments, failed: readThrough.failedRepairs },
    dead: deadWalJson(store.dead),
    free_bytes: filesystem?.freeBytes ?? null,
    disk_bytes: filesystem?.sizeBytes ?? null,
  };
}

/** Dead WAL as `/api/v1/store` shows it. */
export function deadWalJson({ files, bytes, acknowledged }: DeadWalStatus): DeadWalJson {
  if (acknowledged === null) return { files, bytes, acknowledged };
  const { timeline, switchLsn, reportedFlushLsn } = acknowledged;
  return {
    files,
    bytes,
    acknowledged: {
      timeline,
      switch_lsn: lsnText(switchLsn),
      reported_flush_lsn: lsnText(reportedFlushLsn),
      bytes: acknowledged.bytes,
    },
  };
}

/** The answer of `/api/v1/slots`, by name. */
export function slotsJson({ slots, store }: Pick<RelayStatus, 'slots' | 'store'>): SlotJson[] {
  return slots.map((slot) => ({
    slot_name: slot.name,
    slot_type: 'physical',
    temporary: slot.temporary,
    active: slot.activePid !== null,
    active_pid: slot.activePid,
    xmin: xidText(slot.xmin),
    catalog_xmin: xidText(slot.catalogXmin),
    restart_lsn: lsnText(slot.restartLsn),
    wal_status: slot.walStatus,
    safe_wal_size: slot.safeWalSize,
    invalidation_reason: slot.invalidationReason,
    inactive_since: nullableTimeText(slot.inactiveSinceMs),
    retained_bytes:
      slot.invalidationReason === null ? lagBytes(slot.restartLsn, store.receivedLsn) : null,
  }));
}
