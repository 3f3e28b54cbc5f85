// When is a piece of a scrape large enough to let others go on? By what it did, not by the time it took: it is the same on every
// machine, and a test can count it.

/** The work of one scrape, counted. */
export class Pace {
  readonly #unitsMax: number;
  #units = 0;

  /** `unitsMax`: rows read or written in one piece. */
  constructor(unitsMax: number) {
    this.#unitsMax = unitsMax;
  }

  /** So many rows were done. True: that was enough for one piece. */
  isEnough(rows: number): boolean {
    this.#units += rows;
    if (this.#units < this.#unitsMax) return false;
    this.#units = 0;
    return true;
  }
}
