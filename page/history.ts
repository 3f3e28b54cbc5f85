// What has been seen in the last minutes: a sample a second, from when the page was opened on. Nothing is invented: where
// there was no connection there is a gap.
import type { StandbyJson } from '../src/http/api-types.ts';
import type { Picture } from './picture.ts';
import { lagSecondsOf, standbyKey } from './standby-order.ts';

/** How far back it goes: samples, one a second. */
export const HISTORY_SAMPLES: number = 300;

/** Samples are further apart than this only where nobody took any: what was then is not known. Seconds. */
const GAP_SECONDS = 20;

/** Series that are kept; more only for standbys that are there now: those that come and go all the time have a new pid each time. */
export const LAG_SERIES_MAX: number = 2_000;

/** Without an event for longer than this nothing has changed, milliseconds: what flowed before flows no more. */
const QUIET_MS = 1_700;

/** Unknown, or not there. */
const NONE = Number.NaN;

/** One standby's lag over time; index as in {@link History.times}. */
export interface LagSeries {
  readonly pid: number;
  readonly name: string;
  /** Seconds; null where unknown. */
  readonly values: readonly (number | null)[];
}

/** A ring of samples of everything that is drawn over time. */
export class History {
  /** Seconds since the Unix epoch, by the clock of this browser. */
  readonly #times: Float64Array = new Float64Array(HISTORY_SAMPLES);
  readonly #received: Float64Array = new Float64Array(HISTORY_SAMPLES);
  readonly #sent: Float64Array = new Float64Array(HISTORY_SAMPLES);
  readonly #lags: Map<string, StandbyLags> = new Map();
  #count = 0;
  #flow: Flow | null = null;

  /** Standbys of which there are samples. */
  get seriesCount(): number {
    return this.#lags.size;
  }

  /** Samples that there are. */
  get length(): number {
    return Math.min(this.#count, HISTORY_SAMPLES);
  }

  /** From the oldest sample to the last one, that one included: seconds. */
  get seconds(): number {
    return this.length === 0 ? 0 : this.#timeAt(this.length - 1) - this.#timeAt(0) + 1;
  }

  /**
   * Takes a sample. `picture` is null where there is no connection. `nowMs`: milliseconds since the Unix epoch, by the clock
   * of this browser; a clock that went back begins anew.
   */
  sample(picture: Picture | null, nowMs: number): void {
    const seconds = nowMs / 1_000;
    if (this.length > 0 && seconds <= this.#timeAt(this.length - 1)) {
      this.#count = 0;
      this.#lags.clear();
    }
    const lastSeconds = this.length === 0 ? seconds : this.#timeAt(this.length - 1);
    if (seconds - lastSeconds > GAP_SECONDS) this.#push(null, (lastSeconds + 1) * 1_000);
    this.#push(picture, nowMs);
  }

  #push(picture: Picture | null, nowMs: number): void {
    const slot = this.#count % HISTORY_SAMPLES;
    this.#count += 1;
    this.#times[slot] = nowMs / 1_000;
    this.#flow = picture === null ? null : nextFlow(this.#flow, picture, nowMs);
    this.#received[slot] = this.#flow?.receivedRate ?? NONE;
    this.#sent[slot] = this.#flow?.sentRate ?? NONE;
    this.#sampleLags(picture, slot);
  }

  #sampleLags(picture: Picture | null, slot: number): void {
    for (const lags of this.#lags.values()) lags.values[slot] = NONE;
    for (const standby of picture?.standbys.values() ?? []) {
      const lag = lagSecondsOf(standby);
      if (lag === null) continue;
      const key = standbyKey(standby);
      let lags = this.#lags.get(key);
      if (lags === undefined) {
        const values = new Float64Array(HISTORY_SAMPLES).fill(NONE);
        lags = { pid: standby.pid, name: standby.application_name, values, lastSeen: 0 };
        this.#lags.set(key, lags);
      }
      lags.values[slot] = lag;
      lags.lastSeen = this.#count;
    }
    for (const [key, { lastSeen }] of this.#lags) {
      const age = this.#count - lastSeen;
      const isTooMany = age > 0 && this.#lags.size > LAG_SERIES_MAX;
      if (age >= HISTORY_SAMPLES || isTooMany) this.#lags.delete(key);
    }
  }

