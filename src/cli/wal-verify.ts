// walcast wal verify: is every record of the WAL in a directory what the server wrote?
import { resolve } from 'node:path';
import { formatLsn, parseLsn } from '../pg/lsn.ts';
import { verifyWal } from '../wal/verify.ts';
import type { VerifiedTimeline, VerifyReport } from '../wal/verify.ts';
import { EXIT, isSet, optionValue } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { printable } from './plain-text.ts';
import { JSON_OPTION } from './remote.ts';
import { sizeText } from '../base/human-text.ts';
import { withProgress } from './work.ts';

/** The command. */
export const walVerifyCommand: Command = {
  name: 'wal verify',
  summary: 'Check every page and the CRC of every record of the WAL in a directory.',
  operands: 'DIR',
  options: [
    {
      name: 'from',
      placeholder: 'LSN',
      description: 'Begin with the segment that holds this position, such as 0/3000000.',
    },
    JSON_OPTION,
  ],
  help: `
DIR is a data directory of walcast or of a PostgreSQL server, a pg_wal, or an archive with segments, .partial and .history
files, of PostgreSQL 13 to 18. Nothing is changed; a server or walcast may run on it meanwhile.

Missing segments and history files count as problems. Segments behind the end of the WAL that are blank, or recycled and not
written again yet, do not. Compressed segments are left out, and named.

Exit codes: 0 all is good, 1 problems (each with its file, LSN and reason), 2 usage.

Examples:
  walcast wal verify /var/lib/walcast
  walcast wal verify /var/lib/postgresql/18/main/pg_wal --from 0/5000000
  walcast wal verify /mnt/archive --json
`,
  async run(context): Promise<number> {
    const request = requestOf(context);
    if (typeof request === 'string') {
      context.printError(`walcast wal verify: ${request}\n`);
      return EXIT.usage;
    }
    const report = await withProgress(context, 'wal verify', (line, signal) =>
      verifyWal({ ...request, signal, onProgress: (progress) => line.update(progress) }),
    );
    if (typeof report === 'number') return report;
    const isJson = isSet(context.input, 'json');
    context.print(isJson ? `${JSON.stringify(reportJson(report))}\n` : reportText(report));
    return report.problems.length === 0 ? EXIT.ok : EXIT.failure;
  },
};

function requestOf({
  input,
  workingDirectory,
}: CommandContext): { directory: string; fromLsn: ReturnType<typeof parseLsn> } | string {
  const [directory] = input.positionals;
  if (directory === undefined || directory === '' || input.positionals.length > 1) {
    return 'give one directory';
  }
  const from = optionValue(input, 'from');
  const fromLsn = from === null ? null : parseLsn(from);
  if (from !== null && fromLsn === null)
    return `--from takes an LSN such as 0/3000000, not "${from}"`;
  return { directory: resolve(workingDirectory, directory), fromLsn };
}

const KINDS = { store: 'walcast store', server: 'pg_wal of a server', archive: 'WAL files' };

function reportText(report: VerifyReport): string {
  const { directory, identity, problems } = report;
  const count = `${problems.length}${report.isTruncated ? ' or more' : ''}`;
  const lines = [
    `${directory.path}: ${KINDS[directory.kind]} of system ${identity.systemIdentifier}, PostgreSQL ${identity.facts.major}, segments of ${sizeText(identity.segmentSize)}`,
    ...report.timelines.map(timelineText),
    ...report.notes.map((note) => `note: ${note}`),
    ...problems.map(
      ({ kind, file, lsn, reason }) =>
        `${kind}: ${file}${lsn === null ? '' : ` at ${formatLsn(lsn)}`}: ${reason}`,
    ),
    problems.length === 0
      ? `all of it is good (${sizeText(report.bytes)})`
      : `${count} ${problems.length === 1 && !report.isTruncated ? 'problem' : 'problems'}`,
  ];
  return `${lines.map(printable).join('\n')}\n`;
}

function timelineText(timeline: VerifiedTimeline): string {
  const { segments, unusedSegments, endReason } = timeline;
  const unused =
    unusedSegments === 0 ? '' : `, ${unusedSegments} more behind the end are not in use`;
  const end = endReason === null ? '' : `; it ends there: ${endReason}`;
  return (
    `timeline ${timeline.timeline}: ${formatLsn(timeline.startLsn)} to ${formatLsn(timeline.endLsn)}, ` +
    `${segments} ${segments === 1 ? 'segment' : 'segments'}${unused}, ${timeline.records} records${end}`
  );
}

function reportJson(report: VerifyReport): object {
  const { directory, identity } = report;
  return {
    ok: report.problems.length === 0,
    directory: directory.path,
    kind: directory.kind,
    system_identifier: identity.systemIdentifier,
    postgresql_major: identity.facts.major,
    wal_segment_size: identity.segmentSize,
    bytes: report.bytes,
    timelines: report.timelines.map((timeline) => ({
      timeline: timeline.timeline,
      start_lsn: formatLsn(timeline.startLsn),
      end_lsn: formatLsn(timeline.endLsn),
      end_reason: timeline.endReason,
      segments: timeline.segments,
      unused_segments: timeline.unusedSegments,
      records: timeline.records,
    })),
    problems: report.problems.map(({ kind, timeline, file, lsn, reason }) => ({
      kind,
      timeline,
      file,
      lsn: lsn === null ? null : formatLsn(lsn),
      reason,
    })),
    more_problems: report.isTruncated,
    notes: report.notes,
  };
}
