// What the JSON API answers, field by field. LSNs are text (`0/1763E00`), unknown is null, times are ISO 8601 UTC.
import type { Finding } from '../health/finding.ts';
import type { ConfigEntry } from '../status/actions.ts';
import type {
  RelayState,
  RetentionStatus,
  SlotStatus,
  StandbyDeparture,
  StandbyDisconnectReason,
  StandbyFeedbackState,
  StoreStatus,
  SyncState,
  SyncStatus,
  UpstreamStatus,
  UpstreamSyncNames,
  WalSenderState,
} from '../status/status.ts';
import type { AccessJson } from './access-json.ts';
import type { ConfigurationJson } from './configuration-json.ts';

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

/** `GET /api/v1/upstream`: the session, and what it has been through since the start. */
export interface UpstreamDetailJson extends UpstreamJson {
  readonly system_identifier: string | null;
  readonly server_version: string | null;
  readonly timeline: number | null;
  readonly tls: boolean;
  /** `TLSv1.3`; null without TLS. */
  readonly tls_version: string | null;
  readonly client_certificate_expires_at: string | null;
  /**
   * Age of the oldest WAL that is known to be there and that our own disk does not have; 0 when it has everything, null
   * while one of the two is unknown.
   */
  readonly lag_seconds: number | null;
  readonly received_bytes: number;
  readonly messages: { readonly wal: number; readonly keepalive: number };
  readonly connects: { readonly success: number; readonly failure: number };
  readonly disconnects: UpstreamStatus['disconnects'];
  /** Null: the hosts of the connection string are all there are. */
  readonly discovery: DiscoveryJson | null;
  /** Slots on hosts that were followed before and are not now: they keep all WAL there. */
  readonly left_slots: readonly LeftSlotJson[];
}

/** A slot for walcast on a host that is not followed now. */
export interface LeftSlotJson {
  readonly host: string;
  readonly port: number;
  readonly slot: string;
  /** walcast made it, and drops it when the host is reached; another one is a person's to drop. */
  readonly is_dropped_by_walcast: boolean;
}

/** Where the upstream's hosts come from. */
export interface DiscoveryJson {
  readonly source: 'patroni';
  readonly scope: string | null;
  readonly last_answer_at: string | null;
  readonly last_answer_from: string | null;
  /** Why the last round of all URLs had no answer; null when it had one. */
  readonly last_error: string | null;
  /** In the order in which they are tried. */
  readonly members: readonly DiscoveredMemberJson[];
}

/** A server that Patroni names, with Patroni's names for what it says. */
export interface DiscoveredMemberJson {
  readonly name: string;
  readonly role: 'primary' | 'standby_leader' | 'standby';
  readonly state: string;
  readonly rank: 'preferred' | 'other' | 'behind' | 'down';
  readonly host: string;
  readonly port: number;
  readonly timeline: number | null;
  /** Bytes behind the leader, when Patroni last looked. */
  readonly lag: number | null;
  readonly zone: string | null;
}

/** The WAL store. */
export interface StoreJson {
  readonly oldest_lsn: string | null;
  readonly flushed_lsn: string | null;
  readonly size_bytes: number;
  readonly segments: number;
  /** storage.quota, or what max_slot_wal_keep_size and wal_keep_size come to; null without a bound. */
  readonly limit_bytes: number | null;
  /** True from 80 % of it on. */
  readonly near_limit: boolean;
}

/** WAL from behind a switch point, kept aside; or what was let go of it. */
export interface DeadWalJson {
  readonly files: number;
  readonly bytes: number;
  /** Null unless more had been reported upstream as flushed than the next timeline has. */
  readonly acknowledged: {
    /** The timeline that was left, and where. */
    readonly timeline: number;
    readonly switch_lsn: string | null;
    readonly reported_flush_lsn: string | null;
    readonly bytes: number;
  } | null;
}

