// Which command is meant by the words of the command line, and what becomes of its failure.
import { OperationalError } from '../base/errors.ts';
import { EXIT } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { subcommandOf, unknownCommand, unknownSubcommand } from './help.ts';
import { commandHelp, overviewHelp } from './help-text.ts';
import { HELP_OPTION, parseInput } from './parse-input.ts';

/** The world without what was typed. */
export type Surroundings = Omit<CommandContext, 'input'>;

/**
 * Runs the command that `words` (the command line without node and program) name, and resolves to the exit code. A
 * failure of the world is told in one line; a broken assumption of our own is not caught here.
 */
export async function dispatch(
  words: readonly string[],
  commands: readonly Command[],
  surroundings: Surroundings,
): Promise<number> {
  const [name, ...rest] = words;
  if (name === undefined) {
    surroundings.printError(overviewHelp(commands));
    return EXIT.usage;
  }
  if (name === '--help' || name === '-h') {
    surroundings.print(overviewHelp(commands));
    return EXIT.ok;
  }
  const wanted = name === '--version' || name === '-V' ? 'version' : name;
  const command = commands.find((entry) => entry.name === wanted);
  if (command === undefined) {
    const what = name.startsWith('-') ? misplacedOption(name) : unknownCommand(name, commands);
    surroundings.printError(`${what}\n`);
    return EXIT.usage;
  }
  if (command.subcommands === undefined) return runCommand(command, rest, surroundings);
  return dispatchInGroup(command, rest, surroundings);
}

function misplacedOption(name: string): string {
  return `walcast: options stand behind the command: walcast COMMAND ${name.slice(0, 100)}. "walcast --help" lists the commands.`;
}

async function dispatchInGroup(
  group: Command,
  words: readonly string[],
  surroundings: Surroundings,
): Promise<number> {
  const [word, ...rest] = words;
  if (word === '--help' || word === '-h') {
    surroundings.print(commandHelp(group));
    return EXIT.ok;
  }
  if (word === undefined) {
    surroundings.printError(commandHelp(group));
    return EXIT.usage;
  }
  const command = subcommandOf(group, word);
  if (command !== null) return runCommand(command, rest, surroundings);
  surroundings.printError(`${unknownSubcommand(word, group)}\n`);
  return EXIT.usage;
}

async function runCommand(
  command: Command,
  words: readonly string[],
  surroundings: Surroundings,
): Promise<number> {
  const parsed = parseInput(command, words);
  if ('problem' in parsed) {
    surroundings.printError(
      `walcast ${command.name}: ${parsed.problem}\n"walcast help ${command.name}" shows the options.\n`,
    );
    return EXIT.usage;
  }
  if (parsed.input.options.has(HELP_OPTION.name)) {
    surroundings.print(commandHelp(command));
    return EXIT.ok;
  }
  try {
    return await command.run({ ...surroundings, input: parsed.input });
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
    const hint = error.hint === undefined ? '' : ` ${error.hint}`;
    surroundings.printError(`walcast ${command.name}: ${error.message}.${hint}\n`);
    return EXIT.failure;
  }
}
