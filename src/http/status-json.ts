// From the status of the parts to the JSON the API answers.
import { formatLsn, INVALID_LSN, lsnDistance, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type {
  AbsentStandbyStatus,
  DeadWalStatus,
  DiscoveryStatus,
  RelayStatus,
  ReportedPositions,
  StandbyFeedbackStatus,
  StandbyStatus,
} from '../status/status.ts';
import type { ConfigEntry } from '../status/actions.ts';
import { accessJson } from './access-json.ts';
import type {
  AbsentStandbyJson,
  ConfigEntryJson,
  DeadWalJson,
  DiscoveryJson,
  FeedbackJson,
  ReportedJson,
  SlotJson,
  StandbyFeedbackJson,
  StandbyJson,
  StatusJson,
  StoreDetailJson,
  StoreJson,
  SyncJson,
  UpstreamDetailJson,
  UpstreamJson,
} from './api-types.ts';

/** The whole answer of `/api/v1/status`. */
export function statusJson(status: RelayStatus): StatusJson {
  return {
    version: status.version,
    system_identifier: status.systemIdentifier,
    server_version: status.serverVersion,
    timeline: status.timeline,
    state: status.state,
    detail: status.detail,
    paused: status.isPaused,
    started_at: timeText(status.startedAtMs),
    upstream: upstreamJson(status),
    store: storeJson(status),
    sync: syncJson(status),
    feedback: feedbackJson(status),
    standbys: standbysJson(status),
    absent_standbys: status.absentStandbys.map(absentStandbyJson),
    standby_events: {
      stalls: status.standbyTotals.stalls,
      takeovers: status.standbyTotals.takeovers,
    },
    access: accessJson(status, nullableTimeText),
  };
}

/** The answer of `/api/v1/standbys`, in the order of the sessions. */
export function standbysJson(status: RelayStatus): StandbyJson[] {
  const { receivedLsn } = status.store;
  const ends = { endLsn: maxLsn(status.upstream.serverLsn, receivedLsn), receivedLsn };
  return status.standbys.map((standby) => standbyJson(standby, ends));
}

/** The answer of `/api/v1/upstream`. */
export function upstreamDetailJson(status: RelayStatus): UpstreamDetailJson {
  const { upstream, upstreamDelay } = status;
  const isLagKnown = upstreamLagBytes(status) !== null;
  return {
    ...upstreamJson(status),
    system_identifier: upstream.systemIdentifier,
    server_version: upstream.serverVersion,
    timeline: upstream.timeline,
    tls: upstream.tlsVersion !== null,
    tls_version: upstream.tlsVersion,
    client_certificate_expires_at: nullableTimeText(upstream.clientCertificateExpiresAtMs),
    lag_seconds: lagSeconds(isLagKnown ? upstreamDelay.lagSeconds : null),
    received_bytes: upstream.receivedBytes,
    messages: { wal: upstream.walMessages, keepalive: upstream.keepaliveMessages },
    connects: { success: upstream.connectsSucceeded, failure: upstream.connectsFailed },
    disconnects: upstream.disconnects,
    discovery: upstream.discovery === null ? null : discoveryJson(upstream.discovery),
    left_slots: upstream.leftSlots.map(({ host, port, slot, isOurs }) => {
      return { host, port, slot, is_dropped_by_walcast: isOurs };
    }),
  };
}

/** Where the hosts come from, in Patroni's own words for what it says, too. */
export function discoveryJson(discovery: DiscoveryStatus): DiscoveryJson {
  return {
    source: discovery.source,
    scope: discovery.scope,
    last_answer_at: nullableTimeText(discovery.lastAnswerAtMs),
    last_answer_from: discovery.lastAnswerFrom,
    last_error: discovery.lastError,
    members: discovery.members.map((member) => ({
      name: member.name,
      role: member.role,
      state: member.state,
      rank: member.rank,
      host: member.host,
      port: member.port,
      timeline: member.timeline,
      lag: member.lagBytes,
      zone: member.zone,
    })),
  };
}

/** The answer of `/api/v1/store`. */
export function storeDetailJson(status: RelayStatus): StoreDetailJson {
  const { store, readThrough, retention } = status;
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
      memory: store.readFromMemoryBytes,
      disk: store.readFromDiskBytes,
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
  };
}

