// What is a view of the console made of?
import type { VersionFacts } from '../pg/server-version.ts';
import type { Cell, ResultColumn, ValueType } from './columns.ts';
import type { ConsoleSource } from './source.ts';

/** What a view is made from: what it asks of the relay, in the spelling of the upstream's major. */
export interface ViewSource {
  readonly inside: ConsoleSource;
  readonly facts: VersionFacts;
}

/** One row of a view: makes the value of a column, by its place, when it is asked for. */
export type ViewRow = (column: number) => Cell | null;

/** A view: fixed columns, and rows as they are when it is asked. */
export interface View {
  readonly columns: readonly ResultColumn[];
  /** It has as many rows as there are standbys or slots, so that what it may cost grows with them. */
  readonly isGrowing: boolean;
  rows(source: ViewSource): ViewRow[];
}

/** A column, and how its value comes out of one entry. */
export interface ViewColumn<Entry> {
  readonly name: string;
  readonly type: ValueType;
  readonly value: (entry: Entry, facts: VersionFacts) => Cell | null;
}

/** The same for standbys and slots. */
export function growingView<Entry>(
  entries: (inside: ConsoleSource) => readonly Entry[],
  columns: readonly ViewColumn<Entry>[],
): View {
  return { ...viewOf(entries, columns), isGrowing: true };
}

/** A view with one row for each entry; `entries` is called once for each time that it is asked. */
export function viewOf<Entry>(
  entries: (inside: ConsoleSource) => readonly Entry[],
  columns: readonly ViewColumn<Entry>[],
): View {
  return {
    columns: columns.map(({ name, type }) => ({ name, type })),
    isGrowing: false,
    rows: ({ inside, facts }) =>
      entries(inside).map((entry) => (column) => columns[column]?.value(entry, facts) ?? null),
  };
}
