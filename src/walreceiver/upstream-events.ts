// The language between the upstream session's machine and its shell: what is told, what is to be done, what is shown.
import type { OperationalError, WalcastError } from '../base/errors.ts';
import type { TargetSessionAttrs } from '../pg/conninfo.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { UpstreamDisconnectReason } from '../status/status.ts';
import type { StartDecision, TimelineEnd, WalRejection } from './ports.ts';
import type { HeldState } from './upstream-holds.ts';

/** Where the session stands. */
export type UpstreamPhase =
  | 'disconnected'
  | 'connecting'
  | 'login'
  | 'identifying'
  | 'deciding'
  | 'starting'
  | 'streaming'
  | 'ending'
  | 'held'
  | 'backoff';

/** What the shell tells the machine. */
export type UpstreamEvent =
  | { readonly type: 'start' }
  | { readonly type: 'dialed' }
  | { readonly type: 'logged-in' }
  | { readonly type: 'identified' }
  | { readonly type: 'decided'; readonly decision: StartDecision }
  | { readonly type: 'copy-started' }
  /** Anything that ended the attempt before WAL flowed; `lsn` is where WAL was asked for. */
  | { readonly type: 'failed'; readonly error: WalcastError }
  | {
      readonly type: 'lost';
      readonly reason: UpstreamDisconnectReason;
      readonly error: WalcastError;
    }
  | { readonly type: 'rejected'; readonly rejection: WalRejection }
  /** WAL behind the last rejection was accepted. */
  | { readonly type: 'progress' }
  /** The store took nothing for too long. */
  | { readonly type: 'full' }
  | { readonly type: 'room' }
  /** The server has no more on this timeline. */
  | { readonly type: 'copy-done' }
  | { readonly type: 'timeline-ended'; readonly end: TimelineEnd }
  /** Connect anew, beginning a new round of the hosts. */
  | { readonly type: 'reconnect' }
  /** The same in order: a stream is ended first, as for good. */
  | { readonly type: 'change-over' }
  /** The stream that a change-over ended is over. */
  | { readonly type: 'changed-over' }
  /** The list of hosts is another one. `isListed`: it still has the present host. */
  | { readonly type: 'hosts-changed'; readonly isListed: boolean }
  /** Connect anew to the same host: something had to be learnt on this session that the next one needs. */
  | { readonly type: 'again' }
  | { readonly type: 'finish' }
  | { readonly type: 'stop' }
  | { readonly type: 'tick' };

/** What the shell does. `disconnect` says how the session is closed when there is one. */
export type UpstreamAction =
  | { readonly type: 'connect'; readonly hostIndex: number }
  /** `wanted`: what kind of server is followed here. `ended`: what it just said about the timeline that was streamed. */
  | {
      readonly type: 'identify';
      readonly wanted: TargetSessionAttrs;
      readonly ended: TimelineEnd | null;
    }
  | { readonly type: 'decide' }
  /** For the log: a host of several was left; the others go on being tried. */
  | {
      readonly type: 'host-left';
      /** Its name: an index of a list that may be another one by then says nothing. */
      readonly host: string;
      readonly reason: string;
      /** Nothing is wrong with it, target_session_attrs wants another kind of server. */
      readonly isOtherKind: boolean;
    }
  | {
      readonly type: 'start-replication';
      readonly timeline: TimelineId;
      readonly startLsn: Lsn;
    }
  | { readonly type: 'end-copy' }
  | {
      readonly type: 'disconnect';
      readonly isOrderly: boolean;
      /** A slot that was created on this session is dropped first: it must not pin anything while a person decides. */
      readonly dropsCreatedSlot: boolean;
    }
  | { readonly type: 'finish-stream' }
  | { readonly type: 'fatal'; readonly error: OperationalError };

/** What people are told about the present phase. */
export interface UpstreamView {
  readonly phase: UpstreamPhase;
  readonly heldState: HeldState | null;
  /** What happened and why; null when all is well. */
  readonly detail: string | null;
  /** Monotonic time of the next attempt; null unless one is planned. */
  readonly nextAttemptAtMs: number | null;
  readonly hostIndex: number;
}
