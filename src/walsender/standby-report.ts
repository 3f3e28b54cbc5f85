// What has one standby said so far: when, how far it is, what it feeds back; and what follows for its slot.
// (walsender.c:ProcessStandbyReplyMessage, PhysicalConfirmReceivedLocation)
import type { Log } from '../base/log.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { unixMsFromPgTimestamp } from '../pg/timestamp.ts';
import type { PgTimestamp } from '../pg/timestamp.ts';
import type { StandbyFeedbackStatus } from '../status/status.ts';
import type { HotStandbyFeedback, StandbyStatusUpdate } from '../wire/replication-messages.ts';
import type { SlotRegistry, StandbyFeedback } from './ports.ts';
import type { StandbyPositions } from './standby-positions.ts';

/** What a report works with. */
export interface StandbyReportOptions {
  readonly positions: StandbyPositions;
  readonly slots: SlotRegistry;
  /** The session's slot; null for none. */
  readonly slot: string | null;
  /** Where hot standby feedback goes; null: nowhere. */
  readonly feedback: StandbyFeedback | null;
  readonly log: Log;
}

/** The replies of one stream. */
export class StandbyReport {
  readonly #options: StandbyReportOptions;
  #replies = 0;
  #clampedReplies = 0;
  #slotLsn: Lsn | null = null;
  #replyTimeMs: number | null = null;
  #lastReplyAtMs: number | null = null;

  constructor(options: StandbyReportOptions) {
    this.#options = options;
  }

  /** The standby's own clock in its last reply, Unix milliseconds. */
  get replyTimeMs(): number | null {
    return this.#replyTimeMs;
  }

  /** When the last reply came, Unix milliseconds. */
  get lastReplyAtMs(): number | null {
    return this.#lastReplyAtMs;
  }

  /** Replies whose positions lay beyond what was sent. */
  get clampedReplies(): number {
    return this.#clampedReplies;
  }

  /** What the standby feeds back; null when it never did. */
  feedback(): StandbyFeedbackStatus | null {
    return this.#options.feedback?.status() ?? null;
  }

  /** Any reply came at `wallMs` (Unix milliseconds). */
  onReply(sendTime: PgTimestamp, wallMs: number): void {
    this.#replyTimeMs = unixMsFromPgTimestamp(sendTime);
    this.#lastReplyAtMs = wallMs;
  }

  /** A hot standby feedback message came. */
  onFeedback(feedback: HotStandbyFeedback, wallMs: number): void {
    this.#options.feedback?.take(feedback);
    this.onReply(feedback.sendTime, wallMs);
  }

  /** Takes the positions of a reply, and moves the slot. True when one of them moved. */
  onPositions(update: StandbyStatusUpdate, nowMs: number): boolean {
    const effect = this.#options.positions.onReply(update, nowMs);
    this.#replies += 1;
    if (effect.isClamped) this.#noteClamped(update.flushLsn);
    if (effect.confirmedLsn !== null) this.#advanceSlot(effect.confirmedLsn);
    return effect.hasMoved;
  }

  #advanceSlot(confirmedLsn: Lsn): void {
    const { slot, slots } = this.#options;
    if (slot === null || confirmedLsn === this.#slotLsn) return;
    this.#slotLsn = confirmedLsn;
    slots.advance(slot, confirmedLsn);
  }

  /** A standby's first reply names what it has replayed, which is often beyond what this connection sent. */
  #noteClamped(claimedFlush: Lsn): void {
    this.#clampedReplies += 1;
    const isFirstReply = this.#replies === 1;
    if (isFirstReply || this.#clampedReplies > 2) return;
    this.#options.log.warn('standby claims WAL that was not sent to it; the claim is cut', {
      claimed_flush_lsn: formatLsn(claimedFlush),
      sent_lsn: formatLsn(this.#options.positions.sentLsn),
    });
  }
}
