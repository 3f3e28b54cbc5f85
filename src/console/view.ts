// What is a view of the console made of?
import type { VersionFacts } from '../pg/server-version.ts';
import type { RelayStatus } from '../status/status.ts';
import type { Cell, ResultColumn, ValueType } from './columns.ts';

/** What a view is made from: one picture of the relay, in the spelling of the upstream's major. */
export interface ViewSource {
  readonly status: RelayStatus;
  readonly facts: VersionFacts;
}

/** One row of a view: makes the value of a column, by its place, when it is asked for. */
export type ViewRow = (column: number) => Cell | null;

/** A view: fixed columns, and rows as they are when it is asked. */
export interface View {
  readonly columns: readonly ResultColumn[];
  rows(source: ViewSource): ViewRow[];
}

/** A column, and how its value comes out of one entry. */
export interface ViewColumn<Entry> {
  readonly name: string;
  readonly type: ValueType;
  readonly value: (entry: Entry, facts: VersionFacts) => Cell | null;
}

/** A view with one row for each entry. */
export function viewOf<Entry>(
  entries: (status: RelayStatus) => readonly Entry[],
  columns: readonly ViewColumn<Entry>[],
): View {
  return {
    columns: columns.map(({ name, type }) => ({ name, type })),
    rows: ({ status, facts }) =>
      entries(status).map((entry) => (column) => columns[column]?.value(entry, facts) ?? null),
  };
}
