// What the parts report about themselves: the types that http, console and metrics read. Plain data, made anew at
// each call; LSNs stay LSNs here and become text at the edge. Names follow pg_stat_replication and pg_stat_wal_receiver.
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { CertificateStatus } from './certificate.ts';

/** State of the whole relay, as `GET /api/v1/status` names it. */
export const RELAY_STATES = [
  'starting',
  'connecting',
  'catchup',
  'streaming',
  'waiting',
  'paused',
  'full',
  'gap',
  'diverged',
  'corrupt',
  'draining',
  'failed',
] as const;
export type RelayState = (typeof RELAY_STATES)[number];

/** Why an upstream stream ended; log field, metric label and API value alike. */
export const UPSTREAM_DISCONNECT_REASONS = [
  'eof',
  'timeout',
  'error',
  'reload',
  'shutdown',
  'timeline_end',
] as const;
export type UpstreamDisconnectReason = (typeof UPSTREAM_DISCONNECT_REASONS)[number];

/** Why a standby's session ended; log field, metric label and API value alike. */
export const STANDBY_DISCONNECT_REASONS = [
  'client',
  'timeout',
  'error',
  'wal_removed',
  'drain',
  'admin',
  'timeline',
] as const;
export type StandbyDisconnectReason = (typeof STANDBY_DISCONNECT_REASONS)[number];

/**
 * How the connection of a standby that left ended, as seen from here. `terminated`: it said goodbye (a stop of its server,
 * a promotion, an error of its own, WAL it cannot use). `closed`: without a word, by its kernel. `reset`: by its kernel or
 * by something between. `timeout`: it fell silent. `ended`: by walcast.
 */
export const STANDBY_DEPARTURES = ['terminated', 'closed', 'reset', 'timeout', 'ended'] as const;
export type StandbyDeparture = (typeof STANDBY_DEPARTURES)[number];

/** States of a walsender, letter for letter those of pg_stat_replication. */
export const WALSENDER_STATES = ['startup', 'backup', 'catchup', 'streaming', 'stopping'] as const;
export type WalSenderState = (typeof WALSENDER_STATES)[number];

/** What a standby counts for under synchronous_standby_names, letter for letter as in pg_stat_replication. */
export const SYNC_STATES = ['async', 'potential', 'sync', 'quorum'] as const;
export type SyncState = (typeof SYNC_STATES)[number];

/** Positions as last reported upstream; INVALID_LSN = not offered. */
export interface ReportedPositions {
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
}

/** The upstream session. `host` is the host of the list in use, a directory for a Unix socket. */
export interface UpstreamStatus {
  readonly host: string | null;
  readonly port: number | null;
  readonly slot: string | null;
  readonly state: 'disconnected' | 'connecting' | 'catchup' | 'streaming' | 'waiting_for_wal';
  /** One of the relay states when the session stands for a reason (`waiting`, `gap`, `diverged`, `corrupt`, `full`, `failed`), else null. */
  readonly heldState: RelayState | null;
  /** One sentence for people: why it is not streaming, and what to do; null when all is well. */
  readonly detail: string | null;
  readonly systemIdentifier: string | null;
  readonly serverVersion: string | null;
  /** `TLSv1.3`; null while there is no connection, or one without TLS. */
  readonly tlsVersion: string | null;
  /** Milliseconds since the Unix epoch at which our client certificate expires; null when none is sent. */
  readonly clientCertificateExpiresAtMs: number | null;
  readonly timeline: TimelineId | null;
  /** End of WAL the server last reported; INVALID_LSN when never heard. */
  readonly serverLsn: Lsn;
  readonly reported: ReportedPositions;
  /** Milliseconds since the Unix epoch of the last message; null before the first. */
  readonly lastMessageAtMs: number | null;
  readonly connectsSucceeded: number;
  readonly connectsFailed: number;
  readonly disconnects: Readonly<Record<UpstreamDisconnectReason, number>>;
  /** Times the store went on with another timeline of the upstream: failovers seen. */
  readonly timelineSwitches: number;
  readonly receivedBytes: number;
  readonly walMessages: number;
  readonly keepaliveMessages: number;
  /** Null: the hosts of the connection string are all there are. */
  readonly discovery: DiscoveryStatus | null;
  /** Slots on hosts that were followed before: they keep all WAL there. */
  readonly leftSlots: readonly LeftSlotStatus[];
}

