// What does it mean that the server answered a START_REPLICATION, after the stream or instead of it? Pure.
import type { WalcastError } from '../base/errors.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { UpstreamDisconnectReason } from '../status/status.ts';
import type { TimelineEnd } from './ports.ts';
import { parseTimelineEnd } from './timeline-end.ts';
import { badTimelineEnd, endedWhileStopping, upstreamError } from './upstream-errors.ts';
import type { QueryOutcome } from './upstream-query.ts';

/** The end of a timeline, or why the stream is lost. */
export type StreamAnswer =
  | { readonly end: TimelineEnd }
  | { readonly reason: UpstreamDisconnectReason; readonly error: WalcastError };

/** What was asked for, and what became of it. */
export interface StreamQuestion {
  readonly timeline: TimelineId;
  readonly wasStreaming: boolean;
  /** Nothing was taken in any more: a drain has begun. */
  readonly isQuiet: boolean;
  /** End of what was received on that timeline. */
  readonly endLsn: Lsn;
}

/** Reads the answer to a stream that nobody on this side had ended. */
export function readStreamAnswer(outcome: QueryOutcome, asked: StreamQuestion): StreamAnswer {
  if (outcome.error !== null) {
    const what = asked.wasStreaming ? 'ended the stream' : 'did not start the stream';
    return { reason: 'error', error: upstreamError(`the upstream ${what}`, outcome.error) };
  }
  if (asked.isQuiet) {
    // What was sent is not what was taken, so nothing of the answer can be judged.
    return { reason: 'timeline_end', error: endedWhileStopping(asked.timeline) };
  }
  const end = parseTimelineEnd(outcome, asked.timeline, asked.endLsn);
  if (typeof end !== 'string') return { end };
  return { reason: 'error', error: badTimelineEnd(asked.timeline, end) };
}
