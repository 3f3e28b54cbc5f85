// A histogram whose buckets are counted elsewhere, in plain numbers, and copied at scrape time.
import { Histogram } from 'prom-client';
import type { MetricObjectWithValues, MetricValueWithName } from 'prom-client';
import type { DurationHistogram } from '../status/status.ts';
import type { Labels } from './samples.ts';

type Rendered = MetricObjectWithValues<MetricValueWithName<string>>;

/** Renders the snapshot set last; nothing is observed into it. */
export class SnapshotHistogram extends Histogram {
  #rows: readonly { readonly labels: Labels; readonly counts: DurationHistogram }[] = [];

  set(labels: Labels, counts: DurationHistogram): void {
    this.#rows = [{ labels, counts }];
  }

  override async get(): Promise<Rendered> {
    const rendered = await super.get();
    const values = this.#rows.flatMap(({ labels, counts }) =>
      rowsOf(rendered.name, labels, counts),
    );
    return { ...rendered, values };
  }

  /** The registry asks for this form when it renders text. */
  getForPromString(): Promise<Rendered> {
    return this.get();
  }
}

function rowsOf(
  name: string,
  labels: Labels,
  histogram: DurationHistogram,
): MetricValueWithName<string>[] {
  const rows: MetricValueWithName<string>[] = [];
  let count = 0;
  for (const [index, bucket] of histogram.counts.entries()) {
    count += bucket;
    const bound = histogram.boundsSeconds[index];
    const le = bound === undefined ? '+Inf' : String(bound);
    rows.push({ metricName: `${name}_bucket`, labels: { le, ...labels }, value: count });
  }
  rows.push({ metricName: `${name}_sum`, labels: { ...labels }, value: histogram.sumSeconds });
  rows.push({ metricName: `${name}_count`, labels: { ...labels }, value: count });
  return rows;
}
