// Many wait for the same, and all of them could go on at once: who goes on when? One a turn of the event loop, in the order in which
// they asked, where what each does next takes a while.

/** One order of those who go on. Their number is bounded by whoever asks. */
export class OneATurn {
  #last: Promise<void> = Promise.resolve();

  /** Resolves in a turn that nobody else of this order has, never in the present one. */
  next(): Promise<void> {
    this.#last = this.#last.then(nextTurn);
    return this.#last;
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