/** `GET /api/v1/store`. */
export interface StoreDetailJson extends StoreJson {
  readonly timeline: number | null;
  readonly received_lsn: string | null;
  readonly written_lsn: string | null;
  readonly segments_removed: number;
  /** Of those, removed because of the limit: some slot was lost, or the window was cut. */
  readonly segments_removed_by_limit: number;
  /** Slots lost since the start, by reason. */
  readonly slots_invalidated: RetentionStatus['slotsInvalidated'];
  /** WAL kept in memory, and at most. */
  readonly memory_bytes: number;
  readonly memory_bytes_max: number;
  /** Where WAL that was sent came from. */
  readonly read_bytes: {
    readonly memory: number;
    readonly disk: number;
    readonly upstream: number;
  };
  /** WAL that failed its checks, by where it came from. */
  readonly rejected: { readonly upstream: number; readonly disk: number };
  readonly errors: StoreStatus['errors'];
  /** Connections to the upstream for WAL that is older than the store. */
  readonly read_through: { readonly connections: number; readonly connections_max: number };
  /** Segments damaged on disk: fetched again from the upstream, or not. */
  readonly repairs: { readonly repaired: number; readonly failed: number };
  readonly dead: DeadWalJson;
  /** Of the file system of the store, as of a few seconds ago; null when it is not known. */
  readonly free_bytes: number | null;
  readonly disk_bytes: number | null;
}

/** One replication slot kept by walcast; columns as in pg_replication_slots. */
export interface SlotJson {
  readonly slot_name: string;
  readonly slot_type: 'physical';
  readonly temporary: boolean;
  readonly active: boolean;
  readonly active_pid: number | null;
  /** What its standby's feedback holds, here and upstream: full transaction ids, the epoch in the upper 32 bits. */
  readonly xmin: string | null;
  readonly catalog_xmin: string | null;
  readonly restart_lsn: string | null;
  readonly wal_status: SlotStatus['walStatus'];
  /** Bytes that may be written before it is lost; negative when that may be at any time. Null for a lost one, and without a bound. */
  readonly safe_wal_size: number | null;
  /** Why it was lost. */
  readonly invalidation_reason: SlotStatus['invalidationReason'];
  readonly inactive_since: string | null;
  /** From restart_lsn to the end of what was received; null for a slot that reserves nothing, or was lost. */
  readonly retained_bytes: number | null;
}

/** Body of `POST /api/v1/slots`; options as in CREATE_REPLICATION_SLOT. */
export interface SlotRequestJson {
  readonly name: string;
  /** Keep WAL from now on, not only from the first use on. */
  readonly reserve_wal?: boolean;
}

/** One key of `GET /api/v1/config`. */
export interface ConfigEntryJson {
  readonly key: string;
  /** Secrets are masked; null = not set. */
  readonly value: string | null;
  readonly default: string | null;
  readonly origin: ConfigEntry['origin'];
  /** `walcast.yaml:12:3`, `WALCAST_LISTEN`, `--listen`; null for a default. */
  readonly place: string | null;
  readonly reloadable: boolean;
  readonly pending_restart: boolean;
}

/** `POST /api/v1/reload` that was accepted: paths of keys. */
export interface ReloadJson {
  readonly changed: readonly string[];
  readonly pending_restart: readonly string[];
}

/** `POST /api/v1/drain`. */
export interface DrainJson {
  readonly state: 'draining';
}

/** `POST /api/v1/pause` and `/resume`. */
export interface PauseJson {
  readonly paused: boolean;
}