/** A slot for walcast on a host that is not followed now. */
export interface LeftSlotStatus {
  readonly host: string;
  readonly port: number;
  readonly slot: string;
  /** walcast made it, and drops it when the host is reached; another one is a person's to drop. */
  readonly isOurs: boolean;
}

/** A server that discovery knows. */
export interface DiscoveredMember {
  readonly name: string;
  /** `primary` and `standby_leader` hold the leader lock. */
  readonly role: 'primary' | 'standby_leader' | 'standby';
  /** In the words of who was asked; empty when it said nothing. */
  readonly state: string;
  /** What it is worth as an upstream: wanted, as good as any other, on an older timeline than the leader, not running. */
  readonly rank: 'preferred' | 'other' | 'behind' | 'down';
  readonly host: string;
  readonly port: number;
  readonly timeline: TimelineId | null;
  /** Bytes behind the leader when it was last looked; null for the leader and where it is unknown. */
  readonly lagBytes: number | null;
  readonly zone: string | null;
}

/** Where the upstream's hosts come from, when not from the connection string. */
export interface DiscoveryStatus {
  readonly source: 'patroni';
  /** Name of the cluster; null when it was not told. */
  readonly scope: string | null;
  /** Of the last good answer, milliseconds since the Unix epoch; null before the first. */
  readonly lastAnswerAtMs: number | null;
  /** The URL that gave it. */
  readonly lastAnswerFrom: string | null;
  /** Why the last round of all URLs had no answer; null when it had one. */
  readonly lastError: string | null;
  /** In the order in which they are tried; empty: the hosts of the connection string count. */
  readonly members: readonly DiscoveredMember[];
}

/** True while WAL streams in from the upstream, caught up or not. */
export function isReceivingWal({ state }: Pick<UpstreamStatus, 'state'>): boolean {
  return state === 'streaming' || state === 'catchup';
}

/** A histogram kept as plain numbers in the hot path: counts per bucket (not cumulative; the last is +Inf). */
export interface DurationHistogram {
  readonly boundsSeconds: readonly number[];
  readonly counts: readonly number[];
  readonly sumSeconds: number;
}

/** How old the WAL is that comes from the upstream. */
export interface UpstreamDelay {
  /** Since when the oldest WAL is known to be there that our own disk does not have, in seconds; 0 when there is none. */
  readonly lagSeconds: number;
  /** From the sending of a message, by the server's clock, to its arrival, by ours. */
  readonly transit: DurationHistogram;
}

/** The WAL store. INVALID_LSN stands for "nothing stored". */
export interface StoreStatus {
  readonly timeline: TimelineId | null;
  readonly oldestLsn: Lsn;
  readonly receivedLsn: Lsn;
  readonly writtenLsn: Lsn;
  readonly flushedLsn: Lsn;
  readonly sizeBytes: number;
  readonly segments: number;
  readonly segmentsRemoved: number;
  readonly tailBytes: number;
  readonly tailBytesMax: number;
  readonly readFromMemoryBytes: number;
  readonly readFromDiskBytes: number;
  readonly rejectedFromUpstream: number;
  readonly rejectedFromDisk: number;
  readonly errors: Readonly<Record<'open' | 'write' | 'fsync' | 'read' | 'remove', number>>;
  readonly flushDuration: DurationHistogram;
  readonly writeDuration: DurationHistogram;
  readonly dead: DeadWalStatus;
}

/** WAL behind a switch point, kept aside in `dead/` until a person lets go of it. */
export interface DeadWalStatus {
  readonly files: number;
  readonly bytes: number;
  /** Null unless more had been reported upstream as flushed than the next timeline has. */
  readonly acknowledged: AcknowledgedBeyond | null;
}

