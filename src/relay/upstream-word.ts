// Up to where has the upstream itself named WAL, on the timeline that is being received? That is how far a standby that
// starts beyond our own end may be right. What it said last may be older than the standby's WAL, so it can be asked anew.
import type { Clock } from '../base/clock.ts';
import {
  UPSTREAM_WORD_INTERVAL_MS,
  UPSTREAM_WORD_PATIENCE_MS,
  UPSTREAM_WORD_SETTLE_MS,
} from '../config/limits.ts';
import { INVALID_LSN, maxLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { switchPoint } from '../pg/timeline.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { UpstreamIdentity } from '../walreceiver/ports.ts';

/** What the word depends on. Times are of the monotonic clock. */
export interface UpstreamWordParts {
  readonly clock: Clock;
  /** WAL streams in. */
  readonly isMoving: () => boolean;
  /** Asks the upstream for a keepalive. */
  readonly ask: () => void;
}

/** What the upstream has named, over all its connections. */
export class UpstreamWord {
  readonly #parts: UpstreamWordParts;
  #timeline: TimelineId | null = null;
  /** Exclusive; on `#timeline`. */
  #namedLsn: Lsn = INVALID_LSN;
  /** When the question that is open was asked. */
  #askedAtMs: number | null = null;
  /** The question that was answered last. */
  #answer: { readonly askedAtMs: number; readonly heardAtMs: number } | null = null;

  constructor(parts: UpstreamWordParts) {
    this.#parts = parts;
  }

  /**
   * A stream of `timeline` is about to begin with the server that said `identity` of itself. What was named on the same
   * timeline before stays: that WAL existed.
   */
  startStream(
    timeline: TimelineId,
    identity: Pick<UpstreamIdentity, 'timeline' | 'xlogPos' | 'history'>,
  ): void {
    const endLsn =
      identity.timeline === timeline
        ? identity.xlogPos
        : (switchPoint(identity.history, timeline)?.endLsn ?? INVALID_LSN);
    this.#namedLsn = this.#timeline === timeline ? maxLsn(this.#namedLsn, endLsn) : endLsn;
    this.#timeline = timeline;
    // On another connection nobody answers it.
    this.#askedAtMs = null;
    this.#answer = null;
  }

  /** A message of the stream names `walEnd` (exclusive) as the server's end of WAL. On the hot path. */
  heard(walEnd: Lsn, isKeepalive: boolean): void {
    if (walEnd > this.#namedLsn) this.#namedLsn = walEnd;
    if (!isKeepalive || this.#askedAtMs === null) return;
    this.#answer = { askedAtMs: this.#askedAtMs, heardAtMs: this.#parts.clock.nowMs() };
    this.#askedAtMs = null;
  }

  /**
   * May WAL up to `lsn` be on its way, for somebody who waits since `sinceMs`? True while WAL streams in and the upstream has
   * named that much, or has not yet answered a question that was asked since: that is asked here. To be called again and
   * again.
   */
  expects(lsn: Lsn, sinceMs: number): boolean {
    if (!this.#parts.isMoving()) return false;
    if (lsn <= this.#namedLsn) return true;
    const nowMs = this.#parts.clock.nowMs();
    const answer = this.#answer;
    if (answer !== null && answer.askedAtMs >= sinceMs) {
      // A walsender answers first, and sends right behind it what it has not sent. (walsender.c:WalSndLoop)
      return nowMs < answer.heardAtMs + UPSTREAM_WORD_SETTLE_MS;
    }
    this.#askAt(nowMs);
    return true;
  }

  /** However many wait, there is one question at a time. */
  #askAt(nowMs: number): void {
    const lastMs = this.#askedAtMs ?? this.#answer?.askedAtMs ?? Number.NEGATIVE_INFINITY;
    const pauseMs =
      this.#askedAtMs === null ? UPSTREAM_WORD_INTERVAL_MS : UPSTREAM_WORD_PATIENCE_MS;
    if (nowMs - lastMs < pauseMs) return;
    this.#askedAtMs = nowMs;
    this.#parts.ask();
  }
}
