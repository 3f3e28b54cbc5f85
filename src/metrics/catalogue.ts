// The metric families: name, type, labels, help, in one list. A name here is a promise to dashboards and alerts.

/** Upper bounds of every duration histogram, seconds; `+Inf` follows. */
export const DURATION_BUCKETS_SECONDS: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
];

/** What every name begins with. */
export const METRIC_PREFIX: string = 'walcast_';

/** Every family, without the prefix. */
export const CATALOGUE = [
  // --- process and configuration
  {
    name: 'build_info',
    type: 'gauge',
    labels: ['version', 'revision', 'node_version'],
    help: 'always 1; joins for "which version runs where"',
  },
  {
    name: 'ready',
    type: 'gauge',
    labels: [],
    help: '1 when /readyz would answer 200 (same code path)',
  },
  {
    name: 'draining',
    type: 'gauge',
    labels: [],
    help: '1 after SIGTERM / `SHUTDOWN WAIT_FOR_CLIENTS`',
  },
  {
    name: 'config_last_reload_successful',
    type: 'gauge',
    labels: [],
    help: 'Prometheus idiom; 0 after a rejected SIGHUP reload',
  },
  {
    name: 'config_last_reload_success_timestamp_seconds',
    type: 'gauge',
    labels: [],
    help: 'when the running config was loaded',
  },
  // --- upstream
  {
    name: 'upstream_info',
    type: 'gauge',
    labels: ['upstream', 'host', 'system_identifier', 'server_version', 'slot'],
    help: 'always 1; `host` is the host of the host list in use',
  },
  {
    name: 'upstream_state',
    type: 'gauge',
    labels: ['upstream', 'state'],
    help: 'exactly one state is 1',
  },
  {
    name: 'upstream_timeline',
    type: 'gauge',
    labels: ['upstream'],
    help: 'timeline being received',
  },
  {
    name: 'upstream_timeline_switches_total',
    type: 'counter',
    labels: ['upstream'],
    help: 'timeline changes followed (failovers seen)',
  },
  {
    name: 'upstream_connects_total',
    type: 'counter',
    labels: ['upstream', 'outcome'],
    help: 'connection attempts',
  },
  {
    name: 'upstream_disconnects_total',
    type: 'counter',
    labels: ['upstream', 'reason'],
    help: 'stream ends by cause',
  },
  {
    name: 'upstream_received_bytes_total',
    type: 'counter',
    labels: ['upstream'],
    help: 'WAL payload bytes received (no framing)',
  },
  {
    name: 'upstream_messages_total',
    type: 'counter',
    labels: ['upstream', 'type'],
    help: 'CopyData messages received',
  },
  {
    name: 'upstream_last_message_timestamp_seconds',
    type: 'gauge',
    labels: ['upstream'],
    help: 'last byte seen; staleness = time() minus it',
  },
  {
    name: 'upstream_server_lsn_bytes',
    type: 'gauge',
    labels: ['upstream'],
    help: 'WAL end the sender last reported',
  },
  {
    name: 'upstream_received_lsn_bytes',
    type: 'gauge',
    labels: ['upstream'],
    help: 'last byte received (kept in memory)',
  },
  {
    name: 'upstream_flushed_lsn_bytes',
    type: 'gauge',
    labels: ['upstream'],
    help: 'last byte fsynced in the relay store',
  },
  {
    name: 'upstream_acknowledged_lsn_bytes',
    type: 'gauge',
    labels: ['upstream', 'stage'],
    help: 'positions reported in the last standby status update',
  },
  {
    name: 'upstream_lag_bytes',
    type: 'gauge',
    labels: ['upstream'],
    help: "server_lsn minus flushed_lsn: the relay's own lag",
  },
  {
    name: 'upstream_lag_seconds',
    type: 'gauge',
    labels: ['upstream'],
    help: 'age of the oldest WAL not yet flushed here (0 when caught up)',
  },
  {
    name: 'upstream_transit_seconds',
    type: 'histogram',
    labels: ['upstream'],
    help: "receive time minus the sender's timestamp in the message (needs synced clocks)",
  },
  {
    name: 'upstream_sync_state',
    type: 'gauge',
    labels: ['upstream', 'state'],
    help: 'how the primary classes this relay (when it can be asked)',
  },
  // --- store
  { name: 'store_size_bytes', type: 'gauge', labels: ['upstream'], help: 'bytes on disk for WAL' },
  {
    name: 'store_limit_bytes',
    type: 'gauge',
    labels: ['upstream'],
    help: 'configured cap (0 = none)',
  },
  { name: 'store_segments', type: 'gauge', labels: ['upstream'], help: 'segment files held' },
  {
    name: 'store_oldest_lsn_bytes',
    type: 'gauge',
    labels: ['upstream'],
    help: 'oldest position that can be served',
  },
  {
    name: 'store_filesystem_free_bytes',
    type: 'gauge',
    labels: [],
    help: 'statfs of the data directory',
  },
  {
    name: 'store_filesystem_size_bytes',
    type: 'gauge',
    labels: [],
    help: 'statfs of the data directory',
  },
  {
    name: 'store_flush_duration_seconds',
    type: 'histogram',
    labels: ['upstream'],
    help: 'fdatasync time',
  },
  {
    name: 'store_write_duration_seconds',
    type: 'histogram',
    labels: ['upstream'],
    help: 'write(2) batch time',
  },
  {
    name: 'store_read_bytes_total',
    type: 'counter',
    labels: ['source'],
    help: 'where bytes sent to standbys came from (cache hit ratio)',
  },
  {
    name: 'store_segments_removed_total',
    type: 'counter',
    labels: ['upstream', 'reason'],
    help: 'recycled segments',
  },
  { name: 'store_errors_total', type: 'counter', labels: ['operation'], help: 'I/O errors' },
  {
    name: 'store_crc_failures_total',
    type: 'counter',
    labels: ['source'],
    help: 'record or page checks that failed (only where checking is on)',
  },
  {
    name: 'buffer_size_bytes',
    type: 'gauge',
    labels: ['upstream'],
    help: 'shared in-memory WAL window in use',
  },
  { name: 'buffer_limit_bytes', type: 'gauge', labels: ['upstream'], help: 'its cap' },
  // --- standbys
  {
    name: 'standby_connections',
    type: 'gauge',
    labels: ['state'],
    help: 'connected walsenders by state',
  },
  {
    name: 'standby_connections_limit',
    type: 'gauge',
    labels: [],
    help: 'configured maximum (as max_wal_senders)',
  },
  {
    name: 'standby_info',
    type: 'gauge',
    labels: ['standby', 'client_addr', 'user', 'slot', 'upstream', 'tls_version'],
    help: 'always 1; the only metric with the address',
  },
  {
    name: 'standby_state',
    type: 'gauge',
    labels: ['standby', 'state'],
    help: 'exactly one is 1; `disconnected` only for standbys named in the config or owning a slot',
  },
  {
    name: 'standby_sent_lsn_bytes',
    type: 'gauge',
    labels: ['standby'],
    help: 'last byte handed to the socket',
  },
  {
    name: 'standby_write_lsn_bytes',
    type: 'gauge',
    labels: ['standby'],
    help: 'reported write position',
  },
  {
    name: 'standby_flush_lsn_bytes',
    type: 'gauge',
    labels: ['standby'],
    help: 'reported flush position',
  },
  {
    name: 'standby_replay_lsn_bytes',
    type: 'gauge',
    labels: ['standby'],
    help: 'reported apply position',
  },
  {
    name: 'standby_lag_bytes',
    type: 'gauge',
    labels: ['standby', 'stage'],
    help: '**end to end**: upstream server_lsn minus the position',
  },
  {
    name: 'standby_lag_seconds',
    type: 'gauge',
    labels: ['standby', 'stage'],
    help: '**end to end**: sender timestamp of the WAL at that position until its confirmation (PostgreSQL LagTracker method); 0 when caught up and idle',
  },
  {
    name: 'standby_sent_bytes_total',
    type: 'counter',
    labels: ['standby'],
    help: 'WAL payload bytes sent',
  },
  {
    name: 'standby_send_queue_bytes',
    type: 'gauge',
    labels: ['standby'],
    help: 'bytes in the socket write queue',
  },
  {
    name: 'standby_send_blocked_seconds_total',
    type: 'counter',
    labels: ['standby'],
    help: 'time the socket refused more data (slow standby)',
  },
  {
    name: 'standby_last_reply_timestamp_seconds',
    type: 'gauge',
    labels: ['standby'],
    help: 'last status update',
  },
  {
    name: 'standby_connects_total',
    type: 'counter',
    labels: ['standby'],
    help: 'START_REPLICATION accepted',
  },
  {
    name: 'standby_disconnects_total',
    type: 'counter',
    labels: ['reason'],
    help: 'ends by cause (not per standby on purpose)',
  },
  {
    name: 'standby_sync_priority',
    type: 'gauge',
    labels: ['standby'],
    help: "1..n in the relay's ack policy, 0 = async",
  },
  {
    name: 'standby_series_overflow',
    type: 'gauge',
    labels: [],
    help: 'standbys folded into standby="_other" because the cap was reached',
  },
  // --- slots
  { name: 'slot_active', type: 'gauge', labels: ['slot'], help: 'a standby is using it' },
  {
    name: 'slot_restart_lsn_bytes',
    type: 'gauge',
    labels: ['slot'],
    help: 'oldest position it holds',
  },
  { name: 'slot_retained_bytes', type: 'gauge', labels: ['slot'], help: 'WAL held back by it' },
  {
    name: 'slot_inactive_seconds',
    type: 'gauge',
    labels: ['slot'],
    help: 'time since last use, 0 when active',
  },
  {
    name: 'slot_wal_status',
    type: 'gauge',
    labels: ['slot', 'status'],
    help: 'same words as pg_replication_slots.wal_status',
  },
  // --- acknowledgement policy
  {
    name: 'sync_required_standbys',
    type: 'gauge',
    labels: ['upstream'],
    help: "standbys that must confirm before the relay confirms upstream (0 = relay's own fsync is enough)",
  },
  {
    name: 'sync_eligible_standbys',
    type: 'gauge',
    labels: ['upstream'],
    help: 'connected, streaming standbys that count',
  },
  {
    name: 'sync_satisfied',
    type: 'gauge',
    labels: ['upstream'],
    help: '1 when the quorum can be met now',
  },
  {
    name: 'sync_confirmed_lsn_bytes',
    type: 'gauge',
    labels: ['upstream'],
    help: 'quorum position',
  },
  {
    name: 'sync_confirm_duration_seconds',
    type: 'histogram',
    labels: ['upstream'],
    help: "WAL received to quorum-confirmed: the relay's share of COMMIT latency",
  },
  {
    name: 'sync_unsatisfied_seconds_total',
    type: 'counter',
    labels: ['upstream'],
    help: 'time spent without quorum',
  },
  // --- access and HTTP
  {
    name: 'client_authentications_total',
    type: 'counter',
    labels: ['method', 'outcome'],
    help: 'client authentications total',
  },
  {
    name: 'client_connections_rejected_total',
    type: 'counter',
    labels: ['reason'],
    help: 'before replication starts',
  },
  {
    name: 'client_commands_total',
    type: 'counter',
    labels: ['command'],
    help: 'replication commands served',
  },
  {
    name: 'tls_certificate_not_after_timestamp_seconds',
    type: 'gauge',
    labels: ['role'],
    help: 'expiry of the loaded certificates',
  },
  {
    name: 'http_request_duration_seconds',
    type: 'histogram',
    labels: ['method', 'route', 'status_class'],
    help: 'route = the template, never the URL; /metrics itself included',
  },
] as const;

/** The name of a family, without prefix. */
export type FamilyName = (typeof CATALOGUE)[number]['name'];

/** The unit a family counts in, which its name ends with (before `_total`); null for numbers, flags and sets of states. */
export function unitOf(name: FamilyName): string | null {
  if (name.endsWith('_timestamp_seconds')) return 'seconds since 1970';
  if (name.endsWith('_lsn_bytes')) return 'bytes (LSN)';
  return /_(seconds|bytes)(_total)?$/.exec(name)?.[1] ?? null;
}
