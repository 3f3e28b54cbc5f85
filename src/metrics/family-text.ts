// Gauges and counters as exposition text. (prom-client keeps and hashes each series between scrapes; filling it anew for a
// thousand standbys holds up the event loop several times as long.)
import type { Sample } from './samples.ts';

/** The family's block, lines ending in a newline; its head also where there is no sample. Label names need no escaping. */
export function familyText(
  family: { readonly name: string; readonly type: string; readonly help: string },
  samples: readonly Sample[],
): string {
  const { name, type, help } = family;
  let text = `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
  for (const { labels, value } of samples) {
    let inner = '';
    for (const label in labels) {
      inner += `${inner === '' ? '' : ','}${label}="${escaped(labels[label] ?? '')}"`;
    }
    text += inner === '' ? `${name} ${value}\n` : `${name}{${inner}} ${value}\n`;
  }
  return text;
}

/** (prometheus.io/docs/instrumenting/exposition_formats: comments, help text, and type information) */
function escaped(value: string): string {
  if (!/[\\"\n]/.test(value)) return value;
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
