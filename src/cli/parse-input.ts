// From the words of the command line to a command's input, or to a sentence about what is wrong with them.
import { parseArgs } from 'node:util';
import { suggest } from '../config/suggest.ts';
import type { Command, CommandInput, CommandOption } from './command.ts';

/** The option every command has. */
export const HELP_OPTION: CommandOption = {
  name: 'help',
  short: 'h',
  description: 'Show this text.',
};

/** The input, or why there is none. */
export type ParsedInput = { readonly input: CommandInput } | { readonly problem: string };

/** Reads `words`, the command line behind the command's name. Accepts `--name value`, `--name=value`, `-n value`. */
export function parseInput(command: Command, words: readonly string[]): ParsedInput {
  const known = [...command.options, HELP_OPTION];
  const { tokens } = parseArgs({
    args: [...words],
    options: Object.fromEntries(known.map((option) => [option.name, parserOption(option)])),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const options = new Map<string, string[]>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const option = known.find(({ name }) => name === token.name);
    if (option === undefined) return { problem: unknownOption(token.rawName, known) };
    const problem = checkValue(option, token);
    if (problem !== null) return { problem };
    const values = options.get(option.name) ?? [];
    if (values.length > 0 && option.isRepeatable !== true) {
      return { problem: `${token.rawName} is given twice` };
    }
    options.set(option.name, [...values, token.value ?? '']);
  }
  const extra = command.operands === undefined ? positionals[0] : undefined;
  if (extra !== undefined && !options.has(HELP_OPTION.name)) {
    return { problem: `"${extra}" is not expected here` };
  }
  return { input: { options, positionals } };
}

interface OptionToken {
  readonly rawName: string;
  readonly value: string | undefined;
  readonly inlineValue: boolean | undefined;
}

function parserOption(option: CommandOption): {
  type: 'string' | 'boolean';
  multiple: true;
  short?: string;
} {
  const type = option.placeholder === undefined ? 'boolean' : 'string';
  return option.short === undefined
    ? { type, multiple: true }
    : { type, multiple: true, short: option.short };
}

function checkValue(option: CommandOption, token: OptionToken): string | null {
  if (option.placeholder === undefined) {
    return token.inlineValue === true ? `${token.rawName} takes no value` : null;
  }
  // A dash alone is no option but, as everywhere, standard input or output.
  const isNextOption = token.inlineValue !== true && /^-./.test(token.value ?? '');
  if (token.value !== undefined && !isNextOption) return null;
  return `${token.rawName} needs a value: ${token.rawName} ${option.placeholder}`;
}

function unknownOption(written: string, known: readonly CommandOption[]): string {
  const name = written.replace(/^-+/, '');
  const meant = suggest(
    name,
    known.map((option) => option.name),
  );
  return `unknown option ${written}${meant === null ? '' : `; did you mean --${meant}?`}`;
}
