// What the parts report about themselves: the types that http, console and metrics read. Plain data, made anew at
// each call; LSNs stay LSNs here and become text at the edge. Names follow pg_stat_replication and pg_stat_wal_receiver.
import type { TimelineId } from '../pg/timeline.ts';
import type { AdminCommandCounts } from './admin-commands.ts';
import type { CertificateStatus } from './certificate.ts';
import type { DurationHistogram, RelayState, ReportedPositions } from './relay-state.ts';
import type {
  AbsentStandbyStatus,
  FeedbackStatus,
  StandbyStatus,
  StandbyTotals,
} from './standby-status.ts';
import type {
  FilesystemStatus,
  ReadThroughStatus,
  RetentionStatus,
  SlotStatus,
  StoreStatus,
} from './store-status.ts';
import type { UpstreamDelay, UpstreamStatus, UpstreamSyncNames } from './upstream-status.ts';

export * from './relay-state.ts';
export * from './upstream-status.ts';
export * from './store-status.ts';
export * from './standby-status.ts';
export * from './admin-commands.ts';

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
  /** Why the last one was refused, a line each as a start would print it, bounded; empty when it was not. Holds no secret. */
  readonly problems: readonly string[];
  /** When it was refused, milliseconds since the Unix epoch; null when it was not. */
  readonly refusedAtMs: number | null;
  /** Since the start. What is tried again with the same mistakes, unasked, is not counted again. */
  readonly reloads: { readonly success: number; readonly failure: number };
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
  /** As of a few seconds ago; null when it is not known, as where the file system does not answer. */
  readonly filesystem: FilesystemStatus | null;
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
  /** Commands of the console that change something, by whoever gave them; every one is there from the start. */
  readonly adminCommands: AdminCommandCounts;
  /** Those that we show to others; in no order. */
  readonly certificates: readonly CertificateStatus[];
}

/** Where http, console and metrics read from. */
export interface StatusSource {
  status(): RelayStatus;
}
