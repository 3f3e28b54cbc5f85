// What may be asked of a running relay from outside: the actions behind the HTTP API and the console. The relay does
// them; http and console only name them.
import type { ComponentLevel } from '../base/log-levels.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { DeadWalStatus } from './status.ts';

/** Why an action was refused, in PostgreSQL's words. */
export interface ActionRefusal {
  readonly sqlstate: string;
  readonly message: string;
  readonly detail?: string;
  readonly hint?: string;
}

/** What a reload did. `problems` is not empty when nothing was changed: the lines that a start would print. */
export interface ReloadReport {
  readonly problems: readonly string[];
  /** Paths of keys whose new value is in effect. */
  readonly changed: readonly string[];
  /** Paths of keys whose new value takes effect at a restart. */
  readonly pendingRestart: readonly string[];
  /** True where the configuration is not to blame: walcast starts still, or ends; `problems` says which. */
  readonly isNotNow?: boolean;
}

/** One key of the configuration in effect. */
export interface ConfigEntry {
  /** `storage.wal_keep_size`. */
  readonly key: string;
  /** As it would be written in the file; secrets masked; null = not set. */
  readonly value: string | null;
  /** The same for the default. */
  readonly defaultValue: string | null;
  readonly origin: 'flag' | 'environment' | 'file' | 'default';
  /** Where it was written: `walcast.yaml:12:3`, `WALCAST_LISTEN`, `--listen`; null for a default. */
  readonly place: string | null;
  readonly isReloadable: boolean;
  /** The file says otherwise since the last reload, and only a restart can follow. */
  readonly isPendingRestart: boolean;
}

/** A file of the WAL directory that may be given away. */
export interface WalFile {
  readonly name: string;
  /** Bytes the whole file has. */
  readonly size: number;
  /** The same for as long as the bytes are the same: they never change behind a name of one cluster. */
  readonly version: string;
  /**
   * The bytes, in pieces that are the caller's own; the next one is read when it is asked for. To be taken once. Rejects
   * when WAL turns out to be damaged. The file may be removed meanwhile: it is given whole.
   */
  readonly chunks: AsyncIterable<Uint8Array>;
  /** To be called whatever became of the chunks, when no more of them are wanted; more often does no harm. */
  close(): void;
}

/**
 * Why a file of the WAL directory is not given. `unknown-name`: no name of a WAL or history file. `absent`: not stored
 * (any more, yet, or on this history). `incomplete`: the segment is still being received; it ends at `availableLsn` so
 * far. `damaged`: what is stored fails its check at `lsn`. `busy`: as many files are given away as may be at once.
 * `starting`: the store is not open yet, or empty.
 */
export type WalFileRefusal =
  | { readonly kind: 'unknown-name' | 'absent' | 'busy' | 'starting' }
  | { readonly kind: 'incomplete'; readonly availableLsn: Lsn }
  | { readonly kind: 'damaged'; readonly lsn: Lsn; readonly reason: string };

/** The actions. None throws for what a caller can get wrong: that comes back as a refusal. */
export interface RelayActions {
  /** Reads the configuration again and applies what can be changed in a running process. */
  reload(): Promise<ReloadReport>;
  /** Begins a drain, as SIGTERM does. */
  drain(): void;
  /** Ends at once, as SIGINT does. */
  shutdown(): void;
  /**
   * Ends the session with the upstream in order and begins anew, with the first of its hosts: nothing that was received is
   * lost, nothing that was acknowledged is changed. Null = begun.
   */
  reconnect(): ActionRefusal | null;
  /**
   * Refuses new START_REPLICATIONs until {@link resume}; streams that run, and what is acknowledged, go on as before. Any
   * number of times; a restart ends it.
   */
  pause(): void;
  /** Ends a pause. */
  resume(): void;
  /** Creates a persistent physical slot; durable when it resolves. Null = done. */
  createSlot(
    name: string,
    options: { readonly reserveWal: boolean },
  ): Promise<ActionRefusal | null>;
  /** Drops a slot that nobody uses. Null = done. */
  dropSlot(name: string): Promise<ActionRefusal | null>;
  /** Ends the session of that process id, as pg_terminate_backend does; false when there is none. */
  disconnectStandby(pid: number): boolean;
  /** Lets go of WAL from behind a switch point, durably; what was let go of. */
  releaseDeadWal(): Promise<DeadWalStatus | ActionRefusal>;
  /** Every key, in the order of the documentation. */
  configuration(): readonly ConfigEntry[];
  /** What each component of the log writes: first what counts for those without a level of their own (`default`). */
  logLevels(): readonly ComponentLevel[];
  /**
   * Sets the level of a component, or of `default`, until the process ends; `level` null: back to the configuration. Null =
   * done.
   */
  setLogLevel(component: string, level: string | null): ActionRefusal | null;
  /** Opens a whole segment or a history file for restore_command. */
  openWalFile(name: string): Promise<WalFile | WalFileRefusal>;
}
