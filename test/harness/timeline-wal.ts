// Do the WAL files of all timelines of one history hold the same bytes in two places?
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { INVALID_LSN, maxLsn, minLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentStartOf } from '../../src/pg/segment.ts';
import type { SegmentSize } from '../../src/pg/segment.ts';
import {
  historyFileName,
  parseTimelineHistory,
  rootHistory,
  toTimelineId,
} from '../../src/pg/timeline.ts';
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import { compareWal, missingSegments } from './compare-wal.ts';

/** What to compare. */
export interface TimelineWalOptions {
  /** A directory that is right by definition. */
  readonly expected: string;
  readonly actual: string;
  readonly history: TimelineHistory;
  readonly segmentSize: SegmentSize;
  /** Nothing is compared before this position; default: everything both have. */
  readonly fromLsn?: Lsn;
  readonly endLsn: Lsn;
  /** From here on no segment may be missing; null: any may. */
  readonly mustHave: Lsn | null;
}

/**
 * The differences as sentences: each timeline's files up to where it was left. That nothing could be compared is one, too,
 * unless the span is empty.
 */
export async function timelineWalViolations(options: TimelineWalOptions): Promise<string[]> {
  const { segmentSize, endLsn, mustHave } = options;
  const { timeline, ancestors } = options.history;
  const violations: string[] = [];
  const first = options.fromLsn ?? INVALID_LSN;
  let fromLsn = first;
  let comparedBytes = 0;
  for (const entry of [...ancestors, { timeline, endLsn }]) {
    const span = { segmentSize, fromLsn, untilLsn: entry.endLsn, timeline: entry.timeline };
    const { expected, actual } = options;
    const compared = await compareWal({ ...span, expected, actual });
    violations.push(...compared.differences);
    comparedBytes += compared.comparedBytes;
    if (mustHave !== null) {
      // The segment in which a timeline was left is whole on the next one.
      const isLast = entry.timeline === timeline;
      const untilLsn = isLast ? entry.endLsn : segmentStartOf(entry.endLsn, segmentSize);
      const missing = await missingSegments({
        ...span,
        directory: actual,
        fromLsn: maxLsn(fromLsn, mustHave),
        untilLsn: minLsn(untilLsn, endLsn),
      });
      violations.push(...missing.map((name) => `${name} is missing`));
    }
    fromLsn = maxLsn(first, segmentStartOf(entry.endLsn, segmentSize));
  }
  if (comparedBytes === 0 && first < endLsn) violations.push('no WAL could be compared');
  return violations;
}

/** The ancestry of `timeline` as the history file of `server` tells it. */
export async function historyOf(
  server: PostgresCluster,
  timeline: number,
): Promise<TimelineHistory> {
  const id = toTimelineId(timeline);
  if (id === 1) return rootHistory(id);
  const file = join(server.walDirectory, historyFileName(id));
  const parsed = parseTimelineHistory(id, await readFile(file, 'utf8'));
  if (typeof parsed === 'string') throw new Error(parsed);
  return parsed;
}

/** The timeline that a running primary writes. */
export async function timelineOf(primary: PostgresCluster): Promise<number> {
  const name = await primary.value('SELECT pg_walfile_name(pg_current_wal_lsn())');
  return Number.parseInt(name.slice(0, 8), 16);
}
