// What is wrong with a configuration, and where.

/** A place a value was written at: a file with line and column, a flag, or an environment variable. */
export interface Place {
  /** `walcast.yaml`, `--listen`, `WALCAST_LISTEN`. */
  readonly source: string;
  /** Counted from 1; null outside files. */
  readonly line: number | null;
  readonly column: number | null;
}

/** One mistake in a configuration. */
export interface ConfigError {
  readonly place: Place;
  readonly message: string;
  /** What to do about it. */
  readonly hint: string | null;
}

/** `file:line:column`, or the name of a flag or variable. */
export function formatPlace({ source, line, column }: Place): string {
  return [source, line, column].filter((part) => part !== null).join(':');
}

/** `file:line:column: message. Hint`, on one line. */
export function formatConfigError(error: ConfigError): string {
  return `${formatPlace(error.place)}: ${error.message}${error.hint === null ? '' : `. ${error.hint}`}`;
}

/** Makes an error of its parts. */
export function configError(place: Place, message: string, hint?: string | null): ConfigError {
  return { place, message, hint: hint ?? null };
}

/** A place that is no file. */
export function namedPlace(source: string): Place {
  return { source, line: null, column: null };
}
