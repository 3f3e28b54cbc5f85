// Events that arise while one is handled: when is their turn?

/** Hands over one event at a time, in the order in which they came, so that what follows from one never runs inside another. */
export class EventTurns<Event> {
  readonly #handle: (event: Event) => void;
  readonly #waiting: Event[] = [];
  #isHandling = false;

  constructor(handle: (event: Event) => void) {
    this.#handle = handle;
  }

  /** Handles the event, and all that come of it; or, while one is handled, leaves it for after that. True when all is done. */
  take(event: Event): boolean {
    this.#waiting.push(event);
    if (this.#isHandling) return false;
    this.#isHandling = true;
    try {
      for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
        this.#handle(next);
      }
    } finally {
      this.#isHandling = false;
    }
    return true;
  }
}
