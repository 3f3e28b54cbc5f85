// May a START_REPLICATION be served, and up to where? The checks in PostgreSQL's order, after the slot was acquired.
// Pure. (walsender.c:StartReplication)
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { segmentNumber, segmentStartOf, walFileName } from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { switchPoint } from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { CommandError } from '../wire/replication-command.ts';
import type { OlderWalFailure, WalReadFailure } from './ports.ts';
import type { NoRoom } from './read-through-cursor.ts';

/** Where a historic timeline ends, and which timeline goes on there. */
export interface TimelineEnd {
  /** First byte that is not on it any more. */
  readonly endLsn: Lsn;
  readonly nextTimeline: TimelineId;
}

/** What to do: stream; or answer at once that there is nothing more on that timeline; or refuse. */
export type StreamPlan =
  | { readonly kind: 'stream'; readonly timeline: TimelineId; readonly end: TimelineEnd | null }
  | { readonly kind: 'nothing-left'; readonly end: TimelineEnd }
  | { readonly kind: 'refused'; readonly error: CommandError };

/** `requested` null: whatever timeline is current. Whether `startLsn` lies ahead of us is found out later, after CopyBothResponse. */
export function planStream(
  request: { readonly startLsn: Lsn; readonly timeline: TimelineId | null },
  history: TimelineHistory,
  facts: VersionFacts,
): StreamPlan {
  const timeline = request.timeline ?? history.timeline;
  if (timeline === history.timeline) return { kind: 'stream', timeline, end: null };
  const end = switchPoint(history, timeline);
  if (end === null) return { kind: 'refused', error: notInHistory(timeline) };
  if (request.startLsn > end.endLsn) {
    const { startLsn } = request;
    return { kind: 'refused', error: startIsOffHistory({ startLsn, timeline }, end, facts) };
  }
  return request.startLsn === end.endLsn
    ? { kind: 'nothing-left', end }
    : { kind: 'stream', timeline, end };
}

/**
 * The file name of the WAL at `startLsn` when `timeline` had not begun there: a server looks for it under that timeline,
 * and does not find it. Null when there is such a file. (walsender.c:WalSndSegmentOpen)
 */
export function fileBeforeTimeline(
  request: { readonly startLsn: Lsn; readonly timeline: TimelineId },
  history: TimelineHistory,
  segmentSize: SegmentSize,
): string | null {
  const { startLsn, timeline } = request;
  const parent = history.ancestors.findLast((entry) => entry.timeline < timeline);
  if (parent === undefined || startLsn >= segmentStartOf(parent.endLsn, segmentSize)) return null;
  return walFileName(timeline, segmentNumber(startLsn, segmentSize), segmentSize);
}

/** The refusal of a timeline that is no ancestor of ours. */
export function notInHistory(timeline: TimelineId): CommandError {
  return {
    sqlstate: SQLSTATE.internalError,
    message: `requested timeline ${timeline} is not in this server's history`,
  };
}

/** The refusal of a start beyond the place where its timeline was left. */
export function startIsOffHistory(
  request: { readonly startLsn: Lsn; readonly timeline: TimelineId },
  end: TimelineEnd,
  facts: VersionFacts,
): CommandError {
  const start = formatLsn(request.startLsn, facts.padsLsnText);
  const fork = formatLsn(end.endLsn, facts.padsLsnText);
  return {
    sqlstate: SQLSTATE.internalError,
    message: `requested starting point ${start} on timeline ${request.timeline} is not in this server's history`,
    detail: `This server's history forked from timeline ${request.timeline} at ${fork}.`,
  };
}

/** The refusal of a start beyond our end. */
export function startIsAhead(startLsn: Lsn, sendableLsn: Lsn, facts: VersionFacts): CommandError {
  const start = formatLsn(startLsn, facts.padsLsnText);
  const end = formatLsn(sendableLsn, facts.padsLsnText);
  return {
    sqlstate: SQLSTATE.internalError,
    message: `requested starting point ${start} is ahead of the WAL flush position of this server ${end}`,
  };
}

/** What a standby is told when the WAL it wants could not be read. */
export function readFailed(
  failure: WalReadFailure | OlderWalFailure | NoRoom,
  facts: VersionFacts,
): CommandError {
  switch (failure.kind) {
    case 'no-room':
      return {
        sqlstate: SQLSTATE.tooManyConnections,
        message: 'too many standbys read WAL from before the store',
        hint: 'Try again when others have caught up.',
      };
    case 'removed': {
      const message = `requested WAL segment ${failure.walFileName} has already been removed`;
      const reason = 'reason' in failure ? failure.reason : null;
      const hint = `walcast does not keep it any more and could not read it from the upstream: ${reason}`;
      return { sqlstate: SQLSTATE.undefinedFile, message, ...(reason === null ? {} : { hint }) };
    }
    default: {
      const at = formatLsn(failure.lsn, facts.padsLsnText);
      return {
        sqlstate: SQLSTATE.dataCorrupted,
        message: `could not read WAL segment ${failure.walFileName} at ${at}: ${failure.reason}`,
        hint:
          failure.kind === 'damaged'
            ? 'The stored segment is damaged. Other standbys are not affected.'
            : 'walcast does not keep it any more, and what the upstream sent instead failed its check.',
      };
    }
  }
}
