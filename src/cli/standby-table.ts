// The standbys in rows, the worst first; where a terminal is narrow or low, what says least is left out.
import { secondsText, sizeText } from '../base/human-text.ts';
import type { StandbyJson } from '../http/api-types.ts';
import { known, printable } from './plain-text.ts';
import { textTable } from './text-table.ts';

interface Column {
  readonly name: string;
  readonly isNumber?: boolean;
  /** Columns of the highest number go first when there is no room. */
  readonly rank: number;
  readonly cell: (standby: StandbyJson) => string;
}

const COLUMNS: readonly Column[] = [
  { name: 'pid', isNumber: true, rank: 12, cell: ({ pid }) => String(pid) },
  { name: 'application_name', rank: 0, cell: (one) => printable(one.application_name) },
  { name: 'client', rank: 8, cell: (one) => known(one.client_addr ?? 'local') },
  { name: 'state', rank: 1, cell: stateText },
  { name: 'sync', rank: 4, cell: syncText },
  { name: 'sent_lsn', rank: 9, cell: (one) => known(one.sent_lsn) },
  { name: 'flush_lsn', rank: 7, cell: (one) => known(one.flush_lsn) },
  { name: 'replay_lsn', rank: 5, cell: (one) => known(one.replay_lsn) },
  { name: 'lag', isNumber: true, rank: 2, cell: (one) => sizeText(one.lag_bytes) },
  { name: 'write_lag', isNumber: true, rank: 11, cell: (one) => secondsText(one.write_lag) },
  { name: 'flush_lag', isNumber: true, rank: 10, cell: (one) => secondsText(one.flush_lag) },
  { name: 'replay_lag', isNumber: true, rank: 3, cell: (one) => secondsText(one.replay_lag) },
  { name: 'slot_name', rank: 6, cell: (one) => known(one.slot_name) },
];

const NUMBERS: ReadonlySet<string> = new Set(
  COLUMNS.filter(({ isNumber }) => isNumber === true).map(({ name }) => name),
);

/** Between two columns. */
const SEPARATOR_WIDTH = 3;

/**
 * The lines of the table, header included, none longer than `columns` where that can be and not more than `rows` of them;
 * null = any number. Who is left out is counted in the last line.
 */
export function standbyTable(
  standbys: readonly StandbyJson[],
  { columns, rows }: { readonly columns: number | null; readonly rows: number | null },
): string[] {
  if (standbys.length === 0) return ['no standbys are connected'];
  const sorted = standbys.toSorted(worseFirst);
  const room = rows === null ? Number.POSITIVE_INFINITY : rows - 2;
  // The line that counts the others takes the place of one.
  const shown = sorted.length <= room ? sorted : sorted.slice(0, Math.max(1, room - 1));
  const chosen = columns === null ? COLUMNS : fitting(shown, columns);
  const table = textTable(
    chosen.map(({ name }) => name),
    shown.map((standby) => chosen.map(({ cell }) => cell(standby))),
    NUMBERS,
  ).split('\n');
  const more = sorted.length - shown.length;
  return more === 0 ? table : [...table, `and ${more} more, none of them worse`];
}

/** Stalled ones, then by bytes; among equals by name, so that a picture that is drawn again stands still. */
function worseFirst(a: StandbyJson, b: StandbyJson): number {
  if (a.stalled !== b.stalled) return a.stalled ? -1 : 1;
  const [lagA, lagB] = [a.lag_bytes ?? -1, b.lag_bytes ?? -1];
  if (lagA !== lagB) return lagB - lagA;
  if (a.application_name !== b.application_name) {
    return a.application_name < b.application_name ? -1 : 1;
  }
  return a.pid - b.pid;
}

/** As many columns as there is room for; the first two by rank stay in any case. */
function fitting(standbys: readonly StandbyJson[], columns: number): readonly Column[] {
  const widths = new Map(
    COLUMNS.map((column) => [
      column,
      standbys.reduce(
        (width, standby) => Math.max(width, column.cell(standby).length),
        column.name.length,
      ),
    ]),
  );
  const widthOf = (chosen: readonly Column[]): number =>
    chosen.reduce((sum, column) => sum + (widths.get(column) ?? 0) + SEPARATOR_WIDTH, 0) -
    SEPARATOR_WIDTH;
  const byRank = COLUMNS.toSorted((a, b) => b.rank - a.rank);
  let chosen = COLUMNS;
  for (const column of byRank) {
    if (chosen.length <= 2 || widthOf(chosen) <= columns) break;
    chosen = chosen.filter((one) => one !== column);
  }
  return chosen;
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
