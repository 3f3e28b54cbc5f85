// Timelines and their history files. (src/backend/access/transam/timeline.c)
import { formatLsn, parseLsn } from './lsn.ts';
import type { Lsn } from './lsn.ts';

declare const timelineBrand: unique symbol;

/** Identifies a branch of WAL history; 1 … 2^32-1. */
export type TimelineId = number & { readonly [timelineBrand]: true };

/** Checks and brands. Throws RangeError outside 1 … 2^32-1. */
export function toTimelineId(value: number): TimelineId {
  if (!Number.isInteger(value) || value < 1 || value > 0xffffffff) {
    throw new RangeError(`timeline out of range: ${value}`);
  }
  return value as TimelineId;
}

/** One ancestor: `timeline` was left at `endLsn` (exclusive; the first byte that belongs to its child). */
export interface TimelineHistoryEntry {
  readonly timeline: TimelineId;
  readonly endLsn: Lsn;
}

/** The ancestry of a timeline, oldest first, the timeline itself not included. Empty for timeline 1. */
export interface TimelineHistory {
  readonly timeline: TimelineId;
  readonly ancestors: readonly TimelineHistoryEntry[];
}

/** A history file above this size is refused: PostgreSQL's are one short line per switch. */
export const HISTORY_FILE_BYTES_MAX: number = 1 << 20;

/** `%08X.history` (TLHistoryFileName). */
export function historyFileName(timeline: TimelineId): string {
  return `${timeline.toString(16).toUpperCase().padStart(8, '0')}.history`;
}

/** The timeline a history file name stands for, or null. */
export function parseHistoryFileName(name: string): TimelineId | null {
  const match = /^([0-9A-F]{8})\.history$/.exec(name);
  if (match === null) return null;
  const value = Number.parseInt(match[1] ?? '', 16);
  return value === 0 ? null : toTimelineId(value);
}

/**
 * Reads a history file (timeline.c:readTimeLineHistory): lines `parentTLI<TAB>X/X<TAB>reason`, blank lines and
 * `#` comments ignored, timelines strictly increasing and below `timeline`. Returns a text that says what is wrong
 * when the file is not one.
 */
export function parseTimelineHistory(
  timeline: TimelineId,
  content: string,
): TimelineHistory | string {
  if (content.length > HISTORY_FILE_BYTES_MAX) return 'history file is too large';
  const ancestors: TimelineHistoryEntry[] = [];
  for (const line of content.split('\n')) {
    const text = line.trim();
    if (text === '' || text.startsWith('#')) continue;
    const entry = parseHistoryLine(text);
    if (entry === null) return `invalid line in history file: "${text.slice(0, 80)}"`;
    const previous = ancestors.at(-1);
    if (previous !== undefined && entry.timeline <= previous.timeline) {
      return 'timeline IDs must be in increasing sequence';
    }
    if (previous !== undefined && entry.endLsn < previous.endLsn) {
      return 'switch points must not decrease';
    }
    ancestors.push(entry);
  }
  const last = ancestors.at(-1);
  if (last !== undefined && last.timeline >= timeline) {
    return "timeline IDs must be less than child timeline's ID";
  }
  return { timeline, ancestors };
}

/** The history of timeline 1, or of a timeline whose file says nothing. */
export function rootHistory(timeline: TimelineId): TimelineHistory {
  return { timeline, ancestors: [] };
}

/** True when `timeline` is the history's own or one of its ancestors. (tliInHistory) */
export function isInHistory(history: TimelineHistory, timeline: TimelineId): boolean {
  return timeline === history.timeline || switchPoint(history, timeline) !== null;
}

/** Where `timeline` was left and for which next timeline; null when it is not an ancestor. (tliSwitchPoint) */
export function switchPoint(
  history: TimelineHistory,
  timeline: TimelineId,
): { endLsn: Lsn; nextTimeline: TimelineId } | null {
  const index = history.ancestors.findIndex((entry) => entry.timeline === timeline);
  const entry = history.ancestors[index];
  if (entry === undefined) return null;
  return {
    endLsn: entry.endLsn,
    nextTimeline: history.ancestors[index + 1]?.timeline ?? history.timeline,
  };
}

/** The timeline the byte at `lsn` belongs to. (tliOfPointInHistory) */
export function timelineOfLsn(history: TimelineHistory, lsn: Lsn): TimelineId {
  return history.ancestors.find((entry) => lsn < entry.endLsn)?.timeline ?? history.timeline;
}

/** The history of an ancestor, `timeline`: the file of a timeline begins with that of the one before. (writeTimeLineHistory) */
export function historyUpTo(history: TimelineHistory, timeline: TimelineId): TimelineHistory {
  return { timeline, ancestors: history.ancestors.filter((entry) => entry.timeline < timeline) };
}

/** True when `older` is what `newer` says about that timeline: left the same ancestors at the same places. */
export function isBeginningOf(older: TimelineHistory, newer: TimelineHistory): boolean {
  const { ancestors } = historyUpTo(newer, older.timeline);
  return (
    ancestors.length === older.ancestors.length &&
    ancestors.every(({ timeline, endLsn }, index) => {
      const other = older.ancestors[index];
      return other?.timeline === timeline && other.endLsn === endLsn;
    })
  );
}

/** A position on a timeline, for messages: `0/3000000 on timeline 1`. */
export function formatPosition(timeline: TimelineId, lsn: Lsn): string {
  return `${formatLsn(lsn)} on timeline ${timeline}`;
}

function parseHistoryLine(text: string): TimelineHistoryEntry | null {
  const match = /^(\d{1,10})\s+(\S+)/.exec(text);
  if (match === null) return null;
  const timeline = Number(match[1]);
  const endLsn = parseLsn(match[2] ?? '');
  if (timeline < 1 || timeline > 0xffffffff || endLsn === null) return null;
  return { timeline: toTimelineId(timeline), endLsn };
}
