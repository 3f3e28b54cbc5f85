// Which blocks of the operations guide are commands, on which host, and what do they have to print? A block's info string says it,
// where no reader sees it:
//
//     ```sh host=relay-a prints="streaming"      a script for bash, stopped by the first command that fails
//     ```sql host=pg-a                           for psql on that host, as the superuser
//     ```yaml host=relay-a file=/etc/walcast/walcast.yaml      the content of a file
//     ```text                                    a picture, or what something prints: nobody types it
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
const PARTS = 'docs/operations';

/** Files of the guide, from the root of the project. */
export const GUIDE_FILES: readonly string[] = [
  'docs/operations.md',
  ...readdirSync(join(ROOT, PARTS))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${PARTS}/${name}`)
    .toSorted(),
];

/** What a block is in. */
export type GuideLanguage = 'sh' | 'sql' | 'text' | 'yaml';

/** A block of a page. */
export interface GuideBlock {
  /** File and line of its fence. */
  readonly place: string;
  readonly language: GuideLanguage;
  /** The host that it is typed on; null for `text`. */
  readonly host: string | null;
  /** The file whose content it is. */
  readonly file: string | null;
  /** What its output has to match in the end: it is repeated until then, as a person does who waits. */
  readonly prints: RegExp | null;
  /** A name by which a test does something around it. */
  readonly step: string | null;
  /** The test gives up what the command ends with: it has to fail. */
  readonly fails: boolean;
  readonly text: string;
}

/** The text of a file of the project. */
export function guideText(file: string): string {
  return readFileSync(join(ROOT, file), 'utf8');
}

/** The blocks of a file, in their order. Throws on one that nobody could run, or whose info string is not understood. */
export function guideBlocks(file: string, text: string = guideText(file)): GuideBlock[] {
  const blocks: GuideBlock[] = [];
  const lines = text.split('\n');
  for (let at = 0; at < lines.length; at += 1) {
    const info = /^\s*```(.*)$/.exec(lines[at] ?? '')?.[1];
    if (info === undefined) continue;
    const place = `${file}:${at + 1}`;
    const end = lines.findIndex((line, index) => index > at && /^\s*```$/.test(line));
    if (end === -1) throw new Error(`${place}: the block has no end`);
    blocks.push(block(place, info, lines.slice(at + 1, end).join('\n')));
    at = end;
  }
  return blocks;
}

/** Blocks that something has to be done with. */
export function commandBlocks(blocks: readonly GuideBlock[]): GuideBlock[] {
  return blocks.filter(({ language }) => language !== 'text');
}

const LANGUAGES: readonly GuideLanguage[] = ['sh', 'sql', 'text', 'yaml'];
const ATTRIBUTES: readonly string[] = ['fails', 'file', 'host', 'prints', 'step'];

function block(place: string, info: string, text: string): GuideBlock {
  const [first = ''] = info.split(' ');
  const language = LANGUAGES.find((name) => name === first);
  if (language === undefined) throw new Error(`${place}: "${first}" is no language of the guide`);
  const attributes = attributesOf(place, info.slice(first.length));
  const [host = null, file = null] = [attributes.get('host'), attributes.get('file')];
  if (language === 'text' && attributes.size > 0) throw new Error(`${place}: text is not run`);
  if (language !== 'text' && host === null) throw new Error(`${place}: on which host?`);
  if ((language === 'yaml') !== (file !== null)) throw new Error(`${place}: which file is it?`);
  const prints = attributes.get('prints');
  return {
    place,
    language,
    host,
    file,
    prints: prints === undefined ? null : new RegExp(prints, 'm'),
    step: attributes.get('step') ?? null,
    fails: attributes.has('fails'),
    text,
  };
}

function attributesOf(place: string, text: string): ReadonlyMap<string, string> {
  const attributes = new Map<string, string>();
  let rest = text.trim();
  while (rest !== '') {
    const [all = '', name = '', quoted, plain] =
      /^([a-z]+)(?:="([^"]*)"|=(\S+))?(?:\s+|$)/.exec(rest) ?? [];
    if (!ATTRIBUTES.includes(name)) throw new Error(`${place}: what is "${rest}"?`);
    attributes.set(name, quoted ?? plain ?? '');
    rest = rest.slice(all.length);
  }
  return attributes;
}
