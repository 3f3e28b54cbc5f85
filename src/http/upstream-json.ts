// The session to the upstream as the API shows it.
import type { DiscoveryStatus, RelayStatus } from '../status/status.ts';
import type { DiscoveryJson, UpstreamDetailJson, UpstreamJson } from './api-types.ts';
import { lagBytes, lagSeconds, lsnText, nullableTimeText, reportedJson } from './json-words.ts';

/** As in the status. */
export function upstreamJson(status: RelayStatus): UpstreamJson {
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

/** Bytes of WAL the upstream is known to have and our own disk has not; null while one of the two is unknown. */
export function upstreamLagBytes(status: RelayStatus): number | null {
  return lagBytes(status.store.flushedLsn, status.upstream.serverLsn);
}
