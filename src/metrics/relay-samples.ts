// The samples of the process, the upstream session, the store and those who come: families with a fixed number of series.
import { INVALID_LSN, lsnDistance, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { CertificateStatus } from '../status/certificate.ts';
import type { RelayStatus, UpstreamStatus } from '../status/status.ts';
import { AUTHENTICATION_METHODS, COMMANDS, UPSTREAM, UPSTREAM_STATES } from './label-values.ts';
import { bounded, labelText, NO_LABELS, withLabel } from './label-text.ts';
import type { LabelText } from './label-text.ts';
import type { Samples } from './samples.ts';

const UPSTREAM_ONLY: LabelText = labelText({ upstream: UPSTREAM });

/** Of a name in the DNS; a path is cut. */
const HOST_LENGTH_MAX = 255;

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
    labelText({
      version: build.version,
      revision: build.revision ?? '',
      node_version: build.nodeVersion,
    }),
    1,
  );
  samples.add('ready', NO_LABELS, status.isReady ? 1 : 0);
  samples.add('draining', NO_LABELS, status.isDraining ? 1 : 0);
  const { isLastReloadGood, loadedAtMs, reloads, secretProblems } = status.configuration;
  // What was last to be taken of it, a file with a secret included.
  const isGood = isLastReloadGood && secretProblems.length === 0;
  samples.add('config_last_reload_successful', NO_LABELS, isGood ? 1 : 0);
  samples.add('config_last_reload_success_timestamp_seconds', NO_LABELS, loadedAtMs / 1000);
  for (const result of ['success', 'failure'] as const) {
    samples.add('config_reloads_total', labelText({ result }), reloads[result]);
  }
}

/** The upstream session. */
export function addUpstreamSamples(samples: Samples, status: RelayStatus): void {
  const { upstream, store } = status;
  samples.add(
    'upstream_info',
    labelText({
      upstream: UPSTREAM,
      host: bounded(upstream.host, HOST_LENGTH_MAX),
      // Whose WAL is stored and served: rules tell clusters apart by it, also while no server or a wrong one is at the other end.
      system_identifier: bounded(status.systemIdentifier ?? upstream.systemIdentifier),
      server_version: bounded(upstream.serverVersion),
      slot: upstream.slot ?? '',
    }),
    1,
  );
  samples.addStates('upstream_state', UPSTREAM_ONLY, {
    label: 'state',
    words: UPSTREAM_STATES,
    current: upstream.state,
  });
  // Not the server's own: it may have gone on to a timeline that is not received, or not yet.
  samples.addIfKnown('upstream_timeline', UPSTREAM_ONLY, store.timeline);
  addOutcomes(samples, upstream);
  samples.addIfKnown(
    'upstream_last_message_timestamp_seconds',
    UPSTREAM_ONLY,
    upstream.lastMessageAtMs === null ? null : upstream.lastMessageAtMs / 1000,
  );
  samples.addLsn('upstream_server_lsn_bytes', UPSTREAM_ONLY, upstream.serverLsn);
  samples.addLsn('upstream_received_lsn_bytes', UPSTREAM_ONLY, store.receivedLsn);
  samples.addLsn('upstream_flushed_lsn_bytes', UPSTREAM_ONLY, store.flushedLsn);
  const { writeLsn, flushLsn, applyLsn } = upstream.reported;
  samples.addLsn(
    'upstream_acknowledged_lsn_bytes',
    withLabel(UPSTREAM_ONLY, 'stage', 'write'),
    writeLsn,
  );
  samples.addLsn(
    'upstream_acknowledged_lsn_bytes',
    withLabel(UPSTREAM_ONLY, 'stage', 'flush'),
    flushLsn,
  );
  samples.addLsn(
    'upstream_acknowledged_lsn_bytes',
    withLabel(UPSTREAM_ONLY, 'stage', 'replay'),
    applyLsn,
  );
  if (upstream.serverLsn !== INVALID_LSN && store.flushedLsn !== INVALID_LSN) {
    const lag = Math.max(0, lsnDistance(store.flushedLsn, upstream.serverLsn));
    samples.add('upstream_lag_bytes', UPSTREAM_ONLY, lag);
    samples.add('upstream_lag_seconds', UPSTREAM_ONLY, status.upstreamDelay.lagSeconds);
  }
  samples.addHistogram('upstream_transit_seconds', UPSTREAM_ONLY, status.upstreamDelay.transit);
}

function addOutcomes(samples: Samples, upstream: UpstreamStatus): void {
  samples.add(
    'upstream_connects_total',
    withLabel(UPSTREAM_ONLY, 'outcome', 'success'),
    upstream.connectsSucceeded,
  );
  samples.add(
    'upstream_connects_total',
    withLabel(UPSTREAM_ONLY, 'outcome', 'failure'),
    upstream.connectsFailed,
  );
  for (const [reason, count] of Object.entries(upstream.disconnects)) {
    samples.add('upstream_disconnects_total', withLabel(UPSTREAM_ONLY, 'reason', reason), count);
  }
  samples.add('upstream_timeline_switches_total', UPSTREAM_ONLY, upstream.timelineSwitches);
  samples.add('upstream_received_bytes_total', UPSTREAM_ONLY, upstream.receivedBytes);
  samples.add(
    'upstream_messages_total',
    withLabel(UPSTREAM_ONLY, 'type', 'wal'),
    upstream.walMessages,
  );
  samples.add(
    'upstream_messages_total',
    withLabel(UPSTREAM_ONLY, 'type', 'keepalive'),
    upstream.keepaliveMessages,
  );
}

