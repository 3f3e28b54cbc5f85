// Which value belongs to a position of the WAL? A series of (position, value) in rising order of position, in bounded
// memory: when it is full, its older half is thinned. What is new stays exact, what is old loses resolution again and
// again, and nothing falls out: after any number of samples the gaps are in proportion to how long ago they were.
/** Fewer would leave nothing to thin. */
const SAMPLES_MIN = 8;

/**
 * What two neighbours become when one of them has to go. The position is that of the later one; the value is that of the
 * `earlier` or of the `later` one.
 */
export type ThinnedValue = 'earlier' | 'later';

/**
 * The series. Positions are LSNs as doubles, so that nothing is allocated where they are compared: those that are multiples
 * of eight, as ends of records and pages are, are exact up to 2^56, and beyond neighbours may count as the same place.
 */
export class LagSeries {
  readonly #positions: Float64Array;
  readonly #values: Float64Array;
  readonly #thinned: ThinnedValue;
  #count = 0;

  constructor(options: { samplesMax: number; thinned: ThinnedValue }) {
    const capacity = Math.max(SAMPLES_MIN, options.samplesMax);
    this.#positions = new Float64Array(capacity);
    this.#values = new Float64Array(capacity);
    this.#thinned = options.thinned;
  }

  /** Samples that are kept. */
  get length(): number {
    return this.#count;
  }

  /** Adds a sample behind all others. One at or before the last position is dropped. */
  push(position: number, value: number): void {
    if (this.#count > 0 && position <= this.#positionAt(this.#count - 1)) return;
    if (this.#count === this.#positions.length) this.#thin();
    this.#positions[this.#count] = position;
    this.#values[this.#count] = value;
    this.#count += 1;
  }

  /** Index of the first sample whose position is greater than `position`; {@link length} when there is none. */
  firstAfter(position: number): number {
    return this.#first(position, false);
  }

  /** Index of the first sample whose position is `position` or greater; {@link length} when there is none. */
  firstFrom(position: number): number {
    return this.#first(position, true);
  }

  /** The value of a sample, NaN beyond both ends. */
  valueAt(index: number): number {
    return index >= 0 && index < this.#count ? (this.#values[index] ?? Number.NaN) : Number.NaN;
  }

  /** The position of a sample; 0 beyond both ends. */
  positionAt(index: number): number {
    return index >= 0 && index < this.#count ? this.#positionAt(index) : 0;
  }

  /** Takes off every sample from `index` on. */
  keepFirst(index: number): void {
    this.#count = Math.min(this.#count, index);
  }

  #first(position: number, isInclusive: boolean): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = this.#positionAt(middle);
      if (at > position || (isInclusive && at === position)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #positionAt(index: number): number {
    return this.#positions[index] ?? 0;
  }

  /** Of each two neighbours in the older half one stays. */
  #thin(): void {
    const pairs = this.#count >>> 2;
    const isEarlier = this.#thinned === 'earlier';
    for (let pair = 0; pair < pairs; pair += 1) {
      this.#positions[pair] = this.#positionAt(2 * pair + 1);
      this.#values[pair] = this.#values[isEarlier ? 2 * pair : 2 * pair + 1] ?? 0;
    }
    this.#positions.copyWithin(pairs, 2 * pairs, this.#count);
    this.#values.copyWithin(pairs, 2 * pairs, this.#count);
    this.#count -= pairs;
  }
}
