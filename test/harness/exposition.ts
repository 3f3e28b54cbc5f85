// What does an exposition in Prometheus' text format say? Read strictly: what a scraper would refuse, or take for something
// else, is an error here. (prometheus.io/docs/instrumenting/exposition_formats)

/** One exposition: its samples by series, in their order, and what it says about families. */
export interface Exposition {
  /** By {@link seriesOf}. */
  readonly samples: ReadonlyMap<string, number>;
  /** By family. */
  readonly types: ReadonlyMap<string, string>;
  readonly helps: ReadonlyMap<string, string>;
}

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\[\\n"])*)"(?:,|$)/y;

/** The name of a series: labels in the order of their names. */
export function seriesOf(name: string, labels: Readonly<Record<string, string>> = {}): string {
  const texts = Object.entries(labels)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([label, value]) => `${label}=${JSON.stringify(value)}`);
  return `${name}{${texts.join(',')}}`;
}

/** Reads it. Throws Error at a line that is none of the format's, and at a series that comes twice. */
export function parseExposition(text: string): Exposition {
  const samples = new Map<string, number>();
  const types = new Map<string, string>();
  const helps = new Map<string, string>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const meta = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (meta !== null) {
      const [, kind, name = '', value = ''] = meta;
      const said = kind === 'TYPE' ? types : helps;
      if (said.has(name)) throw new Error(`twice: ${line}`);
      said.set(name, value);
      continue;
    }
    const [, name = '', labels = '', value = ''] = SAMPLE.exec(line) ?? fail(line);
    const series = seriesOf(name, labelsOf(labels, line));
    if (samples.has(series)) throw new Error(`twice: ${series}`);
    samples.set(series, numberOf(value, line));
  }
  return { samples, types, helps };
}

function labelsOf(text: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const match = LABEL.exec(text) ?? fail(line);
    const [, name = '', value = ''] = match;
    if (name in labels) fail(line);
    labels[name] = value.replaceAll(/\\([\\n"])/g, (_, c: string) => (c === 'n' ? '\n' : c));
  }
  return labels;
}

function numberOf(text: string, line: string): number {
  if (text === '+Inf') return Infinity;
  // What Node.js says of itself is none where nothing was measured since the scrape before; Prometheus reads it in any case.
  if (text === 'Nan' && line.startsWith('nodejs_')) return Number.NaN;
  const value = Number(text);
  return Number.isNaN(value) ? fail(line) : value;
}

function fail(line: string): never {
  throw new Error(`not a line of the text format: ${line}`);
}
