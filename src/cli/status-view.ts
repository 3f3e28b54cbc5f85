// What `walcast status` shows of a status: what is the matter, the upstream, the store, one row a standby with the worst
// first, and one for each that is away.
import { sizeText } from '../base/human-text.ts';
import type { AccessJson } from '../http/access-json.ts';
import type { AbsentStandbyJson, FindingJson, StatusJson } from '../http/api-types.ts';
import { known, printable, wrapped } from './plain-text.ts';
import { standbyTable } from './standby-table.ts';
import { textTable } from './text-table.ts';

/** What there is room for; null = any number. */
export interface StatusRoom {
  /** Characters of a line. */
  readonly columns: number | null;
  /** Lines. */
  readonly rows: number | null;
}

const ANY_ROOM: StatusRoom = { columns: null, rows: null };

/** Lines of a picture with a bound that standbys get at least, the two above them included. */
const TABLE_ROWS_MIN = 5;

/** Standbys that are away which a picture with a bound shows at most. */
const ABSENT_ROWS_MAX = 3;

/** Share of a picture with a bound that is for what is the matter: standbys want to be seen, too. */
const FINDINGS_SHARE = 1 / 3;

/** The whole picture, lines ending in a newline; where there is a bound, no line is longer and there are no more of them. */
export function statusView(status: StatusJson, room: StatusRoom = ANY_ROOM): string {
  const isBound = room.rows !== null;
  const top = [
    `walcast ${printable(status.version)}: ${status.state}${detailText(status)}`,
    `system ${known(status.system_identifier)}, PostgreSQL ${known(status.server_version)}, timeline ${known(status.timeline)}`,
    ...findingLines(status.findings, room),
    '',
    ...upstreamLines(status),
    ...syncLines(status),
    ...accessLines(status.access),
    '',
  ];
  const absent = absentLines(status.absent_standbys, isBound ? ABSENT_ROWS_MAX : null);
  const left = room.rows === null ? null : room.rows - top.length - absent.length;
  const table = standbyTable(status.standbys, {
    columns: room.columns,
    rows: left === null ? null : Math.max(left, TABLE_ROWS_MIN),
  });
  const lines = [...top, ...table, ...absent].slice(0, room.rows ?? undefined);
  const { columns } = room;
  const fitted = columns === null ? lines : lines.map((line) => line.slice(0, columns));
  return `${fitted.join('\n')}\n`;
}

/** What a finding tells already need not stand behind the state. */
function detailText({ detail, findings }: StatusJson): string {
  if (detail === null || findings.some(({ severity }) => severity !== 'info')) return '';
  return ` (${printable(detail)})`;
}

/** What is the matter, and under each what to do about it; as many as have room, the first one in any case. */
function findingLines(findings: readonly FindingJson[], { columns, rows }: StatusRoom): string[] {
  if (findings.length === 0) return [];
  const most = rows === null ? null : Math.max(2, Math.floor(rows * FINDINGS_SHARE));
  const lines: string[] = [];
  let shown = 0;
  for (const { severity, message, next_step: nextStep } of findings) {
    const own = [
      ...wrapped(`${severity.toUpperCase().padEnd(8)}  ${printable(message)}`, columns),
      ...wrapped(`${' '.repeat(8)}  ${printable(nextStep)}`, columns),
    ];
    if (most !== null && shown > 0 && lines.length + own.length > most) break;
    lines.push(...own.slice(0, most ?? undefined));
    shown++;
  }
  const more = findings.length - shown;
  return ['', ...lines, ...(more > 0 ? [`${' '.repeat(8)}  and ${more} more`] : [])];
}

function upstreamLines({ upstream, store }: StatusJson): string[] {
  const server =
    upstream.host === null ? 'none yet' : `${printable(upstream.host)}:${known(upstream.port)}`;
  return [
    `upstream  ${server}, slot ${known(upstream.slot)}: ${upstream.state}`,
    `          server ${known(upstream.server_lsn)}  received ${known(upstream.received_lsn)}  ` +
      `flushed ${known(upstream.flushed_lsn)}  acknowledged ${known(upstream.reported.flush)}  lag ${sizeText(upstream.lag_bytes)}`,
    `store     ${known(store.oldest_lsn)} to ${known(store.flushed_lsn)}, ${store.segments} segments, ${sizeText(store.size_bytes)}`,
  ];
}

/** The policy and who holds the upstream's horizon; nothing where there is neither. */
function syncLines({ sync, feedback }: StatusJson): string[] {
  const lines: string[] = [];
  if (sync.synchronous_standby_names !== '') {
    const { required_standbys: required, eligible_standbys: eligible } = sync;
    const verdict = sync.satisfied ? 'satisfied' : 'NOT satisfied: no flush position is reported';
    lines.push(
      `sync      ${printable(sync.synchronous_standby_names)}: ${eligible} of ${required} needed, ${verdict} since ${known(sync.since)}`,
      `          confirmed  write ${known(sync.confirmed.write)}  flush ${known(sync.confirmed.flush)}  replay ${known(sync.confirmed.apply)}`,
    );
  }
  if (feedback.held_by !== null) {
    const xmin = feedback.xmin ?? feedback.catalog_xmin;
    lines.push(`feedback  xmin ${known(xmin)}, held by ${printable(feedback.held_by)}`);
  }
  if (feedback.left_out > 0) {
    lines.push(
      `feedback  ${feedback.left_out} left out: further behind than max_feedback_xmin_age allows`,
    );
  }
  return lines;
}

/** What each certificate is for, in front of its address. */
const CERTIFICATE_WORDS: Readonly<Record<AccessJson['certificates'][number]['role'], string>> = {
  server: 'for standbys at',
  http: 'for HTTP at',
  upstream_client: 'towards',
};

/** Our certificates, and logins that failed; nothing where there is none of it. */
function accessLines({ certificates, authentications }: AccessJson): string[] {
  const lines = certificates.map(
    (one) =>
      `tls       ${CERTIFICATE_WORDS[one.role]} ${printable(one.address)}: certificate until ${known(one.expires_at)}`,
  );
  const failed = authentications.filter(({ failure }) => failure > 0);
  if (failed.length === 0) return lines;
  const counts = failed.map(({ method, failure }) => `${printable(method)} ${failure}`);
  return [...lines, `logins    failed since the start: ${counts.join(', ')}`];
}

const ABSENT_HEADER = [
  'application_name',
  'client',
  'state',
  'left_at',
  'how',
  'flush_lsn',
  'replay_lsn',
  'slot_name',
];

/** Nothing where nobody is missing. */
function absentLines(absent: readonly AbsentStandbyJson[], most: number | null): string[] {
  if (absent.length === 0) return [];
  const shown = absent.slice(0, most ?? undefined);
  const rows = shown.map((standby) => [
    printable(standby.application_name),
    known(standby.client_addr ?? 'local'),
    standby.state,
    printable(standby.left_at),
    standby.how,
    known(standby.flush_lsn),
    known(standby.replay_lsn),
    known(standby.slot_name),
  ]);
  const more = absent.length - shown.length;
  const title = `standbys that left and are not back${more > 0 ? ` (${more} more)` : ''}`;
  return ['', title, ...textTable(ABSENT_HEADER, rows).split('\n')];
}
