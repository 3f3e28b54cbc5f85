// What `walcast status` shows of a status: the upstream, the store, one row a standby, and one for each that is away.
import type { AccessJson } from '../http/access-json.ts';
import type { AbsentStandbyJson, StandbyJson, StatusJson } from '../http/api-types.ts';
import { CERTIFICATE_WORDS, certificateTroubles } from './certificate-text.ts';
import { secondsText, sizeText } from '../base/human-text.ts';
import { textTable } from './text-table.ts';

/** The whole picture, lines ending in a newline; `wallMs` is now, milliseconds since the Unix epoch. */
export function statusView(status: StatusJson, wallMs: number): string {
  const { upstream, store } = status;
  const server = upstream.host === null ? 'none yet' : `${upstream.host}:${known(upstream.port)}`;
  const lines = [
    `walcast ${status.version}: ${status.state}${status.detail === null ? '' : ` (${status.detail})`}`,
    `system ${known(status.system_identifier)}, PostgreSQL ${known(status.server_version)}, timeline ${known(status.timeline)}`,
    '',
    `upstream  ${server}, slot ${known(upstream.slot)}: ${upstream.state}`,
    `          server ${known(upstream.server_lsn)}  received ${known(upstream.received_lsn)}  ` +
      `flushed ${known(upstream.flushed_lsn)}  acknowledged ${known(upstream.reported.flush)}  lag ${sizeText(upstream.lag_bytes)}`,
    `store     ${known(store.oldest_lsn)} to ${known(store.flushed_lsn)}, ${store.segments} segments, ${sizeText(store.size_bytes)}`,
    ...syncLines(status),
    ...accessLines(status.access, wallMs),
    '',
    standbyTable(status.standbys),
    ...absentLines(status.absent_standbys),
  ];
  return `${lines.join('\n')}\n`;
}

const HEADER = [
  'pid',
  'application_name',
  'client',
  'state',
  'sync',
  'sent_lsn',
  'flush_lsn',
  'replay_lsn',
  'lag',
  'write_lag',
  'flush_lag',
  'replay_lag',
  'slot_name',
];
const NUMBERS = new Set(['pid', 'lag', 'write_lag', 'flush_lag', 'replay_lag']);

function standbyTable(standbys: readonly StandbyJson[]): string {
  if (standbys.length === 0) return 'no standbys are connected';
  const rows = standbys.map((standby) => [
    String(standby.pid),
    printable(standby.application_name),
    standby.client_addr ?? 'local',
    stateText(standby),
    syncText(standby),
    known(standby.sent_lsn),
    known(standby.flush_lsn),
    known(standby.replay_lsn),
    sizeText(standby.lag_bytes),
    secondsText(standby.write_lag),
    secondsText(standby.flush_lag),
    secondsText(standby.replay_lag),
    known(standby.slot_name),
  ]);
  return textTable(HEADER, rows, NUMBERS);
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
  if (sync.clash !== null) lines.push(`clash     ${printable(sync.clash)}`);
  return [...lines, ...sync.alarms.map((alarm) => `alarm     ${printable(alarm)}`)];
}

/** Our certificates, files with secrets that are not in effect, and logins that failed; nothing where there is none of it. */
function accessLines(access: AccessJson, wallMs: number): string[] {
  const { certificates, authentications, secret_problems: problems } = access;
  const lines = certificates.map((one) => {
    const troubles = certificateTroubles(one, wallMs);
    const words = troubles.length === 0 ? 'good' : `WARNING ${troubles.join('; ')}`;
    return `tls       ${CERTIFICATE_WORDS[one.role]} ${printable(one.address)}: certificate until ${known(one.expires_at)}, ${printable(words)}`;
  });
  lines.push(...problems.map((problem) => `alarm     ${printable(problem)}`));
  const failed = authentications.filter(({ failure }) => failure > 0);
  if (failed.length === 0) return lines;
  const counts = failed.map(({ method, failure }) => `${printable(method)} ${failure}`);
  return [...lines, `logins    failed since the start: ${counts.join(', ')}`];
}

/** `sync 1`, `potential 2`, `async`. */
function syncText({ sync_state: state, sync_priority: priority }: StandbyJson): string {
  return priority === 0 ? state : `${state} ${priority}`;
}

function stateText({ state, stalled, name_shared: isNameShared }: StandbyJson): string {
  const flags = [stalled ? 'stalled' : '', isNameShared ? 'shared name' : ''].filter(
    (flag) => flag !== '',
  );
  return flags.length === 0 ? state : `${state} (${flags.join(', ')})`;
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
function absentLines(absent: readonly AbsentStandbyJson[]): string[] {
  if (absent.length === 0) return [];
  const rows = absent.map((standby) => [
    printable(standby.application_name),
    standby.client_addr ?? 'local',
    standby.state,
    standby.left_at,
    standby.how,
    known(standby.flush_lsn),
    known(standby.replay_lsn),
    known(standby.slot_name),
  ]);
  return ['', 'standbys that left and are not back', textTable(ABSENT_HEADER, rows, new Set())];
}

/** Clients choose their name; a terminal must not obey it. */
function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?');
}

function known(value: string | number | null): string {
  return value === null ? '-' : printable(String(value));
}