/** WAL that was reported upstream as flushed, and that the next timeline does not have: its commits were told to be safe. */
export interface AcknowledgedBeyond {
  /** The timeline that was left. */
  readonly timeline: TimelineId;
  /** After a crash, which loses the newest of what is known here: up to where it may have been reported. */
  readonly reportedFlushLsn: Lsn;
  /** Where it was left: the first byte that is not on it any more. */
  readonly switchLsn: Lsn;
  /** From there to the reported position. */
  readonly bytes: number;
}

/**
 * From the upstream's sending to the standby's confirmation, in seconds: of what it confirmed last, or the age of the oldest
 * WAL that it has not confirmed, where that is more. 0 when it has everything and nothing came for a second; null where it
 * never reported a position. Never negative; the part of the way that every message of the upstream needs is left out.
 */
export interface EndToEndLag {
  readonly writeSeconds: number | null;
  readonly flushSeconds: number | null;
  readonly applySeconds: number | null;
}

/** One downstream session. Positions are INVALID_LSN when unknown; lags are seconds or null. */
export interface StandbyStatus {
  readonly pid: number;
  readonly applicationName: string;
  readonly user: string;
  /** Null for a Unix socket. */
  readonly clientAddr: string | null;
  readonly clientPort: number | null;
  /** `TLSv1.3`; null without TLS. */
  readonly tlsVersion: string | null;
  readonly state: WalSenderState;
  readonly slotName: string | null;
  readonly timeline: TimelineId | null;
  readonly sentLsn: Lsn;
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
  /** What it counts for in our own `synchronous_standby_names`, at this moment. */
  readonly syncState: SyncState;
  /** Its place in that list, from 1 on; 0 when it is not listed or has reported no flush position. */
  readonly syncPriority: number;
  /** From our sending to its confirmation, as in pg_stat_replication: null when idle. */
  readonly writeLagSeconds: number | null;
  readonly flushLagSeconds: number | null;
  readonly applyLagSeconds: number | null;
  readonly endToEndLag: EndToEndLag;
  /**
   * How long ago the last transaction was committed that it has replayed; 0 when no commit is known that it has not replayed,
   * null when that is not known.
   */
  readonly replayedCommitAgeSeconds: number | null;
  /** The client's own clock in its last reply, milliseconds since the Unix epoch. */
  readonly replyTimeMs: number | null;
  /** When we received the last reply, milliseconds since the Unix epoch. */
  readonly lastReplyAtMs: number | null;
  readonly connectedAtMs: number;
  /** Bytes of WAL given to the socket, without framing. */
  readonly sentBytes: number;
  readonly sendQueueBytes: number;
  readonly sendBlockedSeconds: number;
  readonly clampedReplies: number;
  /** Null: it has never sent any on this connection. */
  readonly feedback: StandbyFeedbackStatus | null;
  /** It has confirmed nothing more for a minute although there is more for it. */
  readonly isStalled: boolean;
  /** Other standbys stream under the same application_name, all of them alive. */
  readonly isNameShared: boolean;
}

/**
 * What one standby's feedback comes to. `none`: it holds nothing. `counted`: it is in the minimum. `too_old`: left out because
 * of `max_feedback_xmin_age`. `invalid`: its last message named an id that no server would take; what it said before
 * counts. `unknown`: it waits until the WAL has told the next transaction id.
 */
export const STANDBY_FEEDBACK_STATES = [
  'none',
  'counted',
  'too_old',
  'invalid',
  'unknown',
] as const;
export type StandbyFeedbackState = (typeof STANDBY_FEEDBACK_STATES)[number];

/** Hot standby feedback of one standby; full transaction ids (epoch in the upper 32 bits), null = none. */
export interface StandbyFeedbackStatus {
  readonly xmin: bigint | null;
  readonly catalogXmin: bigint | null;
  readonly state: StandbyFeedbackState;
  /** How many transaction ids the older one lies behind the next one; null when it holds none or the next one is not known. */
  readonly xminAge: number | null;
}

