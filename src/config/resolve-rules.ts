// Which access rules and maps of names are in effect? Read from a file or from the configuration itself, with the files
// that they name; every wrong line is told with its place.
import type { HbaError, HbaRules } from '../pg/hba.ts';
import { NO_IDENT_MAPS, parseIdent } from '../pg/ident.ts';
import type { IdentMaps } from '../pg/ident.ts';
import type { HbaConfig } from './config.ts';
import { checkHba } from './parsers.ts';
import type { Place } from './problem.ts';
import { KeyedRuleFiles } from './rule-files.ts';
import type { ConfigValues, FoundText } from './values.ts';
import { textOf } from './values.ts';

/** A text of lines, and where it is from. */
interface RulesText {
  readonly key: string;
  /** Absolute name of the file, or the key. */
  readonly source: string;
  readonly text: string;
  readonly files: KeyedRuleFiles;
}

/** Rules, null when there are none; mistakes go to `values`. */
export function resolveHba(values: ConfigValues, found: FoundText): HbaConfig | null {
  const given = rulesText(values, 'auth.hba', found);
  if (given === null) return null;
  const { source, text, files } = given;
  const check = checkHba(text, { source, files });
  remember(given, found);
  if ('errors' in check) {
    reportAll(values, given, check.errors);
    return null;
  }
  found.warnings.push(...check.warnings);
  const rules: HbaRules = check.rules;
  return rules.rules.length === 0 ? null : { source, text, rules };
}

/** Maps; none when none were given. Mistakes go to `values`. */
export function resolveIdentMaps(values: ConfigValues, found: FoundText): IdentMaps {
  const given = rulesText(values, 'auth.ident', found);
  if (given === null) return NO_IDENT_MAPS;
  const { source, text, files } = given;
  const parsed = parseIdent(text, { source, files });
  remember(given, found);
  if ('lines' in parsed) return parsed;
  reportAll(values, given, parsed);
  return NO_IDENT_MAPS;
}

/** Rules that are warned about. */
const WARNINGS_MAX = 20;

/** Of a rule with a map that does not exist nobody is let in. */
export function unknownMaps(hba: HbaConfig | null, maps: IdentMaps): string[] {
  const known = new Set(maps.lines.map(({ map }) => map));
  return (hba?.rules.rules ?? [])
    .filter(({ map }) => map !== null && map !== '' && !known.has(map))
    .slice(0, WARNINGS_MAX)
    .map(
      ({ source, line, map }) =>
        `${source}, line ${line}: there is no line for map "${map}" in auth.ident or auth.ident_file: this rule lets nobody in`,
    );
}

function rulesText(values: ConfigValues, key: string, { contents }: FoundText): RulesText | null {
  const inline = values.get(key);
  const fileKey = `${key}_file`;
  if (inline !== null) {
    const files = new KeyedRuleFiles(values, values.directoryOf(inline.origin));
    return { key, source: key, text: textOf(inline), files };
  }
  const file = values.get(fileKey);
  const name = values.path(fileKey);
  if (file === null || name === null) return null;
  const content = values.readFile(name);
  if (!('text' in content)) {
    values.report(file.place, `\`${fileKey}\`: "${name}" ${content.problem}`);
    return null;
  }
  contents.set(fileKey, content.text);
  const files = new KeyedRuleFiles(values, '/');
  files.add(name, content.text);
  return { key: fileKey, source: name, text: content.text, files };
}

function remember({ key, files }: RulesText, { contents, namedFiles }: FoundText): void {
  if (files.names.length === 0) return;
  contents.set(key, files.content);
  namedFiles.set(key, files.names);
}

function reportAll(values: ConfigValues, given: RulesText, errors: readonly HbaError[]): void {
  for (const { source, line, message, text } of errors) {
    const isIncluded = source !== given.source;
    const place = isIncluded ? { source, line, column: 1 } : placeOf(values, given, line);
    values.report(place, `${message}${shownLine(text)}`);
  }
}

/** Not what may be a secret: the options of methods that are not carried out, or a list of users taken for rules. */
function shownLine(text: string): string {
  if (/^"(?:[^"]|"")*"\s*"/.test(text)) return '';
  const shown = text
    .replace(/((?:passwd|secrets)=).*/s, '$1…')
    .replaceAll(/SCRAM-SHA-256\$\S+|md5[0-9a-f]{32}/g, '…');
  return `: ${shown.slice(0, 200)}`;
}

/** Where what is in `line` of the text begins. */
function placeOf(values: ConfigValues, { source, text, key }: RulesText, line: number): Place {
  const indent = /^\s*/.exec(text.split('\n')[line - 1] ?? '')?.[0].length ?? 0;
  const inline = key.endsWith('_file') ? null : values.get(key);
  if (inline === null) return { source, line, column: indent + 1 };
  const { place, block } = inline;
  if (block === null) return place;
  return { source: place.source, line: block.line + line - 1, column: block.column + indent };
}
