// What the sessions of standbys report about themselves. Names follow pg_stat_replication.
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';

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
  /** Bytes of WAL given to the socket, without framing, in all streams of the connection. */
  readonly sentBytes: number;
  readonly sendQueueBytes: number;
  /** In all streams of the connection. */
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

/** What a session, or several, has done over all of its streams. */
export interface SentTotals {
  /** Bytes of WAL given to the socket, without framing. */
  readonly sentBytes: number;
  /** How long the socket did not take what was written. */
  readonly blockedSeconds: number;
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
  /** What sessions that are over have sent, under the names of `connects`; those that are there count besides. */
  readonly sentByEnded: ReadonlyMap<string, SentTotals>;
  readonly commands: ReadonlyMap<string, number>;
  /** Clients that had to prove who they are, or did not have to (`trust`): by `method|outcome`, success or failure. */
  readonly authentications: ReadonlyMap<string, number>;
  /** WAL sent, by where it came from; what is read through from the upstream is counted there. */
  readonly sentBytes: Readonly<Record<'memory' | 'disk', number>>;
  /** How often a standby stalled. */
  readonly stalls: number;
  /** How often a standby was given the slot that its own dead connection held. */
  readonly takeovers: number;
}
