// A source of values before they are checked: what the flags, the environment or the file say, key by key.
import type { ConfigError, Place } from './problem.ts';

/** Words of one `tls` of an item of `listen`, by their names. */
export type RawTls = ReadonlyMap<string, { readonly text: string; readonly place: Place }>;

/** A value as written. A list only for keys that take one. */
export interface RawValue {
  readonly text: string | readonly string[];
  readonly place: Place;
  /** Of each item of a list that was written item by item. */
  readonly itemPlaces?: readonly Place[];
  /** Of each item of `listen`; null for one without. */
  readonly itemTls?: readonly (RawTls | null)[];
  /** File line of the first line of a block of text, and the column its lines begin at; null when it is no such block. */
  readonly block: { readonly line: number; readonly column: number } | null;
}

/** Everything one source says. */
export interface Layer {
  readonly values: ReadonlyMap<string, RawValue>;
  readonly errors: readonly ConfigError[];
  /** False when the source is no configuration at all, so that nothing can be said about what it lacks. */
  readonly isReadable: boolean;
}
