// Which history files does the upstream have? Asked for, checked by name and content, and kept byte for byte.
// (walreceiver.c:WalRcvFetchTimeLineHistoryFiles)
import { UPSTREAM_HISTORIES_BYTES_MAX, UPSTREAM_HISTORIES_MAX } from '../config/limits.ts';
import {
  HISTORY_FILE_BYTES_MAX,
  historyFileName,
  isBeginningOf,
  isInHistory,
  parseTimelineHistory,
  rootHistory,
} from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import { answerOf, invalidAnswer } from './upstream-command.ts';
import type { CommandRunner } from './upstream-command.ts';
import { valueText } from './upstream-query.ts';

/** One timeline's ancestry and the file it was read from; the buffer is the holder's. */
export interface ServedHistory {
  readonly history: TimelineHistory;
  /** Null for timeline 1. */
  readonly file: Uint8Array | null;
}

/** The history of `timeline`. Rejects with a retryable OperationalError for an answer that is none. */
export async function askHistory(
  runner: CommandRunner,
  timeline: TimelineId,
): Promise<ServedHistory> {
  if (timeline === 1) return { history: rootHistory(timeline), file: null };
  const command = `TIMELINE_HISTORY ${timeline}`;
  const answer = await answerOf(runner, command);
  const row = answer?.rows[0];
  const content = row?.[1] ?? null;
  if (answer?.rows.length !== 1 || row?.length !== 2 || content === null) {
    throw invalidAnswer(command, 'expected 1 row of 2 columns');
  }
  const name = valueText(row[0]) ?? 'NULL';
  if (name !== historyFileName(timeline)) {
    throw invalidAnswer(command, `unexpected file name for timeline history file: ${name}`);
  }
  return { history: readHistory(command, timeline, content), file: content };
}

/**
 * The files of the timelines on the way from `stored` to the newest one, oldest first, {@link UPSTREAM_HISTORIES_MAX} at
 * most, and none after {@link UPSTREAM_HISTORIES_BYTES_MAX}; empty when `stored` is not on the way. Rejects as {@link askHistory} does, also for a file that says something else
 * about a timeline than the newest one.
 */
export async function askLineage(
  runner: CommandRunner,
  newest: ServedHistory,
  stored: TimelineId,
): Promise<ReadonlyMap<TimelineId, Uint8Array>> {
  const files = new Map<TimelineId, Uint8Array>();
  const { history, file } = newest;
  if (file === null || !isInHistory(history, stored)) return files;
  const older = history.ancestors.map(({ timeline }) => timeline);
  const wanted = [...older, history.timeline].filter((timeline) => timeline > stored);
  let byteCount = 0;
  for (const timeline of wanted.slice(0, UPSTREAM_HISTORIES_MAX)) {
    // They are held as long as the server is followed. The first one is enough to get on.
    if (byteCount >= UPSTREAM_HISTORIES_BYTES_MAX) break;
    const served = timeline === history.timeline ? newest : await askHistory(runner, timeline);
    requireSameAncestors(served.history, history);
    if (served.file === null) continue;
    files.set(timeline, served.file);
    byteCount += served.file.byteLength;
  }
  return files;
}

function readHistory(command: string, timeline: TimelineId, content: Uint8Array): TimelineHistory {
  if (content.byteLength > HISTORY_FILE_BYTES_MAX) {
    throw invalidAnswer(command, `the history file has ${content.byteLength} bytes`);
  }
  const text = Buffer.from(content).toString('latin1');
  if (text.includes('\r')) throw invalidAnswer(command, 'the history file has carriage returns');
  const history = parseTimelineHistory(timeline, text);
  if (typeof history === 'string') throw invalidAnswer(command, history);
  if (history.ancestors.length === 0) {
    throw invalidAnswer(command, `the history file of timeline ${timeline} names no ancestor`);
  }
  return history;
}

/** A child's file begins with its parent's. (timeline.c:writeTimeLineHistory) */
function requireSameAncestors(older: TimelineHistory, newest: TimelineHistory): void {
  if (isBeginningOf(older, newest)) return;
  throw invalidAnswer(
    `TIMELINE_HISTORY ${older.timeline}`,
    `it contradicts the history of timeline ${newest.timeline}`,
  );
}
