// Where does chance come from? One stream of numbers from one seed, so that a run can be had again.

/** A stream of pseudo-random numbers. (xorshift128, Marsaglia 2003) */
export class FuzzRandom {
  #a: number;
  #b = 362_436_069;
  #c = 521_288_629;
  #d = 88_675_123;

  constructor(seed: number) {
    this.#a = (seed ^ 0x9e3779b9) >>> 0 || 1;
    for (let round = 0; round < 16; round += 1) this.next();
  }

  /** 32 bits. */
  next(): number {
    const t = this.#a ^ (this.#a << 11);
    this.#a = this.#b;
    this.#b = this.#c;
    this.#c = this.#d;
    this.#d = this.#d ^ (this.#d >>> 19) ^ t ^ (t >>> 8);
    return this.#d >>> 0;
  }

  /** A whole number from 0 to `limit` (exclusive); 0 for a limit below 1. */
  below(limit: number): number {
    return limit < 1 ? 0 : Math.floor((this.next() / 0x1_0000_0000) * limit);
  }

  /** True once in `count` times. */
  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  /** One of the list, which must not be empty. */
  pick<T>(list: readonly T[]): T {
    const picked = list[this.below(list.length)];
    if (picked === undefined) throw new RangeError('nothing to pick from');
    return picked;
  }

  /** Small numbers often, large ones seldom, below `limit`. */
  small(limit: number): number {
    return this.below(1 + this.below(limit));
  }
}