/** The answer of `/api/v1/sync`. */
export function syncJson({ sync, upstream }: RelayStatus): SyncJson {
  return {
    synchronous_standby_names: sync.synchronousStandbyNames,
    method: sync.method,
    required_standbys: sync.requiredStandbys,
    eligible_standbys: sync.eligibleStandbys,
    satisfied: sync.isSatisfied,
    since: nullableTimeText(sync.sinceMs),
    changes: sync.changes,
    unsatisfied_seconds: sync.unsatisfiedSeconds,
    confirmed: reportedJson(sync.confirmed),
    reported: reportedJson(upstream.reported),
    upstream:
      sync.upstream === null
        ? null
        : {
            synchronous_standby_names: sync.upstream.synchronousStandbyNames,
            membership: sync.upstream.membership,
            as_of: nullableTimeText(sync.upstream.asOfMs),
          },
    clash: sync.clash,
    alarms: sync.alarms,
  };
}

function feedbackJson({ feedback }: RelayStatus): FeedbackJson {
  // While it is off nobody looks who holds what: what was seen last is old.
  const { isOn } = feedback;
  return {
    hot_standby_feedback: isOn,
    xmin: xidText(feedback.xmin),
    catalog_xmin: xidText(feedback.catalogXmin),
    sent_at: nullableTimeText(feedback.sentAtMs),
    next_xid: xidText(feedback.nextXid),
    held_by: isOn ? feedback.heldBy : null,
    ignored: feedback.ignored,
    left_out: isOn ? feedback.leftOut : 0,
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
export function slotsJson({ slots, store }: RelayStatus): SlotJson[] {
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

/** The answer of `/api/v1/config`, in the order of the documentation. */
export function configJson(entries: readonly ConfigEntry[]): ConfigEntryJson[] {
  return entries.map((entry) => ({
    key: entry.key,
    value: entry.value,
    default: entry.defaultValue,
    origin: entry.origin,
    place: entry.place,
    reloadable: entry.isReloadable,
    pending_restart: entry.isPendingRestart,
  }));
}

/** Bytes of WAL the upstream is known to have and our own disk has not; null while one of the two is unknown. */
export function upstreamLagBytes(status: RelayStatus): number | null {
  return lagBytes(status.store.flushedLsn, status.upstream.serverLsn);
}

function upstreamJson(status: RelayStatus): UpstreamJson {
  const { upstream, store } = status;
  return {
    host: upstream.host,
    port: upstream.port,
    slot: upstream.slot,
    state: upstream.state,
    detail: upstream.detail,
    received_lsn: lsnText(store.receivedLsn),
    written_lsn: lsnText(store.writtenLsn),
    flushed_lsn: lsnText(store.flushedLsn),
    reported: reportedJson(upstream.reported),
    server_lsn: lsnText(upstream.serverLsn),
    lag_bytes: upstreamLagBytes(status),
    last_message_at: nullableTimeText(upstream.lastMessageAtMs),
  };
}

function storeJson({ store, retention }: RelayStatus): StoreJson {
  return {
    oldest_lsn: lsnText(store.oldestLsn),
    flushed_lsn: lsnText(store.flushedLsn),
    size_bytes: store.sizeBytes,
    segments: store.segments,
    limit_bytes: retention.limitBytes === 0 ? null : retention.limitBytes,
    near_limit: retention.isNearLimit,
  };
}

/** `endLsn`: end of the WAL that is known to exist; `receivedLsn`: of what is here. */
function standbyJson(
  standby: StandbyStatus,
  { endLsn, receivedLsn }: { readonly endLsn: Lsn; readonly receivedLsn: Lsn },
): StandbyJson {
  const { applyLsn, flushLsn, writeLsn, endToEndLag } = standby;
  const confirmed =
    [applyLsn, flushLsn, writeLsn].find((lsn) => lsn !== INVALID_LSN) ?? INVALID_LSN;
  return {
    pid: standby.pid,
    application_name: standby.applicationName,
    user: standby.user,
    client_addr: standby.clientAddr,
    client_port: standby.clientPort,
    state: standby.state,
    sync_state: standby.syncState,
    sync_priority: standby.syncPriority,
    slot_name: standby.slotName,
    timeline: standby.timeline,
    sent_lsn: lsnText(standby.sentLsn),
    write_lsn: lsnText(standby.writeLsn),
    flush_lsn: lsnText(standby.flushLsn),
    replay_lsn: lsnText(standby.applyLsn),
    write_lag: lagSeconds(endToEndLag.writeSeconds),
    flush_lag: lagSeconds(endToEndLag.flushSeconds),
    replay_lag: lagSeconds(endToEndLag.applySeconds),
    hop_write_lag: lagSeconds(standby.writeLagSeconds),
    hop_flush_lag: lagSeconds(standby.flushLagSeconds),
    hop_replay_lag: lagSeconds(standby.applyLagSeconds),
    replayed_commit_age: lagSeconds(standby.replayedCommitAgeSeconds),
    lag_bytes: lagBytes(confirmed, endLsn),
    hop_lag_bytes: lagBytes(confirmed, receivedLsn),
    feedback: standby.feedback === null ? null : standbyFeedbackJson(standby.feedback),
    clamped_replies: standby.clampedReplies,
    reply_time: nullableTimeText(standby.replyTimeMs),
    connected_at: timeText(standby.connectedAtMs),
    tls: standby.tlsVersion !== null,
    tls_version: standby.tlsVersion,
    stalled: standby.isStalled,
    name_shared: standby.isNameShared,
  };
}

function standbyFeedbackJson(feedback: StandbyFeedbackStatus): StandbyFeedbackJson {
  return {
    xmin: xidText(feedback.xmin),
    catalog_xmin: xidText(feedback.catalogXmin),
    state: feedback.state,
    xmin_age: feedback.xminAge,
  };
}

function reportedJson({ writeLsn, flushLsn, applyLsn }: ReportedPositions): ReportedJson {
  return { write: lsnText(writeLsn), flush: lsnText(flushLsn), apply: lsnText(applyLsn) };
}

/** As text: a full transaction id is larger than what every reader of JSON takes for a number. */
function xidText(fullXid: bigint | null): string | null {
  return fullXid === null ? null : String(fullXid);
}

function absentStandbyJson(absent: AbsentStandbyStatus): AbsentStandbyJson {
  return {
    application_name: absent.applicationName,
    user: absent.user,
    client_addr: absent.clientAddr,
    slot_name: absent.slotName,
    state: absent.isMaybeWedged ? 'wedged?' : 'away',
    how: absent.how,
    reason: absent.reason,
    left_at: timeText(absent.leftAtMs),
    timeline: absent.timeline,
    sent_lsn: lsnText(absent.sentLsn),
    write_lsn: lsnText(absent.writeLsn),
    flush_lsn: lsnText(absent.flushLsn),
    replay_lsn: lsnText(absent.applyLsn),
  };
}

function lagBytes(position: Lsn, end: Lsn): number | null {
  if (position === INVALID_LSN || end === INVALID_LSN) return null;
  return Math.max(0, lsnDistance(position, end));
}

/** Whole microseconds, as PostgreSQL's interval has them. */
function lagSeconds(seconds: number | null): number | null {
  return seconds === null ? null : Math.round(seconds * 1e6) / 1e6;
}

function lsnText(lsn: Lsn): string | null {
  return lsn === INVALID_LSN ? null : formatLsn(lsn);
}

/** The years that the format `date-time` (RFC 3339) can write: 0000 to 9999; end exclusive. */
const WRITABLE_FROM_MS = Date.UTC(-1, 12);
const WRITABLE_UNTIL_MS = Date.UTC(10_000, 0);

/** Milliseconds as text. A clock a peer made up may lie outside what the answer's format can hold: that is unknown. */
function nullableTimeText(ms: number | null): string | null {
  const isWritable = ms !== null && ms >= WRITABLE_FROM_MS && ms < WRITABLE_UNTIL_MS;
  return isWritable ? timeText(ms) : null;
}

function timeText(ms: number): string {
  return new Date(ms).toISOString();
}
