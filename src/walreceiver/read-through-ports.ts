// What reading old WAL through from the upstream needs from the rest of walcast, and what it gives. The composition root
// joins it to the store and to the walsenders.
import type { Lsn } from '../pg/lsn.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { WalRejection } from './ports.ts';

/** Judges WAL as it arrives, cut anywhere. Starts at a segment start; nothing of a rejected push may be used. */
export interface WalCheck {
  push(data: Uint8Array): WalRejection | null;
  /** End (exclusive) of the last whole record; null when records are not looked at. */
  recordEnd(): Lsn | null;
}

/** Whose WAL is wanted. An upstream that is another server, or has another history, is not read from. */
export interface ReadThroughOrigin {
  /** Decimal text of the unsigned 64-bit system identifier. */
  readonly systemIdentifier: string;
  readonly major: number;
  readonly segmentSize: SegmentSize;
  /** Of the timeline that is stored. */
  readonly history: TimelineHistory;
  /** R: the end (exclusive) of what was received. A primary that ends before it lost WAL, and may have other bytes. */
  readonly receivedLsn: Lsn;
}

/** The old WAL one standby wants. */
export interface ReadThroughRequest {
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
  /** Where it ends (exclusive) for now; each take says it anew. */
  readonly limitLsn: Lsn;
  /** There is something to take again after a take that gave nothing. May be called from within the upstream's bytes. */
  readonly onReady: () => void;
  /** It is to replace a damaged segment, and no standby reads it. */
  readonly isRepair?: boolean;
}

/** Old WAL, checked: `views` hold exactly the bytes from the last end up to `endLsn`, and never change. */
export interface ReadThroughPiece {
  /** Exclusive: a page boundary, or the limit. */
  readonly endLsn: Lsn;
  readonly views: readonly Uint8Array[];
}

/**
 * Why it could not be read. `removed`: the upstream does not have it either, or could not be asked (then `reason` says
 * why). `mismatch`: what the upstream sent is not the WAL of that place.
 */
export type ReadThroughFailure =
  | { readonly kind: 'removed'; readonly walFileName: string; readonly reason: string | null }
  | {
      readonly kind: 'mismatch';
      readonly walFileName: string;
      readonly lsn: Lsn;
      readonly reason: string;
    };
