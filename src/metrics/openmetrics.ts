// The exposition for scrapers that ask for OpenMetrics. Made from the text format: prom-client renders OpenMetrics too, but
// renames its own counters while it does, so that the text format is wrong from then on.
// (prometheus.io/docs/specs/om/open_metrics_spec: no blank lines, counters are families without `_total`, `# EOF`)

/** Exactly as scrapers compare it. */
export const OPENMETRICS_CONTENT_TYPE: string =
  'application/openmetrics-text; version=1.0.0; charset=utf-8';

const OPENMETRICS = 'application/openmetrics-text';
const TEXT_TYPES: readonly string[] = ['text/plain', 'text/*', '*/*'];

/** True when the Accept header likes OpenMetrics no less than text. */
export function prefersOpenMetrics(accept: string | undefined): boolean {
  if (accept === undefined) return false;
  const ranges = accept.split(',').map(rangeOf);
  const liking = (types: readonly string[]): number =>
    Math.max(0, ...ranges.filter(({ type }) => types.includes(type)).map(({ quality }) => quality));
  const openMetrics = liking([OPENMETRICS]);
  return openMetrics > 0 && openMetrics >= liking(TEXT_TYPES);
}

/** From the text format, version 0.0.4, to OpenMetrics 1.0. */
export function toOpenMetrics(text: string): string {
  const lines: string[] = [];
  let help: string | null = null;
  for (const line of text.split('\n')) {
    if (line === '') continue;
    if (line.startsWith('# HELP ')) {
      help = line;
    } else if (line.startsWith('# TYPE ')) {
      lines.push(...headOf(help, line));
      help = null;
    } else lines.push(line);
  }
  return `${lines.join('\n')}\n# EOF\n`;
}

function headOf(help: string | null, typeLine: string): string[] {
  const [, , name = '', type = ''] = typeLine.split(' ');
  const family = type === 'counter' ? name.replace(/_total$/, '') : name;
  const head = [`# TYPE ${family} ${type}`];
  if (help !== null) {
    const text = help.slice(`# HELP ${name} `.length).replaceAll('"', '\\"');
    head.push(`# HELP ${family} ${text}`);
  }
  return head;
}

/** One part of an Accept header. (RFC 9110 section 12.5.1) */
function rangeOf(part: string): { type: string; quality: number } {
  const [type = '', ...parameters] = part.split(';').map((piece) => piece.trim().toLowerCase());
  const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
  const quality = weight === undefined ? 1 : Number(weight);
  return { type, quality: Number.isFinite(quality) ? quality : 0 };
}
