// What one stream works with, what it needs from its session, and how it tells the session that it is over.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { StandbyDisconnectReason } from '../status/status.ts';
import type { CommandError } from '../wire/replication-command.ts';
import type { FileReads } from './file-reads.ts';
import type { SlotRegistry, StandbyFeedback, WalFeed } from './ports.ts';
import type { SharedFrames } from './shared-frames.ts';
import type { TimelineEnd } from './stream-plan.ts';

/** How a stream ended. The session says so to the standby. */
export type StreamEnd =
  /** Both sides sent CopyDone; `end` is set when the timeline is historic. */
  | { readonly kind: 'copy-done'; readonly end: TimelineEnd | null }
  /** An ERROR; the session goes on. */
  | {
      readonly kind: 'error';
      readonly error: CommandError;
      readonly reason: StandbyDisconnectReason;
    }
  /** The session is closed without a word. */
  | { readonly kind: 'close'; readonly reason: StandbyDisconnectReason; readonly text: string }
  /** We are going away and the standby has everything, or its time is up. */
  | { readonly kind: 'drained'; readonly isConfirmed: boolean };

/** What a stream needs from its session. */
export interface StreamHost {
  /** Buffers belong to the socket until they are drained. */
  write(chunks: readonly Uint8Array[]): void;
  pendingBytes(): number;
  /** Called once; afterwards the stream does nothing any more. */
  onStreamEnd(end: StreamEnd): void;
  /** A position of the standby moved, or its state changed. */
  onStandbyMoved(): void;
}

/** Everything a stream works with. */
export interface StreamOptions {
  readonly host: StreamHost;
  readonly feed: WalFeed;
  readonly slots: SlotRegistry;
  readonly frames: SharedFrames;
  readonly reads: FileReads;
  readonly clock: Clock;
  readonly log: Log;
  readonly facts: VersionFacts;
  readonly segmentSize: SegmentSize;
  /** Acquired by the session, which also releases it. */
  readonly slot: string | null;
  /** Where hot standby feedback goes; null: nowhere. */
  readonly feedback: StandbyFeedback | null;
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
  readonly end: TimelineEnd | null;
  /** 0 = never. */
  readonly timeoutMs: number;
  /** How long a start beyond our end is waited for. */
  readonly holdAheadMs: number;
  /** A client takes a backup through us. */
  readonly isBackupRunning: () => boolean;
}
