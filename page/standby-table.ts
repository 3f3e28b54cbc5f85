// The table of standbys: its columns, its orders, and everything else that is known of one.
import type { AbsentStandbyJson, StandbyJson } from '../src/http/api-types.ts';
import { DataTable } from './data-table.ts';
import type { Column } from './data-table.ts';
import type { Fact } from './dom.ts';
import {
  filterRows,
  lagSecondsOf,
  SORT_KEYS,
  sortRows,
  stateWord,
  toneOf,
} from './standby-order.ts';
import type { SortKey, StandbyRow } from './standby-order.ts';
import { agoWord, bytesWord, lagWord, UNKNOWN } from './words.ts';

/** `serverNowMs`: now, by the clock of walcast, milliseconds since the Unix epoch. */
export function standbyTable(serverNowMs: () => number): DataTable<StandbyRow> {
  return new DataTable<StandbyRow>({
    caption: 'Standbys, those that have left included',
    noun: 'standby',
    columns: COLUMNS,
    orders: [
      { key: 'worst', title: 'worst first', direction: 'descending' },
      { key: 'name', title: 'name', direction: 'ascending' },
      { key: 'state', title: 'state', direction: 'ascending' },
      { key: 'sync', title: 'synchronous first', direction: 'ascending' },
      { key: 'lag_time', title: 'most behind in time', direction: 'descending' },
      { key: 'lag_bytes', title: 'most behind in bytes', direction: 'descending' },
    ],
    key: ({ key }) => key,
    sort: (rows, key, isReversed) => sortRows(rows, sortKeyOf(key), isReversed),
    filter: filterRows,
    details: (row) =>
      row.kind === 'here'
        ? standbyFacts(row.standby, serverNowMs())
        : absentFacts(row.standby, serverNowMs()),
    placeholder: 'name, address, state, slot',
    empty: 'No standby is connected, and none has been.',
  });
}

const COLUMNS: readonly Column<StandbyRow>[] = [
  { title: 'Standby', sort: 'name', text: ({ standby }) => nameOf(standby) },
  { title: 'State', sort: 'state', text: stateWord, tone: toneOf },
  { title: 'Sync', sort: 'sync', room: 'medium', text: syncWord },
  {
    title: 'Lag',
    hint: 'From the upstream’s sending to the confirmation of the replay, or of what it does instead',
    kind: 'figure',
    sort: 'lag_time',
    text: (row) => (row.kind === 'here' ? lagWord(lagSecondsOf(row.standby)) : UNKNOWN),
  },
  {
    title: 'Behind',
    hint: 'Bytes from what it has confirmed to the upstream’s end of WAL',
    kind: 'figure',
    sort: 'lag_bytes',
    text: (row) => (row.kind === 'here' ? bytesWord(row.standby.lag_bytes) : UNKNOWN),
  },
  position('Sent', 'wide', ({ sent_lsn: lsn }) => lsn),
  position('Written', 'wide', ({ write_lsn: lsn }) => lsn),
  position('Flushed', 'wide', ({ flush_lsn: lsn }) => lsn),
  position('Replayed', 'medium', ({ replay_lsn: lsn }) => lsn),
  { title: 'Slot', room: 'wide', text: ({ standby }) => standby.slot_name ?? UNKNOWN },
  { title: 'Address', room: 'medium', text: ({ standby }) => standby.client_addr ?? 'socket' },
];

function position(
  title: string,
  room: 'wide' | 'medium',
  lsnOf: (standby: StandbyJson | AbsentStandbyJson) => string | null,
): Column<StandbyRow> {
  return { title, room, kind: 'position', text: ({ standby }) => lsnOf(standby) ?? UNKNOWN };
}

/** Receivers need not have a name. */
export function nameOf({ application_name: name }: { readonly application_name: string }): string {
  return name === '' ? '(no name)' : name;
}

/** `sync 1`: state, and priority where it is listed. */
export function syncWord(row: StandbyRow): string {
  if (row.kind === 'gone') return UNKNOWN;
  const { sync_state: state, sync_priority: priority } = row.standby;
  return priority > 0 ? `${state} ${priority}` : state;
}