/** Hot standby feedback of all standbys and slots together. Full transaction ids, null = none. */
export interface FeedbackStatus {
  /** `upstream.hot_standby_feedback` */
  readonly isOn: boolean;
  /** The minima as they were last sent upstream; null also before anything was. */
  readonly xmin: bigint | null;
  readonly catalogXmin: bigint | null;
  /** When, milliseconds since the Unix epoch; null before anything was sent. */
  readonly sentAtMs: number | null;
  /** The next transaction id as the WAL tells it; null while it does not, and nothing is sent. */
  readonly nextXid: bigint | null;
  /** application_name or slot whose xmin, or else catalog_xmin, is the minimum of this moment; null when nobody holds any. */
  readonly heldBy: string | null;
  /** Messages that named an id in the future, or one too far in the past, since the start. */
  readonly ignored: Readonly<Record<'future' | 'past', number>>;
  /** Standbys and slots that are left out at this moment because of `max_feedback_xmin_age`. */
  readonly leftOut: number;
}

/** A standby that streamed, left, and is not back. Positions as it reported them last. */
export interface AbsentStandbyStatus {
  readonly applicationName: string;
  readonly user: string;
  /** Null for a Unix socket. */
  readonly clientAddr: string | null;
  readonly slotName: string | null;
  readonly timeline: TimelineId | null;
  readonly sentLsn: Lsn;
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
  /** Milliseconds since the Unix epoch. */
  readonly leftAtMs: number;
  readonly reason: StandbyDisconnectReason;
  readonly how: StandbyDeparture;
  /**
   * It said goodbye with WAL that it had received and not replayed, and is not back: its recovery may have found a record
   * wrong, and then it does not come back by itself. A server stopped while it replays looks the same.
   */
  readonly isMaybeWedged: boolean;
}

/** Counters of all downstream sessions since the start. */
export interface StandbyTotals {
  readonly connectionsMax: number;
  readonly disconnects: Readonly<Record<StandbyDisconnectReason, number>>;
  readonly rejected: Readonly<
    Record<'hba' | 'auth' | 'limit' | 'draining' | 'protocol' | 'tls', number>
  >;
  /** START_REPLICATION accepted, per application_name. */
  readonly connects: ReadonlyMap<string, number>;
  readonly commands: ReadonlyMap<string, number>;
  /** Clients that had to prove who they are, or did not have to (`trust`): by `method|outcome`, success or failure. */
  readonly authentications: ReadonlyMap<string, number>;
  /** How often a standby stalled. */
  readonly stalls: number;
  /** How often a standby was given the slot that its own dead connection held. */
  readonly takeovers: number;
}

/** A replication slot kept by walcast. */
export interface SlotStatus {
  readonly name: string;
  readonly temporary: boolean;
  readonly activePid: number | null;
  /** INVALID_LSN when it reserves no WAL yet, or was lost. */
  readonly restartLsn: Lsn;
  /** What its standby's feedback holds, full transaction ids; null = none. */
  readonly xmin: bigint | null;
  readonly catalogXmin: bigint | null;
  /** When it was last used, or loaded at our start, milliseconds since the Unix epoch; null while it is in use. */
  readonly inactiveSinceMs: number | null;
  readonly walStatus: 'reserved' | 'extended' | 'unreserved' | 'lost' | null;
  /** Bytes that may be written before it is lost; null for a lost one, and where nothing bounds what slots keep. */
  readonly safeWalSize: number | null;
  /** Why it was lost, in PostgreSQL's words; null for one that is not. */
  readonly invalidationReason: 'wal_removed' | 'idle_timeout' | null;
}

/** What bounds the WAL that is kept, and how near the bound is. */
export interface RetentionStatus {
  /** storage.quota, or what max_slot_wal_keep_size and wal_keep_size come to; 0 = no bound. */
  readonly limitBytes: number;
  /** True from 80 % of the limit on. */
  readonly isNearLimit: boolean;
  /** Segments removed, of all that were, because of a bound on what slots keep. */
  readonly segmentsRemovedByLimit: number;
  /** The others: nobody needed them any more. Both are counted when it is decided, a moment before the files go. */
  readonly segmentsRemovedUnneeded: number;
  /** Slots lost since the start, by reason. */
  readonly slotsInvalidated: Readonly<Record<'wal_removed' | 'idle_timeout', number>>;
}

