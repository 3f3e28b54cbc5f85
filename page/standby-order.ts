// Which standbys are there, which is worse than which, and which does a filter mean? Also of those that have left.
import type { AbsentStandbyJson, StandbyJson } from '../src/http/api-types.ts';
import type { Picture } from './picture.ts';
import { filterByWords, NATURAL, sortByOrder } from './row-order.ts';

/** A line of the table: a standby that is connected, or one that was. */
export type StandbyRow =
  | { readonly key: string; readonly kind: 'here'; readonly standby: StandbyJson }
  | { readonly key: string; readonly kind: 'gone'; readonly standby: AbsentStandbyJson };

/** What the table can be sorted by. */
export const SORT_KEYS = ['worst', 'name', 'state', 'sync', 'lag_time', 'lag_bytes'] as const;
/** One of them. */
export type SortKey = (typeof SORT_KEYS)[number];

/** One standby on one connection: after a restart of walcast the same pid is another one's. */
export function standbyKey({ pid, application_name: name }: StandbyJson): string {
  return `pid-${pid} ${name}`;
}

/** All rows of a picture. */
export function rowsOf(picture: Picture): StandbyRow[] {
  const here = [...picture.standbys.values()].map((standby) => {
    return { key: standbyKey(standby), kind: 'here' as const, standby };
  });
  const seen = new Map<string, number>();
  const gone = picture.status.absent_standbys.map((standby) => {
    const { application_name: name, user, slot_name: slot, client_addr: address } = standby;
    const identity = JSON.stringify([name, user, slot, address]);
    // Receivers without a slot may be alike in all of that.
    const count = (seen.get(identity) ?? 0) + 1;
    seen.set(identity, count);
    return { key: `gone-${identity}-${count}`, kind: 'gone' as const, standby };
  });
  return [...here, ...gone];
}

/** Seconds behind, end to end: in replaying, or in what it does where it does not replay; null while unknown. */
export function lagSecondsOf(standby: StandbyJson): number | null {
  return standby.replay_lag ?? standby.flush_lag ?? standby.write_lag;
}

/** What is said of its state, in words: those of pg_stat_replication, and what they do not tell. */
export function stateWord(row: StandbyRow): string {
  if (row.kind === 'gone') return row.standby.state;
  return row.standby.stalled ? 'stalled' : row.standby.state;
}

/** Receivers need not have a name. */
export function nameOf({ application_name: name }: { readonly application_name: string }): string {
  return name.trim() === '' ? '(no name)' : name;
}

/** `sync 1`: state, and priority where it is listed; empty for one that has left. */
export function syncWord(row: StandbyRow): string {
  if (row.kind === 'gone') return '';
  const { sync_state: state, sync_priority: priority } = row.standby;
  return priority > 0 ? `${state} ${priority}` : state;
}

/** How a state is to be taken. */
export type Tone = 'good' | 'notice' | 'bad';

/** By the state alone; lag is a figure, and what is too much of it is said by the findings. */
export function toneOf(row: StandbyRow): Tone {
  if (row.kind === 'gone') return row.standby.state === 'wedged?' ? 'bad' : 'notice';
  if (row.standby.stalled) return 'bad';
  return row.standby.state === 'streaming' ? 'good' : 'notice';
}

/** Sorts; `isReversed` turns the order round. Rows that are alike are in the order of their names, whatever is reversed. */
export function sortRows(
  rows: readonly StandbyRow[],
  key: SortKey,
  isReversed: boolean,
): StandbyRow[] {
  return sortByOrder(rows, { compare: COMPARE[key], names: compareNames }, isReversed);
}

/** Those that all words of `text` stand in: in name, address, user, slot, state or sync state. */
export function filterRows(rows: readonly StandbyRow[], text: string): readonly StandbyRow[] {
  return filterByWords(rows, text, searchText);
}

function searchText(row: StandbyRow): string {
  const { application_name: name, user, client_addr: address, slot_name: slot } = row.standby;
  const sync = row.kind === 'here' ? row.standby.sync_state : '';
  return [name, user, address ?? '', slot ?? '', stateWord(row), sync].join('\n');
}

const COMPARE: Readonly<Record<SortKey, (a: StandbyRow, b: StandbyRow) => number>> = {
  worst: (a, b) =>
    badness(b) - badness(a) || timeStep(b) - timeStep(a) || byteStep(b) - byteStep(a),
  name: compareNames,
  state: (a, b) => compareText(stateWord(a), stateWord(b)),
  sync: (a, b) => syncRank(a) - syncRank(b) || priority(a) - priority(b),
  lag_time: (a, b) => lagTime(b) - lagTime(a),
  lag_bytes: (a, b) => lagBytes(b) - lagBytes(a),
};

/** Stalled and wedged ones, those that are away, those that are not streaming yet, the others. */
function badness(row: StandbyRow): number {
  return { bad: 3, notice: row.kind === 'gone' ? 2 : 1, good: 0 }[toneOf(row)];
}

/** In steps of a factor of two from a second on: rows should not change places for a few milliseconds. */
function timeStep(row: StandbyRow): number {
  const seconds = lagTime(row);
  return seconds < 1 ? 0 : Math.floor(Math.log2(seconds)) + 1;
}

/** In steps of a factor of four from a megabyte on, for the same reason. */
function byteStep(row: StandbyRow): number {
  const bytes = lagBytes(row);
  return bytes < 1024 * 1024 ? 0 : Math.floor(Math.log2(bytes / 1024 / 1024) / 2) + 1;
}

function lagBytes(row: StandbyRow): number {
  return row.kind === 'here' ? (row.standby.lag_bytes ?? -1) : -2;
}

function lagTime(row: StandbyRow): number {
  return row.kind === 'here' ? (lagSecondsOf(row.standby) ?? -1) : -2;
}

const SYNC_RANKS: Readonly<Record<StandbyJson['sync_state'], number>> = {
  sync: 0,
  quorum: 1,
  potential: 2,
  async: 3,
};

function syncRank(row: StandbyRow): number {
  return row.kind === 'here' ? SYNC_RANKS[row.standby.sync_state] : 4;
}

function priority(row: StandbyRow): number {
  return row.kind === 'here' ? row.standby.sync_priority : 0;
}

function compareNames(a: StandbyRow, b: StandbyRow): number {
  const [one, other] = [a.standby.application_name, b.standby.application_name];
  return NATURAL.compare(one, other) || compareText(a.key, b.key);
}

function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
