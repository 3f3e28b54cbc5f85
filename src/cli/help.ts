// walcast help: the list of commands, or one command's page.
import { suggest } from '../config/suggest.ts';
import { EXIT } from './command.ts';
import type { Command } from './command.ts';
import { commandHelp, overviewHelp } from './help-text.ts';

/** The command, over the table it explains (which holds itself, too). */
export function helpCommand(commands: () => readonly Command[]): Command {
  return {
    name: 'help',
    summary: 'Show the list of commands, or one command with its options and examples.',
    operands: '[COMMAND]...',
    options: [],
    help: 'Examples:\n  walcast help\n  walcast help run\n  walcast help slots create',
    async run(context): Promise<number> {
      const [name, word, ...more] = context.input.positionals;
      const command = commands().find((entry) => entry.name === name);
      if (name === undefined) {
        context.print(overviewHelp(commands()));
        return EXIT.ok;
      }
      if (command === undefined) {
        context.printError(`${unknownCommand(name, commands())}\n`);
        return EXIT.usage;
      }
      const meant = word === undefined ? command : subcommandOf(command, word);
      if (meant === null || more.length > 0) {
        context.printError(`${unknownSubcommand(more[0] ?? word ?? '', command)}\n`);
        return EXIT.usage;
      }
      context.print(commandHelp(meant));
      return EXIT.ok;
    },
  };
}

/** The command that `word` names inside `group`; null when there is none. */
export function subcommandOf(group: Command, word: string): Command | null {
  return group.subcommands?.find(({ name }) => name === `${group.name} ${word}`) ?? null;
}

/** The last word of a command's name: what is typed inside its group. */
export function lastWord({ name }: Command): string {
  return name.slice(name.lastIndexOf(' ') + 1);
}

/** The sentence for a command that does not exist. */
export function unknownCommand(name: string, commands: readonly Command[]): string {
  const advice = adviceFor(name, commands);
  return `walcast: unknown command "${name.slice(0, 100)}"${advice} "walcast --help" lists the commands.`;
}

/** The same for one that does not exist in a group, or where there is no group. */
export function unknownSubcommand(word: string, group: Command): string {
  if (word.startsWith('-')) {
    return `walcast ${group.name}: options stand behind the command: walcast ${group.name} ${group.subcommands?.map(lastWord).join('|') ?? ''} ${word.slice(0, 100)}`;
  }
  const advice = adviceFor(word, group.subcommands ?? []);
  return `walcast ${group.name}: unknown command "${word.slice(0, 100)}"${advice} "walcast help ${group.name}" shows what there is.`;
}

function adviceFor(word: string, commands: readonly Command[]): string {
  const meant = suggest(word, commands.map(lastWord));
  return meant === null ? '.' : `; did you mean "${meant}"?`;
}
