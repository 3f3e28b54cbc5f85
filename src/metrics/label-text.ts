// Labels as they stand between the braces of a sample. Those of a standby are written once and stand in all of its samples.

declare const isLabelText: unique symbol;

/** `name="value",…`, escaped; empty for no labels. */
export type LabelText = string & { readonly [isLabelText]: true };

/** As many bytes of a name as PostgreSQL keeps: NAMEDATALEN - 1. */
const NAME_LENGTH_MAX = 63;

/** Of one UTF-16 unit. */
const UTF8_BYTES_OF_UNIT_MAX = 3;

/** No labels. */
export const NO_LABELS: LabelText = labelText({});

/** Writes labels in the order in which they are given. Their names need no escaping. */
export function labelText(labels: Readonly<Record<string, string>>): LabelText {
  let text = '';
  for (const name in labels) {
    text += `${text === '' ? '' : ','}${name}="${escaped(labels[name] ?? '')}"`;
  }
  return text as LabelText;
}

/** One more label behind others; `value` is one of ours and needs no escaping. */
export function withLabel(labels: LabelText, name: string, value: string): LabelText {
  return `${labels}${labels === '' ? '' : ','}${name}="${value}"` as LabelText;
}

/** A name that somebody else gave, as far as it is kept: `bytesMax` of UTF-8, and no part of a character. (mbutils.c:pg_mbcliplen) */
export function bounded(value: string | null, bytesMax: number = NAME_LENGTH_MAX): string {
  const text = value ?? '';
  if (text.length * UTF8_BYTES_OF_UNIT_MAX <= bytesMax) return text;
  const bytes = Buffer.from(text.slice(0, bytesMax));
  let end = Math.min(bytes.length, bytesMax);
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return bytes.toString('utf8', 0, end);
}

/** (prometheus.io/docs/instrumenting/exposition_formats: comments, help text, and type information) */
function escaped(value: string): string {
  if (!/[\\"\n]/.test(value)) return value;
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
