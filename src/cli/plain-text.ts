// Text that somebody else wrote, made fit for a terminal.

/** Clients choose their names; a terminal must not obey them. */
export function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?');
}

/** `-` for what is not known. */
export function known(value: string | number | null): string {
  return value === null ? '-' : printable(String(value));
}

/** Spaces in front of what goes on in another line. */
const INDENT = ' '.repeat(10);

/** `text` in lines of at most `columns` characters, broken between words where they are short enough; null = one line. */
export function wrapped(text: string, columns: number | null): string[] {
  // A terminal that has no room for a word behind the indent is not worth a computation.
  if (columns === null || columns < 2 * INDENT.length || text.length <= columns) return [text];
  const lines: string[] = [];
  let rest = text;
  while (rest.length > columns) {
    const space = rest.lastIndexOf(' ', columns);
    const isWord = space <= INDENT.length;
    const end = isWord ? columns : space;
    lines.push(rest.slice(0, end));
    rest = INDENT + rest.slice(isWord ? end : end + 1);
  }
  return [...lines, rest];
}