  /** When the samples were taken, the oldest first: seconds since the Unix epoch. */
  times(): number[] {
    return Array.from({ length: this.length }, (_, index) => this.#timeAt(index));
  }

  /** Bytes a second from the upstream, and to all standbys together. */
  rates(): {
    readonly received: readonly (number | null)[];
    readonly sent: readonly (number | null)[];
  } {
    return { received: this.#unrolled(this.#received), sent: this.#unrolled(this.#sent) };
  }

  /** The flow now; null when it is not known, which it is from the second event on. */
  get flow(): { readonly receivedRate: number | null; readonly sentRate: number | null } {
    const { receivedRate = null, sentRate = null } = this.#flow ?? {};
    return { receivedRate, sentRate };
  }

  /**
   * The standbys that lag most: those that do now, in the order of their lag, then those that did. Where many lag alike the
   * order of their names decides, so that lines do not change places for nothing.
   */
  worst(count: number): LagSeries[] {
    return [...this.#lags.values()]
      .map((lags) => ({ lags, weight: this.#weight(lags) }))
      .toSorted((a, b) => b.weight - a.weight || compareText(a.lags.name, b.lags.name))
      .slice(0, count)
      .map(({ lags }) => {
        return { pid: lags.pid, name: lags.name, values: this.#unrolled(lags.values) };
      });
  }

  /** The mean of the last minute, in steps of a factor of two. */
  #weight({ values }: StandbyLags): number {
    let sum = 0;
    for (let back = 1; back <= Math.min(60, this.length); back++) {
      const value = values[(this.#count - back) % HISTORY_SAMPLES] ?? 0;
      if (!Number.isNaN(value)) sum += value;
    }
    return Math.round(Math.log2(Math.max(sum / 60, 0.001)));
  }

  #timeAt(index: number): number {
    return this.#times[this.#slotOf(index)] ?? NONE;
  }

  #unrolled(values: Float64Array): (number | null)[] {
    return Array.from({ length: this.length }, (_, index) => {
      const value = values[this.#slotOf(index)] ?? NONE;
      return Number.isNaN(value) ? null : value;
    });
  }

  #slotOf(index: number): number {
    return (this.#count - this.length + index) % HISTORY_SAMPLES;
  }
}

interface StandbyLags {
  readonly pid: number;
  readonly name: string;
  readonly values: Float64Array;
  /** What the count of samples was. */
  lastSeen: number;
}

/** Counters as of an event, and the rates that follow from the one before. Bytes a second. */
interface Flow {
  readonly atMs: number;
  /** Which run of walcast the counters are of. */
  readonly startedAt: string;
  readonly receivedBytes: number;
  readonly sentBytes: ReadonlyMap<number, number>;
  readonly receivedRate: number | null;
  readonly sentRate: number | null;
  /** When this picture was first seen, by the clock of this browser. */
  readonly seenMs: number;
}

function nextFlow(before: Flow | null, picture: Picture, nowMs: number): Flow {
  const { atMs, status, upstream, standbys } = picture;
  if (before !== null && before.atMs === atMs) {
    return nowMs - before.seenMs < QUIET_MS ? before : { ...before, receivedRate: 0, sentRate: 0 };
  }
  const counters = {
    atMs,
    startedAt: status.started_at,
    seenMs: nowMs,
    receivedBytes: upstream.received_bytes,
    sentBytes: new Map([...standbys].map(([pid, { sent_bytes: bytes }]) => [pid, bytes])),
  };
  const seconds = before === null ? 0 : (atMs - before.atMs) / 1_000;
  // After a restart the counters begin at 0; a clock may have been set back.
  if (before === null || seconds <= 0 || counters.startedAt !== before.startedAt) {
    return { ...counters, receivedRate: null, sentRate: null };
  }
  return {
    ...counters,
    receivedRate: (counters.receivedBytes - before.receivedBytes) / seconds,
    sentRate: sentSince(before, standbys) / seconds,
  };
}

/** Bytes; a session that is new has sent all of it since then. */
function sentSince(before: Flow, standbys: ReadonlyMap<number, StandbyJson>): number {
  let sum = 0;
  for (const [pid, { sent_bytes: bytes }] of standbys) {
    sum += Math.max(0, bytes - (before.sentBytes.get(pid) ?? 0));
  }
  return sum;
}

function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
