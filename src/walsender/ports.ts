// What a walsender needs from the rest of walcast. The composition root (relay) hands these in, so that this room
// imports neither the store, nor the slots, nor the walreceiver.
import type { Lsn } from '../pg/lsn.ts';
import type { SegmentSize } from '../pg/segment.ts';
import type { VersionFacts } from '../pg/server-version.ts';
import type { TimelineHistory, TimelineId } from '../pg/timeline.ts';
import type { StandbyFeedbackStatus } from '../status/status.ts';
import type { CommandError } from '../wire/replication-command.ts';
import type { WalAges } from '../syncrep/lag-end-to-end.ts';
import type { HotStandbyFeedback } from '../wire/replication-messages.ts';

/** Who we stand for, as learned from the upstream (and remembered over a restart). */
export interface ServerIdentity {
  readonly systemIdentifier: string;
  readonly serverVersion: string;
  readonly facts: VersionFacts;
  readonly segmentSize: SegmentSize;
  /** ParameterStatus values to repeat to clients, by the name as the server spells it. */
  readonly parameters: ReadonlyMap<string, string>;
  /** Answers for SHOW, by lower-case name. */
  readonly settings: ReadonlyMap<string, string>;
}

/** Why stored WAL could not be read. `removed`: older than the store. `damaged`: it failed its check, or the disk did. */
export type WalReadFailure =
  | { readonly kind: 'removed'; readonly walFileName: string }
  | {
      readonly kind: 'damaged';
      readonly walFileName: string;
      readonly lsn: Lsn;
      readonly reason: string;
      /** There is no file, though there should be one. */
      readonly isMissing?: boolean;
    };

/** It cannot be said yet (it is being checked, or fetched again): to be read again when `ready` resolves; it never rejects. */
export interface WalReadLater {
  readonly kind: 'later';
  readonly ready: Promise<void>;
}

/** The WAL from before the store that one standby wants. */
export interface OlderWalRequest {
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
  /** Where it ends (exclusive) for now: the store goes on there, or the timeline ends. */
  readonly limitLsn: Lsn;
  /** There is something to take again after a take that gave nothing. */
  readonly onReady: () => void;
}

/** A piece of it, checked: `views` hold exactly the bytes from the last end up to `endLsn` (exclusive), a message end. */
export interface OlderWal {
  readonly endLsn: Lsn;
  readonly views: readonly Uint8Array[];
}

/**
 * Why it could not be read. `removed`: the upstream does not have it either, or could not be asked (then `reason` says
 * why not). `mismatch`: what the upstream sent is not the WAL of that place.
 */
export type OlderWalFailure =
  | { readonly kind: 'removed'; readonly walFileName: string; readonly reason: string | null }
  | {
      readonly kind: 'mismatch';
      readonly walFileName: string;
      readonly lsn: Lsn;
      readonly reason: string;
    };

/** Older WAL for one standby, read while it is taken. */
export interface OlderWalReader {
  /** The next bytes, up to `limitLsn` at most; or why there will be none; or null, and `onReady` follows. Never blocks. */
  take(limitLsn: Lsn): OlderWal | OlderWalFailure | null;
  /** No more of it is needed. */
  close(): void;
}

/** The WAL a walsender pulls from. Views handed out are immutable and may be shared by any number of sockets. */
export interface WalFeed {
  /** Since when the upstream has the WAL at a position, and when its transactions were committed. */
  readonly ages: WalAges;
  /** The timeline being received. */
  timeline(): TimelineId;
  /** Its ancestry. */
  history(): TimelineHistory;
  /** End (exclusive) of what may be sent on the current timeline: R, or F with `forward: flushed`. A message end of the upstream. */
  sendableLsn(): Lsn;
  /** First byte that is stored. */
  oldestLsn(): Lsn;
  /** The bytes [startLsn, endLsn) of the current timeline as views of the tail, or null when they are not all in memory. */
  fromMemory(startLsn: Lsn, endLsn: Lsn): readonly Uint8Array[] | null;
  /**
   * The bytes [startLsn, endLsn) as stored for `timeline`, read from segment files and checked page by page. The buffer
   * is the caller's own. Never rejects for missing or damaged WAL: those come back as {@link WalReadFailure}. What takes
   * long is waited for by the caller, who holds no place of other readers meanwhile.
   */
  fromFiles(
    timeline: TimelineId,
    startLsn: Lsn,
    endLsn: Lsn,
  ): Promise<Uint8Array | WalReadFailure | WalReadLater>;
  /** Reads WAL from before {@link oldestLsn} from where it still is; null when too many standbys do so already. */
  openOlder(request: OlderWalRequest): OlderWalReader | null;
  /** The file of `timeline`, byte for byte, from wherever it is; null when there is none (always for timeline 1). */
  historyFile(timeline: TimelineId): Promise<Uint8Array | null>;
  /** Calls `listener` at most once per turn of the event loop after the sendable end moved. Returns the way to stop it. */
  onAdvance(listener: () => void): () => void;
  /**
   * Received WAL was taken back to `lsn`, the sendable end from now on: what was sent beyond it must not be continued.
   * Called at once, before other bytes can come in its place. Returns the way to stop it.
   */
  onTakenBack(listener: (lsn: Lsn) => void): () => void;
  /**
   * May WAL from the current timeline up to `lsn`, beyond {@link sendableLsn}, be on its way? True while the upstream is
   * streaming and has named an end of WAL at or beyond it, or has not answered yet since `sinceMs` (monotonic): it is asked
   * then. To be called again and again by who waits since then.
   */
  expectsWal(lsn: Lsn, sinceMs: number): boolean;
}

