// What does a connection service file say about one service?
// (src/interfaces/libpq/fe-connect.c: parseServiceFile)
import { CONNINFO_OPTIONS } from './conninfo-options.ts';
import type { ConninfoError, ConninfoOptions } from './conninfo-options.ts';

/** Bytes of a line with its end. (a buffer of 1024 that must not be full) */
const LINE_BYTES_MAX = 1_022;

const SPACE_AROUND = /^[ \t\n\v\f\r]+|[ \t\n\v\f\r]+$/g;

/**
 * The options of the section `[service]`; null when there is no such section. The first value of an option wins. Lines of
 * other sections are not looked at. `path` names the file in libpq's complaints.
 */
export function readServiceFile(
  text: string,
  { service, path }: { readonly service: string; readonly path: string },
): ConninfoOptions | ConninfoError | null {
  let options: Map<string, string> | null = null;
  for (const [index, raw] of text.split(/(?<=\n)/).entries()) {
    const where = { path, line: index + 1 };
    if (Buffer.byteLength(raw) > LINE_BYTES_MAX) {
      return { error: `line ${where.line} too long in service file "${path}"` };
    }
    const line = raw.replaceAll(SPACE_AROUND, '');
    if (line === '' || line.startsWith('#')) continue;
    if (line.startsWith('[')) {
      if (options !== null) return options;
      if (line.startsWith(`[${service}]`)) options = new Map();
    } else if (options !== null) {
      const problem = takeLine(line, options, where);
      if (problem !== null) return { error: problem };
    }
  }
  return options;
}

function takeLine(
  line: string,
  options: Map<string, string>,
  where: { readonly path: string; readonly line: number },
): string | null {
  const place = `service file "${where.path}", line ${where.line}`;
  const equals = line.indexOf('=');
  const keyword = line.slice(0, equals);
  if (equals < 0) return `syntax error in ${place}`;
  if (keyword === 'service' || keyword === 'servicefile') {
    return `nested ${keyword} specifications not supported in ${place}`;
  }
  if (!CONNINFO_OPTIONS.has(keyword)) return `syntax error in ${place}`;
  if (!options.has(keyword)) options.set(keyword, line.slice(equals + 1));
  return null;
}
