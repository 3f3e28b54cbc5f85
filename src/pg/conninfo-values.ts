// How do the values of a connection string read: whole numbers, lists, one of a few words?
// (src/interfaces/libpq/fe-connect.c: pqParseIntParam, parse_comma_separated_list)

const INT_MAX = 2 ** 31 - 1;
const INT_MIN = -(2 ** 31);

/** A decimal number with white space around it; null for anything else. (pqParseIntParam) */
export function parseInteger(text: string): number | null {
  const match = /^[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*$/.exec(text);
  const value = match === null ? Number.NaN : Number(match[1]);
  return value >= INT_MIN && value <= INT_MAX ? value : null;
}

/** Elements of a comma-separated list; none for what is empty or absent. */
export function listOf(value: string | undefined): string[] {
  return value === undefined || value === '' ? [] : value.split(',');
}

/** The word of `words` that was given; `fallback` when none was. */
export function choice<T extends string>(
  words: readonly T[],
  given: string | undefined,
  fallback: T,
): T {
  return words.find((word) => word === given) ?? fallback;
}

/** What was given; null for what is empty or absent. */
export function nonEmpty(text: string | undefined): string | null {
  return text === undefined || text === '' ? null : text;
}

/** True for what is the directory (or abstract name) of a Unix socket. (is_unixsock_path) */
export function isUnixSocketPath(host: string): boolean {
  return host.startsWith('/') || host.startsWith('@');
}
