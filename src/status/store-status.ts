// What the WAL store and the slots report about themselves.
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { DurationHistogram } from './relay-state.ts';

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
  readonly rejectedFromUpstream: number;
  readonly rejectedFromDisk: number;
  readonly errors: Readonly<Record<'open' | 'write' | 'fsync' | 'read' | 'remove', number>>;
  readonly flushDuration: DurationHistogram;
  readonly writeDuration: DurationHistogram;
  readonly dead: DeadWalStatus;
}

/** The file system that the store is on. */
export interface FilesystemStatus {
  /** For a process without privileges. */
  readonly freeBytes: number;
  readonly sizeBytes: number;
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
