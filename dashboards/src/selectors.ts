// How does a query name series? Every selector carries the dashboard's `job` and `instance`; a family that walcast does not have is a type error.
import type { FamilyName } from '../../src/metrics/catalogue.ts';

/** A family of walcast, or a series of one of its histograms; without the prefix. */
export type SeriesName = FamilyName | `${FamilyName}_bucket` | `${FamilyName}_count`;

/** Families of other makers that dashboards of walcast show: of Prometheus itself, of prom-client and of Node.js. */
export type RuntimeName =
  | 'nodejs_eventloop_lag_p50_seconds'
  | 'nodejs_eventloop_lag_p99_seconds'
  | 'nodejs_gc_duration_seconds_count'
  | 'nodejs_gc_duration_seconds_sum'
  | 'nodejs_heap_size_used_bytes'
  | 'nodejs_external_memory_bytes'
  | 'process_cpu_seconds_total'
  | 'process_max_fds'
  | 'process_open_fds'
  | 'process_resident_memory_bytes'
  | 'process_start_time_seconds'
  | 'scrape_duration_seconds'
  | 'scrape_samples_scraped'
  | 'up';

/** Labels that say which relay it is. */
const RELAY = 'job, instance';

/** Series of a family of walcast; `matchers` are more label matchers, as in PromQL. */
export function walcast(name: SeriesName, ...matchers: readonly string[]): string {
  return select(`walcast_${name}`, matchers);
}

/** Seconds from the moment that a gauge names until it was scraped: what came after that is not known yet, and would look like silence. */
export function ageAtScrape(name: SeriesName, ...matchers: readonly string[]): string {
  const selector = walcast(name, ...matchers);
  return `timestamp(${selector}) - ${selector}`;
}

/** The rate a second of a counter of walcast, over the window that Grafana finds right for scrape interval and resolution. */
export function rate(name: SeriesName, ...matchers: readonly string[]): string {
  return `rate(${select(`walcast_${name}`, matchers)}[$__rate_interval])`;
}

/** What a counter of walcast grew by within that window. */
export function increase(name: SeriesName, ...matchers: readonly string[]): string {
  return `increase(${select(`walcast_${name}`, matchers)}[$__rate_interval])`;
}

/**
 * Series that any process may have, of walcasts only: where all jobs are chosen, `job` matches those of other programs as well.
 * `wrap` puts the selector into a function.
 */
export function runtime(
  name: RuntimeName,
  wrap: (selector: string) => string = (selector) => selector,
): string {
  return `${wrap(select(name, []))} and on (${RELAY}) ${walcast('build_info')}`;
}

/** The rate of a counter that any process may have, of walcasts only. */
export function runtimeRate(name: RuntimeName): string {
  return runtime(name, (selector) => `rate(${selector}[$__rate_interval])`);
}

/** Which targets of jobs with a walcast Prometheus reaches: also those where walcast was there within the last hour and is not now. */
export function scrapeTargets(): string {
  return `${select('up', [])} and on (job) last_over_time(${walcast('build_info')}[1h])`;
}

/** A quantile of a histogram, by relay. */
export function quantile(q: number, family: FamilyName): string {
  return `histogram_quantile(${q}, sum by (${RELAY}, le) (${rate(`${family}_bucket`)}))`;
}

/** How much a histogram's buckets grew, for a heatmap. */
export function bucketGrowth(family: FamilyName): string {
  return `sum by (le) (${increase(`${family}_bucket`)})`;
}

/** A set of states as one number: the place of the present word in `words`, from 1; by the labels `by`. */
export function stateCode(
  name: FamilyName,
  options: {
    readonly by: string;
    readonly words: readonly string[];
    readonly label?: string;
    readonly matchers?: readonly string[];
  },
): string {
  const { by, words, label = 'state', matchers = [] } = options;
  const terms = words.map(
    (word, index) => `${walcast(name, `${label}="${word}"`, ...matchers)} * ${index + 1}`,
  );
  return `max by (${by}) (${terms.join(' or ')})`;
}

/** `expr` with the label `system_identifier`: relays with the same one serve the same cluster. */
export function withCluster(expr: string): string {
  return (
    `${expr} * on (${RELAY}) group_left (system_identifier) ` +
    `max by (${RELAY}, system_identifier) (${walcast('upstream_info', 'system_identifier!=""')})`
  );
}

function select(name: string, matchers: readonly string[]): string {
  return `${name}{${['job=~"$job"', 'instance=~"$instance"', ...matchers].join(',')}}`;
}
