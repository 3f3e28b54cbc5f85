// What the session to the upstream reports about itself.
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { DurationHistogram, RelayState, ReportedPositions } from './relay-state.ts';

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

/** The stream that runs, in the words of pg_stat_wal_receiver. Times by the server's clock, milliseconds since the Unix epoch. */
export interface UpstreamStreamStatus {
  /** Where it began. */
  readonly startLsn: Lsn;
  readonly startTimeline: TimelineId;
  /** When the server says it sent its last message; null before the first. */
  readonly lastSendAtMs: number | null;
  /** End of WAL in that message; INVALID_LSN before the first. */
  readonly latestEndLsn: Lsn;
  /** When the server sent the first message that named a higher end than those before it; null before the first message. */
  readonly latestEndAtMs: number | null;
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
  /** Null while no WAL streams in. */
  readonly stream: UpstreamStreamStatus | null;
  /** Milliseconds since the Unix epoch of the last message; null before the first. */
  readonly lastMessageAtMs: number | null;
  /** The same of the last message of a stream: who refuses us at each attempt says something, too. Null before the first. */
  readonly lastStreamedAtMs: number | null;
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

/** How old the WAL is that comes from the upstream. */
export interface UpstreamDelay {
  /** Since when the oldest WAL is known to be there that our own disk does not have, in seconds; 0 when there is none. */
  readonly lagSeconds: number;
  /** From the sending of a message, by the server's clock, to its arrival, by ours. */
  readonly transit: DurationHistogram;
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
