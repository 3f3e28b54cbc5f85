// How long did answers of the HTTP port take, by method, route and class of the status? Counted here, so that the series of all
// routes are written in pieces like everything else.
import type { DurationHistogram } from '../status/status.ts';
import { HTTP_METHODS } from './label-values.ts';
import { labelText } from './label-text.ts';
import type { LabelText } from './label-text.ts';
import type { Pace } from './pace.ts';
import type { Samples } from './samples.ts';

/** Upper bounds, seconds; `+Inf` follows. */
const BOUNDS_SECONDS: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
];

/** An answered HTTP request. `route` is the template, `none` for what has no route: never the URL. */
export interface AnsweredRequest {
  readonly method: string;
  readonly route: string;
  readonly statusCode: number;
  readonly seconds: number;
}

interface Series {
  readonly labels: LabelText;
  readonly counts: number[];
  sumSeconds: number;
}

/** All requests since the start. There are as many series as there are routes, methods and classes at most. */
export class HttpDurations {
  readonly #series = new Map<string, Series>();

  observe({ method, route, statusCode, seconds }: AnsweredRequest): void {
    const known = HTTP_METHODS.includes(method) ? method : 'other';
    const statusClass = `${Math.floor(statusCode / 100)}xx`;
    const key = `${known} ${statusClass} ${route}`;
    let series = this.#series.get(key);
    if (series === undefined) {
      const labels = labelText({ method: known, route, status_class: statusClass });
      series = { labels, counts: [...BOUNDS_SECONDS.map(() => 0), 0], sumSeconds: 0 };
      this.#series.set(key, series);
    }
    const found = BOUNDS_SECONDS.findIndex((bound) => seconds <= bound);
    const index = found === -1 ? BOUNDS_SECONDS.length : found;
    series.counts[index] = (series.counts[index] ?? 0) + 1;
    series.sumSeconds += seconds;
  }

  /** Adds every series, a piece at a time. */
  *write(samples: Samples, pace: Pace): Generator<undefined, void> {
    for (const { labels, counts, sumSeconds } of this.#series.values()) {
      const histogram: DurationHistogram = { boundsSeconds: BOUNDS_SECONDS, counts, sumSeconds };
      samples.addHistogram('http_request_duration_seconds', labels, histogram);
      if (pace.isEnough(counts.length)) yield;
    }
  }
}