/** WAL older than the store, read through from the upstream for standbys. */
export interface ReadThroughStatus {
  /** Connections to the upstream that are open for it. */
  readonly connections: number;
  readonly connectionsMax: number;
  /** Bytes of WAL handed to standbys in this way since the start. */
  readonly bytes: number;
  /** Stored segments that were damaged and fetched again in this way, and failures to do so, since the start. */
  readonly repairedSegments: number;
  readonly failedRepairs: number;
}

/** What the upstream's own `synchronous_standby_names` means for us. */
export interface UpstreamSyncNames {
  /** As SHOW printed it. */
  readonly synchronousStandbyNames: string;
  /** How our application_name is listed there: by its name, by `*`, or not at all. */
  readonly membership: 'named' | 'any' | 'none';
  /** When it was asked, milliseconds since the Unix epoch. It may have been reloaded since. */
  readonly asOfMs: number;
}

/** Which standbys have to confirm before we do, and whether they can. */
export interface SyncStatus {
  /** The policy in effect, as it was written; empty: our own disk is enough. */
  readonly synchronousStandbyNames: string;
  /** `priority` is FIRST, `quorum` is ANY; null without a policy. */
  readonly method: 'priority' | 'quorum' | null;
  /** The names that it lists, without `*`. */
  readonly names: readonly string[];
  /** How many have to confirm; 0 without a policy. */
  readonly requiredStandbys: number;
  /** How many standbys stream, are listed and have reported a flush position. */
  readonly eligibleStandbys: number;
  /** Enough of them are there. True without a policy. */
  readonly isSatisfied: boolean;
  /** What the chosen ones have confirmed; without a policy our own ends. INVALID_LSN while too few are there. */
  readonly confirmed: ReportedPositions;
  /** How often it has become satisfied, or not satisfied, since the start. */
  readonly changes: number;
  /** Since when it is as it is, milliseconds since the Unix epoch. */
  readonly sinceMs: number;
  /** How long too few were there since the start, all in all. */
  readonly unsatisfiedSeconds: number;
  /** From the arrival of WAL to the moment it may be reported as flushed: our share of the time of a commit. */
  readonly confirmDuration: DurationHistogram;
  /** Null until an upstream was asked, and where it does not say. */
  readonly upstream: UpstreamSyncNames | null;
  /** Why our application_name may satisfy commits that wait for somebody else; null when it cannot. */
  readonly clash: string | null;
  /** What a person has to look at now, a sentence each. */
  readonly alarms: readonly string[];
}

/** The configuration in effect. */
export interface ConfigurationStatus {
  /** False after a reload that was refused, until one succeeds. */
  readonly isLastReloadGood: boolean;
  /** When what is in effect was loaded, milliseconds since the Unix epoch. */
  readonly loadedAtMs: number;
  /** Paths of keys whose new value takes effect at a restart. */
  readonly pendingRestart: readonly string[];
  /** Why files with secrets that were changed are not in effect: what they held before is. Holds no secret. */
  readonly secretProblems: readonly string[];
}

/** Everything, taken at one instant. */
export interface RelayStatus {
  readonly version: string;
  readonly state: RelayState;
  readonly detail: string | null;
  readonly startedAtMs: number;
  readonly isReady: boolean;
  readonly isDraining: boolean;
  /** No new START_REPLICATION is taken; streams that run go on. */
  readonly isPaused: boolean;
  readonly systemIdentifier: string | null;
  readonly serverVersion: string | null;
  readonly timeline: TimelineId | null;
  readonly upstream: UpstreamStatus;
  readonly upstreamDelay: UpstreamDelay;
  readonly store: StoreStatus;
  readonly standbys: readonly StandbyStatus[];
  /** The one that left last first. */
  readonly absentStandbys: readonly AbsentStandbyStatus[];
  readonly standbyTotals: StandbyTotals;
  readonly slots: readonly SlotStatus[];
  readonly retention: RetentionStatus;
  readonly readThrough: ReadThroughStatus;
  readonly sync: SyncStatus;
  readonly feedback: FeedbackStatus;
  readonly configuration: ConfigurationStatus;
  /** Those that we show to others; in no order. */
  readonly certificates: readonly CertificateStatus[];
}

/** Where http, console and metrics read from. */
export interface StatusSource {
  status(): RelayStatus;
}
