// GET /metrics: what is rendered, for whom, and how often. The only door to prom-client, which holds the process's own metrics.
import { collectDefaultMetrics, Registry } from 'prom-client';
import type { Clock } from '../base/clock.ts';
import { OneATurn } from '../base/one-a-turn.ts';
import { TurnSlices } from '../base/turn-slices.ts';
import { readBuildInfo } from '../config/build-info.ts';
import { METRICS_REUSE_MS, METRICS_SLICE_MS } from '../config/limits.ts';
import type { StatusSource } from '../status/status.ts';
import { HttpDurations } from './http-durations.ts';
import type { AnsweredRequest } from './http-durations.ts';
import { OPENMETRICS_CONTENT_TYPE, prefersOpenMetrics, withFloatBounds } from './openmetrics.ts';
import { Samples } from './samples.ts';
import { Rendering, Sampler } from './scrape.ts';

export type { AnsweredRequest } from './http-durations.ts';

/** A rendered exposition. `contentType` goes out exactly as it is: Prometheus 3 refuses a scrape without a valid one. */
export interface Exposition {
  readonly contentType: string;
  readonly body: string;
}

/** What HTTP serves at /metrics, and what it tells about itself. */
export interface Metrics {
  /**
   * Reads the status once and renders every family, over several turns of the event loop. Scrapes that overlap, or follow a
   * rendering within {@link METRICS_REUSE_MS}, share it: it costs something, and anybody may ask. `accept` is the header of
   * that name: OpenMetrics for who asks for it, else the text format.
   */
  render(accept?: string): Promise<Exposition>;
  observeRequest(request: AnsweredRequest): void;
}

/** What the metrics are made from. */
export interface MetricsOptions {
  readonly source: StatusSource;
  readonly clock: Clock;
}

/** Opens the metrics of one process. Everything is filled at scrape time from the source; nothing runs in between. */
export function openMetrics(options: MetricsOptions): Metrics {
  return new RelayMetrics(options);
}

/** As the format wants it, letter for letter. */
const TEXT_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** Gauges that are named like counters, which promtool refuses; the sums of what is shown by type anyway. */
const MISNAMED: readonly string[] = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];

class RelayMetrics implements Metrics {
  readonly #options: MetricsOptions;
  readonly #process = new Registry();
  readonly #http = new HttpDurations();
  readonly #sampler = new Sampler();
  readonly #slices: TurnSlices;
  readonly #build = readBuildInfo();
  #rendering: Promise<Rendering> | null = null;
  #renderedAtMs = Number.POSITIVE_INFINITY;
  readonly #answers = new OneATurn();

  constructor(options: MetricsOptions) {
    this.#options = options;
    this.#slices = new TurnSlices({ clock: options.clock, sliceMs: METRICS_SLICE_MS });
    collectDefaultMetrics({ register: this.#process });
    for (const misnamed of MISNAMED) this.#process.removeSingleMetric(misnamed);
  }

  async render(accept?: string): Promise<Exposition> {
    const rendering = await this.#shared();
    // The last piece has had its time of this turn. Of those who waited for the same rendering each has a turn: to send it to a
    // hundred at once takes longer than to make it.
    await this.#answers.next();
    return prefersOpenMetrics(accept)
      ? { contentType: OPENMETRICS_CONTENT_TYPE, body: rendering.openMetrics() }
      : { contentType: TEXT_CONTENT_TYPE, body: rendering.text() };
  }

  observeRequest(request: AnsweredRequest): void {
    this.#http.observe(request);
  }

  #shared(): Promise<Rendering> {
    const { clock } = this.#options;
    const isOld = clock.nowMs() - this.#renderedAtMs >= METRICS_REUSE_MS;
    if (this.#rendering === null || isOld) {
      // While it runs it is never old.
      this.#renderedAtMs = Number.POSITIVE_INFINITY;
      this.#rendering = this.#renderNow().then(
        (rendering) => {
          this.#renderedAtMs = clock.nowMs();
          return rendering;
        },
        (error: unknown) => {
          this.#rendering = null;
          throw error;
        },
      );
    }
    return this.#rendering;
  }

  async #renderNow(): Promise<Rendering> {
    const { source, clock } = this.#options;
    // In a turn before those of the crowd: asking the kernel for a thousand open files takes a while by itself.
    const processText = withFloatBounds(await this.#process.metrics());
    const samples = new Samples();
    const steps = this.#sampler.steps(samples, {
      source,
      build: this.#build,
      http: this.#http,
      nowMs: clock.nowMs(),
      wallMs: clock.wallMs(),
    });
    await inTurns(steps, this.#slices);
    return new Rendering(samples, processText);
  }
}

/** Takes every step in its turn, the first one at once where there is time. Rejects with what a step throws. */
function inTurns(steps: Iterator<undefined, void>, slices: TurnSlices): Promise<void> {
  return new Promise((resolve, reject) => {
    const piece = (): void => {
      try {
        if (steps.next().done === true) resolve();
        else slices.run(piece);
      } catch (error) {
        reject(error);
      }
    };
    slices.run(piece);
  });
}
