// What does a Dockerfile say? Its lines as stages and instructions, variables filled in; what is not known is refused, so that no
// line of the file is left out of what is executed. (Dockerfile reference, docs.docker.com/reference/dockerfile)

/** One instruction, lines that go on joined. */
export interface Instruction {
  /** In capital letters. */
  readonly keyword: string;
  readonly text: string;
  /** Of the file, from 1. */
  readonly line: number;
}

/** From one FROM to the next. */
export interface Stage {
  /** What it starts from, variables filled in: an image, or the name of a stage before. */
  readonly from: string;
  readonly name: string | null;
  readonly instructions: readonly Instruction[];
}

/** A whole file. */
export interface ImageFile {
  /** The ARGs before the first FROM. */
  readonly args: Readonly<Record<string, string>>;
  readonly stages: readonly Stage[];
}

/** A command: as a list of words, or as text for a shell. */
export type ImageCommand =
  | { readonly form: 'exec'; readonly words: readonly string[] }
  | { readonly form: 'shell'; readonly text: string };

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Reads a file. `args` go before the defaults of its ARGs. Throws with the line for what it cannot read. */
export function parseImageFile(
  text: string,
  args: Readonly<Record<string, string>> = {},
): ImageFile {
  const globals: Record<string, string> = {};
  const stages: { from: string; name: string | null; instructions: Instruction[] }[] = [];
  for (const instruction of instructionsOf(text)) {
    const current = stages.at(-1);
    if (instruction.keyword === 'FROM') {
      const [from, as, name, ...rest] = words(expand(instruction, globals));
      if (from === undefined || rest.length > 0 || (as !== undefined && !/^as$/i.test(as)))
        throw problem(instruction, 'FROM image [AS name] is expected');
      stages.push({ from, name: name ?? null, instructions: [] });
    } else if (current !== undefined) {
      current.instructions.push(instruction);
    } else if (instruction.keyword === 'ARG') {
      Object.assign(globals, argOf(instruction, { scope: globals, given: args, outer: {} }));
    } else throw problem(instruction, 'only ARG may stand before the first FROM');
  }
  if (stages.length === 0) throw new Error('there is no FROM');
  return { args: globals, stages };
}

/** What an ARG defines: the value given from outside, the one before the first FROM, or its default; nothing when it has none. */
export function argOf(
  instruction: Instruction,
  context: {
    readonly scope: Readonly<Record<string, string>>;
    readonly given: Readonly<Record<string, string>>;
    readonly outer: Readonly<Record<string, string>>;
  },
): Record<string, string> {
  const [, name = '', , fallback] = /^([^=\s]+)(=(.*))?$/.exec(instruction.text) ?? [];
  if (!NAME.test(name)) throw problem(instruction, 'ARG name[=default] is expected');
  const value =
    context.given[name] ??
    (fallback === undefined ? context.outer[name] : unquoted(substitute(fallback, context.scope)));
  return value === undefined ? {} : { [name]: value };
}

/** The pairs of ENV or LABEL. Every value is one word or quoted. */
export function pairsOf(
  instruction: Instruction,
  scope: Readonly<Record<string, string>>,
): Record<string, string> {
  const pairs: Record<string, string> = {};
  const pattern = /\s*([A-Za-z0-9_.-]+)=("(?:[^"\\]|\\.)*"|[^\s"']*)(?=\s|$)/y;
  const { text } = instruction;
  while (pattern.lastIndex < text.length) {
    const match = pattern.exec(text);
    if (match === null) throw problem(instruction, 'name=value is expected');
    pairs[match[1] ?? ''] = substitute(unquoted(match[2] ?? ''), scope);
  }
  return pairs;
}

/** The command of RUN, CMD or ENTRYPOINT. */
export function commandOf(instruction: Instruction): ImageCommand {
  const { text } = instruction;
  if (text.includes('<<')) throw problem(instruction, 'here-documents are not known');
  if (!text.startsWith('[')) return { form: 'shell', text };
  const list: unknown = JSON.parse(text);
  if (!Array.isArray(list) || !list.every((word) => typeof word === 'string'))
    throw problem(instruction, 'a list of strings is expected');
  return { form: 'exec', words: list };
}

/** Flags and words of an instruction: `--chown=node:node a b/`. */
export function wordsAndFlags(
  instruction: Instruction,
  scope: Readonly<Record<string, string>>,
): { readonly flags: Readonly<Record<string, string>>; readonly words: readonly string[] } {
  const flags: Record<string, string> = {};
  const rest: string[] = [];
  for (const word of words(expand(instruction, scope))) {
    const flag = /^--([a-z-]+)=(.+)$/.exec(word);
    if (flag?.[1] !== undefined && rest.length === 0) flags[flag[1]] = flag[2] ?? '';
    else rest.push(word);
  }
  return { flags, words: rest };
}

/** Its text with variables filled in. */
export function expand(instruction: Instruction, scope: Readonly<Record<string, string>>): string {
  return substitute(instruction.text, scope);
}

/** An error that names the line. */
export function problem(instruction: Instruction, what: string): Error {
  return new Error(`Dockerfile:${instruction.line}: ${instruction.keyword}: ${what}`);
}

function instructionsOf(text: string): Instruction[] {
  const found: Instruction[] = [];
  let open: { parts: string[]; line: number } | null = null;
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (/^#\s*escape\s*=/i.test(line))
      throw new Error(`line ${index + 1}: another escape character`);
    // A comment inside an instruction that goes on is none of its text.
    if (line.startsWith('#') || line === '') continue;
    open ??= { parts: [], line: index + 1 };
    const goesOn = line.endsWith('\\');
    open.parts.push(goesOn ? line.slice(0, -1).trim() : line);
    if (goesOn) continue;
    found.push(instructionOf(open.parts.join(' '), open.line));
    open = null;
  }
  if (open !== null) throw new Error(`line ${open.line}: the last instruction does not end`);
  return found;
}

function instructionOf(text: string, line: number): Instruction {
  const match = /^([A-Za-z]+)\s+(.*)$/.exec(text);
  if (match === null) throw new Error(`Dockerfile:${line}: no instruction: ${text}`);
  return { keyword: (match[1] ?? '').toUpperCase(), text: match[2] ?? '', line };
}

function substitute(text: string, scope: Readonly<Record<string, string>>): string {
  return text.replaceAll(/\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*))/g, (whole, braced, bare) => {
    const name = String(braced ?? bare);
    if (!NAME.test(name)) throw new Error(`${whole}: only plain variables are known`);
    return scope[name] ?? '';
  });
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

function unquoted(text: string): string {
  return /^".*"$/s.test(text) ? text.slice(1, -1).replaceAll(/\\(.)/g, '$1') : text;
}
