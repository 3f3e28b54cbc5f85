// Whose file holds a segment of our history? Every timeline has files of its own, and the first one of a timeline begins
// with a copy of what came before it in that segment. So a segment is looked for under the newest timeline that had begun
// by then; an older file of the same segment, where it is kept, holds a part of the same bytes.
// (walsender.c:WalSndSegmentOpen, xlog.c:XLogFileReadAnyTLI)
import { segmentNumber, segmentNumberBefore } from '../pg/segment.ts';
import type { SegmentNumber, SegmentSize } from '../pg/segment.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';

/** The segments of one timeline of a history. */
interface TimelineSegments {
  readonly timeline: TimelineId;
  /** The one that holds its first byte, and the one that holds its last; null for the newest timeline, which goes on. */
  readonly first: SegmentNumber;
  readonly last: SegmentNumber | null;
}

/** Which timeline's file holds which segment of one history. */
export class Lineage {
  /** Newest first. */
  readonly #timelines: readonly TimelineSegments[];

  constructor(history: TimelineHistory, size: SegmentSize) {
    const timelines: TimelineSegments[] = [];
    let first = 0n as SegmentNumber;
    for (const { timeline, endLsn } of history.ancestors) {
      timelines.push({ timeline, first, last: segmentNumberBefore(endLsn, size) });
      first = segmentNumber(endLsn, size);
    }
    timelines.push({ timeline: history.timeline, first, last: null });
    this.#timelines = timelines.toReversed();
  }

  /** The timeline whose file holds all of `segment` that belongs to the history. */
  fileTimeline(segment: SegmentNumber): TimelineId {
    const found = this.#timelines.find(({ first }) => first <= segment);
    // The oldest timeline begins with segment 0.
    if (found === undefined) throw new RangeError(`no such segment: ${segment}`);
    return found.timeline;
  }

  /** All timelines that have bytes in `segment`, newest first: the one of {@link fileTimeline} is the first. */
  fileTimelines(segment: SegmentNumber): TimelineId[] {
    return this.#timelines
      .filter(({ first, last }) => first <= segment && (last === null || segment <= last))
      .map(({ timeline }) => timeline);
  }

  /** True when `timeline` is the newest or one of its ancestors. */
  has(timeline: TimelineId): boolean {
    return this.#timelines.some((one) => one.timeline === timeline);
  }

  /** The segment that holds the first byte of `timeline`, and its file begins with a copy; null when it is none of these. */
  firstSegment(timeline: TimelineId): SegmentNumber | null {
    return this.#timelines.find((one) => one.timeline === timeline)?.first ?? null;
  }
}
