// Which values has a label whose values are fixed? Counters exist for each of them from the start, docs/metrics.md lists them, and
// whatever else a peer comes up with is `other` or is left out.
import { ADMIN_COMMANDS, SYNC_STATES, WALSENDER_STATES } from '../status/status.ts';
import { STANDBY_DISCONNECT_REASONS, UPSTREAM_DISCONNECT_REASONS } from '../status/status.ts';
import type { FamilyName } from './catalogue.ts';

/** The one upstream of this version, as the label `upstream` names it. */
export const UPSTREAM: string = 'default';

/** States of the session with the upstream. */
export const UPSTREAM_STATES = [
  'disconnected',
  'connecting',
  'catchup',
  'streaming',
  'waiting_for_wal',
] as const;

/** States of a standby: those of its walsender, and that it has none. */
export const STANDBY_STATES: readonly string[] = ['disconnected', ...WALSENDER_STATES];

/** How safe a slot is, from the best to the worst. */
export const SLOT_WAL_STATES = ['reserved', 'extended', 'unreserved', 'lost'] as const;

/** Commands that get a label of their own; what else a client may have sent is `other`. */
export const COMMANDS: readonly string[] = [
  'IDENTIFY_SYSTEM',
  'SHOW',
  'TIMELINE_HISTORY',
  'READ_REPLICATION_SLOT',
  'CREATE_REPLICATION_SLOT',
  'ALTER_REPLICATION_SLOT',
  'DROP_REPLICATION_SLOT',
  'START_REPLICATION',
  'BASE_BACKUP',
  'UPLOAD_MANIFEST',
  'other',
];

/** HTTP methods that get a label of their own. */
export const HTTP_METHODS: readonly string[] = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'OPTIONS',
  'PATCH',
  'other',
];

/** How clients are let in, or not. (pg_hba.conf) */
export const AUTHENTICATION_METHODS: readonly string[] = [
  'scram-sha-256',
  'cert',
  'md5',
  'trust',
  'reject',
];

const POSITIONS = ['write', 'flush', 'replay'] as const;

/** By the names of the families. */
const VALUES: Readonly<Partial<Record<FamilyName, Readonly<Record<string, readonly string[]>>>>> = {
  config_reloads_total: { result: ['success', 'failure'] },
  upstream_state: { state: UPSTREAM_STATES },
  upstream_connects_total: { outcome: ['success', 'failure'] },
  upstream_disconnects_total: { reason: UPSTREAM_DISCONNECT_REASONS },
  upstream_messages_total: { type: ['wal', 'keepalive'] },
  upstream_acknowledged_lsn_bytes: { stage: POSITIONS },
  upstream_sync_state: { state: [...SYNC_STATES, 'unknown'] },
  store_read_bytes_total: { source: ['memory', 'disk', 'upstream'] },
  store_segments_removed_total: { reason: ['retention', 'size_limit'] },
  store_errors_total: { operation: ['open', 'write', 'fsync', 'read', 'remove'] },
  store_crc_failures_total: { source: ['upstream', 'disk'] },
  standby_connections: { state: WALSENDER_STATES },
  standby_state: { state: STANDBY_STATES },
  standby_lag_bytes: { stage: ['send', ...POSITIONS] },
  standby_lag_seconds: { stage: POSITIONS },
  standby_disconnects_total: { reason: STANDBY_DISCONNECT_REASONS },
  slot_wal_status: { status: SLOT_WAL_STATES },
  client_authentications_total: {
    method: AUTHENTICATION_METHODS,
    outcome: ['success', 'failure'],
  },
  client_connections_rejected_total: {
    reason: ['hba', 'auth', 'limit', 'draining', 'protocol', 'tls'],
  },
  client_commands_total: { command: COMMANDS },
  tls_certificate_not_after_timestamp_seconds: { role: ['server', 'upstream_client', 'admin'] },
  http_request_duration_seconds: {
    method: HTTP_METHODS,
    status_class: ['1xx', '2xx', '3xx', '4xx', '5xx'],
  },
  admin_commands_total: { command: ADMIN_COMMANDS },
};

/** All values the label of that family may have; null where they are not fixed. */
export function fixedValues(family: FamilyName, label: string): readonly string[] | null {
  if (label === 'upstream') return [UPSTREAM];
  return VALUES[family]?.[label] ?? null;
}
