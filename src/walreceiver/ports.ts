// What the walreceiver needs from the rest of walcast. The composition root (relay) hands these in, so that this room
// imports neither the store nor the walsenders.
import type { OperationalError } from '../base/errors.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { Xmins } from '../pg/xmins.ts';
import type { RelayState, ReportedPositions, UpstreamStatus } from '../status/status.ts';
import type { UpstreamHost } from './upstream-target.ts';

/** Why the store would not take bytes: what failed, and where. Nothing of the rejected message was kept. */
export interface WalRejection {
  readonly lsn: Lsn;
  readonly reason: string;
  /** The bytes are not bad in themselves, but others than those that are stored there. */
  readonly isDivergence?: boolean;
}

/** Where received WAL goes. Owned by the store; the caller keeps the buffer. */
export interface WalSink {
  /** The byte the store wants next; a START_REPLICATION begins here. Falls back to the last good record after a rejection. */
  nextLsn(): Lsn;
  /**
   * Checks and keeps `data`, the WAL from `startLsn` on (message boundary at its end). Copies what it keeps, so the
   * buffer may be reused when it returns. Returns null, or why the message was rejected as a whole.
   */
  append(startLsn: Lsn, data: Uint8Array): WalRejection | null;
  /** A message did not join on, and was not offered: to be counted with those that were refused. */
  noteRejected?(): void;
  /** True while too much is waiting for the disk: the caller stops reading its socket until `onRoom` fires. */
  isFull(): boolean;
  /** Registers the one listener that is told when a full sink has room again. */
  onRoom(listener: () => void): void;
  /** W: handed to the kernel. Absent: as it is reported. */
  positions?(): { readonly writtenLsn: Lsn };
}

/** What an upstream says about itself before any WAL flows. */
export interface UpstreamIdentity {
  /** Decimal text of the unsigned 64-bit system identifier. */
  readonly systemIdentifier: string;
  readonly timeline: TimelineId;
  readonly xlogPos: Lsn;
  readonly serverVersion: string;
  readonly facts: VersionFacts;
  readonly isInRecovery: boolean;
  /** It is another walcast. Asked for only where it matters, which is where a primary would have lost WAL. */
  readonly isRelay: boolean;
  readonly segmentSize: SegmentSize;
  /** ParameterStatus values of the session, by the name as the server spells it. */
  readonly parameters: ReadonlyMap<string, string>;
  /** Answers to SHOW for the settings clients ask a walsender for, by lower-case name. */
  readonly settings: ReadonlyMap<string, string>;
  /** History of `timeline`; without ancestors for timeline 1. */
  readonly history: TimelineHistory;
  /** The history file's bytes, null for timeline 1. */
  readonly historyFile: Uint8Array | null;
  /**
   * History files, byte for byte, of the timelines of `history` that are newer than the stored one, its own included: the
   * oldest {@link UPSTREAM_HISTORIES_MAX} of them. Each agrees with `history`. Empty when the stored timeline is none of them.
   */
  readonly histories: ReadonlyMap<TimelineId, Uint8Array>;
  /** restart_lsn of our slot there; INVALID_LSN when there is no slot, it reserves nothing, or the server cannot say. */
  readonly slotRestartLsn: Lsn;
}

/** What to do with an identified upstream. `hold`: stand in `state`, tell people `detail`, ask again after `retryMs`. */
export type StartDecision =
  | { readonly kind: 'start'; readonly timeline: TimelineId; readonly startLsn: Lsn }
  | {
      readonly kind: 'hold';
      readonly state: Extract<
        RelayState,
        'waiting' | 'gap' | 'diverged' | 'corrupt' | 'full' | 'failed'
      >;
      readonly detail: string;
      readonly retryMs: number;
    };

/** As much of the store as the right questions to an upstream depend on. */
export interface StoredEnd {
  readonly timeline: TimelineId;
  /** End of what was taken in (exclusive), on `timeline`, a record included that is not whole yet. */
  readonly receivedLsn: Lsn;
}

/** Decides, by history and never by being in recovery, whether and where to stream from an upstream. Prepares the store. */
export interface UpstreamGate {
  /** Null for an empty store. */
  stored(): StoredEnd | null;
  decide(identity: UpstreamIdentity): Promise<StartDecision>;
  /** Would {@link decide} say `start`? Changes nothing. Absent: always. */
  wouldFollow?(identity: UpstreamIdentity): boolean;
}

/**
 * What may be reported upstream right now, computed by the acknowledgement rules. Asked only for what is then sent: an
 * answer counts as said.
 */
export interface PositionSource {
  positions(): ReportedPositions;
}

/** What is to be said upstream about rows that standbys need. Ids are inside what a server takes for `nextXid`. */
export interface UpstreamFeedback extends Xmins {
  /** The next full transaction id; null while it is not known, and then nothing is held. */
  readonly nextXid: bigint | null;
}

/** Where hot standby feedback comes from. */
export interface FeedbackSource {
  /** What is to be said at this moment; null while nothing may be said, to be asked again a moment later. */
  feedback(): UpstreamFeedback | null;
  /** It was said. */
  onSent(xmins: Xmins): void;
}

/** A change of the upstream session's state, as it is logged. */
export interface UpstreamStateChange {
  readonly status: UpstreamStatus;
  /** One sentence: what happened and why, with the LSN where there is one. */
  readonly reason: string;
  /** What walcast does next, and when. */
  readonly nextStep: string;
}

/** The server has no more WAL on the timeline that was streamed. Checked: the next timeline is a later one. */
export interface TimelineEnd {
  readonly timeline: TimelineId;
  readonly nextTimeline: TimelineId;
  /** First byte that belongs to `nextTimeline`; at most the end of what was received. */
  readonly switchLsn: Lsn;
}

/** Who wants to know what the walreceiver meets. Calls come from the event loop and must not throw. */
export interface UpstreamObserver {
  onState(change: UpstreamStateChange): void;
  /** Before the gate is asked. */
  onIdentified(identity: UpstreamIdentity): void;
  /** Something that trying again cannot mend, met before any upstream was ever identified: unsupported version, bad setting. */
  onFatal(error: OperationalError): void;
  onTimelineEnd(end: TimelineEnd): void;
}

/** Keeps account of the slots on upstream servers. */
export interface SlotUses {
  /** walcast made a slot on `host`. */
  created(host: UpstreamHost, slot: string, systemIdentifier: string): void;
  /** It is gone again. */
  dropped(host: UpstreamHost, slot: string): void;
  /** WAL streams in from `host`, with that slot or none. */
  used(host: UpstreamHost, slot: string | null, systemIdentifier: string): void;
  /** Nothing streams any more. `restartLsn`: that of the slot when the stream began; INVALID_LSN where it is not known. */
  idle(restartLsn: Lsn): void;
}
