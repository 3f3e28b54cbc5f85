// The exposition for scrapers that ask for OpenMetrics: the same samples under heads of its own. What prom-client holds is made from
// its text: it renders OpenMetrics too, but renames its own counters while it does, so that the text is wrong from then on.
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

/** What stands behind the last family, and nothing behind it. */
export const OPENMETRICS_END: string = '# EOF\n';

/** A family as both formats describe it. */
export interface FamilyHead {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  /** The last word of the name before `_total`; null for none. */
  readonly unit: string | null;
}

/** What stands before the samples of a family in the text format, version 0.0.4. `help` has no backslash and no line break. */
export function textHead({ name, type, help }: FamilyHead): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
}

/**
 * The same in OpenMetrics 1.0, whose samples are those of the text format. There are no `_created` samples: they are optional, and
 * Prometheus takes them for series of their own.
 */
export function openMetricsHead({ name, type, help, unit }: FamilyHead): string {
  const family = type === 'counter' ? name.replace(/_total$/, '') : name;
  const unitLine = unit === null ? '' : `# UNIT ${family} ${unit}\n`;
  return `# TYPE ${family} ${type}\n${unitLine}# HELP ${family} ${help.replaceAll('"', '\\"')}\n`;
}

/**
 * A bound of a bucket as OpenMetrics wants it, `1.0` and not `1`: it is a label, and would name another series. So it is in the text
 * format, too, where any spelling will do. (open_metrics_spec, Considerations: Canonical Numbers)
 */
export function floatBound(bound: number): string {
  return Number.isInteger(bound) ? bound.toFixed(1) : String(bound);
}

/** The same for all buckets of a text. */
export function withFloatBounds(text: string): string {
  return text.replaceAll(/(?<=[{,]le=")\d+(?=")/g, '$&.0');
}

/** From the text format, version 0.0.4, to OpenMetrics 1.0, but for the mark of the end. */
export function toOpenMetrics(text: string): string {
  let result = '';
  let help = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('# HELP ')) {
      help = line.slice(line.indexOf(' ', '# HELP '.length) + 1);
    } else if (line.startsWith('# TYPE ')) {
      const [, , name = '', type = ''] = line.split(' ');
      result += openMetricsHead({ name, type, help, unit: null });
      help = '';
    } else if (line !== '') result += `${line}\n`;
  }
  return result;
}

/** Of OpenMetrics: those whose readers take what we write. */
const VERSIONS: readonly string[] = ['0.0.1', '1.0.0'];

/** One part of an Accept header. (RFC 9110 section 12.5.1) */
function rangeOf(part: string): { type: string; quality: number } {
  const [type = '', ...parameters] = part.split(';').map((piece) => piece.trim().toLowerCase());
  const valueOf = (name: string): string | undefined =>
    parameters.find((parameter) => parameter.startsWith(`${name}=`))?.slice(name.length + 1);
  const version = valueOf('version')?.replaceAll('"', '');
  if (type === OPENMETRICS && version !== undefined && !VERSIONS.includes(version))
    return { type, quality: 0 };
  const weight = valueOf('q');
  const quality = weight === undefined ? 1 : Number(weight);
  return { type, quality: Number.isFinite(quality) ? quality : 0 };
}
