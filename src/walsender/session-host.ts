// What one session needs from all of them together.
import type { UserDirectory } from '../auth/user-directory.ts';
import type { Clock } from '../base/clock.ts';
import type { Log, LogFields } from '../base/log.ts';
import type { PeerAddress } from '../net/connection.ts';
import type { HbaRules, HostNames, LocalAddress } from '../pg/hba.ts';
import type { IdentMaps } from '../pg/ident.ts';
import type { SentTotals, StandbyDeparture, StandbyDisconnectReason } from '../status/status.ts';
import type { CommandError } from '../wire/replication-command.ts';
import type { RejectReason } from './admission.ts';
import type { CommandLog, CommandLogSettings } from './command-log.ts';
import type { AuthenticationReport, AuthorizedSession } from './audit.ts';
import type { Visitor } from './door.ts';
import type { EntranceSettings } from './entrance.ts';
import type { FileReads } from './file-reads.ts';
import type {
  ConsoleOpener,
  FeedbackSink,
  ServerIdentity,
  SlotRegistry,
  TunnelOpener,
  WalFeed,
} from './ports.ts';
import type { Place, ReservedNames } from './reserved-places.ts';
import type { SessionStatus } from './session-status.ts';
import type { WalSenderSession } from './session.ts';
import type { SharedFrames } from './shared-frames.ts';
import type { TakeoverParty } from './slot-takeover.ts';

/** Settings that may be changed while sessions run; read anew where they are used. */
export interface WalSenderSettings extends EntranceSettings, CommandLogSettings {
  /** From the first byte of a connection to the end of its authentication, whatever arrives in between. */
  readonly authenticationTimeoutMs: number;
  readonly maxWalSenders: number;
  /** Names that a place of these is kept for. */
  readonly reserved: ReservedNames;
  /** What SHOW answers for settings that are walcast's own although the upstream has them too, by lower-case name. */
  readonly ownSettings: ReadonlyMap<string, string>;
  /** For sessions that did not set their own; 0 = never. */
  readonly walSenderTimeoutMs: number;
  /** How long a start beyond our end is waited for. */
  readonly holdAheadMs: number;
  /** How long a drain waits for confirmations. */
  readonly drainTimeoutMs: number;
  /** Of walcast, for `SHOW walcast_version`. */
  readonly version: string;
}

/** Shared by all sessions. */
export interface SessionHost {
  readonly feed: WalFeed;
  readonly slots: SlotRegistry;
  readonly tunnels: TunnelOpener;
  readonly consoles: ConsoleOpener;
  /** Null: hot standby feedback goes nowhere. */
  readonly feedback: FeedbackSink | null;
  readonly clock: Clock;
  readonly log: Log;
  readonly frames: SharedFrames;
  readonly reads: FileReads;
  identity(): ServerIdentity | null;
  hba(): HbaRules;
  identMaps(): IdentMaps;
  users(): UserDirectory;
  /** For rules with names of hosts. */
  readonly names: HostNames;
  localAddresses(): readonly LocalAddress[];
  settings(): WalSenderSettings;
  /**
   * Runs what costs more than a message, now or in one of the next turns of the event loop: those of one address in order of
   * asking, addresses by turns.
   */
  inTurn(visitor: Visitor, piece: () => void): void;
  /**
   * Answers to a client's first TLS message, each of which costs a signature: one in a turn, addresses by turns. See
   * {@link TurnQueue.run}.
   */
  shakeHandsInTurn(visitor: Visitor, piece: () => void): () => void;
  /** The same for questions to the console: no standby waits behind them. */
  askInTurn(visitor: Visitor, piece: () => void): void;
  isDraining(): boolean;
  isPaused(): boolean;
  /** Sessions that count against max_wal_senders. */
  admittedSessions(): number;
  consoleSessions(): number;
  /** Which of the places of max_wal_senders a newcomer of that application_name may have. */
  placeFor(applicationName: string): Place;
  /** Why the session may neither stream with that slot, if any, nor do anything else that lasts; null where it may. */
  refusalToStay(session: WalSenderSession, slot: string | null): CommandError | null;
  /** The client proved who it is, or did not have to (`trust`): counted and logged. Before {@link onAdmitted}. */
  onAuthenticated(visitor: Visitor, report: AuthenticationReport): void;
  /**
   * The client failed to prove who it is: counted and logged. `answer` is called once, now, or later where too many of its
   * address have failed; never, when the connection is closed first. Who waits for it takes nobody's place.
   */
  onAuthenticationFailed(visitor: Visitor, report: AuthenticationReport, answer: () => void): void;
  /** The session counts from now on and can be cancelled by its key. */
  onAdmitted(session: WalSenderSession, facts: AuthorizedSession): void;
  onRejected(reason: RejectReason): void;
  /** A connection that was refused, or was no PostgreSQL client; logged while there are not too many. */
  onTurnedAway(text: string, peer: PeerAddress, fields?: LogFields): void;
  onCancelRequest(pid: number, key: Uint8Array): void;
  onCommand(name: string): void;
  readonly commandLog: CommandLog;
  /** A command of the session goes to the upstream from now on. */
  onTunnel(session: WalSenderSession): void;
  /** A client takes a backup through us. */
  isBackupRunning(): boolean;
  onStreamStart(session: WalSenderSession): void;
  onStreamStop(session: WalSenderSession): void;
  /** A position or the state of a streaming standby moved. */
  onStandbyMoved(): void;
  /** See {@link SlotTakeovers.ask}. */
  takeOver(slot: string, newcomer: TakeoverParty, signal: AbortSignal): Promise<boolean> | null;
  /** A session is over, and in no status any more: what it has sent, of all its streams. */
  onSent(applicationName: string, sent: SentTotals): void;
  /**
   * A session that was admitted is over, and has no status any more; what is pending may still be sent. `standby`: as it
   * was when its last stream ended in which it said anything; null when it never streamed.
   */
  onLeft(
    reason: StandbyDisconnectReason,
    standby: SessionStatus | null,
    how: StandbyDeparture,
  ): void;
  /** The connection is gone, admitted or not. */
  onClosed(session: WalSenderSession): void;
}
