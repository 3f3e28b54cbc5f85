// The streaming part of a session: what begins with a START_REPLICATION that is served, and ends with its stream.
import type { Log } from '../base/log.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { SentTotals, StandbyDisconnectReason } from '../status/status.ts';
import {
  encodeCommandComplete,
  encodeCopyBothResponse,
  encodeReadyForQuery,
} from '../wire/backend-messages.ts';
import type { CommandError } from '../wire/replication-command.ts';
import type { StreamStart } from './command-runner.ts';
import type { CommandContext } from './commands/command.ts';
import { streamEndFrames } from './commands/start-replication.ts';
import type { StandbyFeedback } from './ports.ts';
import type { SessionHost } from './session-host.ts';
import { LETTER_COPY_DONE, USER_CANCEL } from './session-messages.ts';
import { lastHeard, logStreamEnd } from './session-status.ts';
import type { SessionStatus } from './session-status.ts';
import type { TakeoverParty } from './slot-takeover.ts';
import type { StreamEnd, StreamHost } from './stream-host.ts';
import { StreamPresence } from './stream-presence.ts';
import { WalStream } from './wal-stream.ts';

/** How the session goes on behind a stream. */
export type StreamOutcome =
  /** Commands may follow. */
  | { readonly kind: 'commands' }
  /** An ERROR is due, then commands may follow. */
  | {
      readonly kind: 'error';
      readonly error: CommandError;
      readonly reason: StandbyDisconnectReason;
    }
  /** The session ends: without a word, or once what is pending has gone out. */
  | { readonly kind: 'close' | 'end'; readonly reason: StandbyDisconnectReason };

/** What the streaming part needs from its session. */
export interface StreamingHost {
  readonly pid: number;
  write(chunks: readonly Uint8Array[]): void;
  pendingBytes(): number;
  party(): TakeoverParty;
  commandContext(): CommandContext;
  /** As the session is now, also while it is being closed. */
  snapshot(): SessionStatus | null;
  /** A stream begins: called before its first byte, when it can be seen by others. */
  onStreamBegun(): void;
  /** It streams no more, whatever the reason, and its slot is free; {@link SessionStream.presence} is still there. */
  onStreamStopped(): void;
  /** The stream ended by itself, and has let everything go. */
  onStreamOver(outcome: StreamOutcome): void;
  /** The standby is silent and has to go at once. */
  onSilent(): void;
  onStandbyMoved(): void;
}

/** The streams of one session, one at a time. */
export class SessionStream implements StreamHost {
  readonly #session: StreamingHost;
  readonly #shared: SessionHost;
  #stream: WalStream | null = null;
  #presence: StreamPresence | null = null;
  #slot: string | null = null;
  /** From its first stream on. */
  #feedback: StandbyFeedback | null = null;
  /** Of the streams that have ended. */
  readonly #before = { sentBytes: 0, blockedSeconds: 0 };
  /** As the session was when its last stream ended in which the standby said anything. */
  #lastStreamed: SessionStatus | null = null;
  #log: Log;

  constructor(session: StreamingHost, shared: SessionHost, log: Log) {
    this.#session = session;
    this.#shared = shared;
    this.#log = log;
  }

  /** Null while nothing streams. */
  get stream(): WalStream | null {
    return this.#stream;
  }

  /** The stream as others see it; null while nothing streams. */
  get presence(): StreamPresence | null {
    return this.#presence;
  }

  /** In use by the stream. */
  get slot(): string | null {
    return this.#slot;
  }

