// What the JSON API answers, field by field. LSNs are text (`0/1763E00`), unknown is null, times are ISO 8601 UTC.
import type { RelayState, WalSenderState } from '../status/status.ts';

/** Positions as last reported to the upstream; null = not offered. */
export interface ReportedJson {
  readonly write: string | null;
  readonly flush: string | null;
  readonly apply: string | null;
}

/** The session to the upstream server. */
export interface UpstreamJson {
  readonly host: string | null;
  readonly port: number | null;
  readonly slot: string | null;
  readonly state: string;
  /** One sentence when it is not streaming: why, and what to do. */
  readonly detail: string | null;
  readonly received_lsn: string | null;
  readonly written_lsn: string | null;
  readonly flushed_lsn: string | null;
  readonly reported: ReportedJson;
  readonly server_lsn: string | null;
  /** server_lsn minus flushed_lsn. */
  readonly lag_bytes: number | null;
  readonly last_message_at: string | null;
}

/** The WAL store. */
export interface StoreJson {
  readonly oldest_lsn: string | null;
  readonly flushed_lsn: string | null;
  readonly size_bytes: number;
  readonly segments: number;
}

/** The acknowledgement policy over the standbys. */
export interface SyncJson {
  readonly synchronous_standby_names: string;
  readonly satisfied: boolean;
}

/** One connected standby; columns as in pg_stat_replication, lags in seconds. */
export interface StandbyJson {
  readonly pid: number;
  readonly application_name: string;
  readonly user: string;
  readonly client_addr: string | null;
  readonly client_port: number | null;
  readonly state: WalSenderState;
  readonly sync_state: 'async';
  readonly sync_priority: number;
  readonly slot_name: string | null;
  readonly timeline: number | null;
  readonly sent_lsn: string | null;
  readonly write_lsn: string | null;
  readonly flush_lsn: string | null;
  readonly replay_lsn: string | null;
  readonly write_lag: number | null;
  readonly flush_lag: number | null;
  readonly replay_lag: number | null;
  /** End to end: the upstream's end of WAL minus replay_lsn, or minus flush_lsn for a receiver that does not replay. */
  readonly lag_bytes: number | null;
  readonly reply_time: string | null;
  readonly connected_at: string;
  readonly tls: boolean;
}

/** `GET /api/v1/status`. */
export interface StatusJson {
  readonly version: string;
  readonly system_identifier: string | null;
  readonly server_version: string | null;
  readonly timeline: number | null;
  readonly state: RelayState;
  readonly detail: string | null;
  readonly started_at: string;
  readonly upstream: UpstreamJson;
  readonly store: StoreJson;
  readonly sync: SyncJson;
  readonly standbys: readonly StandbyJson[];
}

/** `GET /api/v1/version`. */
export interface VersionJson {
  readonly version: string;
  readonly revision: string | null;
  readonly node_version: string;
  readonly postgresql_majors: readonly number[];
}

/** Answer of a probe. `reason` is null when all is well. */
export interface ProbeJson {
  readonly status: 'ok' | 'unavailable';
  readonly state: RelayState;
  readonly reason: string | null;
}

/** Every answer that is no success. */
export interface ErrorJson {
  readonly error: string;
}
