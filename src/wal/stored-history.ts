// Which timelines does a store know, and how did they come about? History files lie beside the segments, byte for byte as
// the upstream sent them.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ignoreMissing, replaceFile } from '../base/durable-fs.ts';
import { OperationalError } from '../base/errors.ts';
import { historyFileName, parseTimelineHistory, rootHistory } from '../pg/timeline.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import { walDirectory } from './data-directory.ts';

/** The file, byte for byte; null when it is not stored. Rejects with the system's error. */
export async function readHistoryFile(
  dataDirectory: string,
  timeline: TimelineId,
): Promise<Uint8Array | null> {
  const path = join(walDirectory(dataDirectory), historyFileName(timeline));
  return await readFile(path).catch(ignoreMissing);
}

/** Keeps a history file; durable when it resolves. */
export async function saveHistoryFile(
  dataDirectory: string,
  timeline: TimelineId,
  content: Uint8Array,
): Promise<void> {
  await replaceFile(join(walDirectory(dataDirectory), historyFileName(timeline)), content);
}

/** The history of a stored timeline. Throws OperationalError when its file is missing or is none. */
export async function loadHistory(
  dataDirectory: string,
  timeline: TimelineId,
): Promise<TimelineHistory> {
  const file = await readHistoryFile(dataDirectory, timeline);
  if (file === null && timeline === 1) return rootHistory(timeline);
  const name = historyFileName(timeline);
  const history =
    file === null
      ? 'it is missing'
      : parseTimelineHistory(timeline, Buffer.from(file).toString('latin1'));
  if (typeof history !== 'string') return history;
  throw new OperationalError(
    'HISTORY_FILE',
    `the history file "${name}" cannot be used: ${history}`,
    {
      hint: `Copy ${name} from the server's pg_wal into pg_wal of the store.`,
    },
  );
}
