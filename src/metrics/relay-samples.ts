// The samples of the process, the upstream session, the store and the slots.
import { INVALID_LSN, lsnDistance, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { CertificateStatus } from '../status/certificate.ts';
import type { RelayStatus, SlotStatus, UpstreamStatus } from '../status/status.ts';
import type { Samples } from './samples.ts';

/** The one upstream of this version, as the label `upstream` names it. */
export const UPSTREAM_LABEL: string = 'default';

const UPSTREAM = { upstream: UPSTREAM_LABEL };
const UPSTREAM_STATES: readonly UpstreamStatus['state'][] = [
  'disconnected',
  'connecting',
  'catchup',
  'streaming',
  'waiting_for_wal',
];
const SLOT_WAL_STATES: readonly SlotStatus['walStatus'][] = [
  'reserved',
  'extended',
  'unreserved',
  'lost',
];

/** Commands that get a label of their own; what else a client may have sent is `other`. */
const COMMANDS: readonly string[] = [
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
];

const AUTHENTICATION_METHODS: readonly string[] = [
  'scram-sha-256',
  'cert',
  'md5',
  'trust',
  'reject',
];
const AUTHENTICATION_OUTCOMES: readonly string[] = ['success', 'failure'];

/** Certificates by what they are for, and the words of the label `role`. */
const CERTIFICATE_ROLES: ReadonlyMap<CertificateStatus['role'], string> = new Map([
  ['server', 'server'],
  ['upstream_client', 'upstream_client'],
  ['http', 'admin'],
]);

/** End of the WAL that is known to exist: what the upstream said last, or what we have when that is more. */
export function knownEnd(status: RelayStatus): Lsn {
  return maxLsn(status.upstream.serverLsn, status.store.receivedLsn);
}

/** What the process says about itself. */
export function addProcessSamples(
  samples: Samples,
  status: RelayStatus,
  build: { version: string; revision: string | null; nodeVersion: string },
): void {
  samples.add(
    'build_info',
    { version: build.version, revision: build.revision ?? '', node_version: build.nodeVersion },
    1,
  );
  samples.add('ready', {}, status.isReady ? 1 : 0);
  samples.add('draining', {}, status.isDraining ? 1 : 0);
  const { isLastReloadGood, loadedAtMs, secretProblems } = status.configuration;
  // What was last to be taken of it, a file with a secret included.
  const isGood = isLastReloadGood && secretProblems.length === 0;
  samples.add('config_last_reload_successful', {}, isGood ? 1 : 0);
  samples.add('config_last_reload_success_timestamp_seconds', {}, loadedAtMs / 1000);
}

/** The upstream session. */
export function addUpstreamSamples(samples: Samples, status: RelayStatus): void {
  const { upstream, store } = status;
  samples.add(
    'upstream_info',
    {
      ...UPSTREAM,
      host: upstream.host ?? '',
      system_identifier: upstream.systemIdentifier ?? '',
      server_version: upstream.serverVersion ?? '',
      slot: upstream.slot ?? '',
    },
    1,
  );
  samples.addStates('upstream_state', UPSTREAM, {
    label: 'state',
    words: UPSTREAM_STATES,
    current: upstream.state,
  });
  // Not the server's own: it may have gone on to a timeline that is not received, or not yet.
  samples.addIfKnown('upstream_timeline', UPSTREAM, store.timeline);
  addOutcomes(samples, upstream);
  samples.addIfKnown(
    'upstream_last_message_timestamp_seconds',
    UPSTREAM,
    upstream.lastMessageAtMs === null ? null : upstream.lastMessageAtMs / 1000,
  );
  samples.addLsn('upstream_server_lsn_bytes', UPSTREAM, upstream.serverLsn);
  samples.addLsn('upstream_received_lsn_bytes', UPSTREAM, store.receivedLsn);
  samples.addLsn('upstream_flushed_lsn_bytes', UPSTREAM, store.flushedLsn);
  const { writeLsn, flushLsn, applyLsn } = upstream.reported;
  samples.addLsn('upstream_acknowledged_lsn_bytes', { ...UPSTREAM, stage: 'write' }, writeLsn);
  samples.addLsn('upstream_acknowledged_lsn_bytes', { ...UPSTREAM, stage: 'flush' }, flushLsn);
  samples.addLsn('upstream_acknowledged_lsn_bytes', { ...UPSTREAM, stage: 'replay' }, applyLsn);
  if (upstream.serverLsn !== INVALID_LSN && store.flushedLsn !== INVALID_LSN) {
    const lag = Math.max(0, lsnDistance(store.flushedLsn, upstream.serverLsn));
    samples.add('upstream_lag_bytes', UPSTREAM, lag);
    samples.add('upstream_lag_seconds', UPSTREAM, status.upstreamDelay.lagSeconds);
  }
}

function addOutcomes(samples: Samples, upstream: UpstreamStatus): void {
  samples.add(
    'upstream_connects_total',
    { ...UPSTREAM, outcome: 'success' },
    upstream.connectsSucceeded,
  );
  samples.add(
    'upstream_connects_total',
    { ...UPSTREAM, outcome: 'failure' },
    upstream.connectsFailed,
  );
  for (const [reason, count] of Object.entries(upstream.disconnects)) {
    samples.add('upstream_disconnects_total', { ...UPSTREAM, reason }, count);
  }
  samples.add('upstream_timeline_switches_total', UPSTREAM, upstream.timelineSwitches);
  samples.add('upstream_received_bytes_total', UPSTREAM, upstream.receivedBytes);
  samples.add('upstream_messages_total', { ...UPSTREAM, type: 'wal' }, upstream.walMessages);
  samples.add(
    'upstream_messages_total',
    { ...UPSTREAM, type: 'keepalive' },
    upstream.keepaliveMessages,
  );
}

/** The store; its histograms are rendered from the status itself. */
export function addStoreSamples(
  samples: Samples,
  status: RelayStatus,
  filesystem: { freeBytes: number; sizeBytes: number } | null,
): void {
  const { store } = status;
  const { limitBytes, segmentsRemovedByLimit, segmentsRemovedUnneeded } = status.retention;
  samples.add('store_size_bytes', UPSTREAM, store.sizeBytes + store.dead.bytes);
  samples.add('store_limit_bytes', UPSTREAM, limitBytes);
  samples.add('store_segments', UPSTREAM, store.segments);
  samples.addLsn('store_oldest_lsn_bytes', UPSTREAM, store.oldestLsn);
  samples.addIfKnown('store_filesystem_free_bytes', {}, filesystem?.freeBytes ?? null);
  samples.addIfKnown('store_filesystem_size_bytes', {}, filesystem?.sizeBytes ?? null);
  samples.add('store_read_bytes_total', { source: 'memory' }, store.readFromMemoryBytes);
  samples.add('store_read_bytes_total', { source: 'disk' }, store.readFromDiskBytes);
  samples.add('store_read_bytes_total', { source: 'upstream' }, status.readThrough.bytes);
  const removed = { retention: segmentsRemovedUnneeded, size_limit: segmentsRemovedByLimit };
  for (const [reason, count] of Object.entries(removed)) {
    samples.add('store_segments_removed_total', { ...UPSTREAM, reason }, count);
  }
  for (const [operation, count] of Object.entries(store.errors)) {
    samples.add('store_errors_total', { operation }, count);
  }
  samples.add('store_crc_failures_total', { source: 'upstream' }, store.rejectedFromUpstream);
  samples.add('store_crc_failures_total', { source: 'disk' }, store.rejectedFromDisk);
  samples.add('buffer_size_bytes', UPSTREAM, store.tailBytes);
  samples.add('buffer_limit_bytes', UPSTREAM, store.tailBytesMax);
}

/** The slots kept here; `wallMs` is now, milliseconds since the Unix epoch. */
export function addSlotSamples(samples: Samples, status: RelayStatus, wallMs: number): void {
  for (const slot of status.slots) {
    const { name, activePid, restartLsn, inactiveSinceMs, walStatus } = slot;
    const labels = { slot: name };
    samples.add('slot_active', labels, activePid === null ? 0 : 1);
    const inactiveMs = inactiveSinceMs === null ? 0 : Math.max(0, wallMs - inactiveSinceMs);
    samples.add('slot_inactive_seconds', labels, inactiveMs / 1000);
    samples.addLsn('slot_restart_lsn_bytes', labels, restartLsn);
    if (slot.invalidationReason !== null) {
      samples.add('slot_retained_bytes', labels, 0);
    } else if (restartLsn !== INVALID_LSN && status.store.receivedLsn !== INVALID_LSN) {
      const retained = Math.max(0, lsnDistance(restartLsn, status.store.receivedLsn));
      samples.add('slot_retained_bytes', labels, retained);
    }
    if (walStatus === null) continue;
    const words = SLOT_WAL_STATES.filter((word) => word !== null);
    samples.addStates('slot_wal_status', labels, { label: 'status', words, current: walStatus });
  }
}

/** When certificates expire that are in use: of several for one purpose the first that does. */
export function addCertificateSamples(samples: Samples, { certificates }: RelayStatus): void {
  for (const [role, label] of CERTIFICATE_ROLES) {
    const ends = certificates.filter((one) => one.role === role).map((one) => one.notAfterMs);
    if (ends.length === 0) continue;
    const notAfter = Math.min(...ends) / 1000;
    samples.add('tls_certificate_not_after_timestamp_seconds', { role: label }, notAfter);
  }
}

/** Who logged in, and who could not: every method from the start, so that the first failure is an increase. */
export function addAuthenticationSamples(samples: Samples, { standbyTotals }: RelayStatus): void {
  const counts = new Map<string, number>();
  for (const method of AUTHENTICATION_METHODS)
    for (const outcome of AUTHENTICATION_OUTCOMES) counts.set(`${method}|${outcome}`, 0);
  for (const [key, count] of standbyTotals.authentications) counts.set(key, count);
  for (const [key, count] of counts) {
    const [method = '', outcome = ''] = key.split('|');
    samples.add('client_authentications_total', { method, outcome }, count);
  }
}

/** What clients asked for and were refused. */
export function addClientSamples(samples: Samples, status: RelayStatus): void {
  const { rejected, commands } = status.standbyTotals;
  for (const [reason, count] of Object.entries(rejected)) {
    samples.add('client_connections_rejected_total', { reason }, count);
  }
  const counts = new Map([...COMMANDS, 'other'].map((command) => [command, 0]));
  for (const [command, count] of commands) {
    const label = COMMANDS.includes(command) ? command : 'other';
    counts.set(label, (counts.get(label) ?? 0) + count);
  }
  for (const [command, count] of counts) samples.add('client_commands_total', { command }, count);
}
