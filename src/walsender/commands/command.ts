// What every command gets, and what it may answer. One file a command beside this one.
import { SQLSTATE } from '../../pg/sqlstate.ts';
import type { TimelineId } from '../../pg/timeline.ts';
import type { Lsn } from '../../pg/lsn.ts';
import type { CommandError } from '../../wire/replication-command.ts';
import type { ServerIdentity, SlotRegistry, WalFeed } from '../ports.ts';
import type { SessionSettings } from '../session-settings.ts';
import type { TimelineEnd } from '../stream-plan.ts';

/** What a command sees of its session and of walcast. */
export interface CommandContext {
  readonly pid: number;
  readonly user: string;
  readonly identity: ServerIdentity;
  readonly settings: SessionSettings;
  /** In force for this session; 0 = never. */
  readonly walSenderTimeoutMs: number;
  readonly maxWalSenders: number;
  /** Settings that are walcast's own although the upstream has them too, by lower-case name. */
  readonly ownSettings: ReadonlyMap<string, string>;
  /** Of walcast. */
  readonly version: string;
  /** New streams are not begun for now; asked anew after a wait. */
  readonly isPaused: () => boolean;
  /**
   * Where the session that streams with `slot` may be an old, dead connection of this client's: true once the slot may be
   * had, false when its holder lives; null when it cannot be. `signal` ends the wait.
   */
  readonly takeOver: (slot: string, signal: AbortSignal) => Promise<boolean> | null;
  /** Null, or why this session may neither stream with that slot, if any, nor do anything else that lasts. */
  readonly refusalToStay: (slot: string | null) => CommandError | null;
  readonly feed: WalFeed;
  readonly slots: SlotRegistry;
}

/** How a command ends. `frames` go out in every case; ReadyForQuery is added by the session where it is due. */
export type CommandOutcome =
  | { readonly kind: 'done'; readonly frames: readonly Uint8Array[] }
  | {
      readonly kind: 'error';
      readonly frames: readonly Uint8Array[];
      readonly error: CommandError;
    }
  /** The session goes into COPY. Its slot, if any, has been acquired. */
  | {
      readonly kind: 'stream';
      readonly timeline: TimelineId;
      readonly startLsn: Lsn;
      readonly end: TimelineEnd | null;
      readonly slot: string | null;
    }
  /** The query goes to the upstream as it is. */
  | { readonly kind: 'tunnel'; readonly command: 'BASE_BACKUP' | 'UPLOAD_MANIFEST' };

/** Ends a command with an ERROR and nothing before it. */
export function failed(error: CommandError): CommandOutcome {
  return { kind: 'error', frames: [], error };
}

/** Ends a command with its answer, CommandComplete included. */
export function done(...frames: readonly Uint8Array[]): CommandOutcome {
  return { kind: 'done', frames };
}

/** What a physical walsender says to everything logical. (logical.c:CheckLogicalDecodingRequirements) */
export function logicalRefusal(identity: ServerIdentity): CommandError {
  const walLevel = identity.settings.get('wal_level');
  if (walLevel === undefined || walLevel === 'logical') {
    return {
      sqlstate: SQLSTATE.objectNotInPrerequisiteState,
      message: 'logical decoding requires a database connection',
    };
  }
  const quote = identity.facts.quotesSettingNames ? '"' : '';
  return {
    sqlstate: SQLSTATE.objectNotInPrerequisiteState,
    message: `logical decoding requires ${quote}wal_level${quote} >= ${quote}logical${quote}`,
  };
}