/** The store, and the file system it is on where that is known. */
export function addStoreSamples(samples: Samples, status: RelayStatus): void {
  const { store, filesystem } = status;
  const { segmentsRemovedByLimit, segmentsRemovedUnneeded } = status.retention;
  addStoreSizes(samples, status);
  samples.addLsn('store_oldest_lsn_bytes', UPSTREAM_ONLY, store.oldestLsn);
  samples.addIfKnown('store_filesystem_free_bytes', NO_LABELS, filesystem?.freeBytes ?? null);
  samples.addIfKnown('store_filesystem_size_bytes', NO_LABELS, filesystem?.sizeBytes ?? null);
  samples.add(
    'store_read_bytes_total',
    withLabel(NO_LABELS, 'source', 'memory'),
    status.standbyTotals.sentBytes.memory,
  );
  samples.add(
    'store_read_bytes_total',
    withLabel(NO_LABELS, 'source', 'disk'),
    status.standbyTotals.sentBytes.disk,
  );
  samples.add(
    'store_read_bytes_total',
    withLabel(NO_LABELS, 'source', 'upstream'),
    status.readThrough.bytes,
  );
  const removed = { retention: segmentsRemovedUnneeded, size_limit: segmentsRemovedByLimit };
  for (const [reason, count] of Object.entries(removed)) {
    samples.add('store_segments_removed_total', withLabel(UPSTREAM_ONLY, 'reason', reason), count);
  }
  for (const [operation, count] of Object.entries(store.errors)) {
    samples.add('store_errors_total', withLabel(NO_LABELS, 'operation', operation), count);
  }
  samples.add(
    'store_crc_failures_total',
    withLabel(NO_LABELS, 'source', 'upstream'),
    store.rejectedFromUpstream,
  );
  samples.add(
    'store_crc_failures_total',
    withLabel(NO_LABELS, 'source', 'disk'),
    store.rejectedFromDisk,
  );
}

/** What is known of a store that is open: it has a buffer then. While it is opened nobody knows how much it holds. */
function addStoreSizes(samples: Samples, { store, retention }: RelayStatus): void {
  if (store.tailBytesMax === 0) return;
  samples.add('store_size_bytes', UPSTREAM_ONLY, store.sizeBytes + store.dead.bytes);
  samples.add('store_limit_bytes', UPSTREAM_ONLY, retention.limitBytes);
  samples.add('store_segments', UPSTREAM_ONLY, store.segments);
  samples.addHistogram('store_flush_duration_seconds', UPSTREAM_ONLY, store.flushDuration);
  samples.addHistogram('store_write_duration_seconds', UPSTREAM_ONLY, store.writeDuration);
  samples.add('buffer_size_bytes', UPSTREAM_ONLY, store.tailBytes);
  samples.add('buffer_limit_bytes', UPSTREAM_ONLY, store.tailBytesMax);
}

/** When certificates expire that are in use: of several for one purpose the first that does. */
export function addCertificateSamples(samples: Samples, { certificates }: RelayStatus): void {
  for (const [role, label] of CERTIFICATE_ROLES) {
    const ends = certificates.filter((one) => one.role === role).map((one) => one.notAfterMs);
    if (ends.length === 0) continue;
    const notAfter = Math.min(...ends) / 1000;
    samples.add(
      'tls_certificate_not_after_timestamp_seconds',
      withLabel(NO_LABELS, 'role', label),
      notAfter,
    );
  }
}

/** Who logged in, and who could not: every method from the start, so that the first failure is an increase. */
export function addAuthenticationSamples(samples: Samples, { standbyTotals }: RelayStatus): void {
  for (const method of AUTHENTICATION_METHODS) {
    for (const outcome of ['success', 'failure']) {
      const count = standbyTotals.authentications.get(`${method}|${outcome}`) ?? 0;
      const labels = labelText({ method, outcome });
      samples.add('client_authentications_total', labels, count);
    }
  }
}

/** What clients asked for and were refused, and what the console was told to change. */
export function addClientSamples(samples: Samples, status: RelayStatus): void {
  const { rejected, commands } = status.standbyTotals;
  for (const [reason, count] of Object.entries(rejected)) {
    samples.add('client_connections_rejected_total', withLabel(NO_LABELS, 'reason', reason), count);
  }
  const counts = new Map(COMMANDS.map((command) => [command, 0]));
  for (const [command, count] of commands) {
    const label = COMMANDS.includes(command) ? command : 'other';
    counts.set(label, (counts.get(label) ?? 0) + count);
  }
  for (const [command, count] of counts) {
    samples.add('client_commands_total', withLabel(NO_LABELS, 'command', command), count);
  }
  for (const [command, count] of status.adminCommands) {
    samples.add('admin_commands_total', withLabel(NO_LABELS, 'command', command), count);
  }
}
