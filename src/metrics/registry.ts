// The only door to prom-client: opens the registry that GET /metrics renders.
import type { StatusSource } from '../status/status.ts';

/** A rendered exposition. `contentType` goes out exactly as it is: Prometheus 3 refuses a scrape without a valid one. */
export interface Exposition {
  readonly contentType: string;
  readonly body: string;
}

/** What HTTP serves at /metrics. */
export interface Metrics {
  /** Reads the status once and renders every family. */
  render(): Promise<Exposition>;
}

/** Opens the metrics of one process. Everything is filled at scrape time from `source`; nothing runs in between. */
export function openMetrics(options: {
  readonly source: StatusSource;
  /** Milliseconds since the Unix epoch when the running configuration was loaded. */
  readonly configLoadedAtMs: number;
}): Metrics {
  void options;
  return { render: async () => ({ contentType: 'text/plain', body: '' }) };
}
