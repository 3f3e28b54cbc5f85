// When, on our own monotonic clock, was a message sent that says when it was sent on its sender's clock? As long before its
// arrival as it took longer than the quickest message seen lately. What every message needs is not seen, and neither is a
// skew of the clocks: a lag that is counted from there is a little too low by that, and never negative or an hour off. Pure.

/**
 * Half of the time for which a quick message is remembered: longer than between the messages of an idle upstream, short
 * enough for clocks that drift.
 */
export const SENDER_CLOCK_WINDOW_MS = 30_000;

/**
 * Messages may say that they were made so much before the one in front of them, and nobody's clock was set: a relay sends
 * what it made for another receiver a moment ago. More than walcast itself does.
 */
export const SENDER_CLOCK_BACK_MS = 100;

/** The clock of one sender, as its messages show it. */
export class SenderClock {
  /** Arrival on our clock less sending on the sender's: smallest in this window and in the one before. */
  #smallest = Number.POSITIVE_INFINITY;
  #smallestBefore = Number.POSITIVE_INFINITY;
  #windowEndMs = Number.NEGATIVE_INFINITY;
  #lastSentMs = Number.NEGATIVE_INFINITY;

  /** Another sender, or the same one through another connection: nothing is known of its clock. */
  reset(): void {
    this.#forget();
    this.#lastSentMs = Number.NEGATIVE_INFINITY;
  }

  /**
   * A message arrived at `nowMs` (monotonic) that was sent at `sentMs` on the sender's clock, in milliseconds since any
   * moment. Returns when that was on ours: at most `nowMs`.
   */
  observe(sentMs: number, nowMs: number): number {
    // Messages come in the order in which they were sent: the clock was set back.
    const isSetBack = sentMs < this.#lastSentMs - SENDER_CLOCK_BACK_MS;
    if (isSetBack) this.#forget();
    this.#lastSentMs = isSetBack ? sentMs : Math.max(this.#lastSentMs, sentMs);
    this.#turnWindow(nowMs);
    const difference = nowMs - sentMs;
    this.#smallest = Math.min(this.#smallest, difference);
    return nowMs - (difference - Math.min(this.#smallest, this.#smallestBefore));
  }

  #turnWindow(nowMs: number): void {
    if (nowMs < this.#windowEndMs) return;
    const isNext = nowMs < this.#windowEndMs + SENDER_CLOCK_WINDOW_MS;
    this.#smallestBefore = isNext ? this.#smallest : Number.POSITIVE_INFINITY;
    this.#smallest = Number.POSITIVE_INFINITY;
    this.#windowEndMs = nowMs + SENDER_CLOCK_WINDOW_MS;
  }

  #forget(): void {
    this.#smallest = Number.POSITIVE_INFINITY;
    this.#smallestBefore = Number.POSITIVE_INFINITY;
    this.#windowEndMs = Number.NEGATIVE_INFINITY;
  }
}
