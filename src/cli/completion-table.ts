// What can stand where on the command line? The table of commands, flattened for the completion scripts.
import type { Command, CommandOption } from './command.ts';
import { HELP_OPTION } from './parse-input.ts';

/** What stands for a value: one of some words, a file, a directory, or anything. */
export type Completable =
  | { readonly kind: 'words'; readonly words: readonly string[] }
  | { readonly kind: 'file' }
  | { readonly kind: 'directory' }
  | { readonly kind: 'anything' };

/** One option. */
export interface CompletableOption {
  /** `--name`. */
  readonly name: string;
  /** `-n`; null when there is none. */
  readonly short: string | null;
  readonly description: string;
  /** Null for a switch. */
  readonly value: Completable | null;
}

/** One command, groups and their commands alike. */
export interface CompletableCommand {
  /** `slots` or `slots list`. */
  readonly path: string;
  readonly summary: string;
  readonly options: readonly CompletableOption[];
  /** What can stand behind it; for a group, its commands. Null when it takes no words. */
  readonly operand: Completable | null;
  /** The commands of a group, by their last word. */
  readonly subcommands: readonly { readonly word: string; readonly summary: string }[];
}

/** Everything that can be completed; the first words are those of the commands without a blank in their path. */
export interface CompletionTable {
  readonly commands: readonly CompletableCommand[];
  /** Options of walcast itself. */
  readonly options: readonly CompletableOption[];
}

const ANYTHING: Completable = { kind: 'anything' };

/** The table for `commands`. */
export function completionTable(commands: readonly Command[]): CompletionTable {
  const names = commands.map(({ name }) => name);
  return {
    commands: commands.flatMap((command) => [
      completable(command, names),
      ...(command.subcommands ?? []).map((entry) => completable(entry, names)),
    ]),
    options: [
      completableOption(HELP_OPTION),
      completableOption({ name: 'version', short: 'V', description: 'Show the version.' }),
    ],
  };
}

/** The first words of a command line. */
export function topCommands({ commands }: CompletionTable): readonly CompletableCommand[] {
  return commands.filter(({ path }) => !path.includes(' '));
}

function completable(command: Command, names: readonly string[]): CompletableCommand {
  const { subcommands = [], operands } = command;
  const words = subcommands.map(({ name, summary }) => ({
    word: name.slice(name.lastIndexOf(' ') + 1),
    summary,
  }));
  const operand = operands === undefined ? null : completableText(operands, names);
  return {
    path: command.name,
    summary: command.summary,
    options: [...command.options, HELP_OPTION].map(completableOption),
    operand: words.length > 0 ? { kind: 'words', words: words.map(({ word }) => word) } : operand,
    subcommands: words,
  };
}

function completableOption(option: CommandOption): CompletableOption {
  const { name, short, description, placeholder, values = [] } = option;
  const value = placeholder === undefined ? null : completableText(placeholder, []);
  return {
    name: `--${name}`,
    short: short === undefined ? null : `-${short}`,
    description,
    value: values.length > 0 ? { kind: 'words', words: values } : value,
  };
}

/** Reads `FILE`, `DIR`, `COMMAND`, `a|b|c`, with brackets and dots around them; of several words the last one counts. */
function completableText(text: string, commands: readonly string[]): Completable {
  const word =
    text
      .replaceAll(/[[\].]/g, '')
      .split(' ')
      .at(-1) ?? '';
  if (word.includes('|') && word === word.toLowerCase()) {
    return { kind: 'words', words: word.split('|') };
  }
  if (word === 'COMMAND') return { kind: 'words', words: commands };
  if (word === 'FILE') return { kind: 'file' };
  return word === 'DIR' ? { kind: 'directory' } : ANYTHING;
}
