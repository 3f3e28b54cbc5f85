// Every metric family there is: name, type, unit, labels, help, in one list. A name here is a promise to dashboards and alerts.
// What values a label has, where they are fixed, is in label-values.ts.

/** What every name begins with. */
export const METRIC_PREFIX: string = 'walcast_';

/**
 * Every family, without the prefix. `unit`: the base unit its values count in, the last word of its name before `_total`;
 * null for numbers, flags and sets of states. LSNs are bytes since the beginning of WAL, timestamps seconds since 1970.
 */
export const FAMILIES = {
  // --- process and configuration
  build_info: {
    type: 'gauge',
    unit: null,
    labels: ['version', 'revision', 'node_version'],
    help: 'always 1; joins for "which version runs where"',
  },
  ready: {
    type: 'gauge',
    unit: null,
    labels: [],
    help: '1 when /readyz would answer 200 (same code path)',
  },
  draining: {
    type: 'gauge',
    unit: null,
    labels: [],
    help: '1 after SIGTERM / `SHUTDOWN WAIT_FOR_CLIENTS`',
  },
  config_last_reload_successful: {
    type: 'gauge',
    unit: null,
    labels: [],
    help: '0 after a reload that was refused, however it was asked for, and while a file with secrets cannot be used',
  },
  config_last_reload_success_timestamp_seconds: {
    type: 'gauge',
    unit: 'seconds',
    labels: [],
    help: 'when the running config was loaded',
  },
  config_reloads_total: {
    type: 'counter',
    unit: null,
    labels: ['result'],
    help: 'reloads, however they were asked for; one that a swapped file asks for again, with the same mistakes, counts once',
  },
  // --- upstream
  upstream_info: {
    type: 'gauge',
    unit: null,
    labels: ['upstream', 'host', 'system_identifier', 'server_version', 'slot'],
    help: 'always 1; `host` is the host of the host list in use',
  },
  upstream_state: {
    type: 'gauge',
    unit: null,
    labels: ['upstream', 'state'],
    help: 'exactly one state is 1',
  },
  upstream_timeline: {
    type: 'gauge',
    unit: null,
    labels: ['upstream'],
    help: 'timeline being received',
  },
  upstream_timeline_switches_total: {
    type: 'counter',
    unit: null,
    labels: ['upstream'],
    help: 'timeline changes followed (failovers seen)',
  },
  upstream_connects_total: {
    type: 'counter',
    unit: null,
    labels: ['upstream', 'outcome'],
    help: 'connection attempts',
  },
  upstream_disconnects_total: {
    type: 'counter',
    unit: null,
    labels: ['upstream', 'reason'],
    help: 'stream ends by cause',
  },
  upstream_received_bytes_total: {
    type: 'counter',
    unit: 'bytes',
    labels: ['upstream'],
    help: 'WAL payload bytes received (no framing)',
  },
  upstream_messages_total: {
    type: 'counter',
    unit: null,
    labels: ['upstream', 'type'],
    help: 'CopyData messages received',
  },
  upstream_last_message_timestamp_seconds: {
    type: 'gauge',
    unit: 'seconds',
    labels: ['upstream'],
    help: 'last byte seen; staleness = time() minus it',
  },
  upstream_server_lsn_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['upstream'],
    help: 'WAL end the sender last reported',
  },
  upstream_received_lsn_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['upstream'],
    help: 'last byte received (kept in memory)',
  },
  upstream_flushed_lsn_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['upstream'],
    help: 'last byte fsynced in the relay store',
  },
  upstream_acknowledged_lsn_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['upstream', 'stage'],
    help: 'positions reported in the last standby status update',
  },
  upstream_lag_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['upstream'],
    help: "server_lsn minus flushed_lsn: the relay's own lag",
  },
  upstream_lag_seconds: {
    type: 'gauge',
    unit: 'seconds',
    labels: ['upstream'],
    help: 'age of the oldest WAL not yet flushed here (0 when caught up)',
  },
  upstream_transit_seconds: {
    type: 'histogram',
    unit: 'seconds',
    labels: ['upstream'],
    help: "receive time minus the sender's timestamp in the message (needs synced clocks)",
  },
  upstream_sync_state: {
    type: 'gauge',
    unit: null,
    labels: ['upstream', 'state'],
    help: 'how the primary classes this relay (when it can be asked)',
  },
  // --- store
  store_size_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['upstream'],
    help: 'bytes on disk for WAL',
  },
  store_limit_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['upstream'],
    help: 'configured cap (0 = none)',
  },
  store_segments: {
    type: 'gauge',
    unit: null,
    labels: ['upstream'],
    help: 'segment files held',
  },
  store_oldest_lsn_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['upstream'],
    help: 'oldest position that can be served',
  },
  store_filesystem_free_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: [],
    help: 'statfs of the data directory',
  },
  store_filesystem_size_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: [],
    help: 'statfs of the data directory',
  },
  store_flush_duration_seconds: {
    type: 'histogram',
    unit: 'seconds',
    labels: ['upstream'],
    help: 'fdatasync time',
  },
  store_write_duration_seconds: {
    type: 'histogram',
    unit: 'seconds',
    labels: ['upstream'],
    help: 'write(2) batch time',
  },
  store_read_bytes_total: {
    type: 'counter',
    unit: 'bytes',
    labels: ['source'],
    help: 'where bytes sent to standbys came from (cache hit ratio)',
  },
  store_segments_removed_total: {
    type: 'counter',
    unit: null,
    labels: ['upstream', 'reason'],
    help: 'recycled segments',
  },
  store_errors_total: {
    type: 'counter',
    unit: null,
    labels: ['operation'],
    help: 'I/O errors',
  },
  store_crc_failures_total: {
    type: 'counter',
    unit: null,
    labels: ['source'],
    help: 'record or page checks that failed (only where checking is on)',
  },
  buffer_size_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['upstream'],
    help: 'shared in-memory WAL window in use',
  },
  buffer_limit_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['upstream'],
    help: 'its cap',
  },
  // --- standbys
  standby_connections: {
    type: 'gauge',
    unit: null,
    labels: ['state'],
    help: 'connected walsenders by state',
  },
  standby_connections_limit: {
    type: 'gauge',
    unit: null,
    labels: [],
    help: 'configured maximum (as max_wal_senders)',
  },
  standby_info: {
    type: 'gauge',
    unit: null,
    labels: ['standby', 'client_addr', 'user', 'slot', 'upstream', 'tls_version'],
    help: 'always 1; the only metric with the address',
  },
  standby_state: {
    type: 'gauge',
    unit: null,
    labels: ['standby', 'state'],
    help: 'exactly one is 1; `disconnected` only for standbys named in the config or owning a slot',
  },
  standby_sent_lsn_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['standby'],
    help: 'last byte handed to the socket',
  },
  standby_write_lsn_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['standby'],
    help: 'reported write position',
  },
  standby_flush_lsn_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['standby'],
    help: 'reported flush position',
  },
  standby_replay_lsn_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['standby'],
    help: 'reported apply position',
  },
  standby_lag_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['standby', 'stage'],
    help: '**end to end**: upstream server_lsn minus the position',
  },
  standby_lag_seconds: {
    type: 'gauge',
    unit: 'seconds',
    labels: ['standby', 'stage'],
    help: '**end to end**: sender timestamp of the WAL at that position until its confirmation (PostgreSQL LagTracker method); 0 when caught up and idle',
  },
  standby_sent_bytes_total: {
    type: 'counter',
    unit: 'bytes',
    labels: ['standby'],
    help: 'WAL payload bytes sent',
  },
  standby_send_queue_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['standby'],
    help: 'bytes in the socket write queue',
  },
  standby_send_blocked_seconds_total: {
    type: 'counter',
    unit: 'seconds',
    labels: ['standby'],
    help: 'time the socket refused more data (slow standby)',
  },
  standby_last_reply_timestamp_seconds: {
    type: 'gauge',
    unit: 'seconds',
    labels: ['standby'],
    help: 'last status update',
  },
  standby_connects_total: {
    type: 'counter',
    unit: null,
    labels: ['standby'],
    help: 'START_REPLICATION accepted',
  },
  standby_disconnects_total: {
    type: 'counter',
    unit: null,
    labels: ['reason'],
    help: 'ends by cause (not per standby on purpose)',
  },
  standby_sync_priority: {
    type: 'gauge',
    unit: null,
    labels: ['standby'],
    help: "1..n in the relay's ack policy, 0 = async",
  },
  standby_series_overflow: {
    type: 'gauge',
    unit: null,
    labels: [],
    help: 'standbys folded into standby="_other" because the cap was reached',
  },
  // --- slots
  slot_active: {
    type: 'gauge',
    unit: null,
    labels: ['slot'],
    help: 'a standby is using it',
  },
  slot_restart_lsn_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['slot'],
    help: 'oldest position it holds',
  },
  slot_retained_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['slot'],
    help: 'WAL held back by it',
  },
  slot_inactive_seconds: {
    type: 'gauge',
    unit: 'seconds',
    labels: ['slot'],
    help: 'time since last use, 0 when active',
  },
  slot_wal_status: {
    type: 'gauge',
    unit: null,
    labels: ['slot', 'status'],
    help: 'same words as pg_replication_slots.wal_status',
  },
  // --- acknowledgement policy
  sync_required_standbys: {
    type: 'gauge',
    unit: null,
    labels: ['upstream'],
    help: "standbys that must confirm before the relay confirms upstream (0 = relay's own fsync is enough)",
  },
  sync_eligible_standbys: {
    type: 'gauge',
    unit: null,
    labels: ['upstream'],
    help: 'connected, streaming standbys that count',
  },
  sync_satisfied: {
    type: 'gauge',
    unit: null,
    labels: ['upstream'],
    help: '1 when the quorum can be met now',
  },
  sync_confirmed_lsn_bytes: {
    type: 'gauge',
    unit: 'bytes',
    labels: ['upstream'],
    help: 'quorum position',
  },
  sync_confirm_duration_seconds: {
    type: 'histogram',
    unit: 'seconds',
    labels: ['upstream'],
    help: "WAL received to quorum-confirmed: the relay's share of COMMIT latency",
  },
  sync_unsatisfied_seconds_total: {
    type: 'counter',
    unit: 'seconds',
    labels: ['upstream'],
    help: 'time spent without quorum',
  },
  // --- access and HTTP
  client_authentications_total: {
    type: 'counter',
    unit: null,
    labels: ['method', 'outcome'],
    help: 'client authentications total',
  },
  client_connections_rejected_total: {
    type: 'counter',
    unit: null,
    labels: ['reason'],
    help: 'before replication starts',
  },
  client_commands_total: {
    type: 'counter',
    unit: null,
    labels: ['command'],
    help: 'replication commands served',
  },
  tls_certificate_not_after_timestamp_seconds: {
    type: 'gauge',
    unit: 'seconds',
    labels: ['role'],
    help: 'expiry of the loaded certificates',
  },
  http_request_duration_seconds: {
    type: 'histogram',
    unit: 'seconds',
    labels: ['method', 'route', 'status_class'],
    help: 'route = the template, never the URL; /metrics itself included',
  },
  admin_commands_total: {
    type: 'counter',
    unit: null,
    labels: ['command'],
    help: 'psql console',
  },
} as const;

/** The name of a family, without prefix. */
export type FamilyName = keyof typeof FAMILIES;

/** One family. */
export interface Family {
  readonly name: FamilyName;
  readonly type: 'gauge' | 'counter' | 'histogram';
  readonly unit: 'bytes' | 'seconds' | null;
  readonly labels: readonly string[];
  readonly help: string;
}

/** {@link FAMILIES} as a list, in the same order. */
export const CATALOGUE: readonly Family[] = Object.keys(FAMILIES)
  .filter(isFamilyName)
  .map((name) => ({ name, ...FAMILIES[name] }));

/** The unit of a family. */
export function unitOf(name: FamilyName): Family['unit'] {
  return FAMILIES[name].unit;
}

function isFamilyName(name: string): name is FamilyName {
  return Object.hasOwn(FAMILIES, name);
}