function sortKeyOf(text: string): SortKey {
  return SORT_KEYS.find((key) => key === text) ?? 'worst';
}

function standbyFacts(standby: StandbyJson, nowMs: number): Fact[] {
  return [
    ['Sent', standby.sent_lsn ?? UNKNOWN],
    ['Written', positionAndLag(standby.write_lsn, standby.write_lag)],
    ['Flushed', positionAndLag(standby.flush_lsn, standby.flush_lag)],
    ['Replayed', positionAndLag(standby.replay_lsn, standby.replay_lag)],
    ['Behind the upstream', bytesWord(standby.lag_bytes)],
    ['Behind walcast', bytesWord(standby.hop_lag_bytes)],
    ['Replay lag from walcast', lagWord(standby.hop_replay_lag)],
    ['Age of last commit replayed', lagWord(standby.replayed_commit_age)],
    ['Sync', syncWord({ kind: 'here', key: '', standby })],
    ['Slot', standby.slot_name ?? 'none'],
    ['Timeline', String(standby.timeline ?? UNKNOWN)],
    ['Sent in this session', bytesWord(standby.sent_bytes)],
    ['Last reply', agoWord(standby.reply_time, nowMs)],
    ['Connected', agoWord(standby.connected_at, nowMs)],
    ['User', standby.user],
    ['Address', addressText(standby)],
    ['Encryption', standby.tls_version ?? 'none'],
    ['Process id', String(standby.pid)],
    ['Hot standby feedback', feedbackText(standby)],
    ...warnings(standby),
  ];
}

function warnings(standby: StandbyJson): Fact[] {
  const facts: Fact[] = [];
  if (standby.stalled) {
    facts.push(['Stalled', 'has confirmed nothing more for a minute', 'bad']);
  }
  if (standby.name_shared) {
    facts.push(['Name', 'other standbys stream under the same one', 'notice']);
  }
  if (standby.clamped_replies > 0) {
    facts.push(['Claims', `${standby.clamped_replies} beyond what it had been sent`, 'notice']);
  }
  return facts;
}

function positionAndLag(lsn: string | null, lag: number | null): string {
  if (lsn === null) return 'never reported';
  return lag === null ? lsn : `${lsn}, ${lagWord(lag)} behind`;
}

function addressText({ client_addr: address, client_port: port }: StandbyJson): string {
  if (address === null) return 'Unix socket';
  const host = address.includes(':') ? `[${address}]` : address;
  return port === null ? host : `${host}:${port}`;
}

function feedbackText({ feedback }: StandbyJson): string {
  if (feedback === null) return 'none';
  const age = feedback.xmin_age === null ? '' : `, ${feedback.xmin_age} transactions back`;
  return `${feedback.state.replaceAll('_', ' ')}${age}`;
}

const WAYS: Readonly<Record<string, string>> = {
  terminated: 'it said goodbye',
  closed: 'its connection was closed without a word',
  reset: 'its connection was reset',
  timeout: 'nothing was heard of it any more',
  ended: 'walcast ended its session',
};

function absentFacts(standby: AbsentStandbyJson, nowMs: number): Fact[] {
  return [
    ['Left', agoWord(standby.left_at, nowMs)],
    ['How', WAYS[standby.how] ?? standby.how],
    ['Reason', standby.reason.replaceAll('_', ' ')],
    ['Sent', standby.sent_lsn ?? UNKNOWN],
    ['Written', standby.write_lsn ?? UNKNOWN],
    ['Flushed', standby.flush_lsn ?? UNKNOWN],
    ['Replayed', standby.replay_lsn ?? UNKNOWN],
    ['Timeline', String(standby.timeline ?? UNKNOWN)],
    ['Slot', standby.slot_name ?? 'none'],
    ['User', standby.user],
    ['Address', standby.client_addr ?? 'Unix socket'],
  ];
}
