// What do the store and its writer thread say to each other? One job at a time.
import type { Lsn } from '../pg/lsn.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { TimelineId } from '../pg/timeline.ts';

/** Given to the thread when it starts. */
export interface WriterSetup {
  /** The directory of the segments. */
  readonly directory: string;
  readonly segmentSize: SegmentSize;
}

/** The same with what belongs to the process. */
export interface WriterThreadSetup extends WriterSetup {
  /** See letGroupRead. */
  readonly isGroupReading: boolean;
}

/** To the thread. */
export type WriterRequest =
  | {
      readonly kind: 'write';
      readonly timeline: TimelineId;
      readonly startLsn: Lsn;
      /** In shared memory that stays as it is until `flushed`, `no-space` or `failed`. */
      readonly bytes: Uint8Array;
    }
  | {
      readonly kind: 'recycle';
      /** A file of a segment's size with old content, to make the next segment of. */
      readonly path: string;
    }
  | { readonly kind: 'close' };

/** An error as it crosses the thread's border. */
export interface WriterError {
  /** The system's code (`EIO` …), or null. */
  readonly code: string | null;
  readonly message: string;
}

/**
 * From the thread, in this order for each job: `written`, `flushed`; or `no-space`; or `failed`, its last word. And
 * `recycled` whenever a file it was given has become a segment.
 */
export type WriterReply =
  | { readonly kind: 'written'; readonly seconds: number }
  | { readonly kind: 'flushed'; readonly seconds: number }
  | { readonly kind: 'recycled' }
  | { readonly kind: 'no-space'; readonly error: WriterError }
  | { readonly kind: 'failed'; readonly during: 'write' | 'fsync'; readonly error: WriterError };
