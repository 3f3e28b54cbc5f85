// The only door to prom-client: opens the registry that GET /metrics renders.
import { collectDefaultMetrics, Histogram, Registry } from 'prom-client';
import type { Clock } from '../base/clock.ts';
import { readBuildInfo } from '../config/build-info.ts';
import {
  METRICS_FORGET_STANDBY_MS,
  METRICS_REUSE_MS,
  METRICS_STANDBYS_MAX,
  METRICS_STATFS_TIMEOUT_MS,
} from '../config/limits.ts';
import type { RelayStatus, StatusSource } from '../status/status.ts';
import { CATALOGUE, DURATION_BUCKETS_SECONDS, METRIC_PREFIX } from './catalogue.ts';
import type { FamilyName } from './catalogue.ts';
import { familyText } from './family-text.ts';
import { FilesystemProbe } from './filesystem-probe.ts';
import type { FilesystemSize, Statfs } from './filesystem-probe.ts';
import { histogramText } from './histogram-text.ts';
import { OPENMETRICS_CONTENT_TYPE, prefersOpenMetrics, toOpenMetrics } from './openmetrics.ts';
import {
  addAuthenticationSamples,
  addCertificateSamples,
  addClientSamples,
  addProcessSamples,
  addSlotSamples,
  addStoreSamples,
  addUpstreamSamples,
  UPSTREAM_LABEL,
} from './relay-samples.ts';
import { Samples } from './samples.ts';
import { StandbySampler } from './standby-samples.ts';
import { addSyncSamples } from './sync-samples.ts';

/** A rendered exposition. `contentType` goes out exactly as it is: Prometheus 3 refuses a scrape without a valid one. */
export interface Exposition {
  readonly contentType: string;
  readonly body: string;
}

/** An answered HTTP request. `route` is the template, `none` for what has no route: never the URL. */
export interface AnsweredRequest {
  readonly method: string;
  readonly route: string;
  readonly statusCode: number;
  readonly seconds: number;
}

/** What HTTP serves at /metrics, and what it tells about itself. */
export interface Metrics {
  /**
   * Reads the status once and renders every family. Scrapes that overlap, or follow a rendering within
   * {@link METRICS_REUSE_MS}, share it: rendering holds up the event loop, and anybody may ask. `accept` is the header of
   * that name: OpenMetrics for who asks for it, else the text format.
   */
  render(accept?: string): Promise<Exposition>;
  observeRequest(request: AnsweredRequest): void;
}

/** What the metrics are made from. */
export interface MetricsOptions {
  readonly source: StatusSource;
  readonly clock: Clock;
  /** Whose file system is measured; null for none. */
  readonly storageDirectory: string | null;
  /** How that file system is asked; default statfs(2). */
  readonly statfs?: Statfs;
}

/** Opens the metrics of one process. Everything is filled at scrape time from the source; nothing runs in between. */
export function openMetrics(options: MetricsOptions): Metrics {
  return new RelayMetrics(options);
}

/** Methods that get a label of their own. */
const HTTP_METHODS: readonly string[] = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'OPTIONS',
  'PATCH',
];

/** Gauges that are named like counters, which promtool refuses; the sums of what is shown by type anyway. */
const MISNAMED: readonly string[] = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];

