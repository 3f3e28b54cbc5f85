// How hot standby feedback gets upstream: when a minimum appears, gets older or clears, at once but a second apart; else once
// per status interval, however many standbys there are. (walreceiver.c:XLogWalRcvSendHSFeedback)
import type { Clock } from '../base/clock.ts';
import { Wakeup } from '../base/wakeup.ts';
import {
  FEEDBACK_INTERVAL_DEFAULT_MS,
  FEEDBACK_SENT_MS_MIN,
  UPSTREAM_UNSENT_STATUS_BYTES_MAX,
} from '../config/limits.ts';
import { pgTimestampFromUnixMs } from '../pg/timestamp.ts';
import type { Xmins } from '../pg/xmins.ts';
import { isUrgent, wireXmins } from '../syncrep/feedback.ts';
import { encodeHotStandbyFeedback } from '../wire/replication-messages.ts';
import type { FeedbackSource, UpstreamFeedback } from './ports.ts';

/** Where messages go while a stream runs. */
export interface FeedbackChannel {
  write(chunks: readonly Uint8Array[]): void;
  pendingBytes(): number;
}

/** What a reporter works with. */
export interface FeedbackReporterOptions {
  readonly source: FeedbackSource;
  /** wal_receiver_status_interval, looked up anew each time; 0 = {@link FEEDBACK_INTERVAL_DEFAULT_MS}. */
  readonly statusIntervalMs: () => number;
  readonly clock: Clock;
}

/** Feedback of one walreceiver, over all its streams. */
export class FeedbackReporter {
  readonly #options: FeedbackReporterOptions;
  readonly #wakeup: Wakeup;
  #channel: FeedbackChannel | null = null;
  /** On the stream that runs: the server may still hold what another one said. */
  #sent: Xmins | null = null;
  #sentAtMs = Number.NEGATIVE_INFINITY;
  #isScheduled = false;

  constructor(options: FeedbackReporterOptions) {
    this.#options = options;
    this.#wakeup = new Wakeup(options.clock, () => this.#look());
  }

  /** A stream began: what there is goes out at once, zeros included. */
  attach(channel: FeedbackChannel): void {
    this.#channel = channel;
    this.#sent = null;
    this.#look();
  }

  /** The stream ended. */
  detach(): void {
    this.#channel = null;
    this.#wakeup.cancel();
  }

  /** What is to be said may have changed. Looked at once this turn of the event loop is over. */
  changed(): void {
    if (this.#isScheduled || this.#channel === null) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#look();
    });
  }

  #look(): void {
    const channel = this.#channel;
    if (channel === null) return;
    const nowMs = this.#options.clock.nowMs();
    const hasRoom = channel.pendingBytes() <= UPSTREAM_UNSENT_STATUS_BYTES_MAX;
    const feedback = hasRoom ? this.#options.source.feedback() : null;
    if (feedback === null) {
      this.#wakeup.ensure(nowMs + FEEDBACK_SENT_MS_MIN);
      return;
    }
    const dueAtMs = this.#dueAtMs(feedback);
    if (nowMs < dueAtMs) this.#wakeup.ensure(dueAtMs);
    else this.#send(channel, feedback, nowMs);
  }

  #dueAtMs(feedback: UpstreamFeedback): number {
    const sent = this.#sent;
    if (sent === null) return Number.NEGATIVE_INFINITY;
    if (isUrgent(sent, feedback)) return this.#sentAtMs + FEEDBACK_SENT_MS_MIN;
    return isEmpty(feedback) ? Number.POSITIVE_INFINITY : this.#sentAtMs + this.#intervalMs();
  }

  #send(channel: FeedbackChannel, feedback: UpstreamFeedback, nowMs: number): void {
    const { clock, source } = this.#options;
    const { xmin, catalogXmin, nextXid } = feedback;
    const xmins = { xmin, catalogXmin };
    const sendTime = pgTimestampFromUnixMs(clock.wallMs());
    channel.write([encodeHotStandbyFeedback({ sendTime, ...wireXmins(xmins, nextXid) })]);
    this.#sent = xmins;
    this.#sentAtMs = nowMs;
    source.onSent(xmins);
    if (!isEmpty(xmins)) this.#wakeup.ensure(nowMs + this.#intervalMs());
  }

  #intervalMs(): number {
    return this.#options.statusIntervalMs() || FEEDBACK_INTERVAL_DEFAULT_MS;
  }
}

function isEmpty({ xmin, catalogXmin }: Xmins): boolean {
  return xmin === null && catalogXmin === null;
}
