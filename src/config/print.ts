// A configuration as a file that says of each value where it came from: itself a valid configuration file, but for
// secrets, which are masked.
import { stringify } from 'yaml';
import type { Config } from './config.ts';
import type { EffectiveValue } from './effective.ts';
import { isWordListKind, SETTINGS } from './settings.ts';
import type { Setting } from './settings.ts';

/** Comments begin here, or two spaces behind what is longer. */
const COMMENT_COLUMN = 44;

/** Every key in the order of the documentation, each with a comment: origin, default, reload or restart. Ends with a line end. */
export function printConfig({ values }: Config): string {
  const lines: string[] = [];
  let before: readonly string[] = [];
  for (const setting of SETTINGS) {
    const sections = setting.path.split('.').slice(0, -1);
    const firstNew = sections.findIndex((name, depth) => name !== before[depth]);
    if (firstNew >= 0) {
      const opened = sections.slice(firstNew);
      const paths = opened.map((_name, depth) => sections.slice(0, firstNew + depth + 1).join('.'));
      const marks = paths.map((path) => (isEmptySection(path, values) ? '# ' : ''));
      lines.push(
        ...opened.map(
          (name, depth) => `${indentOf(firstNew + depth)}${marks[depth] ?? ''}${name}:`,
        ),
      );
    }
    before = sections;
    const value = values.get(setting.path);
    if (value !== undefined) lines.push(...linesOf(setting, value));
  }
  return `${lines.join('\n')}\n`;
}

/** A section without a value would have none itself. */
function isEmptySection(section: string, values: Config['values']): boolean {
  return ![...values].some(([path, { shown }]) => path.startsWith(`${section}.`) && shown !== null);
}

function indentOf(depth: number): string {
  return '  '.repeat(depth);
}

function linesOf(setting: Setting, value: EffectiveValue): string[] {
  const sections = setting.path.split('.');
  const name = sections.pop() ?? '';
  const indent = indentOf(sections.length);
  const comment = commentOf(setting, value);
  const { shown } = value;
  if (shown === null) return [withComment(`${indent}# ${name}:`, comment)];
  if (setting.kind === 'rules' && typeof shown === 'string' && isBlockText(shown)) {
    const block = shown.replace(/\n$/, '').split('\n');
    const lines = block.map((line) => (line === '' ? '' : `${indent}  ${line}`));
    return [withComment(`${indent}${name}: ${blockHeader(shown)}`, comment), ...lines];
  }
  if (typeof shown === 'string') {
    return [withComment(`${indent}${name}: ${scalar(setting, shown)}`, comment)];
  }
  if (setting.kind === 'levels') {
    return [withComment(`${indent}${name}: ${levelsText(shown)}`, comment)];
  }
  if (isWordListKind(setting.kind)) {
    const list = shown.length === 0 ? '[]' : `[ ${shown.map(quoted).join(', ')} ]`;
    return [withComment(`${indent}${name}: ${list}`, comment)];
  }
  if (setting.kind === 'users') return userLines({ indent, name, comment }, shown);
  const items = shown.flatMap((address, index) => [
    `${indent}  - address: ${quoted(address)}`,
    ...tlsLines(`${indent}    `, value.tls[index] ?? null),
  ]);
  return [withComment(`${indent}${name}:`, comment), ...items];
}

function tlsLines(indent: string, tls: ReadonlyMap<string, string> | null): string[] {
  if (tls === null) return [];
  const words = [...tls].map(([name, text]) => `${name}: ${quoted(text)}`);
  return [`${indent}tls: { ${words.join(', ')} }`];
}

/** As comments: a mask that is read back as a secret would be a password that everybody can guess. */
function userLines(
  { indent, name, comment }: { indent: string; name: string; comment: string },
  names: readonly string[],
): string[] {
  const lines = names.map((user) => `${indent}  # ${quoted(user)}: ***`);
  return [withComment(`${indent}${name}: {}`, comment), ...lines];
}

/** False for what would not be read back from a block as it is: line ends other than LF, blanks on the last lines. */
function isBlockText(text: string): boolean {
  return !/[^\P{Cc}\n\t]/u.test(text) && !/^\s*$|\n[ \t]+\n*$/.test(text);
}

/** The indentation is named where it could not be told by the first line; `-` and `+` say how many line ends are at the end. */
function blockHeader(text: string): string {
  const isIndented = /^\n*[ \t]/.test(text);
  const ends = text.endsWith('\n\n') ? '+' : text.endsWith('\n') ? '' : '-';
  return `|${isIndented ? '2' : ''}${ends}`;
}

/** Words such as `wal=debug` as the map that the file has. */
export function levelsText(words: readonly string[]): string {
  if (words.length === 0) return '{}';
  return `{ ${words.map((word) => word.replace(/\s*=\s*/, ': ')).join(', ')} }`;
}

function commentOf({ kind, defaultText, isReloadable }: Setting, value: EffectiveValue): string {
  const origin = value.shown === null ? 'not set' : (value.place ?? 'default');
  const isOtherDefault = value.place !== null && defaultText !== null;
  return [
    origin,
    ...(isOtherDefault ? [`default ${shownDefault(kind, defaultText)}`] : []),
    isReloadable ? 'reload' : 'restart',
  ].join(' · ');
}

function withComment(text: string, comment: string): string {
  return `${text.padEnd(COMMENT_COLUMN - 2)}  # ${comment}`;
}

/** Numbers stay bare, as people write them. */
function scalar({ kind }: Setting, text: string): string {
  const isNumber = kind === 'size' || kind === 'duration' || kind === 'integer';
  return isNumber ? text.trim() : quoted(text);
}

/** As YAML has it on one line: quoted where it would be read as something else. */
function quoted(text: string): string {
  // A text of several lines would be given several lines in quotes, too.
  if (/\p{Cc}/u.test(text)) return JSON.stringify(text);
  return stringify(text, { lineWidth: 0, blockQuote: false }).replace(/\n$/, '');
}

function shownDefault(kind: Setting['kind'], text: string): string {
  if (text !== '') return text;
  return kind === 'levels' ? '{}' : '""';
}