class RelayMetrics implements Metrics {
  readonly #options: MetricsOptions;
  readonly #registry = new Registry();
  readonly #requestDuration: Histogram;
  readonly #standbys = new StandbySampler({
    cap: METRICS_STANDBYS_MAX,
    forgetMs: METRICS_FORGET_STANDBY_MS,
  });
  readonly #build = readBuildInfo();
  readonly #filesystem: FilesystemProbe | null;
  #rendering: Promise<string> | null = null;
  /** The same as OpenMetrics, made of the rendering of that text. */
  #openMetrics: { readonly from: string; readonly body: string } | null = null;
  #renderedAtMs = Number.POSITIVE_INFINITY;

  constructor(options: MetricsOptions) {
    this.#options = options;
    const { storageDirectory: directory, clock, statfs } = options;
    const timeoutMs = METRICS_STATFS_TIMEOUT_MS;
    this.#filesystem =
      directory === null ? null : new FilesystemProbe({ directory, clock, timeoutMs, statfs });
    const { name, help, labels } = familyOf('http_request_duration_seconds');
    this.#requestDuration = new Histogram({
      name,
      help,
      labelNames: [...labels],
      buckets: [...DURATION_BUCKETS_SECONDS],
      registers: [this.#registry],
    });
    collectDefaultMetrics({ register: this.#registry });
    for (const misnamed of MISNAMED) this.#registry.removeSingleMetric(misnamed);
  }

  async render(accept?: string): Promise<Exposition> {
    const text = await this.#text();
    if (!prefersOpenMetrics(accept)) {
      return { contentType: this.#registry.contentType, body: text };
    }
    if (this.#openMetrics?.from !== text) {
      this.#openMetrics = { from: text, body: toOpenMetrics(text) };
    }
    return { contentType: OPENMETRICS_CONTENT_TYPE, body: this.#openMetrics.body };
  }

  #text(): Promise<string> {
    const { clock } = this.#options;
    const isOld = clock.nowMs() - this.#renderedAtMs >= METRICS_REUSE_MS;
    if (this.#rendering === null || isOld) {
      // While it runs it is never old.
      this.#renderedAtMs = Number.POSITIVE_INFINITY;
      this.#rendering = this.#renderNow().then(
        (text) => {
          this.#renderedAtMs = clock.nowMs();
          return text;
        },
        (error: unknown) => {
          this.#rendering = null;
          throw error;
        },
      );
    }
    return this.#rendering;
  }

  observeRequest({ method, route, statusCode, seconds }: AnsweredRequest): void {
    this.#requestDuration.observe(
      {
        method: HTTP_METHODS.includes(method) ? method : 'other',
        route,
        status_class: `${Math.floor(statusCode / 100)}xx`,
      },
      seconds,
    );
  }

  async #renderNow(): Promise<string> {
    const filesystem = (await this.#filesystem?.measure()) ?? null;
    const status = this.#options.source.status();
    const samples = this.#samplesOf(status, filesystem);
    const { flushDuration, writeDuration } = status.store;
    const upstream = { name: 'upstream', value: UPSTREAM_LABEL };
    let body = '';
    for (const { name, type, help } of CATALOGUE) {
      if (type === 'histogram') continue;
      body += familyText({ name: METRIC_PREFIX + name, type, help }, samples.of(name));
    }
    const blocks = [
      body,
      await this.#registry.metrics(),
      histogramText(familyOf('store_flush_duration_seconds'), upstream, flushDuration),
      histogramText(familyOf('store_write_duration_seconds'), upstream, writeDuration),
      histogramText(familyOf('upstream_transit_seconds'), upstream, status.upstreamDelay.transit),
      histogramText(
        familyOf('sync_confirm_duration_seconds'),
        upstream,
        status.sync.confirmDuration,
      ),
    ];
    return blocks.join('\n');
  }

  #samplesOf(status: RelayStatus, filesystem: FilesystemSize | null): Samples {
    const samples = new Samples();
    addProcessSamples(samples, status, this.#build);
    addUpstreamSamples(samples, status);
    addStoreSamples(samples, status, filesystem);
    this.#standbys.add(samples, status, this.#options.clock.nowMs());
    addSyncSamples(samples, status);
    addSlotSamples(samples, status, this.#options.clock.wallMs());
    addCertificateSamples(samples, status);
    addAuthenticationSamples(samples, status);
    addClientSamples(samples, status);
    return samples;
  }
}

function familyOf(name: FamilyName): { name: string; help: string; labels: readonly string[] } {
  const family = CATALOGUE.find((entry) => entry.name === name);
  return { name: METRIC_PREFIX + name, help: family?.help ?? '', labels: family?.labels ?? [] };
}