/** Which standbys have to confirm before walcast does, and whether they can. */
export interface SyncJson {
  /** The policy as it was written; empty: our own disk is enough. */
  readonly synchronous_standby_names: string;
  /** `priority` is FIRST, `quorum` is ANY; null without a policy. */
  readonly method: SyncStatus['method'];
  /** How many have to confirm, and how many are there that count. */
  readonly required_standbys: number;
  readonly eligible_standbys: number;
  /** Enough are there; true without a policy. */
  readonly satisfied: boolean;
  /** Since when that is so, how often it changed, and how long there were too few, all in all. */
  readonly since: string | null;
  readonly changes: number;
  readonly unsatisfied_seconds: number;
  /** What the chosen ones have confirmed; without a policy our own ends. */
  readonly confirmed: ReportedJson;
  /** What the upstream was told last. */
  readonly reported: ReportedJson;
  /** The upstream's own `synchronous_standby_names`, as of the last connect; null where it does not say. */
  readonly upstream: {
    readonly synchronous_standby_names: string;
    /** How our application_name is listed there: by its name, by `*`, or not at all. */
    readonly membership: UpstreamSyncNames['membership'];
    readonly as_of: string | null;
  } | null;
  /** Why our application_name may satisfy commits that wait for somebody else. */
  readonly clash: string | null;
  /** What a person has to look at now, a sentence each. */
  readonly alarms: readonly string[];
}

/** Hot standby feedback of all standbys and slots together. Full transaction ids as text; null = none. */
export interface FeedbackJson {
  readonly hot_standby_feedback: boolean;
  /** As the upstream was told last, and when. */
  readonly xmin: string | null;
  readonly catalog_xmin: string | null;
  readonly sent_at: string | null;
  /** As the WAL tells it; null while it does not, and then nothing is sent. */
  readonly next_xid: string | null;
  /** application_name or slot that holds the upstream back furthest. */
  readonly held_by: string | null;
  /** Messages since the start that named an id in the future, or one too far in the past. */
  readonly ignored: { readonly future: number; readonly past: number };
  /** Standbys and slots left out now because of max_feedback_xmin_age. */
  readonly left_out: number;
}

/** Hot standby feedback of one standby. */
export interface StandbyFeedbackJson {
  readonly xmin: string | null;
  readonly catalog_xmin: string | null;
  readonly state: StandbyFeedbackState;
  /** Transaction ids from the older one to the next one. */
  readonly xmin_age: number | null;
}

/** One connected standby; columns as in pg_stat_replication, lags in seconds. */
export interface StandbyJson {
  readonly pid: number;
  readonly application_name: string;
  readonly user: string;
  readonly client_addr: string | null;
  readonly client_port: number | null;
  readonly state: WalSenderState;
  readonly sync_state: SyncState;
  /** Its place in synchronous_standby_names; 0 when it is not listed or has reported no flush position. */
  readonly sync_priority: number;
  readonly slot_name: string | null;
  readonly timeline: number | null;
  readonly sent_lsn: string | null;
  readonly write_lsn: string | null;
  readonly flush_lsn: string | null;
  readonly replay_lsn: string | null;
  /**
   * End to end: from the upstream's sending to its confirmation. 0 when it has everything and is idle; null where it never
   * reported that position.
   */
  readonly write_lag: number | null;
  readonly flush_lag: number | null;
  readonly replay_lag: number | null;
  /** From our sending to its confirmation, as pg_stat_replication has them: null when idle. */
  readonly hop_write_lag: number | null;
  readonly hop_flush_lag: number | null;
  readonly hop_replay_lag: number | null;
  /** How long ago the last transaction was committed that it has replayed; 0 when it has replayed all there are, null: unknown. */
  readonly replayed_commit_age: number | null;
  /**
   * End to end: the upstream's end of WAL minus replay_lsn; minus flush_lsn for a receiver that does not replay, write_lsn
   * for one that reports no flush either.
   */
  readonly lag_bytes: number | null;
  /** The same from what walcast has received: how much of it is on the way between the two. */
  readonly hop_lag_bytes: number | null;
  /** Null: it has sent no hot standby feedback. */
  readonly feedback: StandbyFeedbackJson | null;
  /** Replies that claimed more than it had been sent; the claim counts up to that. */
  readonly clamped_replies: number;
  readonly reply_time: string | null;
  readonly connected_at: string;
  /** WAL given to its socket on this connection. */
  readonly sent_bytes: number;
  readonly tls: boolean;
  /** `TLSv1.3`; null without TLS. */
  readonly tls_version: string | null;
  /** It has confirmed nothing more for a minute although there is more WAL for it. */
  readonly stalled: boolean;
  /** Other standbys stream under the same application_name. */
  readonly name_shared: boolean;
}

