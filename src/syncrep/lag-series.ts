// Which time belongs to a position of the WAL? A series of (position, time) in rising order of position, in bounded memory:
// when it is full, neighbours are merged whose times differ by little in comparison to how long ago they were. What is new
// stays exact, and nothing falls out.

/** Fewer would leave nothing to thin. */
const SAMPLES_MIN = 8;

/** Times that differ by no more than this share of their age may be taken for the same; more where memory wants it. */
const MERGED_SHARE = 1 / 256;

/**
 * What neighbours become when they are merged. The position is that of the last of them; the time is that of the `earliest` or
 * of the `latest` of them in order of position.
 */
export type MergedTime = 'earliest' | 'latest';

/**
 * The series. Positions are LSNs as doubles, so that nothing is allocated where they are compared: those that are multiples
 * of eight, as ends of records and pages are, are exact up to 2^56, and beyond neighbours may count as the same place.
 */
export class LagSeries {
  readonly #positions: Float64Array;
  readonly #times: Float64Array;
  readonly #mergedTime: MergedTime;
  #count = 0;

  constructor(options: { samplesMax: number; mergedTime: MergedTime }) {
    const capacity = Math.max(SAMPLES_MIN, options.samplesMax);
    this.#positions = new Float64Array(capacity);
    this.#times = new Float64Array(capacity);
    this.#mergedTime = options.mergedTime;
  }

  /** Samples that are kept. */
  get length(): number {
    return this.#count;
  }

  /** Adds a sample behind all others. One at or before the last position is dropped. */
  push(position: number, timeMs: number): void {
    if (this.#count > 0 && position <= this.#positionAt(this.#count - 1)) return;
    if (this.#count === this.#positions.length) this.#thin();
    this.#positions[this.#count] = position;
    this.#times[this.#count] = timeMs;
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

  /** The time of a sample, NaN beyond both ends. */
  timeAt(index: number): number {
    return index >= 0 && index < this.#count ? (this.#times[index] ?? Number.NaN) : Number.NaN;
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

  /** Makes room for a quarter more at least. */
  #thin(): void {
    const wanted = this.#times.length - (this.#times.length >>> 2);
    const newest = this.#latestTime();
    for (let share = MERGED_SHARE; this.#count > wanted; share *= 2) this.#merge(share, newest);
  }

  /** Not always that of the last sample: then nothing before it would have an age. */
  #latestTime(): number {
    let latest = Number.NEGATIVE_INFINITY;
    for (let index = 0; index < this.#count; index += 1) {
      latest = Math.max(latest, this.#times[index] ?? latest);
    }
    return latest;
  }

  #merge(share: number, newest: number): void {
    const [positions, times] = [this.#positions, this.#times];
    const isEarliest = this.#mergedTime === 'earliest';
    let earliest = times[0] ?? 0;
    let kept = 0;
    for (let index = 1; index < this.#count; index += 1) {
      const time = times[index] ?? 0;
      if (Math.abs(time - earliest) > share * (newest - time)) {
        kept += 1;
        earliest = time;
      }
      positions[kept] = positions[index] ?? 0;
      times[kept] = isEarliest ? earliest : time;
    }
    this.#count = kept + 1;
  }
}