/** Where a slot's WAL begins. */
export interface SlotPosition {
  /** INVALID_LSN when the slot reserves no WAL. */
  readonly restartLsn: Lsn;
}

/** A refused slot command: becomes an ERROR with exactly these fields. */
export interface SlotRefusal {
  readonly sqlstate: string;
  readonly message: string;
  readonly detail?: string;
  readonly hint?: string;
}

/** Physical replication slots. All commands are durable before they resolve, except for temporary slots. Null = done. */
export interface SlotRegistry {
  create(options: {
    name: string;
    temporary: boolean;
    reserveWal: boolean;
    pid: number;
  }): Promise<SlotRefusal | null>;
  /** With `wait` a slot in use is waited for, until `signal`: then the slot stays and the refusal is 57014. */
  drop(
    name: string,
    options: { wait: boolean; pid: number; signal?: AbortSignal },
  ): Promise<SlotRefusal | null>;
  read(name: string): SlotPosition | null;
  /**
   * Makes the slot that a stream from `startLsn` on wants to use, where that is configured and it is missing. Null when
   * there is nothing to wait for; else durable when it resolves.
   */
  createForStart(name: string, startLsn: Lsn): Promise<SlotRefusal | null> | null;
  /**
   * Marks the slot active for `pid`. `startLsn`: where a stream is to begin with it; a lost slot is revived by one that
   * finds its WAL stored, and keeps nothing for one that has to look for it at the upstream. Without a stream the refusal of
   * a lost slot is that of the server's major, if it has one.
   */
  acquire(name: string, pid: number, startLsn?: Lsn): SlotRefusal | null;
  release(name: string, pid: number): void;
  /** Moves restart_lsn to a (clamped, non-zero) flush position. May go backwards, as PostgreSQL's does. In memory; persisted lazily. */
  advance(name: string, restartLsn: Lsn): void;
  /** Drops every temporary slot of the session: at its end and at any ERROR. (walsender.c:WalSndErrorCleanup) */
  dropTemporary(pid: number): void;
}

/** What one standby feeds back, over all streams of its session. */
export interface StandbyFeedback {
  /** A stream begins. With a slot, what is said from now on is the slot's, and stays with it. */
  begin(slot: string | null): void;
  /** A hot standby feedback message came. */
  take(message: HotStandbyFeedback): void;
  /** What it comes to; null when it has never said anything. */
  status(): StandbyFeedbackStatus | null;
  /** The session is over: what is not a slot's counts no more. */
  close(): void;
}

/** Where hot standby feedback goes. */
export interface FeedbackSink {
  /** For a session that streams for the first time. */
  open(standby: { readonly pid: number; readonly applicationName: string }): StandbyFeedback;
}

/** A raw replication connection to the upstream, past its authentication, used 1:1 for one client. */
export interface TunnelConnection {
  /** Sends whole frontend messages. Bytes are copied or frozen by the caller. */
  write(chunk: Uint8Array): void;
  /** Bytes accepted by write and not yet by the kernel. */
  pendingBytes(): number;
  pause(): void;
  resume(): void;
  close(): void;
}

/** Events of a tunnel. Chunks are raw backend messages, cut anywhere; valid until the callback returns. */
export interface TunnelEvents {
  onBytes(chunk: Uint8Array): void;
  onDrain(): void;
  /** The connection is gone; `reason` is null after an orderly close. */
  onClose(reason: string | null): void;
}

/** Opens tunnels. Rejects with OperationalError when the upstream cannot be reached. */
export interface TunnelOpener {
  open(applicationName: string, events: TunnelEvents): Promise<TunnelConnection>;
}

/** A client of the console, let in. */
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

/** How a console session goes on behind a message: it stays, the client said goodbye, or it ends with a FATAL error. */
export type ConsoleOutcome = 'open' | 'terminated' | CommandError;

/** One console session. */
export interface ConsoleSession {
  /**
   * Takes a whole message; `body` is not kept. Everything it calls for has been written when this returns, or, where it has
   * to wait, when the promise resolves: no other message may be handed over before. The promise rejects for a bug only.
   */
  onMessage(type: number, body: Uint8Array): ConsoleOutcome | Promise<ConsoleOutcome>;
  /** The client wants the wait for what it asked to end. */
  cancel(): void;
  /** It is over: nothing is written any more, and a promise that is open stays so. */
  close(): void;
}

/** The console: what a session without `replication` on its database is handed to. */
export interface ConsoleOpener {
  /** Parameters that are its own and not the upstream's, by lower-case name. */
  readonly parameters: ReadonlyMap<string, string>;
  /** Name of its database. */
  readonly database: string;
  open(client: ConsoleClient): ConsoleSession;
}
