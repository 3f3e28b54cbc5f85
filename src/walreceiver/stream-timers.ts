// When is a status update due while WAL is streamed, and when is the upstream taken for dead? A pure clockwork: events
// and ticks with their time in, what to do out. (walreceiver.c:WalRcvComputeNextWakeup, WalReceiverMain)
import { QUIET_PING_MS, TIMEOUT_SECOND_LOOK_MS } from '../config/limits.ts';

/** While reading is paused the server is told this often that we live, or its wal_sender_timeout would end the session. */
export const PAUSED_STATUS_MS = 1_000;

/** Reading has been paused this long without any byte reaching the disk: the connection is given up until there is room. */
export const PAUSED_MS_MAX = 60_000;

/** What is due now. `ping` is a status update that asks for an answer. */
export type StreamDue = 'status' | 'ping' | 'timeout' | 'full' | null;

/** How long things may take; 0 switches the rule off. Looked up anew at each question: they may change. */
export interface StreamTimeouts {
  readonly receiverTimeoutMs: number;
  readonly statusIntervalMs: number;
}

/** The clockwork of one stream. Times are milliseconds of the monotonic clock. */
export class StreamTimers {
  readonly #timeouts: StreamTimeouts;
  #receivedAtMs: number;
  #statusSentAtMs: number;
  /** When an answer was asked for since the last bytes, for the first time and for the last. */
  #pingedAtMs: number | null = null;
  #pingedAgainAtMs = 0;
  /** When the time for that answer was first seen to be over. */
  #overdueSinceMs: number | null = null;
  #pausedSinceMs: number | null = null;

  constructor(timeouts: StreamTimeouts, nowMs: number) {
    this.#timeouts = timeouts;
    this.#receivedAtMs = nowMs;
    this.#statusSentAtMs = nowMs;
  }

  /** Bytes arrived. */
  received(nowMs: number): void {
    this.#receivedAtMs = nowMs;
    this.#pingedAtMs = null;
    this.#overdueSinceMs = null;
  }

  /** When bytes arrived last, or the stream began. */
  get receivedAtMs(): number {
    return this.#receivedAtMs;
  }

  /** A status update went out. */
  statusSent(nowMs: number): void {
    this.#statusSentAtMs = nowMs;
  }

  /** Reading was paused because the store is full; silence proves nothing now. */
  paused(nowMs: number): void {
    this.#pausedSinceMs ??= nowMs;
  }

  /** The store made progress although it is still full. */
  progressed(nowMs: number): void {
    if (this.#pausedSinceMs !== null) this.#pausedSinceMs = nowMs;
  }

  /** Reading goes on; the server gets the full time again. */
  resumed(nowMs: number): void {
    this.#pausedSinceMs = null;
    this.received(nowMs);
  }

  /** True while reading is paused. */
  get isPaused(): boolean {
    return this.#pausedSinceMs !== null;
  }

  /** What is due at `nowMs`, the weightiest first; to be asked again until it says null. */
  due(nowMs: number): StreamDue {
    if (this.#pausedSinceMs !== null) {
      if (nowMs - this.#pausedSinceMs >= PAUSED_MS_MAX) return 'full';
      return nowMs - this.#statusSentAtMs >= PAUSED_STATUS_MS ? 'status' : null;
    }
    const silence = this.#silenceDue(nowMs);
    if (silence !== null) return silence;
    const { statusIntervalMs } = this.#timeouts;
    const isStatusDue = statusIntervalMs > 0 && nowMs - this.#statusSentAtMs >= statusIntervalMs;
    return isStatusDue ? 'status' : null;
  }

  /** When something can be due next, unless bytes arrive before. */
  nextDueAtMs(): number {
    if (this.#pausedSinceMs !== null) {
      return Math.min(this.#statusSentAtMs + PAUSED_STATUS_MS, this.#pausedSinceMs + PAUSED_MS_MAX);
    }
    const { receiverTimeoutMs, statusIntervalMs } = this.#timeouts;
    const times = [this.#silenceDueAtMs(receiverTimeoutMs)];
    if (statusIntervalMs > 0) times.push(this.#statusSentAtMs + statusIntervalMs);
    return Math.min(...times);
  }

  /**
   * Time that passed while we did not run is not the server's silence. It is never given up without having been asked and
   * given half of the time to answer; and what lies unread in the socket by then gets a moment to be read. It is asked after half
   * a minute however long it may be silent, and where it may be for ever: an idle server says nothing by itself to who
   * sends status updates, and would look like a stopped one. (PostgreSQL asks after half of the timeout only.) Who does not
   * answer is asked again as often: it is the moment, too, at which an answer that has come meanwhile is seen.
   */
  #silenceDue(nowMs: number): 'ping' | 'timeout' | null {
    const { receiverTimeoutMs } = this.#timeouts;
    if (this.#pingedAtMs === null) {
      if (nowMs < this.#receivedAtMs + askAfterMs(receiverTimeoutMs)) return null;
      this.#pingedAtMs = nowMs;
      this.#pingedAgainAtMs = nowMs;
      return 'ping';
    }
    if (nowMs < this.#answerDueAtMs(this.#pingedAtMs, receiverTimeoutMs)) {
      this.#overdueSinceMs = null;
      if (nowMs < this.#pingedAgainAtMs + QUIET_PING_MS) return null;
      this.#pingedAgainAtMs = nowMs;
      return 'ping';
    }
    this.#overdueSinceMs ??= nowMs;
    return nowMs >= this.#overdueSinceMs + TIMEOUT_SECOND_LOOK_MS ? 'timeout' : null;
  }

  #silenceDueAtMs(receiverTimeoutMs: number): number {
    if (this.#overdueSinceMs !== null) return this.#overdueSinceMs + TIMEOUT_SECOND_LOOK_MS;
    if (this.#pingedAtMs === null) return this.#receivedAtMs + askAfterMs(receiverTimeoutMs);
    const answerDueAtMs = this.#answerDueAtMs(this.#pingedAtMs, receiverTimeoutMs);
    return Math.min(answerDueAtMs, this.#pingedAgainAtMs + QUIET_PING_MS);
  }

  #answerDueAtMs(pingedAtMs: number, receiverTimeoutMs: number): number {
    if (receiverTimeoutMs === 0) return Number.POSITIVE_INFINITY;
    return Math.max(this.#receivedAtMs + receiverTimeoutMs, pingedAtMs + receiverTimeoutMs / 2);
  }
}

function askAfterMs(receiverTimeoutMs: number): number {
  return receiverTimeoutMs === 0 ? QUIET_PING_MS : Math.min(receiverTimeoutMs / 2, QUIET_PING_MS);
}
