// Who is at the other end of a console session, and how is it answered?
import type { VersionFacts } from '../pg/server-version.ts';

/** Name of the database that stands for the console. */
export const CONSOLE_DATABASE = 'walcast';

/** The client, as the door let it in. */
export interface ConsoleClient {
  readonly pid: number;
  readonly user: string;
  /** Where it is connected from; null for a Unix-domain socket. */
  readonly peer: { readonly address: string | null; readonly port: number | null };
  readonly facts: VersionFacts;
  readonly serverVersion: string;
  readonly walcastVersion: string;
  /** What it was told at login, by the name as the server spells it. */
  readonly parameters: ReadonlyMap<string, string>;
  /** What else is known of settings, by lower-case name. */
  readonly settings: ReadonlyMap<string, string>;
  /** Settings that mean walcast, not the server it stands for, as they are at this moment; by lower-case name. */
  ownSettings(): ReadonlyMap<string, string>;
  /** Buffers belong to the socket until they are drained. */
  write(chunks: readonly Uint8Array[]): void;
}
