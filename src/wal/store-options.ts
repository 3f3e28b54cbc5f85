// What does a store need to be opened, and what does it know about the server?
import type { Clock } from '../base/clock.ts';
import type { OperationalError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import {
  CONTROL_SAVE_INTERVAL_MS,
  NO_SPACE_RETRY_MS,
  SEGMENT_FILES_OPEN_MAX,
  SEGMENT_READS_MAX,
  TAIL_BYTES_MAX,
  UNFLUSHED_BYTES_MAX,
} from '../config/limits.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { WalkFailure } from './records/record-walk.ts';

/** Bounds of a store. */
export interface StoreLimits {
  readonly tailBytesMax: number;
  readonly unflushedBytesMax: number;
  readonly readsMax: number;
  readonly openFilesMax: number;
  readonly controlIntervalMs: number;
  readonly noSpaceRetryMs: number;
}

/** The bounds of the running program. */
export const STORE_LIMITS: StoreLimits = {
  tailBytesMax: TAIL_BYTES_MAX,
  unflushedBytesMax: UNFLUSHED_BYTES_MAX,
  readsMax: SEGMENT_READS_MAX,
  openFilesMax: SEGMENT_FILES_OPEN_MAX,
  controlIntervalMs: CONTROL_SAVE_INTERVAL_MS,
  noSpaceRetryMs: NO_SPACE_RETRY_MS,
};

/** How a store is opened. */
export interface WalStoreOptions {
  /** walcast's data directory. */
  readonly directory: string;
  /**
   * `page`: page headers, the chain of record headers, and the checksum of each record that a position is named after.
   * `record`: every record's checksum, and nothing unchecked counts as received. `off`: what does not hold together is
   * logged once and taken all the same.
   */
  readonly verify: 'page' | 'record' | 'off';
  /** From when on WAL may be sent. */
  readonly forward: 'received' | 'flushed';
  readonly walKeepSizeBytes: number;
  /** Default: {@link STORE_LIMITS}. */
  readonly limits?: StoreLimits;
  readonly clock: Clock;
  readonly log: Log;
  /** Called once: nothing may be acknowledged any more, and the process has to end. */
  readonly onFatal: (error: OperationalError) => void;
  /** Waited for before each step of a timeline switch. What it throws ends the attempt, as if the step had. */
  readonly onSwitchStep?: (step: SwitchStep) => Promise<void> | void;
}

/** A step of a timeline switch, by what is done next. */
export type SwitchStep =
  | 'note'
  | 'temporary files'
  | 'directory'
  | 'copy'
  | 'copy written'
  | 'copy renamed'
  | 'dead segment'
  | 'cut segment'
  | 'names'
  | 'control file';

/** Why received WAL was refused, all of the message. `isDivergence`: it is not damaged, but other than what is stored. */
export interface WalRefusal extends WalkFailure {
  readonly isDivergence?: boolean;
}

/** A timeline switch that has happened. */
export interface TimelineSwitchInfo {
  readonly from: TimelineId;
  readonly to: TimelineId;
  /** First byte of the new timeline. */
  readonly switchLsn: Lsn;
}

/** The timeline that is to be followed next. */
export interface NextTimeline {
  /** Of the next timeline; its last ancestor is the present one, left at `switchLsn`. */
  readonly history: TimelineHistory;
  readonly switchLsn: Lsn;
}

/** The server whose WAL is stored. */
export interface StoredIdentity {
  /** Decimal text of the unsigned 64-bit system identifier. */
  readonly systemIdentifier: string;
  readonly serverVersion: string;
  readonly facts: VersionFacts;
  readonly segmentSize: SegmentSize;
  /** ParameterStatus values to repeat to clients. */
  readonly parameters: ReadonlyMap<string, string>;
  /** Answers for SHOW. */
  readonly settings: ReadonlyMap<string, string>;
  /** The timeline being received, and its ancestry. */
  readonly timeline: TimelineId;
  readonly history: TimelineHistory;
}

/** R, W and F. */
export interface StorePositions {
  readonly receivedLsn: Lsn;
  readonly writtenLsn: Lsn;
  readonly flushedLsn: Lsn;
}
