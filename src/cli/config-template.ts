// A walcast.yaml to begin with: every key with what it is for; what was given counts, the rest is a comment with its default.
import { levelsText } from '../config/print.ts';
import { isWordListKind, SETTINGS } from '../config/settings.ts';
import type { Setting } from '../config/settings.ts';

/** Value texts by the path of their key, as flags have them; several for a list. */
export type GivenValues = ReadonlyMap<string, readonly string[]>;

const WIDTH = 110;
const INDENT = '  ';

/** Certificate and key of the TCP addresses of `listen`, as the file names them. */
export interface TemplateTls {
  readonly cert: string;
  readonly key: string;
}

/** What the file shows. */
interface Shown {
  readonly given: GivenValues;
  readonly tls: TemplateTls | null;
}

/** The text of the file. Keys of `given` are live, all others commented out. TCP addresses of `listen` get `tls`. */
export function configTemplate(given: GivenValues, tls: TemplateTls | null = null): string {
  const blocks = sections().map(([name, settings]) => sectionText(name, settings, { given, tls }));
  return `${HEADER}\n${blocks.join('\n\n')}\n`;
}

const HEADER = `# walcast: the configuration. docs/configuration.md has every key; "walcast check -c FILE --deep" tries it.
# Names, sizes (16MB) and times (1min) are PostgreSQL's. Flags and WALCAST_… variables count before this file.
`;

/** Keys by section, in the order of the documentation; a key without a section is one of its own. */
function sections(): [name: string | null, settings: Setting[]][] {
  const found: [string | null, Setting[]][] = [];
  for (const setting of SETTINGS) {
    const [first = '', second] = setting.path.split('.');
    const name = second === undefined ? null : first;
    const same = found.find(([other]) => name !== null && other === name);
    if (same === undefined) found.push([name, [setting]]);
    else same[1].push(setting);
  }
  return found;
}

function sectionText(
  name: string | null,
  settings: readonly Setting[],
  { given, tls }: Shown,
): string {
  const indent = name === null ? '' : INDENT;
  const entries = settings.map((setting, index) => {
    const before = settings[index - 1]?.path ?? '';
    return entryText(setting, { indent, before, values: given.get(setting.path), tls });
  });
  if (name === null) return entries.join('\n');
  const isLive = settings.some(({ path }) => given.has(path));
  return `${isLive ? '' : '# '}${name}:\n${entries.join('\n')}`;
}

/** `before` is the path of the key above: a section inside a section is begun once. */
function entryText(
  setting: Setting,
  {
    indent,
    before,
    values,
    tls,
  }: Pick<Shown, 'tls'> & {
    indent: string;
    before: string;
    values: readonly string[] | undefined;
  },
): string {
  const [key = '', ...sections] = setting.path.split('.').toReversed();
  const lines = wrap(setting.description, WIDTH - indent.length).map(
    (line) => `${indent}# ${line}`,
  );
  const shown = values ?? exampleOf(setting);
  const value = valueLines(setting, shown, values === undefined ? null : tls);
  const [first = '', ...rest] = value;
  const mark = `${indent}${values === undefined ? '# ' : ''}`;
  const inner = sections.toReversed().slice(1);
  const isBegun = inner.length > 0 && before.startsWith(setting.path.replace(/[^.]+$/, ''));
  if (!isBegun) lines.unshift(...inner.map((name) => `${mark}${name}:`));
  const begin = `${mark}${INDENT.repeat(inner.length)}`;
  lines.push(`${begin}${key}:${first === '' ? '' : ` ${first}`}`);
  lines.push(...rest.map((line) => `${begin}${INDENT}${line}`));
  return lines.join('\n');
}

/** What a key that was not given shows: its default, or how it would look. */
function exampleOf({ path, defaultText, kind }: Setting): readonly string[] {
  if (defaultText !== null) return [defaultText];
  if (path === 'auth.ident') return [String.raw`certs /^(.*)@example\.com$ \1`];
  if (kind === 'rules') return ['host replication all 10.0.0.0/8 reject'];
  if (kind === 'users') return ['"replicator" "SCRAM-SHA-256$…"'];
  if (kind === 'path')
    return [`/etc/walcast/${(path.split('.').at(-1) ?? '').replace(/_file$/, '')}`];
  return ['…'];
}

/** The value behind the key's colon; further lines belong below it. */
function valueLines(
  { kind }: Setting,
  values: readonly string[],
  tls: TemplateTls | null,
): string[] {
  const text = values.at(-1) ?? '';
  if (kind === 'rules')
    return [
      '|',
      ...text
        .trim()
        .split('\n')
        .map((line) => line.trim()),
    ];
  if (kind === 'addresses') {
    const addresses = values.flatMap((value) => value.split(',')).map((value) => value.trim());
    return [`[ ${addresses.map((address) => addressItem(address, tls)).join(', ')} ]`];
  }
  if (kind === 'users') return ['', ...values.flatMap((value) => value.split('\n')).map(userLine)];
  if (kind === 'levels') {
    return [levelsText(values.flatMap((value) => value.split(',')).filter((word) => word !== ''))];
  }
  if (isWordListKind(kind)) {
    const names = values.flatMap((value) => value.split(',')).map((value) => value.trim());
    const given = names.filter((name) => name !== '').map(quoted);
    return [given.length === 0 ? '[]' : `[ ${given.join(', ')} ]`];
  }
  return [scalar(text)];
}

function addressItem(address: string, tls: TemplateTls | null): string {
  if (tls === null || address.startsWith('/')) return `{ address: ${quoted(address)} }`;
  const files = `cert: ${quoted(tls.cert)}, key: ${quoted(tls.key)}`;
  return `{ address: ${quoted(address)}, tls: { ${files} } }`;
}

/** A line of a user list, as it is written in a map. */
function userLine(line: string): string {
  const [name = '', secret = ''] = (line.match(/"(?:[^"]|"")*"/g) ?? []).map((word) =>
    word.slice(1, -1).replaceAll('""', '"'),
  );
  return `${quoted(name)}: ${quoted(secret)}`;
}

/** A double-quoted scalar of YAML holds whatever a string of JSON holds. */
function scalar(text: string): string {
  const isPlain = /^[A-Za-z0-9/][\w./-]*$/.test(text) && !/^(true|false|null|~)$/i.test(text);
  return isPlain ? text : quoted(text);
}

function quoted(text: string): string {
  return JSON.stringify(text);
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width - 2) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
