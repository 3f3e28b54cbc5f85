// One START_REPLICATION from CopyBothResponse to its end: pulls WAL for as long as the socket takes it, listens to the
// standby, and says how it ended. (walsender.c:WalSndLoop, XLogSendPhysical, ProcessRepliesIfAny, WalSndDone)
//
// What one standby can hold on to: one batch in its socket (views of the tail, or one file read of at most
// FILE_READ_BYTES_MAX), and one file read ahead. It never has a queue.
import { ProtocolViolation } from '../base/errors.ts';
import { Wakeup } from '../base/wakeup.ts';
import { DRAIN_PING_MS, HOLD_CHECK_MS, HOLD_KEEPALIVE_MS } from '../config/limits.ts';
import { formatLsn, lsnDistance, minLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { switchPoint } from '../pg/timeline.ts';
import type { TimelineId } from '../pg/timeline.ts';
import { pgTimestampFromUnixMs } from '../pg/timestamp.ts';
import type { EndToEndLag, StandbyDisconnectReason, WalSenderState } from '../status/status.ts';
import type { CommandError } from '../wire/replication-command.ts';
import { encodeCopyDone } from '../wire/backend-messages.ts';
import {
  COPY_DATA_KIND,
  copyDataKind,
  decodeHotStandbyFeedback,
  decodeStandbyStatusUpdate,
  encodePrimaryKeepalive,
} from '../wire/replication-messages.ts';
import type { FrameBatch } from './shared-frames.ts';
import { StandbyClock } from './standby-clock.ts';
import { StandbyPositions } from './standby-positions.ts';
import { StandbyReport } from './standby-report.ts';
import type { StreamEnd, StreamOptions } from './stream-host.ts';
import {
  fileBeforeTimeline,
  notInHistory,
  readFailed,
  startIsAhead,
  startIsOffHistory,
} from './stream-plan.ts';
import type { TimelineEnd } from './stream-plan.ts';
import { WalSource } from './wal-source.ts';
import type { SourceFailure } from './wal-source.ts';

/** How far a stream has got. LSNs are exclusive ends. */
export interface StreamProgress {
  readonly confirmedLsn: Lsn;
  readonly sentLsn: Lsn;
  /** All there is for the standby so far. */
  readonly endLsn: Lsn;
}

/** WAL going out to one standby. */
export class WalStream {
  readonly #options: StreamOptions;
  readonly #positions: StandbyPositions;
  /** What the standby has said so far. */
  readonly report: StandbyReport;
  readonly #standbyClock: StandbyClock;
  readonly #wakeup: Wakeup;
  readonly #source: WalSource;
  #state: Extract<WalSenderState, 'catchup' | 'streaming' | 'stopping'> = 'catchup';
  #end: TimelineEnd | null;
  #hold: { readonly sinceMs: number; keepaliveAtMs: number } | null = null;
  #drain: { endLsn: Lsn; deadlineMs: number; pingAtMs: number } | null = null;
  /** The flush position of the last reply, where it did not count in full because we had not sent so much by then. */
  #cutFlushLsn: Lsn | null = null;
  #isCopyDoneSent = false;
  #isEnded = false;
  #isAnswerPending = false;
  #blockedSinceMs: number | null = null;
  #blockedMs = 0;
  #sentBytes = 0;
  /** Monotonic. */
  readonly startedAtMs: number;

  constructor(options: StreamOptions) {
    this.#options = options;
    this.#end = options.end;
    this.#positions = new StandbyPositions(options.startLsn, options.feed.ages);
    const { slots, slot, feedback, log } = options;
    this.report = new StandbyReport({ positions: this.#positions, slots, slot, feedback, log });
    const nowMs = options.clock.nowMs();
    this.startedAtMs = nowMs;
    this.#standbyClock = new StandbyClock({ timeoutMs: options.timeoutMs, nowMs });
    this.#wakeup = new Wakeup(options.clock, () => this.#onWake());
    const { feed, frames, reads, timeline } = options;
    const onReady = (): void => this.pump();
    this.#source = new WalSource({ feed, frames, reads, timeline, onReady });
  }

  get timeline(): TimelineId {
    return this.#options.timeline;
  }

  get state(): 'catchup' | 'streaming' | 'stopping' {
    return this.#state;
  }

  /** Null while the standby waits for WAL from beyond our end: nothing has been sent to it, and no claim of it counts. */
  get positions(): StandbyPositions | null {
    return this.#hold === null ? this.#positions : null;
  }

  /** Null as {@link positions}. */
  endToEndLag(): EndToEndLag | null {
    return this.positions?.endToEndLag(this.#options.clock.nowMs()) ?? null;
  }

  /** Seconds, see {@link StandbyPositions.replayedCommitAge}; null also where {@link positions} is. */
  replayedCommitAge(): number | null {
    return this.positions?.replayedCommitAge(this.#options.clock.nowMs()) ?? null;
  }

  /** Null while the standby waits for WAL from beyond our end. */
  progress(): StreamProgress | null {
    if (this.#hold !== null) return null;
    const sendableLsn = this.#options.feed.sendableLsn();
    const { progressLsn, sentLsn } = this.#positions;
    const endLsn = this.#end === null ? sendableLsn : minLsn(this.#end.endLsn, sendableLsn);
    return { confirmedLsn: progressLsn, sentLsn, endLsn };
  }

  /** The standby has confirmed for good everything that it was sent: it is busy neither with reading nor with its disk. */
  isAllConfirmed(): boolean {
    return this.#positions.progressLsn >= this.#positions.sentLsn;
  }

  /** When the standby was heard last, monotonic; the beginning of the stream before its first message. */
  get heardAtMs(): number {
    return this.#standbyClock.lastMessageMs;
  }

  /** Asks the standby for a sign of life, unless it is asked already; behind our CopyDone nothing may be sent. */
  probe(): void {
    if (this.#isEnded || this.#isCopyDoneSent) return;
    if (this.#standbyClock.onProbe(this.#options.clock.nowMs())) this.#sendKeepalive(true);
    this.#arm();
  }

  /** Bytes of WAL given to the socket, without framing. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Seconds during which the socket did not take what was written. */
  blockedSeconds(): number {
    const since = this.#blockedSinceMs;
    const current = since === null ? 0 : this.#options.clock.nowMs() - since;
    return (this.#blockedMs + current) / 1000;
  }

  /** Begins to send, once CopyBothResponse has been written. */
  start(): void {
    const { feed, startLsn, clock, segmentSize } = this.#options;
    const missingFile = fileBeforeTimeline(this.#options, feed.history(), segmentSize);
    if (missingFile !== null) {
      this.#failRead({ kind: 'removed', walFileName: missingFile });
    } else if (startLsn > feed.sendableLsn()) {
      const nowMs = clock.nowMs();
      this.#hold = { sinceMs: nowMs, keepaliveAtMs: nowMs + HOLD_KEEPALIVE_MS };
      this.#checkHold(nowMs);
    }
    this.pump();
    this.#arm();
  }

  /** Sends the next batch when the socket has nothing pending. Called when WAL arrived and when the socket drained. */
  pump(): void {
    while (this.#pumpOnce()) {
      // A piece from before the store may be so small that the socket takes it at once, and no drain follows.
    }
  }

  /** True when there may be more to send at once. */
  #pumpOnce(): boolean {
    if (this.#isEnded || this.#isCopyDoneSent) return false;
    // Also while the socket is full: on a timeline that was left, claims count up to its end only.
    if (!this.#isInHistory() || this.#options.host.pendingBytes() > 0) return false;
    const targetLsn = this.#target();
    if (targetLsn === null) return false;
    const startLsn = this.#positions.sentLsn;
    if (startLsn < targetLsn) this.#sendFrom(startLsn, targetLsn);
    if (this.#isEnded) return false;
    const { sentLsn } = this.#positions;
    if (sentLsn < targetLsn) return sentLsn > startLsn && startLsn < this.#options.feed.oldestLsn();
    if (this.#options.host.pendingBytes() === 0) this.#onCaughtUp();
    return false;
  }

  /** The socket has taken everything. */
  onDrain(): void {
    if (this.#blockedSinceMs !== null) {
      this.#blockedMs += this.#options.clock.nowMs() - this.#blockedSinceMs;
      this.#blockedSinceMs = null;
    }
    if (this.#isAnswerPending) {
      this.#isAnswerPending = false;
      this.#arm();
    }
    this.pump();
  }

  /** A CopyData message from the standby. A malformed one is an ERROR that ends the stream, not the session. */
  onCopyData(data: Uint8Array): void {
    try {
      this.#takeCopyData(data);
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      this.#fail({ sqlstate: error.code, message: error.message }, 'error');
    }
  }

  /**
   * Received WAL was taken back to `lsn` (exclusive end of what stays). Other bytes will come in its place, and a standby
   * that holds some of the old ones would join both to one record. Told nothing and cut off, it asks again, and from a
   * segment start. (walreceiverfuncs.c:RequestXLogStreaming)
   */
  onTakenBack(lsn: Lsn): void {
    this.#source.discard();
    if (this.#hold !== null || this.#positions.sentLsn <= lsn) return;
    const text = `WAL sent to this standby was taken back to ${formatLsn(lsn)}; its session ends, so that it asks for all of it again`;
    this.#finish({ kind: 'close', reason: 'error', text });
  }

  /** CopyDone from the standby: what was queued before still goes out, nothing more is added. */
  onCopyDone(): void {
    if (!this.#isCopyDoneSent) this.#options.host.write([encodeCopyDone()]);
    this.#finish({ kind: 'copy-done', end: this.#end });
  }

  /** Sends up to `endLsn`, waits for the confirmation at most until `deadlineMs` (monotonic), then ends. */
  drain(endLsn: Lsn, deadlineMs: number): void {
    if (this.#isEnded) return;
    this.#state = 'stopping';
    this.#drain = { endLsn, deadlineMs, pingAtMs: 0 };
    this.#options.host.onStandbyMoved();
    this.pump();
    this.#arm();
  }

  /** Ends the stream with an ERROR from outside: a cancel. */
  abort(error: CommandError, reason: StandbyDisconnectReason): void {
    this.#fail(error, reason);
  }

  /** The session is over: no more timers, reads or writes. */
  stop(): void {
    this.#isEnded = true;
    this.#wakeup.cancel();
    this.#source.close();
  }

  #takeCopyData(data: Uint8Array): void {
    const nowMs = this.#options.clock.nowMs();
    this.#standbyClock.onMessage(nowMs);
    const kind = copyDataKind(data);
    if (kind === COPY_DATA_KIND.standbyStatusUpdate) {
      this.#onStatusUpdate(data, nowMs);
    } else if (kind === COPY_DATA_KIND.hotStandbyFeedback) {
      this.report.onFeedback(decodeHotStandbyFeedback(data), this.#options.clock.wallMs());
    } else if (kind === -1) {
      throw new ProtocolViolation(SQLSTATE.protocolViolation, 'no data left in message');
    } else {
      const text = `unexpected message type "${String.fromCharCode(kind)}"`;
      this.#finish({ kind: 'close', reason: 'error', text });
    }
    this.#arm();
  }

  /** Up to where to send now; null when the stream has ended, or waits for WAL from beyond our end. */
  #target(): Lsn | null {
    const { feed } = this.#options;
    // A store begun on the timeline after ours, in the segment of the switch, may not have all of ours yet.
    const sendableLsn = feed.sendableLsn();
    const endLsn = this.#end === null ? sendableLsn : minLsn(this.#end.endLsn, sendableLsn);
    if (this.#hold !== null && endLsn < this.#options.startLsn) {
      if (this.#drain !== null) this.#finish({ kind: 'drained', isConfirmed: true });
      return null;
    }
    this.#hold = null;
    return this.#drain === null ? endLsn : minLsn(endLsn, this.#drain.endLsn);
  }

  /** False when the stream has just ended, because its timeline is not (any more) one of ours. */
  #isInHistory(): boolean {
    if (this.#end !== null || this.#options.feed.timeline() === this.timeline) return true;
    return this.#becomeHistoric();
  }

  /** The upstream went on to another timeline: ours now ends where it was left. */
  #becomeHistoric(): boolean {
    const end = switchPoint(this.#options.feed.history(), this.timeline);
    if (end === null) {
      this.#fail(notInHistory(this.timeline), 'timeline');
      return false;
    }
    const { startLsn, facts } = this.#options;
    if (this.#hold !== null && startLsn > end.endLsn) {
      this.#fail(startIsOffHistory({ startLsn, timeline: this.timeline }, end, facts), 'timeline');
      return false;
    }
    this.#end = end;
    this.#positions.cut(end.endLsn);
    this.#options.host.onStandbyMoved();
    return true;
  }

  #sendFrom(startLsn: Lsn, targetLsn: Lsn): void {
    const { clock } = this.#options;
    const nowMs = clock.nowMs();
    const request = {
      timeline: this.timeline,
      startLsn,
      sendableLsn: targetLsn,
      nowMs,
      wallMs: clock.wallMs(),
    };
    const batch = this.#source.take(request, this.#end !== null);
    if (batch === null) {
      this.#wakeup.ensure(this.#source.keepaliveAtMs);
    } else if ('kind' in batch) {
      this.#failRead(batch);
    } else {
      this.#send(batch, targetLsn, nowMs);
      this.#source.readAhead(batch.endLsn, targetLsn);
    }
  }

  #send(batch: FrameBatch, targetLsn: Lsn, nowMs: number): void {
    const { host } = this.#options;
    host.write(batch.chunks);
    this.#sentBytes += lsnDistance(batch.startLsn, batch.endLsn);
    this.#positions.onSend(batch.endLsn, targetLsn, nowMs);
    if (host.pendingBytes() > 0) this.#blockedSinceMs ??= nowMs;
  }

  /** Everything there is so far has been sent and taken. */
  #onCaughtUp(): void {
    if (this.#drain !== null) {
      this.#finishDrain(this.#positions.isConfirmed());
    } else if (this.#end !== null && this.#positions.sentLsn >= this.#end.endLsn) {
      this.#isCopyDoneSent = true;
      this.#options.host.write([encodeCopyDone()]);
    } else if (this.#state === 'catchup') {
      this.#state = 'streaming';
      this.#options.host.onStandbyMoved();
    }
    this.#askAgain();
  }

  /** A standby may say for as long as wal_receiver_status_interval nothing anew of WAL that it had before we sent it. */
  #askAgain(): void {
    if (this.#cutFlushLsn === null || this.#cutFlushLsn > this.#positions.sentLsn) return;
    this.#cutFlushLsn = null;
    this.probe();
  }

  #finishDrain(isConfirmed: boolean): void {
    const drain = this.#drain;
    if (drain === null) return;
    const nowMs = this.#options.clock.nowMs();
    if (isConfirmed || nowMs >= drain.deadlineMs) {
      this.#finish({ kind: 'drained', isConfirmed });
    } else if (nowMs >= drain.pingAtMs) {
      drain.pingAtMs = nowMs + DRAIN_PING_MS;
      this.#sendKeepalive(true);
    }
  }

  #onStatusUpdate(data: Uint8Array, nowMs: number): void {
    const update = decodeStandbyStatusUpdate(data);
    this.report.onReply(update.sendTime, this.#options.clock.wallMs());
    if (!this.#isInHistory()) return;
    const isCut = this.#hold !== null || update.flushLsn > this.#positions.sentLsn;
    this.#cutFlushLsn = isCut ? update.flushLsn : null;
    if (this.#hold === null && this.report.onPositions(update, nowMs)) {
      this.#options.host.onStandbyMoved();
    }
    if (
      update.replyRequested &&
      this.#standbyClock.onReplyRequested(nowMs, !this.#isAnswerPending)
    ) {
      this.#sendAnswer();
    }
    if (this.#drain !== null) this.pump();
  }

  #onWake(): void {
    if (this.#isEnded) return;
    const nowMs = this.#options.clock.nowMs();
    this.#tickClock(nowMs);
    if (!this.#isEnded) this.#checkHold(nowMs);
    if (!this.#isEnded) this.#checkDrain(nowMs);
    if (!this.#isEnded && nowMs >= this.#source.keepaliveAtMs) {
      this.#source.noteKeepalive(nowMs);
      this.#sendKeepalive(false);
    }
    this.#arm();
  }

  #tickClock(nowMs: number): void {
    for (;;) {
      const action = this.#standbyClock.tick(nowMs, !this.#isAnswerPending);
      if (action === 'none') return;
      if (action === 'ping') this.#sendKeepalive(true);
      if (action === 'answer') this.#sendAnswer();
      if (action === 'timeout') {
        const text = 'terminating walsender process due to replication timeout';
        this.#finish({ kind: 'close', reason: 'timeout', text });
        return;
      }
    }
  }

  #checkHold(nowMs: number): void {
    const hold = this.#hold;
    if (hold === null) return;
    const { feed, startLsn, facts, holdAheadMs } = this.#options;
    const isOver = nowMs - hold.sinceMs >= holdAheadMs;
    if (isOver || !this.#isExpected(startLsn, hold.sinceMs)) {
      if (startLsn > feed.sendableLsn()) {
        this.#fail(startIsAhead(startLsn, feed.sendableLsn(), facts), 'error');
      }
    } else if (nowMs >= hold.keepaliveAtMs) {
      hold.keepaliveAtMs = nowMs + HOLD_KEEPALIVE_MS;
      this.#sendKeepalive(false);
    }
  }

  /** The start of a backup that runs through us is a position of the upstream's that we have not been told. */
  #isExpected(startLsn: Lsn, sinceMs: number): boolean {
    const { feed, isBackupRunning } = this.#options;
    return feed.expectsWal(isBackupRunning() ? feed.sendableLsn() : startLsn, sinceMs);
  }

  #checkDrain(nowMs: number): void {
    if (this.#drain === null) return;
    if (nowMs >= this.#drain.deadlineMs) {
      this.#finish({ kind: 'drained', isConfirmed: false });
    } else {
      this.pump();
    }
  }

  #sendAnswer(): void {
    this.#sendKeepalive(false);
    this.#isAnswerPending = this.#options.host.pendingBytes() > 0;
  }

  /** A standby that began beyond our end is told where we end, not where it wants to begin. */
  #sendKeepalive(replyRequested: boolean): void {
    const { host, feed, clock } = this.#options;
    const sentLsn = this.#positions.sentLsn;
    const walEnd = this.#hold === null ? sentLsn : minLsn(sentLsn, feed.sendableLsn());
    const sendTime = pgTimestampFromUnixMs(clock.wallMs());
    host.write([encodePrimaryKeepalive({ walEnd, sendTime, replyRequested })]);
  }

  #failRead(failure: SourceFailure): void {
    const reason = failure.kind === 'removed' ? 'wal_removed' : 'error';
    this.#fail(readFailed(failure, this.#options.facts), reason);
  }

  #fail(error: CommandError, reason: StandbyDisconnectReason): void {
    this.#finish({ kind: 'error', error, reason });
  }

  #finish(end: StreamEnd): void {
    if (this.#isEnded) return;
    this.stop();
    this.#options.host.onStreamEnd(end);
  }

  #arm(): void {
    if (this.#isEnded) return;
    this.#wakeup.ensure(this.#standbyClock.nextTickMs(!this.#isAnswerPending));
    this.#wakeup.ensure(this.#source.keepaliveAtMs);
    if (this.#hold !== null) this.#wakeup.ensure(this.#options.clock.nowMs() + HOLD_CHECK_MS);
    const drain = this.#drain;
    if (drain === null) return;
    // A ping whose time has come and that was not sent waits for the socket, not for the clock.
    const isPinged = drain.pingAtMs > this.#options.clock.nowMs();
    this.#wakeup.ensure(isPinged ? Math.min(drain.deadlineMs, drain.pingAtMs) : drain.deadlineMs);
  }
}
