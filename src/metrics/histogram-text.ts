// A histogram that was counted elsewhere, in plain numbers, as exposition text. (prom-client can only count itself.)
import type { DurationHistogram } from '../status/status.ts';

/** The family's block, lines ending in a newline. `label` is one fixed pair; its value needs no escaping. */
export function histogramText(
  family: { readonly name: string; readonly help: string },
  label: { readonly name: string; readonly value: string },
  histogram: DurationHistogram,
): string {
  const { name, help } = family;
  const own = `${label.name}="${label.value}"`;
  const lines = [`# HELP ${name} ${help}`, `# TYPE ${name} histogram`];
  let count = 0;
  for (const [index, bucket] of histogram.counts.entries()) {
    count += bucket;
    const bound = histogram.boundsSeconds[index];
    const le = bound === undefined ? '+Inf' : String(bound);
    lines.push(`${name}_bucket{le="${le}",${own}} ${count}`);
  }
  lines.push(`${name}_sum{${own}} ${histogram.sumSeconds}`, `${name}_count{${own}} ${count}`);
  return `${lines.join('\n')}\n`;
}
