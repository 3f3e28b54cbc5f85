// How are the rows of a table filtered and sorted, whatever they show?

/** Those that all words of `text` stand in; `textOf` gives what is searched of a row. */
export function filterByWords<Row>(
  rows: readonly Row[],
  text: string,
  textOf: (row: Row) => string,
): readonly Row[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return rows;
  return rows.filter((row) => {
    const haystack = textOf(row).toLowerCase();
    return words.every((word) => haystack.includes(word));
  });
}

/** How rows are compared: by what was chosen, and where that is alike, by `names`. */
export interface RowOrder<Row> {
  readonly compare: (a: Row, b: Row) => number;
  readonly names: (a: Row, b: Row) => number;
}

/** Sorts; `isReversed` turns the order round, but for rows that are alike: those are in the order of their names in any case. */
export function sortByOrder<Row>(
  rows: readonly Row[],
  { compare, names }: RowOrder<Row>,
  isReversed: boolean,
): Row[] {
  const sign = isReversed ? -1 : 1;
  return rows.toSorted((a, b) => sign * compare(a, b) || names(a, b));
}

/** `standby_9` before `standby_10`. */
export const NATURAL: Intl.Collator = new Intl.Collator('en', { numeric: true });