/** A standby that streamed, left, and is not back; positions as it reported them last. */
export interface AbsentStandbyJson {
  readonly application_name: string;
  readonly user: string;
  readonly client_addr: string | null;
  readonly slot_name: string | null;
  /**
   * `wedged?`: it said goodbye with WAL that it had received and not replayed, and is not back after a minute. Its recovery
   * may have met a record that is wrong: see its log, restart it. A server that was stopped while it replayed looks the same.
   */
  readonly state: 'away' | 'wedged?';
  /** What was seen of its going: it said goodbye, its connection closed without a word, …, or walcast ended it. */
  readonly how: StandbyDeparture;
  /** Why its last session ended, as it is counted. */
  readonly reason: StandbyDisconnectReason;
  readonly left_at: string;
  readonly timeline: number | null;
  readonly sent_lsn: string | null;
  readonly write_lsn: string | null;
  readonly flush_lsn: string | null;
  readonly replay_lsn: string | null;
}

/** `GET /api/v1/status`. */
export interface StatusJson {
  readonly version: string;
  readonly system_identifier: string | null;
  readonly server_version: string | null;
  readonly timeline: number | null;
  readonly state: RelayState;
  readonly detail: string | null;
  /** No new replication is started; also where `state` says something weightier. */
  readonly paused: boolean;
  readonly started_at: string;
  readonly upstream: UpstreamJson;
  readonly store: StoreJson;
  readonly sync: SyncJson;
  readonly feedback: FeedbackJson;
  readonly standbys: readonly StandbyJson[];
  /** The one that left last first; forgotten after a week, and when the slot is dropped. */
  readonly absent_standbys: readonly AbsentStandbyJson[];
  /** Since the start: standbys that stalled, and that took their slot over from a dead connection of their own. */
  readonly standby_events: { readonly stalls: number; readonly takeovers: number };
  /** Who may come in, and who tried. */
  readonly access: AccessJson;
  readonly configuration: ConfigurationJson;
  /** What is the matter, worst first; empty when all is well. */
  readonly findings: readonly FindingJson[];
}

/** One thing that is the matter, and what to do about it. */
export interface FindingJson {
  readonly code: string;
  readonly severity: Finding['severity'];
  /** Standby, slot, role of a certificate …; null: the relay as a whole. */
  readonly subject: string | null;
  readonly message: string;
  /** What to do next, one sentence. */
  readonly next_step: string;
  /** The alert of the same meaning; its page is docs/runbooks/ALERT.md. */
  readonly alert: string | null;
}

/** `GET /api/v1/log`, and the answer of a change: what each component writes. */
export interface LogLevelJson {
  /** `default`: every component without a level of its own. */
  readonly component: string;
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly origin: 'runtime' | 'configuration' | 'default';
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

/** Answer of `GET /standbys`: a probe, and who qualifies. */
export interface StandbyCheckJson extends ProbeJson {
  readonly min: number;
  readonly qualifying: number;
  /** application_names, the least behind first; not all of them where there are very many. */
  readonly standbys: readonly string[];
}

/** Every answer that is no success, as `application/problem+json` (RFC 9457). */
export interface ProblemJson {
  /** `urn:walcast:problem:CODE`: what kind of problem, for programs. */
  readonly type: string;
  /** The kind, in words; the same for each of its kind. */
  readonly title: string;
  /** The status code of the answer. */
  readonly status: number;
  /** What happened this time, to whom. */
  readonly detail: string;
  /** What to do next. */
  readonly hint: string;
  /** Where PostgreSQL has one for it. */
  readonly sqlstate?: string;
  /** Lines of a configuration that was refused. */
  readonly problems?: readonly string[];
}
