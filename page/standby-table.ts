// The table of standbys: its columns, its orders, and everything else that is known of one.
import type { AbsentStandbyJson, StandbyJson } from '../src/http/api-types.ts';
import { DataTable } from './data-table.ts';
import type { Column } from './data-table.ts';
import { absentFacts, standbyFacts } from './standby-facts.ts';
import {
  filterRows,
  lagSecondsOf,
  nameOf,
  SORT_KEYS,
  sortRows,
  stateWord,
  syncWord,
  toneOf,
} from './standby-order.ts';
import type { SortKey, StandbyRow } from './standby-order.ts';
import { bytesWord, lagWord, UNKNOWN } from './words.ts';

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
    empty: 'No standby is connected.',
  });
}

const COLUMNS: readonly Column<StandbyRow>[] = [
  { title: 'Standby', sort: 'name', text: ({ standby }) => nameOf(standby) },
  { title: 'State', sort: 'state', text: stateWord, tone: toneOf },
  { title: 'Sync', sort: 'sync', room: 'medium', text: (row) => syncWord(row) || UNKNOWN },
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
  {
    title: 'Slot',
    kind: 'chosen',
    room: 'wide',
    text: ({ standby }) => standby.slot_name ?? UNKNOWN,
  },
  { title: 'Address', room: 'medium', text: ({ standby }) => standby.client_addr ?? 'socket' },
];

function position(
  title: string,
  room: 'wide' | 'medium',
  lsnOf: (standby: StandbyJson | AbsentStandbyJson) => string | null,
): Column<StandbyRow> {
  return { title, room, kind: 'position', text: ({ standby }) => lsnOf(standby) ?? UNKNOWN };
}

function sortKeyOf(text: string): SortKey {
  return SORT_KEYS.find((key) => key === text) ?? 'worst';
}