  /** What all streams of the session have sent, and for how long it was not taken: neither goes back when one ends. */
  sent(): SentTotals {
    const { sentBytes, blockedSeconds } = this.#before;
    return {
      sentBytes: sentBytes + (this.#stream?.sentBytes ?? 0),
      blockedSeconds: blockedSeconds + (this.#stream?.blockedSeconds() ?? 0),
    };
  }

  /** As the session was at the end of its last stream in which the standby said anything; null when there was none. */
  get lastStreamed(): SessionStatus | null {
    return this.#lastStreamed;
  }

  /** Begins a stream; `log` names the standby. The slot has been acquired. */
  start(start: StreamStart, log: Log): void {
    const { slot, timeline, startLsn } = start;
    this.#slot = slot;
    this.#log = log;
    this.#beginFeedback(slot);
    const stream = this.#makeStream(start);
    this.#stream = stream;
    log.info('standby starts streaming', { start_lsn: formatLsn(startLsn), timeline, slot });
    this.#session.write([encodeCopyBothResponse()]);
    this.#presence = new StreamPresence({
      party: this.#session.party(),
      slot,
      log,
      stream,
      pendingBytes: () => this.pendingBytes(),
      endSilent: () => this.#session.onSilent(),
    });
    this.#session.onStreamBegun();
    stream.start();
  }

  /** A message of the standby, other than Terminate. */
  onMessage(type: number, body: Uint8Array): void {
    const stream = this.#stream;
    if (stream === null) return;
    this.#presence?.onSignOfLife();
    if (type === LETTER_COPY_DONE) stream.onCopyDone();
    else stream.onCopyData(body);
  }

  /** A CancelRequest. */
  cancel(): void {
    this.#stream?.abort(USER_CANCEL, 'client');
  }

  /** Serves the standby up to `endLsn`, at most until `deadlineMs` (monotonic). False when nothing streams. */
  drain(endLsn: Lsn, deadlineMs: number): boolean {
    this.#stream?.drain(endLsn, deadlineMs);
    return this.#stream !== null;
  }

  /** Ends the stream, if there is one, and gives back what it held. */
  drop(): void {
    const stream = this.#stream;
    if (stream === null) return;
    stream.stop();
    this.#lastStreamed = lastHeard(this.#lastStreamed, this.#session.snapshot());
    Object.assign(this.#before, this.sent());
    this.#stream = null;
    if (this.#slot !== null) this.#shared.slots.release(this.#slot, this.#session.pid);
    this.#slot = null;
    this.#session.onStreamStopped();
    this.#presence?.onOver();
    this.#presence = null;
  }

  /** The session is over. */
  close(): void {
    this.drop();
    this.#feedback?.close();
  }

  // --- for the stream

  write(chunks: readonly Uint8Array[]): void {
    this.#session.write(chunks);
  }

  pendingBytes(): number {
    return this.#session.pendingBytes();
  }

  onStandbyMoved(): void {
    this.#session.onStandbyMoved();
  }

  onStreamEnd(end: StreamEnd): void {
    logStreamEnd(this.#log, end, this.#stream);
    this.drop();
    this.#session.onStreamOver(this.#endOf(end));
  }

  #endOf(end: StreamEnd): StreamOutcome {
    switch (end.kind) {
      case 'copy-done': {
        const { facts } = this.#session.commandContext().identity;
        this.write([...streamEndFrames(end.end, facts), encodeReadyForQuery()]);
        return { kind: 'commands' };
      }
      case 'drained':
        // No CopyDone: that would mean the end of the timeline. (walsender.c:WalSndDone)
        this.write([encodeCommandComplete('COPY 0')]);
        return { kind: 'end', reason: 'drain' };
      case 'error':
      case 'close':
        return end;
      default:
        return end satisfies never;
    }
  }

  #beginFeedback(slot: string | null): void {
    const { pid } = this.#session;
    const { applicationName } = this.#session.party();
    this.#feedback ??= this.#shared.feedback?.open({ pid, applicationName }) ?? null;
    this.#feedback?.begin(slot);
  }

  #makeStream(start: StreamStart): WalStream {
    const shared = this.#shared;
    const context = this.#session.commandContext();
    return new WalStream({
      host: this,
      feed: shared.feed,
      slots: shared.slots,
      feedback: this.#feedback,
      frames: shared.frames,
      reads: shared.reads,
      clock: shared.clock,
      log: this.#log,
      facts: context.identity.facts,
      segmentSize: context.identity.segmentSize,
      ...start,
      timeoutMs: context.walSenderTimeoutMs,
      holdAheadMs: shared.settings().holdAheadMs,
      isBackupRunning: () => shared.isBackupRunning(),
    });
  }
}
