// walcast wal ls: which segments and history files are there, of a directory or of a running walcast?
import { resolve } from 'node:path';
import { formatLsn, parseLsn, toLsn } from '../pg/lsn.ts';
import {
  nextSegment,
  segmentNumber,
  segmentNumberBefore,
  segmentStart,
  toSegmentSize,
  walFileName,
} from '../pg/segment.ts';
import type { SegmentSize } from '../pg/segment.ts';
import { toTimelineId } from '../pg/timeline.ts';
import type { StoreJson } from '../http/api-types.ts';
import { listWal } from '../wal/listing.ts';
import { EXIT, isSet } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { printable } from './plain-text.ts';
import {
  badAnswer,
  JSON_OPTION,
  REMOTE_OPTIONS,
  remoteOf,
  remoteStatus,
  URL_OPTION,
  urlOf,
} from './remote.ts';
import type { Remote } from './remote.ts';
import { sizeText } from '../base/human-text.ts';
import { textTable } from './text-table.ts';

/** One file as it is shown. */
interface Row {
  readonly name: string;
  readonly kind: string;
  readonly timeline: number;
  readonly size: number | null;
  readonly start_lsn: string | null;
  readonly end_lsn: string | null;
}

/** The command. */
export const walLsCommand: Command = {
  name: 'wal ls',
  summary: 'List WAL segments and history files with size, timeline and LSN range.',
  operands: '[DIR]',
  options: [...REMOTE_OPTIONS, JSON_OPTION],
  help: `
With DIR, the files of a data directory of walcast or of a PostgreSQL server, a pg_wal, or an archive; segments that are
blank or recycled, and not written again yet, are shown as such. Without DIR, the segments that a running walcast serves.

Exit code 1 when the directory cannot be read, or no walcast answers.

Examples:
  walcast wal ls /var/lib/walcast
  walcast wal ls /mnt/archive --json
  walcast wal ls --url http://relay-a:9188
`,
  async run(context): Promise<number> {
    const { positionals } = context.input;
    const remote = remoteOf(context);
    const problem =
      positionals.length > 1
        ? 'give one directory at most'
        : positionals.length === 1 && isSet(context.input, URL_OPTION.name)
          ? 'give a directory or --url, not both'
          : 'problem' in remote
            ? remote.problem
            : null;
    if (problem !== null || 'problem' in remote) {
      context.printError(`walcast wal ls: ${problem ?? ''}\n`);
      return EXIT.usage;
    }
    const [directory] = positionals;
    const rows =
      directory === undefined ? await servedRows(remote) : await storedRows(context, directory);
    const isJson = isSet(context.input, 'json');
    context.print(isJson ? `${JSON.stringify(rows)}\n` : table(rows));
    return EXIT.ok;
  },
};

async function storedRows(context: CommandContext, directory: string): Promise<Row[]> {
  const listing = await listWal(resolve(context.workingDirectory, directory));
  return listing.files.map(({ file, kind, startLsn, endLsn }) => ({
    name: file.name,
    kind,
    timeline: file.timeline,
    size: file.size,
    start_lsn: startLsn === null ? null : formatLsn(startLsn),
    end_lsn: endLsn === null ? null : formatLsn(endLsn),
  }));
}

/** The segments between the first and the last byte that is durable; the last one ends where its WAL ends so far. */
async function servedRows(remote: Remote): Promise<Row[]> {
  const { store, timeline } = await remoteStatus(remote);
  const oldest = parseLsn(store.oldest_lsn ?? '');
  const flushed = parseLsn(store.flushed_lsn ?? '');
  if (oldest === null || flushed === null || timeline === null || store.segments === 0) return [];
  const size = segmentSizeOf(store);
  const last = size === null ? null : segmentNumberBefore(flushed, size);
  if (size === null || last === null || last - segmentNumber(oldest, size) > store.segments) {
    throw badAnswer(urlOf(remote, 'api/v1/status'), 'a store that makes sense');
  }
  const rows: Row[] = [];
  for (let segment = segmentNumber(oldest, size); segment <= last; segment = nextSegment(segment)) {
    const [startLsn, endLsn] = [
      segmentStart(segment, size),
      segmentStart(nextSegment(segment), size),
    ];
    rows.push({
      name: walFileName(toTimelineId(timeline), segment, size),
      kind: endLsn <= flushed ? 'segment' : 'growing',
      timeline,
      size,
      start_lsn: formatLsn(startLsn),
      end_lsn: formatLsn(toLsn(endLsn <= flushed ? endLsn : flushed)),
    });
  }
  return rows;
}

/** Segments are all of one size; null when the figures are not those of a store. */
function segmentSizeOf(store: StoreJson): SegmentSize | null {
  try {
    return toSegmentSize(store.size_bytes / store.segments);
  } catch {
    return null;
  }
}

const HEADER = ['name', 'kind', 'timeline', 'size', 'start_lsn', 'end_lsn'];

function table(rows: readonly Row[]): string {
  if (rows.length === 0) return 'there is no WAL\n';
  const cells = rows.map((row) => [
    row.name,
    row.kind,
    String(row.timeline),
    sizeText(row.size),
    row.start_lsn ?? '-',
    row.end_lsn ?? '-',
  ]);
  const bytes = rows.reduce((sum, { size }) => sum + (size ?? 0), 0);
  const text = textTable(
    HEADER,
    cells.map((row) => row.map(printable)),
    new Set(['timeline', 'size']),
  );
  return `${text}\n(${rows.length} ${rows.length === 1 ? 'file' : 'files'}, ${sizeText(bytes)})\n`;
}
