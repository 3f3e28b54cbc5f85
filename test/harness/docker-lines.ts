// What would Docker do with a line of a page? Lines of `docker build` and `docker run` as what they ask for; a flag that is not known
// is refused, so that a page cannot say what nobody tried.
import type { ContainerMount } from './image-container.ts';

/** `docker build`. */
export interface BuildLine {
  readonly args: Readonly<Record<string, string>>;
  readonly tag: string;
  readonly context: string;
}

/** `docker run`. */
export interface RunLine {
  readonly name: string | null;
  readonly isReadOnly: boolean;
  readonly mounts: readonly ContainerMount[];
  /** Host address, if named, and both ports. */
  readonly published: readonly string[];
  readonly stopSeconds: number;
  readonly image: string;
  /** In place of the image's CMD. */
  readonly command: readonly string[];
}

const RUN_WITH_VALUE = new Set([
  'name',
  'cap-drop',
  'security-opt',
  'stop-timeout',
  'volume',
  'publish',
]);
const RUN_ALONE = new Set(['detach', 'rm', 'read-only']);
const DEFAULT_STOP_S = 10;

/** The lines of the fenced `sh` blocks of a page. */
export function shellLines(page: string): string[] {
  const blocks = [...page.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map((match) => match[1] ?? '');
  return blocks.flatMap((block) => block.split('\n')).filter((line) => line !== '');
}

/** Words as a shell splits them. A `$(…)` in double quotes is taken from `outputs`; nothing else of a shell is known. */
export function shellWords(line: string, outputs: Readonly<Record<string, string>> = {}): string[] {
  const filled = line.replaceAll(/"\$\(([^)]*)\)"/g, (_, command) => {
    const output = outputs[String(command)];
    if (output === undefined) throw new Error(`${line}: what does ${String(command)} print?`);
    return output;
  });
  const pattern = /\s*(?:'([^']*)'|"([^"$`\\]*)"|([^\s'"$`\\|&;<>]+))(?=\s|$)/y;
  const words: string[] = [];
  while (pattern.lastIndex < filled.length) {
    const match = pattern.exec(filled);
    if (match === null) throw new Error(`${line}: only plain and quoted words are known here`);
    words.push(match[1] ?? match[2] ?? match[3] ?? '');
  }
  return words;
}

/** What `docker build …` asks for. */
export function buildLine(words: readonly string[]): BuildLine {
  const { flags, rest } = flagsOf(words.slice(2), new Set(['build-arg', 'tag']), new Set());
  const [context, ...others] = rest;
  if (context === undefined || others.length > 0) throw new Error('one context is expected');
  const pairs = flags.filter(([name]) => name === 'build-arg').map(([, value]) => value.split('='));
  const args = Object.fromEntries(pairs.map(([name = '', ...value]) => [name, value.join('=')]));
  return { args, tag: valueOf(flags, 'tag') ?? '', context };
}

/** What `docker run …` asks for. `places` says where folders and volumes of the line are on this machine. */
export function runLine(
  words: readonly string[],
  places: Readonly<Record<string, string>>,
): RunLine {
  const { flags, rest } = flagsOf(words.slice(2), RUN_WITH_VALUE, RUN_ALONE);
  const [image = '', ...command] = rest;
  const all = (name: string): string[] =>
    flags.filter(([flag]) => flag === name).map(([, value]) => value);
  const mounts = all('volume').map((text) => {
    const [from = '', target = '', mode] = text.split(':');
    const source = places[from];
    if (source === undefined) throw new Error(`--volume ${text}: there is no ${from} here`);
    return { source, target, isReadOnly: mode === 'ro' };
  });
  return {
    name: valueOf(flags, 'name'),
    isReadOnly: flags.some(([name]) => name === 'read-only'),
    mounts,
    published: all('publish'),
    stopSeconds: Number(valueOf(flags, 'stop-timeout') ?? DEFAULT_STOP_S),
    image,
    command,
  };
}

function flagsOf(
  words: readonly string[],
  withValue: ReadonlySet<string>,
  alone: ReadonlySet<string>,
): { flags: [string, string][]; rest: readonly string[] } {
  const flags: [string, string][] = [];
  let index = 0;
  for (; index < words.length; index += 1) {
    const name = /^--(.+)$/.exec(words[index] ?? '')?.[1];
    if (name === undefined) break;
    if (alone.has(name)) flags.push([name, '']);
    else if (withValue.has(name)) {
      index += 1;
      flags.push([name, words[index] ?? '']);
    } else throw new Error(`--${name} is not known here`);
  }
  return { flags, rest: words.slice(index) };
}

function valueOf(flags: readonly [string, string][], name: string): string | null {
  return flags.find(([flag]) => flag === name)?.[1] ?? null;
}
