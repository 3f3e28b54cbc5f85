// What an upstream says at the end of a timeline: which one comes next, and where. (walsender.c:StartReplication)
import { formatLsn, INVALID_LSN, parseLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { switchPoint, toTimelineId } from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { TimelineEnd } from './ports.ts';
import { badTimelineEnd } from './upstream-errors.ts';
import { valueText } from './upstream-query.ts';
import type { QueryOutcome } from './upstream-query.ts';

/**
 * Reads the result set of next_tli and next_tli_startpos. `endLsn` is the end of what was received on `timeline`.
 * Returns a text that says what is wrong when the row is missing or impossible. (receivelog.c:ReadEndOfStreamingResult)
 */
export function parseTimelineEnd(
  outcome: QueryOutcome,
  timeline: TimelineId,
  endLsn: Lsn,
): TimelineEnd | string {
  const answer = outcome.results.find((result) => result.rows.length > 0);
  const row = answer?.rows[0];
  if (answer === undefined || row === undefined) return 'no next timeline was named';
  if (answer.rows.length !== 1 || row.length !== 2) {
    return `${answer.rows.length} rows of ${row.length} columns, expected 1 row of 2`;
  }
  const nextText = valueText(row[0]) ?? 'NULL';
  const startText = valueText(row[1]) ?? 'NULL';
  const next = /^\d{1,10}$/.test(nextText) ? Number(nextText) : 0;
  if (next <= timeline || next > 2 ** 31 - 1) {
    return `next timeline ${nextText.slice(0, 20)} does not follow timeline ${timeline}`;
  }
  const switchLsn = parseLsn(startText);
  if (switchLsn === null || switchLsn === INVALID_LSN) {
    return `next timeline starts at "${startText.slice(0, 40)}"`;
  }
  if (switchLsn > endLsn) {
    return `next timeline ${next} starts at ${startText}, beyond ${formatLsn(endLsn)}, the end of what was sent`;
  }
  return { timeline, nextTimeline: toTimelineId(next), switchLsn };
}

/** Throws a retryable OperationalError when a server's history says something else than its answer at the end of a timeline. */
export function requireHistoryOf(end: TimelineEnd, history: TimelineHistory): void {
  const fork = switchPoint(history, end.timeline);
  if (fork?.endLsn === end.switchLsn && fork.nextTimeline === end.nextTimeline) return;
  const said = `timeline ${end.nextTimeline} from ${formatLsn(end.switchLsn)} on`;
  const found =
    fork === null
      ? `is not left in the history of its timeline ${history.timeline}`
      : `is left for timeline ${fork.nextTimeline} at ${formatLsn(fork.endLsn)} in its history`;
  throw badTimelineEnd(end.timeline, `it named ${said}, but timeline ${end.timeline} ${found}`);
}
