// From the status of the parts to the JSON the API answers.
import { formatLsn, INVALID_LSN, lsnDistance, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { RelayStatus, StandbyStatus } from '../status/status.ts';
import type { StandbyJson, StatusJson, UpstreamJson } from './api-types.ts';

/** The whole answer of `/api/v1/status`. */
export function statusJson(status: RelayStatus): StatusJson {
  return {
    version: status.version,
    system_identifier: status.systemIdentifier,
    server_version: status.serverVersion,
    timeline: status.timeline,
    state: status.state,
    detail: status.detail,
    started_at: timeText(status.startedAtMs),
    upstream: upstreamJson(status),
    store: {
      oldest_lsn: lsnText(status.store.oldestLsn),
      flushed_lsn: lsnText(status.store.flushedLsn),
      size_bytes: status.store.sizeBytes,
      segments: status.store.segments,
    },
    sync: { synchronous_standby_names: '', satisfied: true },
    standbys: standbysJson(status),
  };
}

/** The answer of `/api/v1/standbys`, in the order of the sessions. */
export function standbysJson(status: RelayStatus): StandbyJson[] {
  const end = maxLsn(status.upstream.serverLsn, status.store.receivedLsn);
  return status.standbys.map((standby) => standbyJson(standby, end));
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
    reported: {
      write: lsnText(upstream.reported.writeLsn),
      flush: lsnText(upstream.reported.flushLsn),
      apply: lsnText(upstream.reported.applyLsn),
    },
    server_lsn: lsnText(upstream.serverLsn),
    lag_bytes: upstreamLagBytes(status),
    last_message_at: nullableTimeText(upstream.lastMessageAtMs),
  };
}

function standbyJson(standby: StandbyStatus, end: Lsn): StandbyJson {
  const confirmed = standby.applyLsn === INVALID_LSN ? standby.flushLsn : standby.applyLsn;
  return {
    pid: standby.pid,
    application_name: standby.applicationName,
    user: standby.user,
    client_addr: standby.clientAddr,
    client_port: standby.clientPort,
    state: standby.state,
    sync_state: 'async',
    sync_priority: 0,
    slot_name: standby.slotName,
    timeline: standby.timeline,
    sent_lsn: lsnText(standby.sentLsn),
    write_lsn: lsnText(standby.writeLsn),
    flush_lsn: lsnText(standby.flushLsn),
    replay_lsn: lsnText(standby.applyLsn),
    write_lag: lagSeconds(standby.writeLagSeconds),
    flush_lag: lagSeconds(standby.flushLagSeconds),
    replay_lag: lagSeconds(standby.applyLagSeconds),
    lag_bytes: lagBytes(confirmed, end),
    reply_time: nullableTimeText(standby.replyTimeMs),
    connected_at: timeText(standby.connectedAtMs),
    tls: false,
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
